//! The contract while the kernel refuses, fails or interrupts: this very test run again under strace, which
//! tampers with one system call. Where strace is not to be had, the tests say so and prove nothing.

use super::*;

/// Run by `a_denied_ring_is_replaced_and_the_cause_is_told` with the ring denied; by itself it does nothing.
#[test]
fn child_without_a_ring() {
    let Ok(errno) = std::env::var("FOREBAY_TEST_TAMPERED") else { return };
    for info in backends(Backend::Auto) {
        let beginning = format!("io_uring_setup: {errno} (");
        assert!(info.backend == "blocking" && info.reason.starts_with(&beginning), "{info:?}");
    }
    let (stage, arena) = (real(Backend::Ring), arena());
    let refused = stage.disk.write_device(&arena, stage.options()).err().expect("a ring or an error");
    assert!(refused.to_string().contains(&errno), "{refused}");
    assert!(stage.disk.read_device(&arena, stage.options()).is_err());
    every_write_completes_once_with_its_bytes_on_the_disk(&real(Backend::Auto));
    every_read_completes_once_with_its_slot_and_its_bytes(&real(Backend::Auto));
}

/// Runs tests of this file with system calls tampered with; `None`, said, where strace is not to be had.
fn under_strace(inject: &str, name: &str, tampered: &str) -> Option<std::process::Output> {
    let traced = inject.split(':').next().expect("the name of a call");
    let ran = std::process::Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", &format!("trace={traced}"), "-e", &format!("inject={inject}")])
        .arg(std::env::current_exe().expect("this test"))
        .args([name, "--test-threads=1"])
        .env("FOREBAY_TEST_TAMPERED", tampered)
        .output();
    ran.inspect_err(|error| eprintln!("not tested, strace does not start: {error}")).ok()
}

fn assert_passed(inject: &str, output: &std::process::Output) {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !printed.contains(" 0 passed"), "{inject}: {printed}");
}

#[test]
fn a_denied_ring_is_replaced_and_the_cause_is_told() {
    for errno in ["EPERM", "ENOSYS", "EACCES", "ENOMEM", "EINVAL"] {
        let inject = format!("io_uring_setup:error={errno}");
        if let Some(output) = under_strace(&inject, "child_without_a_ring", errno) {
            assert_passed(&inject, &output);
        }
    }
}

#[test]
fn a_busy_or_interrupted_kernel_is_asked_again_and_nothing_is_lost() {
    for tampering in ["EINTR:when=2+3", "EAGAIN:when=3+4", "EBUSY:when=3+5"] {
        let inject = format!("io_uring_enter:error={tampering}");
        if let Some(output) = under_strace(&inject, "ring::every", "") {
            assert_passed(&inject, &output);
        }
    }
}

/// Run under strace, where fdatasync fails once and fallocate is not to be had; by itself it does nothing.
#[test]
fn child_with_failing_calls() {
    match std::env::var("FOREBAY_TEST_TAMPERED").as_deref() {
        Ok("fdatasync") => one_failed_sync_latches_the_file_for_every_actor(),
        Ok("fallocate") => {
            let ground = tempfile::tempdir().expect("a temporary directory");
            let disk = RealDisk::open(ground.path(), DirectIo::Auto).expect("it is there");
            let file = disk.create("slot-000001", 1 << 20, Access::WriteDirect).expect("zeros instead");
            assert_eq!(file.len().expect("a size"), 1 << 20);
            assert!(
                disk.notes().iter().any(|note| note.contains("fallocate: EOPNOTSUPP")),
                "{:?}",
                disk.notes()
            );
        }
        _ => {}
    }
}

fn one_failed_sync_latches_the_file_for_every_actor() {
    let (stage, arena) = (real(Backend::Auto), arena());
    let file = fresh_file(&stage);
    let io_error = file.sync().expect_err("the first fdatasync fails").raw_os_error();
    assert!(io_error.is_some());
    assert_eq!(file.sync().expect_err("latched").raw_os_error(), io_error);
    for backend in [Backend::Auto, Backend::Blocking] {
        let stage = Stage { backend, disk: Arc::clone(&stage.disk), has_sync_thread: false, _ground: None };
        let mut device = stage.writer(&arena);
        let index = device.attach(Arc::clone(&file)).expect("one file");
        device.submit(Operation::Sync { token: 0, file: index });
        let slot = Arc::new(arena.take().expect("a free slot"));
        device.submit(Operation::Write {
            token: 1,
            file: index,
            slot,
            range: 0..4096,
            offset: 0,
            dsync: true,
        });
        for completion in collect(&mut *device, 2) {
            assert_eq!(completion.result.expect_err("latched").raw_os_error(), io_error);
        }
    }
}

#[test]
fn after_a_failed_sync_every_later_one_fails() {
    if let Some(output) = under_strace("fdatasync:error=EIO:when=1", "child_with_failing_calls", "fdatasync")
    {
        assert_passed("fdatasync", &output);
    }
}

#[test]
fn without_fallocate_a_file_is_filled_with_zeros() {
    if let Some(output) = under_strace("fallocate:error=EOPNOTSUPP", "child_with_failing_calls", "fallocate")
    {
        assert_passed("fallocate", &output);
    }
}
