//! `couplet config`.

use crate::workspace::{Workspace, fail, succeed};

#[test]
fn keys_are_listed_by_their_table() {
    let place = Workspace::with(&[]);
    let listed = succeed(place.couplet(&["config", "keys", "optimizer"]));
    for line in [
        "optimizer.weight_decay  number, at least 0 = 0.2",
        "optimizer.lr  number, above 0  (required)",
        "    Peak learning rate.",
        "optimizer.group[].lr_scale  number, at least 0",
    ] {
        assert!(listed.lines().any(|own| own == line), "{line}: {listed}");
    }
    assert!(!listed.contains("schedule"), "{listed}");
    let one = succeed(place.couplet(&["config", "keys", "eval[1].every"]));
    assert!(
        one.starts_with("eval[].every  length = \"1 epoch\""),
        "{one}"
    );
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let place = Workspace::with(&[]);
    let printed = fail(place.couplet(&["config", "keys", "optimiser.lr"]), 2);
    assert!(printed.contains("`optimizer.lr`"), "{printed}");
}

#[test]
fn the_schema_is_json_and_the_reference_names_every_table() {
    let place = Workspace::with(&[]);
    let schema = succeed(place.couplet(&["config", "schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let reference = succeed(place.couplet(&["config", "reference"]));
    for title in [
        "## `[model.image]`",
        "## `[[eval]]`",
        "### `source = \"csv\"`",
    ] {
        assert!(reference.contains(title), "{title}");
    }
}
