//! The values of a command's flags.

use std::collections::BTreeMap;

use super::command::Command;
use super::devices::Devices;
use super::flag_table::Takes;
use super::flags::{self, Flag, complete, find};
use super::python::Literal;
use crate::nearest::nearest;

/// The flags of a command with their values, and where it runs.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    given: BTreeMap<&'static str, Vec<String>>,
    pub devices: Devices,
    pub local_devices: usize,
    pub folder: Option<String>,
    /// What is wrong with flags, one text each.
    pub problems: Vec<String>,
    /// Settings of a `params.txt` that open_clip 3.3 does not have.
    pub unknown: Vec<String>,
    /// Whether they come from a `params.txt`, which has every flag.
    pub is_complete: bool,
}

/// Keys of `params.txt` that are no flags: the program sets them.
const DERIVED: [&str; 16] = [
    "checkpoint_path",
    "distill",
    "distributed",
    "local_rank",
    "log_level",
    "log_path",
    "rank",
    "save_logs",
    "tensorboard",
    "tensorboard_path",
    "train_sz",
    "val_sz",
    "wandb",
    "world_size",
    "dist_world_size",
    "env_rank",
];

impl Arguments {
    /// Of a command line.
    pub fn of_command(command: Command) -> Self {
        let mut read = Self {
            devices: command.devices,
            local_devices: command.local_devices,
            folder: command.folder,
            ..Self::default()
        };
        let mut words = command.arguments.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                read.problems.push(format!("`{word}`: belongs to no flag"));
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (name, None),
            };
            let Some(flag) = find(name).or_else(|| complete(name)) else {
                read.problems.push(unknown_flag(name));
                // Its value, if it has one.
                words.next_if(|next| value.is_none() && !next.starts_with("--"));
                continue;
            };
            let mut values: Vec<String> = value.into_iter().collect();
            match (flag.takes, values.len()) {
                (Takes::Nothing, 1) => {
                    read.problems
                        .push(format!("--{}: takes no value", flag.name));
                }
                (Takes::One, 0) => {
                    let Some(value) = words.next_if(|next| !next.starts_with("--")) else {
                        let problem = format!("--{}: needs a value", flag.name);
                        read.problems.push(problem);
                        continue;
                    };
                    values.push(value);
                }
                (Takes::Any, 0) => {
                    while let Some(value) = words.next_if(|next| !next.starts_with("--")) {
                        values.push(value);
                    }
                }
                _ => {}
            }
            read.given.insert(flag.name, values);
        }
        read
    }

    /// Of a `params.txt`.
    pub fn of_params(text: &str) -> Self {
        let mut read = Self {
            local_devices: 1,
            is_complete: true,
            ..Self::default()
        };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if key == "world_size"
                && let Ok(world) = value.parse()
            {
                read.devices = Devices::Known(world);
                read.local_devices = world;
            }
            if DERIVED.contains(&key) {
                continue;
            }
            let Some(flag) = find(key) else {
                if !matches!(value, "" | "None" | "False" | "{}") {
                    read.unknown.push(format!("{key}: {value}"));
                }
                continue;
            };
            let values = match (flag.takes, Literal::read(value)) {
                (_, Literal::None) | (Takes::Nothing, Literal::Bool(false)) => continue,
                (Takes::Nothing, _) => Vec::new(),
                (Takes::Any, Literal::Dict(entries)) if entries.is_empty() => continue,
                _ if value.is_empty() => continue,
                _ => vec![value.to_string()],
            };
            read.given.insert(flag.name, values);
        }
        read
    }

    /// The flags that are given, in open_clip's order.
    pub fn flags(&self) -> impl Iterator<Item = (Flag, &[String])> {
        flags::flags().filter_map(|flag| {
            let values = self.given.get(flag.name)?;
            Some((flag, values.as_slice()))
        })
    }

    pub fn has(&self, name: &str) -> bool {
        debug_assert!(find(name).is_some(), "{name} is a flag");
        self.given.contains_key(name)
    }

    /// The flag's value, if it is given and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(find(name).is_some(), "{name} is a flag");
        let value = self.given.get(name)?.first()?.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// Every value of a flag that takes several, as one literal each.
    pub fn literals(&self, name: &str) -> Vec<Literal> {
        let values = self.given.get(name).into_iter().flatten();
        values.map(|value| Literal::read(value)).collect()
    }

    /// All values of a flag, as numbers.
    pub fn numbers(&mut self, name: &str) -> Option<Vec<f64>> {
        let literals = self.literals(name);
        if literals.is_empty() {
            return None;
        }
        let numbers: Option<Vec<Vec<f64>>> = literals.iter().map(Literal::numbers).collect();
        if numbers.is_none() {
            self.problems.push(format!("--{name}: expected numbers"));
        }
        numbers.map(|numbers| numbers.concat())
    }

    /// The flag's value as a number of that type.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> T {
        self.number_given(name).unwrap_or(default)
    }

    /// The same, if it is given.
    pub fn number_given<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?.to_string();
        // As Python reads numbers.
        let plain = text.replace('_', "");
        let value = plain.parse().ok();
        if value.is_none() {
            let hint = if text.contains('$') {
                "; the shell's variables are not known here: write the number"
            } else {
                ""
            };
            self.problems.push(format!(
                "--{name}: `{text}` is not the number that it takes{hint}"
            ));
        }
        value
    }

    /// The flag's value, one of `choices`; the first of them if it is not given.
    pub fn choice(&mut self, name: &str, choices: &[&'static str]) -> &'static str {
        let default = choices.first().copied().unwrap_or_default();
        let Some(text) = self.text(name).map(str::to_string) else {
            return default;
        };
        if let Some(choice) = choices.iter().find(|choice| **choice == text) {
            return choice;
        }
        let near = nearest(&text, choices.iter().copied());
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let choices = choices.join(", ");
        (self.problems).push(format!("--{name}: `{text}` is none of {choices}{near}"));
        default
    }
}

fn unknown_flag(name: &str) -> String {
    let near = nearest(
        &name.replace('_', "-"),
        flags::flags().map(|flag| flag.name),
    );
    match near {
        Some(near) => format!("--{name}: not a flag of open_clip 3.3; did you mean `--{near}`?"),
        None => format!("--{name}: not a flag of open_clip 3.3; delete it from the command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Arguments {
        Arguments::of_command(Command {
            arguments: words.iter().map(ToString::to_string).collect(),
            ..Command::default()
        })
    }

    #[test]
    fn flags_are_read_as_argparse_reads_them() {
        let mut read = read(&[
            "--lr=1e-3",
            "--image-mean",
            "0.5",
            "0.4",
            "0.3",
            "--siglip",
            "--name",
            "a=b",
            "--aug-cfg",
            "scale=(0.4, 1.0)",
            "use_timm=True",
            "--train_data",
            "x.csv",
            "--batch",
            "8",
        ]);
        assert_eq!(read.problems, [""; 0]);
        assert!((read.number("lr", 0.0_f64) - 1e-3).abs() < 1e-12);
        assert_eq!(read.numbers("image-mean"), Some(vec![0.5, 0.4, 0.3]));
        assert!(read.has("siglip") && !read.has("lock-text"));
        assert_eq!(read.text("name"), Some("a=b"));
        assert_eq!(read.text("train-data"), Some("x.csv"));
        assert_eq!(read.number("batch-size", 64), 8);
        assert_eq!(read.literals("aug-cfg").len(), 2);
    }

    #[test]
    fn wrong_flags_are_listed_together() {
        let mut read = read(&[
            "--batchsize",
            "8",
            "--lr",
            "--siglip=1",
            "--epochs",
            "$N",
            "--precision",
            "ampbf16",
            "lost",
        ]);
        read.number("epochs", 32_u64);
        read.choice("precision", &["amp", "amp_bf16", "fp32"]);
        let problems = read.problems.join("\n");
        for part in [
            "--batchsize: not a flag of open_clip 3.3; did you mean `--batch-size`?",
            "--lr: needs a value",
            "--siglip: takes no value",
            "`$N`",
            "did you mean `amp_bf16`?",
            "`lost`: belongs to no flag",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn a_params_file_has_flags_and_what_the_program_sets() {
        let mut read = Arguments::of_params(
            "accum_freq: 2\naug_cfg: {'scale': (1.0, 1.0)}\nbatch_size: 8\ndevice: cuda:0\n\
             force_image_size: None\nhorovod: False\nnew_thing: 3\npretrained: \nsiglip: True\n\
             train_data: s3://a/b.tar\nworld_size: 4\n",
        );
        assert_eq!(read.number("accum-freq", 1), 2);
        assert_eq!(read.text("train-data"), Some("s3://a/b.tar"));
        assert_eq!(read.devices, Devices::Known(4));
        assert!(read.has("siglip") && !read.has("horovod") && !read.has("force-image-size"));
        assert_eq!(read.unknown, ["new_thing: 3"]);
        assert_eq!(read.text("pretrained"), None);
    }
}
