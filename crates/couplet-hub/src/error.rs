//! What can go wrong between a name and its weights.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why weights could not be found, downloaded or uploaded.
///
/// A message says what failed and where; the cause is only in `source()`. No message holds a token, nor the query of a link,
/// which may be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that looks like weights, but is none that is known.
    #[error("no weights are called `{name}`: {hint}")]
    UnknownName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it, and the nearest names.
        hint: String,
    },
    /// An environment variable that cannot be used.
    #[error("the environment variable {variable} cannot be used: {problem}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// Offline mode, and the cache lacks files.
    #[error("{what} is not in the cache, and {variable} forbids downloads; looked in `{}`. {remedy}", .cache.display())]
    Offline {
        /// What is missing.
        what: String,
        /// The variable that turns downloads off.
        variable: &'static str,
        /// The folder that would have it.
        cache: PathBuf,
        /// How to get it.
        remedy: String,
    },
    /// No answer, however often it was tried.
    #[error("cannot reach `{url}`{}", tries(*.attempts))]
    Unreachable {
        /// The link, without its query.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt met.
        source: io::Error,
    },
    /// A transfer that ended early, however often it was resumed.
    #[error(
        "the download of `{file}` from `{url}` stopped after {received} bytes{}{}; run the command again to go on from there",
        of(*.expected), tries(*.attempts)
    )]
    Cut {
        /// The file.
        file: String,
        /// The link, without its query.
        url: String,
        /// Bytes that are on the disk.
        received: u64,
        /// Bytes that the file has, if the server said so.
        expected: Option<u64>,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt met.
        source: io::Error,
    },
    /// An answer that is a refusal.
    #[error("`{url}` answered with HTTP status {status}{}", said(.message))]
    Status {
        /// The link, without its query.
        url: String,
        /// HTTP's code.
        status: u16,
        /// The hub's code, such as `GatedRepo`.
        code: Option<String>,
        /// What the server said, shortened; empty if nothing.
        message: String,
    },
    /// A server that asks for a longer wait than is sensible.
    #[error("`{url}` answered with HTTP status {status} and asks to wait for {} seconds; try again then", .wait.as_secs())]
    Busy {
        /// The link, without its query.
        url: String,
        /// HTTP's code.
        status: u16,
        /// How long it asks to wait.
        wait: Duration,
    },
    /// A repository whose terms must be accepted on its page.
    #[error(
        "the repository `{repository}` is gated: log in at {page}, accept its terms there, and give a token of that account ({token})"
    )]
    Gated {
        /// `org/name`.
        repository: String,
        /// Where its terms are.
        page: String,
        /// Where a token is read from.
        token: String,
    },
    /// A repository that does not exist, or that the token may not see.
    #[error("{endpoint} has no repository `{repository}`, or it is private{}", nearest(.token))]
    RepositoryNotFound {
        /// `org/name`.
        repository: String,
        /// The hub that was asked.
        endpoint: String,
        /// What to do if it is private.
        token: String,
    },
    /// A branch, tag or commit that does not exist.
    #[error("the repository `{repository}` has no revision `{revision}`")]
    RevisionNotFound {
        /// `org/name`.
        repository: String,
        /// The revision.
        revision: String,
    },
    /// A file that a repository does not have.
    #[error("the repository `{repository}` has no file `{file}` at revision `{revision}`")]
    EntryNotFound {
        /// `org/name`.
        repository: String,
        /// The revision.
        revision: String,
        /// The file.
        file: String,
    },
    /// A token that the hub does not take.
    #[error("{endpoint} refuses the token for `{repository}` (HTTP status {status}{}); {token}", comma(.message))]
    TokenRefused {
        /// `org/name`.
        repository: String,
        /// The hub that was asked.
        endpoint: String,
        /// HTTP's code.
        status: u16,
        /// What the hub said.
        message: String,
        /// Where a token is read from.
        token: String,
    },
    /// A repository without the weights of a model.
    #[error(
        "the repository `{repository}` has no weights of a CLIP model: it needs {needs}; it has {has}"
    )]
    NoWeights {
        /// `org/name`.
        repository: String,
        /// The files that it would need.
        needs: String,
        /// Some of the files that it has.
        has: String,
    },
    /// A server that breaks the protocol.
    #[error("`{url}` gave an answer that cannot be used: {problem}")]
    Protocol {
        /// The link, without its query.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A redirect that must not be followed.
    #[error("`{url}` redirects to `{target}`, which is not followed: {problem}")]
    Redirect {
        /// The link, without its query.
        url: String,
        /// Where it points.
        target: String,
        /// Why not.
        problem: &'static str,
    },
    /// A file name in a listing that would leave the folder.
    #[error(
        "the listing of `{repository}` has the path `{path}`, which could leave the cache's folder; nothing was downloaded"
    )]
    UnsafePath {
        /// `org/name`.
        repository: String,
        /// The path, escaped.
        path: String,
    },
    /// A file with another content than was announced.
    #[error(
        "`{file}` from `{url}` has the {algorithm} {found}, expected {expected}; the download was deleted. Try again; if it happens \
         again, the server or a proxy changes the file, so use another source (HF_ENDPOINT or COUPLET_MIRROR)"
    )]
    HashMismatch {
        /// The file.
        file: String,
        /// Where it came from, without its query.
        url: String,
        /// `SHA-256` or `git hash`.
        algorithm: &'static str,
        /// The hash that it should have; a prefix where no more is published.
        expected: String,
        /// The hash that it has.
        found: String,
    },
    /// A file with another size than was announced.
    #[error(
        "`{file}` from `{url}` should have {expected} bytes and has {found}; the download was deleted. Try again"
    )]
    SizeMismatch {
        /// The file.
        file: String,
        /// Where it came from, without its query.
        url: String,
        /// Announced bytes.
        expected: u64,
        /// Received bytes; one too many if the server did not stop.
        found: u64,
    },
    /// A body without an announced size that does not end.
    #[error("`{url}` announces no size and sent more than {limit} bytes")]
    Endless {
        /// The link, without its query.
        url: String,
        /// Bytes that are read at most.
        limit: u64,
    },
    /// The disk: full, not writable, or broken.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that cannot be uploaded.
    #[error("cannot upload `{}`: {problem}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A push without a token.
    #[error("an upload to `{repository}` needs a token with write access; {token}")]
    NoToken {
        /// `org/name`.
        repository: String,
        /// Where a token is read from.
        token: String,
    },
    /// A large file that the hub does not take.
    #[error("the hub refuses `{file}` (code {code}): {message}")]
    UploadRefused {
        /// The file.
        file: String,
        /// The hub's code.
        code: u64,
        /// What the hub said.
        message: String,
    },
    /// The caller asked to stop. What was downloaded stays for the next time.
    #[error("stopped on request; what was downloaded is kept, and the next run goes on from there")]
    Cancelled,
}

impl HubError {
    /// An error of the file system.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The same error with the number of attempts.
    pub(crate) fn after(mut self, tried: u32) -> Self {
        if let Self::Unreachable { attempts, .. } | Self::Cut { attempts, .. } = &mut self {
            *attempts = tried;
        }
        self
    }

    /// Whether another source may still have the file: nothing says that this one's content is wrong.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => *status >= 400,
            _ => false,
        }
    }

    /// Whether the cache may be used instead: the server is away, rather than refusing.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// A text from outside for a message: on one line, without control characters, and not too long.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim().chars().take(300) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn tries(attempts: u32) -> String {
    if attempts > 1 {
        format!(" ({attempts} attempts)")
    } else {
        String::new()
    }
}

fn of(expected: Option<u64>) -> String {
    expected.map_or_else(String::new, |bytes| format!(" of {bytes}"))
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

fn comma(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(", {message}")
    }
}

fn nearest(token: &str) -> String {
    if token.is_empty() {
        String::new()
    } else {
        format!("; if it is private, {token}")
    }
}
