//! One file a command: its flags (`Args`), and what it does with them (`run`).

pub(crate) mod agent;
pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod central;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod drain;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod read;
pub(crate) mod status;
pub(crate) mod verify;
