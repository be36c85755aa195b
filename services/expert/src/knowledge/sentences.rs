//! Where the sentences of a text are. Pure.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// The sentences of `text` as byte ranges, in order, without the space around them. The bounds are those of Unicode
/// (UAX #29); pieces without a letter or digit (a rule of dashes, a lone bullet) are no sentences.
pub(crate) fn split(text: &str) -> Vec<Range<usize>> {
    text.split_sentence_bound_indices()
        .filter_map(|(start, piece)| {
            let trimmed = piece.trim();
            let start = start + (piece.len() - piece.trim_start().len());
            trimmed.contains(char::is_alphanumeric).then(|| start..start + trimmed.len())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_end_at_full_stops_questions_and_paragraphs() {
        let text = "Take it with food.  Is 2.5 mg enough? Ask first!\n---\nNo heading stop\nLast";
        assert_eq!(
            sentences(text),
            ["Take it with food.", "Is 2.5 mg enough?", "Ask first!", "No heading stop", "Last"]
        );
    }

    #[test]
    fn other_scripts_have_sentences_too() {
        assert_eq!(sentences("Größe zählt. Ça va? 你好。再见。"), ["Größe zählt.", "Ça va?", "你好。", "再见。"]);
        assert!(sentences(" \n… — ").is_empty());
    }

    proptest! {
        #[test]
        fn spans_are_ordered_disjoint_and_on_character_bounds(text in any::<String>()) {
            let mut end = 0;
            for span in split(&text) {
                prop_assert!(end <= span.start && span.start < span.end);
                prop_assert!(text.get(span.clone()).is_some());
                end = span.end;
            }
            prop_assert!(end <= text.len());
        }
    }
}
