//! One file: resumed, bounded, checked, and only then put in its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::client::{Answer, Client, Failure, Linked, Method, Payload};
use crate::digest;
use crate::error::HubError;
use crate::progress::Progress;

/// Bytes that are read at a time; cancellation is looked at in between.
const CHUNK: usize = 256 * 1024;

/// Bytes that are accepted if nobody announced a size.
const UNANNOUNCED: u64 = 64 << 20;

/// Bytes after which a cut transfer counts as progress, which gives it all its attempts again.
const HEADWAY: u64 = 64 * 1024;

/// How often another process's lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A file to download.
pub(crate) struct Target<'a> {
    /// Its name, for messages.
    pub(crate) name: &'a str,
    pub(crate) address: Address,
    /// What it must be.
    pub(crate) expected: Expected,
    /// Where it goes. The part that is there already is beside it, with `.incomplete` behind its name.
    pub(crate) destination: PathBuf,
    /// The file that processes lock while they download it.
    pub(crate) lock: PathBuf,
}

/// What is known of a file before it is downloaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) size: Option<u64>,
    /// SHA-256, or its first digits.
    pub(crate) sha256: Option<String>,
    /// Git's hash of the content.
    pub(crate) git: Option<String>,
}

impl Expected {
    /// What a hash of the hub's says: SHA-256 of large files, git's of small ones.
    pub(crate) fn of_etag(etag: &str, size: Option<u64>) -> Self {
        let is_hash = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = |length| (is_hash && etag.len() == length).then(|| etag.to_ascii_lowercase());
        Self {
            size,
            sha256: hash(64),
            git: hash(40),
        }
    }

    fn is_checkable(&self) -> bool {
        self.sha256.is_some() || self.git.is_some()
    }
}

/// Downloads a file, unless it is there, or waits until another process has.
pub(crate) fn download(
    client: &Client,
    target: &Target<'_>,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    for file in [&target.destination, &target.lock] {
        let folder = file.parent().expect("a file of the cache is in a folder");
        fs::create_dir_all(folder).map_err(|source| HubError::io("create", folder, source))?;
    }
    let _lock = lock(client, target, progress)?;
    if target.destination.is_file() {
        return Ok(());
    }
    let incomplete = beside(&target.destination, ".incomplete");
    let resumed = fs::metadata(&incomplete).is_ok_and(|there| there.len() > 0);
    let linked = transfer(client, target, &incomplete, progress).inspect_err(|_| {
        // Nothing to go on from, so nothing stays.
        if fs::metadata(&incomplete).is_ok_and(|there| there.len() == 0) {
            let _ = remove(&incomplete);
        }
    })?;
    if let Err(error) = check(target, &linked, &incomplete) {
        remove(&incomplete)?;
        // What was there before may have been of another content; that is nobody's fault today.
        if !resumed
            || !matches!(
                error,
                HubError::HashMismatch { .. } | HubError::SizeMismatch { .. }
            )
        {
            return Err(error);
        }
        let linked = transfer(client, target, &incomplete, progress)?;
        if let Err(error) = check(target, &linked, &incomplete) {
            remove(&incomplete)?;
            return Err(error);
        }
    }
    fs::rename(&incomplete, &target.destination)
        .map_err(|source| HubError::io("rename", &incomplete, source))?;
    let _ = fs::remove_file(beside(&incomplete, ".validator"));
    sync_folder(&target.destination);
    progress.finished(target.name);
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), HubError> {
    let _ = fs::remove_file(beside(path, ".validator"));
    fs::remove_file(path).map_err(|source| HubError::io("delete", path, source))
}

/// A rename lasts only once its folder is on the disk. Not every system can do that, and the file itself is safe.
fn sync_folder(path: &Path) {
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
}

/// Takes the lock that huggingface_hub takes too (`flock`). File systems without locks go on without.
fn lock(
    client: &Client,
    target: &Target<'_>,
    progress: &mut dyn Progress,
) -> Result<Option<File>, HubError> {
    let open = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&target.lock);
    let file = open.map_err(|source| HubError::io("create", &target.lock, source))?;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        if !is_told {
            progress.waiting(
                &format!("another process downloads `{}`", target.name),
                LOCK_PAUSE,
            );
            is_told = true;
        }
        client.sleep(LOCK_PAUSE, progress)?;
    }
}

/// Fills the incomplete file, over as many connections as it takes.
fn transfer(
    client: &Client,
    target: &Target<'_>,
    incomplete: &Path,
    progress: &mut dyn Progress,
) -> Result<Linked, HubError> {
    let open = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(incomplete);
    let mut file = open.map_err(|source| HubError::io("create", incomplete, source))?;
    let mut part = Part {
        client,
        target,
        path: incomplete,
        done: 0,
        linked: Linked::default(),
    };
    let length = file
        .metadata()
        .map_err(|source| HubError::io("read", incomplete, source))?
        .len();
    part.done = length;
    progress.started(target.name, length, target.expected.size);
    let mut tried = 0;
    loop {
        if client.is_stopped(progress) {
            return Err(HubError::Cancelled);
        }
        let before = part.done;
        match part.attempt(&mut file, progress) {
            Ok(()) => break,
            Err(failure) => {
                tried = if part.done >= before.saturating_add(HEADWAY) {
                    1
                } else {
                    tried + 1
                };
                client.pause(failure, tried, progress)?;
            }
        }
    }
    file.sync_all()
        .map_err(|source| HubError::io("write", incomplete, source))?;
    Ok(part.linked)
}

struct Part<'a> {
    client: &'a Client,
    target: &'a Target<'a>,
    path: &'a Path,
    /// Bytes on the disk.
    done: u64,
    linked: Linked,
}

impl Part<'_> {
    fn attempt(&mut self, file: &mut File, progress: &mut dyn Progress) -> Result<(), Failure> {
        let expected = self.target.expected.size;
        if expected.is_some_and(|size| self.done > size) {
            self.restart(file)?;
        }
        if self.done > 0 && expected == Some(self.done) {
            return Ok(());
        }
        let validator = fs::read_to_string(self.validator_file()).ok();
        // Without a hash, only the server can tell whether the rest belongs to what is there.
        if self.done > 0 && !self.target.expected.is_checkable() && validator.is_none() {
            self.restart(file)?;
        }
        let mut headers = Vec::new();
        if self.done > 0 {
            headers.push(("range", format!("bytes={}-", self.done)));
            if let Some(validator) = validator.filter(|_| !self.target.expected.is_checkable()) {
                headers.push(("if-range", validator));
            }
        }
        let mut answer =
            self.client
                .send(Method::Get, &self.target.address, &headers, Payload::None)?;
        self.note(&answer)?;
        if answer.status == 416 && self.done > 0 {
            // Either everything is there, which the check will tell, or nothing of it is of use.
            if answer.header("content-range").and_then(total_of) == Some(self.done) {
                return Ok(());
            }
            self.restart(file)?;
            return Err(self.cut(
                io::Error::other("the server cannot go on from there"),
                expected,
            ));
        }
        if !matches!(answer.status, 200 | 206) {
            return Err(self.client.refused(&mut answer));
        }
        if let Some(encoding) = answer
            .header("content-encoding")
            .filter(|encoding| *encoding != "identity")
        {
            let problem = format!(
                "it is packed ({}), which was not asked for",
                crate::error::printable(encoding)
            );
            return Err(Failure::Final(HubError::Protocol {
                url: answer.address.to_string(),
                problem,
            }));
        }
        let total = self.begin(&answer, file)?;
        self.write_validator(&answer);
        self.receive(answer, file, total, progress)
    }

    /// What the hub says of the file must not contradict its own listing.
    fn note(&mut self, answer: &Answer) -> Result<(), Failure> {
        let linked = &answer.linked;
        let announced = Expected::of_etag(linked.etag.as_deref().unwrap_or_default(), linked.size);
        let expected = &self.target.expected;
        let differ = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => {
                !one.starts_with(other.as_str()) && !other.starts_with(one.as_str())
            }
            _ => false,
        };
        let problem = if differ(&announced.sha256, &expected.sha256) {
            format!(
                "it announces another hash of `{}` than before",
                self.target.name
            )
        } else if answer.status == 200
            && matches!((linked.size, expected.size), (Some(one), Some(other)) if one != other)
        {
            format!(
                "it announces another size of `{}` than before",
                self.target.name
            )
        } else {
            if linked.etag.is_some() {
                self.linked = linked.clone();
            }
            return Ok(());
        };
        Err(Failure::Final(HubError::Protocol {
            url: self.target.address.to_string(),
            problem,
        }))
    }

    /// Puts the file where the answer's body begins, and returns the size of the whole.
    fn begin(&mut self, answer: &Answer, file: &mut File) -> Result<Option<u64>, Failure> {
        let expected = self.target.expected.size;
        let length = answer.number("content-length");
        let total = if answer.status == 206 {
            let range = answer.header("content-range").unwrap_or_default();
            if range_start(range) != Some(self.done) {
                self.restart(file)?;
                return Err(self.cut(
                    io::Error::other("the server sent another part than was asked for"),
                    expected,
                ));
            }
            let sought = file.seek(SeekFrom::Start(self.done));
            sought.map_err(|source| Failure::Final(HubError::io("write", self.path, source)))?;
            total_of(range).or_else(|| length.map(|length| length + self.done))
        } else {
            self.restart(file)?;
            length
        };
        if let (Some(expected), Some(found)) = (expected, total)
            && expected != found
        {
            self.restart(file)?;
            let (file, url) = (self.target.name.to_owned(), answer.address.to_string());
            return Err(Failure::Final(HubError::SizeMismatch {
                file,
                url,
                expected,
                found,
            }));
        }
        Ok(expected.or(total))
    }

    fn receive(
        &mut self,
        answer: Answer,
        file: &mut File,
        total: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        let limit = total.unwrap_or(UNANNOUNCED);
        let url = answer.address.to_string();
        let mut body = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.client.is_stopped(progress) {
                return Err(Failure::Final(HubError::Cancelled));
            }
            let read = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read as u64,
                Err(source) if self.client.is_stopped(progress) => {
                    drop(source);
                    return Err(Failure::Final(HubError::Cancelled));
                }
                Err(source) => return Err(self.cut(source, total)),
            };
            if self.done + read > limit {
                self.restart(file)?;
                let error = match total {
                    Some(expected) => HubError::SizeMismatch {
                        file: self.target.name.to_owned(),
                        url,
                        expected,
                        found: expected + 1,
                    },
                    None => HubError::Endless { url, limit },
                };
                return Err(Failure::Final(error));
            }
            let written =
                file.write_all(&chunk[..usize::try_from(read).expect("a chunk's length")]);
            written.map_err(|source| Failure::Final(HubError::io("write", self.path, source)))?;
            self.done += read;
            progress.advanced(self.target.name, self.done, total);
        }
        if total.is_some_and(|total| self.done < total) {
            return Err(self.cut(io::ErrorKind::UnexpectedEof.into(), total));
        }
        Ok(())
    }

    fn cut(&self, source: io::Error, expected: Option<u64>) -> Failure {
        let (file, url) = (self.target.name.to_owned(), self.target.address.to_string());
        Failure::Again(
            HubError::Cut {
                file,
                url,
                received: self.done,
                expected,
                attempts: 1,
                source,
            },
            None,
        )
    }

    fn restart(&mut self, file: &mut File) -> Result<(), Failure> {
        self.done = 0;
        let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        emptied
            .map(drop)
            .map_err(|source| Failure::Final(HubError::io("write", self.path, source)))
    }

    fn validator_file(&self) -> PathBuf {
        beside(self.path, ".validator")
    }

    /// Keeps what `If-Range` needs: a strong ETag, or the date of the last change.
    fn write_validator(&self, answer: &Answer) {
        if self.target.expected.is_checkable() {
            return;
        }
        let etag = answer.header("etag").filter(|etag| etag.starts_with('"'));
        match etag.or_else(|| answer.header("last-modified")) {
            // Without it, the next run begins anew, so a failure here is none.
            Some(validator) => drop(fs::write(self.validator_file(), validator)),
            None => drop(fs::remove_file(self.validator_file())),
        }
    }
}

/// `bytes 5-9/10`: 5.
fn range_start(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}

/// `bytes 5-9/10` or `bytes */10`: 10.
fn total_of(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes ")?
        .split_once('/')?
        .1
        .trim()
        .parse()
        .ok()
}

/// Holds the whole file against everything that was announced.
fn check(target: &Target<'_>, linked: &Linked, incomplete: &Path) -> Result<(), HubError> {
    let found = digest::of_file(incomplete)?;
    let announced = Expected::of_etag(linked.etag.as_deref().unwrap_or_default(), linked.size);
    let (file, url) = (target.name.to_owned(), target.address.to_string());
    if let Some(expected) = target
        .expected
        .size
        .or(announced.size)
        .filter(|size| *size != found.size)
    {
        return Err(HubError::SizeMismatch {
            file,
            url,
            expected,
            found: found.size,
        });
    }
    // An ETag of 40 digits is git's hash on Hugging Face's own hub, but SHA-1 of the content on some mirrors, so only the
    // listing's is checked.
    let checks = [
        (
            "SHA-256",
            target.expected.sha256.clone(),
            found.sha256.clone(),
        ),
        ("SHA-256", announced.sha256, found.sha256),
        ("git hash", target.expected.git.clone(), found.git),
    ];
    for (algorithm, expected, found) in checks {
        if let Some(expected) = expected
            && !found.starts_with(&expected)
        {
            return Err(HubError::HashMismatch {
                file,
                url,
                algorithm,
                expected,
                found,
            });
        }
    }
    Ok(())
}
