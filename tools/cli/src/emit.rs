//! What `read` and `drain` print: records and losses, as NDJSON or as bare payloads, in large writes.
//!
//! Bare payloads have no place for a loss: it is told on stderr instead, so that it is never hidden.

use std::io::{self, Write as _};

use forebay::gaps::Gap;
use forebay::segment::recovery::Damage;
use forebay::sink::RecordRef;
use rustix::io::Errno;

use crate::ndjson::{self, Renderer};

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Gathers and writes.
#[derive(Debug)]
pub(crate) struct Emitter {
    /// `None`: bare payloads.
    renderer: Option<Renderer>,
    out: Vec<u8>,
}

impl Emitter {
    /// Prints payloads and newlines if `raw`, else NDJSON.
    pub(crate) fn new(raw: bool) -> Self {
        let renderer = (!raw).then(Renderer::plain);
        Self { renderer, out: Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4) }
    }

    /// One record.
    pub(crate) fn record(&mut self, record: RecordRef<'_>) -> io::Result<()> {
        match &self.renderer {
            Some(renderer) => renderer.record(&mut self.out, record),
            None => {
                self.out.extend_from_slice(record.payload);
                self.out.push(b'\n');
            }
        }
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// A loss that is named.
    pub(crate) fn gap(&mut self, gap: &Gap) {
        let Gap { first_sequence: first, last_sequence: last, count, .. } = gap;
        match &self.renderer {
            Some(renderer) => renderer.gap(&mut self.out, gap),
            None => {
                note(format_args!("{count} records of {first} to {last} are lost ({})", gap.reason.name()))
            }
        }
    }

    /// A loss that no gap names yet.
    pub(crate) fn damaged(&mut self, damage: &Damage) {
        let Damage { first_sequence, last_sequence, ref file, offset } = *damage;
        match &self.renderer {
            Some(renderer) => {
                let damage = ndjson::Damage { first_sequence, last_sequence, file, offset };
                renderer.damaged(&mut self.out, &damage);
            }
            None => note(format_args!(
                "records {first_sequence} to {last_sequence} are damaged ({file}, byte {offset})"
            )),
        }
    }

    /// Hands everything to whoever reads stdout.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let stdout = rustix::stdio::stdout();
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            match rustix::io::write(stdout, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut waits = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::OUT)];
                    rustix::event::poll(&mut waits, None)?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        self.out.clear();
        Ok(())
    }
}

/// A sentence on stderr that is no error.
pub(crate) fn note(sentence: std::fmt::Arguments<'_>) {
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "note: {sentence}");
}
