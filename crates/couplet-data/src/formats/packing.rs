//! Compressed files, recognized by their first bytes and not by their names.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Bzip2,
    Zstd,
    Xz,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        })
    }
}

impl Packing {
    /// The number of bytes by which a compressed file is recognized.
    pub const MARK: u64 = 10;

    /// - start: the file's first [`Self::MARK`] bytes, or fewer if it is shorter.
    pub fn of(start: &[u8]) -> Option<Self> {
        // After bzip2's digit comes the mark of a block, or of the end of an empty file. Zstd's other
        // marks begin frames without data.
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
                if rest.starts_with(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59])
                    || rest.starts_with(&[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]) =>
            {
                Some(Self::Bzip2)
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    /// The command that decompresses a file.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Gzip => "gunzip",
            Self::Bzip2 => "bunzip2",
            Self::Zstd => "unzstd",
            Self::Xz => "unxz",
        }
    }

    /// Decompresses all members or frames of a file.
    ///
    /// # Errors
    /// For xz, which is not supported.
    pub fn decode(self, bytes: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(bytes)),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(bytes)),
            Self::Zstd => Box::new(ZstdFrames {
                source: BufReader::new(bytes),
                decoder: FrameDecoder::new(),
                is_open: false,
            }),
            Self::Xz => {
                let message =
                    "it is compressed with xz, which is not supported: decompress it (`unxz`)";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        })
    }
}

/// Zstd frames, one after the other.
struct ZstdFrames {
    source: BufReader<Box<dyn Read>>,
    decoder: FrameDecoder,
    /// Whether a frame is being read.
    is_open: bool,
}

impl ZstdFrames {
    /// Moves to the next frame with data. Returns `false` at the end of the file.
    fn open(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            let length = match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.is_open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => u64::from(length),
                Err(error) => return Err(damaged(error)),
            };
            let mut skipped = self.source.by_ref().take(length);
            if io::copy(&mut skipped, &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }
}

impl Read for ZstdFrames {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while !bytes.is_empty() {
            if !self.is_open && !self.open()? {
                return Ok(0);
            }
            let decoder = &mut self.decoder;
            while decoder.can_collect() == 0 && !decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBlocks(1);
                let read = decoder.decode_blocks(&mut self.source, some);
                read.map_err(damaged)?;
            }
            let len = decoder.read(bytes)?;
            if len > 0 {
                return Ok(len);
            }
            let stored = decoder.get_checksum_from_data();
            if stored.is_some() && stored != decoder.get_calculated_checksum() {
                return Err(damaged("a zstd frame's checksum is wrong"));
            }
            self.is_open = false;
        }
        Ok(0)
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of two parts each, written by the tools (`tests/fixtures/make_shards.py`).
    #[test]
    fn every_part_of_a_file_is_decompressed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/shards/");
        let plain = std::fs::read(format!("{folder}plain.tar")).unwrap();
        for (end, packing) in [
            ("gz", Packing::Gzip),
            ("bz2", Packing::Bzip2),
            ("zst", Packing::Zstd),
        ] {
            let packed = std::fs::read(format!("{folder}plain.tar.{end}")).unwrap();
            assert_eq!(Packing::of(&packed[..10]), Some(packing));
            let decode = |packed: Vec<u8>| {
                let mut bytes = Vec::new();
                let mut reader = packing.decode(Box::new(io::Cursor::new(packed)))?;
                reader.read_to_end(&mut bytes).map(|_| bytes)
            };
            assert!(decode(packed.clone()).unwrap() == plain, "{packing}");
            let cut = packed[..packed.len() * 3 / 4].to_vec();
            assert!(decode(cut).is_err(), "{packing}");
        }
        assert_eq!(Packing::of(&plain[..10]), None);
        assert_eq!(Packing::of(b"BZh1.jpg"), None);
    }
}
