//! `forebay verify`: is every byte what was written, and does the ledger close?
//!
//! Each number comes from its own place: accepted from the sequences, delivered and dropped from cursors and gaps,
//! pending from counting records as they are read. Nothing is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use forebay::cursor::CursorState;
use forebay::gaps::Reason;
use forebay::ledger::Ledger;
use forebay::segment::recovery::Damage;
use forebay::sink::{Batch, Item};
use forebay::store::{Archive, Step};
use serde_json::{Value, json};

use crate::args::{Global, Output};
use crate::exit::{Done, Exit, Failure};
use crate::report;
use crate::stop::Stop;

/// Flags of `forebay verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Reads everything; 1 if anything is damaged or open.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    let stop = Stop::listen()?;
    let archive = Archive::open(&args.dir)?;
    let mut audit = Audit::new(&archive);
    if !audit.read(&archive, &stop)? {
        return Ok(Exit::Done);
    }
    report::print(&match global.output {
        Output::Text => audit.text(&archive),
        Output::Json => format!("{}\n", audit.json(&archive)),
    })?;
    Ok(if audit.is_sound(&archive) { Exit::Done } else { Exit::No })
}

/// The account of every destination of a directory that nobody writes, counted. `None`: asked to stop before.
pub(crate) fn ledgers(dir: &Path, stop: &Stop) -> Result<Option<Vec<Ledger>>, Failure> {
    let archive = Archive::open(dir)?;
    let mut audit = Audit::new(&archive);
    let ledgers = |audit: Audit| audit.accounts.into_iter().map(|account| account.ledger).collect();
    Ok(audit.read(&archive, stop)?.then(|| ledgers(audit)))
}

/// What reading has counted.
struct Audit {
    records: u64,
    first_sequence: u64,
    damage: Vec<Damage>,
    damaged_bytes: u64,
    accounts: Vec<Account>,
}

struct Account {
    ledger: Ledger,
    since: u64,
    confirmed: u64,
}

impl Account {
    fn new(archive: &Archive, name: &str, cursor: &CursorState) -> Self {
        let mut ledger = Ledger::new(name);
        let (since, confirmed) = (cursor.since_sequence, cursor.confirmed);
        ledger.accepted = archive.last_sequence().max(confirmed) - since;
        ledger.delivered = cursor.delivered;
        ledger.exact = !cursor.inexact;
        ledger.dropped = cursor.dropped;
        for gap in archive.gaps() {
            let count = gap.losses_within(confirmed + 1, u64::MAX);
            ledger.dropped.add(gap.reason, count);
            ledger.exact &= count == 0 || gap.reason != Reason::UncleanStop;
        }
        Self { ledger, since, confirmed }
    }

    fn count(&mut self, batch: &Batch) {
        let floor = self.confirmed.max(self.since);
        if batch.first_sequence() > floor {
            self.ledger.pending += batch.record_count() as u64;
        } else if batch.last_sequence() > floor {
            let above = |item: &Item<'_>| matches!(item, Item::Data(record) if record.sequence > floor);
            self.ledger.pending += batch.iter().filter(above).count() as u64;
        }
    }

    /// Sequences that the log skips were delivered from memory; the cursor is written only once a second.
    fn count_absent(&mut self, first: u64, last: u64) {
        let first = first.max(self.confirmed.max(self.since) + 1);
        if first <= last {
            self.ledger.delivered += last - first + 1;
            self.ledger.exact = false;
        }
    }
}

impl Audit {
    fn new(archive: &Archive) -> Self {
        let accounts =
            archive.destinations().iter().map(|(name, cursor)| Account::new(archive, name, cursor));
        let accounts = accounts.collect();
        Self { records: 0, first_sequence: 0, damage: Vec::new(), damaged_bytes: 0, accounts }
    }

    /// Counts until the end; false when it was asked to stop before.
    fn read(&mut self, archive: &Archive, stop: &Stop) -> Result<bool, Failure> {
        let mut reader = archive.reader(1, 0)?;
        let mut batch = reader.batch();
        loop {
            if stop.is_asked() {
                return Ok(false);
            }
            match reader.next(&mut batch)? {
                Step::Records => {
                    if self.records == 0 {
                        self.first_sequence = batch.first_sequence();
                    }
                    self.records += batch.record_count() as u64;
                    self.accounts.iter_mut().for_each(|account| account.count(&batch));
                }
                Step::Damaged(damage) => self.note_damage(archive, damage),
                Step::Absent { first, last } => {
                    self.accounts.iter_mut().for_each(|account| account.count_absent(first, last));
                }
                Step::Gap(_) | Step::Trimmed { .. } => {}
                Step::End => break,
            }
        }
        let files: BTreeSet<&str> = self.damage.iter().map(|damage| damage.file.as_str()).collect();
        for file in files {
            self.damaged_bytes += archive.unsound_bytes(file)?;
        }
        Ok(true)
    }

    /// What every destination has is needed by nobody.
    fn note_damage(&mut self, archive: &Archive, mut damage: Damage) {
        damage.first_sequence = damage.first_sequence.max(archive.confirmed_min() + 1);
        if damage.first_sequence <= damage.last_sequence {
            self.damage.push(damage);
        }
    }

    fn damaged_records(&self) -> u64 {
        self.damage.iter().map(|damage| damage.last_sequence - damage.first_sequence + 1).sum()
    }

    fn closes(&self) -> bool {
        self.accounts.iter().all(|account| account.ledger.closes())
    }

    fn is_sound(&self, archive: &Archive) -> bool {
        self.damage.is_empty() && archive.flaws().is_empty() && self.closes()
    }

    fn durable_sequence(archive: &Archive) -> u64 {
        let recovered = archive.recovered();
        recovered.last_sequence.max(recovered.proven_sequence)
    }

    fn json(&self, archive: &Archive) -> Value {
        let damage: Vec<Value> = self.damage.iter().map(report::damage).collect();
        let ledger: Vec<&Ledger> = self.accounts.iter().map(|account| &account.ledger).collect();
        json!({
            "records": self.records,
            "first_sequence": self.first_sequence,
            "durable_sequence": Self::durable_sequence(archive),
            "segments": archive.recovered().catalog.segments().len(),
            "damaged_records": self.damaged_records(),
            "damaged_bytes": self.damaged_bytes,
            "gaps": archive.gaps().len(),
            "ledger": ledger,
            "closes": self.closes(),
            "damage": damage,
            "flaws": archive.flaws(),
            "recovery": archive.recovered().report,
        })
    }

    fn text(&self, archive: &Archive) -> String {
        let mut text = format!(
            "{} records in {} segments, from sequence {}; durable through {}; {} gaps\n",
            self.records,
            archive.recovered().catalog.segments().len(),
            self.first_sequence,
            Self::durable_sequence(archive),
            archive.gaps().len(),
        );
        for flaw in archive.flaws() {
            let _ = writeln!(text, "damaged: {flaw}");
        }
        // A power cut alone may leave such: told, and no verdict.
        for sentence in &archive.recovered().report {
            let _ = writeln!(text, "recovery: {sentence}");
        }
        for damage in &self.damage {
            let Damage { first_sequence, last_sequence, file, offset } = damage;
            let _ = writeln!(
                text,
                "damaged: records {first_sequence} to {last_sequence} ({file}, byte {offset})"
            );
        }
        if !self.damage.is_empty() {
            let _ =
                writeln!(text, "{} records, {} bytes damaged", self.damaged_records(), self.damaged_bytes);
        }
        for account in &self.accounts {
            let _ = writeln!(text, "{}", account.ledger);
        }
        text.push_str(match (self.is_sound(archive), self.closes()) {
            (true, _) => "sound: nothing is damaged, and the ledger closes\n",
            (false, true) => "damaged; the ledger closes\n",
            (false, false) => "NOT SOUND: the ledger does not close\n",
        });
        text
    }
}
