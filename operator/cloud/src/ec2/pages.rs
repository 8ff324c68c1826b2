//! Pagination. A token names the last item of its page and the request it continues, so that pages never overlap and never
//! leave out what was there all the time, whatever comes and goes in between.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{ApiError, Page, Paged};

/// The MaxResults of most Describe actions.
pub(super) const USUAL: RangeInclusive<i64> = 5..=1000;

/// Cuts one page out of `items`, which come in the order of their `key`.
///
/// `scope` is what a token is good for: the action and its other parameters.
pub(super) fn page<T>(
    scope: &str,
    paged: &Paged,
    allowed: RangeInclusive<i64>,
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> &str,
) -> Result<Page<T>, ApiError> {
    let size = page_size(paged, &allowed)?;
    let scope = digest(scope, paged);
    let after = paged.next_token.as_deref().map(|token| open(token, &scope)).transpose()?;
    let mut rest = items.into_iter().filter(|item| after.as_deref().is_none_or(|after| key(item) > after));
    let items: Vec<T> = rest.by_ref().take(size).collect();
    let next_token = match (rest.next(), items.last()) {
        (Some(_), Some(last)) => Some(URL_SAFE_NO_PAD.encode(format!("{scope} {}", key(last)))),
        _ => None,
    };
    Ok(Page { items, next_token })
}

/// Ids and pagination exclude each other in the actions that say so.
pub(super) fn not_with_ids(ids: &[String], parameter: &str, paged: &Paged) -> Result<(), ApiError> {
    if ids.is_empty() || (paged.max_results.is_none() && paged.next_token.is_none()) {
        return Ok(());
    }
    let message = format!("The parameter {parameter} cannot be used with the parameter maxResults");
    Err(ApiError::combination(message))
}

fn page_size(paged: &Paged, allowed: &RangeInclusive<i64>) -> Result<usize, ApiError> {
    let size = paged.max_results.unwrap_or(*allowed.end());
    if !allowed.contains(&size) {
        let bound = if size < *allowed.start() {
            format!("greater than or equal to {}", allowed.start())
        } else {
            format!("less than or equal to {}", allowed.end())
        };
        let message = format!("Value ( {size} ) for parameter maxResults is invalid. Expecting a value {bound}.");
        return Err(ApiError::value(message));
    }
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// The size of the page may change from page to page, the filters may not.
fn digest(scope: &str, paged: &Paged) -> String {
    let mut hash = Sha256::new();
    hash.update(scope);
    for filter in &paged.filters {
        hash.update(format!("{filter:?}"));
    }
    hex::encode(&hash.finalize()[..8])
}

fn open(token: &str, scope: &str) -> Result<String, ApiError> {
    let bad = || ApiError::value("Unable to parse pagination token");
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
    match text.split_once(' ') {
        Some((of, after)) if of == scope => Ok(after.into()),
        _ => Err(bad()),
    }
}
