//! The formats in which a dataset is written. Shards get their final names when they are complete.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::output::{PackError, PackFormat, Pair, at, publish, unfinished};

/// A dataset that is being written.
pub(super) enum Writer {
    Webdataset {
        folder: PathBuf,
        samples_per_shard: usize,
        shards: usize,
        open: Option<tar::Builder<BufWriter<File>>>,
    },
    Csv {
        folder: PathBuf,
        table: Box<csv::Writer<File>>,
    },
    Folder {
        folder: PathBuf,
    },
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::Tables>),
}

const IMAGES: &str = "images";
const TABLE: &str = "pairs.csv";

impl Writer {
    pub fn new(folder: &Path, format: PackFormat) -> Result<Self, PackError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let folder = folder.to_path_buf();
        Ok(match format {
            PackFormat::Webdataset { samples_per_shard } => Self::Webdataset {
                folder,
                samples_per_shard: samples_per_shard.max(1),
                shards: 0,
                open: None,
            },
            PackFormat::Csv => {
                let images = folder.join(IMAGES);
                fs::create_dir_all(&images).map_err(at(&images))?;
                let path = folder.join(TABLE);
                let mut table = csv::Writer::from_writer(File::create(&path).map_err(at(&path))?);
                table
                    .write_record(["filepath", "title"])
                    .map_err(|error| at(&path)(error.into()))?;
                let table = Box::new(table);
                Self::Csv { folder, table }
            }
            PackFormat::Folder => Self::Folder { folder },
            #[cfg(feature = "parquet")]
            PackFormat::Parquet { rows_per_file } => {
                Self::Parquet(Box::new(super::parquet::Tables::new(folder, rows_per_file)))
            }
            #[cfg(not(feature = "parquet"))]
            PackFormat::Parquet { .. } => {
                return Err(at(&folder)(std::io::Error::other(
                    "this binary was built without Parquet; build it with the feature `parquet`, which is on by default",
                )));
            }
        })
    }

    /// - index: the sample's index among those written.
    pub fn write(&mut self, index: usize, pair: &Pair) -> Result<(), PackError> {
        let key = format!("{index:08}");
        let image = format!("{key}.{}", pair.extension);
        match self {
            Self::Webdataset {
                folder,
                samples_per_shard,
                shards,
                open,
            } => {
                if open.is_some() && index.is_multiple_of(*samples_per_shard) {
                    finish_shard(folder, *shards, open)?;
                    *shards += 1;
                }
                let path = unfinished(folder, &shard_name(*shards));
                let shard = if let Some(shard) = open {
                    shard
                } else {
                    let file = File::create(&path).map_err(at(&path))?;
                    open.insert(tar::Builder::new(BufWriter::new(file)))
                };
                let caption = format!("{key}.txt");
                for (name, bytes) in [
                    (&image, &pair.bytes[..]),
                    (&caption, pair.caption.as_bytes()),
                ] {
                    let mut header = tar::Header::new_ustar();
                    header.set_size(bytes.len() as u64);
                    header.set_mode(0o644);
                    shard
                        .append_data(&mut header, name, bytes)
                        .map_err(at(&path))?;
                }
            }
            Self::Csv { folder, table } => {
                let name = format!("{IMAGES}/{image}");
                let path = folder.join(&name);
                fs::write(&path, &pair.bytes).map_err(at(&path))?;
                table
                    .write_record([&name, &pair.caption])
                    .map_err(|error| at(&folder.join(TABLE))(error.into()))?;
            }
            Self::Folder { folder } => {
                let path = folder.join(&image);
                fs::write(&path, &pair.bytes).map_err(at(&path))?;
                let path = folder.join(format!("{key}.txt"));
                fs::write(&path, &pair.caption).map_err(at(&path))?;
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(tables) => tables.write(pair)?,
        }
        Ok(())
    }

    /// - returns the number of shards or tables written.
    pub fn finish(self) -> Result<usize, PackError> {
        match self {
            Self::Webdataset {
                folder,
                shards,
                mut open,
                ..
            } => {
                let last = usize::from(open.is_some());
                finish_shard(&folder, shards, &mut open)?;
                Ok(shards + last)
            }
            Self::Csv { folder, mut table } => {
                table.flush().map_err(at(&folder.join(TABLE)))?;
                Ok(1)
            }
            Self::Folder { .. } => Ok(0),
            #[cfg(feature = "parquet")]
            Self::Parquet(tables) => tables.finish(),
        }
    }
}

fn shard_name(shard: usize) -> String {
    format!("{shard:06}.tar")
}

fn finish_shard(
    folder: &Path,
    shard: usize,
    open: &mut Option<tar::Builder<BufWriter<File>>>,
) -> Result<(), PackError> {
    let Some(builder) = open.take() else {
        return Ok(());
    };
    let path = unfinished(folder, &shard_name(shard));
    let buffer = builder.into_inner().map_err(at(&path))?;
    let file = buffer
        .into_inner()
        .map_err(|error| at(&path)(error.into_error()))?;
    publish(&file, &path, &folder.join(shard_name(shard)))
}
