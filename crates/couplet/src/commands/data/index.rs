//! `couplet data index`.

use couplet_data::source::index_shards;

use crate::{DataIndexArguments, EXIT_FAILED};

pub(crate) fn run(arguments: &DataIndexArguments) -> anyhow::Result<u8> {
    let (mut shards, mut files, mut is_damaged) = (0, 0, false);
    index_shards(&arguments.shards, |path, members, damage| {
        shards += 1;
        files += members;
        is_damaged |= !damage.is_empty();
        for (member, message) in damage {
            println!("{}: {member}: {message}", path.display());
        }
    })?;
    println!("{shards} shards with {files} files, an .index.json beside each");
    Ok(if is_damaged { EXIT_FAILED } else { 0 })
}
