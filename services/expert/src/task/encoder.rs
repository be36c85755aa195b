//! An engine as a sentence encoder: text → a vector of unit length. Shared by `embed` and `retrieve`.

use std::sync::Arc;

use consilium_engine::{Call, Engine, TextOutput};

use super::{Context, Failure, Timings, Vector};
use crate::Error;

/// What an encoder's vector is called in errors.
const OUTPUT: &str = "embedding";

/// What tokenizers put around a text: `[CLS]` and `[SEP]`, or `<s>` and `</s>`.
const SPECIAL_TOKENS: usize = 2;

/// How far from 1 a vector's length may be and still count as unit length; rounding in fp16 stays below it.
const UNIT_TOLERANCE: f32 = 1e-2;

#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    engine: Engine,
    digest: Arc<str>,
    output: usize,
    width: usize,
    /// Texts of so many bytes are read to their end whatever is in them.
    whole: usize,
}

/// A text's vector, and how it came about.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) vector: Vector,
    pub(crate) truncated: bool,
    pub(crate) timings: Timings,
}

impl Encoder {
    /// `Err` when the model takes no text, or has no output that is one row of floats.
    pub(crate) fn new(engine: Engine) -> Result<Encoder, Error> {
        let manifest = engine.manifest();
        let (output, width) = manifest.embedding().map_err(|problem| Error::unfit(&engine, problem))?;
        let max_tokens = manifest.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.max_tokens);
        let whole = max_tokens.saturating_sub(SPECIAL_TOKENS);
        Ok(Encoder { digest: engine.digest().into(), output, width, whole, engine })
    }

    /// How many floats a vector has.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) async fn encode(&self, text: &str, context: Context) -> Result<Encoded, Failure> {
        let output = self.engine.text(text, Call { deadline: context.deadline }).await?;
        let (truncated, timings) = (output.truncated, output.timings.into());
        Ok(Encoded { vector: self.vector(output)?, truncated, timings })
    }

    /// The vector that came with a query, if it is what this encoder would have made itself.
    pub(crate) fn accept(&self, vector: &Vector) -> bool {
        let length = vector.values.iter().map(|value| value * value).sum::<f32>().sqrt();
        // A NaN or an infinity anywhere makes the length one too, and the comparison false.
        vector.model_digest == self.digest
            && vector.values.len() == self.width
            && (length - 1.0).abs() <= UNIT_TOLERANCE
    }

    /// Whether `text` is certainly not cut: a token stands for at least one byte. `false` says nothing.
    pub(crate) fn reads_whole(&self, text: &str) -> bool {
        text.len() <= self.whole
    }

    fn vector(&self, output: TextOutput) -> Result<Vector, Failure> {
        let Some(row) = output.outputs.into_iter().nth(self.output) else {
            return Err(Failure::output(OUTPUT, "is missing"));
        };
        let mut values = row.values;
        if values.len() != self.width {
            return Err(Failure::output(&row.name, "is not as wide as the manifest says"));
        }
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if !length.is_finite() || length <= f32::EPSILON {
            return Err(Failure::output(&row.name, "has no direction"));
        }
        for value in &mut values {
            *value /= length;
        }
        Ok(Vector { model_digest: Arc::clone(&self.digest), values })
    }
}
