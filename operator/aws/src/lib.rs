//! EC2, S3 and Service Quotas as our traits see them. The only crate that names the AWS SDK: error codes become classes here, calls keep
//! to their rate lanes and deadlines here, and nothing of the SDK leaves. It decides nothing: one call in, one call out.

mod calls;
mod classify;
mod clock;
mod codes;
mod connect;
mod convert;
mod machines;
mod objects;
pub mod policy;
mod quotas;
mod selectors;
mod send;
mod volumes;

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod wire_tests;

pub use calls::{Call, Kind, Party, Permission, Scope, Service, calls};
pub use connect::{Aws, Options, connect};
pub use machines::Ec2;
pub use objects::{Bucket, OBJECT_BYTES_MAX};
pub use quotas::Quotas;
pub use send::{Observe, Observer};
