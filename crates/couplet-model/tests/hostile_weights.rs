//! Files that would fill the memory, or that lie about themselves, are errors that say so.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use couplet_model::{Clip, PreprocessSpec, hugging_face, inspect, load, open_clip, presets};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn error(path: &Path, arch: Option<&str>) -> String {
    let mut error: &dyn std::error::Error = &load(path, arch, &Device::flex()).unwrap_err();
    let mut text = error.to_string();
    while let Some(cause) = error.source() {
        error = cause;
        text = format!("{text}: {error}");
    }
    text
}

/// A sound model in open_clip's layout, and its weights file.
fn model(folder: &Path) -> PathBuf {
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    let clip = Clip::init(&spec, 0, &Device::flex());
    open_clip::save(
        folder,
        &clip,
        &spec,
        &PreprocessSpec::default(),
        &open_clip::TokenizerCfg::default(),
    )
    .unwrap();
    folder.join(open_clip::WEIGHTS_FILE)
}

#[test]
fn a_header_that_lies_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let weights = model(folder.path());
    let sound = fs::read(&weights).unwrap();
    let end = 8 + usize::try_from(u64::from_le_bytes(sound[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&sound[8..end]).unwrap();
    let with_header = |text: &str| {
        let length = (text.len() as u64).to_le_bytes();
        fs::write(
            &weights,
            [&length[..], text.as_bytes(), &sound[end..]].concat(),
        )
        .unwrap();
        error(folder.path(), None)
    };
    let changed = |key: &str, value: Value| {
        let mut header = header.clone();
        header["visual.proj"][key] = value;
        header.to_string()
    };
    let [start, stop] =
        [0, 1].map(|at| header["visual.proj"]["data_offsets"][at].as_u64().unwrap());
    for (text, part) in [
        (
            changed("data_offsets", json!([start, u64::MAX])),
            "invalid header",
        ),
        (
            changed("data_offsets", json!([start - 4, stop - 4])),
            "invalid header",
        ),
        (
            changed("data_offsets", json!([stop, start])),
            "invalid header",
        ),
        (changed("shape", json!([u64::MAX, 3])), "invalid header"),
        (changed("shape", json!([-1, 3])), "invalid header"),
        (changed("dtype", json!("F8_E4M3")), "invalid header"),
        (
            changed("dtype", json!("I32")),
            "visual.proj: missing from the file",
        ),
        (
            header.to_string().replacen("[0,", "[NaN,", 1),
            "invalid JSON in header",
        ),
        (
            header
                .to_string()
                .replacen("visual.proj", "visual.conv1.weight", 1),
            "invalid header",
        ),
    ] {
        let error = with_header(&text);
        assert!(
            error.contains(open_clip::WEIGHTS_FILE) && error.contains(part),
            "{error}"
        );
    }
    for (length, part) in [
        (
            u64::MAX,
            "its header has 18446744073709551615 bytes, and the file",
        ),
        (1 << 40, "its header has 1099511627776 bytes"),
        (0, "invalid JSON in header"),
    ] {
        fs::write(&weights, [&length.to_le_bytes()[..], &sound[8..]].concat()).unwrap();
        let error = error(folder.path(), None);
        assert!(error.contains(part), "{error}");
    }
    fs::write(&weights, [&sound[..], b"more"].concat()).unwrap();
    assert!(error(folder.path(), None).contains("its tensors end at byte"));
    fs::write(&weights, &sound).unwrap();
    assert!(load(folder.path(), None, &Device::flex()).is_ok());
}

#[test]
fn a_storage_that_unpacks_far_beyond_its_tensors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch_files");
    for name in ["plain.pt", "openai.pt"] {
        let bytes = fs::read(fixtures.join(name)).unwrap();
        let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let path = folder.path().join(name);
        let mut out = ZipWriter::new(fs::File::create(&path).unwrap());
        for at in 0..archive.len() {
            let mut member = archive.by_index(at).unwrap();
            let member_name = member.name().unwrap().into_owned();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            if member_name.ends_with("/data/0") {
                content.resize(200 << 20, 0);
            }
            out.start_file(member_name, options).unwrap();
            out.write_all(&content).unwrap();
        }
        out.finish().unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
        let error = error(&path, Some("ViT-B-32"));
        assert!(error.contains("compressed storages unpack to 2"), "{error}");
    }
}

#[test]
fn an_index_names_files_in_its_own_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    let clip = Clip::init(&spec, 0, &Device::flex());
    let hf = folder.path().join("hf");
    fs::create_dir(&hf).unwrap();
    hugging_face::save(
        &hf,
        &clip,
        &spec,
        &PreprocessSpec::default(),
        hugging_face::TokenIds::default(),
    )
    .unwrap();
    fs::rename(hf.join("model.safetensors"), hf.join("part.safetensors")).unwrap();
    fs::copy(
        hf.join("part.safetensors"),
        folder.path().join("part.safetensors"),
    )
    .unwrap();
    let outside = folder.path().join("part.safetensors");
    let index = |file: &str| {
        let index = json!({ "weight_map": { "logit_scale": file } });
        fs::write(hf.join("model.safetensors.index.json"), index.to_string()).unwrap();
        inspect(&hf, None).map(|_| ())
    };
    index("part.safetensors").unwrap();
    for file in [
        "../part.safetensors",
        outside.to_str().unwrap(),
        "",
        "none",
        "./part.safetensors",
    ] {
        let error = index(file).unwrap_err().to_string();
        assert!(error.contains("no file in the same folder"), "{error}");
    }
}
