//! Trains a byte-pair encoding on captions.

use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PaddingParams, PaddingStrategy, TokenizerBuilder, TokenizerImpl};

use super::clean::Clean;
use super::clip::{END_OF_WORD, WORDS};
use super::error::TokenizerError;
use super::hugging_face::{cannot_write, clip_normalizer, clip_pre_tokenizer};
use crate::error::LastCause;

const START_OF_TEXT: &str = "<start_of_text>";
const END_OF_TEXT: &str = "<end_of_text>";
const SPECIAL: usize = 2;
/// The trainer allocates a table of this size before it starts.
const LARGEST: usize = 1 << 22;

/// How a tokenizer is trained.
#[derive(Debug, Clone, Copy)]
pub struct TrainOptions {
    /// The number of token ids, including special tokens.
    pub vocab_size: usize,
    /// Pairs that occur less often are not merged.
    pub min_frequency: u64,
}

/// Trains an encoding of CLIP's kind (lower case, byte level, words end in `</w>`, start and end
/// tokens with the highest ids) and writes it as a `tokenizer.json`.
/// - returns the number of token ids: fewer than asked for if the captions have no more pairs to
///   merge.
///
/// # Errors
/// If the vocabulary is too small for all bytes or too large, or the file cannot be written.
pub fn train<T: AsRef<str> + Send + Sync>(
    captions: impl Iterator<Item = T> + Send,
    options: TrainOptions,
    out: &Path,
) -> Result<usize, TokenizerError> {
    // Every byte, inside a word and at its end.
    let smallest = 2 * ByteLevel::alphabet().len() + SPECIAL;
    if options.vocab_size < smallest || options.vocab_size > LARGEST {
        return Err(TokenizerError::VocabularySize {
            vocab_size: options.vocab_size,
            smallest,
            largest: LARGEST,
        });
    }
    let learn = || -> tokenizers::Result<tokenizers::Tokenizer> {
        let bpe = BPE::builder()
            .end_of_word_suffix(END_OF_WORD.to_string())
            .build()?;
        let mut learner = plain(bpe)?;
        let mut trainer = BpeTrainer::builder()
            .vocab_size(options.vocab_size - SPECIAL)
            .min_frequency(options.min_frequency)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .end_of_word_suffix(END_OF_WORD.to_string())
            .show_progress(false)
            .build();
        let cleaned = captions.map(|caption| Clean::Lower.apply(caption.as_ref()).into_owned());
        learner.train(&mut trainer, cleaned)?;
        finished(learner.get_model(), options.vocab_size)
    };
    let tokenizer = learn().map_err(|error| TokenizerError::Train(LastCause(error)))?;
    tokenizer.save(out, true).map_err(cannot_write(out))?;
    Ok(tokenizer.get_vocab_size(true))
}

type Plain = TokenizerImpl<
    BPE,
    tokenizers::normalizers::Sequence,
    tokenizers::pre_tokenizers::sequence::Sequence,
    TemplateProcessing,
    tokenizers::decoders::byte_level::ByteLevel,
>;

fn plain(bpe: BPE) -> tokenizers::Result<Plain> {
    TokenizerBuilder::new()
        .with_model(bpe)
        .with_normalizer(Some(clip_normalizer()?))
        .with_pre_tokenizer(Some(clip_pre_tokenizer(WORDS)?))
        .with_post_processor(None)
        .with_decoder(Some(ByteLevel::default()))
        .build()
}

/// The first learned merges that fit, over a vocabulary that also has every byte at the end of a word,
/// seen or not, and the special tokens with the highest ids.
fn finished(learned: &BPE, vocab_size: usize) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let endings = alphabet.iter().map(|c| format!("{c}{END_OF_WORD}"));
    let mut vocab = tokenizers::models::bpe::Vocab::default();
    for token in alphabet.iter().map(char::to_string).chain(endings) {
        let next = u32::try_from(vocab.len())?;
        vocab.entry(token).or_insert(next);
    }
    let mut merges = Vec::new();
    for (left, right) in merges_of(learned)? {
        let token = format!("{left}{right}");
        if !vocab.contains_key(&token) {
            if vocab.len() + SPECIAL == vocab_size {
                break;
            }
            vocab.insert(token, u32::try_from(vocab.len())?);
        }
        merges.push((left, right));
    }
    let mut tokenizer = tokenizers::Tokenizer::new(super::clip::bpe(vocab, merges)?);
    tokenizer
        .with_normalizer(Some(clip_normalizer()?))?
        .with_pre_tokenizer(Some(clip_pre_tokenizer(WORDS)?))
        .with_decoder(Some(ByteLevel::default()));
    tokenizer
        .add_special_tokens([START_OF_TEXT, END_OF_TEXT].map(|t| AddedToken::from(t, true)))?;
    let id = |token: &str| {
        let id = tokenizer.token_to_id(token);
        (token.to_string(), id.expect("added just above"))
    };
    let template = TemplateProcessing::builder()
        .try_single(format!("{START_OF_TEXT} $A {END_OF_TEXT}"))?
        .special_tokens(vec![id(START_OF_TEXT), id(END_OF_TEXT)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    let pad_token = tokenizer.id_to_token(0).expect("there is a first token");
    tokenizer.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::BatchLongest,
        pad_id: 0,
        pad_token,
        ..PaddingParams::default()
    }));
    Ok(tokenizer)
}

/// The pairs in the order of their ranks, as the model serializes them.
fn merges_of(learned: &BPE) -> tokenizers::Result<Vec<(String, String)>> {
    let value = serde_json::to_value(learned)?;
    Ok(serde_json::from_value(value["merges"].clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    fn captions() -> Vec<String> {
        ["a red circle", "a blue square", "the red square"]
            .iter()
            .cycle()
            .take(300)
            .map(ToString::to_string)
            .collect()
    }

    fn options(vocab_size: usize) -> TrainOptions {
        TrainOptions {
            vocab_size,
            min_frequency: 2,
        }
    }

    #[test]
    fn a_trained_encoding_knows_its_words_and_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let size = train(captions().iter(), options(600), &path).unwrap();
        let tokenizer = Tokenizer::from_file(&path, Clean::Lower).unwrap();
        assert_eq!(tokenizer.vocab_size(), size);
        // All pairs of the captions are merged before.
        assert!((514..600).contains(&size), "{size}");
        let end = u32::try_from(size).unwrap() - 1;
        let ids = tokenizer.encode("A RED circle", 16).unwrap();
        assert_eq!((ids.len(), ids[0], ids[4]), (5, end - 1, end));
        // Not among the captions: encoded byte by byte, without unknown tokens.
        let ids = tokenizer.encode("é!", 16).unwrap();
        assert_eq!(ids.len(), 2 + 3);
        let ids = tokenizer.encode("a a a a a a", 4).unwrap();
        assert_eq!((ids.len(), ids[3]), (4, end));
    }

    #[test]
    fn a_vocabulary_too_small_for_the_bytes_is_rejected() {
        let out = Path::new("never-written.json");
        for vocab_size in [100, 513, usize::MAX] {
            let error = train(captions().iter(), options(vocab_size), out).unwrap_err();
            assert!(error.to_string().contains("from 514 to"), "{error}");
        }
    }

    #[test]
    fn the_vocabulary_has_exactly_the_size_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        // Every pair of letters, often enough to be merged.
        let letters = || 'a'..='z';
        let captions: Vec<String> = letters()
            .flat_map(|a| letters().map(move |b| format!("{a}{b} {a}{b}")))
            .collect();
        for vocab_size in [514, 515, 600, 1000] {
            assert_eq!(
                train(captions.iter(), options(vocab_size), &path).unwrap(),
                vocab_size
            );
            let tokenizer = Tokenizer::from_file(&path, Clean::Lower).unwrap();
            assert_eq!(tokenizer.vocab_size(), vocab_size);
            let end = u32::try_from(vocab_size).unwrap() - 1;
            assert_eq!(tokenizer.start_and_end(), (Some(end - 1), Some(end)));
            let ids = tokenizer.encode("abba xyz", 77).unwrap();
            assert!(ids.iter().all(|id| *id <= end), "{ids:?}");
        }
    }
}
