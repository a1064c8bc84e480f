//! Requests: redirects, retries, and who is sent the token.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, SendBody};

use crate::address::Address;
use crate::error::{HubError, printable};
use crate::progress::Progress;
use crate::settings::{Patience, Proxies, Settings};
use crate::token::Token;

/// huggingface_hub follows 20; a chain of more than 10 is a loop.
const REDIRECTS: usize = 10;

/// Bytes of an error's body that are read.
const ERROR_BODY: u64 = 64 * 1024;

/// Pauses are cut into slices, after which cancellation is looked at.
const SLICE: Duration = Duration::from_millis(50);

/// A request's method.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
}

/// A request's body.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A reader of exactly this many bytes.
    Stream(&'a mut dyn Read, u64),
}

/// An answer's head, and its body to read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Whose answer it is, after redirects.
    pub(crate) address: Address,
    /// What the hub said about the file, before it redirected elsewhere.
    pub(crate) linked: Linked,
}

/// The hub's headers about a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    /// Whether it speaks of content that is elsewhere.
    is_linked: bool,
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Another attempt would end the same way.
    Final(HubError),
    /// Another attempt may succeed, after the wait that the server asked for.
    Again(HubError, Option<Duration>),
}

/// Ends all requests of a [`Hub`](crate::Hub) from another thread, also those that wait for a server.
#[derive(Clone)]
pub struct Interrupter {
    flag: Arc<AtomicBool>,
    agents: Vec<Agent>,
}

impl Interrupter {
    /// Ends all requests: they return [`HubError::Cancelled`], as do all later ones.
    pub fn interrupt(&self) {
        self.flag.store(true, Ordering::Relaxed);
        for agent in &self.agents {
            agent.clone().shutdown();
        }
    }
}

pub(crate) struct Client {
    pub(crate) endpoint: Address,
    pub(crate) token: Option<Token>,
    pub(crate) patience: Patience,
    proxies: Proxies,
    direct: Agent,
    http: Agent,
    https: Agent,
    flag: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, HubError> {
        let patience = settings.patience.clone();
        let tls = TlsConfig::builder().root_certs(certificates()).build();
        let agent = |proxy: Option<&(&'static str, String)>| -> Result<Agent, HubError> {
            let proxy = proxy.map(|(variable, link)| {
                let problem = "it is not the link of a proxy, such as http://HOST:PORT".to_owned();
                Proxy::new(link).map_err(|_| HubError::Setting { variable, problem })
            });
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(proxy.transpose()?)
                .tls_config(tls.clone())
                .user_agent(concat!("couplet/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .max_response_header_size(64 * 1024)
                .timeout_resolve(Some(patience.connect))
                .timeout_connect(Some(patience.connect))
                .timeout_recv_response(Some(patience.stall.max(patience.connect)))
                .timeout_per_read(Some(patience.stall))
                .timeout_per_write(Some(patience.stall));
            Ok(config.build().new_agent())
        };
        Ok(Self {
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            proxies: settings.proxies.clone(),
            direct: agent(None)?,
            http: agent(settings.proxies.http.as_ref())?,
            https: agent(settings.proxies.https.as_ref())?,
            flag: Arc::default(),
            patience,
        })
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        let agents = vec![self.direct.clone(), self.http.clone(), self.https.clone()];
        Interrupter {
            flag: Arc::clone(&self.flag),
            agents,
        }
    }

    /// Whether to stop.
    pub(crate) fn is_stopped(&self, progress: &mut dyn Progress) -> bool {
        self.flag.load(Ordering::Relaxed) || progress.is_cancelled()
    }

    /// Sends a request once, and follows redirects if it has no body.
    pub(crate) fn send(
        &self,
        method: Method,
        address: &Address,
        headers: &[(&str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, Failure> {
        if !matches!(payload, Payload::None) {
            return self.exchange(method, address, headers, payload);
        }
        let mut address = address.clone();
        let mut linked = Linked::default();
        for _ in 0..=REDIRECTS {
            let mut answer = self.exchange(method, &address, headers, Payload::None)?;
            if address.is_at(&self.endpoint) {
                linked.note(&answer);
            }
            let location = answer.header("location").map(str::to_owned);
            let Some(location) =
                location.filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308))
            else {
                answer.linked = linked;
                return Ok(answer);
            };
            let next = redirected(&address, &location)?;
            // A HEAD request asks what the hub says; the server of the content says nothing about it.
            if method == Method::Head && (linked.is_linked || !next.is_at(&address)) {
                answer.linked = linked;
                return Ok(answer);
            }
            address = next;
        }
        let problem = "it would be the eleventh redirect in a row";
        Err(Failure::Final(HubError::Redirect {
            url: address.to_string(),
            target: address.to_string(),
            problem,
        }))
    }

    fn exchange(
        &self,
        method: Method,
        address: &Address,
        headers: &[(&str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, Failure> {
        let agent = match (self.proxies.spare(address), address.secure) {
            (true, _) => &self.direct,
            (false, false) => &self.http,
            (false, true) => &self.https,
        };
        let mut all: Vec<(&str, String)> = headers.to_vec();
        if let Some(token) = self.token_for(address) {
            all.push(("authorization", token.header()));
        }
        let link = address.link();
        let answer = match method {
            Method::Get | Method::Head => {
                let request = if method == Method::Get {
                    agent.get(&link)
                } else {
                    agent.head(&link)
                };
                all.iter()
                    .fold(request, |request, (name, value)| {
                        request.header(*name, value)
                    })
                    .call()
            }
            Method::Post | Method::Put => {
                let request = if method == Method::Post {
                    agent.post(&link)
                } else {
                    agent.put(&link)
                };
                let request = all.iter().fold(request, |request, (name, value)| {
                    request.header(*name, value)
                });
                match payload {
                    Payload::None => request.send_empty(),
                    Payload::Bytes(bytes) => request.send(bytes),
                    Payload::Stream(reader, length) => request
                        .header("content-length", length.to_string())
                        .send(SendBody::from_reader(reader)),
                }
            }
        };
        if self.flag.load(Ordering::Relaxed) {
            return Err(Failure::Final(HubError::Cancelled));
        }
        let (parts, body) = answer
            .map_err(|error| trouble(address, error))?
            .into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Ok(Answer {
            status,
            headers,
            body,
            address: address.clone(),
            linked: Linked::default(),
        })
    }

    /// The token goes only to the hub itself, and only where nobody else can read it.
    fn token_for(&self, address: &Address) -> Option<&Token> {
        self.token
            .as_ref()
            .filter(|_| address.is_at(&self.endpoint) && address.is_private())
    }

    /// Whether the hub is sent a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token_for(&self.endpoint).is_some()
    }

    /// Tries until it succeeds, fails for good, or was tried often enough. The attempt is told its number, from 1.
    pub(crate) fn retrying<T>(
        &self,
        progress: &mut dyn Progress,
        mut attempt: impl FnMut(&mut dyn Progress) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut tried = 0;
        loop {
            if self.is_stopped(progress) {
                return Err(HubError::Cancelled);
            }
            let failure = match attempt(progress) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            tried += 1;
            self.pause(failure, tried, progress)?;
        }
    }

    /// Waits before the next attempt, or returns the error if there is none.
    pub(crate) fn pause(
        &self,
        failure: Failure,
        tried: u32,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let (error, asked) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again(error, asked) => (error, asked),
        };
        if tried >= self.patience.attempts {
            return Err(error.after(tried));
        }
        let doubled = self
            .patience
            .first_pause
            .saturating_mul(1 << (tried - 1).min(16));
        let pause = asked
            .unwrap_or(Duration::ZERO)
            .max(doubled.min(self.patience.longest_pause));
        progress.waiting(&format!("{error}; attempt {} follows", tried + 1), pause);
        self.sleep(pause, progress)
    }

    /// Sleeps, and looks at cancellation meanwhile.
    pub(crate) fn sleep(
        &self,
        pause: Duration,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let end = Instant::now() + pause;
        loop {
            if self.is_stopped(progress) {
                return Err(HubError::Cancelled);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// What a refusal means: whether it is worth another attempt, and when.
    pub(crate) fn refused(&self, answer: &mut Answer) -> Failure {
        let status = answer.status;
        let url = answer.address.to_string();
        let error = HubError::Status {
            url: url.clone(),
            status,
            message: answer.message(),
        };
        if !matches!(status, 408 | 425 | 429 | 500..) {
            return Failure::Final(error);
        }
        let asked = answer.header("retry-after").and_then(retry_after);
        match asked {
            Some(wait) if wait > self.patience.longest_wait => {
                Failure::Final(HubError::Busy { url, status, wait })
            }
            asked => Failure::Again(error, asked),
        }
    }
}

impl HubError {
    /// The same error with the number of attempts.
    pub(crate) fn after(mut self, tried: u32) -> Self {
        if let Self::Unreachable { attempts, .. } | Self::Cut { attempts, .. } = &mut self {
            *attempts = tried;
        }
        self
    }
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    }

    /// A header that is a number; `None` also if it is something else.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name).and_then(|value| value.parse().ok())
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub(crate) fn read(self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut reader = self
            .body
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(limit + 1);
        if let Err(source) = reader.read_to_end(&mut bytes) {
            return Err(Failure::Again(
                HubError::Unreachable {
                    url: self.address.to_string(),
                    attempts: 1,
                    source,
                },
                None,
            ));
        }
        if bytes.len() as u64 > limit {
            return Err(Failure::Final(HubError::Endless {
                url: self.address.to_string(),
                limit,
            }));
        }
        Ok(bytes)
    }

    /// What the server says about a refusal: the hub's header, or the `error` of a JSON body.
    pub(crate) fn message(&mut self) -> String {
        if let Some(message) = self.header("x-error-message") {
            return printable(message);
        }
        let mut bytes = Vec::new();
        let mut reader = self.body.as_reader().take(ERROR_BODY);
        // A body that breaks off says nothing, and the status is known already.
        let _ = reader.read_to_end(&mut bytes);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let error = &value["error"];
        printable(
            error
                .as_str()
                .or_else(|| error["message"].as_str())
                .or_else(|| value["message"].as_str())
                .unwrap_or_default(),
        )
    }
}

impl Linked {
    /// Notes what the hub's answer says. What it says of a linked file stays; the storage behind may be at the same server.
    fn note(&mut self, answer: &Answer) {
        let clean = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if let Some(etag) = answer.header("x-linked-etag") {
            *self = Self {
                etag: Some(clean(etag)),
                size: answer.number("x-linked-size"),
                is_linked: true,
            };
        } else if !self.is_linked {
            let size = answer
                .number("content-length")
                .filter(|_| answer.status == 200);
            *self = Self {
                etag: answer.header("etag").map(clean),
                size,
                is_linked: false,
            };
        }
    }
}

fn redirected(address: &Address, location: &str) -> Result<Address, Failure> {
    let refuse = |target: String, problem| {
        Err(Failure::Final(HubError::Redirect {
            url: address.to_string(),
            target,
            problem,
        }))
    };
    match address.join(location) {
        Ok(next) if address.secure && !next.is_private() => {
            refuse(next.to_string(), "it leaves https")
        }
        Ok(next) => Ok(next),
        // It may hold a password.
        Err(problem) if location.contains('@') => refuse("a link with `@`".to_owned(), problem),
        Err(problem) => refuse(
            printable(location.split('?').next().unwrap_or_default()),
            problem,
        ),
    }
}

/// Whether trying again helps, by the kind of the client's error.
fn trouble(address: &Address, error: ureq::Error) -> Failure {
    let url = address.to_string();
    match error {
        ureq::Error::Protocol(problem) => Failure::Final(HubError::Protocol {
            url,
            problem: printable(&problem.to_string()),
        }),
        ureq::Error::Io(source) => Failure::Again(
            HubError::Unreachable {
                url,
                attempts: 1,
                source,
            },
            None,
        ),
        error @ (ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed) => Failure::Again(
            HubError::Unreachable {
                url,
                attempts: 1,
                source: io::Error::other(error),
            },
            None,
        ),
        error => Failure::Final(HubError::Unreachable {
            url,
            attempts: 1,
            source: io::Error::other(error),
        }),
    }
}

/// The certificates of the system or of `SSL_CERT_FILE`, for companies with their own; Mozilla's where there are none.
fn certificates() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates: Vec<Certificate<'static>> = found
        .iter()
        .map(|found| Certificate::from_der(found).to_owned())
        .collect();
    RootCerts::from(certificates)
}

/// The wait of a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    http_date(value)?.checked_sub(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?,
    )
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as the time since 1970.
fn http_date(value: &str) -> Option<Duration> {
    let mut words = value.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let name = words.next()?;
    let month = months.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let clock: Vec<u64> = words
        .next()?
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let &[hours, minutes, seconds] = clock.as_slice() else {
        return None;
    };
    if !(1970..10_000).contains(&year) || day > 31 || hours > 24 || minutes > 60 || seconds > 60 {
        return None;
    }
    // Days since 1970 by Howard Hinnant's `days_from_civil`: the year begins in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = days.checked_sub(719_468)? * 86_400 + hours * 3600 + minutes * 60 + seconds;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::{http_date, retry_after};
    use std::time::Duration;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(784_111_777))
        );
        assert_eq!(
            http_date("Thu, 01 Jan 1970 00:00:00 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(retry_after("soon"), None);
    }
}
