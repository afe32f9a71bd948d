//! yaque: on the list so that its absence from the table has a reason. It never syncs, so it does not compete.

use std::sync::Mutex;

use yaque::{Sender, TrySendError};

use super::{Contestant, Entrant, Result, lock};
use crate::workload::Workload;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "yaque",
    package: "yaque",
    settings: "try_send_batch a group, try_send a record; it has no call that syncs",
    workloads: &[Workload::Grouped, Workload::Single],
    barriers_ahead: 0,
    environment: &[],
    open: |terms| Ok(Box::new(Yaque(Mutex::new(Sender::open(terms.directory.join("yaque"))?)))),
};

struct Yaque(Mutex<Sender>);

impl Contestant for Yaque {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let batch = (0..records).map(|_| payload);
        lock(&self.0).try_send_batch(batch).map_err(refused)
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        lock(&self.0).try_send(payload).map_err(refused)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn refused<T>(error: TrySendError<T>) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        TrySendError::Io(error) => error.into(),
        TrySendError::QueueFull { .. } => "the queue is full, though it has no limit".into(),
    }
}
