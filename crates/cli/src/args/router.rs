//! Which router to talk to, and how the two know each other: the flags of every command that asks a running mesh.

use std::path::PathBuf;

use clap::{ArgMatches, Args, parser::ValueSource};
use consilium_mesh::dial;

#[derive(Debug, Args)]
pub(crate) struct Router {
    /// The router of the mesh; https:// where it serves TLS
    #[arg(
        long = "router",
        value_name = "URL",
        env = "CONSILIUM_ROUTER",
        default_value = "http://127.0.0.1:7600",
        value_parser = address
    )]
    pub(crate) address: Address,
    /// Whose certificates to believe, PEM; the system's authorities (SSL_CERT_FILE, SSL_CERT_DIR) when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// This program's own certificate with its chain, PEM, for a router that wants to see one
    #[arg(long, value_name = "FILE", env = "CONSILIUM_CERTIFICATE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "CONSILIUM_KEY", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// The name in the router's certificate, where it is not the host of its address
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

impl Router {
    /// A machine's environment says how to know the routers that serve TLS. Whoever asks one that does not has not said
    /// anything wrong by it: in `matches`, only what was typed counts then.
    pub(super) fn without_what_was_not_meant(&mut self, matches: &ArgMatches) {
        if self.address.tls {
            return;
        }
        for (id, file) in [("ca", &mut self.ca), ("certificate", &mut self.certificate), ("key", &mut self.key)] {
            if matches.value_source(id) == Some(ValueSource::EnvVariable) {
                *file = None;
            }
        }
    }
}

/// Where a router is, and whether it serves TLS there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) tls: bool,
    pub(crate) host_and_port: String,
}

/// `http://host:port`, `host:port` for the same, or `https://host:port`.
fn address(text: &str) -> Result<Address, String> {
    let (tls, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://").unwrap_or(text)),
    };
    let host_and_port = rest.trim_end_matches('/');
    if !dial::is_address(host_and_port) {
        return Err("expected http://host:port or https://host:port, for example http://127.0.0.1:7600".to_owned());
    }
    Ok(Address { tls, host_and_port: host_and_port.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn router(arguments: &[&str]) -> Result<Router, clap::Error> {
        let cli = Cli::try_parse_from(["consilium", "experts"].iter().chain(arguments))?;
        match cli.command {
            Command::Experts(experts) => Ok(experts.router),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_says_whether_it_is_for_tls() {
        for (text, tls, expected) in [
            ("http://localhost:7/", false, "localhost:7"),
            ("127.0.0.1:7600", false, "127.0.0.1:7600"),
            ("https://[::1]:7600", true, "[::1]:7600"),
        ] {
            let expected = Address { tls, host_and_port: expected.to_owned() };
            assert_eq!(router(&["--router", text]).unwrap().address, expected);
        }
        for wrong in ["localhost", "grpc://localhost:1", "https://localhost", "http://user@host:1", "https://"] {
            let error = router(&["--router", wrong]).unwrap_err();
            assert!(error.to_string().contains("https://host:port"), "{error}");
        }
    }

    #[test]
    fn a_certificate_and_its_key_go_together() {
        let both = router(&["--certificate", "tls.crt", "--key", "tls.key", "--server-name", "mesh.test"]).unwrap();
        assert_eq!((both.certificate, both.key), (Some("tls.crt".into()), Some("tls.key".into())));
        assert_eq!((both.ca, both.server_name.as_deref()), (None, Some("mesh.test")));
        for half in [["--certificate", "tls.crt"], ["--key", "tls.key"]] {
            assert_eq!(router(&half).unwrap_err().exit_code(), 2);
        }
    }
}
