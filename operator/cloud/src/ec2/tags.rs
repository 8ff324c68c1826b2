//! Tags: their rules ("Tag restrictions" in the EC2 user guide), at creation and afterwards.

use super::{
    ApiError, CreateTags, DeleteTags, Ec2, ResourceType, Switch, Tag, TagSpecification, Tags,
    calls::{action, sealed::Run},
    ids,
};

action!(CreateTags, mutating);
action!(DeleteTags, mutating);

const TAGS_MAX: usize = 50;
/// In Unicode characters.
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 256;
/// "Up to 1000 resource IDs".
const RESOURCES_MAX: usize = 1000;

impl Run for CreateTags {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        if self.tags.is_empty() {
            return Err(ApiError::missing("Tag"));
        }
        check_resources(&self.resources)?;
        let tags = checked(&self.tags)?;
        // All or nothing: every resource is checked before the first is changed.
        for id in &self.resources {
            let (current, metadata_tags) = ec2.tags_of(id)?;
            let mut merged = current.clone();
            merged.extend(tags.clone());
            check_count(&merged)?;
            if metadata_tags == Switch::Enabled {
                check_metadata_keys(&tags)?;
            }
        }
        for id in &self.resources {
            ec2.note_tags(id);
            ec2.tags_mut(id)?.extend(tags.clone());
        }
        Ok(())
    }
}

impl Run for DeleteTags {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        check_resources(&self.resources)?;
        if let Some(tag) = self.tags.iter().find(|tag| is_reserved(&tag.key)) {
            return Err(reserved(&tag.key));
        }
        for id in &self.resources {
            ec2.tags_of(id)?;
        }
        for id in &self.resources {
            ec2.note_tags(id);
            let tags = ec2.tags_mut(id)?;
            if self.tags.is_empty() {
                tags.clear();
            }
            for tag in &self.tags {
                let delete = |value: &String| tag.value.as_ref().is_none_or(|wanted| wanted == value);
                if tags.get(&tag.key).is_some_and(delete) {
                    tags.remove(&tag.key);
                }
            }
        }
        Ok(())
    }
}

/// What a creation asks to be tagged, by kind of resource.
#[derive(Clone, Debug, Default)]
pub(super) struct CreationTags(Vec<(ResourceType, Tags)>);

impl CreationTags {
    /// `allowed`: the kinds that this action creates.
    pub(super) fn parse(specifications: &[TagSpecification], allowed: &[ResourceType]) -> Result<Self, ApiError> {
        let mut parsed: Vec<(ResourceType, Tags)> = Vec::new();
        for specification in specifications {
            let word = &specification.resource_type;
            let kind = ResourceType::parse(word).filter(|kind| allowed.contains(kind)).ok_or_else(|| {
                ApiError::value(format!("'{word}' is not a valid taggable resource type for this operation."))
            })?;
            if parsed.iter().any(|(known, _)| *known == kind) {
                return Err(ApiError::value(format!("Duplicate resource type '{word}' in the tag specifications")));
            }
            if specification.tags.is_empty() {
                return Err(ApiError::value("Tag specification must have at least one tag"));
            }
            let tags = checked(&specification.tags)?;
            check_count(&tags)?;
            parsed.push((kind, tags));
        }
        Ok(Self(parsed))
    }

    pub(super) fn of(&self, kind: ResourceType) -> Tags {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, tags)| tags.clone()).unwrap_or_default()
    }
}

/// The keys that instance metadata can serve ("Work with instance tags in instance metadata"): with InstanceMetadataTags on,
/// any other key fails the call that would set it.
pub(super) fn check_metadata_keys(tags: &Tags) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+=,.@:".contains(c);
    let bad = |key: &&String| !key.chars().all(allowed) || matches!(key.as_str(), "." | ".." | "_index");
    match tags.keys().find(bad) {
        Some(key) => Err(ApiError::value(format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), \
             and must not be a reserved name ('.', '..', '_index')"
        ))),
        None => Ok(()),
    }
}

fn checked(tags: &[Tag]) -> Result<Tags, ApiError> {
    let mut checked = Tags::new();
    for Tag { key, value } in tags {
        if key.is_empty() {
            return Err(ApiError::value("Tag key cannot be null or empty"));
        }
        if key.chars().count() > KEY_MAX {
            return Err(ApiError::value(format!("Tag key exceeds the maximum length of {KEY_MAX} characters")));
        }
        if value.chars().count() > VALUE_MAX {
            return Err(ApiError::value(format!("Tag value exceeds the maximum length of {VALUE_MAX} characters")));
        }
        if is_reserved(key) {
            return Err(reserved(key));
        }
        if checked.insert(key.clone(), value.clone()).is_some() {
            return Err(ApiError::value(format!("Duplicate tag key '{key}' specified.")));
        }
    }
    Ok(checked)
}

fn check_count(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        let message = format!("You have reached the maximum number of tags on a resource: {TAGS_MAX}");
        return Err(ApiError::new("TagLimitExceeded", message));
    }
    Ok(())
}

fn check_resources(resources: &[String]) -> Result<(), ApiError> {
    match resources.len() {
        0 => Err(ApiError::missing("ResourceId")),
        n if n > RESOURCES_MAX => {
            Err(ApiError::value(format!("At most {RESOURCES_MAX} resources can be named in one request")))
        }
        _ => Ok(()),
    }
}

/// `aws:` in any case belongs to AWS.
fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

fn reserved(key: &str) -> ApiError {
    ApiError::value(format!("Tag keys starting with 'aws:' are reserved for internal use: {key}"))
}

impl Ec2 {
    /// A resource's tags, and whether its metadata shows them.
    fn tags_of(&self, id: &str) -> Result<(&Tags, Switch), ApiError> {
        let (resource_type, kind) = ids::kind_of(id)?;
        let plain = |tags| (tags, Switch::Disabled);
        let found = match resource_type {
            ResourceType::Instance => match self.visible_instance(id) {
                Some(it) => {
                    self.require_zone(&it.zone)?;
                    Some((&it.tags, it.metadata_options.instance_metadata_tags))
                }
                None => None,
            },
            ResourceType::Volume => self.visible_volume(id).map(|it| plain(&it.tags)),
            ResourceType::NetworkInterface => self.visible_interface(id).map(|it| plain(&it.tags)),
            ResourceType::SecurityGroup => self.visible_group(id).map(|it| plain(&it.tags)),
            ResourceType::Subnet => self.subnets.get(id).map(|it| plain(&it.tags)),
            ResourceType::Vpc => self.vpcs.get(id).map(|it| plain(&it.tags)),
            ResourceType::Image => self.images.get(id).map(|it| plain(&it.tags)),
        };
        found.ok_or_else(|| kind.missing(&[id]))
    }

    fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, ApiError> {
        let (resource_type, kind) = ids::kind_of(id)?;
        let found = match resource_type {
            ResourceType::Instance => self.instances.get_mut(id).map(|it| &mut it.tags),
            ResourceType::Volume => self.volumes.get_mut(id).map(|it| &mut it.tags),
            ResourceType::NetworkInterface => self.interfaces.get_mut(id).map(|it| &mut it.tags),
            ResourceType::SecurityGroup => self.groups.get_mut(id).map(|it| &mut it.tags),
            ResourceType::Subnet => self.subnets.get_mut(id).map(|it| &mut it.tags),
            ResourceType::Vpc => self.vpcs.get_mut(id).map(|it| &mut it.tags),
            ResourceType::Image => self.images.get_mut(id).map(|it| &mut it.tags),
        };
        found.ok_or_else(|| kind.missing(&[id]))
    }
}
