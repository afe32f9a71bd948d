//! Sizes and durations as people write them: `256KiB`, `1.5GiB`, `250ms`, `1h30m`.
//!
//! Pure. A unit is part of the value. A size may stand without one where the caller says so ([`Bare`]): on the
//! command line it may, in a file it may not; a duration never does, since nobody can tell 50 ms from 50 s.
//! Integer arithmetic: what is read is exactly what was written, or an error.

use std::time::Duration;

/// Whether a size may stand without a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// It is bytes.
    Allowed,
    /// It is an error that shows how to write it.
    Refused,
}

const BYTE_UNITS: [(&str, u128); 11] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("kiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// In nanoseconds.
const TIME_UNITS: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a size in bytes.
///
/// # Errors
/// One sentence without a subject, such as ``needs a unit: write "64MiB"``.
pub fn parse_bytes(text: &str, bare: Bare) -> Result<u64, String> {
    let text = text.trim();
    let (number, rest) = split_number(text)?;
    let unit = match rest.trim() {
        "" if bare == Bare::Allowed => 1,
        "" => return Err(bytes_need_unit(text)),
        name => unit_of(&BYTE_UNITS, name).ok_or_else(|| {
            format!("has no known unit in `{text}`; known are B KiB MiB GiB TiB kB MB GB TB")
        })?,
    };
    let bytes = number.times(unit).ok_or_else(|| format!("is no whole number of bytes: `{text}`"))?;
    u64::try_from(bytes).map_err(|_| format!("is too large: `{text}`"))
}

/// Reads a duration. Only zero needs no unit.
///
/// # Errors
/// One sentence without a subject, such as ``needs a unit: write "10s" or "10ms"``.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let mut rest = text;
    let mut total: u128 = 0;
    loop {
        let (number, behind) = split_number(rest)?;
        let unit_len = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let unit = match behind[..unit_len].trim() {
            "" if number.is_zero() => 1,
            "" => return Err(duration_needs_unit(text)),
            name => unit_of(&TIME_UNITS, name)
                .ok_or_else(|| format!("has no known unit in `{text}`; known are ns us ms s m h d"))?,
        };
        let ns = number.times(unit).ok_or_else(|| format!("is finer than a nanosecond: `{text}`"))?;
        total = total.checked_add(ns).ok_or_else(|| format!("is too long: `{text}`"))?;
        rest = &behind[unit_len..];
        if rest.is_empty() {
            let ns = u64::try_from(total).map_err(|_| format!("is too long: `{text}`"))?;
            return Ok(Duration::from_nanos(ns));
        }
    }
}

/// A size as [`parse_bytes`] reads it back: the largest binary unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{name}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A duration as [`parse_duration`] reads it back, such as `1h30m` or `250ms`.
pub fn show_duration(duration: Duration) -> String {
    let mut ns = duration.as_nanos();
    if ns == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
    let fine_units = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    for (name, unit) in units.into_iter().chain(fine_units) {
        if ns >= unit {
            text.push_str(&format!("{}{name}", ns / unit));
            ns %= unit;
        }
    }
    text
}

/// The sentence for a size that has no unit, with what was probably meant.
pub(crate) fn bytes_need_unit(number: &str) -> String {
    match number.parse::<u64>() {
        Ok(bytes) if bytes >= 1024 => format!("needs a unit: write \"{}\"", show_bytes(bytes)),
        _ => format!("needs a unit: write \"{number}MiB\" or \"{number}B\""),
    }
}

/// The sentence for a duration that has no unit.
pub(crate) fn duration_needs_unit(number: &str) -> String {
    format!("needs a unit: write \"{number}s\" or \"{number}ms\"")
}

/// A decimal number, exact.
struct Decimal {
    digits: u128,
    /// How many of the digits stand behind the point.
    places: u32,
}

impl Decimal {
    fn is_zero(&self) -> bool {
        self.digits == 0
    }

    /// The product where it is whole.
    fn times(&self, unit: u128) -> Option<u128> {
        let product = self.digits.checked_mul(unit)?;
        let scale = 10u128.checked_pow(self.places)?;
        product.is_multiple_of(scale).then_some(product / scale)
    }
}

/// The number at the front of `text`, and what follows it.
fn split_number(text: &str) -> Result<(Decimal, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_'))).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let plain: String = number.chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let bad = || format!("is no number with a unit: `{text}`");
    if whole.is_empty() || (fraction.is_empty() && plain.contains('.')) || fraction.contains('.') {
        return Err(bad());
    }
    let digits = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
    Ok((Decimal { digits, places: fraction.len() as u32 }, rest))
}

fn unit_of(units: &[(&str, u128)], name: &str) -> Option<u128> {
    units.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let read = |text| parse_bytes(text, Bare::Refused).unwrap();
        assert_eq!(read("64MiB"), 64 << 20);
        assert_eq!(read("1.5GiB"), 3 << 29);
        assert_eq!(read("10 kB"), 10_000);
        assert_eq!(read("1_000B"), 1_000);
        assert_eq!(parse_bytes("4096", Bare::Allowed), Ok(4096));
    }

    #[test]
    fn a_bare_number_is_refused_with_the_way_to_write_it() {
        assert_eq!(parse_bytes("67108864", Bare::Refused).unwrap_err(), "needs a unit: write \"64MiB\"");
        assert!(parse_duration("10").unwrap_err().contains("\"10s\""));
        assert!(parse_duration("1h30").unwrap_err().contains("needs a unit"));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn durations_add_up() {
        let read = |text| parse_duration(text).unwrap();
        assert_eq!(read("1h30m"), Duration::from_secs(5400));
        assert_eq!(read("250ms"), Duration::from_millis(250));
        assert_eq!(read("1.5s"), Duration::from_millis(1500));
        assert_eq!(read("7µs"), read("7us"));
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let long = "9".repeat(60);
        for text in ["", "x", "1x", ".5s", "1.", "-1s", "1e3", "1h2", "1..2B", "0.3B", "µ", &long] {
            assert!(parse_bytes(text, Bare::Refused).is_err(), "{text}");
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_bytes(&format!("{long}GiB"), Bare::Refused).is_err());
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [0, 1, 1023, 1024, 1500, 10 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&show_bytes(bytes), Bare::Refused), Ok(bytes));
        }
        for ns in [0, 1, 999, 1_000_001, 5_400_000_000_000, u64::MAX] {
            let duration = Duration::from_nanos(ns);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
