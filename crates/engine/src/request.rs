//! Checks raw tensors from a caller against the manifest, and says how they may be batched. Every number in here was
//! chosen by somebody else: products are checked, nothing is indexed.

use std::sync::Arc;

use crate::batch::Extent;
use crate::error::Error;
use crate::manifest::{Manifest, TensorEntry, TokenizerEntry};
use consilium_tensor::{DataType, Tensor, dimension, strings_in};

/// Product of the other dimensions where one is 0.
const MOST_BESIDE_ZERO: i64 = 1 << 24;

/// The tensors in the manifest's order, and their extent. `joins`: requests of this model may run together. An optional
/// input that is not given is left out.
///
/// `Err(Invalid)` for a missing, unknown or repeated name, a wrong datatype, rank or size, a dimension below 0 (of a text
/// model below 1), data of another length than the shape says, strings that are not text, and token ids outside the
/// vocabulary.
pub(crate) fn check(tensors: Vec<Tensor>, manifest: &Manifest, joins: bool) -> Result<(Vec<Tensor>, Extent), Error> {
    let mut places: Vec<Option<Tensor>> = manifest.inputs.iter().map(|_| None).collect();
    for (at, tensor) in tensors.into_iter().enumerate() {
        let place = manifest.inputs.iter().zip(&mut places).find(|(entry, _)| entry.name == tensor.name);
        match place {
            Some((_, place @ None)) => *place = Some(tensor),
            Some((entry, Some(_))) => return Err(Error::invalid(format!("inputs[{}]", entry.name), "given twice")),
            None => {
                let names: Vec<&str> = manifest.inputs.iter().map(|entry| entry.name.as_str()).collect();
                let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let problem = format!("no input of this model, which takes {takes}");
                return Err(Error::invalid(format!("inputs[{at}].name"), problem));
            }
        }
    }
    let smallest = i64::from(manifest.tokenizer.is_some());
    let mut optional = false;
    let mut checked = Vec::with_capacity(places.len());
    for (entry, place) in manifest.inputs.iter().zip(places) {
        if place.is_none() && entry.optional {
            continue;
        }
        let tensor = place.ok_or_else(|| Error::invalid(format!("inputs[{}]", entry.name), "missing"))?;
        check_tensor(&tensor, entry, smallest)?;
        optional |= entry.optional;
        if let Some(tokenizer) = manifest.tokenizer.as_ref().filter(|_| entry.name == "input_ids") {
            check_ids(&tensor, tokenizer)?;
        }
        checked.push(tensor);
    }
    if manifest.tokenizer.is_some() {
        check_alike(&checked)?;
    }
    let mut extent = extent(&checked, manifest);
    // That rows stay apart was shown without the optional inputs.
    extent.group.take_if(|_| !joins || optional);
    Ok((checked, extent))
}

/// A text model's inputs describe the same rows of tokens. Shapes that merely broadcast would make the model compute
/// far more than the ids say, and the ids are what a request is measured by.
fn check_alike(tensors: &[Tensor]) -> Result<(), Error> {
    let Some(first) = tensors.first() else { return Ok(()) };
    match tensors.iter().find(|tensor| tensor.shape != first.shape) {
        Some(other) => {
            let problem = format!("{:?}, but `{}` is {:?}", other.shape, first.name, first.shape);
            Err(Error::invalid(format!("inputs[{}].shape", other.name), problem))
        }
        None => Ok(()),
    }
}

fn check_tensor(tensor: &Tensor, entry: &TensorEntry, smallest: i64) -> Result<(), Error> {
    let invalid =
        |field: &str, problem: String| Err(Error::invalid(format!("inputs[{}].{field}", entry.name), problem));
    if tensor.datatype != entry.datatype {
        return invalid("datatype", format!("expected {}, got {}", entry.datatype, tensor.datatype));
    }
    if tensor.shape.len() != entry.shape.len() && !entry.any_rank {
        return invalid("shape", format!("expected {} dimensions, got {}", entry.shape.len(), tensor.shape.len()));
    }
    // Where any rank will do, so will any size.
    let expected = entry.shape.iter().copied().chain(std::iter::repeat(-1));
    for (at, (&got, expected)) in tensor.shape.iter().zip(expected).enumerate() {
        if got < smallest {
            return invalid("shape", format!("dimension {at} is {got}, expected at least {smallest}"));
        }
        if expected != -1 && got != expected {
            return invalid("shape", format!("dimension {at} is {got}, expected {expected}"));
        }
    }
    let Some(elements) = tensor.elements() else {
        return invalid("shape", "more elements than can be counted".to_owned());
    };
    // A sum over the rows of no rows is as large as a row: no bytes came in, and any number would come out.
    let beside = || tensor.shape.iter().try_fold(1, |product: i64, size| product.checked_mul((*size).max(1)));
    if elements == 0 && beside().is_none_or(|product| product > MOST_BESIDE_ZERO) {
        return invalid("shape", format!("more than {MOST_BESIDE_ZERO} elements but for a dimension of 0"));
    }
    match entry.datatype.size() {
        Some(size) if elements.checked_mul(size) != Some(tensor.data.len()) => {
            invalid("data", format!("{} bytes for {elements} elements of {size} bytes", tensor.data.len()))
        }
        Some(_) => Ok(()),
        None => check_strings(&tensor.data, elements).or_else(|problem| invalid("data", problem)),
    }
}

/// One pass and no allocation: a request of a few megabytes may hold a million strings.
fn check_strings(data: &[u8], elements: usize) -> Result<(), String> {
    let mut found = 0usize;
    let mut text = true;
    for string in strings_in(data) {
        let string = string.ok_or("the lengths do not add up")?;
        found += 1;
        // ONNX Runtime takes strings as UTF-8 up to the first NUL.
        text &= !string.contains(&0) && std::str::from_utf8(string).is_ok();
    }
    if found != elements {
        return Err(format!("{found} strings for {elements} elements"));
    }
    if text { Ok(()) } else { Err("a string that is not UTF-8 or contains NUL".to_owned()) }
}

/// Ids from outside are as little trusted as any other number: a GPU kernel reads whatever lies beyond the table.
fn check_ids(ids: &Tensor, tokenizer: &TokenizerEntry) -> Result<(), Error> {
    if ids.shape.last().is_some_and(|length| usize::try_from(*length).is_ok_and(|length| length > tokenizer.max_tokens))
    {
        let problem = format!("longer than the {} tokens that the model takes", tokenizer.max_tokens);
        return Err(Error::invalid("inputs[input_ids].shape", problem));
    }
    let known = |id: i64| u32::try_from(id).is_ok_and(|id| id < tokenizer.vocab_size);
    let all_known = match ids.datatype {
        DataType::Int32 => ids.data.as_chunks().0.iter().all(|id| known(i64::from(i32::from_le_bytes(*id)))),
        _ => ids.data.as_chunks().0.iter().all(|id| known(i64::from_le_bytes(*id))),
    };
    if all_known { Ok(()) } else { Err(Error::invalid("inputs[input_ids].data", "an id outside the vocabulary")) }
}

/// What an element of a string costs beside its bytes, once it is a Rust string, a C one, and ONNX Runtime's own.
const STRING_BYTES: usize = 100;

/// Rows are the first dimension. Requests can be joined when it is free everywhere, all inputs agree on it, and all other
/// dimensions are equal: those make up the key. Rows without elements are none: they cost nothing to send, so a request
/// must not be measured by them.
fn extent(tensors: &[Tensor], manifest: &Manifest) -> Extent {
    let size = |tensor: &Tensor, at: usize| tensor.shape.get(at).and_then(|size| usize::try_from(*size).ok());
    let rows = tensors.iter().find(|tensor| !tensor.data.is_empty()).and_then(|tensor| size(tensor, 0));
    let rows = rows.filter(|_| manifest.batches());
    // Tokens are the unit of a text model; its inputs are rows × tokens.
    let length = tensors.first().filter(|_| manifest.tokenizer.is_some()).and_then(|tensor| size(tensor, 1));
    let agree = rows.is_some() && tensors.iter().all(|tensor| size(tensor, 0) == rows);
    let key = || -> Arc<[i64]> {
        // Each shape behind its rank, so that no two different lists of shapes read the same.
        let shapes =
            tensors.iter().map(|tensor| (dimension(tensor.shape.len()), tensor.shape.get(1..).unwrap_or_default()));
        shapes.flat_map(|(rank, inner)| [rank].into_iter().chain(inner.iter().copied())).collect()
    };
    Extent {
        rows: rows.unwrap_or(1),
        length: length.unwrap_or(1),
        bytes: tensors.iter().map(held).sum(),
        group: agree.then(key),
    }
}

/// Bytes of memory.
fn held(tensor: &Tensor) -> usize {
    let strings = if tensor.datatype == DataType::Bytes { tensor.elements().unwrap_or(0) } else { 0 };
    tensor.data.len().saturating_add(strings.saturating_mul(STRING_BYTES))
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn manifest(inputs: &serde_json::Value) -> Manifest {
        let text = inputs[0]["name"] == "input_ids";
        let mut manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "model.onnx",
            "files": [{"path": "model.onnx", "size": 1, "sha256": "a".repeat(64)}],
            "inputs": inputs, "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        if text {
            manifest["kind"] = json!("text");
            manifest["tokenizer"] = json!({"file": "model.onnx", "max_tokens": 4, "vocab_size": 100, "pad_id": 0});
        }
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    fn two_floats() -> Manifest {
        manifest(&json!([
            {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "b", "datatype": "FP32", "shape": [-1, 2]},
        ]))
    }

    fn floats(name: &str, rows: i64) -> Tensor {
        Tensor::fp32(name, vec![rows, 2], &vec![0.0; rows as usize * 2])
    }

    /// The field and the problem.
    fn refusal(tensors: Vec<Tensor>, manifest: &Manifest) -> (String, String) {
        match check(tensors, manifest, true) {
            Err(Error::Invalid { field, problem }) => (field, problem),
            other => panic!("should be refused: {other:?}"),
        }
    }

    #[test]
    fn inputs_come_back_in_the_models_order_and_can_be_joined() {
        let (tensors, extent) = check(vec![floats("b", 3), floats("a", 3)], &two_floats(), true).unwrap();
        assert_eq!(tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((extent.rows, extent.length, extent.group.as_deref()), (3, 1, Some(&[2, 2, 2, 2][..])));
    }

    #[test]
    fn inputs_that_disagree_on_the_first_dimension_run_alone() {
        let (_, extent) = check(vec![floats("a", 3), floats("b", 1)], &two_floats(), true).unwrap();
        assert_eq!(extent.group, None);
    }

    #[test]
    fn no_rows_are_a_request_of_their_own() {
        let (_, extent) = check(vec![floats("a", 0), floats("b", 0)], &two_floats(), true).unwrap();
        assert_eq!((extent.units(), extent.bytes, extent.group), (1, 0, None));
        let (_, extent) = check(vec![floats("a", 2), floats("b", 2)], &two_floats(), true).unwrap();
        assert_eq!((extent.units(), extent.bytes), (2, 32));
    }

    #[test]
    fn rows_without_elements_cost_nothing() {
        let free = json!({"name": "a", "datatype": "FP32", "shape": [-1, -1]});
        let nothing = || Tensor { shape: vec![1 << 24, 0], ..Tensor::fp32("a", vec![], &[]) };
        let (_, extent) = check(vec![nothing()], &manifest(&json!([free])), true).unwrap();
        assert_eq!((extent.units(), extent.group), (1, None));
        // Nor do they beside an input that has some.
        let model = manifest(&json!([free, {"name": "b", "datatype": "FP32", "shape": [-1, 2]}]));
        let (_, extent) = check(vec![nothing(), floats("b", 3)], &model, true).unwrap();
        assert_eq!((extent.units(), extent.group), (3, None));
        let none = Tensor { shape: vec![3, 0], ..nothing() };
        let (_, extent) = check(vec![none, floats("b", 3)], &model, true).unwrap();
        assert_eq!((extent.units(), extent.group.as_deref()), (3, Some(&[2, 0, 2, 2][..])));
    }

    #[test]
    fn a_string_costs_more_than_its_bytes() {
        let model = manifest(&json!([{"name": "s", "datatype": "BYTES", "shape": [-1]}]));
        let (_, extent) = check(vec![Tensor::strings("s", vec![3], &["", "", "ok"])], &model, true).unwrap();
        assert_eq!(extent.bytes, 3 * (4 + STRING_BYTES) + 2);
    }

    #[test]
    fn a_model_that_does_not_join_has_no_groups() {
        let (_, extent) = check(vec![floats("a", 3), floats("b", 3)], &two_floats(), false).unwrap();
        assert_eq!((extent.rows, extent.group), (3, None));
    }

    #[test]
    fn optional_inputs_may_be_left_out_and_run_alone_when_given() {
        let mut model = two_floats();
        model.inputs[0].optional = true;
        let (tensors, extent) = check(vec![floats("b", 3)], &model, true).unwrap();
        assert_eq!((tensors.len(), extent.group.as_deref()), (1, Some(&[2, 2][..])));
        let (tensors, extent) = check(vec![floats("b", 3), floats("a", 3)], &model, true).unwrap();
        assert_eq!((tensors.len(), extent.group), (2, None));
        assert_eq!(refusal(vec![floats("a", 1)], &model), ("inputs[b]".into(), "missing".into()));
    }

    #[test]
    fn any_rank_is_any_shape_and_a_scalar_is_a_scalar() {
        let mut model = manifest(&json!([{"name": "a", "datatype": "FP32", "shape": []}]));
        let of = |shape: &[i64]| {
            let elements = if shape.contains(&0) { 0 } else { shape.iter().product::<i64>().max(0) as usize };
            vec![Tensor::fp32("a", shape.to_vec(), &vec![0.0; elements])]
        };
        assert!(check(of(&[]), &model, false).is_ok());
        assert_eq!(refusal(of(&[1]), &model).0, "inputs[a].shape");
        model.inputs[0].any_rank = true;
        for shape in [&[][..], &[0], &[3], &[2, 0, 5], &[1, 1, 1, 1, 2]] {
            let (_, extent) = check(of(shape), &model, true).unwrap();
            assert_eq!((extent.units(), extent.group), (1, None), "{shape:?}");
        }
        for shape in [&[0, i64::MAX][..], &[1 << 20, 0, 1 << 20], &[0, i64::MAX, i64::MAX]] {
            assert_eq!(refusal(of(shape), &model).0, "inputs[a].shape", "{shape:?}");
        }
        assert_eq!(refusal(of(&[2, -1]), &model).0, "inputs[a].shape");
    }

    #[test]
    fn wrong_names_are_refused() {
        let model = two_floats();
        assert_eq!(refusal(vec![floats("a", 1)], &model), ("inputs[b]".into(), "missing".into()));
        assert_eq!(refusal(vec![floats("a", 1), floats("a", 1)], &model).0, "inputs[a]");
        let (field, problem) = refusal(vec![floats("secret name", 1)], &model);
        assert_eq!(field, "inputs[0].name");
        assert!(problem.contains("a, b") && !problem.contains("secret"), "{problem}");
    }

    #[test]
    fn wrong_shapes_and_sizes_are_refused() {
        let model = two_floats();
        let with_shape = |shape: &[i64]| vec![Tensor { shape: shape.to_vec(), ..floats("a", 1) }, floats("b", 1)];
        for shape in [&[][..], &[1], &[1, 3], &[-1, 2], &[i64::MIN, 2], &[i64::MAX, 2], &[1, 2, 1]] {
            let (field, _) = refusal(with_shape(shape), &model);
            // The largest number of rows is countable; what does not fit it then is the data.
            assert!(
                field == "inputs[a].shape" || (shape == [i64::MAX, 2] && field == "inputs[a].data"),
                "{shape:?}: {field}"
            );
        }
        for length in [0, 7, 9] {
            let data = Bytes::from(vec![0; length]);
            let tensors = vec![Tensor { data, ..floats("a", 1) }, floats("b", 1)];
            assert_eq!(refusal(tensors, &model).0, "inputs[a].data");
        }
        let tensors = vec![Tensor { datatype: DataType::Int32, ..floats("a", 1) }, floats("b", 1)];
        assert_eq!(refusal(tensors, &model), ("inputs[a].datatype".into(), "expected FP32, got INT32".into()));
    }

    #[test]
    fn a_product_of_dimensions_that_overflows_is_refused() {
        let model = manifest(&json!([{"name": "a", "datatype": "FP32", "shape": [-1, -1, -1]}]));
        let tensor = Tensor { shape: vec![i64::MAX, i64::MAX, 2], ..Tensor::fp32("a", vec![], &[0.0]) };
        assert_eq!(refusal(vec![tensor], &model).0, "inputs[a].shape");
    }

    #[test]
    fn strings_must_be_whole_and_text() {
        let model = manifest(&json!([{"name": "s", "datatype": "BYTES", "shape": [-1]}]));
        assert!(check(vec![Tensor::strings("s", vec![2], &["", "ok"])], &model, true).is_ok());
        for bad in [
            Tensor::strings("s", vec![2], &["only one"]),
            Tensor::strings("s", vec![1], &[b"\xff"]),
            Tensor::strings("s", vec![1], &["nul \0"]),
            Tensor { data: Bytes::from_static(&[9, 0, 0, 0, b'x']), ..Tensor::strings::<&str>("s", vec![1], &[]) },
        ] {
            assert_eq!(refusal(vec![bad], &model).0, "inputs[s].data");
        }
    }

    #[test]
    fn token_ids_are_checked_against_the_vocabulary() {
        let model = manifest(&json!([{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}]));
        let ids = |ids: &[i64]| vec![Tensor::int64("input_ids", vec![1, dimension(ids.len())], ids)];
        let (_, extent) = check(ids(&[0, 99, 5]), &model, true).unwrap();
        assert_eq!((extent.rows, extent.length), (1, 3));
        for bad in [&[100][..], &[-1], &[i64::MAX], &[0, 1 << 32]] {
            assert_eq!(refusal(ids(bad), &model).0, "inputs[input_ids].data");
        }
        assert_eq!(refusal(ids(&[1; 5]), &model).0, "inputs[input_ids].shape");
        assert_eq!(refusal(ids(&[]), &model).0, "inputs[input_ids].shape", "a text has a token at least");
    }

    #[test]
    fn a_text_models_inputs_have_one_shape() {
        let inputs = json!([
            {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        ]);
        let ask = |mask: Vec<i64>| {
            let ones = vec![1; usize::try_from(mask.iter().product::<i64>()).unwrap()];
            let tensors =
                vec![Tensor::int64("input_ids", vec![1, 2], &[1, 2]), Tensor::int64("attention_mask", mask, &ones)];
            check(tensors, &manifest(&inputs), true)
        };
        ask(vec![1, 2]).unwrap();
        for broadcast in [vec![5, 1], vec![1, 1], vec![5, 2]] {
            let error = ask(broadcast).unwrap_err();
            assert!(
                matches!(&error, Error::Invalid { field, .. } if field == "inputs[attention_mask].shape"),
                "{error}"
            );
        }
    }
}
