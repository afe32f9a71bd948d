//! Records, gaps and damage as NDJSON: what `read` and `drain` print and what goes over the wire.
//!
//! Appends to a buffer that the caller owns and uses again; nothing is allocated for a record. Fields keep
//! their order. Bytes that are no UTF-8 go as `payload_base64` and `key_base64`, so nothing is ever lost
//! or replaced. Knows no file and no socket.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay::gaps::Gap;
use forebay::position::{Epoch, StoreId};
use forebay::sink::{Batch, Item, RecordRef};

use crate::timestamp::push_rfc3339;

/// Bytes on disk that nobody can read and no gap names yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damage<'a> {
    /// The first sequence that may be lost.
    pub(crate) first_sequence: u64,
    /// The last sequence that may be lost.
    pub(crate) last_sequence: u64,
    /// The file's name in the store's directory.
    pub(crate) file: &'a str,
    /// Where in the file, in bytes.
    pub(crate) offset: u64,
}

/// Renders lines: as `read` prints them, or with the identity of the store in front, as the wire has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Renderer {
    /// What every record's line begins with, up to its sequence.
    record_front: Vec<u8>,
    /// The store, on the wire.
    store: Option<StoreId>,
}

impl Renderer {
    /// As `forebay read` prints.
    pub(crate) fn plain() -> Self {
        Self { record_front: b"{\"sequence\":".to_vec(), store: None }
    }

    /// As the wire has it: with `store` and `epoch`.
    pub(crate) fn wire(store: StoreId, epoch: Epoch) -> Self {
        let front = format!("{{\"store\":\"{store}\",\"epoch\":\"{epoch}\",\"sequence\":");
        Self { record_front: front.into_bytes(), store: Some(store) }
    }

    /// One record and a newline.
    pub(crate) fn record(&self, out: &mut Vec<u8>, record: RecordRef<'_>) {
        out.extend_from_slice(&self.record_front);
        push_number(out, record.sequence);
        out.extend_from_slice(b",\"timestamp\":\"");
        push_rfc3339(out, record.timestamp);
        out.extend_from_slice(b"\",\"kind\":\"data\",");
        push_text(out, "key", record.key);
        out.push(b',');
        push_text(out, "payload", record.payload);
        out.extend_from_slice(b"}\n");
    }

    /// One gap and a newline. Its `sequence` is the first of its range, where it stands among records; times stand in
    /// it where somebody knows them.
    pub(crate) fn gap(&self, out: &mut Vec<u8>, gap: &Gap) {
        out.push(b'{');
        if let Some(store) = self.store {
            write!(out, "\"store\":\"{store}\",\"epoch\":\"{}\",", gap.epoch).expect("a Vec takes all");
        }
        out.extend_from_slice(b"\"sequence\":");
        push_number(out, gap.first_sequence);
        out.push(b',');
        push_time(out, "timestamp", gap.first_timestamp);
        push_time(out, "last_timestamp", gap.last_timestamp);
        out.extend_from_slice(b"\"kind\":\"gap\",\"first_sequence\":");
        push_number(out, gap.first_sequence);
        out.extend_from_slice(b",\"last_sequence\":");
        push_number(out, gap.last_sequence);
        out.extend_from_slice(b",\"count\":");
        push_number(out, gap.count);
        out.extend_from_slice(b",\"bytes\":");
        push_number(out, gap.bytes);
        write!(out, ",\"reason\":\"{}\",\"keys\":[", gap.reason.name()).expect("a Vec takes all");
        for (index, (key, count)) in gap.keys.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            push_text(out, "key", key);
            out.extend_from_slice(b",\"count\":");
            push_number(out, *count);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"other_keys_count\":");
        push_number(out, gap.other_keys_count);
        out.extend_from_slice(b"}\n");
    }

    /// One damaged place and a newline.
    pub(crate) fn damaged(&self, out: &mut Vec<u8>, damage: &Damage<'_>) {
        out.extend_from_slice(b"{\"kind\":\"damaged\",\"first_sequence\":");
        push_number(out, damage.first_sequence);
        out.extend_from_slice(b",\"last_sequence\":");
        push_number(out, damage.last_sequence);
        out.push(b',');
        push_text(out, "file", damage.file.as_bytes());
        out.extend_from_slice(b",\"offset\":");
        push_number(out, damage.offset);
        out.extend_from_slice(b"}\n");
    }
}

/// A whole batch as the wire has it.
pub(crate) fn push_batch(out: &mut Vec<u8>, batch: &Batch) {
    let renderer = Renderer::wire(batch.store(), batch.epoch());
    for item in batch.iter() {
        match item {
            Item::Data(record) => renderer.record(out, record),
            Item::Gap(gap) => renderer.gap(out, gap),
        }
    }
}

/// `"name":"text"`, or `"name_base64":"..."` where the bytes are no UTF-8.
fn push_text(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    if std::str::from_utf8(bytes).is_ok() {
        out.extend_from_slice(b"\":\"");
        push_escaped(out, bytes);
    } else {
        out.extend_from_slice(b"_base64\":\"");
        push_base64(out, bytes);
    }
    out.push(b'"');
}

/// `"name":"2026-...",`, or nothing where nobody knows the time.
fn push_time(out: &mut Vec<u8>, name: &str, timestamp_ns: u64) {
    if timestamp_ns == 0 {
        return;
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    push_rfc3339(out, timestamp_ns);
    out.extend_from_slice(b"\",");
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("four characters for three bytes, padded");
}

/// What a byte of a JSON string is written as: 0 for itself, `u` for `\u00XX`, else the letter after `\`.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Copies runs that need nothing in one go; most payloads are one run.
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len());
    let mut run = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[run..index]);
        run = index + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'0', b'0', high, low]);
        }
    }
    out.extend_from_slice(&bytes[run..]);
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay::gaps::Reason;
    use forebay::sink::Lane;
    use serde_json::Value;

    fn record<'a>(key: &'a [u8], payload: &'a [u8]) -> RecordRef<'a> {
        RecordRef { sequence: 7, timestamp: 1_700_000_000_123_456_789, key, payload }
    }

    fn plain(record: RecordRef<'_>) -> String {
        let mut out = Vec::new();
        Renderer::plain().record(&mut out, record);
        String::from_utf8(out).unwrap()
    }

    fn gap() -> Gap {
        Gap {
            epoch: Epoch(1 << 32 | 5),
            first_sequence: 3,
            last_sequence: 9,
            count: 7,
            bytes: 700,
            first_timestamp: 0,
            last_timestamp: 0,
            reason: Reason::DiskFull,
            keys: vec![(b"m1".to_vec(), 4), (vec![0xff], 2)],
            other_keys_count: 1,
        }
    }

    #[test]
    fn a_record_is_the_line_of_the_contract() {
        assert_eq!(
            plain(record(b"m1", b"hello")),
            "{\"sequence\":7,\"timestamp\":\"2023-11-14T22:13:20.123456789Z\",\"kind\":\"data\",\
             \"key\":\"m1\",\"payload\":\"hello\"}\n"
        );
    }

    #[test]
    fn what_is_no_text_goes_as_base64() {
        let line: Value = serde_json::from_str(&plain(record(&[0xfe], &[0xff, 0, 1, 2]))).unwrap();
        assert_eq!(line["payload_base64"], "/wABAg==");
        assert_eq!(line["key_base64"], "/g==");
        assert!(line.get("payload").is_none() && line.get("key").is_none());
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let all: String = (0..0x250).filter_map(char::from_u32).chain("\u{2028}\u{10ffff}".chars()).collect();
        let text = plain(record(all.as_bytes(), all.as_bytes()));
        assert_eq!(text.matches('\n').count(), 1, "one line");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["payload"], &line["key"]), (&Value::from(all.clone()), &Value::from(all)));
        assert_eq!(serde_json::from_str::<Value>(&plain(record(b"", b""))).unwrap()["payload"], "");
    }

    #[test]
    fn every_base64_length_comes_back_as_it_was() {
        for len in 1..40 {
            let payload = vec![0xff; len];
            let line: Value = serde_json::from_str(&plain(record(b"", &payload))).unwrap();
            assert_eq!(STANDARD.decode(line["payload_base64"].as_str().unwrap()).unwrap(), payload);
        }
    }

    #[test]
    fn a_gap_names_its_range_its_reason_and_its_keys() {
        let mut out = Vec::new();
        Renderer::plain().gap(&mut out, &gap());
        let line: Value = serde_json::from_slice(&out).unwrap();
        let range = [&line["sequence"], &line["first_sequence"], &line["last_sequence"]];
        assert_eq!(range, [&Value::from(3), &3.into(), &9.into()]);
        assert_eq!((&line["kind"], &line["reason"]), (&"gap".into(), &"disk_full".into()));
        assert_eq!((&line["count"], &line["bytes"]), (&7.into(), &700.into()));
        assert_eq!(line["keys"][0], serde_json::json!({"key": "m1", "count": 4}));
        assert_eq!(line["keys"][1]["key_base64"], "/w==");
        assert!(line.get("timestamp").is_none() && line.get("store").is_none());
    }

    #[test]
    fn damage_names_its_range_and_its_place() {
        let mut out = Vec::new();
        let damage = Damage { first_sequence: 1, last_sequence: 2, file: "slot-000001", offset: 4096 };
        Renderer::plain().damaged(&mut out, &damage);
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&line["kind"], &line["file"]), (&"damaged".into(), &"slot-000001".into()));
        assert_eq!(line["offset"], 4096);
    }

    #[test]
    fn the_wire_has_store_and_epoch_in_every_line() {
        let mut batch = Batch::new(StoreId([0xab; 16]), Epoch(2 << 32 | 6), Lane::Live);
        batch.push(RecordRef { sequence: 1, timestamp: 0, key: b"", payload: b"x" });
        batch.push_gap(gap());
        let mut out = Vec::new();
        push_batch(&mut out, &batch);
        let lines: Vec<Value> = out
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line["store"] == "abababab-abab-abab-abab-abababababab"));
        assert_eq!((&lines[0]["epoch"], &lines[1]["epoch"]), (&"2.00000006".into(), &"1.00000005".into()));
    }
}
