use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::yield_now, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use super::*;
use crate::{layer::shed::InFlight, metrics::Metrics};

/// Milliseconds that its answer takes; 404 fails, 500 panics.
struct Wait(u64);

impl Asked for Wait {
    fn id(&self) -> String {
        format!("wait {}", self.0)
    }
}

type Requests = mpsc::UnboundedSender<Result<Wait, Status>>;

fn streaming(errors_end_it: bool) -> Streaming {
    Streaming { errors_end_it, end: CancellationToken::new(), until: None, room: None }
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
            assert_ne!(milliseconds, 500);
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
    let started = Instant::now();
    assert!(futures::poll!(replies.next()).is_pending());
    assert_eq!(working.load(Ordering::Relaxed), MOST_AT_ONCE);
    assert_eq!(replies.count().await, 40);
    assert_eq!(started.elapsed().as_millis() / 100, 3);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_up_no_answer_and_one_that_leaves_ends_them() {
    let (requests, replies, working) = open(streaming(false));
    ask(&requests, &[100; 20]);
    let mut replies = Box::pin(replies);
    assert!(futures::poll!(replies.next()).is_pending());
    sleep(Duration::from_millis(150)).await;
    assert_eq!(working.load(Ordering::Relaxed), 0);

    let read = Instant::now();
    for _ in 0..MOST_AT_ONCE {
        assert_eq!(replies.next().await.unwrap().unwrap(), "100");
    }
    assert!(read.elapsed().is_zero(), "they were there");
    assert!(futures::poll!(replies.next()).is_pending());
    assert_eq!(working.load(Ordering::Relaxed), 4);
    drop(replies);
    yield_now().await;
    assert_eq!(working.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_has_a_calls_place_until_its_reply_is_handed_over_and_is_refused_where_there_is_none() {
    let taken = InFlight::default();
    let room = Room { server: "test", max: 2, taken: taken.clone(), metrics: Metrics::new().part() };
    let mut extensions = Extensions::new();
    extensions.insert(room);
    let streaming = Streaming::of(&MetadataMap::new(), &extensions, CancellationToken::new());
    let ends = Streaming { errors_end_it: true, ..streaming.clone() };
    let (requests, replies, working) = open(streaming);
    let mut replies = Box::pin(replies);
    assert!(futures::poll!(replies.next()).is_pending());
    assert_eq!(taken.calls(), 0, "it waits");

    ask(&requests, &[200, 100, 300]);
    assert!(futures::poll!(replies.next()).is_pending());
    assert_eq!((taken.calls(), working.load(Ordering::Relaxed)), (2, 2));
    sleep(Duration::from_millis(250)).await;
    assert_eq!((taken.calls(), working.load(Ordering::Relaxed)), (2, 0), "nobody has read them");
    let (other, refused, _) = open(ends);
    ask(&other, &[1]);
    tokio::pin!(refused);
    assert_eq!(refused.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    assert!(refused.next().await.is_none());

    for (reply, left) in [("200", 1), ("100", 0), ("wait 300: too many calls are running here", 0)] {
        assert_eq!(replies.next().await.unwrap().unwrap(), reply);
        assert_eq!(taken.calls(), left);
    }
    ask(&requests, &[100]);
    assert!(futures::poll!(replies.next()).is_pending());
    assert_eq!(taken.calls(), 1);
    drop(replies);
    assert_eq!(taken.calls(), 0);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left != right")]
async fn an_answer_that_panics_does_so_where_the_layers_see_it() {
    let (requests, replies, _) = open(streaming(false));
    ask(&requests, &[500]);
    drop(requests);
    replies.count().await;
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
    yield_now().await;
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
    let unbounded = Streaming::of(&metadata, &Extensions::new(), CancellationToken::new());
    assert!(!unbounded.errors_end_it);
    let left = |streaming: &Streaming, now| streaming.deadline(deadlines, now).remaining(now);
    assert_eq!(left(&unbounded, Instant::now()), deadlines.default);

    metadata.insert("triton_grpc_error", "true".parse().unwrap());
    metadata.insert("grpc-timeout", "60S".parse().unwrap());
    let bounded = Streaming::of(&metadata, &Extensions::new(), CancellationToken::new());
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
