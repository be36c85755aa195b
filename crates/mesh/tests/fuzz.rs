//! A million hostile inputs each for what this crate decodes: requests with tensors, their envelopes, records and cards.
//! The mutations are the same in every run.

#![cfg(test)]

use std::time::Duration;

use bytes::Bytes;
use consilium_mesh::{
    inference::{self, Request, texts},
    message,
    registry::{Card, Cost, CostUnit, ModelRef, Price, RECORD_SCHEMA, Record, Slo, State, Track},
};
use consilium_proto::{
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    raw::Envelope,
};
use prost::Message;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tonic::Status;

const EXECUTIONS: usize = 1_000_000;

/// Numbers on whose far side something else begins.
const EDGES: [i64; 14] = [0, 1, 2, 3, 7, 8, 16, 127, 255, 256, 1 << 31, i64::MAX, i64::MIN, -1];

/// One to four changes of the kinds that break decoders.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let to = rng.random_range(at..=bytes.len()).min(at + 32);
        match rng.random_range(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let other = others.choose(rng).unwrap();
                let from = rng.random_range(0..=other.len());
                let until = rng.random_range(from..=other.len());
                bytes.splice(at..to, other[from..until].iter().copied());
            }
            4 => drop(bytes.splice(at..to, words.choose(rng).unwrap().iter().copied())),
            kind if at < bytes.len() => match kind {
                5 => bytes[at] ^= 1 << rng.random_range(0..8),
                6 => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].choose(rng).unwrap(),
                // A length or a key, mostly.
                _ => bytes[at] = bytes[at].wrapping_add(rng.random_range(0..5)).wrapping_sub(2),
            },
            _ => {}
        }
    }
}

/// A request that is mostly in order, changed here and there where a client's number or word stands.
fn request(rng: &mut StdRng) -> ModelInferRequest {
    const DATATYPES: [&str; 16] = [
        "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "BF16", "FP32",
        "FP64", "BYTES", "bytes", "",
    ];
    let mut request = ModelInferRequest {
        model_name: "clinic".into(),
        model_version: (*["", "1", "99999999999999999999"].choose(rng).unwrap()).to_owned(),
        id: "7".into(),
        ..ModelInferRequest::default()
    };
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    if rng.random_ratio(1, 4) {
        request.parameters.insert("attributes.audience".into(), parameter(ParameterChoice::StringParam("a".into())));
        request.parameters.insert("priority".into(), parameter(ParameterChoice::Uint64Param(1)));
    }
    let raw = rng.random();
    for _ in 0..rng.random_range(1..=2) {
        let datatype = *DATATYPES.choose(rng).unwrap();
        let mut shape: Vec<i64> = (0..rng.random_range(0..3)).map(|_| rng.random_range(0..4)).collect();
        let elements = shape.iter().product::<i64>() as usize;
        let name = if datatype == "BYTES" { "text" } else { "x" };
        let mut input = InferInputTensor { name: name.into(), datatype: datatype.into(), ..Default::default() };
        if raw {
            let size = datatype.parse::<consilium_tensor::DataType>().ok().and_then(consilium_tensor::DataType::size);
            // Strings: as many lengths of zero.
            request.raw_input_contents.push(vec![0; elements * size.unwrap_or(4)].into());
        } else {
            let mut contents = InferTensorContents::default();
            match datatype {
                "BOOL" => contents.bool_contents = vec![true; elements],
                "INT8" | "INT16" | "INT32" => contents.int_contents = vec![rng.random_range(-200..200); elements],
                "INT64" => contents.int64_contents = vec![-1; elements],
                "UINT8" | "UINT16" | "UINT32" => contents.uint_contents = vec![rng.random_range(0..300); elements],
                "UINT64" => contents.uint64_contents = vec![u64::MAX; elements],
                "FP32" => contents.fp32_contents = vec![f32::NAN; elements],
                "FP64" => contents.fp64_contents = vec![f64::INFINITY; elements],
                _ => contents.bytes_contents = vec![Bytes::from_static(b"what\xc3\x9f"); elements],
            }
            input.contents = Some(contents);
        }
        if rng.random_ratio(1, 8) {
            shape.push(*EDGES.choose(rng).unwrap());
        }
        if rng.random_ratio(1, 32) {
            input.parameters.insert("shared_memory_region".into(), InferParameter::default());
        }
        request.inputs.push(InferInputTensor { shape, ..input });
    }
    for name in ["answer", "expert"].iter().filter(|_| rng.random_ratio(1, 4)) {
        request.outputs.push(InferRequestedOutputTensor { name: (*name).to_owned(), ..Default::default() });
    }
    request
}

/// What `decode` lets through is what it promises to be.
fn check(request: &Request) {
    for input in &request.inputs {
        assert!(!input.name.is_empty() && input.shape.len() <= 32);
        let elements = input.elements().expect("a shape that can be counted");
        match input.datatype.size() {
            Some(size) => assert_eq!(input.data.len(), elements * size),
            None => assert_eq!(input.to_strings().expect("lengths that add up").len(), elements),
        }
    }
    match texts(request) {
        Ok(queries) => {
            assert_eq!(request.inputs.len(), 1);
            assert_eq!(queries.len(), request.inputs[0].elements().unwrap());
            assert!((1..=inference::MAX_TEXTS).contains(&queries.len()));
        }
        Err(invalid) => assert!(!invalid.field.is_empty() && !invalid.unsupported),
    }
    if let Ok(outputs) = request.wanted(request.inputs.clone()) {
        assert!(outputs.len() <= request.inputs.len());
    }
}

#[test]
fn requests_with_tensors_and_their_envelopes() {
    let mut rng = StdRng::seed_from_u64(4);
    let seeds: Vec<Vec<u8>> = (0..512).map(|_| request(&mut rng).encode_to_vec()).collect();
    let words: [&[u8]; 8] = [
        &[0x0a, 0],
        &[0x22, 4, 0x0a, 0, 0x12, 0],
        &[0x2a, 0],
        &[0x3a, 0],
        &[0x3a, 4, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x0b, 0x0b, 0x0c],
        b"\xc3\x28",
    ];
    let (mut messages, mut ambiguous, mut accepted, mut queries) = (0, 0, 0, 0);
    for _ in 0..EXECUTIONS {
        let bytes: Bytes = if rng.random() {
            let mut bytes = seeds.choose(&mut rng).unwrap().clone();
            mutate(&mut bytes, &seeds, &words, &mut rng);
            bytes.into()
        } else {
            request(&mut rng).encode_to_vec().into()
        };
        let envelope = Envelope::of(&bytes);
        let Ok(message) = ModelInferRequest::decode(bytes) else {
            continue;
        };
        messages += 1;
        let Ok(envelope) = envelope else {
            // Refused where two readers could see two requests.
            ambiguous += 1;
            continue;
        };
        assert_eq!(envelope.model_name, message.model_name);
        assert_eq!(envelope.model_version, message.model_version);
        assert_eq!(envelope.id, message.id);
        match Request::decode(message) {
            Ok(request) => {
                accepted += 1;
                queries += usize::from(texts(&request).is_ok());
                check(&request);
            }
            Err(invalid) => {
                assert!(!invalid.field.is_empty() && invalid.field.len() + invalid.problem.len() < 300, "{invalid:?}");
                if rng.random_ratio(1, 64) {
                    assert!(matches!(
                        Status::from(invalid).code(),
                        tonic::Code::InvalidArgument | tonic::Code::Unimplemented
                    ));
                }
            }
        }
    }
    println!(
        "{EXECUTIONS} requests: {messages} were messages, {ambiguous} of them ambiguous, {accepted} were accepted, \
         {queries} were queries"
    );
    assert!(messages > EXECUTIONS / 2 && ambiguous < messages / 100);
    assert!(accepted > EXECUTIONS / 10 && queries > EXECUTIONS / 1000);
}

fn record() -> Record {
    Record {
        schema: RECORD_SCHEMA,
        instance: "a".into(),
        epoch: "0198c9a0-0000-7000-8000-000000000000".into(),
        expert: "labs".into(),
        address: "127.0.0.1:7000".into(),
        version: "1".into(),
        state: State::Serving,
        track: Track::Canary,
        card_digest: "d".into(),
        default_model: String::new(),
        models: vec![ModelRef { name: "densenet".into(), version: "3".into(), digest: "ab".into() }],
        zone: "z".into(),
        tls: true,
        server_name: "x.test".into(),
        executors: 2,
        batch_units: 1024,
        cost: Cost { unit: CostUnit::Rows, points: vec![(8, 3.1), (16, 5.0)], bytes_per_unit: 4.5 },
        keepalive_ms: Some(1000),
        software: "consilium/0.1.0".into(),
    }
}

fn card() -> Card {
    Card {
        expert: "labs".into(),
        version: "1".into(),
        summary: "Reads laboratory values.".into(),
        examples: vec!["potassium of 6.1".into()],
        serves: [("audience".to_owned(), vec!["clinician".to_owned()])].into(),
        accepts: vec!["text".into()],
        task: "retrieve".into(),
        slo: Slo { latency: Duration::from_millis(150), objective: 0.99, first_token: Some(Duration::from_millis(20)) },
        price: Some(Price { currency: "EUR".into(), per_call: 0.01, per_thousand_tokens: 0.0 }),
        idempotent: true,
        hedge: false,
        models: record().models,
    }
}

/// What JSON has that a reader may stumble over.
const JSON: [&[u8]; 16] = [
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"0.5",
    b"\"\"",
    b"\"\\ud800\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"true",
    b"[[[[[[[[[[[[[[[[",
    b"\"serving\"",
];

#[test]
fn records() {
    let mut rng = StdRng::seed_from_u64(5);
    let draining = Record { state: State::Draining, models: Vec::new(), keepalive_ms: None, ..record() };
    let seeds = [record(), draining].map(|record| record.encode().unwrap().into_bytes());
    let mut accepted = 0;
    for _ in 0..EXECUTIONS {
        let mut value = seeds.choose(&mut rng).unwrap().clone();
        mutate(&mut value, &seeds, &JSON, &mut rng);
        let Ok(record) = Record::decode("labs", &String::from_utf8_lossy(&value)) else {
            continue;
        };
        accepted += 1;
        assert_eq!(record.expert, "labs");
        assert!(record.keepalive().is_none_or(|every| every >= Duration::from_millis(100)));
        let again = Record::decode("labs", &record.encode().unwrap()).unwrap();
        assert_eq!(again, record, "what was read can be written and read again");
    }
    println!("{EXECUTIONS} records: {accepted} were accepted");
    assert!(accepted > EXECUTIONS / 100);
}

#[test]
fn cards() {
    let mut rng = StdRng::seed_from_u64(6);
    let plain = Card { price: None, serves: [].into(), models: Vec::new(), ..card() };
    let seeds = [card(), plain].map(|card| serde_json::to_vec(&card).unwrap());
    let (mut accepted, mut sound) = (0, 0);
    for _ in 0..EXECUTIONS {
        let mut value = seeds.choose(&mut rng).unwrap().clone();
        mutate(&mut value, &seeds, &JSON, &mut rng);
        let Ok(card) = serde_json::from_slice::<Card>(&value) else {
            continue;
        };
        accepted += 1;
        sound += usize::from(card.check().is_ok());
        let digest = card.digest();
        assert_eq!(message::card(&card).digest, digest);
        let again: Card = serde_json::from_slice(&serde_json::to_vec(&card).unwrap()).unwrap();
        assert_eq!(again.digest(), digest, "what was read can be written and read again");
    }
    println!("{EXECUTIONS} cards: {accepted} were accepted, {sound} were sound");
    assert!(accepted > EXECUTIONS / 100 && sound > EXECUTIONS / 100 && sound <= accepted);
}
