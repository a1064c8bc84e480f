//! Servers that misbehave give errors that say what happened, and never a wrong file, a panic or a hang.

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use couplet_hub::{Hub, HubError, ModelName, parse};
use serde_json::json;
use server::{COMMIT, Reaction, Server, content, sha256};

const ID: &str = "org/clip";

fn name(text: &str) -> ModelName {
    parse(text).unwrap().unwrap()
}

fn with_model() -> Server {
    let server = Server::start();
    let weights = content(200_000);
    server.add(
        ID,
        &[("config.json", b"{}"), ("model.safetensors", &weights)],
    );
    server
}

fn failure(server: &Server) -> HubError {
    fails(&server.hub(&[("HF_TOKEN", "hf_SECRET")]))
}

fn fails(hub: &Hub) -> HubError {
    let error = hub.fetch(&name("hf:org/clip"), &mut ()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("hf_SECRET") && !shown.contains("Signature"),
        "{shown}"
    );
    error
}

/// No weights are in the cache, whole or in part.
fn nothing_is_left(server: &Server) {
    let blobs = server.repository_folder(ID).join("blobs");
    let hash = sha256(&content(200_000));
    for name in [hash.clone(), format!("{hash}.incomplete")] {
        assert!(!blobs.join(&name).exists(), "{name}");
    }
    assert!(
        !server
            .repository_folder(ID)
            .join("snapshots")
            .join(COMMIT)
            .join("model.safetensors")
            .exists()
    );
}

#[test]
fn a_file_with_another_content_is_deleted() {
    let server = with_model();
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
    let server = with_model();
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
    let server = with_model();
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
    let server = with_model();
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
        let server = with_model();
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
        let server = with_model();
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
    let server = with_model();
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
fn refusals_of_the_hub_say_what_to_do() {
    let cases: [(Reaction, &str, &[&str]); 6] = [
        (
            Reaction::error(403, "GatedRepo"),
            "hf_SECRET",
            &["gated", "/org/clip", "HF_TOKEN", "token"],
        ),
        (
            Reaction::error(404, "RepoNotFound"),
            "",
            &["no repository `org/clip`", "private", "HF_TOKEN"],
        ),
        (
            Reaction::error(401, "RepoNotFound"),
            "hf_SECRET",
            &["no repository", "the token that was sent may not see it"],
        ),
        (
            Reaction::error(404, "RevisionNotFound"),
            "",
            &["no revision `main`"],
        ),
        (
            Reaction::Answer(
                401,
                vec![(
                    "X-Error-Message",
                    "Invalid credentials in Authorization header".into(),
                )],
                vec![],
            ),
            "hf_SECRET",
            &["refuses the token", "Invalid credentials"],
        ),
        (
            Reaction::Answer(418, vec![], b"{\"error\": \"a teapot\"}".to_vec()),
            "",
            &["418", "a teapot"],
        ),
    ];
    for (reaction, token, expected) in cases {
        let server = with_model();
        server.rule(move |_| Some(reaction.clone()));
        let message = fails(&server.hub(&[("HF_TOKEN", token)])).to_string();
        for part in expected {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(server.log().len(), 1, "a refusal is final");
    }
    let server = with_model();
    server.rule(|request| {
        request
            .path
            .contains("/resolve/")
            .then(|| Reaction::error(404, "EntryNotFound"))
    });
    assert!(
        failure(&server)
            .to_string()
            .contains("no file `config.json`")
    );
}

#[test]
fn busy_servers_are_asked_again_but_not_for_ever() {
    let server = with_model();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    server.rule(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Some(Reaction::Answer(
            429,
            vec![("Retry-After", "0".into())],
            vec![],
        )),
        1 => Some(Reaction::status(502)),
        2 => Some(Reaction::Raw(Vec::new())),
        _ => None,
    });
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    server.clear_rules();
    server.log();
    std::fs::remove_dir_all(server.hub_cache()).unwrap();
    server.rule(|_| Some(Reaction::status(500)));
    assert!(matches!(
        failure(&server),
        HubError::Status { status: 500, .. }
    ));
    assert_eq!(server.log().len(), 5);
    server.clear_rules();
    server.rule(|_| {
        Some(Reaction::Answer(
            429,
            vec![("Retry-After", "86400".into())],
            vec![],
        ))
    });
    let begin = Instant::now();
    let error = failure(&server);
    assert!(
        error.to_string().contains("86400 seconds") && begin.elapsed() < Duration::from_secs(1),
        "{error}"
    );
}

#[test]
fn retry_after_is_waited_for() {
    let server = with_model();
    let count = AtomicUsize::new(0);
    server.rule(move |_| {
        let busy = Reaction::Answer(503, vec![("Retry-After", "1".into())], vec![]);
        (count.fetch_add(1, Ordering::Relaxed) == 0).then_some(busy)
    });
    let begin = Instant::now();
    server.hub(&[]).plan(&name("hf:org/clip"), &mut ()).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[test]
fn stalled_bodies_end_and_are_resumed() {
    let server = with_model();
    server.rule(|request| {
        let is_first = request.path.starts_with("/cdn/") && request.header("range").is_none();
        is_first.then_some(Reaction::StallOwn(150_000, Duration::from_secs(5)))
    });
    let mut settings = server.settings(&[]);
    settings.patience.stall = Duration::from_millis(300);
    let begin = Instant::now();
    Hub::new(settings.clone())
        .unwrap()
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3));
    server.clear_rules();
    std::fs::remove_dir_all(server.hub_cache()).unwrap();
    server.rule(|request| {
        request
            .path
            .contains("/api/")
            .then_some(Reaction::StallOwn(0, Duration::from_secs(5)))
    });
    settings.patience.attempts = 2;
    let begin = Instant::now();
    let error = fails(&Hub::new(settings).unwrap());
    assert!(
        matches!(error, HubError::Unreachable { attempts: 2, .. }),
        "{error}"
    );
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_interrupt_ends_a_wait() {
    let server = with_model();
    server.rule(|request| {
        request
            .path
            .starts_with("/cdn/")
            .then_some(Reaction::StallOwn(1000, Duration::from_secs(5)))
    });
    let hub = server.hub(&[]);
    let interrupter = hub.interrupter();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        interrupter.interrupt();
    });
    let begin = Instant::now();
    assert!(matches!(fails(&hub), HubError::Cancelled));
    assert!(
        begin.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn redirects_are_followed_within_bounds_and_without_the_token() {
    let server = with_model();
    // A repository that was renamed, and a storage that moved a file: both say so by relative links.
    server.add(
        "new/clip",
        &[
            ("config.json", b"{}"),
            ("model.safetensors", &content(200_000)),
        ],
    );
    server.rule(move |request| {
        if let Some(rest) = request.path.strip_prefix("/org/clip/resolve/") {
            return Some(Reaction::redirect(&format!("/new/clip/resolve/{rest}")));
        }
        (request.path.starts_with("/cdn/") && !request.path.contains("moved"))
            .then(|| Reaction::redirect("?moved"))
    });
    server
        .hub(&[("HF_TOKEN", "hf_SECRET")])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    for request in server.requests() {
        let is_hub = request.header("host").unwrap().starts_with("127.");
        assert!(is_hub != request.path.starts_with("/cdn/"));
        assert_eq!(
            request.header("authorization"),
            is_hub.then_some("Bearer hf_SECRET"),
            "{}",
            request.path
        );
    }
    std::fs::remove_dir_all(server.hub_cache()).unwrap();
    for (target, expected) in [
        ("/api/models/org/clip/revision/main", "eleventh redirect"),
        ("file:///etc/passwd", "not a link with http"),
        ("http://user:pass@host/", "password"),
        ("http://\u{1b}/", "not followed"),
    ] {
        server.clear_rules();
        server.rule(move |_| Some(Reaction::redirect(target)));
        let error = failure(&server);
        assert!(
            error.to_string().contains(expected) || target.contains('\u{1b}'),
            "{target}: {error}"
        );
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let server = with_model();
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

#[test]
fn a_hub_that_does_not_exist_is_named() {
    let server = with_model();
    let hub = server.hub(&[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    let error = fails(&hub);
    assert!(
        matches!(error, HubError::Unreachable { .. }) && error.to_string().contains("127.0.0.1:9"),
        "{error}"
    );
}
