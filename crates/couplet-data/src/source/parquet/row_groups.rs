//! Row groups as shards of a stream.

use super::super::dataset::MapDataset;
use super::rows::ParquetPairs;
use crate::listing::ListedFile;
use crate::sample::{SampleError, SkipCause};
use crate::stream::{ShardedDataset, StreamSample};

/// Row groups of several files, in the files' order.
pub(super) struct RowGroups {
    rows: ParquetPairs,
    /// The file index and the group index of each shard.
    groups: Vec<(usize, usize)>,
    shuffle_buffer: usize,
}

impl RowGroups {
    pub fn new(rows: ParquetPairs, shuffle_buffer: usize) -> Self {
        let groups = (rows.files.0.iter().enumerate())
            .flat_map(|(at, file)| (0..file.groups()).map(move |group| (at, group)));
        Self {
            groups: groups.collect(),
            rows,
            shuffle_buffer,
        }
    }
}

impl ShardedDataset for RowGroups {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn samples(&self) -> Option<usize> {
        Some(self.rows.len())
    }

    fn shuffle_buffer(&self) -> usize {
        self.shuffle_buffer
    }

    fn name(&self, shard: usize) -> String {
        self.rows.files.0[self.groups[shard].0]
            .path
            .display()
            .to_string()
    }

    fn listing(&self) -> Vec<ListedFile> {
        self.rows.listing()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let (at, group) = self.groups[shard];
        let file = &self.rows.files.0[at];
        let before: usize = (0..group).map(|group| file.rows_of(group)).sum();
        let rows = file.rows_of(group);
        let mut row = usize::try_from(from).unwrap_or(rows).min(rows);
        if row == rows {
            return;
        }
        let mut streamed = |row: usize, next: usize, sample| {
            give(StreamSample {
                key: format!("row {}", before + row),
                sample,
                next: next as u64,
                lost: None,
            })
        };
        let lost = |message: String, row: usize| SampleError {
            samples: rows - row,
            ..SampleError::new(SkipCause::Unreadable, message)
        };
        let batches = match file.read(group, row, rows - row) {
            Ok(batches) => batches,
            Err(message) => {
                streamed(row, rows, Err(lost(message, row)));
                return;
            }
        };
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    let message = format!("{} rows are lost: {error}", rows - row);
                    streamed(row, rows, Err(lost(message, row)));
                    return;
                }
            };
            for at in 0..batch.num_rows() {
                let index = file.first + before + row;
                let sample = self.rows.sample(file, (&batch, at), index, epoch);
                if !streamed(row, row + 1, sample) {
                    return;
                }
                row += 1;
            }
        }
    }
}
