//! Traces as a collector gets them: a real server, its calls, and OTLP over gRPC. A process of its own, because telemetry
//! is for all of it.

#[cfg(test)]
mod collector;
#[cfg(test)]
mod panicking;
#[cfg(test)]
#[path = "../it/support.rs"]
#[expect(dead_code, reason = "made for the tests in `it`, of which this needs a part")]
mod support;

#[cfg(test)]
mod tests;
