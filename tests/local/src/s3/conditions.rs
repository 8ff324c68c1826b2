//! The conditions of S3's reads and writes, over what a key holds: pure, so that a table proves them.

use s3s::{
    S3Result,
    dto::{ETag, ETagCondition},
    s3_error,
};

/// Whether a write may go ahead over what its key holds. `before` is what the key held when the request arrived.
///
/// 412 where the condition does not hold, 404 where `If-Match` names a key that holds nothing, and 409 where the object was
/// deleted while the request was under way (S3 User Guide, "How to prevent object overwrites with conditional writes").
pub(super) fn check_condition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    before: Option<&ETag>,
    now: Option<&ETag>,
) -> S3Result<()> {
    match (if_match, if_none_match) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) => Err(s3_error!(NotImplemented, "If-Match together with If-None-Match")),
        (None, Some(ETagCondition::ETag(_))) => Err(s3_error!(NotImplemented, "If-None-Match of a write takes only *")),
        (None, Some(ETagCondition::Any)) if now.is_none() => Ok(()),
        (Some(condition), None) => match (now, before) {
            (Some(now), _) if matches(condition, now) => Ok(()),
            (None, Some(_)) => Err(s3_error!(ConditionalRequestConflict, "the object was deleted during this request")),
            (None, None) => Err(s3_error!(NoSuchKey)),
            (Some(_), _) => Err(precondition_failed()),
        },
        (None, Some(ETagCondition::Any)) => Err(precondition_failed()),
    }
}

fn matches(condition: &ETagCondition, etag: &ETag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.strong_cmp(etag),
    }
}

fn precondition_failed() -> s3s::S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// The conditions of a read: RFC 9110, section 13.
pub(super) fn check_read(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    now: Option<&ETag>,
) -> S3Result<()> {
    let Some(now) = now else {
        return Err(s3_error!(NoSuchKey));
    };
    if if_match.is_some_and(|condition| !matches(condition, now)) {
        return Err(precondition_failed());
    }
    if if_none_match.is_some_and(|condition| matches(condition, now)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use s3s::S3ErrorCode;

    use super::*;

    #[test]
    fn a_write_goes_ahead_only_as_s3_documents() {
        let (a, b) = (ETag::Strong("a".into()), ETag::Strong("b".into()));
        let is_a = ETagCondition::ETag(a.clone());
        let any = ETagCondition::Any;
        let (none, create, swap) = ((None, None), (None, Some(&any)), (Some(&is_a), None));
        for (name, (if_match, if_none_match), before, now, expected) in [
            ("no condition, new", none, None, None, None),
            ("no condition, over another", none, Some(&a), Some(&b), None),
            ("create, nothing there", create, None, None, None),
            ("create, already there", create, Some(&a), Some(&a), Some(S3ErrorCode::PreconditionFailed)),
            ("create, another came first", create, None, Some(&b), Some(S3ErrorCode::PreconditionFailed)),
            ("swap, the same", swap, Some(&a), Some(&a), None),
            ("swap, changed before", swap, Some(&b), Some(&b), Some(S3ErrorCode::PreconditionFailed)),
            ("swap, changed meanwhile", swap, Some(&a), Some(&b), Some(S3ErrorCode::PreconditionFailed)),
            ("swap, never there", swap, None, None, Some(S3ErrorCode::NoSuchKey)),
            ("swap, deleted meanwhile", swap, Some(&a), None, Some(S3ErrorCode::ConditionalRequestConflict)),
        ] {
            let got = check_condition(if_match, if_none_match, before, now).err().map(|error| error.code().clone());
            assert_eq!(got, expected, "{name}");
        }
    }
}
