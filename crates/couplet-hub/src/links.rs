//! Weights that are one file behind a link.

use std::fs;
use std::path::{Path, PathBuf};

use crate::address::Address;
use crate::client::Client;
use crate::digest;
use crate::download;
use crate::error::HubError;
use crate::pretrained::Pretrained;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::target::{Expected, Target};

/// A row's link, and where its file is kept.
pub(crate) struct Link {
    pub(crate) file: String,
    /// Where it is asked for: the mirror's link if there is one.
    pub(crate) address: Address,
    sha256: String,
    destination: PathBuf,
    lock: PathBuf,
}

impl Link {
    /// The link of a row, if it has one.
    pub(crate) fn of(row: &Pretrained, settings: &Settings) -> Option<Self> {
        let (link, sha256) = (row.link?, row.sha256?);
        let origin = Address::parse(link).expect("a test reads every link of the table");
        let file = origin
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let address = match &settings.mirror {
            Some(mirror) => mirror.with(&format!("{}{}", origin.host, origin.path())),
            None => origin,
        };
        let folder = settings.link_cache.join("weights");
        let name = format!("{}-{file}", &sha256[..8]);
        let (destination, lock) = (
            folder.join(&name),
            folder.join(".locks").join(format!("{name}.lock")),
        );
        Some(Self {
            file,
            address,
            sha256: sha256.to_owned(),
            destination,
            lock,
        })
    }

    /// Whether our own cache has the file.
    pub(crate) fn is_downloaded(&self) -> bool {
        self.destination.is_file()
    }

    /// The file, if a cache has it: our own, whose files were checked, or another program's, which is checked now.
    pub(crate) fn cached(&self, settings: &Settings) -> Option<PathBuf> {
        if self.destination.is_file() {
            return Some(self.destination.clone());
        }
        settings
            .other_caches
            .iter()
            .map(|folder| folder.join(&self.file))
            .find(|path| self.is_at(path))
    }

    fn is_at(&self, path: &Path) -> bool {
        path.is_file()
            && digest::of_file(path).is_ok_and(|found| found.sha256.starts_with(&self.sha256))
    }

    /// The size on the disk of a file that is cached.
    pub(crate) fn size(path: &Path) -> Option<u64> {
        fs::metadata(path).ok().map(|there| there.len())
    }

    /// Downloads the file and checks it.
    pub(crate) fn download(
        &self,
        client: &Client,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let expected = Expected {
            sha256: Some(self.sha256.clone()),
            ..Expected::default()
        };
        let target = Target {
            name: &self.file,
            address: self.address.clone(),
            expected,
            destination: self.destination.clone(),
            lock: self.lock.clone(),
        };
        download::download(client, &target, progress)?;
        Ok(self.destination.clone())
    }
}
