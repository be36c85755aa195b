use bytes::Bytes;
use consilium_proto::inference::{InferTensorContents, model_infer_request::InferInputTensor};
use consilium_tensor::DataType;
use prost::Message;

use super::*;
use crate::errors;

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn typed(datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor { contents: Some(contents), ..input("x", datatype, shape) };
    ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
}

fn raw(datatype: &str, shape: &[i64], data: &[u8]) -> ModelInferRequest {
    ModelInferRequest {
        inputs: vec![input("x", datatype, shape)],
        raw_input_contents: vec![Bytes::copy_from_slice(data)],
        ..ModelInferRequest::default()
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

/// Every datatype that has a typed form, two elements of it in that form, and their bytes.
fn forms() -> Vec<(&'static str, InferTensorContents, Vec<u8>)> {
    type C = InferTensorContents;
    let none = C::default;
    vec![
        ("BOOL", C { bool_contents: vec![true, false], ..none() }, vec![1, 0]),
        ("INT8", C { int_contents: vec![-128, 127], ..none() }, vec![0x80, 0x7f]),
        ("INT16", C { int_contents: vec![-32768, 2], ..none() }, vec![0, 0x80, 2, 0]),
        ("INT32", C { int_contents: vec![i32::MIN, 3], ..none() }, vec![0, 0, 0, 0x80, 3, 0, 0, 0]),
        ("INT64", C { int64_contents: vec![-1, 4], ..none() }, [[0xff; 8], [4, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ("UINT8", C { uint_contents: vec![255, 1], ..none() }, vec![255, 1]),
        ("UINT16", C { uint_contents: vec![65535, 1], ..none() }, vec![255, 255, 1, 0]),
        ("UINT32", C { uint_contents: vec![u32::MAX, 1], ..none() }, vec![255, 255, 255, 255, 1, 0, 0, 0]),
        ("UINT64", C { uint64_contents: vec![u64::MAX, 1], ..none() }, [[0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ("FP32", C { fp32_contents: vec![1.0, f32::INFINITY], ..none() }, vec![0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x7f]),
        (
            "FP64",
            C { fp64_contents: vec![1.0, -0.0], ..none() },
            vec![0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x80],
        ),
        (
            "BYTES",
            C { bytes_contents: vec![Bytes::from_static(b"ab"), Bytes::new()], ..none() },
            vec![2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0],
        ),
    ]
}

#[test]
fn typed_and_raw_contents_are_the_same_tensor() {
    for (datatype, contents, bytes) in forms() {
        let expected = Tensor {
            name: "x".into(),
            datatype: datatype.parse().unwrap(),
            shape: vec![2, 1],
            data: bytes.clone().into(),
        };
        let from_typed = Request::decode(typed(datatype, &[2, 1], contents)).unwrap();
        assert_eq!(from_typed.inputs, std::slice::from_ref(&expected), "{datatype}");
        assert_eq!(Request::decode(raw(datatype, &[2, 1], &bytes)).unwrap().inputs, [expected], "{datatype}");
    }
    for datatype in ["FP16", "BF16"] {
        assert_eq!(&*Request::decode(raw(datatype, &[1], &[0, 0x3c])).unwrap().inputs[0].data, [0, 0x3c]);
        let invalid = Request::decode(typed(datatype, &[1], forms()[9].1.clone())).unwrap_err();
        assert!(invalid.problem.contains("raw_input_contents"), "{invalid:?}");
    }
}

#[test]
fn contents_of_another_datatype_are_refused_alone_and_beside_the_right_ones() {
    for (datatype, contents, _) in forms() {
        for (other, others, _) in forms() {
            // The first byte of the message is the number of the field.
            let same = contents.encode_to_vec()[0] == others.encode_to_vec()[0];
            let alone = Request::decode(typed(datatype, &[2], others.clone()));
            if !same {
                assert_eq!(alone.unwrap_err().field, "inputs[x].contents", "{other} as {datatype}");
                let mut both = contents.clone();
                both.merge(others.encode_to_vec().as_slice()).unwrap();
                Request::decode(typed(datatype, &[2], both)).unwrap_err();
            }
        }
    }
}

#[test]
fn scalars_and_tensors_without_elements_are_tensors() {
    for (datatype, contents, bytes) in forms() {
        for shape in [&[0][..], &[3, 0], &[0, i64::MAX]] {
            assert!(Request::decode(raw(datatype, shape, &[])).unwrap().inputs[0].data.is_empty());
            assert!(Request::decode(typed(datatype, shape, InferTensorContents::default())).is_ok());
            assert_eq!(Request::decode(raw(datatype, shape, &bytes)).unwrap_err().field, "inputs[x].data");
            assert_eq!(
                Request::decode(typed(datatype, shape, contents.clone())).unwrap_err().field,
                "inputs[x].contents"
            );
        }
    }
    for datatype in ["FP16", "BF16", "FP32", "BYTES"] {
        let request = ModelInferRequest { inputs: vec![input("x", datatype, &[0, 4])], ..Default::default() };
        assert!(Request::decode(request).is_ok(), "{datatype}");
    }
    assert_eq!(Request::decode(raw("FP32", &[], &[0; 4])).unwrap().inputs[0].elements(), Some(1));
    let scalar = InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
    assert_eq!(Request::decode(typed("FP32", &[], scalar)).unwrap().inputs[0].data.len(), 4);
}

#[test]
fn what_is_wrong_is_named_and_never_shown() {
    type C = InferTensorContents;
    let int = |values: &[i32]| C { int_contents: values.to_vec(), ..C::default() };
    let uint = |values: &[u32]| C { uint_contents: values.to_vec(), ..C::default() };
    let named = |name: &str| ModelInferRequest {
        inputs: vec![input("a", "FP32", &[0]), input(name, "NONE", &[0])],
        ..Default::default()
    };
    let mut both = raw("INT32", &[1], &[0; 4]);
    both.inputs[0].contents = Some(int(&[77]));
    let mut more = raw("INT32", &[1], &[0; 4]);
    more.raw_input_contents.push(Bytes::new());
    let crowd = ModelInferRequest {
        inputs: vec![InferInputTensor::default(); MAX_TENSORS + 1],
        ..ModelInferRequest::default()
    };
    for (request, field, problem) in [
        (both, "inputs[x].contents", "one or the other"),
        (more, "raw_input_contents", "2 entries for 1 inputs"),
        (crowd, "inputs", "4097, at most 4096"),
        (raw("FP32", &[2], &[77; 7]), "inputs[x].data", "7 bytes, 8 are expected"),
        (raw("FP64", &[1 << 61], &[]), "inputs[x].data", "more bytes than there can be"),
        (raw("FP32", &[i64::MAX, 4], &[]), "inputs[x].shape", "more elements than there can be"),
        (raw("FP32", &[1, -1], &[77; 4]), "inputs[x].shape", "dimension 1 is negative"),
        (raw("FP32", &[i64::MIN], &[77; 4]), "inputs[x].shape", "dimension 0 is negative"),
        (raw("FP32", &[1; 33], &[77; 4]), "inputs[x].shape", "33 dimensions, at most 32"),
        (raw("BYTES", &[1], &[77, 0, 0, 0, 1]), "inputs[x].data", "beyond the end"),
        (raw("BYTES", &[1], &[77, 0, 0]), "inputs[x].data", "beyond the end"),
        (raw("BYTES", &[1], &[0xff; 5]), "inputs[x].data", "beyond the end"),
        (raw("BYTES", &[3], &[0; 8]), "inputs[x].data", "2 elements, 3 are expected"),
        (raw("float", &[1], &[77; 4]), "inputs[x].datatype", "not a datatype"),
        (typed("INT32", &[2], int(&[77])), "inputs[x].contents", "1 elements, 2 are expected"),
        (typed("INT32", &[2], C::default()), "inputs[x].contents", "0 elements, 2 are expected"),
        (typed("FP16", &[2], C::default()), "inputs[x].contents", "no typed form"),
        (typed("INT8", &[1], int(&[128])), "inputs[x].contents", "not INT8"),
        (typed("INT16", &[1], int(&[-32769])), "inputs[x].contents", "not INT16"),
        (typed("UINT8", &[1], uint(&[256])), "inputs[x].contents", "not UINT8"),
        (typed("UINT16", &[1], uint(&[65536])), "inputs[x].contents", "not UINT16"),
        (named(""), "inputs[1].name", "a name is expected"),
        (named("a name\nwith spaces"), "inputs[1].datatype", "not a datatype"),
        (named(&"long".repeat(50)), "inputs[1].datatype", "not a datatype"),
        (named("a[0]"), "inputs[1].datatype", "not a datatype"),
    ] {
        let invalid = Request::decode(request).unwrap_err();
        assert_eq!(invalid.field, field, "{invalid:?}");
        assert!(invalid.problem.contains(problem) && !invalid.unsupported, "{invalid:?}");
        assert!(!invalid.problem.contains("77") && !invalid.problem.contains("32769"), "{invalid:?}");

        let status = Status::from(invalid.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_REQUEST"));
        let violation = errors::Violation { field: invalid.field, problem: invalid.problem };
        assert_eq!(errors::violations(&status), [violation]);
    }
}

#[test]
fn parameters_are_taken_and_only_those_refused_that_say_where_a_tensor_is() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let mut request = raw("FP32", &[1], &[0; 4]);
    request.id = "7".into();
    request.parameters = [
        ("priority".to_owned(), parameter(Uint64Param(1))),
        ("timeout".to_owned(), parameter(Int64Param(1000))),
        ("triton_enable_empty_final_response".to_owned(), parameter(BoolParam(true))),
        ("weight".to_owned(), parameter(DoubleParam(0.5))),
        ("nothing".to_owned(), InferParameter::default()),
        ("attributes.audience".to_owned(), parameter(StringParam("clinician".into()))),
    ]
    .into();
    request.inputs[0].parameters.insert("custom".to_owned(), parameter(StringParam("x".into())));
    request.outputs = vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }];
    request.outputs[0].parameters.insert("binary_data".to_owned(), parameter(BoolParam(true)));
    let decoded = Request::decode(request.clone()).unwrap();
    assert_eq!(decoded.id, "7");
    assert_eq!(decoded.parameters, [("attributes.audience".to_owned(), "clinician".to_owned())].into());

    for (name, field) in
        [("attributes.audience", "parameters[attributes.audience]"), ("attributes.a b", "parameters[0]")]
    {
        for value in [parameter(Int64Param(1)), InferParameter::default()] {
            let parameters = [(name.to_owned(), value)].into();
            let invalid = Request::decode(ModelInferRequest { parameters, ..Default::default() }).unwrap_err();
            assert_eq!(invalid, Invalid::new(field, "a string is expected"));
        }
    }
    assert_eq!(decoded.outputs, ["y"]);
    assert!(!format!("{decoded:?}").contains("clinician"));

    let place = || parameter(StringParam("region".into()));
    let mut shared_input = request.clone();
    shared_input.inputs[0].parameters.insert("shared_memory_region".into(), place());
    let mut shared_output = request.clone();
    shared_output.outputs[0].parameters.insert("shared_memory_region".into(), place());
    let mut classified = request.clone();
    classified.outputs[0].parameters.insert("classification".into(), parameter(Int64Param(3)));
    // As clients send it: what is in shared memory has no raw entry, while the other input has one.
    let mut beside_another = shared_input.clone();
    let other = InferInputTensor { name: "z".into(), ..request.inputs[0].clone() };
    beside_another.inputs.push(InferInputTensor { contents: None, ..other });
    beside_another.inputs[0].contents = None;
    beside_another.raw_input_contents = vec![Bytes::new()];
    for (request, field) in [
        (beside_another, "inputs[x].parameters[shared_memory_region]"),
        (shared_input, "inputs[x].parameters[shared_memory_region]"),
        (shared_output, "outputs[y].parameters[shared_memory_region]"),
        (classified, "outputs[y].parameters[classification]"),
    ] {
        let invalid = Request::decode(request).unwrap_err();
        assert_eq!(invalid.field, field);
        let status = Status::from(invalid);
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(errors::reason(&status).as_deref(), Some("UNSUPPORTED"));
    }

    request.parameters = (0..=MAX_PARAMETERS).map(|number| (number.to_string(), InferParameter::default())).collect();
    assert_eq!(Request::decode(request).unwrap_err().field, "parameters");
}

#[test]
fn only_wanted_outputs_are_given_in_the_models_order() {
    let outputs = || ["a", "b", "c"].map(|name| Tensor::fp32(name, vec![0], &[])).to_vec();
    let asking = |names: &[&str]| Request {
        outputs: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Request::default()
    };
    let names = |outputs: Vec<Tensor>| outputs.into_iter().map(|output| output.name).collect::<Vec<_>>();
    assert_eq!(names(asking(&[]).wanted(outputs()).unwrap()), ["a", "b", "c"]);
    assert_eq!(names(asking(&["c", "a"]).wanted(outputs()).unwrap()), ["a", "c"]);
    assert_eq!(asking(&["a", "d"]).wanted(outputs()).unwrap_err().field, "outputs[d]");
    assert_eq!(asking(&["a", "what is it?"]).wanted(outputs()).unwrap_err().field, "outputs[1]");
    assert_eq!(asking(&["b"]).check_outputs(["a", "b"]), Ok(()));
    assert_eq!(asking(&["c"]).check_outputs(["a", "b"]).unwrap_err().field, "outputs[c]");
    let twice = asking(&["a", "a"]).wanted(outputs()).unwrap_err();
    assert_eq!((twice.field.as_str(), twice.problem.as_str()), ("outputs[a]", "asked for more than once"));
}

#[test]
fn a_reply_is_raw_with_one_entry_an_output_even_where_it_is_empty() {
    let outputs = vec![Tensor::fp32("y", vec![2], &[1.0, 2.0]), Tensor::strings::<&str>("z", vec![0], &[])];
    let reply = Reply { model: "m".into(), version: "3".into(), id: "7".into(), outputs }.encode();
    assert_eq!((reply.model_name.as_str(), reply.model_version.as_str(), reply.id.as_str()), ("m", "3", "7"));
    assert_eq!(reply.raw_output_contents.iter().map(Bytes::len).collect::<Vec<_>>(), [8, 0]);
    let described = |index: usize| {
        let output = &reply.outputs[index];
        (output.name.as_str(), output.datatype.as_str(), output.shape.as_slice(), output.contents.is_none())
    };
    assert_eq!(described(0), ("y", DataType::Fp32.as_str(), &[2][..], true));
    assert_eq!(described(1), ("z", "BYTES", &[0][..], true));
}
