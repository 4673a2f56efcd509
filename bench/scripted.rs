//! A broker for the generator's own tests: real sockets, one topic with one partition, and answers
//! that come exactly as late as a script says, never earlier.
//!
//! Requests of a connection are read as they come; produce requests are answered in order, each
//! when its time has come, and fetches when there is something to send.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringmain::base::ids::{LeaderEpoch, Offset, TopicId};
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::batch::{BatchView, patch_base_offset_and_epoch};
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_request, decode_request_header, encode_response};
use ringmain::protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use ringmain::protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ringmain::protocol::messages::metadata::MetadataResponseTopic;
use ringmain::protocol::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use ringmain::protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ringmain::protocol::wire::{Records, Wire};

use crate::topic::{Leader, Topic};

pub const TOPIC: &str = "scripted";
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;

/// When the produce request that came so long after the first one is answered, and with which
/// error.
pub type Script = dyn Fn(Duration) -> (Duration, ErrorCode) + Send + Sync;

/// The broker; its threads end with their connections.
pub struct ScriptedBroker {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    /// Highest version of Produce that it says it has.
    produce_version_max: i16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    began: Option<Instant>,
    /// When each produce request came.
    arrivals: Vec<Instant>,
    /// Batches by offset, and when a consumer may see them.
    log: Vec<(Instant, Vec<u8>)>,
    next_offset: i64,
}

/// An answer and when it is to be sent.
type Due = (Instant, Vec<u8>);

impl ScriptedBroker {
    /// Answers produce requests by `script`.
    pub fn start(
        script: impl Fn(Duration) -> (Duration, ErrorCode) + Send + Sync + 'static,
    ) -> ScriptedBroker {
        ScriptedBroker::with_versions(script, PRODUCE_VERSION)
    }

    /// The same, with another highest version of Produce.
    pub fn with_versions(
        script: impl Fn(Duration) -> (Duration, ErrorCode) + Send + Sync + 'static,
        produce_version_max: i16,
    ) -> ScriptedBroker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            produce_version_max,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let for_all = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = for_all.clone();
                std::thread::spawn(move || serve(&shared, stream, address));
            }
        });
        ScriptedBroker { address, shared }
    }

    /// One that answers everything `delay` after it came.
    pub fn with_delay(delay: Duration) -> ScriptedBroker {
        ScriptedBroker::start(move |at| (at + delay, ErrorCode::None))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When each produce request came.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.state.lock().expect("no panics").arrivals.clone()
    }

    /// The topic as the generator would have found it.
    pub fn topic(&self) -> Topic {
        Topic {
            name: TOPIC.to_owned(),
            id: TopicId(77),
            leaders: vec![Leader { address: self.address, partitions: vec![0] }],
            produce_version: PRODUCE_VERSION,
            fetch_version: FETCH_VERSION,
            earliest: [(0, 0)].into(),
            latest: [(0, 0)].into(),
        }
    }
}

fn serve(shared: &Arc<Shared>, mut stream: TcpStream, address: SocketAddr) {
    let (answers, due) = channel();
    let writing = stream.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || write_when_due(writing, &due));
    while let Ok(frame) = read_frame(&mut stream) {
        if answer(shared, &frame, address, &answers).is_none() {
            break;
        }
    }
    drop(answers);
    drop(writer.join());
}

fn write_when_due(mut stream: TcpStream, due: &Receiver<Due>) {
    for (at, frame) in due {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn answer(shared: &Shared, frame: &[u8], address: SocketAddr, answers: &Sender<Due>) -> Option<()> {
    let (header, body) = decode_request_header(frame).ok()?;
    let (key, version) = (header.api.key, header.version);
    let id = header.correlation_id;
    let now = Instant::now();
    let send = |at: Instant, frame: Vec<u8>| answers.send((at, frame)).ok();
    match key {
        ApiKey::ApiVersions => send(now, encoded(key, version, id, &versions(shared))),
        ApiKey::Metadata => send(now, metadata(version, id, address)),
        ApiKey::Produce => {
            let request: ProduceRequest<'_> = decode_request(body, version).ok()?;
            let (at, code) = shared.take(&request, now);
            (request.acks == 0).then_some(()).or_else(|| send(at, produced(version, id, code)))
        }
        ApiKey::Fetch => {
            let request: FetchRequest<'_> = decode_request(body, version).ok()?;
            let partition = request.topics.first()?.partitions.first()?;
            let wait = Duration::from_millis(request.max_wait_ms as u64);
            let records = shared.records_from(partition.fetch_offset, wait);
            send(Instant::now(), fetched(version, id, &records))
        }
        _ => None,
    }
}

impl Shared {
    /// Takes the batch of a produce request; when and how it is to be answered.
    fn take(&self, request: &ProduceRequest<'_>, now: Instant) -> (Instant, ErrorCode) {
        let mut state = self.state.lock().expect("no panics");
        let began = *state.began.get_or_insert(now);
        let (after, code) = (self.script)(now - began);
        let at = began + after;
        state.arrivals.push(now);
        if code.is_none() {
            let bytes = request.topic_data[0].partition_data[0].records.bytes();
            let view = BatchView::first(bytes).expect("the generator's");
            view.check_crc().expect("a true checksum");
            let records_count = i64::from(view.records_count());
            let mut batch = bytes.to_vec();
            let offset = Offset(state.next_offset);
            patch_base_offset_and_epoch(&mut batch, offset, LeaderEpoch(0));
            state.next_offset += records_count;
            state.log.push((at, batch));
            self.changed.notify_all();
        }
        (at, code)
    }

    /// What a consumer may see from `offset` on, as soon as there is something, within `wait`.
    fn records_from(&self, offset: i64, wait: Duration) -> Vec<u8> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock().expect("no panics");
        loop {
            let now = Instant::now();
            let next = |batch: &[u8]| BatchView::first(batch).expect("ours").next_offset().0;
            let behind = state.log.iter().filter(|(_, batch)| next(batch) > offset);
            let visible: Vec<u8> = behind
                .clone()
                .take_while(|(at, _)| *at <= now)
                .flat_map(|(_, batch)| batch.clone())
                .collect();
            if !visible.is_empty() || now >= deadline {
                return visible;
            }
            let soon = behind.map(|(at, _)| *at).next().unwrap_or(deadline).min(deadline);
            let left = soon.saturating_duration_since(now);
            state = self.changed.wait_timeout(state, left).expect("no panics").0;
        }
    }
}

fn encoded<'a>(key: ApiKey, version: i16, id: i32, body: &impl Wire<'a>) -> Vec<u8> {
    encode_response(key, version, id, body).head
}

fn versions(shared: &Shared) -> ApiVersionsResponse<'static> {
    let version = |key: ApiKey, max_version: i16| ApiVersion {
        api_key: key.number(),
        min_version: 0,
        max_version,
    };
    let api_keys = vec![
        version(ApiKey::ApiVersions, 3),
        version(ApiKey::Metadata, 9),
        version(ApiKey::Produce, shared.produce_version_max),
        version(ApiKey::Fetch, FETCH_VERSION),
    ];
    ApiVersionsResponse { api_keys, ..Default::default() }
}

/// Itself, and no topic that anybody could mean.
fn metadata(version: i16, id: i32, address: SocketAddr) -> Vec<u8> {
    let host = address.ip().to_string();
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: &host,
        port: i32::from(address.port()),
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition,
        name: Some("no-such-topic"),
        ..Default::default()
    };
    let response = MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: vec![topic],
        ..Default::default()
    };
    encoded(ApiKey::Metadata, version, id, &response)
}

fn produced(version: i16, id: i32, error_code: ErrorCode) -> Vec<u8> {
    let partition = PartitionProduceResponse { index: 0, error_code, ..Default::default() };
    let topic = TopicProduceResponse {
        name: TOPIC,
        partition_responses: vec![partition],
        ..Default::default()
    };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
    encoded(ApiKey::Produce, version, id, &response)
}

fn fetched(version: i16, id: i32, records: &[u8]) -> Vec<u8> {
    let partition = PartitionData {
        partition_index: 0,
        records: Records::Bytes(records),
        ..Default::default()
    };
    let topic =
        FetchableTopicResponse { topic: TOPIC, partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    encoded(ApiKey::Fetch, version, id, &response)
}
