//! CLIP's lower-cased byte-pair encoding, with the vocabulary of 49,408 tokens.
//!
//! Source: open_clip `SimpleTokenizer`. Of its `ftfy.fix_text`, what changes single
//! characters is followed, NFC and HTML entities too; mis-decoded text is not repaired.

use std::io::Read;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};
use unicode_normalization::UnicodeNormalization;

/// The merges file of OpenAI's CLIP, as open_clip ships it (MIT licence).
static MERGES_GZ: &[u8] = include_bytes!("../assets/bpe_simple_vocab_16e6.txt.gz");

/// Merges of that file which CLIP uses: 49,152 - 256 - 2.
const MERGES: usize = 48_894;
const END_OF_WORD: &str = "</w>";
const START_OF_TEXT: &str = "<start_of_text>";
const END_OF_TEXT: &str = "<end_of_text>";
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Text to token ids. Cheap to clone behind an `Arc`; safe to share between threads.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    start: u32,
    end: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// CLIP's tokenizer, built once per process.
    ///
    /// # Panics
    /// Never with the vocabulary that is compiled in: tests encode with it.
    pub fn clip() -> &'static Self {
        static CLIP: OnceLock<Tokenizer> = OnceLock::new();
        CLIP.get_or_init(|| build_clip().expect("the embedded CLIP vocabulary is sound"))
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.bpe.get_vocab_size(true)
    }

    /// The ids of `text` with start and end tokens, at most `context_length` of them: a
    /// longer text is cut and its last id becomes the end token.
    ///
    /// # Panics
    /// If `context_length` is less than 2.
    pub fn encode(&self, text: &str, context_length: usize) -> Vec<u32> {
        assert!(context_length >= 2, "no room for start and end tokens");
        let encoding = self
            .bpe
            .encode_fast(clean(text), false)
            .expect("byte-level encoding has an id for every byte");
        let mut ids = Vec::with_capacity(context_length.min(encoding.len() + 2));
        ids.push(self.start);
        ids.extend(encoding.get_ids().iter().take(context_length - 2));
        ids.push(self.end);
        ids
    }
}

/// Source: open_clip `basic_clean` and `whitespace_clean`, lower-cased.
fn clean(text: &str) -> String {
    let fixed: String = text.chars().flat_map(fix_character).nfc().collect();
    let once = html_escape::decode_html_entities(&fixed);
    let twice = html_escape::decode_html_entities(&once);
    let words: Vec<&str> = twice.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// ftfy's rules for single characters: straight quotes, ligatures and full-width forms
/// spelled out, control characters and byte-order marks removed.
fn fix_character(c: char) -> impl Iterator<Item = char> {
    let fixed = match c {
        '\u{2018}'..='\u{201b}' => Some('\''),
        '\u{201c}'..='\u{201f}' => Some('"'),
        '\t' | '\n' | '\u{c}' | '\r' => Some(c),
        '\0'..='\u{1f}' | '\u{7f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => None,
        _ => Some(c),
    };
    let spell_out = matches!(c,
        '\u{132}' | '\u{133}' | '\u{149}' | '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}'
        | '\u{3000}' | '\u{fb00}'..='\u{fb06}' | '\u{ff01}'..='\u{ffef}');
    let (plain, spelled) = if spell_out {
        (None, fixed)
    } else {
        (fixed, None)
    };
    plain.into_iter().chain(spelled.into_iter().nfkc())
}

fn build_clip() -> tokenizers::Result<Tokenizer> {
    let mut text = String::new();
    GzDecoder::new(MERGES_GZ).read_to_string(&mut text)?;
    let merges: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .take(MERGES)
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_string(), right.to_string()))
        .collect();

    // Ids in CLIP's order: bytes, bytes that end a word, merges, the two special tokens.
    let mut tokens: Vec<String> = byte_alphabet().map(String::from).collect();
    let ending: Vec<String> = tokens.iter().map(|t| format!("{t}{END_OF_WORD}")).collect();
    tokens.extend(ending);
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend([START_OF_TEXT.to_string(), END_OF_TEXT.to_string()]);
    let id = |at: usize| u32::try_from(at).expect("the vocabulary has 49,408 tokens");
    let start = id(tokens.len() - 2);
    let end = id(tokens.len() - 1);
    let vocab = tokens
        .into_iter()
        .enumerate()
        .map(|(at, token)| (token, id(at)))
        .collect::<tokenizers::models::bpe::Vocab>();

    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix(END_OF_WORD.to_string())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(Split::new(
            SplitPattern::Regex(WORDS.into()),
            SplitDelimiterBehavior::Removed,
            true,
        )?),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
    ])));
    // As in open_clip, the special tokens are read as such when they stand in a text.
    tokenizer
        .add_special_tokens([START_OF_TEXT, END_OF_TEXT].map(|t| AddedToken::from(t, true)))?;
    Ok(Tokenizer {
        bpe: tokenizer,
        start,
        end,
    })
}

/// GPT-2's printable stand-ins for the 256 bytes, in the order of their ids in CLIP.
/// Source: open_clip `bytes_to_unicode`.
fn byte_alphabet() -> impl Iterator<Item = char> {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    let stand_ins = (256..256 + 68).filter_map(char::from_u32);
    printable.chain(stand_ins)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids printed by open_clip 3.3.0's `SimpleTokenizer`, padding removed; made by
    /// `tests/fixtures/make_tokens.py`.
    #[test]
    fn ids_are_open_clips() {
        let fixture = include_str!("../tests/fixtures/tokens.json");
        let cases: Vec<(String, usize, Vec<u32>)> = serde_json::from_str(fixture).unwrap();
        assert!(cases.len() > 20);
        for (text, context_length, ids) in cases {
            let ours = Tokenizer::clip().encode(&text, context_length);
            assert_eq!(ours, ids, "{text:?}");
        }
    }

    #[test]
    fn the_vocabulary_is_clips() {
        assert_eq!(Tokenizer::clip().vocab_size(), 49_408);
    }
}
