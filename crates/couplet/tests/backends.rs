//! Every device available here gives the losses of the CPU, and so does the CPU without the kernels
//! of `couplet-kernels`.

use std::path::Path;
use std::process::Command;

use couplet_train::DeviceSetting;

const STEPS: usize = 20;
/// Largest relative difference of a loss over 20 successive steps.
const TOLERANCE: f64 = 1e-3;

/// The losses of 20 steps of a small model.
fn losses(folder: &Path, device: DeviceSetting, has_kernels: bool) -> Vec<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let run = folder.join(format!("{device}-{has_kernels}").replace(':', "-"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
    command
        .current_dir(&root)
        .args(["train", "configs/shapes.toml", "--run-dir"]);
    command.arg(&run);
    if !has_kernels {
        command.env("COUPLET_KERNELS", "0");
    }
    for (key, value) in [
        ("device", device.to_string().as_str()),
        ("model.preset", "ViT-Ti-16-64"),
        ("model.text.layers", "2"),
        ("data.train.samples_per_epoch", "320"),
        ("batch.global", "16"),
        ("schedule.length", "20 steps"),
        ("schedule.warmup", "5 steps"),
        ("log.every", "1 step"),
        ("log.tensorboard", "false"),
        ("eval", "[]"),
        ("checkpoint.best", ""),
    ] {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let output = command.output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{device}: {stderr}");
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the run wrote metrics");
    let loss = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("lines are JSON");
        line["loss"].as_f64()
    };
    lines.lines().filter_map(loss).collect()
}

#[test]
fn twenty_steps_match_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let reference = losses(folder.path(), DeviceSetting::Flex, true);
    assert_eq!(reference.len(), STEPS);
    assert!(reference[STEPS - 1] < reference[0] - 0.05, "{reference:?}");
    let mut others = vec![(DeviceSetting::Flex, false)];
    let gpus = DeviceSetting::found().into_iter();
    others.extend(
        gpus.filter(|gpu| *gpu != DeviceSetting::Flex)
            .map(|gpu| (gpu, true)),
    );
    for (device, has_kernels) in others {
        let losses = losses(folder.path(), device, has_kernels);
        assert_eq!(losses.len(), STEPS, "{device}");
        for (step, (loss, expected)) in losses.iter().zip(&reference).enumerate() {
            let gap = (loss - expected).abs() / expected;
            assert!(
                gap < TOLERANCE,
                "{device}, kernels {has_kernels}, step {step}: {loss} instead of {expected}"
            );
        }
    }
}

/// What is started on a GPU in one step of a model with as many layers as ViT-B-32, by CubeCL's log.
#[cfg(feature = "wgpu")]
#[test]
fn a_step_starts_few_kernels_on_a_gpu() {
    const MOST: usize = 1500;
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let started = |steps: usize| {
        let place = folder.path().join(steps.to_string());
        std::fs::create_dir(&place).unwrap();
        let log = place.join("launches");
        let settings = format!("[profiling]\nlogger = {{ level = \"minimal\", file = {log:?} }}\n");
        std::fs::write(place.join("cubecl.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command.current_dir(&place).arg("train");
        command.arg(root.join("configs/shapes.toml"));
        command.arg("--run-dir").arg(place.join("run"));
        for setting in [
            "device=wgpu",
            "model.preset=ViT-Ti-16-64",
            "model.image.layers=12",
            "model.text.layers=12",
            "data.train.samples_per_epoch=320",
            "batch.global=4",
            &format!("schedule.length={steps} steps"),
            "schedule.warmup=1 steps",
            "log.every=50 steps",
            "log.tensorboard=false",
            "eval=[]",
            "checkpoint.best=",
        ] {
            command.args(["--set", setting]);
        }
        let output = command.output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let log = std::fs::read_to_string(log).expect("CubeCL wrote its log");
        log.lines()
            .filter(|line| line.starts_with("Executing "))
            .count()
    };
    let step = started(3) - started(2);
    assert!(step > 500 && step <= MOST, "{step} launches");
}
