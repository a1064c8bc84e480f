//! Accepts connections, a bounded number of them, and ends those that say nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::guard;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// A client has to send a request's head within this time, and between requests of a connection.
const HEAD: Duration = Duration::from_secs(20);
/// Threads of a server; what computes runs on others.
const THREADS: usize = 2;

/// What a server answers.
#[derive(Debug, Clone)]
pub struct Routes {
    pub(crate) routes: Router,
    /// Bytes that a request's body may have.
    pub(crate) most_bytes: usize,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address}: cannot listen there{}", in_use(source))]
    Address {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the server's threads cannot be started")]
    Threads(#[source] io::Error),
}

fn in_use(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: give another, such as 127.0.0.1:0 for any that is free"
        }
        io::ErrorKind::AddrNotAvailable => "; it is no address of this machine",
        _ => "",
    }
}

/// A server that has its address, and waits to be run.
#[derive(Debug)]
pub struct Listening {
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    address: SocketAddr,
}

/// Takes an address; port 0 is any that is free.
///
/// # Errors
/// If it cannot be had.
pub fn listen(address: SocketAddr) -> Result<Listening, ListenError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("server")
        .enable_all()
        .build();
    let runtime = runtime.map_err(ListenError::Threads)?;
    let open = || -> io::Result<_> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = open().map_err(|source| ListenError::Address { address, source })?;
    Ok(Listening {
        runtime,
        listener,
        address,
    })
}

impl Listening {
    /// The address, with the port that it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the process ends.
    /// Whatever the routes are, requests of pages of other origins are refused.
    pub fn serve(self, Routes { routes, most_bytes }: Routes) {
        let Self {
            runtime,
            listener,
            address,
        } = self;
        runtime.block_on(accept(
            listener,
            guard::guarded(routes, most_bytes, address),
        ));
    }

    /// As [`Self::serve`], beside what the program does.
    pub fn serve_beside(self, routes: Routes) {
        std::thread::spawn(move || self.serve(routes));
    }
}

async fn accept(listener: tokio::net::TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the places are never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files: connections that end make room.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // A client that goes away is no error.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
