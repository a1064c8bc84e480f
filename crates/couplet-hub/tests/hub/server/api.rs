//! The hub's answers about repositories and files.

use serde_json::{Value, json};

use super::contents::{COMMIT, git_hash, is_large, sha256};
use super::message::{Reaction, Request};
use super::state::State;

pub fn answer(state: &mut State, request: &Request, port: u16) -> Reaction {
    let path = request
        .path
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned();
    if let Some(rest) = path.strip_prefix("api/models/") {
        return models(state, request, rest);
    }
    if let Some(content) = state.contents.get(&path) {
        return ranged(request, content, vec![]);
    }
    if let Some((repository, rest)) = path.split_once("/resolve/") {
        return resolve(state, request, (repository, rest), port);
    }
    Reaction::status(404)
}

fn models(state: &State, request: &Request, rest: &str) -> Reaction {
    let (repository, rest) = match rest
        .split_once("/revision/")
        .or_else(|| rest.split_once("/tree/"))
    {
        Some((repository, revision)) => (repository, revision),
        None => (rest, "main"),
    };
    let Some(files) = state.repositories.get(repository) else {
        return Reaction::error(404, "RepoNotFound");
    };
    if !["main", COMMIT, "v1", "refs%2Fpr%2F1"].contains(&rest) {
        return Reaction::error(404, "RevisionNotFound");
    }
    let with_details = request.path.contains("blobs=") && !state.is_terse;
    if request.path.contains("/tree/") {
        let tree: Vec<Value> = files
            .iter()
            .map(|(name, content)| {
                let mut file = json!({ "type": "file", "path": name, "size": content.len(), "oid": git_hash(content) });
                if is_large(name) {
                    file["lfs"] = json!({ "oid": sha256(content), "size": content.len(), "pointerSize": 134 });
                }
                file
            })
            .collect();
        return Reaction::json(&json!(tree));
    }
    let siblings: Vec<Value> = files
        .iter()
        .map(|(name, content)| {
            let mut file = json!({ "rfilename": name });
            if with_details {
                file["size"] = json!(content.len());
                file["blobId"] = json!(git_hash(content));
                if is_large(name) {
                    file["lfs"] = json!({ "sha256": sha256(content), "size": content.len(), "pointerSize": 134 });
                }
            }
            file
        })
        .collect();
    Reaction::json(&json!({
        "id": repository,
        "modelId": repository,
        "sha": COMMIT,
        "private": false,
        "tags": ["open_clip", "license:mit"],
        "cardData": { "license": "other", "license_name": "apple-amlr" },
        "siblings": siblings,
    }))
}

fn resolve(
    state: &mut State,
    request: &Request,
    (repository, rest): (&str, &str),
    port: u16,
) -> Reaction {
    let Some((_, file)) = rest.split_once('/') else {
        return Reaction::status(404);
    };
    let commit = ("X-Repo-Commit", COMMIT.to_owned());
    let Some(files) = state.repositories.get(repository) else {
        return Reaction::error(404, "RepoNotFound");
    };
    let Some(content) = files.get(file).cloned() else {
        return Reaction::Answer(
            404,
            vec![commit, ("X-Error-Code", "EntryNotFound".to_owned())],
            Vec::new(),
        );
    };
    if !is_large(file) {
        return ranged(
            request,
            &content,
            vec![commit, ("ETag", format!("\"{}\"", git_hash(&content)))],
        );
    }
    let hash = sha256(&content);
    let headers = vec![
        commit,
        ("X-Linked-Etag", format!("\"{hash}\"")),
        ("X-Linked-Size", content.len().to_string()),
        (
            "Location",
            format!("http://localhost:{port}/cdn/{hash}?Signature=secret"),
        ),
    ];
    state.contents.insert(format!("cdn/{hash}"), content);
    Reaction::Answer(302, headers, Vec::new())
}

/// A content, or the part of it that is asked for.
fn ranged(request: &Request, content: &[u8], mut headers: Vec<(&'static str, String)>) -> Reaction {
    if !headers.iter().any(|(name, _)| *name == "ETag") {
        headers.push(("ETag", "\"a-storage-etag\"".to_owned()));
    }
    let own = headers
        .iter()
        .find(|(name, _)| *name == "ETag")
        .map(|(_, etag)| etag.clone());
    let is_changed = request
        .header("if-range")
        .is_some_and(|etag| Some(etag) != own.as_deref());
    let start = request.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match start.filter(|_| !is_changed) {
        Some(start) if start >= content.len() => {
            headers.push(("Content-Range", format!("bytes */{}", content.len())));
            Reaction::Answer(416, headers, Vec::new())
        }
        Some(start) => {
            headers.push((
                "Content-Range",
                format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
            ));
            Reaction::Answer(206, headers, content[start..].to_vec())
        }
        None => Reaction::Answer(200, headers, content.to_vec()),
    }
}
