//! The files that the gate's options name: texts for nobody, labelled queries to calibrate on, examples of dimensions, probes
//! to pass. Read here because the gate reads no files; each line that is wrong is named.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_gate::{Labelled, Options, Settings, evaluate::Probes};
use serde::Deserialize;

/// The largest of these files, bytes: a hundred thousand queries.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// A file of another kind is wrong on each of its lines; after these it is clear.
const MOST_MISTAKES: usize = 10;

const LABELLED: &str = r#"{"text": "…", "expert": "name" or null, "dimensions": {"name": "value"}} on each line"#;
const EXAMPLE: &str = r#"{"text": "…", "dimensions": {"name": one of its values, or null}} on each line"#;

/// Takes a mistake: where in the options, what is wrong, what was expected.
type Wrong<'a> = dyn FnMut(&str, String, &str) + 'a;

/// A query labelled with values of dimensions; `null` where none can be told.
#[derive(Deserialize)]
struct Example {
    text: String,
    #[serde(default)]
    dimensions: BTreeMap<String, Option<String>>,
}

/// Makes paths that start at `base` complete.
pub(super) fn complete(options: &mut Options, base: &Path) {
    let of_dimensions = options.dimensions.values_mut().map(|dimension| &mut dimension.examples);
    let files =
        [&mut options.background, &mut options.validation, &mut options.probes].into_iter().chain(of_dimensions);
    for file in files.flatten() {
        *file = base.join(&*file).display().to_string();
    }
}

/// The files that complete options name.
pub(super) fn files(options: &Options) -> impl Iterator<Item = PathBuf> {
    let of_dimensions = options.dimensions.values().map(|dimension| &dimension.examples);
    let files = [&options.background, &options.validation, &options.probes].into_iter().chain(of_dimensions);
    files.flatten().map(PathBuf::from)
}

/// What the options and their files come to.
pub(super) fn read(options: &Options, wrong: &mut Wrong<'_>) -> Settings {
    let mut settings = Settings::new(options.clone());
    if let Some(file) = &options.background {
        settings.background = background("gate.background", file, wrong);
    }
    if let Some(file) = &options.validation {
        settings.validation = rows("gate.validation", file, LABELLED, wrong).into_iter().map(|(_, row)| row).collect();
        let is_text = |row: &Labelled| !row.text.trim().is_empty();
        if !settings.validation.iter().all(is_text) {
            wrong("gate.validation", format!("{file}: a text is empty"), LABELLED);
        }
    }
    if let Some(file) = &options.probes {
        settings.trial = probes(file, wrong).map(|probes| Arc::new(probes) as _);
    }
    for (name, dimension) in &options.dimensions {
        let Some(file) = &dimension.examples else { continue };
        let path = format!("gate.dimensions.{name}.examples");
        let Some(into) = settings.options.dimensions.get_mut(name) else { continue };
        for (line, example) in rows::<Example>(&path, file, EXAMPLE, wrong) {
            // One file of labelled queries may serve several dimensions: a line without this one is for another.
            let Some(value) = example.dimensions.get(name) else { continue };
            if example.text.trim().is_empty() {
                wrong(&path, format!("{file}:{line}: the text is empty"), EXAMPLE);
            } else if !into.add_example(value.as_deref(), example.text) {
                wrong(
                    &path,
                    format!(
                        "{file}:{line}: {:?} is none of the dimension's values",
                        value.as_deref().unwrap_or_default()
                    ),
                    EXAMPLE,
                );
            }
        }
    }
    settings
}

/// What settings have to pass before they take the place of others.
fn probes(file: &str, wrong: &mut Wrong<'_>) -> Option<Probes> {
    const PATH: &str = "gate.probes";
    match Probes::parse(&text(PATH, file, "a file of expected routes", wrong)?) {
        Ok(probes) => Some(probes),
        Err(mistakes) => {
            for mistake in mistakes {
                let place = if mistake.path.is_empty() { String::new() } else { format!(", {}", mistake.path) };
                wrong(PATH, format!("{file}{place}: {}", mistake.problem), &mistake.expected);
            }
            None
        }
    }
}

/// One text a line; empty ones and those that begin with `#` are no texts.
fn background(path: &str, file: &str, wrong: &mut Wrong<'_>) -> Vec<String> {
    const EXPECTED: &str = "a text file, one text a line that no expert should get";
    let text = text(path, file, EXPECTED, wrong).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The lines of a file, with their numbers from 1.
fn rows<T: for<'de> Deserialize<'de>>(
    path: &str,
    file: &str,
    expected: &str,
    wrong: &mut Wrong<'_>,
) -> Vec<(usize, T)> {
    let Some(text) = text(path, file, expected, wrong) else { return Vec::new() };
    let (mut rows, mut mistakes) = (Vec::new(), 0);
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(row) => rows.push((at + 1, row)),
            Err(error) => {
                mistakes += 1;
                if mistakes <= MOST_MISTAKES {
                    // The kind of the error and its place; its words may quote the line.
                    let problem = format!("{file}:{}:{}: no such object", at + 1, error.column());
                    wrong(path, problem, expected);
                }
            }
        }
    }
    if mistakes > MOST_MISTAKES {
        wrong(path, format!("{file}: {} more lines are wrong", mistakes - MOST_MISTAKES), expected);
    }
    if rows.is_empty() && mistakes == 0 {
        wrong(path, format!("{file}: there is nothing in it"), expected);
    }
    rows
}

fn text(path: &str, file: &str, expected: &str, wrong: &mut Wrong<'_>) -> Option<String> {
    match whole(Path::new(file)) {
        Ok(text) => Some(text),
        Err(error) => {
            wrong(path, format!("{file} cannot be read: {error}"), expected);
            None
        }
    }
}

fn whole(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}
