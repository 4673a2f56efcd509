//! Incremental fetch sessions (KIP-227): what a consumer asked for before, so that it need not say
//! it again, and what it was told, so that only changes are answered.
//!
//! One cache a shard; a session belongs to the shard of the connection that opened it. A client
//! that comes back on another shard is told that the session is unknown and asks in full.
//! **Invariant:** `bytes of the cache <= slots * partitions asked for`, never more slots than
//! given.

use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Id of "no session".
pub const SESSION_NONE: i32 = 0;
/// Epoch of the request that opens a session.
const EPOCH_INITIAL: i32 = 0;
/// Epoch of a request that neither has nor wants a session.
const EPOCH_FINAL: i32 = -1;
/// A session unused for as long, ms, makes room for others: as in Kafka.
const EVICTION_MS: i64 = 120_000;

/// How a request names a topic: by id from version 13 up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Id(TopicId),
    Name(Rc<str>),
}

/// What a consumer wants of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub topic: TopicKey,
    pub partition: PartitionIndex,
    pub fetch_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
    pub bytes_max: i32,
}

/// What was found in one partition, as far as a session compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records_bytes: usize,
    pub is_error: bool,
}

/// Why a request's session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the fetch session is not known")]
    NotFound,
    #[error("the fetch session is at another epoch")]
    Epoch,
    #[error("the fetch session names its topics the other way")]
    TopicIds,
}

struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

/// One consumer's session. Partitions are in the order in which they are served next.
pub struct Session {
    id: i32,
    epoch: i32,
    by_ids: bool,
    created_ms: i64,
    used_ms: i64,
    next_turn: u64,
    turns: HashMap<(TopicKey, PartitionIndex), u64>,
    partitions: BTreeMap<u64, Cached>,
}

/// The way one fetch request is answered.
pub enum Context {
    /// No session: everything asked for is answered.
    Sessionless(Vec<Wanted>),
    /// A session was opened by this request: everything is answered.
    Full { session: Rc<RefCell<Session>>, wanted: Vec<Wanted> },
    /// Only what changed is answered.
    Incremental { session: Rc<RefCell<Session>>, wanted: Vec<Wanted>, epoch: i32 },
}

/// What a fetch request says about its session and partitions.
pub struct SessionRequest {
    pub session_id: i32,
    pub epoch: i32,
    pub by_ids: bool,
    pub wanted: Vec<Wanted>,
    pub forgotten: Vec<(TopicKey, PartitionIndex)>,
}

/// The sessions of one shard.
pub struct SessionCache {
    slots_max: usize,
    sessions: HashMap<i32, Rc<RefCell<Session>>>,
    /// State of the generator of ids; they need to differ, not to be secret.
    seed: u64,
}

impl SessionCache {
    /// A cache of `slots_max` sessions whose ids follow from `seed`.
    pub fn new(slots_max: usize, seed: u64) -> SessionCache {
        SessionCache { slots_max, sessions: HashMap::new(), seed }
    }

    /// Finds, opens or closes the session that `request` speaks of.
    ///
    /// # Errors
    /// [`SessionError`]: the request is answered with that error and nothing else.
    pub fn context(
        &mut self,
        request: SessionRequest,
        now_ms: i64,
    ) -> Result<Context, SessionError> {
        if request.epoch == EPOCH_INITIAL || request.epoch == EPOCH_FINAL {
            if request.session_id != SESSION_NONE {
                self.sessions.remove(&request.session_id);
            }
            if request.epoch == EPOCH_FINAL || request.wanted.is_empty() {
                return Ok(Context::Sessionless(request.wanted));
            }
            return Ok(self.open(request, now_ms));
        }
        let session = self.sessions.get(&request.session_id).ok_or(SessionError::NotFound)?;
        let session = session.clone();
        let mut state = session.borrow_mut();
        if state.epoch != request.epoch {
            return Err(SessionError::Epoch);
        }
        if state.by_ids != request.by_ids {
            return Err(SessionError::TopicIds);
        }
        state.update(request.wanted, &request.forgotten);
        if state.partitions.is_empty() {
            self.sessions.remove(&state.id);
            return Ok(Context::Sessionless(Vec::new()));
        }
        state.used_ms = now_ms;
        state.epoch = next_epoch(state.epoch);
        let (wanted, epoch) = (state.wanted(), state.epoch);
        drop(state);
        Ok(Context::Incremental { session, wanted, epoch })
    }

    /// Count of open sessions.
    pub fn sessions_count(&self) -> usize {
        self.sessions.len()
    }

    fn open(&mut self, request: SessionRequest, now_ms: i64) -> Context {
        if !self.make_room(request.wanted.len(), now_ms) {
            return Context::Sessionless(request.wanted);
        }
        let mut session = Session {
            id: self.unused_id(),
            epoch: next_epoch(EPOCH_INITIAL),
            by_ids: request.by_ids,
            created_ms: now_ms,
            used_ms: now_ms,
            next_turn: 0,
            turns: HashMap::new(),
            partitions: BTreeMap::new(),
        };
        session.update(request.wanted, &[]);
        let wanted = session.wanted();
        let id = session.id;
        let session = Rc::new(RefCell::new(session));
        self.sessions.insert(id, session.clone());
        Context::Full { session, wanted }
    }

    /// Frees a slot: of the longest unused session, else of an old one that is smaller than the
    /// new, for a large session saves more than a small one.
    fn make_room(&mut self, partitions_count: usize, now_ms: i64) -> bool {
        if self.sessions.len() < self.slots_max {
            return true;
        }
        let unused = self.sessions.values().min_by_key(|session| session.borrow().used_ms);
        let victim = unused.filter(|session| now_ms - session.borrow().used_ms > EVICTION_MS);
        let victim = victim.or_else(|| {
            let old = self.sessions.values().filter(|session| {
                let session = session.borrow();
                now_ms - session.created_ms > EVICTION_MS
                    && session.partitions.len() < partitions_count
            });
            old.min_by_key(|session| session.borrow().partitions.len())
        });
        let Some(id) = victim.map(|session| session.borrow().id) else {
            return false;
        };
        self.sessions.remove(&id).is_some()
    }

    fn unused_id(&mut self) -> i32 {
        loop {
            self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15); // splitmix64
            let mut mixed = self.seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let id = ((mixed ^ (mixed >> 31)) & 0x7FFF_FFFF) as i32;
            if id != SESSION_NONE && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    /// Takes up what a request adds, changes and forgets.
    fn update(&mut self, wanted: Vec<Wanted>, forgotten: &[(TopicKey, PartitionIndex)]) {
        for wanted in wanted {
            let key = (wanted.topic.clone(), wanted.partition);
            match self.turns.get(&key) {
                Some(turn) => {
                    let cached = self.partitions.get_mut(turn);
                    cached.expect("every turn is a partition").wanted = wanted;
                }
                None => {
                    // -1: whatever is found is news.
                    let cached = Cached { wanted, high_watermark: -1, log_start_offset: -1 };
                    self.turns.insert(key, self.next_turn);
                    self.partitions.insert(self.next_turn, cached);
                    self.next_turn += 1;
                }
            }
        }
        for key in forgotten {
            if let Some(turn) = self.turns.remove(key) {
                self.partitions.remove(&turn);
            }
        }
        self.check();
    }

    fn wanted(&self) -> Vec<Wanted> {
        self.partitions.values().map(|cached| cached.wanted.clone()).collect()
    }

    /// Notes what was found; returns whether the answer must tell it. A partition that got records
    /// goes to the end of the line, so that no busy one starves the others.
    fn note(&mut self, wanted: &Wanted, found: Found) -> bool {
        let key = (wanted.topic.clone(), wanted.partition);
        let Some(turn) = self.turns.get_mut(&key) else {
            return found.records_bytes > 0;
        };
        let cached = self.partitions.get_mut(turn).expect("every turn is a partition");
        let told = cached.high_watermark == found.high_watermark
            && cached.log_start_offset == found.log_start_offset;
        // After an error -1 is kept: the next answer without one is news again.
        cached.high_watermark = if found.is_error { -1 } else { found.high_watermark };
        cached.log_start_offset = found.log_start_offset;
        if found.records_bytes > 0 {
            let cached = self.partitions.remove(turn).expect("every turn is a partition");
            *turn = self.next_turn;
            self.partitions.insert(self.next_turn, cached);
            self.next_turn += 1;
        }
        self.check();
        found.records_bytes > 0 || found.is_error || !told
    }

    fn check(&self) {
        assert_eq!(self.turns.len(), self.partitions.len());
        assert!(self.partitions.last_key_value().is_none_or(|(turn, _)| *turn < self.next_turn));
    }
}

impl Context {
    /// What to read, in order.
    pub fn wanted(&self) -> &[Wanted] {
        match self {
            Context::Sessionless(wanted)
            | Context::Full { wanted, .. }
            | Context::Incremental { wanted, .. } => wanted,
        }
    }

    /// The session id of the answer.
    pub fn session_id(&self) -> i32 {
        match self {
            Context::Sessionless(_) => SESSION_NONE,
            Context::Full { session, .. } | Context::Incremental { session, .. } => {
                session.borrow().id
            }
        }
    }

    /// Whether the session is still at the epoch of this request: another request may have moved
    /// it on while this one waited.
    pub fn is_current(&self) -> bool {
        match self {
            Context::Incremental { session, epoch, .. } => session.borrow().epoch == *epoch,
            Context::Sessionless(_) | Context::Full { .. } => true,
        }
    }

    /// Notes what was found for the partition `index` of `wanted`; whether to tell it.
    pub fn note(&self, index: usize, found: Found) -> bool {
        match self {
            Context::Sessionless(_) => true,
            Context::Full { session, wanted } => {
                session.borrow_mut().note(&wanted[index], found);
                true
            }
            Context::Incremental { session, wanted, .. } => {
                session.borrow_mut().note(&wanted[index], found)
            }
        }
    }
}

/// The epoch after `epoch`; it wraps to 1, as 0 opens a session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: i32, offset: i64) -> Wanted {
        Wanted {
            topic: TopicKey::Name("words".into()),
            partition: PartitionIndex(partition),
            fetch_offset: Offset(offset),
            leader_epoch: LeaderEpoch::UNKNOWN,
            last_fetched_epoch: LeaderEpoch::UNKNOWN,
            bytes_max: 1024,
        }
    }

    fn request(session_id: i32, epoch: i32, wanted: Vec<Wanted>) -> SessionRequest {
        SessionRequest { session_id, epoch, by_ids: false, wanted, forgotten: Vec::new() }
    }

    fn found(high_watermark: i64, records_bytes: usize) -> Found {
        Found { high_watermark, log_start_offset: 0, records_bytes, is_error: false }
    }

    fn open(cache: &mut SessionCache, partitions_count: i32, now_ms: i64) -> i32 {
        let wanted = (0..partitions_count).map(|partition| wanted(partition, 0)).collect();
        let context = cache.context(request(0, 0, wanted), now_ms).expect("a new session");
        for index in 0..context.wanted().len() {
            assert!(context.note(index, found(0, 0)), "a full answer tells everything");
        }
        context.session_id()
    }

    fn partitions(context: &Context) -> Vec<i32> {
        context.wanted().iter().map(|wanted| wanted.partition.0).collect()
    }

    /// Goal: only changes are told and busy partitions go last. Method: three partitions.
    #[test]
    fn an_incremental_answer_tells_only_what_changed() {
        let mut cache = SessionCache::new(10, 1);
        let id = open(&mut cache, 3, 0);
        assert_ne!(id, SESSION_NONE);
        let context = cache.context(request(id, 1, vec![]), 0).expect("epoch 1 follows");
        assert_eq!(partitions(&context), [0, 1, 2]);
        assert!(context.note(0, found(5, 100)));
        assert!(!context.note(1, found(0, 0)));
        assert!(context.note(2, Found { is_error: true, ..found(-1, 0) }));
        let context = cache.context(request(id, 2, vec![wanted(0, 5)]), 0).expect("epoch 2");
        assert_eq!(partitions(&context), [1, 2, 0]);
        assert_eq!(context.wanted()[2].fetch_offset, Offset(5));
        assert!(context.note(1, found(0, 0)), "the end of an error is news");
        assert!(!context.note(2, found(5, 0)));
    }

    /// Goal: each misuse has its error. Method: unknown id, wrong epoch, the other naming.
    #[test]
    fn a_wrong_session_is_refused_as_kafka_does() {
        let mut cache = SessionCache::new(10, 1);
        let id = open(&mut cache, 1, 0);
        let refused = |cache: &mut SessionCache, request| cache.context(request, 0).err();
        let other = request(id ^ 1, 1, vec![]);
        assert_eq!(refused(&mut cache, other), Some(SessionError::NotFound));
        assert_eq!(refused(&mut cache, request(id, 7, vec![])), Some(SessionError::Epoch));
        let by_ids = SessionRequest { by_ids: true, ..request(id, 1, vec![]) };
        assert_eq!(refused(&mut cache, by_ids), Some(SessionError::TopicIds));
        assert!(cache.context(request(id, 1, vec![]), 0).is_ok(), "the session survived");
    }

    /// Goal: forgetting all closes a session, and so does epoch -1. Method: count the sessions.
    #[test]
    fn an_empty_or_closed_session_leaves_the_cache() {
        let mut cache = SessionCache::new(10, 1);
        let id = open(&mut cache, 1, 0);
        let forgotten = vec![(TopicKey::Name("words".into()), PartitionIndex(0))];
        let context = cache.context(SessionRequest { forgotten, ..request(id, 1, vec![]) }, 0);
        assert_eq!(context.expect("answered once more").session_id(), SESSION_NONE);
        assert_eq!(cache.sessions_count(), 0);
        let id = open(&mut cache, 1, 0);
        cache.context(request(id, -1, vec![wanted(0, 0)]), 0).expect("a last full fetch");
        assert_eq!(cache.sessions_count(), 0);
    }

    /// Goal: the cache stays within its slots. Method: a full cache, then time passes.
    #[test]
    fn a_full_cache_evicts_only_what_is_old() {
        let mut cache = SessionCache::new(2, 1);
        let first = open(&mut cache, 1, 0);
        open(&mut cache, 5, 0);
        assert_eq!(open(&mut cache, 9, 1), SESSION_NONE, "young sessions stay");
        let now_ms = EVICTION_MS + 1;
        cache.context(request(first, 1, vec![]), now_ms).expect("in use");
        assert_ne!(open(&mut cache, 1, now_ms), SESSION_NONE, "the unused one goes");
        assert_ne!(open(&mut cache, 9, now_ms), SESSION_NONE, "the small old one goes");
        assert_eq!(cache.sessions_count(), 2);
    }
}
