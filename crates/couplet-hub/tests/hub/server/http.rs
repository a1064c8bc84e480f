//! Enough of HTTP/1.1 for tests: one request per connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use super::message::{Reaction, Request};
use super::state::State;
use super::{api, pushes};

pub fn serve(mut stream: TcpStream, state: &Mutex<State>, port: u16) {
    let Some(request) = read(&mut stream) else {
        return;
    };
    let reaction = {
        let mut state = state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        state.requests.push(request.clone());
        let mut rules = std::mem::take(&mut state.rules);
        let told = rules.iter_mut().find_map(|rule| rule(&request));
        state.rules = rules;
        let own = |state: &mut State| {
            pushes::answer(state, &request, port)
                .unwrap_or_else(|| api::answer(state, &request, port))
        };
        match told {
            None => own(&mut state),
            Some(Reaction::CutOwn(bytes)) => match own(&mut state) {
                Reaction::Answer(status, headers, body) => {
                    Reaction::Cut(status, headers, body, bytes)
                }
                other => other,
            },
            Some(Reaction::StallOwn(bytes, pause)) => {
                let Reaction::Answer(status, headers, body) = own(&mut state) else {
                    return;
                };
                drop(state);
                let _ = stream.write_all(&head(status, &headers, body.len()));
                let _ = stream.write_all(&body[..bytes.min(body.len())]);
                std::thread::sleep(pause);
                let _ = stream.write_all(&body[bytes.min(body.len())..]);
                return;
            }
            Some(told) => told,
        }
    };
    let is_head = request.method == "HEAD";
    // A client that hangs up early is what many tests are about.
    let _ = match reaction {
        Reaction::Answer(status, headers, body) => {
            let sent = stream.write_all(&head(status, &headers, body.len()));
            if is_head {
                sent
            } else {
                sent.and_then(|()| stream.write_all(&body))
            }
        }
        Reaction::Cut(status, headers, body, bytes) => {
            let sent = stream.write_all(&head(status, &headers, body.len()));
            sent.and_then(|()| stream.write_all(&body[..bytes.min(body.len())]))
        }
        Reaction::Raw(bytes) => stream.write_all(&bytes),
        Reaction::Endless => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..400 {
                sent = sent.and_then(|()| stream.write_all(&chunk));
            }
            sent
        }
        Reaction::CutOwn(_) | Reaction::StallOwn(..) => unreachable!("replaced above"),
    };
}

fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(length) = request
        .header("content-length")
        .and_then(|length| length.parse().ok())
    {
        request.body = vec![0; length];
        stream.read_exact(&mut request.body).ok()?;
    } else if request.header("transfer-encoding").is_some() {
        request.body = read_chunks(stream)?;
    }
    Some(request)
}

fn read_chunks(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
