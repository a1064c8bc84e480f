//! Errors that the binary prints: each sentence of the chain of causes once.

use std::fs;
use std::io;

use couplet_model::open_clip;

use crate::models::{couplet, scene};
use crate::training::{tiny, train};
use crate::workspace::fail;

/// What the system says of a file that is not there.
fn not_found() -> io::Error {
    io::Error::from_raw_os_error(2)
}

#[test]
fn a_missing_file_is_named_before_its_cause() {
    let workspace = scene("ViT-Ti-8-32");
    let printed = fail(couplet(&workspace, "tokenize --texts nowhere.txt"), 1);
    let cause = not_found();
    assert_eq!(
        printed,
        format!("error: nowhere.txt: cannot be read; check the path\n\nCaused by:\n  {cause}\n")
    );
}

#[test]
fn a_damaged_safetensors_file_is_named_before_its_cause() {
    let workspace = scene("ViT-Ti-8-32");
    let weights = workspace.path("model").join(open_clip::WEIGHTS_FILE);
    let header = b"{no JSON";
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&weights, [&length[..], header].concat()).unwrap();
    let printed = fail(
        couplet(
            &workspace,
            "embed --model model --texts texts.txt --out o.npy",
        ),
        1,
    );
    let file = format!("model/{}", open_clip::WEIGHTS_FILE);
    assert_eq!(
        printed,
        format!(
            "error: {file}: not a readable safetensors file\n\nCaused by:\n  \
             invalid JSON in header: key must be a string at line 1 column 2\n"
        )
    );
}

#[test]
fn an_invalid_toml_line_is_shown_once() {
    let workspace = scene("ViT-Ti-8-32");
    fs::write(workspace.path("bad.toml"), "name = \"x\"\nseed = = 1\n").unwrap();
    let printed = fail(couplet(&workspace, "train bad.toml"), 2);
    let start = "error: bad.toml: not a TOML file\n\nCaused by:\n  TOML parse error at line 2";
    assert!(printed.starts_with(start), "{printed}");
    for once in [
        "bad.toml",
        "not a TOML file",
        "TOML parse error",
        "seed = = 1",
    ] {
        assert_eq!(printed.matches(once).count(), 1, "{once}: {printed}");
    }
}

#[test]
fn a_missing_dataset_says_what_is_missing_and_where_to_get_it() {
    let workspace = scene("ViT-Ti-8-32");
    fs::write(
        workspace.path("gone.toml"),
        "name = 'gone'\nsource = 'idx'\npath = 'nowhere'\norigin = 'afar'\n",
    )
    .unwrap();
    let printed = fail(
        couplet(
            &workspace,
            "eval zero-shot --model model --dataset gone.toml",
        ),
        1,
    );
    assert_eq!(
        printed,
        "error: the test images of `gone` cannot be opened; to get it: afar\n\nCaused by:\n  path: \
         `nowhere` is not there: looked for nowhere and data/nowhere; correct the path or give \
         --data-root DIR\n"
    );
    fs::create_dir(workspace.path("nowhere")).unwrap();
    let printed = fail(
        couplet(
            &workspace,
            "eval zero-shot --model model --dataset gone.toml",
        ),
        1,
    );
    let cause = not_found();
    assert!(
        printed.ends_with(&format!(
            "  nowhere/t10k-images-idx3-ubyte: cannot be read\n  {cause}\n"
        )),
        "{printed}"
    );
}

#[test]
fn config_problems_are_printed_with_their_causes() {
    let workspace = tiny();
    let set = ["--set", "eval.0.dataset=none.toml"];
    assert_eq!(
        fail(train(&workspace, "run", &set), 2),
        "error: tiny.toml: 1 problem\n  eval[0].dataset: `none.toml`: no such dataset; `none.toml` is not \
         there: looked for none.toml and data/none.toml; correct the path or give --data-root DIR\n"
    );
    let set = ["--set", "eval.0.dataset=./tiny.toml"];
    let printed = fail(train(&workspace, "run", &set), 2);
    assert!(
        printed.contains("tiny.toml: not a valid dataset file: "),
        "{printed}"
    );
}
