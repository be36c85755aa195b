use super::*;

fn model(max_batch: usize) -> Model {
    let port = |name: &str, datatype, shape: &[i64], optional| Port {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        optional,
    };
    Model {
        name: "labs.densenet".into(),
        version: "3".into(),
        platform: "onnxruntime_onnx",
        inputs: vec![port("x", DataType::Fp32, &[-1, 3], false), port("mask", DataType::Bytes, &[-1], true)],
        outputs: vec![port("y", DataType::Bf16, &[-1, 1000], false)],
        max_batch,
        executors: 2,
    }
}

#[test]
fn metadata_has_the_batch_dimension_and_protocol_names() {
    let metadata = model(8).metadata();
    assert_eq!((metadata.name.as_str(), metadata.platform.as_str()), ("labs.densenet", "onnxruntime_onnx"));
    assert_eq!(metadata.versions, ["3"]);
    let shown = |tensor: &TensorMetadata| (tensor.name.clone(), tensor.datatype.clone(), tensor.shape.clone());
    let inputs: Vec<_> = metadata.inputs.iter().map(shown).collect();
    assert_eq!(inputs, [("x".into(), "FP32".into(), vec![-1, 3]), ("mask".into(), "BYTES".into(), vec![-1])]);
    assert_eq!(shown(&metadata.outputs[0]), ("y".into(), "BF16".into(), vec![-1, 1000]));
}

#[test]
fn a_model_that_joins_requests_says_so_and_leaves_the_batch_dimension_out() {
    let config = model(8).config();
    assert_eq!((config.max_batch_size, config.backend.as_str()), (8, "onnxruntime"));
    assert_eq!((config.input[0].dims.as_slice(), config.input[1].dims.as_slice()), (&[3][..], &[][..]));
    assert_eq!((config.input[0].optional, config.input[1].optional), (false, true));
    assert_eq!(config.input[1].data_type(), oip::DataType::TypeString);
    assert_eq!(
        (config.output[0].dims.as_slice(), config.output[0].data_type()),
        (&[1000][..], oip::DataType::TypeBf16)
    );
    assert!(matches!(config.scheduling_choice, Some(SchedulingChoice::DynamicBatching(_))));
    assert_eq!((config.instance_group[0].count, config.instance_group[0].kind()), (2, Kind::Cpu));
    assert_eq!(config.model_transaction_policy, Some(oip::ModelTransactionPolicy { decoupled: false }));
    let latest = Some(PolicyChoice::Latest(Latest { num_versions: 1 }));
    assert_eq!(config.version_policy, Some(oip::ModelVersionPolicy { policy_choice: latest }));
}

#[test]
fn one_that_does_not_has_all_its_dimensions() {
    let config = model(0).config();
    assert_eq!((config.max_batch_size, config.scheduling_choice.is_none()), (0, true));
    assert_eq!(config.input[0].dims, [-1, 3]);
    let text = crate::inference::text_model("clinic", "1").config();
    assert_eq!((text.platform.as_str(), text.backend.as_str()), ("consilium", "consilium"));
    assert_eq!((text.default_model_filename.as_str(), text.max_batch_size), ("", 0));
}

#[test]
fn every_datatype_has_its_own_number() {
    for name in [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
        "FP64",
    ] {
        assert_eq!(data_type(name.parse().unwrap()).as_str_name(), format!("TYPE_{name}"));
    }
    assert_eq!(data_type(DataType::Bytes).as_str_name(), "TYPE_STRING");
}

#[test]
fn the_index_says_states_in_the_protocols_words() {
    let state = |readiness| {
        let entry = index_entry("m", "1", &readiness);
        (entry.state, entry.reason)
    };
    assert_eq!(state(Readiness::Ready), ("READY".into(), String::new()));
    assert_eq!(state(Readiness::Loading).0, "LOADING");
    assert_eq!(state(Readiness::Unloading).0, "UNLOADING");
    assert_eq!(state(Readiness::Unavailable("no file".into())), ("UNAVAILABLE".into(), "no file".into()));
    assert!(server_metadata().extensions.contains(&"statistics".to_owned()));
}
