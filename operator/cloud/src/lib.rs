//! What we need from a cloud, in our words: machines, volumes and objects as traits, and the classes of what can go wrong.
//! Beside them the reference model that stands in for a cloud in tests, and a wrapper that makes any cloud misbehave.

pub mod capacity;
pub mod ec2;
pub mod error;
pub mod examine;
pub mod fake;
pub mod flaky;
pub mod lanes;
pub mod machines;
pub mod objects;
pub mod volumes;

pub use error::{Class, CloudError, Result};
pub use examine::Examine;
pub use machines::Machines;
pub use objects::Objects;
pub use volumes::Volumes;
