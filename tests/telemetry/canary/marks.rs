//! Words that nobody else uses, in every form in which they could turn up.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::Engine;

/// What a word stands for, which is where it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// What is asked, who asks, and everything else that is content.
    Content,
    /// A name that a caller says where the mesh has names: of experts, models, inputs, dimensions. Whoever says one that
    /// there is not is told which: in the status, and nowhere else.
    Name,
    /// The request's id, and the tenant. The journal of feedback keeps both, as docs/feedback.md says.
    Request,
    /// What is said about an answer. The journal is for it.
    Feedback,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Content, Self::Name, Self::Request, Self::Feedback];

    /// Without capitals: whoever makes small letters of large ones writes the same word.
    fn word(self) -> &'static str {
        match self {
            Self::Content => "kanarienpatient",
            // As names are written, so that it gets past those who check that.
            Self::Name => "kanarien-name",
            Self::Request => "kanarienanfrage",
            Self::Feedback => "kanarienurteil",
        }
    }
}

/// The words of one run. Each carries a number that says where it was put.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<String>);

impl Marks {
    /// A word for `field`.
    pub(crate) fn word(&mut self, kind: Kind, field: &str) -> String {
        self.0.push(field.to_owned());
        format!("{}{}x", kind.word(), self.0.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The fields behind the words of a kind that `text` has in it, plain or encoded, in small letters or large ones; where
    /// it is encoded, the number cannot be read.
    pub(crate) fn found(&self, kind: Kind, text: &str) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        let small = text.to_ascii_lowercase();
        for (form, needle) in forms(kind.word()) {
            // Of base64, every letter means something else when it is large.
            let text = if form == "base64" { text } else { &small };
            for (at, _) in text.match_indices(&needle) {
                let rest = &text[at + needle.len()..];
                let digits = &rest[..rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len())];
                let field =
                    digits.parse::<usize>().ok().filter(|_| form == "plain").and_then(|number| self.0.get(number));
                *found.entry(field.cloned().unwrap_or_else(|| form.to_owned())).or_default() += 1;
            }
        }
        found
    }
}

/// A word as it is, as hexadecimal digits, as a list of numbers, which is what bytes are in `Debug` and in JSON, and as base64
/// of either alphabet, wherever in a text of bytes it begins.
fn forms(word: &str) -> Vec<(&'static str, String)> {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let list = |separator: &str| word.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(separator);
    let mut forms =
        vec![("plain", word.to_owned()), ("hex", hex(word)), ("numbers", list(", ")), ("numbers", list(","))];
    for before in 0..3 {
        let bytes = [&vec![0; before], word.as_bytes()].concat();
        // Digits that also hold bits of what stands before or behind are not known.
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.push(("base64", engine.encode(&bytes)[from..to].to_owned()));
        }
    }
    forms.dedup();
    forms
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A search that finds nothing proves something only if it finds what is there.
pub(crate) fn finds_what_is_there() {
    use base64::engine::general_purpose::STANDARD;
    let mut marks = Marks::default();
    for kind in Kind::ALL {
        let word = marks.word(kind, "somewhere");
        for around in ["", "a", "ab", "abc"] {
            let text = format!("{around}{word}{around}");
            let bytes = text.as_bytes();
            let json: Vec<_> = bytes.iter().map(u8::to_string).collect();
            for (form, text) in [
                ("somewhere", text.clone()),
                ("somewhere", text.to_uppercase()),
                ("hex", hex(&text)),
                ("hex", hex(&text).to_uppercase()),
                ("base64", STANDARD.encode(bytes)),
                ("numbers", format!("{bytes:?}")),
                ("numbers", format!("[{}]", json.join(","))),
            ] {
                assert!(marks.found(kind, &text).contains_key(form), "{kind:?} as {form} in {text}");
            }
        }
        assert!(marks.found(kind, "nothing of it").is_empty());
    }
}
