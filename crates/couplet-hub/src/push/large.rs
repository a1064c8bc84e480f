//! Large files, by git's LFS protocol with the hub's own transfer in parts.
//!
//! Sources: git-lfs's `docs/api/batch.md`; huggingface_hub's `lfs.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use serde::Deserialize;
use serde_json::json;

use super::folder::LocalFile;
use crate::address::{Address, encode};
use crate::answer::Answer;
use crate::client::{Client, Method, Payload};
use crate::error::{HubError, printable};
use crate::failure::Failure;
use crate::listing::{self, Subject};
use crate::progress::Progress;

/// Files per request.
const BATCH: usize = 256;

/// Parts per file that are accepted; Amazon's storage takes no more.
const PARTS: u64 = 10_000;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// The links of Hugging Face's own hub, which another endpoint stands for (huggingface_hub's `fix_hf_endpoint_in_url`).
const HUB: &str = "https://huggingface.co/";

/// A large file and its SHA-256.
pub(crate) struct Large<'a> {
    pub(crate) file: &'a LocalFile,
    pub(crate) sha256: String,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u64,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, serde_json::Value>,
}

/// Uploads the large files that the hub's storage lacks.
pub(crate) fn upload(
    client: &Client,
    subject: &Subject<'_>,
    files: &[Large<'_>],
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let path = format!(
        "{}.git/info/lfs/objects/batch",
        encode(subject.repository, true)
    );
    let address = client.endpoint.with(&path);
    for batch in files.chunks(BATCH) {
        let objects: Vec<_> = batch
            .iter()
            .map(|large| json!({ "oid": large.sha256, "size": large.file.size }))
            .collect();
        let body = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": objects,
            "hash_algo": "sha256",
            "ref": { "name": subject.revision },
        });
        let answer: Batch = post(client, &address, &body, subject, progress)?;
        for large in batch {
            let object = answer
                .objects
                .iter()
                .find(|object| object.oid == large.sha256)
                .ok_or_else(|| HubError::Protocol {
                    url: address.to_string(),
                    problem: format!("it does not answer for `{}`", large.file.name),
                })?;
            if let Some(ObjectError { code, message }) = &object.error {
                let (file, message) = (large.file.name.clone(), printable(message));
                return Err(HubError::UploadRefused {
                    file,
                    code: *code,
                    message,
                });
            }
            // Without an upload, the storage has the content already.
            if let Some(actions) = &object.actions
                && let Some(upload) = &actions.upload
            {
                progress.started(&large.file.name, 0, Some(large.file.size));
                send(client, large, upload, progress)?;
                if let Some(verify) = &actions.verify {
                    let body = json!({ "oid": large.sha256, "size": large.file.size });
                    done(
                        client,
                        &target(client, &verify.href)?,
                        "application/json",
                        &body,
                        progress,
                    )?;
                }
                progress.finished(&large.file.name);
            }
        }
    }
    Ok(())
}

fn post<T: serde::de::DeserializeOwned>(
    client: &Client,
    address: &Address,
    body: &serde_json::Value,
    subject: &Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<T, HubError> {
    let bytes = body.to_string().into_bytes();
    client.retrying(progress, |_| {
        let headers = [
            ("accept", MEDIA_TYPE.to_owned()),
            ("content-type", MEDIA_TYPE.to_owned()),
        ];
        let answer = client.send(Method::Post, address, &headers, Payload::Bytes(&bytes))?;
        listing::json(client, answer, Some(subject))
    })
}

/// A request whose answer only says that it is done.
fn done(
    client: &Client,
    address: &Address,
    kind: &str,
    body: &serde_json::Value,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let bytes = body.to_string().into_bytes();
    client.retrying(progress, |_| {
        let headers = [
            ("accept", kind.to_owned()),
            ("content-type", kind.to_owned()),
        ];
        let mut answer = client.send(Method::Post, address, &headers, Payload::Bytes(&bytes))?;
        if (200..300).contains(&answer.status) {
            Ok(())
        } else {
            Err(client.refused(&mut answer))
        }
    })
}

/// A link of the hub's answer, which must not leave https.
fn target(client: &Client, href: &str) -> Result<Address, HubError> {
    let broken = |problem: &str| HubError::Protocol {
        url: client.endpoint.to_string(),
        problem: format!("its link for an upload cannot be used: {problem}"),
    };
    let address = match href.strip_prefix(HUB) {
        Some(path) => client.endpoint.with(path),
        None => Address::parse(href).map_err(broken)?,
    };
    if client.endpoint.secure && !address.is_private() {
        return Err(broken("it leaves https"));
    }
    Ok(address)
}

fn send(
    client: &Client,
    large: &Large<'_>,
    upload: &Action,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let address = target(client, &upload.href)?;
    let Some(part_size) = upload.header.get("chunk_size") else {
        let headers = upload
            .header
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?.to_owned())));
        return put(
            client,
            large,
            &address,
            &headers.collect::<Vec<_>>(),
            (0, large.file.size),
            progress,
        )
        .map(drop);
    };
    let broken = |problem: String| HubError::Protocol {
        url: address.to_string(),
        problem,
    };
    let part_size = part_size
        .as_u64()
        .or_else(|| part_size.as_str()?.parse().ok())
        .filter(|size| *size > 0);
    let part_size =
        part_size.ok_or_else(|| broken("`chunk_size` is no number of bytes".to_owned()))?;
    let mut links: Vec<(u64, &str)> = upload
        .header
        .iter()
        .filter_map(|(name, link)| Some((name.parse().ok()?, link.as_str()?)))
        .collect();
    links.sort_unstable();
    let count = large.file.size.div_ceil(part_size);
    if count > PARTS || links.len() as u64 != count {
        return Err(broken(format!(
            "it has links for {} parts of `{}`, which has {count}",
            links.len(),
            large.file.name
        )));
    }
    let mut parts = Vec::new();
    for (index, (_, link)) in (0..).zip(&links) {
        let begin = index * part_size;
        let part = (begin, part_size.min(large.file.size - begin));
        let answer = put(client, large, &target(client, link)?, &[], part, progress)?;
        let etag = answer.header("etag").filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| {
            broken(format!(
                "part {} of `{}` got no ETag",
                index + 1,
                large.file.name
            ))
        })?;
        parts.push(json!({ "partNumber": index + 1, "etag": etag }));
    }
    done(
        client,
        &address,
        MEDIA_TYPE,
        &json!({ "oid": large.sha256, "parts": parts }),
        progress,
    )
}

/// Sends a part of a file: its begin and its length in bytes.
fn put(
    client: &Client,
    large: &Large<'_>,
    address: &Address,
    headers: &[(&str, String)],
    (begin, length): (u64, u64),
    progress: &mut dyn Progress,
) -> Result<Answer, HubError> {
    client.retrying(progress, |progress| {
        let path = &large.file.path;
        let mut file =
            File::open(path).map_err(|source| Failure::last(HubError::io("read", path, source)))?;
        file.seek(SeekFrom::Start(begin))
            .map_err(|source| Failure::last(HubError::io("read", path, source)))?;
        let mut told = Told {
            file: file.take(length),
            name: &large.file.name,
            done: begin,
            total: large.file.size,
            client,
            progress,
        };
        let mut answer = client
            .send(
                Method::Put,
                address,
                headers,
                Payload::Stream(&mut told, length),
            )
            .map_err(|failure| {
                // The reader can only say that it failed; whether that was on request is known here.
                if client.is_stopped(told.progress) {
                    Failure::last(HubError::Cancelled)
                } else {
                    failure
                }
            })?;
        if (200..300).contains(&answer.status) {
            Ok(answer)
        } else {
            Err(client.refused(&mut answer))
        }
    })
}

/// A file that tells how far it is read.
struct Told<'a> {
    file: io::Take<File>,
    name: &'a str,
    done: u64,
    total: u64,
    client: &'a Client,
    progress: &'a mut dyn Progress,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.client.is_stopped(self.progress) {
            return Err(io::Error::other("stopped on request"));
        }
        let read = self.file.read(buffer)?;
        self.done += read as u64;
        self.progress
            .advanced(self.name, self.done, Some(self.total));
        Ok(read)
    }
}
