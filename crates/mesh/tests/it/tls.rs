//! Servers and clients under TLS, with certificates made on the spot.

use std::{fs, path::Path, sync::Arc, time::Duration};

use consilium_mesh::{
    dial::{self, ClientIdentity, ClientTls, Target},
    metrics::Metrics,
    serve::{Options, Web},
    tls::{Settings, Tls},
};
use consilium_proto::{client::catalog_service_client::CatalogServiceClient, v1::ListExpertsRequest};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tonic::Status;

use crate::support::{Catalog, Running, until};

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn settings(dir: &Path, own: &CertifiedKey<KeyPair>, client_ca: Option<&CertifiedKey<KeyPair>>) -> Settings {
    let write = |file: &str, text: String| {
        let path = dir.join(file);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    Settings {
        certificate: write("tls.crt", own.cert.pem()),
        key: write("tls.key", own.signing_key.serialize_pem()),
        client_ca: client_ca.and_then(|ca| write("clients.crt", ca.cert.pem())),
        ..Settings::default()
    }
}

fn server_tls(own: &CertifiedKey<KeyPair>, client_ca: Option<&CertifiedKey<KeyPair>>) -> Options {
    let dir = TempDir::new().unwrap();
    let tls = Tls::open(&settings(dir.path(), own, client_ca), &Metrics::new()).unwrap();
    Options { name: "test", tls: tls.server(), ..Options::default() }
}

fn client_tls(ca: &CertifiedKey<KeyPair>, own: Option<&CertifiedKey<KeyPair>>) -> ClientTls {
    let identity = own.map(|own| ClientIdentity {
        certificate: own.cert.pem().into_bytes(),
        key: own.signing_key.serialize_pem().into_bytes(),
    });
    ClientTls { ca: ca.cert.pem().into_bytes(), server_name: Some("expert.test".to_owned()), identity }
}

async fn call(server: &Running, tls: Option<ClientTls>) -> Result<(), Status> {
    let target = Target { tls, ..Target::plain(server.address.to_string()) };
    let mut client = CatalogServiceClient::new(dial::channel(&target).unwrap());
    client.list_experts(ListExpertsRequest {}).await.map(drop)
}

fn failed_handshakes(server: &Running) -> u64 {
    let page = server.metrics.encode();
    let name = r#"consilium_rpc_server_handshake_failures_total{server="test"} "#;
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

/// What a client that offers `alpn` and no more agrees on with the server.
async fn agreed(server: &Running, ca: &CertifiedKey<KeyPair>, alpn: &[&str]) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("expert.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

#[tokio::test]
async fn only_who_trusts_the_certificate_and_speaks_tls_gets_through() {
    let own = certificate("expert.test");
    let server = Running::start(Catalog::empty(), server_tls(&own, None)).await;
    call(&server, Some(client_tls(&own, None))).await.unwrap();
    assert_eq!(failed_handshakes(&server), 0);
    call(&server, Some(client_tls(&certificate("expert.test"), None))).await.unwrap_err();
    let other_name = ClientTls { server_name: Some("other.test".to_owned()), ..client_tls(&own, None) };
    call(&server, Some(other_name)).await.unwrap_err();
    call(&server, None).await.unwrap_err();
    until(|| failed_handshakes(&server) == 3).await;
    call(&server, Some(client_tls(&own, None))).await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_takes_no_strangers() {
    let (own, friend) = (certificate("expert.test"), certificate("router.test"));
    let server = Running::start(Catalog::empty(), server_tls(&own, Some(&friend))).await;
    call(&server, Some(client_tls(&own, Some(&friend)))).await.unwrap();
    call(&server, Some(client_tls(&own, None))).await.unwrap_err();
    call(&server, Some(client_tls(&own, Some(&certificate("router.test"))))).await.unwrap_err();
}

#[tokio::test]
async fn nobody_is_promised_what_the_server_does_not_speak() {
    let own = certificate("expert.test");
    let web = Some(Web { origins: vec!["https://desk.example.org".to_owned()] });
    let grpc = Running::start(Catalog::empty(), server_tls(&own, None)).await;
    let pages = Running::start(Catalog::empty(), Options { web, ..server_tls(&own, None) }).await;
    for (server, offered, expected) in [
        (&grpc, &["h2", "http/1.1"][..], Some("h2")),
        (&grpc, &["http/1.1"], None),
        (&pages, &["http/1.1", "h2"], Some("h2")),
        (&pages, &["http/1.1"], Some("http/1.1")),
    ] {
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(agreed(server, &own, offered).await, expected, "{offered:?}");
    }
    call(&pages, Some(client_tls(&own, None))).await.unwrap();
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_holds_up_nobody() {
    let own = certificate("expert.test");
    let mut server = Running::start(Catalog::empty(), server_tls(&own, None)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    call(&server, Some(client_tls(&own, None))).await.unwrap();
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(4), server.stopped()).await.expect("it does not wait for the handshake");
    assert!(matches!(silent.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof), "it was let go");
}

#[tokio::test]
async fn keys_are_not_printed() {
    let own = certificate("expert.test");
    let dir = TempDir::new().unwrap();
    let tls = Tls::open(&settings(dir.path(), &own, Some(&own)), &Metrics::new()).unwrap();
    let options = server_tls(&own, Some(&own));
    let printed = format!("{tls:?} {options:?} {:?}", client_tls(&own, Some(&own)));
    assert!(!printed.contains("BEGIN") && !printed.contains("45, 45, 45"), "{printed}");
}
