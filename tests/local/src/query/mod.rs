//! The EC2 Query protocol: forms in, XML out.

pub mod form;
pub mod xml;
