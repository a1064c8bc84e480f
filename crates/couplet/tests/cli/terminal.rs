//! What runs print and record: the log, the record, widths and colors.

use std::fs;
use std::process::{Command, Stdio};

use crate::training::{tiny, train};
use crate::workspace::{Workspace, fail, succeed};

/// The lines of a run's `train.log` without their times, which are checked.
fn logged(workspace: &Workspace, run: &str) -> Vec<String> {
    let text = workspace.read(&format!("{run}/train.log"));
    let lines = text.lines().map(|line| {
        let (time, rest) = line.split_at(20);
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        rest.strip_prefix(' ').unwrap_or(rest).to_string()
    });
    lines.collect()
}

#[test]
fn a_runs_log_has_all_that_was_printed_and_a_resumed_run_appends() {
    let workspace = tiny();
    let set = [
        "--set",
        "schedule.length=12 steps",
        "--set",
        "model.text.vocab_size=50000",
    ];
    let printed = succeed(train(&workspace, "run", &set));
    assert!(printed.contains("warning: "), "{printed}");
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    assert_eq!(logged(&workspace, "run"), lines);
    let before = workspace.read("run/train.log");

    let longer = [
        "--resume",
        "--set",
        "schedule.length=15 steps",
        set[2],
        set[3],
    ];
    let printed = succeed(train(&workspace, "run", &longer));
    let after = workspace.read("run/train.log");
    assert!(after.starts_with(&before));
    let appended = &logged(&workspace, "run")[lines.len()..];
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    assert_eq!(appended, lines);
    assert!(
        appended[0].starts_with("changed    schedule.length: "),
        "{appended:?}"
    );
    assert!(!after.contains('\u{1b}'));

    // A resumption that is refused writes nothing; damage is found.
    fail(
        train(&workspace, "run", &["--resume", "--set", "seed=9"]),
        1,
    );
    assert_eq!(workspace.read("run/train.log"), after);
    let verify = || workspace.couplet(&["verify", "run"]);
    let verified = succeed(verify());
    assert!(verified.contains("train.log"), "{verified}");
    fs::write(
        workspace.path("run/train.log"),
        after.replacen("loss", "LOSS", 1),
    )
    .unwrap();
    let damaged = fail(verify(), 1);
    assert!(damaged.contains("are not those that step-"), "{damaged}");
    succeed(train(&workspace, "run", &["--overwrite"]));
    assert!(!workspace.read("run/train.log").contains("LOSS"));
}

#[test]
fn a_runs_record_has_an_entry_for_each_start() {
    let workspace = tiny();
    workspace.kill_after(train(&workspace, "run", &[]), "run", 8);
    succeed(train(&workspace, "run", &["--resume"]));
    let record = workspace.json("run/record.json");
    let starts = record["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 2);
    let (killed, resumed) = (&starts[0], &starts[1]);
    assert!(killed["ended"].is_null() && killed["resumed_from"].is_null());
    assert_eq!(killed["from_step"], 0);
    assert_eq!(resumed["outcome"], "finished");
    assert_eq!(resumed["to_step"], 30);
    assert!(resumed["from_step"].as_u64().unwrap() > 0);
    let from = resumed["resumed_from"].as_str().unwrap();
    assert!(from.starts_with("step-"), "{from}");
    for start in starts {
        let text = |key: &str| {
            start[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key}: {start}"))
        };
        let version = concat!("couplet ", env!("CARGO_PKG_VERSION"));
        assert_eq!(text("program"), version);
        assert!(text("started").ends_with('Z') && !text("os").is_empty());
        assert!(!text("working_dir").is_empty() && !text("device").is_empty());
        assert!(!text("precision").is_empty());
        let command = start["command"].as_array().unwrap();
        assert_eq!(command[1], "train");
        assert!(command.contains(&"--run-dir".into()));
        assert!(start["cores"].as_u64() > Some(0) && start["data_threads"].as_u64() > Some(0));
        assert!(start["features"].is_array() && start["gpus"].is_array());
        for key in ["host", "cpu", "commit"] {
            assert!(start.get(key).is_some(), "{key}");
        }
        assert_eq!(start["data"]["train"], 80);
        assert_eq!(start["data"]["evals"]["tiny"], 40);
        assert_eq!(start["batch"], 8);
        assert!(start["parameters"].as_u64() > Some(1000));
    }
    // An error is the outcome too; finished runs get no entry.
    let set = [
        "--set",
        "optimizer.lr=1e30",
        "--set",
        "optimizer.weight_decay=0.0",
    ];
    fail(train(&workspace, "bad", &set), 1);
    let record = workspace.json("bad/record.json");
    let outcome = record["starts"][0]["outcome"].as_str().unwrap();
    assert!(outcome.contains("the loss is"), "{outcome}");
    let log = workspace.read("bad/train.log");
    assert!(log.contains(" error: bad: the run failed"), "{log}");
    succeed(train(&workspace, "run", &["--resume"]));
    assert_eq!(
        workspace.json("run/record.json")["starts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    fs::write(workspace.path("run/record.json"), "{").unwrap();
    let verified = fail(workspace.couplet(&["verify", "run"]), 1);
    assert!(verified.contains("record.json: "), "{verified}");
}

/// Lines that are wider than a terminal, but for words that do not fit in any.
fn too_wide(text: &str, columns: usize) -> Vec<&str> {
    let is_too_wide = |line: &&str| {
        let longest = line
            .split_whitespace()
            .map(|word| word.chars().count())
            .max();
        line.chars().count() > columns && longest.unwrap_or(0) < columns - 12
    };
    text.lines().filter(is_too_wide).collect()
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let workspace = tiny();
    let dataset = workspace.read("tiny-set.toml");
    let long = "a-dataset-with-a-name-that-is-quite-long";
    fs::write(
        workspace.path("long.toml"),
        dataset.replace("\"tiny\"", &format!("\"{long}\"")),
    )
    .unwrap();
    let evals = "eval=[{ kind = 'zero-shot', dataset = 'long.toml' }]";
    let val = "data.val={ source = 'shapes', samples = 40 }";
    let best = format!("checkpoint.best=eval/{long}/top1");
    for columns in ["80", "60"] {
        let run = format!("run-{columns}");
        let set = [
            "--set",
            evals,
            "--set",
            val,
            "--set",
            &best,
            "--set",
            "model.text.vocab_size=50000",
        ];
        let train = |run: &str, more: &[&str]| {
            succeed(train(&workspace, run, &[&set[..], more].concat()).env("COLUMNS", columns))
        };
        let width: usize = columns.parse().unwrap();
        let mut printed = train(&run, &[]);
        assert!(
            printed.contains("warning: ") && printed.contains("held-out"),
            "{printed}"
        );
        train(&format!("{run}-b"), &["--set", "optimizer.lr=2e-3"]);
        let other = format!("{run}-b");
        for arguments in [
            &[
                "eval",
                "zero-shot",
                "--model",
                &run,
                "--dataset",
                "long.toml",
                "--compare-prompts",
            ][..],
            &["eval", "compare", &run, &other],
            &["verify", &run],
            &[
                "eval",
                "knn",
                "--model",
                &run,
                "--dataset",
                "long.toml",
                "-k",
                "999",
            ],
        ] {
            printed += &succeed(workspace.couplet(arguments).env("COLUMNS", columns));
        }
        assert_eq!(too_wide(&printed, width), [""; 0], "{columns}");
        assert!(
            printed.contains(long) && printed.contains("i→t R@10"),
            "{printed}"
        );
    }
    // In a pipe, tables fit 80 columns, and a message is one line.
    let piped = succeed(train(&workspace, "piped", &["--set", val]));
    let tables: String = piped
        .lines()
        .filter(|line| line.starts_with("  "))
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(too_wide(&tables, 80), [""; 0]);
    assert!(piped.contains(
        "run        piped (config.toml, metrics.jsonl, skipped.jsonl, train.log, record.json)"
    ));
}

/// Runs the binary in a terminal of 80 columns, if the program `script` is there.
fn in_terminal(
    workspace: &Workspace,
    arguments: &str,
    variables: &[(&str, &str)],
) -> Option<String> {
    let mut found = Command::new("script");
    let found = found.arg("--version");
    let found = found.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("not tried: there is no `script`");
        return None;
    }
    let couplet = env!("CARGO_BIN_EXE_couplet");
    let line = format!("stty cols 80; {couplet} {arguments}");
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(workspace.path("."));
    command
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn colors_are_where_a_terminal_is_and_nobody_said_otherwise() {
    let workspace = tiny();
    let wrong = ["train", "none.toml"];
    let plain = fail(workspace.couplet(&wrong), 2);
    assert!(
        plain.contains("error: ") && !plain.contains('\u{1b}'),
        "{plain}"
    );
    let colored = fail(
        workspace.couplet(&[&wrong[..], &["--color", "always"]].concat()),
        2,
    );
    assert!(colored.contains("\u{1b}["), "{colored}");
    let Some(colored) = in_terminal(&workspace, "train none.toml", &[]) else {
        return;
    };
    assert!(colored.contains("\u{1b}["), "{colored}");
    for (arguments, variables) in [
        ("train none.toml", &[("NO_COLOR", "1")][..]),
        ("train none.toml", &[("CLICOLOR", "0")]),
        ("train none.toml --color never", &[]),
    ] {
        let plain = in_terminal(&workspace, arguments, variables).unwrap();
        assert!(
            plain.contains("error: ") && !plain.contains('\u{1b}'),
            "{plain}"
        );
    }
}

#[test]
fn the_bar_fits_the_terminal_and_is_not_in_the_log() {
    let workspace = tiny();
    let arguments = "train tiny.toml --run-dir run --set \"log.every=5 steps\"";
    let Some(screen) = in_terminal(&workspace, arguments, &[]) else {
        return;
    };
    assert!(screen.contains('█') && screen.contains("step "), "{screen}");
    let drawn = screen.split(['\r', '\n']).map(|line| {
        let plain = line.replace("\u{1b}[2K", "");
        plain.trim_end().chars().count()
    });
    assert!(drawn.max().unwrap() <= 80, "{screen}");
    let lines = logged(&workspace, "run");
    assert!(
        lines
            .iter()
            .all(|line| !line.contains(['█', '\u{1b}', '\r']))
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("step "))
            .count(),
        6
    );
    assert!(lines.iter().any(|line| line.starts_with("epoch 3/3")));
}
