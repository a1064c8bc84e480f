use super::*;

fn committed(file: &str) -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    std::fs::read_to_string(format!("{docs}{file}")).unwrap_or_default()
}

#[test]
fn the_schema_in_docs_is_that_of_the_code() {
    let now = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    assert!(
        now == committed("config.schema.json"),
        "docs/config.schema.json is stale: run `couplet config schema > docs/config.schema.json`"
    );
}

#[test]
fn the_schemas_of_other_files_are_those_of_the_code() {
    for (name, schema) in [
        ("dataset", dataset_json_schema()),
        ("sweep", sweep_json_schema()),
    ] {
        let now = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let file = format!("{name}.schema.json");
        assert!(
            now == committed(&file),
            "docs/{file} is stale: run `couplet config schema --{name} > docs/{file}`"
        );
    }
}

#[test]
fn the_reference_in_docs_is_that_of_the_code() {
    assert!(
        reference() == committed("config.md"),
        "docs/config.md is stale: run `couplet config reference > docs/config.md`"
    );
}

#[test]
fn every_key_says_what_it_does() {
    for key in keys() {
        assert!(key.text.ends_with('.'), "{}: {:?}", key.path, key.text);
        assert!(key.text.len() > 10, "{}: {:?}", key.path, key.text);
        for (word, text) in &key.choices {
            assert!(text.ends_with('.'), "{}: {word}: {text:?}", key.path);
        }
    }
}

#[test]
fn what_every_source_has_is_known() {
    let common = ["samples_per_epoch", "resample", "dct_scaling", "augment"];
    assert_eq!(common_train_keys(), common);
}

#[test]
fn what_a_resumed_run_may_change_is_known() {
    for key in ["device", "batch.micro", "log.every", "eval", "data.threads"] {
        assert!(may_change(key), "{key}");
    }
    for key in [
        "seed",
        "batch.global",
        "data.train.shards",
        "optimizer.lr",
        "nothing",
    ] {
        assert!(!may_change(key), "{key}");
    }
}

#[test]
fn a_pattern_takes_what_the_parser_takes() {
    let texts = [
        "1 epoch",
        "2000 steps",
        "1M samples",
        "3 %",
        "3%",
        "10 minutes",
        "1.5 epochs",
        ".5 epochs",
        "2_000 steps",
        " 1 epoch ",
        "30",
        "epochs",
        "3 weeks",
        "-1 steps",
        "1..5 steps",
        "1. epoch",
        "1kM steps",
        "",
        "_ steps",
        "auto",
        "cuda",
        "cuda:1",
        "cuda:x",
        "cuda:",
        "flex:1",
        "wgpu",
        "gpu",
        "none",
        "all",
        "all but last 2 blocks",
        "all but last 1 block",
        "all but 2",
        "all but last blocks",
    ];
    let schema = ConfigSchema::run();
    for name in ["Duration", "Device", "Freeze"] {
        let Shape::Text(text) = &schema.links[name] else {
            panic!("{name} is a text");
        };
        let pattern = fancy_regex::Regex::new(text.pattern.as_deref().unwrap()).unwrap();
        for text in texts {
            let is_parsed = super::super::collect::notation_problem(name, text).is_none();
            assert_eq!(
                pattern.is_match(text).unwrap(),
                is_parsed,
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn defaults_are_those_of_the_code() {
    let keys = keys();
    for (path, default) in [
        ("model.image.pre_norm", "true"),
        ("model.text.norm_eps", "0.00001"),
        ("loss", "{ kind = \"softmax\", label_smoothing = 0.0 }"),
        ("optimizer.betas", "[0.9, 0.98]"),
        ("optimizer.group", "[]"),
        ("schedule.warmup", "\"0 steps\""),
    ] {
        let key = keys.iter().find(|key| key.path == path).unwrap();
        assert_eq!(key.default.as_deref(), Some(default), "{path}");
    }
}
