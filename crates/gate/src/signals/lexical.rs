//! A text as hashed n-grams: words and pairs of words for what it is about, runs of characters within words for
//! endings, compounds and typos. Counting only; what an n-gram is worth is for the lexical head to learn.
//!
//! The hash is FNV-1a over UTF-8, spelt out here: it has to give the same positions on every platform and in every
//! version of the compiler, since two processes of a mesh compare what they fitted by digest.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::Sparse;

/// Positions with this bit are runs of characters, those without it are words: the head scales the two apart.
pub(crate) const CHARACTERS: u32 = 1 << 31;
/// Lengths of the runs of characters, the marks at both ends of the word included.
const RUNS: [usize; 3] = [3, 4, 5];
/// Of a longer text the beginning and the end are read, so much of each: a query's subject stands in one of the two,
/// and a megabyte of text must not cost a megabyte of counting.
const READ_BYTES: usize = 16 << 10;

/// The n-grams of `text` with `1 + ln(count)` each; empty for a text without a letter or digit.
pub(crate) fn lexical(text: &str) -> Sparse {
    let mut found = Vec::with_capacity(256);
    let mut earlier = None;
    let (start, end) = ends(text);
    for part in [start, end] {
        words(part, |word| {
            let hash = hashed(word.iter().copied());
            found.push(position(hash) & !CHARACTERS);
            if let Some(earlier) = earlier.replace(hash) {
                found.push(position(pair(earlier, hash)) & !CHARACTERS);
            }
            runs(word, &mut found);
        });
    }
    counted(found)
}

/// The part that is read: the whole, or what stands at both ends.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= 2 * READ_BYTES {
        return (text, "");
    }
    (&text[..text.floor_char_boundary(READ_BYTES)], &text[text.ceil_char_boundary(text.len() - READ_BYTES)..])
}

/// Calls `each` with every word, lower-cased and in compatibility form (NFKC: ligatures, full width, accents composed).
fn words(text: &str, mut each: impl FnMut(&[char])) {
    let mut word: Vec<char> = Vec::with_capacity(32);
    let mut take = |c: char| {
        if is_ideographic(c) {
            // Written without spaces: every sign is a word, and pairs of signs come from the pairs of words.
            flush(&mut word, &mut each);
            each(&[c]);
        } else if c.is_alphanumeric() || c == '_' || is_apostrophe(c) || (!c.is_ascii() && is_combining_mark(c)) {
            word.push(if is_apostrophe(c) { '\'' } else { c });
        } else {
            flush(&mut word, &mut each);
        }
    };
    if text.is_ascii() {
        text.chars().for_each(|c| take(c.to_ascii_lowercase()));
    } else {
        // Lower-casing can decompose ("İ"), so the form is made last.
        text.chars().flat_map(char::to_lowercase).nfkc().for_each(&mut take);
    }
    take(' ');
}

/// An apostrophe belongs to a word only between its letters: "don't", but not "'tis'".
fn flush(word: &mut Vec<char>, each: &mut impl FnMut(&[char])) {
    let start = word.iter().position(|&c| c != '\'').unwrap_or(word.len());
    let end = word.iter().rposition(|&c| c != '\'').map_or(start, |last| last + 1);
    if start < end {
        each(&word[start..end]);
    }
    word.clear();
}

/// Every run of 3, 4 and 5 characters of the word between its end marks. A word shorter than a run is one run.
fn runs(word: &[char], found: &mut Vec<u32>) {
    let marked: Vec<char> = std::iter::once('<').chain(word.iter().copied()).chain(std::iter::once('>')).collect();
    for length in RUNS {
        if marked.len() <= length {
            found.push(position(hashed(marked)) | CHARACTERS);
            return;
        }
        found.extend(marked.windows(length).map(|run| position(hashed(run.iter().copied())) | CHARACTERS));
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | 'ʼ')
}

/// Han and Kana: scripts that are written without spaces and in which one sign is about a word.
fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

pub(super) fn hashed(characters: impl IntoIterator<Item = char>) -> u64 {
    let mut buffer = [0; 4];
    characters.into_iter().fold(FNV_START, |hash, c| {
        c.encode_utf8(&mut buffer).bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
    })
}

fn pair(first: u64, second: u64) -> u64 {
    first.rotate_left(17).wrapping_mul(FNV_PRIME) ^ second
}

/// FNV's low bits are weak on short input, and the head keeps only low bits: mixed as in MurmurHash3's finaliser.
pub(super) fn position(hash: u64) -> u32 {
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32
}

fn counted(mut found: Vec<u32>) -> Sparse {
    found.sort_unstable();
    let mut sparse = Sparse { at: Vec::with_capacity(found.len()), values: Vec::with_capacity(found.len()) };
    for same in found.chunk_by(|a, b| a == b) {
        sparse.at.push(same[0]);
        sparse.values.push(if same.len() == 1 { 1.0 } else { 1.0 + (same.len() as f32).ln() });
    }
    sparse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(a: &str, b: &str) -> usize {
        let (a, b) = (lexical(a), lexical(b));
        a.at.iter().filter(|at| b.at.binary_search(at).is_ok()).count()
    }

    #[test]
    fn case_width_and_composition_make_no_difference() {
        assert_eq!(lexical("Café  ＡＢＣ"), lexical("cafe\u{301} abc"));
        assert_eq!(lexical("don’t"), lexical("DON'T!"));
        assert_eq!(lexical("'quoted'"), lexical("quoted"));
    }

    #[test]
    fn a_typo_keeps_part_of_the_word() {
        assert!(shared("medication", "medicaton") >= 8);
        assert_eq!(shared("medication", "umbrella"), 0);
    }

    #[test]
    fn the_order_of_words_shows_in_pairs() {
        assert!(lexical("dog bites man").at.len() > shared("dog bites man", "man bites dog"));
    }

    #[test]
    fn text_without_spaces_has_words() {
        assert!(shared("我想订一张机票", "订机票多少钱") >= 6);
    }

    /// The positions are part of what a mesh agrees on: this test may only change together with the gate's revision.
    #[test]
    fn positions_never_change() {
        let sparse = lexical("Is it?");
        assert_eq!(sparse.at, STABLE);
    }
    #[rustfmt::skip]
    const STABLE: [u32; 9] = [
        433_257_693, 759_524_999, 859_261_597,
        2_312_987_999, 2_746_463_365, 3_026_339_205, 3_182_515_471, 3_381_197_142, 3_499_792_072,
    ];

    #[test]
    fn repeated_words_count_for_less_each_time() {
        let (once, thrice) = (lexical("aspirin"), lexical("aspirin, aspirin; aspirin"));
        let at = once.at[0];
        let value = thrice.values[thrice.at.binary_search(&at).unwrap()];
        assert!((value - (1.0 + 3.0f32.ln())).abs() < 1e-6);
    }

    #[test]
    fn a_huge_text_is_read_at_both_ends() {
        let text = format!("beginning {} ending", "x y ".repeat(200_000));
        assert!(shared(&text, "beginning") > 5 && shared(&text, "ending") > 5);
        assert!(lexical(&"语".repeat(100_000)).at.len() < 10);
    }

    proptest! {
        #[test]
        fn any_text_gives_rising_positions_and_finite_values(text in any::<String>()) {
            let sparse = lexical(&text);
            prop_assert_eq!(sparse.at.len(), sparse.values.len());
            prop_assert!(sparse.at.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(sparse.values.iter().all(|value| value.is_finite() && *value >= 1.0));
        }
    }
}
