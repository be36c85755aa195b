//! Routers that serve TLS: whom the program believes, how it is known itself, and what it says when that goes wrong.

use std::{fs, path::PathBuf, process::Command};

use consilium_mesh::{
    metrics::Metrics,
    serve::Options,
    tls::{Settings, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{
    files::Files,
    said,
    scripted::{Script, Scripted},
};

/// An authority, what it has issued as files, and a router with a certificate for `mesh.test`.
struct Secured {
    dir: TempDir,
    mesh: Scripted,
}

impl Secured {
    fn start(wants_certificates: bool) -> Self {
        let secured = TempDir::new().unwrap();
        let authority = authority("of the mesh");
        let write = |name: &str, text: String| {
            let path = secured.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.crt", authority.pem());
        write("other-ca.crt", self::authority("of others").pem());
        for (file, name) in [("router", "mesh.test"), ("client", "client.test")] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            write(&format!("{file}.crt"), certificate.pem());
            write(&format!("{file}.key"), key.serialize_pem());
        }
        let settings = Settings {
            certificate: Some(secured.path().join("router.crt")),
            key: Some(secured.path().join("router.key")),
            client_ca: wants_certificates.then_some(ca),
            ..Settings::default()
        };
        let tls = Tls::open(&settings, &Metrics::new()).unwrap();
        let options = Options { tls: tls.server(), ..Options::default() };
        Self { dir: secured, mesh: Scripted::start(Script::default(), options) }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn router(&self, scheme: &str) -> String {
        format!("--router={scheme}://{}", self.mesh.address)
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_router_is_known_by_its_authority_and_its_name() {
    let secured = Secured::start(false);
    let (router, ca) = (secured.router("https"), secured.file("ca.crt"));
    let (code, out, err) = said(&["experts", &router, "--ca", &ca, "--server-name", "mesh.test", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("\"mesh\": \"market\""), "{out}");

    let other = secured.file("other-ca.crt");
    for (ca, name, expected) in [(&other, "mesh.test", "UnknownIssuer"), (&ca, "another.test", "not valid for name")] {
        let (code, out, err) = said(&["experts", &router, "--ca", ca, "--server-name", name]);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains(&format!("no router answers at {}", secured.mesh.address)), "{err}");
        assert!(err.contains(expected) && err.contains("hint: "), "{err}");
    }
}

#[test]
fn flags_may_come_from_the_environment_and_authorities_from_the_system() {
    let secured = Secured::start(true);
    let line = ["experts", &secured.router("https"), "--server-name", "mesh.test"];
    let experts = |variables: &[(&str, PathBuf)]| {
        let mut experts = Command::new(env!("CARGO_BIN_EXE_consilium"));
        experts.args(line).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        experts.envs(variables.iter().map(|(name, path)| (*name, path))).output().unwrap()
    };
    let path = |name: &str| PathBuf::from(secured.file(name));
    let own = [("CONSILIUM_CERTIFICATE", path("client.crt")), ("CONSILIUM_KEY", path("client.key"))];
    for authority in ["CONSILIUM_CA", "SSL_CERT_FILE"] {
        let output = experts(&[&own[..], &[(authority, path("ca.crt"))]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    // The system's own authorities, as they are, know nothing of this one.
    let output = experts(&own);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() != Some(0)
            && (said.contains("UnknownIssuer") || said.contains("no certificate authorities")),
        "{said}"
    );
}

#[test]
fn an_environment_for_tls_is_nothing_to_a_router_without() {
    let mesh = Scripted::start(Script::default(), Options::default());
    let router = format!("--router=http://{}", mesh.address);
    let experts = |value: &str, flags: &[&str]| {
        let mut experts = Command::new(env!("CARGO_BIN_EXE_consilium"));
        experts.args(["experts", &router]).args(flags);
        let names = ["CONSILIUM_CA", "CONSILIUM_CERTIFICATE", "CONSILIUM_KEY"];
        let output = experts.envs(names.map(|name| (name, value))).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for value in ["no/such/file.pem", ""] {
        assert_eq!(experts(value, &[]), (Some(0), String::new()));
    }
    let (code, err) = experts("no/such/file.pem", &["--ca", "ca.crt"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--ca is for routers that serve TLS"), "{err}");
    // Set to nothing is not set, of the router's address as well; whether one is at the usual place is another matter.
    let mut usual = Command::new(env!("CARGO_BIN_EXE_consilium"));
    let output = usual.args(["experts"]).env("CONSILIUM_ROUTER", "").output().unwrap();
    assert_ne!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_demo_needs_none_of_a_meshs_certificates() {
    let secured = Secured::start(false);
    let files = Files::new();
    let (certificate, key) = (secured.file("router.crt"), secured.file("router.key"));
    let tls = format!("listen: 127.0.0.1:0\ntls: {{certificate: {certificate}, key: {key}}}");
    files.replace("mesh.yaml", "listen: 127.0.0.1:0", &tls);
    let question =
        r#"{"text": "is an apple red", "expert": "fruit", "outcome": "dispatched", "labels": {"stand": "fruit"}}"#;
    files.write("demo.jsonl", question);
    let (code, out, err) = said(&["demo", &files.mesh()]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn whoever_is_hung_up_on_learns_what_it_may_be() {
    let secured = Secured::start(true);
    // A certificate that the router wants and does not get.
    let known = ["--ca", &secured.file("ca.crt"), "--server-name", "mesh.test"];
    let (code, out, err) = said(&[&["experts", &secured.router("https")][..], &known].concat());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    // The server's reason may get lost: it hangs up while this program is still talking.
    assert!(err.contains(&secured.mesh.address.to_string()) && err.contains("(--certificate, --key)"), "{err}");

    let (code, out, err) = said(&["experts", &secured.router("http")]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("--router https://{}", secured.mesh.address)), "{err}");
}

#[test]
fn a_mesh_is_verified_under_tls() {
    let secured = Secured::start(true);
    let questions = secured.file("questions.jsonl");
    fs::write(&questions, r#"{"text": "is an apple red", "expert": "fruit", "outcome": "dispatched"}"#).unwrap();
    let (ca, certificate, key) = (secured.file("ca.crt"), secured.file("client.crt"), secured.file("client.key"));
    let files = ["--ca", &ca, "--certificate", &certificate, "--key", &key, "--server-name", "mesh.test"];
    let (code, out, err) = said(&[&["verify", &questions, &secured.router("https")][..], &files].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_called() {
    let secured = Secured::start(false);
    let (ca, key) = (secured.file("ca.crt"), secured.file("client.key"));
    let (code, _, err) = said(&["experts", &secured.router("http"), "--ca", &ca]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--ca is for routers that serve TLS, and http:// is plaintext"), "{err}");
    let (code, _, err) = said(&["experts", &secured.router("https"), "--key", &key]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--certificate <FILE>"), "{err}");
    let (code, _, err) = said(&["experts", &secured.router("https"), "--ca", &key]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no certificate can be read from") && err.contains("client.key"), "{err}");
    // The other way round a certificate is no key.
    let files = ["--certificate", &ca, "--key", &ca];
    let (code, _, err) = said(&[&["experts", &secured.router("https"), "--ca", &ca][..], &files].concat());
    assert_eq!(code, Some(2));
    assert!(err.contains("the certificates for it cannot be used"), "{err}");
    assert!(err.contains(&format!("--key {ca}")) && !err.contains("tls."), "{err}");
    let certificate = secured.file("router.crt");
    let files = ["--certificate", &certificate, "--key", &key];
    let (code, _, err) = said(&[&["experts", &secured.router("https"), "--ca", &ca][..], &files].concat());
    assert_eq!(code, Some(2));
    assert!(err.contains(&format!("--certificate {certificate}")) && !err.contains("tls."), "{err}");
}
