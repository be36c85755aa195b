use serde_json::{Value, json};

use super::*;

fn asking(inputs: Vec<Tensor>) -> Request {
    Request { inputs, ..Request::default() }
}

fn text(shape: &[i64], values: &[&[u8]]) -> Request {
    asking(vec![Tensor::strings("text", shape.to_vec(), values)])
}

#[test]
fn one_or_many_queries_are_read_in_their_order() {
    assert_eq!(texts(&text(&[1], &[b"one"])).unwrap(), ["one"]);
    assert_eq!(texts(&text(&[2, 1], &["ein Schluß".as_bytes(), b""])).unwrap(), ["ein Schluß", ""]);
    let most = vec![&b"x"[..]; MAX_TEXTS];
    assert_eq!(texts(&text(&[256], &most)).unwrap().len(), MAX_TEXTS);
}

#[test]
fn anything_else_is_refused_without_being_repeated() {
    let secret = &b"metformin"[..];
    let many = vec![secret; MAX_TEXTS + 1];
    for (request, field) in [
        (asking(vec![]), "inputs"),
        (asking([1, 1].map(|n| Tensor::strings("text", vec![n], &[secret])).to_vec()), "inputs"),
        (asking(vec![Tensor::strings("query", vec![1], &[secret])]), "inputs[query].name"),
        (asking(vec![Tensor::strings("is it safe?", vec![1], &[secret])]), "inputs[0].name"),
        (asking(vec![Tensor::fp32("text", vec![1], &[1.0])]), "inputs[text].datatype"),
        (text(&[], &[secret]), "inputs[text].shape"),
        (text(&[0], &[]), "inputs[text].shape"),
        (text(&[-1], &[secret]), "inputs[text].shape"),
        (text(&[1, 2], &[secret, secret]), "inputs[text].shape"),
        (text(&[1, 1, 1], &[secret]), "inputs[text].shape"),
        (text(&[257], &many), "inputs[text].shape"),
        (text(&[2], &[secret]), "inputs[text].data"),
        (text(&[2], &[secret, b"metformin \xff"]), "inputs[text].data"),
    ] {
        let invalid = texts(&request).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(!invalid.problem.contains("metformin") && !invalid.unsupported, "{invalid:?}");
    }
}

#[test]
fn answers_are_protobufs_own_json_beside_who_gave_them() {
    let passage = v1::Passage {
        id: "p1".into(),
        text: "Ibuprofen and warfarin.".into(),
        score: 0.5,
        best: Some(v1::Span { start: 0, end: 9 }),
        ..v1::Passage::default()
    };
    let found = v1::Answer {
        body: Some(v1::answer::Body::Passages(v1::Passages { passages: vec![passage] })),
        confidence: Some(0.25),
        calibrated: true,
        knowledge_revision: "r1".into(),
        ..v1::Answer::default()
    };
    let tensor =
        v1::Tensor { name: "y".into(), shape: vec![1 << 60], data: vec![1, 2, 3].into(), ..Default::default() };
    let raw = v1::Answer {
        body: Some(v1::answer::Body::Tensors(v1::Tensors { tensors: vec![tensor] })),
        ..v1::Answer::default()
    };
    let reply = |answer: &v1::Answer, expert: &str| TextReply {
        answer: answer.clone(),
        expert: expert.to_owned(),
        request_id: format!("id of {expert}"),
    };
    let tensors = answers(&[reply(&found, "drugs"), reply(&raw, "labs")]);

    let model = text_model("clinic", "1");
    let ports = model.outputs.iter().map(|port| (port.name.as_str(), port.datatype));
    assert!(tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.datatype)).eq(ports), "as the model promises");
    assert!(tensors.iter().all(|tensor| tensor.shape == [2]));

    let [answer, expert, confidence, id] = tensors.as_slice() else { panic!("{tensors:?}") };
    let answers: Vec<Value> =
        answer.to_strings().unwrap().iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
    assert_eq!(
        answers[0],
        json!({
            "passages": {"passages": [
                {"id": "p1", "text": "Ibuprofen and warfarin.", "score": 0.5, "best": {"end": 9}},
            ]},
            "confidence": 0.25, "calibrated": true, "knowledgeRevision": "r1",
        })
    );
    // 64-bit integers as strings and bytes as base64: what protobuf's JSON says, and a home-made one would not.
    assert_eq!(
        answers[1],
        json!({"tensors": {"tensors": [{"name": "y", "shape": ["1152921504606846976"], "data": "AQID"}]}})
    );
    assert_eq!(expert.to_strings().unwrap(), ["drugs", "labs"]);
    assert_eq!(id.to_strings().unwrap(), ["id of drugs", "id of labs"]);
    let confidence = confidence.to_fp32().unwrap();
    assert!(confidence[0].to_bits() == 0.25f32.to_bits() && confidence[1].is_nan(), "{confidence:?}");
}
