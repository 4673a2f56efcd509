//! Writes records to topics: batches per partition, compressed, retried, in order.
//!
//! Every partition has a lane: one batch open, closed ones queued, one on its way. While a batch is
//! on its way the next fills, so batches grow with the load and an idle producer adds no wait
//! beyond `linger`. **Invariant:** a partition never has two batches on their way, so a batch that
//! is sent again cannot overtake or be overtaken.

use super::cluster::{Cluster, RETRY_PAUSE, Topic};
use super::error::ClientError;
use super::partitioner::{Sticky, partition_of_key};
use super::request::request_frame;
use super::wait::Gate;
use crate::base::ids::Offset;
use crate::base::limits::CLIENT_PRODUCER_BYTES_MAX;
use crate::io::Slice;
use crate::protocol::api::ApiKey;
use crate::protocol::batch::BatchBuilder;
use crate::protocol::compression::Codec;
use crate::protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use crate::protocol::record::NewRecord;
use crate::protocol::wire::Records;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// What a batch costs beside its records: its header.
const BATCH_HEAD_BYTES: usize = 61;
/// Most that a record costs beside key, value and headers: its lengths, offset and time.
const RECORD_HEAD_BYTES_MAX: usize = 32;

/// How many replicas must have a batch before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nobody answers; what is lost is not noticed.
    None,
    /// The leader has it.
    Leader,
    /// Every replica in sync has it.
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    pub acks: Acks,
    pub compression: Codec,
    /// A batch is closed when it has this many bytes before compression.
    pub batch_bytes: usize,
    /// How long an idle partition waits for more records before it sends the first.
    pub linger: Duration,
    /// How long a batch may wait and be tried, while none of its partition is acknowledged, before
    /// its records count as failed.
    pub delivery_timeout: Duration,
    /// Bytes of records that may wait for their acknowledgement; `send` waits above it.
    pub buffer_bytes_max: usize,
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            compression: Codec::None,
            batch_bytes: 512 * 1024,
            linger: Duration::from_millis(2),
            delivery_timeout: Duration::from_secs(120),
            buffer_bytes_max: CLIENT_PRODUCER_BYTES_MAX,
        }
    }
}

/// A producer. Clones share it; what is unsent when the last is dropped is lost: `flush` first.
#[derive(Clone)]
pub struct Producer {
    handle: Rc<Handle>,
}

struct Handle {
    shared: Rc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.is_closed.set(true);
        for lane in self.shared.all_lanes() {
            lane.to_send.open();
        }
    }
}

struct Shared {
    cluster: Cluster,
    config: ProducerConfig,
    lanes: RefCell<BTreeMap<String, BTreeMap<i32, Rc<Lane>>>>, // by topic and partition
    sticky: RefCell<BTreeMap<String, Sticky>>,
    buffered_bytes: Cell<usize>,
    flushes_count: Cell<usize>, // how many wait in `flush`: no lane lingers then
    failure: RefCell<Option<ClientError>>,
    is_closed: Cell<bool>,
    room: Gate,
}

/// One partition's batches.
struct Lane {
    topic: String,
    partition: i32,
    open: RefCell<Option<Batch>>,
    closed: RefCell<VecDeque<Batch>>,
    is_sending: Cell<bool>,
    acknowledged_at: Cell<Duration>, // when the last batch was; batches behind it had to wait
    to_send: Gate,
}

struct Batch {
    opened_at: Duration,
    builder: BatchBuilder,
    records_count: i32,
    bytes: usize,
    outcome: Rc<Outcome>,
}

/// What became of a batch.
#[derive(Default)]
struct Outcome {
    result: RefCell<Option<Result<Offset, ClientError>>>,
    known: Gate,
}

/// What becomes of one record.
pub struct Delivery {
    outcome: Rc<Outcome>,
    index: i32,
}

impl Delivery {
    /// The record's offset once it is acknowledged; -1 with [`Acks::None`].
    ///
    /// # Errors
    /// Why its batch could not be written.
    pub async fn offset(&self) -> Result<Offset, ClientError> {
        let base = self.outcome.known.wait(|| self.outcome.result.borrow().clone()).await?;
        let is_known = base.0 >= 0;
        Ok(if is_known { base.plus(i64::from(self.index)) } else { base })
    }
}

impl Producer {
    /// A producer for any topic of `cluster`.
    pub fn new(cluster: &Cluster, config: ProducerConfig) -> Producer {
        let shared = Rc::new(Shared {
            cluster: cluster.clone(),
            config,
            lanes: RefCell::default(),
            sticky: RefCell::default(),
            buffered_bytes: Cell::new(0),
            flushes_count: Cell::new(0),
            failure: RefCell::default(),
            is_closed: Cell::new(false),
            room: Gate::default(),
        });
        Producer { handle: Rc::new(Handle { shared }) }
    }

    /// Adds `record` to a batch of `topic`, which the broker may create on first use.
    ///
    /// Without `partition` a key decides, and without a key full batches go round. Waits while
    /// too much is unacknowledged; does not wait for the record itself.
    ///
    /// # Errors
    /// The topic or partition cannot be had, or the record alone is larger than a batch may be.
    /// A failed batch is told by its [`Delivery`] and by [`Producer::flush`].
    pub async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &NewRecord<'_>,
    ) -> Result<Delivery, ClientError> {
        let shared = &self.handle.shared;
        let described = shared.cluster.topic(topic, true).await?;
        let bytes = record_bytes_max(record);
        let limit_bytes = i32::MAX as usize / 2;
        if bytes > limit_bytes {
            return Err(ClientError::RecordTooLarge { bytes, limit_bytes });
        }
        let partition = shared.choose(&described, partition, record, bytes)?;
        let limit_bytes = shared.config.buffer_bytes_max;
        let has_room = || {
            let used_bytes = shared.buffered_bytes.get();
            (used_bytes == 0 || used_bytes + bytes <= limit_bytes).then_some(())
        };
        shared.room.wait(has_room).await;
        let lane = shared.lane(topic, partition);
        Ok(lane.add(shared, record, bytes))
    }

    /// Sends what is open and waits until every record is acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure since the last flush.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let shared = &self.handle.shared;
        shared.flushes_count.set(shared.flushes_count.get() + 1);
        let lanes = shared.all_lanes();
        for lane in &lanes {
            lane.to_send.open();
        }
        let is_idle = || lanes.iter().all(|lane| lane.is_idle()).then_some(());
        shared.room.wait(is_idle).await;
        shared.flushes_count.set(shared.flushes_count.get() - 1);
        shared.failure.take().map_or(Ok(()), Err)
    }

    /// The first failure since the last flush, which keeps it.
    pub fn failure(&self) -> Option<ClientError> {
        self.handle.shared.failure.borrow().clone()
    }
}

/// The most that `record` takes in a batch.
fn record_bytes_max(record: &NewRecord<'_>) -> usize {
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + RECORD_HEAD_BYTES_MAX / 2);
    let key_bytes = record.key.map_or(0, <[u8]>::len);
    let value_bytes = record.value.map_or(0, <[u8]>::len);
    RECORD_HEAD_BYTES_MAX + key_bytes + value_bytes + headers.sum::<usize>()
}

impl Shared {
    /// The partition that `record` goes to.
    fn choose(
        &self,
        topic: &Topic,
        partition: Option<i32>,
        record: &NewRecord<'_>,
        bytes: usize,
    ) -> Result<i32, ClientError> {
        let count = topic.partitions.len();
        if let Some(partition) = partition {
            let is_there = usize::try_from(partition).is_ok_and(|index| index < count);
            let topic = topic.name.clone();
            return is_there.then_some(partition).ok_or(ClientError::NoPartition {
                topic,
                partition,
                count,
            });
        }
        let chosen = match record.key {
            Some(key) => partition_of_key(key, count),
            None => {
                let mut sticky = self.sticky.borrow_mut();
                if !sticky.contains_key(&topic.name) {
                    let seed = self.cluster.io().clock().now_ms() as u64 ^ topic.id.0 as u64;
                    let fresh = Sticky::new(self.config.batch_bytes, seed);
                    sticky.insert(topic.name.clone(), fresh);
                }
                let sticky = sticky.get_mut(&topic.name).expect("it was put in just now");
                sticky.choose(bytes, count)
            }
        };
        Ok(chosen as i32)
    }

    /// The lane of a partition, made and started when first used.
    fn lane(self: &Rc<Shared>, topic: &str, partition: i32) -> Rc<Lane> {
        let known = self.lanes.borrow();
        if let Some(lane) = known.get(topic).and_then(|lanes| lanes.get(&partition)) {
            return Rc::clone(lane);
        }
        drop(known);
        let lane = Rc::new(Lane {
            topic: topic.to_owned(),
            partition,
            open: RefCell::default(),
            closed: RefCell::default(),
            is_sending: Cell::new(false),
            acknowledged_at: Cell::default(),
            to_send: Gate::default(),
        });
        let mut lanes = self.lanes.borrow_mut();
        lanes.entry(topic.to_owned()).or_default().insert(partition, Rc::clone(&lane));
        drop(lanes); // spawning polls, and lanes look at each other's map
        self.cluster.io().spawn(run_lane(Rc::clone(self), Rc::clone(&lane)));
        lane
    }

    fn all_lanes(&self) -> Vec<Rc<Lane>> {
        self.lanes.borrow().values().flat_map(|lanes| lanes.values().cloned()).collect()
    }

    fn finish(&self, bytes: usize, outcome: &Outcome, result: Result<Offset, ClientError>) {
        if let Err(error) = &result {
            self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        }
        *outcome.result.borrow_mut() = Some(result);
        outcome.known.open();
        self.buffered_bytes.set(self.buffered_bytes.get() - bytes);
    }

    /// Sends `records` until they are taken, cannot be taken, or the time since `opened_at` is up.
    async fn deliver(
        &self,
        lane: &Lane,
        records: Slice,
        opened_at: Duration,
    ) -> Result<Offset, ClientError> {
        let limit = self.config.delivery_timeout;
        let deadline = opened_at.max(lane.acknowledged_at.get()) + limit;
        let mut last = None;
        loop {
            let left = deadline.saturating_sub(self.cluster.now());
            let attempt = async {
                match left.is_zero() {
                    true => None, // it waited too long behind others: nothing is sent
                    false => {
                        let attempt = self.deliver_once(lane, records.clone());
                        self.cluster.io().timeout(left, attempt).await
                    }
                }
            };
            let error = match attempt.await {
                Some(Ok(offset)) => {
                    lane.acknowledged_at.set(self.cluster.now());
                    return Ok(offset);
                }
                Some(Err(error)) if !error.is_retriable() => return Err(error),
                Some(Err(error)) => Some(error),
                None => last,
            };
            let is_late = self.cluster.now() + RETRY_PAUSE >= deadline;
            if is_late || self.is_closed.get() {
                let reason = error.map(|error| error.to_string());
                let (topic, partition) = (lane.topic.clone(), lane.partition);
                return Err(ClientError::Undelivered { topic, partition, limit, reason });
            }
            let (topic, partition) = (&lane.topic, lane.partition);
            tracing::debug!(topic, partition, ?error, "again");
            last = error;
            self.cluster.forget_topic(&lane.topic);
            self.cluster.io().sleep(RETRY_PAUSE).await;
        }
    }

    async fn deliver_once(&self, lane: &Lane, records: Slice) -> Result<Offset, ClientError> {
        let (connection, topic) = self.cluster.leader(&lane.topic, lane.partition).await?;
        let elsewhere = Records::Elsewhere { bytes: records.len() };
        let partition_data =
            vec![PartitionProduceData { index: lane.partition, records: elsewhere }];
        let topic_data = TopicProduceData { topic_id: topic.id, name: &topic.name, partition_data };
        let timeout_ms = self.cluster.time_limit().as_millis().min(i32::MAX as u128) as i32;
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.config.acks.number(),
            timeout_ms,
            topic_data: vec![topic_data],
        };
        let version = connection.version_of(ApiKey::Produce)?;
        if self.config.acks == Acks::None {
            let gather = request_frame(&request, version, 0, connection.client_id(), &[records]);
            connection.send_unanswered(gather).await?;
            return connection.sent().await.map(|()| Offset(-1));
        }
        let response = connection.call_version(&request, version, &[records]).await?;
        let body = response.body()?;
        let mut partitions = body.responses.iter().flat_map(|topic| &topic.partition_responses);
        let answer: Option<&PartitionProduceResponse<'_>> =
            partitions.find(|answer| answer.index == lane.partition);
        let answer = answer.ok_or_else(|| ClientError::Malformed {
            address: connection.address().to_owned(),
            reason: "the answer to a produce leaves its partition out".to_owned(),
        })?;
        let what = || format!("writing to {}-{}", lane.topic, lane.partition);
        ClientError::check(answer.error_code, answer.error_message, what)?;
        Ok(Offset(answer.base_offset))
    }
}

impl Lane {
    /// Adds `record` to the open batch, closing it first where it would not fit.
    fn add(&self, shared: &Shared, record: &NewRecord<'_>, bytes: usize) -> Delivery {
        let limit_bytes = shared.config.batch_bytes;
        let mut open = self.open.borrow_mut();
        let is_full = open.as_ref().is_some_and(|batch| batch.bytes + bytes > limit_bytes);
        if is_full {
            self.closed.borrow_mut().extend(open.take());
        }
        let was_empty = open.is_none();
        let batch = open.get_or_insert_with(|| Batch {
            opened_at: shared.cluster.now(),
            builder: BatchBuilder::new(shared.config.compression),
            records_count: 0,
            bytes: 0,
            outcome: Rc::default(),
        });
        let index = batch.records_count;
        batch.builder.append(record);
        batch.records_count += 1;
        let added_bytes = if index == 0 { bytes + BATCH_HEAD_BYTES } else { bytes };
        batch.bytes += added_bytes;
        shared.buffered_bytes.set(shared.buffered_bytes.get() + added_bytes);
        let delivery = Delivery { outcome: Rc::clone(&batch.outcome), index };
        if was_empty || is_full {
            self.to_send.open();
        }
        delivery
    }

    fn is_idle(&self) -> bool {
        !self.is_sending.get() && self.open.borrow().is_none() && self.closed.borrow().is_empty()
    }
}

/// Sends a lane's batches, one after the other, until the producer is dropped.
async fn run_lane(shared: Rc<Shared>, lane: Rc<Lane>) {
    loop {
        let is_due = || (!lane.is_idle() || shared.is_closed.get()).then_some(());
        lane.to_send.wait(is_due).await;
        if shared.is_closed.get() {
            return;
        }
        let is_full = || {
            let is_hurried = shared.flushes_count.get() > 0 || shared.is_closed.get();
            (is_hurried || !lane.closed.borrow().is_empty()).then_some(())
        };
        if is_full().is_none() && !shared.config.linger.is_zero() {
            shared.cluster.io().timeout(shared.config.linger, lane.to_send.wait(is_full)).await;
        }
        let closed = lane.closed.borrow_mut().pop_front();
        let Some(batch) = closed.or_else(|| lane.open.take()) else { continue };
        lane.is_sending.set(true);
        let Batch { opened_at, builder, bytes, outcome, .. } = batch;
        let result = shared.deliver(&lane, Slice::from(builder.finish()), opened_at).await;
        lane.is_sending.set(false);
        shared.finish(bytes, &outcome, result);
        shared.room.open();
    }
}
