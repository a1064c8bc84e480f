//! Damaged and hostile model files: whatever they hold, opening them ends in a model or an error, soon
//! and in little memory. Every trial is a function of the campaign's seed and its number.
//!
//! The long form, with a seed and a number of trials for each kind of file, on as many as one likes:
//!
//! ```text
//! COUPLET_MUTATIONS="7 100000" cargo test --release -p couplet-model --test mutations -- \
//!     --ignored --nocapture
//! ```

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use burn::tensor::{Device, Int, Tensor};
use couplet_model::{Clip, PreprocessSpec, hugging_face, inspect, load, open_clip, presets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The longest that a trial may take.
const TIME: Duration = Duration::from_secs(10);
/// The most memory that the process may ever have used, in KiB.
const MEMORY: u64 = 1 << 20;
/// Trials of each kind in the short form.
const TRIALS: u64 = 500;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch_files")
}

/// What is mutated.
#[derive(Debug, Clone, Copy)]
enum Kind {
    OpenClipConfig,
    HuggingFaceConfig,
    Index,
    Safetensors,
    /// The bytes of a file of `torch.save` or TorchScript.
    TorchFile,
    /// A member of its archive, which is then packed again.
    TorchMember,
}

const KINDS: [Kind; 6] = [
    Kind::OpenClipConfig,
    Kind::HuggingFaceConfig,
    Kind::Index,
    Kind::Safetensors,
    Kind::TorchFile,
    Kind::TorchMember,
];

/// Sound files.
struct Seeds {
    /// A folder in open_clip's layout, and one in Hugging Face's.
    open_clip: PathBuf,
    hugging_face: PathBuf,
    torch_files: Vec<(PathBuf, String)>,
}

impl Seeds {
    fn write(folder: &Path) -> Self {
        let mut spec = presets::find("ViT-Ti-8-32").unwrap();
        spec.text.vocab_size = 32;
        spec.text.layers = 1;
        let clip = Clip::init(&spec, 0, &Device::flex());
        let [ours, theirs] = ["open_clip", "hf"].map(|name| folder.join(name));
        for folder in [&ours, &theirs] {
            fs::create_dir(folder).unwrap();
        }
        let preprocess = PreprocessSpec::default();
        open_clip::save(
            &ours,
            &clip,
            &spec,
            &preprocess,
            &open_clip::TokenizerCfg::default(),
        )
        .unwrap();
        hugging_face::save(
            &theirs,
            &clip,
            &spec,
            &preprocess,
            hugging_face::TokenIds::default(),
        )
        .unwrap();
        let expected = fs::read_to_string(fixtures().join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let torch_files = [
            ("plain.pt", "gelu"),
            ("legacy.pt", "gelu"),
            ("lightning.ckpt", "gelu"),
            ("averaged.pt", "gelu"),
            ("traced-quick-gelu.pt", "quick-gelu"),
            ("scripted-gelu-tanh.pt", "gelu-tanh"),
            ("openai.pt", "openai"),
        ];
        let torch_files = torch_files.map(|(file, model)| {
            let arch = folder.join(format!("{model}.json"));
            let config = json!({ "model_cfg": expected[model]["config"] });
            fs::write(&arch, config.to_string()).unwrap();
            (fixtures().join(file), arch.to_str().unwrap().to_string())
        });
        Self {
            open_clip: ours,
            hugging_face: theirs,
            torch_files: torch_files.to_vec(),
        }
    }
}

/// Opens a mutated file, and uses the model if there is one.
fn attempt(kind: Kind, seeds: &Seeds, scratch: &Path, rng: &mut ChaCha8Rng) {
    match kind {
        Kind::OpenClipConfig => {
            let text = fs::read_to_string(seeds.open_clip.join(open_clip::CONFIG_FILE)).unwrap();
            let path = scratch.join(open_clip::CONFIG_FILE);
            fs::write(&path, mutated_json(&text, rng)).unwrap();
            if let Ok(config) = open_clip::read_config(&path) {
                config.spec.cost();
            }
            link(&seeds.open_clip, scratch, open_clip::WEIGHTS_FILE);
            open(scratch, None);
        }
        Kind::HuggingFaceConfig => {
            let text = fs::read_to_string(seeds.hugging_face.join("config.json")).unwrap();
            fs::write(scratch.join("config.json"), mutated_json(&text, rng)).unwrap();
            link(&seeds.hugging_face, scratch, "model.safetensors");
            open(scratch, None);
        }
        Kind::Index => {
            let index = json!({ "metadata": {}, "weight_map": {
                "logit_scale": "model.safetensors", "text_projection.weight": "other.safetensors",
            }});
            let name = "model.safetensors.index.json";
            fs::write(scratch.join(name), mutated_json(&index.to_string(), rng)).unwrap();
            link(&seeds.hugging_face, scratch, "config.json");
            let weights = seeds.hugging_face.join("model.safetensors");
            fs::copy(weights, scratch.join("other.safetensors")).unwrap();
            open(scratch, None);
        }
        Kind::Safetensors => {
            let bytes = fs::read(seeds.open_clip.join(open_clip::WEIGHTS_FILE)).unwrap();
            let bytes = mutated_safetensors(bytes, rng);
            fs::write(scratch.join(open_clip::WEIGHTS_FILE), bytes).unwrap();
            link(&seeds.open_clip, scratch, open_clip::CONFIG_FILE);
            open(scratch, None);
        }
        Kind::TorchFile | Kind::TorchMember => {
            let at = rng.random_range(0..seeds.torch_files.len());
            let (file, arch) = &seeds.torch_files[at];
            let mut bytes = fs::read(file).unwrap();
            match kind {
                Kind::TorchMember => bytes = mutated_archive(&bytes, rng),
                _ => mutate(&mut bytes, rng),
            }
            let path = scratch.join("weights.pt");
            fs::write(&path, bytes).unwrap();
            open(&path, Some(arch));
            open(&path, None);
        }
    }
}

fn link(from: &Path, to: &Path, name: &str) {
    fs::copy(from.join(name), to.join(name)).unwrap();
}

/// How many models opened, and how many did not.
static OPENED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// A forward pass of what opens.
fn open(path: &Path, arch: Option<&str>) {
    let inspected = inspect(path, arch).is_ok();
    let device = Device::flex();
    let Ok(loaded) = load(path, arch, &device) else {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        return;
    };
    OPENED.fetch_add(1, Ordering::Relaxed);
    assert!(inspected, "what loads can be described");
    let spec = &loaded.source.spec;
    let size = spec.image.image_size();
    let features = loaded
        .model
        .encode_image(Tensor::zeros([1, 3, size, size], &device));
    assert_eq!(features.dims(), [1, spec.embed_dim]);
    let tokens = Tensor::<2, Int>::zeros([1, spec.text.context_length], &device);
    assert_eq!(loaded.model.encode_text(tokens).dims(), [1, spec.embed_dim]);
    let _ = hugging_face::check_writable(spec, &loaded.source.preprocess);
}

/// Up to four changes of bytes.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let end = (at + rng.random_range(1..=64usize)).min(bytes.len());
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at..end].fill(0),
            3 => bytes[at..end].fill(0xFF),
            4 => bytes.truncate(at),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            6 => drop(bytes.drain(at..end)),
            _ => {
                let number: [u8; 8] = match rng.random_range(0..3) {
                    0 => u64::MAX.to_le_bytes(),
                    1 => (1u64 << rng.random_range(0..64)).to_le_bytes(),
                    _ => rng.random::<u64>().to_le_bytes(),
                };
                let len = [1, 2, 4, 8][rng.random_range(0..4)].min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&number[..len]);
            }
        }
    }
}

/// A number, or another value, that a config should not hold.
fn odd_value(rng: &mut ChaCha8Rng) -> Value {
    match rng.random_range(0..16) {
        0 => json!(0),
        1 => json!(-1),
        2 => json!(1),
        3 => json!(4_000_000_000u64),
        4 => json!(u64::MAX),
        5 => json!(1e300),
        6 => json!(0.5),
        7 => json!(1u64 << rng.random_range(0..64)),
        8 => json!(rng.random_range(0..300)),
        9 => json!(rng.random_range(0..100_000)),
        10 => json!("../x"),
        11 => json!(""),
        12 => Value::Null,
        13 => json!([]),
        14 => json!({}),
        _ => json!(rng.random::<bool>()),
    }
}

/// One to three values of a JSON file replaced or removed; sometimes its bytes changed.
fn mutated_json(text: &str, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(text).unwrap();
    for _ in 0..rng.random_range(1..=3) {
        mutate_value(&mut value, rng);
    }
    let mut bytes = value.to_string().into_bytes();
    if rng.random_ratio(1, 8) {
        mutate(&mut bytes, rng);
    }
    bytes
}

fn mutate_value(value: &mut Value, rng: &mut ChaCha8Rng) {
    match value {
        Value::Object(table) if !table.is_empty() && !rng.random_ratio(1, 16) => {
            let at = rng.random_range(0..table.len());
            let key = table.keys().nth(at).unwrap().clone();
            if rng.random_ratio(1, 10) {
                table.remove(&key);
            } else {
                mutate_value(&mut table[&key], rng);
            }
        }
        Value::Array(list) if !list.is_empty() && !rng.random_ratio(1, 4) => {
            let at = rng.random_range(0..list.len());
            mutate_value(&mut list[at], rng);
        }
        _ => *value = odd_value(rng),
    }
}

/// The header changed as JSON, or any bytes.
fn mutated_safetensors(mut bytes: Vec<u8>, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let end = 8 + usize::try_from(length).unwrap();
    match rng.random_range(0..4) {
        0 => mutate(&mut bytes, rng),
        1 => {
            let mut header = bytes[..end].to_vec();
            mutate(&mut header, rng);
            header.extend(&bytes[end..]);
            bytes = header;
        }
        _ => {
            let text = String::from_utf8(bytes[8..end].to_vec()).unwrap();
            let header = mutated_json(&text, rng);
            let mut changed = (header.len() as u64).to_le_bytes().to_vec();
            changed.extend(header);
            changed.extend(&bytes[end..]);
            bytes = changed;
        }
    }
    bytes
}

/// A member of the archive changed, most often its pickle.
fn mutated_archive(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let Ok(mut archive) = ZipArchive::new(Cursor::new(bytes)) else {
        let mut bytes = bytes.to_vec();
        mutate(&mut bytes, rng);
        return bytes;
    };
    let chosen = if rng.random_ratio(3, 4) {
        None
    } else {
        Some(rng.random_range(0..archive.len()))
    };
    let method = [CompressionMethod::Stored, CompressionMethod::Deflated][rng.random_range(0..2)];
    let options = SimpleFileOptions::default().compression_method(method);
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        let is_pickle = name.ends_with("/data.pkl");
        if chosen.map_or(is_pickle, |chosen| chosen == at) {
            mutate(&mut content, rng);
        }
        out.start_file(name, options).unwrap();
        out.write_all(&content).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// The most memory that this process has used, in KiB; `None` where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs `count` trials of each kind.
/// - announce: whether the number of each trial is printed before it, which shows what aborts.
fn campaign(seed: u64, count: u64, announce: bool) {
    let folder = tempfile::tempdir().unwrap();
    let seeds = Seeds::write(folder.path());
    let (done, progress) = channel();
    let worker = thread::spawn(move || {
        for number in 0..count {
            for (at, kind) in KINDS.into_iter().enumerate() {
                let name = format!("{kind:?}, seed {seed}, trial {number}");
                if announce {
                    println!("{name}");
                }
                if done.send(name).is_err() {
                    return;
                }
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(number * KINDS.len() as u64 + at as u64);
                let scratch = tempfile::tempdir().unwrap();
                attempt(kind, &seeds, scratch.path(), &mut rng);
            }
        }
    });
    let mut trial = "none".to_string();
    loop {
        match progress.recv_timeout(TIME) {
            Ok(name) => {
                let peak = peak_memory().unwrap_or_default();
                assert!(peak < MEMORY, "{trial}: {peak} KiB");
                trial = name;
            }
            Err(RecvTimeoutError::Timeout) => panic!("{trial}: not done after {TIME:?}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(worker.join().is_ok(), "{trial}: it panicked");
    let [opened, refused] = [&OPENED, &REFUSED].map(|count| count.load(Ordering::Relaxed));
    println!("{opened} opened, {refused} refused");
    // Both ways through the code are tried.
    assert!(
        opened > count / 4 && refused > count,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn mutated_files_end_in_a_model_or_an_error() {
    campaign(1, TRIALS, false);
}

#[test]
#[ignore = "runs as long as COUPLET_MUTATIONS says"]
fn a_long_campaign_ends_in_models_or_errors() {
    let text = std::env::var("COUPLET_MUTATIONS").expect("COUPLET_MUTATIONS is \"SEED COUNT\"");
    let numbers: Vec<u64> = (text.split_whitespace())
        .map(|number| number.parse().expect("a number"))
        .collect();
    let &[seed, count] = numbers.as_slice() else {
        panic!("COUPLET_MUTATIONS is \"SEED COUNT\", not {text:?}");
    };
    campaign(seed, count, true);
}
