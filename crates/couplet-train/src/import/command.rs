//! Finds open_clip's training command in what a shell would run.

use super::datacomp::{expand, is_datacomp};
use super::devices::Devices;
use super::error::ImportError;

/// The command's arguments, and what is around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub arguments: Vec<String>,
    /// Number of devices that the launcher starts a process on.
    pub devices: Devices,
    /// Devices of one machine.
    pub local_devices: usize,
    /// The folder that relative paths start from, if the text changes to one.
    pub folder: Option<String>,
}

/// Names of open_clip's training program, of all versions.
const MODULES: [&str; 2] = ["open_clip_train.main", "training.main"];
/// The last is DataComp's.
const SCRIPTS: [&str; 4] = [
    "open_clip_train/main.py",
    "training/main.py",
    "main.py",
    "train.py",
];
/// Stands for what ends a command, among its words: no shell passes it on.
const END: &str = "\u{1}";
/// Options of launchers that count processes of one node, and nodes.
const PER_NODE: [&str; 4] = [
    "--nproc_per_node",
    "--nproc-per-node",
    "--ntasks-per-node",
    "--num_processes",
];
const NODES: [&str; 4] = ["--nnodes", "--nodes", "-N", "--num_nodes"];
const TASKS: [&str; 3] = ["--ntasks", "-n", "-np"];

/// # Errors
/// If there is no such command, or a quote is not closed.
pub(super) fn find(text: &str) -> Result<Command, ImportError> {
    let mut launch = Launch::default();
    let mut folder = None;
    for line in lines(text) {
        if let Some(options) = line.trim_start().strip_prefix("#SBATCH") {
            launch.read(&shlex::split(options).unwrap_or_default());
            continue;
        }
        let Some(words) = shlex::split(&with_ends(&line)) else {
            if names_program(&line) {
                return Err(ImportError::Quote);
            }
            continue;
        };
        for words in words.split(|word| word == END) {
            if let Some(at) = words.iter().position(|word| is_program(word)) {
                let before: Vec<String> = words.get(..at).unwrap_or_default().to_vec();
                launch.read(&before);
                let mut devices = launch.devices();
                let mut arguments = arguments(words.get(at + 1..).unwrap_or_default());
                if is_datacomp(&arguments) {
                    arguments = expand(&arguments, &mut devices);
                }
                return Ok(Command {
                    arguments,
                    devices,
                    local_devices: launch.local(),
                    folder,
                });
            }
            if let [first, path] = words
                && first == "cd"
            {
                let from = folder.take().filter(|_| !path.starts_with(['/', '~', '$']));
                folder = Some(from.map_or(path.clone(), |from: String| format!("{from}/{path}")));
            }
            // Flags alone are a command without its first words.
            if words.first().is_some_and(|word| word.starts_with("--")) {
                return Ok(Command {
                    arguments: arguments(words),
                    devices: launch.devices(),
                    local_devices: launch.local(),
                    folder,
                });
            }
        }
    }
    Err(ImportError::NoCommand)
}

/// A line with [`END`] in place of each `;`, `|`, `&`, `||` and `&&` that is in no quotes and no redirection.
fn with_ends(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let (mut quote, mut is_escaped, mut before) = (None, false, ' ');
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_plain = quote.is_none() && !is_escaped;
        let is_redirection = letter == '&' && (before == '>' || letters.peek() == Some(&'>'));
        if is_plain && matches!(letter, ';' | '|' | '&') && !is_redirection {
            text.push_str(&format!(" {END} "));
        } else {
            text.push(letter);
        }
        match (letter, quote) {
            _ if is_escaped => {}
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
        is_escaped = !is_escaped && letter == '\\' && quote != Some('\'');
        before = letter;
    }
    text
}

fn names_program(line: &str) -> bool {
    MODULES
        .iter()
        .chain(&SCRIPTS)
        .any(|name| line.contains(name))
}

fn is_program(word: &str) -> bool {
    let is_script = |name: &&str| {
        let rest = word.strip_suffix(*name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    MODULES.contains(&word) || SCRIPTS.iter().any(is_script)
}

/// The arguments up to a redirection.
fn arguments(words: &[String]) -> Vec<String> {
    let is_redirection = |word: &str| {
        let word = word.trim_start_matches(['1', '2', '&']);
        word.starts_with('>') || word.starts_with('<')
    };
    let mut taken: Vec<String> = (words.iter())
        .take_while(|word| !is_redirection(word))
        .cloned()
        .collect();
    taken.retain(|word| word != "--");
    taken
}

/// The lines of a shell's text: those that a backslash, an open quote or a next line of flags
/// continue are one.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_flag = line.trim_start().starts_with("--");
        let continues = is_open || (is_flag && !lines.is_empty());
        let bare = line.trim_end().strip_suffix('\\');
        match lines.last_mut() {
            Some(last) if continues => {
                last.push(' ');
                last.push_str(bare.unwrap_or(line));
            }
            _ => lines.push(bare.unwrap_or(line).to_string()),
        }
        let whole = lines
            .last()
            .is_none_or(|line| line.trim_start().starts_with('#') || shlex::split(line).is_some());
        is_open = bare.is_some() || !whole;
    }
    lines
}

/// What a launcher's options say of the number of processes.
#[derive(Debug, Default)]
struct Launch {
    per_node: Option<String>,
    nodes: Option<String>,
    tasks: Option<String>,
}

impl Launch {
    fn read(&mut self, words: &[String]) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let place = if PER_NODE.contains(&name) {
                &mut self.per_node
            } else if NODES.contains(&name) {
                &mut self.nodes
            } else if TASKS.contains(&name) {
                &mut self.tasks
            } else {
                continue;
            };
            *place = value
                .or_else(|| words.next().map(String::as_str))
                .map(str::to_string);
        }
    }

    fn devices(&self) -> Devices {
        let count = |text: &Option<String>| match text {
            Some(text) => text.parse::<usize>().map_err(|_| text.clone()),
            None => Ok(1),
        };
        let product = match &self.tasks {
            Some(_) => count(&self.tasks),
            None => count(&self.per_node)
                .and_then(|devices| count(&self.nodes).map(|nodes| devices * nodes)),
        };
        match product {
            Ok(devices) => Devices::Known(devices.max(1)),
            Err(word) => Devices::Unknown(word),
        }
    }

    fn local(&self) -> usize {
        let number = |text: &Option<String>| text.as_ref()?.parse().ok();
        let tasks: Option<usize> = number(&self.tasks);
        let nodes = number(&self.nodes).unwrap_or(1).max(1);
        number(&self.per_node)
            .or(tasks.map(|tasks| tasks / nodes))
            .unwrap_or(1)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Command {
        find(text).unwrap()
    }

    #[test]
    fn a_command_is_found_behind_its_launcher() {
        let command = found(
            "cd open_clip/src\ntorchrun --nproc_per_node=4 \\\n  --nnodes 2 -m open_clip_train.main -- \\\n  \
             --train-data '/data/{0000..2175}.tar' --lr=1e-3 > log.txt 2>&1\n",
        );
        assert_eq!(
            command.arguments,
            ["--train-data", "/data/{0000..2175}.tar", "--lr=1e-3"]
        );
        assert_eq!(command.devices, Devices::Known(8));
        assert_eq!(command.local_devices, 4);
        assert_eq!(command.folder.as_deref(), Some("open_clip/src"));
    }

    #[test]
    fn a_batch_script_counts_nodes_and_tasks() {
        let command = found(
            "#!/bin/bash\n#SBATCH --nodes=32\n#SBATCH --ntasks-per-node=4\n# it's a comment\n\
             export A=\"$B\"\ncd /shared && srun --cpu_bind=v python -u src/training/main.py \\\n    \
             --name \"a b\" \\\n    --train-data $DATA/x.csv\n",
        );
        assert_eq!(command.devices, Devices::Known(128));
        assert_eq!(
            command.arguments,
            ["--name", "a b", "--train-data", "$DATA/x.csv"]
        );
        assert_eq!(command.folder.as_deref(), Some("/shared"));
    }

    #[test]
    fn an_unknown_number_of_devices_is_not_one() {
        let command = found("torchrun --nproc_per_node $GPUS -m training.main --lr 1");
        assert_eq!(command.devices, Devices::Unknown("$GPUS".into()));
        let plain = found("python -m open_clip_train.main\n  --lr 1\n  --wd 2");
        assert_eq!(plain.arguments, ["--lr", "1", "--wd", "2"]);
        assert_eq!(plain.devices, Devices::Known(1));
    }

    #[test]
    fn what_is_no_command_is_an_error() {
        assert!(matches!(find("ls -l"), Err(ImportError::NoCommand)));
        assert!(matches!(
            find("python -m open_clip_train.main --name 'a"),
            Err(ImportError::Quote)
        ));
        assert_eq!(found("--model RN50").arguments, ["--model", "RN50"]);
    }

    #[test]
    fn operators_in_quotes_are_words() {
        let of = |text: &str| find(text).unwrap().arguments;
        for quoted in ["';'", "\";\"", "'|'", "'&'", "\\;", "'&&'"] {
            let word = quoted.trim_matches(['\'', '"', '\\']);
            let command = format!(
                "cd a; python main.py --csv-separator {quoted} --lr 1 2>&1 | tee log; echo --wd 2"
            );
            assert_eq!(
                of(&command),
                ["--csv-separator", word, "--lr", "1"],
                "{command}"
            );
            let command = format!("x && main.py --csv-separator={quoted};");
            assert_eq!(
                of(&command),
                [format!("--csv-separator={word}")],
                "{command}"
            );
        }
    }
}
