//! The commit: one line of JSON for each file.
//!
//! Source: huggingface_hub's `_prepare_commit_payload`.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::folder::LocalFile;
use super::options::PushOptions;
use crate::address::encode;
use crate::client::{Client, Method, Payload};
use crate::error::HubError;
use crate::failure::Failure;
use crate::listing::{self, Subject};
use crate::progress::Progress;

/// A file of the commit; a large one by its SHA-256.
pub(crate) struct Entry<'a> {
    pub(crate) file: &'a LocalFile,
    pub(crate) sha256: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Commit {
    #[serde(rename = "commitUrl")]
    pub(crate) url: String,
    #[serde(rename = "commitOid")]
    pub(crate) id: String,
}

/// Commits. Sent once only: a commit whose answer is lost would be made twice.
pub(crate) fn commit(
    client: &Client,
    subject: &Subject<'_>,
    entries: &[Entry<'_>],
    options: &PushOptions,
    progress: &mut dyn Progress,
) -> Result<Commit, HubError> {
    let header = json!({ "key": "header", "value": { "summary": options.message, "description": options.description } });
    let mut body = format!("{header}\n");
    for Entry { file, sha256 } in entries {
        let line = if let Some(sha256) = sha256 {
            let value =
                json!({ "path": file.name, "algo": "sha256", "oid": sha256, "size": file.size });
            json!({ "key": "lfsFile", "value": value })
        } else {
            let content =
                fs::read(&file.path).map_err(|source| HubError::io("read", &file.path, source))?;
            let value = json!({ "content": STANDARD.encode(content), "path": file.name, "encoding": "base64" });
            json!({ "key": "file", "value": value })
        };
        body.push_str(&format!("{line}\n"));
    }
    if client.is_stopped(progress) {
        return Err(HubError::Cancelled);
    }
    let path = format!(
        "api/models/{}/commit/{}",
        encode(subject.repository, true),
        encode(subject.revision, false)
    );
    let headers = [("content-type", "application/x-ndjson".to_owned())];
    let sent = client
        .send(
            Method::Post,
            &client.endpoint.with(&path),
            &headers,
            Payload::Bytes(body.as_bytes()),
        )
        .and_then(|answer| listing::json(client, answer, Some(subject)));
    sent.map_err(Failure::into_error)
}
