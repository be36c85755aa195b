//! A tree of plain values into a type. serde stops at the first mistake; here each mistake is noted, the tree is mended
//! at that place with something that fits, and reading starts again until nothing is wrong.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Mistake, Mistakes,
    path::{Path, Segment},
};

/// More mistakes than this in one file are not worth listing.
const MAX_ROUNDS: usize = 64;

/// Reads `tree`; `origin` names the file or the overlay that a path came from.
pub(super) fn read<T>(mut tree: Value, origin: &dyn Fn(&Path) -> String) -> Result<T, Mistakes>
where
    T: DeserializeOwned + Serialize,
{
    let mut found: Vec<Found> = Vec::new();
    let mut read = None;
    for _ in 0..MAX_ROUNDS {
        match attempt::<T>(&tree) {
            Ok((value, ignored)) => {
                found.extend(ignored.into_iter().map(|path| unknown(path, &value)));
                read = Some(value);
                break;
            }
            Err(next) => {
                // What is below a mistake is wrong because of how it was mended.
                if !found.iter().any(|known| next.path.starts_with(&known.path)) {
                    found.push(next.clone());
                }
                if !mend::<T>(&mut tree, &next) {
                    break;
                }
            }
        }
    }
    let mut mistakes = Mistakes::default();
    mistakes.extend(found.into_iter().map(|found| found.into_mistake(origin)));
    match read {
        Some(value) if mistakes.is_empty() => Ok(value),
        _ => Err(mistakes),
    }
}

/// What one round of reading stumbled over.
#[derive(Debug, Clone)]
struct Found {
    path: Path,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Unknown {
        known: Vec<String>,
    },
    Missing,
    /// A word that is none of those.
    Variant {
        given: String,
        known: Vec<String>,
    },
    Wrong {
        problem: String,
        expected: String,
    },
}

impl Found {
    fn into_mistake(self, origin: &dyn Fn(&Path) -> String) -> Mistake {
        let name = match self.path.0.last() {
            Some(Segment::Key(name)) => name.as_str(),
            _ => "",
        };
        let (problem, expected) = match &self.kind {
            Kind::Unknown { known } => (format!("unknown key{}", did_you_mean(name, known)), one_of(known)),
            Kind::Missing => ("missing".to_owned(), String::new()),
            Kind::Variant { given, known } => {
                (format!("unknown value {given:?}{}", did_you_mean(given, known)), one_of(known))
            }
            Kind::Wrong { problem, expected } => (problem.clone(), expected.clone()),
        };
        Mistake { file: origin(&self.path), path: self.path.to_string(), problem, expected }
    }
}

fn attempt<T: DeserializeOwned>(tree: &Value) -> Result<(T, Vec<Path>), Found> {
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let value = {
        let deserializer = serde_path_to_error::Deserializer::new(tree, &mut track);
        let mut note = |path: serde_ignored::Path<'_>| ignored.push(ignored_path(&path));
        T::deserialize(serde_ignored::Deserializer::new(deserializer, &mut note))
    };
    value.map(|value| (value, ignored)).map_err(|error| classify(error_path(&track.path()), &error.to_string()))
}

/// serde says what is wrong in words only.
fn classify(path: Path, message: &str) -> Found {
    let (head, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let name = head.split('`').nth(1).unwrap_or_default();
    let known = || expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let below = || match path.0.last() {
        Some(Segment::Key(last)) if last == name => path.clone(),
        _ => path.key(name),
    };
    if message.starts_with("unknown field `") {
        return Found { path: below(), kind: Kind::Unknown { known: known() } };
    }
    if message.starts_with("missing field `") {
        return Found { path: path.key(name), kind: Kind::Missing };
    }
    if message.starts_with("unknown variant `") {
        return Found { path, kind: Kind::Variant { given: name.to_owned(), known: known() } };
    }
    Found { path, kind: Kind::Wrong { problem: head.to_owned(), expected: expected.to_owned() } }
}

/// Makes the tree right at the place of a mistake. False where nothing fits.
fn mend<T: DeserializeOwned>(tree: &mut Value, found: &Found) -> bool {
    if let Kind::Unknown { .. } = found.kind {
        return remove(tree, &found.path);
    }
    let variants = match &found.kind {
        Kind::Variant { known, .. } => known.iter().map(|word| json!(word)).collect(),
        _ => Vec::new(),
    };
    let plain =
        [json!(""), json!("1s"), json!(1), json!(0), json!(0.5), json!(false), json!([]), json!({}), json!(null)];
    let fits = variants.into_iter().chain(plain).find(|candidate| {
        let mut mended = tree.clone();
        set(&mut mended, &found.path, candidate.clone())
            && attempt::<T>(&mended).map_or_else(|next| next.path != found.path, |_| true)
    });
    fits.is_some_and(|candidate| set(tree, &found.path, candidate))
}

fn remove(tree: &mut Value, path: &Path) -> bool {
    let Some((parent, Segment::Key(key))) = path.split_last() else {
        return false;
    };
    parent.find_mut(tree).and_then(Value::as_object_mut).is_some_and(|map| map.remove(key).is_some())
}

fn set(tree: &mut Value, path: &Path, value: Value) -> bool {
    match path.split_last() {
        None => *tree = value,
        Some((parent, Segment::Key(key))) => {
            let Some(map) = parent.find_mut(tree).and_then(Value::as_object_mut) else {
                return false;
            };
            map.insert(key.clone(), value);
        }
        Some((_, Segment::Index(_))) => {
            let Some(place) = path.find_mut(tree) else { return false };
            *place = value;
        }
    }
    true
}

/// A key that the type took no notice of; what stands beside it in the type's own output is what it knows.
fn unknown<T: Serialize>(path: Path, value: &T) -> Found {
    let known = path.split_last().and_then(|(parent, _)| {
        let written = serde_json::to_value(value).ok()?;
        Some(parent.find(&written)?.as_object()?.keys().cloned().collect())
    });
    Found { path, kind: Kind::Unknown { known: known.unwrap_or_default() } }
}

fn did_you_mean(given: &str, known: &[String]) -> String {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(given, known), known)).min();
    match near {
        Some((distance, known)) if distance <= (given.chars().count() / 3).max(1) => {
            format!(", did you mean `{known}`?")
        }
        _ => String::new(),
    }
}

fn one_of(known: &[String]) -> String {
    match known {
        [] => String::new(),
        [only] => format!("`{only}`"),
        all => format!("one of {}", all.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn error_path(path: &serde_path_to_error::Path) -> Path {
    let segments = path.iter().filter_map(|segment| match segment {
        serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        // The tag of an enum is no place of its own.
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    });
    Path(segments.collect())
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Path {
    match path {
        serde_ignored::Path::Root => Path::default(),
        serde_ignored::Path::Seq { parent, index } => ignored_path(parent).index(*index),
        serde_ignored::Path::Map { parent, key } => ignored_path(parent).key(key),
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}
