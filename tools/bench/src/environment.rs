//! Where a run took place: what two runs must share to be comparable, and what a reader must know.
//!
//! Everything is read from /proc and /sys; what is not told there is `unknown`. It also says, a sentence each, what
//! makes this place unlike a disk that an agent would have.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::process::number_behind;

/// Less locked memory than this leaves too few registered buffers to say what the device can do.
const MEMLOCK_WANTED: u64 = 8 << 20;

/// Of a run's place, by name.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) facts: Map<String, Value>,
    /// What a reader has to be told.
    pub(crate) notes: Vec<String>,
    /// What the control group allows, in bytes.
    pub(crate) memory_bytes_max: Option<u64>,
}

/// What may differ between two runs that are compared: it is what is compared.
pub(crate) const MAY_DIFFER: [&str; 1] = ["commit"];

impl Environment {
    pub(crate) fn probe(dir: &Path, commit: &str) -> Self {
        let mount = Mount::of(dir);
        let memlock = memlock_bytes();
        let memory_bytes_max = cgroup_memory_bytes_max();
        let mut facts = Map::new();
        let mut say = |name: &str, value: Value| {
            facts.insert(name.into(), value);
        };
        say("kernel", one_line("/proc/sys/kernel/osrelease").into());
        say("file_system", mount.file_system.as_str().into());
        say("device", mount.device.as_str().into());
        say("write_cache", queue_attribute(dir, "write_cache").into());
        say("fua", queue_attribute(dir, "fua").into());
        say("cpu", cpu_model().into());
        say("cores", std::thread::available_parallelism().map_or(0, usize::from).into());
        say("memlock_bytes", memlock.map_or("unlimited".into(), Value::from));
        say("cgroup_memory_bytes_max", memory_bytes_max.map_or("none".into(), Value::from));
        say("commit", commit.into());
        let mut notes = Vec::new();
        match mount.file_system.as_str() {
            "tmpfs" | "ramfs" => {
                notes.push(format!("{} is memory: no figure here is one of a disk", mount.file_system))
            }
            "overlay" | "fuse" | "nfs" | "nfs4" | "9p" | "virtiofs" => notes.push(format!(
                "{} lies between the engine and the disk: the raw device beside it is that of the same path",
                mount.file_system
            )),
            _ => {}
        }
        // Root is not bound by it.
        if let Some(bytes) =
            memlock.filter(|&bytes| bytes < MEMLOCK_WANTED && !rustix::process::geteuid().is_root())
        {
            notes.push(format!(
                "memlock is {} KiB (ulimit -l): few or no buffers are registered with the kernel, which costs speed",
                bytes >> 10
            ));
        }
        if let Some(bytes) = memory_bytes_max {
            notes.push(format!("the control group allows {} MiB of memory", bytes >> 20));
        }
        Self { facts, notes, memory_bytes_max }
    }
}

#[derive(Debug)]
struct Mount {
    file_system: String,
    device: String,
}

impl Mount {
    /// The last mount over the longest beginning of the path.
    fn of(dir: &Path) -> Self {
        let unknown = || Self { file_system: "unknown".into(), device: "unknown".into() };
        let Ok(dir) = fs::canonicalize(dir) else { return unknown() };
        let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return unknown() };
        Self::find(&mounts, &dir).unwrap_or_else(unknown)
    }

    fn find(mounts: &str, dir: &Path) -> Option<Self> {
        let of_line = |line: &str| {
            let (place, source) = line.split_once(" - ")?;
            let at = PathBuf::from(place.split(' ').nth(4)?.replace("\\040", " "));
            let mut source = source.split(' ');
            let (file_system, device) = (source.next()?.to_owned(), source.next()?.to_owned());
            dir.starts_with(&at).then(|| (at.components().count(), Self { file_system, device }))
        };
        // `max_by_key` takes the last of equals: the mount on top.
        mounts.lines().filter_map(of_line).max_by_key(|(depth, _)| *depth).map(|(_, mount)| mount)
    }
}

/// An attribute of the queue of the device under `dir`; that of the whole disk where it is a partition.
fn queue_attribute(dir: &Path, name: &str) -> String {
    let Ok(metadata) = fs::metadata(dir) else { return "unknown".into() };
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let device = format!("/sys/dev/block/{major}:{minor}");
    let of = |place: &str| fs::read_to_string(format!("{device}/{place}queue/{name}")).ok();
    of("").or_else(|| of("../")).map_or("unknown".into(), |text| text.trim().to_owned())
}

fn one_line(path: &str) -> String {
    fs::read_to_string(path).map_or("unknown".into(), |text| text.trim().to_owned())
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named =
        |line: &str| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned());
    text.lines().find_map(named).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// `None`: without limit, or not told.
fn memlock_bytes() -> Option<u64> {
    number_behind(&fs::read_to_string("/proc/self/limits").ok()?, "Max locked memory")
}

/// The tightest limit of the control groups that we are in, of either version; `None`: without limit.
fn cgroup_memory_bytes_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest_limit(&groups, Path::new("/sys/fs/cgroup"))
}

fn tightest_limit(groups: &str, mounted: &Path) -> Option<u64> {
    // Without a limit, version 1 tells the largest number that there is room for, and version 2 a word.
    const UNLIMITED: u64 = 1 << 60;
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (root, name) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            "memory" => (mounted.join("memory"), "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let group = root.join(path.trim_start_matches('/'));
        let limit = |place: &Path| fs::read_to_string(place.join(name)).ok()?.trim().parse().ok();
        group.ancestors().take_while(|place| place.starts_with(&root)).filter_map(limit).collect::<Vec<u64>>()
    });
    limits.filter(|&bytes| bytes < UNLIMITED).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_topmost_mount_counts() {
        let mounts = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
                      23 22 0:20 / /data rw - tmpfs tmpfs rw\n\
                      24 23 254:2 / /data rw shared:1 - xfs /dev/vdb rw\n\
                      25 22 0:21 / /dat rw - nfs host:/ rw\n";
        let find = |dir: &str| Mount::find(mounts, Path::new(dir)).unwrap();
        assert_eq!(find("/data/store").file_system, "xfs");
        assert_eq!(find("/other").device, "/dev/vda1");
        assert_eq!(find("/dat").file_system, "nfs");
    }

    #[test]
    fn the_tightest_memory_limit_of_either_version_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |place: &str, limit: &str| {
            let place = mounted.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, limit).unwrap();
        };
        let limit = |groups: &str| tightest_limit(groups, mounted.path());
        write("a/memory.max", "100\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/c/d/memory.limit_in_bytes", "50\n");
        assert_eq!(limit("0::/a/b\n"), Some(100));
        assert_eq!(limit("4:memory:/c\n3:cpu:/c/d\n"), None);
        assert_eq!(limit("4:memory:/c/d\n0::/a\n"), Some(50));
        assert_eq!(limit("0::/\nnonsense\n"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let facts = Environment::probe(Path::new("/proc"), "c0ffee").facts;
        assert_eq!(facts["file_system"], "proc");
        assert_eq!(facts["commit"], "c0ffee");
        assert!(facts["cores"].as_u64().unwrap() > 0 && facts["kernel"].as_str().unwrap() != "unknown");
    }
}
