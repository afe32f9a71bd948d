//! A store as it was at one moment, to be read beside whoever writes it.

use std::io;
use std::sync::Arc;

use crate::error::Result;
use crate::io::{Access, Disk, File};
use crate::position::StoreId;
use crate::segment::catalog::{Catalog, Segment};
use crate::segment::format::slot_name;
use crate::segment::reader::Segments;
use crate::segment::recovery::{Known, Recovered, recover};
use crate::segment::survey::Epochs;

/// The segments of one moment.
#[derive(Debug)]
pub struct Snapshot {
    disk: Arc<dyn Disk>,
    catalog: Catalog,
    epochs: Epochs,
}

impl Snapshot {
    /// Takes one: finds the end of the log, makes it durable through its own read-only handles, and believes
    /// what it had found.
    ///
    /// # Errors
    /// As [`recover`].
    pub fn open(disk: Arc<dyn Disk>, store: StoreId, known: &Known) -> Result<(Self, Recovered)> {
        let known = Known { read_only: true, ..*known };
        let recovered = recover(&*disk, store, &known)?;
        Ok((Self::new(disk, &recovered), recovered))
    }

    /// What `recovered` found on `disk`.
    pub fn new(disk: Arc<dyn Disk>, recovered: &Recovered) -> Self {
        Self { disk, catalog: recovered.catalog.clone(), epochs: recovered.epochs.clone() }
    }
}

impl Segments for Snapshot {
    fn holding(&self, sequence: u64) -> Option<Segment> {
        self.catalog.holding(sequence)
    }

    fn segment(&self, id: u64) -> Option<Segment> {
        self.catalog.segment(id)
    }

    fn after(&self, id: u64) -> Option<Segment> {
        self.catalog.after(id)
    }

    fn open(&self, segment: &Segment) -> io::Result<Arc<dyn File>> {
        self.disk.open(&slot_name(segment.slot), Access::ReadDirect)
    }

    fn epochs(&self) -> Epochs {
        self.epochs.clone()
    }
}
