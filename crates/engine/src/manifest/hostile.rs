//! A million manifests that somebody else wrote: right ones, of which bits were flipped, parts cut out, and pieces put
//! in. None may panic, and what is accepted must keep its promises.

use super::*;
use crate::made_up::Random;

const CASES: u32 = 1_000_000;

const RIGHT: &str = r#"{"schema":1,"name":"m","version":"1","kind":"text","model":"f","files":[{"path":"f","size":1,
"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}],
"tokenizer":{"file":"f","max_tokens":16,"vocab_size":10,"pad_id":0},
"inputs":[{"name":"input_ids","datatype":"INT64","shape":[-1,-1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,3]}],
"labels":{"y":["a","b","c"]},"licence":"l","source":"s"}"#;

const PIECES: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "9223372036854775807",
    "1e999",
    "-0.5",
    "\\u0000",
    "\\",
    "\"kind\":\"tensors\",",
    "\"optional\":true,",
    "[[[[[[[[[[[[[[[[",
    "../",
    "\u{202e}",
    "\"shape\":[0]",
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at.is_multiple_of(8) => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + random.below(12)).min(bytes.len()))),
            3 => {
                let end = (at + random.below(80)).min(bytes.len());
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        }
    }
}

#[test]
fn no_manifest_makes_it_panic_and_what_it_accepts_is_checked() {
    let mut random = Random::new(0x00c0_ffee);
    let (mut accepted, mut refused) = (0u32, 0u32);
    assert!(Manifest::parse(RIGHT.as_bytes()).is_ok());
    for _ in 0..CASES {
        let mut bytes = RIGHT.as_bytes().to_vec();
        mutate(&mut bytes, &mut random);
        match Manifest::parse(&bytes) {
            Ok(manifest) => {
                accepted += 1;
                assert!(manifest.version.parse::<u64>().is_ok());
                assert!(manifest.files.iter().all(|file| is_plain_relative(&file.path) && file.sha256.len() == 64));
                assert!(manifest.files.iter().any(|file| file.path == manifest.model));
                assert_eq!(manifest.tokenizer.is_some(), manifest.kind == Kind::Text);
                let mut sizes = manifest.inputs.iter().chain(&manifest.outputs).flat_map(|entry| &entry.shape);
                assert!(sizes.all(|size| *size == -1 || *size > 0));
            }
            Err(problems) => {
                refused += 1;
                assert!(!problems.is_empty());
            }
        }
    }
    println!("{CASES} manifests: {accepted} accepted, {refused} refused, no panic");
    assert!(accepted > CASES / 100 && refused > CASES / 20);
}
