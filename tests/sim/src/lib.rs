//! The simulator: real operators and real agents' minds over the cloud in memory, in one thread and virtual time. A history is
//! a seed or a crash point; a history that broke a law can be seen again, step by step.

#![allow(clippy::panic, reason = "a broken law ends the history, and the message says which")]

pub mod declared;
pub mod disk;
mod each;
pub mod guard;
pub mod laws;
pub mod machine;
pub mod mysqld;
mod people;
pub mod process;
mod replication;
pub mod world;

pub use declared::Declared;
pub use each::each;
pub use process::{Parts, Process};
pub use world::{Sim, World};
