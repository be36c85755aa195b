//! Whatever a client sends, it hears what was wrong, and the next caller is served.

use bytes::Bytes;
use consilium_mesh::errors;
use consilium_proto::{raw::BytesCodec, v1};
use consilium_tests::{Mesh, question};
use tonic::{Code, Request, Status};

const DISPATCH: &str = "/consilium.v1.RouterService/Dispatch";

async fn send(mesh: &Mesh, bytes: &[u8]) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(mesh.channel.clone());
    client.ready().await.expect("the router listens");
    let path = DISPATCH.parse().expect("the path is one");
    // As they are: a test sends what no client library would.
    client.unary(Request::new(Bytes::copy_from_slice(bytes)), path, BytesCodec).await.map(tonic::Response::into_inner)
}

async fn still_serves(mesh: &Mesh) {
    let response = mesh.ask("does the pharmacy stock aspirin tablets").await.expect("the router goes on");
    assert!(response.answer.is_some());
}

fn nested(depth: usize) -> Vec<u8> {
    // A record (google.protobuf.Struct) inside a part inside the query: lists in lists in lists.
    let field = |number: u8, inner: Vec<u8>| {
        let mut bytes = vec![number << 3 | 2];
        let mut length = inner.len();
        while length > 127 {
            bytes.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(inner);
        bytes
    };
    let mut value = vec![];
    for _ in 0..depth {
        value = field(6, field(1, value)); // Value.list_value, ListValue.values
    }
    let entry = field(2, value); // FieldsEntry.value
    field(1, field(4, field(2, field(1, entry)))) // DispatchRequest.query, .parts, .record, .fields
}

#[tokio::test]
async fn bytes_that_are_no_request_are_the_clients_mistake_and_the_field_is_named() {
    let (mesh, _experts) = Mesh::of_three().await;
    for (what, bytes, field) in [
        ("invalid UTF-8", vec![0x0a, 3, 0x0a, 1, 0xff], "query.text"),
        ("a length beyond the end", vec![0x0a, 5, 0x0a, 9, b'x'], "query"),
        ("a truncated message", vec![0x0a, 200], ""),
        ("a wrong wire type", vec![0x0d, 0, 0, 0, 0], "query"),
        ("a varint without an end", vec![0xff; 12], ""),
        ("nesting without an end", nested(200), "query"),
    ] {
        let status = send(&mesh, &bytes).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        let violations = errors::violations(&status);
        assert!(violations.iter().any(|violation| violation.field.starts_with(field)), "{what}: {violations:?}");
    }
    still_serves(&mesh).await;
}

#[tokio::test]
async fn every_mistake_of_a_request_is_named_at_once() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("  ");
    let query = request.query.as_mut().expect("there is a query");
    query.attributes.insert("audience".into(), v1::Values { values: vec!["martian".into()] });
    query.attributes.insert("planet".into(), v1::Values { values: vec!["mars".into()] });
    request.context = Some(v1::CallContext { request_id: "with space".into(), ..Default::default() });
    request.options =
        Some(v1::DispatchOptions { top_k: Some(0), min_confidence: Some(f64::NAN), ..Default::default() });
    let status = mesh.client.clone().dispatch(request).await.expect_err("much is wrong");
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = errors::violations(&status);
    for field in ["query.text", "context.request_id", "options.top_k", "options.min_confidence"] {
        assert!(violations.iter().any(|violation| violation.field == field), "{field}: {violations:?}");
    }
    for word in ["audience", "planet"] {
        assert!(violations.iter().any(|violation| violation.field.contains(word)), "{word}: {violations:?}");
    }
    assert!(!status.message().contains("martian"), "a value is content: {}", status.message());
    still_serves(&mesh).await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("does the pharmacy stock aspirin tablets");
    request.options = Some(v1::DispatchOptions { experts: vec!["astrology".into()], ..Default::default() });
    let status = mesh.client.clone().dispatch(request).await.expect_err("nobody is called so");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("astrology"), "{}", status.message());

    let status = mesh.client.clone().dispatch(v1::DispatchRequest::default()).await.expect_err("there is no query");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(errors::violations(&status)[0].field, "query");
    still_serves(&mesh).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_at_the_limit_and_not_below_it() {
    let (mesh, _experts) = Mesh::of_three().await;
    let text = |bytes: usize| {
        let words = "does the pharmacy stock aspirin tablets ";
        words.repeat(bytes / words.len() + 1)[..bytes].to_owned()
    };
    let longest = mesh.ask(&text(consilium_router::MAX_TEXT_BYTES)).await;
    assert!(longest.is_ok(), "{longest:?}");
    let status = mesh.ask(&text(consilium_router::MAX_TEXT_BYTES + 1)).await.expect_err("one byte too many");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(errors::violations(&status)[0].field, "query.text");

    let status = send(&mesh, &vec![0; 9 * 1024 * 1024]).await.expect_err("more than a message may have");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    still_serves(&mesh).await;
}

#[tokio::test]
async fn no_error_repeats_the_query() {
    let (mesh, _experts) = Mesh::of_three().await;
    let canary = "canary-51c2";
    let mut statuses = Vec::new();
    let mut request = question(canary);
    request.options = Some(v1::DispatchOptions { top_k: Some(99), ..Default::default() });
    statuses.push(mesh.client.clone().dispatch(request).await.expect_err("too many"));
    statuses.push(mesh.ask(&canary.repeat(10_000)).await.expect_err("too long"));
    let mut bytes = vec![0x0a, 14, 0x0a, 12];
    bytes.extend(canary.as_bytes());
    bytes.push(0xff);
    statuses.push(send(&mesh, &bytes).await.expect_err("not UTF-8"));
    for status in statuses {
        let shown = format!("{status:?} {:?}", String::from_utf8_lossy(status.details()));
        assert!(!shown.contains(canary), "{shown}");
    }
}

#[tokio::test]
async fn an_error_stays_small_however_much_is_wrong() {
    let (mesh, _experts) = Mesh::of_three().await;
    let name = "n".repeat(100_000);
    let mut many_values = question("does the pharmacy stock aspirin tablets");
    let values = v1::Values { values: vec!["x".into(); 100_000] };
    many_values.query.as_mut().expect("there is a query").attributes.insert("audience".into(), values);
    let mut some_values = question("does the pharmacy stock aspirin tablets");
    let values = v1::Values { values: vec!["x".into(); 60] };
    some_values.query.as_mut().expect("there is a query").attributes.insert("audience".into(), values);
    let mut long_name = question("does the pharmacy stock aspirin tablets");
    long_name.options = Some(v1::DispatchOptions { experts: vec![name.clone()], ..Default::default() });
    let mut long_id = question("does the pharmacy stock aspirin tablets");
    long_id.context = Some(v1::CallContext { request_id: name, ..Default::default() });
    let mut long_label = question("does the pharmacy stock aspirin tablets");
    long_label.query.as_mut().expect("there is a query").labels.insert("note".into(), "n".repeat(100_000));
    for request in [many_values, some_values, long_name, long_id, long_label] {
        let status = mesh.client.clone().dispatch(request).await.expect_err("too much");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().len() + status.details().len() < 8 * 1024, "{}", status.message().len());
    }
    still_serves(&mesh).await;
}

#[tokio::test]
async fn what_an_expert_finds_wrong_reaches_the_client_with_its_field() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("does the pharmacy stock aspirin tablets");
    let part = v1::Part { content: Some(v1::part::Content::Text("a document".into())) };
    request.query.as_mut().expect("there is a query").parts.push(part);
    let status = mesh.client.clone().dispatch(request).await.expect_err("a retrieve expert reads no parts");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(errors::violations(&status)[0].field, "query.parts[0]");
    assert_eq!(errors::metadata(&status).get("expert").map(String::as_str), Some("pharmacy"));
}
