//! What a partition remembers of the producers that number their batches, so that a batch sent
//! twice is stored once (KIP-98) and none is stored before one that is missing.
//!
//! Of each producer its epoch and its last five batches, which is how many it may have in flight.
//! Who was silent longest is forgotten first: when its time is up (`producer.id.expiration.ms`) or
//! when there are too many; a producer that is not known may begin with any number (KIP-360). An
//! append is noted before it is durable, with what takes it back. Pure: no I/O, no clock.
//! **Invariant:** the list from `oldest` to `newest` holds the slots of `by_id`, by rising
//! `seen_ms`; `undo` reaches back to the flushed offset.

use crate::base::limits::{PRODUCERS_PER_PARTITION_MAX, PRODUCERS_PER_SHARD_MAX};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Batches of a producer that are remembered: Kafka's clients have no more in flight.
pub const WINDOW_BATCHES: usize = 5;

/// Sequence numbers are 31 bit and begin again at 0.
const SEQUENCE_MASK: i32 = i32::MAX;

/// Ends the list, and a window's room for batches.
const NONE: u32 = u32::MAX;

/// What a batch says of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub producer_id: i64,
    pub epoch: i16,
    /// Of the first record.
    pub sequence: i32,
    /// Of the last record: sequences run along with offsets.
    pub offset_delta: i32,
}

/// A batch that was appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownBatch {
    pub last_sequence: i32,
    pub offset_delta: i32,
    pub last_offset: i64,
    /// Its largest timestamp.
    pub timestamp: i64,
}

/// Why a batch is not the next one of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    #[error(
        "producer {producer_id} sends sequence {sequence} in epoch {epoch}, {expected} comes next"
    )]
    OutOfOrder { producer_id: i64, epoch: i16, sequence: i32, expected: i32 },
    #[error("producer {producer_id} sends in epoch {epoch}, the newest known is {newest}")]
    StaleEpoch { producer_id: i64, epoch: i16, newest: i16 },
}

/// The epoch of one producer and its last batches, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub epoch: i16,
    count: u8,
    batches: [KnownBatch; WINDOW_BATCHES],
}

/// One producer, as DescribeProducers and snapshots tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownProducer {
    pub producer_id: i64,
    /// When it appended last, by this node's clock.
    pub seen_ms: i64,
    pub window: Window,
}

#[derive(Clone)]
struct Slot {
    known: KnownProducer,
    older: u32,
    newer: u32,
}

/// What takes one append back.
#[derive(Clone)]
struct Undo {
    end_offset: i64,
    producer_id: i64,
    before: Before,
}

#[derive(Clone)]
enum Before {
    /// The producer was not known.
    Nothing,
    /// Its window had room for the batch.
    Room,
    /// This batch had to leave the window.
    Oldest(KnownBatch),
    /// The batch began an epoch.
    Epoch(Box<Window>),
}

/// The producers of one partition.
pub struct Producers {
    by_id: HashMap<i64, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    undo: VecDeque<Undo>,
    /// How many all partitions of the shard remember.
    shard_count: Rc<Cell<usize>>,
}

impl Sent {
    /// Sequence of the last record.
    pub fn last_sequence(&self) -> i32 {
        self.sequence.wrapping_add(self.offset_delta) & SEQUENCE_MASK
    }
}

impl KnownBatch {
    /// Sequence of the first record.
    pub fn sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & SEQUENCE_MASK
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

impl Window {
    /// A window without batches.
    pub fn new(epoch: i16) -> Window {
        Window { epoch, count: 0, batches: [KnownBatch::default(); WINDOW_BATCHES] }
    }

    /// The batches, oldest first.
    pub fn batches(&self) -> &[KnownBatch] {
        &self.batches[..usize::from(self.count)]
    }

    /// The last batch.
    pub fn newest(&self) -> Option<&KnownBatch> {
        self.batches().last()
    }

    /// The sequence that comes next.
    fn expected(&self) -> i32 {
        self.newest().map_or(0, |newest| newest.last_sequence.wrapping_add(1) & SEQUENCE_MASK)
    }

    fn find(&self, sent: &Sent) -> Option<&KnownBatch> {
        let last = sent.last_sequence();
        let same = |known: &&KnownBatch| {
            known.last_sequence == last && known.offset_delta == sent.offset_delta
        };
        self.batches().iter().rev().find(same).filter(|_| self.epoch == sent.epoch)
    }

    /// Adds `batch`; returns the one that had to leave.
    pub fn push(&mut self, batch: KnownBatch) -> Option<KnownBatch> {
        let mut leaves = None;
        if usize::from(self.count) == WINDOW_BATCHES {
            leaves = Some(self.batches[0]);
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
        leaves
    }

    fn pop(&mut self, returns: Option<KnownBatch>) {
        self.count = self.count.saturating_sub(1);
        if let Some(oldest) = returns {
            self.batches.rotate_right(1);
            self.batches[0] = oldest;
            self.count += 1;
        }
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Window) -> bool {
        (self.epoch, self.batches()) == (other.epoch, other.batches())
    }
}

impl Eq for Window {}

impl Undo {
    /// The window as it was before the append; nothing: its producer was not known.
    fn take_back(&self, window: &mut Option<Window>) {
        // A producer that was forgotten meanwhile stays so.
        let Some(known) = window else { return };
        match &self.before {
            Before::Nothing => *window = None,
            Before::Room => known.pop(None),
            Before::Oldest(batch) => known.pop(Some(*batch)),
            Before::Epoch(older) => *known = **older,
        }
    }
}

impl Producers {
    /// Nobody; `shard_count` is shared by all partitions of a shard.
    pub fn new(shard_count: Rc<Cell<usize>>) -> Producers {
        Producers {
            by_id: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            undo: VecDeque::new(),
            shard_count,
        }
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// All that are known, longest silent first.
    pub fn all(&self) -> impl Iterator<Item = &KnownProducer> {
        let next = |at: &u32| Some(self.slots[*at as usize].newer).filter(|next| *next != NONE);
        let first = Some(self.oldest).filter(|first| *first != NONE);
        std::iter::successors(first, next).map(|at| &self.slots[at as usize].known)
    }

    /// Says whether `sent` may be appended: `None`, or the batch that it repeats. Kafka's rules.
    ///
    /// # Errors
    /// [`ProducerError`]: it may not.
    pub fn check(&self, sent: &Sent) -> Result<Option<KnownBatch>, ProducerError> {
        let Sent { producer_id, epoch, sequence, .. } = *sent;
        let newest = self.by_id.get(&producer_id).map(|at| &self.slots[*at as usize].known.window);
        let Some(window) = newest else {
            let stale = ProducerError::StaleEpoch { producer_id, epoch, newest: 0 };
            return if epoch < 0 { Err(stale) } else { Ok(None) };
        };
        if let Some(known) = window.find(sent) {
            return Ok(Some(*known));
        }
        if epoch < window.epoch {
            return Err(ProducerError::StaleEpoch { producer_id, epoch, newest: window.epoch });
        }
        let expected = if epoch == window.epoch { window.expected() } else { 0 };
        if sequence != expected {
            return Err(ProducerError::OutOfOrder { producer_id, epoch, sequence, expected });
        }
        Ok(None)
    }

    /// Takes note of a batch that [`Producers::check`] let pass and that was appended at
    /// `base_offset`; everything below `flushed_offset` stays for good.
    pub fn append(
        &mut self,
        sent: &Sent,
        base_offset: i64,
        timestamp: i64,
        now_ms: i64,
        flushed_offset: i64,
    ) {
        self.settle(flushed_offset);
        let before = self.note(sent, base_offset, timestamp, now_ms);
        let end_offset = base_offset + i64::from(sent.offset_delta) + 1;
        self.undo.push_back(Undo { end_offset, producer_id: sent.producer_id, before });
    }

    /// Takes note of a batch that is in the log for good, whatever it says.
    pub fn replay(&mut self, sent: &Sent, base_offset: i64, timestamp: i64, now_ms: i64) {
        self.note(sent, base_offset, timestamp, now_ms);
    }

    fn note(&mut self, sent: &Sent, base_offset: i64, timestamp: i64, now_ms: i64) -> Before {
        let batch = KnownBatch {
            last_sequence: sent.last_sequence(),
            offset_delta: sent.offset_delta,
            last_offset: base_offset + i64::from(sent.offset_delta),
            timestamp,
        };
        let Some(&at) = self.by_id.get(&sent.producer_id) else {
            let mut window = Window::new(sent.epoch);
            window.push(batch);
            self.insert(KnownProducer { producer_id: sent.producer_id, seen_ms: now_ms, window });
            return Before::Nothing;
        };
        self.unlink(at);
        self.link_newest(at, now_ms);
        let window = &mut self.slots[at as usize].known.window;
        if window.epoch != sent.epoch {
            let older = *window;
            *window = Window::new(sent.epoch);
            window.push(batch);
            return Before::Epoch(Box::new(older));
        }
        window.push(batch).map_or(Before::Room, Before::Oldest)
    }

    /// Adds a producer that is not known yet, as the one seen last; the longest silent one gives
    /// way where there are too many.
    pub fn insert(&mut self, known: KnownProducer) {
        let full = self.count() >= PRODUCERS_PER_PARTITION_MAX
            || self.shard_count.get() >= PRODUCERS_PER_SHARD_MAX;
        if full && self.oldest != NONE {
            self.remove(self.oldest);
        }
        let seen_ms = known.seen_ms;
        let slot = Slot { known, older: NONE, newer: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("their count is bounded")
            }
        };
        let before = self.by_id.insert(self.slots[at as usize].known.producer_id, at);
        assert!(before.is_none(), "a producer is added once");
        self.shard_count.set(self.shard_count.get() + 1);
        self.link_newest(at, seen_ms);
    }

    /// Whether `producer_id` is known.
    pub fn knows(&self, producer_id: i64) -> bool {
        self.by_id.contains_key(&producer_id)
    }

    /// Appends below `flushed_offset` (exclusive) will not be taken back.
    pub fn settle(&mut self, flushed_offset: i64) {
        while self.undo.front().is_some_and(|undo| undo.end_offset <= flushed_offset) {
            self.undo.pop_front();
        }
    }

    /// Takes back the appends that end behind `end_offset`, newest first.
    pub fn take_back(&mut self, end_offset: i64) {
        while self.undo.back().is_some_and(|undo| undo.end_offset > end_offset) {
            let undo = self.undo.pop_back().expect("it was looked at");
            let Some(&at) = self.by_id.get(&undo.producer_id) else { continue };
            let mut window = Some(self.slots[at as usize].known.window);
            undo.take_back(&mut window);
            match window {
                Some(window) => self.slots[at as usize].known.window = window,
                None => self.remove(at),
            }
        }
    }

    /// What was known when the log ended at `end_offset`, which is not below the flushed one.
    pub fn all_at(&self, end_offset: i64) -> Vec<KnownProducer> {
        let mut windows: HashMap<i64, Option<Window>> = HashMap::new();
        for undo in self.undo.iter().rev().take_while(|undo| undo.end_offset > end_offset) {
            let known = || {
                let at = self.by_id.get(&undo.producer_id)?;
                Some(self.slots[*at as usize].known.window)
            };
            undo.take_back(windows.entry(undo.producer_id).or_insert_with(known));
        }
        let then = |known: &KnownProducer| match windows.get(&known.producer_id) {
            Some(window) => window.map(|window| KnownProducer { window, ..*known }),
            None => Some(*known),
        };
        self.all().filter_map(then).collect()
    }

    /// Forgets who has been silent for `expiration_ms` at `now_ms`.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        while self.oldest != NONE {
            let seen_ms = self.slots[self.oldest as usize].known.seen_ms;
            if now_ms.saturating_sub(seen_ms) < expiration_ms {
                return;
            }
            self.remove(self.oldest);
        }
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        self.by_id.remove(&self.slots[at as usize].known.producer_id);
        self.shard_count.set(self.shard_count.get() - 1);
        self.free.push(at);
        if self.by_id.is_empty() {
            // A log that nobody writes to any more keeps no memory for it.
            (self.slots, self.free) = (Vec::new(), Vec::new());
            self.by_id.shrink_to_fit();
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { older, newer, .. } = self.slots[at as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, at: u32, now_ms: i64) {
        // A clock that was set back does not make the list jump.
        let newest_ms = match self.newest {
            NONE => now_ms,
            newest => self.slots[newest as usize].known.seen_ms,
        };
        let before = std::mem::replace(&mut self.newest, at);
        match before {
            NONE => self.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
        let slot = &mut self.slots[at as usize];
        (slot.older, slot.newer) = (before, NONE);
        slot.known.seen_ms = now_ms.max(newest_ms);
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        self.shard_count.set(self.shard_count.get() - self.by_id.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Sent {
        Sent { producer_id, epoch, sequence, offset_delta: count - 1 }
    }

    /// One partition with one producer whose batches have gone to rising offsets.
    struct Partition {
        producers: Producers,
        end: i64,
    }

    impl Partition {
        fn new() -> Partition {
            Partition { producers: Producers::new(Rc::default()), end: 0 }
        }

        /// The base offset of the batch, and whether it was there before.
        fn put(&mut self, sent: Sent) -> Result<(i64, bool), ProducerError> {
            if let Some(known) = self.producers.check(&sent)? {
                return Ok((known.base_offset(), true));
            }
            let base_offset = self.end;
            self.producers.append(&sent, base_offset, 0, 0, 0);
            self.end += i64::from(sent.offset_delta) + 1;
            Ok((base_offset, false))
        }
    }

    fn is_out_of_order(result: Result<(i64, bool), ProducerError>, next: i32) -> bool {
        matches!(result, Err(ProducerError::OutOfOrder { expected, .. }) if expected == next)
    }

    /// Goal: Kafka's rules of KIP-98 for one epoch. Method: the next one, gaps, repeats of each of
    /// the last five, of an older one, of a part of one.
    #[test]
    fn the_last_five_batches_are_found_again_and_gaps_refused() {
        let mut partition = Partition::new();
        for at in 0..7 {
            assert_eq!(partition.put(sent(1, 0, at * 3, 3)), Ok((i64::from(at) * 3, false)));
        }
        for at in 2..7 {
            assert_eq!(partition.put(sent(1, 0, at * 3, 3)), Ok((i64::from(at) * 3, true)));
        }
        assert!(is_out_of_order(partition.put(sent(1, 0, 3, 3)), 21), "six batches ago");
        assert!(is_out_of_order(partition.put(sent(1, 0, 18, 2)), 21), "a part of the last one");
        assert!(is_out_of_order(partition.put(sent(1, 0, 22, 1)), 21), "a gap");
        assert_eq!(partition.put(sent(1, 0, 21, 1)), Ok((21, false)));
        assert_eq!(partition.put(sent(2, 0, 0, 1)), Ok((22, false)), "others do not matter");
    }

    /// Goal: KIP-360: who is not known may begin anywhere. Method: first batches of all kinds.
    #[test]
    fn an_unknown_producer_begins_with_any_sequence() {
        for (epoch, sequence) in [(0, 0), (0, 77), (5, i32::MAX), (i16::MAX, 3)] {
            let mut partition = Partition::new();
            assert_eq!(partition.put(sent(1, epoch, sequence, 2)), Ok((0, false)));
            let next = sent(1, epoch, sequence, 2).last_sequence().wrapping_add(1) & i32::MAX;
            assert!(is_out_of_order(partition.put(sent(1, epoch, next ^ 1, 1)), next));
            assert_eq!(partition.put(sent(1, epoch, next, 1)), Ok((2, false)));
        }
        let refused = Partition::new().put(sent(1, -1, 0, 1));
        assert!(matches!(refused, Err(ProducerError::StaleEpoch { .. })));
    }

    /// Goal: an epoch begins at 0 and ends those before it. Method: bump, with and without a gap;
    /// send in the old one, also what it had sent before.
    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut partition = Partition::new();
        assert_eq!(partition.put(sent(1, 3, 0, 4)), Ok((0, false)));
        assert!(is_out_of_order(partition.put(sent(1, 4, 4, 1)), 0));
        assert_eq!(partition.put(sent(1, 4, 0, 1)), Ok((4, false)));
        for old in [sent(1, 3, 0, 4), sent(1, 3, 4, 1), sent(1, 0, 0, 1)] {
            let newest = 4;
            let stale = ProducerError::StaleEpoch { producer_id: 1, epoch: old.epoch, newest };
            assert_eq!(partition.put(old), Err(stale));
        }
        assert_eq!(partition.put(sent(1, 4, 0, 1)), Ok((4, true)));
    }

    /// Goal: sequences wrap as in Kafka, within a batch too. Method: batches across the largest.
    #[test]
    fn sequences_begin_again_at_zero() {
        let mut partition = Partition::new();
        let at_end = sent(1, 0, i32::MAX - 1, 2);
        assert_eq!(at_end.last_sequence(), i32::MAX);
        assert_eq!(partition.put(at_end), Ok((0, false)));
        assert_eq!(partition.put(sent(1, 0, 0, 1)), Ok((2, false)));
        assert_eq!(partition.put(at_end), Ok((0, true)));
        let across = sent(2, 0, i32::MAX, 3);
        assert_eq!(across.last_sequence(), 1);
        assert_eq!(partition.put(across), Ok((3, false)));
        assert!(is_out_of_order(partition.put(sent(2, 0, 0, 1)), 2));
        assert_eq!(partition.put(sent(2, 0, 2, 1)), Ok((6, false)));
        assert_eq!(partition.put(across), Ok((3, true)));
    }

    /// Goal: what is taken back leaves no trace. Method: random appends of few producers with
    /// random cuts, compared with a copy from when the log ended there.
    #[test]
    fn appends_taken_back_leave_no_trace() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let mut partition = Partition::new();
            let windows = |producers: &Producers| {
                let mut all: Vec<_> = producers.all().map(|p| (p.producer_id, p.window)).collect();
                all.sort_by_key(|one| one.0);
                all
            };
            let mut history = vec![(0, Vec::new())];
            for _ in 0..random.usize(1..60) {
                let producer_id = random.i64(0..4);
                let known = partition.producers.all().find(|p| p.producer_id == producer_id);
                let (epoch, next) = known.map_or((0, 0), |p| (p.window.epoch, p.window.expected()));
                let bumps = random.u8(..) < 30;
                let (epoch, next) = if bumps { (epoch + 1, 0) } else { (epoch, next) };
                let put = partition.put(sent(producer_id, epoch, next, random.i32(1..4)));
                assert!(matches!(put, Ok((_, false))));
                history.push((partition.end, windows(&partition.producers)));
            }
            let (flushed, _) = history[random.usize(..history.len())];
            partition.producers.settle(flushed);
            while let Some((end, then)) = history.pop().filter(|then| then.0 >= flushed) {
                let mut at: Vec<_> = partition
                    .producers
                    .all_at(end)
                    .iter()
                    .map(|p| (p.producer_id, p.window))
                    .collect();
                at.sort_by_key(|one| one.0);
                assert!(at == then, "at {end}");
                if random.bool() {
                    partition.producers.take_back(end);
                    assert!(windows(&partition.producers) == then, "taken back to {end}");
                }
            }
        }
    }

    /// Goal: who is silent is forgotten, in order. Method: three producers, one of them goes on.
    #[test]
    fn a_silent_producer_is_forgotten_when_its_time_is_up() {
        let mut producers = Producers::new(Rc::default());
        for (producer_id, now_ms) in [(1, 0), (2, 10), (3, 20), (1, 30)] {
            let sequence = now_ms / 30;
            producers.append(&sent(producer_id, 0, sequence as i32, 1), now_ms, 0, now_ms, 0);
        }
        let ids =
            |producers: &Producers| producers.all().map(|p| p.producer_id).collect::<Vec<_>>();
        producers.expire(109, 100);
        assert_eq!(ids(&producers), [2, 3, 1]);
        producers.expire(120, 100);
        assert_eq!(ids(&producers), [1]);
        // A clock that is set back keeps nobody for ever.
        producers.append(&sent(4, 0, 0, 1), 40, 0, -500, 0);
        producers.expire(131, 100);
        assert_eq!(ids(&producers), [] as [i64; 0]);
        assert_eq!(producers.slots.capacity(), 0);
    }

    /// Goal: memory is what `base/limits.rs` says. Method: more producers than fit, in several
    /// partitions; the newest stay; everything is counted off.
    #[test]
    fn producers_beyond_the_limit_push_out_the_longest_silent() {
        let shard_count = Rc::new(Cell::new(0));
        let extra = 1_000;
        let fill = || {
            let mut producers = Producers::new(shard_count.clone());
            for at in 0..(PRODUCERS_PER_PARTITION_MAX + extra) as i64 {
                producers.append(&sent(at, 0, 0, 1), at, 0, at, at);
            }
            producers
        };
        let first = fill();
        assert_eq!(first.count(), PRODUCERS_PER_PARTITION_MAX);
        assert_eq!(first.all().next().expect("they are many").producer_id, extra as i64);
        let tables_bytes = first.by_id.capacity() * 8 / 7 * 17 + first.undo.capacity() * 56;
        let bytes = first.slots.capacity() * size_of::<Slot>() + tables_bytes;
        assert!(bytes <= PRODUCERS_PER_PARTITION_MAX * 192 * 2, "{bytes}");
        shard_count.set(PRODUCERS_PER_SHARD_MAX);
        let mut late = Producers::new(shard_count.clone());
        for at in 0..3 {
            late.append(&sent(at, 0, 0, 1), at, 0, at, at);
        }
        assert_eq!(late.count(), 1);
        drop(late);
        assert_eq!(shard_count.get(), PRODUCERS_PER_SHARD_MAX);
        shard_count.set(first.count());
        drop(first);
        assert_eq!(shard_count.get(), 0);
    }
}
