//! What the hub says of a repository: its commit and its files; and what its refusals mean.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::address::{Address, encode};
use crate::answer::Answer;
use crate::cache;
use crate::client::{Client, Method, Payload};
use crate::error::{HubError, printable};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::target::Expected;

/// Bytes of an answer in JSON that are read at most; a listing of 100,000 files has less.
const JSON: u64 = 64 << 20;

/// The state of a repository at a commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<ListedFile>,
    /// The licence of the model's card.
    pub(crate) licence: Option<String>,
}

/// A file of a listing.
#[derive(Clone, Debug)]
pub(crate) struct ListedFile {
    pub(crate) path: String,
    /// The hub's name of its content; a listing without details has none.
    pub(crate) etag: Option<String>,
    pub(crate) expected: Expected,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
    #[serde(rename = "cardData")]
    card: Option<serde_json::Value>,
    tags: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

/// What is asked for, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) repository: &'a str,
    pub(crate) revision: &'a str,
    pub(crate) file: Option<&'a str>,
    pub(crate) token_hint: &'a str,
}

/// Asks for the commit and the files of a revision (huggingface_hub's `model_info` with `files_metadata`).
pub(crate) fn list(
    client: &Client,
    subject: &Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<Listing, HubError> {
    let path = format!(
        "api/models/{}/revision/{}?blobs=true",
        encode(subject.repository, true),
        encode(subject.revision, false)
    );
    let address = client.endpoint.with(&path);
    let info: Info = client.retrying(progress, |_| {
        let answer = client.send(
            Method::Get,
            &address,
            &[("accept", "application/json".to_owned())],
            Payload::None,
        )?;
        json(client, answer, Some(subject))
    })?;
    let broken = |problem: &str| HubError::Protocol {
        url: address.to_string(),
        problem: problem.to_owned(),
    };
    let commit = info
        .sha
        .clone()
        .ok_or_else(|| broken("it names no commit (`sha`)"))?;
    if !cache::is_file_name(&commit) {
        return Err(broken(&format!("`{}` is no commit", printable(&commit))));
    }
    if cache::is_commit(subject.revision) && !commit.eq_ignore_ascii_case(subject.revision) {
        return Err(broken(&format!(
            "it names the commit {commit}, which is not the one that was asked for"
        )));
    }
    let licence = info.licence();
    let siblings = info
        .siblings
        .ok_or_else(|| broken("it lists no files (`siblings`)"))?;
    let mut files = Vec::with_capacity(siblings.len());
    for sibling in siblings {
        if !cache::is_inside(&sibling.rfilename) {
            let path = printable(&sibling.rfilename);
            return Err(HubError::UnsafePath {
                repository: subject.repository.to_owned(),
                path,
            });
        }
        files.push(sibling.listed());
    }
    Ok(Listing {
        commit,
        files,
        licence,
    })
}

impl Info {
    fn licence(&self) -> Option<String> {
        let card = self.card.as_ref()?;
        let text = |key: &str| card[key].as_str().map(printable);
        let tagged = || {
            let tags = self
                .tags
                .iter()
                .flatten()
                .filter_map(serde_json::Value::as_str);
            tags.filter_map(|tag| tag.strip_prefix("license:"))
                .map(printable)
                .next()
        };
        // A licence that the hub does not know is `other`, with a name of its own.
        match text("license") {
            Some(licence) if licence == "other" => text("license_name").or(Some(licence)),
            Some(licence) => Some(licence),
            None => tagged(),
        }
    }
}

impl Sibling {
    fn listed(self) -> ListedFile {
        let etag = match &self.lfs {
            Some(large) => large.sha256.clone().or_else(|| large.oid.clone()),
            None => self.blob,
        };
        let etag = etag.filter(|etag| cache::is_file_name(etag));
        let size = self.lfs.and_then(|large| large.size).or(self.size);
        let expected = Expected::of_etag(etag.as_deref().unwrap_or_default(), size);
        ListedFile {
            path: self.rfilename,
            etag,
            expected,
        }
    }
}

/// The link of a file at a commit.
pub(crate) fn file_address(client: &Client, repository: &str, commit: &str, file: &str) -> Address {
    client.endpoint.with(&format!(
        "{}/resolve/{}/{}",
        encode(repository, true),
        encode(commit, false),
        encode(file, true)
    ))
}

/// Asks the hub for a file's hash and size, where the listing has none (huggingface_hub's `get_hf_file_metadata`).
pub(crate) fn details(
    client: &Client,
    subject: &Subject<'_>,
    commit: &str,
    progress: &mut dyn Progress,
) -> Result<ListedFile, HubError> {
    let file = subject.file.expect("details are of a file");
    let address = file_address(client, subject.repository, commit, file);
    let linked = client.retrying(progress, |_| {
        let mut answer = client.send(Method::Head, &address, &[], Payload::None)?;
        match answer.status {
            200 | 301 | 302 | 303 | 307 | 308 => Ok(answer.linked),
            _ => Err(refusal(client, &mut answer, subject)),
        }
    })?;
    let etag = linked
        .etag
        .filter(|etag| cache::is_file_name(etag))
        .ok_or_else(|| HubError::Protocol {
            url: address.to_string(),
            problem:
                "it announces no hash (`X-Linked-Etag` or `ETag`), so the file cannot be checked"
                    .to_owned(),
        })?;
    // An ETag in a header is git's hash only on Hugging Face's own hub.
    let expected = Expected {
        git: None,
        ..Expected::of_etag(&etag, linked.size)
    };
    Ok(ListedFile {
        path: file.to_owned(),
        etag: Some(etag),
        expected,
    })
}

/// Reads an answer in JSON.
pub(crate) fn json<T: DeserializeOwned>(
    client: &Client,
    mut answer: Answer,
    subject: Option<&Subject<'_>>,
) -> Result<T, Failure> {
    if !(200..300).contains(&answer.status) {
        return Err(match subject {
            Some(subject) => refusal(client, &mut answer, subject),
            None => client.refused(&mut answer),
        });
    }
    let url = answer.address.to_string();
    let bytes = answer.read(JSON)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
        let problem = if text.trim_start().starts_with('<') {
            "it is HTML instead of JSON; is this link that of a hub, or does a proxy ask for a login?".to_owned()
        } else if bytes.is_empty() {
            "it is empty instead of JSON".to_owned()
        } else {
            format!("it is not the JSON that a hub sends ({})", printable(&error.to_string()))
        };
        Failure::last(HubError::Protocol { url, problem })
    })
}

/// What a refusal of the hub means.
pub(crate) fn refusal(client: &Client, answer: &mut Answer, subject: &Subject<'_>) -> Failure {
    match client.refused(answer) {
        Failure::Final(error) => Failure::last(explained(client, *error, subject)),
        again @ Failure::Again(..) => again,
    }
}

/// The same error in the hub's terms, if it is a status that has one (huggingface_hub's `hf_raise_for_status`).
pub(crate) fn explained(client: &Client, error: HubError, subject: &Subject<'_>) -> HubError {
    let HubError::Status {
        status,
        code,
        message,
        ..
    } = &error
    else {
        return error;
    };
    let (status, endpoint) = (*status, client.endpoint.to_string());
    let (repository, revision) = (subject.repository.to_owned(), subject.revision.to_owned());
    let token = subject.token_hint.to_owned();
    let no_repository = |token: String| {
        let sent = if client.has_token() {
            "the token that was sent may not see it; "
        } else {
            ""
        };
        let token = format!("{sent}{token}");
        HubError::RepositoryNotFound {
            repository: subject.repository.to_owned(),
            endpoint: client.endpoint.to_string(),
            token,
        }
    };
    match (code.as_deref(), status) {
        (Some("GatedRepo"), _) => {
            let page = client
                .endpoint
                .with(&encode(subject.repository, true))
                .to_string();
            HubError::Gated {
                repository,
                page,
                token,
            }
        }
        (Some("RevisionNotFound"), _) => HubError::RevisionNotFound {
            repository,
            revision,
        },
        (Some("EntryNotFound"), _) | (None, 404) if subject.file.is_some() => {
            HubError::EntryNotFound {
                repository,
                revision,
                file: subject.file.unwrap_or_default().to_owned(),
            }
        }
        (Some("RepoNotFound"), _) | (_, 404) => no_repository(token),
        (_, 401 | 403) => {
            // The hub answers 401 also for a repository that does not exist, so as not to tell which do.
            let is_token = status == 403 || message.to_ascii_lowercase().contains("credentials");
            if is_token && client.has_token() {
                HubError::TokenRefused {
                    repository,
                    endpoint,
                    status,
                    message: message.clone(),
                    token,
                }
            } else {
                no_repository(token)
            }
        }
        _ => error,
    }
}
