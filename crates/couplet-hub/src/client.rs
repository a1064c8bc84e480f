//! Requests: redirects, retries, and who is sent the token.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy, SendBody};

use crate::address::Address;
use crate::answer::{Answer, Linked};
use crate::error::{HubError, printable};
use crate::failure::{Failure, trouble};
use crate::progress::Progress;
use crate::settings::{Patience, Proxies, Settings};
use crate::token::Token;
use crate::waits::retry_after;

/// huggingface_hub follows 20; a chain of more than 10 is a loop.
const REDIRECTS: usize = 10;

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
            if method == Method::Head && (linked.is_elsewhere || !next.is_at(&address)) {
                answer.linked = linked;
                return Ok(answer);
            }
            address = next;
        }
        let problem = "it would be the eleventh redirect in a row";
        Err(Failure::last(HubError::Redirect {
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
        // An upload's link is signed, and its storage has no use for the token.
        if let Some(token) = self.token_for(address).filter(|_| method != Method::Put) {
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
                // The hub answers once a commit is made, or once storage has joined an upload's parts.
                let patience = Some(self.patience.upload);
                let request = request
                    .config()
                    .timeout_recv_response(patience)
                    .timeout_per_read(patience)
                    .build();
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
            return Err(Failure::last(HubError::Cancelled));
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
            Failure::Final(error) => return Err(*error),
            Failure::Again(error, asked) => (*error, asked),
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
            code: answer.header("x-error-code").map(printable),
            message: answer.message(),
        };
        if !matches!(status, 408 | 425 | 429 | 500..) {
            return Failure::last(error);
        }
        let asked = answer.header("retry-after").and_then(retry_after);
        match asked {
            Some(wait) if wait > self.patience.longest_wait => {
                Failure::last(HubError::Busy { url, status, wait })
            }
            asked => Failure::Again(Box::new(error), asked),
        }
    }
}

fn redirected(address: &Address, location: &str) -> Result<Address, Failure> {
    let refuse = |target: String, problem| {
        Err(Failure::last(HubError::Redirect {
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

#[cfg(test)]
mod tests {
    use super::redirected;
    use crate::address::Address;

    #[test]
    fn redirects_never_leave_https_but_for_this_machine() {
        let follow = |from: &str, to: &str| match redirected(&Address::parse(from).unwrap(), to) {
            Ok(address) => address.link(),
            Err(failure) => failure.into_error().to_string(),
        };
        assert!(
            follow("https://hub.example/a", "http://cdn.example/a").contains("it leaves https")
        );
        assert_eq!(
            follow("https://hub.example/a", "https://cdn.example/a"),
            "https://cdn.example/a"
        );
        assert_eq!(
            follow("https://hub.example/a", "http://127.0.0.1:1/a"),
            "http://127.0.0.1:1/a"
        );
        assert_eq!(
            follow("http://hub.example/a", "http://cdn.example/a"),
            "http://cdn.example/a"
        );
    }
}
