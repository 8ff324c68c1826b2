//! What went wrong with a call, as an error of ours: the service's answer by its code, everything else by how far the
//! request got.

use std::{error::Error, time::SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use drover_cloud::{Class, CloudError};

use crate::{calls::Call, clock::seconds_ahead, codes::class};

/// A difference between our clock and the cloud's that a message names when access is denied. AWS refuses signatures from
/// 5 minutes on (EC2) or 15 (S3); a healthy machine is within a second.
const SKEW_SECONDS_NAMED: i64 = 60;

/// Our code for an answer that cannot be read.
pub(crate) const UNREADABLE: &str = "Reply";

/// Bounds a message that goes into conditions and events; EC2's encoded authorisation messages are longer.
const MESSAGE_CHARS_MAX: usize = 600;

/// A failed call of the SDK, `now` being this machine's time when it failed.
pub(crate) fn refused<E>(call: &Call, error: &SdkError<E, HttpResponse>, now: SystemTime) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let (raw, error) = (service.raw(), service.err());
            let code = error.code().unwrap_or_default();
            let status = raw.status().as_u16();
            let message = match error.message() {
                Some(message) => message.to_owned(),
                None if code.is_empty() => described(error),
                None => format!("HTTP status {status} without a message"),
            };
            let class = class(call, code, &message, status);
            let message = match skew_seconds(raw, now) {
                Some(skew) if class == Class::Denied => format!("{}; {message}", skew_words(skew)),
                _ => message,
            };
            let code = match status {
                _ if !code.is_empty() => code.to_owned(),
                200..300 => UNREADABLE.to_owned(),
                _ => format!("Http{status}"),
            };
            failed(class, call, &code, &message)
        }
        // The service answered, and the answer could not be read: what was asked may have been done.
        SdkError::ResponseError(_) => failed(Class::Transient, call, UNREADABLE, &described(error)),
        SdkError::TimeoutError(_) => failed(Class::Transient, call, "Timeout", &described(error)),
        SdkError::DispatchFailure(_) if lacks_credentials(error) => {
            failed(Class::Denied, call, "Credentials", &described(error))
        }
        // Refused, reset, closed, or an upload that stalled half way.
        SdkError::DispatchFailure(_) => failed(Class::Transient, call, "Connection", &described(error)),
        SdkError::ConstructionFailure(_) => failed(Class::Invalid, call, "Request", &described(error)),
        // The SDK may grow kinds; of one that we do not know, nobody can say whether the request was sent.
        _ => failed(Class::Transient, call, "Unknown", &described(error)),
    }
}

/// An error of the call with a message of one line, bounded.
pub(crate) fn failed(class: Class, call: &Call, code: &str, message: &str) -> CloudError {
    let mut message = one_line(message);
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    CloudError::new(class, call.action, code, message)
}

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error with its causes, without the Debug form that the SDK's own DisplayErrorContext appends.
pub(crate) fn described(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// Where credentials could not be had, the request was never sent; the SDK reports it as a failure to dispatch.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        if cause.is::<CredentialsError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// How far our clock is ahead of the service's, where that is worth telling.
fn skew_seconds(response: &HttpResponse, now: SystemTime) -> Option<i64> {
    seconds_ahead(response, now).filter(|ahead| ahead.abs() >= SKEW_SECONDS_NAMED)
}

fn skew_words(ahead: i64) -> String {
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    format!("clock skew: this machine's clock is {} s {side} the cloud's", ahead.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::RUN_INSTANCES;

    #[test]
    fn a_message_is_one_line() {
        let error = failed(Class::Denied, &RUN_INSTANCES, "Credentials", "tried:\n  a: no\n  b: no");
        assert_eq!(error.message, "tried: a: no b: no");
    }

    #[test]
    fn a_long_message_is_cut() {
        let error = failed(Class::Denied, &RUN_INSTANCES, "UnauthorizedOperation", &"é".repeat(5_000));
        assert_eq!(error.message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }
}
