//! The TLS hooks of both ends, with certificates made on the spot.

use consilium_mesh::{
    dial::{self, ClientIdentity, ClientTls, Target},
    serve::{Options, ServerTls},
};
use consilium_proto::{client::catalog_service_client::CatalogServiceClient, v1::ListExpertsRequest};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tonic::Status;

use crate::support::{Catalog, Running};

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn server_tls(own: &CertifiedKey<KeyPair>, client_ca: Option<&CertifiedKey<KeyPair>>) -> Options {
    let tls = ServerTls {
        certificate: own.cert.pem().into_bytes(),
        key: own.signing_key.serialize_pem().into_bytes(),
        client_ca: client_ca.map(|ca| ca.cert.pem().into_bytes()),
    };
    Options { tls: Some(tls), ..Options::default() }
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

#[tokio::test]
async fn only_who_trusts_the_certificate_and_speaks_tls_gets_through() {
    let own = certificate("expert.test");
    let server = Running::start(Catalog::empty(), server_tls(&own, None)).await;
    call(&server, Some(client_tls(&own, None))).await.unwrap();
    call(&server, Some(client_tls(&certificate("expert.test"), None))).await.unwrap_err();
    let other_name = ClientTls { server_name: Some("other.test".to_owned()), ..client_tls(&own, None) };
    call(&server, Some(other_name)).await.unwrap_err();
    call(&server, None).await.unwrap_err();
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
async fn keys_are_not_printed() {
    let own = certificate("expert.test");
    let options = server_tls(&own, Some(&own));
    let printed = format!("{options:?} {:?}", client_tls(&own, Some(&own)));
    assert!(!printed.contains("BEGIN") && !printed.contains("45, 45, 45"), "{printed}");
}
