//! TensorBoard event files with the scalars of `metrics.jsonl`, and with a picture and a text of evaluations by class.
//!
//! These need few message types and a checksum. The crate tensorboard-rs, which writes them, has
//! been unmaintained since 2022 and depends on an image library of 2021.
//!
//! Source: TensorFlow `event.proto`, `summary.proto`, `tensor.proto` and `record_writer.cc`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::log::LogError;

/// Appends events to one file.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

/// Field numbers of the messages.
mod field {
    // tensorflow.Event
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
    // tensorflow.SessionLog
    pub const STATUS: u32 = 1;
    // tensorflow.Summary and tensorflow.Summary.Value
    pub const VALUE: u32 = 1;
    pub const TAG: u32 = 1;
    pub const SIMPLE_VALUE: u32 = 2;
    pub const IMAGE: u32 = 4;
    pub const TENSOR: u32 = 8;
    pub const METADATA: u32 = 9;
    // tensorflow.Summary.Image
    pub const HEIGHT: u32 = 1;
    pub const WIDTH: u32 = 2;
    pub const COLORS: u32 = 3;
    pub const ENCODED: u32 = 4;
    // tensorflow.SummaryMetadata and tensorflow.SummaryMetadata.PluginData
    pub const PLUGIN: u32 = 1;
    pub const PLUGIN_NAME: u32 = 1;
    // tensorflow.TensorProto, tensorflow.TensorShapeProto and its Dim
    pub const DTYPE: u32 = 1;
    pub const SHAPE: u32 = 2;
    pub const STRING: u32 = 8;
    pub const DIM: u32 = 2;
    pub const SIZE: u32 = 1;
}

/// `DT_STRING`.
const TEXT_TYPE: u64 = 7;

/// `SessionLog.START`: TensorBoard discards events of this step and later from older files.
const SESSION_START: u64 = 1;

impl EventFile {
    /// Creates a new file in the folder, which is created if it is missing.
    /// - step: the number of steps before this process; 0 in a new run.
    pub fn create(folder: &Path, step: u64) -> Result<Self, LogError> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            |source| LogError { path, source }
        };
        fs::create_dir_all(folder).map_err(fail(folder))?;
        let seconds = wall_time();
        // TensorBoard reads a folder's files in the order of their names.
        let path = folder.join(format!("events.out.tfevents.{seconds:017.6}.{step}"));
        let file = File::create(&path).map_err(fail(&path))?;
        let mut events = Self { path, file };
        let mut version = Message::at(0);
        version.bytes(field::FILE_VERSION, b"brain.Event:2");
        events.append(&version)?;
        let mut status = Message::default();
        status.varint(field::STATUS, SESSION_START);
        let mut start = Message::at(step + 1);
        start.bytes(field::SESSION_LOG, &status.0);
        events.append(&start)?;
        Ok(events)
    }

    /// Writes the numbers of a line of `metrics.jsonl` as scalars of its step.
    pub fn write(&mut self, line: &Value) -> Result<(), LogError> {
        let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
        let mut summary = Message::default();
        for (key, value) in line.as_object().into_iter().flatten() {
            let (false, Some(number)) = (key == "step", value.as_f64()) else {
                continue;
            };
            let tag = if key.contains('/') {
                key.clone()
            } else {
                format!("train/{key}")
            };
            let mut value = Message::default();
            value.bytes(field::TAG, tag.as_bytes());
            #[expect(clippy::cast_possible_truncation, reason = "events hold f32")]
            value.float(field::SIMPLE_VALUE, number as f32);
            summary.bytes(field::VALUE, &value.0);
        }
        let mut event = Message::at(step);
        event.bytes(field::SUMMARY, &summary.0);
        self.append(&event)
    }

    /// Writes a PNG image.
    pub fn write_png(&mut self, step: u64, tag: &str, png: &[u8]) -> Result<(), LogError> {
        // Its header has the size at a fixed place.
        let side = |at: usize| {
            let bytes = png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u64::from(u32::from_be_bytes(bytes.unwrap_or_default()))
        };
        let mut image = Message::default();
        image.varint(field::HEIGHT, side(20));
        image.varint(field::WIDTH, side(16));
        image.varint(field::COLORS, 3);
        image.bytes(field::ENCODED, png);
        let mut value = Message::default();
        value.bytes(field::TAG, tag.as_bytes());
        value.bytes(field::IMAGE, &image.0);
        self.append_value(step, &value)
    }

    /// Writes a text in Markdown.
    pub fn write_text(&mut self, step: u64, tag: &str, text: &str) -> Result<(), LogError> {
        let mut plugin = Message::default();
        plugin.bytes(field::PLUGIN_NAME, b"text");
        let mut metadata = Message::default();
        metadata.bytes(field::PLUGIN, &plugin.0);
        let (mut dim, mut shape) = (Message::default(), Message::default());
        dim.varint(field::SIZE, 1);
        shape.bytes(field::DIM, &dim.0);
        let mut tensor = Message::default();
        tensor.varint(field::DTYPE, TEXT_TYPE);
        tensor.bytes(field::SHAPE, &shape.0);
        tensor.bytes(field::STRING, text.as_bytes());
        let mut value = Message::default();
        value.bytes(field::TAG, tag.as_bytes());
        value.bytes(field::METADATA, &metadata.0);
        value.bytes(field::TENSOR, &tensor.0);
        self.append_value(step, &value)
    }

    fn append_value(&mut self, step: u64, value: &Message) -> Result<(), LogError> {
        let mut summary = Message::default();
        summary.bytes(field::VALUE, &value.0);
        let mut event = Message::at(step);
        event.bytes(field::SUMMARY, &summary.0);
        self.append(&event)
    }

    /// Appends a record in a single write: length, its checksum, message, its checksum.
    fn append(&mut self, message: &Message) -> Result<(), LogError> {
        let length = (message.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.0.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&message.0);
        record.extend(masked_crc(&message.0).to_le_bytes());
        self.file.write_all(&record).map_err(|source| LogError {
            path: self.path.clone(),
            source,
        })
    }
}

/// Seconds since 1 January 1970 UTC.
fn wall_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// TFRecord's masked CRC-32C, for data that contains checksums itself.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A protocol buffer being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    /// An event of `step` with the current time.
    fn at(step: u64) -> Self {
        let mut event = Self::default();
        event.key(field::WALL_TIME, 1);
        event.0.extend(wall_time().to_le_bytes());
        event.varint(field::STEP, step);
        event
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are left")]
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_tensorflows() {
        // The CRC-32C of "123456789", as in `record_writer_test.cc`, is e3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let rotated = 0xe306_9283_u32.rotate_right(15);
        assert_eq!(masked_crc(b"123456789"), rotated.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn varints_have_seven_bits_per_byte() {
        let mut message = Message::default();
        message.varint(2, 300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]);
    }

    #[test]
    fn records_begin_with_their_length() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 0).unwrap();
        events
            .write(&serde_json::json!({ "step": 3, "loss": 1.5, "eval/x/top1": 0.25, "note": "" }))
            .unwrap();
        let bytes = fs::read(&events.path).unwrap();
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let end = 12 + usize::try_from(length).unwrap();
            records.push(&rest[12..end]);
            rest = &rest[end + 4..];
        }
        assert_eq!(records.len(), 3);
        let holds = |text: &[u8]| records[2].windows(text.len()).any(|part| part == text);
        assert!(holds(b"train/loss") && holds(b"eval/x/top1") && !holds(b"note"));
    }
}
