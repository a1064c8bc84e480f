//! Where weights come from and where they are kept, as the environment says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::environment::Environment;
use crate::error::HubError;
use crate::token::Token;

/// The hub that is asked if no variable names another.
const HUB: &str = "https://huggingface.co";

/// How long is waited, and how often is tried again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Attempts at a request, and attempts at a transfer that bring no progress.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub first_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
    /// The longest wait that a server may ask for (`Retry-After`).
    pub longest_wait: Duration,
    /// For a connection, with DNS and TLS.
    pub connect: Duration,
    /// For the first bytes of an answer, and between two reads of a body.
    pub stall: Duration,
    /// For the answer to an upload or a commit.
    pub upload: Duration,
}

impl Default for Patience {
    /// 5 attempts with pauses from 0.5 s to 8 s, waits of up to 60 s, and 10 s for a connection or a stalled body
    /// (huggingface_hub's `DEFAULT_DOWNLOAD_TIMEOUT`); 2 minutes for the answer to an upload.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
            longest_wait: Duration::from_mins(1),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            upload: Duration::from_mins(2),
        }
    }
}

/// What the environment says about weights.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub: the mirror's, that of `HF_ENDPOINT`, or Hugging Face's own.
    pub(crate) endpoint: Address,
    /// Whether a variable named the endpoint.
    pub(crate) is_endpoint_given: bool,
    /// Stands for all servers (`COUPLET_MIRROR`).
    pub(crate) mirror: Option<Address>,
    /// huggingface_hub's cache.
    pub(crate) hub_cache: PathBuf,
    /// Our cache of linked files.
    pub(crate) link_cache: PathBuf,
    /// Folders of other programs that may have linked files.
    pub(crate) other_caches: Vec<PathBuf>,
    pub(crate) token: Option<Token>,
    /// The file that a token would be in.
    pub(crate) token_file: PathBuf,
    /// The variable that forbids downloads.
    pub(crate) offline: Option<&'static str>,
    pub(crate) proxies: Proxies,
    /// How long is waited.
    pub patience: Patience,
}

/// The links of proxies, and the hosts that need none.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    pub(crate) http: Option<(&'static str, String)>,
    pub(crate) https: Option<(&'static str, String)>,
    pub(crate) exceptions: Vec<String>,
}

/// A proxy's link may hold a password.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("exceptions", &self.exceptions)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the variables of huggingface_hub (its `constants.py`: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_DOWNLOAD_TIMEOUT` and their older names),
    /// `XDG_CACHE_HOME`, those of proxies, and ours:
    ///
    /// - `COUPLET_MIRROR`: a base link that stands for all servers. Repositories are asked of it as of a hub
    ///   (`MIRROR/api/models/…`, `MIRROR/ORG/NAME/resolve/…`), and a file of another server is `MIRROR/HOST/PATH`. It goes
    ///   before `HF_ENDPOINT`.
    /// - `COUPLET_OFFLINE`: no requests, only the caches.
    /// - `COUPLET_CACHE`: where linked files are kept; `$XDG_CACHE_HOME/couplet` or `~/.cache/couplet` without it.
    ///
    /// # Errors
    ///
    /// [`HubError::Setting`] for a link or a number that cannot be used.
    pub fn from_environment(environment: &Environment) -> Result<Self, HubError> {
        let home = environment.home();
        let caches = environment
            .path("XDG_CACHE_HOME")
            .unwrap_or_else(|| home.join(".cache"));
        let hf_home = environment
            .path("HF_HOME")
            .unwrap_or_else(|| caches.join("huggingface"));
        let hub_cache = environment
            .path("HF_HUB_CACHE")
            .or_else(|| environment.path("HUGGINGFACE_HUB_CACHE"));
        let mirror = link(environment, "COUPLET_MIRROR")?;
        let endpoint = match &mirror {
            Some(mirror) => Some(mirror.clone()),
            None => link(environment, "HF_ENDPOINT")?,
        };
        let token_file = environment
            .path("HF_TOKEN_PATH")
            .unwrap_or_else(|| hf_home.join("token"));
        let offline = ["COUPLET_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let mut patience = Patience::default();
        if let Some(seconds) = environment.get("HF_HUB_DOWNLOAD_TIMEOUT") {
            let seconds = seconds
                .parse()
                .ok()
                .filter(|seconds| *seconds > 0)
                .ok_or_else(|| HubError::Setting {
                    variable: "HF_HUB_DOWNLOAD_TIMEOUT",
                    problem: "it is not a whole number of seconds above 0".to_owned(),
                })?;
            patience.stall = Duration::from_secs(seconds);
        }
        Ok(Self {
            is_endpoint_given: endpoint.is_some(),
            endpoint: endpoint.unwrap_or_else(|| Address::parse(HUB).expect("a link")),
            mirror,
            hub_cache: hub_cache.unwrap_or_else(|| hf_home.join("hub")),
            link_cache: environment
                .path("COUPLET_CACHE")
                .unwrap_or_else(|| caches.join("couplet")),
            // Both OpenAI's `clip.load` and open_clip's downloads of links use this folder, whatever XDG_CACHE_HOME says.
            other_caches: vec![home.join(".cache/clip")],
            token: token(environment, &token_file)?,
            token_file,
            offline: offline
                .into_iter()
                .find(|variable| environment.is_true(variable)),
            proxies: proxies(environment),
            patience,
        })
    }

    /// huggingface_hub's cache, where repositories are kept.
    pub fn hub_cache(&self) -> &Path {
        &self.hub_cache
    }

    /// The folder where linked files are kept.
    pub fn link_cache(&self) -> &Path {
        &self.link_cache
    }

    /// The hub that is asked, as a link.
    pub fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }

    /// The variable that forbids downloads, if one does.
    pub fn offline(&self) -> Option<&'static str> {
        self.offline
    }

    /// What to do about a token, for messages.
    pub(crate) fn token_hint(&self) -> String {
        format!(
            "set HF_TOKEN, or log in with `hf auth login`, which writes `{}`",
            self.token_file.display()
        )
    }
}

fn link(environment: &Environment, variable: &'static str) -> Result<Option<Address>, HubError> {
    let Some(value) = environment.get(variable) else {
        return Ok(None);
    };
    let address = match Address::parse(value.trim_end_matches('/')) {
        Ok(_) if value.contains(['?', '#']) => Err("it has a query or a fragment"),
        address => address,
    };
    address.map(Some).map_err(|problem| HubError::Setting {
        variable,
        problem: problem.to_owned(),
    })
}

fn token(environment: &Environment, file: &Path) -> Result<Option<Token>, HubError> {
    if environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = environment.get(variable) {
            let problem = "it has characters that no token has".to_owned();
            return Token::new(&value)
                .map(Some)
                .ok_or(HubError::Setting { variable, problem });
        }
    }
    Ok(std::fs::read_to_string(file)
        .ok()
        .and_then(|text| Token::new(&text)))
}

fn proxies(environment: &Environment) -> Proxies {
    let first = |variables: &[&'static str]| environment.first(variables);
    let exceptions = first(&["no_proxy", "NO_PROXY"])
        .map(|(_, value)| value)
        .unwrap_or_default();
    Proxies {
        // HTTP_PROXY in capitals could come from a request's header in CGI, which this is not.
        http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
        https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        exceptions: exceptions
            .split(',')
            .map(|host| host.trim().to_ascii_lowercase())
            .filter(|host| !host.is_empty())
            .collect(),
    }
}

impl Proxies {
    /// Whether a host is reached without a proxy: `NO_PROXY` names it or a domain above it, or it is this machine.
    pub(crate) fn spare(&self, address: &Address) -> bool {
        address.is_loopback()
            || self.exceptions.iter().any(|exception| {
                let (name, port) = exception
                    .rsplit_once(':')
                    .map_or((exception.as_str(), None), |(name, port)| {
                        (name, port.parse().ok())
                    });
                let name = name.trim_start_matches(['*', '.']);
                let below = address
                    .host
                    .strip_suffix(name)
                    .is_some_and(|front| front.is_empty() || front.ends_with('.'));
                (exception == "*" || (!name.is_empty() && below))
                    && port.is_none_or(|port: u16| port == address.port)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Proxies, Settings};
    use crate::address::Address;
    use crate::environment::Environment;
    use crate::error::HubError;
    use std::path::Path;

    fn settings(variables: &'static [(&'static str, &'static str)]) -> Result<Settings, HubError> {
        Settings::from_environment(&Environment::new(move |wanted| {
            let found = variables.iter().find(|(variable, _)| *variable == wanted);
            found.map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn caches_are_where_huggingface_hub_has_them() {
        let of = |variables| settings(variables).unwrap();
        assert_eq!(
            of(&[("HOME", "/h")]).hub_cache,
            Path::new("/h/.cache/huggingface/hub")
        );
        assert_eq!(
            of(&[("HOME", "/h")]).link_cache,
            Path::new("/h/.cache/couplet")
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).hub_cache,
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(
            of(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]).hub_cache,
            Path::new("/f/hub")
        );
        assert_eq!(
            of(&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")]).hub_cache,
            Path::new("/o")
        );
        assert_eq!(
            of(&[("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/n")]).hub_cache,
            Path::new("/n")
        );
        assert_eq!(of(&[("HF_HOME", "/f")]).token_file, Path::new("/f/token"));
        assert_eq!(
            of(&[("HF_HOME", "/f"), ("HF_TOKEN_PATH", "/t")]).token_file,
            Path::new("/t")
        );
    }

    #[test]
    fn the_mirror_goes_before_the_endpoint() {
        let both = settings(&[
            ("COUPLET_MIRROR", "http://127.0.0.1:9/base/"),
            ("HF_ENDPOINT", "https://e.example"),
        ])
        .unwrap();
        assert_eq!(both.endpoint.to_string(), "http://127.0.0.1:9/base");
        assert_eq!(
            settings(&[("HF_ENDPOINT", "https://e.example/")])
                .unwrap()
                .endpoint
                .to_string(),
            "https://e.example"
        );
        let message = settings(&[("HF_ENDPOINT", "e.example")])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("HF_ENDPOINT") && message.contains("http"),
            "{message}"
        );
    }

    #[test]
    fn links_with_a_query_are_refused() {
        assert!(settings(&[("COUPLET_MIRROR", "https://m.example/?a=b")]).is_err());
    }

    #[test]
    fn tokens_are_read_and_never_shown() {
        let given = settings(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(given.token.is_some());
        assert!(!format!("{given:?}").contains("hf_secret"));
        assert!(
            settings(&[
                ("HF_TOKEN", "hf_secret"),
                ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
            ])
            .unwrap()
            .token
            .is_none()
        );
        let message = settings(&[("HF_TOKEN", "hf secret")])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("HF_TOKEN") && !message.contains("hf secret"),
            "{message}"
        );
    }

    #[test]
    fn offline_mode_has_three_variables() {
        assert_eq!(
            settings(&[("HF_HUB_OFFLINE", "1")]).unwrap().offline,
            Some("HF_HUB_OFFLINE")
        );
        assert_eq!(
            settings(&[("TRANSFORMERS_OFFLINE", "yes")])
                .unwrap()
                .offline,
            Some("TRANSFORMERS_OFFLINE")
        );
        assert_eq!(settings(&[("COUPLET_OFFLINE", "0")]).unwrap().offline, None);
        assert!(settings(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).is_err());
    }

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        let proxies = Proxies {
            exceptions: vec!["example.com".into(), ".corp:8080".into()],
            ..Proxies::default()
        };
        let spared = |link: &str| proxies.spare(&Address::parse(link).unwrap());
        assert!(
            spared("https://example.com/")
                && spared("https://a.example.com/")
                && spared("http://127.0.0.1/")
        );
        assert!(
            !spared("https://badexample.com/")
                && !spared("http://x.corp/")
                && spared("http://x.corp:8080/")
        );
        assert!(
            !format!(
                "{:?}",
                Proxies {
                    http: Some(("x", "http://u:secret@p".into())),
                    ..Proxies::default()
                }
            )
            .contains("secret")
        );
    }
}
