//! Weights of the table: by their link, from a mirror, from other programs' caches, or from the hub.

use crate::name;
use crate::server::{Reaction, Server, content, sha256};
use couplet_hub::{Activation, Hub, HubError, Licence, ModelName, Preprocess, Pretrained};

/// A row whose link holds these bytes, since nobody knows bytes with OpenAI's hashes.
fn row(bytes: &[u8], digits: usize, repository: Option<&'static str>) -> ModelName {
    let sha256: &'static str = Box::leak(sha256(bytes)[..digits].to_owned().into_boxed_str());
    let link: &'static str =
        Box::leak(format!("https://weights.example/v1/{sha256}/tiny.pt").into_boxed_str());
    ModelName::Pretrained(Box::leak(Box::new(Pretrained {
        architecture: "ViT-B-32",
        tag: "tiny",
        repository,
        link: Some(link),
        sha256: Some(sha256),
        licence: Licence {
            name: "MIT".into(),
            commercial: Some(true),
            page: String::new(),
        },
        activation: Activation::QuickGelu,
        preprocess: Preprocess {
            mean: [0.0; 3],
            std: [1.0; 3],
            interpolation: "bicubic",
            resize_mode: "shortest",
        },
    })))
}

/// A server that is everyone's mirror and has the row's file.
fn mirror(bytes: &[u8], digits: usize) -> (Server, Hub) {
    let server = Server::start();
    let path = format!(
        "mirror/weights.example/v1/{}/tiny.pt",
        &sha256(bytes)[..digits]
    );
    server.state().contents.insert(path, bytes.to_vec());
    let url = format!("{}/mirror/", server.url());
    let hub = server.hub(&[("COUPLET_MIRROR", &url), ("HF_TOKEN", "hf_SECRET")]);
    (server, hub)
}

#[test]
fn a_link_is_asked_of_the_mirror_and_kept() {
    for digits in [64, 8] {
        let bytes = content(200_000);
        let (server, hub) = mirror(&bytes, digits);
        let row = row(&bytes, digits, None);
        let plan = hub.plan(&row, &mut ()).unwrap();
        assert!(!plan.is_cached() && !plan.forbids_commercial_use());
        let fetched = hub.fetch_plan(plan, &mut ()).unwrap();
        assert_eq!(std::fs::read(&fetched.path).unwrap(), bytes);
        assert!(
            fetched
                .path
                .starts_with(server.folder.path().join("home/.cache/couplet/weights"))
        );
        assert_eq!(
            (fetched.architecture, fetched.activation),
            (Some("ViT-B-32"), Some(Activation::QuickGelu))
        );
        assert_eq!(server.log().len(), 1);
        assert!(hub.is_cached(&row));
        let again = hub.fetch(&row, &mut ()).unwrap();
        assert!(again.path == fetched.path && server.log().is_empty());
    }
}

#[test]
fn a_link_with_another_content_is_refused() {
    let bytes = content(1000);
    let (server, hub) = mirror(&bytes, 64);
    server.rule(|_| Some(Reaction::Answer(200, vec![], b"evil".to_vec())));
    let error = hub
        .fetch(&row(&bytes, 64, Some("org/clip")), &mut ())
        .unwrap_err();
    assert!(
        matches!(&error, HubError::HashMismatch { file, .. } if file == "tiny.pt"),
        "{error}"
    );
    assert_eq!(
        server.log().len(),
        1,
        "no other source is tried for a file that is wrong"
    );
    let weights = server.folder.path().join("home/.cache/couplet/weights");
    let files: Vec<_> = std::fs::read_dir(weights)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .collect();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn openai_names_are_asked_of_the_mirror_by_host() {
    let server = Server::start();
    let hub = server.hub(&[("COUPLET_MIRROR", &server.url())]);
    server.rule(|_| Some(Reaction::Answer(200, vec![], b"not the weights".to_vec())));
    let error = hub.fetch(&name("ViT-B/32"), &mut ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
        "{error}"
    );
    let log = server.log();
    assert!(
        log[0].starts_with("GET /openaipublic.azureedge.net/clip/models/40d3657"),
        "{log:?}"
    );
}

#[test]
fn a_link_that_is_gone_leaves_the_hub() {
    let bytes = content(1000);
    let (server, hub) = mirror(&bytes, 64);
    server.state().contents.clear();
    server.rule(|request| {
        let path = request.path.strip_prefix("/mirror/")?;
        (!path.starts_with("weights.example")).then(|| Reaction::redirect(&format!("/{path}")))
    });
    server.add(
        "org/clip",
        &[
            ("open_clip_config.json", b"{}"),
            ("open_clip_model.safetensors", b"weights"),
        ],
    );
    let fetched = hub
        .fetch(&row(&bytes, 64, Some("org/clip")), &mut ())
        .unwrap();
    assert!(
        fetched.path.is_dir() && fetched.notes[0].contains("404"),
        "{:?}",
        fetched.notes
    );
    let error = hub
        .fetch(&row(&bytes, 64, Some("org/none")), &mut ())
        .unwrap_err();
    assert!(
        matches!(error, HubError::Status { status: 404, .. }),
        "the first trouble is told: {error}"
    );
}

#[test]
fn a_named_hub_goes_before_links() {
    let server = Server::start();
    let files: [(&str, &[u8]); 3] = [
        ("open_clip_config.json", b"{}"),
        ("open_clip_model.safetensors", b"weights"),
        ("vocab.json", b"{}"),
    ];
    server.add("timm/vit_base_patch32_clip_224.openai", &files);
    let hub = server.hub(&[]);
    let fetched = hub
        .fetch(&name("ViT-B-32-quickgelu@openai"), &mut ())
        .unwrap();
    assert!(fetched.path.join("open_clip_model.safetensors").is_file());
    assert_eq!(fetched.architecture, Some("ViT-B-32-quickgelu"));
    assert_eq!(fetched.licence.unwrap().name, "MIT");
    server.log();
    hub.fetch(&name("ViT-B-32@openai"), &mut ()).unwrap();
    assert!(
        server.log().is_empty(),
        "weights of the table do not change"
    );
}

#[test]
fn files_of_other_programs_are_used_if_they_are_right() {
    let bytes = content(1000);
    let (server, hub) = mirror(&bytes, 64);
    let clip = server.folder.path().join("home/.cache/clip");
    std::fs::create_dir_all(&clip).unwrap();
    std::fs::write(clip.join("tiny.pt"), b"cut").unwrap();
    let fetched = hub.fetch(&row(&bytes, 64, None), &mut ()).unwrap();
    assert!(!fetched.path.starts_with(&clip));
    std::fs::remove_file(fetched.path).unwrap();
    std::fs::write(clip.join("tiny.pt"), &bytes).unwrap();
    server.log();
    let fetched = hub.fetch(&row(&bytes, 64, None), &mut ()).unwrap();
    assert!(fetched.path == clip.join("tiny.pt") && server.log().is_empty());
}

#[test]
fn a_link_offline_says_how_to_get_it() {
    let server = Server::start();
    let hub = server.hub(&[("COUPLET_OFFLINE", "1")]);
    for text in ["ViT-B-32@openai", "ViT-B-16-plus-240@laion400m_e32"] {
        let message = hub.plan(&name(text), &mut ()).unwrap_err().to_string();
        assert!(
            message.contains(&format!("couplet model download {text}"))
                && message.contains("COUPLET_OFFLINE"),
            "{message}"
        );
    }
    assert!(server.log().is_empty());
}

#[test]
fn a_licence_without_commercial_use_is_told_by_the_plan() {
    let server = Server::start();
    server.add(
        "timm/vit_base_patch32_clip_224.metaclip_400m",
        &[
            ("open_clip_config.json", b"{}"),
            ("open_clip_model.safetensors", b"w"),
        ],
    );
    let plan = server
        .hub(&[])
        .plan(&name("ViT-B-32@metaclip_400m"), &mut ())
        .unwrap();
    assert!(plan.forbids_commercial_use());
    assert_eq!(plan.licence.unwrap().name, "CC-BY-NC-4.0");
    assert!(server.log().iter().all(|line| !line.contains("/resolve/")));
}
