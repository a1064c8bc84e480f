//! Opens the input as a file of PyTorch, with and without an architecture.
#![no_main]

use couplet_model_fuzz::{open, open_clip_folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let arch = open_clip_folder().join("arch.json");
    // Without any config.
    let folder = open_clip_folder().join("bare");
    std::fs::create_dir_all(&folder).expect("a folder is made");
    let path = folder.join("weights.pt");
    std::fs::write(&path, bytes).expect("the input is written");
    open(&path, arch.to_str());
    open(&path, None);
});
