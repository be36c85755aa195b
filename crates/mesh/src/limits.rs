//! The numbers that bound what one peer can make a process hold or wait for. `serve` and `dial` read them; nothing
//! else in the workspace sets a transport limit.

use std::time::Duration;

/// What one server takes. tonic's own defaults are open: no bound on streams, calls or connections' pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one decoded or encoded message. Applied where a service is made:
    /// `.max_decoding_message_size(limits.max_message_bytes)`. gRPC itself says 4 MiB.
    pub max_message_bytes: usize,
    /// Concurrent streams of one connection.
    pub max_streams: u32,
    /// Bytes of one request's headers, as HTTP/2 counts them. Over HTTP/1, which only pages of browsers speak, they are
    /// counted when all have come: until then hyper keeps up to 408 KiB of them for up to 30 s, and tonic lets nobody set
    /// either. An HTTP/2 connection may have ten times as much on its way, see `CONNECTION_WINDOW_BYTES`.
    pub max_header_list_bytes: u32,
    /// Calls that this process works on at once, over all connections. Health and reflection do not count; each request
    /// of an inference stream does. As many such streams may be open besides.
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_streams: 256,
            max_header_list_bytes: MAX_HEADER_LIST_BYTES,
            max_in_flight: 1024,
        }
    }
}

/// Room for a tensor of 1024 × 1024 floats and its envelope; gRPC's usual 4 MiB is just too small for it.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
pub const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// HTTP/2's 64 KiB would make a message of a mebibyte wait for 16 window updates.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Resets that a peer may have pending, and that it may cause, before the connection is closed (rapid reset).
pub(crate) const MAX_PENDING_RESETS: usize = 20;
pub(crate) const MAX_LOCAL_RESETS: usize = 256;

/// Without pings, a connection over a path that swallows packets never recovers: 80 of 80 calls timed out, although
/// the path had healed after a second. Servers ping their clients at this pace.
pub(crate) const SERVER_PING_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const SERVER_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a server of ours may be pinged: a peer that hangs is found within twice this time. Stock gRPC servers close
/// a connection that pings at this pace, so only those that announce it are pinged.
pub const KEEPALIVE: Duration = Duration::from_secs(1);

/// From the first packet of a connection until its peer has begun to speak HTTP; with TLS until the handshake is over, and
/// once more from there.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// For peers that are not pinged, such as those that speak HTTP/1: a machine that vanished is noticed at last.
pub(crate) const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a caller that was shed should wait: a few batches.
pub(crate) const SHED_RETRY_AFTER: Duration = Duration::from_millis(100);
