//! The EC2 Query protocol over the model of an account: which actions there are, and how each is read and answered.
//!
//! The shapes are those of EC2's published service model (2016-11-15), which every SDK is generated from. An action, a
//! parameter or a filter that is not known here is refused by name.

mod catalog;
mod endpoint;
pub mod form;
mod instances;
mod launch;
mod network;
mod tags;
#[cfg(test)]
mod tests;
mod volumes;
pub mod xml;

pub use endpoint::Endpoint;
pub(crate) use endpoint::{receive, request_id};

use drover_api::Millis;
use drover_cloud::ec2::{self, ApiError, Caller, Ec2, Mode};
use form::{Form, Malformed, Reader, Value};
use xml::Xml;

/// The one version of the API that is spoken here.
const VERSION: &str = "2016-11-15";

/// How one action looks on the wire.
trait Wire: ec2::Action + Sized {
    /// Reads the action's own parameters.
    fn read(form: &Reader<'_>) -> Result<Self, ApiError>;
    /// Writes what is inside the response element.
    fn write(reply: &Self::Reply, xml: &mut Xml);
}

/// Something that was asked of the account.
#[derive(Debug)]
pub struct Request {
    form: Form,
    action: String,
}

/// What the account answered, and what the log says of it.
#[derive(Debug)]
pub struct Answer {
    pub result: Result<String, ApiError>,
    /// Whether the account was to be changed: a mutating action that was no dry run.
    pub mutating: bool,
    /// Whether it was changed, or may have been: an error can come after a change.
    pub changed: bool,
}

impl Answer {
    /// A refusal before the account was asked.
    fn refused(error: ApiError, mutating: bool) -> Self {
        Self { result: Err(error), mutating, changed: false }
    }
}

impl Request {
    /// Reads the body of a request as far as its action.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let form = Form::parse(body)?;
        let action = form.reader().required("Action")?;
        let version: String = form.reader().required("Version")?;
        if version != VERSION {
            return Err(ApiError::new("InvalidParameterValue", format!("The version {version} is not {VERSION}")));
        }
        Ok(Self { form, action })
    }

    /// The action, as the client named it.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The ids that the request names, for the log.
    pub fn target(&self) -> String {
        self.form.ids()
    }
}

macro_rules! actions {
    ($($action:ident),* $(,)?) => {
        /// Every action there is.
        pub const ACTIONS: &[&str] = &[$(stringify!($action)),*];

        /// Makes one call: reads it, lets the account answer, and writes the answer.
        pub fn call(ec2: &mut Ec2, now: Millis, caller: &Caller, request: &Request, request_id: &str) -> Answer {
            match request.action.as_str() {
                $(stringify!($action) => run::<ec2::$action>(ec2, now, caller, request, request_id),)*
                unknown => Answer::refused(ApiError::unknown_action(unknown), false),
            }
        }
    };
}

actions! {
    AssignPrivateIpAddresses, AttachVolume, CreateSecurityGroup, CreateTags, CreateVolume, DeleteSecurityGroup, DeleteTags,
    DeleteVolume, DescribeAvailabilityZones, DescribeImages, DescribeInstanceAttribute, DescribeInstanceStatus,
    DescribeInstanceTypes, DescribeInstances, DescribeNetworkInterfaces, DescribeSecurityGroups, DescribeSubnets, DescribeTags,
    DescribeVolumes, DescribeVpcs, DetachVolume, ModifyInstanceAttribute, ModifyNetworkInterfaceAttribute, RebootInstances,
    RunInstances, StartInstances, StopInstances, TerminateInstances, UnassignPrivateIpAddresses,
}

fn run<A: Wire>(ec2: &mut Ec2, now: Millis, caller: &Caller, request: &Request, request_id: &str) -> Answer {
    let read = || {
        let form = request.form.reader();
        // These two have no DryRun in the API.
        let has_dry_run = !A::NAME.ends_with("ssignPrivateIpAddresses");
        let dry_run = has_dry_run && form.optional("DryRun")? == Some(true);
        let action = A::read(&form)?;
        request.form.finish()?;
        Ok((action, if dry_run { Mode::DryRun } else { Mode::Run }))
    };
    let (action, mode) = match read() {
        Ok(read) => read,
        Err(error) => return Answer::refused(error, A::MUTATING),
    };
    let reply = ec2.call(now, caller, mode, &action);
    let written = reply.map(|reply| Xml::response(A::NAME, request_id, |xml| A::write(&reply, xml)));
    // The log of this cloud is `Calls`, where S3's are too: the model's own would grow beside it and be read by nobody.
    let changed = ec2.take_log().any(|call| call.changed_something());
    Answer { result: written, mutating: A::MUTATING && mode == Mode::Run, changed }
}

impl From<Malformed> for ApiError {
    fn from(error: Malformed) -> Self {
        let code = match error {
            Malformed::MalformedQueryString(_) => "MalformedQueryString",
            Malformed::MissingParameter(_) => "MissingParameter",
            Malformed::UnknownParameter(_) => "UnknownParameter",
            Malformed::InvalidParameterValue { .. } => "InvalidParameterValue",
            Malformed::TooManyElements(_) => "RequestResourceCountExceeded",
        };
        ApiError::new(code, error.to_string())
    }
}

macro_rules! words {
    ($($type:ident: $expected:literal;)*) => {$(
        impl Value for ec2::$type {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> {
                ec2::$type::parse(text)
            }
        }
    )*};
}
words! {
    ShutdownBehavior: "Expected stop or terminate.";
    HttpTokens: "Expected optional or required.";
    Switch: "Expected enabled or disabled.";
    AutoRecovery: "Expected default or disabled.";
}

/// Filters and pagination, the same in every Describe action.
fn paged(form: &Reader<'_>) -> Result<ec2::Paged, ApiError> {
    Ok(ec2::Paged {
        filters: filters(form)?,
        max_results: form.optional("MaxResults")?,
        next_token: form.optional("NextToken")?,
    })
}

/// Asks for what services of AWS keep in the account as well; here there is none of it.
fn with_managed(form: &Reader<'_>) -> Result<(), Malformed> {
    form.optional::<bool>("IncludeManagedResources").map(drop)
}

fn filters(form: &Reader<'_>) -> Result<Vec<ec2::Filter>, Malformed> {
    form.structures("Filter", |filter| {
        Ok(ec2::Filter { name: filter.required("Name")?, values: filter.list("Value")? })
    })
}

fn tag_specifications(form: &Reader<'_>) -> Result<Vec<ec2::TagSpecification>, Malformed> {
    form.structures("TagSpecification", |specification| {
        Ok(ec2::TagSpecification {
            resource_type: specification.required("ResourceType")?,
            tags: specification.structures("Tag", |tag| read_tag(&tag))?,
        })
    })
}

/// A value that was not sent is empty, as in EC2.
fn read_tag(tag: &Reader<'_>) -> Result<ec2::Tag, Malformed> {
    Ok(ec2::Tag { key: tag.required("Key")?, value: tag.optional("Value")?.unwrap_or_default() })
}

fn write_tags(xml: &mut Xml, tags: &ec2::Tags) {
    xml.items("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key);
        xml.text("value", value);
    });
}

fn write_groups(xml: &mut Xml, groups: &[ec2::GroupIdentifier]) {
    xml.items("groupSet", groups, |xml, group| {
        xml.text("groupId", &group.group_id);
        xml.text("groupName", &group.group_name);
    });
}

/// `<return>true</return>`: all that many changes answer.
fn write_done(xml: &mut Xml) {
    xml.text("return", true);
}
