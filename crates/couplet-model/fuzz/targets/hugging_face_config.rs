//! Opens the input as the config of sound weights in Hugging Face's layout.
#![no_main]

use couplet_model_fuzz::{hugging_face_folder, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = hugging_face_folder().join("config.json");
    std::fs::write(&path, bytes).expect("the input is written");
    open(hugging_face_folder(), None);
});
