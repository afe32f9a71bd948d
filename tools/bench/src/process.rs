//! What this process has used: time of all threads, bytes that reached the block layer, peak memory.
//!
//! The kernel's own accounts (`/proc/self`), so that nothing here believes the engine's counters. What a kernel
//! does not tell is `None`, never zero.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Wall time, processor time and bytes written since its making.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    cpu: Duration,
    written: Option<u64>,
}

/// What a [`Meter`] has seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    /// Of all threads, the kernel's share included.
    pub(crate) cpu: Duration,
    /// Bytes handed to the block layer.
    pub(crate) written: Option<u64>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let written = written_bytes();
        Self { written, cpu: cpu_time(), begun: Instant::now() }
    }

    pub(crate) fn stop(&self) -> Used {
        let wall = self.begun.elapsed();
        let cpu = cpu_time() - self.cpu;
        let written = written_bytes().zip(self.written).map(|(now, then)| now - then);
        Used { wall, cpu, written }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn written_bytes() -> Option<u64> {
    number_behind(&std::fs::read_to_string("/proc/self/io").ok()?, "write_bytes:")
}

/// The peak is that of now again, where the kernel allows it.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was resident at once since [`forget_peak`], in bytes (VmHWM).
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    number_behind(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:").map(|kib| kib << 10)
}

/// The number that follows `name` at the beginning of a line.
pub(crate) fn number_behind(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let text = "rchar: 1\ncancelled_write_bytes: 3\nwrite_bytes: 2\nVmHWM:\t    77 kB\n";
        assert_eq!(number_behind(text, "write_bytes:"), Some(2));
        assert_eq!(number_behind(text, "VmHWM:"), Some(77));
        assert_eq!(number_behind(text, "VmPeak:"), None);
    }

    #[test]
    fn a_thread_that_has_ended_counts_too() {
        let meter = Meter::start();
        let turns =
            std::thread::spawn(|| (0..20_000_000u64).fold(0, |sum, turn| std::hint::black_box(sum ^ turn)));
        turns.join().unwrap();
        assert!(meter.stop().cpu > Duration::from_millis(1));
    }
}
