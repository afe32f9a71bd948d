//! Where the race is run: the file system, its room, the kernel. What can hold no proof or no lap is refused here.

use std::path::Path;

use serde::Serialize;

use crate::Result;

/// Magic numbers of statfs, with names.
const FILE_SYSTEMS: [(u64, &str); 6] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
];

/// What the hungriest contestant takes of the disk for a record, in bytes, with room to spare.
const RECORD_BYTES: u64 = 2 << 10;

const ROOM_BYTES_MIN: u64 = 1 << 30;

/// The machine and the disk, as far as figures depend on them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Place {
    pub(crate) kernel: String,
    pub(crate) machine: String,
    pub(crate) cores: usize,
    pub(crate) file_system: &'static str,
}

impl Place {
    /// Looks at `directory`.
    ///
    /// # Errors
    /// It is in memory, or has no room for a lap of `records`.
    pub(crate) fn look(directory: &Path, records: u64) -> Result<Self> {
        let shown = directory.display();
        let status =
            rustix::fs::statfs(directory).map_err(|error| format!("cannot look at {shown}: {error}"))?;
        let magic = status.f_type as u64;
        let file_system =
            FILE_SYSTEMS.iter().find(|(known, _)| *known == magic).map_or("unknown", |known| known.1);
        if file_system == "tmpfs" {
            return Err(format!(
                "{shown} is a tmpfs, where nothing is durable: give --dir a place on a disk"
            )
            .into());
        }
        let free = status.f_bavail.saturating_mul(status.f_bsize as u64);
        let needed = (records * RECORD_BYTES).max(ROOM_BYTES_MIN);
        if free < needed {
            let [free, needed] = [free, needed].map(|bytes| bytes >> 20);
            return Err(
                format!("{shown} has {free} MiB free, and {needed} are needed: lower --records").into()
            );
        }
        let system = rustix::system::uname();
        Ok(Self {
            kernel: system.release().to_string_lossy().into_owned(),
            machine: system.machine().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            file_system,
        })
    }
}
