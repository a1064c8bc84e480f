//! `couplet data index`.

use clap::Args;
use couplet_data::formats::Damage;
use couplet_data::source::index_shards;
use couplet_data::{printable, printable_path};

use crate::commands::bar::bar;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct IndexArguments {
    /// Tar files; {0000..0127}, {a,b}, * and ? are expanded
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<String>,
}

pub(crate) fn run(arguments: &IndexArguments) -> anyhow::Result<u8> {
    let (mut shards, mut files, mut is_damaged) = (0, 0, false);
    let bar = bar(None, "shards");
    index_shards(&arguments.shards, |path, members, damage| {
        shards += 1;
        files += members;
        is_damaged |= !damage.is_empty();
        for Damage { place, message, .. } in damage {
            let (path, place) = (printable_path(path), printable(place));
            bar.suspend(|| say!("{path}: {place}: {message}"));
        }
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    say!(
        "indexed {files} files in {shards} shards; each index is next to its shard, as .index.json"
    );
    Ok(if is_damaged {
        exit_code::FAILED
    } else {
        exit_code::DONE
    })
}
