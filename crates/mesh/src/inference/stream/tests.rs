use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use super::*;

/// Milliseconds that its answer takes; 404 fails.
struct Wait(u64);

impl Asked for Wait {
    fn id(&self) -> String {
        format!("wait {}", self.0)
    }
}

type Requests = mpsc::UnboundedSender<Result<Wait, Status>>;

fn streaming(errors_end_it: bool) -> Streaming {
    Streaming { errors_end_it, end: CancellationToken::new(), until: None }
}

/// A stream that answers a [`Wait`] after it, in words, and counts what is being worked on.
fn open(streaming: Streaming) -> (Requests, impl Stream<Item = Result<String, Status>>, Arc<AtomicUsize>) {
    struct Working(Arc<AtomicUsize>);
    impl Drop for Working {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (requests, received) = mpsc::unbounded_channel();
    let working = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&working);
    let answer = move |Wait(milliseconds)| {
        count.fetch_add(1, Ordering::Relaxed);
        let working = Working(Arc::clone(&count));
        async move {
            sleep(Duration::from_millis(milliseconds)).await;
            drop(working);
            if milliseconds == 404 { Err(Status::not_found("nobody")) } else { Ok(milliseconds.to_string()) }
        }
    };
    let error = |id: &str, status: &Status| format!("{id}: {}", status.message());
    (requests, replies(UnboundedReceiverStream::new(received), streaming, answer, error), working)
}

fn ask(requests: &Requests, waits: &[u64]) {
    for wait in waits {
        requests.send(Ok(Wait(*wait))).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn replies_keep_the_order_of_their_requests_and_are_made_side_by_side() {
    let (requests, replies, _) = open(streaming(false));
    ask(&requests, &[300, 100, 200]);
    drop(requests);
    let started = Instant::now();
    let replies: Vec<_> = replies.map(Result::unwrap).collect().await;
    assert_eq!(replies, ["300", "100", "200"]);
    assert!(started.elapsed() < Duration::from_millis(400), "one after the other would take 600");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_are_worked_on() {
    let (requests, replies, working) = open(streaming(false));
    ask(&requests, &[100; 40]);
    drop(requests);
    tokio::pin!(replies);
    let mut most = 0;
    while let Some(reply) = replies.next().await {
        reply.unwrap();
        most = most.max(working.load(Ordering::Relaxed));
    }
    // One of them has just been answered.
    assert_eq!(most, MOST_AT_ONCE - 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_a_reply_and_the_stream_goes_on() {
    let (requests, replies, _) = open(streaming(false));
    ask(&requests, &[1, 404, 2]);
    drop(requests);
    let replies: Vec<_> = replies.map(Result::unwrap).collect().await;
    assert_eq!(replies, ["1", "wait 404: nobody", "2"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_stream_where_the_client_wants_that_and_drops_what_runs() {
    let (requests, replies, working) = open(streaming(true));
    ask(&requests, &[1, 404, 60_000]);
    tokio::pin!(replies);
    assert_eq!(replies.next().await.unwrap().unwrap(), "1");
    assert_eq!(replies.next().await.unwrap().unwrap_err().code(), Code::NotFound);
    // At once, although the client keeps its side open.
    assert!(replies.next().await.is_none());
    assert_eq!(working.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_after_a_message_that_cannot_be_read() {
    for errors_end_it in [false, true] {
        let (requests, replies, _) = open(streaming(errors_end_it));
        ask(&requests, &[5]);
        requests.send(Err(Status::invalid_argument("no message"))).unwrap();
        ask(&requests, &[6]);
        let replies: Vec<_> = replies.collect().await;
        let [Ok(first), Err(last)] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((first.as_str(), last.code()), ("5", Code::InvalidArgument));
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_server_what_was_taken_is_answered_and_the_stream_ends_well() {
    let streaming = streaming(false);
    let end = streaming.end.clone();
    let (requests, replies, _) = open(streaming);
    ask(&requests, &[100, 200]);
    tokio::pin!(replies);
    assert_eq!(replies.next().await.unwrap().unwrap(), "100");
    end.cancel();
    ask(&requests, &[300]);
    assert_eq!(replies.next().await.unwrap().unwrap(), "200");
    assert!(replies.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_ends_with_the_server() {
    let streaming = streaming(false);
    let end = streaming.end.clone();
    let (_requests, replies, _) = open(streaming);
    tokio::pin!(replies);
    assert!(futures::poll!(replies.next()).is_pending());
    end.cancel();
    assert!(replies.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_the_clients_own_bound_and_its_requests_the_servers() {
    let deadlines = Deadlines { default: Duration::from_secs(2), max: Duration::from_secs(30) };
    let mut metadata = MetadataMap::new();
    let unbounded = Streaming::of(&metadata, CancellationToken::new());
    assert!(!unbounded.errors_end_it);
    let left = |streaming: &Streaming, now| streaming.deadline(deadlines, now).remaining(now);
    assert_eq!(left(&unbounded, Instant::now()), deadlines.default);

    metadata.insert("triton_grpc_error", "true".parse().unwrap());
    metadata.insert("grpc-timeout", "60S".parse().unwrap());
    let bounded = Streaming::of(&metadata, CancellationToken::new());
    assert!(bounded.errors_end_it);
    let start = Instant::now();
    assert_eq!(left(&bounded, start), deadlines.max);
    assert_eq!(left(&bounded, start + Duration::from_secs(50)), Duration::from_secs(10));

    let (requests, replies, _) = open(bounded);
    ask(&requests, &[1]);
    tokio::pin!(replies);
    assert_eq!(replies.next().await.unwrap().unwrap(), "1");
    assert_eq!(replies.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 60);
    assert!(replies.next().await.is_none());
}

#[test]
fn what_a_stream_carries_says_whose_it_is_and_that_it_is_the_last() {
    let reply = stream_reply(oip::ModelInferResponse { id: "7".into(), ..Default::default() });
    let inner = reply.infer_response.unwrap();
    assert_eq!((reply.error_message.as_str(), inner.id.as_str()), ("", "7"));
    let last = inner.parameters["triton_final_response"].parameter_choice.clone();
    assert!(last == Some(oip::infer_parameter::ParameterChoice::BoolParam(true)));

    let error = stream_error("7", &Status::not_found("no such model"));
    assert_eq!((error.error_message.as_str(), error.infer_response.unwrap().id.as_str()), ("no such model", "7"));
    let request = oip::ModelInferRequest { id: "7".into(), ..Default::default() };
    assert_eq!((request.id(), Bytes::from(prost::Message::encode_to_vec(&request)).id()), ("7".into(), "7".into()));
}
