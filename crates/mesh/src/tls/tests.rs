use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::Semaphore};
use tokio_rustls::rustls::{HandshakeKind, pki_types::CertificateDer};
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

    /// A certificate that is good from one year to another.
    fn issue_for(&self, from: i32, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        self.write("tls.crt", &params.signed_by(&key, &self.issuer).unwrap().pem());
        self.write("tls.key", &key.serialize_pem());
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
    Settings {
        certificate: file("tls.crt"),
        key: file("tls.key"),
        client_ca: file("ca.crt"),
        ca: file("ca.crt"),
        ..Settings::default()
    }
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
    let unbelieving = Settings { ca: None, expert_name: Some(NAME.to_owned()), plaintext_experts: true, ..whole() };
    assert_eq!(paths(unbelieving), ["tls.expert_name", "tls.plaintext_experts"]);
    assert_eq!(paths(Settings { expert_name: Some("no name".to_owned()), ..whole() }), ["tls.expert_name"]);
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

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_read() {
    let authority = Authority::new();
    for path in ["/dev/null", "."] {
        let found = wrong(&authority, Settings { certificate: Some(path.into()), ..whole() });
        let [(path, said)] = found.as_slice() else { panic!("{found:?}") };
        assert!(path == "tls.certificate" && said.contains("no regular file"), "{path}: {said}");
    }
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
        tls.look().await;
    }
}

#[tokio::test]
async fn files_that_still_change_are_not_taken_up() {
    let authority = Authority::new();
    let mut tls = Tls::open(&authority.settings(), &Metrics::new()).unwrap();
    let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
    for serial in [2, 3] {
        authority.issue(serial);
        tls.look().await;
        assert_eq!(shown(&server, &client).await, Ok((1, 1)));
    }
    tls.look().await;
    assert_eq!(shown(&server, &client).await, Ok((3, 3)));
}

#[tokio::test]
async fn a_good_certificate_is_not_replaced_by_one_that_is_not() {
    let page = Metrics::new();
    let authority = Authority::new();
    let mut tls = Tls::open(&authority.settings(), &page).unwrap();
    let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
    let failures = || sample(&page, "consilium_tls_reload_failures_total").unwrap();
    for (at, (from, until)) in [(2001, 2002), (4001, 4002)].into_iter().enumerate() {
        authority.issue_for(from, until);
        tls.look().await;
        tls.look().await;
        assert_eq!(shown(&server, &client).await, Ok((1, 1)));
        assert_eq!(failures(), i64::try_from(at).unwrap() + 1);
    }
    authority.issue(3);
    tls.look().await;
    tls.look().await;
    assert_eq!(shown(&server, &client).await, Ok((3, 3)));

    let of = |setting, not_after| material::Validity { setting, not_before: 0, not_after };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let worse = |new, old| material::Validity::worse(&[new], &[old], now).is_err();
    assert!(worse(of("certificate", 999), of("certificate", 1000)));
    assert!(!worse(of("certificate", 999), of("certificate", 998)), "neither is good");
    assert!(!worse(of("ca", 999), of("ca", 1000)), "authorities are believed whatever their dates");
}

#[tokio::test]
async fn who_must_show_a_certificate_shows_it_every_time() {
    let authority = Authority::new();
    for (client_ca, expected) in [(None, HandshakeKind::Resumed), (authority.settings().client_ca, HandshakeKind::Full)]
    {
        let settings = Settings { client_ca, ..authority.settings() };
        let tls = Tls::open(&settings, &Metrics::new()).unwrap();
        let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
        let mut kind = None;
        for _ in 0..2 {
            let (near, far) = tokio::io::duplex(64 << 10);
            let (accepted, connected) =
                tokio::join!(server.accept(far, false), client.connect(NAME.try_into().unwrap(), near));
            let mut connected = connected.unwrap();
            drop(accepted.unwrap());
            // Tickets come after the handshake.
            assert!(connected.read_u8().await.is_err());
            kind = connected.get_ref().1.handshake_kind();
        }
        assert_eq!(kind, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_wait_for_each_other_and_not_for_those_who_say_nothing() {
    let authority = Authority::new();
    let tls = Tls::open(&authority.settings(), &Metrics::new()).unwrap();
    let (mut server, client) = (tls.server().unwrap(), tls.client().unwrap());
    server.room = Arc::new(Semaphore::new(1));
    let (_silent, far) = tokio::io::duplex(1024);
    let nothing_said = server.accept(far, false);
    tokio::pin!(nothing_said);
    assert!(futures::poll!(&mut nothing_said).is_pending());
    assert_eq!(shown(&server, &client).await, Ok((1, 1)));

    let taken = server.room.acquire().await.unwrap();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (accepted, connected) = tokio::join!(server.accept(far, false), client.connect(NAME.try_into().unwrap(), near));
    assert!(matches!(accepted, Err(Handshake::Timeout)) && connected.is_err());
    drop(taken);
    assert_eq!(shown(&server, &client).await, Ok((1, 1)), "room is given back");
    assert!(matches!(nothing_said.await, Err(Handshake::Timeout)));
}

#[tokio::test]
async fn experts_are_called_as_the_router_wants_it_and_not_as_records_say() {
    let authority = Authority::new();
    let opened = |settings: &Settings| Tls::open(settings, &Metrics::new()).unwrap().client().unwrap();
    let plain = record("labs", "a");
    let refused = dial::instance(&plain, Some(&opened(&authority.settings())));
    assert!(matches!(refused.unwrap_err(), dial::Error::Plaintext { .. }));
    dial::instance(&plain, None).unwrap();
    let migrating = Settings { plaintext_experts: true, ..authority.settings() };
    dial::instance(&plain, Some(&opened(&migrating))).unwrap();

    // The server has a certificate for NAME, and the record another name.
    let server = Tls::open(&authority.settings(), &Metrics::new()).unwrap().server().unwrap();
    for (expert_name, announced, is_known) in [
        (None, NAME, true),
        (None, "other.test", false),
        (Some(NAME), "other.test", true),
        (Some("other.test"), NAME, false),
    ] {
        let settings = Settings { expert_name: expert_name.map(str::to_owned), ..authority.settings() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let record = Record { address, tls: true, server_name: announced.to_owned(), ..record("labs", "a") };
        let channel = dial::instance(&record, Some(&opened(&settings))).unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let greeted = async {
            let (stream, _) = listener.accept().await.unwrap();
            server.accept(stream, false).await.is_ok()
        };
        let calls = async { while health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_err() {} };
        let greeted = tokio::select! {
            greeted = greeted => greeted,
            () = calls => panic!("nobody answers calls"),
        };
        assert_eq!(greeted, is_known, "{expert_name:?} {announced}");
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
