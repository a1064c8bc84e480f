//! Runs what was written as ONNX with ONNX Runtime, in Python, and compares it with the model.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use burn::tensor::{Tensor, TensorData};
use couplet_eval::Encoder;
use serde_json::Value;

use crate::printing;

/// Compares a folder with features of the same inputs.
const SCRIPT: &str = include_str!("../../python/onnx-check.py");
const PYTHON: &str = "COUPLET_PYTHON";
/// The script's exit code where a package is missing.
const NO_RUNTIME: i32 = 3;
/// How long the script may run.
const PATIENCE: Duration = Duration::from_mins(20);
/// How long Python may take to find its modules.
const PROBE_PATIENCE: Duration = Duration::from_mins(1);
/// Images and texts that are compared.
const ROWS: usize = 3;
/// A distance in f32 that no rounding explains.
const SUSPICIOUS: f64 = 1e-3;

/// Prints how far each precision of the files in `folder` is from the model, or that it was not tried.
///
/// # Errors
/// If ONNX Runtime cannot run the files.
pub(super) fn run(folder: &Path, encoder: &Encoder) -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("there is no folder for temporary files")?;
    let script = work.path().join("onnx-check.py");
    fs::write(&script, SCRIPT)?;
    let python = std::env::var_os(PYTHON).unwrap_or_else(|| OsString::from("python3"));
    let shown = python.to_string_lossy().into_owned();
    // A file, not `-c`, which would look for modules in the working directory first.
    let probe = work.path().join("probe.py");
    fs::write(&probe, "import numpy, onnxruntime\n")?;
    let probe = Command::new(&python)
        .arg(&probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let probe = probe.and_then(|child| wait(child, PROBE_PATIENCE));
    if !probe.is_ok_and(|status| status.is_some_and(|status| status.success())) {
        not_run(&shown);
        return Ok(());
    }
    // A name that begins with a dash would be taken for an option.
    let folder = fs::canonicalize(folder)?;
    let mut command = Command::new(&python);
    command.arg(&script).arg(folder).arg("--json");
    command.args(write_references(work.path(), encoder)?);
    let (out, errors) = (work.path().join("out"), work.path().join("errors"));
    command
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&errors)?);
    let child = command
        .spawn()
        .with_context(|| format!("{shown} cannot be started"))?;
    let Some(status) = wait(child, PATIENCE)? else {
        let minutes = PATIENCE.as_secs() / 60;
        bail!("ONNX Runtime did not finish within {minutes} minutes; the files are written");
    };
    if status.code() == Some(NO_RUNTIME) {
        not_run(&shown);
        return Ok(());
    }
    if !status.success() {
        let errors = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
        return Err(anyhow!(errors.trim().to_string()))
            .context("the files are written, but ONNX Runtime cannot run them");
    }
    report(&fs::read_to_string(&out)?)
}

fn not_run(python: &str) {
    printing::note(&format!(
        "not run: {python} cannot import numpy and onnxruntime. `pip install onnxruntime onnx`, or name another Python in {PYTHON}, and the \
         files are compared with the model"
    ));
}

/// Waits for Python.
/// - returns `None` if it took too long and was ended.
fn wait(mut child: Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Prints the largest distance of each precision.
/// - found: what the script printed.
fn report(found: &str) -> anyhow::Result<()> {
    let found: Value = serde_json::from_str(found).context("the script printed no JSON")?;
    let runtime = found["runtime"].as_str().unwrap_or_default();
    let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
    for file in found["files"].as_array().into_iter().flatten() {
        let (Some(precision), Some(distance)) =
            (file["precision"].as_str(), file["distance"].as_f64())
        else {
            bail!("the script printed no distance: {file}");
        };
        let most = largest.entry(precision).or_insert(0.0);
        *most = most.max(distance);
    }
    for (precision, distance) in &largest {
        say!("{precision}: ONNX Runtime {runtime} is within {distance:.1e} of the model");
    }
    if largest.get("fp32").is_some_and(|most| *most > SUSPICIOUS) {
        printing::warn("the distance in fp32 is more than rounding explains");
    }
    Ok(())
}

/// Writes inputs and the features that the model gives them.
/// - returns the script's arguments.
fn write_references(folder: &Path, encoder: &Encoder) -> anyhow::Result<Vec<OsString>> {
    let model = encoder.model();
    let side = encoder.spec().image.image_size();
    let mut draws = Draws(1);
    let pixels: Vec<f32> = (0..ROWS * 3 * side * side)
        .map(|_| draws.number())
        .collect();
    let shape = [ROWS, 3, side, side];
    let images = folder.join("images.npy");
    write_npy(
        &images,
        "<f4",
        &shape,
        pixels.iter().copied().map(f32::to_le_bytes),
    )?;
    let pixels = TensorData::new(pixels, shape);
    let features = model.encode_image(Tensor::from_data(pixels, &model.device()));
    let image_features = folder.join("image_features.npy");
    write_features(&image_features, features)?;
    let mut arguments: Vec<OsString> =
        vec!["--images".into(), images.into(), image_features.into()];

    let text = &encoder.spec().text;
    let mut lengths = vec![text.context_length];
    if text.reads_no_padding() && text.context_length > 3 {
        lengths.push(text.context_length / 2 + 1);
    }
    for length in lengths {
        let ids = token_ids(encoder, length, &mut draws);
        let path = folder.join(format!("ids-{length}.npy"));
        let bytes = ids.iter().map(|id| i64::from(*id).to_le_bytes());
        write_npy(&path, "<i8", &[ROWS, length], bytes)?;
        let features = encoder.encode_tokens_raw(ids, length);
        let text_features = folder.join(format!("text_features-{length}.npy"));
        write_features(&text_features, features)?;
        let texts: [OsString; 3] = ["--texts".into(), path.into(), text_features.into()];
        arguments.extend(texts);
    }
    let number = |tensor: Tensor<1>| -> anyhow::Result<f32> {
        let values = tensor.into_data().try_to_vec::<f32>();
        let values = values.map_err(|error| anyhow!("{error:?}"))?;
        values.first().copied().context("a scalar has a value")
    };
    let scale = number(model.logit_scale.val())?.exp();
    arguments.push(format!("--scale={scale:e}").into());
    if let Some(bias) = &model.logit_bias {
        let bias = number(bias.val())?;
        arguments.push(format!("--bias={bias:e}").into());
    }
    Ok(arguments)
}

/// Texts of several lengths, `[ROWS, length]`, with padding behind the shorter ones.
fn token_ids(encoder: &Encoder, length: usize, draws: &mut Draws) -> Vec<i32> {
    let text = &encoder.spec().text;
    let vocabulary = text.vocab_size as u64;
    let pad = encoder.tokens().map_or(text.pad_id, |tokens| tokens.pad_id);
    let pad = u64::from(pad);
    let mut ids = Vec::with_capacity(ROWS * length);
    for row in 0..ROWS {
        // Whole, half and a quarter of the tokens.
        let tokens = (length >> row).max(2).min(length);
        for at in 0..length {
            let any = draws.next() % vocabulary;
            let id = match (at < tokens, any == pad) {
                (false, _) => pad,
                (true, true) => (pad + 1) % vocabulary,
                (true, false) => any,
            };
            ids.push(i32::try_from(id).expect("ids fit in i32"));
        }
    }
    ids
}

fn write_features(path: &Path, features: Tensor<2>) -> anyhow::Result<()> {
    let shape = features.dims();
    let values = features.into_data().try_to_vec::<f32>();
    let values = values.map_err(|error| anyhow!("{error:?}"))?;
    let bytes = values.into_iter().map(f32::to_le_bytes);
    write_npy(path, "<f4", &shape, bytes)
}

/// Writes an array as NumPy reads it. Source: NumPy's `numpy.lib.format`, version 1.0.
fn write_npy<const N: usize>(
    path: &Path,
    kind: &str,
    shape: &[usize],
    values: impl Iterator<Item = [u8; N]>,
) -> anyhow::Result<()> {
    const ALIGNMENT: usize = 64;
    const BEFORE: usize = 10;
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let sizes = sizes.join(",") + ",";
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let length = (BEFORE + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.push_str(&" ".repeat(length - BEFORE - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len())?.to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(values.flatten());
    fs::write(path, bytes).with_context(|| format!("{}: cannot be written", path.display()))
}

/// Numbers that look drawn, and are the same each time. Source: Steele et al. 2014, "Fast splittable pseudorandom number
/// generators".
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From -2 to 2, as normalised pixels are.
    fn number(&mut self) -> f32 {
        let whole = u16::try_from(self.next() >> 48).expect("16 bits are left");
        f32::from(whole) / 16_384.0 - 2.0
    }
}
