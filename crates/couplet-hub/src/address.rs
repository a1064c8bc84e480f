//! Links: just enough of RFC 3986 to follow redirects and to say who a host is.

use std::fmt;

/// An absolute `http` or `https` link.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) secure: bool,
    /// In lower case; an IPv6 address keeps its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Begins with `/`; with the query, without a fragment.
    target: String,
}

impl Address {
    /// Reads a link. The message of the error says what is wrong with it and does not repeat it, since it may hold a password.
    pub(crate) fn parse(link: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = link
            .split_once("://")
            .ok_or("it is not a link with http:// or https://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("it is not a link with http:// or https://"),
        };
        if !link.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has blanks or characters that a link cannot have");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it has a user name or a password, which is not supported");
        }
        let default = if secure { 443 } else { 80 };
        let (host, port) = if let Some(end) = authority.find(']') {
            (&authority[..=end], authority[end + 1..].strip_prefix(':'))
        } else {
            authority
                .split_once(':')
                .map_or((authority, None), |(host, port)| (host, Some(port)))
        };
        let port = match port {
            None | Some("") => default,
            Some(port) => port
                .parse()
                .map_err(|_| "its port is not a number below 65536")?,
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err("it has no host");
        }
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            target,
        })
    }

    /// The link that a `Location` header at this link points to.
    pub(crate) fn join(&self, location: &str) -> Result<Self, &'static str> {
        let location = location.trim();
        let scheme = location.split_once("://").map_or("", |(scheme, _)| scheme);
        if !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{}{location}", self.path())
        } else {
            let folder = self
                .path()
                .rfind('/')
                .map_or("/", |end| &self.path()[..=end]);
            format!("{folder}{location}")
        };
        Self::parse(&format!("{}{target}", self.origin()))
    }

    /// This link with more path behind it. `more` is encoded already.
    pub(crate) fn with(&self, more: &str) -> Self {
        let mut address = self.clone();
        address.target = format!(
            "{}/{}",
            self.target.trim_end_matches('/'),
            more.trim_start_matches('/')
        );
        address
    }

    /// Whether both links are of one server: scheme, host and port.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host.ends_with(".localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Whether a secret may travel there.
    pub(crate) fn is_private(&self) -> bool {
        self.secure || self.is_loopback()
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// `scheme://host`, with the port where it is not the scheme's own.
    pub(crate) fn origin(&self) -> String {
        if self.port == if self.secure { 443 } else { 80 } {
            format!("{}://{}", self.scheme(), self.host)
        } else {
            format!("{}://{}:{}", self.scheme(), self.host, self.port)
        }
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The whole link, for a request.
    pub(crate) fn link(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }
}

/// Without the query, which may be a signature.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path().trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encodes a path for a link; `/` stays if `keep_slashes`.
pub(crate) fn encode(path: &str, keep_slashes: bool) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slashes && byte == b'/')
        {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{Address, encode};

    fn joined(base: &str, location: &str) -> String {
        Address::parse(base)
            .unwrap()
            .join(location)
            .map_or_else(str::to_owned, |address| address.link())
    }

    #[test]
    fn locations_are_joined_as_rfc_3986_says() {
        let base = "https://hub.example/org/name/resolve/main/file?download=true";
        assert_eq!(joined(base, "/a/b?c=d"), "https://hub.example/a/b?c=d");
        assert_eq!(
            joined(base, "other"),
            "https://hub.example/org/name/resolve/main/other"
        );
        assert_eq!(
            joined(base, "?x=1"),
            "https://hub.example/org/name/resolve/main/file?x=1"
        );
        assert_eq!(joined(base, "//cdn.example/f"), "https://cdn.example/f");
        assert_eq!(
            joined(base, "http://cdn.example:8080/f#part"),
            "http://cdn.example:8080/f"
        );
        assert_eq!(
            joined(base, "r?to=http://other.example/"),
            "https://hub.example/org/name/resolve/main/r?to=http://other.example/"
        );
        assert_eq!(
            joined(base, "/r?to=http://other.example/"),
            "https://hub.example/r?to=http://other.example/"
        );
        assert_eq!(
            joined(base, "file:///etc/passwd"),
            "it is not a link with http:// or https://"
        );
    }

    #[test]
    fn links_are_shown_without_their_query() {
        let signed = Address::parse("https://cdn.example/f?Signature=secret").unwrap();
        assert_eq!(
            format!("{signed} {signed:?}"),
            "https://cdn.example/f https://cdn.example/f"
        );
    }

    #[test]
    fn hosts_of_this_machine_are_recognized() {
        for (link, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://[::1]:9/", true),
            ("http://LOCALHOST/", true),
            ("http://127.0.0.1.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(
                Address::parse(link).unwrap().is_loopback(),
                expected,
                "{link}"
            );
        }
        assert!(
            Address::parse("https://user:word@host/")
                .unwrap_err()
                .contains("password")
        );
        assert!(Address::parse("https://host:99999/").is_err());
        assert!(Address::parse("https:///path").is_err());
    }

    #[test]
    fn names_are_encoded_for_links() {
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/ü?.bin", true), "a%20b/%C3%BC%3F.bin");
    }
}
