//! Repositories are downloaded into huggingface_hub's cache, whole and checked.

mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use couplet_hub::{HubError, ModelName, Plan, Progress, parse};
use server::{COMMIT, Reaction, Server, content, git_hash, sha256};

const ID: &str = "org/clip";
const WEIGHTS: &str = "open_clip_model.safetensors";

fn name(text: &str) -> ModelName {
    parse(text).unwrap().unwrap()
}

/// A server with a model whose weights have 300,000 bytes.
fn with_model() -> (Server, Vec<u8>) {
    let server = Server::start();
    let weights = content(300_000);
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"# Model"),
        ("open_clip_config.json", b"{\"model_cfg\": {}}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", b"another layout"),
        (WEIGHTS, &weights),
    ];
    server.add(ID, &files);
    (server, weights)
}

#[derive(Default)]
struct Heard {
    events: Vec<String>,
    last: u64,
    /// Stops once a file has this many bytes.
    stop_at: Option<u64>,
}

impl Progress for Heard {
    fn started(&mut self, file: &str, already: u64, total: Option<u64>) {
        self.events
            .push(format!("start {file} {already} {total:?}"));
    }

    fn advanced(&mut self, _: &str, done: u64, _: Option<u64>) {
        self.last = done;
    }

    fn finished(&mut self, file: &str) {
        self.events.push(format!("finish {file}"));
    }

    fn waiting(&mut self, reason: &str, _: Duration) {
        self.events.push(format!("wait {reason}"));
    }

    fn is_cancelled(&mut self) -> bool {
        self.stop_at.is_some_and(|stop| self.last >= stop)
    }
}

#[test]
fn a_repository_is_downloaded_in_the_layout_of_huggingface_hub() {
    let (server, weights) = with_model();
    let mut heard = Heard::default();
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut heard)
        .unwrap();
    let folder = server.repository_folder(ID);
    assert_eq!(fetched.path, folder.join("snapshots").join(COMMIT));
    assert_eq!(fetched.commit.as_deref(), Some(COMMIT));
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    assert!(
        !fetched.path.join("README.md").exists()
            && !fetched.path.join("model.safetensors").exists()
    );
    assert_eq!(
        std::fs::read_to_string(folder.join("refs/main")).unwrap(),
        COMMIT
    );
    let link = std::fs::read_link(fetched.path.join(WEIGHTS)).unwrap();
    assert_eq!(
        link,
        std::path::Path::new("../../blobs").join(sha256(&weights))
    );
    let config = std::fs::read_link(fetched.path.join("open_clip_config.json")).unwrap();
    assert!(config.ends_with(git_hash(b"{\"model_cfg\": {}}")));
    let lock = server
        .hub_cache()
        .join(".locks/models--org--clip")
        .join(format!("{}.lock", sha256(&weights)));
    assert!(lock.is_file());
    let blobs: Vec<_> = std::fs::read_dir(folder.join("blobs"))
        .unwrap()
        .map(|blob| blob.unwrap().file_name())
        .collect();
    assert_eq!(blobs.len(), 3, "{blobs:?}");
    assert_eq!(heard.events.last().unwrap(), &format!("finish {WEIGHTS}"));
}

#[test]
fn what_is_there_is_not_downloaded_again() {
    let (server, _) = with_model();
    let hub = server.hub(&[]);
    hub.fetch(&name("hf:org/clip"), &mut ()).unwrap();
    server.log();
    let plan = hub.plan(&name("hf:org/clip"), &mut ()).unwrap();
    assert!(plan.is_cached());
    hub.fetch_plan(plan, &mut ()).unwrap();
    assert_eq!(
        server.log(),
        ["GET /api/models/org/clip/revision/main?blobs=true"]
    );
    hub.fetch(&name(&format!("hf:org/clip@{COMMIT}")), &mut ())
        .unwrap();
    assert!(server.log().is_empty(), "a whole commit never changes");
}

#[test]
fn a_commit_without_a_tokenizer_needs_no_second_request() {
    let server = Server::start();
    server.add(
        ID,
        &[("config.json", b"{}"), ("model.safetensors", b"weights")],
    );
    let pinned = name(&format!("hf:org/clip@{COMMIT}"));
    server.hub(&[]).fetch(&pinned, &mut ()).unwrap();
    server.log();
    server.hub(&[]).fetch(&pinned, &mut ()).unwrap();
    assert!(server.log().is_empty());
}

#[test]
fn a_plan_says_files_bytes_and_licence_and_downloads_nothing() {
    let (server, weights) = with_model();
    let plan: Plan = server
        .hub(&[])
        .plan(&name("hf:org/clip@v1"), &mut ())
        .unwrap();
    let names: Vec<&str> = plan.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["open_clip_config.json", "tokenizer.json", WEIGHTS]);
    assert_eq!(
        plan.bytes_to_download(),
        Some(17 + 2 + weights.len() as u64)
    );
    assert!(!plan.is_cached() && plan.forbids_commercial_use());
    assert_eq!(plan.licence.unwrap().name, "apple-amlr");
    assert!(!server.hub_cache().exists());
}

#[test]
fn cut_connections_are_resumed_where_they_ended() {
    let (server, weights) = with_model();
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
    let (server, _) = with_model();
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
    let (server, weights) = with_model();
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
    let (server, weights) = with_model();
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
    let (server, weights) = with_model();
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
fn a_listing_without_details_is_completed_by_asking_for_each_file() {
    let (server, weights) = with_model();
    server.state().is_terse = true;
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(std::fs::read(fetched.path.join(WEIGHTS)).unwrap(), weights);
    assert!(
        server
            .log()
            .contains(&format!("HEAD /org/clip/resolve/{COMMIT}/{WEIGHTS}"))
    );
}

#[test]
fn shards_come_with_their_index() {
    let server = Server::start();
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let mut files: Vec<(&str, &[u8])> = vec![
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"one"),
        ("flax_model.msgpack", b"no"),
    ];
    server.add(ID, &files);
    let error = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("model-00002-of-00002.safetensors"),
        "{error}"
    );
    files.push(("model-00002-of-00002.safetensors", b"two"));
    server.add(ID, &files);
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert_eq!(
        std::fs::read(fetched.path.join("model-00002-of-00002.safetensors")).unwrap(),
        b"two"
    );
}

#[test]
fn offline_the_cache_answers_or_says_what_is_missing() {
    let (server, _) = with_model();
    let offline = server.hub(&[("HF_HUB_OFFLINE", "1")]);
    let error = offline.fetch(&name("hf:org/clip"), &mut ()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, HubError::Offline { .. }));
    for part in [
        "hf:org/clip",
        "HF_HUB_OFFLINE",
        "models--org--clip",
        "couplet model download hf:org/clip",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(server.log().is_empty());
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    server.log();
    let fetched = server
        .hub(&[("COUPLET_OFFLINE", "1")])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert!(fetched.path.join(WEIGHTS).is_file() && server.log().is_empty());
    std::fs::remove_file(
        server
            .repository_folder(ID)
            .join("blobs")
            .join(sha256(&content(300_000))),
    )
    .unwrap();
    let error = server
        .hub(&[("COUPLET_OFFLINE", "1")])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap_err();
    assert!(
        matches!(error, HubError::Offline { .. }),
        "weights that are gone are missing: {error}"
    );
}

#[test]
fn a_hub_that_is_away_leaves_the_cache() {
    let (server, _) = with_model();
    server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    server.rule(|_| Some(Reaction::status(503)));
    let fetched = server
        .hub(&[])
        .fetch(&name("hf:org/clip"), &mut ())
        .unwrap();
    assert!(
        fetched.notes[0].contains("503") && fetched.notes[0].contains(COMMIT),
        "{:?}",
        fetched.notes
    );
}

#[test]
fn two_at_once_download_each_file_once() {
    let (server, weights) = with_model();
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
    let (server, weights) = with_model();
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
