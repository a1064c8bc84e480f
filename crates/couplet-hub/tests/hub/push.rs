//! A folder becomes one commit of a repository.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::{COMMIT, Reaction, Server, content, sha256};
use couplet_hub::{HubError, Progress, PushOptions};
use serde_json::json;

const TOKEN: (&str, &str) = ("HF_TOKEN", "hf_SECRET");

fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A folder with a model, and what else lies about in such folders.
fn model(weights: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 7] = [
        ("open_clip_config.json", b"{}"),
        ("open_clip_model.safetensors", weights),
        ("sub/empty.bin", b""),
        (".gitignore", b"notes.txt\n"),
        ("notes.txt", b"private"),
        (".git/config", b"[core]"),
        (".cache/huggingface/x", b"cache"),
    ];
    write(folder.path(), &files);
    folder
}

#[test]
fn a_folder_is_uploaded_as_one_commit() {
    for part_size in [None, Some(70_000)] {
        let server = Server::start();
        server.state().part_size = part_size;
        let weights = content(200_000);
        let folder = model(&weights);
        let options = PushOptions {
            private: true,
            message: "First".into(),
            ..PushOptions::default()
        };
        let pushed = server
            .hub(&[TOKEN])
            .push(folder.path(), "org/mine", &options, &mut ())
            .unwrap();
        assert_eq!(
            pushed.url,
            format!("{}/org/mine/commit/{COMMIT}", server.url())
        );
        assert_eq!(
            pushed.uploaded,
            [
                ".gitignore",
                "open_clip_config.json",
                "open_clip_model.safetensors",
                "sub/empty.bin"
            ]
        );
        assert_eq!(pushed.ignored, ["notes.txt"]);
        let state = server.state();
        assert_eq!(
            state.created,
            [
                json!({ "name": "mine", "organization": "org", "type": "model", "visibility": "private" })
            ]
        );
        assert_eq!(
            state.repositories["org/mine"]["open_clip_model.safetensors"],
            weights
        );
        assert_eq!(
            state.repositories["org/mine"]["open_clip_config.json"],
            b"{}"
        );
        let commit = &state.commits[0];
        assert_eq!(
            commit[0],
            json!({ "key": "header", "value": { "summary": "First", "description": "" } })
        );
        let large: Vec<_> = commit
            .iter()
            .filter(|line| line["key"] == "lfsFile")
            .collect();
        assert_eq!(large.len(), 1, "an empty file is no large file");
        assert_eq!(large[0]["value"]["oid"], sha256(&weights));
        drop(state);
        for request in server.requests() {
            let is_hub =
                request.header("host").unwrap().starts_with("127.") && request.method != "PUT";
            let is_storage = request.header("host").unwrap().starts_with("localhost");
            assert!(
                !is_hub || request.header("authorization") == Some("Bearer hf_SECRET"),
                "{}",
                request.path
            );
            assert!(
                !is_storage || request.header("authorization").is_none(),
                "{}",
                request.path
            );
        }
    }
}

#[test]
fn what_the_hub_has_is_not_sent_again() {
    let server = Server::start();
    let weights = content(1000);
    let folder = model(&weights);
    let hub = server.hub(&[TOKEN]);
    hub.push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
        .unwrap();
    server.log();
    let pushed = hub
        .push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
        .unwrap();
    assert!(
        pushed.uploaded.is_empty() && pushed.unchanged.len() == 4,
        "{pushed:?}"
    );
    assert_eq!(
        pushed.url,
        format!("{}/org/mine/commit/{COMMIT}", server.url())
    );
    assert!(
        server
            .log()
            .iter()
            .all(|line| !line.contains("/commit/") && !line.starts_with("PUT"))
    );
    write(folder.path(), &[("open_clip_config.json", b"{\"new\": 1}")]);
    let pushed = hub
        .push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
        .unwrap();
    assert_eq!(pushed.uploaded, ["open_clip_config.json"]);
    assert_eq!(server.state().commits.last().unwrap().len(), 2);
}

#[test]
fn interrupted_uploads_are_sent_again() {
    let server = Server::start();
    server.state().part_size = Some(70_000);
    let count = AtomicUsize::new(0);
    server.rule(move |request| {
        (request.method == "PUT" && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2))
            .then(|| Reaction::status(500))
    });
    let weights = content(200_000);
    let folder = model(&weights);
    server
        .hub(&[TOKEN])
        .push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
        .unwrap();
    assert_eq!(
        server.state().repositories["org/mine"]["open_clip_model.safetensors"],
        weights
    );
}

#[test]
fn a_token_that_cannot_create_may_write_to_what_exists() {
    let server = Server::start();
    server.add("org/mine", &[]);
    server.rule(|request| {
        request
            .path
            .ends_with("/create")
            .then(|| Reaction::status(403))
    });
    let folder = model(b"w");
    let hub = server.hub(&[TOKEN]);
    hub.push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
        .unwrap();
    let error = hub
        .push(folder.path(), "org/other", &PushOptions::default(), &mut ())
        .unwrap_err();
    assert!(
        matches!(error, HubError::TokenRefused { status: 403, .. }),
        "{error}"
    );
}

#[test]
fn a_push_needs_a_token_a_folder_and_a_network() {
    let server = Server::start();
    let folder = model(b"w");
    let options = PushOptions::default();
    let error = server
        .hub(&[])
        .push(folder.path(), "org/mine", &options, &mut ())
        .unwrap_err();
    assert!(
        matches!(error, HubError::NoToken { .. }) && error.to_string().contains("HF_TOKEN"),
        "{error}"
    );
    let hub = server.hub(&[TOKEN]);
    let error = hub
        .push(&folder.path().join("none"), "org/mine", &options, &mut ())
        .unwrap_err();
    assert!(error.to_string().contains("not a folder"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(
        hub.push(empty.path(), "org/mine", &options, &mut ())
            .unwrap_err()
            .to_string()
            .contains("no files")
    );
    assert!(
        hub.push(folder.path(), "org/my name", &options, &mut ())
            .is_err()
    );
    let offline = server.hub(&[TOKEN, ("HF_HUB_OFFLINE", "1")]);
    let error = offline
        .push(folder.path(), "org/mine", &options, &mut ())
        .unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert!(server.log().is_empty());
}

#[test]
fn a_hub_that_refuses_or_errs_is_named() {
    let folder = model(&content(1000));
    let hash = sha256(&content(1000));
    let refused = json!({ "objects": [{ "oid": hash, "size": 1000, "error": { "code": 422, "message": "too large" } }] });
    let parts = json!({ "objects": [{ "oid": hash, "size": 1000, "actions": { "upload": {
        "href": "http://127.0.0.1:9/complete", "header": { "chunk_size": "400", "00001": "http://127.0.0.1:9/1" } } } }] });
    let zero = json!({ "objects": [{ "oid": hash, "size": 1000, "actions": { "upload": {
        "href": "http://127.0.0.1:9/complete", "header": { "chunk_size": 0 } } } }] });
    for (path, reaction, expected) in [
        (
            "/batch",
            Reaction::json(&refused),
            "refuses `open_clip_model.safetensors` (code 422): too large",
        ),
        (
            "/batch",
            Reaction::json(&parts),
            "links for 1 parts of `open_clip_model.safetensors`, which has 3",
        ),
        ("/batch", Reaction::json(&zero), "no number of bytes"),
        (
            "/batch",
            Reaction::json(&json!({ "objects": [] })),
            "does not answer for",
        ),
        (
            "/preupload/main",
            Reaction::json(&json!({ "files": [] })),
            "does not say how it wants",
        ),
        (
            "/preupload/main",
            Reaction::Answer(200, vec![], b"<html>".to_vec()),
            "HTML",
        ),
        ("/commit/main", Reaction::status(500), "500"),
        (
            "/commit/main",
            Reaction::json(&json!({ "success": true })),
            "not the JSON",
        ),
    ] {
        let server = Server::start();
        server.rule(move |request| request.path.ends_with(path).then(|| reaction.clone()));
        let hub = server.hub(&[TOKEN]);
        let error = hub
            .push(folder.path(), "org/mine", &PushOptions::default(), &mut ())
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(
            server
                .log()
                .iter()
                .filter(|line| line.contains("/commit/"))
                .count(),
            usize::from(path.contains("commit"))
        );
    }
}

#[test]
fn a_push_tells_how_far_it_is_and_stops_on_request() {
    struct Heard(u64, bool);
    impl Progress for Heard {
        fn advanced(&mut self, _: &str, done: u64, _: Option<u64>) {
            self.0 = done;
        }

        fn is_cancelled(&mut self) -> bool {
            self.1 && self.0 > 50_000
        }
    }
    let server = Server::start();
    let folder = model(&content(200_000));
    let hub = server.hub(&[TOKEN]);
    let error = hub
        .push(
            folder.path(),
            "org/mine",
            &PushOptions::default(),
            &mut Heard(0, true),
        )
        .unwrap_err();
    assert!(matches!(error, HubError::Cancelled), "{error}");
    let mut heard = Heard(0, false);
    hub.push(
        folder.path(),
        "org/mine",
        &PushOptions::default(),
        &mut heard,
    )
    .unwrap();
    assert_eq!(heard.0, 200_000);
}
