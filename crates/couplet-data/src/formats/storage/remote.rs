//! Objects that are fetched in pieces, ahead of their reader.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout_at};
use url::{Position, Url};

use crate::formats::hidden::is_hidden;

/// Bytes per request.
const PIECE: u64 = 4 << 20;
/// Pieces that are requested at once; one more waits for the reader.
const AHEAD: usize = 2;
/// The pause between retries doubles from the first to the last value.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A connection that receives nothing for this long is dropped, and the request retried.
const SILENCE: &str = "15 seconds";
/// The longest wait for a store's first answer: someone is waiting at the terminal.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
/// Prefixes of the environment variables that configure the stores.
const SETTINGS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("object-store")
        .enable_all()
        .build()
        .expect("the system gives threads for the object store's client")
});

/// Clients, one per server and bucket.
pub(crate) struct Stores {
    clients: HashMap<String, Arc<dyn ObjectStore>>,
    patience: Duration,
}

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    patience: Duration,
}

impl Stores {
    /// - patience: how long to retry while a server sends nothing.
    pub fn new(patience: Duration) -> Self {
        Self {
            clients: HashMap::new(),
            patience,
        }
    }

    /// The object at a URL. Credentials and endpoints come from the environment, under the names that
    /// the clouds' own tools use.
    pub fn object(&mut self, url: &str) -> Result<Object, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let url = Url::parse(url).map_err(|error| failed(&error))?;
        let (_, path) = ObjectStoreScheme::parse(&url).map_err(|error| failed(&error))?;
        let path = Path::parse(path).map_err(|error| failed(&error))?;
        let server = url[..Position::BeforePath].to_string();
        let store = match self.clients.get(&server) {
            Some(store) => store.clone(),
            None => connect(&url).map_err(|error| failed(&error))?,
        };
        self.clients.insert(server, store.clone());
        Ok(Object {
            store,
            path,
            patience: self.patience,
        })
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
    // A response may take any time as long as bytes arrive.
    settings.push(("read_timeout".into(), SILENCE.into()));
    settings.push(("timeout".into(), "1 day".into()));
    macro_rules! client {
        ($builder:ty, $url:expr) => {{
            let builder = <$builder>::new().with_url($url).with_retry(RetryConfig {
                // Retried in this module, which knows the bytes that have already arrived.
                max_retries: 0,
                ..RetryConfig::default()
            });
            let set = |builder: $builder, (key, value): (String, String)| match key
                .to_ascii_lowercase()
                .parse()
            {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            };
            Ok(Arc::new(settings.into_iter().fold(builder, set).build()?))
        }};
    }
    match ObjectStoreScheme::parse(url)?.0 {
        ObjectStoreScheme::AmazonS3 => client!(AmazonS3Builder, url.as_str()),
        ObjectStoreScheme::GoogleCloudStorage => client!(GoogleCloudStorageBuilder, url.as_str()),
        ObjectStoreScheme::MicrosoftAzure => client!(MicrosoftAzureBuilder, url.as_str()),
        _ => client!(HttpBuilder, &url[..Position::BeforePath]),
    }
}

/// The URLs that match a pattern with `*`, sorted by name.
pub(super) fn list(pattern: &str) -> Result<Vec<String>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("`{pattern}`: {error}");
    let glob = glob::Pattern::new(pattern).map_err(|error| failed(&error))?;
    let within_folder = glob::MatchOptions {
        require_literal_separator: true,
        ..glob::MatchOptions::default()
    };
    let fixed = pattern.split('*').next().unwrap_or_default();
    let folder = &fixed[..=fixed.rfind('/').unwrap_or_default()];
    let Object { store, path, .. } = Stores::new(FIRST_PATIENCE).object(folder)?;
    let url = Url::parse(folder).map_err(|error| failed(&error))?;
    let server = &url[..Position::BeforePath];
    let urls = || {
        let objects = store.list(Some(&path));
        let urls = objects.map_ok(|object| format!("{server}/{}", object.location));
        urls.try_collect::<Vec<_>>()
    };
    let urls = RUNTIME.block_on(retried(FIRST_PATIENCE, urls));
    let mut urls = urls.map_err(|error| failed(&as_io(error)))?;
    urls.retain(|url| glob.matches_with(url, within_folder) && !is_hidden_name(url));
    urls.sort();
    Ok(urls)
}

/// Whether an object's name is that of a hidden file.
fn is_hidden_name(url: &str) -> bool {
    let name = url.rsplit('/').next().unwrap_or_default();
    is_hidden(std::ffi::OsStr::new(name))
}

impl Object {
    /// Checks that the object can be read.
    pub fn check(&self) -> Result<(), String> {
        let patience = self.patience.min(FIRST_PATIENCE);
        let head = RUNTIME.block_on(retried(patience, || self.store.head(&self.path)));
        head.map(|_| ()).map_err(|error| as_io(error).to_string())
    }

    /// The object's length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        RUNTIME.block_on(self.head()).map_err(as_io)
    }

    /// Reads the object from `offset` on; bytes are fetched ahead of the reader.
    pub fn open(&self, offset: u64) -> Box<dyn Read> {
        let (sender, pieces) = channel(1);
        let object = self.clone();
        RUNTIME.spawn(async move {
            if let Err(error) = object.send_pieces(offset, &sender).await {
                // The reader may be gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        Box::new(Pieces {
            pieces,
            piece: Piece::Bytes(Cursor::default()),
        })
    }

    async fn head(&self) -> Result<u64, Error> {
        let head = retried(self.patience, || self.store.head(&self.path)).await?;
        Ok(head.size)
    }

    async fn send_pieces(&self, offset: u64, sender: &Sender<io::Result<Piece>>) -> io::Result<()> {
        let size = self.head().await.map_err(as_io)?;
        let starts = (offset..size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let ranges = starts.map(|start| start..size.min(start + PIECE));
        let pieces = futures_util::stream::iter(ranges).map(|range| self.piece(range));
        let mut pieces = pieces.buffered(AHEAD);
        while let Some((bytes, outcome)) = pieces.next().await {
            if let Err(Error::NotSupported { .. }) = outcome {
                let whole = Piece::File(self.whole(offset).await?);
                let _ = sender.send(Ok(whole)).await;
                return Ok(());
            }
            // Bytes that arrived before a failure are valid.
            let piece = Piece::Bytes(Cursor::new(bytes));
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
            outcome.map_err(as_io)?;
        }
        Ok(())
    }

    /// Fetches a range. Returns the bytes that arrived, and the error if there are fewer than asked for.
    /// A response that breaks off is resumed where it ended.
    async fn piece(&self, range: Range<u64>) -> (Bytes, Result<(), Error>) {
        let mut bytes = BytesMut::new();
        let mut tries = Tries::new(self.patience);
        loop {
            let before = bytes.len();
            let rest = range.start + before as u64..range.end;
            let part = timeout_at(tries.end, self.read_into(&mut bytes, rest)).await;
            if bytes.len() > before {
                tries = Tries::new(self.patience);
            }
            if bytes.len() as u64 >= range.end - range.start {
                return (bytes.freeze(), Ok(()));
            }
            let failure = part.unwrap_or_else(|_| Err(tries.given_up()));
            let failure = failure
                .err()
                .unwrap_or_else(|| generic("the answer is too short"));
            if let Err(error) = tries.again(failure).await {
                return (bytes.freeze(), Err(error));
            }
        }
    }

    async fn read_into(&self, bytes: &mut BytesMut, range: Range<u64>) -> Result<(), Error> {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let answer = self.store.get_opts(&self.path, options).await?;
        let mut parts = answer.into_stream();
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Downloads the object into an unnamed file, for servers without range requests.
    async fn whole(&self, offset: u64) -> io::Result<File> {
        let mut tries = Tries::new(self.patience);
        let mut furthest = 0;
        let mut file = loop {
            let mut file = tempfile::tempfile()?;
            let mut len = 0;
            let fetched = async {
                let mut bytes = self.store.get(&self.path).await?.into_stream();
                while let Some(part) = bytes.try_next().await? {
                    file.write_all(&part).map_err(generic)?;
                    len += part.len();
                }
                Ok(())
            };
            let Err(error) = fetched.await else {
                break file;
            };
            if len > furthest {
                (furthest, tries) = (len, Tries::new(self.patience));
            }
            tries.again(error).await.map_err(as_io)?;
        };
        file.seek(io::SeekFrom::Start(offset))?;
        Ok(file)
    }
}

/// Converts an error without the store's name in front, and with its chain of causes: a text such as
/// "connection refused" is the last of them.
fn as_io(error: Error) -> io::Error {
    let Error::Generic { source, .. } = error else {
        return error.into();
    };
    let mut text = source.to_string();
    let mut cause = source.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    io::Error::other(text)
}

fn generic(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "object store",
        source: error.into(),
    }
}

/// Attempts at a request since bytes last arrived.
struct Tries {
    patience: Duration,
    end: Instant,
    pause: Duration,
    made: u32,
    last: Option<Error>,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            end: Instant::now() + patience,
            pause: FIRST_PAUSE,
            made: 0,
            last: None,
        }
    }

    /// The error to return when time has run out.
    fn given_up(&mut self) -> Error {
        let last = self.last.take();
        last.unwrap_or_else(|| generic("the server does not answer"))
    }

    /// Waits before the next attempt; returns the error if there is none.
    async fn again(&mut self, error: Error) -> Result<(), Error> {
        let Error::Generic { .. } = error else {
            return Err(error);
        };
        self.made += 1;
        if Instant::now() + self.pause >= self.end {
            let patience = self.patience.as_secs();
            let (reason, tries) = (as_io(error), self.made);
            return Err(generic(format!(
                "{reason}; gave up after {tries} attempts without a byte within {patience} s \
                 (server_timeout)"
            )));
        }
        self.last = Some(error);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        Ok(())
    }
}

/// Retries a request until it succeeds, fails for good, or time runs out.
async fn retried<T, F: Future<Output = Result<T, Error>>>(
    patience: Duration,
    request: impl Fn() -> F,
) -> Result<T, Error> {
    let mut tries = Tries::new(patience);
    loop {
        let outcome = timeout_at(tries.end, request()).await;
        match outcome.unwrap_or_else(|_| Err(tries.given_up())) {
            Ok(value) => return Ok(value),
            Err(error) => tries.again(error).await?,
        }
    }
}

enum Piece {
    Bytes(Cursor<Bytes>),
    File(File),
}

/// Reads pieces in order, as they arrive.
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
