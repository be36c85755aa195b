//! YAML text into a tree of plain values. What YAML can say and configuration has no use for is refused here: tags,
//! keys that are no text, numbers that are none, more than one document.

use serde::Deserialize;
use serde_json::{Map, Number, Value};
use serde_yaml_ng::{Deserializer, Value as Yaml};

use super::{MAX_FILE_BYTES, Mistake, Mistakes, Source, path::Path};

/// Far more than configuration has use for.
const MAX_BRACKETS: usize = 1000;

/// The tree of a source; an empty document is an empty map.
pub(super) fn parse(source: &Source) -> Result<Value, Mistakes> {
    let mistake = |problem: String, expected: &str| Mistake {
        file: source.file.clone(),
        path: String::new(),
        problem,
        expected: expected.to_owned(),
    };
    if source.text.len() as u64 > MAX_FILE_BYTES {
        return Err(mistake(format!("{} bytes", source.text.len()), "at most 1 MiB").into());
    }
    // The scanner's time grows with the square of this depth: 100,000 brackets take it half a minute.
    if deepest_bracket(&source.text) > MAX_BRACKETS {
        return Err(mistake(format!("more than {MAX_BRACKETS} open brackets"), "less nesting").into());
    }
    // The parser itself bounds depth and what aliases may unfold to, and refuses keys that are given twice.
    let yaml = document(&source.text).map_err(|error| mistake(error.to_string(), "YAML"))?;
    let mut mistakes = Mistakes::default();
    let tree = plain(yaml, &Path::default(), &mut |path, problem, expected| {
        mistakes.push(Mistake { path: path.to_string(), ..mistake(problem.to_owned(), expected) });
    });
    let tree = if tree.is_null() { Value::Object(Map::new()) } else { tree };
    if mistakes.is_empty() && !tree.is_object() {
        mistakes.push(mistake("the whole file is one value".to_owned(), "keys and values"));
    }
    mistakes.into_result().map(|()| tree)
}

/// One value as the environment and flags write it: `3`, `true`, `100ms`, `[a, b]`. What is no YAML is text.
pub(super) fn scalar(text: &str) -> Value {
    let Ok(yaml) = document(text) else {
        return Value::String(text.to_owned());
    };
    let mut strange = false;
    let value = plain(yaml, &Path::default(), &mut |_, _, _| strange = true);
    if strange { Value::String(text.to_owned()) } else { value }
}

/// How many brackets are open at most. Brackets in quotes count as well: this is an estimate from above, for texts
/// that close what they open.
fn deepest_bracket(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn document(text: &str) -> Result<Yaml, serde_yaml_ng::Error> {
    let mut documents = Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Yaml::Null);
    };
    let yaml = Yaml::deserialize(first)?;
    match documents.next() {
        None => Ok(yaml),
        Some(_) => Err(serde::de::Error::custom("more than one document")),
    }
}

fn plain(yaml: Yaml, path: &Path, refuse: &mut impl FnMut(&Path, &str, &str)) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(bool) => Value::Bool(bool),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64().and_then(Number::from_f64)) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(number)) => Value::Number(number),
            (None, None, None) => {
                refuse(path, "a number that is none", "a finite number");
                Value::Null
            }
        },
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().enumerate().map(|(at, item)| plain(item, &path.index(at), refuse)).collect())
        }
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let Yaml::String(key) = key else {
                    refuse(path, "a key that is no text", "keys that are text; put others into quotes");
                    continue;
                };
                let value = plain(value, &path.key(&key), refuse);
                map.insert(key, value);
            }
            Value::Object(map)
        }
        Yaml::Tagged(_) => {
            refuse(path, "a YAML tag", "a plain value");
            Value::Null
        }
    }
}
