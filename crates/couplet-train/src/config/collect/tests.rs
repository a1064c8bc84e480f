use super::*;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what serde says of them matters")]
struct Doc {
    name: String,
    #[serde(default)]
    pair: [f64; 2],
    part: Part,
    other: Other,
    #[serde(default)]
    list: Vec<Other>,
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what serde says of them matters")]
struct Group {
    names: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(dead_code, reason = "only what serde says of them matters")]
enum Part {
    Round(Round),
    Flat(Flat),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what serde says of them matters")]
struct Round {
    radius: f64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what serde says of them matters")]
struct Flat {
    width: usize,
    height: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what serde says of them matters")]
struct Other {
    width: usize,
}

fn keys(text: &str) -> Vec<String> {
    let schema = ConfigSchema::of::<Doc>();
    let mut table: Table = text.parse().unwrap();
    let respelled = set_right(&schema, &mut table, None);
    let (misspelt, renamed): (Vec<_>, Vec<_>) =
        (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
    let known = Known {
        renamed: &renamed,
        partial: None,
    };
    let collected = collect::<Doc>(table, &schema, &known);
    let issues = misspelt.into_iter().chain(collected.issues);
    let mut keys: Vec<_> = issues.map(|issue| issue.key).collect();
    keys.sort();
    keys
}

#[test]
fn a_sound_table_has_no_problems() {
    let text = "name = 'a'\npart = { kind = 'round', radius = 1 }\nother = { width = 1 }";
    assert_eq!(keys(text), [""; 0]);
}

#[test]
fn an_empty_table_lacks_what_it_must_have() {
    assert_eq!(keys(""), ["name", "other", "part"]);
}

#[test]
fn a_list_that_is_missing_in_an_entry_is_one_mistake() {
    let text = "name = 'a'\npart = { kind = 'round', radius = 1 }\nother = { width = 1 }\n\
                groups = [{ names = ['x'] }, {}]";
    assert_eq!(keys(text), ["groups[1].names"]);
}

#[test]
fn the_same_mistake_in_two_places_is_found_twice() {
    let text = "
        name = 'a'
        part = { kind = 'flat', width = 'x', height = 'x' }
        other = { width = 'x' }
    ";
    assert_eq!(keys(text), ["other.width", "part.height", "part.width"]);
}

#[test]
fn unknown_missing_and_wrong_keys_come_together() {
    let text = "
        nme = 'a'
        pair = [1.0, 'two']
        part = { kind = 'flat', width = 3, depth = 1 }
        other = { width = -4, extra = true }
        list = [{ width = 1 }, { width = 1, extra = 1 }]
    ";
    assert_eq!(
        keys(text),
        [
            "list[1].extra",
            "nme",
            "other.extra",
            "other.width",
            "pair[1]",
            "part.depth",
            "part.height"
        ]
    );
}

#[test]
fn an_unknown_variant_does_not_hide_the_rest() {
    for tag in ["kind = 'flet', ", ""] {
        let part = format!("part = {{ {tag} width = 3, height = 1 }}");
        let text = format!("name = 3\n{part}\nother = {{}}\n");
        assert_eq!(keys(&text), ["name", "other.width", "part.kind"]);
    }
}
