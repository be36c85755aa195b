//! HTTP/2 by hand: what no client library would send, and what comes back.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tonic::Status;

/// Longer than any answer takes: a row without an answer by then has none.
const PATIENCE: Duration = Duration::from_secs(20);

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const MODEL_STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// One gRPC call, byte by byte.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// Beside those that every gRPC call has.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// Everything after the headers: gRPC's own frames.
    pub(crate) body: Bytes,
}

impl Call {
    /// A call with this message.
    pub(crate) fn of(message: &[u8]) -> Self {
        Self { headers: Vec::new(), body: frame(0, message) }
    }

    /// The same with a message that was compressed.
    pub(crate) fn of_compressed(encoding: &'static str, message: &[u8]) -> Self {
        Self { headers: vec![("grpc-encoding", encoding)], body: frame(1, message) }
    }

    /// The body of the reply, or why there is none. A connection that ends instead of answering is told in words.
    pub(crate) async fn send(self, address: SocketAddr) -> Result<Bytes, Status> {
        let sent = timeout(PATIENCE, self.exchange(address)).await;
        match sent.map_err(|_| Status::unknown("no answer"))? {
            Ok((body, trailers)) => match Status::from_header_map(&trailers) {
                Some(status) if status.code() != tonic::Code::Ok => Err(status),
                Some(_) => Ok(body),
                None => Err(Status::unknown("a reply without a status")),
            },
            Err(error) => Err(Status::unknown(format!("no answer: {error}"))),
        }
    }

    async fn exchange(self, address: SocketAddr) -> Result<(Bytes, HeaderMap), h2::Error> {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let (client, connection) = h2::client::handshake(stream).await?;
        let mut running = JoinSet::new();
        running.spawn(connection);
        let uri = format!("http://{address}{MODEL_INFER}");
        let mut request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(()).expect("headers are headers");
        let (response, mut send) = client.ready().await?.send_request(request, false)?;
        // A server may answer before it has heard everything; then what could not be sent is no matter.
        let mut response = std::pin::pin!(response);
        let mut rest = self.body;
        let response = loop {
            send.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx));
            tokio::select! {
                biased;
                response = &mut response => break response?,
                room = capacity => match room {
                    Some(Ok(room)) => {
                        let part = rest.split_to(room.min(rest.len()));
                        let last = rest.is_empty();
                        if send.send_data(part, last).is_err() || last {
                            break (&mut response).await?;
                        }
                    }
                    _ => break (&mut response).await?,
                },
            }
        };
        let mut headers = response.headers().clone();
        let (mut body, mut reply) = (response.into_body(), BytesMut::new());
        while let Some(part) = body.data().await {
            let part = part?;
            let _ = body.flow_control().release_capacity(part.len());
            reply.put(part);
        }
        headers.extend(body.trailers().await?.unwrap_or_default());
        Ok((reply.freeze(), headers))
    }
}

/// gRPC's frame around a message.
pub(crate) fn frame(compressed: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(compressed);
    frame.put_u32(u32::try_from(message.len()).expect("messages here are small"));
    frame.put_slice(message);
    frame.freeze()
}

/// Streams of requests that are open and say nothing, until it is dropped.
pub(crate) struct Idle {
    _connections: JoinSet<Result<(), h2::Error>>,
    _streams: Vec<(h2::client::ResponseFuture, h2::SendStream<Bytes>)>,
}

/// Opens `count` streams of requests, as many as a connection may have on each.
pub(crate) async fn idle_streams(address: SocketAddr, count: usize) -> Idle {
    const OF_A_CONNECTION: usize = 256;
    let (mut connections, mut streams) = (JoinSet::new(), Vec::new());
    while streams.len() < count {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        connections.spawn(connection);
        for _ in 0..OF_A_CONNECTION {
            client = client.ready().await.expect("there is room for a stream");
            let request = Request::post(format!("http://{address}{MODEL_STREAM_INFER}"));
            let request = request.header("content-type", "application/grpc").header("te", "trailers");
            let request = request.body(()).expect("headers are headers");
            streams.push(client.send_request(request, false).expect("there is room for a stream"));
        }
    }
    Idle { _connections: connections, _streams: streams }
}

/// What an HTTP/1 client gets: how many bytes came before the server closed the connection.
pub(crate) async fn http1(address: SocketAddr) -> Option<usize> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("POST {MODEL_INFER} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).await.expect("a socket takes some bytes");
    ended(&mut stream).await
}

/// Opens `count` streams of one connection at once, whatever the server allows, and resets each where `reset`. Gives how
/// many of them the server refused, and whether it closed the connection.
pub(crate) async fn streams(address: SocketAddr, count: u32, reset: bool) -> (usize, bool) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let mut bytes = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
    http2_frame(&mut bytes, SETTINGS, 0, 0, &[]);
    let head = head(&address.to_string());
    for id in (1..).step_by(2).take(count as usize) {
        http2_frame(&mut bytes, HEADERS, END_HEADERS, id, &head);
        if reset {
            http2_frame(&mut bytes, RST_STREAM, 0, id, &CANCEL.to_be_bytes());
        }
    }
    let (mut read, mut write) = stream.split();
    // It may close the connection before it has read everything.
    let (_, (refused, closed)) = tokio::join!(write.write_all(&bytes), count_refusals(&mut read));
    (refused, closed)
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

fn http2_frame(into: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames here are small").to_be_bytes();
    into.put_slice(&length[1..]);
    into.put_u8(kind);
    into.put_u8(flags);
    into.put_u32(stream);
    into.put_slice(payload);
}

/// A request's headers in HPACK, every one of them literal.
fn head(authority: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", MODEL_INFER),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("headers here are short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Reads frames until the server says no more for a while, or goes.
async fn count_refusals(read: &mut (impl AsyncReadExt + Unpin)) -> (usize, bool) {
    let mut refused = 0;
    loop {
        let mut head = [0; 9];
        match timeout(Duration::from_secs(2), read.read_exact(&mut head)).await {
            Err(_) => return (refused, false),
            Ok(Err(_)) => return (refused, true),
            Ok(Ok(_)) => {}
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if read.read_exact(&mut payload).await.is_err() {
            return (refused, true);
        }
        match head[3] {
            RST_STREAM => refused += 1,
            GOAWAY => return (refused, true),
            _ => {}
        }
    }
}

async fn ended(stream: &mut TcpStream) -> Option<usize> {
    let mut answer = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut answer)).await {
        Ok(Ok(_) | Err(_)) => Some(answer.len()),
        Err(_) => None,
    }
}
