//! A table with a vector for each token, from which a text gets a vector without a run of the model. What the text's
//! tokens are is `tokenize`'s matter.

use bytemuck::cast_slice;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::manifest::TokensEntry;
use crate::tokenize::Tokenizer;

/// Longest text that is looked at. Of a kind that `wordpiece` does not know it takes 2.5 ms.
const MOST_BYTES: usize = 4096;

/// Directions as bytes, and for each row what one unit of it is worth, the weight of its token included.
#[derive(Debug)]
pub(crate) struct TokenTable {
    /// Row-major.
    rows: Box<[i8]>,
    /// Finite, not negative; 0 for tokens that say nothing.
    scales: Box<[f32]>,
    columns: usize,
}

impl TokenTable {
    /// Reads a safetensors file with `rows`, I8 of `[rows, columns]`, and `scales`, F32 of `[rows]`, and nothing else. `Err`
    /// says what of it is not as the manifest says.
    pub(crate) fn from_bytes(bytes: &[u8], entry: &TokensEntry) -> Result<Self, String> {
        let TokensEntry { file, rows, columns } = entry;
        let vectors = usize::try_from(*rows).unwrap_or(usize::MAX);
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| format!("{file}: {error}"))?;
        if let Some(name) = tensors.names().into_iter().find(|name| !["rows", "scales"].contains(name)) {
            return Err(format!("{file}: has a tensor `{name}`; expected `rows` and `scales`"));
        }
        let tensor = |name: &str, datatype: Dtype, shape: &[usize]| -> Result<TensorView<'_>, String> {
            let tensor = tensors.tensor(name).map_err(|_| format!("{file}: has no tensor `{name}`"))?;
            if tensor.dtype() == datatype && tensor.shape() == shape {
                return Ok(tensor);
            }
            let (found, size) = (tensor.dtype(), tensor.shape());
            Err(format!("{file}: `{name}` is {found:?} of {size:?}; expected {datatype:?} of {shape:?}"))
        };
        let rows = tensor("rows", Dtype::I8, &[vectors, *columns])?;
        let scales = tensor("scales", Dtype::F32, &[vectors])?;
        let scales: Box<[f32]> = scales.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // Not a number is not at least zero either.
        if let Some(row) = scales.iter().position(|scale| !(scale.is_finite() && *scale >= 0.0)) {
            return Err(format!("{file}: scale {row} is not finite or below 0"));
        }
        Ok(Self { rows: cast_slice(rows.data()).into(), scales, columns: *columns })
    }

    /// The vector of a text; `None` as [`vector`](Self::vector), and where the text is too long.
    pub(crate) fn read(&self, text: &str, tokenizer: &Tokenizer) -> Option<Vec<f32>> {
        if text.len() > MOST_BYTES {
            return None;
        }
        self.vector(&tokenizer.plain_ids(text)?)
    }

    /// The sum of the tokens' vectors, each as often as it occurs, at unit length; `None` if that is no direction.
    fn vector(&self, ids: &[u32]) -> Option<Vec<f32>> {
        let mut sum = vec![0.0f32; self.columns];
        for id in ids {
            let id = *id as usize;
            let row = id.checked_mul(self.columns).and_then(|start| self.rows.get(start..start + self.columns));
            let (Some(row), Some(scale)) = (row, self.scales.get(id)) else { continue };
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += scale * f32::from(*value));
        }
        let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        // Scales are any finite number: their squares may be too large, or too small, for one.
        if !norm.is_normal() {
            return None;
        }
        for value in &mut sum {
            *value /= norm;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four rows of two columns.
    fn file(scales: &[f32], change: impl Fn(&str, &mut Dtype, &mut Vec<usize>)) -> Vec<u8> {
        let rows: [i8; 8] = [0, 0, 100, 0, 0, -100, 3, 4];
        let scales: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let view = |name, mut datatype, mut shape, data| {
            change(name, &mut datatype, &mut shape);
            (name, TensorView::new(datatype, shape, data).unwrap())
        };
        let tensors =
            [view("rows", Dtype::I8, vec![4, 2], cast_slice(&rows)), view("scales", Dtype::F32, vec![4], &scales[..])];
        safetensors::serialize(tensors, None).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<TokenTable, String> {
        TokenTable::from_bytes(bytes, &TokensEntry { file: "t".to_owned(), rows: 4, columns: 2 })
    }

    #[test]
    fn tokens_are_summed_by_their_scales_and_the_sum_is_a_direction() {
        let table = read(&file(&[9.0, 0.03, 0.02, 0.0], |_, _, _| {})).unwrap();
        assert_eq!(table.vector(&[1]), Some(vec![1.0, 0.0]));
        // 3 to the right and 2 × 2 down.
        let vector = table.vector(&[2, 1, 2]).unwrap();
        assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] + 0.8).abs() < 1e-6, "{vector:?}");
        // A row of zeros, one whose scale is zero, none at all, and an id that the table does not have.
        for nothing in [&[0][..], &[3, 3], &[], &[4], &[u32::MAX]] {
            assert_eq!(table.vector(nothing), None, "{nothing:?}");
        }
        assert_eq!(table.vector(&[4, 1, 3]), Some(vec![1.0, 0.0]));
    }

    #[test]
    fn scales_without_measure_give_no_vector() {
        let table = read(&file(&[1.0, f32::MAX, 1e-40, 1.0], |_, _, _| {})).unwrap();
        assert_eq!((table.vector(&[1]), table.vector(&[2])), (None, None));
    }

    #[test]
    fn what_is_not_as_the_manifest_says_is_refused_with_what_it_is() {
        let good = [1.0; 4];
        for (bytes, problem) in [
            (file(&[1.0, f32::NAN, 1.0, 1.0], |_, _, _| {}), "t: scale 1 is not finite or below 0"),
            (file(&[1.0, 1.0, f32::INFINITY, 1.0], |_, _, _| {}), "t: scale 2 is not finite or below 0"),
            (file(&[1.0, 1.0, 1.0, -0.5], |_, _, _| {}), "t: scale 3 is not finite or below 0"),
            (
                file(&good, |name, _, shape| *shape = if name == "rows" { vec![2, 4] } else { shape.clone() }),
                "t: `rows` is I8 of [2, 4]; expected I8 of [4, 2]",
            ),
            (
                file(&good, |name, datatype, _| *datatype = if name == "rows" { Dtype::U8 } else { *datatype }),
                "t: `rows` is U8 of [4, 2]; expected I8 of [4, 2]",
            ),
            (
                file(&good, |name, datatype, _| *datatype = if name == "scales" { Dtype::I32 } else { *datatype }),
                "t: `scales` is I32 of [4]; expected F32 of [4]",
            ),
        ] {
            assert_eq!(read(&bytes).unwrap_err(), problem);
        }
        let one = TensorView::new(Dtype::I8, vec![4, 2], &[0; 8]).unwrap();
        let missing = safetensors::serialize([("rows", one.clone())], None).unwrap();
        assert_eq!(read(&missing).unwrap_err(), "t: has no tensor `scales`");
        let other = safetensors::serialize([("weights", one)], None).unwrap();
        assert!(read(&other).unwrap_err().starts_with("t: has a tensor `weights`"));
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused() {
        let good = file(&[1.0; 4], |_, _, _| {});
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{end} bytes");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            // Data may be anything; what matters is that nothing panics.
            let _ = read(&bytes);
        }
    }
}
