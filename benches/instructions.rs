//! Appends so many records, or reads them back: for `tools/instructions`, which counts what a record costs.
//!
//! `instructions append|read COUNT DIR`; to append, in a directory that is not there yet. By blocking calls, because the counting
//! machine (callgrind) does not follow a ring; records of 256 B, everything else as by default.

use std::path::Path;

use forebay::config::{FullPolicy, SpillMode};
use forebay::io::Backend;
use forebay::store::{Archive, Level, Step, Store};
use forebay::{Config, Error, Kind, Record, Result};

const PAYLOAD: [u8; 256] = [0x5a; 256];

fn append(dir: &Path, count: u64) -> Result<()> {
    let mut config = Config::new(dir);
    config.spill = SpillMode::Always;
    config.queue.full = FullPolicy::Block;
    config.disk_bytes_cap = Some(256 << 20);
    config.disk.free_bytes_min = 0;
    config.write.backend = Backend::Blocking;
    let store = Store::open(&config)?;
    for timestamp in 1..=count {
        store.append_blocking(&Record::new(&PAYLOAD, timestamp), Level::Accepted)?;
    }
    store.close()
}

fn read(dir: &Path) -> Result<u64> {
    let archive = Archive::open(dir)?;
    let mut reader = archive.reader(1, 0)?;
    let mut batch = reader.batch();
    let mut count = 0;
    loop {
        match reader.next(&mut batch)? {
            Step::Records => count += batch.record_count() as u64,
            Step::End => return Ok(count),
            loss => return Err(Error::new(Kind::Corrupt, format!("nothing is lost, but {loss:?}"))),
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::new(Kind::Config, "usage: instructions append|read COUNT DIR");
    let [what, count, dir] = &arguments[..] else { return Err(usage()) };
    let (count, dir) = (count.parse().map_err(|_| usage())?, Path::new(dir));
    match what.as_str() {
        "append" => append(dir, count),
        "read" => read(dir).map(|read| assert_eq!(read, count, "what was appended is read")),
        _ => Err(usage()),
    }
}
