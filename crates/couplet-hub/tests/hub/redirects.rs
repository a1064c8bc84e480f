//! Redirects are followed within bounds.

use crate::model::{failure, with_transformers};
use crate::name;
use crate::server::{Reaction, content};

#[test]
fn redirects_are_followed_within_bounds_and_without_the_token() {
    let server = with_transformers();
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
fn a_token_is_read_from_the_file_of_huggingface_hub() {
    let server = with_transformers();
    let file = server.folder.path().join("home/.cache/huggingface/token");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "hf_FILE\n").unwrap();
    let sent = |more: &[(&str, &str)]| {
        server
            .hub(more)
            .plan(&name("hf:org/clip"), &mut ())
            .unwrap();
        let requests = server.requests();
        requests[0].header("authorization").map(str::to_owned)
    };
    assert_eq!(sent(&[]).as_deref(), Some("Bearer hf_FILE"));
    assert_eq!(
        sent(&[("HUGGING_FACE_HUB_TOKEN", "hf_OLD")]).as_deref(),
        Some("Bearer hf_OLD")
    );
    assert_eq!(
        sent(&[("HF_TOKEN", "hf_NEW"), ("HUGGING_FACE_HUB_TOKEN", "hf_OLD")]).as_deref(),
        Some("Bearer hf_NEW")
    );
    assert_eq!(sent(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
}
