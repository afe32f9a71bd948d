//! Getting a ring, or the reason why not.
//!
//! Owns the ladder from the newest set-up to the oldest that does, the probe for what the kernel lets us do,
//! and the registration of slots as far as limits allow. Promises that a ring that is given out works: a
//! refusal shows here, not at the first write. Does not know what the ring is used for.

#![allow(unsafe_code, reason = "registering buffers and the raw enter of the probe")]

use std::fmt;
use std::io;
use std::sync::Arc;

use io_uring::{IoUring, Probe, Submitter, opcode};
use rustix::io::Errno;

use crate::io::Arena;
use crate::io::real::named;

/// The kernel's own limit of entries, which `setup_clamp` would cut to in silence.
pub(super) const ENTRIES_MAX: u32 = 4096;
const ENTRIES_MIN: u32 = 8;
/// The kernel's own limit of registered buffers.
const REGISTERED_SLOTS_MAX: usize = 1 << 14;

/// Why there is no ring: the call that was refused, and how.
#[derive(Debug)]
pub struct Refusal {
    call: &'static str,
    error: io::Error,
}

impl Refusal {
    pub(super) fn new(call: &'static str, error: io::Error) -> Self {
        Self { call, error }
    }

    /// Whether asking again would give the same, so that plain calls are the answer.
    pub fn is_for_good(&self) -> bool {
        const FOR_GOOD: [Errno; 6] =
            [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::NOMEM, Errno::INVAL, Errno::OPNOTSUPP];
        FOR_GOOD.iter().any(|&errno| self.is(errno))
    }

    fn is(&self, errno: Errno) -> bool {
        self.error.raw_os_error() == Some(errno.raw_os_error())
    }

    fn hint(&self) -> &'static str {
        match self.error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM) => ": seccomp or kernel.io_uring_disabled",
            Some(Errno::ACCESS) => ": a security module",
            Some(Errno::NOSYS) => ": not in this kernel, or hidden by seccomp",
            Some(Errno::NOMEM) => ": no memory, or RLIMIT_MEMLOCK",
            Some(Errno::INVAL | Errno::OPNOTSUPP) => ": the kernel is too old",
            _ => "",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.call, named(&self.error), self.hint())
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        io::Error::new(refusal.error.kind(), refusal.to_string())
    }
}

/// One way to set a ring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// One thread submits, and completions are worked on only when it asks (6.1). Set up disabled, so that
    /// the thread that first waits is the one, and not the thread that made the device.
    DeferredTaskrun,
    /// One thread submits, the one that sets up (6.0).
    SingleIssuer,
    /// No interrupts for completions (5.19).
    CooperativeTaskrun,
    /// Whatever there is.
    Plain,
}

/// For a thread that waits in the ring itself.
pub(super) const WRITER_LADDER: [Rung; 3] = [Rung::DeferredTaskrun, Rung::CooperativeTaskrun, Rung::Plain];
/// For a thread that waits in epoll, where deferred completions would never be worked on.
pub(super) const READER_LADDER: [Rung; 3] = [Rung::SingleIssuer, Rung::CooperativeTaskrun, Rung::Plain];

/// The first rung of `ladder` that the kernel knows, with `entries` or, where memory is short, fewer.
pub(super) fn climb_down(ladder: &[Rung], entries: u32) -> Result<(IoUring, Rung), Refusal> {
    let mut refusal = Refusal::new("io_uring_setup", Errno::INVAL.into());
    for &rung in ladder {
        match set_up(rung, entries) {
            Ok(ring) => return Ok((ring, rung)),
            Err(refused) if refused.is(Errno::INVAL) => refusal = refused,
            Err(refused) => return Err(refused),
        }
    }
    Err(refusal)
}

/// One rung, with half the entries as long as memory is short.
fn set_up(rung: Rung, entries: u32) -> Result<IoUring, Refusal> {
    let mut builder = IoUring::builder();
    builder.dontfork();
    match rung {
        Rung::DeferredTaskrun => {
            builder.setup_r_disabled().setup_single_issuer().setup_defer_taskrun();
            builder.setup_coop_taskrun().setup_taskrun_flag()
        }
        Rung::SingleIssuer => builder.setup_coop_taskrun().setup_single_issuer(),
        Rung::CooperativeTaskrun => builder.setup_coop_taskrun().setup_taskrun_flag(),
        Rung::Plain => &mut builder,
    };
    let mut entries = entries;
    loop {
        match builder.build(entries) {
            Err(error) if is_enomem(&error) && entries > ENTRIES_MIN => {
                entries = (entries / 2).max(ENTRIES_MIN);
            }
            Err(error) => return Err(Refusal::new("io_uring_setup", error)),
            Ok(ring) => {
                probe(&ring)?;
                return Ok(ring);
            }
        }
    }
}

fn is_enomem(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOMEM.raw_os_error())
}

/// Whether the ring does what we need, and whether the calls after the set-up are allowed too.
fn probe(ring: &IoUring) -> Result<(), Refusal> {
    if !ring.params().is_feature_nodrop() {
        return Err(Refusal::new("io_uring_setup: IORING_FEAT_NODROP", Errno::OPNOTSUPP.into()));
    }
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe);
    probed.map_err(|error| Refusal::new("io_uring_register", error))?;
    let codes = [opcode::Read::CODE, opcode::ReadFixed::CODE, opcode::Write::CODE, opcode::WriteFixed::CODE];
    let codes = codes.into_iter().chain([opcode::Fsync::CODE, opcode::Timeout::CODE]);
    if !codes.into_iter().all(|code| probe.is_supported(code)) {
        return Err(Refusal::new("io_uring_register: IORING_REGISTER_PROBE", Errno::OPNOTSUPP.into()));
    }
    // SAFETY: nothing to submit, nothing to wait for and no argument: the call only shows whether it is let in.
    match unsafe { ring.submitter().enter::<()>(0, 0, 0, None) } {
        // Not let in: whatever else the kernel answers (a ring not enabled yet, busy), it has looked at the ring.
        Err(error) => {
            Some(Refusal::new("io_uring_enter", error)).filter(Refusal::is_for_good).map_or(Ok(()), Err)
        }
        Ok(_) => Ok(()),
    }
}

/// How many slots registration should start with.
pub(super) fn wanted_slots(arena: &Arena, bytes_max: usize) -> usize {
    (bytes_max / arena.slot_bytes()).min(arena.slot_count()).min(REGISTERED_SLOTS_MAX)
}

/// Halves what is registered until `register` lets it pass: how many it is, and why not all.
pub(super) fn halve_until(
    wanted: usize,
    mut register: impl FnMut(usize) -> io::Result<()>,
) -> (usize, String) {
    let mut count = wanted;
    let mut first_refusal = None;
    while count > 0 {
        match register(count) {
            Ok(()) => break,
            Err(error) => {
                count = if is_enomem(&error) { count / 2 } else { 0 };
                first_refusal.get_or_insert(error);
            }
        }
    }
    let reason = first_refusal.map_or_else(String::new, |error| {
        let refusal = Refusal::new("io_uring_register buffers", error);
        format!("{refusal}: {count} of {wanted} slots registered")
    });
    (count, reason)
}

/// Registers the first `count` slots of `arena`, slot for slot.
pub(super) fn register_slots(submitter: &Submitter<'_>, arena: &Arc<Arena>, count: usize) -> io::Result<()> {
    let slots: Vec<_> = (0..count)
        .map(|index| libc::iovec {
            iov_base: arena.slot_address(index).as_ptr().cast(),
            iov_len: arena.slot_bytes(),
        })
        .collect();
    // SAFETY: the ranges are whole slots of the mapping, which the device's `Arc` of the arena keeps until its
    // ring is gone. The kernel pins the pages; it touches them only for operations, whose slots are in flight.
    unsafe { submitter.register_buffers(&slots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_is_halved_on_enomem_down_to_none_and_says_why() {
        let refuse_above =
            |limit| move |count| if count > limit { Err(io::Error::from(Errno::NOMEM)) } else { Ok(()) };
        assert_eq!(halve_until(64, refuse_above(64)), (64, String::new()));
        let (count, reason) = halve_until(64, refuse_above(20));
        assert_eq!(count, 16);
        assert!(reason.contains("ENOMEM") && reason.contains("16 of 64"), "{reason}");
        assert_eq!(halve_until(64, refuse_above(0)).0, 0);
        let (count, reason) = halve_until(64, |_| Err(Errno::OPNOTSUPP.into()));
        assert!(count == 0 && reason.contains("EOPNOTSUPP"), "{reason}");
    }

    #[test]
    fn a_refusal_names_the_call_the_error_and_the_likely_cause() {
        let refusal = Refusal::new("io_uring_setup", Errno::PERM.into());
        assert!(refusal.is_for_good());
        let sentence = "io_uring_setup: EPERM (Operation not permitted): seccomp or kernel.io_uring_disabled";
        assert_eq!(refusal.to_string(), sentence);
        assert!(!Refusal::new("io_uring_setup", Errno::MFILE.into()).is_for_good());
    }
}
