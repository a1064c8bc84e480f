//! Where a shard is stored: on disk or in an object store.

use std::fmt;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::files::open_regular;

#[cfg(feature = "object-store")]
mod remote;

#[cfg(feature = "object-store")]
pub(crate) use remote::{Object, Stores};

/// URL schemes of object stores.
const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https"];
/// The error about URLs in a build without the feature `object-store`.
pub(crate) const NOT_BUILT: &str =
    "this binary was built without object stores; build it with `--features object-store`";
/// Bytes of a file that are read at once.
const BUFFER: usize = 1 << 20;

/// A file's path, or an object's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    /// Such as `s3://bucket/0000.tar`.
    Url(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// Whether a pattern is a URL of an object store.
pub fn is_url(pattern: &str) -> bool {
    let scheme = pattern.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| SCHEMES.contains(&scheme))
}

/// Checks a URL as far as possible without contacting the store.
pub(crate) fn check(url: &str) -> Result<(), String> {
    if cfg!(not(feature = "object-store")) {
        return Err(format!("`{url}`: {NOT_BUILT}"));
    }
    let scheme = url.split("://").next().unwrap_or_default();
    if url.contains('*') && scheme.starts_with("http") {
        return Err(format!(
            "`{url}`: a web server's files cannot be listed; write {{0000..0099}} in place of *"
        ));
    }
    Ok(())
}

/// The URLs of the objects that match a pattern with `*`, sorted by name; any other URL is returned
/// unchanged.
pub(crate) fn find(url: String) -> Result<Vec<Location>, String> {
    check(&url)?;
    // A question mark begins a URL's query.
    if !url.contains('*') {
        return Ok(vec![Location::Url(url)]);
    }
    #[cfg(feature = "object-store")]
    let found = remote::list(&url)?;
    #[cfg(not(feature = "object-store"))]
    let found: Vec<String> = Vec::new();
    if found.is_empty() {
        return Err(format!("no object matches `{url}`"));
    }
    Ok(found.into_iter().map(Location::Url).collect())
}

/// Opens a file for reading from `offset` on.
pub(crate) fn open_file(path: &Path, offset: u64) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(BUFFER, open_regular(path)?);
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_distinguished_from_paths() {
        assert!(is_url("s3://bucket/{0..3}.tar") && is_url("http://localhost/0.tar"));
        assert!(!is_url("data/0.tar") && !is_url("c://0.tar"));
    }
}
