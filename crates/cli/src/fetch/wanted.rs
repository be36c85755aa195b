//! What to fetch, as the command line says it: `NAME=URL@sha256:HASH`. A URL may hold a password or a signature, and shows
//! neither.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands in a path for itself (RFC 3986, unreserved) or separates its parts.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A model that is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What its directory is to be called.
    pub(crate) name: String,
    /// Of the directory with the `manifest.json`.
    pub(crate) url: Location,
    /// Of the manifest: 64 lower-case hex digits.
    pub(crate) sha256: String,
}

/// A place on the web. Shown without what may be secret in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// `https://host:port`
    origin: String,
    /// `user:password`, as they are in the URL.
    credentials: Option<String>,
    path: String,
    /// With its question mark; empty where there is none.
    query: String,
}

impl Wanted {
    /// `Err` says what is wrong and repeats nothing but the name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("a model without a name: expected NAME=URL@sha256:HASH")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return Err("a model's name: expected letters, digits, `-`, `_` and `.` only, not first a `.`".to_owned());
        }
        let wrong = |problem: &str| format!("{name}: {problem}");
        let (url, hash) =
            rest.rsplit_once("@sha256:").ok_or_else(|| wrong("expected the URL to end with @sha256:HASH"))?;
        if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong("expected 64 hex digits after @sha256:"));
        }
        let url = Location::parse(url).ok_or_else(|| wrong("expected a URL with http:// or https://, and no #"))?;
        if url.credentials.is_some() && !url.is_https() {
            return Err(wrong("with http:// everybody on the way could read the password: expected https://"));
        }
        Ok(Self { name: name.to_owned(), url, sha256: hash.to_ascii_lowercase() })
    }
}

impl Location {
    fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok().filter(|_| !text.contains('#'))?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
        let authority = uri.authority()?;
        let (credentials, host) = match authority.as_str().rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials.to_owned()), host),
            None => (None, authority.as_str()),
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        (!authority.host().is_empty()).then(|| Self {
            origin: format!("{scheme}://{host}"),
            credentials,
            path: uri.path().trim_end_matches('/').to_owned(),
            query,
        })
    }

    /// A file in the directory that this is; `path` with `/` between its parts.
    pub(crate) fn file(&self, path: &str) -> Self {
        Self { path: format!("{}/{}", self.path, utf8_percent_encode(path, ENCODED)), ..self.clone() }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// To ask for, signature and all; credentials go into a header.
    pub(crate) fn uri(&self) -> String {
        let Self { origin, path, query, .. } = self;
        format!("{origin}{path}{query}")
    }

    /// The value of `Authorization`.
    pub(crate) fn authorization(&self) -> Option<String> {
        let credentials: Vec<u8> = percent_decode_str(self.credentials.as_deref()?).collect();
        Some(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, url: &str) -> Result<Wanted, String> {
        Wanted::parse(&format!("{name}={url}@sha256:{}", "A0".repeat(32)))
    }

    #[test]
    fn what_is_wanted_has_a_name_a_place_and_a_hash() {
        let wanted = parsed("minilm-l6", "https://example.org:8443/models/minilm-l6/").unwrap();
        assert_eq!((wanted.name.as_str(), wanted.sha256), ("minilm-l6", "a0".repeat(32)));
        assert!(wanted.url.is_https());
        assert_eq!(
            wanted.url.file("a b/ü#?.onnx").uri(),
            "https://example.org:8443/models/minilm-l6/a%20b/%C3%BC%23%3F.onnx"
        );
        let bare = parsed("a", "http://[::1]").unwrap().url;
        assert_eq!((bare.file("manifest.json").uri().as_str(), bare.is_https()), ("http://[::1]/manifest.json", false));
        assert_eq!(bare.authorization(), None);
    }

    #[test]
    fn secrets_are_used_and_not_shown() {
        let url = "https://me:p%40ss@example.org/m?signature=s3cret=x";
        let file = parsed("a", url).unwrap().url.file("model.onnx");
        assert_eq!(file.uri(), "https://example.org/m/model.onnx?signature=s3cret=x");
        assert_eq!(file.authorization().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
        assert_eq!(file.to_string(), "https://example.org/m/model.onnx");
        assert_eq!(format!("{:?}", parsed("a", url).unwrap().url), "Location(https://example.org/m)");
    }

    #[test]
    fn what_is_wrong_is_said_without_what_may_be_secret() {
        for (text, expected) in [
            ("https://me:secret@example.org/m".to_owned(), "without a name"),
            ("a=https://me:secret@example.org/m".to_owned(), "a: expected the URL to end with @sha256:"),
            ("a=https://me:secret@example.org/m@sha256:12".to_owned(), "a: expected 64 hex digits"),
            (format!("a=ftp://me:secret@example.org/m@sha256:{}", "0".repeat(64)), "a: expected a URL with http"),
            (format!("a=https://me:secret@example.org/m#x@sha256:{}", "0".repeat(64)), "a: expected a URL with http"),
            (format!("a=http://me:secret@example.org/m@sha256:{}", "0".repeat(64)), "a: with http:// everybody"),
            (format!("a=/secret@sha256:{}", "0".repeat(64)), "a: expected a URL with http"),
            (format!("../a=https://secret@sha256:{}", "0".repeat(64)), "a model's name"),
            (format!(".fetch=https://secret@sha256:{}", "0".repeat(64)), "a model's name"),
        ] {
            let said = Wanted::parse(&text).unwrap_err();
            assert!(said.contains(expected) && !said.contains("secret"), "{said}");
        }
    }
}
