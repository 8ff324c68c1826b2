//! How selectors, tags and filters are said to EC2.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};
use drover_cloud::machines::Selector;

/// A describe call's ids and filters; at most one of them is set, so that its page size may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub ids: Option<Vec<String>>,
    pub filters: Option<Vec<Filter>>,
}

/// The largest page; EC2 takes none together with ids.
pub(crate) const PAGE_MAX: i32 = 1_000;

impl Wanted {
    pub fn by(selector: &Selector) -> Self {
        match selector {
            Selector::Ids(ids) => Self { ids: Some(ids.clone()), filters: None },
            Selector::Tags(tags) => {
                Self { ids: None, filters: Some(tags.iter().map(|(key, value)| tag_filter(key, value)).collect()) }
            }
        }
    }

    /// Narrows a selection by tags; whoever names an id means just that.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        if let Some(filters) = &mut self.filters {
            filters.push(filter(name, value));
        }
        self
    }

    pub fn page(&self) -> Option<i32> {
        self.ids.is_none().then_some(PAGE_MAX)
    }
}

pub(crate) fn tag_filter(key: &str, value: &str) -> Filter {
    filter(&format!("tag:{key}"), value)
}

/// Exactly this value.
pub(crate) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(exact(value)).build()
}

/// Any of exactly these values.
pub(crate) fn any_filter(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.iter().map(|value| exact(value)).collect())).build()
}

/// `*`, `?` and the backslash that escapes them are wildcards to EC2.
fn exact(value: &str) -> String {
    let mut exact = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            exact.push('\\');
        }
        exact.push(c);
    }
    exact
}

pub(crate) fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags given in the call that creates, so that nothing of ours ever exists without them.
pub(crate) fn tagged(resource: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(resource).set_tags(Some(sdk_tags(tags))).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_matched_exactly_and_never_as_a_pattern() {
        let filter = tag_filter("owner", r"a*b?c\d");
        assert_eq!(filter.name(), Some("tag:owner"));
        assert_eq!(filter.values(), [r"a\*b\?c\\d"]);
    }

    #[test]
    fn ids_come_without_page_size_and_filters() {
        let ids = Wanted::by(&Selector::Ids(vec!["subnet-1".into()])).and("state", "available");
        assert_eq!((ids.page(), ids.filters), (None, None));
        let tags = Wanted::by(&Selector::Tags([("a".into(), "b".into())].into())).and("state", "available");
        assert_eq!((tags.page(), tags.filters.map(|filters| filters.len())), (Some(1_000), Some(2)));
    }
}
