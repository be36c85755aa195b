//! What certificates and keys are good for: the configurations that connections are made with. From bytes, without files.

use std::{sync::Arc, time::SystemTime};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Error, Problem,
    files::{Files, Pem},
};

/// What is spoken, as handshakes call it.
pub(super) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

const CERTIFICATES: &str = "certificates in PEM, -----BEGIN CERTIFICATE-----";
const CERTIFICATE: &str = "the server's own certificate first, then those that lead to its authority";
const KEY: &str = "an unencrypted private key in PEM: PKCS#8, PKCS#1 or SEC 1";
const ITS_KEY: &str = "the key of the first certificate in tls.certificate";

/// What is in the files, ready for use.
pub(super) struct Material {
    /// Where there is a certificate to serve with.
    pub(super) server: Option<ServerConfigs>,
    /// Where there is somebody to believe.
    pub(super) client: Option<Arc<ClientConfig>>,
    pub(super) validity: Vec<Validity>,
}

/// The same for servers that serve gRPC alone, and for those that serve pages of browsers as well. They differ in what is
/// offered in the handshake (ALPN): a client that gets HTTP/1.1 promised must find it.
#[derive(Clone)]
pub(super) struct ServerConfigs {
    pub(super) grpc: Arc<ServerConfig>,
    pub(super) web: Arc<ServerConfig>,
}

/// When the certificates of a file are good, in seconds since 1970: those of a chain while all of them are, authorities while
/// one of them is, because an old one stays for as long as somebody has a certificate of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) setting: &'static str,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    /// Whether the certificates are good at `now`, in words.
    pub(super) fn wrong(self, now: SystemTime) -> Option<&'static str> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        match self {
            Self { not_after, .. } if not_after < now => Some("a certificate is no longer valid"),
            Self { not_before, .. } if not_before > now => Some("a certificate is not valid yet"),
            _ => None,
        }
    }

    /// What speaks against taking up the `new` certificates in the place of the `old` ones at `now`: those are good, and
    /// these are not. Of authorities no date counts.
    pub(super) fn worse(new: &[Self], old: &[Self], now: SystemTime) -> Result<(), Error> {
        let own = |of: &[Self]| of.iter().copied().find(|of| of.setting == "certificate");
        let wrong = own(new).and_then(|new| new.wrong(now));
        let was_good = own(old).is_some_and(|old| old.wrong(now).is_none());
        match wrong.filter(|_| was_good) {
            Some(what) => {
                let expected = "one that is good now, like the one before it";
                Err(Error(vec![Problem { setting: "certificate", what: what.to_owned(), expected }]))
            }
            None => Ok(()),
        }
    }
}

impl Material {
    /// # Errors
    /// Everything that is wrong with what is in the files. When certificates are good is not looked at: the clocks of
    /// machines differ, and only who believes a certificate has to decide.
    pub(super) fn of(files: &Files) -> Result<Self, Error> {
        let mut reading = Reading::default();
        let own = reading.own(files);
        let client_ca = files.client_ca.as_ref().map(|pem| reading.authorities("client_ca", pem));
        let ca = files.ca.as_ref().map(|pem| reading.authorities("ca", pem));
        let Reading { mut problems, validity } = reading;
        let server = own.as_ref().map(|own| server(own, client_ca.flatten()));
        let client = ca.flatten().map(|ca| client_config(ca, own.clone()));
        let (server, client) = match (server.transpose(), client.transpose()) {
            (Ok(server), Ok(client)) => (server, client),
            (server, client) => {
                let unusable = |(setting, error): (_, rustls::Error)| Problem {
                    setting,
                    what: format!("cannot be used: {error}"),
                    expected: CERTIFICATES,
                };
                let errors = [server.err().map(|error| ("client_ca", error)), client.err().map(|error| ("ca", error))];
                problems.extend(errors.into_iter().flatten().map(unusable));
                (None, None)
            }
        };
        if problems.is_empty() { Ok(Self { server, client, validity }) } else { Err(Error(problems)) }
    }
}

/// How a client knows servers, from PEM: `ca` is whose certificates it believes, `own` its certificate and key, if it has
/// any.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn client(ca: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, Error> {
    let pem = |bytes: &[u8]| Some(Pem { path: "PEM".into(), bytes: bytes.to_vec().into() });
    let (certificate, key) = own.map_or((None, None), |(certificate, key)| (pem(certificate), pem(key)));
    let material = Material::of(&Files { certificate, key, client_ca: None, ca: pem(ca) })?;
    let problem = || Problem { setting: "ca", what: "missing".to_owned(), expected: CERTIFICATES };
    material.client.ok_or_else(|| Error(vec![problem()]))
}

/// What was found so far.
#[derive(Default)]
struct Reading {
    problems: Vec<Problem>,
    validity: Vec<Validity>,
}

impl Reading {
    fn own(&mut self, files: &Files) -> Option<Arc<CertifiedKey>> {
        let chain = files.certificate.as_ref().and_then(|pem| self.certificates("certificate", pem));
        let key = files.key.as_ref().and_then(|pem| self.key(pem));
        let (chain, key, file) = (chain?, key?, files.key.as_ref()?.path.display());
        match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
            Ok(own) => Some(Arc::new(own)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                self.add("key", format!("{file} does not fit the certificate"), ITS_KEY);
                None
            }
            Err(error) => {
                self.add("key", format!("{file} cannot be used: {error}"), KEY);
                None
            }
        }
    }

    fn key(&mut self, pem: &Pem) -> Option<PrivateKeyDer<'static>> {
        let file = pem.path.display();
        match PrivateKeyDer::from_pem_slice(&pem.bytes) {
            Ok(key) => Some(key),
            Err(pem::Error::NoItemsFound) => {
                self.add("key", format!("{file} has no private key in it"), KEY);
                None
            }
            // What the error says of a file may be a line of it.
            Err(_) => {
                self.add("key", format!("{file} is no PEM"), KEY);
                None
            }
        }
    }

    /// At least one.
    fn certificates(&mut self, setting: &'static str, pem: &Pem) -> Option<Vec<CertificateDer<'static>>> {
        let file = pem.path.display();
        let expected = if setting == "certificate" { CERTIFICATE } else { CERTIFICATES };
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
        let Ok(certificates) = read else {
            self.add(setting, format!("{file} is no PEM"), expected);
            return None;
        };
        if certificates.is_empty() {
            self.add(setting, format!("{file} has no certificate in it"), expected);
            return None;
        }
        let mut validity: Option<Validity> = None;
        for (at, certificate) in certificates.iter().enumerate() {
            let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
                self.add(setting, format!("certificate {} of {file} is none", at + 1), expected);
                return None;
            };
            let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
            let of = validity.get_or_insert(Validity { setting, not_before: from, not_after: until });
            let (from, until) = if setting == "certificate" {
                (of.not_before.max(from), of.not_after.min(until))
            } else {
                (of.not_before.min(from), of.not_after.max(until))
            };
            (of.not_before, of.not_after) = (from, until);
        }
        self.validity.extend(validity);
        Some(certificates)
    }

    fn authorities(&mut self, setting: &'static str, pem: &Pem) -> Option<Arc<RootCertStore>> {
        let certificates = self.certificates(setting, pem)?;
        let mut roots = RootCertStore::empty();
        // Collections of a system's authorities have odd ones among them, which nobody misses.
        let (usable, _) = roots.add_parsable_certificates(certificates);
        if usable == 0 {
            self.add(setting, format!("{} has no authority in it", pem.path.display()), CERTIFICATES);
            return None;
        }
        Some(Arc::new(roots))
    }

    fn add(&mut self, setting: &'static str, what: String, expected: &'static str) {
        self.problems.push(Problem { setting, what, expected });
    }
}

fn server(own: &Arc<CertifiedKey>, client_ca: Option<Arc<RootCertStore>>) -> Result<ServerConfigs, rustls::Error> {
    let provider = provider();
    let asks = client_ca.is_some();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
        }
    };
    let mut grpc = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    grpc.alpn_protocols = vec![H2.to_vec()];
    if asks {
        // Resuming a session looks at no certificate: who may call is asked of every connection.
        grpc.session_storage = Arc::new(NoServerSessionStorage {});
        grpc.send_tls13_tickets = 0;
    }
    let mut web = grpc.clone();
    web.alpn_protocols.push(HTTP1.to_vec());
    Ok(ServerConfigs { grpc: Arc::new(grpc), web: Arc::new(web) })
}

fn client_config(ca: Arc<RootCertStore>, own: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(ca, provider).build();
    let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = builder.with_webpki_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(Arc::new(config))
}

/// The same one as tonic's, said aloud: a process with two of them in it has no default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
