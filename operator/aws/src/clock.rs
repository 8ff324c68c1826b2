//! How far our clock is from the cloud's, by the date that every answer carries.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        orchestrator::HttpResponse,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, config_bag::ConfigBag, date_time::Format};

use crate::send::wall_clock;

/// Watches the answers of every client that it is given to; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloudClock(Arc<Mutex<Option<i64>>>);

impl CloudClock {
    /// By how many seconds we were ahead at the last answer.
    pub fn ahead(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for CloudClock {
    fn name(&self) -> &'static str {
        "CloudClock"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(ahead) = seconds_ahead(context.response(), wall_clock()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
        Ok(())
    }
}

/// How far `now` is ahead of the date of an answer; `None` where it has none.
pub(crate) fn seconds_ahead(response: &HttpResponse, now: SystemTime) -> Option<i64> {
    let date = DateTime::from_str(response.headers().get("date")?, Format::HttpDate).ok()?;
    Some(DateTime::from(now).secs() - date.secs())
}
