//! One file over HTTP onto the disk: hashed as it comes, never longer than it should be, tried again where that helps.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use consilium_mesh::backoff::Backoff;
use http::{StatusCode, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use ureq::{
    Agent, RequestBuilder,
    tls::{Certificate, RootCerts, TlsConfig},
    typestate::WithoutBody,
};

use super::{Wanted, wanted::Location};
use crate::{error::Error, progress::Gauge, render::models::size, tls};

const TRIES: u32 = 3;
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// To connect, and for the server to say something.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Without a single byte. How long a whole file takes is a matter of its size, and bounded by whoever asks for it.
const SILENCE: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 64 << 10;

/// What a file has to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) size: Size,
    /// Lower-case hex.
    pub(super) sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Exactly(u64),
    /// The hash says it all, but a server may send without an end.
    AtMost(u64),
}

/// The way to all servers. `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` count.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    agent: Agent,
    /// For a file, all tries together.
    timeout: Duration,
}

/// Why a try came to nothing.
#[derive(Debug)]
struct Failure {
    problem: String,
    /// Worth another try.
    again: bool,
}

impl Downloads {
    /// For these, with `timeout` for each file.
    ///
    /// # Errors
    /// When one of them is behind TLS, and there is no authority to know it by.
    pub(super) fn new(wanted: &[Wanted], timeout: Duration) -> Result<Self, Error> {
        let authorities = match tls::system_authorities() {
            Err(error) if wanted.iter().any(|one| one.url.is_https()) => return Err(error),
            // Others may be sent on to where they are needed after all.
            authorities => authorities.unwrap_or_default(),
        };
        let roots: RootCerts = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).into();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("consilium/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(SILENCE))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        Ok(Self { agent: config.build().into(), timeout })
    }

    /// Downloads a file to the path `to`, which is written over. `Err` says what is wrong with which URL.
    pub(super) async fn file(
        &self,
        from: &Location,
        to: &Path,
        expected: Expected,
        gauge: Gauge,
    ) -> Result<(), String> {
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        let mut tries = 0;
        let until = Instant::now() + self.timeout;
        loop {
            tries += 1;
            let (request, place, path) = (self.request(from, until), from.clone(), to.to_owned());
            let (wanted, shown) = (expected.clone(), gauge.clone());
            let tried = spawn_blocking(move || once(request, &place, &path, &wanted, &shown)).await;
            let tried = tried.unwrap_or_else(|error| Err(Failure::last(error.to_string())));
            let left = until.saturating_duration_since(Instant::now());
            match tried {
                Ok(()) => return Ok(()),
                Err(failure) if failure.again && left.is_zero() => {
                    let timeout = humantime::format_duration(self.timeout);
                    let problem = failure.problem;
                    return Err(format!("{from}: not there within {timeout}: {problem}; --timeout gives it more time"));
                }
                Err(failure) if failure.again && tries < TRIES => {
                    gauge.tell(&format!("{}; once more", failure.problem));
                    sleep(backoff.failed(rand::random()).min(left)).await;
                }
                Err(Failure { problem, again: true }) => return Err(format!("{from}: {problem} ({tries} tries)")),
                Err(Failure { problem, again: false }) => return Err(format!("{from}: {problem}")),
            }
        }
    }

    /// A file by TLS comes by TLS to the end, wherever its server sends us on to.
    fn request(&self, from: &Location, until: Instant) -> RequestBuilder<WithoutBody> {
        let left = until.saturating_duration_since(Instant::now());
        self.agent.get(from.uri()).config().https_only(from.is_https()).timeout_global(Some(left)).build()
    }
}

/// One try, on a thread of its own: it blocks.
fn once(
    mut request: RequestBuilder<WithoutBody>,
    from: &Location,
    to: &Path,
    expected: &Expected,
    gauge: &Gauge,
) -> Result<(), Failure> {
    if let Some(credentials) = from.authorization() {
        request = request.header(AUTHORIZATION, credentials);
    }
    let response = request.call().map_err(|error| Failure::of_call(&error))?;
    if response.status() != StatusCode::OK {
        return Err(Failure::of_status(response.status()));
    }
    let body = response.into_body();
    if let Some(announced) = body.content_length() {
        expected.size.fits(announced).map_err(|expected| Failure::last(format!("{expected}, found {announced}")))?;
    }
    // One byte more than it may have: enough to see that there is more.
    let mut body = body.into_reader().take(expected.size.limit().saturating_add(1));
    let here = |error: io::Error| Failure::last(format!("{}: {error}", to.display()));
    let mut file = File::create(to).map_err(here)?;
    let (mut hash, mut read, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let more = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => chunk.get(..bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::first(format!("ended after {}: {error}", bytes(read)))),
        };
        read += more.len() as u64;
        if read > expected.size.limit() {
            return Err(Failure::last(format!("expected {}, found more", expected.size.in_words())));
        }
        hash.update(more);
        file.write_all(more).map_err(here)?;
        gauge.show(&expected.size.progress(read));
    }
    if matches!(expected.size, Size::Exactly(size) if read < size) {
        return Err(Failure::first(format!("expected {}, found {read}", expected.size.in_words())));
    }
    let found = hex(&hash.finalize());
    if found != expected.sha256 {
        return Err(Failure::last(format!("expected sha256 {}, found {found}", expected.sha256)));
    }
    Ok(())
}

impl Size {
    fn limit(self) -> u64 {
        let (Size::Exactly(size) | Size::AtMost(size)) = self;
        size
    }

    /// `Err` says what would.
    fn fits(self, found: u64) -> Result<(), String> {
        let fits = match self {
            Size::Exactly(size) => found == size,
            Size::AtMost(size) => found <= size,
        };
        if fits { Ok(()) } else { Err(format!("expected {}", self.in_words())) }
    }

    fn in_words(self) -> String {
        match self {
            Size::Exactly(size) => bytes(size),
            Size::AtMost(size) => format!("at most {}", bytes(size)),
        }
    }

    fn progress(self, read: u64) -> String {
        match self {
            Size::Exactly(whole) => format!("{} of {}", size(read), size(whole)),
            Size::AtMost(_) => size(read),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // A string takes whatever is written to it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn bytes(number: u64) -> String {
    if number == 1 { "1 byte".to_owned() } else { format!("{number} bytes") }
}

impl Failure {
    /// The next try may well go better.
    fn first(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), again: true }
    }

    /// The next try would end the same way.
    fn last(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), again: false }
    }

    fn of_status(status: StatusCode) -> Self {
        let again =
            status.is_server_error() || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        Self { problem: format!("the server answers {status}"), again }
    }

    fn of_call(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_) => Self::first(error.to_string()),
            // Would repeat where it was sent to, signature and all.
            ureq::Error::BadUri(_) => Self::last("the server sends us on to what is no URL"),
            ureq::Error::RequireHttpsOnly(_) => Self::last("the server sends us on to a URL without TLS"),
            error => Self::last(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_exact_or_a_bound() {
        assert_eq!((Size::Exactly(5).fits(5), Size::AtMost(5).fits(0)), (Ok(()), Ok(())));
        assert_eq!(Size::Exactly(5).fits(4).unwrap_err(), "expected 5 bytes");
        assert_eq!(Size::AtMost(1).fits(2).unwrap_err(), "expected at most 1 byte");
    }

    #[test]
    fn only_what_may_get_better_is_tried_again() {
        let again = |status: u16| Failure::of_status(StatusCode::from_u16(status).unwrap()).again;
        assert_eq!([408, 429, 500, 503].map(again), [true; 4]);
        assert_eq!([204, 206, 301, 401, 403, 404].map(again), [false; 6]);
        assert!(Failure::of_call(&ureq::Error::HostNotFound).again);
        let lost = Failure::of_call(&ureq::Error::BadUri("https://x/?signature=secret".into()));
        assert!(!lost.again && !lost.problem.contains("secret"));
    }
}
