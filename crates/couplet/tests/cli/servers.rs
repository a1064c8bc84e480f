//! Servers of shards: one that fails in several ways, and third-party ones as processes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::workspace::Ended;

/// How a server fails.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// Every third answer is cut off and every fifth request is refused.
    Flaky,
    /// Every answer is cut off after this many bytes.
    Chops(usize),
    /// The server goes silent after this many bytes of the shard with this name.
    Silent(&'static str, usize),
}

/// Serves a folder; returns the port, and how often it has failed.
pub fn server(root: PathBuf, manner: Manner) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    std::thread::spawn(move || {
        let requests = AtomicUsize::new(0);
        let requests = Arc::new(requests);
        for connection in listener.incoming() {
            let (root, requests, failures) = (root.clone(), requests.clone(), counted.clone());
            std::thread::spawn(move || {
                let _ = serve(&connection.unwrap(), &root, manner, &requests, &failures);
            });
        }
    });
    (port, failures)
}

fn serve(
    mut connection: &TcpStream,
    root: &Path,
    manner: Manner,
    requests: &AtomicUsize,
    failures: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(asked) = line.strip_prefix("range: bytes=") {
            let (first, last) = asked.split_once('-').unwrap();
            range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
        }
        if line.is_empty() {
            break;
        }
    }
    let number = requests.fetch_add(1, Ordering::Relaxed);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let Ok(bytes) = fs::read(root.join(path.trim_start_matches('/'))) else {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    };
    if manner == Manner::Flaky && number % 5 == 4 {
        failures.fetch_add(1, Ordering::Relaxed);
        let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return connection.write_all(busy);
    }
    let (status, body, extra) = match range {
        Some((first, last)) => {
            let last: usize = bytes.len().min(last);
            let range = format!(
                "content-range: bytes {first}-{}/{}\r\n",
                last - 1,
                bytes.len()
            );
            ("206 Partial Content", &bytes[first..last], range)
        }
        None => ("200 OK", &bytes[..], String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}connection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    let given = match manner {
        Manner::Flaky if number % 3 == 2 => body.len() / 2,
        Manner::Chops(len) => body.len().min(len),
        Manner::Silent(name, len) if path.ends_with(name) => {
            let first = range.map_or(0, |(first, _)| first);
            body.len().min(len.saturating_sub(first))
        }
        _ => body.len(),
    };
    failures.fetch_add(usize::from(given < body.len()), Ordering::Relaxed);
    connection.write_all(&body[..given])?;
    if let Manner::Silent(..) = manner
        && given < body.len()
    {
        std::thread::sleep(Duration::from_mins(2));
    }
    Ok(())
}

/// Starts a server and waits until it listens on `port`.
pub fn start(mut command: Command, port: u16) -> Ended {
    let server = Ended(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "the server does not start"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
