//! Repositories are downloaded into huggingface_hub's cache, whole and checked.

use crate::model::{Heard, ID, WEIGHTS, with_open_clip};
use crate::name;
use crate::server::{COMMIT, Reaction, Server, content, git_hash, sha256};
use couplet_hub::{HubError, Plan};

#[test]
fn a_repository_is_downloaded_in_the_layout_of_huggingface_hub() {
    let (server, weights) = with_open_clip();
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
    let (server, _) = with_open_clip();
    let hub = server.hub(&[]);
    hub.fetch(&name("hf:org/clip"), &mut ()).unwrap();
    server.log();
    let plan = hub.plan(&name("hf:org/clip"), &mut ()).unwrap();
    assert!(plan.is_cached() && hub.is_cached(&name("hf:org/clip")));
    assert!(!hub.is_cached(&name("hf:org/other")));
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
    let (server, weights) = with_open_clip();
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
fn a_listing_without_details_is_completed_by_asking_for_each_file() {
    let (server, weights) = with_open_clip();
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
    let (server, _) = with_open_clip();
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
    let (server, _) = with_open_clip();
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
