//! The first runs of a model: one of every size that it will see, so that memory is there, kernels are chosen, and the
//! cost of a run is known before the first caller waits for one.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::batch;
use crate::manifest::{Manifest, TensorEntry};
use crate::rows;
use crate::session::{RunError, Session, Stop};
use crate::tensor::{DataType, Tensor, dimension};

/// No more repetitions after this. A first pass over all sizes is always made: it takes about half a second for a
/// 22-million-parameter encoder on two cores.
const BUDGET: Duration = Duration::from_millis(700);

/// Repetitions of each size while the budget lasts; the fastest counts, since noise only adds.
const REPEATS: usize = 3;

/// Runs all sizes and gives `(units, milliseconds)` for each, by rising units.
pub(crate) fn sweep(
    session: &mut dyn Session,
    manifest: &Manifest,
    batch_units: usize,
) -> Result<Vec<(usize, f64)>, RunError> {
    let started = Instant::now();
    let mut points = Vec::new();
    for (units, inputs) in sizes(manifest, batch_units) {
        let mut fastest = Duration::MAX;
        for repeat in 0..REPEATS {
            if repeat > 0 && started.elapsed() > BUDGET {
                break;
            }
            let run = Instant::now();
            session.run(&inputs, &Stop::default())?;
            fastest = fastest.min(run.elapsed());
        }
        points.push((units, fastest.as_secs_f64() * 1e3));
    }
    Ok(points)
}

/// Runs the largest size only: enough for the second executor of a model that was measured on the first.
pub(crate) fn touch(session: &mut dyn Session, manifest: &Manifest, batch_units: usize) -> Result<(), RunError> {
    let largest = sizes(manifest, batch_units).pop();
    largest.map_or(Ok(()), |(_, inputs)| session.run(&inputs, &Stop::default()).map(|_| ()))
}

/// Inputs of every size with their units, by rising units.
fn sizes(manifest: &Manifest, batch_units: usize) -> Vec<(usize, Vec<Tensor>)> {
    let Some(tokenizer) = &manifest.tokenizer else {
        let rows = if manifest.batches() { batch_units.max(1) } else { 1 };
        let steps = std::iter::successors(Some(1usize), |rows| rows.checked_mul(2)).take_while(|step| *step < rows);
        return steps.chain([rows]).map(|rows| (rows, blank(&manifest.inputs, rows))).collect();
    };
    let longest = tokenizer.max_tokens;
    let singles = batch::buckets(longest).map(|length| (1, length));
    let full = Some((batch_units / longest, longest)).filter(|(rows, _)| *rows > 1);
    singles
        .chain(full)
        .map(|(rows, length)| {
            let ids = vec![tokenizer.pad_id; length];
            (rows * length, rows::pad(&vec![&ids[..]; rows], tokenizer, &manifest.inputs))
        })
        .collect()
}

/// Zeros or empty strings, with `rows` for a free first dimension and 1 for every other free one.
fn blank(inputs: &[TensorEntry], rows: usize) -> Vec<Tensor> {
    let blank = |entry: &TensorEntry| {
        let sizes = entry.shape.iter().enumerate();
        let shape: Vec<i64> = sizes
            .map(|(at, size)| {
                if *size != -1 {
                    *size
                } else if at == 0 {
                    dimension(rows)
                } else {
                    1
                }
            })
            .collect();
        let tensor = Tensor { name: entry.name.clone(), datatype: entry.datatype, shape, data: Bytes::new() };
        // An empty string is its length, four zero bytes.
        let width = if entry.datatype == DataType::Bytes { Some(4) } else { entry.datatype.size() };
        let length = tensor.elements().zip(width).and_then(|(elements, width)| elements.checked_mul(width));
        Tensor { data: vec![0; length.unwrap_or(0)].into(), ..tensor }
    };
    inputs.iter().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn units(manifest: &serde_json::Value, batch_units: usize) -> Vec<usize> {
        let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
        sizes(&manifest, batch_units).into_iter().map(|(units, _)| units).collect()
    }

    #[test]
    fn a_text_model_is_run_at_every_bucket_and_at_a_full_batch() {
        let manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "text", "model": "f",
            "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
            "tokenizer": {"file": "f", "max_tokens": 100, "vocab_size": 9, "pad_id": 0},
            "inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        assert_eq!(units(&manifest, 1024), [8, 16, 32, 64, 100, 1000]);
        assert_eq!(units(&manifest, 150), [8, 16, 32, 64, 100]);
    }

    #[test]
    fn a_tensors_model_is_run_by_rows_if_it_has_any() {
        let manifest = |shape| {
            json!({
                "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "f",
                "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
                "inputs": [{"name": "x", "datatype": "BYTES", "shape": shape}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
                "licence": "Apache-2.0", "source": "made for tests",
            })
        };
        assert_eq!(units(&manifest(json!([-1, 2])), 6), [1, 2, 4, 6]);
        assert_eq!(units(&manifest(json!([3])), 6), [1]);
        let manifest = Manifest::parse(manifest(json!([-1, 2])).to_string().as_bytes()).unwrap();
        let inputs = sizes(&manifest, 6).pop().unwrap().1;
        assert_eq!(inputs[0].to_strings().unwrap().len(), 12);
    }
}
