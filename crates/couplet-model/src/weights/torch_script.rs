//! TorchScript archives, as OpenAI released its weights: a zip whose pickle holds module
//! objects. Rewritten so that they read as the dictionaries of their attributes, the
//! archive is one of `torch.save`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::script_code::{self, ScriptCode};

/// Only TorchScript writes this one.
const MARKER: &str = "/constants.pkl";
const PICKLE: &str = "/data.pkl";
/// Modules that are compiled, in TorchScript's name space.
const SCRIPT_MODULE: &[u8] = b"__torch__.";
/// The longest pickle that is read: as much as `pytorch-reader` reads.
const MAX_PICKLE: u64 = 100 << 20;

/// A TorchScript archive.
pub(super) struct TorchScript {
    /// The archive as `torch.save` would have written its state dict.
    pub state_dict: NamedTempFile,
    pub code: ScriptCode,
}

/// Reads the archive at `path`; `None` if it is no TorchScript archive. Storages are copied as they
/// are, compressed or not, so the copy is no larger than the archive.
///
/// # Errors
/// If it is one, and cannot be read, or the temporary file cannot be written.
pub(super) fn open(path: &Path) -> io::Result<Option<TorchScript>> {
    let Ok(mut archive) = ZipArchive::new(File::open(path)?) else {
        return Ok(None);
    };
    let names = archive
        .file_names()
        .map(|name| Ok(name?.into_owned()))
        .collect::<io::Result<Vec<String>>>()?;
    let Some(folder) = names.iter().find_map(|name| name.strip_suffix(MARKER)) else {
        return Ok(None);
    };
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    let archive_len = fs::metadata(path)?.len();
    let mut copied = 0_u64;
    let mut out = ZipWriter::new(NamedTempFile::new()?);
    let storages = format!("{folder}/data/");
    for name in &names {
        if name.strip_prefix(folder) == Some(PICKLE) {
            let mut bytes = Vec::new();
            let read = archive
                .by_name(name)?
                .take(MAX_PICKLE + 1)
                .read_to_end(&mut bytes)?;
            if read as u64 > MAX_PICKLE {
                return Err(io::Error::other(format!(
                    "{name} unpacks to more than {MAX_PICKLE} bytes"
                )));
            }
            let bytes = modules_to_dicts(&bytes)
                .ok_or_else(|| io::Error::other(format!("{name} is not a TorchScript pickle")))?;
            out.start_file(name, stored)?;
            out.write_all(&bytes)?;
        } else if name.starts_with(&storages) || name.ends_with("/byteorder") {
            let index = archive.index_for_name(name);
            let index = index.ok_or_else(|| io::Error::other(format!("{name} is missing")))?;
            let storage = archive.by_index_raw(index)?;
            // Entries that overlap would be copied more than once.
            copied = copied.saturating_add(storage.compressed_size());
            if copied > archive_len {
                return Err(io::Error::other("its entries overlap"));
            }
            out.raw_copy_file(storage)?;
        }
    }
    Ok(Some(TorchScript {
        state_dict: out.finish()?,
        code: script_code::read(&mut archive, folder, &names),
    }))
}

/// Rewrites `module class, (), NEWOBJ, attributes, BUILD` to `attributes`: the class
/// becomes None, and class and arguments are popped in place of making the object.
/// Source: PyTorch `torch/csrc/jit/serialization/pickler.cpp`.
fn modules_to_dicts(pickle: &[u8]) -> Option<Vec<u8>> {
    const GLOBAL: u8 = b'c';
    const NONE: u8 = b'N';
    const POP: u8 = b'0';
    const NEWOBJ: u8 = 0x81;
    const BUILD: u8 = b'b';
    let mut out = Vec::with_capacity(pickle.len());
    let mut rest = pickle;
    while let Some(&opcode) = rest.first() {
        let (operation, tail) = rest.split_at_checked(operation_len(rest)?)?;
        match opcode {
            GLOBAL if operation[1..].starts_with(SCRIPT_MODULE) => out.push(NONE),
            NEWOBJ => out.extend([POP, POP]),
            BUILD => {}
            _ => out.extend(operation),
        }
        rest = tail;
    }
    Some(out)
}

/// Bytes of the first operation, its arguments included; `None` for an operation that
/// TorchScript does not write.
fn operation_len(rest: &[u8]) -> Option<usize> {
    let short = || Some(2 + usize::from(*rest.get(1)?));
    let long = || {
        let length: [u8; 4] = rest.get(1..5)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(length))
            .ok()?
            .checked_add(5)
    };
    match rest[0] {
        // MARK, STOP, POP, NONE, NEWTRUE, NEWFALSE, tuples, lists, dicts, REDUCE,
        // BINPERSID, NEWOBJ, BUILD.
        b'('
        | b'.'
        | b'0'
        | b'N'
        | 0x88
        | 0x89
        | b')'
        | b't'
        | 0x85..=0x87
        | b']'
        | b'a'
        | b'e'
        | b'}'
        | b's'
        | b'u'
        | b'R'
        | b'Q'
        | 0x81
        | b'b' => Some(1),
        // PROTO, BINPUT, BINGET, BININT1.
        0x80 | b'q' | b'h' | b'K' => Some(2),
        // BININT2.
        b'M' => Some(3),
        // LONG_BINPUT, LONG_BINGET, BININT.
        b'r' | b'j' | b'J' => Some(5),
        // BINFLOAT.
        b'G' => Some(9),
        // LONG1, SHORT_BINSTRING.
        0x8a | b'U' => short(),
        // BINUNICODE, BINSTRING.
        b'X' | b'T' => long(),
        // GLOBAL: two lines.
        b'c' => {
            let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            ends.nth(1).map(|(end, _)| end + 1)
        }
        _ => None,
    }
}
