//! The log of segments.

pub(crate) mod assembly;
pub mod catalog;
pub mod format;
pub mod reader;
pub mod recovery;
mod repair;
pub mod room;
pub mod salvage;
pub mod scan;
pub mod snapshot;
pub mod spares;
pub(crate) mod stream;
pub mod survey;
mod walk;
pub mod writer;

#[cfg(test)]
mod tests;
