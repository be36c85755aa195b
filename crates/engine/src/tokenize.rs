//! Text to token ids, on threads of its own: a tokenizer is CPU work that must not block the async runtime. What comes
//! out goes straight into the queue, without waking the caller in between.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokenizers::models::ModelWrapper;
use tokenizers::{Model as _, PostProcessor as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::batch::Extent;
use crate::error::Error;
use crate::manifest::TokenizerEntry;
use crate::metrics::Tally;
use crate::queue::{Entry, Input, Queue, Slot, Ticket, Tokenizing};
use crate::threads::Threads;
use crate::windows;
use crate::wordpiece::WordPiece;

/// Text beyond this many bytes for every token the model takes is cut before tokenizing: some tokenizers take quadratic
/// time on hostile input, and this one 0.6 µs a byte on any. English has about five bytes to a token; the longest words of
/// a WordPiece vocabulary, 20.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Texts that may wait for a tokenizer. Each is bounded by the cut above; a worker does about five thousand sentences a second.
const MAX_WAITING: usize = 1024;

/// A tokenizer that fits its model. Cloned once per worker, since encoding fills caches behind locks.
#[derive(Clone)]
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same for plain text, faster.
    plain: Option<Arc<WordPiece>>,
    entry: TokenizerEntry,
}

/// What is wanted of a text.
pub(crate) enum Reading {
    /// As much of its beginning as the model takes at once.
    Head,
    /// All of it, in windows where it is too long for one. Where the tickets go of all windows but the first, whose ticket
    /// the caller has.
    Windows(oneshot::Sender<Vec<Ticket>>),
}

/// The ids of a text: one row for each window, never none, special tokens included.
#[derive(Debug, PartialEq)]
struct Tokens {
    windows: Vec<Vec<u32>>,
    truncated: bool,
}

/// The ids of a piece of text, and which of them stand for what it says; those before and after are special tokens.
struct Framed {
    ids: Vec<u32>,
    content: Range<usize>,
}

impl Framed {
    /// Content tokens that fit into the model together with the special ones.
    fn room(&self, max_tokens: usize) -> usize {
        max_tokens.saturating_sub(self.ids.len() - self.content.len()).max(1)
    }

    /// Some of the content, between the special tokens.
    fn window(&self, part: &Range<usize>) -> Vec<u32> {
        let (before, rest) = self.ids.split_at(self.content.start);
        let (content, after) = rest.split_at(self.content.len());
        [before, content.get(part.clone()).unwrap_or_default(), after].concat()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `Err` says what does not fit the manifest.
    pub(crate) fn from_bytes(bytes: &[u8], entry: &TokenizerEntry) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| format!("{}: {error}", entry.file))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if largest >= entry.vocab_size {
            return Err(format!("{}: has id {largest}, but tokenizer.vocab_size is {}", entry.file, entry.vocab_size));
        }
        let special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if special >= entry.max_tokens {
            let TokenizerEntry { file, max_tokens, .. } = entry;
            return Err(format!("{file}: adds {special} tokens to a text, and tokenizer.max_tokens is {max_tokens}"));
        }
        // The file may bring its own settings for both; the batch decides, and what is wanted of the text.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| format!("{}: {error}", entry.file))?;
        Ok(Self { inner, plain: None, entry: entry.clone() })
    }

    /// Makes [`Tokenizer::plain_ids`] fast where that is possible, for 3 MB of memory.
    pub(crate) fn with_plain_text(self) -> Self {
        Self { plain: WordPiece::of(&self.inner).map(Arc::new), ..self }
    }

    /// All ids of a text, without special tokens; its time grows with the text. `None` if it cannot be tokenized.
    pub(crate) fn plain_ids(&self, text: &str) -> Option<Vec<u32>> {
        if let Some(ids) = self.plain.as_ref().and_then(|plain| plain.ids(text)) {
            return Some(ids);
        }
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, false))).ok()?.ok()?;
        Some(encoding.get_ids().to_vec())
    }

    /// Whether a word is one token, and not the one for unknown words. `None` where tokens are not words, and where the word
    /// cannot be tokenized.
    pub(crate) fn has_word(&self, word: &str) -> Option<bool> {
        let ModelWrapper::WordPiece(model) = self.inner.get_model() else { return None };
        if model.token_to_id(word).is_some() {
            return Some(true);
        }
        // Plain words are looked up as they stand; only of others the normalizer may make something else. Words so long
        // are unknown to the model.
        if word.is_ascii() || word.len() > 4 * model.max_input_chars_per_word {
            return Some(false);
        }
        let unknown = model.token_to_id(&model.unk_token);
        let ids = self.plain_ids(word)?;
        Some(ids.len() == 1 && ids.first().copied() != unknown)
    }

    /// The parts of `text` that are worth tokenizing, on character boundaries, and whether they are not all of it.
    fn cut(&self, text: &str, reading: &Reading) -> (Vec<String>, bool) {
        let longest = self.entry.max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN);
        let pieces = match reading {
            Reading::Head => vec![text.split_at(text.floor_char_boundary(longest)).0],
            Reading::Windows(_) => windows::pieces(text, longest),
        };
        (pieces.into_iter().map(str::to_owned).collect(), text.len() > longest)
    }

    /// What [`Tokenizer::cut`] has left of a text.
    fn read(&self, pieces: &[String], reading: &Reading) -> Result<Tokens, Error> {
        let tokens = match (reading, pieces) {
            (Reading::Head, [text]) => self.head(text),
            (Reading::Windows(_), [text]) => self.windows(text),
            (_, pieces) => self.scattered(pieces),
        }?;
        if tokens.windows.iter().any(Vec::is_empty) {
            return Err(Error::invalid("text", "has no tokens, and this model adds none"));
        }
        Ok(tokens)
    }

    /// The beginning of a text.
    fn head(&self, text: &str) -> Result<Tokens, Error> {
        let framed = self.framed(text)?;
        let (all, room) = (framed.content.len(), framed.room(self.entry.max_tokens));
        if all <= room {
            return Ok(Tokens { windows: vec![framed.ids], truncated: false });
        }
        Ok(Tokens { windows: vec![framed.window(&(0..room))], truncated: true })
    }

    /// All of a text, or as much as windows may hold.
    fn windows(&self, text: &str) -> Result<Tokens, Error> {
        let framed = self.framed(text)?;
        let (parts, truncated) = windows::ranges(framed.content.len(), framed.room(self.entry.max_tokens));
        Ok(Tokens { windows: parts.iter().map(|part| framed.window(part)).collect(), truncated })
    }

    /// A window for each piece of a text that says something: the beginning of each piece, but the end of the last.
    fn scattered(&self, pieces: &[String]) -> Result<Tokens, Error> {
        let mut windows = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let (framed, is_last) = (self.framed(piece)?, at + 1 == pieces.len());
            let (all, room) = (framed.content.len(), framed.room(self.entry.max_tokens));
            let start = if is_last { all.saturating_sub(room) } else { 0 };
            // Where no piece says anything, the last one does so for all.
            if all > 0 || (is_last && windows.is_empty()) {
                windows.push(framed.window(&(start..all.min(start + room))));
            }
        }
        Ok(Tokens { windows, truncated: true })
    }

    fn framed(&self, text: &str) -> Result<Framed, Error> {
        // The reason stays untold: it may quote the text.
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, true)))
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Error::invalid("text", "cannot be tokenized"))?;
        let ids = encoding.get_ids().to_vec();
        // The CPU kernels would refuse an id outside the table; those of a GPU read whatever lies there.
        if ids.iter().any(|id| *id >= self.entry.vocab_size) {
            return Err(Error::failed("the tokenizer gave an id outside the model's vocabulary"));
        }
        // A special token that the text itself spells out is not marked: it is content.
        let is_content = |mask: &u32| *mask == 0;
        let special = encoding.get_special_tokens_mask();
        let start = special.iter().position(is_content).unwrap_or(ids.len());
        let end = special.iter().rposition(is_content).map_or(start, |last| last + 1);
        Ok(Framed { ids, content: start..end })
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
    /// One, or the pieces of a text that is far too long.
    pieces: Vec<String>,
    /// They are not the whole text.
    cut: bool,
    reading: Reading,
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
    pub(crate) fn submit(&self, text: &str, reading: Reading, mut slot: Slot, queue: &Queue) {
        slot.trail.tokenizes();
        let (pieces, cut) = self.tokenizer.cut(text, &reading);
        let job = Job { pieces, cut, reading, since: Instant::now(), slot };
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

    /// For whoever needs ids at once.
    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
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

fn work(tokenizer: &Tokenizer, jobs: &Receiver<Job>, queue: &Arc<Queue>, tally: &Tally) {
    for Job { pieces, cut, reading, since, mut slot } in jobs {
        if slot.is_abandoned() {
            continue;
        }
        if slot.deadline <= Instant::now() {
            slot.answer(Err(Error::DeadlineExceeded));
            continue;
        }
        match tokenizer.read(&pieces, &reading) {
            Ok(Tokens { windows, truncated }) => {
                slot.tokenizing = Tokenizing { truncated: truncated || cut, took: since.elapsed() };
                tally.tokenized(slot.tokenizing.took);
                queue_windows(windows, slot, reading, queue);
            }
            Err(error) => slot.answer(Err(error)),
        }
    }
}

/// Queues the first window in the slot, and each other one in a slot of its own, whose ticket the caller gets beforehand:
/// when the first is answered, the tickets are there.
fn queue_windows(windows: Vec<Vec<u32>>, first: Slot, reading: Reading, queue: &Arc<Queue>) {
    let (mut slots, mut tickets) = (vec![first], Vec::new());
    if let (Reading::Windows(send), [first]) = (reading, &slots[..]) {
        let more = (1..windows.len()).map(|_| {
            let (mut slot, ticket) = queue.open_slot(first.deadline, first.trail.beside());
            slot.tokenizing = first.tokenizing;
            tickets.push(ticket);
            slot
        });
        let more: Vec<Slot> = more.collect();
        slots.extend(more);
        // A caller who has gone does not get them, and dropped tickets abandon their slots.
        let _ = send.send(tickets);
    }
    for (ids, slot) in windows.into_iter().zip(slots) {
        // All texts of an engine may run together: an empty key.
        let extent = Extent { rows: 1, length: ids.len(), bytes: 0, group: Some([].into()) };
        queue.push(Entry::new(Input::Tokens(ids), extent, slot));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokenizers::{TruncationParams, TruncationStrategy};

    use super::*;
    use crate::testing::word_tokenizer;
    use crate::windows::MOST_WINDOWS;

    const MAX_TOKENS: usize = 6;

    fn entry(max_tokens: usize, vocab_size: u32) -> TokenizerEntry {
        TokenizerEntry { file: "t.json".to_owned(), max_tokens, vocab_size, pad_id: 0 }
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_bytes(word_tokenizer().as_bytes(), &entry(MAX_TOKENS, 100)).unwrap()
    }

    /// One that puts `[CLS]` before a text and `[SEP]` behind it.
    fn bert() -> Vec<u8> {
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/build/minilm-l6/tokenizer.json")).unwrap()
    }

    fn words(numbers: Range<usize>) -> String {
        let words: Vec<String> = numbers.map(|number| format!("w{}", 10 + number % 90)).collect();
        words.join(" ")
    }

    #[test]
    fn long_text_is_truncated_and_says_so() {
        let tokens = tokenizer().head("w11 w12 w13 w14 w15 w16 w17 w18").unwrap();
        assert_eq!(tokens, Tokens { windows: vec![vec![11, 12, 13, 14, 15, 16]], truncated: true });
        let tokens = tokenizer().head("w11 w12").unwrap();
        assert_eq!(tokens, Tokens { windows: vec![vec![11, 12]], truncated: false });
    }

    #[test]
    fn a_word_of_the_vocabulary_is_one_token() {
        let tokenizer = Tokenizer::from_bytes(&bert(), &entry(16, 30_522)).unwrap();
        for (word, has) in [("headache", true), ("hedache", false), ("caf\u{e9}", true), ("caf\u{e9}\u{e9}", false)] {
            assert_eq!(tokenizer.has_word(word), Some(has), "{word}");
        }
        for nothing in ["", "\u{e000}", &"\u{e9}".repeat(300)] {
            assert_eq!(tokenizer.has_word(nothing), Some(false));
        }
        assert_eq!(self::tokenizer().has_word("w11"), None, "not of pieces of words");
    }

    #[test]
    fn special_tokens_stay_around_what_is_left_of_a_text() {
        let tokenizer = Tokenizer::from_bytes(&bert(), &entry(16, 30_522)).unwrap();
        let mut truncating = tokenizers::Tokenizer::from_bytes(bert()).unwrap();
        let strategy = TruncationStrategy::LongestFirst;
        let truncation = TruncationParams { max_length: 16, strategy, ..TruncationParams::default() };
        truncating.with_truncation(Some(truncation)).unwrap();
        for length in [0, 1, 13, 14, 15, 16, 40] {
            let text = "a [SEP] dose ".repeat(14).split_inclusive(' ').take(length).collect::<String>();
            let expected = truncating.encode_fast(text.as_str(), true).unwrap();
            let tokens = tokenizer.head(&text).unwrap();
            assert_eq!(tokens, Tokens { windows: vec![expected.get_ids().to_vec()], truncated: length > 14 });
            if length <= 14 {
                assert_eq!(tokenizer.windows(&text).unwrap(), tokens);
            }
        }
    }

    #[test]
    fn windows_hold_every_token_once_between_special_ones() {
        let tokenizer = Tokenizer::from_bytes(&bert(), &entry(16, 30_522)).unwrap();
        for length in [15, 28, 29, 112] {
            let text = "one two three four five six seven ".repeat(16);
            let text: String = text.split_inclusive(' ').take(length).collect();
            let Tokens { windows, truncated } = tokenizer.windows(&text).unwrap();
            assert_eq!((windows.len(), truncated), (length.div_ceil(14), false));
            let content = windows.iter().flat_map(|window| match &window[..] {
                [101, content @ .., 102] if window.len() <= 16 => content,
                other => panic!("{other:?}"),
            });
            assert_eq!(Some(content.copied().collect()), tokenizer.plain_ids(&text));
        }
    }

    #[test]
    fn of_what_is_too_long_for_all_windows_both_ends_are_read() {
        let tokenizer = tokenizer();
        let Tokens { windows, truncated } = tokenizer.windows(&words(0..49)).unwrap();
        assert!(truncated && windows.len() == MOST_WINDOWS);
        assert_eq!((&windows[0][..], &windows[7][..]), (&[10, 11, 12, 13, 14, 15][..], &[53, 54, 55, 56, 57, 58][..]));
        let mut pieces: Vec<String> = (0..8).map(|at| words(10 * at..10 * at + 9)).collect();
        pieces[3] = "  ".to_owned();
        let Tokens { windows, truncated } = tokenizer.scattered(&pieces).unwrap();
        assert!(truncated && windows.len() == 7, "a piece that says nothing is no window");
        assert_eq!((&windows[1][..], &windows[6][..]), (&[20, 21, 22, 23, 24, 25][..], &[83, 84, 85, 86, 87, 88][..]));
    }

    #[test]
    fn a_text_without_tokens_is_refused_unless_the_model_adds_some() {
        let nothing = ["", "   "].map(str::to_owned);
        let windows = Reading::Windows(oneshot::channel().0);
        for pieces in [&nothing[..1], &nothing] {
            for reading in [&Reading::Head, &windows] {
                assert!(matches!(tokenizer().read(pieces, reading), Err(Error::Invalid { .. })));
                let bert = Tokenizer::from_bytes(&bert(), &entry(16, 30_522)).unwrap();
                assert_eq!(bert.read(pieces, reading).unwrap().windows, [[101, 102]]);
            }
        }
    }

    #[test]
    fn hostile_lengths_are_cut_on_a_character_boundary() {
        let (text, most) = ("é".repeat(5_000_000), MAX_TOKENS * MAX_BYTES_PER_TOKEN);
        let length = |(pieces, cut): (Vec<String>, bool)| {
            assert!(cut);
            pieces.iter().map(String::len).sum::<usize>()
        };
        let kept = length(tokenizer().cut(&text, &Reading::Head));
        assert!(kept <= most && kept > most - 4, "{kept}");
        let kept = length(tokenizer().cut(&text, &Reading::Windows(oneshot::channel().0)));
        assert!(kept <= most && kept > most - 4 * MOST_WINDOWS, "{kept}");
        assert_eq!(tokenizer().cut("short", &Reading::Head), (vec!["short".to_owned()], false));
    }

    #[test]
    fn plain_ids_are_those_of_the_whole_text_by_either_way() {
        let tokenizer = Tokenizer::from_bytes(&bert(), &entry(16, 30_522)).unwrap();
        let fast = tokenizer.clone().with_plain_text();
        assert!(fast.plain.is_some());
        for text in ["", "Which dose?", &"Which dose is safe? ".repeat(50), "caf\u{e9} [SEP] \u{4f60}"] {
            assert_eq!(fast.plain_ids(text), tokenizer.plain_ids(text), "{text}");
        }
        assert!(self::tokenizer().with_plain_text().plain.is_none());
        assert_eq!(self::tokenizer().plain_ids("w10 w11"), Some(vec![10, 11]));
    }

    #[test]
    fn a_vocabulary_larger_than_the_models_is_refused_at_load() {
        let problem = Tokenizer::from_bytes(word_tokenizer().as_bytes(), &entry(6, 3)).err().unwrap();
        assert!(problem.contains("vocab_size is 3"), "{problem}");
        assert!(Tokenizer::from_bytes(b"{}", &entry(6, 3)).is_err());
    }

    #[test]
    fn special_tokens_must_leave_room_for_a_text() {
        let problem = Tokenizer::from_bytes(&bert(), &entry(2, 30_522)).err().unwrap();
        assert_eq!(problem, "t.json: adds 2 tokens to a text, and tokenizer.max_tokens is 2");
        assert!(Tokenizer::from_bytes(&bert(), &entry(3, 30_522)).is_ok());
    }
}
