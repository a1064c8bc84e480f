//! The tables of ftfy and of Python's `html` module, embedded in the binary.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde::Deserialize;

/// Entity names, with their semicolon where it is required, to characters.
pub(super) type Entities = HashMap<String, String>;

/// Written by `assets/make_text_fixes.py`.
static TABLES_GZ: &[u8] = include_bytes!("../../assets/text_fixes.json.gz");

#[derive(Deserialize)]
pub(super) struct Tables {
    pub badness: String,
    pub utf8_detector: String,
    pub charmaps: Vec<(String, String)>,
    pub ligatures: HashMap<char, String>,
    pub widths: HashMap<char, String>,
    pub ftfy_entities: Entities,
    pub html5: Entities,
    pub html_invalid_charrefs: HashMap<u32, String>,
    pub html_invalid_codepoints: Vec<u32>,
}

/// Parsed when the first text needs them.
pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut text = String::new();
    GzDecoder::new(TABLES_GZ)
        .read_to_string(&mut text)
        .expect("the embedded tables are valid");
    serde_json::from_str(&text).expect("the embedded tables are valid")
});
