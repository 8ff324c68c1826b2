//! An EC2-compatible cloud on one Linux box, with S3 and Service Quotas beside it: the EC2 Query API over the model of an
//! account, real machines in namespaces under it, and faults on demand.

pub mod calls;
pub mod clock;
pub mod cloud;
pub mod control;
pub mod fault;
pub mod home;
pub mod host;
pub mod images;
pub mod keys;
pub mod lost;
pub mod machine;
pub mod metadata;
pub mod policy;
pub mod query;
pub mod quotas;
pub mod s3;
pub mod serve;
pub mod session;
pub mod sigv4;
pub mod up;

#[cfg(test)]
mod testing;
