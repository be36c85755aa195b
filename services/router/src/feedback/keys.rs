//! The keys that sign tokens: read from a file, made where there is none, and used. Nothing of them is ever printed.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac, digest::InvalidLength};
use rand::{TryRng, rngs::SysRng};
use sha2::Sha256;
use tempfile::NamedTempFile;

use super::private::{directory, open_to_others};

/// Bytes of a signature.
pub(super) const TAG_BYTES: usize = 32;
/// What is right, where a key file is wrong.
pub(super) const EXPECTED: &str =
    "a file that only the router's user and group may read, with base64 of at least 32 random bytes on each line";
const KEY_BYTES: usize = 32;
/// One that signs, one that did, one that will: more of them are a mistake.
const MAX_KEYS: usize = 16;
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Tools differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// HMAC-SHA256 under one of several keys: the first signs, all of them verify. Never empty.
#[derive(Clone)]
pub(super) struct Keys(Vec<Hmac<Sha256>>);

/// What is wrong with a file of keys, or with the journal.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not a file")]
    NoFile,
    #[error("others may read or write it, its mode is {0:04o}")]
    Open(u32),
    #[error("longer than {MAX_FILE_BYTES} bytes")]
    Long,
    #[error("no key in it")]
    Empty,
    #[error("more than {MAX_KEYS} keys")]
    Many,
    #[error("line {0}: not base64")]
    NoBase64(usize),
    #[error("line {line}: {bytes} bytes")]
    Short { line: usize, bytes: usize },
    #[error("it cannot be made")]
    Make(#[source] io::Error),
    #[error("the system has no random numbers")]
    Random,
}

/// The keys of the file at `path`; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Keys>, Problem> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(Problem::NoFile);
    }
    if let Some(mode) = open_to_others(&metadata) {
        return Err(Problem::Open(mode));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Problem::Long);
    }
    Keys::parse(&text).map(Some)
}

/// The keys of the file at `path`, and whether it had to be made: where there is none, one is, with one key in it.
pub(super) fn read_or_make(path: &Path) -> Result<(Keys, bool), Problem> {
    if let Some(keys) = read(path)? {
        return Ok((keys, false));
    }
    let is_made = make(path)?;
    // Read, whoever made it: of several routers that start together on one directory, one was first.
    read(path)?.map(|keys| (keys, is_made)).ok_or(Problem::Empty)
}

/// Makes the file, unless somebody else just did: whoever reads it finds all of it or nothing. Whether it did.
fn make(path: &Path) -> Result<bool, Problem> {
    let line = format!("{}\n", BASE64.encode(random()?));
    let dir = directory(path);
    // Nobody but its owner may read it from the beginning.
    let mut file = NamedTempFile::new_in(dir).map_err(Problem::Make)?;
    file.write_all(line.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(Problem::Make)?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(Problem::Make)?;
            Ok(true)
        }
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(Problem::Make(refused.error)),
    }
}

fn random() -> Result<[u8; KEY_BYTES], Problem> {
    let mut key = [0; KEY_BYTES];
    SysRng.try_fill_bytes(&mut key).map_err(|_| Problem::Random)?;
    Ok(key)
}

impl Keys {
    /// One key that nobody else has.
    pub(super) fn random() -> Result<Self, Problem> {
        Self::of(&[random()?.to_vec()])
    }

    /// One key a line. Empty lines and those that begin with `#` are left out.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = BASE64.decode(line).map_err(|_| Problem::NoBase64(at))?;
            if key.len() < KEY_BYTES {
                return Err(Problem::Short { line: at, bytes: key.len() });
            }
            keys.push(key);
        }
        Self::of(&keys)
    }

    fn of(keys: &[Vec<u8>]) -> Result<Self, Problem> {
        if keys.is_empty() {
            return Err(Problem::Empty);
        }
        if keys.len() > MAX_KEYS {
            return Err(Problem::Many);
        }
        let keys: Result<_, InvalidLength> = keys.iter().map(|key| Hmac::new_from_slice(key)).collect();
        // HMAC takes keys of every length.
        keys.map(Self).map_err(|_| Problem::Empty)
    }

    /// The signature of `parts`, one after the other, under the first key.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let signed = self.0.first().map(|key| over(key, parts).finalize().into_bytes().into());
        signed.unwrap_or_default()
    }

    /// Whether `tag` is the signature of `parts` under any of the keys. Takes the same time wherever it is wrong.
    pub(super) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.0.iter().any(|key| over(key, parts).verify_slice(tag).is_ok())
    }
}

fn over(key: &Hmac<Sha256>, parts: &[&[u8]]) -> Hmac<Sha256> {
    parts.iter().fold(key.clone(), Mac::chain_update)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(<{}>)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Test case 4 has the one key there of 25 bytes; as ours are longer, it is made by hand.
        let key: Vec<u8> = (1..=25).collect();
        let keys = Keys::of(&[key]).unwrap();
        let tag = keys.sign(&[&[0xcd; 20], &[0xcd; 30]]);
        let shown: Vec<_> = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown.concat(), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
        assert!(keys.verify(&[&[0xcd; 50]], &tag), "however it was cut");
        assert!(!keys.verify(&[&[0xcd; 50]], &tag[..16]), "half a signature is none");
        assert!(!keys.verify(&[&[0xcd; 50]], &[]));
    }

    #[test]
    fn padded_or_not_and_with_remarks() {
        let padded = BASE64.encode([7; 32]);
        let bare = padded.trim_end_matches('=');
        let keys = Keys::parse(&format!("# of spring\n\n  {padded}\r\n{bare}\n")).unwrap();
        assert_eq!(keys.0.len(), 2);
        assert!(matches!(Keys::parse(&format!("{bare}\n").repeat(17)), Err(Problem::Many)));
        assert!(!format!("{keys:?}").contains(bare));
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let (old, new) = (BASE64.encode([1; 32]), BASE64.encode([2; 32]));
        let parse = |lines: [&str; 2]| Keys::parse(&lines.join("\n")).unwrap();
        let (before, after) = (parse([&old, &new]), parse([&new, &old]));
        assert!(after.verify(&[b"x"], &before.sign(&[b"x"])) && before.verify(&[b"x"], &after.sign(&[b"x"])));
        assert_ne!(before.sign(&[b"x"]), after.sign(&[b"x"]));
        assert!(!Keys::parse(&new).unwrap().verify(&[b"x"], &before.sign(&[b"x"])), "gone is gone");
    }

    #[test]
    fn a_file_is_made_once_and_for_nobody_else_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.key");
        assert!(read(&path).unwrap().is_none());
        let (made, is_made) = read_or_make(&path).unwrap();
        assert!(is_made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read(&path).unwrap();
        assert!(!make(&path).unwrap(), "somebody else was first");
        assert_eq!(fs::read(&path).unwrap(), text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        let (again, is_made) = read_or_make(&path).unwrap();
        assert!(!is_made && again.verify(&[b"x"], &made.sign(&[b"x"])));
        assert!(!Keys::random().unwrap().verify(&[b"x"], &made.sign(&[b"x"])));
        assert!(matches!(read_or_make(&dir.path().join("none/feedback.key")), Err(Problem::Make(_))));
    }
}
