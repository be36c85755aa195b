//! A million tensors that somebody else made: right ones, of which a few bytes or sizes were changed. None may panic,
//! and what the lengths say must be what is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions beside it too")]

use bytes::Bytes;
use consilium_tensor::{DataType, Tensor, strings_in};

const CASES: u32 = 1_000_000;

const DATATYPES: [DataType; 6] =
    [DataType::Bool, DataType::Fp16, DataType::Fp32, DataType::Int64, DataType::Bytes, DataType::Bytes];

/// Sizes that products and sums break on.
const NASTY: [i64; 8] = [0, -1, 1, i64::MAX, i64::MIN, 1 << 32, (1 << 62) + 1, 65_536];

/// The same numbers every time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

fn tensor(random: &mut Random) -> Tensor {
    let datatype = DATATYPES[random.below(DATATYPES.len())];
    let shape: Vec<i64> = (0..random.below(4)).map(|_| i64::try_from(random.below(4)).unwrap()).collect();
    let elements = usize::try_from(shape.iter().product::<i64>()).unwrap();
    let data: Vec<u8> = match datatype.size() {
        Some(size) => vec![7; elements * size],
        None => (0..elements)
            .flat_map(|at| [&[u8::try_from(at % 3).unwrap(), 0, 0, 0], &b"xy"[..at % 3]].concat())
            .collect(),
    };
    Tensor { name: "x".to_owned(), datatype, shape, data: data.into() }
}

fn mutate(tensor: &mut Tensor, random: &mut Random) {
    let mut data = tensor.data.to_vec();
    for _ in 0..random.below(4) {
        match random.below(6) {
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
            _ => {}
        }
    }
    tensor.data = Bytes::from(data);
}

#[test]
fn no_tensor_makes_it_panic_and_lengths_are_what_they_say() {
    let mut random = Random(0x00c0_ffee);
    let (mut whole, mut broken) = (0u32, 0u32);
    for _ in 0..CASES {
        let mut tensor = tensor(&mut random);
        let right = tensor.elements().unwrap();
        match tensor.datatype.size() {
            Some(size) => assert_eq!(tensor.data.len(), right * size),
            None => assert_eq!(tensor.to_strings().unwrap().len(), right),
        }
        mutate(&mut tensor, &mut random);
        if let Some(elements) = tensor.elements() {
            assert!(tensor.shape.iter().all(|size| *size >= 0));
            assert!(elements == 0 || tensor.shape.iter().all(|size| usize::try_from(*size).unwrap() <= elements));
        }
        match tensor.to_strings() {
            Some(strings) => {
                assert_eq!(tensor.datatype, DataType::Bytes);
                assert_eq!(strings.iter().map(|string| string.len() + 4).sum::<usize>(), tensor.data.len());
                whole += 1;
            }
            None => broken += 1,
        }
        assert!(strings_in(&tensor.data).count() <= tensor.data.len() / 4 + 1);
        assert_eq!(tensor.to_fp32().is_some(), tensor.datatype == DataType::Fp32);
    }
    println!("{CASES} tensors: {whole} of whole strings, {broken} others, no panic");
    assert!(whole > CASES / 20 && broken > CASES / 20);
}
