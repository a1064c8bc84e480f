//! Towers of timm's and transformers' models: read, joined, trained and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use couplet_model::weights::{self, HostTensor, NamedTensors};
use serde_json::{Value, json};

use crate::workspace::{Workspace, fail, succeed};

/// The models that `couplet-train/tests/fixtures/make_tower_parity.py` made.
fn fixture() -> (Value, NamedTensors) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../couplet-train/tests/fixtures");
    let configs = fs::read_to_string(folder.join("tower_parity.json")).unwrap();
    let tensors = weights::read(&folder.join("tower_parity.safetensors")).unwrap();
    (serde_json::from_str(&configs).unwrap(), tensors.tensors)
}

fn part(tensors: &NamedTensors, prefix: &str) -> NamedTensors {
    let named = tensors.iter().filter_map(|(name, tensor)| {
        Some((name.strip_prefix(prefix)?.to_string(), tensor.clone()))
    });
    named.collect::<BTreeMap<String, HostTensor>>()
}

/// One id for each of some words, below the fixture's 60.
fn tokenizer() -> String {
    let words =
        "<s> <pad> </s> <unk> a red green blue small large circle square triangle star on photo of";
    let vocab: BTreeMap<&str, usize> = words.split(' ').zip(0..).collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let token = |id: &str| json!({"id": id, "ids": [vocab[id]], "tokens": [id]});
    let added = ["<s>", "<pad>", "</s>", "<unk>"].map(|content| {
        json!({"id": vocab[content], "content": content, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    });
    let file = json!({
        "version": "1.0", "truncation": null, "decoder": null, "added_tokens": added,
        "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 1,
            "pad_type_id": 0, "pad_token": "<pad>"},
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, special("</s>")],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": token("<s>"), "</s>": token("</s>")}},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    file.to_string()
}

/// A model of the fixture as a folder.
pub fn place(workspace: &Workspace, name: &str) {
    let (configs, tensors) = fixture();
    let folder = workspace.path(name);
    fs::create_dir(&folder).unwrap();
    let (config, file) = if configs[name].get("model_type").is_some() {
        ("config.json", "model.safetensors")
    } else {
        ("open_clip_config.json", "open_clip_model.safetensors")
    };
    let mut described = configs[name].clone();
    if config == "open_clip_config.json" {
        described["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "own".into();
    }
    fs::write(folder.join(config), described.to_string()).unwrap();
    weights::save(
        &folder.join(file),
        &part(&tensors, &format!("{name}/weights/")),
    )
    .unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer()).unwrap();
}

/// The text encoder of the fixture's model as transformers saves it.
fn place_encoder(workspace: &Workspace, name: &str) {
    let (configs, tensors) = fixture();
    let folder = workspace.path("encoder");
    fs::create_dir(&folder).unwrap();
    let config = configs[name]["hf_text_config"].to_string();
    fs::write(folder.join("config.json"), config).unwrap();
    let prefix = format!("{name}/weights/text.transformer.");
    let encoder = part(&tensors, &prefix).into_iter();
    // As a model with a head of its own has them.
    let encoder = encoder.map(|(key, tensor)| (format!("roberta.{key}"), tensor));
    weights::save(&folder.join("model.safetensors"), &encoder.collect()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer()).unwrap();
}

fn couplet(workspace: &Workspace, arguments: &str) -> std::process::Command {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    workspace.couplet(&arguments)
}

#[test]
fn every_tower_survives_the_way_to_hugging_face_and_back() {
    let workspace = Workspace::with(&[("texts.txt", "a red circle\nsmall blue star on green\n")]);
    for name in ["hugging-face-siglip", "dual-encoder", "dual-encoder-vit"] {
        place(&workspace, name);
        let embed = |model: &str| {
            let out = format!("{model}.npy");
            let embed = format!("embed --model {model} --texts texts.txt --out {out}");
            succeed(couplet(&workspace, &embed));
            fs::read(workspace.path(&out)).unwrap()
        };
        let again = format!("{name}-again");
        let convert = format!("model convert {name} {again} --format hf");
        let printed = succeed(couplet(&workspace, &convert));
        let class = if name.starts_with("dual-encoder") {
            "VisionTextDualEncoderModel"
        } else {
            "SiglipModel"
        };
        assert!(printed.contains(class), "{printed}");
        assert_eq!(embed(name), embed(&again));
        // open_clip has no tower of these sizes.
        let convert = format!("model convert {name} {name}-oc --format open_clip");
        let printed = fail(couplet(&workspace, &convert), 1);
        assert!(printed.contains("open_clip"), "{printed}");
    }
}

#[test]
fn a_joined_model_trains_its_text_tower_and_goes_on_after_a_stop() {
    let workspace = Workspace::with(&[]);
    place(&workspace, "roberta");
    place_encoder(&workspace, "roberta");
    let join = "model join roberta encoder joined --context-length 10";
    let printed = succeed(couplet(&workspace, join));
    assert!(
        printed.contains("drawn at random: text_projection;"),
        "{printed}"
    );
    let describe = succeed(couplet(&workspace, "model describe joined"));
    assert!(describe.contains("RoBERTa of 10 tokens"), "{describe}");
    let joined = weights::read(&workspace.path("joined/open_clip_model.safetensors")).unwrap();
    let (_, tensors) = fixture();
    let query = "text.transformer.encoder.layer.1.attention.self.query.weight";
    let theirs = &tensors[&format!("roberta/weights/{query}")];
    assert_eq!(&joined.tensors[query], theirs);

    let config = r#"
        name = "lit"
        seed = 1
        [model]
        weights = "joined"
        [model.image]
        image_size = 16
        [data.train]
        source = "shapes"
        samples = 64
        [batch]
        global = 8
        [loss]
        kind = "softmax"
        [optimizer]
        kind = "adamw"
        lr = 1e-3
        [schedule]
        kind = "constant"
        length = "6 steps"
        [freeze]
        image = "all"
        [checkpoint]
        every = "3 steps"
        [log]
        every = "1 step"
    "#;
    fs::write(workspace.path("lit.toml"), config).unwrap();
    let train = |run: &str, more: &str| {
        succeed(couplet(
            &workspace,
            &format!("train lit.toml --run-dir {run} {more}"),
        ));
        workspace.losses(run)
    };
    let whole = train("whole", "");
    assert_eq!(whole.len(), 6);
    assert!(whole[5].1 < whole[0].1, "{whole:?}");
    // Neither micro-batches nor computing blocks again change the loss.
    let micro = train(
        "micro",
        "--set batch.micro=4 --set batch.recompute_blocks=true",
    );
    for (a, b) in whole.iter().zip(&micro) {
        assert!((a.1 / b.1 - 1.0).abs() < 1e-4, "{whole:?} {micro:?}");
    }
    // Resuming repeats what was lost bit for bit.
    let killed = couplet(&workspace, "train lit.toml --run-dir killed");
    workspace.kill_after(killed, "killed", 5);
    succeed(couplet(&workspace, "train killed --resume"));
    assert_eq!(workspace.losses("killed"), whole);
    // The image tower is as it was, and the text tower is not.
    let trained = workspace.path("whole/checkpoints/step-00000006/open_clip_model.safetensors");
    let trained = weights::read(&trained).unwrap().tensors;
    assert_eq!(trained["visual.proj"], joined.tensors["visual.proj"]);
    assert_ne!(trained[query], joined.tensors[query]);
}

/// timm's and transformers' position embeddings have an axis before ours.
#[test]
fn towers_of_every_layout_train_at_another_image_size() {
    let workspace = Workspace::with(&[]);
    for name in ["timm-siglip", "hugging-face-siglip", "dual-encoder-vit"] {
        place(&workspace, name);
        let loss = if name == "dual-encoder-vit" {
            "softmax"
        } else {
            "sigmoid"
        };
        let config = format!(
            "name = \"larger\"\n[model]\nweights = \"{name}\"\n[model.image]\nimage_size = 20\n\
             [data.train]\nsource = \"shapes\"\nsamples = 16\n[batch]\nglobal = 8\n[loss]\nkind = \"{loss}\"\n\
             [optimizer]\nkind = \"adamw\"\nlr = 1e-3\n[schedule]\nkind = \"constant\"\nlength = \"1 step\"\n"
        );
        fs::write(workspace.path("larger.toml"), config).unwrap();
        let train = format!("train larger.toml --run-dir {name}-larger");
        let printed = succeed(couplet(&workspace, &train));
        assert!(
            printed.contains("visual.positional_embedding from ["),
            "{printed}"
        );
        let describe = succeed(couplet(
            &workspace,
            &format!("model describe {name}-larger"),
        ));
        assert!(describe.contains("ViT at 20 px"), "{describe}");
    }
}

#[test]
fn foreign_towers_are_refused_by_name() {
    let workspace = Workspace::with(&[]);
    place(&workspace, "hugging-face-siglip");
    let path = workspace.path("hugging-face-siglip/config.json");
    let config = fs::read_to_string(&path).unwrap();
    for (from, to, part) in [
        ("\"siglip\"", "\"siglip2\"", "NaFlex"),
        ("\"siglip\"", "\"blip\"", "model_type = \"blip\""),
        (
            "\"vision_use_head\":true",
            "\"vision_use_head\":false",
            "MAP head",
        ),
    ] {
        assert!(config.contains(from), "{config}");
        fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let printed = fail(couplet(&workspace, "model describe hugging-face-siglip"), 1);
        assert!(printed.contains(part), "{printed}");
    }
    let cfg = |vision: &str, text: &str| {
        let config = format!(
            r#"{{"model_cfg": {{"embed_dim": 8, "vision_cfg": {vision}, "text_cfg": {text}}}}}"#
        );
        fs::create_dir_all(workspace.path("m")).unwrap();
        fs::write(workspace.path("m/open_clip_config.json"), config).unwrap();
        fail(couplet(&workspace, "model describe m"), 1)
    };
    let naflex = cfg(
        r#"{"timm_model_name": "naflexvit_base_patch16_siglip", "timm_pool": "map"}"#,
        "{}",
    );
    assert!(naflex.contains("naflexvit_base_patch16_siglip"), "{naflex}");
    let mt5 = cfg("{}", r#"{"hf_model_name": "google/mt5-base"}"#);
    for part in ["google/mt5-base", "FacebookAI/xlm-roberta-base"] {
        assert!(mt5.contains(part), "{mt5}");
    }
}
