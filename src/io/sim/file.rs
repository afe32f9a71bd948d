//! An open file of a simulated disk.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Shared;
use super::state::{NodeId, State};
use crate::io::{Access, File};

/// One open file; the disk knows it by its address.
#[derive(Debug)]
pub(super) struct SimFile {
    shared: Arc<Shared>,
    name: String,
    alignment: usize,
    direct: bool,
}

impl SimFile {
    /// Opens `node`. `state` is that of `shared`, locked.
    pub(super) fn new(
        shared: &Arc<Shared>,
        state: &mut State,
        node: NodeId,
        name: &str,
        access: Access,
    ) -> Arc<Self> {
        let direct = matches!(access, Access::WriteDirect | Access::ReadDirect) && state.options.direct_io;
        let alignment = state.alignment(access);
        let file = Self { shared: Arc::clone(shared), name: name.to_owned(), alignment, direct };
        let file = Arc::new(file);
        state.enter(file.address(), node, access);
        file
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// The address by which the disk knows `file`.
pub(super) fn address_of(file: &Arc<dyn File>) -> usize {
    Arc::as_ptr(file).cast::<()>().addr()
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let address = self.address();
        self.shared.lock().leave(address);
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let handle = state.handle(self.address())?;
        // Only faults draw numbers here, so that reads without faults leave the rest as it was.
        let mut random = state.random.clone();
        let result = state.read(handle, buffer, offset, &mut random);
        state.random = random;
        result
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let handle = state.handle(self.address())?;
        state.assert_alone(handle.node, offset..offset.saturating_add(bytes.len() as u64));
        let id = state.id();
        let result = state.write(handle, id, bytes, offset);
        state.receive(handle.node, id, result.is_ok());
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        let handle = state.handle(self.address())?;
        let receipts = state.receipts;
        state.sync(handle, receipts)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.shared.lock();
        state.alive()?;
        let handle = state.handle(self.address())?;
        Ok(state.content.nodes[&handle.node].live.len)
    }

    fn written_bytes(&self) -> io::Result<u64> {
        let state = self.shared.lock();
        state.alive()?;
        let handle = state.handle(self.address())?;
        Ok(state.content.nodes[&handle.node].live.written_bytes())
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
