//! Configuration: files, environment and flags become one tree, and the tree becomes a type. Every mistake is
//! reported, all of them together, each with the place, the path and what was expected.
//!
//! Types of configuration derive `Deserialize` and `Serialize`, carry `#[serde(deny_unknown_fields)]`, and use
//! [`duration`] for durations.

pub mod duration;
mod label;
mod mistakes;
mod overlay;
mod path;
mod standard;
mod typed;
mod yaml;

use std::path::Path as FilePath;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use label::{DNS_LABEL, is_dns_label};
pub use mistakes::{Mistake, Mistakes};
pub use overlay::{Overlay, environment};
pub use standard::{Standard, standard};

/// The largest configuration file. Nothing that people write comes near it.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file's name, as mistakes will show it, and its text.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: String,
    pub text: String,
}

impl Source {
    /// Reads a file of at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// One mistake that says why it cannot be read.
    pub fn read(path: &FilePath) -> Result<Self, Mistakes> {
        let file = path.display().to_string();
        let mistake = |problem: String, expected: &str| {
            Mistakes::from(Mistake { file: file.clone(), path: String::new(), problem, expected: expected.to_owned() })
        };
        let size = std::fs::metadata(path).map_err(|error| mistake(error.to_string(), "a file"))?.len();
        if size > MAX_FILE_BYTES {
            return Err(mistake(format!("{size} bytes"), "at most 1 MiB"));
        }
        let bytes = std::fs::read(path).map_err(|error| mistake(error.to_string(), "a file that can be read"))?;
        let text = String::from_utf8(bytes).map_err(|_| mistake("not text".to_owned(), "UTF-8"))?;
        Ok(Self { file, text })
    }
}

/// Reads one source into a type, with the overlay on top of it.
///
/// ```
/// use consilium_mesh::config::{self, Overlay, Source};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// #[serde(deny_unknown_fields)]
/// struct Mesh {
///     name: String,
///     #[serde(with = "config::duration")]
///     default_deadline: std::time::Duration,
/// }
///
/// let source = Source { file: "mesh.yaml".into(), text: "name: clinic\ndefault_deadline: soon".into() };
/// let mistakes = config::parse::<Mesh>(&source, &Overlay::default()).err().unwrap();
/// assert!(mistakes.to_string().starts_with("mesh.yaml: default_deadline: "));
/// ```
///
/// # Errors
/// All mistakes found.
pub fn parse<T: DeserializeOwned + Serialize>(source: &Source, overlay: &Overlay) -> Result<T, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut tree = mistakes.take(yaml::parse(source)).unwrap_or_else(|| serde_json::json!({}));
    let unreadable = !mistakes.is_empty();
    let origins = overlay.apply(&mut tree, &mut mistakes);
    if unreadable {
        // What is missing from half a tree would only be noise.
        return Err(mistakes);
    }
    let typed = typed::read(tree, &|path| origins.of(path).unwrap_or(&source.file).to_owned());
    match mistakes.take(typed) {
        Some(typed) if mistakes.is_empty() => Ok(typed),
        _ => Err(mistakes),
    }
}

/// `source` with what `section` says in the place of its key `key`; those of the old one's keys that are in `kept` stay
/// unless the new one has them. The section may be written by itself or below its key.
///
/// # Errors
/// Where one of the two cannot be read as keys and values.
pub fn replace(source: &Source, (key, section): (&str, &Source), kept: &[&str]) -> Result<Source, Mistakes> {
    let mut mistakes = Mistakes::default();
    let tree = mistakes.take(yaml::parse(source));
    let section = mistakes.take(yaml::parse(section));
    let (Some(Value::Object(mut tree)), Some(Value::Object(mut section))) = (tree, section) else {
        return Err(mistakes);
    };
    if section.len() == 1
        && let Some(Value::Object(_)) = section.get(key)
        && let Some(Value::Object(inner)) = section.remove(key)
    {
        section = inner;
    }
    let old = tree.remove(key);
    for name in kept {
        if let Some(value) = old.as_ref().and_then(|old| old.get(name)) {
            section.entry(*name).or_insert_with(|| value.clone());
        }
    }
    tree.insert(key.to_owned(), Value::Object(section));
    Ok(Source { file: source.file.clone(), text: Value::Object(tree).to_string() })
}

/// The effective configuration as YAML, for `--print-config`.
///
/// # Errors
/// When the type cannot be written as YAML.
pub fn print<T: Serialize>(config: &T) -> Result<String, serde_yaml_ng::Error> {
    serde_yaml_ng::to_string(config)
}

#[cfg(test)]
mod tests;
