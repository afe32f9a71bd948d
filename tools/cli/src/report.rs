//! What reports on a store have in common.

use std::io::{self, Write as _};

use forebay::gaps::Gap;
use forebay::segment::recovery::Damage;
use serde_json::{Value, json};

/// Prints a whole report.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A loss that no gap names.
pub(crate) fn damage(damage: &Damage) -> Value {
    json!({
        "first_sequence": damage.first_sequence,
        "last_sequence": damage.last_sequence,
        "file": damage.file,
        "offset": damage.offset,
    })
}

/// A loss that is named.
pub(crate) fn gap(gap: &Gap) -> Value {
    json!({
        "first_sequence": gap.first_sequence,
        "last_sequence": gap.last_sequence,
        "count": gap.count,
        "bytes": gap.bytes,
        "reason": gap.reason.name(),
    })
}
