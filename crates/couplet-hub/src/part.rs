//! One connection of a download: the part of a file that it brings.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::answer::{Answer, Linked};
use crate::client::{Client, Method, Payload};
use crate::error::{HubError, printable};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::target::{Expected, Target, beside};

/// Bytes that are read at a time; cancellation is looked at in between.
const CHUNK: usize = 256 * 1024;

/// Bytes that are accepted if nobody announced a size.
const UNANNOUNCED: u64 = 64 << 20;

/// A file that is filled.
pub(crate) struct Part<'a> {
    pub(crate) client: &'a Client,
    pub(crate) target: &'a Target<'a>,
    pub(crate) path: &'a Path,
    /// Bytes on the disk.
    pub(crate) done: u64,
    pub(crate) linked: Linked,
}

impl Part<'_> {
    /// Brings as much of the file as one connection does.
    pub(crate) fn attempt(
        &mut self,
        file: &mut File,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
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
        let mut answer = self
            .client
            .send(Method::Get, &self.target.address, &headers, Payload::None)
            .map_err(|failure| match failure {
                // A network that went away in the middle of a file may come back.
                Failure::Final(error)
                    if self.done > 0 && matches!(*error, HubError::Unreachable { .. }) =>
                {
                    Failure::passing(*error)
                }
                failure => failure,
            })?;
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
        self.note(&answer)?;
        if let Some(encoding) = answer
            .header("content-encoding")
            .filter(|encoding| *encoding != "identity")
        {
            let problem = format!(
                "it is packed ({}), which was not asked for",
                printable(encoding)
            );
            return Err(Failure::last(HubError::Protocol {
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
        Err(Failure::last(HubError::Protocol {
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
            sought.map_err(|source| Failure::last(HubError::io("write", self.path, source)))?;
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
            return Err(Failure::last(HubError::SizeMismatch {
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
                return Err(Failure::last(HubError::Cancelled));
            }
            let read = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read as u64,
                Err(source) if self.client.is_stopped(progress) => {
                    drop(source);
                    return Err(Failure::last(HubError::Cancelled));
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
                return Err(Failure::last(error));
            }
            let written =
                file.write_all(&chunk[..usize::try_from(read).expect("a chunk's length")]);
            written.map_err(|source| Failure::last(HubError::io("write", self.path, source)))?;
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
        Failure::passing(HubError::Cut {
            file,
            url,
            received: self.done,
            expected,
            attempts: 1,
            source,
        })
    }

    fn restart(&mut self, file: &mut File) -> Result<(), Failure> {
        self.done = 0;
        let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        emptied
            .map(drop)
            .map_err(|source| Failure::last(HubError::io("write", self.path, source)))
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
