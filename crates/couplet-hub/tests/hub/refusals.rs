//! What a hub refuses, and how long it is waited for.

use crate::model::{fails, failure, with_transformers};
use crate::name;
use crate::server::Reaction;
use couplet_hub::{Hub, HubError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
        let server = with_transformers();
        server.rule(move |_| Some(reaction.clone()));
        let message = fails(&server.hub(&[("HF_TOKEN", token)])).to_string();
        for part in expected {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(server.log().len(), 1, "a refusal is final");
    }
    let server = with_transformers();
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
    let server = with_transformers();
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
    let server = with_transformers();
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
fn a_hub_that_does_not_exist_is_named() {
    let server = with_transformers();
    let hub = server.hub(&[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    let error = fails(&hub);
    assert!(
        matches!(error, HubError::Unreachable { .. }) && error.to_string().contains("127.0.0.1:9"),
        "{error}"
    );
}
#[test]
fn stalled_bodies_end_and_are_resumed() {
    let server = with_transformers();
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
    let server = with_transformers();
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
fn a_gated_repository_refuses_its_files_only() {
    let server = with_transformers();
    server.rule(|request| {
        request
            .path
            .contains("/resolve/")
            .then(|| Reaction::error(403, "GatedRepo"))
    });
    let error = failure(&server);
    assert!(
        matches!(error, HubError::Gated { .. }) && error.to_string().contains("accept its terms"),
        "{error}"
    );
}

#[test]
fn a_proxy_is_asked_and_a_token_never_travels_in_the_open() {
    let server = with_transformers();
    let proxy = server.url();
    let more = [
        ("HF_ENDPOINT", "http://hub.example"),
        ("http_proxy", proxy.as_str()),
        ("HF_TOKEN", "hf_SECRET"),
    ];
    server.rule(|_| Some(Reaction::status(403)));
    fails(&server.hub(&more));
    let requests = server.requests();
    assert!(requests[0].path.contains("hub.example"), "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    let mut settings = server.settings(&[more[0], more[1], ("NO_PROXY", "example")]);
    settings.patience.attempts = 1;
    fails(&Hub::new(settings).unwrap());
    assert!(server.log().is_empty());
}
