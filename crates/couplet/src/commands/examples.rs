//! Examples at the end of each command's help.

use clap::Command;

use crate::terminal::{wrap, wrap_command};

/// Commands with their examples: what each does, and its command line.
type Examples = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const INDENT: &str = "  ";

const ALL: &[Examples] = &[
    (
        &["import"],
        &[
            (
                "Take over the settings of an open_clip run",
                "couplet import logs/my-run/params.txt",
            ),
            (
                "Continue it, with the optimizer's moments",
                "couplet import logs/my-run --checkpoint logs/my-run/checkpoints/epoch_5.pt",
            ),
        ],
    ),
    (
        &["init"],
        &[
            (
                "A folder of images, a .txt next to each",
                "couplet init data/photos",
            ),
            (
                "Shards, with a held-out part",
                "couplet init 'data/train-*.tar' --val 'data/val-*.tar' --name cc3m",
            ),
        ],
    ),
    (
        &["train"],
        &[
            (
                "Train a small model on drawn shapes",
                "couplet train configs/shapes.toml",
            ),
            (
                "Change keys of the config",
                "couplet train configs/shapes.toml --set optimizer.lr=5e-4 --run-dir runs/low",
            ),
            (
                "Continue a run that was interrupted",
                "couplet train runs/shapes --resume",
            ),
        ],
    ),
    (
        &["plan"],
        &[
            (
                "Print parameters, steps and memory",
                "couplet plan configs/shapes.toml",
            ),
            (
                "Measure the speed too",
                "couplet plan configs/shapes.toml --measure",
            ),
        ],
    ),
    (
        &["sweep"],
        &[(
            "Run all trials, or continue with those that are left",
            "couplet sweep sweep.toml",
        )],
    ),
    (
        &["config", "schema"],
        &[(
            "Check and complete configs in an editor",
            "couplet config schema > config.schema.json",
        )],
    ),
    (
        &["config", "reference"],
        &[("Read the reference", "couplet config reference | less")],
    ),
    (
        &["config", "keys"],
        &[("List the keys of a table", "couplet config keys data.train")],
    ),
    (
        &["eval", "zero-shot"],
        &[
            (
                "Evaluate the best checkpoint of a run",
                "couplet eval zero-shot --model runs/shapes --dataset datasets/shapes.toml",
            ),
            (
                "Write accuracies per class, and a picture of the confusions",
                "couplet eval zero-shot --model runs/shapes --dataset datasets/shapes.toml --details details",
            ),
        ],
    ),
    (
        &["eval", "classification"],
        &[(
            "Evaluate a fine-tuned model",
            "couplet eval classification --model runs/digits --dataset datasets/digits.toml",
        )],
    ),
    (
        &["eval", "retrieval"],
        &[(
            "Evaluate on captions",
            "couplet eval retrieval --model ViT-B-32/ --dataset datasets/coco-captions.toml",
        )],
    ),
    (
        &["eval", "linear-probe"],
        &[
            (
                "Search the regularization",
                "couplet eval linear-probe --model runs/digits --dataset datasets/digits.toml",
            ),
            (
                "Use scikit-learn's C",
                "couplet eval linear-probe --model runs/digits --dataset datasets/digits.toml -C 0.316",
            ),
        ],
    ),
    (
        &["eval", "knn"],
        &[(
            "Vote among 20 neighbors",
            "couplet eval knn --model runs/digits --dataset datasets/digits.toml -k 20",
        )],
    ),
    (
        &["eval", "suite"],
        &[(
            "Evaluate on several datasets and write a table",
            "couplet eval suite runs/digits digits.toml pets.toml --csv results.csv",
        )],
    ),
    (
        &["eval", "compare"],
        &[(
            "Compare two runs with the first",
            "couplet eval compare runs/a runs/b runs/c",
        )],
    ),
    (
        &["classify"],
        &[
            (
                "Choose among labels",
                "couplet classify --model runs/shapes --labels \"a red circle,a blue star\" photo.png",
            ),
            (
                "Average several prompts",
                "couplet classify --model runs/shapes --labels cat,dog --template \"a photo of a {}\" --template \"a drawing of a {}\" photos/",
            ),
        ],
    ),
    (
        &["embed"],
        &[
            (
                "Write the features of a folder's images",
                "couplet embed --model runs/shapes --images photos --out features.safetensors",
            ),
            (
                "Write those of texts for NumPy",
                "couplet embed --model runs/shapes --texts captions.txt --out texts.npy",
            ),
        ],
    ),
    (
        &["bench", "step"],
        &[(
            "Measure steps of a ViT-B-32 in micro-batches of 16",
            "couplet bench step --model ViT-B-32 --batch 64 --micro 16",
        )],
    ),
    (
        &["data", "check"],
        &[(
            "Decode every image and read every caption",
            "couplet data check configs/shapes.toml",
        )],
    ),
    (
        &["data", "stats"],
        &[(
            "Print sizes of images and lengths of captions",
            "couplet data stats configs/shapes.toml",
        )],
    ),
    (
        &["data", "bench"],
        &[(
            "Measure the speed of loading",
            "couplet data bench configs/shapes.toml",
        )],
    ),
    (
        &["data", "index"],
        &[(
            "Index shards before the first run",
            "couplet data index \"data/{0000..0127}.tar\"",
        )],
    ),
    (
        &["data", "pack"],
        &[(
            "Resize images and write them as shards",
            "couplet data pack configs/shapes.toml packed",
        )],
    ),
    (
        &["data", "shapes"],
        &[(
            "Write 100 images and their captions",
            "couplet data shapes shapes --samples 100",
        )],
    ),
    (
        &["model", "list"],
        &[("List the presets", "couplet model list")],
    ),
    (
        &["model", "describe"],
        &[
            ("Describe a preset", "couplet model describe ViT-B-32"),
            ("Describe weights", "couplet model describe ViT-B-32.pt"),
        ],
    ),
    (
        &["model", "convert"],
        &[
            (
                "Convert a run's best checkpoint for transformers",
                "couplet model convert runs/shapes shapes-hf --format hf",
            ),
            (
                "Convert OpenAI's weights for open_clip",
                "couplet model convert ViT-B-32.pt ViT-B-32 --format open_clip",
            ),
        ],
    ),
    (
        &["tokenize"],
        &[
            ("Print token ids", "couplet tokenize \"a photo of a cat\""),
            (
                "Tokenize a file",
                "couplet tokenize --texts captions.txt --context-length 32",
            ),
        ],
    ),
    (
        &["tokenizer", "train"],
        &[(
            "Train a vocabulary of 8192 tokens",
            "couplet tokenizer train --texts captions.txt --vocab-size 8192 --out tokenizer.json",
        )],
    ),
    (
        &["verify"],
        &[
            ("Check a run's files", "couplet verify runs/shapes"),
            (
                "Repeat 20 steps too",
                "couplet verify runs/shapes --replay 20",
            ),
        ],
    ),
    (
        &["completions"],
        &[
            (
                "Install completions for bash",
                "couplet completions bash > ~/.local/share/bash-completion/completions/couplet",
            ),
            (
                "For zsh, in a folder of fpath",
                "couplet completions zsh > ~/.zfunc/_couplet",
            ),
            (
                "For fish",
                "couplet completions fish > ~/.config/fish/completions/couplet.fish",
            ),
        ],
    ),
    (
        &["man"],
        &[(
            "Install pages for man",
            "couplet man --out ~/.local/share/man/man1",
        )],
    ),
    (
        &[],
        &[
            (
                "Train, then evaluate and use the model",
                "couplet train configs/shapes.toml",
            ),
            (
                "",
                "couplet eval zero-shot --model runs/shapes --dataset datasets/shapes.toml",
            ),
            (
                "",
                "couplet classify --model runs/shapes --labels \"a red circle,a blue star\" photo.png",
            ),
        ],
    ),
];

/// Adds the examples to the help of all commands, and fits that to its columns.
pub(crate) fn add_to(command: Command, columns: usize) -> Command {
    let command = ALL.iter().fold(command, |command, (path, examples)| {
        let text = section(examples, columns);
        add_at(command, path, text)
    });
    // Building passes the width on to the commands below.
    let mut command = command.term_width(columns);
    command.build();
    wrap_usage(&mut command, columns);
    command
}

/// Wraps usages, which clap does not.
fn wrap_usage(command: &mut Command, columns: usize) {
    const HEAD: &str = "Usage: ";
    for below in command.get_subcommands_mut() {
        wrap_usage(below, columns);
        let usage = below.render_usage().to_string();
        let Some(usage) = usage.strip_prefix(HEAD) else {
            continue;
        };
        if usage.lines().any(|line| HEAD.len() + line.len() > columns) {
            let usage = wrap(usage, Some(columns - HEAD.len()));
            let indent = " ".repeat(HEAD.len());
            let usage = usage.replace('\n', &format!("\n{indent}"));
            *below = below.clone().override_usage(usage);
        }
    }
}

/// Adds a text to the help of a command below another one.
fn add_at(command: Command, path: &[&'static str], text: String) -> Command {
    match path {
        [] => command.after_help(text),
        [first, rest @ ..] => command.mut_subcommand(first, |command| add_at(command, rest, text)),
    }
}

fn section(examples: &[(&str, &str)], columns: usize) -> String {
    let mut text = "Examples:".to_string();
    for (what, line) in examples {
        if !what.is_empty() {
            text.push_str(&format!("\n  # {what}"));
        }
        let line = wrap_command(line, columns - INDENT.len());
        for line in line.lines() {
            text.push_str(&format!("\n{INDENT}{line}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::Arguments;

    /// The words of a command line, as a shell has them; what follows `>` or `|` is the shell's.
    fn words(line: &str) -> Vec<String> {
        let line = line.replace("\\\n", "");
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for letter in line
            .chars()
            .take_while(|letter| !['>', '|'].contains(letter))
        {
            match letter {
                '"' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for (path, examples) in ALL {
            assert!(!examples.is_empty());
            for (_, line) in *examples {
                let words = words(line);
                assert_eq!(words[0], "couplet");
                assert_eq!(words[1..=path.len()], **path, "{line}");
                if let Err(error) = Arguments::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_help_of_every_command_with_examples_shows_them() {
        for columns in [60, 80, 100] {
            let mut command = add_to(Arguments::command(), columns);
            for (path, examples) in ALL {
                let mut own = &mut command;
                for name in *path {
                    own = own.find_subcommand_mut(name).unwrap();
                }
                let help = own.render_long_help().to_string();
                let words: Vec<&str> = help.split_whitespace().collect();
                let words = words.join(" ");
                for (_, line) in *examples {
                    let first = line.split(" --").next().unwrap();
                    assert!(words.contains(first), "{path:?}: {line}");
                }
                let is_wide = |line: &&str| line.chars().count() > columns;
                let wide: Vec<&str> = help.lines().filter(is_wide).collect();
                // A word is not broken.
                let may_be = |line: &&str| !line.trim().contains(' ') || line.contains("~/");
                assert!(wide.iter().all(may_be), "{columns}: {wide:?}");
            }
        }
        let command = add_to(Arguments::command(), 80);
        let paths: Vec<_> = ALL.iter().map(|(path, _)| path.join(" ")).collect();
        let mut lacking = Vec::new();
        leaves(&command, "", &mut lacking);
        lacking.retain(|path| !paths.contains(path));
        assert_eq!(lacking, [""; 0], "commands without examples");
    }

    /// The commands that have none below them.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let name = below.get_name();
            let path = format!("{path} {name}").trim().to_string();
            if name == "help" {
                continue;
            }
            if below.has_subcommands() {
                leaves(below, &path, found);
            } else {
                found.push(path);
            }
        }
    }
}
