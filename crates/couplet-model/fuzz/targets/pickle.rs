//! Opens the input as the pickle of an archive of `torch.save` and of TorchScript, whose storages
//! exist.
#![no_main]

use std::io::{Cursor, Write};

use couplet_model_fuzz::{open, open_clip_folder};
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// As many storages as the seeds have.
const STORAGES: usize = 40;
const CODE: &str = "def forward(self, x):\n  return torch.gelu(x)\n";

fuzz_target!(|bytes: &[u8]| {
    let arch = open_clip_folder().join("arch.json");
    let folder = open_clip_folder().join("bare");
    std::fs::create_dir_all(&folder).expect("a folder is made");
    for is_script in [false, true] {
        let path = folder.join("pickle.pt");
        std::fs::write(&path, archive(bytes, is_script)).expect("the input is written");
        open(&path, arch.to_str());
    }
});

fn archive(pickle: &[u8], is_script: bool) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, content: &[u8]| {
        out.start_file(format!("a/{name}"), options)
            .expect("a member starts");
        out.write_all(content).expect("a member is written");
    };
    add("data.pkl", pickle);
    if is_script {
        add("constants.pkl", b"\x80\x02).");
        add("code/__torch__/x.py", CODE.as_bytes());
    }
    for storage in 0..STORAGES {
        add(&format!("data/{storage}"), &[0; 4096]);
    }
    out.finish().expect("an archive ends").into_inner()
}
