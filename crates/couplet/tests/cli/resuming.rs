//! Runs that are interrupted at any moment and resumed.

use std::fs;
#[cfg(unix)]
use std::process::Command;

use crate::checkpoints::{contents, two_runs};
use crate::training::{tiny, train};
#[cfg(unix)]
use crate::workspace::text;
use crate::workspace::{fail, succeed};

/// Kills a run at several moments and compares it with one that never stopped.
fn killed_equals_whole(set: &[&str], kill_after_lines: &[usize], files: &[&str]) {
    let workspace = tiny();
    succeed(train(&workspace, "whole", set));

    let resume = [set, &["--resume"]].concat();
    for lines in kill_after_lines {
        workspace.kill_after(train(&workspace, "broken", &resume), "broken", *lines);
    }
    succeed(train(&workspace, "broken", &resume));
    assert_eq!(workspace.metrics("broken"), workspace.metrics("whole"));
    for file in files {
        let bytes = |run: &str| {
            let checkpoint = workspace.path(run).join("checkpoints/step-00000030");
            fs::read(checkpoint.join(file)).unwrap()
        };
        assert!(bytes("broken") == bytes("whole"), "{file} differs");
    }
    let printed = succeed(train(&workspace, "broken", &resume));
    assert!(printed.contains("nothing to do"), "{printed}");
}

#[test]
fn a_run_killed_again_and_again_equals_one_that_never_stopped() {
    killed_equals_whole(&[], &[1, 5, 8, 14, 21], &["open_clip_model.safetensors"]);
}

#[test]
fn averages_half_precision_and_micro_batches_survive_being_killed() {
    let set = [
        "--set",
        "precision=fp16",
        "--set",
        "ema.decay=0.9",
        "--set",
        "batch.micro=4",
        "--set",
        "model.image.patch_dropout=0.25",
        // Large gradients, so that the loss scale moves.
        "--set",
        "model.init_logit_scale=4.6",
    ];
    let files = [
        "open_clip_model.safetensors",
        "open_clip_model_ema.safetensors",
        "trainer/optimizer.safetensors",
    ];
    killed_equals_whole(&set, &[2, 6, 15, 24], &files);
}

#[cfg(unix)]
#[test]
fn a_run_stopped_before_its_first_update_can_be_resumed() {
    let workspace = tiny();
    // No loss scale helps: every step is skipped until the run is stopped or gives up.
    let set = [
        "--set",
        "precision=fp16",
        "--set",
        "model.init_logit_scale=4.6",
    ];
    let output = workspace.stop_after(train(&workspace, "run", &set), "run", 1);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let lines = workspace.metrics("run");
    assert_eq!(lines[0]["skipped_step"], true, "{lines:?}");
    let resume = [&set[..], &["--resume"]].concat();
    succeed(train(&workspace, "run", &resume));
    succeed(train(&workspace, "whole", &set));
    assert_eq!(workspace.metrics("run"), workspace.metrics("whole"));
}

#[cfg(unix)]
#[test]
fn a_signal_finishes_the_step_writes_a_checkpoint_and_prints_how_to_resume() {
    let workspace = tiny();
    let endless = ["--set", "schedule.length=100000 steps"];
    let output = workspace.stop_after(train(&workspace, "run", &endless), "run", 5);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("--resume"), "{}", text(&output));
    let last_step = workspace.metrics("run").last().unwrap()["step"].as_u64();
    let latest = format!("step-{:08}", last_step.unwrap());
    assert_eq!(workspace.read("run/latest").trim(), latest);
}

/// A full file system, as the run sees it: the system rejects files of more than 512 KiB.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_good_one() {
    let workspace = tiny();
    succeed(train(&workspace, "whole", &[]));
    workspace.kill_after(train(&workspace, "run", &[]), "run", 4);
    let good = workspace.read("run/latest");

    let resume = train(&workspace, "run", &["--resume"]);
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(resume.get_program())
        .args(resume.get_args())
        .current_dir(workspace.path(""));
    let printed = fail(full, 1);
    assert!(printed.contains("could not be saved"), "{printed}");
    assert!(printed.contains("last good checkpoint is"), "{printed}");
    assert_eq!(workspace.read("run/latest"), good);
    let left: Vec<_> = fs::read_dir(workspace.path("run/checkpoints"))
        .unwrap()
        .collect();
    let unfinished = |entry: &std::io::Result<fs::DirEntry>| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with('.')
    };
    assert!(!left.iter().any(unfinished), "{left:?}");

    succeed(train(&workspace, "run", &["--resume"]));
    assert_eq!(workspace.metrics("run"), workspace.metrics("whole"));
}

#[test]
fn a_resumed_run_prints_config_changes_and_rejects_incompatible_ones() {
    let workspace = tiny();
    let start = ["--set", "schedule.length=5 steps"];
    succeed(train(&workspace, "run", &start));
    let resume = |set: &str| {
        let more = [&start[..], &["--resume", "--set", set]].concat();
        train(&workspace, "run", &more)
    };
    let printed = succeed(resume("batch.micro=4"));
    assert!(printed.contains("batch.micro: unset became 4"), "{printed}");
    let printed = fail(resume("optimizer.lr=1.0"), 1);
    assert!(
        printed.contains("optimizer.lr: 0.001 became 1.0"),
        "{printed}"
    );
}

#[test]
fn a_micro_batch_that_was_found_is_kept() {
    let workspace = tiny();
    let start = ["--set", "schedule.length=5 steps"];
    succeed(train(&workspace, "whole", &start));
    let auto = [&start[..], &["--set", "batch.micro=\"auto\""]].concat();
    let printed = succeed(train(&workspace, "run", &auto));
    assert!(
        printed.contains("pairs in a pass, all of the batch"),
        "{printed}"
    );
    assert_eq!(workspace.metrics("run"), workspace.metrics("whole"));
    let longer = [
        "--set",
        "schedule.length=8 steps",
        "--set",
        "batch.micro=\"auto\"",
        "--resume",
    ];
    let printed = succeed(train(&workspace, "run", &longer));
    assert!(printed.contains("pairs in a pass, as before"), "{printed}");
}

#[test]
fn verify_repeats_steps_and_reports_the_first_that_differs() {
    let (workspace, _) = two_runs();
    let before = contents(&workspace.path("whole"));
    let printed = succeed(workspace.couplet(&["verify", "whole", "--replay", "2"]));
    assert!(printed.contains("steps 10 to 11"), "{printed}");
    assert!(printed.contains("the same, bit for bit"), "{printed}");
    assert_eq!(contents(&workspace.path("whole")), before);

    // More than there are: all since the oldest checkpoint.
    let names = fs::read_dir(workspace.path("whole/checkpoints")).unwrap();
    let step = |name: String| name.strip_prefix("step-")?.parse::<u64>().ok();
    let oldest = names.filter_map(|entry| step(entry.unwrap().file_name().into_string().unwrap()));
    let first = oldest.min().unwrap() + 1;
    let printed = succeed(workspace.couplet(&["verify", "whole", "--replay", "100"]));
    assert!(
        printed.contains(&format!("steps {first} to 12")),
        "{printed}"
    );

    let metrics = workspace.read("whole/metrics.jsonl");
    let mut lines: Vec<String> = metrics.lines().map(String::from).collect();
    let digit = lines[10].find("\"loss\":").unwrap() + 12;
    let other = if lines[10].as_bytes()[digit] == b'5' {
        "6"
    } else {
        "5"
    };
    lines[10].replace_range(digit..=digit, other);
    fs::write(
        workspace.path("whole/metrics.jsonl"),
        lines.join("\n") + "\n",
    )
    .unwrap();
    let printed = fail(workspace.couplet(&["verify", "whole", "--replay", "2"]), 1);
    assert!(
        printed.contains("step 11 is the first to differ"),
        "{printed}"
    );
    assert!(
        printed.contains("are not those that step-00000012"),
        "{printed}"
    );
    fail(workspace.couplet(&["verify", "nowhere"]), 1);
}
