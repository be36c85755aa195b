//! Which pages of browsers may call a server, as somebody wrote it down.

use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use crate::config::Mistakes;

const ANY: &str = "*";
const AN_ORIGIN: &str = "an origin as browsers send it, for example https://desk.example.org or http://localhost:8080";

/// Which pages of browsers may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Origins as browsers send them, for example `https://desk.example.org`, or `*` alone.
    pub origins: Vec<String>,
}

impl Web {
    /// Everything that is wrong, as found in `file` under the key `web`.
    pub fn check(&self, file: &str) -> Mistakes {
        let mut mistakes = Mistakes::default();
        if self.origins.is_empty() {
            mistakes.add((file, "web.origins"), "none".to_owned(), "at least one origin, or * for every page there is");
        }
        for (at, origin) in self.origins.iter().enumerate() {
            let problem = match origin.as_str() {
                ANY if self.origins.len() == 1 => None,
                ANY => Some("is every origin, the others included"),
                origin => what_is_wrong(origin),
            };
            if let Some(problem) = problem {
                let path = format!("web.origins[{at}]");
                let expected = if origin == ANY { "* alone, or no *" } else { AN_ORIGIN };
                mistakes.add((file, &path), format!("{origin:?} {problem}"), expected);
            }
        }
        mistakes
    }

    /// What to compare `Origin` headers with. An origin that [`Web::check`] finds wrong may be one that no browser sends.
    pub(crate) fn allowed(&self) -> Origins {
        if self.origins.iter().any(|origin| origin == ANY) {
            return Origins::Any;
        }
        Origins::These(self.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect())
    }
}

/// The origins that may call.
#[derive(Debug, Clone)]
pub(crate) enum Origins {
    Any,
    These(Vec<HeaderValue>),
}

impl Origins {
    pub(crate) fn contain(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins.contains(origin),
        }
    }
}

/// Browsers compare by the letter, so that an origin which is almost right matches no page at all.
fn what_is_wrong(origin: &str) -> Option<&'static str> {
    if origin.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Some("has characters that no browser sends; international names are written as xn--…");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("has capital letters, browsers send none");
    }
    let uri: Option<Uri> = origin.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let Some((scheme, authority)) = parts.filter(|(scheme, _)| !scheme.is_empty()) else {
        return Some("is not a scheme and a host");
    };
    if format!("{scheme}://{authority}") != origin {
        return Some("has a path, an origin ends after host and port");
    }
    let (host, port) = (authority.host(), authority.port_u16());
    let without_more = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if !is_host(host) || authority.as_str() != without_more || port == Some(0) {
        return Some("has a host or a port that is none, or more than these");
    }
    [("http", 80), ("https", 443)]
        .contains(&(scheme, port.unwrap_or_default()))
        .then_some("has the scheme's own port, which browsers leave out")
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    !host.is_empty() && !host.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(origins: &[&str]) -> Vec<String> {
        let web = Web { origins: origins.iter().map(|&origin| origin.to_owned()).collect() };
        web.check("mesh.yaml").into_iter().map(|mistake| mistake.path).collect()
    }

    #[test]
    fn origins_as_browsers_send_them_are_right() {
        for origin in [
            "http://localhost:8080",
            "https://desk.example.org",
            "http://127.0.0.1:1",
            "https://[::1]:8443",
            "https://[2001:db8::7]",
            "capacitor://localhost",
            "https://xn--bcher-kva.example",
            "*",
        ] {
            assert!(wrong(&[origin]).is_empty(), "{origin}");
        }
    }

    #[test]
    fn what_no_browser_would_send_is_a_mistake() {
        for origin in [
            "",
            "localhost:8080",
            "null",
            "://desk",
            "https://",
            "https://desk.example.org/",
            "https://desk.example.org/page",
            "https://desk.example.org?x",
            "https://desk:0",
            "https://desk:65536",
            "https://desk:+80",
            "https://desk:",
            "https://desk:443",
            "http://desk:80",
            "https://Desk.example.org",
            "https://bücher.example",
            "https://someone@desk.example.org",
            "https://*.example.org",
            "https://[::1",
            "https://[1]",
            "https://::1",
            "https://a b",
        ] {
            assert_eq!(wrong(&[origin]), ["web.origins[0]"], "{origin:?}");
        }
    }

    #[test]
    fn all_mistakes_are_named_and_a_star_stands_alone() {
        assert_eq!(wrong(&[]), ["web.origins"]);
        assert_eq!(wrong(&["a", "http://b", "c/"]), ["web.origins[0]", "web.origins[2]"]);
        assert_eq!(wrong(&["http://b", "*"]), ["web.origins[1]"]);
    }

    #[test]
    fn origins_are_compared_by_the_letter() {
        let these = Web { origins: vec!["http://localhost:8080".to_owned()] }.allowed();
        assert!(these.contain(&HeaderValue::from_static("http://localhost:8080")));
        for other in ["http://localhost:8081", "https://localhost:8080", "http://localhost:8080.evil.example", "null"] {
            assert!(!these.contain(&HeaderValue::from_static(other)), "{other}");
        }
        assert!(Web { origins: vec!["*".to_owned()] }.allowed().contain(&HeaderValue::from_static("null")));
    }
}
