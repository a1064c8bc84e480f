//! Tokenization of a model's texts.

use std::sync::Arc;

use couplet_data::loader::TokenOptions;
use couplet_data::{Clean, FileOptions, Tokenizer, TokenizerError};
use couplet_model::{ModelSpec, TextPool, TokenizerSpec};

use super::error::{MissingTokenizer, OpenError};

/// How the text tower of this spec expects a tokenizer's ids.
///
/// # Errors
/// If the tokenizer has more ids than the tower's vocabulary.
pub fn token_options(
    spec: &ModelSpec,
    tokenizer: Arc<Tokenizer>,
) -> Result<TokenOptions, OpenError> {
    let text = &spec.text;
    if tokenizer.vocab_size() > text.vocab_size {
        return Err(OpenError::Vocabulary {
            tokenizer: tokenizer.vocab_size(),
            vocab_size: text.vocab_size,
        });
    }
    // A Hugging Face tokenizer pads with its own token, whatever the config says. An encoder that looks at no padding
    // knows it by the config's.
    let own = (tokenizer.file())
        .filter(|_| text.is_clip())
        .and_then(|_| tokenizer.pad_id());
    Ok(TokenOptions {
        pad_id: own.unwrap_or(text.pad_id),
        context_length: text.context_length,
        cut: text.reads_no_padding() && !tokenizer.pads_left(),
        tokenizer,
    })
}

/// What is doubtful about a tower that is trained with a tokenizer, with advice.
pub fn token_warnings(spec: &ModelSpec, tokens: &TokenOptions) -> Vec<String> {
    let text = &spec.text;
    let vocab_size = tokens.tokenizer.vocab_size();
    let (_, end) = tokens.tokenizer.start_and_end();
    let mut warnings = Vec::new();
    if vocab_size < text.vocab_size {
        warnings.push(format!(
            "the tokenizer has {vocab_size} token ids, but model.text.vocab_size is {}: the rest of \
             the token embedding is never trained; set model.text.vocab_size = {vocab_size}",
            text.vocab_size
        ));
    }
    let advice = |end| format!("set model.text.pool = {{ kind = \"eos\", id = {end} }}");
    match (text.pool, end) {
        (TextPool::Argmax, Some(end)) if end as usize + 1 < vocab_size => warnings.push(format!(
            "model.text.pool = \"argmax\" pools at a text's highest token id, but the tokenizer's end \
             token {end} is not the highest of {vocab_size}; {}",
            advice(end)
        )),
        (TextPool::Argmax, None) => warnings.push(
            "model.text.pool = \"argmax\" pools at a text's highest token id, but the tokenizer adds \
             no end token; choose another model.text.pool"
                .into(),
        ),
        (TextPool::Eos { id }, Some(end)) if id != end => warnings.push(format!(
            "model.text.pool pools at token {id}, but the tokenizer ends texts with {end}; {}",
            advice(end)
        )),
        _ => {}
    }
    warnings
}

/// Opens the tokenizer that a model names. The inner error means that it is not on disk.
///
/// # Errors
/// If it is on disk but cannot be read.
pub fn open_tokenizer(
    spec: &TokenizerSpec,
) -> Result<Result<Arc<Tokenizer>, MissingTokenizer>, TokenizerError> {
    match spec {
        TokenizerSpec::Clip { clean } => Ok(Ok(Tokenizer::clip_with(
            Clean::from_name(clean).unwrap_or_default(),
        ))),
        TokenizerSpec::File {
            path,
            clean,
            strip_sep_token,
        } => {
            let clean = Clean::from_name(clean).unwrap_or_default();
            let options = FileOptions {
                strip_sep_token: *strip_sep_token,
            };
            let tokenizer = Tokenizer::from_file_with(path, clean, options)?;
            Ok(Ok(Arc::new(tokenizer)))
        }
        TokenizerSpec::Missing { name } => Ok(Err(MissingTokenizer { name: name.clone() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_model::presets;

    #[test]
    fn a_tokenizer_that_does_not_fit_its_tower_is_reported() {
        let mut spec = presets::find("ViT-B-32").unwrap();
        let warnings = |spec: &ModelSpec| {
            let tokens = token_options(spec, Tokenizer::clip()).unwrap();
            token_warnings(spec, &tokens)
        };
        assert_eq!(warnings(&spec), Vec::<String>::new());
        spec.text.pool = TextPool::Eos { id: 49_406 };
        spec.text.vocab_size = 50_000;
        let found = warnings(&spec);
        assert!(
            found[0].contains("model.text.vocab_size = 49408"),
            "{found:?}"
        );
        assert!(found[1].contains("id = 49407"), "{found:?}");
        spec.text.vocab_size = 49_407;
        assert!(token_options(&spec, Tokenizer::clip()).is_err());
    }
}
