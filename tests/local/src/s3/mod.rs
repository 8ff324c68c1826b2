//! S3 beside EC2: `s3s` speaks the protocol, `s3s-fs` keeps the objects, and what is ours is the promises of conditional
//! writes (`objects`) and who may do what (`access`).

mod access;
mod body;
mod conditions;
mod endpoint;
mod objects;

pub use access::{Access, Called};
pub use endpoint::{Endpoint, signing_key};
pub use objects::{OBJECT_BYTES_MAX, Objects, OpenError};
