//! How a call is sent: a token from its lane first, one deadline over waiting and answer, the error as a class.

use std::{
    error::Error,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use drover_cloud::{Class, CloudError, Result, lanes::Lanes};

use crate::{
    calls::Call,
    classify::{UNREADABLE, failed, refused},
};

/// Shared by everything that sends for one account and Region, so that the lanes are counted once.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    lanes: Arc<Mutex<Lanes>>,
    origin: Instant,
    pub(crate) deadline_max: Duration,
    observer: Option<Observer>,
}

/// Is told of each call that ended: how long it took, the wait for its lane included, and the class of its error.
#[derive(Clone)]
pub struct Observer(pub Arc<Observe>);

/// What an [`Observer`] is.
pub type Observe = dyn Fn(&Call, Duration, Option<Class>) + Send + Sync;

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Sender {
    /// No deadline of the table holds longer than `deadline_max`.
    pub fn new(deadline_max: Duration) -> Self {
        Self { lanes: Arc::default(), origin: monotonic(), deadline_max, observer: None }
    }

    pub fn observed(self, observer: Option<Observer>) -> Self {
        Self { observer, ..self }
    }

    pub fn deadline(&self, call: &Call) -> Duration {
        call.deadline.min(self.deadline_max)
    }

    /// Sends one SDK request. Nothing is sent before the lane gave its token: the SDK's futures do nothing until polled.
    pub async fn send<T, E>(
        &self,
        call: &'static Call,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.send_for(call, Duration::ZERO, request).await
    }

    /// As `send`, with time for a transfer added to the call's own: for what may arrive late without harm.
    pub async fn send_for<T, E>(
        &self,
        call: &'static Call,
        transfer: Duration,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let asked = self.now();
        // The SDK's futures are tens of kilobytes, and each layer around one would hold it once more.
        let answer = self.sent(call, self.deadline(call) + transfer, asked, Box::pin(request)).await;
        if let Some(Observer(observe)) = &self.observer {
            observe(call, self.since(asked), answer.as_ref().err().map(|error| error.class));
        }
        answer
    }

    async fn sent<T, E>(
        &self,
        call: &'static Call,
        deadline: Duration,
        asked: Duration,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.token(call, deadline).await?;
        // Counted from the asking: whoever holds a lease was allowed this long. One that was stopped while it waited for its
        // token sends nothing any more.
        let left = deadline.saturating_sub(self.since(asked));
        if left.is_zero() {
            return Err(failed(Class::Throttled, call, LOCAL_RATE, "its deadline ended before it could be sent"));
        }
        let answer = within(call, left, request).await?;
        answer.map_err(|error| {
            let error = refused(call, &error, wall_clock());
            if error.class == Class::Throttled {
                self.drain(call);
            }
            error
        })
    }

    /// Waits for the lane's token.
    async fn token(&self, call: &Call, patience: Duration) -> Result<()> {
        let Some(rate) = call.rate else { return Ok(()) };
        let now = self.now();
        let taken = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).take(call.lane, rate, now, patience);
        let wait = taken.map_err(|none| failed(Class::Throttled, call, LOCAL_RATE, &none.to_string()))?;
        if !wait.is_zero() {
            pause(wait).await;
        }
        Ok(())
    }

    fn drain(&self, call: &Call) {
        let Some(rate) = call.rate else { return };
        let now = self.now();
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).drain(call.lane, rate, now);
    }

    pub fn now(&self) -> Duration {
        monotonic().saturating_duration_since(self.origin)
    }

    pub fn since(&self, then: Duration) -> Duration {
        self.now().saturating_sub(then)
    }
}

/// The code of a call that our own rate lane held back past its deadline: nothing was sent.
pub(crate) const LOCAL_RATE: &str = "LocalRate";

/// 100,000 machines or objects in pages of 1,000: far beyond what one realm is for, and an end for a token that repeats.
const PAGES_MAX: usize = 100;

/// Bounds what follows a request that may have been sent.
pub(crate) async fn within<T>(call: &Call, bound: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(bound, work)
        .await
        .map_err(|_| failed(Class::Transient, call, "Timeout", &format!("no answer within {} ms", bound.as_millis())))
}

/// Reads every page or fails: `page` takes the token of the one before and gives items and the next token.
pub(crate) async fn pages<T, F>(call: &Call, mut page: impl FnMut(Option<String>) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<(Vec<T>, Option<String>)>>,
{
    let (mut all, mut token) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let (items, next) = page(token).await?;
        all.extend(items);
        // EC2 ends a list with an empty token as well as with none.
        token = next.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
    Err(unreadable(call, format_args!("more than {PAGES_MAX} pages")))
}

/// What an answer lacks that the API promises. The call may have been applied.
pub(crate) fn unreadable(call: &Call, what: impl std::fmt::Display) -> CloudError {
    failed(Class::Transient, call, UNREADABLE, &format!("the answer cannot be read: {what}"))
}

#[expect(clippy::disallowed_methods, reason = "the edge: lanes get their time from here")]
fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the edge: compared with the date of the cloud's answers")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: a token is due after this long, bounded by the call's deadline"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}
