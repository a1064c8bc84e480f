//! Reads a tar shard's members from front to back, continuing after damage.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};

use super::group::{Group, Loss, Stopped, TarItem};
use super::headers::{BLOCK, next_header};
use super::index::{CUT, NO_FILES, WHOLE_SHARD, header_damage};
use super::links::{Links, content, is_file, stored_len};
use super::records::{RecordPart, Wanted};
use super::shard::Shard;
use super::sparse::PaxSparse;
use crate::formats::damage::Lost;
use crate::formats::files::{MAX_IMAGE_BYTES, MAX_TEXT_BYTES};

/// The headers of one member: names and PAX records take a few blocks.
const MAX_HEADERS: u64 = 16 << 20;

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
    let mut links = Links::new(shard, from);
    loop {
        let ending = read_members(shard, start, group, &mut links)?;
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
            // Looking behind it would decompress all of the shard again.
            Ending::Whole if shard.is_packed() => return Ok(()),
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
                    format!(
                        "{} bytes of zeros before the next sample; the shard is damaged there",
                        next - end
                    )
                } else {
                    header_damage(next - end)
                };
                group.fail(Loss {
                    key: place,
                    message,
                    lost: Lost::part(next - end, len.max(next)),
                    next,
                })?;
                start = next;
            }
        }
    }
}

/// Reads members up to the end or the damage; `group.end` is the end of the last complete one.
fn read_members(
    shard: &Shard,
    start: u64,
    group: &mut Group<'_>,
    links: &mut Links<'_>,
) -> Result<Ending, Stopped> {
    group.end = start;
    if start == u64::MAX {
        return Ok(Ending::Whole);
    }
    let bytes = match shard.open(start) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Ending::Unreadable(error)),
    };
    let (failure, read, budget) = (RefCell::new(None), Cell::new(0), Cell::new(0));
    let mut archive = tar::Archive::new(Watched {
        bytes,
        failure: &failure,
        read: &read,
        budget: &budget,
    });
    let ending = |fallback| {
        let failure = failure.borrow_mut().take();
        Ok(failure.map_or(fallback, Ending::Unreadable))
    };
    let Ok(mut members) = archive.entries() else {
        return ending(Ending::Broken);
    };
    // A member that was left out, whose end is where the next header begins.
    let mut left_out: Option<String> = None;
    // Bytes of a member that the archive skips before it reads the next header.
    let mut skipped = 0;
    loop {
        budget.set(MAX_HEADERS.saturating_add(skipped));
        let Some(member) = members.next() else {
            break;
        };
        budget.set(u64::MAX);
        skipped = 0;
        let Ok(mut member) = member else {
            let cut = left_out.filter(|_| failure.borrow().is_none());
            return ending(cut.map_or(Ending::Broken, Ending::Cut));
        };
        left_out = None;
        let mut path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let kind = member.header().entry_type();
        let sparse = PaxSparse::of(&mut member);
        if let Some(name) = sparse.as_ref().and_then(|sparse| sparse.name.clone()) {
            path = name;
        }
        let size = member.size();
        let stored = stored_len(&member).unwrap_or(u64::MAX);
        let end = (start.checked_add(read.get()))
            .and_then(|at| at.checked_add(stored))
            .and_then(|end| end.checked_next_multiple_of(BLOCK));
        let Some(end) = end else {
            return Ok(Ending::Cut(path));
        };
        let named = (is_file(kind) || kind.is_hard_link()).then(|| group.name(&path));
        let named = named.flatten();
        let part = named.as_ref().and_then(|named| named.part);
        let most = match part {
            Some(RecordPart::Field) => MAX_TEXT_BYTES,
            _ => MAX_IMAGE_BYTES,
        };
        if is_file(kind) {
            links.add(&path, group.end);
        }
        // Read before `add` gives the previous record, at whose end reading can resume.
        let is_read = part.is_some() && size <= most && !kind.is_hard_link();
        let bytes = if is_read {
            match content(&mut member, sparse, most) {
                Ok(bytes) => bytes,
                Err(_) => return ending(Ending::Cut(path)),
            }
        } else if kind.is_gnu_sparse() {
            // Its zeros would be read too.
            left_out = Some(path.clone());
            skipped = stored;
            too_large(size, most)
        } else {
            match io::copy(&mut member, &mut io::sink()) {
                Ok(len) if len == size => too_large(size, most),
                _ => return ending(Ending::Cut(path)),
            }
        };
        if let Some(named) = named {
            if !kind.is_hard_link() || part.is_none() {
                group.add(&named, bytes)?;
            } else if let Some(target) = member.link_name_bytes() {
                let target = String::from_utf8_lossy(&target);
                // As in an index, a link to nothing is no member.
                if let Some(bytes) = links.read(&path, &target, most) {
                    group.add(&named, bytes)?;
                }
            }
        }
        group.end = end;
    }
    ending(Ending::Whole)
}

fn too_large(size: u64, most: u64) -> Result<Vec<u8>, String> {
    Err(format!(
        "the member has {size} bytes, more than the limit of {most}"
    ))
}

/// Counts the bytes that are read, and records I/O errors, which the archive would report as damage.
/// The archive holds a member's headers in memory, whatever their size is.
struct Watched<'a> {
    bytes: Box<dyn Read>,
    failure: &'a RefCell<Option<io::Error>>,
    read: &'a Cell<u64>,
    /// What may be read until the next member.
    budget: &'a Cell<u64>,
}

impl Read for Watched<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.budget.get() == 0 {
            let message = format!("a member has headers of more than {MAX_HEADERS} bytes");
            *self.failure.borrow_mut() = Some(io::Error::other(message));
            return Err(io::ErrorKind::InvalidData.into());
        }
        let most = usize::try_from(self.budget.get()).unwrap_or(usize::MAX);
        let most = bytes.len().min(most);
        let read = self.bytes.read(&mut bytes[..most]).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure.borrow_mut() = Some(error);
            }
            io::Error::from(kind)
        })?;
        self.read.set(self.read.get() + read as u64);
        if self.budget.get() != u64::MAX {
            self.budget.set(self.budget.get() - read as u64);
        }
        Ok(read)
    }
}
