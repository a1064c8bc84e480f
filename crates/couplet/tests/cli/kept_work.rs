//! Damage that costs no work: lost logs, and checkpoints that were set aside.

use std::fs;

use crate::checkpoints::{STATE, WEIGHTS, contents, copy, run, two_runs};
use crate::workspace::{fail, succeed};

/// The losses after the newest checkpoint, with their steps.
fn later(losses: Vec<(u64, f64)>) -> Vec<(u64, f64)> {
    losses.into_iter().filter(|(step, _)| *step > 9).collect()
}

#[test]
fn a_log_that_is_lost_or_cut_costs_no_step() {
    let (workspace, losses) = two_runs();
    let metrics = workspace.read("base/metrics.jsonl");
    let nowhere: Option<&str> = None;
    for (name, log) in [
        ("lost", nowhere),
        ("empty", Some("")),
        ("cut", Some(&metrics[..metrics.len() / 3])),
    ] {
        copy(&workspace.path("base"), &workspace.path(name));
        let path = workspace.path(name).join("metrics.jsonl");
        fs::remove_file(&path).unwrap();
        if let Some(log) = log {
            fs::write(&path, log).unwrap();
        }
        let printed = succeed(run(&workspace, name, &["--resume"]));
        assert!(printed.contains("continuing after step 9"), "{printed}");
        assert!(printed.contains("metrics.jsonl was changed"), "{printed}");
        assert_eq!(later(workspace.losses(name)), later(losses.clone()));
        let printed = fail(workspace.couplet(&["verify", name]), 1);
        assert!(printed.contains("metrics.jsonl"), "{printed}");
    }
}

#[test]
fn a_checkpoint_that_was_set_aside_is_never_deleted() {
    let (workspace, _) = two_runs();
    let newest = workspace.path("base/checkpoints/step-00000009");
    let spoil = || fs::write(newest.join(WEIGHTS), b"spoilt").unwrap();
    spoil();
    succeed(run(&workspace, "base", &["--resume"]));
    let twelve = workspace.path("base/checkpoints/step-00000012");
    fs::remove_dir_all(twelve).unwrap();
    spoil();
    succeed(run(&workspace, "base", &["--resume"]));
    for name in ["damaged-step-00000009", "damaged-step-00000009.1"] {
        let kept = workspace.path("base/checkpoints").join(name);
        assert!(kept.join(STATE).is_file(), "{name}");
    }
    succeed(run(&workspace, "base", &["--overwrite"]));
    let left = contents(&workspace.path("base"));
    assert!(
        !left
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("damaged"))
    );
}
