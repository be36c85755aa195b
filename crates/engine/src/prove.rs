//! Whether requests may run together: shown, not believed. A free first dimension may be the batch, or the number of
//! boxes found; and rows of a batch may still be mixed, as by a mean over all of them. So made-up rows are run apart and
//! together, and what comes out must be the same, but for the noise that another order of additions makes. That is
//! evidence about a few made-up rows, and none about values that nobody made up.

use std::collections::BTreeSet;
use std::slice;

use crate::made_up::{self, Sizes, Varying};
use crate::manifest::Manifest;
use crate::rows;
use crate::session::{RunError, Session, Stop};
use consilium_tensor::{DataType, Tensor};

/// What the runs have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All made-up rows came out the same, whatever they shared a run with, and each output told some of them apart.
    Apart,
    /// They did not: the output, or all of them if rows cannot be dealt back.
    Mixed(String),
    /// Nothing was shown, and why: the model does not run on made-up input, or gives the same for all of it, or takes too
    /// long.
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
    if batch_rows < 2 {
        return Verdict::Unknown("a batch is one row".to_owned());
    }
    let mut refusal = String::new();
    'integers: for integers in INTEGERS {
        let mut unvaried: BTreeSet<&str> = manifest.outputs.iter().map(|output| output.name.as_str()).collect();
        for (at, trial) in trials(manifest, batch_rows, integers).enumerate() {
            match trial.run(session, manifest, stop) {
                Ok(Shown::Apart { varied }) => unvaried.retain(|name| !varied.iter().any(|varied| varied == name)),
                Ok(Shown::Mixed(output)) => return Verdict::Mixed(output),
                // Not the model's refusal: what else it would have shown is not known.
                Err(_) if stop.is_raised() => return Verdict::Unknown("took too long".to_owned()),
                Err(error) if at == 0 => {
                    refusal = error.to_string();
                    continue 'integers;
                }
                // That others are refused is nothing against the first: not every model takes every size.
                Err(_) => {}
            }
        }
        let unvaried = unvaried.first().map(|name| format!("output `{name}` is the same for all made-up rows"));
        return unvaried.map_or(Verdict::Apart, Verdict::Unknown);
    }
    Verdict::Unknown(refusal)
}

/// Several values and sizes.
fn trials(manifest: &Manifest, batch_rows: usize, integers: (u8, u8)) -> impl Iterator<Item = Trial> {
    let more = |rows: usize| rows.min(batch_rows - 1);
    let first = Trial { rows: [1, more(4)], inner: 1, seed: 11, positive: false, integers };
    let second = Trial { rows: [more(3), 1], seed: 21, ..first };
    let third = Trial { seed: 31, positive: true, ..second };
    let inner = manifest.inputs.iter().any(|input| input.shape.iter().skip(1).any(|size| *size == -1));
    let fourth = inner.then_some(Trial { inner: 2, seed: 41, ..second });
    [first, second, third].into_iter().chain(fourth)
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

/// What came out of a trial whose requests ran.
enum Shown {
    /// The same, together as apart. `varied`: the outputs that differed from row to row.
    Apart { varied: Vec<String> },
    /// As [`Verdict::Mixed`].
    Mixed(String),
}

impl Trial {
    /// `Err` if one of the runs failed.
    fn run(self, session: &mut dyn Session, manifest: &Manifest, stop: &Stop) -> Result<Shown, RunError> {
        let [one, two] = self.rows;
        let Self { inner, positive, integers, .. } = self;
        let make = |rows, seed| {
            let values = Varying { seed, positive, integers };
            made_up::varying(&manifest.inputs, Sizes { rows, inner }, values)
                .ok_or_else(|| RunError(made_up::TOO_LARGE.to_owned()))
        };
        let requests = [make(one, self.seed)?, make(two, self.seed + 1)?];
        let apart = [session.run(&requests[0], stop)?, session.run(&requests[1], stop)?];
        let all = || Ok(Shown::Mixed("all".to_owned()));
        // Apart they ran, so if they do not together, rows are not what the model thinks of the first dimension.
        let together = match session.run(&rows::join(&[&requests[0], &requests[1]]), stop) {
            Err(error) if stop.is_raised() => return Err(error),
            Err(_) => return all(),
            Ok(outputs) => outputs,
        };
        let Some(dealt) = rows::split(&together, &self.rows) else {
            return all();
        };
        let kind = |tensor: &Tensor| (tensor.datatype, tensor.shape.clone());
        if !dealt.iter().flatten().map(kind).eq(apart.iter().flatten().map(kind)) {
            return all();
        }
        let mut varied = Vec::new();
        for (together, apart) in together.iter().zip(&rows::join(&[&apart[0], &apart[1]])) {
            if !same(together, apart, one + two) {
                return Ok(Shown::Mixed(together.name.clone()));
            }
            if varies(together, one + two) {
                varied.push(together.name.clone());
            }
        }
        Ok(Shown::Apart { varied })
    }
}

/// How far two floats may lie apart and still be the same, as shares of themselves, and of the largest in their place of
/// all rows: where large terms cancel out, a float is small and its error is not. Halves have 11 bits, and bf16 8.
fn tolerance(datatype: DataType) -> (f64, f64) {
    if matches!(datatype, DataType::Fp16 | DataType::Bf16) { (2e-2, 1e-2) } else { (1e-4, 1e-5) }
}

/// So many times larger.
const FAR: f64 = 100.0;

/// Exactly, but for what another order of additions does to floats. Both have these rows.
fn same(one: &Tensor, two: &Tensor, rows: usize) -> bool {
    let Some((one_values, two_values)) = made_up::floats(one).zip(made_up::floats(two)) else {
        return one.data == two.data;
    };
    if one_values.len() != two_values.len() {
        return false;
    }
    let exact = |(one, two): &(f64, f64)| one.total_cmp(two).is_eq();
    let largest = |(one, two): (f64, f64)| {
        let finite = [one.abs(), two.abs()].into_iter().filter(|value| value.is_finite());
        finite.fold(0.0, f64::max)
    };
    let pairs: Vec<(f64, f64)> = one_values.into_iter().zip(two_values).collect();
    // A masked logit of -3.4e38 or an id comes out exactly, and says nothing of the noise in others: what is far larger
    // than all that has any does not count.
    let noisy = pairs.iter().copied().filter(|pair| !exact(pair)).map(largest).fold(0.0, f64::max);
    let width = (pairs.len() / rows.max(1)).max(1);
    let mut places = vec![0.0f64; width];
    for row in pairs.chunks(width) {
        for (place, pair) in places.iter_mut().zip(row) {
            let magnitude = largest(*pair);
            *place = if magnitude <= FAR * noisy { place.max(magnitude) } else { *place };
        }
    }
    let (of_element, of_place) = tolerance(one.datatype);
    let close = |((one, two), place): (&(f64, f64), &f64)| {
        let bound = of_element * one.abs().max(two.abs()) + of_place * place;
        exact(&(*one, *two))
            || (one.is_nan() && two.is_nan())
            || (one.is_finite() && two.is_finite() && (one - two).abs() <= bound)
    };
    pairs.chunks(width).all(|row| row.iter().zip(&places).all(close))
}

/// Whether some row is another than the first, by more than is the same. What is all NaN, saturated or constant is the
/// same together as apart whatever the model does to its rows.
fn varies(output: &Tensor, rows: usize) -> bool {
    let rows = rows::split(slice::from_ref(output), &vec![1; rows]).unwrap_or_default();
    let mut rows = rows.iter().flatten();
    let (share, _) = tolerance(output.datatype);
    let apart = |(one, two): (f64, f64)| {
        one.is_finite() && two.is_finite() && (one - two).abs() > share * one.abs().max(two.abs())
    };
    rows.next().is_some_and(|first| {
        rows.any(|row| match made_up::floats(first).zip(made_up::floats(row)) {
            Some((first, row)) => first.into_iter().zip(row).any(apart),
            None => first.data != row.data,
        })
    })
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

    fn manifest() -> Manifest {
        let manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "f",
            "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    fn verdict(model: Model, batch_rows: usize) -> Verdict {
        rows_stay_apart(&mut Function(model), &manifest(), batch_rows, &Stop::default())
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

    /// Rows of two: what every float becomes, and what it becomes among more than four.
    #[expect(clippy::unnecessary_wraps, reason = "what a model gives")]
    fn pairs_of(
        x: &[f32],
        alone: fn(f32) -> [f32; 2],
        among: fn(f32) -> [f32; 2],
    ) -> Result<(Vec<i64>, Vec<f32>), RunError> {
        let row = if x.len() > 4 { among } else { alone };
        Ok((vec![dimension(x.len()), 2], x.iter().flat_map(|x| row(*x)).collect()))
    }

    #[test]
    fn infinity_is_no_number_that_is_close_to_another() {
        let mixed = Verdict::Mixed("y".to_owned());
        assert_eq!(verdict(|x| pairs_of(x, |x| [x, x], |x| [x, f32::INFINITY]), 32), mixed);
        assert_eq!(verdict(|x| pairs_of(x, |x| [x, f32::NEG_INFINITY], |x| [x, x]), 32), mixed);
        assert_eq!(verdict(|x| pairs_of(x, |x| [x, f32::INFINITY], |x| [x, f32::INFINITY]), 32), Verdict::Apart);
    }

    #[test]
    fn large_values_in_one_place_excuse_nothing_in_another() {
        let mixed = Verdict::Mixed("y".to_owned());
        assert_eq!(verdict(|x| pairs_of(x, |x| [f32::MIN, x], |x| [f32::MIN, x + 0.1]), 32), mixed);
        // Even where they differ a little themselves, as boxes in pixels do beside their scores.
        let boxes = |x: &[f32]| pairs_of(x, |x| [x * 1e6, x], |x| [x * (1e6 + 1.0), x + 0.1]);
        assert_eq!(verdict(boxes, 32), mixed);
        // Some rows are masked.
        let masked = |x: &[f32]| {
            let shift = x.len() as f32 / 100.0;
            rows_of(x.iter().map(|x| if *x > 0.0 { f32::MIN } else { x + shift }).collect())
        };
        assert_eq!(verdict(masked, 32), mixed);
        // What cancels out has noise of the size of what it came from.
        let noise = |x: &[f32]| {
            let alone = |x: f32| [x, if x.abs() < 0.3 { 0.0 } else { x }];
            let among = |x: f32| [x, if x.abs() < 0.3 { 1e-6 } else { x * 1.000_001 }];
            pairs_of(x, alone, among)
        };
        assert_eq!(verdict(noise, 32), Verdict::Apart);
    }

    #[test]
    fn an_output_that_is_the_same_for_all_rows_shows_nothing() {
        let same = Verdict::Unknown("output `y` is the same for all made-up rows".to_owned());
        assert_eq!(verdict(|x| rows_of(vec![1.0; x.len()]), 32), same);
        assert_eq!(verdict(|x| rows_of(vec![f32::NAN; x.len()]), 32), same);
        assert_eq!(verdict(|x| rows_of(x.iter().map(|x| (x / 0.0).abs()).collect()), 32), same);
        assert_eq!(verdict(|x| rows_of(x.iter().map(|x| 1.0 - 1e-6 * x).collect()), 32), same);
    }

    /// Gives back what it got; in the run of this number the time is up.
    struct Slow(usize);

    impl Session for Slow {
        fn run(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError> {
            if self.0 == 0 {
                stop.raise();
                return Err(RunError("terminated".to_owned()));
            }
            self.0 -= 1;
            Ok(vec![Tensor { name: "y".to_owned(), ..inputs[0].clone() }])
        }
    }

    #[test]
    fn what_takes_too_long_is_unknown_in_whatever_run() {
        let late = Verdict::Unknown("took too long".to_owned());
        for run in 0..9 {
            assert_eq!(rows_stay_apart(&mut Slow(run), &manifest(), 32, &Stop::default()), late, "run {run}");
        }
        assert_eq!(rows_stay_apart(&mut Slow(9), &manifest(), 32, &Stop::default()), Verdict::Apart);
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
