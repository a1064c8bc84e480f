//! Models by name, without a network: names, the cache, and what is said.

use std::fs;
use std::process::Command;

use crate::models::{couplet, scene};
use crate::workspace::{Workspace, fail, succeed};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The binary, with caches in the workspace and without downloads.
fn offline(workspace: &Workspace, arguments: &str) -> Command {
    let mut command = couplet(workspace, arguments);
    for name in ["HF_ENDPOINT", "HF_TOKEN", "COUPLET_MIRROR", "HF_HUB_CACHE"] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", workspace.path("hf"))
        .env("COUPLET_CACHE", workspace.path("own"))
        .env("HOME", workspace.path("home"))
        .env("HF_HUB_OFFLINE", "1");
    command
}

#[test]
fn a_model_in_hugging_faces_cache_opens_by_its_name() {
    let workspace = scene("ViT-Ti-8-32");
    let repository = workspace.path("hf/hub/models--org--tiny");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(repository.join("snapshots")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::rename(workspace.path("model"), snapshot).unwrap();
    for name in ["hf:org/tiny", &format!("hf:org/tiny@{COMMIT}")] {
        let embed = format!(
            "embed --model {name} --texts texts.txt --out {}.npy",
            name.len()
        );
        succeed(offline(&workspace, &embed));
    }
    let printed = succeed(offline(&workspace, "model download hf:org/tiny"));
    assert!(printed.trim_end().ends_with(COMMIT), "{printed}");
    let config = "name = \"a\"\n[model]\nweights = \"hf:org/tiny\"\n[data.train]\nsource = \"shapes\"\nsamples = 16\n\
                  [batch]\nglobal = 8\n[loss]\nkind = \"softmax\"\n[optimizer]\nkind = \"adamw\"\nlr = 1e-3\n\
                  [schedule]\nkind = \"constant\"\nlength = \"1 step\"\n";
    fs::write(workspace.path("a.toml"), config).unwrap();
    succeed(offline(&workspace, "train a.toml --run-dir run"));
    // A run that has a checkpoint needs neither the name nor what it stands for.
    fs::remove_dir_all(workspace.path("hf")).unwrap();
    let longer = config.replace("1 step", "2 steps");
    fs::write(workspace.path("a.toml"), longer).unwrap();
    succeed(offline(&workspace, "train a.toml --run-dir run --resume"));
    let missing = fs::read_to_string(workspace.path("a.toml")).unwrap();
    let missing = missing.replace("hf:org/tiny", "run/chekpoints");
    fs::write(workspace.path("b.toml"), missing).unwrap();
    let printed = fail(offline(&workspace, "train b.toml --run-dir other"), 2);
    assert!(printed.contains("run/chekpoints is not there"), "{printed}");
    assert!(!printed.contains("hf:"), "{printed}");
}

#[test]
fn what_is_no_name_is_told_with_the_nearest() {
    let workspace = scene("ViT-Ti-8-32");
    let classify = |model: &str| {
        let arguments = format!("classify --model {model} --labels a,b image.png");
        fail(offline(&workspace, &arguments), 1)
    };
    for (name, parts) in [
        (
            "ViT-B-32@opanai",
            &["ViT-B-32@openai", "model list --pretrained"][..],
        ),
        ("ViT-B-23@openai", &["ViT-B-32@openai"]),
        ("ViT-B-32", &["ViT-B-32@openai"]),
        ("hf:a/b/c", &["hf:ORG/NAME"]),
        ("hf:org/absent", &["HF_HUB_OFFLINE"]),
        ("convnext_base@laion400m_s13b_b51k", &["convnext_base"]),
    ] {
        let printed = classify(name);
        for part in parts {
            assert!(printed.contains(part), "{name}: {printed}");
        }
    }
    let printed = classify("no/such/folder");
    assert!(
        printed.contains("no/such/folder: no model here"),
        "{printed}"
    );
}

#[test]
fn the_table_of_names_says_their_licences() {
    let workspace = Workspace::with(&[]);
    let printed = succeed(offline(
        &workspace,
        "model list --pretrained --json list.json",
    ));
    assert!(printed.contains("ViT-B-32@openai"), "{printed}");
    let list = workspace.json("list.json");
    let find = |name: &str| {
        let mut rows = list.as_array().unwrap().iter();
        rows.find(|row| row["name"] == name).unwrap().clone()
    };
    let openai = find("ViT-B-32@openai");
    assert_eq!(openai["activation"], "quick-gelu");
    assert_eq!(openai["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(openai["commercial_use"], true);
    assert_eq!(
        find("ViT-B-32-quickgelu@metaclip_400m")["commercial_use"],
        false
    );
    assert_eq!(find("ViT-B-16-SigLIP@webli")["licence"], "Apache-2.0");
}
