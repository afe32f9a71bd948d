//! Where every accepted record is: `accepted = delivered + pending + dropped`, for one destination.
//!
//! The four numbers come from different places (the sequences handed out, the cursor, a count by reading,
//! the gaps), none by subtraction: that is why their sum proves something. This module adds and shows
//! them; it does not know where they come from.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::gaps::Totals;

/// The account of one destination, in records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Whose account.
    pub destination: String,
    /// Records accepted from producers.
    pub accepted: u64,
    /// Records that the destination has confirmed.
    pub delivered: u64,
    /// Records that are kept for it, counted by reading.
    pub pending: u64,
    /// Records that it will never see, by reason.
    pub dropped: Totals,
    /// Whether every number was counted; after an unclean stop in a mode that lets records leave before
    /// they are durable, nobody can know.
    pub exact: bool,
}

impl Ledger {
    /// The account of a destination that nothing was accepted for yet.
    pub fn new(destination: impl Into<String>) -> Self {
        Self {
            destination: destination.into(),
            accepted: 0,
            delivered: 0,
            pending: 0,
            dropped: Totals::default(),
            exact: true,
        }
    }

    /// Whether every accepted record is accounted for, and no other.
    pub fn closes(&self) -> bool {
        u128::from(self.accepted) == self.accounted()
    }

    fn accounted(&self) -> u128 {
        u128::from(self.delivered) + u128::from(self.pending) + self.dropped.sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, accepted, delivered, pending, dropped, exact } = self;
        let sign = if self.closes() { "=" } else { "!=" };
        write!(f, "{destination}: accepted {accepted} {sign} delivered {delivered} + pending {pending}")?;
        write!(f, " + dropped {}", dropped.sum())?;
        for (index, (reason, count)) in dropped.iter().enumerate() {
            write!(f, "{}{} {count}", if index == 0 { " (" } else { ", " }, reason.name())?;
        }
        if dropped.sum() > 0 {
            f.write_str(")")?;
        }
        let (have, want) = (self.accounted(), u128::from(*accepted));
        if have < want {
            write!(f, "; {} missing", want - have)?;
        } else if have > want {
            write!(f, "; {} too many", have - want)?;
        }
        if !exact {
            f.write_str("; not exact")?;
        }
        Ok(())
    }
}

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ledger = serializer.serialize_struct("Ledger", 7)?;
        ledger.serialize_field("destination", &self.destination)?;
        ledger.serialize_field("accepted", &self.accepted)?;
        ledger.serialize_field("delivered", &self.delivered)?;
        ledger.serialize_field("pending", &self.pending)?;
        ledger.serialize_field("dropped", &self.dropped)?;
        ledger.serialize_field("exact", &self.exact)?;
        ledger.serialize_field("closes", &self.closes())?;
        ledger.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gaps::Reason;

    fn ledger() -> Ledger {
        let mut ledger = Ledger { accepted: 100, delivered: 60, pending: 30, ..Ledger::new("default") };
        ledger.dropped.add(Reason::Expired, 7);
        ledger.dropped.add(Reason::QueueFull, 1);
        ledger.dropped.add(Reason::QueueFull, 2);
        ledger
    }

    #[test]
    fn closes_exactly_when_nothing_is_missing_or_too_much() {
        assert!(Ledger::new("default").closes());
        assert!(ledger().closes());
        assert!(!Ledger { accepted: 101, ..ledger() }.closes());
        assert!(!Ledger { pending: 31, ..ledger() }.closes());
        let mut more = ledger();
        more.dropped.add(Reason::Corrupt, 1);
        assert!(!more.closes());
    }

    #[test]
    fn does_not_close_by_overflow() {
        let all = u64::MAX;
        assert!(!Ledger { accepted: all, delivered: all, pending: all, ..Ledger::new("default") }.closes());
        assert!(!Ledger { accepted: 0, delivered: 1, pending: all, ..Ledger::new("default") }.closes());
    }

    #[test]
    fn reads_as_one_line() {
        assert_eq!(
            ledger().to_string(),
            "default: accepted 100 = delivered 60 + pending 30 + dropped 10 (queue_full 3, expired 7)"
        );
        let open = Ledger { accepted: 101, exact: false, ..ledger() }.to_string();
        assert!(open.starts_with("default: accepted 101 != "), "{open}");
        assert!(open.ends_with("; 1 missing; not exact"), "{open}");
        let over = Ledger { delivered: 3, ..Ledger::new("nats") }.to_string();
        assert_eq!(over, "nats: accepted 0 != delivered 3 + pending 0 + dropped 0; 3 too many");
    }

    #[test]
    fn serializes_in_the_shape_that_verify_promises() {
        let table = toml::Table::try_from(ledger()).expect("a table");
        let expected = toml::toml! {
            destination = "default"
            accepted = 100
            delivered = 60
            pending = 30
            exact = true
            closes = true
            [dropped]
            queue_full = 3
            expired = 7
        };
        assert_eq!(table, expected);
    }
}
