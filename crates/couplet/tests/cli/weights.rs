//! Runs that start from weights, which bring their architecture.

use std::fs;

use crate::training::tiny;
use crate::workspace::{Workspace, fail, succeed};

const NEXT: &str = r#"
name = "next"
device = "cpu"
[model]
weights = "runs/tiny"
[data.train]
source = "shapes"
samples = 80
[batch]
global = 8
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "2 steps"
[log]
every = "1 step"
"#;

fn place() -> Workspace {
    let place = tiny();
    fs::write(place.path("next.toml"), NEXT).unwrap();
    place
}

#[test]
fn weights_alone_are_a_complete_model() {
    let place = place();
    let short = ["--set", "schedule.length=5 steps"];
    succeed(place.couplet(&[&["train", "tiny.toml"][..], &short].concat()));
    succeed(place.couplet(&["train", "next.toml"]));
    let saved = place.read("runs/next/config.toml");
    for key in ["embed_dim = 16", "patch_size = 8", "context_length = 16"] {
        assert!(saved.contains(key), "{key}: {saved}");
    }
    let data = succeed(place.couplet(&["data", "stats", "next.toml"]));
    assert!(data.contains("truncated to 16 tokens"), "{data}");

    // Keys override what may differ, and are held against the rest.
    let set = ["plan", "next.toml", "--set"];
    let with = |pair: &'static str| place.couplet(&[&set[..], &[pair]].concat());
    succeed(with("model.image.image_size=24"));
    let printed = fail(with("model.embed_dim=32"), 2);
    assert!(
        printed.contains("another architecture") && printed.contains("embed_dim"),
        "{printed}"
    );
    let printed = fail(with("model.preset=ViT-Ti-8-32"), 2);
    assert!(printed.contains("another architecture"), "{printed}");
    let printed = fail(with("model.weights=runs/gone"), 2);
    assert_eq!(printed.matches("error: ").count(), 1, "{printed}");

    // A resumed run needs them no more.
    fs::remove_dir_all(place.path("runs/tiny")).unwrap();
    let longer = ["--resume", "--set", "schedule.length=4 steps"];
    succeed(place.couplet(&[&["train", "next.toml"][..], &longer].concat()));
    assert_eq!(place.losses("runs/next").len(), 4);
}

#[test]
fn weights_without_an_architecture_name_the_presets_that_fit() {
    let place = place();
    let set = [
        "schedule.length=1 step",
        "schedule.warmup=0 steps",
        "eval=[]",
        "checkpoint.best=",
        "model={ preset = 'ViT-Ti-8-32' }",
    ];
    let set: Vec<&str> = set.iter().flat_map(|pair| ["--set", pair]).collect();
    succeed(place.couplet(&[&["train", "tiny.toml"][..], &set].concat()));
    fs::create_dir(place.path("bare")).unwrap();
    let latest = place.read("runs/tiny/latest");
    let checkpoint = format!("runs/tiny/checkpoints/{}", latest.trim());
    fs::copy(
        place.path(&format!("{checkpoint}/open_clip_model.safetensors")),
        place.path("bare/w.safetensors"),
    )
    .unwrap();
    let plan = [
        "plan",
        "next.toml",
        "--set",
        "model.weights=bare/w.safetensors",
    ];
    let printed = fail(place.couplet(&plan), 2);
    assert_eq!(printed.matches("error: ").count(), 1, "{printed}");
    assert!(printed.contains("add `preset` to [model]"), "{printed}");
    assert!(printed.contains("those of ViT-Ti-8-32\n"), "{printed}");
    let named = ["--set", "model.preset=ViT-Ti-8-32"];
    succeed(place.couplet(&[&plan[..], &named].concat()));
}
