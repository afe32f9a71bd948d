//! What holds on every rung of the ladder, and where the kernel knows less than this one.

use super::*;
use crate::io::DirectIo;
use crate::io::real::RealDisk;
use crate::io::{Access, Disk, Read, ReadDevice};

const SLOT_BYTES: usize = 8192;

fn options() -> DeviceOptions {
    DeviceOptions {
        backend: crate::io::Backend::Ring,
        in_flight_count_max: 4,
        registered_bytes_max: 2 * SLOT_BYTES,
    }
}

/// A ring on one rung; `None`, said, where this kernel has not got it.
fn ring(rung: Rung, arena: &Arc<Arena>) -> Option<RingWriter> {
    // Syncs no names here: any file stands in for the directory.
    match RingWriter::on_ladder(&[rung], arena, file().1, options()) {
        Ok(ring) => Some(ring),
        Err(refusal) => {
            eprintln!("not tested: {rung:?}: {refusal}");
            None
        }
    }
}

fn file() -> (tempfile::TempDir, Arc<dyn File>) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path(), DirectIo::Auto).unwrap();
    let file = disk.create("slot-000000", 16 * SLOT_BYTES as u64, Access::WriteDirect).unwrap();
    (directory, file)
}

/// Writes every slot of the arena (registered and not) and syncs, then checks the bytes.
fn write_and_check(ring: &mut RingWriter, arena: &Arc<Arena>) {
    let (_directory, file) = file();
    let index = ring.attach(Arc::clone(&file)).unwrap();
    let mut completions = Vec::new();
    for token in 0..arena.slot_count() {
        let mut slot = arena.take().unwrap();
        slot.fill(token as u8 + 1);
        let slot = Arc::new(slot);
        let offset = (token * SLOT_BYTES) as u64;
        let dsync = token % 2 == 1;
        ring.submit(Operation::Write {
            token: token as u64,
            file: index,
            slot,
            range: 0..SLOT_BYTES,
            offset,
            dsync,
        });
    }
    while completions.len() < arena.slot_count() {
        ring.wait(Wait::Forever, &mut completions).unwrap();
    }
    ring.submit(Operation::Sync { token: 99, file: index });
    while completions.len() <= arena.slot_count() {
        ring.wait(Wait::For(Duration::from_secs(3600)), &mut completions).unwrap();
    }
    assert!(completions.iter().all(|completion| completion.result.is_ok()), "{completions:?}");
    assert_eq!(arena.free_count(), arena.slot_count());
    let mut read = arena.take().unwrap();
    for token in 0..arena.slot_count() {
        assert_eq!(file.read_at(&mut read, (token * SLOT_BYTES) as u64).unwrap(), SLOT_BYTES);
        assert!(read.iter().all(|&byte| byte == token as u8 + 1));
    }
    ring.detach(index);
}

#[test]
fn every_rung_writes_registered_slots_and_others() {
    for rung in WRITER_LADDER {
        let arena = Arena::new(SLOT_BYTES, 8).unwrap();
        let Some(mut ring) = ring(rung, &arena) else { continue };
        assert!(ring.info.registered_slots <= 2);
        write_and_check(&mut ring, &arena);
    }
}

#[test]
fn every_rung_reads_registered_slots_and_others() {
    for rung in setup::READER_LADDER {
        let arena = Arena::new(SLOT_BYTES, 8).unwrap();
        let mut reader = match reactor::RingReader::on_ladder(&[rung], &arena, options()) {
            Ok(reader) => reader,
            Err(refusal) => {
                eprintln!("not tested: {rung:?}: {refusal}");
                continue;
            }
        };
        let (_directory, file) = file();
        let bytes: Vec<u8> = (0..8 * SLOT_BYTES).map(|index| (index / SLOT_BYTES) as u8 + 1).collect();
        let mut aligned = Arena::new(bytes.len(), 1).unwrap().take().unwrap();
        aligned.copy_from_slice(&bytes);
        assert_eq!(file.write_at(&aligned, 0).unwrap(), bytes.len());
        for token in 0..8 {
            let (slot, offset) = (arena.take().unwrap(), token * SLOT_BYTES as u64);
            reader.submit(Read { token, file: Arc::clone(&file), slot, offset, len: SLOT_BYTES });
        }
        let mut done = Vec::new();
        while done.len() < 8 {
            reader.wait(Wait::Forever, &mut done).unwrap();
        }
        for read in done {
            assert_eq!(read.result.unwrap(), SLOT_BYTES);
            assert!(read.slot.iter().all(|&byte| u64::from(byte) == read.token + 1));
        }
        drop(reader);
        assert_eq!((arena.free_count(), Arc::strong_count(&arena)), (8, 1));
    }
}

#[test]
fn a_kernel_without_timed_enters_gets_the_time_as_an_entry() {
    let arena = Arena::new(SLOT_BYTES, 8).unwrap();
    let Some(mut ring) = ring(Rung::Plain, &arena) else { return };
    ring.has_timed_enter = false;
    let mut completions = Vec::new();
    for _ in 0..20 {
        ring.wait(Wait::For(Duration::from_millis(1)), &mut completions).unwrap();
    }
    assert!(completions.is_empty());
    write_and_check(&mut ring, &arena);
}

#[test]
fn files_that_are_not_in_the_rings_table_go_by_their_descriptors() {
    let arena = Arena::new(SLOT_BYTES, 8).unwrap();
    let Some(mut ring) = ring(Rung::DeferredTaskrun, &arena) else { return };
    ring.registered_files.clear();
    write_and_check(&mut ring, &arena);
}

#[test]
fn a_place_taken_again_is_another_file() {
    let arena = Arena::new(SLOT_BYTES, 8).unwrap();
    let Some(mut ring) = ring(Rung::DeferredTaskrun, &arena) else { return };
    for _ in 0..3 {
        write_and_check(&mut ring, &arena);
    }
}

#[test]
fn a_ring_dropped_on_another_thread_than_it_waited_on_gives_its_arena_back() {
    let arena = Arena::new(SLOT_BYTES, 8).unwrap();
    let Some(mut ring) = ring(Rung::DeferredTaskrun, &arena) else { return };
    let ring = std::thread::scope(|scope| {
        let waited = scope.spawn(|| {
            ring.wait(Wait::For(Duration::from_millis(1)), &mut Vec::new()).unwrap();
            ring
        });
        waited.join().unwrap()
    });
    drop(ring);
    assert_eq!((arena.free_count(), Arc::strong_count(&arena)), (8, 1));
}

#[test]
fn more_operations_than_places_wait_their_turn() {
    let arena = Arena::new(SLOT_BYTES, 1).unwrap();
    let Some(mut ring) = ring(Rung::DeferredTaskrun, &arena) else { return };
    let (_directory, file) = file();
    let index = ring.attach(file).unwrap();
    let slot = Arc::new(arena.take().unwrap());
    for token in 0..100 {
        let (slot, range) = (Arc::clone(&slot), 0..SLOT_BYTES);
        ring.submit(Operation::Write { token, file: index, slot, range, offset: 0, dsync: false });
    }
    let mut completions = Vec::new();
    while completions.len() < 100 {
        ring.wait(Wait::Forever, &mut completions).unwrap();
    }
    let mut tokens: Vec<_> = completions.iter().map(|completion| completion.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
}
