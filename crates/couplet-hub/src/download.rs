//! One file: resumed, bounded, checked, and only then put in its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::answer::Linked;
use crate::client::Client;
use crate::digest;
use crate::error::HubError;
use crate::part::Part;
use crate::progress::Progress;
use crate::target::{Expected, Target, beside};

/// Bytes after which a cut transfer counts as progress, which gives it all its attempts again.
const HEADWAY: u64 = 64 * 1024;

/// How often another process's lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

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
        // Git's hash is not computed of very large files, which the hub never keeps in git.
        if let Some(expected) = expected
            && !found.is_empty()
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
