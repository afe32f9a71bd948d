//! The baseline: a buffered file with length and CRC32C before each payload, and fdatasync.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Mutex;

use super::{Contestant, Entrant, Result, lock};
use crate::workload::Workload;

const BUFFER_BYTES: usize = 256 << 10;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "file",
    package: "",
    settings: "BufWriter of 256 KiB, length and CRC32C before each payload, fdatasync at each barrier; the baseline",
    workloads: &[Workload::Grouped, Workload::Single],
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let file = File::create(terms.directory.join("plain"))?;
        Ok(Box::new(Plain(Mutex::new(BufWriter::with_capacity(BUFFER_BYTES, file)))))
    },
};

struct Plain(Mutex<BufWriter<File>>);

impl Contestant for Plain {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let mut file = lock(&self.0);
        for _ in 0..records {
            file.write_all(&u32::try_from(payload.len())?.to_le_bytes())?;
            file.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
            file.write_all(payload)?;
        }
        file.flush()?;
        file.get_ref().sync_data()?;
        Ok(())
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.append_group(payload, 1)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
