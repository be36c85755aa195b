//! The only way to connect: one lazy channel to one instance. Choosing among instances is the router's business;
//! tonic's own balancing has no load signal and keeps calling the dead.

use std::{net::Ipv6Addr, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{limits, registry::Record};

/// Bytes of one message, for `.max_decoding_message_size` of clients.
pub use crate::limits::MAX_MESSAGE_BYTES;

/// Whom to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`
    pub address: String,
    pub tls: Option<ClientTls>,
    /// Pings, for servers that announce that they welcome them: stock gRPC servers close such connections.
    pub keepalive: Option<Duration>,
}

/// How to know the server, and how to be known by it. Everything is PEM.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// Whose certificates to believe.
    pub ca: Vec<u8>,
    /// The name in the server's certificate, where it is not the host of the address.
    pub server_name: Option<String>,
    pub identity: Option<ClientIdentity>,
}

/// A client's own certificate and key.
#[derive(Clone)]
pub struct ClientIdentity {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// Why no channel could be made. Not being able to connect is no such reason: the channel is lazy, its calls fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{address:?} is no host:port")]
    Address { address: String },
    /// No TLS settings for a server that serves TLS, or settings without a certificate.
    #[error("{address} wants TLS, and this process has no certificate authority to know it by")]
    NoAuthority { address: String },
    #[error("the certificates for {address} cannot be used")]
    Tls { address: String, source: tonic::transport::Error },
}

impl Target {
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, keepalive: None }
    }

    /// The target that a record announces. `tls` is how this process knows servers; it is used where the record says
    /// that it serves TLS.
    ///
    /// # Errors
    /// [`Error::NoAuthority`] when the record says TLS and `tls` is `None`: never fall back to plain text.
    pub fn of(record: &Record, tls: Option<&ClientTls>) -> Result<Self, Error> {
        let tls = match (record.tls, tls) {
            (false, _) => None,
            (true, None) => {
                return Err(Error::NoAuthority { address: record.address.clone() });
            }
            (true, Some(tls)) if record.server_name.is_empty() => Some(tls.clone()),
            (true, Some(tls)) => Some(ClientTls { server_name: Some(record.server_name.clone()), ..tls.clone() }),
        };
        Ok(Self { address: record.address.clone(), tls, keepalive: record.keepalive() })
    }
}

/// A channel that connects with its first call and again whenever the connection is lost.
///
/// # Errors
/// [`Error`] when the address or the certificates cannot be used.
pub fn channel(target: &Target) -> Result<Channel, Error> {
    Ok(endpoint(target)?.connect_lazy())
}

/// Whether a channel could be made, without making one.
pub(crate) fn check(target: &Target) -> Result<(), Error> {
    endpoint(target).map(drop)
}

fn endpoint(target: &Target) -> Result<Endpoint, Error> {
    let address = || target.address.clone();
    if !is_address(&target.address) {
        return Err(Error::Address { address: address() });
    }
    // tonic takes text without a certificate for an empty list of authorities, and every call fails later.
    if target.tls.as_ref().is_some_and(|tls| !tls.ca.windows(PEM.len()).any(|part| part == PEM)) {
        return Err(Error::NoAuthority { address: address() });
    }
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.address))
        .and_then(|endpoint| endpoint.user_agent(concat!("consilium/", env!("CARGO_PKG_VERSION"))))
        .map_err(|_| Error::Address { address: address() })?
        .tcp_nodelay(true)
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .tcp_keepalive(Some(limits::TCP_KEEPALIVE))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(limits::MAX_HEADER_LIST_BYTES);
    if let Some(every) = target.keepalive {
        endpoint = endpoint.http2_keep_alive_interval(every).keep_alive_timeout(every).keep_alive_while_idle(true);
    }
    if let Some(tls) = &target.tls {
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca)).timeout(limits::HANDSHAKE_TIMEOUT);
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        if let Some(identity) = &tls.identity {
            config = config.identity(Identity::from_pem(&identity.certificate, &identity.key));
        }
        endpoint = endpoint.tls_config(config).map_err(|source| Error::Tls { address: address(), source })?;
    }
    Ok(endpoint)
}

const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether this is `host:port` and nothing more: no user, no path, a port above 0.
pub fn is_address(address: &str) -> bool {
    let Ok(authority) = address.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority.host();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = bracketed.map_or(!host.is_empty(), |host| host.parse::<Ipv6Addr>().is_ok());
    good && !address.contains('@') && authority.port_u16().is_some_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_before_the_first_call() {
        for address in [
            "",
            "a b:1",
            "host",
            "host:",
            "host:x",
            "host:0",
            "host:65536",
            ":1",
            "user@host:1",
            "host:1/path",
            "[x]:1",
            "::1:80",
        ] {
            let error = channel(&Target::plain(address)).unwrap_err();
            assert!(matches!(error, Error::Address { .. }), "{address:?}: {error}");
        }
        for address in ["127.0.0.1:1", "[::1]:7600", "drug-interactions.clinic.svc:7600"] {
            channel(&Target::plain(address)).unwrap();
        }
    }

    #[tokio::test]
    async fn certificates_that_are_none_are_refused_before_the_first_call() {
        let tls = Some(ClientTls { ca: b"no certificate".to_vec(), ..ClientTls::default() });
        let target = Target { tls, ..Target::plain("localhost:1") };
        assert!(matches!(channel(&target).unwrap_err(), Error::NoAuthority { .. }));
    }
}
