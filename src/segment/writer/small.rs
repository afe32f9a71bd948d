//! Small groups: one write that carries its own sync, in the writer's thread or in that of whoever awaits it.

use std::io;
use std::sync::Arc;

use super::{ALIGNMENT, Active, Cadence, Durably, FIRST_BLOCK_OFFSET, LogWriter, Progress, lock};
use crate::block::Block;
use crate::io::{FileIndex, Operation, Wait};

/// How often each way is tried; the first time does not count.
const TRIALS: usize = 4;

impl LogWriter {
    /// Whether a block of `bytes` can be written and durable at once, with nothing before it and nothing in flight.
    pub fn takes_now(&self, bytes: usize) -> bool {
        let fits = |active: &Active| active.offset + bytes as u64 <= active.end;
        self.is_ready()
            && self.is_quiet()
            && self.is_drained()
            && self.slots_are_quiet()
            && self.carries_sync(true)
            && self.active.as_ref().is_some_and(fits)
    }

    /// Sees on the file itself which is faster for a small group, a write that carries its own sync or a sync behind
    /// it, and keeps to that. Writes zeros where the next block will go. Blocks for some small writes: for the first
    /// turn, on the thread of the device.
    pub fn choose_method(&mut self, now_ns: impl Fn() -> u64) {
        let spare = lock(&self.catalog).spares().next().copied();
        let (file, offset, is_ours) = match (&self.active, spare) {
            (Some(active), _) if active.offset + ALIGNMENT as u64 <= active.end => {
                (active.file, active.offset, false)
            }
            (_, Some(spare)) => match self.open_slot(spare.slot) {
                Ok(file) => (file, FIRST_BLOCK_OFFSET, true),
                // Whoever begins a segment in it finds out, and says so.
                Err(_) => return,
            },
            _ => return,
        };
        self.settings.durably = self.faster_method(file, offset, now_ns);
        if is_ours {
            self.device.0.detach(file);
        }
    }

    /// What makes a group durable.
    pub fn durably(&self) -> Durably {
        self.settings.durably
    }

    /// Enters a block that is to be written at once ([`LogWriter::takes_now`] said so).
    pub fn place_now(&mut self, block: &mut Block) -> Operation {
        let entry = self.pack(block, true);
        self.counts.bytes += entry.length as u64;
        self.in_flight += 1;
        let write = entry.rest(self.front_token);
        self.line.push_back(entry);
        write
    }

    /// Writes it, in whichever thread this is.
    pub fn write_now(&mut self, write: Operation, now_ns: impl Fn() -> u64) -> Progress {
        let mut progress = Progress::default();
        self.line[0].begun_ns = now_ns();
        let completion = self.device.0.write_now(write);
        self.now_ns = now_ns();
        self.complete(completion, &mut progress);
        progress
    }

    /// Whether the next write carries its own sync: it does for a group of one write, while nothing that still
    /// needs a sync is before it.
    pub(super) fn carries_sync(&self, is_group: bool) -> bool {
        let alone = || self.sync.is_none() && self.line.iter().all(|entry| entry.dsync);
        self.settings.cadence == Cadence::Group
            && match self.settings.durably {
                Durably::BySync => false,
                Durably::SmallByWrite => is_group && alone(),
                Durably::ByWrite => true,
            }
    }

    /// One operation on the device, and nothing else.
    fn carry_out(&mut self, operation: Operation) -> io::Result<usize> {
        self.device.0.submit(operation);
        let mut completions = Vec::new();
        loop {
            self.device.0.wait(Wait::Forever, &mut completions)?;
            if let Some(completion) = completions.pop() {
                return completion.result;
            }
        }
    }

    fn faster_method(&mut self, file: FileIndex, offset: u64, now_ns: impl Fn() -> u64) -> Durably {
        let page = self.pages.pop().expect("nothing was written yet");
        let mut page = Arc::new(page);
        Arc::get_mut(&mut page).expect("nobody has a share yet")[..ALIGNMENT].fill(0);
        let mut times = [0; 2];
        let mut works = true;
        for trial in 0..TRIALS {
            for (dsync, time) in [true, false].into_iter().zip(&mut times) {
                let begun = now_ns();
                let (slot, range) = (Arc::clone(&page), 0..ALIGNMENT);
                let write = Operation::Write { token: 0, file, slot, range, offset, dsync };
                works &= self.carry_out(write).is_ok_and(|bytes| bytes == ALIGNMENT);
                if !dsync {
                    works &= self.carry_out(Operation::Sync { token: 0, file }).is_ok();
                }
                *time += if trial > 0 { now_ns() - begun } else { 0 };
            }
        }
        self.page_is_back(page);
        if works && times[0] <= times[1] { Durably::SmallByWrite } else { Durably::BySync }
    }
}
