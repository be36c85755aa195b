//! How this program knows the servers that it calls, and how they know it: certificates from the command line's files,
//! else the authorities of the system. Nothing is connected here.

use std::{fs, path::Path};

use consilium_mesh::dial::{ClientIdentity, ClientTls, Target};
use rustls_native_certs::CertificateResult;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    args,
    error::{Error, Trouble},
};

/// The router of the command line, with everything needed to talk to it.
///
/// # Errors
/// Files that cannot be read or hold no certificate, and files for TLS where none is spoken.
pub(crate) fn target(router: &args::Router) -> Result<Target, Error> {
    let args::Router { address, ca, certificate, key, server_name } = router;
    let plain = Target::plain(&address.host_and_port);
    if !address.tls {
        let given = [
            ("--ca", ca.is_some()),
            ("--certificate", certificate.is_some()),
            ("--key", key.is_some()),
            ("--server-name", server_name.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
        return if given.is_empty() { Ok(plain) } else { Err(for_nothing(&given, &address.host_and_port)) };
    }
    let authorities = match ca {
        Some(file) => authorities_in(file)?,
        None => system_authorities()?,
    };
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientIdentity { certificate: read(certificate)?, key: read(key)? }),
        _ => None,
    };
    let tls = ClientTls { ca: as_pem(&authorities).into_bytes(), server_name: server_name.clone(), identity };
    Ok(Target { tls: Some(tls), ..plain })
}

/// What the system believes in, in DER: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else where the system keeps it.
///
/// # Errors
/// When there is none.
pub(crate) fn system_authorities() -> Result<Vec<Vec<u8>>, Error> {
    const HINT: &str = "install the package ca-certificates, or name a file in SSL_CERT_FILE";
    let found = rustls_native_certs::load_native_certs();
    usable(&found, || Trouble::new("this system has no certificate authorities to know servers by").with_hint(HINT))
}

fn authorities_in(file: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let found = rustls_native_certs::load_certs_from_paths(Some(file), None);
    usable(&found, || Trouble::new(format!("no certificate can be read from {}", file.display())))
}

/// What the calls speak of as settings, in the words of the command line, which knows no such settings.
pub(crate) fn in_flags(error: Error, router: &args::Router) -> Error {
    let Error::Usage(mut trouble) = error else { return error };
    let args::Router { ca, certificate, key, .. } = router;
    let files = [("certificate", certificate), ("key", key), ("ca", ca)];
    for (setting, file) in files {
        let flag = match file {
            Some(file) => format!("--{setting} {}", file.display()),
            None => format!("--{setting}"),
        };
        for detail in &mut trouble.details {
            // Of what is no file of its own, the calls say PEM.
            *detail = detail
                .replace(&format!("tls.{setting}: PEM "), &format!("{flag} "))
                .replace(&format!("tls.{setting}"), &flag)
                .replace(" of PEM ", " ");
        }
    }
    Error::Usage(trouble)
}

/// Those that are certificates: one that cannot be read among many that can is no reason to give up.
fn usable(found: &CertificateResult, trouble: impl FnOnce() -> Trouble) -> Result<Vec<Vec<u8>>, Error> {
    let certificates = found.certs.iter().filter(|der| X509Certificate::from_der(der).is_ok());
    let usable: Vec<Vec<u8>> = certificates.map(|certificate| certificate.to_vec()).collect();
    if usable.is_empty() {
        let details = found.errors.iter().map(ToString::to_string).collect();
        return Err(Error::Usage(Trouble { details, ..trouble() }));
    }
    Ok(usable)
}

fn as_pem(certificates: &[Vec<u8>]) -> String {
    let blocks: Vec<pem::Pem> = certificates.iter().map(|der| pem::Pem::new("CERTIFICATE", der.clone())).collect();
    pem::encode_many(&blocks)
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| Error::Usage(Trouble::of(format!("{} cannot be read", file.display()), &error)))
}

fn for_nothing(given: &[&str], host_and_port: &str) -> Error {
    let verb = if given.len() == 1 { "is" } else { "are" };
    let headline = format!("{} {verb} for routers that serve TLS, and http:// is plaintext", given.join(", "));
    Error::Usage(Trouble::new(headline).with_hint(format!("if it serves TLS, say --router https://{host_and_port}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn of(arguments: &[&str]) -> Result<Target, Error> {
        match Cli::try_parse_from(["consilium", "experts"].iter().chain(arguments)).unwrap().command {
            Command::Experts(experts) => target(&experts.router),
            other => panic!("{other:?}"),
        }
    }

    fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["mesh.test".to_owned()]).unwrap()
    }

    #[test]
    fn the_authorities_of_a_file_are_those_of_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (certificate(), certificate());
        let file = dir.path().join("ca.pem");
        fs::write(&file, format!("two of them\n{}{}", one.cert.pem(), other.cert.pem())).unwrap();
        let target = of(&["--router", "https://[::1]:7", "--ca", file.to_str().unwrap()]).unwrap();
        assert_eq!(target.address, "[::1]:7");
        let tls = target.tls.unwrap();
        assert_eq!(tls.server_name, None);
        let found: BTreeSet<Vec<u8>> =
            pem::parse_many(&tls.ca).unwrap().into_iter().map(pem::Pem::into_contents).collect();
        assert_eq!(found, BTreeSet::from([one.cert.der().to_vec(), other.cert.der().to_vec()]));
    }

    #[test]
    fn an_odd_certificate_among_good_ones_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (good, file) = (certificate(), dir.path().join("ca.pem"));
        let odd = pem::encode(&pem::Pem::new("CERTIFICATE", *b"no certificate"));
        let read = |text: String| {
            fs::write(&file, text).unwrap();
            of(&["--router", "https://mesh:1", "--ca", file.to_str().unwrap()])
        };
        let ca = read(format!("{odd}{}", good.cert.pem())).unwrap().tls.unwrap().ca;
        let found: Vec<_> = pem::parse_many(&ca).unwrap().into_iter().map(pem::Pem::into_contents).collect();
        assert_eq!(found, [good.cert.der().to_vec()]);
        assert!(read(odd).unwrap_err().to_string().contains("no certificate can be read"));
    }

    #[test]
    fn flags_for_tls_without_tls_are_refused_by_name() {
        let error = of(&["--router", "http://mesh:1", "--ca", "ca.pem", "--server-name", "x"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("--ca, --server-name are for"), "{error}");
        assert!(error.trouble().hint.unwrap().contains("https://mesh:1"));
        assert!(of(&["--router", "http://mesh:1"]).unwrap().tls.is_none());
    }

    #[test]
    fn files_that_hold_no_certificate_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (key, missing) = (dir.path().join("tls.key"), dir.path().join("missing.pem"));
        fs::write(&key, certificate().signing_key.serialize_pem()).unwrap();
        for file in [&key, &missing] {
            let file = file.to_str().unwrap();
            let error = of(&["--router", "https://mesh:1", "--ca", file]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().ends_with(file), "{error}");
        }
        let (key, missing) = (key.to_str().unwrap(), missing.to_str().unwrap());
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, certificate().cert.pem()).unwrap();
        let files = ["--ca", ca.to_str().unwrap(), "--certificate", missing, "--key", key];
        let error = of(&[&["--router", "https://mesh:1"][..], &files].concat()).unwrap_err();
        assert!(error.to_string().contains("missing.pem cannot be read"), "{error}");
    }
}
