//! A partition's replica on the shard that owns it: its log, its leader epoch, its topic's rules,
//! and the line of appends that wait: for room, or to be in their topic's codec.
//!
//! **Invariant:** appends enter the log in the order in which they were handed in, also where the
//! log had no room for a while.

use super::calls::{Call, CallId, Calls};
use super::signal::{Flag, Signal};
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::base::limits::RECOMPRESSED_AT_ONCE_BYTES_MAX;
use crate::cluster::settings::{TimestampType, TopicSettings};
use crate::io::{Io, Slice};
use crate::protocol::batch::{
    self, BatchView, ProduceError, ProduceLimits, ProducedBatches, validate_produce,
};
use crate::protocol::recompression::{Encoding, recompress};
use crate::storage::{AppendError, FlushError, FlushPolicy, Log, LogConfig, ProducerError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Time between two tries of an append for which memory is short.
const ROOM_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Resolves when an append is acknowledged, or will not be.
pub type Acked = Pin<Box<dyn Future<Output = Result<(), FlushError>>>>;

/// Where a batch landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub base_offset: Offset,
    pub log_start: Offset,
    /// The broker's time, where the topic's records carry that; of a repeated batch its largest
    /// timestamp.
    pub log_append_time_ms: Option<i64>,
}

/// Why a batch was not stored, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("this shard holds no such replica")]
    NoReplica,
    #[error(transparent)]
    Refused(#[from] ProduceError),
    #[error("transactions are not served")]
    Transactional,
    #[error(transparent)]
    Producer(ProducerError),
    #[error("a batch of {batch_bytes} bytes; a segment holds {segment_bytes}")]
    LargerThanSegment { batch_bytes: usize, segment_bytes: u64 },
    #[error("no space is left on the disk")]
    NoSpace,
    #[error("the log takes nothing: {0}")]
    Storage(String),
    #[error("the time was up")]
    TimedOut,
}

/// How an append went on: done, or in the line of those that wait for room.
pub enum Append {
    Done(Result<(Stored, Acked), StoreError>),
    InLine(Call<Result<(Stored, Acked), StoreError>>),
}

struct InLine {
    call: CallId,
    batch: Slice,
    produced: ProducedBatches,
    /// What is to be done to the batch before it can be appended.
    recompression: Option<Recompression>,
}

/// A batch's way into the codec of its topic.
#[derive(Clone, Copy)]
struct Recompression {
    encoding: Encoding,
    uncompressed_bytes: usize,
    batch_bytes_max: usize,
}

impl Recompression {
    fn of(self, batch: &[u8]) -> Result<Slice, ProduceError> {
        let Recompression { encoding, uncompressed_bytes, batch_bytes_max } = self;
        recompress(batch, encoding, uncompressed_bytes, batch_bytes_max).map(Slice::from)
    }
}

/// One replica; it leads, as long as a cluster is one node.
pub struct Replica {
    id: TopicPartition,
    topic: Arc<str>,
    io: Io,
    log: RefCell<Log>,
    leader_epoch: Cell<LeaderEpoch>,
    settings: RefCell<Rc<TopicSettings>>,
    line: RefCell<VecDeque<InLine>>,
    calls: Calls<Result<(Stored, Acked), StoreError>>,
    closed: Flag,
    /// The log was opened anew.
    replaced: Signal,
}

impl Replica {
    /// The replica of partition `id` of `topic`, with its open log.
    pub fn new(
        io: &Io,
        id: TopicPartition,
        topic: Arc<str>,
        log: Log,
        leader_epoch: LeaderEpoch,
        settings: Rc<TopicSettings>,
    ) -> Rc<Replica> {
        Rc::new(Replica {
            id,
            topic,
            io: io.clone(),
            log: RefCell::new(log),
            leader_epoch: Cell::new(leader_epoch),
            settings: RefCell::new(settings),
            line: RefCell::default(),
            calls: Calls::default(),
            closed: Flag::default(),
            replaced: Signal::default(),
        })
    }

    /// Which partition it is.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its log.
    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    /// Puts a log that was opened anew in the place of one that failed.
    pub fn replace_log(&self, log: Log) {
        *self.log.borrow_mut() = log;
        self.replaced.notify();
    }

    /// Resolves when the log is not fenced, as one that was opened anew is not.
    pub async fn unfenced(&self) {
        self.replaced.until(|| self.log.borrow().fenced().is_none().then_some(())).await;
    }

    /// The epoch in which this replica leads.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.get()
    }

    /// Up to here (exclusive) consumers may read: what the in-sync set has on stable storage.
    pub fn high_watermark(&self) -> Offset {
        self.log.borrow().flushed_offset()
    }

    /// Raised when the replica leaves this shard.
    pub fn closed(&self) -> &Flag {
        &self.closed
    }

    /// Takes over a change of the topic.
    pub fn update(&self, leader_epoch: LeaderEpoch, settings: Rc<TopicSettings>) {
        self.leader_epoch.set(leader_epoch);
        if **self.settings.borrow() != *settings {
            self.log.borrow().set_config(log_config(&settings));
            *self.settings.borrow_mut() = settings;
        }
    }

    /// Checks `batch` and appends it: one copy, no I/O. What the log has no room for waits in line.
    ///
    /// `version` is that of the Produce request.
    pub fn append(self: &Rc<Self>, batch: &Slice, version: i16) -> Append {
        let now_ms = self.io.clock().now_ms();
        let (produced, recompression) = match self.check(batch, version, now_ms) {
            Ok(checked) => checked,
            Err(error) => return Append::Done(Err(error)),
        };
        match recompression {
            None => match self.check_fits(batch) {
                Ok(()) => self.enter(batch, produced, now_ms),
                Err(error) => Append::Done(Err(error)),
            },
            Some(work) if work.uncompressed_bytes <= RECOMPRESSED_AT_ONCE_BYTES_MAX => {
                match self.recompressed(work.of(batch)) {
                    Ok(batch) => self.enter(&batch, produced, now_ms),
                    Err(error) => Append::Done(Err(error)),
                }
            }
            Some(_) => self.join_line(batch, produced, recompression),
        }
    }

    /// Appends a batch that this node made itself: what bounds clients does not bound it.
    pub fn append_own(self: &Rc<Self>, batch: &Slice) -> Append {
        let view = BatchView::first(batch).expect("the node makes whole batches");
        let produced = ProducedBatches {
            records_count: view.records_count(),
            codec: view.codec().expect("the node writes codecs that it knows"),
            uncompressed_bytes: 0, // it stays as it is
            max_timestamp: view.max_timestamp(),
            max_timestamp_differs: false,
            producer: None,
            transactional: false,
        };
        self.enter(batch, produced, self.io.clock().now_ms())
    }

    /// Whether appends wait for room.
    pub fn has_line(&self) -> bool {
        !self.line.borrow().is_empty()
    }

    fn enter(self: &Rc<Self>, batch: &Slice, produced: ProducedBatches, now_ms: i64) -> Append {
        if self.line.borrow().is_empty() {
            match self.append_now(batch, &produced, now_ms) {
                Err(AppendError::NoRoom { .. }) => {}
                result => return Append::Done(result.map_err(StoreError::from)),
            }
        }
        self.join_line(batch, produced, None)
    }

    fn join_line(
        self: &Rc<Self>,
        batch: &Slice,
        produced: ProducedBatches,
        recompression: Option<Recompression>,
    ) -> Append {
        let call = self.calls.open();
        let entry = InLine { call: call.id(), batch: batch.clone(), produced, recompression };
        let is_first = self.line.borrow().is_empty();
        self.line.borrow_mut().push_back(entry);
        if is_first {
            self.io.spawn(self.clone().serve_line());
        }
        Append::InLine(call)
    }

    fn check(
        &self,
        batch: &[u8],
        version: i16,
        now_ms: i64,
    ) -> Result<(ProducedBatches, Option<Recompression>), StoreError> {
        let settings = self.settings.borrow();
        let limits = ProduceLimits {
            version,
            batch_bytes_max: usize::try_from(settings.max_message_bytes).unwrap_or(0),
            now_ms,
            timestamp_before_ms_max: settings.message_timestamp_before_max_ms,
            timestamp_after_ms_max: settings.message_timestamp_after_max_ms,
            log_append_time: settings.message_timestamp_type == TimestampType::LogAppendTime,
            keys_required: settings.cleanup_compact,
        };
        let produced = validate_produce(batch, &limits)?;
        if produced.transactional {
            return Err(StoreError::Transactional);
        }
        let recompression = match settings.compression {
            Some(encoding) if encoding.codec != produced.codec => Some(Recompression {
                encoding,
                uncompressed_bytes: produced.uncompressed_bytes,
                batch_bytes_max: limits.batch_bytes_max,
            }),
            _ => None,
        };
        Ok((produced, recompression))
    }

    /// Whether a segment holds the batch.
    fn check_fits(&self, batch: &[u8]) -> Result<(), StoreError> {
        let segment_bytes = u64::try_from(self.settings.borrow().segment_bytes).unwrap_or(0);
        if batch.len() as u64 > segment_bytes {
            let batch_bytes = batch.len();
            return Err(StoreError::LargerThanSegment { batch_bytes, segment_bytes });
        }
        Ok(())
    }

    fn recompressed(&self, outcome: Result<Slice, ProduceError>) -> Result<Slice, StoreError> {
        let batch = outcome?;
        self.check_fits(&batch)?;
        Ok(batch)
    }

    fn append_now(
        &self,
        batch: &Slice,
        produced: &ProducedBatches,
        now_ms: i64,
    ) -> Result<(Stored, Acked), AppendError> {
        let settings = self.settings.borrow();
        let log = self.log.borrow();
        let log_append_time = settings.message_timestamp_type == TimestampType::LogAppendTime;
        let appended = if log_append_time || produced.max_timestamp_differs {
            let mut patched = batch.to_vec();
            if log_append_time {
                batch::patch_log_append_time(&mut patched, now_ms);
            } else {
                batch::patch_max_timestamp(&mut patched, produced.max_timestamp);
            }
            log.append(&patched, self.leader_epoch.get(), now_ms)?
        } else {
            log.append(batch, self.leader_epoch.get(), now_ms)?
        };
        let stored = Stored {
            base_offset: appended.base_offset,
            log_start: appended.log_start,
            // Of a repeated batch Kafka tells its largest timestamp, whoever stamped it.
            log_append_time_ms: appended.repeats.or(log_append_time.then_some(now_ms)),
        };
        Ok((stored, Box::pin(log.wait_flushed(appended.last_offset.plus(1)))))
    }

    /// Appends what waits in line, in its order, as room comes.
    async fn serve_line(self: Rc<Self>) {
        while self.has_line() {
            if !self.recompress_first().await {
                continue;
            }
            let log = self.log();
            log.wait_room().await;
            let Some(first) = self.line.borrow_mut().pop_front() else { return };
            let now_ms = self.io.clock().now_ms();
            match self.append_now(&first.batch, &first.produced, now_ms) {
                Err(AppendError::NoRoom { .. }) => {
                    self.line.borrow_mut().push_front(first);
                    // Memory is short, not only this log's room: what frees it is not watched here.
                    self.io.sleep(ROOM_RETRY_INTERVAL).await;
                }
                result => self.calls.finish(first.call, result.map_err(StoreError::from)),
            }
        }
    }

    /// Brings the first batch in line into its topic's codec, if that is still to be done, on
    /// another thread. False: it was refused and is gone.
    async fn recompress_first(&self) -> bool {
        let first = self.line.borrow().front().map(|it| (it.batch.clone(), it.recompression));
        let Some((batch, Some(work))) = first else { return true };
        let outcome = self.io.blocking(move || work.of(&batch)).await;
        let outcome = self.recompressed(outcome);
        let mut line = self.line.borrow_mut();
        match outcome {
            Ok(batch) => {
                let first = line.front_mut().expect("only who serves the line takes from it");
                (first.batch, first.recompression) = (batch, None);
                true
            }
            Err(error) => {
                let first = line.pop_front().expect("only who serves the line takes from it");
                drop(line);
                self.calls.finish(first.call, Err(error));
                false
            }
        }
    }
}

impl From<AppendError> for StoreError {
    fn from(error: AppendError) -> StoreError {
        match error {
            AppendError::NoSpace => StoreError::NoSpace,
            AppendError::Producer(error) => StoreError::Producer(error),
            error => StoreError::Storage(error.to_string()),
        }
    }
}

impl From<FlushError> for StoreError {
    fn from(error: FlushError) -> StoreError {
        match error {
            FlushError::NoSpace => StoreError::NoSpace,
            error => StoreError::Storage(error.to_string()),
        }
    }
}

/// The part of a topic's settings that its logs act on.
pub fn log_config(settings: &TopicSettings) -> LogConfig {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    // Without "delete" nothing goes by age or size.
    let (retention_ms, retention_bytes) = if settings.cleanup_delete {
        (settings.retention_ms, settings.retention_bytes)
    } else {
        (-1, -1)
    };
    LogConfig {
        segment_bytes: count(settings.segment_bytes.into()),
        segment_ms: settings.segment_ms,
        retention_ms,
        retention_bytes,
        index_interval_bytes: count(settings.index_interval_bytes.into()),
        message_max_bytes: usize::try_from(settings.max_message_bytes).unwrap_or(0),
        producer_expiration_ms: settings.producer_id_expiration_ms,
        flush: if settings.flush_each_ack() {
            FlushPolicy::Always
        } else {
            FlushPolicy::Relaxed {
                messages: count(settings.flush_messages),
                ms: count(settings.flush_ms),
            }
        },
    }
}
