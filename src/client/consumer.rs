//! Reads partitions from a position on: which partitions and from where is the caller's choice.
//!
//! One fetch a leader is on its way while the caller works on the answer before it; positions move
//! with what was handed out to the next fetch. **Invariant:** every record from the start position
//! on is handed out once and in order, for each partition.

use super::cluster::{Cluster, RETRY_PAUSE};
use super::error::ClientError;
use super::request::Response;
use super::wait::Gate;
use crate::base::ids::{LeaderEpoch, NodeId, Offset, TopicId};
use crate::base::limits::CLIENT_BATCH_BYTES_MAX;
use crate::io::Slice;
use crate::protocol::batch::Batches;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::record::Record;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

/// Kafka's word for the end of a log, where a time is asked for.
pub const TIMESTAMP_LATEST: i64 = -1;
/// Kafka's word for the start of a log, where a time is asked for.
pub const TIMESTAMP_EARLIEST: i64 = -2;

/// How many tasks have their turn before a request has left: the fetch, then the writer.
const TASKS_TO_SEND: usize = 2;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is kept.
    Earliest,
    /// What is written from now on.
    Latest,
    /// This offset.
    At(Offset),
    /// The first record of this time (milliseconds since 1970) or later.
    Timestamp(i64),
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// How long the broker may wait for new records.
    pub wait_max: Duration,
    /// The most that an answer should have, bytes.
    pub fetch_bytes_max: i32,
    /// The most that a partition should have in an answer, bytes.
    pub partition_bytes_max: i32,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            wait_max: Duration::from_millis(500),
            fetch_bytes_max: 16 * 1024 * 1024,
            partition_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// A topic and one of its partitions.
pub type TopicPart = (Rc<str>, i32);

/// A consumer of partitions that were assigned to it.
pub struct Consumer {
    cluster: Cluster,
    config: ConsumerConfig,
    positions: BTreeMap<TopicPart, Position>,
    answers: Rc<Answers>,
    busy: BTreeSet<NodeId>, // the leaders with a fetch on its way
    ready: VecDeque<PartitionRecords>,
    failing_since: Option<Duration>, // when the failures began that nothing has ended yet
}

/// Fetches that have ended, on their way from their tasks to the consumer.
#[derive(Default)]
struct Answers {
    fetched: RefCell<VecDeque<Fetched>>,
    arrived: Gate,
}

struct Position {
    next: Offset,
    start: Start,
    is_reset: bool, // begins at `start` again where the log does not have it any more
    retry_at: Duration, // not asked for before this time
}

/// A fetch that has ended: whom it asked, for what, and the outcome.
struct Fetched {
    leader: NodeId,
    asked: Vec<(TopicPart, Offset, TopicId)>,
    outcome: Result<Response<FetchRequest<'static>>, ClientError>,
}

/// What one partition gave in one fetch.
pub struct PartitionRecords {
    pub topic: Rc<str>,
    pub partition: i32,
    /// The end of what may be read, at the time of the answer.
    pub high_watermark: Offset,
    from: Offset,
    next: Offset,
    batches: Slice,
}

/// A record and where it was found.
#[derive(Debug)]
pub struct ConsumedRecord<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970; -1: none.
    pub timestamp_ms: i64,
    pub record: &'a Record<'a>,
}

impl PartitionRecords {
    /// Calls `take` with every record in turn until it breaks; damaged batches are refused.
    ///
    /// # Errors
    /// [`ClientError::Batch`]: wrong CRC, lengths or compression. Earlier records were taken.
    pub fn for_each(
        &self,
        mut take: impl FnMut(&ConsumedRecord<'_>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        for view in Batches::new(&self.batches) {
            let view = view.map_err(|error| self.refused(self.from, &error))?;
            let base = view.base_offset();
            view.check_crc().map_err(|error| self.refused(base, &error))?;
            if view.is_control() {
                continue;
            }
            let records = view.decompressed(CLIENT_BATCH_BYTES_MAX);
            let records = records.map_err(|error| self.refused(base, &error))?;
            for record in view.records_in(&records) {
                let record = record.map_err(|error| self.refused(base, &error))?;
                let offset = Offset(base.0.saturating_add(i64::from(record.offset_delta)));
                if offset < self.from {
                    continue; // a batch is handed out whole, also to who asked for its middle
                }
                let timestamp_ms = view.timestamp(record.timestamp_delta);
                let consumed = ConsumedRecord { offset, timestamp_ms, record: &record };
                if take(&consumed).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The offset after all of them, where the next ones begin.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Bytes of batches, as they came.
    pub fn bytes(&self) -> usize {
        self.batches.len()
    }

    fn refused(&self, offset: Offset, error: &dyn Error) -> ClientError {
        let reason = error.to_string();
        let (topic, partition) = (self.topic.to_string(), self.partition);
        ClientError::Batch { topic, partition, offset: offset.0, reason }
    }
}

impl Consumer {
    /// A consumer without partitions.
    pub fn new(cluster: &Cluster, config: ConsumerConfig) -> Consumer {
        Consumer {
            cluster: cluster.clone(),
            config,
            positions: BTreeMap::new(),
            answers: Rc::default(),
            busy: BTreeSet::new(),
            ready: VecDeque::new(),
            failing_since: None,
        }
    }

    /// Adds `partitions` of `topic` (empty: all of them), to be read from `start` on.
    ///
    /// # Errors
    /// The topic or a partition does not exist, or its position cannot be found.
    pub async fn assign(
        &mut self,
        topic: &str,
        partitions: &[i32],
        start: Start,
    ) -> Result<(), ClientError> {
        let described = self.cluster.topic(topic, false).await?;
        let count = described.partitions.len();
        let all: Vec<i32> = (0..count as i32).collect();
        let partitions = if partitions.is_empty() { &all[..] } else { partitions };
        if let Some(partition) = partitions.iter().copied().find(|number| !all.contains(number)) {
            return Err(ClientError::NoPartition { topic: topic.to_owned(), partition, count });
        }
        let found = self.find(topic, partitions, start).await?;
        let name: Rc<str> = Rc::from(topic);
        for (partition, next) in found {
            let position = Position { next, start, is_reset: false, retry_at: Duration::ZERO };
            self.positions.insert((Rc::clone(&name), partition), position);
        }
        Ok(())
    }

    /// Adds a partition, to be read from `next` on; where the log does not have that any more it
    /// begins at `start`, as Kafka's consumers do with offsets that a group has committed.
    pub fn assign_at(&mut self, partition: &TopicPart, next: Offset, start: Start) {
        let position = Position { next, start, is_reset: true, retry_at: Duration::ZERO };
        self.positions.insert(partition.clone(), position);
    }

    /// Reads a partition no more; what has come in of it is dropped.
    pub fn drop_partition(&mut self, topic: &str, partition: i32) {
        self.stop_fetching(topic, partition);
        self.ready.retain(|ready| &*ready.topic != topic || ready.partition != partition);
    }

    /// Asks no more for a partition; what has come in of it is still handed out.
    pub fn stop_fetching(&mut self, topic: &str, partition: i32) {
        self.positions.retain(|(name, index), _| &**name != topic || *index != partition);
    }

    /// Whether records have come in that were not handed out.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Each partition with the offset that will be asked for next.
    pub fn positions(&self) -> Vec<(TopicPart, Offset)> {
        self.positions.iter().map(|(key, position)| (key.clone(), position.next)).collect()
    }

    /// The next records of any partition; `None` where none came within the broker's wait.
    ///
    /// # Errors
    /// What retrying cannot mend: [`ClientError::OutOfRange`], the topic is gone, may not be read;
    /// or failures that have lasted as long as a request may take.
    pub async fn poll(&mut self) -> Result<Option<PartitionRecords>, ClientError> {
        if let Some(records) = self.ready.pop_front() {
            return Ok(Some(records));
        }
        if self.positions.is_empty() {
            return Ok(None);
        }
        self.start_fetches().await?;
        if self.busy.is_empty() {
            self.cluster.io().sleep(RETRY_PAUSE).await; // all leaders are away
            return Ok(None);
        }
        let answers = Rc::clone(&self.answers);
        let fetched = answers.arrived.wait(|| answers.fetched.borrow_mut().pop_front()).await;
        self.busy.remove(&fetched.leader);
        self.take_answer(fetched).await?;
        self.start_fetches().await?;
        for _ in 0..TASKS_TO_SEND {
            self.cluster.io().yield_now().await; // the next is on its way while these are used
        }
        Ok(self.ready.pop_front())
    }

    /// Asks every leader that is not busy for its partitions.
    async fn start_fetches(&mut self) -> Result<(), ClientError> {
        let now = self.cluster.now();
        let mut by_leader: BTreeMap<NodeId, Vec<(TopicPart, Offset, TopicId, LeaderEpoch)>> =
            BTreeMap::new();
        let due: Vec<(TopicPart, Offset)> = self
            .positions
            .iter()
            .filter(|(_, position)| position.retry_at <= now)
            .map(|(key, position)| (key.clone(), position.next))
            .collect();
        for (key, next) in due {
            let topic = match self.cluster.topic(&key.0, false).await {
                Ok(topic) => topic,
                Err(error) => {
                    self.tolerate(error)?;
                    self.put_off(&key);
                    continue;
                }
            };
            let partition = topic.partitions.get(key.1 as usize);
            let Some((leader, epoch)) =
                partition.and_then(|partition| Some((partition.leader?, partition.leader_epoch)))
            else {
                self.cluster.forget_topic(&key.0);
                self.put_off(&key);
                continue;
            };
            if !self.busy.contains(&leader) {
                by_leader.entry(leader).or_default().push((key, next, topic.id, epoch));
            }
        }
        for (leader, wanted) in by_leader {
            self.busy.insert(leader);
            let fetch = fetch(self.cluster.clone(), self.config.clone(), leader, wanted);
            let answers = Rc::downgrade(&self.answers);
            self.cluster.io().spawn(async move {
                let fetched = fetch.await;
                let Some(answers) = answers.upgrade() else { return };
                answers.fetched.borrow_mut().push_back(fetched);
                answers.arrived.open();
            });
        }
        Ok(())
    }

    /// Lets a failure pass that may end by itself, as long as failures have not lasted too long.
    /// A topic that does not exist is told at once; a broker that is away may come back.
    fn tolerate(&mut self, error: ClientError) -> Result<(), ClientError> {
        let now = self.cluster.now();
        let since = *self.failing_since.get_or_insert(now);
        let is_told = matches!(error, ClientError::Refused { .. }) || !error.is_retriable();
        if is_told || now >= since + self.cluster.time_limit() {
            return Err(error);
        }
        tracing::debug!(%error, "reading again");
        Ok(())
    }

    fn put_off(&mut self, key: &TopicPart) {
        let retry_at = self.cluster.now() + RETRY_PAUSE;
        if let Some(position) = self.positions.get_mut(key) {
            position.retry_at = retry_at;
        }
    }

    /// Moves the positions by what came, and keeps it to be handed out.
    async fn take_answer(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        let response = match fetched.outcome {
            Ok(response) => response,
            Err(error) => {
                self.tolerate(error)?;
                for (key, _, _) in &fetched.asked {
                    self.cluster.forget_topic(&key.0);
                    self.put_off(key);
                }
                return Ok(());
            }
        };
        self.failing_since = None;
        let body = response.body()?;
        ClientError::check(body.error_code, None, || "fetching".to_owned())?;
        for topic in &body.responses {
            for data in &topic.partitions {
                let asked = fetched.asked.iter().find(|((name, partition), _, id)| {
                    let is_same =
                        &**name == topic.topic || (topic.topic.is_empty() && *id == topic.topic_id);
                    *partition == data.partition_index && is_same
                });
                let Some((key, from, _)) = asked else { continue };
                let is_current =
                    self.positions.get(key).is_some_and(|position| position.next == *from);
                if is_current {
                    self.take_partition(key, *from, data, response.frame()).await?;
                }
            }
        }
        Ok(())
    }

    async fn take_partition(
        &mut self,
        key: &TopicPart,
        from: Offset,
        data: &PartitionData<'_>,
        frame: &Slice,
    ) -> Result<(), ClientError> {
        match data.error_code {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => return self.start_over(key, from).await,
            code if code.is_retriable() => {
                self.cluster.forget_topic(&key.0);
                self.put_off(key);
                return Ok(());
            }
            code => ClientError::check(code, None, || format!("reading {}-{}", key.0, key.1))?,
        }
        let bytes = data.records.bytes();
        let (whole_bytes, next) = whole_batches(bytes, from);
        if whole_bytes == 0 {
            return Ok(());
        }
        // The frame is shared, not copied: its slice at the place of the borrowed bytes.
        let start = bytes.as_ptr().addr() - frame.as_ptr().addr();
        self.ready.push_back(PartitionRecords {
            topic: Rc::clone(&key.0),
            partition: key.1,
            high_watermark: Offset(data.high_watermark),
            from,
            next,
            batches: frame.slice(start..start + whole_bytes),
        });
        if let Some(position) = self.positions.get_mut(key) {
            position.next = next;
        }
        Ok(())
    }

    /// The position is outside the log: retention may have overtaken who reads from the start.
    async fn start_over(&mut self, key: &TopicPart, from: Offset) -> Result<(), ClientError> {
        let start = self.positions.get(key).map(|position| position.start);
        let is_reset = self.positions.get(key).is_some_and(|position| position.is_reset);
        if let Some(start) = start.filter(|_| is_reset) {
            let found = self.find(&key.0, &[key.1], start).await?;
            let next = found.first().map_or(from, |(_, offset)| *offset);
            tracing::warn!(
                "offset {from} of {}-{} is outside the log; reading on at {next}",
                key.0,
                key.1
            );
            if let Some(position) = self.positions.get_mut(key) {
                position.next = next;
            }
            return Ok(());
        }
        let earliest = self.find(&key.0, &[key.1], Start::Earliest).await?;
        let earliest = earliest.first().map_or(from, |(_, offset)| *offset);
        let is_overtaken = earliest > from && !matches!(start, None | Some(Start::At(_)));
        if !is_overtaken {
            let (topic, partition) = (key.0.to_string(), key.1);
            return Err(ClientError::OutOfRange { topic, partition, offset: from.0 });
        }
        if let Some(position) = self.positions.get_mut(key) {
            position.next = earliest;
        }
        Ok(())
    }

    async fn find(
        &self,
        topic: &str,
        partitions: &[i32],
        start: Start,
    ) -> Result<Vec<(i32, Offset)>, ClientError> {
        let timestamp = match start {
            Start::At(offset) => {
                return Ok(partitions.iter().map(|partition| (*partition, offset)).collect());
            }
            Start::Earliest => TIMESTAMP_EARLIEST,
            Start::Latest => TIMESTAMP_LATEST,
            Start::Timestamp(ms) => ms,
        };
        let mut found = offsets_at(&self.cluster, topic, partitions, timestamp).await?;
        if found.iter().any(|(_, offset)| offset.0 < 0) {
            // No record is that new: what comes next is.
            let latest = offsets_at(&self.cluster, topic, partitions, TIMESTAMP_LATEST).await?;
            for (partition, offset) in found.iter_mut().filter(|(_, offset)| offset.0 < 0) {
                let end = latest.iter().find(|(other, _)| other == partition);
                *offset = end.map_or(Offset(0), |(_, end)| *end);
            }
        }
        Ok(found)
    }
}

/// How many bytes of `bytes` are whole batches, and the offset after the last of them.
fn whole_batches(bytes: &[u8], from: Offset) -> (usize, Offset) {
    let mut whole_bytes = 0;
    let mut next = from;
    for view in Batches::new(bytes).map_while(Result::ok) {
        whole_bytes += view.bytes().len();
        next = next.max(view.next_offset());
    }
    (whole_bytes, next)
}

/// One fetch from `leader` for `wanted`.
async fn fetch(
    cluster: Cluster,
    config: ConsumerConfig,
    leader: NodeId,
    wanted: Vec<(TopicPart, Offset, TopicId, LeaderEpoch)>,
) -> Fetched {
    let mut topics: Vec<FetchTopic<'_>> = Vec::new();
    for ((name, partition), next, topic_id, epoch) in &wanted {
        let partition = FetchPartition {
            partition: *partition,
            current_leader_epoch: epoch.0,
            fetch_offset: next.0,
            partition_max_bytes: config.partition_bytes_max,
            ..FetchPartition::default()
        };
        match topics.last_mut().filter(|topic| topic.topic == &**name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic_id: *topic_id,
                topic: name,
                partitions: vec![partition],
            }),
        }
    }
    let request = FetchRequest {
        max_wait_ms: config.wait_max.as_millis().min(i32::MAX as u128) as i32,
        min_bytes: 1,
        max_bytes: config.fetch_bytes_max,
        topics,
        ..FetchRequest::default()
    };
    let outcome = async {
        let connection = cluster.broker(leader).await?;
        let response = connection.call(&request).await?;
        Ok(response.detached())
    };
    let outcome = outcome.await;
    let asked = wanted.iter().map(|(key, next, id, _)| (key.clone(), *next, *id)).collect();
    Fetched { leader, asked, outcome }
}

/// The offsets of the first records at or after `timestamp`, or the log's ends; -1: there is none.
///
/// Asks each leader for its partitions, again while leaders move, within the time allowed.
///
/// # Errors
/// A refusal, or the time is up.
pub async fn offsets_at(
    cluster: &Cluster,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<Vec<(i32, Offset)>, ClientError> {
    let deadline = cluster.now() + cluster.time_limit();
    loop {
        match offsets_once(cluster, topic, partitions, timestamp).await {
            Err(error) if error.is_retriable() && cluster.now() < deadline => {
                cluster.refresh_topic(topic, false).await?;
                cluster.io().sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn offsets_once(
    cluster: &Cluster,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<Vec<(i32, Offset)>, ClientError> {
    let described = cluster.topic(topic, false).await?;
    let mut by_leader: BTreeMap<NodeId, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for &partition_index in partitions {
        let partition = described.partitions.get(partition_index as usize);
        let no_leader =
            || ClientError::NoLeader { topic: topic.to_owned(), partition: partition_index };
        let partition = partition.ok_or_else(no_leader)?;
        let leader = partition.leader.ok_or_else(no_leader)?;
        let current_leader_epoch = partition.leader_epoch.0;
        let asked = ListOffsetsPartition { partition_index, current_leader_epoch, timestamp };
        by_leader.entry(leader).or_default().push(asked);
    }
    let mut found = Vec::with_capacity(partitions.len());
    for (leader, asked) in by_leader {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: topic, partitions: asked }],
            timeout_ms: cluster.time_limit().as_millis().min(i32::MAX as u128) as i32,
            ..ListOffsetsRequest::default()
        };
        let response = cluster.broker(leader).await?.call(&request).await?;
        let body = response.body()?;
        for answer in body.topics.iter().flat_map(|topic| &topic.partitions) {
            let what = || format!("offsets of {topic}-{}", answer.partition_index);
            ClientError::check(answer.error_code, None, what)?;
            found.push((answer.partition_index, Offset(answer.offset)));
        }
    }
    found.sort_unstable();
    Ok(found)
}
