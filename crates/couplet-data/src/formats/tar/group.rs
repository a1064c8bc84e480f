//! Groups consecutive members with the same key into records while a shard is read.

use super::records::{RecordPart, Wanted};
use crate::formats::damage::Lost;

/// An item of a shard that is read from front to back.
pub(crate) enum TarItem {
    Record(ReadRecord),
    Loss(Loss),
}

/// A record's members, each with its bytes or the error of reading it; either may be missing.
pub(crate) struct ReadRecord {
    pub key: String,
    pub image: Option<Result<Vec<u8>, String>>,
    pub field: Option<Result<Vec<u8>, String>>,
    /// The byte at which the next record begins.
    pub next: u64,
}

/// A damaged part of a shard.
pub(crate) struct Loss {
    /// The damaged member, or the byte at which the damage begins.
    pub key: String,
    pub message: String,
    pub lost: Lost,
    /// The byte at which reading continues.
    pub next: u64,
}

/// The receiver takes no more items.
pub(crate) struct Stopped;

struct Open {
    record: ReadRecord,
    extensions: Vec<String>,
}

/// Groups the members of a shard. Source: open_clip's `group_by_keys_nothrow`.
pub(super) struct Group<'a> {
    give: &'a mut dyn FnMut(TarItem) -> bool,
    wanted: Wanted<'a>,
    open: Option<Open>,
    /// The byte at which the last complete member ends.
    pub end: u64,
}

impl<'a> Group<'a> {
    pub fn new(wanted: Wanted<'a>, from: u64, give: &'a mut dyn FnMut(TarItem) -> bool) -> Self {
        Self {
            give,
            wanted,
            open: None,
            end: from,
        }
    }

    /// The member's key, which part of the record it is, and its extension; `None` for other files.
    pub fn part(&self, path: &str) -> Option<(String, RecordPart, String)> {
        let (key, part, extension) = self.wanted.part(path)?;
        Some((key.to_string(), part, extension))
    }

    pub fn add(
        &mut self,
        (key, part, extension): (String, RecordPart, String),
        bytes: Result<Vec<u8>, String>,
    ) -> Result<(), Stopped> {
        let continues = (self.open.as_ref())
            .is_some_and(|open| open.record.key == key && !open.extensions.contains(&extension));
        if !continues {
            self.flush()?;
        }
        let open = self.open.get_or_insert_with(|| Open {
            record: ReadRecord {
                key,
                image: None,
                field: None,
                next: 0,
            },
            extensions: Vec::new(),
        });
        open.extensions.push(extension);
        let slot = match part {
            RecordPart::Image => &mut open.record.image,
            RecordPart::Field => &mut open.record.field,
        };
        slot.get_or_insert(bytes);
        Ok(())
    }

    /// Gives the open record, if there is one.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        let Some(Open { mut record, .. }) = self.open.take() else {
            return Ok(());
        };
        record.next = self.end;
        self.give(TarItem::Record(record))
    }

    pub fn fail(&mut self, loss: Loss) -> Result<(), Stopped> {
        self.give(TarItem::Loss(loss))
    }

    fn give(&mut self, item: TarItem) -> Result<(), Stopped> {
        if (self.give)(item) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }
}
