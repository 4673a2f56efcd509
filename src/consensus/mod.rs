//! Agreement on one log among a few nodes: raft, behind a face without I/O, clock or foreign types.
//!
//! Messages, ticks and proposals go in; [`Effects`] come out, to be made durable, sent and applied
//! by the caller. The algorithm is the `raft` crate's; this folder alone names it. Random choices
//! come from a seed, so that a simulated group replays.
#![forbid(unsafe_code)]

mod memory;
mod wire;

pub use wire::MessageError;

use memory::MemoryLog;
use raft::eraftpb;
use slog::{Drain, Logger, OwnedKVList, Record, o};
use std::fmt;

/// Most bytes of proposals that wait for agreement; beyond it proposals are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most bytes of entries in one message, save that one entry is always sent.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Most messages with entries that are under way to one follower.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// Most bytes of committed entries in one [`Effects`], save that one entry is always there.
const COMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a node of the group is told at its start.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// 1 and up, unique in the group.
    pub id: u64,
    /// Ticks without a leader before a node stands for election; up to twice as many by chance.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of the leader.
    pub heartbeat_ticks: usize,
    /// Where the chance comes from.
    pub seed: u64,
}

/// What a node must never forget: its term, its vote, and how far it knows the log to be agreed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// What was proposed; empty for the entry with which a leader opens its term.
    pub data: Vec<u8>,
}

/// The state machine after all entries up to `index`, in place of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub index: u64,
    pub term: u64,
    /// The members of the group that vote.
    pub voters: Vec<u64>,
    pub data: Vec<u8>,
}

/// What a node kept from before its restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    pub hard_state: HardState,
    /// Index 0 where none was taken; its voters are the group's in any case.
    pub snapshot: Snapshot,
    /// In order and without gaps; the first is at most one beyond the snapshot.
    pub entries: Vec<Entry>,
}

impl Restored {
    /// The start of a new group of these voters.
    pub fn bootstrap(voters: Vec<u64>) -> Restored {
        let snapshot = Snapshot { voters, ..Snapshot::default() };
        Restored { snapshot, ..Restored::default() }
    }
}

/// A message to another node of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub to: u64,
    pub bytes: Vec<u8>,
}

/// What the caller owes after a step, in this order; then it calls [`Raft::persisted`] with the
/// number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub number: u64,
    /// To send at once.
    pub messages: Vec<Outgoing>,
    /// To make durable before `entries`, and to load in place of the state machine.
    pub snapshot: Option<Snapshot>,
    /// To make durable; an entry replaces all that were kept at its index and beyond.
    pub entries: Vec<Entry>,
    /// To make durable together with `entries`.
    pub hard_state: Option<HardState>,
    /// Whether anything here must be durable before `messages_after` and `persisted`. Where not,
    /// only the commit index moved, and losing that is harmless.
    pub must_sync: bool,
    /// To send once the above is durable.
    pub messages_after: Vec<Outgoing>,
    /// Agreed and durable here: to apply, in order.
    pub committed: Vec<Entry>,
}

/// Where a proposal will stand in the log, should it be agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub index: u64,
    pub term: u64,
}

/// What a node is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

/// Why a proposal was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("another node leads the metadata group{}", leader_text(*leader))]
    NotLeader { leader: Option<u64> },
    #[error("too many changes of metadata wait for agreement")]
    Full,
}

fn leader_text(leader: Option<u64>) -> String {
    leader.map_or(String::new(), |leader| format!(": member {leader}"))
}

/// What was kept does not make a log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kept metadata log is not a log: {reason}")]
pub struct RestoreError {
    reason: String,
}

/// One member of the group.
pub struct Raft {
    node: raft::RawNode<MemoryLog>,
    seed: u64,
    election_ticks: usize,
    draws: u64,                        // changes of term or role so far
    drawn_for: (u64, raft::StateRole), // what the election timeout was drawn for
}

impl Raft {
    /// A member that continues from what it kept.
    ///
    /// # Errors
    /// [`RestoreError`]: there are gaps, or no voters.
    pub fn new(config: &RaftConfig, restored: Restored) -> Result<Raft, RestoreError> {
        assert!(config.id > 0, "raft keeps 0 for nobody");
        assert!(config.election_ticks > config.heartbeat_ticks && config.heartbeat_ticks > 0);
        check_restored(&restored)?;
        let foreign = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: restored.snapshot.index,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let logger = Logger::root(ToTracing.fuse(), o!());
        let node = raft::RawNode::new(&foreign, MemoryLog::new(restored), &logger)
            .map_err(|error| RestoreError { reason: error.to_string() })?;
        let drawn_for = (node.raft.term, node.raft.state);
        let (seed, election_ticks) = (config.seed, config.election_ticks);
        let mut raft = Raft { node, seed, election_ticks, draws: 0, drawn_for };
        raft.draw_election_timeout();
        Ok(raft)
    }

    /// Lets one unit of time pass.
    pub fn tick(&mut self) {
        self.node.tick();
        self.draw_if_changed();
    }

    /// Stands for election without waiting: for the only voter of a group, that is to lead it.
    pub fn campaign(&mut self) {
        if let Err(error) = self.node.campaign() {
            tracing::warn!(%error, "cannot stand for election");
        }
        self.draw_if_changed();
    }

    /// Takes a message from another member.
    ///
    /// # Errors
    /// [`MessageError`]: it is damaged, or not from this group; nothing changed.
    pub fn step(&mut self, message: &[u8]) -> Result<(), MessageError> {
        let message = wire::decode(message)?;
        let voters = self.node.raft.raft_log.store.voters();
        if message.to != self.node.raft.id || !voters.contains(&message.from) {
            return Err(MessageError::Stranger { from: message.from, to: message.to });
        }
        // The crate refuses only what stale members send; that needs no answer.
        if let Err(error) = self.node.step(message) {
            tracing::debug!(%error, "a raft message was dropped");
        }
        self.draw_if_changed();
        Ok(())
    }

    /// Proposes an entry. It is agreed on when it comes back in [`Effects::committed`] at this
    /// position; another term there means that it was lost.
    ///
    /// # Errors
    /// [`ProposeError`]: this member does not lead, or too much waits already.
    pub fn propose(&mut self, payload: Vec<u8>) -> Result<Position, ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        self.node.propose(Vec::new(), payload).map_err(|_| ProposeError::Full)?;
        let index = self.node.raft.raft_log.last_index();
        Ok(Position { index, term: self.node.raft.term })
    }

    /// What is to be done now; nothing where all is done.
    pub fn effects(&mut self) -> Option<Effects> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let entries: Vec<eraftpb::Entry> = ready.entries().clone();
        let effects = Effects {
            number: ready.number(),
            messages: wire::encode_all(ready.take_messages()),
            snapshot: snapshot.as_ref().map(Snapshot::from),
            entries: entries.iter().map(Entry::from).collect(),
            hard_state: ready.hs().map(HardState::from),
            must_sync: ready.must_sync(),
            messages_after: wire::encode_all(ready.take_persisted_messages()),
            committed: ready.take_committed_entries().iter().map(Entry::from).collect(),
        };
        let log = self.node.mut_store();
        if let Some(snapshot) = snapshot {
            log.install(snapshot);
        }
        log.append(entries);
        if let Some(hard_state) = ready.hs() {
            log.set_hard_state(hard_state.clone());
        }
        self.node.advance_append_async(ready);
        Some(effects)
    }

    /// The effects of this number, and all before, are durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.draw_if_changed();
    }

    /// The state machine has applied all entries up to `index`.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
    }

    /// Keeps `data`, the state machine after the applied entry `index`, in place of the entries so
    /// far. Returns the snapshot for the caller to make durable.
    ///
    /// # Panics
    /// If `index` is not applied.
    pub fn compact(&mut self, index: u64, data: Vec<u8>) -> Snapshot {
        assert!(index <= self.node.raft.raft_log.applied, "only applied entries can be compacted");
        let log = self.node.mut_store();
        log.compact(index, data);
        Snapshot::from(log.snapshot_now())
    }

    /// What this member would have to keep to continue after a restart, all of it.
    pub fn to_restored(&self) -> Restored {
        self.node.store().to_restored()
    }

    /// What this member is now.
    pub fn role(&self) -> Role {
        match self.node.raft.state {
            raft::StateRole::Follower => Role::Follower,
            raft::StateRole::Candidate | raft::StateRole::PreCandidate => Role::Candidate,
            raft::StateRole::Leader => Role::Leader,
        }
    }

    /// The member that leads, as far as this one knows.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|leader| *leader != raft::INVALID_ID)
    }

    /// The term of this member.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Index of the last entry of this member's log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// How many members vote.
    pub fn voters_count(&self) -> usize {
        self.node.store().voters().len()
    }

    /// The crate draws election timeouts from the thread's generator; ours come from the seed.
    fn draw_if_changed(&mut self) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.drawn_for {
            self.drawn_for = now;
            self.draws += 1;
        }
        self.draw_election_timeout();
    }

    fn draw_election_timeout(&mut self) {
        let ticks = self.election_ticks as u64;
        let chance = mixed(self.seed ^ mixed(self.node.raft.id) ^ mixed(self.draws << 32));
        let timeout = self.election_ticks + (chance % ticks) as usize;
        self.node.raft.set_randomized_election_timeout(timeout);
    }
}

impl fmt::Debug for Raft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raft")
            .field("id", &self.node.raft.id)
            .field("role", &self.role())
            .field("term", &self.term())
            .finish_non_exhaustive()
    }
}

/// A number with all bits stirred (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn check_restored(restored: &Restored) -> Result<(), RestoreError> {
    let fault = |reason: String| Err(RestoreError { reason });
    let snapshot_index = restored.snapshot.index;
    if restored.snapshot.voters.is_empty() {
        return fault("it names no voters".to_owned());
    }
    if let Some(first) = restored.entries.first()
        && first.index > snapshot_index + 1
    {
        return fault(format!("entries {} to {} are missing", snapshot_index + 1, first.index - 1));
    }
    if let Some(pair) = restored.entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1)
    {
        return fault(format!("entry {} follows entry {}", pair[1].index, pair[0].index));
    }
    let last_index = restored.entries.last().map_or(0, |entry| entry.index).max(snapshot_index);
    if restored.hard_state.commit > last_index {
        let commit = restored.hard_state.commit;
        return fault(format!("it ends at entry {last_index} but {commit} entries were agreed on"));
    }
    Ok(())
}

/// Hands the crate's log lines to tracing, one level down: its "info" is every election step.
struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!("raft: {}", record.msg()),
            slog::Level::Warning => tracing::warn!("raft: {}", record.msg()),
            slog::Level::Info => tracing::debug!("raft: {}", record.msg()),
            slog::Level::Debug | slog::Level::Trace => tracing::trace!("raft: {}", record.msg()),
        }
        Ok(())
    }
}

impl From<&eraftpb::HardState> for HardState {
    fn from(foreign: &eraftpb::HardState) -> HardState {
        HardState { term: foreign.term, vote: foreign.vote, commit: foreign.commit }
    }
}

impl From<&eraftpb::Entry> for Entry {
    fn from(foreign: &eraftpb::Entry) -> Entry {
        Entry { index: foreign.index, term: foreign.term, data: foreign.data.to_vec() }
    }
}

impl From<&eraftpb::Snapshot> for Snapshot {
    fn from(foreign: &eraftpb::Snapshot) -> Snapshot {
        let metadata = foreign.get_metadata();
        Snapshot {
            index: metadata.index,
            term: metadata.term,
            voters: metadata.get_conf_state().voters.clone(),
            data: foreign.data.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
