//! A certificate authority of a test, and certificates of it, in files as a deployment brings them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_mesh::dial::{ClientIdentity, ClientTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate can be made"))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For one name, or address.
    pub fn issue(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate can be made");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A directory of `tls.crt`, `tls.key` and `ca.crt` that is replaced in one step, as Kubernetes does with a Secret: each file
/// is a link into `..data`, and that is a link as well.
#[derive(Debug)]
pub struct Secret {
    dir: PathBuf,
    life: usize,
}

impl Secret {
    pub fn new(dir: PathBuf, own: &Certificate, authorities: &[&Authority]) -> Self {
        fs::create_dir_all(&dir).expect("a directory can be made");
        let mut secret = Self { dir, life: 0 };
        secret.replace(own, authorities);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            link(&Path::new("..data").join(file), &secret.path(file));
        }
        secret
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Other certificates, which believe these authorities.
    pub fn replace(&mut self, own: &Certificate, authorities: &[&Authority]) {
        self.life += 1;
        let life = format!("..{}", self.life);
        let dir = self.dir.join(&life);
        fs::create_dir(&dir).expect("a directory can be made");
        let write = |file: &str, text: &str| fs::write(dir.join(file), text).expect("a file can be written");
        write("tls.crt", &own.certificate);
        write("tls.key", &own.key);
        write("ca.crt", &authorities.iter().map(|authority| authority.pem()).collect::<String>());
        link(Path::new(&life), &self.path("..next"));
        fs::rename(self.path("..next"), self.path("..data")).expect("a link can be replaced");
    }
}

/// How a caller is known who shows `own`, and whom he believes.
pub fn caller(believes: &Authority, own: &Certificate, server_name: &str) -> ClientTls {
    let identity =
        ClientIdentity { certificate: own.certificate.clone().into_bytes(), key: own.key.clone().into_bytes() };
    ClientTls { ca: believes.pem().into_bytes(), server_name: Some(server_name.to_owned()), identity: Some(identity) }
}

fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).expect("a link can be made");
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
