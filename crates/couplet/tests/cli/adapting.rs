//! Fine-tuning by low-rank updates, from outside.

use std::fs;
use std::path::Path;

use couplet_model::weights::{self, NamedTensors};
use serde_json::{Value, json};

use crate::workspace::{Workspace, fail, succeed};

/// A model that has learnt a little, and what it is fine-tuned on.
const BASE: &str = r#"
name = "base"
device = "cpu"
[model]
embed_dim = 16
[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 16
layers = 2
heads = 2
[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 2
[data.train]
source = "shapes"
samples = 160
[batch]
global = 16
[optimizer]
kind = "adamw"
lr = 3e-3
[schedule]
kind = "constant"
length = "300 steps"
[log]
every = "50 steps"
"#;

const DATASET: &str = r#"
name = "old"
source = "shapes"
split = "test"
classes = "shapes"
samples = 60
"#;

pub const ADAPTED: &str = r#"
name = "adapted"
device = "cpu"
seed = 3
[model]
weights = "base"
[adapt]
kind = "lora"
rank = 4
alpha = 8
also_train = ["logit_scale"]
[adapt.text]
params = ["*.attn.q_proj", "*.attn.v_proj"]
rank = 2
[data.train]
source = "shapes"
samples = 16
[batch]
global = 16
[optimizer]
kind = "adamw"
lr = 1e-2
[schedule]
kind = "constant"
length = "8 steps"
[ema]
decay = 0.5
[checkpoint]
every = "4 steps"
[log]
every = "1 step"
"#;

pub fn workspace() -> Workspace {
    let workspace = Workspace::with(&[
        ("base.toml", BASE),
        ("old.toml", DATASET),
        ("adapted.toml", ADAPTED),
        ("texts.txt", "a red circle\na small blue star\n"),
    ]);
    succeed(couplet(&workspace, "train base.toml --run-dir base"));
    workspace
}

pub fn couplet(workspace: &Workspace, arguments: &str) -> std::process::Command {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    workspace.couplet(&arguments)
}

pub fn tensors(path: &Path) -> NamedTensors {
    weights::read(path).unwrap().tensors
}

fn embedded(workspace: &Workspace, model: &str) -> Vec<u8> {
    let out = format!("{}.npy", model.replace('/', "-"));
    let embed = format!("embed --model {model} --texts texts.txt --out {out}");
    succeed(couplet(workspace, &embed));
    fs::read(workspace.path(&out)).unwrap()
}

#[test]
fn updates_are_trained_resumed_and_written_beside_the_merged_model() {
    let workspace = workspace();
    let train = |run: &str, more: &str| {
        let train = format!("train adapted.toml --run-dir {run} {more}");
        succeed(couplet(&workspace, &train));
        workspace.losses(run)
    };
    let whole = train("whole", "");
    assert!(whole[7].1 < whole[0].1, "{whole:?}");
    let files = "open_clip_model.safetensors open_clip_model_ema.safetensors trainer/updates.safetensors \
                 trainer/optimizer.safetensors adapter/adapter_model.safetensors";
    let last = |run: &str, file: &str| {
        let folder = workspace.path(run).join("checkpoints/step-00000008");
        fs::read(folder.join(file)).unwrap()
    };
    // Whatever it was interrupted by, the run is the same bit for bit.
    let killed = couplet(&workspace, "train adapted.toml --run-dir killed");
    workspace.kill_after(killed, "killed", 6);
    succeed(couplet(&workspace, "train killed --resume"));
    assert_eq!(workspace.losses("killed"), whole);
    for file in files.split_whitespace() {
        assert!(last("whole", file) == last("killed", file), "{file}");
    }
    let micro = train(
        "micro",
        "--set batch.micro=4 --set batch.recompute_blocks=true",
    );
    for (a, b) in whole.iter().zip(&micro) {
        assert!((a.1 / b.1 - 1.0).abs() < 1e-4, "{whole:?} {micro:?}");
    }
    // Only what is adapted has changed.
    let folder = workspace.path("whole/checkpoints/step-00000008");
    let merged = tensors(&folder.join("open_clip_model.safetensors"));
    let base =
        tensors(&workspace.path("base/checkpoints/step-00000300/open_clip_model.safetensors"));
    assert!(merged.keys().eq(base.keys()));
    let block = "transformer.resblocks.0";
    for (name, changes) in [
        (format!("visual.{block}.attn.in_proj_weight"), true),
        (format!("visual.{block}.attn.out_proj.weight"), true),
        (format!("visual.{block}.mlp.c_proj.weight"), true),
        (format!("{block}.attn.in_proj_weight"), true),
        ("logit_scale".to_string(), true),
        (format!("{block}.attn.out_proj.weight"), false),
        (format!("{block}.mlp.c_fc.weight"), false),
        (format!("visual.{block}.attn.in_proj_bias"), false),
        ("visual.conv1.weight".to_string(), false),
        ("token_embedding.weight".to_string(), false),
    ] {
        assert_eq!(merged[&name] != base[&name], changes, "{name}");
    }
    // The text tower's keys have no update.
    let keys = |tensors: &NamedTensors| {
        let all = &tensors[&format!("{block}.attn.in_proj_weight")].values;
        all[8 * 8..2 * 8 * 8].to_vec()
    };
    assert_eq!(keys(&merged), keys(&base));
    let config = fs::read_to_string(folder.join("adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["peft_type"], &config["r"]),
        (&json!("LORA"), &json!(2))
    );
    let module = "vision_model.encoder.layers.1.mlp.fc2";
    let modules = config["target_modules"].as_array().unwrap();
    assert!(modules.contains(&json!(module)), "{config}");
    assert_eq!(
        config["rank_pattern"][&format!("^{}", module.replace('.', "\\."))],
        4
    );
    // The adapter is small, and gives the merged model again, as far as updates do.
    let small = fs::metadata(folder.join("adapter/adapter_model.safetensors"))
        .unwrap()
        .len();
    assert!(small < 40_000, "{small} bytes");
    let adapter = folder.join("adapter").display().to_string();
    let merge = format!("model merge {adapter} again --base base");
    let printed = succeed(couplet(&workspace, &merge));
    assert!(printed.contains("14 updated modules"), "{printed}");
    assert_eq!(embedded(&workspace, "again"), embedded(&workspace, "whole"));
}

#[test]
fn an_adapter_is_trained_further() {
    let workspace = workspace();
    succeed(couplet(&workspace, "train adapted.toml --run-dir first"));
    let adapter = workspace.path("first/checkpoints/step-00000008/adapter");
    fs::rename(adapter, workspace.path("adapter")).unwrap();
    let config = fs::read_to_string(workspace.path("adapted.toml")).unwrap();
    let config = config.replace("rank = 4\nalpha = 8\n", "weights = \"adapter\"\n");
    let tower = "[adapt.text]\nparams = [\"*.attn.q_proj\", \"*.attn.v_proj\"]\nrank = 2\n";
    let wrong = fail_config(&workspace, &config);
    assert!(wrong.contains("adapt.text.rank"), "{wrong}");
    let config = config.replace("also_train = [\"logit_scale\"]\n", "");
    let further = config
        .replace(tower, "")
        .replace("[ema]\ndecay = 0.5\n", "");
    fs::write(workspace.path("further.toml"), &further).unwrap();
    let train = "train further.toml --run-dir further --set schedule.length=12steps";
    let killed = couplet(&workspace, train);
    workspace.kill_after(killed, "further", 6);
    // The adapter is in the checkpoint by now.
    fs::remove_dir_all(workspace.path("adapter")).unwrap();
    succeed(couplet(&workspace, "train further --resume"));
    let losses = workspace.losses("further");
    let before = workspace.losses("first");
    assert_eq!(losses.len(), 12);
    assert!(losses[0].1 < before[0].1, "{losses:?} {before:?}");
    let last = |folder: &str| {
        let folder = workspace.path(folder);
        tensors(&folder.join("open_clip_model.safetensors"))["logit_scale"].clone()
    };
    let (first, further) = (
        "first/checkpoints/step-00000008",
        "further/checkpoints/step-00000012",
    );
    let base = last("base/checkpoints/step-00000300");
    assert_ne!(last(first), base);
    assert_eq!(last(further), base, "only updates are trained");
}

fn fail_config(workspace: &Workspace, config: &str) -> String {
    fs::write(workspace.path("wrong.toml"), config).unwrap();
    fail(couplet(workspace, "train wrong.toml --run-dir wrong"), 2)
}

#[test]
fn mistakes_in_an_adaptation_name_their_keys() {
    let workspace = workspace();
    let with = |table: &str| {
        let start = ADAPTED.find("[adapt]").unwrap();
        let end = ADAPTED.find("[data.train]").unwrap();
        let config = format!("{}{table}\n{}", &ADAPTED[..start], &ADAPTED[end..]);
        fail_config(&workspace, &config)
    };
    for (table, parts) in [
        ("[adapt]\nkind = \"dora\"", &["adapt.kind", "lora"][..]),
        (
            "[adapt]\nkind = \"lora\"\nrank = 0",
            &["adapt.rank", "at least 1"],
        ),
        (
            "[adapt]\nkind = \"lora\"\nalpha = -1",
            &["adapt.alpha", "above 0"],
        ),
        (
            "[adapt]\nkind = \"lora\"\nparams = [\"*.q_porj\"]",
            &["adapt.params[0]", "*.q_porj", "*.attn.q_proj"],
        ),
        (
            "[adapt]\nkind = \"lora\"\nalso_train = [\"visual.head\"]",
            &["adapt.also_train[0]", "visual.head"],
        ),
        (
            "[adapt]\nkind = \"lora\"\nparams = []",
            &["adapt.params", "nothing is trained"],
        ),
        (
            "[adapt]\nkind = \"lora\"\n[freeze]\nimage = \"all\"",
            &["freeze", "[adapt] freezes"],
        ),
        (
            "[adapt]\nkind = \"lora\"\nweights = \"base\"",
            &["adapt.weights", "adapter_config.json"],
        ),
    ] {
        let printed = with(table);
        for part in parts {
            assert!(printed.contains(part), "{table}: {printed}");
        }
    }
}
