//! An EC2-compatible cloud on one Linux box, with S3 beside it: the EC2 Query API over the model of an account, real machines
//! in namespaces under it, and faults on demand.

pub mod calls;
pub mod clock;
pub mod faults;
pub mod keys;
pub mod machine;
pub mod policy;
pub mod query;
pub mod s3;
pub mod serve;
pub mod sigv4;

#[cfg(test)]
mod testing;
