//! The steps of a push.

use std::path::Path;

use super::commit::{self, Entry};
use super::folder;
use super::large::{self, Large};
use super::options::{PushOptions, Pushed};
use super::repository;
use crate::address::encode;
use crate::client::Client;
use crate::digest;
use crate::error::HubError;
use crate::listing::Subject;
use crate::names::{self, Repository};
use crate::progress::Progress;
use crate::settings::Settings;

/// Uploads a folder as one commit.
pub(crate) fn push(
    client: &Client,
    settings: &Settings,
    folder: &Path,
    repository: &str,
    options: &PushOptions,
    progress: &mut dyn Progress,
) -> Result<Pushed, HubError> {
    let fail = |problem: String| HubError::Folder {
        folder: folder.to_owned(),
        problem,
    };
    let id = Repository::parse(repository.strip_prefix("hf:").unwrap_or(repository))?;
    if id.revision.is_some() || !names::is_revision(&options.revision) {
        return Err(fail(
            "the branch is no name of a branch; it is given apart from the repository".to_owned(),
        ));
    }
    if options.message.trim().is_empty() {
        return Err(fail("the commit's message is empty".to_owned()));
    }
    let files = folder::read(folder)?;
    if let Some(variable) = settings.offline {
        return Err(fail(format!("{variable} forbids requests; unset it")));
    }
    let token_hint = settings.token_hint();
    if !client.has_token() {
        return Err(HubError::NoToken {
            repository: id.id,
            token: token_hint,
        });
    }
    let subject = Subject {
        repository: &id.id,
        revision: &options.revision,
        file: None,
        token_hint: &token_hint,
    };
    repository::create(client, &subject, options.private, progress)?;
    let modes = repository::modes(client, &subject, &files, progress)?;

    let mut pushed = Pushed {
        url: String::new(),
        commit: String::new(),
        uploaded: vec![],
        unchanged: vec![],
        ignored: vec![],
    };
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (file, mode) in files.iter().zip(&modes) {
        if mode.is_ignored {
            pushed.ignored.push(file.name.clone());
            continue;
        }
        let digests = digest::of_file(&file.path)?;
        if digests.size != file.size {
            return Err(fail(format!("`{}` changed while it was read", file.name)));
        }
        let own = if mode.is_large {
            &digests.sha256
        } else {
            &digests.git
        };
        if mode.remote.as_ref() == Some(own) {
            pushed.unchanged.push(file.name.clone());
        } else {
            pushed.uploaded.push(file.name.clone());
            entries.push(Entry {
                file,
                sha256: mode.is_large.then_some(digests.sha256),
            });
        }
    }
    upload(client, &subject, &entries, progress)?;
    if entries.is_empty() {
        pushed.commit = repository::last_commit(client, &subject, progress)?;
        let page = format!(
            "{}/commit/{}",
            encode(&id.id, true),
            encode(&pushed.commit, false)
        );
        pushed.url = client.endpoint.with(&page).to_string();
        return Ok(pushed);
    }
    let made = commit::commit(client, &subject, &entries, options, progress)?;
    Ok(Pushed {
        url: crate::error::printable(&made.url),
        commit: crate::error::printable(&made.id),
        ..pushed
    })
}

/// Sends the large files' contents, each once.
fn upload(
    client: &Client,
    subject: &Subject<'_>,
    entries: &[Entry<'_>],
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let mut files: Vec<Large<'_>> = Vec::new();
    for Entry { file, sha256 } in entries {
        if let Some(sha256) = sha256
            && !files.iter().any(|other| other.sha256 == *sha256)
        {
            files.push(Large {
                file,
                sha256: sha256.clone(),
            });
        }
    }
    large::upload(client, subject, &files, progress)
}
