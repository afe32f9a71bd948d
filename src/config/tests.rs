//! Tests of the configuration: every key, its default, and the way out of a mistake.

use super::*;
use crate::error::Kind;

const DIR: &str = "dir = \"/d\"\n";

fn read(rest: &str) -> Config {
    Config::parse(&format!("{DIR}{rest}"), "f.toml").unwrap()
}

fn refused(rest: &str) -> String {
    let error = Config::parse(&format!("{DIR}{rest}"), "f.toml").unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    error.to_string()
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    let from_file = Config::parse(Config::default_toml(), "default").unwrap();
    let mut defaults = Config::new("/var/lib/forebay");
    let url = "http://127.0.0.1:9700/v1/records".into();
    defaults.sinks.push(SinkConfig { url, ..SinkConfig::default() });
    assert_eq!(from_file, defaults);
}

#[test]
fn the_default_file_names_every_key() {
    let mut table = "";
    let mut named = Vec::new();
    for line in Config::default_toml().lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            named.push(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") });
        }
    }
    for field in fields::FIELDS {
        assert!(named.iter().any(|key| key == field.path), "{} is not in default.toml", field.path);
    }
}

#[test]
fn what_is_shown_is_read_back() {
    let text = format!("{DIR}sync = \"interval=50ms\"\n[queue]\nfull = \"block\"\n[sink]\nkind = \"null\"\n");
    let (config, settings) = Config::parse_with_origins(&text, "f.toml", &[]).unwrap();
    let overrides: Vec<(String, String)> = settings
        .iter()
        .filter_map(|setting| Some((setting.key.into(), setting.value.clone()?)))
        .map(|(key, value)| (key, value.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(Config::parse_with("", "none", &overrides).unwrap(), config);
}

#[test]
fn every_value_knows_its_origin() {
    let overrides = [("queue.records".to_owned(), "7".to_owned())];
    let text = format!("{DIR}\n[queue]\nbytes = \"32MiB\"");
    let (config, settings) = Config::parse_with_origins(&text, "f.toml", &overrides).unwrap();
    let origin = |key| settings.iter().find(|setting| setting.key == key).unwrap().origin.clone();
    assert_eq!(config.queue.records, 7);
    assert_eq!(origin("queue.records"), Origin::Override);
    assert_eq!(origin("queue.bytes"), Origin::File { line: 4 });
    assert_eq!(origin("write.depth"), Origin::Default);
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_one() {
    assert_eq!(
        refused("[queue]\n  spil_treshold = 0.7"),
        "f.toml:3:3: unknown key `queue.spil_treshold`; did you mean `queue.spill_threshold`?"
    );
    assert!(refused("segment_bytes = \"1MiB\"").contains("did you mean `disk.segment_bytes`?"));
    assert!(refused("[nonsense]\nx = 1").contains("f.toml:2:2: unknown key `nonsense`"));
}

#[test]
fn the_hint_is_the_key_that_was_meant() {
    for (typo, meant) in [
        ("dri", "dir"),
        ("spil", "spill"),
        ("cap", "disk_bytes_cap"),
        ("on_damge", "on_damage"),
        ("spilltodisk", "spill_to_disk"),
        ("queue_records", "queue.records"),
        ("segment_size", "disk.segment_bytes"),
        ("queue.bites", "queue.bytes"),
        ("queue.record", "queue.records"),
        ("queue.spill", "queue.spill_threshold"),
        ("queue.resume", "queue.resume_threshold"),
        ("queue.ful", "queue.full"),
        ("quue.full", "queue.full"),
        ("disk.cap", "disk_bytes_cap"),
        ("disk.segment", "disk.segment_bytes"),
        ("disk.free_bytes", "disk.free_bytes_min"),
        ("disk.warm", "disk.warm_bytes"),
        ("disk.directio", "disk.direct_io"),
        ("write.batch", "write.batch_bytes"),
        ("write.linger", "write.batch_linger_unawaited"),
        ("write.deth", "write.depth"),
        ("write.sync", "write.sync_method"),
        ("write.records_bytes_max", "write.record_bytes_max"),
        ("governor.facter", "governor.factor"),
        ("governor.floor_records", "governor.floor_records_per_second"),
        ("governor.floor_bytes", "governor.floor_bytes_per_second"),
        ("backoff.minimum", "backoff.min"),
        ("backof.max", "backoff.max"),
        ("ingest.htttp", "ingest.http"),
        ("ingest.key", "ingest.key_field"),
        ("ingest.awnser", "ingest.answer"),
        ("sink.uri", "sink.url"),
        ("sink.records", "sink.batch_records"),
        ("sink.timeuot", "sink.timeout"),
        ("sinks.url", "sink.url"),
        ("admin.lissten", "admin.listen"),
        ("admin.http", "ingest.http"),
    ] {
        let said = Config::parse_with("", "f.toml", &[(typo.into(), "x".into())]).unwrap_err().to_string();
        assert!(said.ends_with(&format!("did you mean `{meant}`?")), "{typo}: {said}");
    }
    for (text, table) in [("[quue]\nx = 1", "queue"), ("[sik]\nurl = \"x\"", "sink")] {
        assert!(
            refused(text).ends_with(&format!("did you mean the table `[{table}]`?")),
            "{}",
            refused(text)
        );
    }
    for strange in ["queue.size", "nonsense", "sink.password", "x"] {
        let said = Config::parse_with("", "f.toml", &[(strange.into(), "x".into())]).unwrap_err().to_string();
        assert!(said.ends_with("`forebay config default` prints all there are"), "{strange}: {said}");
    }
}

#[test]
fn a_size_without_a_unit_teaches() {
    assert_eq!(
        refused("[queue]\nbytes = 67108864"),
        "f.toml:3:1: `queue.bytes` needs a unit: write \"64MiB\""
    );
    assert!(refused("[queue]\nbytes = \"67108864\"").contains("write \"64MiB\""));
    assert!(refused("[sink]\ntimeout = 10").contains("write \"10s\" or \"10ms\""));
}

#[test]
fn broken_toml_names_line_and_column() {
    assert!(refused("[queue\n").starts_with("f.toml:2:"));
    assert!(refused("sync = \n").starts_with("f.toml:2:"));
}

#[test]
fn impossible_values_name_key_value_and_range() {
    for (text, key) in [
        ("[queue]\nspill_threshold = 1.5", "`queue.spill_threshold` is 1.5; it must be above 0"),
        ("[queue]\nspill_threshold = nan", "`queue.spill_threshold` must be a finite number"),
        ("[queue]\nspill_threshold = 0.4", "`queue.resume_threshold` is 0.5; it must be 0 or more"),
        ("[queue]\nrecords = 0", "`queue.records` is 0; it must be 1 to"),
        ("[queue]\nbytes = \"1MiB\"", "`queue.bytes` is 1MiB; it must be at least 2MiB"),
        (
            "[disk]\nsegment_bytes = \"300001B\"",
            "`disk.segment_bytes` is 300001B; it must be a multiple of 4KiB",
        ),
        ("[disk]\nsegment_bytes = \"128KiB\"", "`disk.segment_bytes` is 128KiB; it must be 256KiB to 4GiB"),
        ("[disk]\nsegment_bytes = \"4GiB\"", "`disk_bytes_cap` is 10GiB; it must be at least 24GiB"),
        ("disk_bytes_cap = \"1MiB\"", "`disk_bytes_cap` is 1MiB; it must be at least 1536KiB"),
        ("[write]\nbatch_bytes = \"2MiB\"", "`write.batch_bytes` is 2MiB; it must be 4KiB to 1MiB"),
        ("[write]\nbatch_bytes = \"5000B\"", "multiple of 4KiB"),
        (
            "[write]\nrecord_bytes_max = \"17MiB\"",
            "`write.record_bytes_max` is 17MiB; it must be 1B to 16MiB",
        ),
        ("[write]\ndepth = 0", "`write.depth` is 0"),
        ("[governor]\nfactor = 0.9", "`governor.factor` is 0.9; it must be 1 to 1000"),
        ("[backoff]\nmin = \"2m\"", "`backoff.max` is 1m; it must be 2m to 24h"),
        ("sync = \"interval=0s\"", "`sync` is 0s; it must be 1ms to 1h"),
        ("[sink]\nurl = \"ftp://x\"", "`sink.url` is \"ftp://x\"; it must be http://"),
        ("[sink]\nname = \"x\"", "`sink.url` is not set"),
        ("[sink]\nname = \"../x\"", "`sink.name` is \"../x\""),
        ("[ingest]\nhttp = \"9600\"", "`ingest.http` is \"9600\"; it must be HOST:PORT"),
    ] {
        let sentence = refused(text);
        assert!(sentence.contains(key), "{text:?} gave {sentence:?}");
    }
}

#[test]
fn what_comes_later_says_so() {
    for text in [
        "[sink]\nkind = \"nats\"",
        "[sink]\nkind = \"relay\"",
        "[[sink]]\nname = \"a\"",
        "[sink]\norder = \"live-first\"",
    ] {
        assert!(refused(text).contains("later version"), "{text}");
    }
}

#[test]
fn the_alias_of_spill_works_and_cannot_contradict() {
    assert_eq!(read("spill_to_disk = true").spill, SpillMode::Always);
    assert_eq!(read("spill_to_disk = false").spill, SpillMode::Threshold);
    assert!(refused("spill = \"threshold\"\nspill_to_disk = true").contains("keep one of the two"));
}

#[test]
fn overrides_win_and_their_mistakes_are_named() {
    let with = |key: &str, value: &str| {
        Config::parse_with("dir = \"/d\"", "f.toml", &[(key.to_owned(), value.to_owned())])
    };
    assert_eq!(with("queue.spill_threshold", "0.9").unwrap().queue.spill_threshold, 0.9);
    assert!(with("ingest.stdin", "true").unwrap().ingest.stdin);
    assert_eq!(with("sink.kind", "null").unwrap().sinks.len(), 1);
    let error = with("queue.spill_threshold", "2").unwrap_err().to_string();
    assert!(error.starts_with("override of `queue.spill_threshold`: "), "{error}");
    assert!(with("queue.spill", "2").unwrap_err().to_string().contains("unknown key"));
}

#[test]
fn words_of_flags_are_those_of_the_file() {
    assert_eq!("drop-oldest".parse(), Ok(FullPolicy::DropOldest));
    assert_eq!("drop_newest".parse(), Ok(FullPolicy::DropNewest));
    assert_eq!("interval=50ms".parse(), Ok(SyncPolicy::Interval(Duration::from_millis(50))));
    assert_eq!("fdatasync-thread".parse(), Ok(SyncMethod::FdatasyncThread));
    assert_eq!("ring".parse(), Ok(Backend::Ring));
    assert!("interval=50".parse::<SyncPolicy>().unwrap_err().contains("needs a unit"));
}

#[test]
fn a_file_without_dir_is_refused() {
    assert!(Config::parse("", "f.toml").unwrap_err().to_string().contains("`dir` is not set"));
}

#[test]
fn sizes_follow_the_disk_and_always_pass_their_own_checks() {
    let sizes = |config: &Config, free| config.sizes(free).unwrap();
    let config = Config::new("/d");
    let large = sizes(&config, 1 << 40);
    assert_eq!((large.disk_bytes_cap, large.segment_bytes), (10 << 30, 128 << 20));
    assert_eq!((large.warm_bytes, large.record_bytes_max), (256 << 20, 16 << 20));
    for free in [0, 1, 4 << 20, 100_000_001, 600 << 20, u64::MAX] {
        let small = sizes(&config, free);
        assert!(small.segment_bytes * 6 <= small.disk_bytes_cap);
        assert!(small.segment_bytes.is_multiple_of(4096) && small.segment_bytes >= 256 << 10);
        assert!(small.record_bytes_max <= small.segment_bytes / 4);
    }
    let mut tight = Config::new("/d");
    tight.disk_bytes_cap = Some(4 << 20);
    assert_eq!(sizes(&tight, 0).segment_bytes, 256 << 10);
    tight.write.record_bytes_max = Some(16 << 20);
    assert!(tight.sizes(0).unwrap_err().to_string().contains("a quarter of a segment"));
}

#[test]
fn a_record_limit_says_what_it_comes_from_and_how_it_is_raised() {
    let mut config = Config::new("/d");
    let limit = |config: &Config, slot| {
        let sizes = config.sizes(1 << 40).unwrap();
        let (bytes, from) = sizes.record_limit(slot);
        (bytes, from.to_string())
    };
    assert_eq!(limit(&config, 128 << 20), (16 << 20, "raise write.record_bytes_max".into()));
    let (bytes, slot) = limit(&config, 256 << 10);
    assert!(bytes == 64 << 10 && slot.contains("smallest slot there is, of 256KiB"), "{slot}");
    config.disk.segment_bytes = Some(16 << 20);
    let (bytes, segment) = limit(&config, 16 << 20);
    assert!(bytes == 4 << 20 && segment.contains("a segment of 16MiB: raise segment_bytes"), "{segment}");
    config.queue.bytes = 8 << 20;
    let (bytes, queue) = limit(&config, 16 << 20);
    assert!(bytes == 2 << 20 && queue.contains("queue.bytes, 8MiB"), "{queue}");
    config.write.record_bytes_max = Some(2 << 20);
    assert_eq!(limit(&config, 16 << 20), (2 << 20, "raise write.record_bytes_max".into()));
}

mod any {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", key in "[a-z_.]{1,20}", value in "\\PC{0,20}") {
            let _ = Config::parse(&text, "f.toml");
            let _ = Config::parse(&format!("{key} = {value}"), "f.toml");
            let _ = Config::parse_with("", "f.toml", &[(key, value)]);
        }
    }
}
