//! Every flag of open_clip's training command, and what becomes of it here.
//! Source: open_clip_train 3.3.0 `params.py`.

use Fate::{Keys, Missing, Needless};

use super::flag_table::{MISSING, NEEDLESS, TRANSLATED, Takes};

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The config keys or options that it is translated to, and what a reader should know of it.
    Keys(&'static str, &'static str),
    /// Nothing is lost without it; the reason.
    Needless(&'static str),
    /// There is no counterpart; what happens instead.
    Missing(&'static str),
}

/// A flag of the command, without its `--`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub name: &'static str,
    pub takes: Takes,
    pub fate: Fate,
}

/// All flags: first those that are translated.
pub(super) fn flags() -> impl Iterator<Item = Flag> {
    let flag = |name, takes, fate| Flag { name, takes, fate };
    let translated = TRANSLATED.iter();
    let translated =
        translated.map(move |(name, takes, keys, remark)| flag(*name, *takes, Keys(keys, remark)));
    let needless = NEEDLESS
        .iter()
        .map(move |(name, takes, why)| flag(*name, *takes, Needless(why)));
    let missing = MISSING
        .iter()
        .map(move |(name, takes, instead)| flag(*name, *takes, Missing(instead)));
    translated.chain(needless).chain(missing)
}

/// The flag of that name; underscores count as hyphens.
pub(super) fn find(name: &str) -> Option<Flag> {
    let name = name.replace('_', "-");
    flags().find(|flag| flag.name == name)
}

/// The only flag that begins so, as argparse completes them.
pub(super) fn complete(start: &str) -> Option<Flag> {
    let start = start.replace('_', "-");
    let mut found = flags().filter(|flag| flag.name.starts_with(&start));
    found.next().filter(|_| found.next().is_none())
}

/// All flags and what becomes of them, as a Markdown page.
pub fn flags_page() -> String {
    let mut page = String::from(
        "# From open_clip's flags to a config\n\n\
         What `couplet import` makes of each flag of `python -m open_clip_train.main` (open_clip_torch 3.3.0).\n\
         Generated from the code by `couplet import --flags > docs/open-clip-flags.md`; do not edit.\n\n\
         A flag that is not given has open_clip's default in the config that is written, not Couplet's: learning\n\
         rate, betas and epsilon depend on the model's name, the warmup has 10000 steps.\n",
    );
    page.push_str("\n## Translated\n\n| flag | config | remark |\n|---|---|---|\n");
    for (name, _, keys, remark) in TRANSLATED {
        page.push_str(&format!("| `--{name}` | `{keys}` | {remark} |\n"));
    }
    page.push_str("\n## Not needed\n\n| flag | why |\n|---|---|\n");
    for (name, _, why) in NEEDLESS {
        page.push_str(&format!("| `--{name}` | {why} |\n"));
    }
    page.push_str("\n## Without counterpart\n\n| flag | instead |\n|---|---|\n");
    for (name, _, instead) in MISSING {
        page.push_str(&format!("| `--{name}` | {instead} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_open_clip_is_in_the_table_once() {
        // `experiments/import/flags.py` prints them from open_clip's own parser.
        let theirs = include_str!("../../../../experiments/import/flags.txt");
        let takes = |takes| match takes {
            Takes::Nothing => "nothing",
            Takes::One => "one",
            Takes::Any => "any",
        };
        let mut own: Vec<String> = flags()
            .map(|flag| format!("{} {}", flag.name, takes(flag.takes)))
            .collect();
        own.sort();
        assert_eq!(own, theirs.lines().collect::<Vec<_>>());
    }

    #[test]
    fn the_start_of_one_flag_is_that_flag() {
        assert_eq!(complete("batch").map(|flag| flag.name), Some("batch-size"));
        assert!(complete("lock").is_none() && complete("x").is_none());
    }
}
