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
    assert_eq!(
        printed,
        "error: not TOML: extra `=`, expected nothing
 --> bad.toml:2:8
  |
2 | seed = = 1
  |        ^
"
    );
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
        "error: eval[0].dataset: `none.toml`: no such dataset; `none.toml` is not there: looked for none.toml \
         and data/none.toml
 |
 | --set eval.0.dataset=none.toml
 |                      ^^^^^^^^^ help: correct the path or give --data-root DIR
"
    );
    // What is wrong in a dataset's file is shown in that file.
    fs::write(
        workspace.path("set.toml"),
        "name = 'set'\nsource = 'csv'\npth = 'a.csv'\nlabel_column = 3\n",
    )
    .unwrap();
    let in_file = "error: pth: unknown key
 --> set.toml:3:1
  |
3 | pth = 'a.csv'
  | ^^^ help: did you mean `path`?

error: label_column: expected a string, found 3
 --> set.toml:4:16
  |
4 | label_column = 3
  |                ^ help: write it in quotes: \"3\"

error: 2 mistakes in ";
    let set = ["--set", "eval.0.dataset=set.toml"];
    let printed = fail(train(&workspace, "run", &set), 2);
    assert_eq!(printed, format!("{in_file}tiny.toml\n"));
    let place = scene("ViT-Ti-8-32");
    fs::copy(workspace.path("set.toml"), place.path("set.toml")).unwrap();
    let evaluate = "eval zero-shot --model model --dataset set.toml";
    let printed = fail(couplet(&place, evaluate), 1);
    assert_eq!(printed, format!("{in_file}set.toml\n"));
}

#[test]
fn mistakes_of_a_config_are_drawn_in_the_order_of_the_file() {
    let workspace = tiny();
    let text = workspace.read("tiny.toml");
    let text = format!(
        "device = \"gpu\"\nepochs = 3\n{}",
        text.replace("device = \"flex\"\n", "")
    );
    fs::write(workspace.path("mine.toml"), text).unwrap();
    let run = [
        "train",
        "mine.toml",
        "--run-dir",
        "run",
        "--set",
        "data.threads=-1",
    ];
    let narrow = |color: &str| {
        let mut command = workspace.couplet(&run);
        command.env("COLUMNS", "50").env("CLICOLOR_FORCE", color);
        fail(command, 2)
    };
    let printed = narrow("0");
    assert!(
        printed.starts_with(
            "error: device: `gpu` is not a device
 --> mine.toml:1:10
  |
1 | device = \"gpu\"
  |          ^^^^^ help: did you mean `cuda`?

error: epochs: unknown key
 --> mine.toml:2:1
  |
2 | epochs = 3
  | ^^^^^^
  |
  = help: write `length = \"3 epochs\"` in
          [schedule]
"
        ),
        "{printed}"
    );
    assert!(
        printed.ends_with(
            "
error: data.threads: must be at least 0 and at
       most 1024, not -1
 |
 | --set data.threads=-1
 |                    ^^

error: 3 mistakes in mine.toml
"
        ),
        "{printed}"
    );
    for line in printed.lines() {
        assert!(line.chars().count() <= 50, "{line}");
    }
    assert!(!printed.contains('\u{1b}'));
    assert!(narrow("1").contains("\u{1b}["));
}
