//! A million requests that somebody else made: right ones, of which a few bytes, sizes, types or names were changed.
//! None may panic, and what is accepted must be as long as its shape says.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::made_up::Random;

const CASES: u32 = 1_000_000;

const DATATYPES: [DataType; 5] = [DataType::Bool, DataType::Bf16, DataType::Fp32, DataType::Uint64, DataType::Bytes];

/// Sizes that products and sums break on.
const NASTY: [i64; 8] = [0, -1, 1, i64::MAX, i64::MIN, 1 << 32, (1 << 62) + 1, 65_536];

/// One of every kind of input: batched, fixed, scalar, of any rank, optional.
fn model(text: bool) -> Manifest {
    let entry =
        |name: &str, datatype: DataType, shape: &[i64]| json!({"name": name, "datatype": datatype, "shape": shape});
    let mut manifest = json!({
        "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "f",
        "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
        "inputs": [
            entry("batched", DataType::Fp32, &[-1, -1]), entry("words", DataType::Bytes, &[-1]),
            entry("scalar", DataType::Bool, &[]), entry("any", DataType::Uint64, &[]),
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        "licence": "Apache-2.0", "source": "made for tests",
    });
    if text {
        manifest["kind"] = json!("text");
        manifest["tokenizer"] = json!({"file": "f", "max_tokens": 4, "vocab_size": 100, "pad_id": 0});
        manifest["inputs"] = json!([
            entry("input_ids", DataType::Int64, &[-1, -1]),
            entry("attention_mask", DataType::Int64, &[-1, -1]),
        ]);
    }
    let mut manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
    if let Some(any) = manifest.inputs.get_mut(3) {
        any.any_rank = true;
        any.optional = true;
    }
    manifest
}

fn right(entry: &TensorEntry, rows: i64, random: &mut Random) -> Tensor {
    let mut shape: Vec<i64> = entry.shape.iter().map(|_| 2).collect();
    if let Some(first) = shape.first_mut() {
        *first = rows;
    }
    if entry.any_rank {
        shape = (0..random.below(4)).map(|_| dimension(random.below(3))).collect();
    }
    let elements = shape.iter().product::<i64>() as usize;
    let data: Vec<u8> = match entry.datatype.size() {
        Some(size) => (0..elements * size).map(|at| u8::from(at % size == 0)).collect(),
        None => (0..elements).flat_map(|_| [2, 0, 0, 0, b'x', b'y']).collect(),
    };
    Tensor { name: entry.name.clone(), datatype: entry.datatype, shape, data: data.into() }
}

fn mutate(tensors: &mut Vec<Tensor>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(tensors.len());
        let Some(tensor) = tensors.get_mut(at) else { return };
        let mut data = tensor.data.to_vec();
        match random.below(9) {
            0 if !data.is_empty() => {
                let at = random.below(data.len());
                data[at] ^= 1 << random.below(8);
            }
            1 => data.truncate(random.below(data.len() + 1)),
            2 => data.extend_from_slice(&random.next().to_le_bytes()[..random.below(9)]),
            3 if !tensor.shape.is_empty() => {
                let at = random.below(tensor.shape.len());
                tensor.shape[at] = NASTY[random.below(NASTY.len())];
            }
            4 => tensor.shape.push(NASTY[random.below(NASTY.len())]),
            5 => tensor.datatype = DATATYPES[random.below(DATATYPES.len())],
            6 => tensor.name.push('x'),
            7 => drop(tensors.remove(at)),
            _ => {
                let twice = tensor.clone();
                tensors.push(twice);
            }
        }
        if let Some(tensor) = tensors.get_mut(at) {
            tensor.data = Bytes::from(data);
        }
    }
}

#[test]
fn no_request_makes_the_check_panic_and_what_it_accepts_is_whole() {
    let (mut random, models) = (Random::new(0x00c0_ffee), [model(false), model(true)]);
    let (mut accepted, mut refused) = (0u32, 0u32);
    for case in 0..CASES {
        let model = &models[case as usize % 2];
        let rows = dimension(random.below(4));
        let mut tensors: Vec<Tensor> = model.inputs.iter().map(|entry| right(entry, rows, &mut random)).collect();
        mutate(&mut tensors, &mut random);
        match check(tensors, model, true) {
            Ok((tensors, extent)) => {
                accepted += 1;
                for tensor in &tensors {
                    let elements = tensor.elements().unwrap();
                    match tensor.datatype.size() {
                        Some(size) => assert_eq!(tensor.data.len(), elements * size),
                        None => assert_eq!(tensor.to_strings().unwrap().len(), elements),
                    }
                }
                assert!(extent.units() >= 1);
                let elements = tensors.iter().map(|tensor| tensor.elements().unwrap()).sum::<usize>();
                assert!(extent.bytes >= tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>());
                // No more work than there are elements, whatever the shapes say.
                assert!(extent.units() <= elements.max(1));
                let rows = Some(dimension(extent.rows));
                assert!(extent.group.is_none() || tensors.iter().all(|tensor| tensor.shape.first().copied() == rows));
            }
            Err(Error::Invalid { field, .. }) => {
                assert!(field.starts_with("inputs["), "{field}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    println!("{CASES} requests: {accepted} accepted, {refused} refused, no panic");
    assert!(accepted > CASES / 20 && refused > CASES / 20);
}
