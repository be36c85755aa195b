//! An encoder that remembers: while a gate learns, each text is encoded once, and where there is a directory for it only
//! once ever. What a gate is asked afterwards goes straight to the encoder behind, so that what it takes is what it takes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use consilium_gate::{EncodeError, Encoded, Encoder};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// What a file of vectors begins with; the numbers after it are little-endian.
const MAGIC: &[u8; 8] = b"vectors2";
/// Magic, then how many numbers a vector has, and how many the features beside it.
const HEADER: usize = 16;
const KEY: usize = 32;
const NUMBER: usize = size_of::<f32>();
/// Of the encoder's digest, in the file's name.
const DIGEST_SHOWN: usize = 16;

/// Hears how many texts were encoded or remembered so far.
type Told = Box<dyn Fn(usize) + Send + Sync>;

pub(crate) struct Remembering<E> {
    encoder: E,
    learning: AtomicBool,
    told: Told,
    seen: Mutex<Seen>,
}

/// By text: the vector, then the features.
type Remembered = HashMap<[u8; KEY], [Vec<f32>; 2]>;

#[derive(Default)]
struct Seen {
    vectors: Remembered,
    /// Some are not in the file yet.
    changed: bool,
    asked: usize,
    last: Option<Instant>,
}

impl<E: Encoder> Remembering<E> {
    /// Learning, with what `dir` holds for this encoder. A file that is damaged or of another make counts as none: it
    /// costs time and nothing else.
    pub(crate) fn new(encoder: E, dir: Option<&Path>, told: Told) -> Self {
        let bytes = dir.and_then(|dir| fs::read(file(dir, encoder.digest())).ok());
        let vectors = bytes.and_then(|bytes| read(&bytes)).unwrap_or_default();
        let seen = Seen { vectors, ..Seen::default() };
        Self { encoder, learning: AtomicBool::new(true), told, seen: Mutex::new(seen) }
    }

    /// From here on every text is encoded. Returns when the last one was that was learned from.
    pub(crate) fn stop_learning(&self) -> Option<Instant> {
        self.learning.store(false, Ordering::Release);
        self.lock().last
    }

    /// Writes what is new into `dir`, as a whole or not at all.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        let mut seen = self.lock();
        if seen.changed {
            fs::create_dir_all(dir)?;
            let path = file(dir, self.encoder.digest());
            let beside = path.with_extension(format!("{}.part", std::process::id()));
            let written = fs::File::create(&beside).and_then(|file| write(io::BufWriter::new(file), &seen.vectors));
            written.and_then(|()| fs::rename(&beside, &path)).inspect_err(|_| drop(fs::remove_file(&beside)))?;
            seen.changed = false;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: [u8; KEY], encoded: Option<&Encoded>) {
        let asked = {
            let mut seen = self.lock();
            if let Some(Encoded { vector, features, .. }) = encoded {
                seen.vectors.insert(key, [vector.clone(), features.clone()]);
                seen.changed = true;
            }
            seen.asked += 1;
            seen.last = Some(Instant::now());
            seen.asked
        };
        (self.told)(asked);
    }
}

#[async_trait]
impl<E: Encoder> Encoder for Remembering<E> {
    fn digest(&self) -> &str {
        self.encoder.digest()
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        if !self.learning.load(Ordering::Acquire) {
            return self.encoder.encode(text, deadline).await;
        }
        let key = Sha256::digest(text).into();
        let remembered = self.lock().vectors.get(&key).cloned();
        if let Some([vector, features]) = remembered {
            self.note(key, None);
            return Ok(Encoded { features, ..vector.into() });
        }
        let encoded = self.encoder.encode(text, deadline).await?;
        self.note(key, Some(&encoded));
        Ok(encoded)
    }

    fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        self.encoder.static_vector(text)
    }

    fn knows(&self, word: &str) -> bool {
        self.encoder.knows(word)
    }
}

fn file(dir: &Path, digest: &str) -> PathBuf {
    let digest: String = digest.chars().filter(char::is_ascii_alphanumeric).take(DIGEST_SHOWN).collect();
    dir.join(format!("{digest}.vectors"))
}

fn read(bytes: &[u8]) -> Option<Remembered> {
    let (header, records) = bytes.split_at_checked(HEADER)?;
    let (width, features) = header.strip_prefix(MAGIC)?.split_at_checked(size_of::<u32>())?;
    let [width, features] = [width, features].map(|bytes| bytes.try_into().map(u32::from_le_bytes));
    let (width, features) = (width.ok()? as usize, features.ok()? as usize);
    let record = width.checked_add(features)?.checked_mul(NUMBER)?.checked_add(KEY)?;
    if records.len() % record != 0 {
        return None;
    }
    let encoded = |record: &[u8]| {
        let (key, numbers) = record.split_at_checked(KEY)?;
        let numbers = numbers.chunks_exact(NUMBER).map(|bytes| bytes.try_into().map(f32::from_le_bytes));
        let mut vector: Vec<f32> = numbers.collect::<Result<_, _>>().ok()?;
        let features = vector.split_off(width);
        Some((key.try_into().ok()?, [vector, features]))
    };
    records.chunks_exact(record).map(encoded).collect()
}

/// What is as long as the first one; an encoder says nothing else.
fn write(mut sink: impl io::Write, vectors: &Remembered) -> io::Result<()> {
    let widths = |[vector, features]: &[Vec<f32>; 2]| [vector.len(), features.len()];
    let usual = vectors.values().next().map_or([0, 0], widths);
    sink.write_all(MAGIC)?;
    for width in usual {
        sink.write_all(&u32::try_from(width).map_err(io::Error::other)?.to_le_bytes())?;
    }
    for (key, encoded) in vectors.iter().filter(|(_, encoded)| widths(encoded) == usual) {
        sink.write_all(key)?;
        encoded.iter().flatten().try_for_each(|number| sink.write_all(&number.to_le_bytes()))?;
    }
    sink.flush()
}

impl<E> std::fmt::Debug for Remembering<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembering").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        time::Duration,
    };

    use super::*;

    /// A text's length, and how often it was asked.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    #[async_trait]
    impl Encoder for Counting {
        fn digest(&self) -> &'static str {
            "sha256:0123456789abcdef-and-more"
        }

        async fn encode(&self, text: &str, _deadline: Instant) -> Result<Encoded, EncodeError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let vector = vec![text.len() as f32, -0.5, 1e-20];
            Ok(Encoded { features: vec![0.25, text.len() as f32], ..vector.into() })
        }
    }

    async fn vector(encoder: &impl Encoder, text: &str) -> Vec<f32> {
        let encoded = encoder.encode(text, Instant::now() + Duration::from_secs(1)).await.unwrap();
        [encoded.vector, encoded.features].concat()
    }

    #[tokio::test]
    async fn what_is_learned_is_encoded_once_and_what_is_asked_every_time() {
        let counting = Counting::default();
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = Arc::clone(&heard);
        let told = Box::new(move |asked| hears.store(asked, Ordering::SeqCst));
        let encoder = Remembering::new(counting.clone(), None, told);
        let first = vector(&encoder, "one").await;
        assert_eq!(first, vector(&encoder, "one").await);
        assert_eq!((counting.0.load(Ordering::SeqCst), heard.load(Ordering::SeqCst)), (1, 2));
        assert!(encoder.stop_learning().is_some());
        assert_eq!(first, vector(&encoder, "one").await);
        assert_eq!((counting.0.load(Ordering::SeqCst), heard.load(Ordering::SeqCst)), (2, 2));
    }

    #[tokio::test]
    async fn a_directory_keeps_vectors_to_the_last_bit() {
        let dir = tempfile::tempdir().unwrap();
        let first = Remembering::new(Counting::default(), Some(dir.path()), Box::new(|_| {}));
        let vectors = [vector(&first, "one").await, vector(&first, "three").await];
        first.save(dir.path()).unwrap();
        assert!(dir.path().join("sha2560123456789.vectors").is_file());

        let counting = Counting::default();
        let second = Remembering::new(counting.clone(), Some(dir.path()), Box::new(|_| {}));
        assert_eq!(vectors, [vector(&second, "one").await, vector(&second, "three").await]);
        assert_eq!(counting.0.load(Ordering::SeqCst), 0);
        vector(&second, "two").await;
        assert_eq!(counting.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_damaged_file_costs_time_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sha2560123456789.vectors");
        for damaged in [
            &b""[..],
            b"vectors2",
            b"vectors2\x03\0\0\0\x02\0\0\0and some",
            b"vectors1\x03\0\0\0",
            b"another kind of file altogether",
        ] {
            fs::write(&path, damaged).unwrap();
            let counting = Counting::default();
            let encoder = Remembering::new(counting.clone(), Some(dir.path()), Box::new(|_| {}));
            assert_eq!(vector(&encoder, "one").await[0].to_bits(), 3.0_f32.to_bits());
            assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        }
    }
}
