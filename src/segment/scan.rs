//! What the slots of a directory say they hold: each header read once, nothing believed beyond it.
//!
//! ```text
//! slot-NNNNNN ──► sound header of ours ─────────────► segment
//!                 unsound, a sound block in it ─────► segment, its header rebuilt from the block
//!                 zeros, no block ──────────────────► spare; of an impossible size: half-made, to be removed
//!                 another store's, a copy, damaged ─► refused: neither used nor overwritten
//! ```
//!
//! It knows slots and headers, not which segments are alive: that is recovery's.

use zerocopy::FromBytes;

use crate::error::{Error, Kind, Result};
use crate::io::{Access, Arena, Disk, File, Slot};
use crate::limits::{self, BLOCK_BYTES_MAX};
use crate::position::{Epoch, StoreId};
use crate::segment::catalog::{Segment, Spare};
use crate::segment::format::{
    ALIGNMENT, BlockHeader, Envelope, FIRST_BLOCK_OFFSET, Opened, SUMMARY_BYTES, SegmentHeader, blocks_end,
    open_envelope, slot_name, slot_of_name,
};
use crate::segment::survey::read_steps;

/// Bytes below which no slot can hold a segment.
pub const SEGMENT_BYTES_MIN: u64 = FIRST_BLOCK_OFFSET + ALIGNMENT as u64 + SUMMARY_BYTES;

/// A slot that is neither of the log nor spare. Its number is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its file.
    pub slot: u32,
    /// Bytes of the file.
    pub segment_bytes: u64,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a slot is neither of the log nor spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// Another store's. Never used, never overwritten.
    Foreign,
    /// Another slot holds the same segment.
    Duplicate,
    /// A header that cannot be read or rebuilt: for `quarantine/`.
    Damaged,
    /// No size that a slot was ever made with, and nothing in it: its making was cut short. The next open for writing
    /// removes it.
    HalfMade,
}

/// A segment as a slot's header, or its first sound block, says.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// What it says; `end` is the bound, `sealed` is set.
    pub segment: Segment,
    /// The segment before it; `None` where only blocks speak.
    pub previous_segment: Option<u64>,
}

/// Every slot.
#[derive(Debug, Default)]
pub struct Scan {
    /// Segments by ascending id, each id once.
    pub seen: Vec<Seen>,
    /// Slots with nothing in them.
    pub spares: Vec<Spare>,
    /// Slots that are not to be used.
    pub refused: Vec<Refused>,
    /// The header of the newest segment: it repeats the totals and every destination's position.
    pub newest_header: Option<Box<SegmentHeader>>,
    /// A number that no slot has, nor any above it.
    pub slot_next: u32,
    /// For people, a sentence each.
    pub report: Vec<String>,
}

enum Content {
    Segment(Seen, Option<Box<SegmentHeader>>),
    Spare,
    Refused(RefusedReason),
}

impl Scan {
    /// Reads the header of every slot of `disk`. `scratch` is at least 8 KiB.
    ///
    /// # Errors
    /// `Unsupported` for a later version's bytes, else what the directory says.
    pub fn read(disk: &dyn Disk, store: StoreId, scratch: &mut Slot) -> Result<Self> {
        let names =
            disk.names().map_err(|error| Error::io(format!("cannot list {}", disk.place()), error))?;
        let mut slots: Vec<u32> = names.iter().filter_map(|name| slot_of_name(name)).collect();
        slots.sort_unstable();
        let slot_next = slots.last().map_or(0, |slot| slot + 1);
        let mut scan = Self { slot_next, ..Self::default() };
        for slot in slots {
            let name = slot_name(slot);
            let cannot = |error| Error::io(format!("cannot read {} in {}", name, disk.place()), error);
            let file = match disk.open(&name, Access::ReadDirect) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(cannot)?,
            };
            let segment_bytes = file.len().map_err(cannot)?;
            let content = scan.look_into(&*file, slot, segment_bytes, store, scratch)?;
            scan.note(slot, segment_bytes, content);
        }
        scan.keep_each_id_once();
        scan.bound_rebuilt();
        Ok(scan)
    }

    /// Where a header is gone so may be the end of its file: then the blocks end no earlier than elsewhere.
    fn bound_rebuilt(&mut self) {
        let bytes = self.seen.iter().map(|seen| seen.segment.segment_bytes).max().unwrap_or(0);
        for seen in self.seen.iter_mut().filter(|seen| seen.previous_segment.is_none()) {
            seen.segment.segment_bytes = seen.segment.segment_bytes.max(bytes);
            seen.segment.end = blocks_end(seen.segment.segment_bytes);
        }
    }

    /// Gives every slot whose file was cut short its length back, so that nothing is written where another block
    /// or the end of the segment belongs. What was cut off reads as zeros: damage, as before. How many there were.
    ///
    /// # Errors
    /// What the disk says.
    pub fn restore_lengths(&self, disk: &dyn Disk) -> Result<Vec<String>> {
        let mut restored = Vec::new();
        for segment in self.seen.iter().map(|seen| &seen.segment) {
            let name = slot_name(segment.slot);
            let cannot = |error| Error::io(format!("{name} was cut short and can't be made whole"), error);
            let file_bytes = disk.open(&name, Access::Read).and_then(|file| file.len()).map_err(cannot)?;
            if file_bytes >= segment.segment_bytes {
                continue;
            }
            let page = Arena::new(ALIGNMENT, 1).map_err(cannot)?.take().expect("a fresh arena has its slot");
            let file = disk.open(&name, Access::WriteDirect).map_err(cannot)?;
            let end = segment.segment_bytes - ALIGNMENT as u64;
            file.write_at(&page, end).and_then(|_| file.sync()).map_err(cannot)?;
            restored.push(format!(
                "{name} was cut short at byte {file_bytes}, and is whole again: what it held there is lost"
            ));
        }
        Ok(restored)
    }

    fn note(&mut self, slot: u32, segment_bytes: u64, content: Content) {
        match content {
            Content::Segment(seen, header) => {
                let newest = self.seen.iter().all(|other| other.segment.id < seen.segment.id);
                if newest && header.is_some() {
                    self.newest_header = header;
                }
                self.seen.push(seen);
            }
            Content::Spare => self.spares.push(Spare { slot, segment_bytes, written_bytes: 0 }),
            Content::Refused(reason) => {
                self.refused.push(Refused { slot, segment_bytes, reason });
                let name = slot_name(slot);
                match reason {
                    RefusedReason::Foreign => {
                        self.report.push(format!("{name} belongs to another store and is left alone"))
                    }
                    RefusedReason::Damaged => self
                        .report
                        .push(format!("{name} has no readable header at offset 0, and no sound block")),
                    RefusedReason::Duplicate | RefusedReason::HalfMade => {}
                }
            }
        }
    }

    fn look_into(
        &mut self,
        file: &dyn File,
        slot: u32,
        segment_bytes: u64,
        store: StoreId,
        scratch: &mut Slot,
    ) -> Result<Content> {
        let filled = read_steps(file, &mut scratch[..2 * ALIGNMENT], 0);
        let page = &scratch[..filled.min(ALIGNMENT)];
        match open_envelope(Envelope::Segment, page) {
            Opened::Newer(version) => {
                let sentence = format!(
                    "{} is of format version {version}, which this program does not know: use a later one",
                    slot_name(slot)
                );
                return Err(Error::new(Kind::Unsupported, sentence));
            }
            Opened::Sound { store: other, .. } if other != store => {
                return Ok(Content::Refused(RefusedReason::Foreign));
            }
            Opened::Sound { generation, body, .. } => {
                if let Some(content) = segment_of(body, slot, generation) {
                    return Ok(content);
                }
            }
            Opened::Unsound => {}
        }
        let blank = page.iter().all(|&byte| byte == 0);
        let found = own_block(
            &scratch[FIRST_BLOCK_OFFSET as usize..filled.max(ALIGNMENT)],
            store,
            FIRST_BLOCK_OFFSET,
        )
        .or_else(|| if blank { None } else { first_own_block(file, segment_bytes, store, scratch) });
        Ok(match found {
            Some(header) => {
                self.report.push(format!(
                    "{} had an unreadable header at offset 0; it was rebuilt from the block at offset {}",
                    slot_name(slot),
                    header.offset
                ));
                Content::Segment(rebuilt(&header, slot, segment_bytes), None)
            }
            None if blank && is_half_made(segment_bytes) => Content::Refused(RefusedReason::HalfMade),
            None if blank => Content::Spare,
            None => Content::Refused(RefusedReason::Damaged),
        })
    }

    fn keep_each_id_once(&mut self) {
        self.seen.sort_by_key(|seen| (seen.segment.id, seen.previous_segment.is_none(), seen.segment.slot));
        let (refused, report) = (&mut self.refused, &mut self.report);
        self.seen.dedup_by(|copy, kept| {
            let same = copy.segment.id == kept.segment.id;
            if same {
                let slot = copy.segment.slot;
                let segment_bytes = copy.segment.segment_bytes;
                refused.push(Refused { slot, segment_bytes, reason: RefusedReason::Duplicate });
                report.push(format!(
                    "{} is a copy of {} and is left alone",
                    slot_name(slot),
                    slot_name(kept.segment.slot)
                ));
            }
            same
        });
    }
}

/// Whether no slot can have been made with this size.
fn is_half_made(slot_bytes: u64) -> bool {
    slot_bytes < limits::SEGMENT_BYTES_MIN || !slot_bytes.is_multiple_of(ALIGNMENT as u64)
}

/// The segment of a sound header; `None` when what it says cannot be.
fn segment_of(body: &[u8], slot: u32, id: u64) -> Option<Content> {
    let (header, _) = SegmentHeader::read_from_prefix(body).ok()?;
    let declared = header.segment_bytes.get();
    if declared < SEGMENT_BYTES_MIN || !declared.is_multiple_of(ALIGNMENT as u64) || id == 0 {
        return None;
    }
    let segment = Segment {
        slot,
        id,
        epoch: Epoch(header.epoch.get()),
        epoch_base: header.epoch_base.get(),
        base_sequence: header.base_sequence.get(),
        previous_sequence: header.previous_sequence.get(),
        // Of a file cut short too: whoever opens for writing gives it its length back.
        segment_bytes: declared,
        end: blocks_end(declared),
        sealed: true,
    };
    let previous_segment = Some(header.previous_segment.get());
    Some(Content::Segment(Seen { segment, previous_segment }, Some(Box::new(header))))
}

fn rebuilt(header: &BlockHeader, slot: u32, file_bytes: u64) -> Seen {
    let segment_bytes = (file_bytes / ALIGNMENT as u64 * ALIGNMENT as u64).max(SEGMENT_BYTES_MIN);
    let segment = Segment {
        slot,
        id: header.segment.get(),
        epoch: header.epoch(),
        epoch_base: header.epoch_base.get(),
        base_sequence: header.first_sequence.get(),
        previous_sequence: header.previous_sequence.get(),
        segment_bytes,
        end: blocks_end(segment_bytes),
        sealed: true,
    };
    Seen { segment, previous_segment: None }
}

/// The header of the block at the front of `bytes`, if it is sound by its own word of which segment this is.
fn own_block(bytes: &[u8], store: StoreId, offset: u64) -> Option<BlockHeader> {
    let (header, _) = BlockHeader::ref_from_prefix(bytes).ok()?;
    BlockHeader::read(bytes, store, header.segment.get(), offset).copied()
}

/// The first block of the file that is sound by its own word: only a damaged header makes us look so far.
fn first_own_block(
    file: &dyn File,
    file_bytes: u64,
    store: StoreId,
    scratch: &mut Slot,
) -> Option<BlockHeader> {
    let mut base = FIRST_BLOCK_OFFSET;
    while base < file_bytes {
        let len = scratch.len().min(BLOCK_BYTES_MAX);
        let filled = read_steps(file, &mut scratch[..len], base);
        for (index, page) in scratch[..filled].chunks_exact(ALIGNMENT).enumerate() {
            let offset = base + (index * ALIGNMENT) as u64;
            if let Some(header) = own_block(page, store, offset) {
                return Some(header);
            }
        }
        if filled < len {
            return None;
        }
        base += len as u64;
    }
    None
}
