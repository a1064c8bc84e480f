//! `couplet data index`.

use couplet_data::source::index_shards;

use crate::DataIndexArguments;

pub(crate) fn run(arguments: &DataIndexArguments) -> anyhow::Result<u8> {
    let (mut shards, mut files) = (0, 0);
    index_shards(&arguments.shards, |path, members, damage| {
        shards += 1;
        files += members;
        for (member, message) in damage {
            println!("{}: {member}: {message}", path.display());
        }
    })?;
    println!("{shards} shards with {files} files, an .index.json beside each");
    Ok(0)
}
