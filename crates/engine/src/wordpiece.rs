//! The tokens of plain ASCII text by a BERT vocabulary, without the alignments that the `tokenizers` crate keeps: 1 µs for
//! a question of eleven tokens instead of 18, which is a third of what the gate may spend on a text that it does not encode.
//! Whatever is not certain to come out the same is left to that crate.

use std::collections::HashMap;

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer, models::ModelWrapper};

/// A vocabulary of words and of pieces that continue words.
pub(crate) struct WordPiece {
    words: Pieces,
    continuations: Pieces,
    unknown: u32,
    /// Bytes of a word that is looked at; a longer one is unknown.
    longest_word: usize,
    /// Tokens that stand for themselves wherever they occur, as `[SEP]`. Text with one of them is left to others.
    added: Vec<String>,
}

/// Ids by piece, and the length of the longest piece.
#[derive(Default)]
struct Pieces {
    ids: HashMap<Box<str>, u32>,
    longest: usize,
}

impl WordPiece {
    /// `None` for a tokenizer that does more, less or other than BERT's does to lower-case text.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let NormalizerWrapper::BertNormalizer(normalizer) = tokenizer.get_normalizer()? else { return None };
        let PreTokenizerWrapper::BertPreTokenizer(_) = tokenizer.get_pre_tokenizer()? else { return None };
        // What it may do to accents and to Chinese does not concern ASCII.
        if !normalizer.clean_text || !normalizer.lowercase {
            return None;
        }
        let added = tokenizer.get_added_tokens_decoder();
        // Such a token would be searched for in what has become of the text.
        if added.values().any(|token| token.normalized) {
            return None;
        }
        let (mut words, mut continuations) = (Pieces::default(), Pieces::default());
        let vocabulary = tokenizer.get_vocab(false);
        let unknown = *vocabulary.get(&model.unk_token)?;
        for (piece, id) in vocabulary {
            if let Some(continuation) = piece.strip_prefix(&model.continuing_subword_prefix) {
                continuations.add(continuation, id);
            }
            words.add(&piece, id);
        }
        let added = added.into_values().map(|token| token.content).collect();
        Some(Self { words, continuations, unknown, longest_word: model.max_input_chars_per_word, added })
    }

    /// The ids of a text's tokens, without special tokens around them. `None` for a text that is not of the simple kind.
    pub(crate) fn ids(&self, text: &str) -> Option<Vec<u32>> {
        if !text.is_ascii() || self.added.iter().any(|token| text.contains(token.as_str())) {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut word = String::new();
        for character in text.chars() {
            match character {
                ' ' | '\t' | '\n' | '\r' => self.end_word(&mut word, &mut ids),
                // Taken out before anything else happens, so that what is left of a word is one word.
                _ if character.is_ascii_control() => {}
                _ if character.is_ascii_punctuation() => {
                    self.end_word(&mut word, &mut ids);
                    word.push(character);
                    self.end_word(&mut word, &mut ids);
                }
                _ => word.push(character),
            }
        }
        self.end_word(&mut word, &mut ids);
        Some(ids)
    }

    /// The longest piece that the word begins with, then the longest continuation of it, to the end; a word that does not
    /// come out even is unknown as a whole.
    fn end_word(&self, word: &mut String, ids: &mut Vec<u32>) {
        let before = ids.len();
        let (mut rest, mut pieces) = (word.as_str(), &self.words);
        while !rest.is_empty() {
            let found = if word.len() > self.longest_word { None } else { pieces.longest_at_start(rest) };
            let Some((id, length)) = found else {
                ids.truncate(before);
                ids.push(self.unknown);
                break;
            };
            ids.push(id);
            (rest, pieces) = (rest.split_at(length).1, &self.continuations);
        }
        word.clear();
    }
}

impl Pieces {
    fn add(&mut self, piece: &str, id: u32) {
        // No other piece is found in ASCII text.
        if piece.is_ascii() {
            self.longest = self.longest.max(piece.len());
            self.ids.insert(piece.into(), id);
        }
    }

    /// The id of the longest piece at the beginning of ASCII text, and its length.
    fn longest_at_start(&self, text: &str) -> Option<(u32, usize)> {
        let mut lengths = (1..=text.len().min(self.longest)).rev();
        lengths.find_map(|length| Some((*self.ids.get(text.get(..length)?)?, length)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The vocabulary that it is made for.
    static BERT: LazyLock<(Tokenizer, WordPiece)> = LazyLock::new(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/build/minilm-l6/tokenizer.json");
        let tokenizer = Tokenizer::from_file(path).expect("run make setup first");
        let words = WordPiece::of(&tokenizer).unwrap();
        (tokenizer, words)
    });

    fn assert_same(text: &str) {
        let (tokenizer, words) = &*BERT;
        let expected = tokenizer.encode_fast(text, false).unwrap();
        assert_eq!(words.ids(text).as_deref(), Some(expected.get_ids()), "{text:?}");
    }

    #[test]
    fn english_is_the_same_word_for_word() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut lines = 0;
        for file in ["README.md", "ARCHITECTURE.md", "crates/gate/data/background.txt", "crates/engine/src/engine.rs"] {
            let text = fs::read_to_string(format!("{root}/{file}")).unwrap();
            for line in text.lines().filter(|line| line.is_ascii()) {
                assert_same(line);
                lines += 1;
            }
        }
        assert!(lines > 1000, "{lines}");
    }

    #[test]
    fn corner_cases_are_the_same() {
        for text in [
            "",
            " ",
            "a",
            "foo\0bar\x7fbaz",
            "a\x0bb\x0cc",
            "a\tb\r\nc",
            "##ing",
            "#",
            "[sep]",
            "[ SEP ]",
            "$5=<x>^`|~",
        ] {
            assert_same(text);
        }
        for length in 98..103 {
            assert_same(&"a".repeat(length));
            assert_same(&format!("antidisestablishmentarianism{}", "q7".repeat(length - 64)));
        }
    }

    #[test]
    fn what_is_not_simple_is_left_alone() {
        for text in ["caf\u{e9}", "it\u{2019}s", "a [SEP] b", "[MASK]"] {
            assert_eq!(BERT.1.ids(text), None, "{text}");
        }
    }

    #[test]
    fn a_tokenizer_that_does_something_else_is_not_imitated() {
        let original: Value = serde_json::from_str(&BERT.0.to_string(false).unwrap()).unwrap();
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut changed = original.clone();
            change(&mut changed);
            WordPiece::of(&Tokenizer::from_bytes(changed.to_string()).unwrap()).is_some()
        };
        assert!(changed(&|_| {}));
        assert!(changed(&|tokenizer| tokenizer["normalizer"]["strip_accents"] = json!(false)));
        assert!(!changed(&|tokenizer| tokenizer["normalizer"]["lowercase"] = json!(false)));
        assert!(!changed(&|tokenizer| tokenizer["normalizer"]["clean_text"] = json!(false)));
        assert!(!changed(&|tokenizer| tokenizer["normalizer"] = json!({"type": "Lowercase"})));
        assert!(!changed(&|tokenizer| tokenizer["normalizer"] = Value::Null));
        assert!(!changed(&|tokenizer| tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"})));
        assert!(!changed(&|tokenizer| tokenizer["added_tokens"][0]["normalized"] = json!(true)));
    }

    proptest! {
        #[test]
        fn any_ascii_is_the_same(text in "[\\x00-\\x7f]{0,80}") {
            prop_assume!(!text.contains('['));
            assert_same(&text);
        }

        #[test]
        fn any_words_are_the_same(text in "([a-zA-Z]{1,16}[ .,'-]?){0,12}") {
            assert_same(&text);
        }
    }
}
