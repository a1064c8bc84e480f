//! A batch on the host: pixels in chunks, captions as one matrix.

use std::ops::Range;
use std::sync::Arc;

use super::LoaderState;
use crate::Tokenizer;
use crate::read_ahead::{PixelChunk, ReadAhead};
use crate::sample::Skipped;

/// Images that are made at once and lie together in memory.
pub(super) const CHUNK: usize = 128;
/// A batch's captions are padded to a multiple of this.
pub const TOKEN_MULTIPLE: usize = 8;

/// How captions become rows of one matrix.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    pub tokenizer: Arc<Tokenizer>,
    pub context_length: usize,
    /// The id behind a caption's end.
    pub pad_id: u32,
    /// Whether a batch may be as long as its longest caption only: for towers that read
    /// no padding.
    pub cut: bool,
}

impl TokenOptions {
    /// A caption's ids, its start and end included.
    pub fn encode(&self, caption: &str) -> Vec<u32> {
        self.tokenizer.encode(caption, self.context_length)
    }

    /// Captions as one matrix `[captions, length]` with its length. Where the tower reads
    /// no padding, the matrix is as long as its longest caption needs.
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
        let mut tokens = Vec::with_capacity(captions.len() * length);
        for caption in captions {
            tokens.extend(caption.iter().map(|id| id.cast_signed()));
            tokens.resize(tokens.len() + length - caption.len(), pad_id);
        }
        (tokens, length)
    }
}

/// A batch on the host.
#[derive(Debug)]
pub struct HostBatch {
    /// `[batch, image_size, image_size, 3]` in chunks; empty where they are given back.
    pub(super) chunks: Vec<Option<PixelChunk>>,
    /// Bytes of one image.
    pub(super) image_len: usize,
    /// `[batch, token_length]`, padding after each caption's end.
    pub tokens: Vec<i32>,
    /// The longest caption's length rounded up, at most the context length.
    pub token_length: usize,
    /// How much of its row each caption needs.
    pub caption_lengths: Vec<usize>,
    /// The class of each pair; empty of a set without classes.
    pub labels: Vec<i32>,
    /// Samples passed over on the way to this batch.
    pub skipped: Vec<Skipped>,
    /// Where the next batch starts.
    pub next: LoaderState,
}

impl HostBatch {
    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.caption_lengths.len()
    }

    /// Whether it has no pair.
    pub fn is_empty(&self) -> bool {
        self.caption_lengths.is_empty()
    }

    /// The pixels of some of its pairs, `[rows, image_size, image_size, 3]`.
    ///
    /// # Panics
    /// If they were given back.
    pub fn pixels(&self, rows: Range<usize>) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(rows.len() * self.image_len);
        let mut row = rows.start;
        while row < rows.end {
            let (at, first) = (row / CHUNK, row % CHUNK);
            let last = CHUNK.min(first + rows.end - row);
            let chunk = self.chunks[at].as_ref().expect("these pixels are here");
            pixels.extend(&chunk.bytes[first * self.image_len..last * self.image_len]);
            row += last - first;
        }
        pixels
    }

    /// Gives back the pixels of the pairs before `row`, which makes room for the next
    /// batch.
    pub fn release_pixels(&mut self, row: usize) {
        let done = if row >= self.len() {
            self.chunks.len()
        } else {
            row / CHUNK
        };
        self.chunks[..done].fill_with(|| None);
    }

    /// A batch of pairs that are at hand already.
    /// - pixels: `[batch, image_size, image_size, 3]`; tokens: `[batch, token_length]`.
    /// - caption_lengths: how much of its row each caption needs.
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

    /// The tokens of some of its pairs, and the length of their rows: what the longest
    /// of them needs, rounded up.
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

/// What a sample becomes beside its pixels.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub tokens: Vec<u32>,
    pub label: Option<usize>,
}

/// Moves rows up to where others were to be, until those that are open lie behind all.
/// - returns how many there are.
pub(super) fn close_up(
    pixels: &mut [u8],
    rows: &mut [Row],
    image_len: usize,
    open: &[usize],
) -> usize {
    let mut whole = 0;
    for row in 0..rows.len() {
        if open.binary_search(&row).is_err() {
            pixels.copy_within(row * image_len..(row + 1) * image_len, whole * image_len);
            rows.swap(row, whole);
            whole += 1;
        }
    }
    whole
}
