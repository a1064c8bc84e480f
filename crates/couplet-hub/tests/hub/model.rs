//! Models of tests, and who hears of their downloads.

use std::time::Duration;

use couplet_hub::{Hub, HubError, Progress};

use crate::name;
use crate::server::{COMMIT, Server, content, sha256};

pub const ID: &str = "org/clip";
pub const WEIGHTS: &str = "open_clip_model.safetensors";

/// A server with a model whose weights have 300,000 bytes.
pub fn with_open_clip() -> (Server, Vec<u8>) {
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
pub struct Heard {
    pub events: Vec<String>,
    pub last: u64,
    /// Stops once a file has this many bytes.
    pub stop_at: Option<u64>,
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

/// A server with a model in transformers' layout, whose weights have 200,000 bytes.
pub fn with_transformers() -> Server {
    let server = Server::start();
    let weights = content(200_000);
    server.add(
        ID,
        &[("config.json", b"{}"), ("model.safetensors", &weights)],
    );
    server
}

/// Why the model cannot be downloaded.
pub fn failure(server: &Server) -> HubError {
    fails(&server.hub(&[("HF_TOKEN", "hf_SECRET")]))
}

/// Why a hub cannot download the model; checks that no text shows a secret.
pub fn fails(hub: &Hub) -> HubError {
    let error = hub.fetch(&name("hf:org/clip"), &mut ()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("hf_SECRET") && !shown.contains("Signature"),
        "{shown}"
    );
    error
}

/// No weights are in the cache, whole or in part.
pub fn nothing_is_left(server: &Server) {
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
