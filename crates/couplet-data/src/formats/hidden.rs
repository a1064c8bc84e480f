//! Files that file managers, backups and version control put between images.

use std::ffi::OsStr;

/// Names of files and folders that are hidden though they do not begin with a dot: those of Synology's
/// thumbnails, of archives made on a Mac, of trash folders, and of Windows.
const NAMES: [&str; 6] = [
    "@eaDir",
    "__MACOSX",
    "#recycle",
    "$RECYCLE.BIN",
    "Thumbs.db",
    "desktop.ini",
];

/// Whether a file or folder of this name is left out wherever images are listed.
pub fn is_hidden(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_dots = matches!(bytes, b"." | b"..");
    let is_named = |hidden: &&str| hidden.as_bytes().eq_ignore_ascii_case(bytes);
    bytes.starts_with(b".") && !is_dots || NAMES.iter().any(is_named)
}

/// Whether a path inside an archive is hidden: a part of it is.
pub(crate) fn is_hidden_path(path: &str) -> bool {
    path.split('/').any(|part| is_hidden(OsStr::new(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_hides_it() {
        for path in [
            "._1.jpg",
            "a/.thumbs/1.jpg",
            "@eaDir/1.jpg/SYNOPHOTO_THUMB.jpg",
            "__MACOSX/a/1.jpg",
            "a/thumbs.db",
        ] {
            assert!(is_hidden_path(path), "{path}");
        }
        for path in ["./a/1.jpg", "a/../1.jpg", "a.b/1.jpg", "_1.jpg"] {
            assert!(!is_hidden_path(path), "{path}");
        }
    }
}
