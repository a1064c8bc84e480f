//! The hub's answers to uploads.

use serde_json::{Value, json};

use super::contents::{COMMIT, git_hash, is_large, sha256};
use super::message::{Reaction, Request};
use super::state::{Files, State};

/// The answer to a request of an upload; `None` for any other request.
pub fn answer(state: &mut State, request: &Request, port: u16) -> Option<Reaction> {
    let path = request
        .path
        .split('?')
        .next()?
        .trim_start_matches('/')
        .to_owned();
    let base = format!("http://127.0.0.1:{port}");
    match request.method.as_str() {
        "PUT" => return Some(put(state, request, path.strip_prefix("upload/")?)),
        "POST" => {}
        _ => return None,
    }
    if path == "api/repos/create" {
        return Some(create(state, &request.json(), &base));
    }
    if path == "api/validate-yaml" {
        return Some(Reaction::json(&json!({ "errors": [], "warnings": [] })));
    }
    if let Some(hash) = path.strip_prefix("complete/") {
        let parts = state.parts.remove(hash)?;
        state.contents.insert(
            format!("cdn/{hash}"),
            parts.into_values().flatten().collect(),
        );
        return Some(Reaction::json(&json!({})));
    }
    if let Some(hash) = path.strip_prefix("verify/") {
        let stored = state
            .contents
            .get(&format!("cdn/{hash}"))
            .map(|content| sha256(content));
        return Some(Reaction::status(if stored.as_deref() == Some(hash) {
            200
        } else {
            422
        }));
    }
    if path.ends_with(".git/info/lfs/objects/batch") {
        return Some(batch(state, &request.json(), &base));
    }
    let (repository, rest) = path.strip_prefix("api/models/").and_then(|rest| {
        let place = rest.find("/preupload/").or_else(|| rest.find("/commit/"))?;
        Some((rest[..place].to_owned(), rest[place + 1..].to_owned()))
    })?;
    if rest.starts_with("preupload/") {
        return Some(modes(state, &repository, &request.json()));
    }
    Some(commit(state, &repository, request, &base))
}

fn create(state: &mut State, body: &Value, base: &str) -> Reaction {
    state.created.push(body.clone());
    let id = match body["organization"].as_str() {
        Some(organization) => format!("{organization}/{}", body["name"].as_str().unwrap()),
        None => body["name"].as_str().unwrap().to_owned(),
    };
    if state.repositories.contains_key(&id) {
        let body = json!({ "error": "You already created this model repo", "url": format!("{base}/{id}") });
        return Reaction::Answer(409, vec![], body.to_string().into_bytes());
    }
    state.repositories.insert(id.clone(), Files::new());
    Reaction::json(&json!({ "url": format!("{base}/{id}") }))
}

fn modes(state: &State, repository: &str, body: &Value) -> Reaction {
    let Some(there) = state.repositories.get(repository) else {
        return Reaction::error(404, "RepoNotFound");
    };
    let ignored = body["gitIgnore"].as_str().unwrap_or_default().to_owned();
    let files: Vec<Value> = body["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            let name = file["path"].as_str().unwrap();
            let large = is_large(name);
            let oid = there.get(name).map(|content| {
                if large && !content.is_empty() {
                    sha256(content)
                } else {
                    git_hash(content)
                }
            });
            json!({
                "path": name,
                "uploadMode": if large { "lfs" } else { "regular" },
                "shouldIgnore": ignored.lines().any(|line| line == name),
                "oid": oid,
            })
        })
        .collect();
    Reaction::json(&json!({ "files": files }))
}

fn batch(state: &State, body: &Value, base: &str) -> Reaction {
    let objects: Vec<Value> = body["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let (hash, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
            if state.contents.contains_key(&format!("cdn/{hash}")) {
                return json!({ "oid": hash, "size": size });
            }
            let verify = json!({ "href": format!("{base}/verify/{hash}") });
            let upload = match state.part_size {
                None => json!({ "href": format!("http://localhost:{}/upload/{hash}", base.rsplit(':').next().unwrap()) }),
                Some(part) => {
                    let mut header = json!({ "chunk_size": part.to_string() });
                    for index in 0..usize::try_from(size).unwrap().div_ceil(part) {
                        header[format!("{:05}", index + 1)] = json!(format!("{base}/upload/{hash}/{index}"));
                    }
                    json!({ "href": format!("{base}/complete/{hash}"), "header": header })
                }
            };
            json!({ "oid": hash, "size": size, "actions": { "upload": upload, "verify": verify } })
        })
        .collect();
    Reaction::json(
        &json!({ "transfer": if state.part_size.is_some() { "multipart" } else { "basic" }, "objects": objects }),
    )
}

fn put(state: &mut State, request: &Request, target: &str) -> Reaction {
    if let Some((hash, part)) = target.split_once('/') {
        let parts = state.parts.entry(hash.to_owned()).or_default();
        parts.insert(part.parse().unwrap(), request.body.clone());
        return Reaction::Answer(200, vec![("ETag", format!("\"part-{part}\""))], vec![]);
    }
    state
        .contents
        .insert(format!("cdn/{target}"), request.body.clone());
    Reaction::status(200)
}

fn commit(state: &mut State, repository: &str, request: &Request, base: &str) -> Reaction {
    use base64::Engine as _;
    let text = String::from_utf8(request.body.clone()).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut changed = Vec::new();
    for line in &lines {
        let value = &line["value"];
        let content = match line["key"].as_str().unwrap() {
            "file" => base64::engine::general_purpose::STANDARD
                .decode(value["content"].as_str().unwrap())
                .unwrap(),
            "lfsFile" => match state
                .contents
                .get(&format!("cdn/{}", value["oid"].as_str().unwrap()))
            {
                Some(content) => content.clone(),
                None => return Reaction::status(422),
            },
            _ => continue,
        };
        changed.push((value["path"].as_str().unwrap().to_owned(), content));
    }
    state
        .repositories
        .entry(repository.to_owned())
        .or_default()
        .extend(changed);
    state.commits.push(lines);
    let url = format!("{base}/{repository}/commit/{COMMIT}");
    Reaction::json(&json!({ "success": true, "commitUrl": url, "commitOid": COMMIT }))
}
