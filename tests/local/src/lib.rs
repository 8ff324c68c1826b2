//! drover-local

pub mod machine;
