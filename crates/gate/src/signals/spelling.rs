//! Typing errors: a query's misspelt words, put right before anything looks at them. One wrong letter costs as much as the
//! word says: with one in each query, 4 to 9 of 100 went to the wrong expert, and half of those or more come back with it.
//!
//! A word is taken for misspelt when neither the gate's texts nor the encoder's vocabulary have it, and put right only
//! where it is one slip away from a word that the experts' own texts use: this is no spelling checker, and a word that
//! says nothing to the gate may stay as it is. What comes out is for reading only; experts get the query as it was typed.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::lexical::{hashed, position};

/// Words of fewer letters are one slip away from too many others; longer ones are no words.
const LETTERS: std::ops::RangeInclusive<usize> = 4..=32;
/// Bytes of a word that is looked at: four to a letter.
const LONGEST_WORD: usize = 4 * *LETTERS.end();
/// Longer texts, in bytes, are left alone: what they are about, they say more than once.
const LONGEST_TEXT: usize = 4 << 10;
/// Most words that a misspelt one may stand for; the rarer ones are only known then. At some nine entries a word the
/// index has 4 MB, and never more than 14.
const MOST_TARGETS: usize = 50_000;
/// Of the words that share a spelling less one letter, the most frequent are tried: there are a few dozen in any language,
/// and a card that made up thousands would slow down every query.
const MOST_ALIKE: usize = 64;

/// The words of the gate's texts. The default knows none and changes nothing.
#[derive(Default)]
pub(crate) struct Spelling {
    /// Never more than the texts themselves take, which the gate holds anyway.
    known: HashSet<Box<str>>,
    /// What a misspelt word may stand for: by falling number of texts that have it, then by spelling.
    targets: Vec<Box<str>>,
    /// Each target by the hashes of itself and of itself less any one letter, sorted: two words that are one slip apart
    /// have such a hash in common, so that a few look-ups find all candidates.
    alike: Vec<(u32, u32)>,
}

impl Spelling {
    /// Learns the words of the experts' own texts as targets, and those of the background as words that are right too.
    pub(crate) fn learn<'a>(
        own: impl IntoIterator<Item = &'a str>,
        background: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut tally = Tally::default();
        own.into_iter().for_each(|text| tally.read(text, true));
        background.into_iter().for_each(|text| tally.read(text, false));
        let mut targets: Vec<(Reverse<u32>, &Box<str>)> =
            tally.0.iter().filter(|(_, word)| word.is_own).map(|(word, found)| (Reverse(found.texts), word)).collect();
        targets.sort_unstable();
        targets.truncate(MOST_TARGETS);
        let targets: Vec<Box<str>> = targets.into_iter().map(|(_, word)| word.clone()).collect();
        let mut alike: Vec<(u32, u32)> =
            (0u32..).zip(&targets).flat_map(|(at, word)| hashes(word).map(move |hash| (hash, at))).collect();
        alike.sort_unstable();
        // "dose" less an "s" once, but "dress" less an "s" twice.
        alike.dedup();
        alike.shrink_to_fit();
        Self { known: tally.0.into_keys().collect(), targets, alike }
    }

    /// The text with its misspelt words put right; borrowed where there is nothing to change. `knows` says of a word,
    /// in lower case or as it was typed, that it is right although no text of the gate has it.
    pub(crate) fn repair<'a>(&self, text: &'a str, knows: impl Fn(&str) -> bool) -> Cow<'a, str> {
        if self.targets.is_empty() || text.len() > LONGEST_TEXT {
            return Cow::Borrowed(text);
        }
        let (mut repaired, mut copied) = (String::new(), 0);
        let mut word = String::with_capacity(LONGEST_WORD);
        for (start, typed) in words(text) {
            if !look_up_form(typed, &mut word) || self.known.contains(word.as_str()) {
                continue;
            }
            if knows(&word) || (typed != word && knows(typed)) {
                continue;
            }
            let Some(case) = Case::of(typed, (text, start)) else { continue };
            let Some(right) = self.nearest(&word) else { continue };
            repaired.push_str(&text[copied..start]);
            case.write(right, &mut repaired);
            copied = start + typed.len();
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        repaired.push_str(&text[copied..]);
        Cow::Owned(repaired)
    }

    /// The most frequent word that is one slip away.
    fn nearest(&self, word: &str) -> Option<&str> {
        let mut best: Option<u32> = None;
        for hash in hashes(word) {
            let start = self.alike.partition_point(|&(other, _)| other < hash);
            let same = self.alike[start..].iter().take_while(|&&(other, _)| other == hash).take(MOST_ALIKE);
            let mut more_frequent = same.map(|&(_, at)| at).take_while(|&at| best.is_none_or(|best| at < best));
            let found = more_frequent.find(|&at| is_one_slip(word, &self.targets[at as usize]));
            best = found.or(best);
        }
        best.map(|at| &*self.targets[at as usize])
    }
}

/// How often words were found.
#[derive(Default)]
struct Tally(HashMap<Box<str>, Found>);

#[derive(Default)]
struct Found {
    texts: u32,
    is_own: bool,
}

impl Tally {
    fn read(&mut self, text: &str, is_own: bool) {
        let mut word = String::new();
        let mut found: HashSet<Box<str>> = HashSet::new();
        for (_, typed) in words(text) {
            if look_up_form(typed, &mut word) && !found.contains(word.as_str()) {
                found.insert(word.as_str().into());
            }
        }
        for word in found {
            let found = self.0.entry(word).or_default();
            found.texts += 1;
            found.is_own |= is_own;
        }
    }
}

/// Where the word had capitals.
enum Case {
    Nowhere,
    First,
    Everywhere,
}

impl Case {
    /// `None` for what is more likely a name or an abbreviation than misspelt: "COPD", "GmbH", "Whey" within a sentence,
    /// which is no "why". Where the whole text is in capitals, or all of its words begin with one, they say nothing.
    fn of(typed: &str, (text, start): (&str, usize)) -> Option<Self> {
        let is_lower = |text: &str| text.chars().any(char::is_lowercase);
        match typed.chars().filter(|c| c.is_uppercase()).count() {
            0 => Some(Self::Nowhere),
            1 if !typed.starts_with(char::is_uppercase) => None,
            1 => (begins_sentence(&text[..start]) || is_title(text)).then_some(Self::First),
            _ if !is_lower(typed) && !is_lower(text) => Some(Self::Everywhere),
            _ => None,
        }
    }

    fn write(&self, word: &str, to: &mut String) {
        to.extend(word.char_indices().map(|(at, c)| match self {
            Self::Everywhere => capital(c),
            Self::First if at == 0 => capital(c),
            Self::First | Self::Nowhere => c,
        }));
    }
}

/// Whether a sentence begins after this.
fn begins_sentence(before: &str) -> bool {
    let before = before.trim_end_matches(|c: char| c.is_whitespace() || "\"'“‘«»„¿¡([-*".contains(c));
    before.is_empty() || before.ends_with(['.', '?', '!', ':', ';', '…'])
}

/// Whether there are words of more than three letters enough, and all begin with a capital.
fn is_title(text: &str) -> bool {
    let mut long = words(text).map(|(_, word)| word).filter(|word| word.chars().nth(3).is_some());
    long.clone().nth(2).is_some() && long.all(|word| !word.starts_with(char::is_lowercase))
}

/// The capital of a letter where it has one that leads back to it; not of "ß", and not of the "ς" at a word's end.
fn capital(c: char) -> char {
    let mut capitals = c.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(capital), None) if capital.to_lowercase().eq([c]) => capital,
        _ => c,
    }
}

/// The runs of letters, digits, marks and low lines, each with its place: an apostrophe ends a word, so that "asprin's" is
/// put right as "asprin" is.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> + Clone {
    let is_between = |c: char| !(c.is_alphanumeric() || c == '_' || (!c.is_ascii() && is_combining_mark(c)));
    let mut end = 0;
    text.split_inclusive(is_between).map(move |piece| {
        let start = end;
        end += piece.len();
        (start, piece.strip_suffix(is_between).unwrap_or(piece))
    })
}

/// Writes a word as it is looked up: in lower case and in compatibility form (NFKC), as n-grams are counted. False for
/// what is not judged: short words, numbers and codes, and scripts without capitals, most of which are written without
/// spaces or have signs that are a word each.
fn look_up_form(typed: &str, word: &mut String) -> bool {
    word.clear();
    if typed.len() > LONGEST_WORD {
        return false;
    }
    if typed.is_ascii() {
        word.push_str(typed);
        word.make_ascii_lowercase();
    } else {
        word.extend(typed.chars().flat_map(char::to_lowercase).nfkc());
    }
    word.starts_with(char::is_lowercase)
        && word.chars().all(|c| c.is_lowercase() || is_combining_mark(c))
        && LETTERS.contains(&word.chars().count())
}

/// Of the word, and of the word less each of its letters.
fn hashes(word: &str) -> impl Iterator<Item = u32> {
    let less = move |gone: usize| word.chars().enumerate().filter(move |(at, _)| *at != gone).map(|(_, c)| c);
    // The last one is beyond the word, and leaves all of it.
    (0..=word.chars().count()).map(move |gone| position(hashed(less(gone))))
}

/// Whether two different words are one slip apart: a letter too many, too few or wrong, or two neighbours swapped. Not the
/// first letter, which is rarely wrong and says most about a word, unless it was swapped with the second.
fn is_one_slip(word: &str, right: &str) -> bool {
    let start = shared(word.chars().zip(right.chars()));
    let (word, right) = (&word[start..], &right[start..]);
    let end = shared(word.chars().rev().zip(right.chars().rev()));
    let (mut word, mut right) = (word[..word.len() - end].chars(), right[..right.len() - end].chars());
    let wrong = (word.next(), word.next(), word.next());
    match (wrong, (right.next(), right.next(), right.next())) {
        ((Some(_), None, _), (None, ..)) | ((None, ..) | (Some(_), None, _), (Some(_), None, _)) => start > 0,
        ((Some(a), Some(b), None), (Some(c), Some(d), None)) => (a, b) == (d, c),
        _ => false,
    }
}

/// Bytes that are the same until the first difference.
fn shared(pairs: impl Iterator<Item = (char, char)>) -> usize {
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn clinic() -> Spelling {
        Spelling::learn(
            [
                "Is aspirin safe with heparin?",
                "warfarin and ibuprofen tablets together; aspirin",
                "a headache that does not go away, and aspirin again",
                "Refund of a charge on the invoice",
                "a coffee at the café, naïve",
            ],
            ["best pan for searing a steak", "charge and change", "a change of trains"],
        )
    }

    fn repaired(text: &str) -> String {
        clinic().repair(text, |word| ["from", "form", "Paris"].contains(&word)).into_owned()
    }

    #[test]
    fn one_slip_in_a_word_is_put_right() {
        for typo in ["asprin", "aspiri", "asspirin", "aspirinn", "aspurin", "aspirim", "apsirin", "aspirni", "sapirin"]
        {
            assert_eq!(repaired(typo), "aspirin", "{typo}");
        }
        assert_eq!(
            repaired("is asprin safe with heaprin, and for a haedache?"),
            "is aspirin safe with heparin, and for a headache?"
        );
    }

    #[test]
    fn what_may_be_right_stays_and_is_not_copied() {
        for text in [
            "",
            "is aspirin safe?",
            // Of the background, and of the encoder.
            "a steak from a form",
            "Paris",
            // Two slips, the first letter, and another word.
            "aspprinn",
            "xspirin",
            "spirin",
            "umbrella",
            // Too short, though "safe" and "with" are near.
            "saf wth",
            // Codes, abbreviations and names.
            "asprin2 as_prin 4spirin",
            "ASPRIN is one, and AspRin, and this Asprin",
            // No letters, or scripts where one sign may be a word.
            "¿¡ 🙂 — ‘’",
            "我想订一张机票",
        ] {
            assert!(
                matches!(
                    clinic().repair(text, |word| ["from", "form", "Paris"].contains(&word)),
                    Cow::Borrowed(same) if same == text
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn the_most_frequent_word_is_taken_and_of_equals_the_first() {
        // "change" is in two texts, but of the background: no target.
        assert_eq!(repaired("chanrge"), "charge");
        let spelling = Spelling::learn(["a cart", "a card", "the care", "care"], ["care", "card"]);
        assert_eq!(spelling.repair("carx", |_| false), "care");
        let spelling = Spelling::learn(["a cart, a card"], []);
        assert_eq!(spelling.repair("carx", |_| false), "card");
    }

    #[test]
    fn capitals_stay_where_they_were() {
        assert_eq!(repaired("Asprin? (Sapirin?"), "Aspirin? (Aspirin?");
        assert_eq!(repaired("Is Asprin Safe with Heaprin?"), "Is Asprin Safe with Heaprin?", "a name");
        assert_eq!(repaired("Is Asprin Safe Wyth Heaprin?"), "Is Aspirin Safe With Heparin?", "a title");
        assert_eq!(repaired("IS ASPRIN SAFE WITH HEAPRIN?"), "IS ASPIRIN SAFE WITH HEPARIN?");
        let others = Spelling::learn(["ο λόγος, die Straße"], []);
        assert_eq!(others.repair("Λόος", |_| false), "Λόγος");
        // There is no single capital of "ß".
        assert_eq!(others.repair("STRAE", |_| false), "STRAßE");
    }

    #[test]
    fn apostrophes_and_accents_are_no_obstacle() {
        assert_eq!(repaired("asprin’s and asprin's"), "aspirin’s and aspirin's");
        assert_eq!(repaired("Ist es im cafeé oder im cafe\u{301}"), "Ist es im café oder im cafe\u{301}");
        assert_eq!(repaired("naïev"), "naïve");
    }

    #[test]
    fn long_texts_and_long_words_are_left_alone() {
        let fits = format!("{} asprin", "x".repeat(LONGEST_TEXT - 7));
        assert!(repaired(&fits).ends_with(" aspirin"));
        let longer = format!("{fits}s");
        assert_eq!(repaired(&longer), longer);
        let word = "a".repeat(40);
        let spelling = Spelling::learn([word.as_str()], []);
        assert!(spelling.targets.is_empty() && spelling.known.is_empty());
    }

    #[test]
    fn there_are_so_many_targets_and_no_more() {
        let letter = |at: usize| char::from(b'a' + u8::try_from(at % 26).unwrap());
        let word = |at: usize| [0, 1, 2, 3, 4].map(|digit| letter(at / 26usize.pow(digit))).iter().collect::<String>();
        let texts: Vec<String> = (0..MOST_TARGETS + 1000).map(word).collect();
        let own = texts.iter().map(String::as_str).chain([texts[MOST_TARGETS + 500].as_str()]);
        let spelling = Spelling::learn(own, []);
        assert_eq!((spelling.targets.len(), spelling.known.len()), (MOST_TARGETS, MOST_TARGETS + 1000));
        assert_eq!(&*spelling.targets[0], texts[MOST_TARGETS + 500]);
        assert!(spelling.alike.len() <= MOST_TARGETS * 6);
        for text in &texts {
            assert_eq!(spelling.repair(text, |_| false), text.as_str(), "known though no target");
        }
    }

    #[test]
    fn without_texts_nothing_changes() {
        assert_eq!(Spelling::default().repair("asprin", |_| false), "asprin");
        assert_eq!(Spelling::learn([], ["aspirin"]).repair("asprin", |_| false), "asprin");
    }

    /// Damerau's distance in its restricted form, by the table.
    fn distance(a: &[char], b: &[char]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, _) => j,
                    (_, 0) => i,
                    _ => {
                        let same = usize::from(a[i - 1] != b[j - 1]);
                        let least = (table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(table[i - 1][j - 1] + same);
                        let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                        if swapped { least.min(table[i - 2][j - 2] + 1) } else { least }
                    }
                };
            }
        }
        table[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn a_slip_is_a_distance_of_one_that_keeps_the_first_letter(word in "[abé]{4,6}", right in "[abé]{4,6}") {
            let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), right.chars().collect());
            let first = a[0] == b[0] || (a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..]);
            prop_assert_eq!(is_one_slip(&word, &right), distance(&a, &b) == 1 && first);
            // And the index finds it.
            let found = Spelling::learn([right.as_str()], []).repair(&word, |_| false).into_owned();
            prop_assert_eq!(found == right, word == right || is_one_slip(&word, &right));
        }

        #[test]
        fn what_is_repaired_stays_repaired(text in "([a-eA-E]{1,7}[ ,.'\u{301}é0]?){0,12}") {
            let spelling = Spelling::learn(["abcd abcde ebcda decab bead deed café", "dead beef ceded"], ["added"]);
            let once = spelling.repair(&text, |_| false).into_owned();
            prop_assert_eq!(spelling.repair(&once, |_| false), once.as_str());
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), known in any::<String>()) {
            let spelling = Spelling::learn([known.as_str(), "aspirin"], []);
            prop_assert_eq!(spelling.repair(&known, |_| false), known.as_str());
            prop_assert_eq!(spelling.repair(&text, |_| true), text.as_str());
            let once = spelling.repair(&text, |_| false).into_owned();
            prop_assert_eq!(spelling.repair(&once, |_| false), once.as_str());
        }
    }

    #[test]
    #[ignore = "prints figures"]
    fn speed() {
        let background = crate::background::shipped();
        let started = Instant::now();
        let spelling = Spelling::learn(background.iter().map(String::as_str), []);
        eprintln!("{} words learned in {:.1?}", spelling.targets.len(), started.elapsed());
        let long = "xylo frobnicating wuzzle ".repeat(160);
        for (what, text) in [
            ("nothing to repair", "How do I sharpen a kitchen knife on a whetstone?"),
            ("two words to repair", "How do I shrapen a kitchen knife on a whetstne?"),
            ("4 KiB of unknown words", &long),
        ] {
            let rounds = (0..50).map(|_| {
                let started = Instant::now();
                for _ in 0..100 {
                    std::hint::black_box(spelling.repair(std::hint::black_box(text), |_| false));
                }
                started.elapsed() / 100
            });
            eprintln!("{what}: {:.2?}", rounds.min().unwrap());
        }
    }
}
