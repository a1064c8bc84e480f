//! A batch in host memory: pixels in chunks, captions as one matrix.

use std::ops::Range;
use std::sync::Arc;

use super::state::LoaderState;
use crate::read_ahead::{PixelChunk, ReadAhead};
use crate::sample::Skipped;
use crate::tokenizer::{EncodeError, Tokenizer};

/// Images that are loaded together and share one allocation.
pub(super) const CHUNK: usize = 128;
/// Token matrices are padded to a multiple of this length.
pub const TOKEN_MULTIPLE: usize = 8;

/// How captions become rows of one matrix.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    pub tokenizer: Arc<Tokenizer>,
    pub context_length: usize,
    /// The id that fills a row after its caption's end, or before its start.
    pub pad_id: u32,
    /// Whether a batch is cut to its longest caption: for text towers that do not read the padding.
    /// Not with padding before the start.
    pub cut: bool,
}

impl TokenOptions {
    /// A caption's ids, including its start and end tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, caption: &str) -> Result<Vec<u32>, EncodeError> {
        self.tokenizer.encode(caption, self.context_length)
    }

    /// Captions as one row-major matrix `[captions, length]`, and its length: the context length, or,
    /// if `cut` is set, what the longest caption needs.
    pub fn pad(&self, captions: &[Vec<u32>]) -> (Vec<i32>, usize) {
        let longest = captions.iter().map(Vec::len).max().unwrap_or(0);
        let length = if self.cut {
            longest
                .next_multiple_of(TOKEN_MULTIPLE)
                .min(self.context_length)
        } else {
            self.context_length
        };
        let pad_id = self.pad_id.cast_signed();
        let pads_left = self.tokenizer.pads_left();
        let mut tokens = Vec::with_capacity(captions.len() * length);
        for caption in captions {
            let padding = length - caption.len();
            let (before, after) = if pads_left {
                (padding, 0)
            } else {
                (0, padding)
            };
            tokens.extend(std::iter::repeat_n(pad_id, before));
            tokens.extend(caption.iter().map(|id| id.cast_signed()));
            tokens.extend(std::iter::repeat_n(pad_id, after));
        }
        (tokens, length)
    }
}

/// A batch in host memory.
#[derive(Debug)]
pub struct HostBatch {
    /// `[batch, image_size, image_size, 3]` in chunks; `None` where they were released.
    pub(super) chunks: Vec<Option<PixelChunk>>,
    /// Bytes of one image.
    pub(super) image_len: usize,
    /// `[batch, token_length]`, padded after each caption's end.
    pub tokens: Vec<i32>,
    /// The length of the longest caption, rounded up, at most the context length.
    pub token_length: usize,
    /// The number of tokens of each caption, without padding that the tower does not read.
    pub caption_lengths: Vec<usize>,
    /// The class of each pair; empty if the dataset has no classes.
    pub labels: Vec<i32>,
    /// Samples that were skipped while this batch was filled.
    pub skipped: Vec<Skipped>,
    /// Where the next batch starts.
    pub next: LoaderState,
}

impl HostBatch {
    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.caption_lengths.len()
    }

    /// Whether the batch has no pairs.
    pub fn is_empty(&self) -> bool {
        self.caption_lengths.is_empty()
    }

    /// The pixels of the pairs in `rows`: `[rows, image_size, image_size, 3]`.
    ///
    /// # Panics
    /// If they were released.
    pub fn pixels(&self, rows: Range<usize>) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(rows.len() * self.image_len);
        let mut row = rows.start;
        while row < rows.end {
            let (at, first) = (row / CHUNK, row % CHUNK);
            let last = CHUNK.min(first + rows.end - row);
            let chunk = self.chunks[at]
                .as_ref()
                .expect("the pixels were not released");
            pixels.extend(&chunk.bytes[first * self.image_len..last * self.image_len]);
            row += last - first;
        }
        pixels
    }

    /// Releases the pixels of the pairs before `row`, which makes room for the next batch.
    pub fn release_pixels(&mut self, row: usize) {
        let done = if row >= self.len() {
            self.chunks.len()
        } else {
            row / CHUNK
        };
        self.chunks[..done].fill_with(|| None);
    }

    /// A batch of pairs that are already in memory.
    /// - pixels: `[batch, image_size, image_size, 3]`; tokens: `[batch, token_length]`.
    /// - caption_lengths: the number of tokens of each caption.
    pub fn from_host(
        pixels: &[u8],
        tokens: Vec<i32>,
        token_length: usize,
        caption_lengths: Vec<usize>,
    ) -> Self {
        let image_len = pixels.len() / caption_lengths.len().max(1);
        let room = ReadAhead::new(usize::MAX);
        let chunks = pixels.chunks((image_len * CHUNK).max(1)).map(|bytes| {
            let mut chunk = room.chunk(bytes.len());
            chunk.bytes.copy_from_slice(bytes);
            Some(chunk)
        });
        Self {
            chunks: chunks.collect(),
            image_len,
            tokens,
            token_length,
            caption_lengths,
            labels: Vec::new(),
            skipped: Vec::new(),
            next: LoaderState::default(),
        }
    }

    /// The tokens of the pairs in `rows`, and the length of each row: what the longest of them needs,
    /// rounded up.
    pub fn tokens(&self, rows: Range<usize>) -> (Vec<i32>, usize) {
        let longest = self.caption_lengths[rows.clone()].iter().max();
        let length = longest
            .map_or(0, |longest| longest.next_multiple_of(TOKEN_MULTIPLE))
            .min(self.token_length);
        let whole_rows = self.tokens.chunks_exact(self.token_length.max(1));
        let cut = whole_rows.skip(rows.start).take(rows.len());
        (
            cut.flat_map(|row| &row[..length]).copied().collect(),
            length,
        )
    }
}

/// A sample without its pixels.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub tokens: Vec<u32>,
    pub label: Option<usize>,
}

/// Moves filled rows to the front, over the rows in `open`, which were not filled.
/// - open: in ascending order.
/// - returns the number of filled rows.
pub(super) fn close_up(
    chunks: &mut [PixelChunk],
    rows: &mut [Row],
    image_len: usize,
    open: &[usize],
) -> usize {
    let bytes = |row: usize| (row % CHUNK) * image_len..(row % CHUNK + 1) * image_len;
    let first = open.first().copied().unwrap_or(rows.len());
    let mut filled = first;
    for row in first..rows.len() {
        if open.binary_search(&row).is_ok() {
            continue;
        }
        let (from, to) = (row / CHUNK, filled / CHUNK);
        if from == to {
            let start = bytes(filled).start;
            chunks[to].bytes.copy_within(bytes(row), start);
        } else {
            let (before, after) = chunks.split_at_mut(from);
            let pixels = &after[0].bytes[bytes(row)];
            before[to].bytes[bytes(filled)].copy_from_slice(pixels);
        }
        rows.swap(row, filled);
        filled += 1;
    }
    filled
}
