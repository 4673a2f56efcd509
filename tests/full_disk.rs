//! A full disk, a real one: a small ext4 in a file, mounted over a loop device for each test alone.
//!
//! A start without room is one sentence and leaves nothing that stops a later start. A disk that
//! fills up under a running node costs the records under way and nothing else: producers get an
//! error that they retry, reads go on, also over a restart, and appends once there is room.
//!
//! Needs root, `mkfs.ext4`, loop devices and mount namespaces. Where one of them is missing the
//! tests are left out, and say so on stderr past the harness, which hides what passing tests print.
//! `FULL_DISK_TEST_BINARY` takes another build.

use ringmain::protocol::batch::{BatchBuilder, Batches};
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::Request;
use ringmain::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ringmain::protocol::messages::delete_topics::DeleteTopicsRequest;
use ringmain::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringmain::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ringmain::protocol::record::NewRecord;
use ringmain::protocol::wire::Records;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Names the folder of a test that runs inside of its own mount namespace.
const FOLDER_VARIABLE: &str = "FULL_DISK_TEST_FOLDER";
const DISK_BYTES: u64 = 64 << 20;
/// The records are of 1970: retention is to leave them alone.
const SMALL_SEGMENTS: [(&str, &str); 2] = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
const VALUE_BYTES: usize = 8_000;
const PATIENCE: Duration = Duration::from_secs(30);
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 5;

// ---- the disk ---------------------------------------------------------------------------------

/// Runs `test` on a small disk of its own, in a process whose mounts nobody else sees.
fn on_small_disk(name: &str, test: impl FnOnce(&Disk)) {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return test(&Disk::mount(Path::new(&folder)));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder is writable");
    if let Err(reason) = can_mount(&folder) {
        return left_out(&format!("{name}, for root, mkfs.ext4 and loop devices: {reason}"));
    }
    let program = std::env::current_exe().expect("this test's own program");
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER_VARIABLE, &folder)
        .status()
        .expect("it was found a moment ago");
    assert!(status.success(), "inside of the mount namespace: {status}");
    fs::remove_dir_all(&folder).expect("the test's own folder");
}

/// Says so where the harness does not swallow it.
fn left_out(what: &str) {
    let text = format!("\nLEFT OUT: {what}\n");
    io::stderr().write_all(text.as_bytes()).expect("stderr is open");
}

/// Mounts a trial image, in a namespace that ends with the command.
fn can_mount(folder: &Path) -> Result<(), String> {
    let image = image(folder)?;
    let mount = "mount -o loop \"$0\" \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", mount]);
    said(command.arg(&image).arg(mounted(folder)))
}

/// Makes an empty image in `folder`, and where to mount it.
fn image(folder: &Path) -> Result<PathBuf, String> {
    let image = folder.join("disk.ext4");
    let file = File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(DISK_BYTES).map_err(|error| error.to_string())?;
    fs::create_dir_all(mounted(folder)).map_err(|error| error.to_string())?;
    // No blocks are kept back for root, who runs the node here.
    said(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
    Ok(image)
}

fn mounted(folder: &Path) -> PathBuf {
    folder.join("mounted")
}

fn said(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A mounted small file system.
struct Disk {
    folder: PathBuf,
    root: PathBuf,
}

impl Disk {
    fn mount(folder: &Path) -> Disk {
        let root = mounted(folder);
        let image = image(folder).expect("it worked a moment ago");
        said(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&root)).expect("as above");
        Disk { folder: folder.to_path_buf(), root }
    }

    fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }

    /// Leaves no free byte, as whatever else is on a disk may.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler());
        let file = file.as_mut().expect("a name needs no block here");
        for bytes in [1 << 20, 1 << 12, 1 << 10] {
            let piece = vec![7; bytes];
            while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
    }
}

// ---- the node ---------------------------------------------------------------------------------

fn serve(disk: &Disk, address: SocketAddr) -> Command {
    let binary = std::env::var("FULL_DISK_TEST_BINARY")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringmain").to_owned());
    let mut command = Command::new(binary);
    command.args(["serve", "--memory", "256M", "--listen", &address.to_string()]);
    command.arg("--data-dir").arg(disk.data_dir()).stdin(Stdio::null());
    command
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// The sentence of a start that must fail.
fn refusal(disk: &Disk) -> String {
    let child = serve(disk, free_address()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary was built");
    let began = Instant::now();
    while child.try_wait().expect("our own child").is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().expect("our own child");
            panic!("it runs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stderr, .. } = child.wait_with_output().expect("it has ended");
    let text = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let own: Vec<&str> = text.lines().filter(|line| line.starts_with("ringmain: ")).collect();
    assert_eq!(own.len(), 1, "one sentence: {text}");
    own[0].to_owned()
}

struct Node {
    child: Child,
    address: SocketAddr,
}

impl Node {
    fn start(disk: &Disk) -> Node {
        let address = free_address();
        let log = disk.folder.join("node.log");
        let log = File::create(log).expect("the folder is not on the small disk");
        let mut command = serve(disk, address);
        command.stdout(log.try_clone().expect("an open file")).stderr(log);
        let mut node = Node { child: command.spawn().expect("the binary was built"), address };
        let began = Instant::now();
        let log = || fs::read_to_string(disk.folder.join("node.log")).expect("made above");
        while !log().contains("ringmain ready on ") {
            let ended = node.child.try_wait().expect("our own child");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{ended:?}: {}", log());
            thread::sleep(Duration::from_millis(5));
        }
        node
    }

    fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// SIGTERM; returns whether the node said that it stopped clean.
    fn stop(mut self) -> bool {
        let pid = self.child.id().to_string();
        said(Command::new("kill").arg(pid)).expect("our own child");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "it does not stop");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        Client { stream, next_id: 0 }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already, but where a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection with one request at a time; nothing is ever tried again.
struct Client {
    stream: TcpStream,
    next_id: i32,
}

impl Client {
    fn call<'a, T: Request<'a>>(&mut self, version: i16, body: &T) -> Vec<u8> {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("full"), body);
        self.stream.write_all(&frame.head).expect("the node lives");
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("an answer, in time");
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).expect("answers come whole");
        frame
    }

    fn create(&mut self, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
        let config = |&(name, value)| CreatableTopicConfig { name, value: Some(value) };
        let topic = CreatableTopic {
            name,
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let frame = self.call(CREATE_TOPICS, &request);
        let (_, answer) = decode_response::<CreateTopicsRequest>(CREATE_TOPICS, &frame)
            .expect("an answer to CreateTopics");
        answer.topics[0].error_code
    }

    fn delete(&mut self, name: &str) -> ErrorCode {
        let request = DeleteTopicsRequest { topic_names: vec![name], ..Default::default() };
        let frame = self.call(DELETE_TOPICS, &request);
        let (_, answer) = decode_response::<DeleteTopicsRequest>(DELETE_TOPICS, &frame)
            .expect("an answer to DeleteTopics");
        answer.responses[0].error_code
    }

    /// Produces one record that begins with `number`; its code and offset.
    fn produce(&mut self, topic: &str, number: u64) -> (ErrorCode, i64) {
        let mut value = number.to_be_bytes().to_vec();
        value.resize(VALUE_BYTES, number as u8);
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(&NewRecord { timestamp: 1, value: Some(&value), ..NewRecord::default() });
        let records = builder.finish();
        let data = PartitionProduceData { index: 0, records: Records::Bytes(&records) };
        let topic =
            TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 60_000,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let frame = self.call(PRODUCE, &request);
        let (_, answer) =
            decode_response::<ProduceRequest>(PRODUCE, &frame).expect("an answer to Produce");
        let partition = &answer.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// The numbers of all records of `topic`, in order.
    fn read_all(&mut self, topic: &str) -> Vec<u64> {
        let mut found = Vec::new();
        loop {
            let wanted = FetchPartition {
                fetch_offset: found.len() as i64,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            };
            let topic = FetchTopic { topic, partitions: vec![wanted], ..FetchTopic::default() };
            let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
            let frame = self.call(FETCH, &request);
            let (_, answer) =
                decode_response::<FetchRequest>(FETCH, &frame).expect("an answer to Fetch");
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::None, "reads go on");
            for batch in Batches::new(data.records.bytes()) {
                let batch = batch.expect("whole batches");
                batch.check_crc().expect("a batch as it was sent");
                assert_eq!(batch.base_offset().0, found.len() as i64);
                let payload = batch.decompressed(usize::MAX).expect("not compressed");
                for record in batch.records_in(&payload) {
                    let value = record.expect("as it was sent").value.expect("all have values");
                    found.push(u64::from_be_bytes(*value.first_chunk().expect("a number")));
                }
            }
            if found.len() as i64 >= data.high_watermark {
                return found;
            }
        }
    }

    /// Produces until the disk has no room, with `number` and up; returns what was acknowledged.
    fn produce_until_full(&mut self, topic: &str, mut number: u64) -> Vec<u64> {
        let mut acked = Vec::new();
        loop {
            let (code, _) = self.produce(topic, number);
            if code != ErrorCode::None {
                assert_eq!(code, ErrorCode::KafkaStorageError);
                assert!(code.is_retriable());
                return acked;
            }
            acked.push(number);
            number += 1;
        }
    }
}

/// Asks again and again until `done` says so: for what a node does by itself after a while.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

// ---- the tests --------------------------------------------------------------------------------

/// Goal: a start without room says so in a sentence that names the directory and the remedy, and
/// the next one with room succeeds. Method: a new directory on a disk with no byte and with a few;
/// one that is there, with no byte.
#[test]
fn a_start_on_a_full_disk_is_one_sentence() {
    on_small_disk("a_start_on_a_full_disk_is_one_sentence", |disk| {
        let dir = disk.data_dir().display().to_string();
        disk.fill();
        let mut free_bytes = 0;
        while free_bytes < 64 << 10 {
            let text = refusal(disk);
            assert!(text.contains(&dir) && text.contains("free some there"), "{text}");
            free_bytes += 4 << 10;
            let filler = File::options().write(true).open(disk.filler()).expect("it is there");
            let bytes = filler.metadata().expect("an open file").len();
            filler.set_len(bytes.saturating_sub(4 << 10)).expect("a shorter one fits");
        }
        disk.make_room();
        assert!(Node::start(disk).stop());
        disk.fill();
        // There is room for the start's own entry of the metadata log, or there is not.
        let node = serve(disk, free_address()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut node = node.expect("the binary was built");
        let mut first = [0; 14];
        let is_ready = node.stdout.as_mut().expect("piped").read_exact(&mut first).is_ok();
        node.kill().expect("our own child");
        node.wait().expect("our own child");
        if !is_ready {
            let text = refusal(disk);
            assert!(text.contains(&dir) && text.contains("free some there"), "{text}");
        }
        disk.make_room();
        assert!(Node::start(disk).stop());
    });
}

/// Goal: a disk that fills up costs the records under way only. Method: fill it under a node, by
/// its own records and by others' bytes; produce, read, create, delete; kill and read; make room
/// and go on without a restart; then all is there that was acknowledged, in order.
#[test]
fn a_disk_that_fills_up_costs_what_is_under_way() {
    on_small_disk("a_disk_that_fills_up_costs_what_is_under_way", |disk| {
        let node = Node::start(disk);
        let mut client = node.client();
        for topic in ["words", "doomed"] {
            let code = client.create(topic, &SMALL_SEGMENTS);
            assert_eq!(code, ErrorCode::None);
        }
        assert_eq!(client.produce("doomed", 1).0, ErrorCode::None);
        let mut acked: Vec<u64> = (0..100).collect();
        for number in 0..100 {
            assert_eq!(client.produce("words", number), (ErrorCode::None, number as i64));
        }
        disk.fill();
        acked.extend(client.produce_until_full("words", 100));
        for number in 10_000..10_020 {
            match client.produce("words", number).0 {
                ErrorCode::None => acked.push(number),
                code => assert_eq!(code, ErrorCode::KafkaStorageError),
            }
        }
        assert_eq!(client.read_all("words"), acked);
        drop(client);
        node.kill();

        let node = Node::start(disk);
        let mut client = node.client();
        assert_eq!(client.read_all("words"), acked, "after a restart on the full disk");
        let code = client.create("more", &[]);
        assert!(code == ErrorCode::None || code == ErrorCode::KafkaStorageError, "{code}");
        let code = client.delete("doomed");
        assert!(code == ErrorCode::None || code == ErrorCode::KafkaStorageError, "{code}");

        disk.make_room();
        eventually("appends go on", || client.produce("words", 20_000).0 == ErrorCode::None);
        acked.push(20_000);
        for number in 20_001..20_100 {
            assert_eq!(client.produce("words", number).0, ErrorCode::None);
            acked.push(number);
        }
        eventually("topics are made", || {
            let code = client.create("last", &[]);
            code == ErrorCode::None || code == ErrorCode::TopicAlreadyExists
        });
        eventually("and take records", || client.produce("last", 1).0 == ErrorCode::None);
        assert_eq!(client.read_all("words"), acked);
        drop(client);
        assert!(node.stop());
        let node = Node::start(disk);
        assert_eq!(node.client().read_all("words"), acked);
        assert!(node.stop());
    });
}

/// Goal: a stop ends on a full disk, also where records were acknowledged before they were written
/// (`flush.messages` above 1). Method: fill it under such a topic, stop, make room, start.
#[test]
fn a_node_stops_on_a_full_disk() {
    on_small_disk("a_node_stops_on_a_full_disk", |disk| {
        let node = Node::start(disk);
        let mut client = node.client();
        let relaxed = [("flush.messages", "1000000"), SMALL_SEGMENTS[0], SMALL_SEGMENTS[1]];
        assert_eq!(client.create("relaxed", &relaxed), ErrorCode::None);
        assert_eq!(client.create("safe", &[]), ErrorCode::None);
        let mut acked = vec![0];
        assert_eq!(client.produce("safe", 0).0, ErrorCode::None);
        for number in 0..10 {
            assert_eq!(client.produce("relaxed", number).0, ErrorCode::None);
        }
        disk.fill();
        client.produce_until_full("relaxed", 10);
        acked.extend(client.produce_until_full("safe", 1));
        drop(client);
        node.stop();
        disk.make_room();
        let node = Node::start(disk);
        let mut client = node.client();
        assert_eq!(client.read_all("safe"), acked);
        let left = client.read_all("relaxed");
        let expected: Vec<u64> = (0..left.len() as u64).collect();
        assert!(left.len() >= 10, "what was written before: {left:?}");
        assert_eq!(left, expected, "a prefix");
        assert_eq!(client.produce("relaxed", 0).0, ErrorCode::None);
        drop(client);
        assert!(node.stop());
    });
}

/// Goal: one flush for all files is believed only where it holds. Method: data in ext4's journal,
/// by a mount option and by the directory's attribute; what the node says of itself.
#[test]
fn journaled_data_gets_a_flush_for_each_file() {
    on_small_disk("journaled_data_gets_a_flush_for_each_file", |disk| {
        let says = |text: &str| {
            let node = Node::start(disk);
            let mut client = node.client();
            assert_eq!(client.create("words", &[]), ErrorCode::None);
            assert_eq!(client.produce("words", 1), (ErrorCode::None, 0));
            assert_eq!(client.read_all("words"), [1]);
            drop(client);
            assert!(node.stop());
            let log = fs::read_to_string(disk.folder.join("node.log")).expect("it ran");
            assert!(log.contains(text), "{log}");
            fs::remove_dir_all(disk.data_dir()).expect("the test's own");
        };
        says("one flush for all logs of a shard");
        fs::create_dir(disk.data_dir()).expect("there is room");
        match said(Command::new("chattr").arg("+j").arg(disk.data_dir())) {
            Ok(()) => says("a flush for each log"),
            Err(reason) => left_out(&format!("chattr +j, for CAP_SYS_RESOURCE: {reason}")),
        }
        let root = disk.root.as_os_str();
        said(Command::new("umount").arg(root)).expect("nobody uses it");
        let image = disk.folder.join("disk.ext4");
        let mut mount = Command::new("mount");
        said(mount.args(["-o", "loop,data=journal"]).arg(image).arg(root)).expect("ext4 has it");
        says("a flush for each log");
    });
}
