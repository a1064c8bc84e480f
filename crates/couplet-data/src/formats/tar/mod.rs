//! Tar shards, as webdataset and CLIP_benchmark write them: the members of a record share a key.

pub(crate) mod group;
mod headers;
pub(crate) mod index;
mod links;
pub(crate) mod reader;
pub(crate) mod records;
mod saved;
pub(crate) mod shard;
mod sparse;

/// A member's key and extension: the path up to the first dot of its file name, and what follows
/// the dot. Source: webdataset's `base_plus_ext`.
fn split_member(path: &str) -> Option<(&str, &str)> {
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = &path[name_at..];
    let dot = name.find('.').filter(|dot| *dot > 0)?;
    Some((&path[..name_at + dot], &name[dot + 1..]))
}
