//! The bytes of certificates and keys, as they lie on the disk at one moment.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Error, Problem, Settings};
use crate::config::MAX_FILE_BYTES;

const A_FILE: &str = "a file in PEM";

/// What tells one state of the files from another: Kubernetes swaps all of them by one link, and leaves their times alone.
pub(super) type State = [u8; 32];

/// What is in the files. Not `Debug`: there is a key in it.
#[derive(Default)]
pub(super) struct Files {
    pub(super) certificate: Option<Pem>,
    pub(super) key: Option<Pem>,
    pub(super) client_ca: Option<Pem>,
    pub(super) ca: Option<Pem>,
}

/// One of them.
pub(super) struct Pem {
    pub(super) path: PathBuf,
    /// They do not stay in memory: of a key, only what connections are made with does.
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Files {
    /// # Errors
    /// Every setting that does not go with the others, and every file that cannot be read.
    pub(super) fn read(settings: &Settings) -> Result<Self, Error> {
        let mut problems = settings.incomplete();
        let [certificate, key, client_ca, ca] = settings.files().map(|(setting, path)| {
            let path = path?;
            match read(path) {
                Ok(bytes) => Some(Pem { path: path.to_owned(), bytes }),
                Err(error) => {
                    let what = format!("{}: {error}", path.display());
                    problems.push(Problem { setting, what, expected: A_FILE });
                    None
                }
            }
        });
        if problems.is_empty() { Ok(Self { certificate, key, client_ca, ca }) } else { Err(Error(problems)) }
    }

    pub(super) fn state(&self) -> State {
        let mut digest = Sha256::new();
        for file in [&self.certificate, &self.key, &self.client_ca, &self.ca] {
            let bytes = file.as_ref().map_or(&[][..], |file| file.bytes.as_slice());
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Before it is opened: of a pipe that would take until somebody writes into it.
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    // Room for all of it from the beginning: a vector that grows leaves copies behind.
    let room = usize::try_from(about.len().min(MAX_FILE_BYTES) + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
