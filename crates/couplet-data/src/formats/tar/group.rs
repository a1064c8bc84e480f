//! Groups consecutive members with the same key into records while a shard is read.

use super::records::{Grouping, Named, RecordPart, Wanted};
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

/// Groups the members of a shard.
pub(super) struct Group<'a> {
    give: &'a mut dyn FnMut(TarItem) -> bool,
    wanted: Wanted<'a>,
    grouping: Grouping,
    open: Option<ReadRecord>,
    /// The byte at which the last complete member ends.
    pub end: u64,
}

impl<'a> Group<'a> {
    pub fn new(wanted: Wanted<'a>, from: u64, give: &'a mut dyn FnMut(TarItem) -> bool) -> Self {
        Self {
            give,
            wanted,
            grouping: Grouping::default(),
            open: None,
            end: from,
        }
    }

    /// The member's key and which part of the record it is; `None` for files that belong to none.
    pub fn name<'p>(&self, path: &'p str) -> Option<Named<'p>> {
        self.wanted.name(path)
    }

    /// - bytes: the member's bytes, if it is a part of the record.
    pub fn add(
        &mut self,
        member: &Named<'_>,
        bytes: Result<Vec<u8>, String>,
    ) -> Result<(), Stopped> {
        if self.grouping.begins(member) {
            self.flush()?;
        }
        let Some(part) = member.part else {
            return Ok(());
        };
        let record = self.open.get_or_insert_with(|| ReadRecord {
            key: member.key.to_string(),
            image: None,
            field: None,
            next: 0,
        });
        let slot = match part {
            RecordPart::Image => &mut record.image,
            RecordPart::Field => &mut record.field,
        };
        slot.get_or_insert(bytes);
        Ok(())
    }

    /// Gives the open record, if there is one.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        let Some(mut record) = self.open.take() else {
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
