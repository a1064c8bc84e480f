//! safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use burn::tensor::DType;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::error::{HeaderError, SafetensorsError, WeightsError};
use super::stored::{StoredBytes, StoredTensor, StoredTensors};
use crate::digest::{FileDigest, RunningDigest};
use crate::manifest::Manifest;
use crate::tensors::NamedTensors;

/// Values that are converted to bytes and written at once: they stay in the processor's cache.
const CHUNK: usize = 1 << 16;
/// Pieces that wait to be written.
const QUEUE: usize = 4;

/// Writes tensors to a safetensors file and syncs it to disk.
/// - returns the file's digest.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, tensors: &NamedTensors) -> Result<FileDigest, WeightsError> {
    save_with(path, tensors, BTreeMap::new())
}

/// As [`save`], with texts by name in the file's own metadata.
///
/// The crate's `serialize_to_file` needs all tensors as bytes, which is a copy of them, and creates
/// files that only their owner can read.
///
/// # Errors
/// If the file cannot be written.
pub fn save_with(
    path: &Path,
    tensors: &NamedTensors,
    metadata: BTreeMap<String, String>,
) -> Result<FileDigest, WeightsError> {
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    let mut digest = RunningDigest::default();
    write(path, tensors, metadata, |bytes| digest.update(bytes)).map_err(|error| {
        WeightsError::Write {
            path: path.to_path_buf(),
            source: SafetensorsError(error),
        }
    })?;
    Ok(digest.digest())
}

/// Writes and syncs a file. Its own thread writes and waits for the disk, while this one converts and
/// digests the next piece: on a machine with two cores, the digest takes no time.
/// - digest: receives the file's bytes in order.
fn write(
    path: &Path,
    tensors: &NamedTensors,
    metadata: Option<HashMap<String, String>>,
    mut digest: impl FnMut(&[u8]),
) -> Result<(), SafeTensorError> {
    let header = header(tensors, metadata)?;
    let mut file = fs::File::create(path)?;
    let length = (header.len() as u64).to_le_bytes().to_vec();
    let values = tensors
        .values()
        .flat_map(|tensor| tensor.values.chunks(CHUNK));
    let values = values.map(|values| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    });
    let mut pieces = [length, header].into_iter().chain(values);
    thread::scope(|scope| {
        let (sender, received) = sync_channel::<Vec<u8>>(QUEUE);
        let writer = thread::Builder::new().spawn_scoped(scope, move || -> io::Result<()> {
            for piece in received {
                file.write_all(&piece)?;
            }
            // A pipe cannot be synced.
            if file.metadata()?.is_file() {
                file.sync_all()?;
            }
            Ok(())
        })?;
        // A writer that has failed receives no more.
        let _ = pieces.try_for_each(|piece: Vec<u8>| {
            digest(&piece);
            sender.send(piece)
        });
        drop(sender);
        writer.join().expect("writing does not panic")
    })?;
    Ok(())
}

/// A safetensors header of f32 tensors in the order of their names, as the crate writes it.
fn header(
    tensors: &NamedTensors,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.values.len() * size_of::<f32>();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (name.clone(), info)
    });
    let header = Metadata::new(metadata, infos.collect())?;
    let mut bytes = serde_json::to_vec(&header)?;
    // The tensors are aligned to 8 bytes.
    bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), b' ');
    Ok(bytes)
}

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length, which a file begins with.
const LENGTH_BYTES: u64 = size_of::<u64>() as u64;

/// Describes all floating-point tensors; reads the header only.
///
/// # Errors
/// If the file cannot be read, differs from its checkpoint's manifest, its header does not describe it, or it holds floats of another
/// dtype.
pub(super) fn open(path: &Path) -> Result<StoredTensors, WeightsError> {
    Manifest::check_path(path)?;
    let (file, header, data_start) = read_header(path)?;
    let file = Arc::new(file);
    let mut tensors = StoredTensors::new();
    for (name, info) in header.tensors() {
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            // Counters and indices; a weight that should be here is missed by name.
            Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::I16
            | Dtype::U16
            | Dtype::I32
            | Dtype::U32
            | Dtype::I64
            | Dtype::U64 => continue,
            dtype => {
                return Err(WeightsError::Dtype {
                    path: path.to_path_buf(),
                    name,
                    dtype: format!("{dtype:?}"),
                });
            }
        };
        let tensor = StoredTensor {
            shape: info.shape.clone(),
            dtype,
            bytes: StoredBytes::At {
                file: file.clone(),
                start: data_start + info.data_offsets.0 as u64,
            },
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// - returns the file, its header, and the position of the first tensor's bytes. The tensors fill
///   the rest of the file without gaps or overlaps.
fn read_header(path: &Path) -> Result<(File, Metadata, u64), WeightsError> {
    let cannot_read = |source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |source| WeightsError::Safetensors {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(cannot_read)?;
    let file_len = file.metadata().map_err(cannot_read)?.len();
    let mut length = [0; size_of::<u64>()];
    if file_len < LENGTH_BYTES {
        let error = SafetensorsError(SafeTensorError::HeaderTooSmall);
        return Err(damaged(HeaderError::Content(error)));
    }
    file.read_exact(&mut length).map_err(cannot_read)?;
    let declared = u64::from_le_bytes(length);
    if declared > file_len - LENGTH_BYTES {
        return Err(damaged(HeaderError::Length {
            declared,
            file: file_len,
        }));
    }
    if declared > MAX_HEADER {
        return Err(damaged(HeaderError::TooLong(declared)));
    }
    let mut bytes = Vec::new();
    (&mut file)
        .take(declared)
        .read_to_end(&mut bytes)
        .map_err(cannot_read)?;
    // Checks every tensor's offsets against its shape, and that they follow one another.
    let header: Metadata = serde_json::from_slice(&bytes).map_err(|error| {
        damaged(if error.is_data() {
            HeaderError::Invalid(error)
        } else {
            HeaderError::Json(error)
        })
    })?;
    let data_start = LENGTH_BYTES + declared;
    let expected = data_start.saturating_add(header.data_len() as u64);
    if expected != file_len {
        return Err(damaged(HeaderError::CutOff {
            expected,
            file: file_len,
        }));
    }
    Ok((file, header, data_start))
}

/// The texts by name that [`save_with`] wrote.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let (_, header, _) = read_header(path)?;
    let texts = header.metadata().clone().unwrap_or_default();
    Ok(texts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::HostTensor;
    use safetensors::tensor::TensorView;

    #[test]
    fn files_are_those_of_the_safetensors_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensor = |shape: &[usize]| HostTensor {
            shape: shape.to_vec(),
            values: (0..shape.iter().product::<usize>())
                .map(|at| f32::from(u16::try_from(at % 1000).unwrap()) - 0.5)
                .collect(),
        };
        let tensors = NamedTensors::from([
            ("b.weight".to_string(), tensor(&[300, 700])),
            ("a".to_string(), tensor(&[1])),
            ("c".to_string(), tensor(&[0, 4])),
        ]);
        let texts = BTreeMap::from([("names".to_string(), "[\"a\"]".to_string())]);
        let digest = save_with(&path, &tensors, texts.clone()).unwrap();
        let bytes: BTreeMap<_, Vec<u8>> = (tensors.iter())
            .map(|(name, tensor)| {
                let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes());
                (name, bytes.collect())
            })
            .collect();
        let views = tensors.iter().map(|(name, tensor)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]);
            (name, view.unwrap())
        });
        let whole = safetensors::serialize(views, Some(texts.into_iter().collect())).unwrap();
        let written = fs::read(&path).unwrap();
        assert!(written == whole);
        assert_eq!(digest, FileDigest::of_bytes(&written));
        assert_eq!(crate::weights::read(&path).unwrap().tensors, tensors);
    }

    /// `cargo test --release -p couplet-model --lib cost_of_digests -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_digests() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("w.safetensors");
        let values = vec![0.1; 150 << 20];
        let tensor = HostTensor {
            shape: vec![values.len()],
            values,
        };
        let tensors = NamedTensors::from([("w".to_string(), tensor)]);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..7 {
            for (with_digest, times) in [false, true].into_iter().zip(&mut times) {
                let mut digest = RunningDigest::default();
                let start = std::time::Instant::now();
                write(&path, &tensors, None, |bytes| {
                    if with_digest {
                        digest.update(bytes);
                    }
                })
                .unwrap();
                times.push(start.elapsed());
            }
        }
        for (what, mut times) in ["without digest", "with digest"].into_iter().zip(times) {
            times.sort();
            eprintln!(
                "600 MiB {what}: {:?} to {:?}, median {:?}",
                times[0], times[6], times[3]
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_have_the_permissions_of_other_new_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let metadata = fs::metadata(folder.path().join(name)).unwrap();
            metadata.permissions().mode()
        };
        fs::write(folder.path().join("plain"), "").unwrap();
        save(&folder.path().join("w.safetensors"), &NamedTensors::new()).unwrap();
        assert_eq!(mode("w.safetensors"), mode("plain"));
    }

    #[test]
    fn half_precision_is_widened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        // 1.5 and -2.0 in bf16, little endian.
        let bytes = [0xC0, 0x3F, 0x00, 0xC0];
        let view = TensorView::new(Dtype::BF16, vec![2], &bytes).unwrap();
        safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
        let tensor = open(&path).unwrap().remove("x").unwrap();
        assert_eq!(tensor.read().unwrap().values, [1.5, -2.0]);
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        fs::write(&path, [1, 2, 3]).unwrap();
        assert!(
            open(&path)
                .unwrap_err()
                .to_string()
                .contains("cut.safetensors")
        );
    }
}
