//! The server of models, spoken to as by programs.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::searching::{INDEX, run_and_photos};
use crate::server::Server;
use crate::workspace::{Workspace, fail, succeed};

fn data_url(workspace: &Workspace, file: &str) -> String {
    let bytes = fs::read(workspace.path(file)).unwrap();
    format!("data:image/png;base64,{}", base64(&bytes))
}

/// Plainly, so that the server's own decoder is not tested by its crate.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let value = three
            .iter()
            .fold(0_u32, |value, byte| value << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            text.push(if is_there {
                char::from(DIGITS[(value >> (18 - 6 * digit) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn served() -> (Workspace, Server) {
    let workspace = run_and_photos();
    fail(workspace.couplet(&INDEX), 1);
    let serve = [
        "serve",
        "--model",
        "run",
        "--index",
        "photos.index",
        "--listen",
        "127.0.0.1:0",
    ];
    let server = Server::start(&mut workspace.couplet(&serve));
    (workspace, server)
}

#[test]
fn a_server_answers_as_the_commands_do() {
    let (workspace, server) = served();
    let image = data_url(&workspace, "photos/deep/005.png");
    // Zero-shot, as `classify`.
    let classify = [
        "classify",
        "--model",
        "run",
        "--labels",
        "a dog,a cat,a cow",
        "--template",
        "a photo of {}.",
        "--json",
        "classes.json",
        "photos/deep/005.png",
    ];
    succeed(workspace.couplet(&classify));
    let asked = json!({ "image": image, "labels": ["a dog", "a cat", "a cow"], "templates": ["a photo of {}."] });
    let answer = server.post("/v1/zero-shot", &asked).json();
    let wanted = workspace.json("classes.json");
    for at in 0..3 {
        let (own, wanted) = (&answer["labels"][at], &wanted[0]["labels"][at]);
        assert_eq!(own["label"], wanted["label"]);
        let gap = own["probability"].as_f64().unwrap() - wanted["probability"].as_f64().unwrap();
        assert!(gap.abs() < 1e-4, "{own} {wanted}");
    }
    // Embeddings of texts and images, of one at a time and of several, whose cosines are those of the search.
    let search = json!({ "text": "a red circle", "limit": 200 });
    let found = server.post("/v1/search", &search).json();
    assert_eq!(found["rows"], 149);
    assert_eq!(found["hits"].as_array().unwrap().len(), 149);
    let input = json!({ "model": "any", "input": ["a red circle", image, { "image": image }, { "type": "image_url", "image_url": { "url": image } }] });
    let answer = server.post("/v1/embeddings", &input);
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(
        (&answer["object"], &answer["data"][3]["index"]),
        (&json!("list"), &json!(3))
    );
    let vector = |at: usize| -> Vec<f64> {
        let values = answer["data"][at]["embedding"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let cosine: f64 = vector(0).iter().zip(vector(1)).map(|(a, b)| a * b).sum();
    let own = found["hits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hit| hit["file"].as_str().unwrap().ends_with("005.png"));
    let own = own.unwrap();
    assert!((own["score"].as_f64().unwrap() - cosine).abs() < 1e-5);
    assert_eq!(own["caption"], "a caption <b>");
    for at in [2, 3] {
        let gap = vector(1)
            .iter()
            .zip(vector(at))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(gap < 1e-6, "{gap}");
    }
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!((4..=8).contains(&tokens), "{tokens}");
    let base64 = server
        .post(
            "/v1/embeddings",
            &json!({ "input": "a red circle", "encoding_format": "base64" }),
        )
        .json();
    assert_eq!(
        base64["data"][0]["embedding"].as_str().unwrap().len(),
        (4 * vector(0).len()).div_ceil(3) * 4
    );
    // By an image and by a row; small pictures of rows.
    let row = &own["row"];
    for query in [
        json!({ "image": image, "limit": 1 }),
        json!({ "row": row, "limit": 1 }),
    ] {
        assert_eq!(
            &server.post("/v1/search", &query).json()["hits"][0]["row"],
            row
        );
    }
    let picture = server.get(own["image"].as_str().unwrap(), "");
    assert_eq!(
        (
            picture.status,
            picture.head.contains("content-type: image/jpeg")
        ),
        (200, true)
    );
    assert_eq!(image::load_from_memory(&picture.body).unwrap().width(), 20);
}

#[test]
fn the_page_and_what_it_is_told_are_there() {
    let (_workspace, server) = served();
    for path in [
        "/",
        "/assets/elements.js",
        "/assets/serve.js",
        "/assets/serve.css",
    ] {
        assert_eq!(server.get(path, "").status, 200, "{path}");
    }
    let model = server.get("/api/model", "").json();
    assert_eq!(
        (&model["index"]["rows"], &model["classes"]),
        (&json!(149), &Value::Null)
    );
    assert_eq!(server.get("/v1/models", "").json()["data"][0]["id"], "run");
}

#[test]
fn requests_that_are_wrong_are_told_and_harm_nobody() {
    let (workspace, server) = served();
    let image = data_url(&workspace, "photos/deep/005.png");
    let status = |path: &str, body: Value, word: &str| {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.message().contains(word),
            "{body}: {}",
            answer.message()
        );
    };
    status("/v1/embeddings", json!({ "input": [] }), "1 to 512");
    status(
        "/v1/embeddings",
        json!({ "input": vec!["a"; 513] }),
        "more than 512 in a list",
    );
    status(
        "/v1/embeddings",
        json!({ "input": { "text": "a", "image": image } }),
        "one of text",
    );
    status(
        "/v1/embeddings",
        json!({ "input": [[1, 2]] }),
        "token ids are not taken",
    );
    status(
        "/v1/embeddings",
        json!({ "input": "a", "dimensions": 3 }),
        "dimensions",
    );
    status("/v1/embeddings", json!({ "input": "  " }), "empty");
    status(
        "/v1/embeddings",
        json!({ "input": ["a", { "image": "http://127.0.0.1/x.png" }] }),
        "fetches nothing",
    );
    status(
        "/v1/embeddings",
        json!({ "input": { "image": "data:image/png;base64,####" } }),
        "base64",
    );
    status(
        "/v1/embeddings",
        json!({ "input": { "image": "data:image/png;base64,aGVsbG8=" } }),
        "cannot be used",
    );
    status(
        "/v1/zero-shot",
        json!({ "image": image, "labels": ["a"] }),
        "two labels",
    );
    status(
        "/v1/zero-shot",
        json!({ "image": image }),
        "no classes of its own",
    );
    status(
        "/v1/zero-shot",
        json!({ "image": image, "labels": ["a", "b"], "templates": ["photo"] }),
        "{}",
    );
    status(
        "/v1/search",
        json!({ "text": "a", "row": 1 }),
        "one of text, image and row",
    );
    status("/v1/search", json!({ "row": 149 }), "no row 149");
    // Prompts that would fill the memory.
    let labels = json!(["a".repeat(20_000), "b".repeat(20_000)]);
    let many = json!({ "image": image, "labels": labels, "templates": ["{}".repeat(500_000)] });
    status("/v1/zero-shot", many, "a template has 1000000 bytes");
    let many = json!({ "image": image, "labels": labels, "templates": ["{}".repeat(900)] });
    status("/v1/zero-shot", many, "the prompts have about");
    status(
        "/v1/search",
        json!({ "text": "a", "limit": 0 }),
        "1 to 1000",
    );
    for body in [
        "",
        "{",
        "[1",
        "null",
        "{\"input\": 1}",
        "\u{0}",
        "{\"text\": {\"a\": \"a\"}}",
    ] {
        for path in ["/v1/embeddings", "/v1/zero-shot", "/v1/search"] {
            let answer = server.post_bytes(path, "", body.as_bytes());
            assert_eq!(answer.status, 400, "{path} {body:?}: {}", answer.message());
        }
    }
    // After all that, it answers.
    let search = json!({ "text": "a", "limit": 1 });
    assert_eq!(server.post("/v1/search", &search).status, 200);
}

#[test]
fn requests_that_are_too_large_or_from_elsewhere_are_refused() {
    let (workspace, server) = served();
    // An image of very many pixels in a small file, and a request that is too large.
    let mut png = fs::read(workspace.path("photos/deep/005.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let huge = json!({ "input": { "image": format!("data:image/png;base64,{}", base64(&png)) } });
    let answer = server.post("/v1/embeddings", &huge);
    assert!(answer.status == 400 && answer.message().contains("cannot be used"));
    let large = vec![b' '; 49 << 20];
    assert_eq!(server.post_bytes("/v1/search", "", &large).status, 413);
    // Ten at once whose values would take a hundred times their bytes: none takes much more than it has.
    let hostile = |part: &str| {
        format!(
            "{{\"input\":[{part}0]}}",
            part = part.repeat((40 << 20) / part.len())
        )
    };
    let hostile = [hostile("0,"), hostile("{\"\":0},")];
    std::thread::scope(|scope| {
        for body in hostile.iter().cycle().take(10) {
            let server = &server;
            scope.spawn(move || {
                let answer = server.post_bytes("/v1/embeddings", "", body.as_bytes());
                assert_eq!(answer.status, 400, "{}", answer.message());
            });
        }
    });
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 2 << 20, "{peak} kB");
    }
    // Only rows have pictures.
    for path in [
        "/v1/images/149",
        "/v1/images/-1",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/../../etc/passwd",
        "/assets/../../Cargo.toml",
        "/etc/passwd",
        "/v1/images/0/x",
    ] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    // Pages of others, and names that others let point here.
    assert_eq!(
        server
            .get("/v1/images/1", "origin: http://evil.example\r\n")
            .status,
        403
    );
    assert_eq!(
        server
            .get("/v1/images/1", "sec-fetch-site: cross-site\r\n")
            .status,
        403
    );
    let foreign = server.send(
        "GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
        b"",
    );
    assert_eq!(foreign.status, 403);
    let form = format!(
        "POST /v1/search HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n",
        server.address
    );
    assert_eq!(server.send(&form, b"{}").status, 415);
    let page = server.get("/", "");
    assert!(
        page.head
            .contains("content-security-policy: default-src 'self'"),
        "{}",
        page.head
    );
    assert!(
        !page.head.contains("access-control-allow-origin"),
        "{}",
        page.head
    );
    assert!(
        page.head
            .contains("cross-origin-resource-policy: same-origin"),
        "{}",
        page.head
    );
    // The picture of an image that is gone, and of one beside it.
    fs::remove_file(workspace.path("photos/deep/003.png")).unwrap();
    assert_eq!(server.get("/v1/images/3", "").status, 404);
    assert_eq!(server.get("/v1/images/4", "").status, 200);
    // After all that, it answers.
    assert_eq!(
        server
            .post("/v1/search", &json!({ "text": "a", "limit": 1 }))
            .status,
        200
    );
}

#[test]
fn many_requests_at_once_get_what_each_would_get_alone() {
    let (workspace, server) = served();
    let texts: Vec<String> = (0..40)
        .map(|at| format!("a picture of the number {at}"))
        .collect();
    let one = |text: &str| -> Vec<f64> {
        let answer = server
            .post("/v1/embeddings", &json!({ "input": text }))
            .json();
        let values = answer["data"][0]["embedding"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let alone: Vec<Vec<f64>> = texts.iter().map(|text| one(text)).collect();
    let image = data_url(&workspace, "photos/deep/005.png");
    std::thread::scope(|scope| {
        let all: Vec<_> = texts.iter().map(|text| scope.spawn(|| one(text))).collect();
        // Clients that go away in the middle, before and after they are heard.
        for at in 0..20_usize {
            let mut stream = server.connect();
            let body = json!({ "input": [image, "x"] }).to_string();
            let head = format!(
                "POST /v1/embeddings HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                server.address,
                body.len()
            );
            let whole = [head.as_bytes(), body.as_bytes()].concat();
            stream
                .write_all(&whole[..whole.len() * (at + 1) / 20])
                .unwrap();
        }
        for (found, wanted) in all
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .zip(&alone)
        {
            let gap = found
                .iter()
                .zip(wanted)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(gap < 1e-5, "{gap}");
        }
    });
}
