//! An io_uring storage engine between telemetry agents and their central.
//!
//! Records flow through memory while the central keeps up; they spill to disk when the queue passes 80 % or
//! the link is down; after reconnect the backlog drains at a governed rate; and every loss has a name.
//!
//! ```text
//!  producers ──append──► queue ─────────────────────────────────► forwarder ──► sink
//!                          │ >= 80 % full, offline,                   ▲
//!                          │ or spill = "always"                      │ batches, paced
//!                          ▼                                          │
//!                      segment log ──────────► read-ahead ──► governor
//! ```
//!
//! | room | what is in it |
//! |---|---|
//! | [`pipeline`] | the whole path: a store, its backfill reactor, the way to a sink |
//! | [`store`] | a directory opened for writing: memory queue, log, marks, cursors, gaps |
//! | [`segment`], [`block`], [`record`] | bytes: the format, the writer, recovery, verified reads |
//! | [`backfill`], [`governor`], [`queue::spill`] | what decides, pure, in virtual time |
//! | [`io`] | the seam to the kernel: the ring, blocking calls, a simulated disk |
//! | [`sink`] | where records go: write your own |
//!
//! # Quick start
//!
//! ```
//! use forebay::record::Record;
//! use forebay::store::{Level, Store};
//! use forebay::{Config, config::SpillMode};
//!
//! # let scratch = tempfile::tempdir().unwrap();
//! # let dir = scratch.path().join("store");
//! # fn main_(dir: std::path::PathBuf) -> forebay::Result<()> {
//! let mut config = Config::new(dir);
//! config.spill = SpillMode::Always; // everything goes through the log
//! let store = Store::open(&config)?;
//! let sequence = store.append_blocking(&Record::new(b"temperature=21.5", 0), Level::Durable)?;
//! assert_eq!(sequence, 1); // on stable storage
//! store.close()?;
//! # Ok(())
//! # }
//! # main_(dir).unwrap();
//! ```

pub mod backfill;
pub mod block;
pub mod clock;
pub mod config;
pub mod copies;
pub mod cursor;
pub mod error;
pub mod event;
pub mod gaps;
pub mod governor;
pub mod health;
pub mod io;
pub mod ledger;
pub mod limits;
pub mod pipeline;
pub mod position;
pub mod queue;
pub mod record;
pub mod segment;
pub mod sink;
pub mod state;
pub mod store;

pub use config::Config;
pub use error::{Error, Kind, Result};
pub use pipeline::Pipeline;
pub use record::Record;
pub use sink::Sink;
pub use store::Store;

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
