use consilium_engine::DataType;

use super::*;

fn text(text: &str) -> v1::Query {
    v1::Query { text: text.to_owned(), ..Default::default() }
}

fn part(content: v1::part::Content) -> v1::Part {
    v1::Part { content: Some(content) }
}

fn tensor_part(datatype: &str) -> v1::Part {
    let tensor = v1::Tensor {
        name: "a".to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1],
        data: vec![0, 0, 128, 63].into(),
    };
    part(v1::part::Content::Tensor(tensor))
}

#[test]
fn queries_that_the_task_cannot_read_are_refused_by_field() {
    let with = |parts: Vec<v1::Part>| v1::Query { parts, ..text("what?") };
    let note = || part(v1::part::Content::Text("a note".to_owned()));
    let table = [
        (None, Reads::Text, "query"),
        (Some(text("")), Reads::Text, "query.text"),
        (Some(text(" \n\t")), Reads::Text, "query.text"),
        (Some(text(&"x".repeat(MAX_TEXT_BYTES + 1))), Reads::Text, "query.text"),
        (Some(text(&"x".repeat(MAX_TEXT_BYTES + 1))), Reads::Tensors, "query.text"),
        (Some(with(vec![note()])), Reads::Text, "query.parts[0]"),
        (Some(text("what?")), Reads::Tensors, "query.parts"),
        (Some(with(vec![tensor_part("FP32"), note()])), Reads::Tensors, "query.parts[1]"),
        (Some(with(vec![v1::Part { content: None }])), Reads::Tensors, "query.parts[0]"),
        (Some(with(vec![tensor_part("fp32")])), Reads::Tensors, "query.parts[0].tensor.datatype"),
        (Some(with(vec![tensor_part("")])), Reads::Tensors, "query.parts[0].tensor.datatype"),
    ];
    for (asked, reads, field) in table {
        assert_eq!(query(asked, None, reads).expect_err(field).field, field);
    }
}

#[test]
fn queries_that_the_task_reads_come_through_whole() {
    let embedding = v1::Embedding { model_digest: "d".to_owned(), vector: vec![1.0] };
    let read = query(Some(text(&"x".repeat(MAX_TEXT_BYTES))), Some(embedding), Reads::Text).unwrap();
    assert_eq!((read.text.len(), read.vector.unwrap().values), (MAX_TEXT_BYTES, vec![1.0]));

    let asked = v1::Query { parts: vec![tensor_part("FP32")], ..Default::default() };
    let read = query(Some(asked), None, Reads::Tensors).unwrap();
    let tensor = &read.tensors[0];
    assert_eq!((tensor.name.as_str(), tensor.datatype, tensor.shape.as_slice()), ("a", DataType::Fp32, &[1][..]));
    assert_eq!(tensor.data.as_ref(), 1.0_f32.to_le_bytes());
}
