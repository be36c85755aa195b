use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::{
    dial,
    metrics::Metrics,
    registry::{Record, testing::record},
};

const NAME: &str = "expert.test";

/// An authority, and a directory with its certificate in `ca.crt` and one of it in `tls.crt` and `tls.key`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: TempDir::new().unwrap() };
        authority.write("ca.crt", &authority.issuer.pem());
        authority.issue(1);
        authority
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }

    /// A certificate with this serial number, in the place of the one before.
    fn issue(&self, serial: u64) {
        self.issue_into(self.path(), serial);
    }

    fn issue_into(&self, dir: &Path, serial: u64) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        fs::write(dir.join("tls.crt"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    }

    /// Of a process that serves, asks for certificates, and calls others.
    fn settings(&self) -> Settings {
        let mut settings = whole();
        let mistakes = settings.check("mesh.yaml", self.path());
        assert!(mistakes.is_empty(), "{mistakes}");
        settings
    }
}

fn whole() -> Settings {
    let file = |name: &str| Some(PathBuf::from(name));
    Settings { certificate: file("tls.crt"), key: file("tls.key"), client_ca: file("ca.crt"), ca: file("ca.crt") }
}

fn wrong(authority: &Authority, mut settings: Settings) -> Vec<(String, String)> {
    let mistakes = settings.check("mesh.yaml", authority.path());
    mistakes.into_iter().map(|mistake| (mistake.path, mistake.problem)).collect()
}

fn serial(certificates: Option<&[CertificateDer<'_>]>) -> u64 {
    let first = certificates.and_then(<[_]>::first).expect("the other side shows a certificate");
    let (_, certificate) = X509Certificate::from_der(first).unwrap();
    certificate.serial.to_u64_digits().first().copied().unwrap_or_default()
}

/// What the client and the server show each other: the serial numbers of the server's and of the client's certificate.
async fn shown(server: &Server, client: &Client) -> Result<(u64, u64), String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = NAME.try_into().unwrap();
    let (accepted, connected) = tokio::join!(server.accept(far, false), client.connect(name, near));
    let (accepted, connected) = (accepted.map_err(told)?, connected.map_err(told)?);
    Ok((serial(connected.get_ref().1.peer_certificates()), serial(accepted.get_ref().1.peer_certificates())))
}

fn told(error: impl std::error::Error) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

fn sample(page: &Metrics, name: &str) -> Option<i64> {
    page.encode().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn nothing_said_is_plaintext() {
    let mut settings = Settings::default();
    assert!(settings.check("mesh.yaml", Path::new("/mesh")).is_empty());
    assert!(!settings.is_served());
    let tls = Tls::open(&settings, &Metrics::new()).unwrap();
    assert!(tls.server().is_none() && tls.client().is_none());
}

#[test]
fn a_router_may_know_experts_without_serving_tls_and_serve_it_without_knowing_experts() {
    let authority = Authority::new();
    let (ca, served) =
        (Settings { certificate: None, key: None, client_ca: None, ..whole() }, Settings { ca: None, ..whole() });
    for (mut settings, serves) in [(ca, false), (served, true)] {
        assert!(settings.check("mesh.yaml", authority.path()).is_empty());
        let tls = Tls::open(&settings, &Metrics::new()).unwrap();
        assert_eq!((tls.server().is_some(), tls.client().is_some()), (serves, !serves));
    }
}

#[test]
fn what_belongs_together_is_missed() {
    let authority = Authority::new();
    let paths = |settings| wrong(&authority, settings).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(Settings { key: None, ..whole() }), ["tls.key"]);
    assert_eq!(paths(Settings { certificate: None, ..whole() }), ["tls.certificate"]);
    assert_eq!(paths(Settings { certificate: None, key: None, ..whole() }), ["tls.client_ca"]);
    let nowhere = Settings { certificate: Some("none.crt".into()), ca: Some("none.crt".into()), ..whole() };
    assert_eq!(paths(nowhere), ["tls.certificate", "tls.ca"]);
}

#[test]
fn what_is_in_the_files_is_named_where_it_cannot_be_used() {
    let authority = Authority::new();
    let key = fs::read_to_string(authority.path().join("tls.key")).unwrap();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cut = &key[..key.len() / 2];
    for (file, text, setting, problem) in [
        ("tls.crt", key.as_str(), "tls.certificate", "has no certificate in it"),
        ("tls.crt", "", "tls.certificate", "has no certificate in it"),
        ("tls.key", &KeyPair::generate().unwrap().serialize_pem(), "tls.key", "does not fit the certificate"),
        ("tls.key", &authority.issuer.pem(), "tls.key", "has no private key in it"),
        ("tls.key", &encrypted, "tls.key", "has no private key in it"),
        ("tls.key", cut, "tls.key", "is no PEM"),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "tls.certificate", "is none"),
    ] {
        let before = fs::read_to_string(authority.path().join(file)).unwrap();
        authority.write(file, text);
        let found = wrong(&authority, whole());
        let [(path, said)] = found.as_slice() else { panic!("{found:?}") };
        assert!(path == setting && said.contains(problem) && said.contains(file), "{path}: {said}");
        assert!(!said.contains("BEGIN") && !key.lines().any(|line| said.contains(line)), "{said}");
        authority.write(file, &before);
    }
    authority.write("ca.crt", "");
    let paths: Vec<_> = wrong(&authority, whole()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["tls.client_ca", "tls.ca"], "both, although they are one file");
}

#[test]
fn certificates_of_another_time_are_spoken_of_and_used() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let good = |not_before, not_after| material::Validity { setting: "ca", not_before, not_after }.wrong(now);
    assert_eq!(good(1000, 1000), None);
    assert_eq!(good(0, 999), Some("a certificate is no longer valid"));
    assert_eq!(good(1001, 2000), Some("a certificate is not valid yet"));

    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 9, 9);
    authority.write("tls.crt", &params.signed_by(&key, &authority.issuer).unwrap().pem());
    authority.write("tls.key", &key.serialize_pem());
    let page = Metrics::new();
    Tls::open(&authority.settings(), &page).unwrap();
    let name = "consilium_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(sample(&page, &format!("{name}{{setting=\"certificate\"}}")), Some(999_993_600));
    assert!(sample(&page, &format!("{name}{{setting=\"ca\"}}")).is_some_and(|at| at > 999_993_600));
}

#[tokio::test]
async fn both_sides_know_each_other_by_their_certificates() {
    let (ours, others) = (Authority::new(), Authority::new());
    let open = |settings: &Settings| Tls::open(settings, &Metrics::new()).unwrap();
    let server = open(&ours.settings()).server().unwrap();
    let shows = |client: &Settings| open(client).client().unwrap();
    assert_eq!(shown(&server, &shows(&ours.settings())).await, Ok((1, 1)));

    let anonymous = Settings { certificate: None, key: None, client_ca: None, ..ours.settings() };
    let stranger = Settings { ca: ours.settings().ca, ..others.settings() };
    let suspicious = Settings { ca: others.settings().ca, ..ours.settings() };
    for refused in [anonymous, stranger, suspicious] {
        let refused = shown(&server, &shows(&refused)).await.expect_err("they do not know each other");
        assert!(refused.starts_with("the handshake failed"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_files_are_taken_up_and_what_cannot_be_used_is_not() {
    let authority = Authority::new();
    let page = Metrics::new();
    let tls = Tls::open(&authority.settings(), &page).unwrap();
    let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
    let failures = || sample(&page, "consilium_tls_reload_failures_total").unwrap();
    let script = async {
        let looked_at = || tokio::time::sleep(Duration::from_secs(11));
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok((1, 1)));

        authority.issue(2);
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok((2, 2)), "those who serve and call already use it");
        assert_eq!(failures(), 0);

        // In the middle of a renewal: the key is not there yet.
        let key = fs::read_to_string(authority.path().join("tls.key")).unwrap();
        authority.issue(3);
        authority.write("tls.key", &key);
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok((2, 2)));
        let before = failures();
        looked_at().await;
        assert!(before >= 1 && failures() > before, "it is counted for as long as it lasts");
        fs::remove_file(authority.path().join("ca.crt")).unwrap();
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok((2, 2)));

        authority.write("ca.crt", &authority.issuer.pem());
        authority.issue(4);
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok((4, 4)));
    };
    tokio::select! {
        never = tls.follow() => match never {},
        () = script => {}
    }
}

#[tokio::test]
async fn a_channel_that_is_there_connects_anew_with_the_new_certificate() {
    let authority = Authority::new();
    let mut tls = Tls::open(&authority.settings(), &Metrics::new()).unwrap();
    let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let record = Record { address, tls: true, server_name: NAME.to_owned(), ..record("labs", "a") };
    let channel = dial::instance(&record, Some(&client)).unwrap();
    // Each connection ends with its greeting, and with it the call.
    let greeted = async || {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = server.accept(stream, false).await.unwrap();
        serial(stream.get_ref().1.peer_certificates())
    };
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for expected in [1, 2] {
        let calls = async { while health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_err() {} };
        let shown = tokio::select! {
            shown = greeted() => shown,
            () = calls => panic!("nobody answers calls"),
        };
        assert_eq!(shown, expected);
        authority.issue(2);
        tls.look().await;
    }
}

/// As Kubernetes brings Secrets into pods: files are links into `..data`, and that is a link which is replaced.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_secret_that_is_swapped_is_noticed() {
    use std::os::unix::fs::symlink;

    let authority = Authority::new();
    let secret = TempDir::new().unwrap();
    for (life, serial) in [("..1", 5), ("..2", 6)] {
        let dir = secret.path().join(life);
        fs::create_dir(&dir).unwrap();
        authority.issue_into(&dir, serial);
        fs::write(dir.join("ca.crt"), authority.issuer.pem()).unwrap();
    }
    symlink("..1", secret.path().join("..data")).unwrap();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(Path::new("..data").join(file), secret.path().join(file)).unwrap();
    }
    let mut settings = whole();
    assert!(settings.check("mesh.yaml", secret.path()).is_empty());
    let tls = Tls::open(&settings, &Metrics::new()).unwrap();
    let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
    assert_eq!(shown(&server, &client).await, Ok((5, 5)));
    let script = async {
        symlink("..2", secret.path().join("..data_tmp")).unwrap();
        fs::rename(secret.path().join("..data_tmp"), secret.path().join("..data")).unwrap();
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(shown(&server, &client).await, Ok((6, 6)));
    };
    tokio::select! {
        never = tls.follow() => match never {},
        () = script => {}
    }
}
