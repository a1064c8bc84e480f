//! Downloads that were cut go on where they stopped.

use crate::model::{Heard, ID, WEIGHTS, with_open_clip};
use crate::name;
use crate::server::{Reaction, Server, content, git_hash, sha256};
use couplet_hub::{Hub, HubError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn cut_connections_are_resumed_where_they_ended() {
    let (server, weights) = with_open_clip();
    let cuts = AtomicUsize::new(0);
    server.rule(move |request| {
        (request.path.starts_with("/cdn/") && cuts.fetch_add(1, Ordering::Relaxed) < 3)
            .then_some(Reaction::CutOwn(70_000))
    });
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    let requests = server.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.path.starts_with("/cdn/"))
        .map(|request| request.header("range"))
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=70000-"),
            Some("bytes=140000-"),
            Some("bytes=210000-")
        ]
    );
}

#[test]
fn connections_that_are_cut_at_once_are_given_up() {
    let (server, _) = with_open_clip();
    server.rule(|request| {
        request
            .path
            .starts_with("/cdn/")
            .then_some(Reaction::CutOwn(10))
    });
    let error = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(
            error,
            HubError::Cut {
                received: 50,
                expected: Some(300_000),
                attempts: 5,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        message.contains(WEIGHTS) && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn a_stopped_download_goes_on_in_the_next_run() {
    let (server, weights) = with_open_clip();
    let mut heard = Heard {
        stop_at: Some(100_000),
        ..Heard::default()
    };
    let error = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut heard)
        .unwrap_err();
    assert!(matches!(error, HubError::Cancelled));
    let incomplete = server
        .repository_folder(ID)
        .join("blobs")
        .join(format!("{}.incomplete", sha256(&weights)));
    let there = std::fs::metadata(&incomplete).unwrap().len();
    server.log();
    let mut heard = Heard::default();
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut heard)
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    assert!(
        heard
            .events
            .contains(&format!("start {WEIGHTS} {there} Some(300000)")),
        "{:?}",
        heard.events
    );
    assert!(!incomplete.exists());
}

#[test]
fn a_wrong_beginning_is_downloaded_anew() {
    let (server, weights) = with_open_clip();
    let blobs = server.repository_folder(ID).join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(
        blobs.join(format!("{}.incomplete", sha256(&weights))),
        "of another file",
    )
    .unwrap();
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    // Longer than the file, and as long as it.
    for length in [weights.len() + 1, weights.len()] {
        std::fs::remove_file(blobs.join(sha256(&weights))).unwrap();
        std::fs::write(
            blobs.join(format!("{}.incomplete", sha256(&weights))),
            vec![0; length],
        )
        .unwrap();
        let fetched = server
            .hub(&[])
            .fetch(&name("hf:org/clip"), &mut ())
            .unwrap();
        assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    }
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (server, weights) = with_open_clip();
    let count = AtomicUsize::new(0);
    let all = weights.clone();
    server.rule(move |request| {
        let is_first = request
            .path
            .starts_with("/cdn/")
            .then(|| count.fetch_add(1, Ordering::Relaxed) == 0)?;
        Some(if is_first {
            Reaction::CutOwn(70_000)
        } else {
            Reaction::Answer(200, vec![], all.clone())
        })
    });
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
}

#[test]
fn two_at_once_download_each_file_once() {
    let (server, weights) = with_open_clip();
    server.rule(|request| {
        request
            .path
            .starts_with("/cdn/")
            .then_some(Reaction::StallOwn(1000, Duration::from_millis(300)))
    });
    let server = Arc::new(server);
    let events = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (server, events) = (Arc::clone(&server), Arc::clone(&events));
            std::thread::spawn(move || {
                let mut heard = Heard::default();
                let fetched = server
                    .hub(&[])
                    .fetch(&name("hf:org/clip"), &mut heard)
                    .unwrap();
                events.lock().unwrap().extend(heard.events);
                std::fs::read(fetched.path.join(WEIGHTS)).unwrap()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), weights);
    }
    let downloads = server
        .log()
        .iter()
        .filter(|line| line.starts_with("GET /cdn/"))
        .count();
    assert_eq!(downloads, 1);
    assert!(
        events
            .lock()
            .unwrap()
            .iter()
            .any(|event| event.contains("another process downloads"))
    );
}

#[test]
fn a_blob_of_another_size_is_replaced() {
    let (server, weights) = with_open_clip();
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    std::fs::write(
        server
            .repository_folder(ID)
            .join("blobs")
            .join(sha256(&weights)),
        "cut",
    )
    .unwrap();
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
}

#[test]
fn a_file_without_a_checkable_hash_is_resumed_only_if_it_is_unchanged() {
    for changes in [false, true] {
        let server = Server::start();
        let (before, after) = (content(200_000), content(200_001)[1..].to_vec());
        let files = |vocabulary: &[u8]| {
            let files: [(&str, &[u8]); 3] = [
                ("config.json", b"{}"),
                ("model.safetensors", b"w"),
                ("vocab.json", vocabulary),
            ];
            server.add(ID, &files);
        };
        files(&before);
        server.state().is_terse = true;
        let mut settings = server.settings(&[]);
        settings.patience.attempts = 1;
        server.rule(|request| {
            (request.method == "GET" && request.path.ends_with("/vocab.json"))
                .then_some(Reaction::CutOwn(70_000))
        });
        Hub::new(settings)
            .unwrap()
            .fetch(&name("hf:org/clip"), &mut ())
            .unwrap_err();
        server.clear_rules();
        // The hub's hash of the file stays the same, so that the same part is found; its storage has another content.
        if changes {
            let changed = after.clone();
            server.rule(move |request| {
                let is_file = request.method == "GET" && request.path.ends_with("/vocab.json");
                is_file.then(|| {
                    Reaction::Answer(200, vec![("ETag", "\"new\"".into())], changed.clone())
                })
            });
        }
        server.requests();
        let fetched = server
            .hub(&[])
            .fetch(&name("hf:org/clip"), &mut ())
            .unwrap();
        let expected = if changes { &after } else { &before };
        assert_eq!(
            &std::fs::read(fetched.path.join("vocab.json")).unwrap(),
            expected
        );
        let requests = server.requests();
        let request = requests
            .iter()
            .find(|request| request.method == "GET" && request.path.ends_with("/vocab.json"));
        let request = request.unwrap();
        assert_eq!(request.header("range"), Some("bytes=70000-"));
        assert_eq!(
            request.header("if-range"),
            Some(format!("\"{}\"", git_hash(&before)).as_str())
        );
    }
}
