//! HTTP at the edge: a bounded number of connections, deadlines, and answers that can be withheld.

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// Connections served at once by one listener; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 512;
/// A client must have sent the head of its request within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer is withheld: the connection is closed without a word, though the call was applied.
#[derive(Debug)]
pub struct ReplyLost;

impl fmt::Display for ReplyLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply is withheld")
    }
}

impl std::error::Error for ReplyLost {}

/// Serves until `stop` turns true. Each request goes to `answer`; requests under way end with their connection.
pub async fn serve<A, F, B>(listener: TcpListener, mut stop: watch::Receiver<bool>, answer: A)
where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, ReplyLost>> + Send + 'static,
    B: http_body_util::BodyExt + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                pause_before_accepting_again().await;
                continue;
            }
        };
        let answer = answer.clone();
        connections.spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request| answer(request, peer));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
        });
        while connections.try_join_next().is_some() {}
    }
    connections.abort_all();
    while connections.join_next().await.is_some() {}
}

/// Out of descriptors, most likely. The connection stays in the backlog, so without a pause the next attempt fails at once.
#[expect(clippy::disallowed_methods, reason = "a paced loop: the kernel does not say when a descriptor is free again")]
pub async fn pause_before_accepting_again() {
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Short against what a client waits, long against what an attempt costs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A body that does not fail.
pub type Body =
    http_body_util::combinators::UnsyncBoxBody<hyper::body::Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A body of text.
pub fn text(text: String) -> Body {
    let full = http_body_util::Full::new(hyper::body::Bytes::from(text));
    Body::new(http_body_util::BodyExt::map_err(full, |never: Infallible| match never {}))
}
