//! A knowledge file's bytes → passages, or everything that is wrong with it. Pure: no files, no models.
//!
//! The format is JSON Lines: `{"id", "title", "text", "as_of", "source"?: {"title"?, "uri"?, "licence"?}}`.
//! What a mistake says never repeats the file's content, because mistakes are logged.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::{Map, Value};

use crate::task::Source;

/// The largest text of a passage, in bytes. Longer ones are several passages in truth: a sentence encoder reads about
/// a thousand bytes of them.
const MAX_TEXT_BYTES: usize = 20_000;
/// The largest file, in bytes; the search compares a query with every passage.
const MAX_FILE_BYTES: usize = 64 << 20;

const PASSAGE_FIELDS: [&str; 5] = ["id", "title", "text", "as_of", "source"];
const SOURCE_FIELDS: [&str; 3] = ["title", "uri", "licence"];

/// A piece of knowledge as its author wrote it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) id: Arc<str>,
    pub(crate) title: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) source: Source,
}

/// What is wrong with one field of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
    /// `source.uri`, say; empty when the line as a whole is meant.
    pub field: String,
    pub problem: String,
}

/// Reads the whole file; on failure says all that is wrong with it, in the order of the lines.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Passage>, Vec<Mistake>> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(vec![Mistake::file(format!("is {} bytes long; at most {MAX_FILE_BYTES} fit", bytes.len()))]);
    }
    let mut passages = Vec::new();
    let mut mistakes = Vec::new();
    let mut first_seen: HashMap<Arc<str>, usize> = HashMap::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut reader = LineReader { line: index + 1, mistakes: &mut mistakes };
        let Some(passage) = reader.passage(line) else { continue };
        if let Some(first) = first_seen.get(&passage.id) {
            let problem = format!("is taken already, by line {first}");
            let _: Option<()> = reader.mistake("id", problem);
            continue;
        }
        first_seen.insert(Arc::clone(&passage.id), index + 1);
        passages.push(passage);
    }
    if passages.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::file("has no passages".to_owned()));
    }
    if mistakes.is_empty() { Ok(passages) } else { Err(mistakes) }
}

/// Collects the mistakes of one line, so that a reader of the log sees all of them.
struct LineReader<'a> {
    line: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl LineReader<'_> {
    fn passage(&mut self, line: &[u8]) -> Option<Passage> {
        let object = match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return self.mistake("", "is not a JSON object"),
            // A syntax error names a position and what was expected, never what stood there.
            Err(error) => return self.mistake("", format!("is not JSON: {error}")),
        };
        self.refuse_unknown("", &object, &PASSAGE_FIELDS);
        // Every field is read before the first is missed: the point is to list all mistakes.
        let id = self.text("", &object, "id", Need::NotEmpty);
        let title = self.text("", &object, "title", Need::NotEmpty);
        let text = self.text("", &object, "text", Need::NotEmpty).and_then(|text| self.short_enough(text));
        let as_of = self.text("", &object, "as_of", Need::NotEmpty).and_then(|date| self.date(date));
        let source = self.source(object.get("source"));
        let (id, title, text, as_of, source) = (id?, title?, text?, as_of?, source?);
        Some(Passage {
            id: id.into(),
            title: title.into(),
            text: text.into(),
            source: Source { as_of: as_of.into(), ..source },
        })
    }

    fn source(&mut self, value: Option<&Value>) -> Option<Source> {
        let object = match value {
            None | Some(Value::Null) => return Some(Source::default()),
            Some(Value::Object(object)) => object,
            Some(_) => return self.mistake("source", "is not an object"),
        };
        self.refuse_unknown("source.", object, &SOURCE_FIELDS);
        let title = self.text("source.", object, "title", Need::Optional);
        let uri = self.text("source.", object, "uri", Need::Optional);
        let licence = self.text("source.", object, "licence", Need::Optional);
        Some(Source { title: title?.into(), uri: uri?.into(), licence: licence?.into(), as_of: "".into() })
    }

    fn text<'v>(&mut self, prefix: &str, object: &'v Map<String, Value>, field: &str, need: Need) -> Option<&'v str> {
        let path = format!("{prefix}{field}");
        match (object.get(field), need) {
            (None | Some(Value::Null), Need::Optional) => Some(""),
            (None | Some(Value::Null), Need::NotEmpty) => self.mistake(&path, "is missing"),
            (Some(Value::String(text)), Need::NotEmpty) if text.trim().is_empty() => self.mistake(&path, "is empty"),
            (Some(Value::String(text)), _) => Some(text),
            (Some(_), _) => self.mistake(&path, "is not a string"),
        }
    }

    fn short_enough<'v>(&mut self, text: &'v str) -> Option<&'v str> {
        if text.len() <= MAX_TEXT_BYTES {
            return Some(text);
        }
        self.mistake("text", format!("is {} bytes long; at most {MAX_TEXT_BYTES} are taken", text.len()))
    }

    fn date<'v>(&mut self, date: &'v str) -> Option<&'v str> {
        if is_date(date) { Some(date) } else { self.mistake("as_of", "is not a date of the form YYYY-MM-DD") }
    }

    fn refuse_unknown(&mut self, prefix: &str, object: &Map<String, Value>, known: &[&str]) {
        let unknown = object.keys().filter(|key| !known.contains(&key.as_str())).count();
        if unknown > 0 {
            let expected = known.join(", ");
            let field = prefix.trim_end_matches('.').to_owned();
            let _: Option<()> = self.mistake(&field, format!("has {unknown} unknown field(s); known are {expected}"));
        }
    }

    /// Always `None`, so that it can end the expression that found the mistake.
    fn mistake<T>(&mut self, field: &str, problem: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake { line: self.line, field: field.to_owned(), problem: problem.into() });
        None
    }
}

#[derive(Clone, Copy)]
enum Need {
    NotEmpty,
    Optional,
}

/// `YYYY-MM-DD`, and a day that the calendar has.
fn is_date(text: &str) -> bool {
    let Ok(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]) = <&[u8; 10]>::try_from(text.as_bytes()) else {
        return false;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(&[y1, y2, y3, y4]), number(&[m1, m2]), number(&[d1, d2])) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

impl Mistake {
    fn file(problem: String) -> Mistake {
        Mistake { line: 0, field: String::new(), problem }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.field.as_str()) {
            (0, _) => write!(f, "the file {}", self.problem),
            (line, "") => write!(f, "line {line}: it {}", self.problem),
            (line, field) => write!(f, "line {line}: {field} {}", self.problem),
        }
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passage([redacted, {} bytes])", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"id": "p-1", "title": "Cats", "text": "Cats purr.", "as_of": "2024-02-29", "source": {"title": "A book", "uri": "https://example.org"}}"#;

    fn mistakes(file: &str) -> Vec<(usize, String, String)> {
        let mistakes = parse(file.as_bytes()).expect_err("the file is wrong");
        mistakes.into_iter().map(|mistake| (mistake.line, mistake.field, mistake.problem)).collect()
    }

    #[test]
    fn a_line_becomes_a_passage() {
        let passages = parse(format!("\n{GOOD}\r\n\n").as_bytes()).unwrap();
        let [passage] = passages.as_slice() else { panic!("{} passages", passages.len()) };
        assert_eq!((&*passage.id, &*passage.title, &*passage.text), ("p-1", "Cats", "Cats purr."));
        let source = &passage.source;
        assert_eq!((&*source.title, &*source.uri, &*source.licence), ("A book", "https://example.org", ""));
        assert_eq!(&*source.as_of, "2024-02-29");
    }

    #[test]
    fn a_source_may_be_missing_but_the_date_stays() {
        let passages = parse(br#"{"id": "a", "title": "t", "text": "x", "as_of": "2020-01-31"}"#).unwrap();
        assert_eq!(passages[0].source, Source { as_of: "2020-01-31".into(), ..Source::default() });
    }

    #[test]
    fn all_mistakes_are_listed_with_their_lines() {
        let file = format!(
            "{GOOD}\n{{\"id\": 7, \"title\": \"\", \"text\": \"t\", \"as_of\": \"2023-02-29\", \"colour\": 1}}\n[1]\n{{oops\n{GOOD}"
        );
        let found = mistakes(&file);
        let places: Vec<_> = found.iter().map(|(line, field, _)| (*line, field.as_str())).collect();
        assert_eq!(places, [(2, ""), (2, "id"), (2, "title"), (2, "as_of"), (3, ""), (4, ""), (5, "id")]);
        assert_eq!(found[6].2, "is taken already, by line 1");
    }

    #[test]
    fn a_text_may_be_as_long_as_the_limit_and_no_longer() {
        let line = |length: usize| {
            format!(r#"{{"id": "a", "title": "t", "text": "{}", "as_of": "2020-01-31"}}"#, "x".repeat(length))
        };
        assert!(parse(line(MAX_TEXT_BYTES).as_bytes()).is_ok());
        assert_eq!(mistakes(&line(MAX_TEXT_BYTES + 1))[0].1, "text");
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(mistakes("\n  \n")[0].0, 0);
    }

    #[test]
    fn mistakes_do_not_repeat_the_content() {
        let secret = "salary of the mayor";
        for line in [
            format!(r#"{{"id": "{secret}", "title": "t"}}"#),
            format!(r#"{{"{secret}": 1}}"#),
            format!(r#""{secret}""#),
            format!(r#"{{"id": "a" {secret}"#),
            format!(r#"{{"id": "a", "title": "t", "text": "x", "as_of": "{secret}", "source": {{"{secret}": 2}}}}"#),
        ] {
            for mistake in parse(line.as_bytes()).expect_err("the line is wrong") {
                assert!(!mistake.to_string().contains("salary"), "{mistake}");
            }
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for good in ["2024-02-29", "2000-02-29", "1999-12-31"] {
            assert!(is_date(good), "{good}");
        }
        for bad in
            ["1900-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "2024-1-1", "24-01-01", "2024/01/01", "2024-01-0x"]
        {
            assert!(!is_date(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
