//! The exact-text cache: what was read in a text, for when it comes again. It keeps readings, not decisions, since
//! attributes, rules and wishes differ from query to query; and hashes, not texts. It belongs to one revision of the
//! gate's knowledge and goes with it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::reading::Read;

/// What all remembered readings may take together.
const MOST_BYTES: usize = 64 << 20;
/// A reading's own size without its classes: the encoder's vector and what holds it together.
const READ_BYTES: usize = 2048;
/// One class in a reading: its probability and its closest example.
const CLASS_BYTES: usize = 32;

pub(crate) struct Recall {
    /// SipHash twice, with keys drawn for this process: 128 bits that nobody outside can make collide, so two texts
    /// are never taken for each other, and none can be read back.
    keys: [RandomState; 2],
    /// `None` where nothing is to be remembered.
    texts: Option<Cache<[u64; 2], Arc<Read>>>,
}

impl Recall {
    /// For at most so many texts, fewer where readings of so many classes would take too much room.
    pub(crate) fn new(texts: usize, classes: usize) -> Self {
        let texts = texts.min(MOST_BYTES / (READ_BYTES + classes * CLASS_BYTES));
        Self { keys: [RandomState::new(), RandomState::new()], texts: (texts > 0).then(|| Cache::new(texts)) }
    }

    pub(crate) fn get(&self, text: &str) -> Option<Arc<Read>> {
        self.texts.as_ref()?.get(&self.key(text))
    }

    /// Replaces what was remembered of the text.
    pub(crate) fn put(&self, text: &str, read: &Arc<Read>) {
        if let Some(texts) = &self.texts {
            texts.insert(self.key(text), Arc::clone(read));
        }
    }

    fn key(&self, text: &str) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Reading;

    fn read() -> Arc<Read> {
        let experts = Reading { known: Vec::new(), nobody: 1.0, closest: Vec::new() };
        Arc::new(Read { experts, axes: Vec::new(), vector: None, repaired: false, truncated: false, calibrated: false })
    }

    #[test]
    fn a_text_is_recalled_exactly() {
        let recall = Recall::new(10, 3);
        let kept = read();
        recall.put("is it safe", &kept);
        assert!(recall.get("is it safe").is_some_and(|found| Arc::ptr_eq(&found, &kept)));
        assert!(recall.get("is it safe ").is_none());
    }

    #[test]
    fn it_is_bounded_by_number_and_by_room() {
        for (recall, most) in [(Recall::new(8, 3), 8), (Recall::new(usize::MAX, 1 << 20), 1)] {
            for at in 0..100 {
                recall.put(&at.to_string(), &read());
            }
            let kept = (0..100).filter(|at| recall.get(&at.to_string()).is_some()).count();
            assert!(kept <= most, "{kept} of {most}");
        }
    }

    #[test]
    fn none_remembers_nothing() {
        let recall = Recall::new(0, 3);
        recall.put("is it safe", &read());
        assert!(recall.get("is it safe").is_none());
    }
}
