//! A shard that is read from front to back, on disk or in an object store, compressed or not.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::formats::packing::Packing;
use crate::formats::storage;

#[derive(Debug)]
pub(crate) struct Shard {
    place: Place,
    /// How it is compressed, once that is known.
    packing: OnceLock<Option<Packing>>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    #[cfg(feature = "object-store")]
    Object(storage::Object),
}

impl Shard {
    pub fn file(path: PathBuf) -> Self {
        Self {
            place: Place::File(path),
            packing: OnceLock::new(),
        }
    }

    #[cfg(feature = "object-store")]
    pub fn object(object: storage::Object) -> Self {
        Self {
            place: Place::Object(object),
            packing: OnceLock::new(),
        }
    }

    /// The object, if the shard is in a store.
    #[cfg(feature = "object-store")]
    pub fn as_object(&self) -> Option<&storage::Object> {
        match &self.place {
            Place::Object(object) => Some(object),
            Place::File(_) => None,
        }
    }

    /// Whether the shard is compressed, once it has been opened.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.packing.get(), Some(Some(_)))
    }

    /// The tar file's bytes from `offset` on. A compressed shard is decompressed from its beginning.
    pub(super) fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        let known = self.packing.get().copied();
        let packing = if let Some(packing) = known {
            packing
        } else {
            let mut bytes = self.place.open(0)?;
            let mut start = Vec::new();
            bytes.by_ref().take(Packing::MARK).read_to_end(&mut start)?;
            let packing = *self.packing.get_or_init(|| Packing::of(&start));
            if offset == 0 {
                let whole: Box<dyn Read> = Box::new(io::Cursor::new(start).chain(bytes));
                return match packing {
                    Some(packing) => packing.decode(whole),
                    None => Ok(whole),
                };
            }
            packing
        };
        let Some(packing) = packing else {
            return self.place.open(offset);
        };
        let mut bytes = packing.decode(self.place.open(0)?)?;
        io::copy(&mut bytes.by_ref().take(offset), &mut io::sink())?;
        Ok(bytes)
    }

    /// The shard's length in bytes, as it is stored.
    pub(super) fn len(&self) -> io::Result<u64> {
        match &self.place {
            Place::File(path) => Ok(path.metadata()?.len()),
            #[cfg(feature = "object-store")]
            Place::Object(object) => object.len(),
        }
    }
}

impl Place {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        match self {
            Self::File(path) => storage::open_file(path, offset),
            #[cfg(feature = "object-store")]
            Self::Object(object) => Ok(object.open(offset)),
        }
    }
}
