//! Asking the tools that watch a mesh, which all speak HTTP and JSON. No client library: one request a connection.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The status and the body of a page; `None` when nobody answers.
pub(super) async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let ask = async {
        let mut connection = TcpStream::connect(address).await?;
        // Of HTTP/1.0, which has no chunks.
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(TIMEOUT, ask).await.ok()?.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A page that is JSON.
///
/// # Panics
/// When it is none, or nobody answers.
pub(super) async fn json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = get(address, path).await.unwrap_or_else(|| panic!("no answer to {path}"));
    let value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
    (status, value)
}

/// A path with a query, in which everything but letters, digits and a few signs is written as `%XX`.
pub(super) fn path(path: &str, query: &[(&str, &str)]) -> String {
    let mut whole = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        whole.push(if at == 0 { '?' } else { '&' });
        whole.push_str(name);
        whole.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                whole.push(char::from(byte));
            } else {
                let _ = write!(whole, "%{byte:02X}");
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_says_cannot_be_taken_for_the_path() {
        let expected = "/q?query=rate%28a%7Bb%3D%22c%26d%22%7D%5B1m%5D%29&limit=5";
        assert_eq!(path("/q", &[("query", r#"rate(a{b="c&d"}[1m])"#), ("limit", "5")]), expected);
    }
}
