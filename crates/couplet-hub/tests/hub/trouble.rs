//! Servers that misbehave give errors that say what happened, and never a wrong file, a panic or a hang.

use crate::model::{fails, failure, nothing_is_left, with_transformers};
use crate::name;
use crate::server::{COMMIT, Reaction, content, sha256};
use couplet_hub::HubError;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_file_with_another_content_is_deleted() {
    let server = with_transformers();
    let mut wrong = content(200_000);
    wrong[123_456] ^= 1;
    server.rule(move |request| {
        request
            .path
            .starts_with("/cdn/")
            .then(|| Reaction::Answer(200, vec![], wrong.clone()))
    });
    let error = failure(&server);
    let message = error.to_string();
    assert!(matches!(error, HubError::HashMismatch { .. }), "{message}");
    for part in [
        "model.safetensors",
        &sha256(&content(200_000)),
        "SHA-256",
        "deleted",
        "COUPLET_MIRROR",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    nothing_is_left(&server);
}

#[test]
fn a_small_file_with_another_content_is_deleted() {
    let server = with_transformers();
    server.rule(|request| {
        request
            .path
            .ends_with("/config.json")
            .then(|| Reaction::Answer(200, vec![], b"[]".to_vec()))
    });
    let error = failure(&server);
    assert!(
        matches!(
            error,
            HubError::HashMismatch {
                algorithm: "git hash",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_resumed_part_is_checked_with_the_rest() {
    let server = with_transformers();
    let count = AtomicUsize::new(0);
    server.rule(move |request| {
        if !request.path.starts_with("/cdn/") {
            return None;
        }
        Some(match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reaction::Cut(200, vec![], vec![0; 200_000], 100_000),
            _ => return None,
        })
    });
    let error = failure(&server);
    assert!(matches!(error, HubError::HashMismatch { .. }), "{error}");
    nothing_is_left(&server);
    // What is wrong is gone, so the next run succeeds.
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
}

#[test]
fn sizes_are_held_against_what_was_announced() {
    let server = with_transformers();
    let longer = content(200_001);
    let body = longer.clone();
    server.rule(move |request| {
        request
            .path
            .starts_with("/cdn/")
            .then(|| Reaction::Answer(200, vec![], body.clone()))
    });
    assert!(matches!(
        failure(&server),
        HubError::SizeMismatch {
            expected: 200_000,
            found: 200_001,
            ..
        }
    ));
    server.clear_rules();
    server.rule(|request| {
        request
            .path
            .starts_with("/cdn/")
            .then_some(Reaction::Endless)
    });
    assert!(matches!(
        failure(&server),
        HubError::SizeMismatch {
            expected: 200_000,
            found: 200_001,
            ..
        }
    ));
    nothing_is_left(&server);
    server.clear_rules();
    server.rule(|request| {
        let headers = vec![
            ("X-Linked-Etag", "f".repeat(64)),
            ("X-Linked-Size", "200000".to_owned()),
        ];
        request
            .path
            .contains("/resolve/")
            .then(|| Reaction::Answer(200, headers.clone(), content(200_000)))
    });
    let error = failure(&server);
    assert!(
        error.to_string().contains("announces another hash"),
        "{error}"
    );
}

#[test]
fn answers_that_are_no_listing_are_named() {
    let endless = "64 MiB";
    let cases: Vec<(Reaction, &str)> = vec![
        (
            Reaction::Answer(200, vec![], b"<!doctype html><p>Log in".to_vec()),
            "HTML instead of JSON",
        ),
        (Reaction::Answer(200, vec![], Vec::new()), "it is empty"),
        (
            Reaction::Answer(200, vec![], b"{\"sha\": ".to_vec()),
            "not the JSON that a hub sends",
        ),
        (
            Reaction::json(&json!({ "siblings": [] })),
            "names no commit",
        ),
        (
            Reaction::json(&json!({ "sha": "../..", "siblings": [] })),
            "is no commit",
        ),
        (Reaction::json(&json!({ "sha": COMMIT })), "lists no files"),
        (
            Reaction::json(&json!({ "sha": COMMIT, "siblings": [] })),
            "it has no files",
        ),
        (
            Reaction::json(&json!({ "sha": COMMIT, "siblings": 5 })),
            "not the JSON",
        ),
        (
            Reaction::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}".to_vec()),
            "cannot be used",
        ),
        (Reaction::Raw(b"garbage\r\n\r\n".to_vec()), "cannot be used"),
        (
            Reaction::Raw(b"HTTP/1.1 200 OK\r\n\x00\xff: x\r\n\r\n".to_vec()),
            "cannot be used",
        ),
        (Reaction::Raw(Vec::new()), "cannot reach"),
        (Reaction::Endless, endless),
    ];
    for (reaction, expected) in cases {
        let server = with_transformers();
        let is_endless = matches!(reaction, Reaction::Endless);
        server.rule(move |_| Some(reaction.clone()));
        let error = failure(&server);
        if is_endless {
            assert!(
                matches!(
                    error,
                    HubError::Endless {
                        limit: 67_108_864,
                        ..
                    }
                ),
                "{error}"
            );
        } else {
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }
}

#[test]
fn paths_that_would_leave_the_cache_are_refused() {
    for path in [
        "../../evil.model",
        "/etc/evil.model",
        "a\\..\\evil.model",
        "x/../../evil.model",
        "evil\u{0}.model",
    ] {
        let server = with_transformers();
        let files = json!([{ "rfilename": "config.json" }, { "rfilename": "model.safetensors" }, { "rfilename": path }]);
        server.rule(move |request| {
            request
                .path
                .contains("/api/models/")
                .then(|| Reaction::json(&json!({ "sha": COMMIT, "siblings": files })))
        });
        let error = failure(&server);
        assert!(
            matches!(error, HubError::UnsafePath { .. }),
            "{path:?}: {error}"
        );
        assert!(!server.hub_cache().exists());
    }
    // Neither a commit nor a hash becomes a path.
    let server = with_transformers();
    server.rule(|request| {
        let file = json!({ "rfilename": "config.json", "blobId": "../../../evil", "size": 2 });
        let weights = json!({ "rfilename": "model.safetensors", "lfs": { "sha256": "/evil", "size": 200_000 } });
        request.path.contains("/api/models/").then(|| Reaction::json(&json!({ "sha": COMMIT, "siblings": [file, weights] })))
    });
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert!(!server.folder.path().join("evil").exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let server = with_transformers();
    let blocked = server.folder.path().join("blocked");
    std::fs::write(&blocked, "a file").unwrap();
    let hub = server.hub(&[("HF_HUB_CACHE", blocked.to_str().unwrap())]);
    let error = fails(&hub);
    assert!(
        matches!(
            error,
            HubError::Io {
                action: "create",
                ..
            }
        ) && error.to_string().contains("blocked"),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}
