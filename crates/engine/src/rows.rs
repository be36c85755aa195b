//! Many requests into one batch of tensors, and the batch's outputs back to each request. Pure.

use bytes::{Bytes, BytesMut};

use crate::manifest::{TensorEntry, TokenizerEntry};
use consilium_tensor::{DataType, Tensor, dimension};

/// The inputs of a text model for some token sequences, each padded to the longest.
pub(crate) fn pad(sequences: &[&[u32]], tokenizer: &TokenizerEntry, inputs: &[TensorEntry]) -> Vec<Tensor> {
    let longest = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
    let shape = vec![dimension(sequences.len()), dimension(longest)];
    let fill = |input: &TensorEntry, real: fn(u32) -> u32, padding: u32| {
        let width = input.datatype.size().unwrap_or(8);
        let mut data = BytesMut::with_capacity(sequences.len() * longest * width);
        for ids in sequences {
            let padding = std::iter::repeat_n(padding, longest - ids.len());
            for value in ids.iter().copied().map(real).chain(padding) {
                // Little-endian: the first bytes of the 64-bit number are the narrower number.
                data.extend_from_slice(u64::from(value).to_le_bytes().get(..width).unwrap_or_default());
            }
        }
        Tensor { name: input.name.clone(), datatype: input.datatype, shape: shape.clone(), data: data.freeze() }
    };
    inputs
        .iter()
        .map(|input| match input.name.as_str() {
            "input_ids" => fill(input, |id| id, tokenizer.pad_id),
            "attention_mask" => fill(input, |_| 1, 0),
            // token_type_ids: one segment only.
            _ => fill(input, |_| 0, 0),
        })
        .collect()
}

/// Joins requests along the first dimension. They must have the same names, datatypes and other dimensions, in the
/// same order, as the queue's groups ensure; a request by itself passes through without a copy.
pub(crate) fn join(requests: &[&[Tensor]]) -> Vec<Tensor> {
    let [first, _, ..] = requests else {
        return requests.first().map(|only| only.to_vec()).unwrap_or_default();
    };
    let join_input = |at: usize, like: &Tensor| {
        let parts = || requests.iter().filter_map(|request| request.get(at));
        let mut data = BytesMut::with_capacity(parts().map(|part| part.data.len()).sum());
        parts().for_each(|part| data.extend_from_slice(&part.data));
        let rows = parts().filter_map(|part| part.shape.first()).sum();
        let shape = [rows].into_iter().chain(like.shape.iter().skip(1).copied()).collect();
        Tensor { name: like.name.clone(), datatype: like.datatype, shape, data: data.freeze() }
    };
    first.iter().enumerate().map(|(at, like)| join_input(at, like)).collect()
}

/// Deals the outputs of a joined batch back: `rows` of each request, in the order of the batch. The data is shared, not
/// copied. `None` when an output does not have exactly the rows of the batch: it cannot be said whose they are.
pub(crate) fn split(outputs: &[Tensor], rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let total: usize = rows.iter().sum();
    let mut dealt = vec![Vec::with_capacity(outputs.len()); rows.len()];
    for output in outputs {
        let (first, inner) = output.shape.split_first()?;
        if usize::try_from(*first) != Ok(total) {
            return None;
        }
        let per_row: usize = inner.iter().try_fold(1usize, |n, size| n.checked_mul(usize::try_from(*size).ok()?))?;
        let mut rest = output.data.clone();
        for (request, rows) in dealt.iter_mut().zip(rows) {
            let length = bytes_of(output.datatype, per_row.checked_mul(*rows)?, &rest)?;
            let shape = [dimension(*rows)].into_iter().chain(inner.iter().copied()).collect();
            let data = rest.split_to(length);
            request.push(Tensor { name: output.name.clone(), datatype: output.datatype, shape, data });
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(dealt)
}

/// Length in bytes of the first `elements` elements of `data`; `None` when it has fewer.
fn bytes_of(datatype: DataType, elements: usize, data: &Bytes) -> Option<usize> {
    let length = match datatype.size() {
        Some(size) => elements.checked_mul(size)?,
        None => (0..elements).try_fold(0usize, |at, _| {
            let length = data.get(at..)?.first_chunk::<4>().copied().map(u32::from_le_bytes)?;
            at.checked_add(4)?.checked_add(usize::try_from(length).ok()?)
        })?,
    };
    (length <= data.len()).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, datatype: DataType) -> TensorEntry {
        TensorEntry { name: name.to_owned(), datatype, shape: vec![-1, -1], optional: false, any_rank: false }
    }

    #[test]
    fn short_rows_are_padded_and_masked() {
        let tokenizer = TokenizerEntry { file: String::new(), max_tokens: 8, vocab_size: 10, pad_id: 9 };
        let inputs = [
            entry("input_ids", DataType::Int64),
            entry("attention_mask", DataType::Int32),
            entry("token_type_ids", DataType::Int64),
        ];
        let padded = pad(&[&[1, 2, 3], &[4]], &tokenizer, &inputs);
        assert_eq!(padded[0], Tensor::int64("input_ids", vec![2, 3], &[1, 2, 3, 4, 9, 9]));
        let mask: Vec<u8> = [1i32, 1, 1, 1, 0, 0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!((padded[1].datatype, &padded[1].data[..]), (DataType::Int32, &mask[..]));
        assert_eq!(padded[2], Tensor::int64("token_type_ids", vec![2, 3], &[0; 6]));
    }

    #[test]
    fn outputs_with_other_rows_than_the_batch_are_refused() {
        let output = Tensor::fp32("y", vec![3, 2], &[0.0; 6]);
        assert!(split(std::slice::from_ref(&output), &[1, 1]).is_none());
        assert!(split(&[Tensor { shape: vec![], ..output.clone() }], &[1]).is_none());
        // A shape that promises more than the data holds.
        assert!(split(&[Tensor { shape: vec![2, 9], ..output }], &[1, 1]).is_none());
    }

    #[test]
    fn strings_are_dealt_by_element() {
        let output = Tensor::strings("y", vec![3], &["a", "", "ccc"]);
        let dealt = split(&[output], &[2, 1]).unwrap();
        assert_eq!(dealt[0][0], Tensor::strings("y", vec![2], &["a", ""]));
        assert_eq!(dealt[1][0], Tensor::strings("y", vec![1], &["ccc"]));
    }

    proptest! {
        /// A model that gives back what it got must give every caller back its own.
        #[test]
        fn what_is_joined_is_dealt_back_unchanged(requests in prop::collection::vec((1usize..5, any::<i64>()), 1..8)) {
            let requests: Vec<Vec<Tensor>> = requests
                .iter()
                .map(|&(rows, seed)| {
                    let values: Vec<i64> = (0..dimension(rows) * 2).map(|at| seed.wrapping_add(at)).collect();
                    let words: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
                    let shape = vec![dimension(rows), 2];
                    vec![Tensor::int64("a", shape.clone(), &values), Tensor::strings("b", shape, &words)]
                })
                .collect();
            let rows: Vec<usize> = requests.iter().map(|request| request[0].shape[0] as usize).collect();
            let batch = join(&requests.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(batch[0].shape[0] as usize, rows.iter().sum::<usize>());
            prop_assert_eq!(split(&batch, &rows), Some(requests));
        }
    }
}
