//! Calls as bytes and headers, so that what no client library would send can be sent, and everything that comes back can be
//! looked at.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;
use tonic::{Code, Status};

/// Streams that say nothing more are left.
const LONGEST: Duration = Duration::from_secs(8);

/// A call to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// `package.Service/Method`
    pub(crate) method: String,
    /// They replace those that every call has.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) message: Bytes,
    /// Over HTTP/1.1, as a page in a browser does.
    pub(crate) web: bool,
}

/// What came back: the status, every header and trailer as text, and the messages.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Without one in the response, `UNKNOWN`.
    pub(crate) status: Status,
    /// Whether the response had a status of gRPC.
    is_of_grpc: bool,
    pub(crate) metadata: String,
    pub(crate) messages: Vec<Bytes>,
}

/// Clients of either kind. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    http2: Client<HttpConnector, Full<Bytes>>,
    http1: Client<HttpConnector, Full<Bytes>>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let builder = || Client::builder(TokioExecutor::new());
        Self { http2: builder().http2_only(true).build_http(), http1: builder().build_http() }
    }

    /// Makes a call. A call that gets no answer has a status that says so.
    pub(crate) async fn call(&self, address: SocketAddr, call: &Call) -> Heard {
        let exchange = timeout(LONGEST, self.exchange(address, call)).await;
        exchange.unwrap_or_else(|_| Heard::nothing("left after a while"))
    }

    async fn exchange(&self, address: SocketAddr, call: &Call) -> Heard {
        let kind = if call.web { "application/grpc-web+proto" } else { "application/grpc" };
        let mut headers = vec![("content-type", kind.to_owned()), ("grpc-timeout", "5S".to_owned())];
        if call.web {
            headers.extend([("x-grpc-web", "1".to_owned())]);
        } else {
            headers.extend([("te", "trailers".to_owned())]);
        }
        headers.retain(|(name, _)| call.headers.iter().all(|(own, _)| own != name));
        let mut request = Request::post(format!("http://{address}/{}", call.method));
        for (name, value) in headers.iter().chain(&call.headers) {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(framed(&call.message))).expect("headers are headers");
        let client = if call.web { &self.http1 } else { &self.http2 };
        match client.request(request).await {
            Err(error) => Heard::nothing(&error.to_string()),
            Ok(response) => Heard::read(response).await,
        }
    }

    /// A page of an admin port, whatever is asked for.
    pub(crate) async fn page(&self, address: SocketAddr, path: &str) -> Heard {
        let request = Request::get(format!("http://{address}{path}")).body(Full::default());
        match self.http1.request(request.expect("the path is one")).await {
            Err(error) => Heard::nothing(&error.to_string()),
            Ok(response) => Heard::read(response).await,
        }
    }
}

impl Heard {
    /// The code that the server gave; `None` where what came was no answer of gRPC's, or nothing came.
    pub(crate) fn ended(&self) -> Option<Code> {
        self.is_of_grpc.then(|| self.status.code())
    }

    fn nothing(why: &str) -> Self {
        Self { status: Status::unknown(why), is_of_grpc: false, metadata: String::new(), messages: Vec::new() }
    }

    async fn read<B: BodyExt<Data = Bytes>>(response: http::Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let (bytes, trailers) = match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().cloned().unwrap_or_default();
                (body.to_bytes(), trailers)
            }
            Err(_) => (Bytes::new(), HeaderMap::new()),
        };
        let (messages, of_web) = unframed(bytes);
        let in_body = || {
            let (_, code) = of_web.split_once("grpc-status:")?;
            Some(Status::new(Code::from(code.trim_start().split('\r').next()?.parse::<i32>().ok()?), ""))
        };
        let status = [&head.headers, &trailers].into_iter().find_map(Status::from_header_map).or_else(in_body);
        let is_of_grpc = status.is_some();
        let status = status.unwrap_or_else(|| Status::unknown(format!("HTTP {}", head.status)));
        let metadata = format!("{} {} {of_web} {:?}", text(head.headers), text(trailers), status.message());
        Self { status, is_of_grpc, metadata, messages }
    }
}

/// Headers, but for the request's id: whoever gave one is given it back there.
fn text(mut headers: HeaderMap) -> String {
    headers.remove("consilium-request-id");
    format!("{headers:?}")
}

fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("messages here are small"));
    frame.put_slice(message);
    frame.freeze()
}

/// The messages, and the trailers that gRPC-Web sends as a frame of their own. What is no frame is nobody's message.
fn unframed(mut body: Bytes) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while body.len() >= 5 {
        let head = body.split_to(5);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > body.len() {
            break;
        }
        let frame = body.split_to(length);
        if head[0] == 0x80 {
            trailers = String::from_utf8_lossy(&frame).into_owned();
        } else {
            messages.push(frame);
        }
    }
    (messages, trailers)
}
