use std::{sync::atomic::Ordering, time::Duration};

use consilium_mesh::{errors, metrics::Metrics};
use consilium_proto::inference::model_infer_request::InferInputTensor;
use tonic::Code;

use super::{names::Named, *};
use crate::{Reads, Unserved, server::testing, task::Scripted};

const PATIENCE: Duration = Duration::from_secs(5);

fn inference(task: Option<Arc<Scripted>>) -> Inference {
    let readiness = Readiness::new("oracle");
    let ready = OnceLock::new();
    if let Some(task) = task {
        readiness.latch("model").set();
        ready.set(Ready::new(testing::card(), task, Arc::default(), None)).unwrap();
    }
    let (identity, ready) = (Arc::new(testing::identity()), Arc::new(ready));
    Inference {
        tally: Tally::new(&Metrics::new(), &identity, &ready),
        identity,
        ready,
        readiness,
        deadlines: Deadlines::default(),
        end: CancellationToken::new(),
    }
}

/// A request for the answers to `number` texts.
fn texts(number: usize) -> ModelInferRequest {
    let text = InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![i64::try_from(number).unwrap()],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "oracle".to_owned(),
        inputs: vec![text],
        raw_input_contents: vec![b"\x01\0\0\0x".repeat(number).into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn before_its_model_is_loaded_an_expert_lives_and_is_not_ready() {
    let starting = inference(None);
    assert!(starting.server_live(Request::new(ServerLiveRequest {})).await.unwrap().into_inner().live);
    assert!(!starting.server_ready(Request::new(ServerReadyRequest {})).await.unwrap().into_inner().ready);
    let asked = Request::new(ModelReadyRequest { name: "oracle".to_owned(), version: String::new() });
    assert!(!starting.model_ready(asked).await.unwrap().into_inner().ready);
    let index = starting.repository_index(Request::new(RepositoryIndexRequest::default())).await.map(drop);
    let infer = starting.infer(texts(1), Instant::now() + PATIENCE).await.map(drop);
    for status in [index, infer] {
        let status = status.expect_err("starting");
        assert_eq!((status.code(), errors::reason(&status).as_deref()), (Code::Unavailable, Some("STARTING")));
    }
    assert!(inference(Some(Scripted::new(&[]))).model("oracle", "3").is_ok());
}

#[tokio::test]
async fn a_call_without_a_deadline_is_a_defect() {
    let status =
        inference(Some(Scripted::new(&[]))).model_infer(Request::new(texts(1))).await.expect_err("no deadline");
    assert_eq!((status.code(), errors::reason(&status).as_deref()), (Code::Internal, Some("DEFECT")));
}

#[tokio::test]
async fn the_texts_of_a_request_are_answered_side_by_side() {
    let task = Scripted::new(&["for", "ty"]);
    let server = inference(Some(Arc::clone(&task)));
    let answering = server.infer(texts(3), Instant::now() + PATIENCE);
    tokio::pin!(answering);
    assert!(futures::poll!(&mut answering).is_pending());
    assert_eq!(task.begun.available_permits(), 3);
    task.released.add_permits(3);
    let reply = answering.await.unwrap();
    assert_eq!((reply.outputs.len(), reply.outputs[0].shape.as_slice()), (4, &[3][..]));
    assert_eq!((reply.model_name.as_str(), reply.model_version.as_str()), ("oracle", "3"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_by_its_deadline_is_abandoned() {
    let (task, began) = (Scripted::new(&[]), Instant::now());
    let late = inference(Some(Arc::clone(&task))).infer(texts(2), began + PATIENCE).await;
    assert_eq!((late.expect_err("late").code(), began.elapsed()), (Code::DeadlineExceeded, PATIENCE));
    assert!(task.abandoned.load(Ordering::SeqCst));
}

#[test]
fn a_name_is_the_expert_s_or_one_of_its_models() {
    let named = |reads, name| {
        let server = inference(None);
        let identity = Arc::new(Identity { reads, ..testing::identity() });
        Inference { identity, ..server }.named(name)
    };
    assert_eq!(named(Reads::Text, "oracle"), Ok(Named::Texts));
    assert_eq!(named(Reads::Tensors, "oracle"), Ok(Named::Raw(None)));
    assert_eq!(named(Reads::Text, "oracle.a.b"), Ok(Named::Raw(Some("a.b"))));
    for name in ["", "oracles", "orac", "a.oracle", "Oracle", "oracle a"] {
        assert_eq!(named(Reads::Text, name), Err(Unserved::Unknown), "{name}");
    }
}

#[test]
fn the_version_of_texts_is_a_number() {
    for (version, expected) in [("3", "3"), ("2024.1", "1"), ("v3", "1"), ("-3", "1"), ("99999999999999999999", "1")] {
        let identity = Arc::new(Identity { version: version.to_owned(), ..testing::identity() });
        let server = Inference { identity, ..inference(None) };
        assert_eq!(server.text_version(), expected);
        assert!(server.check_text_version("").is_ok() && server.check_text_version(expected).is_ok());
        assert!(server.check_text_version("7").is_err());
    }
}
