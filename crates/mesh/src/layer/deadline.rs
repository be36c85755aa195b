//! Every call has a deadline: the client's `grpc-timeout` up to a maximum, else a default. A unary call that misses it
//! is answered `DEADLINE_EXCEEDED` and its future is dropped; streams that have begun check for themselves.
//!
//! tonic has a timeout of its own around this layer, which reads the same header and answers `CANCELLED`. Ours wins
//! because its timer is made inside `call()`, that is, before tonic makes its own, and is polled first.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Extensions, HeaderMap};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Request, Response};
use crate::{errors::Refusal, methods::Methods};

const HEADER: &str = "grpc-timeout";

/// Calls that end when a model is there, or gone: the work of an operator, who sets no deadline and waits.
const LOADS: [&str; 2] =
    ["/inference.GRPCInferenceService/RepositoryModelLoad", "/inference.GRPCInferenceService/RepositoryModelUnload"];

/// When a call must have been answered. In the extensions of every request that came through `serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn new(at: Instant) -> Self {
        Self(at)
    }

    /// The deadline of a request, by `Deadline::of(request.extensions())`. `None` outside of `serve`.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left; zero once it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

/// What a call gets that asks for no deadline, and the most that any call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    pub default: Duration,
    pub max: Duration,
}

impl Deadlines {
    /// Reading some gigabytes and warming them up.
    const OF_LOADS: Self = Self { default: Duration::from_mins(10), max: Duration::from_mins(10) };
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { default: Duration::from_secs(2), max: Duration::from_secs(30) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct DeadlineLayer {
    pub(crate) deadlines: Deadlines,
    pub(crate) methods: Methods,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct WithDeadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S: Service<Request, Response = Response>> Service<Request> for WithDeadline<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Bounded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let asked = match asked(request.headers()) {
            Ok(asked) => asked,
            Err(refusal) => {
                return Bounded::Refused { status: Some(refusal.into_status()) };
            }
        };
        let loads = LOADS.contains(&request.uri().path());
        let Deadlines { default, max } = if loads { Deadlines::OF_LOADS } else { self.layer.deadlines };
        let timeout = asked.unwrap_or(default).min(max);
        if timeout.is_zero() {
            return Bounded::Refused { status: Some(exceeded()) };
        }
        let deadline = Deadline(Instant::now() + timeout);
        request.extensions_mut().insert(deadline);
        // A stream of replies is bounded until it begins: a request that never ends would else keep its place for ever. A
        // stream of requests begins when its client has something to say, so only where tonic would bound it anyway, wrongly.
        if self.layer.methods.takes_stream(request.uri().path()) && asked.is_none() {
            return Bounded::Free { call: self.inner.call(request) };
        }
        let timer = sleep_until(deadline.0);
        Bounded::Raced { call: self.inner.call(request), timer }
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    pub(crate) enum Bounded<F> {
        Free { #[pin] call: F },
        Raced { #[pin] call: F, #[pin] timer: Sleep },
        Refused { status: Option<Status> },
    }
}

impl<F, E> Future for Bounded<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().project() {
            Projected::Free { call } => return call.poll(cx),
            Projected::Raced { call, timer } => {
                if let Poll::Ready(answer) = call.poll(cx) {
                    return Poll::Ready(answer);
                }
                if timer.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Projected::Refused { status } => {
                return status.take().map_or(Poll::Pending, |status| Poll::Ready(Ok(status.into_http())));
            }
        }
        // Drops the call now: what it holds is free before the client hears of it.
        self.set(Self::Refused { status: None });
        Poll::Ready(Ok(exceeded().into_http()))
    }
}

pub(crate) fn exceeded() -> Status {
    Refusal::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed before there was an answer")
        .into_status()
}

/// The timeout that the client asks for, as the gRPC wire format has it: at most eight digits and a unit.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|value| {
        let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let amount: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(amount * 3600)),
            "M" => Some(Duration::from_secs(amount * 60)),
            "S" => Some(Duration::from_secs(amount)),
            "m" => Some(Duration::from_millis(amount)),
            "u" => Some(Duration::from_micros(amount)),
            "n" => Some(Duration::from_nanos(amount)),
            _ => None,
        }
    });
    parsed.map(Some).ok_or_else(|| {
        let problem = "one to eight digits and one of H, M, S, m, u, n are expected, e.g. 500m";
        Refusal::new(Code::InvalidArgument, "INVALID_TIMEOUT", format!("{HEADER}: {problem}"))
            .with_violation(HEADER, problem)
    })
}

#[cfg(test)]
mod tests;
