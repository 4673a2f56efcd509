//! kill -9 at random moments: nothing acknowledged is lost, nothing comes twice or out of order.
//!
//! Several connections produce with acks=all to a node that is killed again and again, in the
//! middle of writing and in the middle of starting, and restarted on the same data. At the end
//! everything is read back and compared with what each connection was told.
//!
//! Speaks plain blocking sockets with the codec of the broker, so that no part of the client under
//! `src/client` can hide a fault by trying again: every record here is sent exactly once.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use ringmain::protocol::{
    batch::{BatchBuilder, Batches},
    compression::Codec,
    error::ErrorCode,
    header::{decode_response, encode_request},
    messages::{
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        metadata::{MetadataRequest, MetadataRequestTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
    record::NewRecord,
    wire::Records,
};

const KILLS_WHILE_WRITING: usize = 20;
const KILLS_WHILE_STARTING: usize = 5;
const CONNECTIONS_COUNT: usize = 6;
const PARTITIONS_COUNT: usize = 5; // more than shards: each shard has some
const IN_FLIGHT_MAX: usize = 4; // requests of one connection
const REQUESTS_MAX: usize = 1_000; // of one connection in one round: bounds the run
const RECORDS_MAX: usize = 6; // of a batch
const VALUE_BYTES_MAX: usize = 3_000; // batches end anywhere in a disk block
const SEGMENT_BYTES: &str = "1048576"; // small: kills meet rolling, too
const WRITING_MS_MAX: u64 = 250; // of a round, after its first acknowledgement
const STARTING_MS_MAX: u64 = 60;
const ANSWER_SECONDS_MAX: u64 = 30;

const TOPIC: &str = "killed";
/// Versions that name topics by name: a codec of its own oracle tests covers the others.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;

/// Goal: acks=all survives kill -9. Method: as the module says; `KILL_TEST_SEED` replays the
/// moments, `KILL_TEST_BINARY` takes another build.
#[test]
fn kill_9_at_random_moments_loses_nothing_acknowledged() {
    let seed = seed();
    println!("KILL_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut node = Node::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("kill"));
    node.start();
    node.wait_ready();
    create_topic(node.address);

    let mut batches: Vec<Batch> = Vec::new();
    let mut starts_to_interrupt = KILLS_WHILE_STARTING;
    for round in 0..KILLS_WHILE_WRITING {
        batches.extend(write_and_kill(&mut node, round, &mut rng));
        if starts_to_interrupt > 0 && rng.bool() {
            starts_to_interrupt -= 1;
            node.start();
            thread::sleep(Duration::from_millis(rng.u64(0..STARTING_MS_MAX)));
            node.kill();
        }
        node.start();
        node.wait_ready();
    }

    let mut connection = Connection::open(node.address).expect("the node is ready");
    let (mut faults, mut records_count) = (Vec::new(), 0);
    for partition in 0..PARTITIONS_COUNT {
        let found = read_all(&mut connection, partition);
        records_count += found.len();
        let sent: Vec<&Batch> = batches.iter().filter(|b| b.partition == partition).collect();
        let named = faults_of(&sent, &found).into_iter();
        faults.extend(named.map(|fault| format!("partition {partition}: {fault}")));
    }
    let acked = batches.iter().filter(|batch| matches!(batch.outcome, Outcome::Acked(_))).count();
    println!("{acked} of {} batches acknowledged, {records_count} records read", batches.len());
    assert!(faults.is_empty(), "seed {seed}: {} faults\n{}", faults.len(), faults.join("\n"));
    assert!(acked >= KILLS_WHILE_WRITING, "each round ends after its first acknowledgement");
    node.kill();
    fs::remove_dir_all(&node.folder).expect("the test's own folder");
}

fn seed() -> u64 {
    if let Ok(text) = std::env::var("KILL_TEST_SEED") {
        return text.parse().expect("KILL_TEST_SEED is a number");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    now.as_nanos() as u64
}

// ---- what was sent, what was found ------------------------------------------------------------

/// One produce request's batch, and what its sender was told of it.
#[derive(Debug, Clone)]
struct Batch {
    writer: usize,         // a connection in a round
    partition: usize,      // of the topic
    sequences: Range<u64>, // its records' numbers, counted for each writer and partition
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acked(u64), // at this base offset
    Refused,    // must not be there
    InDoubt,    // the node died first: may be there, whole
}

/// A record that was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    offset: u64,
    writer: usize,
    sequence: u64,
}

/// Everything that is wrong with one partition; `sent` in the order of sending.
fn faults_of(sent: &[&Batch], found: &[Found]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut offsets: HashMap<(usize, u64), u64> = HashMap::new();
    for (index, record) in found.iter().enumerate() {
        if record.offset != index as u64 {
            faults.push(format!("offset {} where {index} was due", record.offset));
        }
        if let Some(first) = offsets.insert((record.writer, record.sequence), record.offset) {
            faults.push(format!("twice, first at offset {first}: {record:?}"));
        }
    }
    let mut writers: HashMap<usize, Writer> = HashMap::new();
    let mut known_count = 0;
    for batch in sent {
        let places: Vec<Option<u64>> = batch
            .sequences
            .clone()
            .map(|sequence| offsets.get(&(batch.writer, sequence)).copied())
            .collect();
        known_count += places.iter().flatten().count();
        check_outcome(batch, &places, &mut faults);
        writers.entry(batch.writer).or_default().check(batch, &places, &mut faults);
    }
    if known_count != offsets.len() {
        faults.push(format!("{} records that nobody sent", offsets.len() - known_count));
    }
    faults
}

fn check_outcome(batch: &Batch, places: &[Option<u64>], faults: &mut Vec<String>) {
    let present_count = places.iter().flatten().count();
    match batch.outcome {
        Outcome::Acked(base) => {
            let is_at_base = (base..).zip(places).all(|(offset, place)| *place == Some(offset));
            if !is_at_base {
                faults.push(format!("acknowledged but at {places:?}: {batch:?}"));
            }
        }
        Outcome::Refused if present_count > 0 => {
            faults.push(format!("refused but at {places:?}: {batch:?}"));
        }
        Outcome::InDoubt if present_count != 0 && present_count != places.len() => {
            faults.push(format!("half there, at {places:?}: {batch:?}"));
        }
        Outcome::Refused | Outcome::InDoubt => {}
    }
}

/// What one connection's batches showed so far: they must be a prefix, in order.
#[derive(Default)]
struct Writer {
    last_offset: Option<u64>,
    is_cut: bool, // a batch was not there, so no later one may be
}

impl Writer {
    fn check(&mut self, batch: &Batch, places: &[Option<u64>], faults: &mut Vec<String>) {
        for place in places.iter().flatten() {
            if self.is_cut {
                faults.push(format!("there, but one sent before it is not: {batch:?}"));
            }
            if self.last_offset.is_some_and(|last| last >= *place) {
                faults.push(format!("at {place}, before one sent earlier: {batch:?}"));
            }
            self.last_offset = Some(*place);
        }
        let is_missing = places.iter().any(Option::is_none);
        self.is_cut |= is_missing && batch.outcome != Outcome::Refused;
    }
}

// ---- writing ----------------------------------------------------------------------------------

/// One round: all connections write, then the node dies. Returns what each was told, in order.
fn write_and_kill(node: &mut Node, round: usize, rng: &mut Rng) -> Vec<Batch> {
    let acks_count = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..CONNECTIONS_COUNT)
        .map(|index| {
            let (address, rng, acks) = (node.address, rng.fork(), Arc::clone(&acks_count));
            let writer = round * CONNECTIONS_COUNT + index;
            thread::spawn(move || write(address, writer, rng, &acks))
        })
        .collect();
    let began = Instant::now();
    while acks_count.load(Ordering::Relaxed) == 0 {
        assert!(began.elapsed().as_secs() < ANSWER_SECONDS_MAX, "nothing acknowledged: {node}");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(rng.u64(0..WRITING_MS_MAX)));
    node.kill();
    writers.into_iter().flat_map(|writer| writer.join().expect("a writer's own check")).collect()
}

/// One connection: sends up to [`REQUESTS_MAX`] batches, until the node is gone.
fn write(address: SocketAddr, writer: usize, mut rng: Rng, acks: &AtomicU64) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let Ok(mut connection) = Connection::open(address) else {
        return batches; // killed before it got in
    };
    let mut next_sequences = [0; PARTITIONS_COUNT];
    let mut answered_count = 0;
    while answered_count < REQUESTS_MAX {
        if batches.len() < REQUESTS_MAX && batches.len() - answered_count < IN_FLIGHT_MAX {
            let partition = rng.usize(0..PARTITIONS_COUNT);
            let first = next_sequences[partition];
            let sequences = first..first + rng.u64(1..=RECORDS_MAX as u64);
            next_sequences[partition] = sequences.end;
            let records = encode_batch(writer, sequences.clone(), &mut rng);
            batches.push(Batch { writer, partition, sequences, outcome: Outcome::InDoubt });
            if connection.send_produce(partition, &records).is_err() {
                break;
            }
        } else {
            let Ok(outcome) = connection.receive_produce() else {
                break;
            };
            batches[answered_count].outcome = outcome;
            answered_count += 1;
            if matches!(outcome, Outcome::Acked(_)) {
                acks.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    batches
}

/// Values say who sent them: `writer/sequence/` and then filler of a random length.
fn encode_batch(writer: usize, sequences: Range<u64>, rng: &mut Rng) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for sequence in sequences {
        let mut value = format!("{writer}/{sequence}/").into_bytes();
        value.resize(value.len() + rng.usize(0..VALUE_BYTES_MAX), b'a' + (sequence % 26) as u8);
        builder.append(&NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
    }
    builder.finish()
}

/// Reads a partition from its start to its end; every batch's checksum and filler must be right.
fn read_all(connection: &mut Connection, partition: usize) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed().as_secs() < ANSWER_SECONDS_MAX, "reading {partition} takes long");
        let from = found.len() as u64;
        let (records, high_watermark) = connection.fetch(partition, from);
        for batch in Batches::new(&records) {
            let batch = batch.expect("whole batches, as there is room for many");
            batch.check_crc().expect("a batch as it was sent");
            let payload = batch.decompressed(usize::MAX).expect("not compressed");
            for record in batch.records_in(&payload) {
                let record = record.expect("records as they were sent");
                let offset = batch.base_offset().0 as u64 + record.offset_delta as u64;
                let (writer, sequence) = parse_value(record.value.expect("all have values"));
                found.push(Found { offset, writer, sequence });
            }
        }
        if found.len() as u64 >= high_watermark {
            return found;
        }
    }
}

fn parse_value(value: &[u8]) -> (usize, u64) {
    let mut parts = value.splitn(3, |byte| *byte == b'/');
    let mut number = || -> u64 {
        let digits = parts.next().and_then(|part| std::str::from_utf8(part).ok());
        digits.and_then(|digits| digits.parse().ok()).expect("a value begins with two numbers")
    };
    let (writer, sequence) = (number() as usize, number());
    let filler = parts.next().expect("then filler");
    let expected = b'a' + (sequence % 26) as u8;
    assert!(filler.iter().all(|byte| *byte == expected), "{writer}/{sequence} has other bytes");
    (writer, sequence)
}

// ---- the wire ---------------------------------------------------------------------------------

/// A blocking connection; answers come in the order of the requests.
struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    answered_id: i32,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
        Ok(Connection { stream, correlation_id: 0, answered_id: 0 })
    }

    fn next_id(&mut self) -> i32 {
        self.correlation_id += 1;
        self.correlation_id
    }

    /// The next answer's frame without its size.
    ///
    /// # Panics
    /// A node that lives but does not answer: that is a fault, its death is not.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut size = [0; 4];
        let mut read = |buffer: &mut [u8]| {
            self.stream.read_exact(buffer).inspect_err(|error| {
                let is_late = error.kind() == io::ErrorKind::WouldBlock;
                assert!(!is_late, "no answer in {ANSWER_SECONDS_MAX} s");
            })
        };
        read(&mut size)?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        read(&mut frame)?;
        self.answered_id += 1;
        Ok(frame)
    }

    fn send_produce(&mut self, partition: usize, records: &[u8]) -> io::Result<()> {
        let data =
            PartitionProduceData { index: partition as i32, records: Records::Bytes(records) };
        let topic = TopicProduceData {
            name: TOPIC,
            partition_data: vec![data],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let frame = encode_request(PRODUCE_VERSION, self.next_id(), Some("kill"), &request);
        self.stream.write_all(&frame.head)
    }

    fn receive_produce(&mut self) -> io::Result<Outcome> {
        let frame = self.receive()?;
        let (id, answer) = decode_response::<ProduceRequest>(PRODUCE_VERSION, &frame)
            .expect("an answer to Produce");
        assert_eq!(id, self.answered_id, "answers come in the order of the requests");
        let partition = &answer.responses[0].partition_responses[0];
        if partition.error_code.is_none() {
            return Ok(Outcome::Acked(partition.base_offset as u64));
        }
        assert!(partition.error_code.is_retriable(), "refused: {}", partition.error_code);
        Ok(Outcome::Refused)
    }

    /// Batches from `offset` on and the high watermark. A batch may begin before `offset` only if
    /// the log is damaged: this test always asks at the end of a batch.
    fn fetch(&mut self, partition: usize, offset: u64) -> (Vec<u8>, u64) {
        let wanted = FetchPartition {
            partition: partition as i32,
            fetch_offset: offset as i64,
            partition_max_bytes: 4 << 20,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { topic: TOPIC, partitions: vec![wanted], ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: 100,
            min_bytes: 1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let frame = encode_request(FETCH_VERSION, self.next_id(), Some("kill"), &request);
        self.stream.write_all(&frame.head).expect("the node lives");
        let frame = self.receive().expect("the node lives");
        let (_, answer) =
            decode_response::<FetchRequest>(FETCH_VERSION, &frame).expect("an answer to Fetch");
        assert_eq!(answer.error_code, ErrorCode::None);
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::None, "partition {partition} at {offset}");
        (data.records.bytes().to_vec(), data.high_watermark as u64)
    }
}

/// Creates the topic, and returns when each partition has a leader.
fn create_topic(address: SocketAddr) {
    let mut connection = Connection::open(address).expect("the node is ready");
    let segment_bytes = CreatableTopicConfig { name: "segment.bytes", value: Some(SEGMENT_BYTES) };
    // The records are of 1970.
    let retention = CreatableTopicConfig { name: "retention.ms", value: Some("-1") };
    let topic = CreatableTopic {
        name: TOPIC,
        num_partitions: PARTITIONS_COUNT as i32,
        replication_factor: 1,
        configs: vec![segment_bytes, retention],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let id = connection.next_id();
    let frame = encode_request(CREATE_TOPICS_VERSION, id, Some("kill"), &request);
    connection.stream.write_all(&frame.head).expect("the node lives");
    let frame = connection.receive().expect("the node lives");
    let (_, answer) = decode_response::<CreateTopicsRequest>(CREATE_TOPICS_VERSION, &frame)
        .expect("an answer to CreateTopics");
    assert_eq!(answer.topics[0].error_code, ErrorCode::None);
    let began = Instant::now();
    while leaders_count(&mut connection) < PARTITIONS_COUNT {
        assert!(began.elapsed().as_secs() < ANSWER_SECONDS_MAX, "partitions without leaders");
        thread::sleep(Duration::from_millis(20));
    }
}

fn leaders_count(connection: &mut Connection) -> usize {
    let topic = MetadataRequestTopic { name: Some(TOPIC), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let frame = encode_request(METADATA_VERSION, connection.next_id(), Some("kill"), &request);
    connection.stream.write_all(&frame.head).expect("the node lives");
    let frame = connection.receive().expect("the node lives");
    let (_, answer) = decode_response::<MetadataRequest>(METADATA_VERSION, &frame)
        .expect("an answer to Metadata");
    let partitions = answer.topics[0].partitions.iter();
    partitions.filter(|partition| partition.error_code.is_none()).count()
}

// ---- the node ---------------------------------------------------------------------------------

/// Our own child process and its data, which outlives it.
struct Node {
    folder: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
    log_start: usize, // where the log of the running process begins
}

impl Node {
    fn new(folder: PathBuf) -> Node {
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("an earlier run's folder");
        }
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Node { folder, address, child: None, log_start: 0 }
    }

    fn start(&mut self) {
        assert!(self.child.is_none(), "one process at a time");
        let binary = std::env::var("KILL_TEST_BINARY")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringmain").to_owned());
        let mut options = File::options();
        let log = options.create(true).append(true).open(self.log()).expect("a log file");
        self.log_start = log.metadata().expect("an open file").len() as usize;
        let child = Command::new(binary)
            .arg("serve")
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .args(["--listen", &self.address.to_string(), "--cpus", &all_cpus()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log)
            .spawn()
            .expect("the binary was built");
        self.child = Some(child);
    }

    fn says_ready(&self) -> bool {
        let log = fs::read(self.log()).expect("it was made at start");
        String::from_utf8_lossy(&log[self.log_start..]).contains("ringmain ready on ")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// Returns when the node says that it serves, and does. The port alone tells little: that of a
    /// killed node answers a moment longer than the node lives.
    fn wait_ready(&mut self) {
        let began = Instant::now();
        while !self.says_ready() || TcpStream::connect(self.address).is_err() {
            let child = self.child.as_mut().expect("it was started");
            let ended = child.try_wait().expect("our own child");
            assert!(ended.is_none(), "ended at start with {ended:?}: {self}");
            assert!(began.elapsed().as_secs() < ANSWER_SECONDS_MAX, "does not answer: {self}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        let ended = child.try_wait().expect("our own child");
        assert!(ended.is_none(), "ended by itself with {ended:?}: {self}");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        writeln!(f, "the node in {}; its log ends with", self.folder.display())?;
        lines.iter().rev().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already failing: nothing is left to do about an error.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

// ---- the checker can fail ---------------------------------------------------------------------

fn batch(writer: usize, sequences: Range<u64>, outcome: Outcome) -> Batch {
    Batch { writer, partition: 0, sequences, outcome }
}

fn found(records: &[(u64, usize, u64)]) -> Vec<Found> {
    let records = records.iter().copied();
    records.map(|(offset, writer, sequence)| Found { offset, writer, sequence }).collect()
}

/// Goal: each promise of this test is noticed when broken. Method: plant one fault at a time.
#[test]
fn the_checker_names_every_kind_of_loss() {
    use Outcome::{Acked, InDoubt, Refused};
    let faults = |sent: &[Batch], records: &[(u64, usize, u64)]| {
        faults_of(&sent.iter().collect::<Vec<_>>(), &found(records)).join("; ")
    };
    let acked = [batch(1, 0..2, Acked(0)), batch(2, 0..1, InDoubt), batch(1, 2..3, InDoubt)];
    assert_eq!(faults(&acked, &[(0, 1, 0), (1, 1, 1), (2, 2, 0)]), "");
    assert_eq!(faults(&acked, &[(0, 1, 0), (1, 1, 1), (2, 1, 2)]), "");
    let expect = |found: String, fault: &str| assert!(found.contains(fault), "{found}");
    expect(faults(&acked, &[]), "acknowledged but at [None, None]");
    expect(faults(&acked, &[(0, 2, 0), (1, 1, 0), (2, 1, 1)]), "acknowledged but at [Some(1)");
    expect(faults(&acked, &[(0, 1, 0), (1, 1, 1), (2, 2, 0), (3, 2, 0)]), "twice");
    expect(faults(&acked, &[(0, 1, 0), (1, 1, 1), (3, 2, 0)]), "offset 3 where 2 was due");
    expect(faults(&acked, &[(0, 1, 0), (1, 1, 1), (2, 3, 0)]), "1 records that nobody sent");
    let refused = [batch(1, 0..1, Refused), batch(1, 1..2, Acked(0))];
    assert_eq!(faults(&refused, &[(0, 1, 1)]), "");
    expect(faults(&refused, &[(0, 1, 1), (1, 1, 0)]), "refused but at [Some(1)]");
    let doubt = [batch(1, 0..2, InDoubt), batch(1, 2..3, InDoubt)];
    expect(faults(&doubt, &[(0, 1, 0)]), "half there");
    expect(faults(&doubt, &[(0, 1, 2)]), "there, but one sent before it is not");
    expect(faults(&doubt, &[(0, 1, 2), (1, 1, 0), (2, 1, 1)]), "before one sent earlier");
}

/// A shard on each of the machine's cpus, so that requests cross shards where there are two.
fn all_cpus() -> String {
    std::thread::available_parallelism().map_or(1, usize::from).to_string()
}
