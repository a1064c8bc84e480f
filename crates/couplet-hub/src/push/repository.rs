//! The repository that is pushed to: created, and asked what it wants.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::folder::LocalFile;
use crate::address::encode;
use crate::client::{Client, Method, Payload};
use crate::error::HubError;
use crate::failure::Failure;
use crate::listing::{self, Subject};
use crate::progress::Progress;

/// Files per request (huggingface_hub's `_fetch_upload_modes`).
const BATCH: usize = 256;

/// How the hub wants a file.
pub(crate) struct Mode {
    /// In LFS rather than in git.
    pub(crate) is_large: bool,
    pub(crate) is_ignored: bool,
    /// The hash of what it has at that path: SHA-256 in LFS, git's otherwise.
    pub(crate) remote: Option<String>,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<FileMode>,
}

#[derive(Deserialize)]
struct FileMode {
    path: String,
    #[serde(rename = "uploadMode")]
    mode: String,
    #[serde(rename = "shouldIgnore", default)]
    is_ignored: bool,
    oid: Option<String>,
}

/// A request with a body in JSON.
pub(crate) fn post<T: serde::de::DeserializeOwned>(
    client: &Client,
    address: &crate::address::Address,
    body: &serde_json::Value,
    subject: &Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<T, HubError> {
    let bytes = body.to_string().into_bytes();
    client.retrying(progress, |_| {
        let headers = [("content-type", "application/json".to_owned())];
        let answer = client.send(Method::Post, address, &headers, Payload::Bytes(&bytes))?;
        listing::json(client, answer, Some(subject))
    })
}

/// Creates the repository; one that exists is fine.
pub(crate) fn create(
    client: &Client,
    subject: &Subject<'_>,
    private: bool,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let (organization, name) = subject
        .repository
        .split_once('/')
        .map_or((None, subject.repository), |(org, name)| (Some(org), name));
    let mut body = json!({ "name": name, "organization": organization, "type": "model" });
    if private {
        body["visibility"] = json!("private");
    }
    let bytes = body.to_string().into_bytes();
    let address = client.endpoint.with("api/repos/create");
    client.retrying(progress, |_| {
        let headers = [("content-type", "application/json".to_owned())];
        let mut answer = client.send(Method::Post, &address, &headers, Payload::Bytes(&bytes))?;
        match answer.status {
            200..300 | 409 => Ok(()),
            // A token without the right to create may still write to a repository that exists (`create_repo`).
            401..=403 => {
                let failure = listing::refusal(client, &mut answer, subject);
                let info = client
                    .endpoint
                    .with(&format!("api/models/{}", encode(subject.repository, true)));
                match client.send(Method::Get, &info, &[], Payload::None) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    _ => Err(failure),
                }
            }
            _ => Err(client.refused(&mut answer)),
        }
    })
}

/// Asks how the hub wants each file, in their order.
pub(crate) fn modes(
    client: &Client,
    subject: &Subject<'_>,
    files: &[LocalFile],
    progress: &mut dyn Progress,
) -> Result<Vec<Mode>, HubError> {
    let path = format!(
        "api/models/{}/preupload/{}",
        encode(subject.repository, true),
        encode(subject.revision, false)
    );
    let address = client.endpoint.with(&path);
    // The file that says what to leave out may be among those that are uploaded.
    let ignore = files
        .iter()
        .find(|file| file.name == ".gitignore")
        .map(|file| {
            std::fs::read_to_string(&file.path)
                .map_err(|source| HubError::io("read", &file.path, source))
        });
    let ignore = ignore.transpose()?;
    let mut modes = Vec::with_capacity(files.len());
    for batch in files.chunks(BATCH) {
        let listed: Vec<_> = batch
            .iter()
            .map(|file| json!({ "path": file.name, "sample": STANDARD.encode(&file.sample), "size": file.size }))
            .collect();
        let mut body = json!({ "files": listed });
        if let Some(ignore) = &ignore {
            body["gitIgnore"] = json!(ignore);
        }
        let answer: Modes = post(client, &address, &body, subject, progress)?;
        for file in batch {
            let mode = answer
                .files
                .iter()
                .find(|mode| mode.path == file.name)
                .ok_or_else(|| HubError::Protocol {
                    url: address.to_string(),
                    problem: format!("it does not say how it wants `{}`", file.name),
                })?;
            // LFS cannot hold an empty file.
            let is_large = mode.mode == "lfs" && file.size > 0;
            modes.push(Mode {
                is_large,
                is_ignored: mode.is_ignored,
                remote: mode.oid.clone(),
            });
        }
    }
    Ok(modes)
}

/// The last commit of the branch.
pub(crate) fn last_commit(
    client: &Client,
    subject: &Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<String, HubError> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
    }
    let path = format!(
        "api/models/{}/revision/{}",
        encode(subject.repository, true),
        encode(subject.revision, false)
    );
    let address = client.endpoint.with(&path);
    let info: Info = client.retrying(progress, |_| -> Result<Info, Failure> {
        let answer = client.send(Method::Get, &address, &[], Payload::None)?;
        listing::json(client, answer, Some(subject))
    })?;
    Ok(info.sha)
}
