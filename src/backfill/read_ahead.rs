//! What to read next, what is in flight, and delivery in order, whatever order the reads come back in.
//!
//! ```text
//!   front ─► [done][done][in flight][done][in flight] ─► [chunks not yet planned: ranges, segment by segment]
//!             pop ◄──┘     └──── the window: at most `window_chunks` buffers ────┘
//! ```
//!
//! It promises: every byte of the ranges is delivered exactly once and in order, or named as missing in its
//! place; at most `window_chunks` buffers are in flight or waiting to be popped, reads that were forgotten
//! by a seek included until they come back; a chunk never crosses the end of its range; a short read is
//! planned again from where it ended, in its place; memory is bounded by the window and by how many
//! segments the caller extends ahead (ask [`ReadAhead::wants_more`]).
//!
//! It does not know files, buffers (`B` is passed through) or what the bytes mean. Offsets and ends are
//! multiples of [`ALIGNMENT`], so that every chunk may be read around the page cache.

use std::collections::VecDeque;

/// What offsets, ends and chunks are multiples of, in bytes.
pub const ALIGNMENT: u64 = 4096;

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Comes back with the completion; never used twice.
    pub token: u64,
    /// The segment's id.
    pub segment: u64,
    /// Bytes from the start of the segment's file.
    pub offset: u64,
    /// How many bytes: to read, and when delivered, how many of the buffer's bytes count.
    pub len: usize,
}

/// What a completion was good for.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed<B> {
    /// It will be delivered in its turn.
    InWindow,
    /// The read gave nothing (less than [`ALIGNMENT`]): the data ends before the range does. The chunk
    /// will be delivered in its turn as [`Front::Missing`]. Here is the buffer.
    EndOfData(B),
    /// Nobody waits for it any more. Here is the buffer.
    Stale(B),
}

/// What comes next in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front<B> {
    /// The first `len` bytes of the buffer are the chunk.
    Data(Chunk, B),
    /// The chunk could not be read.
    Missing(Chunk),
}

#[derive(Debug)]
enum Progress<B> {
    /// The rest of a short read: to be submitted again, before anything new.
    Waiting,
    InFlight,
    Done(B),
    Missing,
}

#[derive(Debug)]
struct Planned<B> {
    chunk: Chunk,
    progress: Progress<B>,
}

/// What is to be read of one segment and not yet planned.
#[derive(Debug, Clone, Copy)]
struct Range {
    segment: u64,
    offset: u64,
    end: u64,
}

/// The read-ahead window.
#[derive(Debug)]
pub struct ReadAhead<B> {
    window_chunks: usize,
    chunk_bytes: usize,
    /// Chunks in order, from the first one not yet popped.
    planned: VecDeque<Planned<B>>,
    /// What lies behind them. The last range stays when it is used up: it may grow.
    ranges: VecDeque<Range>,
    /// Reads in flight that a seek has forgotten: their buffers are still out. At most the window.
    forgotten: Vec<u64>,
    token_next: u64,
}

impl<B> ReadAhead<B> {
    /// A window of so many chunks of so many bytes, with nothing to read.
    ///
    /// # Panics
    ///
    /// When the window is empty or `chunk_bytes` is not a multiple of [`ALIGNMENT`].
    pub fn new(window_chunks: usize, chunk_bytes: usize) -> Self {
        assert!(window_chunks > 0, "a window of nothing reads nothing");
        assert!(chunk_bytes > 0 && is_aligned(chunk_bytes as u64), "{chunk_bytes} bytes a chunk");
        Self {
            window_chunks,
            chunk_bytes,
            planned: VecDeque::with_capacity(window_chunks),
            ranges: VecDeque::new(),
            forgotten: Vec::with_capacity(window_chunks),
            token_next: 0,
        }
    }

    /// Forgets everything and reads `segment` from `offset` to `end`.
    pub fn seek(&mut self, segment: u64, offset: u64, end: u64) {
        let in_flight = self.planned.iter().filter(|planned| matches!(planned.progress, Progress::InFlight));
        self.forgotten.extend(in_flight.map(|planned| planned.chunk.token));
        self.planned.clear();
        self.ranges.clear();
        self.extend(segment, offset, end);
    }

    /// Goes on in the next segment behind what is planned; the end of the one before is final now.
    ///
    /// # Panics
    ///
    /// When the range runs backwards or is not aligned.
    pub fn extend(&mut self, segment: u64, offset: u64, end: u64) {
        assert!(offset <= end && is_aligned(offset) && is_aligned(end), "range {offset}..{end}");
        if self.ranges.back().is_some_and(|last| last.offset == last.end) {
            self.ranges.pop_back();
        }
        self.ranges.push_back(Range { segment, offset, end });
    }

    /// The readable end of the last segment has moved on to `end`.
    ///
    /// # Panics
    ///
    /// When it has moved back, is not aligned, or there is no segment.
    pub fn grow(&mut self, end: u64) {
        let last = self.ranges.back_mut().expect("a segment that grows was named before");
        assert!(last.end <= end && is_aligned(end), "the end moves on from {} to {end}", last.end);
        last.end = end;
    }

    /// Whoever reads had to wait: a window that is full becomes one chunk deeper, up to `window_chunks_max`. So
    /// it is as deep as the device is slow to answer, and stays so.
    pub fn deepen(&mut self, window_chunks_max: usize) {
        if self.window_chunks < window_chunks_max && self.buffer_count() >= self.window_chunks {
            self.window_chunks += 1;
        }
    }

    /// The next chunk to submit; `None` while the window is full, or when there is nothing left to read.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: None is not the end")]
    pub fn next(&mut self) -> Option<Chunk> {
        if self.buffer_count() >= self.window_chunks {
            return None;
        }
        // The earliest first: what is behind it can't be delivered before it, and would keep its buffer.
        if let Some(rest) = self.planned.iter_mut().find(|it| matches!(it.progress, Progress::Waiting)) {
            rest.progress = Progress::InFlight;
            return Some(rest.chunk);
        }
        let chunk = self.plan()?;
        self.planned.push_back(Planned { chunk, progress: Progress::InFlight });
        Some(chunk)
    }

    /// A read has come back with `len` bytes at the front of `buffer`.
    ///
    /// # Panics
    ///
    /// When it brings more than was asked for.
    pub fn complete(&mut self, token: u64, len: usize, buffer: B) -> Completed<B> {
        let Some(index) = self.recognise(token) else {
            return Completed::Stale(buffer);
        };
        let planned = &mut self.planned[index];
        assert!(len <= planned.chunk.len, "{len} bytes read of {}", planned.chunk.len);
        // The rest must begin aligned, or it could not be read around the page cache.
        let usable = len - len % ALIGNMENT as usize;
        if usable == 0 {
            planned.progress = Progress::Missing;
            return Completed::EndOfData(buffer);
        }
        let whole = planned.chunk;
        planned.chunk.len = usable;
        planned.progress = Progress::Done(buffer);
        if usable < whole.len {
            let chunk = Chunk {
                token: self.issue(),
                segment: whole.segment,
                offset: whole.offset + usable as u64,
                len: whole.len - usable,
            };
            self.planned.insert(index + 1, Planned { chunk, progress: Progress::Waiting });
        }
        Completed::InWindow
    }

    /// A read has failed: the chunk will be delivered in its turn as [`Front::Missing`]. The buffer stays
    /// with the caller. Says whether anybody waited for it.
    pub fn fail(&mut self, token: u64) -> bool {
        let index = self.recognise(token);
        if let Some(index) = index {
            self.planned[index].progress = Progress::Missing;
        }
        index.is_some()
    }

    /// What comes next in order; `None` until it has come back.
    pub fn front(&self) -> Option<Front<&B>> {
        let first = self.planned.front()?;
        match &first.progress {
            Progress::Done(buffer) => Some(Front::Data(first.chunk, buffer)),
            Progress::Missing => Some(Front::Missing(first.chunk)),
            Progress::Waiting | Progress::InFlight => None,
        }
    }

    /// Takes what comes next in order out of the window.
    pub fn pop(&mut self) -> Option<Front<B>> {
        self.front()?;
        let Planned { chunk, progress } = self.planned.pop_front()?;
        match progress {
            Progress::Done(buffer) => Some(Front::Data(chunk, buffer)),
            Progress::Missing => Some(Front::Missing(chunk)),
            Progress::Waiting | Progress::InFlight => unreachable!("it had come back"),
        }
    }

    /// Reads that are out, the forgotten ones included.
    pub fn in_flight(&self) -> usize {
        let in_flight = |planned: &&Planned<B>| matches!(planned.progress, Progress::InFlight);
        self.planned.iter().filter(in_flight).count() + self.forgotten.len()
    }

    /// Whether everything was delivered: nothing is out, waiting or left to read. (Forgotten reads may
    /// still be out.)
    pub fn is_drained(&self) -> bool {
        self.planned.is_empty() && self.ranges.iter().all(|range| range.offset == range.end)
    }

    /// Whether less than a window is left to plan, so that the next segment should be named now.
    pub fn wants_more(&self) -> bool {
        let left: u128 = self.ranges.iter().map(|range| u128::from(range.end - range.offset)).sum();
        left < self.window_chunks as u128 * self.chunk_bytes as u128
    }

    /// Buffers that are out or wait to be popped. A missing chunk counts too: it bounds the plan.
    fn buffer_count(&self) -> usize {
        let waiting = self.planned.iter().filter(|it| matches!(it.progress, Progress::Waiting)).count();
        self.planned.len() - waiting + self.forgotten.len()
    }

    fn plan(&mut self) -> Option<Chunk> {
        while self.ranges.len() > 1 && self.ranges[0].offset == self.ranges[0].end {
            self.ranges.pop_front();
        }
        let chunk_bytes = self.chunk_bytes;
        let token = self.token_next;
        let range = self.ranges.front_mut().filter(|range| range.offset < range.end)?;
        let left = usize::try_from(range.end - range.offset).unwrap_or(usize::MAX);
        let chunk = Chunk { token, segment: range.segment, offset: range.offset, len: left.min(chunk_bytes) };
        range.offset += chunk.len as u64;
        self.token_next += 1;
        Some(chunk)
    }

    fn issue(&mut self) -> u64 {
        let token = self.token_next;
        self.token_next += 1;
        token
    }

    /// The place of a read in flight. One that was forgotten is out no more.
    fn recognise(&mut self, token: u64) -> Option<usize> {
        self.forgotten.retain(|forgotten| *forgotten != token);
        self.planned
            .iter()
            .position(|it| it.chunk.token == token && matches!(it.progress, Progress::InFlight))
    }
}

fn is_aligned(offset: u64) -> bool {
    offset.is_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = ALIGNMENT;

    fn window() -> ReadAhead<&'static str> {
        ReadAhead::new(2, 2 * BLOCK as usize)
    }

    fn next(window: &mut ReadAhead<&'static str>) -> Chunk {
        window.next().expect("a chunk to submit")
    }

    fn at(chunk: Chunk) -> (u64, u64, usize) {
        (chunk.segment, chunk.offset, chunk.len)
    }

    fn pop_data(window: &mut ReadAhead<&'static str>) -> (u64, u64, usize) {
        match window.pop() {
            Some(Front::Data(chunk, _)) => at(chunk),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn chunks_end_where_the_range_ends_and_go_on_in_the_next_segment() {
        let mut window = window();
        window.seek(1, BLOCK, 4 * BLOCK);
        window.extend(2, 0, BLOCK);
        let (one, two) = (next(&mut window), next(&mut window));
        assert_eq!(at(one), (1, BLOCK, 8192));
        assert_eq!(at(two), (1, 3 * BLOCK, 4096), "not across the end");
        assert_eq!(window.next(), None, "the window is full");
        assert_eq!(window.complete(two.token, two.len, "two"), Completed::InWindow);
        assert_eq!(window.front(), None, "the first one is not back");
        assert_eq!(window.next(), None, "what waits to be popped holds its buffer");
        assert_eq!(window.complete(one.token, one.len, "one"), Completed::InWindow);
        assert_eq!(window.pop(), Some(Front::Data(one, "one")));
        let three = next(&mut window);
        assert_eq!(at(three), (2, 0, 4096), "no bubble at the end of a segment");
        assert_eq!(window.pop(), Some(Front::Data(two, "two")));
        assert!(!window.is_drained());
        assert_eq!(window.complete(three.token, three.len, "three"), Completed::InWindow);
        assert_eq!(window.pop(), Some(Front::Data(three, "three")));
        assert!(window.is_drained());
    }

    #[test]
    fn a_drained_window_goes_on_when_the_end_moves() {
        let mut window = window();
        window.seek(1, 0, 0);
        assert_eq!(window.next(), None);
        assert!(window.is_drained() && window.wants_more());
        window.grow(8 * BLOCK);
        assert!(!window.is_drained() && !window.wants_more());
        assert_eq!(at(next(&mut window)), (1, 0, 8192));
    }

    #[test]
    fn forgotten_reads_are_stale_and_hold_their_place_until_they_are_back() {
        let mut window = window();
        window.seek(1, 0, 8 * BLOCK);
        let (one, two) = (next(&mut window), next(&mut window));
        window.seek(5, 0, 8 * BLOCK);
        assert_eq!(window.in_flight(), 2);
        assert_eq!(window.next(), None, "their buffers are still out");
        assert_eq!(window.complete(two.token, two.len, "two"), Completed::Stale("two"));
        let three = next(&mut window);
        assert_eq!(three.segment, 5);
        assert!(!window.fail(one.token));
        assert_eq!(window.in_flight(), 1);
        assert_eq!(window.complete(one.token, one.len, "one"), Completed::Stale("one"));
        assert_eq!(window.complete(three.token, three.len, "three"), Completed::InWindow);
        assert_eq!(window.complete(three.token, three.len, "again"), Completed::Stale("again"));
    }

    #[test]
    fn the_rest_of_a_short_read_comes_in_its_place_even_when_the_window_is_full() {
        let mut window = window();
        window.seek(1, 0, 4 * BLOCK);
        let (one, two) = (next(&mut window), next(&mut window));
        assert_eq!(window.complete(two.token, two.len, "two"), Completed::InWindow);
        // One block and a bit: the bit is read again, aligned.
        assert_eq!(window.complete(one.token, 5_000, "one"), Completed::InWindow);
        assert_eq!(window.next(), None);
        assert_eq!(pop_data(&mut window), (1, 0, 4096));
        assert_eq!(window.front(), None, "the rest is missing still");
        let rest = next(&mut window);
        assert_eq!(at(rest), (1, BLOCK, 4096));
        assert_ne!(rest.token, one.token);
        assert_eq!(window.complete(rest.token, rest.len, "rest"), Completed::InWindow);
        assert_eq!(pop_data(&mut window), (1, BLOCK, 4096));
        assert_eq!(pop_data(&mut window), (1, 2 * BLOCK, 8192));
        assert!(window.is_drained());
    }

    #[test]
    fn what_cannot_be_read_is_missing_in_its_place() {
        let mut window = window();
        window.seek(1, 0, 4 * BLOCK);
        let (one, two) = (next(&mut window), next(&mut window));
        assert!(window.fail(two.token));
        assert_eq!(window.front(), None);
        assert_eq!(window.complete(one.token, 100, "one"), Completed::EndOfData("one"));
        assert_eq!(window.pop(), Some(Front::Missing(one)));
        assert_eq!(window.pop(), Some(Front::Missing(two)));
        assert!(window.is_drained());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Submit,
        /// The read in flight at this place (modulo how many there are) comes back with this many permille
        /// of its bytes.
        Complete(usize, usize),
        Fail(usize),
        Pop,
        Grow(u64),
        Extend(u64, u64),
        Seek(u64, u64),
        /// At most so deep.
        Deepen(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let permille = prop_oneof![3 => Just(1_000_usize), 1 => 0..1_000_usize];
        let step = prop_oneof![
            8 => Just(Step::Submit),
            8 => (0..100_usize, permille).prop_map(|(place, part)| Step::Complete(place, part)),
            1 => (0..100_usize).prop_map(Step::Fail),
            6 => Just(Step::Pop),
            3 => (0..6_u64).prop_map(Step::Grow),
            2 => (0..3_u64, 0..9_u64).prop_map(|(start, blocks)| Step::Extend(start, blocks)),
            1 => (0..3_u64, 0..20_u64).prop_map(|(start, blocks)| Step::Seek(start, blocks)),
            1 => (1..9_usize).prop_map(Step::Deepen),
        ];
        proptest::collection::vec(step, 1..150)
    }

    /// Remembers what was asked for, block by block, and what came.
    struct Witness {
        window: ReadAhead<(u64, u64, usize)>,
        window_chunks: usize,
        out: Vec<Chunk>,
        /// Blocks popped and not popped, in the order in which they must come: (segment, offset).
        expected: VecDeque<(u64, u64)>,
        segment: u64,
        end: u64,
        held: usize,
        oldest_valid: u64,
    }

    impl Witness {
        fn range(&mut self, segment: u64, offset: u64, end: u64) {
            self.expected.extend((offset / BLOCK..end / BLOCK).map(|block| (segment, block * BLOCK)));
            (self.segment, self.end) = (segment, end);
        }

        fn submit(&mut self) -> bool {
            let Some(chunk) = self.window.next() else {
                return false;
            };
            assert!(chunk.len > 0 && is_aligned(chunk.offset) && is_aligned(chunk.len as u64));
            assert!(self.out.iter().all(|out| out.token != chunk.token));
            if chunk.segment == self.segment {
                assert!(chunk.offset + chunk.len as u64 <= self.end, "across the end");
            }
            self.out.push(chunk);
            self.assert_window();
            true
        }

        fn complete(&mut self, place: usize, permille: usize) {
            if self.out.is_empty() {
                return;
            }
            let chunk = self.out.swap_remove(place % self.out.len());
            let len = chunk.len * permille / 1_000;
            match self.window.complete(chunk.token, len, (chunk.segment, chunk.offset, len)) {
                Completed::InWindow => {
                    assert!(chunk.token >= self.oldest_valid && len >= BLOCK as usize);
                    self.held += 1;
                }
                Completed::EndOfData(_) => {
                    assert!(chunk.token >= self.oldest_valid && len < BLOCK as usize);
                    self.held += 1;
                }
                Completed::Stale(buffer) => {
                    assert!(chunk.token < self.oldest_valid, "only what was forgotten is stale");
                    assert_eq!(buffer, (chunk.segment, chunk.offset, len));
                }
            }
        }

        fn fail(&mut self, place: usize) {
            if self.out.is_empty() {
                return;
            }
            let chunk = self.out.swap_remove(place % self.out.len());
            let waited_for = self.window.fail(chunk.token);
            assert_eq!(waited_for, chunk.token >= self.oldest_valid);
            self.held += usize::from(waited_for);
        }

        fn pop(&mut self) -> bool {
            let chunk = match self.window.pop() {
                None => return false,
                Some(Front::Missing(chunk)) => chunk,
                Some(Front::Data(chunk, (segment, offset, len))) => {
                    assert_eq!((chunk.segment, chunk.offset), (segment, offset), "another's buffer");
                    assert!(chunk.len <= len, "bytes that were never read");
                    chunk
                }
            };
            self.held -= 1;
            for block in 0..chunk.len as u64 / BLOCK {
                let delivered = (chunk.segment, chunk.offset + block * BLOCK);
                assert_eq!(self.expected.pop_front(), Some(delivered), "in order, once");
            }
            true
        }

        fn play(&mut self, step: &Step) {
            match *step {
                Step::Submit => {
                    self.submit();
                }
                Step::Complete(place, permille) => self.complete(place, permille),
                Step::Fail(place) => self.fail(place),
                Step::Pop => {
                    self.pop();
                }
                Step::Grow(blocks) => {
                    let (segment, end) = (self.segment, self.end);
                    self.window.grow(end + blocks * BLOCK);
                    self.range(segment, end, end + blocks * BLOCK);
                }
                Step::Extend(start, blocks) => {
                    let (segment, offset, end) = (self.segment + 1, start * BLOCK, (start + blocks) * BLOCK);
                    self.window.extend(segment, offset, end);
                    self.range(segment, offset, end);
                }
                Step::Seek(start, blocks) => {
                    let (segment, offset, end) = (self.segment + 1, start * BLOCK, (start + blocks) * BLOCK);
                    self.window.seek(segment, offset, end);
                    self.expected.clear();
                    self.held = 0;
                    self.oldest_valid = u64::MAX;
                    self.range(segment, offset, end);
                }
                Step::Deepen(most) => {
                    let is_full = self.out.len() + self.held >= self.window_chunks;
                    self.window_chunks += usize::from(is_full && self.window_chunks < most);
                    self.window.deepen(most);
                    assert_eq!(self.window.window_chunks, self.window_chunks, "only a full one, by one");
                }
            }
        }

        fn assert_window(&self) {
            assert_eq!(self.window.in_flight(), self.out.len());
            assert!(self.out.len() + self.held <= self.window_chunks, "more buffers than the window has");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_order_of_completions_delivers_every_byte_once_and_in_order(
            window_chunks in 1..6_usize,
            chunk_blocks in 1..5_usize,
            steps in steps(),
        ) {
            let mut witness = Witness {
                window: ReadAhead::new(window_chunks, chunk_blocks * BLOCK as usize),
                window_chunks,
                out: Vec::new(),
                expected: VecDeque::new(),
                segment: 1,
                end: 0,
                held: 0,
                oldest_valid: 0,

            };
            witness.window.seek(1, 0, 0);
            for step in &steps {
                witness.play(step);
                if witness.oldest_valid == u64::MAX {
                    // Tokens only ascend: whatever is issued from here on belongs to the new plan.
                    witness.oldest_valid = witness.window.token_next;
                }
                witness.assert_window();
            }
            // And then it drains: as long as bytes are expected, something can be done.
            while !witness.window.is_drained() || !witness.out.is_empty() {
                let submitted = witness.submit();
                let had = !witness.out.is_empty();
                witness.complete(0, 1_000);
                prop_assert!(witness.pop() || submitted || had, "stuck");
            }
            prop_assert!(witness.expected.is_empty());
            prop_assert_eq!(witness.window.in_flight(), 0);
        }
    }
}
