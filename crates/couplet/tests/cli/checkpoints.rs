//! Damaged, foreign and moved run folders: nothing is lost in silence, nothing foreign is touched.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_model::MANIFEST_FILE;

use crate::training::{tiny, train};
use crate::workspace::{Workspace, fail, succeed};

pub const STATE: &str = "trainer/state.json";
const MOMENTS: &str = "trainer/optimizer.safetensors";
pub const WEIGHTS: &str = "open_clip_model.safetensors";

/// A finished run of 12 steps with the checkpoints 6, 9 and 12, and one that ended after step 9.
pub fn two_runs() -> (Workspace, Vec<(u64, f64)>) {
    let workspace = tiny();
    succeed(run(&workspace, "whole", &[]));
    copy(&workspace.path("whole"), &workspace.path("base"));
    let newest = workspace.path("base/checkpoints/step-00000012");
    fs::remove_dir_all(newest).unwrap();
    fs::write(workspace.path("base/latest"), "step-00000009\n").unwrap();
    let losses = workspace.losses("whole");
    assert_eq!(losses.len(), 12);
    (workspace, losses)
}

pub fn run(workspace: &Workspace, run: &str, more: &[&str]) -> std::process::Command {
    let set = [
        "--set",
        "schedule.length=12 steps",
        "--set",
        "checkpoint.every=3 steps",
        "--set",
        "checkpoint.keep=3",
        "--set",
        "checkpoint.best=",
        "--set",
        "eval=[]",
    ];
    train(workspace, run, &[&set[..], more].concat())
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name())
        };
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// All files below a folder with their contents.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

type Damage = fn(&mut Vec<u8>);

const DAMAGES: [Damage; 4] = [
    |bytes| {
        let half = bytes.len() / 2;
        bytes[half] ^= 4;
    },
    |bytes| bytes.iter_mut().take(4096).for_each(|byte| *byte = 0),
    // Not only the newline at the end.
    |bytes| bytes.truncate(bytes.len() - 2),
    Vec::clear,
];

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_continued() {
    let (workspace, losses) = two_runs();
    let files = [
        "open_clip_config.json",
        WEIGHTS,
        MOMENTS,
        STATE,
        MANIFEST_FILE,
    ];
    for (at, (file, damage)) in (files.iter())
        .flat_map(|file| DAMAGES.map(|damage| (file, damage)))
        .enumerate()
    {
        let name = format!("run-{at}");
        copy(&workspace.path("base"), &workspace.path(&name));
        let checkpoints = workspace.path(&name).join("checkpoints");
        let path = checkpoints.join("step-00000009").join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let shown = fail(workspace.couplet(&["verify", &name]), 1);
        assert!(shown.contains("damaged") && shown.contains(file), "{shown}");
        let printed = succeed(run(&workspace, &name, &["--resume"]));
        let says = format!("checkpoints/step-00000009: {file}");
        assert!(printed.contains(&says), "{says}: {printed}");
        assert!(
            printed.contains("continuing from checkpoints/step-00000006"),
            "{printed}"
        );
        assert_eq!(workspace.losses(&name), losses, "{file}");
        assert!(checkpoints.join("damaged-step-00000009").is_dir());
        succeed(workspace.couplet(&["verify", &name]));
    }
}

#[test]
fn a_file_of_an_older_checkpoint_is_noticed() {
    let (workspace, losses) = two_runs();
    for file in [WEIGHTS, MOMENTS, STATE, MANIFEST_FILE] {
        copy(&workspace.path("base"), &workspace.path("run"));
        let file_of = |step: &str| workspace.path("run/checkpoints").join(step).join(file);
        fs::copy(file_of("step-00000006"), file_of("step-00000009")).unwrap();
        let printed = succeed(run(&workspace, "run", &["--resume"]));
        assert!(printed.contains("step-00000009: "), "{file}: {printed}");
        assert_eq!(workspace.losses("run"), losses, "{file}");
        fs::remove_dir_all(workspace.path("run")).unwrap();
    }
    // A whole checkpoint under the name of another.
    copy(&workspace.path("base"), &workspace.path("run"));
    let step = |step: &str| workspace.path("run/checkpoints").join(step);
    fs::remove_dir_all(step("step-00000009")).unwrap();
    copy(&step("step-00000006"), &step("step-00000009"));
    let printed = succeed(run(&workspace, "run", &["--resume"]));
    assert!(printed.contains("is that of step 6"), "{printed}");
    assert_eq!(workspace.losses("run"), losses);
}

#[test]
fn if_every_checkpoint_is_damaged_each_is_named_and_nothing_changes() {
    let (workspace, _) = two_runs();
    let step = |step: &str| workspace.path("base/checkpoints").join(step);
    fs::write(step("step-00000009").join(WEIGHTS), "").unwrap();
    fs::write(step("step-00000006").join(STATE), "{}").unwrap();
    let third = step("step-00000003");
    if third.is_dir() {
        fs::remove_dir_all(third).unwrap();
    }
    let before = contents(&workspace.path("base"));
    let printed = fail(run(&workspace, "base", &["--resume"]), 1);
    for part in [
        "step-00000009: open_clip_model",
        "step-00000006: trainer/state.json",
        "--overwrite",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!(contents(&workspace.path("base")), before);
}

#[test]
fn a_checkpoint_of_an_earlier_version_is_resumed_and_its_numbers_are_checked() {
    let (workspace, losses) = two_runs();
    let forget = |run: &str| {
        fs::remove_file(workspace.path(run).join("run.json")).unwrap();
        for entry in fs::read_dir(workspace.path(run).join("checkpoints")).unwrap() {
            fs::remove_file(entry.unwrap().path().join(MANIFEST_FILE)).unwrap();
        }
    };
    copy(&workspace.path("base"), &workspace.path("old"));
    forget("old");
    let printed = succeed(run(&workspace, "old", &["--resume"]));
    assert!(
        printed.contains("step-00000009 has no manifest"),
        "{printed}"
    );
    assert_eq!(workspace.losses("old"), losses);

    let path = "checkpoints/step-00000009/trainer/state.json";
    let state = workspace.read(&format!("base/{path}"));
    for (key, value) in [
        ("\"step\": 9", "\"step\": 8"),
        ("\"samples_seen\": 72", "\"samples_seen\": 80"),
        ("\"batches\": 9", "\"batches\": 9000000000"),
        ("\"samples\": 9", "\"samples\": 8"),
        ("\"epoch\": 0", "\"epoch\": 18446744073709551615"),
    ] {
        assert!(state.contains(key), "{key}: {state}");
        copy(&workspace.path("base"), &workspace.path("run"));
        forget("run");
        fs::write(
            workspace.path("run").join(path),
            state.replacen(key, value, 1),
        )
        .unwrap();
        let printed = succeed(run(&workspace, "run", &["--resume"]));
        assert!(
            printed.contains("step-00000009: trainer/state.json"),
            "{value}: {printed}"
        );
        assert_eq!(workspace.losses("run"), losses, "{value}");
        fs::remove_dir_all(workspace.path("run")).unwrap();
    }
}

#[test]
fn pointers_that_are_cut_or_missing_fall_back_to_the_newest_whole_checkpoint() {
    let (workspace, losses) = two_runs();
    for text in [
        Some(""),
        Some("step-000"),
        Some("step-00000099"),
        Some("\0\0\0\0"),
        None,
    ] {
        copy(&workspace.path("base"), &workspace.path("run"));
        let latest = workspace.path("run/latest");
        match text {
            Some(text) => fs::write(&latest, text).unwrap(),
            None => fs::remove_file(&latest).unwrap(),
        }
        let shown = fail(workspace.couplet(&["verify", "run"]), 1);
        assert!(shown.contains("\nlatest "), "{shown}");
        let opened = succeed(workspace.couplet(&[
            "eval",
            "zero-shot",
            "--no-cache",
            "--model",
            "run",
            "--dataset",
            "tiny-set.toml",
        ]));
        assert!(
            opened.contains("opening run/checkpoints/step-00000009"),
            "{opened}"
        );
        let printed = succeed(run(&workspace, "run", &["--resume"]));
        let says = "continuing from the newest whole checkpoint, checkpoints/step-00000009";
        assert!(printed.contains(says), "{text:?}: {printed}");
        assert_eq!(workspace.losses("run"), losses);
        fs::remove_dir_all(workspace.path("run")).unwrap();
    }
}

#[test]
fn damaged_weights_are_named_wherever_they_are_opened() {
    let (workspace, _) = two_runs();
    let path = workspace
        .path("base/checkpoints/step-00000009")
        .join(WEIGHTS);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let weights = format!("model.weights={}", path.display());
    for command in [
        &[
            "eval",
            "zero-shot",
            "--model",
            "base",
            "--dataset",
            "tiny-set.toml",
        ][..],
        &["model", "convert", "base", "out", "--format", "open_clip"],
        &[
            "train",
            "tiny.toml",
            "--run-dir",
            "next",
            "--set",
            "model.weights=base",
        ],
        &[
            "train",
            "tiny.toml",
            "--run-dir",
            "again",
            "--set",
            &weights,
        ],
    ] {
        let output = workspace.couplet(command).output().unwrap();
        let printed = crate::workspace::text(&output);
        assert!(!output.status.success(), "{printed}");
        assert!(
            printed.contains(WEIGHTS) && printed.contains("is damaged"),
            "{printed}"
        );
    }
}

#[test]
fn resuming_in_a_folder_that_is_no_run_is_refused_and_changes_nothing() {
    let workspace = tiny();
    for (name, text) in [
        ("cache/pages.db", "pages"),
        ("tensorboard/events.out.tfevents.1.host", "events"),
        ("config.toml", "mine = true"),
        ("checkpoints/step-7/weights.pt", "weights"),
    ] {
        let path = workspace.path("mine").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let files = || {
        let mut files = contents(&workspace.path("mine"));
        files.retain(|(path, _)| !path.ends_with("lock"));
        files
    };
    let before = files();
    let printed = fail(train(&workspace, "mine", &["--resume"]), 1);
    assert!(printed.contains("no run to resume"), "{printed}");
    assert_eq!(files(), before);
    for more in [&["--overwrite"][..], &[]] {
        let printed = fail(train(&workspace, "mine", more), 1);
        assert!(
            printed.contains("config.toml") && printed.contains("--run-dir"),
            "{printed}"
        );
        assert_eq!(files(), before);
    }
}

#[test]
fn overwriting_removes_a_run_and_keeps_the_files_of_others() {
    let (workspace, losses) = two_runs();
    let kept = [
        "notes.txt",
        "checkpoints/step-00000009/export.onnx",
        "tensorboard/notes",
    ];
    for name in kept {
        fs::write(workspace.path("base").join(name), name).unwrap();
    }
    let printed = succeed(run(&workspace, "base", &["--overwrite"]));
    assert!(
        printed.contains("notes.txt") && printed.contains("kept"),
        "{printed}"
    );
    assert_eq!(workspace.losses("base"), losses);
    for name in kept {
        let found = contents(&workspace.path("base"));
        assert!(
            found.iter().any(|(_, text)| text == name.as_bytes()),
            "{name}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_is_renamed_ends_with_an_error() {
    let workspace = tiny();
    let endless = [
        "--set",
        "schedule.length=100000 steps",
        "--set",
        "checkpoint.every=50000 steps",
    ];
    let mut command = train(&workspace, "run", &endless);
    let (out, err) = (workspace.path("out"), workspace.path("err"));
    command.stdout(fs::File::create(out).unwrap());
    command.stderr(fs::File::create(err).unwrap());
    let mut child = crate::workspace::Ended(command.spawn().unwrap());
    workspace.wait_for_lines(&mut child, "run", 3);
    fs::rename(workspace.path("run"), workspace.path("moved")).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    let printed = workspace.read("err");
    assert!(
        printed.contains("removed, renamed or replaced"),
        "{printed}"
    );
    assert!(!workspace.path("run").exists());
}

#[cfg(unix)]
#[test]
fn all_files_have_the_permissions_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let (workspace, _) = two_runs();
    fs::write(workspace.path("plain"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    let plain = mode(&workspace.path("plain"));
    succeed(workspace.couplet(&["model", "convert", "base", "out", "--format", "hf"]));
    succeed(workspace.couplet(&[
        "eval",
        "zero-shot",
        "--model",
        "base",
        "--dataset",
        "tiny-set.toml",
    ]));
    for folder in ["base", "out", "cache"] {
        let files = contents(&workspace.path(folder));
        assert!(!files.is_empty(), "{folder}");
        for (path, _) in files {
            assert_eq!(mode(&path), plain, "{}", path.display());
        }
    }
}
