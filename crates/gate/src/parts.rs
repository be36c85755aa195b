//! The parts of a query that may be for different experts: its sentences and clauses. Cutting only; what the parts are
//! about is read elsewhere.

/// Most parts; what follows stays with the last one.
const MOST: usize = 4;
/// Shorter pieces ("Thanks!", "Dr.") say too little to be read alone and stay with their neighbour.
const WORDS: usize = 3;
/// Longer texts are documents, whose sentences have one subject in common more often than several.
const LONGEST: usize = 2048;
/// Words that start a second question within a sentence.
const JOINTS: [&str; 2] = [" and also ", " and additionally "];

/// The parts in their order, at least two; nothing for a text that is one question.
pub(crate) fn parts(text: &str) -> Vec<&str> {
    if text.len() > LONGEST {
        return Vec::new();
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut start = 0;
    for end in ends(text) {
        let enough = text[start..end].split_whitespace().count() >= WORDS;
        let more = text[end..].split_whitespace().nth(WORDS - 1).is_some();
        if enough && more && parts.len() + 1 < MOST {
            parts.push(text[start..end].trim());
            start = end;
        }
    }
    if parts.is_empty() {
        return parts;
    }
    parts.push(text[start..].trim());
    parts
}

/// Where a part may end, rising: behind a mark, or before a joint.
fn ends(text: &str) -> Vec<usize> {
    let mut ends: Vec<usize> = text
        .char_indices()
        .filter(|&(at, c)| match c {
            ';' | '?' | '!' | '\n' | '。' | '？' | '！' => true,
            // "2.5 mg" and "e.g." go on.
            '.' => text[at + 1..].chars().next().is_none_or(char::is_whitespace),
            _ => false,
        })
        .map(|(at, c)| at + c.len_utf8())
        .collect();
    // Only the case of ASCII letters changes, so positions stay.
    let lower = text.to_ascii_lowercase();
    ends.extend(JOINTS.iter().flat_map(|joint| lower.match_indices(joint).map(|(at, _)| at)));
    ends.sort_unstable();
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_and_clauses_are_parts() {
        assert_eq!(
            parts("Is aspirin safe with heparin? Also book a follow-up next week."),
            ["Is aspirin safe with heparin?", "Also book a follow-up next week."]
        );
        assert_eq!(parts("check these two medicines; write the discharge letter").len(), 2);
        assert_eq!(
            parts("check the medicines of the patient And Also write a letter"),
            ["check the medicines of the patient", "And Also write a letter"]
        );
        assert_eq!(parts("first of all this\nsecond of all that\n").len(), 2);
        assert_eq!(parts("薬 は 安全 ですか？ 手紙 を 書いて ください").len(), 2);
    }

    #[test]
    fn one_question_has_no_parts() {
        for text in
            ["", "is 2.5 mg of it too much for a child?", "Is it safe? Thanks!", "Hello. Is it safe to take both?"]
        {
            assert!(parts(text).is_empty(), "{text}: {:?}", parts(text));
        }
        assert!(parts(&"what is this thing? ".repeat(200)).is_empty());
    }

    #[test]
    fn there_are_at_most_four_and_nothing_is_lost() {
        let text =
            "one two three. four five six. seven eight nine. ten eleven twelve. more of the same. and more of it";
        let parts = parts(text);
        assert_eq!(parts.len(), MOST);
        assert_eq!(parts[3], "ten eleven twelve. more of the same. and more of it");
    }

    proptest! {
        #[test]
        fn every_word_stands_in_exactly_one_part(text in "[a-zé.;?! \n]{0,120}") {
            let parts = parts(&text);
            if !parts.is_empty() {
                let whole: Vec<&str> = text.split_whitespace().collect();
                let cut: Vec<String> = parts.iter().flat_map(|part| part.split_whitespace()).map(str::to_owned).collect();
                prop_assert_eq!(whole.concat(), cut.concat());
                prop_assert!((2..=MOST).contains(&parts.len()));
                prop_assert!(parts.iter().all(|part| part.split_whitespace().count() >= WORDS));
            }
        }
    }
}
