//! The body of one batch, read: who each line is, and what FILE gets. Pure.
//!
//! All of a body is read before anything is counted or kept, so a malformed one leaves nothing behind.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What a body holds.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Its identities, in order; neighbours are one span.
    pub(super) spans: Vec<Span>,
    /// How many records.
    pub(super) records: u64,
    /// Their keys and payloads, in bytes.
    pub(super) bytes: u64,
    /// Each payload and a newline.
    pub(super) lines: Vec<u8>,
}

/// Ascending sequences without a hole, of one store and epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// The store.
    pub(super) store: String,
    /// The epoch.
    pub(super) epoch: String,
    /// The first sequence, 1 or more.
    pub(super) first: u64,
    /// The last sequence.
    pub(super) last: u64,
    /// Whether these are lost.
    pub(super) is_gap: bool,
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong with it.
    pub(super) message: String,
}

/// A string that borrows from the body where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    store: Cow<'a, str>,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    sequence: Option<u64>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    key_base64: Option<Text<'a>>,
    #[serde(borrow)]
    payload: Option<Text<'a>>,
    #[serde(borrow)]
    payload_base64: Option<Text<'a>>,
    first_sequence: Option<u64>,
    last_sequence: Option<u64>,
}

/// Reads a body; empty lines are nothing.
pub(super) fn read(bytes: &[u8]) -> Result<Body, Malformed> {
    let mut body = Body::default();
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if text.is_empty() {
            continue;
        }
        let line: Line<'_> = serde_json::from_slice(text)
            .map_err(|error| Malformed { line: index + 1, message: error.to_string() })?;
        body.take(&line).map_err(|message| Malformed { line: index + 1, message })?;
    }
    Ok(body)
}

impl Body {
    fn take(&mut self, line: &Line<'_>) -> Result<(), String> {
        let is_gap = match &*line.kind {
            "data" => false,
            "gap" => true,
            other => return Err(format!("the kind `{other}` is unknown")),
        };
        let (first, last) = if is_gap {
            (line.first_sequence, line.last_sequence)
        } else {
            self.take_record(line)?;
            (line.sequence, line.sequence)
        };
        let (Some(first), Some(last)) = (first, last) else {
            return Err("the sequence is missing".into());
        };
        if first == 0 || last < first {
            return Err(format!("{first} to {last} are no sequences"));
        }
        self.push_span(line, first, last, is_gap);
        Ok(())
    }

    fn take_record(&mut self, line: &Line<'_>) -> Result<(), String> {
        let start = self.lines.len();
        match (&line.payload, &line.payload_base64) {
            (Some(Text(payload)), None) => self.lines.extend_from_slice(payload.as_bytes()),
            (None, Some(Text(payload))) => STANDARD
                .decode_vec(&**payload, &mut self.lines)
                .map_err(|error| format!("payload_base64: {error}"))?,
            _ => return Err("a record has either payload or payload_base64".into()),
        }
        let key_len = match (&line.key, &line.key_base64) {
            (Some(Text(key)), _) => key.len(),
            (None, Some(Text(key))) => STANDARD.decode(&**key).map_err(|error| error.to_string())?.len(),
            (None, None) => 0,
        };
        self.records += 1;
        self.bytes += (self.lines.len() - start + key_len) as u64;
        self.lines.push(b'\n');
        Ok(())
    }

    fn push_span(&mut self, line: &Line<'_>, first: u64, last: u64, is_gap: bool) {
        if let Some(span) = self.spans.last_mut()
            && !is_gap
            && !span.is_gap
            && span.last.checked_add(1) == Some(first)
            && span.store == line.store
            && span.epoch == line.epoch
        {
            span.last = last;
            return;
        }
        let (store, epoch) = (line.store.to_string(), line.epoch.to_string());
        self.spans.push(Span { store, epoch, first, last, is_gap });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rest: &str) -> String {
        format!("{{\"store\":\"s\",\"epoch\":\"1.0\",{rest}}}\n")
    }

    #[test]
    fn neighbours_are_one_span_and_lines_are_the_payloads() {
        let text = line(r#""sequence":1,"kind":"data","key":"ab","payload":"x\ny""#)
            + &line(r#""sequence":2,"kind":"data","payload_base64":"/w==""#)
            + "\n"
            + &line(r#""kind":"gap","first_sequence":3,"last_sequence":9,"count":7"#)
            + &line(r#""sequence":10,"kind":"data","payload":"""#);
        let body = read(text.as_bytes()).unwrap();
        let spans: Vec<_> = body.spans.iter().map(|span| (span.first, span.last, span.is_gap)).collect();
        assert_eq!(spans, [(1, 2, false), (3, 9, true), (10, 10, false)]);
        assert_eq!(body.lines, b"x\ny\n\xff\n\n");
        assert_eq!((body.records, body.bytes), (3, 6));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_line() {
        let good = line(r#""sequence":1,"kind":"data","payload":"x""#);
        for bad in [
            "garbage".into(),
            "{}".into(),
            "[1]".into(),
            line(r#""sequence":0,"kind":"data","payload":"x""#),
            line(r#""sequence":-1,"kind":"data","payload":"x""#),
            line(r#""kind":"data","payload":"x""#),
            line(r#""sequence":1,"kind":"data""#),
            line(r#""sequence":1,"kind":"data","payload":"x","payload_base64":"eA==""#),
            line(r#""sequence":1,"kind":"data","payload_base64":"?""#),
            line(r#""sequence":1,"kind":"news","payload":"x""#),
            line(r#""kind":"gap","first_sequence":9,"last_sequence":3"#),
        ] {
            let error = read((good.clone() + &bad).as_bytes()).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
        }
        assert!(read(b"\xff\xfe").is_err());
    }
}
