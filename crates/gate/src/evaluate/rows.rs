//! Labelled queries as they stand in a file, one JSON object a line, and everything that is wrong with them. Text in,
//! rows out; which file it was is for whoever read it to say.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::options::Mistake;
use crate::settings::Labelled;

const EXPECTED: &str =
    r#"{"text": "…", "expert": "name" or null, "dimensions": {"name": "value"} where there are some}"#;

/// A file of the wrong kind is wrong on each of its lines; after these it is clear.
const MOST_MISTAKES: usize = 20;

/// Reads rows; blank lines are passed over, keys beside `text`, `expert` and `dimensions` are ignored.
///
/// # Errors
/// Every line that is wrong, with its number and field in the mistake's path, up to 20 of them.
pub fn parse(text: &str) -> Result<Vec<Labelled>, Vec<Mistake>> {
    let (mut rows, mut mistakes) = (Vec::new(), Vec::new());
    for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        match row(line + 1, text) {
            Ok(row) => rows.push(row),
            Err(wrong) => mistakes.extend(wrong),
        }
    }
    if rows.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new("", "there is nothing in it", EXPECTED));
    }
    if mistakes.len() > MOST_MISTAKES {
        let more = mistakes.len() - MOST_MISTAKES;
        mistakes.truncate(MOST_MISTAKES);
        mistakes.push(Mistake::new("", format!("there are {more} more"), EXPECTED));
    }
    if mistakes.is_empty() { Ok(rows) } else { Err(mistakes) }
}

fn row(line: usize, text: &str) -> Result<Labelled, Vec<Mistake>> {
    let object = object(line, text).map_err(|mistake| vec![mistake])?;
    let mut wrong = Wrong { line, mistakes: Vec::new() };
    let text = wrong.text(&object);
    let expert = wrong.expert(&object);
    let dimensions = wrong.strings(&object, "dimensions");
    if wrong.mistakes.is_empty() { Ok(Labelled { text, expert, dimensions }) } else { Err(wrong.mistakes) }
}

/// One line as a JSON object.
pub(super) fn object(line: usize, text: &str) -> Result<Map<String, Value>, Mistake> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Mistake::new(format!("line {line}"), format!("is {}", kind(&other)), EXPECTED)),
        // The parser says what it expected and where, and quotes nothing.
        Err(error) => {
            let problem = format!("is no JSON: {} at column {}", said(&error), error.column());
            Err(Mistake::new(format!("line {line}"), problem, EXPECTED))
        }
    }
}

/// Reads the fields of one line and collects what is wrong with them.
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) mistakes: Vec<Mistake>,
}

impl Wrong {
    pub(super) fn text(&mut self, object: &Map<String, Value>) -> String {
        match object.get("text") {
            Some(Value::String(text)) if !text.trim().is_empty() => return text.clone(),
            Some(Value::String(_)) => self.add("text", "is empty", "a query"),
            Some(other) => self.add("text", format!("is {}", kind(other)), "a query"),
            None => self.add("text", "is missing", "a query"),
        }
        String::new()
    }

    pub(super) fn expert(&mut self, object: &Map<String, Value>) -> Option<String> {
        const EXPECTED: &str = "an expert's name, or null where nobody should get the query";
        match object.get("expert") {
            Some(Value::String(name)) if !name.trim().is_empty() => return Some(name.clone()),
            Some(Value::Null) => {}
            Some(Value::String(_)) => self.add("expert", "is empty", EXPECTED),
            Some(other) => self.add("expert", format!("is {}", kind(other)), EXPECTED),
            None => self.add("expert", "is missing", EXPECTED),
        }
        None
    }

    /// `{"name": "value"}`; null is as good as absent, for the field and for its values.
    pub(super) fn strings(&mut self, object: &Map<String, Value>, field: &str) -> BTreeMap<String, String> {
        const EXPECTED: &str = r#"{"name": "value"}"#;
        let mut strings = BTreeMap::new();
        for (name, value) in self.entries(object, field, EXPECTED) {
            match value {
                Value::Null => {}
                Value::String(value) if !value.is_empty() => {
                    strings.insert(name.clone(), value.clone());
                }
                _ => self.add(&format!("{field}.{name}"), "is no value", EXPECTED),
            }
        }
        strings
    }

    /// `{"name": ["value", …]}`, or a string for the only value.
    pub(super) fn lists(&mut self, object: &Map<String, Value>, field: &str) -> BTreeMap<String, Vec<String>> {
        const EXPECTED: &str = r#"{"name": ["value"]}"#;
        let mut lists = BTreeMap::new();
        for (name, value) in self.entries(object, field, EXPECTED) {
            let values: Option<Vec<String>> = match value {
                Value::String(value) => Some(vec![value.clone()]),
                Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            match values {
                Some(values) if !values.is_empty() && values.iter().all(|value| !value.is_empty()) => {
                    lists.insert(name.clone(), values);
                }
                _ => self.add(&format!("{field}.{name}"), "is no list of values", EXPECTED),
            }
        }
        lists
    }

    fn entries<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        field: &str,
        expected: &str,
    ) -> Vec<(&'a String, &'a Value)> {
        match object.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => return entries.iter().collect(),
            Some(other) => self.add(field, format!("is {}", kind(other)), expected),
        }
        Vec::new()
    }

    pub(super) fn add(&mut self, field: &str, problem: impl Into<String>, expected: &str) {
        self.mistakes.push(Mistake::new(format!("line {}, {field}", self.line), problem, expected));
    }
}

/// The parser's words without the place, which is said once for all of them.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_row_has_a_text_an_expert_or_nobody_and_perhaps_dimensions() {
        let text = r#"{"text": "a?", "expert": "one", "subject": "algebra"}

{"text": "b?", "expert": null, "dimensions": {"kind": "how", "where": null}}"#;
        let rows = parse(text).unwrap();
        assert_eq!((rows[0].expert.as_deref(), rows[0].dimensions.len()), (Some("one"), 0));
        assert_eq!((rows[1].text.as_str(), rows[1].expert.as_deref()), ("b?", None));
        assert_eq!(rows[1].dimensions, BTreeMap::from([("kind".to_owned(), "how".to_owned())]));
    }

    #[test]
    fn every_wrong_line_and_field_is_named_with_what_was_expected() {
        let text = r#"{"text": "a?", "expert": "one"}
{"expert": 7}
{"text": " ", "dimensions": {"kind": 3}}
["a?"]
{"text": "a?", "expert": }"#;
        let expected = [
            "line 2, text: is missing; expected a query",
            "line 2, expert: is a number; expected an expert's name, or null where nobody should get the query",
            "line 3, text: is empty; expected a query",
            "line 3, expert: is missing; expected an expert's name, or null where nobody should get the query",
            "line 3, dimensions.kind: is no value; expected {\"name\": \"value\"}",
        ];
        let said = wrong(text);
        assert_eq!(said[..5], expected);
        assert!(said[5].starts_with("line 4: is a list; expected {"), "{}", said[5]);
        assert!(said[6].starts_with("line 5: is no JSON: expected value at column 26; "), "{}", said[6]);
    }

    #[test]
    fn a_file_of_another_kind_does_not_fill_the_screen() {
        let said = wrong(&"colour,size\n".repeat(1_000));
        assert_eq!(said.len(), MOST_MISTAKES + 1);
        assert!(said[MOST_MISTAKES].contains("980 more"), "{}", said[MOST_MISTAKES]);
        assert!(wrong("\n \n")[0].contains("nothing in it"));
    }
}
