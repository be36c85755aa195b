//! The only way to connect: one lazy channel to one instance. Choosing among instances is the router's business;
//! tonic's own balancing has no load signal and keeps calling the dead.

mod secured;

use std::{net::Ipv6Addr, time::Duration};

use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

use self::secured::Secured;
use crate::{limits, registry::Record, tls};

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
    /// No authority for a server that serves TLS.
    #[error("{address} serves TLS, and this process has no authority to know it by: tls.ca")]
    NoAuthority { address: String },
    /// An authority, and a server that announces no TLS: it may be somebody who would like to be called in the clear.
    #[error("{address} announces no TLS, and this process calls nobody in plaintext: tls.plaintext_experts")]
    Plaintext { address: String },
    #[error("the certificates for {address} cannot be used")]
    Tls { address: String, source: tls::Error },
    #[error("{name:?}, under which {address} is to be known, is no name")]
    ServerName { address: String, name: String },
}

impl Target {
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, keepalive: None }
    }
}

/// A channel that connects with its first call and again whenever the connection is lost.
///
/// # Errors
/// [`Error`] when the address or the certificates cannot be used.
pub fn channel(target: &Target) -> Result<Channel, Error> {
    let secured = target.secured()?;
    open(&target.address, target.keepalive, secured)
}

/// The same to the instance that a record announces. `tls` is how this process knows servers; each connection is made with
/// what is current then.
///
/// # Errors
/// [`Error::NoAuthority`] when the record says TLS and `tls` is `None`: never fall back to plain text.
/// [`Error::Plaintext`] when the record does not say TLS and `tls` is there: whoever can write a record cannot have queries
/// sent in the clear. Unless [`tls::Client::plaintext_experts`] allows it.
pub fn instance(record: &Record, tls: Option<&tls::Client>) -> Result<Channel, Error> {
    let address = &record.address;
    let secured = match (record.tls, tls) {
        (false, Some(tls)) if !tls.plaintext_experts() => {
            return Err(Error::Plaintext { address: address.clone() });
        }
        (false, _) => None,
        (true, None) => return Err(Error::NoAuthority { address: address.clone() }),
        (true, Some(tls)) => {
            let announced = Some(record.server_name.as_str()).filter(|name| !name.is_empty());
            let name = tls.expert_name().or(announced);
            Some(Secured { tls: tls.clone(), name: server_name(address, name)? })
        }
    };
    open(address, record.keepalive(), secured)
}

/// Whether a channel could be made, without making one.
pub(crate) fn check(target: &Target) -> Result<(), Error> {
    endpoint(&target.address, target.keepalive)?;
    target.secured().map(drop)
}

impl Target {
    fn secured(&self) -> Result<Option<Secured>, Error> {
        let Some(ClientTls { ca, server_name: name, identity }) = &self.tls else { return Ok(None) };
        let own = identity.as_ref().map(|own| (own.certificate.as_slice(), own.key.as_slice()));
        let config = tls::client(ca, own);
        let config = config.map_err(|source| Error::Tls { address: self.address.clone(), source })?;
        let name = server_name(&self.address, name.as_deref())?;
        Ok(Some(Secured { tls: tls::Client::fixed(config), name }))
    }
}

fn open(address: &str, keepalive: Option<Duration>, secured: Option<Secured>) -> Result<Channel, Error> {
    let endpoint = endpoint(address, keepalive)?;
    let Some(secured) = secured else { return Ok(endpoint.connect_timeout(limits::CONNECT_TIMEOUT).connect_lazy()) };
    // To tonic the connection is plain text, because the connector has taken care of TLS; servers see what it really is.
    let origin = format!("https://{address}").parse().map_err(|_| Error::Address { address: address.to_owned() })?;
    Ok(endpoint.origin(origin).connect_with_connector_lazy(secured.connector()))
}

fn endpoint(address: &str, keepalive: Option<Duration>) -> Result<Endpoint, Error> {
    let unusable = || Error::Address { address: address.to_owned() };
    if !is_address(address) {
        return Err(unusable());
    }
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent(concat!("consilium/", env!("CARGO_PKG_VERSION"))))
        .map_err(|_| unusable())?
        .tcp_nodelay(true)
        .tcp_keepalive(Some(limits::TCP_KEEPALIVE))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(limits::MAX_HEADER_LIST_BYTES);
    if let Some(every) = keepalive {
        endpoint = endpoint.http2_keep_alive_interval(every).keep_alive_timeout(every).keep_alive_while_idle(true);
    }
    Ok(endpoint)
}

/// The name that a server's certificate must have: the one that is given, else the host of its address.
fn server_name(address: &str, given: Option<&str>) -> Result<ServerName<'static>, Error> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = given.unwrap_or(host.trim_matches(['[', ']']));
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::ServerName { address: address.to_owned(), name: name.to_owned() })
}

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
    use crate::registry::testing::record;

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
        assert!(matches!(channel(&target).unwrap_err(), Error::Tls { .. }));
    }

    #[test]
    fn a_server_is_known_by_the_host_of_its_address_unless_it_has_another_name() {
        let name = |address, given| server_name(address, given).map(|name| name.to_str().into_owned()).ok();
        assert_eq!(name("labs.clinic.svc:7700", None).as_deref(), Some("labs.clinic.svc"));
        assert_eq!(name("10.0.0.7:7700", Some("experts.test")).as_deref(), Some("experts.test"));
        assert_eq!(name("10.0.0.7:7700", None).as_deref(), Some("10.0.0.7"));
        assert_eq!(name("[2001:db8::7]:7700", None).as_deref(), Some("2001:db8::7"));
        assert_eq!(name("10.0.0.7:7700", Some("no name")), None);
    }

    #[tokio::test]
    async fn plain_text_is_not_spoken_to_who_announces_tls() {
        let record = Record { tls: true, ..record("labs", "a") };
        assert!(matches!(instance(&record, None).unwrap_err(), Error::NoAuthority { .. }));
        instance(&Record { tls: false, ..record }, None).unwrap();
    }
}
