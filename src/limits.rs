//! Every number that nothing may pass, in one place, with its reason.
//!
//! These are limits of the format and of the design, not settings: what an operator may choose lies
//! inside them, in [`crate::config`]. This module knows no value that anybody chose.

/// The version of the bytes on disk, in every header.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// What offsets and lengths of blocks are multiples of, in bytes: the page, and the largest sector in use.
pub const BLOCK_ALIGNMENT: u64 = 4 * KIB;
/// The largest block, in bytes: one write, one slot of the arena.
pub const BLOCK_BYTES_MAX: usize = MIB as usize;
/// The smallest block, in bytes.
pub const BLOCK_BYTES_MIN: u64 = BLOCK_ALIGNMENT;

/// The largest payload that any setting allows, in bytes.
pub const RECORD_BYTES_CEILING: u64 = 64 * MIB;
/// The largest payload when nothing is set, in bytes.
pub const RECORD_BYTES_MAX_DEFAULT: u64 = 16 * MIB;
/// A record takes at most this share of a segment, so that one damaged segment never is one record.
pub const RECORDS_PER_SEGMENT_MIN: u64 = 4;
/// A record takes at most this share of the memory queue, so that one record never is the whole queue.
pub const RECORDS_PER_QUEUE_MIN: u64 = 4;
/// The longest key, in bytes: its length is one byte on disk.
pub const KEY_BYTES_MAX: usize = 255;

/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 256 * KIB;
/// The largest segment, in bytes: an offset in it fits 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 4 * GIB;
/// The largest segment when nothing is set, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 128 * MIB;
/// The cap holds this many segments when nothing is set: dropping the oldest costs 1/16 of the backlog.
pub const SEGMENTS_PER_CAP_DEFAULT: u64 = 16;
/// A cap below this many segments is a mistake: active, next, two spare, one being read, one of backlog.
pub const SLOT_COUNT_MIN: u64 = 6;
/// Slots kept zero-written and ready when `warm_bytes` is not set.
pub const WARM_SLOT_COUNT_DEFAULT: u64 = 2;
/// The cap when nothing is set, in bytes; half the free space where that is less.
pub const DISK_BYTES_CAP_DEFAULT: u64 = 10 * GIB;
/// The smallest cap that any segment size allows, in bytes.
pub const DISK_BYTES_CAP_MIN: u64 = SEGMENT_BYTES_MIN * SLOT_COUNT_MIN;

/// The smallest memory queue, in bytes: room for several blocks, whatever is in flight.
pub const QUEUE_BYTES_MIN: u64 = MIB;
/// The largest memory queue, in bytes.
pub const QUEUE_BYTES_MAX: u64 = 64 * GIB;
/// The largest memory queue, in records.
pub const QUEUE_RECORDS_MAX: u64 = 1 << 32;
/// Writes in flight at once, at most.
pub const WRITE_DEPTH_MAX: u64 = 64;

/// Entries of the gap file; when it is full, neighbours of one reason merge.
pub const GAP_COUNT_MAX: usize = 1_024;
/// Keys that a gap names one by one; the rest is summed.
pub const GAP_KEY_COUNT_MAX: usize = 128;
/// Ranges confirmed beyond the watermark that a cursor keeps.
pub const CURSOR_RANGE_COUNT_MAX: usize = 64;
/// The longest name of a destination, in bytes: it becomes part of a file name.
pub const DESTINATION_NAME_BYTES_MAX: usize = 64;
/// Records of one batch to a destination, at most.
pub const SINK_BATCH_RECORDS_MAX: u64 = 1_000_000;
/// Bytes of one batch to a destination, at most.
pub const SINK_BATCH_BYTES_MAX: u64 = RECORD_BYTES_CEILING;
