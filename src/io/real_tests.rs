//! What holds on the real file system under the tests, whichever it is.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn disk() -> (tempfile::TempDir, RealDisk) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path(), DirectIo::Auto).unwrap();
    (directory, disk)
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_made_file_has_its_size_its_blocks_and_its_mode() {
    let (directory, disk) = disk();
    let file = disk.create("slot-000001", 1 << 20, Access::WriteDirect).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(ALIGNMENT.is_multiple_of(file.alignment()));
    let path = directory.path().join("slot-000001");
    assert_eq!(mode_of(&path), 0o600);
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
    assert_eq!(disk.names().unwrap(), ["slot-000001"]);
    let again = disk.create("slot-000001", 4096, Access::Write).expect_err("it is there");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(file.len().unwrap(), 1 << 20, "a refused create leaves the file alone");
}

#[test]
fn a_failed_create_leaves_nothing_behind() {
    let (_directory, disk) = disk();
    let error = disk.create("too-large", u64::MAX >> 1, Access::Write).expect_err("no disk is that large");
    assert!(error.raw_os_error().is_some(), "{error}");
    assert!(disk.names().unwrap().is_empty());
}

#[test]
fn a_new_directory_is_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let first = RealDisk::create(&path, DirectIo::Auto).unwrap();
    RealDisk::create(&path, DirectIo::Auto).expect("a second create finds it there");
    assert_eq!(mode_of(&path), 0o700);
    drop(first);
    assert!(!path.exists(), "made for nothing, it goes again");
    let first = RealDisk::create(&path, DirectIo::Auto).unwrap();
    first.create("state", 4096, Access::Write).unwrap();
    drop(first);
    assert!(path.exists(), "something came to be in it");
    let missing = RealDisk::open(parent.path().join("missing"), DirectIo::Auto).expect_err("not there");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_cannot_lead_out_and_links_are_not_followed() {
    let (directory, disk) = disk();
    for name in ["", ".", "..", "/etc/passwd", "../x", "a/../b", "a/b/c", "a/", "x\0y"] {
        let error = disk.open(name, Access::Read).expect_err(name);
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()), "{name:?}");
    }
    symlink("/etc/passwd", directory.path().join("link")).unwrap();
    symlink("/etc", directory.path().join("quarantine")).unwrap();
    assert!(disk.open("link", Access::Read).is_err());
    assert!(disk.open("quarantine/passwd", Access::Read).is_err());
}

#[test]
fn a_rename_makes_the_quarantine_on_demand() {
    let (directory, disk) = disk();
    disk.create("slot-000001", 4096, Access::Write).unwrap();
    disk.rename("slot-000001", "quarantine/slot-000001").unwrap();
    disk.sync_names().unwrap();
    assert_eq!(mode_of(&directory.path().join("quarantine")), 0o700);
    assert_eq!(disk.open("quarantine/slot-000001", Access::Read).unwrap().len().unwrap(), 4096);
    assert_eq!(disk.names().unwrap(), ["quarantine"]);
    disk.remove("quarantine/slot-000001").unwrap();
    disk.sync_names().unwrap();
}

#[test]
fn a_second_handle_does_not_get_the_lock_until_the_first_is_dropped() {
    let (directory, first) = disk();
    let second = RealDisk::open(directory.path(), DirectIo::Auto).unwrap();
    let held = first.lock().unwrap();
    for disk in [&first, &second] {
        let error = disk.lock().err().expect("it is held");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
    drop(held);
    drop(second.lock().unwrap());
    assert_eq!(mode_of(&directory.path().join("lock")), 0o600);
}

#[test]
fn a_read_only_disk_changes_nothing() {
    let (directory, disk) = disk();
    disk.create("slot-000001", 4096, Access::Write).unwrap();
    let looking = RealDisk::read_only(directory.path()).unwrap();
    let is_refused = |error: io::Error| error.kind() == io::ErrorKind::ReadOnlyFilesystem;
    assert!(looking.create("x", 0, Access::Write).is_err_and(is_refused));
    assert!(looking.open("slot-000001", Access::Write).is_err_and(is_refused));
    assert!(looking.remove("slot-000001").is_err_and(is_refused));
    assert!(looking.rename("slot-000001", "quarantine/slot-000001").is_err_and(is_refused));
    assert!(looking.lock().is_err_and(is_refused));
    let file = looking.open("slot-000001", Access::ReadDirect).unwrap();
    file.sync().expect("a reader may make durable what it has read");
    assert_eq!(disk.names().unwrap(), ["slot-000001"]);
}

#[test]
fn direct_io_off_goes_through_the_page_cache_in_silence() {
    let (directory, _) = disk();
    let disk = RealDisk::open(directory.path(), DirectIo::Off).unwrap();
    let file = disk.create("slot-000001", 4096, Access::WriteDirect).unwrap();
    assert_eq!((file.is_direct(), file.alignment()), (false, 1));
    assert!(disk.notes().is_empty());
    assert_eq!(file.write_at(b"odd", 1).unwrap(), 3);
    let mut bytes = [0; 3];
    assert_eq!(file.read_at(&mut bytes, 1).unwrap(), 3);
    assert_eq!(&bytes, b"odd");
}

#[test]
fn a_file_system_that_refuses_direct_transfers_is_told_of_once_or_is_an_error() {
    // procfs has files, and no O_DIRECT.
    let disk = RealDisk::open("/proc/self", DirectIo::Auto).unwrap();
    for _ in 0..2 {
        let file = disk.open("status", Access::ReadDirect).unwrap();
        assert_eq!((file.is_direct(), file.alignment()), (false, 1));
        assert!(file.read_at(&mut [0; 5], 0).unwrap() == 5);
    }
    let [note] = &disk.notes()[..] else { panic!("{:?}", disk.notes()) };
    assert!(note.contains("O_DIRECT (EINVAL") && note.contains("page cache"), "{note}");
    let disk = RealDisk::open("/proc/self", DirectIo::Require).unwrap();
    let error = disk.open("status", Access::ReadDirect).expect_err("direct_io = require");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    disk.open("status", Access::Read).expect("nothing direct was asked for");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let (directory, disk) = disk();
    std::fs::create_dir(directory.path().join("slot-000001")).unwrap();
    let error = disk.open("slot-000001", Access::Read).expect_err("a directory");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn an_alignment_that_does_not_divide_ours_is_a_refusal() {
    assert_eq!(alignment_of(4, 512), Ok(512));
    assert_eq!(alignment_of(512, 4096), Ok(4096));
    assert_eq!(alignment_of(1, 1), Ok(512));
    assert!(alignment_of(512, 0).is_err());
    assert!(alignment_of(512, 8192).is_err());
    assert!(alignment_of(1000, 512).is_err());
}

#[test]
fn a_sentence_is_noted_once() {
    let (_directory, disk) = disk();
    disk.note("twice".to_owned());
    disk.note("twice".to_owned());
    assert_eq!(disk.notes(), ["twice"]);
}

#[test]
fn zeros_fill_a_file_to_its_last_byte() {
    let (_directory, disk) = disk();
    let file = disk.create("zeros", 0, Access::Write).unwrap();
    let (parent, leaf) = disk.parent("zeros").unwrap();
    let descriptor = openat(&parent, leaf, OFlags::RDWR, Mode::empty()).unwrap();
    fill_with_zeros(&descriptor, ZERO_FILL_BYTES as u64 + 4097).unwrap();
    assert_eq!(file.len().unwrap(), ZERO_FILL_BYTES as u64 + 4097);
}

#[test]
fn an_error_of_the_kernel_is_told_by_name_and_words() {
    assert_eq!(named(&Errno::PERM.into()), "EPERM (Operation not permitted)");
    assert!(named(&Errno::IO.into()).starts_with("errno 5 (Input/output error"));
}
