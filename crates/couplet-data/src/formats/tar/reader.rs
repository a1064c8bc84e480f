//! Reads a tar shard's members from front to back, continuing after damage.

use std::io::{self, Read};
use std::path::PathBuf;

use super::group::{Group, Loss, Stopped, TarItem};
use super::headers::{BLOCK, next_header};
use super::index::{CUT, NO_FILES, WHOLE_SHARD, header_damage};
use super::records::Wanted;
use crate::formats::damage::Lost;
use crate::formats::storage;

/// Longer members are not read into memory.
const MAX_MEMBER_BYTES: u64 = 512 << 20;

/// A shard on disk or in an object store.
#[derive(Debug)]
pub(crate) enum Shard {
    File(PathBuf),
    #[cfg(feature = "object-store")]
    Object(storage::Object),
}

impl Shard {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        match self {
            Self::File(path) => storage::open_file(path, offset),
            #[cfg(feature = "object-store")]
            Self::Object(object) => Ok(object.open(offset)),
        }
    }

    /// The shard's length in bytes.
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(path) => Ok(path.metadata()?.len()),
            #[cfg(feature = "object-store")]
            Self::Object(object) => object.len(),
        }
    }
}

/// How reading members ended.
enum Ending {
    Whole,
    /// The file ends inside this member.
    Cut(String),
    /// A block that should be a header is not one.
    Broken,
    /// The storage returned an error.
    Unreadable(io::Error),
}

/// Reads a shard's records from front to back, until `give` stops it.
/// - field: the extension of the member that belongs to each image.
/// - from: 0, or the `next` of an earlier item.
/// - give: receives an item; returns `false` to stop.
pub(crate) fn read_tar(
    shard: &Shard,
    field: &str,
    from: u64,
    give: &mut dyn FnMut(TarItem) -> bool,
) {
    let mut group = Group::new(Wanted { field }, from, give);
    // When the receiver has stopped, there is no one to report to.
    let _: Result<(), Stopped> = read_all(shard, from, &mut group);
}

fn read_all(shard: &Shard, from: u64, group: &mut Group<'_>) -> Result<(), Stopped> {
    let mut start = from;
    loop {
        let ending = read_members(shard, start, group)?;
        let end = group.end;
        group.flush()?;
        let rest = |key: String, message: String| Loss {
            key,
            message,
            lost: Lost::Rest,
            next: u64::MAX,
        };
        let unreadable = |error: io::Error| {
            let place = match end {
                0 => WHOLE_SHARD.into(),
                end => format!("after byte {end}"),
            };
            rest(place, format!("the shard cannot be read: {error}"))
        };
        // Blocks of zeros end a tar file; a header after them means that they are damage.
        let (after, is_zeros) = match ending {
            Ending::Whole if from == 0 && end == 0 => {
                return group.fail(rest(WHOLE_SHARD.into(), NO_FILES.into()));
            }
            Ending::Cut(member) => return group.fail(rest(member, CUT.into())),
            Ending::Unreadable(error) => return group.fail(unreadable(error)),
            Ending::Whole => (end, true),
            Ending::Broken => (end + BLOCK, false),
        };
        let found = (shard.open(after)).and_then(|bytes| next_header(bytes, after));
        let place = format!("byte {end}");
        match found {
            Ok((None, _)) | Err(_) if is_zeros => return Ok(()),
            Err(error) => return group.fail(unreadable(error)),
            Ok((None, len)) => {
                return group.fail(rest(place, header_damage(len.saturating_sub(end))));
            }
            Ok((Some(next), _)) => {
                // Only queried when something is lost: asking a store takes time.
                let len = match shard.len() {
                    Ok(len) => len,
                    Err(error) => return group.fail(unreadable(error)),
                };
                let message = if is_zeros {
                    format!("{} bytes of zeros", next - end)
                } else {
                    header_damage(next - end)
                };
                group.fail(Loss {
                    key: place,
                    message,
                    lost: Lost::part(next - end, len),
                    next,
                })?;
                start = next;
            }
        }
    }
}

/// Reads members up to the end or the damage; `group.end` is the end of the last complete one.
fn read_members(shard: &Shard, start: u64, group: &mut Group<'_>) -> Result<Ending, Stopped> {
    group.end = start;
    if start == u64::MAX {
        return Ok(Ending::Whole);
    }
    let bytes = match shard.open(start) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Ending::Unreadable(error)),
    };
    let failure = std::cell::RefCell::new(None);
    let mut archive = tar::Archive::new(Watched {
        bytes,
        failure: &failure,
    });
    let ending = |fallback| {
        let failure = failure.borrow_mut().take();
        Ok(failure.map_or(fallback, Ending::Unreadable))
    };
    let Ok(members) = archive.entries() else {
        return ending(Ending::Broken);
    };
    for member in members {
        let Ok(mut member) = member else {
            return ending(Ending::Broken);
        };
        let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let size = member.size();
        let end = start
            .checked_add(member.raw_file_position())
            .and_then(|at| at.checked_add(size))
            .and_then(|end| end.checked_next_multiple_of(BLOCK));
        let Some(end) = end else {
            return Ok(Ending::Cut(path));
        };
        let part = if member.header().entry_type().is_file() {
            group.part(&path)
        } else {
            None
        };
        // Read before `add` gives the previous record, at whose end reading can resume.
        let read = match &part {
            Some(_) if size > MAX_MEMBER_BYTES => {
                let len = io::copy(&mut member, &mut io::sink());
                len.map(|len| {
                    (
                        len,
                        Err(format!(
                            "the member has {size} bytes, more than the limit of {MAX_MEMBER_BYTES}"
                        )),
                    )
                })
            }
            Some(_) => {
                let mut bytes = Vec::new();
                let len = member.read_to_end(&mut bytes);
                len.map(|len| (len as u64, Ok(bytes)))
            }
            None => io::copy(&mut member, &mut io::sink()).map(|len| (len, Ok(Vec::new()))),
        };
        match read {
            Ok((len, bytes)) if len == size => {
                if let Some(part) = part {
                    group.add(part, bytes)?;
                }
                group.end = end;
            }
            _ => return ending(Ending::Cut(path)),
        }
    }
    ending(Ending::Whole)
}

/// Records I/O errors, which the archive would report as damage.
struct Watched<'a> {
    bytes: Box<dyn Read>,
    failure: &'a std::cell::RefCell<Option<io::Error>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure.borrow_mut() = Some(error);
            }
            kind.into()
        })
    }
}
