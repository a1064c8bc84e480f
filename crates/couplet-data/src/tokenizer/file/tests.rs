use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::loader::TokenOptions;
use crate::{Clean, Tokenizer};

/// What `tests/fixtures/make_tokenizers.py` writes.
#[derive(Deserialize)]
struct Fixture {
    texts: Vec<String>,
    tokenizers: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

/// Tokenizer, padding, truncation, `tokenizer_config.json`, `strip_sep_token`, context length, ids.
type Case = (String, Value, Value, Value, bool, usize, Vec<Vec<i32>>);

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../tests/fixtures/tokenizers.json")).unwrap()
}

fn open(file: &Value, config: &Value, options: FileOptions) -> Result<Tokenizer, TokenizerError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    fs::write(path.with_file_name(CONFIG_FILE), config.to_string()).unwrap();
    Tokenizer::from_file_with(&path, Clean::None, options)
}

#[test]
fn ids_are_those_of_transformers_whatever_the_file_says_about_padding_and_truncation() {
    let Fixture {
        texts,
        tokenizers,
        cases,
    } = fixture();
    assert!(cases.len() > 70);
    for (name, padding, truncation, config, strip_sep_token, context_length, ids) in cases {
        let mut file = tokenizers[&name].clone();
        file["padding"] = padding.clone();
        file["truncation"] = truncation.clone();
        let tokenizer = open(&file, &config, FileOptions { strip_sep_token }).unwrap();
        let options = TokenOptions {
            pad_id: tokenizer.pad_id().unwrap(),
            tokenizer: tokenizer.into(),
            context_length,
            cut: false,
        };
        let encoded = options.tokenizer.encode_batch(&texts, context_length);
        let (ours, length) = options.pad(&encoded.map_err(|(_, error)| error).unwrap());
        assert_eq!(length, context_length);
        assert_eq!(
            ours,
            ids.concat(),
            "{name} {padding} {truncation} {config} {context_length}"
        );
    }
}

#[test]
fn a_text_without_ids_is_an_error() {
    let mut file = fixture().tokenizers["bert"].clone();
    file["model"]["vocab"]
        .as_object_mut()
        .unwrap()
        .remove("[UNK]");
    let vocab = file["model"]["vocab"].clone();
    file["added_tokens"]
        .as_array_mut()
        .unwrap()
        .retain(|token| vocab.get(token["content"].as_str().unwrap()).is_some());
    let tokenizer = open(&file, &json!({}), FileOptions::default()).unwrap();
    assert!(tokenizer.encode("a cat", 8).is_ok());
    let error = tokenizer.encode("☃", 8).unwrap_err();
    assert!(crate::with_causes(&error).contains("[UNK]"), "{error:?}");
    let (at, _) = tokenizer.encode_batch(&["a cat", "☃"], 8).unwrap_err();
    assert_eq!(at, 1);
}

#[test]
fn the_vocabulary_ends_with_the_highest_id() {
    let mut file = fixture().tokenizers["bert"].clone();
    file["model"]["vocab"]["cat"] = 1000.into();
    let tokenizer = open(&file, &json!({}), FileOptions::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 1001);
    assert_eq!(tokenizer.start_and_end(), (Some(2), Some(3)));
}

#[test]
fn files_that_are_no_tokenizers_are_errors_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| {
        let error = Tokenizer::from_file(path, Clean::None).unwrap_err();
        crate::with_causes(&error)
    };
    assert!(error(folder.path()).contains("a file of at most"));
    let path = folder.path().join("tokenizer.json");
    let file = &fixture().tokenizers["bert"];
    fs::write(&path, file.to_string()).unwrap();
    fs::write(path.with_file_name(CONFIG_FILE), "{\"pad_token\": ").unwrap();
    assert!(error(&path).contains("tokenizer_config.json: not valid JSON"));
    let options = FileOptions {
        strip_sep_token: true,
    };
    let without = &fixture().tokenizers["t5"];
    let missing = open(without, &json!({}), options).unwrap_err();
    assert!(missing.to_string().contains("sep_token"), "{missing}");
}

/// A generator that gives the same numbers everywhere. Source: Marsaglia 2003, "Xorshift RNGs".
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap()
    }
}

/// Replaces one value somewhere in a document by an unlikely one, or moves or removes it.
fn damage(value: &mut Value, random: &mut Xorshift) {
    let stay = random.below(24) == 0;
    match value {
        Value::Object(entries) if !entries.is_empty() && !stay => {
            let at = random.below(entries.len());
            let key = entries.keys().nth(at).unwrap().clone();
            match random.below(12) {
                0 => drop(entries.remove(&key)),
                1 => {
                    let moved = entries.remove(&key).unwrap();
                    entries.insert("☃".repeat(random.below(3)), moved);
                }
                _ => damage(&mut entries[&key], random),
            }
        }
        Value::Array(items) if !items.is_empty() && !stay => {
            let at = random.below(items.len());
            match random.below(12) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => damage(&mut items[at], random),
            }
        }
        leaf => {
            let strange = [
                json!(null),
                json!(true),
                json!(0),
                json!(-1),
                json!(7),
                json!(u32::MAX),
                json!(u64::MAX),
                json!(1e300),
                json!(""),
                json!("a"),
                json!("(((a*)*)*)*$"),
                json!("////////AAAA"),
                json!([]),
                json!({}),
                json!([[["a", 1]]]),
                json!({"Regex": "(?=a{9999999})"}),
            ];
            *leaf = strange[random.below(strange.len())].clone();
        }
    }
}

/// - returns whether the file is read.
fn survives(bytes: &[u8], path: &Path) -> bool {
    fs::write(path, bytes).unwrap();
    let options = FileOptions {
        strip_sep_token: bytes.len().is_multiple_of(8),
    };
    let Ok(tokenizer) = Tokenizer::from_file_with(path, Clean::None, options) else {
        return false;
    };
    for text in [
        "a photo of a cat",
        "",
        "☃ aaaaaaaaaaaaaaaaaaaaaaaaaaaa [SEP] </s>",
    ] {
        if let Ok(ids) = tokenizer.encode(text, 8) {
            assert!(ids.len() <= 8, "{ids:?}");
            let most = tokenizer.vocab_size();
            assert!(
                ids.iter().all(|id| (*id as usize) < most),
                "{ids:?} of {most}"
            );
        }
    }
    let _ = tokenizer.start_and_end();
    true
}

#[test]
fn damaged_files_are_errors_and_never_panic() {
    let mut random = Xorshift(88_172_645_463_325_252);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizers: Vec<Value> = fixture().tokenizers.into_values().collect();
    // A map of SentencePiece's: a trie of one unit, and no text.
    let mut mapped = tokenizers[0].clone();
    mapped["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="});
    tokenizers.push(mapped);
    for file in &mut tokenizers {
        file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Left", "pad_id": 0,
            "pad_to_multiple_of": 8, "pad_type_id": 0, "pad_token": "a"});
        file["truncation"] = json!({"direction": "Left", "max_length": 5, "stride": 1,
            "strategy": "LongestFirst"});
    }
    let mut read = 0;
    let trials = 3000;
    for trial in 0..trials {
        let mut file = tokenizers[trial % tokenizers.len()].clone();
        for _ in 0..=random.below(3) / 2 {
            damage(&mut file, &mut random);
        }
        let mut bytes = file.to_string().into_bytes();
        if trial.is_multiple_of(4) {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            bytes.truncate(bytes.len() - random.below(2) * random.below(bytes.len() / 2));
        }
        read += usize::from(survives(&bytes, &path));
    }
    // Enough are read to try texts on them.
    assert!(read > trials / 20 && read < trials, "{read}");
}

#[test]
fn what_the_crate_does_not_survive_is_refused_before() {
    let mut file = fixture().tokenizers["clip"].clone();
    file["model"]["dropout"] = json!(0.1);
    let error = open(&file, &json!({}), FileOptions::default()).unwrap_err();
    assert!(
        crate::with_causes(&error).contains("model.dropout"),
        "{error:?}"
    );
    file["model"]["dropout"] = json!(0.0);
    assert!(open(&file, &json!({}), FileOptions::default()).is_ok());
    let charsmap = json!({"type": "Precompiled", "precompiled_charsmap": "////////AAAA"});
    file["normalizer"] = json!({"type": "Sequence", "normalizers": [charsmap]});
    let error = open(&file, &json!({}), FileOptions::default()).unwrap_err();
    assert!(
        crate::with_causes(&error).contains("precompiled_charsmap"),
        "{error:?}"
    );
    let deep = "[".repeat(100_000);
    let folder = tempfile::tempdir().unwrap();
    assert!(!survives(
        deep.as_bytes(),
        &folder.path().join("tokenizer.json")
    ));
}

/// The folder that `tests/fixtures/make_sentencepiece.py` writes.
#[test]
fn a_sentencepiece_model_gives_the_ids_of_transformers() {
    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
        padded: Vec<i32>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentencepiece");
    let cases = fs::read_to_string(folder.join("ids.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 10);
    let model = folder.join("spiece.model");
    let tokenizer = Arc::new(Tokenizer::from_file(&model, Clean::None).unwrap());
    // What is written for transformers gives them, too.
    let written = tempfile::tempdir().unwrap();
    tokenizer.save_for_transformers(written.path(), 16).unwrap();
    assert_eq!(
        fs::read(written.path().join("spiece.model")).unwrap(),
        fs::read(&model).unwrap()
    );
    let again = written.path().join("tokenizer.json");
    let again = Tokenizer::from_file(&again, Clean::None).unwrap();
    for case in cases {
        let ids = tokenizer.encode(&case.text, 16).unwrap();
        assert_eq!(ids, case.ids, "{:?}", case.text);
        assert_eq!(again.encode(&case.text, 16).unwrap(), ids);
        let options = TokenOptions {
            pad_id: tokenizer.pad_id().unwrap(),
            context_length: 16,
            cut: false,
            tokenizer: tokenizer.clone(),
        };
        assert_eq!(options.pad(&[ids]).0, case.padded);
    }
}

#[test]
fn what_is_no_unigram_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spiece.model");
    for (bytes, config, part) in [
        (&b"no protobuf"[..], json!({}), "SentencePiece model"),
        (b"", json!({}), "no end token"),
        // trainer_spec { model_type: BPE }
        (b"\x12\x02\x18\x02", json!({}), "unigram"),
        (
            b"",
            json!({"tokenizer_class": "LlamaTokenizer"}),
            "LlamaTokenizer",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        fs::write(path.with_file_name(CONFIG_FILE), config.to_string()).unwrap();
        let error = Tokenizer::from_file(&path, Clean::None).unwrap_err();
        let error = crate::with_causes(&error);
        assert!(error.contains(part), "{error}");
    }
}
