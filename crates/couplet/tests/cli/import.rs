//! `couplet import`.

use std::fs;
use std::path::Path;

use crate::workspace::{Workspace, fail, succeed};

/// What open_clip wrote after five epochs, and the losses of its next ten steps:
/// `experiments/import/continue_run.py`.
const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../experiments/import/fixture"
);

/// A folder with the fixture's files.
fn place() -> Workspace {
    let place = Workspace::with(&[]);
    copy(Path::new(FIXTURE), &place.path(""));
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const CHECKPOINT: [&str; 6] = [
    "import",
    "params.txt",
    "--model-config",
    "tiny.json",
    "--checkpoint",
    "epoch_5.pt",
];

#[test]
fn a_run_of_open_clip_goes_on_with_its_losses() {
    let place = place();
    let printed = succeed(place.couplet(&CHECKPOINT));
    assert!(
        printed.contains("wrote runs/tiny: after epoch 5, step 5, 80 samples"),
        "{printed}"
    );
    assert!(printed.contains("moments of 62 parameters"), "{printed}");
    succeed(place.couplet(&["train", "runs/tiny", "--resume"]));
    let theirs: Vec<f64> = serde_json::from_value(place.json("losses.json")).unwrap();
    let own = place.losses("runs/tiny");
    assert_eq!(own.len(), 10);
    for (index, ((step, own), theirs)) in own.iter().zip(&theirs).enumerate() {
        assert_eq!(*step, 6 + index as u64);
        assert!(
            (own - theirs).abs() < 2e-5,
            "step {step}: {own}, and open_clip's {theirs}"
        );
    }
}

#[test]
fn weights_alone_and_other_models_are_no_run_to_continue() {
    let place = place();
    let mut locked = CHECKPOINT.to_vec();
    let params = place
        .read("params.txt")
        .replace("lock_image: False", "lock_image: True");
    fs::write(place.path("params.txt"), params).unwrap();
    let printed = fail(place.couplet(&locked), 1);
    assert!(
        printed.contains("optimizer's state does not belong to this model"),
        "{printed}"
    );
    assert!(!place.path("runs").exists() && !place.path("tiny.toml").exists());
    locked[5] = "none.pt";
    let printed = fail(place.couplet(&locked), 1);
    assert!(printed.contains("none.pt: no such checkpoint"), "{printed}");
}

#[test]
fn a_command_is_written_as_a_config_that_a_file_keeps_from_being_replaced() {
    let place = place();
    let command = "python -m open_clip_train.main --train-data train.csv --model ViT-Ti-8-32 --name own \
                   --batch-size 16 --epochs 1 --warmup 1 --precision fp32 --device cpu --local-loss";
    let printed = succeed(place.couplet(&["import", command]));
    for part in [
        "wrote own.toml: ViT-Ti-8-32 on csv data, 16 pairs",
        "--local-loss",
        "couplet train own.toml",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    succeed(place.couplet(&["train", "own.toml"]));
    let printed = fail(place.couplet(&["import", command]), 1);
    assert!(printed.contains("own.toml: exists already"), "{printed}");
    succeed(place.couplet(&["import", command, "--force"]));
    let printed = fail(place.couplet(&["import", "--trian-data x.csv"]), 2);
    assert!(
        printed.contains("did you mean `--train-data`?"),
        "{printed}"
    );
}
