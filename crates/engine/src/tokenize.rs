//! Text to token ids, on threads of its own: a tokenizer is CPU work that must not block the async runtime. What comes
//! out goes straight into the queue, without waking the caller in between.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokenizers::{TruncationParams, TruncationStrategy};
use tokio::time::Instant;

use crate::batch::Extent;
use crate::error::Error;
use crate::manifest::TokenizerEntry;
use crate::metrics::Tally;
use crate::queue::{Entry, Input, Queue, Slot, Tokenizing};
use crate::threads::Threads;

/// Text beyond this many bytes for every token the model takes is cut before tokenizing: some tokenizers take quadratic
/// time on hostile input. English has about five bytes to a token; the longest words of a WordPiece vocabulary, 20.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Texts that may wait for a tokenizer. Each is bounded by the cut above; a worker does about five thousand sentences a second.
const MAX_WAITING: usize = 1024;

/// A tokenizer that fits its model. Cloned once per worker, since encoding fills caches behind locks.
#[derive(Clone)]
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    entry: TokenizerEntry,
}

/// Ids of one text, special tokens included.
#[derive(Debug, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) truncated: bool,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `Err` says what does not fit the manifest.
    pub(crate) fn from_bytes(bytes: &[u8], entry: &TokenizerEntry) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| format!("{}: {error}", entry.file))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if largest >= entry.vocab_size {
            return Err(format!("{}: has id {largest}, but tokenizer.vocab_size is {}", entry.file, entry.vocab_size));
        }
        // The file may bring its own settings for both; the manifest and the batch decide.
        inner.with_padding(None);
        let truncation = TruncationParams {
            max_length: entry.max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        inner.with_truncation(Some(truncation)).map_err(|error| format!("tokenizer.max_tokens: {error}"))?;
        Ok(Self { inner, entry: entry.clone() })
    }

    /// The part of `text` that is worth tokenizing, on a character boundary.
    fn cut<'a>(&self, text: &'a str) -> &'a str {
        let longest = self.entry.max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN);
        text.split_at(text.floor_char_boundary(longest)).0
    }

    fn encode(&self, text: &str) -> Result<Tokens, Error> {
        // The reason stays untold: it may quote the text.
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, true)))
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Error::invalid("text", "cannot be tokenized"))?;
        let truncated = !encoding.get_overflowing().is_empty();
        let ids = encoding.get_ids().to_vec();
        // The CPU kernels would refuse an id outside the table; those of a GPU read whatever lies there.
        if ids.iter().any(|id| *id >= self.entry.vocab_size) {
            return Err(Error::failed("the tokenizer gave an id outside the model's vocabulary"));
        }
        if ids.is_empty() {
            return Err(Error::invalid("text", "has no tokens, and this model adds none"));
        }
        Ok(Tokens { ids, truncated })
    }
}

/// The tokenizer threads of one engine.
pub(crate) struct TokenizerPool {
    /// `None` once closed.
    jobs: RwLock<Option<Sender<Job>>>,
    threads: Threads,
    tokenizer: Tokenizer,
}

struct Job {
    text: String,
    cut: bool,
    since: Instant,
    slot: Slot,
}

impl TokenizerPool {
    pub(crate) fn start(
        tokenizer: Tokenizer,
        workers: usize,
        queue: &Arc<Queue>,
        tally: &Arc<Tally>,
    ) -> io::Result<Self> {
        let (send, receive) = bounded(MAX_WAITING);
        let threads = Threads::default();
        for at in 0..workers {
            let (tokenizer, jobs) = (tokenizer.clone(), receive.clone());
            let (queue, tally) = (Arc::clone(queue), Arc::clone(tally));
            threads.start(format!("tokenize-{at}"), move || work(&tokenizer, &jobs, &queue, &tally))?;
        }
        Ok(Self { jobs: RwLock::new(Some(send)), threads, tokenizer })
    }

    /// Hands a text to the workers; the slot is answered through the queue, or here when there is no room.
    pub(crate) fn submit(&self, text: &str, mut slot: Slot, queue: &Queue) {
        slot.trail.tokenizes();
        let kept = self.tokenizer.cut(text);
        let job = Job { text: kept.to_owned(), cut: kept.len() < text.len(), since: Instant::now(), slot };
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = jobs.as_ref() else {
            return job.slot.answer(Err(Error::Closed));
        };
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(job)) => job.slot.answer(Err(Error::Closed)),
            Err(TrySendError::Full(job)) => {
                // As many texts as may wait here, each of a token at least.
                let retry_after = queue.cost().drain(MAX_WAITING);
                job.slot.answer(Err(Error::QueueFull { retry_after }));
            }
        }
    }

    /// Takes nothing more, finishes what is there, and waits for the threads. Blocks.
    pub(crate) fn close(&self) {
        *self.jobs.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.threads.join();
    }
}

impl Drop for TokenizerPool {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(tokenizer: &Tokenizer, jobs: &Receiver<Job>, queue: &Queue, tally: &Tally) {
    for Job { text, cut, since, mut slot } in jobs {
        if slot.is_abandoned() {
            continue;
        }
        if slot.deadline <= Instant::now() {
            slot.answer(Err(Error::DeadlineExceeded));
            continue;
        }
        match tokenizer.encode(&text) {
            Ok(Tokens { ids, truncated }) => {
                // All texts of an engine may run together: an empty key.
                let extent = Extent { rows: 1, length: ids.len(), bytes: 0, group: Some([].into()) };
                slot.tokenizing = Tokenizing { truncated: truncated || cut, took: since.elapsed() };
                tally.tokenized(slot.tokenizing.took);
                queue.push(Entry::new(Input::Tokens(ids), extent, slot));
            }
            Err(error) => slot.answer(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::word_tokenizer;

    const MAX_TOKENS: usize = 6;

    fn tokenizer() -> Tokenizer {
        let entry = TokenizerEntry { file: "t.json".to_owned(), max_tokens: MAX_TOKENS, vocab_size: 100, pad_id: 0 };
        Tokenizer::from_bytes(word_tokenizer().as_bytes(), &entry).unwrap()
    }

    #[test]
    fn long_text_is_truncated_and_says_so() {
        let tokens = tokenizer().encode("w1 w2 w3 w4 w5 w6 w7 w8").unwrap();
        assert_eq!((tokens.ids.len(), tokens.truncated), (MAX_TOKENS, true));
        let tokens = tokenizer().encode("w1 w2").unwrap();
        assert!(!tokens.truncated);
    }

    #[test]
    fn hostile_lengths_are_cut_on_a_character_boundary() {
        let text = "é".repeat(5_000_000);
        let kept = tokenizer().cut(&text).len();
        assert!(kept <= MAX_TOKENS * MAX_BYTES_PER_TOKEN && kept > MAX_TOKENS * MAX_BYTES_PER_TOKEN - 4, "{kept}");
        assert_eq!(tokenizer().cut("short"), "short");
    }

    #[test]
    fn a_vocabulary_larger_than_the_models_is_refused_at_load() {
        let entry = TokenizerEntry { file: "t.json".to_owned(), max_tokens: 6, vocab_size: 3, pad_id: 0 };
        let problem = Tokenizer::from_bytes(word_tokenizer().as_bytes(), &entry).err().unwrap();
        assert!(problem.contains("vocab_size is 3"), "{problem}");
        assert!(Tokenizer::from_bytes(b"{}", &entry).is_err());
    }
}
