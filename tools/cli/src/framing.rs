//! Cuts a stream of bytes into records: lines, or lengths in front.
//!
//! Bytes are read in large pieces into one buffer, and records are lent out of it where they lie: nothing is
//! allocated for a record. The buffer grows only for a record that is longer than it, up to the limit.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::io::{read, retry_on_intr};

/// Bytes of the buffer, and so of one read.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of the length in front of a record.
const LENGTH_BYTES: usize = 4;

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Framing {
    /// A newline ends each; it is stripped, and nothing else.
    Lines,
    /// Each is preceded by its length, 4 bytes, little endian.
    U32le,
}

/// What was found at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'a> {
    /// A record.
    Record(&'a [u8]),
    /// Not a whole one: read on.
    Part,
    /// It is longer than the limit; so many bytes as far as is known.
    TooLarge(usize),
}

/// The bytes read and not yet taken.
#[derive(Debug)]
pub(crate) struct Pieces {
    framing: Framing,
    record_bytes_max: usize,
    buffer: Vec<u8>,
    held: Range<usize>,
    /// Of `held`, how many bytes have no newline.
    searched: usize,
}

impl Pieces {
    /// Nothing yet. Records are at most `record_bytes_max` bytes.
    pub(crate) fn new(framing: Framing, record_bytes_max: usize) -> Self {
        Self { framing, record_bytes_max, buffer: vec![0; BUFFER_BYTES], held: 0..0, searched: 0 }
    }

    /// Reads once; false at the end of the input.
    pub(crate) fn read(&mut self, input: BorrowedFd<'_>) -> io::Result<bool> {
        self.make_room();
        let count = retry_on_intr(|| read(input, &mut self.buffer[self.held.end..]))?;
        self.held.end += count;
        Ok(count > 0)
    }

    /// What is not taken moves to the front; where it fills the buffer, that grows.
    fn make_room(&mut self) {
        if self.held.start > 0 {
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        if self.held.end == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Cut<'_> {
        match self.framing {
            Framing::Lines => self.next_line(),
            Framing::U32le => self.next_measured(),
        }
    }

    fn next_line(&mut self) -> Cut<'_> {
        let held = &self.buffer[self.held.clone()];
        let Some(newline) = memchr::memchr(b'\n', &held[self.searched..]) else {
            self.searched = held.len();
            return if held.len() > self.record_bytes_max { Cut::TooLarge(held.len()) } else { Cut::Part };
        };
        let len = self.searched + newline;
        if len > self.record_bytes_max {
            return Cut::TooLarge(len);
        }
        self.searched = 0;
        let start = self.held.start;
        self.held.start += len + 1;
        Cut::Record(&self.buffer[start..start + len])
    }

    fn next_measured(&mut self) -> Cut<'_> {
        let Some((length, rest)) = self.buffer[self.held.clone()].split_first_chunk::<LENGTH_BYTES>() else {
            return Cut::Part;
        };
        let len = u32::from_le_bytes(*length) as usize;
        if len > self.record_bytes_max {
            return Cut::TooLarge(len);
        }
        if rest.len() < len {
            return Cut::Part;
        }
        let start = self.held.start + LENGTH_BYTES;
        self.held.start = start + len;
        Cut::Record(&self.buffer[start..start + len])
    }

    /// At the end of the input: a last line without newline; `None` when nothing is left.
    pub(crate) fn last(&mut self) -> Option<&[u8]> {
        let rest = std::mem::replace(&mut self.held, 0..0);
        (!rest.is_empty()).then(|| &self.buffer[rest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that `input` is cut into, read through a pipe in pieces of `step` bytes.
    fn cut(framing: Framing, input: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let mut pieces = Pieces::new(framing, 1000);
        let mut records = Vec::new();
        for piece in input.chunks(step) {
            let (reading, mut writing) = std::io::pipe().unwrap();
            io::Write::write_all(&mut writing, piece).unwrap();
            assert!(pieces.read(std::os::fd::AsFd::as_fd(&reading)).unwrap());
            while let Cut::Record(record) = pieces.next() {
                records.push(record.to_vec());
            }
        }
        (records, pieces.last().map(<[u8]>::to_vec))
    }

    #[test]
    fn only_the_newline_is_stripped_wherever_the_reads_end() {
        for step in 1..12 {
            let (records, last) = cut(Framing::Lines, b"a\r\n\n bc \nno newline", step);
            assert_eq!(records, [&b"a\r"[..], b"", b" bc "], "{step}");
            assert_eq!(last.unwrap(), b"no newline");
            assert_eq!(cut(Framing::Lines, b"a\n", step), (vec![b"a".to_vec()], None));
        }
    }

    #[test]
    fn lengths_frame_any_bytes() {
        for step in 1..12 {
            let (records, last) = cut(Framing::U32le, b"\x03\0\0\0a\nb\0\0\0\0\x02\0\0\0zz\x05\0", step);
            assert_eq!(records, [&b"a\nb"[..], b"", b"zz"], "{step}");
            assert_eq!(last.unwrap(), b"\x05\0", "what is left over is told");
        }
    }

    #[test]
    fn what_is_too_long_is_found_before_it_is_all_there() {
        let mut pieces = Pieces::new(Framing::Lines, 3);
        pieces.buffer[..5].copy_from_slice(b"abc\nd");
        pieces.held = 0..5;
        assert_eq!(pieces.next(), Cut::Record(b"abc"));
        assert_eq!(pieces.next(), Cut::Part);
        pieces.buffer[..4].copy_from_slice(b"abcd");
        (pieces.held, pieces.searched) = (0..4, 0);
        assert_eq!(pieces.next(), Cut::TooLarge(4));
        let mut pieces = Pieces::new(Framing::U32le, 3);
        pieces.buffer[..4].copy_from_slice(&[4, 0, 0, 0]);
        pieces.held = 0..4;
        assert_eq!(pieces.next(), Cut::TooLarge(4));
    }
}
