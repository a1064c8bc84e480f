//! Opens the input as the weights of a sound config.
#![no_main]

use couplet_model::open_clip::WEIGHTS_FILE;
use couplet_model_fuzz::{open, open_clip_folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = open_clip_folder();
    std::fs::write(folder.join(WEIGHTS_FILE), bytes).expect("the input is written");
    open(folder, None);
});
