//! Writes tokenizers as the files of Hugging Face's libraries.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, Model, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
};

use super::clean::Clean;
use super::clip::{self, END_OF_WORD, WORDS};
use super::error::TokenizerError;
use super::file::sentencepiece;
use crate::error::LastCause;

const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const CONFIG_FILE: &str = "tokenizer_config.json";
/// Where earlier versions of transformers name special tokens.
pub(super) const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
/// CLIP's special tokens as spelled in transformers.
const START_OF_TEXT: &str = "<|startoftext|>";
const END_OF_TEXT: &str = "<|endoftext|>";

/// Splits a text into words and their bytes as CLIP does.
/// - words: a regular expression that matches words.
pub(super) fn clip_pre_tokenizer(words: &str) -> tokenizers::Result<Sequence> {
    Ok(Sequence::new(vec![
        PreTokenizerWrapper::Split(Split::new(
            SplitPattern::Regex(words.into()),
            SplitDelimiterBehavior::Removed,
            true,
        )?),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ]))
}

/// The normalizer before it: NFC, single spaces, lower case.
pub(super) fn clip_normalizer() -> tokenizers::Result<Normalizers> {
    Ok(Normalizers::new(vec![
        NormalizerWrapper::NFC(NFC),
        NormalizerWrapper::Replace(Replace::new(
            tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()),
            " ",
        )?),
        NormalizerWrapper::Lowercase(Lowercase),
    ]))
}

/// Writes CLIP's tokenizer as transformers builds it, whose normalizer does not fix encodings.
pub(super) fn save_clip(folder: &Path, context_length: usize) -> Result<(), TokenizerError> {
    let build = || -> tokenizers::Result<tokenizers::Tokenizer> {
        let merges = clip::merges()?;
        let (vocab, start, end) = clip::vocab(&merges, [START_OF_TEXT, END_OF_TEXT]);
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .end_of_word_suffix(END_OF_WORD.to_string())
            .unk_token(END_OF_TEXT.to_string())
            .build()?;
        bpe.save(folder, None)?;
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let words = format!(r"<\|startoftext\|>|<\|endoftext\|>|{WORDS}");
        tokenizer
            .with_normalizer(Some(clip_normalizer()?))?
            .with_pre_tokenizer(Some(clip_pre_tokenizer(&words)?))
            .with_decoder(Some(ByteLevelDecoder::default()))
            .with_post_processor(Some(
                RobertaProcessing::new((END_OF_TEXT.into(), end), (START_OF_TEXT.into(), start))
                    .trim_offsets(false)
                    .add_prefix_space(false),
            ));
        tokenizer
            .add_special_tokens([START_OF_TEXT, END_OF_TEXT].map(|t| AddedToken::from(t, true)))?;
        tokenizer.save(folder.join(TOKENIZER_FILE), true)?;
        Ok(tokenizer)
    };
    build().map_err(cannot_write(&folder.join(TOKENIZER_FILE)))?;
    let config = json!({
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": context_length,
        "add_prefix_space": false,
        "do_lower_case": true,
        "errors": "replace",
    });
    write_config(folder, &config)
}

/// Copies a `tokenizer.json` with the files next to it; writes a config if there is none.
pub(super) fn copy(
    path: &Path,
    tokenizer: &tokenizers::Tokenizer,
    pad_id: Option<u32>,
    folder: &Path,
    context_length: usize,
) -> Result<(), TokenizerError> {
    let target = folder.join(TOKENIZER_FILE);
    if path.file_name() == Some(sentencepiece::FILE.as_ref()) {
        // transformers' class reads the model itself.
        copy_file(path, &folder.join(sentencepiece::FILE))?;
        let saved = tokenizer.save(&target, false);
        saved.map_err(cannot_write(&target))?;
    } else {
        copy_file(path, &target)?;
    }
    let special_tokens = path.with_file_name(SPECIAL_TOKENS_FILE);
    if special_tokens.is_file() {
        copy_file(&special_tokens, &folder.join(SPECIAL_TOKENS_FILE))?;
    }
    let config_path = path.with_file_name(CONFIG_FILE);
    if config_path.is_file() {
        return copy_file(&config_path, &folder.join(CONFIG_FILE));
    }
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
    });
    if let Some(token) = tokenizer.id_to_token(pad_id.unwrap_or(0)) {
        config["pad_token"] = token.into();
    }
    write_config(folder, &config)
}

/// Puts what cleans texts before the normalizer of the `tokenizer.json` in `folder`.
pub(super) fn write_cleaning(folder: &Path, clean: Clean) -> Result<(), TokenizerError> {
    let steps = cleaning_steps(clean);
    if steps.is_empty() {
        return Ok(());
    }
    let path = folder.join(TOKENIZER_FILE);
    let failed = |error: tokenizers::Error| cannot_write(&path)(error);
    let text = fs::read_to_string(&path).map_err(|error| failed(error.into()))?;
    let mut file: Value = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    let own = file["normalizer"].take();
    let own = (!own.is_null()).then_some(own);
    let all: Vec<Value> = steps.into_iter().chain(own).collect();
    file["normalizer"] = json!({ "type": "Sequence", "normalizers": all });
    let text = serde_json::to_string(&file).expect("JSON values serialize");
    fs::write(&path, text + "\n").map_err(|error| failed(error.into()))
}

/// The normalizers that clean a text so, without the repair of encodings and of HTML entities.
fn cleaning_steps(clean: Clean) -> Vec<Value> {
    let replace = |pattern: &str, by: &str| json!({ "type": "Replace", "pattern": { "Regex": pattern }, "content": by });
    let spaces = [
        replace(r"\s+", " "),
        json!({ "type": "Strip", "strip_left": true, "strip_right": true }),
    ];
    let lower = json!({ "type": "Lowercase" });
    match clean {
        // transformers leaves spaces to the tokenizer, as it does elsewhere.
        Clean::None | Clean::Whitespace => Vec::new(),
        Clean::Lower => [lower].into_iter().chain(spaces).collect(),
        Clean::Canonicalize => {
            // ASCII's punctuation but the underscore, which becomes a space.
            let letters = [replace("_", " "), replace(r"[!-/:-@\[-\^`{-~]", ""), lower];
            letters.into_iter().chain(spaces).collect()
        }
    }
}

fn write_config(folder: &Path, config: &Value) -> Result<(), TokenizerError> {
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(config).expect("JSON values serialize");
    fs::write(&path, text + "\n").map_err(|error| cannot_write(&path)(error.into()))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), TokenizerError> {
    // `fs::copy` would copy the permissions too, such as those of a file that is read-only.
    match fs::read(from).and_then(|bytes| fs::write(to, bytes)) {
        Ok(()) => Ok(()),
        Err(source) => Err(TokenizerError::Copy {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            source,
        }),
    }
}

pub(super) fn cannot_write(path: &Path) -> impl Fn(tokenizers::Error) -> TokenizerError {
    |error| TokenizerError::Write {
        path: path.to_path_buf(),
        source: LastCause(error),
    }
}
