//! What an operator process remembers between passes. Small structures without I/O, each losable: a new process begins with
//! none of it and comes to the same decisions, some of them later.

pub mod absence;
pub mod backoff;
pub mod catalogs;
pub mod fresh;
pub mod sends;

pub use absence::Absences;
pub use backoff::Backoff;
pub use catalogs::Catalogs;
pub use fresh::Fresh;
pub use sends::Sends;
