//! Files of labelled queries: read whole, every mistake with its file.

use std::{fs, path::Path};

use consilium_gate::{Labelled, evaluate};
use consilium_mesh::config::{Mistake, Mistakes};

/// Larger than any set of queries that people label, smaller than what a machine holds.
const MAX_BYTES: u64 = 256 << 20;

/// Reads rows.
///
/// # Errors
/// Every line that is wrong, or why the file cannot be read.
pub(crate) fn rows(path: &Path) -> Result<Vec<Labelled>, Mistakes> {
    evaluate::parse(&text(path)?).map_err(|mistakes| of(path, mistakes))
}

/// A file's text.
///
/// # Errors
/// One mistake that says why it cannot be read.
pub(crate) fn text(path: &Path) -> Result<String, Mistakes> {
    let mistake = |problem: String, expected: &str| {
        let (file, path) = (path.display().to_string(), String::new());
        Mistakes::from(Mistake { file, path, problem, expected: expected.to_owned() })
    };
    let size = fs::metadata(path).map_err(|error| mistake(error.to_string(), "a file of labelled queries"))?.len();
    if size > MAX_BYTES {
        return Err(mistake(format!("{size} bytes"), "at most 256 MiB"));
    }
    let bytes = fs::read(path).map_err(|error| mistake(error.to_string(), "a file that can be read"))?;
    String::from_utf8(bytes).map_err(|_| mistake("not text".to_owned(), "UTF-8"))
}

/// The gate's mistakes, which are about `path`.
pub(crate) fn of(path: &Path, mistakes: Vec<consilium_gate::Mistake>) -> Mistakes {
    let mut all = Mistakes::default();
    all.extend(mistakes.into_iter().map(|consilium_gate::Mistake { path: at, problem, expected }| Mistake {
        file: path.display().to_string(),
        path: at,
        problem,
        expected,
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_have_the_file_the_line_and_the_field() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"text\": \"a?\", \"expert\": null}\n{\"text\": \"b?\"}\n").unwrap();
        let said = rows(file.path()).unwrap_err().to_string();
        let expected = format!("{}: line 2, expert: is missing; expected an expert's name", file.path().display());
        assert!(said.starts_with(&expected), "{said}");
        let said = rows(Path::new("no/such/rows.jsonl")).unwrap_err().to_string();
        assert!(said.starts_with("no/such/rows.jsonl: "), "{said}");
        fs::write(file.path(), [0xff, 0xfe]).unwrap();
        assert!(rows(file.path()).unwrap_err().to_string().contains("not text"));
    }
}
