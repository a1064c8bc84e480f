//! Neighbouring members with one key, grouped into records as a shard is read.

use super::records::{Part, Wanted};
use crate::formats::damage::Lost;

/// What comes out of a shard that is read from front to back.
pub(crate) enum TarItem {
    Record(ReadRecord),
    Loss(Loss),
}

/// A record's members, each with its bytes or why it has none; either may be missing.
pub(crate) struct ReadRecord {
    pub key: String,
    pub image: Option<Result<Vec<u8>, String>>,
    pub field: Option<Result<Vec<u8>, String>>,
    /// Where the next record begins.
    pub next: u64,
}

/// What a shard's damage costs.
pub(crate) struct Loss {
    /// The member, or the byte.
    pub key: String,
    pub message: String,
    pub lost: Lost,
    /// Where reading goes on.
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
    /// Where the last whole member ends.
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

    /// Whether a member belongs to a record: its key, the part, and its extension.
    pub fn part(&self, path: &str) -> Option<(String, Part, String)> {
        let (key, part, extension) = self.wanted.part(path)?;
        Some((key.to_string(), part, extension))
    }

    pub fn add(
        &mut self,
        (key, part, extension): (String, Part, String),
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
            Part::Image => &mut open.record.image,
            Part::Field => &mut open.record.field,
        };
        slot.get_or_insert(bytes);
        Ok(())
    }

    /// Gives the record that is complete.
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
