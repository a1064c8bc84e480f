//! Reads the input as a `tokenizer.json`, and encodes texts with it.
#![no_main]

use couplet_data::{Clean, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, bytes).expect("a temporary file");
    let Ok(tokenizer) = Tokenizer::from_file(&path, Clean::Whitespace) else {
        return;
    };
    for text in ["a photo of a cat", "", "☃ [SEP] </s>"] {
        if let Ok(ids) = tokenizer.encode(text, 8) {
            assert!(ids.len() <= 8);
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        }
    }
});
