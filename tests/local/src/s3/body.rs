//! The body of a request, of which an answer may come first: a refused PUT is answered before its body was read. On a
//! connection with such a body under way no other request can follow, so it is either read to its end or the client is told
//! that the connection closes (RFC 9112, section 9.6); a client that is not told sends its next request into nowhere.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// What is still read of the body of a request that was answered already. Conditional writes are of documents far below it.
const REST_BYTES_MAX: u64 = 1 << 20;
/// How long a client has to send it.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// Shared between who serves the request and who answers it; the former may drop it unread.
#[derive(Debug, Clone)]
pub(super) struct RequestBody(Arc<Mutex<Incoming>>);

impl RequestBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// Whether the connection can serve another request: everything was read, before or now.
    pub(super) async fn read_rest(mut self) -> bool {
        if self.is_end_stream() {
            return true;
        }
        // A body that says it is longer is not begun: a client that waits for "100 Continue" then need not send it.
        if self.size_hint().lower() > REST_BYTES_MAX {
            return false;
        }
        let read = async {
            let mut left = REST_BYTES_MAX;
            while let Some(frame) = self.frame().await {
                let Ok(frame) = frame else { return false };
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(REST_TIMEOUT, read).await.unwrap_or(false)
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut *self.incoming()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}
