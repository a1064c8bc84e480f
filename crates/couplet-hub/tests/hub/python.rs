//! huggingface_hub reads what we download, we read what it downloads, and both upload alike.
//!
//! Runs if `COUPLET_PYTHON` names a Python with huggingface_hub.

use std::path::Path;
use std::process::Command;

use crate::server::{COMMIT, Request, Server, content, sha256};
use couplet_hub::{PushOptions, parse};

fn python(server: &Server, offline: bool, code: &str) -> Option<String> {
    let program = std::env::var_os("COUPLET_PYTHON")?;
    let home = server.folder.path().join("home");
    let output = Command::new(program)
        .args(["-c", code])
        .env_clear()
        .env("HOME", &home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HF_ENDPOINT", server.url())
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_TOKEN", "hf_SECRET")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(text)
}

fn with_model() -> Server {
    let server = Server::start();
    let weights = content(100_000);
    server.add(
        "org/clip",
        &[
            ("config.json", b"{}"),
            ("tokenizer.json", b"{}"),
            ("model.safetensors", &weights),
        ],
    );
    server
}

#[test]
fn huggingface_hub_reads_our_downloads() {
    let server = with_model();
    let name = parse("hf:org/clip").unwrap().unwrap();
    let fetched = server.hub(&[]).fetch(&name, &mut ()).unwrap();
    server.log();
    let code = "
from huggingface_hub import hf_hub_download, snapshot_download, scan_cache_dir
print(hf_hub_download('org/clip', 'model.safetensors'))
print(snapshot_download('org/clip'))
info = scan_cache_dir()
print(len(info.repos), info.size_on_disk, len(info.warnings))
";
    let Some(text) = python(&server, true, code) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(Path::new(lines[0]), fetched.path.join("model.safetensors"));
    assert_eq!(Path::new(lines[1]), fetched.path);
    assert_eq!(lines[2], "1 100002 0");
    assert!(server.log().is_empty());
    // With a network, it finds nothing left to download.
    python(
        &server,
        false,
        "from huggingface_hub import snapshot_download; snapshot_download('org/clip')",
    );
    let log = server.log();
    assert!(
        log.iter()
            .all(|line| !line.starts_with("GET /org/clip/resolve") && !line.contains("/cdn/")),
        "{log:?}"
    );
}

#[test]
fn we_read_downloads_of_huggingface_hub() {
    let server = with_model();
    let code =
        "from huggingface_hub import snapshot_download; print(snapshot_download('org/clip'))";
    let Some(text) = python(&server, false, code) else {
        return;
    };
    server.log();
    let name = parse("hf:org/clip").unwrap().unwrap();
    let fetched = server
        .hub(&[("HF_HUB_OFFLINE", "1")])
        .fetch(&name, &mut ())
        .unwrap();
    assert_eq!(fetched.path, Path::new(text.trim()));
    assert_eq!(
        sha256(&std::fs::read(fetched.path.join("model.safetensors")).unwrap()),
        sha256(&content(100_000))
    );
    assert!(server.log().is_empty());
    let pinned = parse(&format!("hf:org/clip@{COMMIT}")).unwrap().unwrap();
    server.hub(&[]).fetch(&pinned, &mut ()).unwrap();
    assert!(
        server.log().is_empty(),
        "a whole commit is complete as it is"
    );
    server.hub(&[]).fetch(&name, &mut ()).unwrap();
    assert_eq!(server.log().len(), 1, "only the listing is asked for");
}

/// What a request means, apart from the headers that name its program.
fn meaning(request: &Request) -> Option<String> {
    if request.path.starts_with("/api/validate-yaml") || request.method == "GET" {
        return None;
    }
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let lines: Vec<String> = body
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line)
                .map_or_else(|_| line.to_owned(), |json| sorted(&json))
        })
        .collect();
    let body = if request.method == "PUT" {
        sha256(&request.body)
    } else {
        lines.join("\n")
    };
    let kind = request
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let kind = if request.method == "PUT" {
        String::new()
    } else {
        kind
    };
    // The link that completes parts is signed; huggingface_hub leaves the token out, and the hub takes it either way.
    let token = request
        .header("authorization")
        .filter(|_| !request.path.contains("/complete/"))
        .unwrap_or("no token");
    Some(format!(
        "{} {} [{kind}] [{token}]\n{body}",
        request.method, request.path
    ))
}

/// JSON with its keys in order.
fn sorted(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{key}: {}", sorted(value)))
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        serde_json::Value::Array(values) => {
            let mut entries: Vec<_> = values.iter().map(sorted).collect();
            entries.sort();
            format!("[{}]", entries.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn uploads_are_those_of_huggingface_hub() {
    for part_size in [None, Some(70_000)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        std::fs::write(folder.path().join("empty.bin"), "").unwrap();
        std::fs::write(folder.path().join("model.safetensors"), content(200_000)).unwrap();
        let server = Server::start();
        server.state().part_size = part_size;
        let code = format!(
            "
from huggingface_hub import HfApi
api = HfApi()
api.create_repo('org/mine', private=True, exist_ok=True, repo_type='model')
print(api.upload_folder(repo_id='org/mine', folder_path={:?}, commit_message='First', revision='main').commit_url)
",
            folder.path()
        );
        let Some(url) = python(&server, false, &code) else {
            return;
        };
        let theirs: Vec<String> = server.requests().iter().filter_map(meaning).collect();
        let ours = Server::start();
        ours.state().part_size = part_size;
        let options = PushOptions {
            private: true,
            message: "First".into(),
            ..PushOptions::default()
        };
        let pushed = ours
            .hub(&[("HF_TOKEN", "hf_SECRET")])
            .push(folder.path(), "org/mine", &options, &mut ())
            .unwrap();
        assert_eq!(
            pushed.url.replace(&ours.url(), ""),
            url.trim().replace(&server.url(), "")
        );
        let sent: Vec<String> = ours.requests().iter().filter_map(meaning).collect();
        assert_eq!(sent.len(), theirs.len(), "{sent:#?}\n{theirs:#?}");
        for (one, other) in sent.iter().zip(&theirs) {
            assert_eq!(one, other);
        }
    }
}
