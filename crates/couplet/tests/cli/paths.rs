//! Where the paths in configs, dataset files and on the command line start.

use std::fs;
use std::process::Command;

use crate::training::tiny;
use crate::workspace::{Workspace, fail, succeed};

const CONFIG: &str = r#"
name = "tiny"
device = "cpu"
[model]
embed_dim = 16
[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 16
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 2
[data.train]
source = "folder"
path = "PATH"
[batch]
global = 8
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "2 epochs"
[[eval]]
kind = "zero-shot"
dataset = "DATASET"
[log]
every = "1 step"
"#;

/// Two classes of drawn images.
const DATASET: &str = "name = \"pets\"\nsource = \"class-folder\"\npath = \"PATH\"\n";

/// `data/pairs`, `data/pets` and `configs/tiny.toml` of a project, and an empty folder next to them.
fn project(path: &str, dataset: &str) -> Workspace {
    let place = Workspace::with(&[]);
    for folder in ["project/configs", "project/sets", "elsewhere"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    let draw = |out: &str, format: &str, samples: &str| {
        let sizes = ["--samples", samples, "--image-size", "16"];
        let command = ["data", "shapes", out, "--format", format];
        succeed(place.couplet(&[&command[..], &sizes].concat()));
    };
    draw("project/data/pairs", "folder", "16");
    draw("project/data/pets", "class-folder", "96");
    let config = CONFIG.replace("PATH", path).replace("DATASET", dataset);
    fs::write(place.path("project/configs/tiny.toml"), config).unwrap();
    place
}

/// The binary in one of the folders.
fn couplet(place: &Workspace, folder: &str, arguments: &[&str]) -> Command {
    let mut command = place.couplet(arguments);
    command.current_dir(place.path(folder));
    command
}

#[test]
fn a_config_is_read_from_any_directory_and_its_run_resumed_from_any_other() {
    let place = project("../data/pairs", "../data/pets");
    let config = "configs/tiny.toml";
    let printed = succeed(couplet(&place, "project", &["train", config]));
    assert!(!printed.contains("earlier versions"), "{printed}");
    let elsewhere = ["train", "../project/configs/tiny.toml"];
    let shorter = ["--set", "schedule.length=2 steps"];
    succeed(couplet(
        &place,
        "elsewhere",
        &[&elsewhere[..], &shorter].concat(),
    ));
    let saved = place.read("elsewhere/runs/tiny/config.toml");
    let data = place.path("project/data/pairs").canonicalize().unwrap();
    assert!(saved.contains(&data.display().to_string()), "{saved}");
    let resume = ["train", "elsewhere/runs/tiny", "--resume"];
    let longer = ["--set", "schedule.length=2 epochs"];
    let printed = succeed(couplet(&place, "", &[&resume[..], &longer].concat()));
    assert!(!printed.contains("data.train"), "{printed}");
    assert_eq!(
        place.losses("elsewhere/runs/tiny").len(),
        place.losses("project/runs/tiny").len()
    );
    // As the file, too, and unchanged.
    let file = [
        "train",
        "runs/tiny/config.toml",
        "--run-dir",
        "runs/tiny",
        "--resume",
    ];
    let printed = succeed(couplet(&place, "elsewhere", &file));
    assert!(printed.contains("nothing to do"), "{printed}");
    assert!(!printed.contains("changed"), "{printed}");
}

#[test]
fn paths_of_the_command_line_start_from_the_working_directory() {
    let place = project("nowhere", "../data/pets");
    let set = ["--set", "data.train.path=data/pairs"];
    let plan = ["plan", "configs/tiny.toml", "--json"];
    let printed = succeed(couplet(&place, "project", &[&plan[..], &set].concat()));
    assert!(printed.contains("\"samples_per_epoch\": 16"), "{printed}");
    let wrong = [&plan[..], &["--set", "data.train.path=../data/pairs"]];
    let printed = fail(couplet(&place, "project", &wrong.concat()), 2);
    assert!(printed.contains("data.train.path"), "{printed}");
}

#[test]
fn configs_of_earlier_versions_go_on_working_with_a_warning() {
    let place = project("data/pairs", "sets/pets.toml");
    let dataset = DATASET.replace("PATH", "data/pets");
    fs::write(place.path("project/sets/pets.toml"), dataset).unwrap();
    let printed = succeed(couplet(&place, "project", &["plan", "configs/tiny.toml"]));
    for spelling in ["write `pairs`", "write `../sets/pets.toml`", "write `pets`"] {
        assert!(printed.contains(spelling), "{spelling}: {printed}");
    }
    let printed = fail(
        couplet(
            &place,
            "elsewhere",
            &["plan", "../project/configs/tiny.toml"],
        ),
        2,
    );
    for sought in [
        "../project/configs/data/pairs",
        "data/data/pairs",
        " and data/pairs\n",
    ] {
        assert!(printed.contains(sought), "{sought}: {printed}");
    }
}

#[test]
fn a_run_of_an_earlier_version_is_resumed_from_any_directory() {
    let place = project("data/pairs", "sets/pets.toml");
    let dataset = DATASET.replace("PATH", "data/pets");
    fs::write(place.path("project/sets/pets.toml"), dataset).unwrap();
    let start = [
        "train",
        "configs/tiny.toml",
        "--set",
        "schedule.length=2 steps",
    ];
    succeed(couplet(&place, "project", &start));
    // Relative paths, as they were saved.
    let root = place.path("project").canonicalize().unwrap();
    let saved = place.read("project/runs/tiny/config.toml");
    let relative = saved.replace(&format!("{}/", root.display()), "");
    assert!(relative.contains("\"data/pairs\""), "{relative}");
    fs::write(place.path("project/runs/tiny/config.toml"), relative).unwrap();
    let resume = ["train", "../project/runs/tiny", "--resume"];
    let longer = ["--set", "schedule.length=4 steps"];
    let printed = succeed(couplet(
        &place,
        "elsewhere",
        &[&resume[..], &longer].concat(),
    ));
    assert!(!printed.contains("config.toml: "), "{printed}");
    assert!(!printed.contains("changed    data"), "{printed}");
    assert!(!printed.contains("changed    eval"), "{printed}");
    assert_eq!(place.losses("project/runs/tiny").len(), 4);
    let verify = ["verify", "../project/runs/tiny", "--replay", "2"];
    let printed = succeed(couplet(&place, "elsewhere", &verify));
    assert!(printed.contains("the same, bit for bit"), "{printed}");
}

#[test]
fn a_data_root_is_the_only_place_for_data() {
    let place = project("pairs", "../sets/pets.toml");
    let dataset = DATASET.replace("PATH", "pets");
    fs::write(place.path("project/sets/pets.toml"), dataset).unwrap();
    // `data/` of the working directory is the default.
    succeed(couplet(&place, "project", &["plan", "configs/tiny.toml"]));
    let plan = ["plan", "../project/configs/tiny.toml"];
    let printed = fail(couplet(&place, "elsewhere", &plan), 2);
    assert!(printed.contains("--data-root"), "{printed}");
    let root = ["--data-root", "../project/data"];
    succeed(couplet(&place, "elsewhere", &[&plan[..], &root].concat()));
    succeed(couplet(&place, "elsewhere", &plan).env("COUPLET_DATA_ROOT", "../project/data"));
    let other = ["--data-root", "../elsewhere"];
    let printed = fail(
        couplet(
            &place,
            "project",
            &[&["plan", "configs/tiny.toml"][..], &other].concat(),
        ),
        2,
    );
    assert!(
        printed.contains("../elsewhere/pairs is not there"),
        "{printed}"
    );
    assert!(
        printed.contains("../elsewhere/pets is not there"),
        "{printed}"
    );
    // A run remembers it.
    let train = [
        "train",
        "../project/configs/tiny.toml",
        "--set",
        "schedule.length=2 steps",
    ];
    succeed(couplet(&place, "elsewhere", &[&train[..], &root].concat()));
    let resume = [
        "train",
        "elsewhere/runs/tiny",
        "--resume",
        "--set",
        "schedule.length=3 steps",
    ];
    succeed(couplet(&place, "", &resume));
}

#[test]
fn a_sweep_finds_its_config_and_its_values() {
    let place = project("pairs", "../data/pets");
    let sweep = "name = \"s\"\nconfig = \"../configs/tiny.toml\"\nmetric = \"loss\"\n\
                 set = [\"schedule.length=1 step\"]\n\
                 [keys]\n\"data.train.path\" = [\"../data/pairs\"]\n";
    fs::write(place.path("project/sets/sweep.toml"), sweep).unwrap();
    let command = ["sweep", "../project/sets/sweep.toml", "--run-dir", "s"];
    succeed(couplet(&place, "elsewhere", &command));
    assert!(place.path("elsewhere/s/ranking.json").is_file());
}

#[test]
fn built_in_datasets_are_found_by_name_and_unknown_ones_named() {
    let place = tiny();
    let short = [
        "--set",
        "schedule.length=5 steps",
        "--set",
        "model.image.image_size=32",
    ];
    let named = ["--set", "eval=[{kind = 'zero-shot', dataset = 'shapes'}]"];
    let best = ["--set", "checkpoint.best="];
    let run = ["train", "tiny.toml"];
    succeed(place.couplet(&[&run[..], &short, &named, &best].concat()));
    fs::create_dir(place.path("empty")).unwrap();
    let eval = ["eval", "zero-shot", "--model", "../runs/tiny", "--dataset"];
    let evaluate = |dataset: &str| couplet(&place, "empty", &[&eval[..], &[dataset]].concat());
    let printed = succeed(evaluate("shapes"));
    assert!(printed.contains("top1"), "{printed}");
    let printed = fail(evaluate("cifar1000"), 1);
    for part in ["did you mean `cifar100`?", "imagenetv2", "data/cifar1000"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let printed = fail(evaluate("cifar10"), 1);
    for part in ["data/cifar-10-batches-bin", "https://www.cs.toronto.edu"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let config = ["--set", "eval=[{kind = 'zero-shot', dataset = 'shaps'}]"];
    let printed = fail(
        place.couplet(&[&["plan", "tiny.toml"][..], &best, &config].concat()),
        2,
    );
    assert!(printed.contains("did you mean `shapes`?"), "{printed}");
    // A path comes first.
    fs::create_dir_all(place.path("empty/shapes/only")).unwrap();
    let printed = fail(evaluate("shapes"), 1);
    assert!(printed.contains("shapes"), "{printed}");
}
