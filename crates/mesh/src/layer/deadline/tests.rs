use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use tonic::body::Body;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::errors;

const DEADLINES: Deadlines = Deadlines { default: Duration::from_secs(2), max: Duration::from_secs(10) };

fn layer() -> DeadlineLayer {
    let descriptors = [consilium_proto::DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    DeadlineLayer { deadlines: DEADLINES, methods: Methods::read(descriptors).unwrap() }
}

fn request(path: &str, timeout: Option<&str>) -> Request {
    let mut request = http::Request::builder().uri(path);
    if let Some(timeout) = timeout {
        request = request.header(HEADER, timeout);
    }
    request.body(Body::empty()).unwrap()
}

/// Calls a handler that never answers; what it was told, and what the client was.
async fn stuck(path: &str, timeout: Option<&str>) -> (Option<Duration>, Status) {
    let seen = Arc::new(Mutex::new(None));
    let handler = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request| {
            *seen.lock().unwrap() = Deadline::of(request.extensions()).map(|it| it.remaining(Instant::now()));
            std::future::pending::<Result<Response, Infallible>>()
        })
    };
    let response = layer().layer(handler).oneshot(request(path, timeout)).await.unwrap();
    let seen = seen.lock().unwrap().take();
    (seen, Status::from_header_map(response.headers()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_what_was_asked_for_up_to_the_maximum_else_the_default() {
    for (asked, expected) in [
        (None, DEADLINES.default),
        (Some("250m"), Duration::from_millis(250)),
        (Some("3S"), Duration::from_secs(3)),
        (Some("99999999H"), DEADLINES.max),
    ] {
        let started = Instant::now();
        let (seen, status) = stuck("/a.B/C", asked).await;
        assert_eq!(seen, Some(expected));
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(errors::reason(&status).as_deref(), Some("DEADLINE_EXCEEDED"));
        assert!(started.elapsed() >= expected);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_loads_a_model_and_says_nothing_waits_for_it() {
    for path in LOADS {
        assert!(layer().methods.name(path).ends_with(path.trim_start_matches('/')), "{path} is no method");
        assert_eq!(stuck(path, None).await.0, Some(Deadlines::OF_LOADS.default));
        assert_eq!(stuck(path, Some("3S")).await.0, Some(Duration::from_secs(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_is_already_over_reaches_no_handler() {
    let (seen, status) = stuck("/a.B/C", Some("0n")).await;
    assert_eq!((seen, status.code()), (None, Code::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_is_the_clients_mistake() {
    for bad in ["", "5", "m", "123456789m", "-1S", "1s", "1 S", "+1S", "1Sé", "0x1S"] {
        let (seen, status) = stuck("/a.B/C", Some(bad)).await;
        assert_eq!((seen, status.code()), (None, Code::InvalidArgument), "{bad:?}");
        assert!(status.message().starts_with("grpc-timeout: "), "{}", status.message());
        assert_eq!(errors::violations(&status)[0].field, HEADER);
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_dropped_before_the_client_hears_of_it() {
    struct Told(Arc<Mutex<bool>>);
    impl Drop for Told {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = true;
        }
    }
    let dropped = Arc::new(Mutex::new(false));
    let told = Arc::clone(&dropped);
    let handler = service_fn(move |_: Request| {
        let told = Told(Arc::clone(&told));
        async move {
            std::future::pending::<()>().await;
            drop(told);
            Ok::<_, Infallible>(Response::default())
        }
    });
    let mut call = std::pin::pin!(layer().layer(handler).oneshot(request("/a.B/C", Some("10m"))));
    assert!(futures::poll!(&mut call).is_pending());
    assert!(!*dropped.lock().unwrap());
    call.as_mut().await.unwrap();
    assert!(*dropped.lock().unwrap(), "although the future of the call is still alive");
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_until_they_start_and_those_of_requests_only_where_the_client_said_so() {
    for path in ["/grpc.health.v1.Health/Watch", "/inference.GRPCInferenceService/ModelStreamInfer"] {
        let (seen, status) = stuck(path, Some("1S")).await;
        assert_eq!((seen, status.code()), (Some(Duration::from_secs(1)), Code::DeadlineExceeded));
    }
    let (seen, status) = stuck("/grpc.health.v1.Health/Watch", None).await;
    assert_eq!((seen, status.code()), (Some(DEADLINES.default), Code::DeadlineExceeded));
    let unbounded = stuck("/inference.GRPCInferenceService/ModelStreamInfer", None);
    assert!(tokio::time::timeout(Duration::from_hours(1), unbounded).await.is_err());
}
