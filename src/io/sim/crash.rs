//! When the power goes, and what the disk holds afterwards.
//!
//! A power cut leaves what is durable plus some of what is pending: sectors of writes that no sync covered,
//! lengths, and changes of names. [`Loss`] says which some. A torn operation ([`Phase::During`]) is half
//! done before that choice is made.

use super::image::{Image, Node, Pending};
use super::random::Random;
use super::state::{Content, NodeId, State};

/// What of the pending changes a power cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing that was applied. What was only in flight is gone.
    None,
    /// Everything that is not durable: bytes, lengths and names.
    All,
    /// Each sector, length and name on its own; writes in flight come out torn.
    Each,
    /// Everything from a random moment on; the write of that moment survives up to a random sector.
    Prefix,
    /// In each file everything but its newest write; names each on their own.
    NewestOnly,
    /// As [`Loss::Each`], and a lost sector of a write in flight may hold bytes that nobody wrote.
    Junk,
}

impl Loss {
    /// Every way, for tests that try them all.
    pub const EVERY: [Self; 6] =
        [Self::None, Self::All, Self::Each, Self::Prefix, Self::NewestOnly, Self::Junk];
}

/// Where in an operation the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing of it happens.
    Before,
    /// Some of it happens: some sectors of a write, some of what a sync covers, some names. What cannot be
    /// halved happens or does not.
    During,
    /// All of it happens, and nobody hears of it.
    After,
}

impl Phase {
    /// Every phase, for tests that try them all.
    pub const EVERY: [Self; 3] = [Self::Before, Self::During, Self::After];
}

/// A moment for the power to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrashPoint {
    /// The operation, counted from 1 as in [`super::SimDisk::operation_count`].
    pub operation: u64,
    /// Where in it.
    pub phase: Phase,
}

/// What becomes of one write.
enum Fate {
    Kept,
    Lost,
    /// The first sectors, so many of them.
    UpTo(usize),
    /// Each sector on its own; a lost one may be junk.
    Drawn {
        junk: bool,
    },
}

impl State {
    /// Stops everything. What is in flight stays to be decided on by the power cut.
    pub(super) fn lose_power(&mut self) {
        if self.dead {
            return;
        }
        self.dead = true;
        let mut order = self.operation_count;
        for (id, flight) in self.flights.iter().filter(|(_, flight)| !flight.applied) {
            let Some(node) = self.content.nodes.get(&flight.node) else { continue };
            order += 1;
            let bytes = &flight.slot[flight.range.clone()];
            let sectors = node.live.overlay(bytes, flight.offset);
            let end = flight.offset + bytes.len() as u64;
            self.frozen.push((flight.node, Pending { id: *id, order, received: None, end, sectors }));
        }
    }

    /// What the disk holds when the power comes back.
    pub(super) fn survivors(&self, loss: Loss, random: &mut Random) -> Content {
        let last = self.frozen.last().map_or(self.operation_count, |(_, write)| write.order);
        let cut_at = self.first_pending().map_or(0, |first| first + random.below(last + 2 - first));
        let mut names = self.content.durable.clone();
        for change in &self.content.changes {
            let kept = match loss {
                Loss::None => true,
                Loss::All => false,
                Loss::Prefix => change.order < cut_at,
                Loss::Each | Loss::NewestOnly | Loss::Junk => random.coin(),
            };
            if kept {
                change.apply(&mut names);
            }
        }
        let mut content = Content::default();
        for (name, id) in &names {
            let Some(node) = self.content.nodes.get(id) else { continue };
            let image = self.surviving_image(*id, node, loss, cut_at, random);
            let survivor = Node { unreadable: node.unreadable.clone(), ..Node::of(image) };
            content.nodes.insert(content.nodes.len() as u64 + 1, survivor);
            content.live.insert(name.clone(), content.nodes.len() as u64);
        }
        content.durable = content.live.clone();
        content
    }

    /// The first operation that is not wholly durable.
    fn first_pending(&self) -> Option<u64> {
        let writes = self.content.nodes.values().flat_map(|node| &node.pending).map(|write| write.order);
        let frozen = self.frozen.iter().map(|(_, write)| write.order);
        writes.chain(frozen).chain(self.content.changes.iter().map(|change| change.order)).min()
    }

    fn surviving_image(
        &self,
        id: NodeId,
        node: &Node,
        loss: Loss,
        cut_at: u64,
        random: &mut Random,
    ) -> Image {
        let frozen = self.frozen.iter().filter(|(of, _)| *of == id).map(|(_, write)| (write, true));
        let writes: Vec<(&Pending, bool)> =
            node.pending.iter().map(|write| (write, false)).chain(frozen).collect();
        let newest = writes.iter().rposition(|(write, _)| !write.sectors.is_empty());
        let mut image = node.durable.clone();
        for (position, (write, in_flight)) in writes.into_iter().enumerate() {
            let fate = match loss {
                Loss::None if in_flight => Fate::Lost,
                Loss::None => Fate::Kept,
                Loss::All => Fate::Lost,
                Loss::Each => Fate::Drawn { junk: false },
                Loss::Junk => Fate::Drawn { junk: write.received.is_none() },
                Loss::NewestOnly if newest == Some(position) => Fate::Kept,
                Loss::NewestOnly => Fate::Lost,
                Loss::Prefix if write.order < cut_at => Fate::Kept,
                Loss::Prefix if write.order > cut_at => Fate::Lost,
                Loss::Prefix => Fate::UpTo(random.below(write.sectors.len() as u64 + 1) as usize),
            };
            survive(&mut image, write, &fate, random);
        }
        let len = image.len;
        image.cut(len);
        image
    }
}

/// Puts over `image` what is left of `write`. Sectors behind the end that survives are cut off later.
fn survive(image: &mut Image, write: &Pending, fate: &Fate, random: &mut Random) {
    let mut last = None;
    for (position, (index, sector)) in write.sectors.iter().enumerate() {
        let kept = match fate {
            Fate::Kept => true,
            Fate::Lost => false,
            Fate::UpTo(count) => position < *count,
            Fate::Drawn { .. } => random.coin(),
        };
        let junk = !kept && matches!(fate, Fate::Drawn { junk: true }) && random.coin();
        if kept {
            image.put(*index, sector.clone());
        } else if junk {
            image.put(*index, (0..sector.len()).map(|_| random.number() as u8).collect());
        }
        if kept || junk {
            last = Some((index + 1) * sector.len() as u64);
        }
    }
    let reached = last.map_or(0, |end| end.min(write.end));
    let end = match fate {
        Fate::Kept => write.end,
        Fate::Lost => 0,
        Fate::UpTo(_) => reached,
        // The length is metadata: it goes its own way, and takes the sectors behind it along.
        Fate::Drawn { .. } if !random.coin() => 0,
        Fate::Drawn { .. } if write.sectors.is_empty() && random.coin() => random.below(write.end + 1),
        Fate::Drawn { .. } if write.sectors.is_empty() => write.end,
        Fate::Drawn { .. } => reached,
    };
    image.len = image.len.max(end);
}

impl Content {
    /// The disk as other programs see it: whatever was applied is there, dirty as it is.
    pub(super) fn unattended(&self) -> Self {
        let mut content = self.clone();
        for node in content.nodes.values_mut() {
            node.handles = 0;
            for write in &mut node.pending {
                // Older than all that is to come, and over for everybody.
                (write.order, write.received) = (0, Some(0));
            }
        }
        content.changes.iter_mut().for_each(|change| change.order = 0);
        content.sweep();
        content
    }
}
