//! Opens files that data names. Anything may be behind such a name: a pipe would wait for its writer
//! for ever, and a device may have no end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The largest image file, tar member or cell of images: as many bytes as an uncompressed image of
/// [`crate::DEFAULT_MAX_IMAGE_PIXELS`] has.
pub(crate) const MAX_IMAGE_BYTES: u64 = 512 << 20;
/// The largest file of captions or names.
pub(crate) const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The largest file with the captions of a whole dataset.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 4 << 30;

/// Opens a regular file; symbolic links are followed.
///
/// # Errors
/// If it cannot be opened, or is a folder, a pipe, a socket or a device.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // Before it is opened: opening a pipe waits for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    File::open(path)
}

/// Reads a regular file.
/// - most: the largest number of bytes it may have.
///
/// # Errors
/// If the path leads to something else (through symbolic links too), or the file cannot be read or is
/// larger.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_large = |len: u64| {
        let message = format!("{len} bytes, more than the limit of {most}");
        io::Error::new(io::ErrorKind::FileTooLarge, message)
    };
    let len = file.metadata()?.len();
    if len > most {
        return Err(too_large(len));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    // Files of /proc have no length, and a file may grow.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_up_to_the_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err().to_string();
        assert_eq!(error, "5 bytes, more than the limit of 4");
        assert!(read_regular(folder.path(), 4).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_not_read_but_links_are() {
        let folder = tempfile::tempdir().unwrap();
        let (link, pipe) = (folder.path().join("link"), folder.path().join("pipe"));
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [Path::new("/dev/zero"), &link, &pipe] {
            let error = read_regular(path, 100).unwrap_err().to_string();
            assert_eq!(error, "not a regular file", "{}", path.display());
        }
        fs::write(folder.path().join("a"), b"1").unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a"), &link).unwrap();
        assert_eq!(read_regular(&link, 100).unwrap(), b"1");
    }
}
