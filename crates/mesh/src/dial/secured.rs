//! Connections under TLS, each made with the certificates of the moment. tonic's own connector keeps those that its channel
//! was made with, and a channel lives as long as the instance at its other end: for weeks, and through several certificates.

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::{client::TlsStream, rustls::pki_types::ServerName};
use tower::{BoxError, Service, ServiceExt, service_fn};

use crate::{limits, tls};

/// Whom to believe, and under which name the server has to be known to them.
pub(super) struct Secured {
    pub(super) tls: tls::Client,
    pub(super) name: ServerName<'static>,
}

impl Secured {
    pub(super) fn connector(
        self,
    ) -> impl Service<
        http::Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = BoxError,
        Future = impl Future<Output = Result<TokioIo<TlsStream<TcpStream>>, BoxError>> + Send,
    > + Send
    + 'static {
        let Self { tls, name } = self;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(limits::TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        service_fn(move |address| {
            let (tls, name, tcp) = (tls.clone(), name.clone(), tcp.clone());
            async move {
                let stream = tcp.oneshot(address).await?.into_inner();
                Ok(TokioIo::new(tls.connect(name, stream).await?))
            }
        })
    }
}
