//! CLIP's lower-cased byte-pair encoding. Source: open_clip `SimpleTokenizer`.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{PoisonError, RwLock};

use fancy_regex::Regex;
use flate2::read::GzDecoder;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

/// The merges file of OpenAI's CLIP, as distributed with open_clip (MIT licence).
static MERGES_GZ: &[u8] = include_bytes!("../../assets/bpe_simple_vocab_16e6.txt.gz");

/// The number of merges in that file which CLIP uses: 49,152 - 256 - 2.
const MERGES: usize = 48_894;
/// The suffix of a word's last token.
pub(super) const END_OF_WORD: &str = "</w>";
const START_OF_TEXT: &str = "<start_of_text>";
const END_OF_TEXT: &str = "<end_of_text>";
/// open_clip pads with zeros, although 0 is also the id of `!`.
pub(super) const PAD_ID: u32 = 0;
/// Matches words; everything else is whitespace, which is dropped.
pub(super) const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// The number of words whose ids are cached; captions repeat words.
const MAX_CACHED_WORDS: usize = 1 << 17;

/// The vocabulary with a cache of words: a word is looked up before it is merged.
pub(super) struct ClipBpe {
    bpe: BPE,
    words: Regex,
    bytes: [char; 256],
    pub start: u32,
    pub end: u32,
    cache: RwLock<HashMap<Box<str>, Box<[u32]>>>,
}

impl ClipBpe {
    pub fn build() -> tokenizers::Result<Self> {
        let merges = merges()?;
        let (vocab, start, end) = vocab(&merges, [START_OF_TEXT, END_OF_TEXT]);
        // Special tokens that occur in a text are encoded as such.
        let words = format!("(?i){START_OF_TEXT}|{END_OF_TEXT}|{WORDS}");
        Ok(Self {
            bpe: bpe(vocab, merges)?,
            words: Regex::new(&words)?,
            bytes: byte_characters(),
            start,
            end,
            cache: RwLock::default(),
        })
    }

    pub fn vocab_size(&self) -> usize {
        self.bpe.get_vocab_size()
    }

    /// Encodes a text as at most `context_length` ids, including the start and end tokens.
    /// - text: cleaned and in lower case.
    pub fn encode(&self, text: &str, context_length: usize) -> Vec<u32> {
        let most = context_length - 1;
        let mut ids = Vec::with_capacity(most.min(32));
        ids.push(self.start);
        let mut fresh: Vec<(&str, Box<[u32]>)> = Vec::new();
        {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            for word in self.words.find_iter(text).map_while(Result::ok) {
                if ids.len() >= most {
                    break;
                }
                let word = word.as_str();
                if let Some(known) = cache.get(word) {
                    ids.extend_from_slice(known);
                } else {
                    let merged = self.merge(word);
                    ids.extend_from_slice(&merged);
                    fresh.push((word, merged));
                }
            }
        }
        self.cache_words(fresh);
        ids.truncate(most);
        ids.push(self.end);
        ids
    }

    fn cache_words(&self, fresh: Vec<(&str, Box<[u32]>)>) {
        if fresh.is_empty() {
            return;
        }
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        for (word, ids) in fresh {
            if cache.len() < MAX_CACHED_WORDS {
                cache.insert(word.into(), ids);
            }
        }
    }

    fn merge(&self, word: &str) -> Box<[u32]> {
        match word {
            START_OF_TEXT => return Box::new([self.start]),
            END_OF_TEXT => return Box::new([self.end]),
            _ => {}
        }
        let spelled: String = word.bytes().map(|b| self.bytes[usize::from(b)]).collect();
        let tokens = self.bpe.tokenize(&spelled);
        let tokens = tokens.expect("byte-level encoding has an id for every byte");
        tokens.iter().map(|token| token.id).collect()
    }
}

/// The BPE model over a vocabulary from [`vocab`].
pub(super) fn bpe(vocab: Vocab, merges: Vec<(String, String)>) -> tokenizers::Result<BPE> {
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix(END_OF_WORD.to_string())
        .build()
}

/// The pairs that are merged, most frequent first.
pub(super) fn merges() -> tokenizers::Result<Vec<(String, String)>> {
    let mut text = String::new();
    GzDecoder::new(MERGES_GZ).read_to_string(&mut text)?;
    Ok(text
        .lines()
        .skip(1)
        .take(MERGES)
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_string(), right.to_string()))
        .collect())
}

/// Ids in CLIP's order: bytes, bytes that end a word, merges, the two special tokens.
/// - returns the vocabulary and the ids of the start and end tokens.
pub(super) fn vocab(merges: &[(String, String)], special: [&str; 2]) -> (Vocab, u32, u32) {
    let mut tokens: Vec<String> = byte_alphabet().map(String::from).collect();
    let ending: Vec<String> = tokens.iter().map(|t| format!("{t}{END_OF_WORD}")).collect();
    tokens.extend(ending);
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend(special.map(String::from));
    let id = |at: usize| u32::try_from(at).expect("the vocabulary has 49,408 tokens");
    let (start, end) = (id(tokens.len() - 2), id(tokens.len() - 1));
    let vocab = tokens
        .into_iter()
        .enumerate()
        .map(|(at, token)| (token, id(at)))
        .collect();
    (vocab, start, end)
}

/// GPT-2's printable characters for the 256 bytes, in the order of their ids in CLIP.
/// Source: open_clip `bytes_to_unicode`.
fn byte_alphabet() -> impl Iterator<Item = char> {
    printable_bytes().chain((256..256 + 68).filter_map(char::from_u32))
}

/// The bytes that are represented by themselves.
fn printable_bytes() -> impl Iterator<Item = char> {
    ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ')
}

/// The printable character of each byte.
fn byte_characters() -> [char; 256] {
    let mut others = (256..).filter_map(char::from_u32);
    std::array::from_fn(|byte| {
        let itself = u8::try_from(byte).map_or('\0', char::from);
        if printable_bytes().any(|c| c == itself) {
            itself
        } else {
            others.next().expect("there are more characters than bytes")
        }
    })
}
