//! `train.log`: what a run printed, each line with its time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use couplet_model::{FileDigest, RunningDigest};

use crate::checkpoint::Identity;
use crate::timestamp;

/// The log of a run's text. Lines that are written before the run begins are kept until then, so that a
/// run that cannot begin leaves its folder as it is. A resumed run appends.
#[derive(Debug, Clone)]
pub struct TextLog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    /// Lines of before the run.
    early: Vec<u8>,
    file: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    identity: Identity,
    digest: RunningDigest,
}

impl TextLog {
    /// A log that is not opened yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(State {
            path: path.to_path_buf(),
            early: Vec::new(),
            file: None,
        })))
    }

    /// Appends a text; each of its lines gets the time.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let now = timestamp::now();
        let lines = if text.is_empty() { "\n" } else { text };
        let lines: String = (lines.lines())
            .map(|line| format!("{now} {line}").trim_end().to_string() + "\n")
            .collect();
        self.lock().append(lines.as_bytes())
    }

    /// Opens the file and writes the lines so far.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn open(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.file.is_some() {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&state.path)?;
        let mut digest = RunningDigest::default();
        digest.read(&mut file)?;
        let identity = Identity::of_file(&file)?;
        state.file = Some(Opened {
            file,
            identity,
            digest,
        });
        // The process before may have ended within a line.
        let mut early = std::mem::take(&mut state.early);
        if !ends_with_newline(&state.path)? {
            early.insert(0, b'\n');
        }
        state.append(&early)
    }

    /// Syncs the file to disk.
    /// - returns its length and digest; `None` if it is not open, or no longer at its path.
    pub(crate) fn sync(&self) -> Option<FileDigest> {
        let state = self.lock();
        let opened = state.file.as_ref()?;
        let is_in_place = Identity::of_path(&state.path).ok() == Some(opened.identity);
        let is_synced = is_in_place && opened.file.sync_data().is_ok();
        is_synced.then(|| opened.digest.digest())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file is empty or ends with a whole line.
fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

impl State {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(opened) = &mut self.file else {
            self.early.extend_from_slice(bytes);
            return Ok(());
        };
        opened.file.write_all(bytes)?;
        opened.digest.update(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_their_time_and_wait_for_the_run_to_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        let log = TextLog::new(&path);
        log.write("one\n  two").unwrap();
        log.write("").unwrap();
        assert!(!path.exists() && log.sync().is_none());
        log.open().unwrap();
        log.write("three").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let without_time: Vec<&str> = text.lines().map(|line| &line[20..]).collect();
        assert_eq!(without_time, [" one", "   two", "", " three"]);
        assert!(text.starts_with("20") && text[..21].ends_with("Z "));
        assert_eq!(log.sync(), Some(FileDigest::of_bytes(text.as_bytes())));

        let resumed = TextLog::new(&path);
        resumed.open().unwrap();
        resumed.write("four").unwrap();
        let longer = std::fs::read_to_string(&path).unwrap();
        assert!(longer.starts_with(&text) && longer.ends_with(" four\n"));
        assert_eq!(
            resumed.sync(),
            Some(FileDigest::of_bytes(longer.as_bytes()))
        );
        std::fs::write(&path, "cut o").unwrap();
        let after = TextLog::new(&path);
        after.open().unwrap();
        after.write("five").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("cut o\n20") && text.ends_with(" five\n"));
        assert_eq!(after.sync(), Some(FileDigest::of_bytes(text.as_bytes())));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(after.sync(), None);
    }
}
