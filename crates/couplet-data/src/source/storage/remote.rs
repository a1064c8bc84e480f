//! Objects read in pieces ahead of their reader.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, ObjectStoreScheme, parse_url_opts};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use url::{Position, Url};

/// Bytes that are asked for at once.
const PIECE: u64 = 4 << 20;
/// Pieces that are on their way at once; one more waits for the reader.
const AHEAD: usize = 2;
/// Tries at a piece, each with those of the store's own client, which goes on for minutes
/// while a server is busy or gone, but not when a connection breaks within an answer.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// What settings for the stores begin with in the environment.
const SETTINGS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("object-store")
        .enable_all()
        .build()
        .expect("the system gives threads for the object store's client")
});

/// Clients by server and bucket.
#[derive(Default)]
pub(in super::super) struct Stores(HashMap<String, Arc<dyn ObjectStore>>);

/// One object.
#[derive(Debug, Clone)]
pub(in super::super) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Stores {
    /// Keys and endpoints come from the environment, under the names that the clouds' own
    /// tools use.
    pub fn object(&mut self, url: &str) -> Result<Object, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let url = Url::parse(url).map_err(|error| failed(&error))?;
        let (_, path) = ObjectStoreScheme::parse(&url).map_err(|error| failed(&error))?;
        let path = Path::parse(path).map_err(|error| failed(&error))?;
        let server = url[..Position::BeforePath].to_string();
        let store = match self.0.get(&server) {
            Some(store) => store.clone(),
            None => connect(&url).map_err(|error| failed(&error))?,
        };
        self.0.insert(server, store.clone());
        Ok(Object { store, path })
    }
}

fn connect(url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
    let is_setting = |name: &str| SETTINGS.iter().any(|prefix| name.starts_with(prefix));
    let mut settings: Vec<(String, String)> = std::env::vars()
        .filter(|(name, _)| is_setting(name))
        .collect();
    let is_plain = |text: &str| text.starts_with("http://");
    if is_plain(url.as_str()) || settings.iter().any(|(_, value)| is_plain(value)) {
        settings.push(("allow_http".into(), "true".into()));
    }
    let (store, _) = parse_url_opts(url, settings)?;
    Ok(Arc::from(store))
}

/// The addresses that a pattern with `*` stands for, in the order of their names.
pub(super) fn list(pattern: &str) -> Result<Vec<String>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("`{pattern}`: {error}");
    let glob = glob::Pattern::new(pattern).map_err(|error| failed(&error))?;
    let within_folder = glob::MatchOptions {
        require_literal_separator: true,
        ..glob::MatchOptions::default()
    };
    let fixed = pattern.split('*').next().unwrap_or_default();
    let folder = &fixed[..=fixed.rfind('/').unwrap_or_default()];
    let Object { store, path } = Stores::default().object(folder)?;
    let url = Url::parse(folder).map_err(|error| failed(&error))?;
    let server = &url[..Position::BeforePath];
    let objects = store.list(Some(&path));
    let urls = objects.map_ok(|object| format!("{server}/{}", object.location));
    let urls = RUNTIME.block_on(urls.try_collect::<Vec<_>>());
    let mut urls = urls.map_err(|error| failed(&error))?;
    urls.retain(|url| glob.matches_with(url, within_folder));
    urls.sort();
    Ok(urls)
}

impl Object {
    /// Whether it can be read.
    pub fn check(&self) -> Result<(), String> {
        let head = RUNTIME.block_on(self.store.head(&self.path));
        head.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Its bytes from `offset` on, fetched ahead of their reader.
    pub fn open(&self, offset: u64) -> Box<dyn Read> {
        let (sender, pieces) = channel(1);
        let object = self.clone();
        RUNTIME.spawn(async move {
            if let Err(error) = object.send_pieces(offset, &sender).await {
                // Nobody may listen any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        Box::new(Pieces {
            pieces,
            piece: Piece::Bytes(Cursor::default()),
        })
    }

    async fn send_pieces(&self, offset: u64, sender: &Sender<io::Result<Piece>>) -> io::Result<()> {
        let size = retried(|| self.store.head(&self.path)).await?.size;
        let starts = (offset..size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let ranges = starts.map(|start| start..size.min(start + PIECE));
        let pieces = futures_util::stream::iter(ranges)
            .map(|range| retried(move || self.store.get_range(&self.path, range.clone())));
        let mut pieces = pieces.buffered(AHEAD);
        while let Some(piece) = pieces.next().await {
            let (piece, is_last) = match piece {
                Err(Error::NotSupported { .. }) => (self.whole(offset).await?, true),
                piece => (Piece::Bytes(Cursor::new(piece?)), false),
            };
            if sender.send(Ok(piece)).await.is_err() || is_last {
                break;
            }
        }
        Ok(())
    }

    /// All that a server has to give that cannot give a part, in a file without a name.
    async fn whole(&self, offset: u64) -> io::Result<Piece> {
        let fetch = || async {
            let mut file = tempfile::tempfile().map_err(as_store_error)?;
            let mut bytes = self.store.get(&self.path).await?.into_stream();
            while let Some(bytes) = bytes.try_next().await? {
                file.write_all(&bytes).map_err(as_store_error)?;
            }
            Ok(file)
        };
        let mut file = retried(fetch).await?;
        file.seek(io::SeekFrom::Start(offset))?;
        Ok(Piece::File(file))
    }
}

fn as_store_error(error: io::Error) -> Error {
    Error::Generic {
        store: "temporary file",
        source: Box::new(error),
    }
}

/// Tries again unless it is no use.
async fn retried<T, F: Future<Output = Result<T, Error>>>(
    request: impl Fn() -> F,
) -> Result<T, Error> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match request().await {
            Err(Error::Generic { .. }) => tokio::time::sleep(pause).await,
            outcome => return outcome,
        }
        pause *= 2;
    }
    request().await
}

enum Piece {
    Bytes(Cursor<Bytes>),
    File(File),
}

/// Pieces as they come.
struct Pieces {
    pieces: Receiver<io::Result<Piece>>,
    piece: Piece,
}

impl Read for Pieces {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = match &mut self.piece {
                Piece::Bytes(piece) => piece.read(bytes)?,
                Piece::File(file) => return file.read(bytes),
            };
            if len > 0 || bytes.is_empty() {
                return Ok(len);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
    }
}
