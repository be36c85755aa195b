//! Reading a text that is longer than the model's longest sequence: which of its bytes are tokenized, which of its tokens
//! make up each window, and the mean of what the windows gave. Pure; running them is `engine`'s and `queue`'s work.

use std::ops::Range;

use crate::engine::TextOutput;
use crate::error::Error;

/// Windows of one text. Each costs what a text of the model's longest sequence costs.
pub(crate) const MOST_WINDOWS: usize = 8;

/// A word that is longer than this, in bytes, is none: where text is cut, the words at the cut are left out up to there.
const LONGEST_WORD: usize = 64;

/// The parts of a text that are worth tokenizing: all of it up to `most` bytes, else the beginning, the end and what lies
/// spread evenly between, as many as there may be windows and together at most as long.
pub(crate) fn pieces(text: &str, most: usize) -> Vec<&str> {
    if text.len() <= most {
        return vec![text];
    }
    let size = most / MOST_WINDOWS;
    let last = text.len() - size;
    let starts = (0..MOST_WINDOWS).map(|at| last * at / (MOST_WINDOWS - 1));
    starts.map(|start| piece(text, start, start + size)).collect()
}

/// The text between two places, without the halves of words and characters that lie across them.
fn piece(text: &str, start: usize, end: usize) -> &str {
    let (before, rest) = text.split_at(text.ceil_char_boundary(start));
    let (mut inside, after) = rest.split_at(rest.floor_char_boundary(end.saturating_sub(before.len())));
    if is_inside_a_word(before, inside)
        && let Some(space) = inside.find(char::is_whitespace).filter(|space| *space <= LONGEST_WORD)
    {
        inside = inside.split_at(space).1;
    }
    if is_inside_a_word(inside, after)
        && let Some(space) = inside.rfind(char::is_whitespace).filter(|space| inside.len() - space <= LONGEST_WORD)
    {
        inside = inside.split_at(space).0;
    }
    inside
}

fn is_inside_a_word(before: &str, after: &str) -> bool {
    let touches = |character: Option<char>| character.is_some_and(|character| !character.is_whitespace());
    touches(before.chars().next_back()) && touches(after.chars().next())
}

/// Which of `tokens` go into which window, when one takes `room` of them, at least 1; and whether some go into none. Windows
/// that cover everything are equally long: a mean in which the last one had three tokens would be noise.
pub(crate) fn ranges(tokens: usize, room: usize) -> (Vec<Range<usize>>, bool) {
    let needed = tokens.div_ceil(room).max(1);
    if needed <= MOST_WINDOWS {
        return ((0..needed).map(|at| tokens * at / needed..tokens * (at + 1) / needed).collect(), false);
    }
    let last = tokens - room;
    let starts = (0..MOST_WINDOWS).map(|at| last * at / (MOST_WINDOWS - 1));
    (starts.map(|start| start..start + room).collect(), true)
}

/// The answers of a text's windows as one. A single one stays as it is.
///
/// `Err(Failed)` if the rows of an output differ in length, so that they have no mean, or if there is no window.
pub(crate) fn mean(windows: Vec<TextOutput>) -> Result<TextOutput, Error> {
    let tokens: usize = windows.iter().map(|window| window.tokens).sum();
    let only_one = windows.len() == 1;
    let longest = windows.iter().map(|window| window.timings).max_by_key(|took| took.queue + took.inference);
    let mut windows = windows.into_iter();
    let (Some(mut whole), Some(timings)) = (windows.next(), longest) else {
        return Err(Error::failed("the text has no windows"));
    };
    if only_one {
        return Ok(whole);
    }
    let share = |window: &TextOutput| window.tokens as f32 / tokens.max(1) as f32;
    let first = share(&whole);
    whole.outputs.iter_mut().flat_map(|output| &mut output.values).for_each(|value| *value *= first);
    for window in windows {
        let share = share(&window);
        for (sum, output) in whole.outputs.iter_mut().zip(&window.outputs) {
            if sum.values.len() != output.values.len() {
                let problem = format!("the rows of output `{}` are as long as their text", sum.name);
                return Err(Error::failed(problem));
            }
            sum.values.iter_mut().zip(&output.values).for_each(|(sum, value)| *sum += share * value);
        }
        whole.truncated |= window.truncated;
    }
    Ok(TextOutput { tokens, timings, ..whole })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Output, Timings};

    #[test]
    fn a_text_is_cut_between_words_and_both_ends_are_there() {
        let words: Vec<String> = (0..1000).map(|number| format!("w{number:03}")).collect();
        let text = words.join(" ");
        assert_eq!(pieces(&text, text.len()), [text.as_str()]);
        let cut = pieces(&text, 800);
        assert_eq!(cut.len(), MOST_WINDOWS);
        assert!(cut[0].starts_with("w000 ") && cut[MOST_WINDOWS - 1].ends_with(" w999"));
        assert!(cut.iter().all(|piece| piece.len() > 90), "{cut:?}");
        assert!(cut.iter().all(|piece| piece.split_whitespace().all(|word| word.len() == 4)), "{cut:?}");
        // One word without an end is read all the same.
        assert!(pieces(&"x".repeat(1000), 800).iter().all(|piece| piece.len() == 100));
    }

    #[test]
    fn what_fits_is_covered_evenly_and_what_does_not_from_end_to_end() {
        for tokens in [0, 1, 10] {
            let (windows, truncated) = ranges(tokens, 10);
            assert!(windows.len() == 1 && windows[0] == (0..tokens) && !truncated, "{windows:?}");
        }
        assert_eq!(ranges(11, 10), (vec![0..5, 5..11], false));
        assert_eq!(ranges(80, 10).0.len(), 8);
        let (windows, truncated) = ranges(81, 10);
        assert!(truncated && windows.len() == MOST_WINDOWS && windows[0] == (0..10) && windows[7] == (71..81));
    }

    proptest! {
        #[test]
        fn pieces_are_bounded_and_in_order(text in "(\\PC| ){0,400}", most in 16usize..200) {
            let cut = pieces(&text, most);
            prop_assert!(cut.iter().map(|piece| piece.len()).sum::<usize>() <= most);
            let starts: Vec<_> = cut.iter().map(|piece| piece.as_ptr()).collect();
            prop_assert!(starts.is_sorted());
        }

        #[test]
        fn windows_are_never_too_long_and_leave_nothing_out_silently(tokens in 0usize..5000, room in 1usize..300) {
            let (windows, truncated) = ranges(tokens, room);
            prop_assert!(windows.len() <= MOST_WINDOWS && windows.iter().all(|window| window.len() <= room));
            prop_assert_eq!((windows[0].start, windows[windows.len() - 1].end), (0, tokens));
            let gaps = windows.windows(2).any(|pair| pair[0].end < pair[1].start);
            prop_assert_eq!(windows.iter().map(Range::len).sum::<usize>() < tokens || gaps, truncated);
        }
    }

    fn window(tokens: usize, values: &[f32], queue: u64) -> TextOutput {
        let outputs = vec![Output { name: "row".into(), values: values.to_vec() }];
        let timings = Timings { queue: Duration::from_millis(queue), batch: tokens, ..Timings::default() };
        TextOutput { outputs, tokens, truncated: tokens == 3, timings }
    }

    #[test]
    fn the_mean_is_weighted_by_tokens_and_only_of_rows_of_one_length() {
        let whole = mean(vec![window(1, &[4.0, 0.0], 1), window(3, &[0.0, 8.0], 7)]).unwrap();
        assert_eq!(whole.outputs[0].values, [1.0, 6.0]);
        assert_eq!((whole.tokens, whole.truncated, whole.timings.batch), (4, true, 3));
        let same = mean(vec![window(5, &[0.1, 0.7], 1)]).unwrap();
        assert_eq!((same.outputs[0].values.as_slice(), same.tokens), (&[0.1, 0.7][..], 5));
        assert!(matches!(mean(vec![window(1, &[1.0], 1), window(1, &[1.0, 2.0], 1)]), Err(Error::Failed { .. })));
        assert!(mean(Vec::new()).is_err());
    }
}
