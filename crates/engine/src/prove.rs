//! Whether requests may run together: shown, not believed. A free first dimension may be the batch, or the number of
//! boxes found; and rows of a batch may still be mixed, as by a mean over all of them. So made-up rows are run apart and
//! together, and what comes out must be the same.

use crate::made_up::{self, Sizes, Varying};
use crate::manifest::Manifest;
use crate::rows;
use crate::session::{RunError, Session, Stop};
use consilium_tensor::{DataType, Tensor};

/// What the runs have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Rows come out the same, whatever they share a run with.
    Apart,
    /// They do not: the output, or all of them if rows cannot be dealt back.
    Mixed(String),
    /// The model does not run on made-up input, or it would be too large.
    Unknown(String),
}

/// Integers for the first try, and for models that refuse those: embedding tables with two rows are common.
const INTEGERS: [(u8, u8); 2] = [(1, 7), (0, 1)];

/// Runs `batch_rows` rows at most, a few times, apart and together.
pub(crate) fn rows_stay_apart(
    session: &mut dyn Session,
    manifest: &Manifest,
    batch_rows: usize,
    stop: &Stop,
) -> Verdict {
    let mut refusal = RunError("a batch is one row".to_owned());
    if batch_rows < 2 {
        return Verdict::Unknown(refusal.to_string());
    }
    let more = |rows: usize| rows.min(batch_rows - 1);
    for integers in INTEGERS {
        let first = Trial { rows: [1, more(4)], inner: 1, seed: 11, positive: false, integers };
        match first.run(session, manifest, stop) {
            Err(error) => refusal = error,
            Ok(Some(mixed)) => return Verdict::Mixed(mixed),
            Ok(None) => {
                // Other values and sizes, too. That these are refused is nothing against the first: not every model takes
                // every size.
                let second = Trial { rows: [more(3), 1], seed: 21, ..first };
                let third = Trial { seed: 31, positive: true, ..second };
                let inner = manifest.inputs.iter().any(|input| input.shape.iter().skip(1).any(|size| *size == -1));
                let fourth = inner.then_some(Trial { inner: 2, seed: 41, ..second });
                let mut others = [second, third].into_iter().chain(fourth);
                let mixed = others.find_map(|trial| trial.run(session, manifest, stop).ok().flatten());
                return mixed.map_or(Verdict::Apart, Verdict::Mixed);
            }
        }
    }
    Verdict::Unknown(refusal.to_string())
}

/// Two made-up requests.
#[derive(Debug, Clone, Copy)]
struct Trial {
    rows: [usize; 2],
    /// What goes into the free dimensions after the first.
    inner: usize,
    seed: u64,
    positive: bool,
    integers: (u8, u8),
}

impl Trial {
    /// The output that is not the same when both run together; `Err` if one of the runs failed.
    fn run(self, session: &mut dyn Session, manifest: &Manifest, stop: &Stop) -> Result<Option<String>, RunError> {
        let [one, two] = self.rows;
        let Self { inner, positive, integers, .. } = self;
        let make = |rows, seed| {
            let values = Varying { seed, positive, integers };
            made_up::varying(&manifest.inputs, Sizes { rows, inner }, values)
                .ok_or_else(|| RunError("its inputs are too large to be made up".to_owned()))
        };
        let requests = [make(one, self.seed)?, make(two, self.seed + 1)?];
        let mut apart = Vec::with_capacity(requests.len());
        for request in &requests {
            apart.push(session.run(request, stop)?);
        }
        // Apart they ran, so if they do not together, rows are not what the model thinks of the first dimension.
        let Ok(joined) = session.run(&rows::join(&[&requests[0], &requests[1]]), stop) else {
            return if stop.is_raised() {
                Err(RunError("took too long".to_owned()))
            } else {
                Ok(Some("all".to_owned()))
            };
        };
        let Some(dealt) = rows::split(&joined, &self.rows) else {
            return Ok(Some("all".to_owned()));
        };
        let pairs = dealt.iter().flatten().zip(apart.iter().flatten());
        let differing = pairs.filter(|(together, alone)| !same(together, alone)).map(|(_, alone)| alone.name.clone());
        Ok(differing.min())
    }
}

/// Exactly, but for what another order of additions does to floats.
fn same(one: &Tensor, two: &Tensor) -> bool {
    if (one.datatype, &one.shape) != (two.datatype, &two.shape) {
        return false;
    }
    let Some((one_values, two_values)) = made_up::floats(one).zip(made_up::floats(two)) else {
        return one.data == two.data;
    };
    // Of the element and, since sums cancel out, of the largest one. Halves have 11 bits, and bf16 8.
    let (of_element, of_largest) = match one.datatype {
        DataType::Fp16 | DataType::Bf16 => (2e-2, 1e-2),
        _ => (1e-4, 1e-5),
    };
    let finite = one_values.iter().chain(&two_values).map(|value| value.abs()).filter(|value| value.is_finite());
    let largest = finite.fold(0.0, f64::max);
    let close = |(one, two): (&f64, &f64)| {
        let bound = of_element * one.abs().max(two.abs()) + of_largest * largest;
        one.total_cmp(two).is_eq() || (one.is_nan() && two.is_nan()) || (one - two).abs() <= bound && two.is_finite()
    };
    one_values.len() == two_values.len() && one_values.iter().zip(&two_values).all(close)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use consilium_tensor::dimension;

    use super::*;

    type Model = fn(&[f32]) -> Result<(Vec<i64>, Vec<f32>), RunError>;

    /// `y` is what the function makes of the elements of `x`.
    struct Function(Model);

    impl Session for Function {
        fn run(&mut self, inputs: &[Tensor], _stop: &Stop) -> Result<Vec<Tensor>, RunError> {
            let values = inputs[0].to_fp32().unwrap();
            (self.0)(&values).map(|(shape, values)| vec![Tensor::fp32("y", shape, &values)])
        }
    }

    fn verdict(model: Model, batch_rows: usize) -> Verdict {
        let manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "f",
            "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
        rows_stay_apart(&mut Function(model), &manifest, batch_rows, &Stop::default())
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a model gives")]
    fn rows_of(values: Vec<f32>) -> Result<(Vec<i64>, Vec<f32>), RunError> {
        Ok((vec![dimension(values.len())], values))
    }

    #[test]
    fn rows_that_only_know_themselves_stay_apart() {
        assert_eq!(verdict(|x| rows_of(x.iter().map(|x| x * 2.0).collect()), 32), Verdict::Apart);
        // Roots of negative numbers are no number, both times.
        assert_eq!(verdict(|x| rows_of(x.iter().map(|x| x.sqrt()).collect()), 2), Verdict::Apart);
        let noise = |x: &[f32]| rows_of(x.iter().map(|value| value + 1e-7 * x.len() as f32).collect());
        assert_eq!(verdict(noise, 32), Verdict::Apart);
    }

    #[test]
    fn rows_that_know_of_others_are_mixed() {
        let mixed = Verdict::Mixed("y".to_owned());
        let centred =
            |x: &[f32]| rows_of(x.iter().map(|value| value - x.iter().sum::<f32>() / x.len() as f32).collect());
        assert_eq!(verdict(centred, 32), mixed);
        assert_eq!(verdict(|x| rows_of(x.iter().zip(0u8..).map(|(x, at)| x + f32::from(at)).collect()), 2), mixed);
    }

    #[test]
    fn outputs_whose_first_dimension_is_something_else_are_seen() {
        let all = Verdict::Mixed("all".to_owned());
        assert_eq!(verdict(|x| rows_of(x.iter().copied().filter(|x| *x > 0.0).collect()), 32), all);
        assert_eq!(verdict(|x| Ok((vec![], vec![x.iter().sum()])), 32), all);
        assert_eq!(verdict(|_| rows_of(vec![1.0, 2.0]), 32), all);
        assert_eq!(
            verdict(|x| if x.len() > 4 { Err(RunError("no".to_owned())) } else { rows_of(x.to_vec()) }, 32),
            all
        );
    }

    #[test]
    fn a_model_that_refuses_made_up_input_is_unknown() {
        assert_eq!(verdict(|_| Err(RunError("no".to_owned())), 32), Verdict::Unknown("no".to_owned()));
        assert!(matches!(verdict(|x| rows_of(x.to_vec()), 1), Verdict::Unknown(_)));
    }
}
