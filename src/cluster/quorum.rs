//! The metadata group at work on one node: raft, its disk, and the image that agreed entries build.
//!
//! One task carries out raft's effects: it makes them durable, applies what is agreed, publishes
//! the new image, wakes who proposed it. Proposals that arrive during a flush go into the next one
//! together. A disk error or an entry that does not apply ends the task; every proposal fails from
//! then on. While the disk is full, proposals are refused; what is proposed already is tried again.

use super::changes::ChangeError;
use super::metadata::{ApplyError, Image};
use super::metadata_log::{MetadataLog, MetadataLogError};
use super::records::{MetadataRecord, RecordsError, decode_records, encode_records};
use crate::consensus::{
    Effects, Entry, HardState, Position, Raft, RaftConfig, RestoreError, Role, Snapshot,
};
use crate::io::Io;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Ticks without a leader before an election, and between heartbeats; a tick is a tenth of a second
/// where there is more than one voter. A lone voter leads at once and needs none.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 1;

/// Time between two tries to write to a full disk.
const SPACE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why the metadata group does not start.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the metadata log contradicts itself: {0}")]
    Apply(#[from] ApplyError),
    #[error("the metadata log stopped at its first entry: {0}")]
    Unstarted(String),
    #[error("no space is left on the disk")]
    NoSpace,
    #[error("the data directory belongs to node {found}, this is node {node}; check node.id")]
    ForeignNode { node: u64, found: u64 },
}

impl QuorumError {
    /// Whether there was no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            QuorumError::NoSpace => true,
            QuorumError::Log(error) => error.is_full(),
            _ => false,
        }
    }
}

/// Where the metadata group stands, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumState {
    pub term: u64,
    /// The last entry that is agreed on and applied here; indexes count from 1.
    pub agreed_index: u64,
    pub last_index: u64,
}

/// A handle to the group; all clones are one.
#[derive(Clone)]
pub(super) struct Quorum(Rc<Inner>);

struct Inner {
    io: Io,
    raft: RefCell<Raft>,
    image: RefCell<Arc<Image>>,
    applied: Cell<Position>,
    /// What was proposed and is not applied yet, by index.
    proposals: RefCell<BTreeMap<u64, Proposed>>,
    failure: RefCell<Option<String>>,
    /// The disk is full: what is proposed waits for room.
    full: Cell<bool>,
    stopping: Cell<bool>,
    stopped: Cell<bool>,
    kicked: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
    publish: Box<dyn Fn(Arc<Image>)>,
}

struct Proposed {
    term: u64,
    outcome: Rc<Cell<Outcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waiting,
    Agreed,
    /// Another leader's entry stands in its place.
    Lost,
}

impl Quorum {
    /// Opens the log in `dir` and leads its group of one voter; returns once all that was agreed
    /// before is applied. `publish` gets every image from then on, the first one included.
    pub(super) async fn open(
        io: &Io,
        dir: &Path,
        member: u64,
        publish: Box<dyn Fn(Arc<Image>)>,
    ) -> Result<Quorum, QuorumError> {
        let (log, restored) = MetadataLog::open(io, dir, vec![member]).await?;
        if !restored.snapshot.voters.contains(&member) {
            let found = restored.snapshot.voters[0];
            return Err(QuorumError::ForeignNode { node: member - 1, found: found - 1 });
        }
        let image = decode_state(&restored.snapshot)?;
        let applied = Position { index: restored.snapshot.index, term: restored.snapshot.term };
        let config = RaftConfig {
            id: member,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: HEARTBEAT_TICKS,
            seed: member ^ restored.hard_state.term,
        };
        let mut raft = Raft::new(&config, restored)?;
        raft.campaign();
        let inner = Rc::new(Inner {
            io: io.clone(),
            raft: RefCell::new(raft),
            image: RefCell::new(Arc::new(image)),
            applied: Cell::new(applied),
            proposals: RefCell::default(),
            failure: RefCell::default(),
            full: Cell::new(false),
            stopping: Cell::new(false),
            stopped: Cell::new(false),
            kicked: Cell::new(true),
            wakers: RefCell::default(),
            publish,
        });
        let quorum = Quorum(inner.clone());
        io.spawn(inner.run(log));
        // The first entry of the own term is the last of those that were there at the start.
        let led = quorum.until(|inner| inner.leads() || inner.full.get());
        led.await.map_err(QuorumError::Unstarted)?;
        if !quorum.0.leads() {
            return Err(QuorumError::NoSpace);
        }
        (quorum.0.publish)(quorum.image());
        Ok(quorum)
    }

    /// The image with all that is agreed and applied here.
    pub(super) fn image(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    /// Where the group stands.
    pub(super) fn state(&self) -> QuorumState {
        let raft = self.0.raft.borrow();
        QuorumState {
            term: raft.term(),
            agreed_index: self.0.applied.get().index,
            last_index: raft.last_index(),
        }
    }

    /// Proposes `records` as one entry. They stand after those proposed before.
    pub(super) fn propose(&self, records: &Vec<MetadataRecord>) -> Result<Proposal, ChangeError> {
        if let Some(reason) = self.0.failure.borrow().clone() {
            return Err(ChangeError::Unavailable(reason));
        }
        if self.0.full.get() {
            return Err(ChangeError::NoSpace);
        }
        if self.0.stopping.get() {
            return Err(ChangeError::Unavailable("the node is stopping".to_owned()));
        }
        if !self.0.leads() {
            let reason = "this node has not yet applied all that its group agreed on";
            return Err(ChangeError::Unavailable(reason.to_owned()));
        }
        let proposed = self.0.raft.borrow_mut().propose(encode_records(records));
        let position = proposed.map_err(|error| ChangeError::Unavailable(error.to_string()))?;
        let outcome = Rc::new(Cell::new(Outcome::Waiting));
        let proposed = Proposed { term: position.term, outcome: outcome.clone() };
        self.0.proposals.borrow_mut().insert(position.index, proposed);
        self.0.kick();
        Ok(Proposal { quorum: self.clone(), outcome })
    }

    /// Whether something that was proposed waits, be it that nobody waits for it any more.
    pub(super) fn has_proposals(&self) -> bool {
        !self.0.proposals.borrow().is_empty()
    }

    /// Resolves when nothing that was proposed so far waits any more.
    pub(super) async fn settled(&self) -> Result<(), ChangeError> {
        let Some(last) = self.0.proposals.borrow().keys().next_back().copied() else {
            return Ok(());
        };
        let is_settled = move |inner: &Inner| inner.applied.get().index >= last;
        let settled = self.until(|inner| is_settled(inner) || inner.full.get());
        settled.await.map_err(ChangeError::Unavailable)?;
        if is_settled(&self.0) { Ok(()) } else { Err(ChangeError::NoSpace) }
    }

    /// Resolves when nothing waits any more that was proposed, also where that takes until there is
    /// room on the disk; or when the group has failed.
    pub(super) async fn quiet(&self) {
        // A failure was logged where it happened.
        let _ = self.until(|inner| inner.proposals.borrow().is_empty()).await;
    }

    /// Carries out what is proposed already, closes the files, takes no more.
    pub(super) async fn close(&self) {
        self.0.stopping.set(true);
        self.0.kick();
        // A failed group has stopped already; that was logged where it happened.
        let _ = self.until(|inner| inner.stopped.get()).await;
    }

    /// Resolves when `check` holds, or with the reason why the group has failed.
    async fn until(&self, check: impl Fn(&Inner) -> bool) -> Result<(), String> {
        poll_fn(|context| {
            if check(&self.0) {
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = self.0.failure.borrow().clone() {
                return Poll::Ready(Err(reason));
            }
            self.0.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Records that wait for agreement.
pub(super) struct Proposal {
    quorum: Quorum,
    outcome: Rc<Cell<Outcome>>,
}

impl Proposal {
    /// Resolves when the records are agreed on, durable and in the published image.
    ///
    /// # Errors
    /// [`ChangeError::NoSpace`]: that will be once there is room, as far as anybody knows.
    pub(super) async fn agreed(self) -> Result<(), ChangeError> {
        let is_told = |inner: &Inner| self.outcome.get() != Outcome::Waiting || inner.full.get();
        self.quorum.until(is_told).await.map_err(ChangeError::Unavailable)?;
        match self.outcome.get() {
            Outcome::Agreed => Ok(()),
            Outcome::Waiting => Err(ChangeError::NoSpace),
            Outcome::Lost => {
                Err(ChangeError::Unavailable("another node took over the lead".to_owned()))
            }
        }
    }
}

impl Inner {
    /// Leads, and has applied an entry of its own term: then it has all that was agreed before.
    fn leads(&self) -> bool {
        let raft = self.raft.borrow();
        raft.role() == Role::Leader && self.applied.get().term == raft.term()
    }

    fn kick(&self) {
        self.kicked.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.wakers.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn run(self: Rc<Inner>, mut log: MetadataLog) {
        loop {
            let effects = self.raft.borrow_mut().effects();
            if let Some(effects) = effects {
                if let Err(error) = self.carry_out(&mut log, effects).await {
                    tracing::error!(%error, "the metadata log has failed; restart the node");
                    *self.failure.borrow_mut() = Some(error.to_string());
                    break;
                }
                self.wake_all();
            } else if self.stopping.get() {
                break;
            } else {
                self.kicks().await;
            }
        }
        log.close().await;
        self.stopped.set(true);
        self.wake_all();
    }

    async fn kicks(&self) {
        poll_fn(|context| {
            if self.kicked.replace(false) {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn carry_out(&self, log: &mut MetadataLog, effects: Effects) -> Result<(), QuorumError> {
        debug_assert!(effects.messages.is_empty(), "a lone voter writes to nobody");
        if let Some(snapshot) = &effects.snapshot {
            *self.image.borrow_mut() = Arc::new(decode_state(snapshot)?);
            let restored = self.raft.borrow().to_restored();
            log.restart_from(&restored).await?;
        } else if effects.must_sync {
            self.persist(log, effects.hard_state, effects.entries).await?;
        }
        self.raft.borrow_mut().persisted(effects.number);
        if let Some(last) = effects.committed.last() {
            let last = Position { index: last.index, term: last.term };
            self.apply(effects.committed)?;
            self.applied.set(last);
            self.raft.borrow_mut().applied(last.index);
            if log.wants_snapshot() {
                self.compact(log, last.index).await?;
            }
        }
        Ok(())
    }

    /// Makes this durable, trying again as long as the disk is full and the node does not stop.
    async fn persist(
        &self,
        log: &mut MetadataLog,
        hard_state: Option<HardState>,
        entries: Vec<Entry>,
    ) -> Result<(), QuorumError> {
        loop {
            match log.persist(hard_state, entries.clone()).await {
                Err(error @ MetadataLogError::NoSpace { .. }) if !self.stopping.get() => {
                    if !self.full.replace(true) {
                        tracing::warn!(%error, "changes of metadata are refused until there is");
                        self.wake_all();
                    }
                    self.io.sleep(SPACE_RETRY_INTERVAL).await;
                }
                result => {
                    if self.full.replace(false) && result.is_ok() {
                        tracing::info!("there is space again: changes of the metadata are taken");
                    }
                    return Ok(result?);
                }
            }
        }
    }

    fn apply(&self, entries: Vec<Entry>) -> Result<(), QuorumError> {
        let before = self.image.borrow().clone();
        let mut image = before.as_ref().clone();
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            for record in decode_records(&entry.data)? {
                image.apply(&record)?;
            }
        }
        if image.version() != before.version() {
            let image = Arc::new(image);
            *self.image.borrow_mut() = image.clone();
            (self.publish)(image);
        }
        let mut proposals = self.proposals.borrow_mut();
        for entry in &entries {
            if let Some(proposed) = proposals.remove(&entry.index) {
                let agreed = proposed.term == entry.term;
                proposed.outcome.set(if agreed { Outcome::Agreed } else { Outcome::Lost });
            }
        }
        Ok(())
    }

    async fn compact(&self, log: &mut MetadataLog, index: u64) -> Result<(), QuorumError> {
        let data = encode_state(&self.image.borrow());
        let restored = {
            let mut raft = self.raft.borrow_mut();
            raft.compact(index, data);
            raft.to_restored()
        };
        match log.restart_from(&restored).await {
            Err(error @ MetadataLogError::NoSpace { .. }) => {
                tracing::warn!(%error, "the metadata log grows on: no snapshot could be written");
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

/// The image as a snapshot's data: its version, then the records that build it.
fn encode_state(image: &Image) -> Vec<u8> {
    let mut bytes = image.version().to_le_bytes().to_vec();
    bytes.extend(encode_records(&image.to_records()));
    bytes
}

fn decode_state(snapshot: &Snapshot) -> Result<Image, QuorumError> {
    if snapshot.data.is_empty() {
        return Ok(Image::default()); // the start of a group
    }
    let short = RecordsError::Short { bytes: snapshot.data.len() };
    let (version, records) = snapshot.data.split_first_chunk().ok_or(short)?;
    Ok(Image::from_records(&decode_records(records)?, u64::from_le_bytes(*version))?)
}
