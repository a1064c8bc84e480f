//! Writes an index, and goes on with one that was interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use couplet_data::labelled::{LabelledBatch, LabelledDataset, Targets};
use couplet_data::{Fingerprint, Skipped};
use couplet_eval::{Encoder, for_each_batch};

use crate::error::IndexError;
use crate::files::{FEATURES_FILE, HEADER, LOCK_FILE, OFFSETS_FILE, ROWS_FILE, Row, SKIPPED_FILE};
use crate::manifest::{FORMAT, MANIFEST_FILE, Manifest, ModelMark, UNFINISHED, feature_bytes};

/// What may be in an index's folder before there is an index: its manifest is written before all other files.
const OWN: [&str; 2] = [LOCK_FILE, UNFINISHED];
/// Images that are encoded at once.
const BATCH: usize = 64;
/// What is done at such intervals is kept when the program is interrupted.
const COMMIT: Duration = Duration::from_secs(5);

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
}

/// An index that was written.
#[derive(Debug)]
pub struct Built {
    pub manifest: Manifest,
    /// Images that had been done before.
    pub before: usize,
}

/// Writes the index of images into a folder, or goes on with the one that is there.
/// - images: where `dataset` was found, whose paths are kept.
/// - overwrite: begin again, whatever index is there.
/// - max_image_pixels: larger images are skipped.
/// - skipped: called with every image that cannot be used; progress: after every batch.
///
/// # Errors
/// If the folder holds something else, or the index of another model or other images, or cannot be written.
pub fn build(
    folder: &Path,
    encoder: &Encoder,
    (images, dataset): (&[PathBuf], &LabelledDataset),
    overwrite: bool,
    max_image_pixels: u64,
    mut skipped: impl FnMut(&Skipped),
    mut progress: impl FnMut(Progress),
) -> Result<Built, IndexError> {
    let wanted = manifest(encoder, images, dataset)?;
    let mut writer = Writer::open(folder, wanted, overwrite)?;
    let before = writer.manifest.done;
    let total = dataset.len();
    progress(Progress {
        done: before,
        total,
    });
    let ranges = (before..total)
        .step_by(BATCH)
        .map(|start| start..total.min(start + BATCH));
    let transform = encoder.transform();
    for_each_batch(
        dataset,
        transform,
        max_image_pixels,
        ranges,
        |batch, end| {
            for one in &batch.skipped {
                skipped(one);
            }
            writer.append(encoder, dataset, batch, end)?;
            progress(Progress { done: end, total });
            Ok::<(), IndexError>(())
        },
    )?;
    writer.commit()?;
    Ok(Built {
        manifest: writer.manifest,
        before,
    })
}

fn manifest(
    encoder: &Encoder,
    images: &[PathBuf],
    dataset: &LabelledDataset,
) -> Result<Manifest, IndexError> {
    let mut fingerprint = Fingerprint::new("couplet index 1");
    dataset.fingerprint(&mut fingerprint);
    Ok(Manifest {
        format: FORMAT,
        model: ModelMark::of(encoder)?,
        embed_dim: encoder.spec().embed_dim,
        images: images.to_vec(),
        total: dataset.len(),
        images_fingerprint: format!("{:016x}", std::hash::Hasher::finish(&fingerprint)),
        done: 0,
        rows: 0,
        skipped: 0,
        row_bytes: 0,
        skipped_bytes: 0,
    })
}

/// The files of an index, behind what the manifest says.
struct Writer {
    folder: PathBuf,
    /// As it was when it was last written.
    manifest: Manifest,
    features: BufWriter<File>,
    rows: BufWriter<File>,
    offsets: BufWriter<File>,
    skipped: BufWriter<File>,
    committed: Instant,
    /// Held as long as the writer lives.
    _lock: File,
}

impl Writer {
    fn open(folder: &Path, wanted: Manifest, overwrite: bool) -> Result<Self, IndexError> {
        fs::create_dir_all(folder).map_err(IndexError::io(folder))?;
        let has_manifest = || folder.join(MANIFEST_FILE).exists();
        if !has_manifest() {
            check_empty(folder)?;
        }
        let lock = locked(folder)?;
        // Another process may just have begun or finished it.
        let manifest = if has_manifest() && !overwrite {
            continued(folder, wanted)?
        } else {
            wanted.write(folder)?;
            wanted
        };
        let is_new = manifest.done == 0;
        let open = |name: &str, length: u64| -> Result<BufWriter<File>, IndexError> {
            let path = folder.join(name);
            let open = || {
                let mut file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)?;
                let found = file.metadata()?.len();
                if found < length {
                    return Ok(Err(format!("it has {found} bytes of {length}")));
                }
                // What was written after the manifest.
                file.set_len(length)?;
                file.seek(SeekFrom::End(0))?;
                Ok(Ok(BufWriter::with_capacity(1 << 20, file)))
            };
            let opened = open().map_err(IndexError::io(&path))?;
            opened.map_err(|message| IndexError::damaged(&path, message))
        };
        let header = if is_new { 0 } else { HEADER as u64 };
        let mut writer = Self {
            features: open(
                FEATURES_FILE,
                header + feature_bytes(manifest.rows, manifest.embed_dim),
            )?,
            rows: open(ROWS_FILE, manifest.row_bytes)?,
            offsets: open(OFFSETS_FILE, (manifest.rows * size_of::<u64>()) as u64)?,
            skipped: open(SKIPPED_FILE, manifest.skipped_bytes)?,
            folder: folder.to_path_buf(),
            manifest,
            committed: Instant::now(),
            _lock: lock,
        };
        if is_new {
            let path = folder.join(FEATURES_FILE);
            writer
                .features
                .write_all(&[b' '; HEADER])
                .map_err(IndexError::io(&path))?;
            writer.commit()?;
        }
        Ok(writer)
    }

    /// Adds the images up to `end`.
    fn append(
        &mut self,
        encoder: &Encoder,
        dataset: &LabelledDataset,
        batch: LabelledBatch,
        end: usize,
    ) -> Result<(), IndexError> {
        let failed = IndexError::io(&self.folder);
        let LabelledBatch {
            pixels,
            indices,
            skipped,
        } = batch;
        if !indices.is_empty() {
            let features = encoder.image_rows(pixels, |row| {
                let (file, key) = dataset.locate(indices[row]);
                format!("{file}: {key}")
            })?;
            let bytes: &[u8] = bytemuck::cast_slice(&features);
            self.features.write_all(bytes).map_err(&failed)?;
        }
        for image in &indices {
            let (file, key) = dataset.locate(*image);
            let captions = match dataset.targets() {
                Targets::Captions(captions) => captions[*image].clone(),
                _ => Vec::new(),
            };
            let line = line(&Row {
                image: *image,
                file,
                key,
                captions,
            });
            let offset = self.manifest.row_bytes.to_le_bytes();
            self.offsets.write_all(&offset).map_err(&failed)?;
            self.rows.write_all(&line).map_err(&failed)?;
            self.manifest.row_bytes += line.len() as u64;
        }
        for one in &skipped {
            let line = line(one);
            self.skipped.write_all(&line).map_err(&failed)?;
            self.manifest.skipped_bytes += line.len() as u64;
        }
        self.manifest.rows += indices.len();
        self.manifest.skipped += skipped.len();
        self.manifest.done = end;
        if self.committed.elapsed() > COMMIT {
            self.commit()?;
        }
        Ok(())
    }

    /// Makes what is written last: data first, then the manifest that says how much of it counts.
    fn commit(&mut self) -> Result<(), IndexError> {
        let failed = IndexError::io(&self.folder);
        let header = npy_header(self.manifest.rows, self.manifest.embed_dim);
        let finish = |files: &mut Self| -> std::io::Result<()> {
            files.features.seek(SeekFrom::Start(0))?;
            files.features.write_all(&header)?;
            files.features.seek(SeekFrom::End(0))?;
            for file in [
                &mut files.features,
                &mut files.rows,
                &mut files.offsets,
                &mut files.skipped,
            ] {
                file.flush()?;
                file.get_ref().sync_data()?;
            }
            Ok(())
        };
        finish(self).map_err(failed)?;
        self.manifest.write(&self.folder)?;
        self.committed = Instant::now();
        Ok(())
    }
}

/// The index in a folder, if it is of the same model and images.
fn continued(folder: &Path, wanted: Manifest) -> Result<Manifest, IndexError> {
    let found = Manifest::read(folder)?;
    let differs = |what: &str| {
        let message = format!(
            "the index is of {what}; give another folder with --out, or replace this one with --overwrite"
        );
        Err(IndexError::other(folder, message))
    };
    if found.model.fingerprint != wanted.model.fingerprint {
        return differs(&format!("another model, {}", found.model.weights.display()));
    }
    if found.images_fingerprint != wanted.images_fingerprint {
        return differs("other images, or these have changed since");
    }
    Ok(Manifest {
        model: wanted.model,
        images: wanted.images,
        ..found
    })
}

/// A folder that holds something else is no place for an index.
fn check_empty(folder: &Path) -> Result<(), IndexError> {
    let entries = fs::read_dir(folder).map_err(IndexError::io(folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !OWN.iter().any(|own| name == *own) {
            let message = format!(
                "the folder holds {} and no index; give an empty or a new folder with --out",
                name.to_string_lossy()
            );
            return Err(IndexError::other(folder, message));
        }
    }
    Ok(())
}

fn locked(folder: &Path) -> Result<File, IndexError> {
    let path = folder.join(LOCK_FILE);
    let lock = File::create(&path).map_err(IndexError::io(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            let message = "another process writes this index";
            Err(IndexError::other(folder, message))
        }
        Err(fs::TryLockError::Error(error)) => Err(IndexError::io(&path)(error)),
    }
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("rows serialize");
    line.push(b'\n');
    line
}

/// The header of NumPy's format, version 1.0, for `[rows, width]` in little-endian f32, rows first.
pub fn npy_header(rows: usize, width: usize) -> [u8; HEADER] {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let length = HEADER - MAGIC.len() - 2;
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let mut header = [b' '; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    let bytes = u16::try_from(length)
        .expect("the header is short")
        .to_le_bytes();
    header[MAGIC.len()..][..2].copy_from_slice(&bytes);
    header[MAGIC.len() + 2..][..text.len()].copy_from_slice(text.as_bytes());
    header[HEADER - 1] = b'\n';
    header
}
