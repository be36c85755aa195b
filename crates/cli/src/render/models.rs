//! Model directories and whether they are what they say.

use std::io;

use super::table::Table;
use crate::{
    model::{Card, Model, Tensor},
    page::Page,
    text::{Text, Tone},
};

const DIGEST_SHOWN: usize = 12;

pub(crate) fn models(page: &mut Page<'_>, models: &[Model]) -> io::Result<()> {
    let mut table = Table::new(&["MODEL", "VERSION", "KIND", ">SIZE", "DIGEST", "LICENCE", "FILES"]);
    for model in models {
        let state = if model.verified {
            Text::new().with("verified", Tone::Good)
        } else {
            Text::new().with("wrong", Tone::Bad)
        };
        let name = Text::new().accent(model.directory.file_name().unwrap_or_default().to_string_lossy());
        table.row(match &model.card {
            Some(card) => vec![
                name,
                card.version.as_str().into(),
                card.kind.into(),
                size(card.size_bytes).into(),
                card.digest.chars().take(DIGEST_SHOWN).collect::<String>().into(),
                card.licence.as_str().into(),
                state,
            ],
            None => vec![name, unknown(), unknown(), unknown(), unknown(), unknown(), state],
        });
        if let Some(card) = &model.card {
            table.detail(signature(card));
        }
        for problem in &model.problems {
            table.detail(Text::new().with(problem, Tone::Bad));
        }
    }
    table.write(page)
}

fn unknown() -> Text {
    Text::new().quiet("?")
}

/// `input_ids INT64 [?, ?], … → embedding FP32 [?, 384]`
fn signature(card: &Card) -> Text {
    let listed = |tensors: &[Tensor]| tensors.iter().map(tensor).collect::<Vec<_>>().join(", ");
    Text::new().quiet(format!("{} → {}", listed(&card.inputs), listed(&card.outputs)))
}

fn tensor(tensor: &Tensor) -> String {
    let size = |size: &i64| if *size < 0 { "?".to_owned() } else { size.to_string() };
    let shape: Vec<String> = tensor.shape.iter().map(size).collect();
    format!("{} {} [{}]", tensor.name, tensor.datatype, shape.join(", "))
}

/// `86 MiB`
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" || size >= 10.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        model::{self, inspect},
        page::{Look, written},
    };

    #[test]
    fn sizes_are_rounded_to_what_can_be_compared() {
        assert_eq!(
            [0, 1023, 1024, 90_278_142, 5_368_709_120].map(size),
            ["0 B", "1023 B", "1.0 KiB", "86 MiB", "5.0 GiB"]
        );
    }

    #[test]
    fn a_model_that_is_right_and_one_that_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (good, bad) = (root.path().join("good"), root.path().join("bad"));
        model::tests::write(&good, "good", "tensors", model::tests::ONNX);
        model::tests::write(&bad, "bad", "tensors", model::tests::ONNX);
        fs::remove_file(bad.join("model.onnx")).unwrap();
        let text = written(Look::PLAIN, |page| models(page, &[inspect(&good), inspect(&bad)]));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("good   1        tensors   2 B  ") && lines[1].ends_with("Apache-2.0  verified"),
            "{text}"
        );
        assert_eq!(lines[2], "  a FP32 [?, 4] → embedding FP32 [?, 8]");
        assert!(lines[3].ends_with("wrong"), "{text}");
        assert!(lines[5].starts_with("  model.onnx: "), "{text}");
    }
}
