//! The pages of runs that are watched.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::training::{tiny, train};
use crate::workspace::{fail, succeed};

/// The JSON in a page.
fn data(page: &Answer) -> Value {
    let page = String::from_utf8(page.body.clone()).unwrap();
    let (_, data) = page
        .split_once("<script id=\"data\" type=\"application/json\">")
        .unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

/// A stream of events.
struct Events(Box<dyn Iterator<Item = String>>);

impl Events {
    fn of(server: &Server, path: &str) -> Self {
        let stream = server.connect();
        let mut writer = stream.try_clone().unwrap();
        write!(
            writer,
            "GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n",
            server.address
        )
        .unwrap();
        Self(Box::new(BufReader::new(stream).lines().map(Result::unwrap)))
    }

    /// The kind of the next event, and its data.
    fn next(&mut self) -> (String, Value) {
        let mut find = |start: &str| {
            self.0
                .find_map(|line| line.strip_prefix(start).map(str::to_string))
                .unwrap()
        };
        let kind = find("event: ");
        (kind, serde_json::from_str(&find("data: ")).unwrap())
    }
}

/// The first event of a stream.
fn event(server: &Server, path: &str) -> (String, Value) {
    Events::of(server, path).next()
}

#[test]
fn watched_runs_are_shown_and_followed() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "runs/a",
        &["--set", "schedule.length=4 steps"],
    ));
    let watch = ["watch", "runs", "--listen", "127.0.0.1:0"];
    let server = Server::start(&mut workspace.couplet(&watch));
    let list = data(&server.get("/", ""));
    assert_eq!(list["runs"][0]["folder"], "runs/a");
    let page = data(&server.get("/run?run=runs%2Fa", ""));
    assert_eq!(page["runs"][0]["places"].as_array().unwrap().len(), 4);
    assert_eq!(page["live"], "/events?run=runs%2Fa");
    assert_eq!(server.get("/run?run=..%2Ftiny.toml", "").status, 404);
    assert_eq!(server.get("/run?run=%2Fetc", "").status, 404);
    assert_eq!(server.get("/events?run=nowhere", "").status, 404);
    // A run that begins is in the list, and its steps are in its page.
    succeed(train(
        &workspace,
        "runs/b",
        &["--set", "schedule.length=6 steps"],
    ));
    let (kind, list) = event(&server, "/events");
    assert_eq!(
        (kind.as_str(), &list["runs"][1]["folder"]),
        ("list", &json!("runs/b"))
    );
    let (kind, page) = event(&server, "/events?run=runs%2Fb&run=runs%2Fa");
    assert_eq!(
        (kind.as_str(), &page["runs"][0]["places"][5]["step"]),
        ("report", &json!(6))
    );
    assert_eq!(page["runs"][1]["name"], "a");
    // A page that follows a run is told again when it has gone on.
    let mut events = Events::of(&server, "/events?run=runs%2Fb");
    assert_eq!(
        events.next().1["runs"][0]["places"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    succeed(train(
        &workspace,
        "runs/b",
        &["--resume", "--set", "schedule.length=8 steps"],
    ));
    let places = std::iter::repeat_with(|| {
        events.next().1["runs"][0]["places"]
            .as_array()
            .unwrap()
            .len()
    });
    assert!(places.take(9).any(|places| places == 8));
    // Folders that will be there.
    let watch = ["watch", "later", "--listen", "127.0.0.1:0"];
    let early = Server::start(&mut workspace.couplet(&watch));
    assert_eq!(data(&early.get("/", ""))["runs"], json!([]));
    succeed(train(
        &workspace,
        "later",
        &["--set", "schedule.length=4 steps"],
    ));
    assert_eq!(data(&early.get("/", ""))["runs"][0]["name"], "later");
    assert_eq!(early.post_bytes("/", "", b"{}").status, 413);
    // Of one run, it is the first page; a run shows its own while it trains.
    let watch = ["watch", "runs/a", "--listen", "127.0.0.1:0"];
    let server = Server::start(&mut workspace.couplet(&watch));
    assert_eq!(data(&server.get("/", ""))["runs"][0]["name"], "a");
    let mut long = train(
        &workspace,
        "runs/c",
        &[
            "--set",
            "schedule.length=100000 steps",
            "--page=127.0.0.1:0",
        ],
    );
    let server = Server::start(&mut long);
    let (_, page) = event(&server, "/events");
    assert_eq!(page["runs"][0]["state"], "running");
    let taken = format!("--page={}", server.address);
    let printed = fail(train(&workspace, "runs/d", &[&taken]), 1);
    assert!(
        printed.contains("another program has this port"),
        "{printed}"
    );
    assert!(!workspace.path("runs/d").exists());
}
