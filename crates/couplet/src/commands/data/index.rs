//! `couplet data index`.

use couplet_data::formats::Damage;
use couplet_data::source::index_shards;

use super::bar;
use crate::EXIT_FAILED;
use crate::data_arguments::DataIndexArguments;

pub(crate) fn run(arguments: &DataIndexArguments) -> anyhow::Result<u8> {
    let (mut shards, mut files, mut is_damaged) = (0, 0, false);
    let bar = bar(None, "shards");
    index_shards(&arguments.shards, |path, members, damage| {
        shards += 1;
        files += members;
        is_damaged |= !damage.is_empty();
        for Damage { place, message, .. } in damage {
            bar.suspend(|| println!("{}: {place}: {message}", path.display()));
        }
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    println!("{shards} shards with {files} files, an .index.json beside each");
    Ok(if is_damaged { EXIT_FAILED } else { 0 })
}
