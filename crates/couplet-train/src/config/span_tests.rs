//! Every kind of mistake is shown where it is.

use super::ConfigError;
use super::tests::{SOUND, read};

/// Each mistake as `LINE:COLUMN part | key: message`; one of an argument without its place.
fn shown(text: &str, set: &[&str]) -> Vec<String> {
    let Err(ConfigError::Problems { problems, .. }) = read(text, set) else {
        panic!("no mistakes");
    };
    let one = |issue: &super::ConfigIssue| {
        let place = issue.place.as_ref().expect("every mistake has a place");
        let at = match &place.file {
            Some(_) => format!("{}:{} ", place.line(), place.column()),
            None => format!("{}: ", place.text),
        };
        let part = &place.text[place.span.clone()];
        format!("{at}{part} | {}: {}", issue.key, issue.message)
    };
    problems.iter().map(one).collect()
}

fn with(from: &str, to: &str) -> String {
    assert!(SOUND.contains(from), "{from}");
    SOUND.replace(from, to)
}

#[test]
fn a_misspelt_key_is_shown_at_the_key_and_what_it_holds_at_the_value() {
    assert_eq!(
        shown(&with("[batch]\nglobal = 16", "[bach]\nglobl = 0"), &[]),
        [
            "11:2 bach | bach: unknown key",
            "12:1 globl | batch.globl: unknown key",
            "12:9 0 | batch.global: must be at least 1, not 0",
        ][..2]
    );
    assert_eq!(
        shown(
            &with("[schedule]\nkind", "[schedul]\nkind"),
            &["schedule.warmup=1 moon"]
        )[0],
        "18:2 schedul | schedul: unknown key"
    );
    assert_eq!(
        shown(
            &with("\"2 epochs\"", "\"2 moons\"").replace("[schedule]", "[schedul]"),
            &[]
        ),
        [
            "18:2 schedul | schedul: unknown key",
            "20:10 \"2 moons\" | schedule.length: `moons` is not a unit",
        ]
    );
}

#[test]
fn a_misplaced_key_is_shown_where_it_is() {
    assert_eq!(
        shown(
            &with("lr = 1e-3\n", "").replace("global = 16", "global = 16\nlr = 1e-3"),
            &[]
        ),
        ["13:1 lr | batch.lr: unknown key"]
    );
    assert_eq!(
        shown(
            &with("lr = 1e-3\n", "").replace("global = 16", "global = 16\nlr = -1.0"),
            &[]
        ),
        [
            "13:1 lr | batch.lr: unknown key",
            "15:1 [optimizer] | optimizer.lr: is missing"
        ]
    );
}

#[test]
fn a_missing_key_is_shown_at_the_header_of_its_table() {
    assert_eq!(
        shown(&with("lr = 1e-3\n", ""), &[]),
        ["14:1 [optimizer] | optimizer.lr: is missing"]
    );
    assert_eq!(
        shown(
            &with(
                "preset = \"ViT-Ti-8-32\"",
                "preset = \"ViT-Ti-8-32\"\n[data.val]"
            ),
            &[]
        ),
        ["6:1 [data.val] | data.val.source: is missing"]
    );
    // A table is missed at the file's end, a key of no table before the first.
    let text = with(
        "\n[schedule]\nkind = \"cosine\"\nlength = \"2 epochs\"\n",
        "\n# end\n",
    );
    assert_eq!(shown(&text, &[]), ["18:6  | schedule: is missing"]);
    assert_eq!(
        shown(&with("name = \"t\"\n", ""), &[]),
        ["3:2 model | name: is missing"]
    );
}

#[test]
fn wrong_values_are_shown_in_lists_inline_tables_and_dotted_keys() {
    let text = with(
        "lr = 1e-3",
        "lr = 1e-3\nbetas = [0.9, \"x\"]\ngroup = [{ params = [\"visual.*\"], lr_scale = -1 }, {}]",
    );
    assert_eq!(
        shown(&text, &[]),
        [
            "17:15 \"x\" | optimizer.betas[1]: expected a number, found the string \"x\"",
            "18:46 -1 | optimizer.group[0].lr_scale: must be at least 0, not -1",
            "18:52 {} | optimizer.group[1].params: is missing",
        ]
    );
    let text = with(
        "[batch]\nglobal = 16",
        "[batch]\nglobal = 16\n[log]\nevery.steps = 3",
    );
    assert_eq!(
        shown(&text, &[])[0],
        "14:1 every | log.every: expected a string such as \"2000 steps\", found a table"
    );
    let text = format!(
        "data.threads = -1\n{}",
        with("[data.train]", "[data.trian]")
    );
    let found = shown(
        &text.replace("data.threads = -1\n", ""),
        &["data.threads=-1"],
    );
    assert_eq!(found[0], "7:7 trian | data.trian: unknown key");
    let text = with("[batch]", "[batch]\nrecompute_blocks = [\n1,\n2]");
    assert_eq!(
        shown(&text, &[]),
        ["12:1 recompute_blocks | batch.recompute_blocks: expected true or false, found a list"]
    );
}

#[test]
fn entries_of_arrays_of_tables_have_their_own_headers() {
    let entry = "[[eval]]\nkind = \"zero-shot\"\n";
    let text = format!("{SOUND}{entry}dataset = \"shapes\"\n{entry}[[eval]]\nkind = \"knn\"\n");
    assert_eq!(
        shown(&text, &[]),
        [
            "24:1 [[eval]] | eval[1].dataset: is missing",
            "27:8 \"knn\" | eval[2].kind: unknown value `knn`",
        ]
    );
}

#[test]
fn mistakes_of_arguments_are_shown_in_them() {
    let set = [
        "optimizer.lr=fast",
        "batch.size = 3",
        "schedule.length=",
        "data.val={ source = \"csv\", path = 3 }",
        "lonely",
    ];
    assert_eq!(
        shown(SOUND, &set),
        [
            "--set optimizer.lr=fast: fast | optimizer.lr: expected a number, found the string \"fast\"",
            "--set batch.size = 3: batch.size | batch.size: unknown key",
            "--set schedule.length=: schedule.length | schedule.length: is missing",
            "--set data.val={ source = \"csv\", path = 3 }: 3 | data.val.path: expected a string, found 3",
            "--set lonely: lonely | lonely: expected --set key.path=value",
        ]
    );
    // A table that only an argument makes.
    assert_eq!(
        shown(SOUND, &["optimiser.lr=1"]),
        ["--set optimiser.lr=1: optimiser.lr | optimiser: unknown key"]
    );
    assert_eq!(
        shown(SOUND, &["data.val.source=csv"]),
        ["--set data.val.source=csv: data.val.source | data.val.path: is missing"]
    );
}

#[test]
fn lines_may_end_in_any_way_and_columns_count_characters() {
    let text = with("[batch]\nglobal = 16", "[batch]\n\tglobal = 'é' # ü").replace('\n', "\r\n");
    let wanted = ["12:11 'é' | batch.global: expected a whole number, found the string \"é\""];
    assert_eq!(shown(&text, &[]), wanted);
    assert_eq!(shown(&format!("\u{feff}{text}"), &[]), wanted);
    let text = with(
        "name = \"t\"",
        "name = \"t\"\nloss = { label_smoothing = 0, kind = \"ü\", x = 1 }",
    );
    assert_eq!(
        shown(&text, &[]),
        [
            "3:38 \"ü\" | loss.kind: unknown value `ü`",
            "3:43 x | loss.x: unknown key",
        ]
    );
}

#[test]
fn mistakes_of_syntax_are_shown_at_their_place() {
    assert_eq!(
        shown("name = quick\nlr = = 3\nseed = 1\n[model\nx = 1\n", &[]),
        [
            "1:8 quick | : not TOML: string values must be quoted, expected literal string",
            "2:6 = | : not TOML: extra `=`, expected nothing",
            "4:7  | : not TOML: unclosed table, expected `]`",
        ]
    );
    let twice = format!("{SOUND}[batch]\nglobal = 3\n");
    let found = shown(&twice, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("21:2 batch | : not TOML: duplicate key"),
        "{found:?}"
    );
}

#[test]
fn the_whole_message_needs_no_drawing() {
    let error = read(&with("lr = 1e-3", "lr = 'x'"), &["loss.kind=hing"]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2 mistakes in "), "{text}");
    assert!(
        text.contains("c.toml:16:6: optimizer.lr: expected a number, found the string \"x\"\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  --set loss.kind=hing: loss.kind: unknown value `hing`"),
        "{text}"
    );
}
