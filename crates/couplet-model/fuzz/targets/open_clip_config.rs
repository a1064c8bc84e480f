//! Opens the input as the config of sound weights in open_clip's layout.
#![no_main]

use couplet_model::open_clip::{self, CONFIG_FILE};
use couplet_model_fuzz::{open, open_clip_folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = open_clip_folder().join(CONFIG_FILE);
    std::fs::write(&path, bytes).expect("the input is written");
    if let Ok(config) = open_clip::read_config(&path) {
        config.spec.cost();
    }
    open(open_clip_folder(), None);
});
