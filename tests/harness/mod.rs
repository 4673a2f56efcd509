//! What the tests on real sockets share: a node, in this process or in one that can be killed, and
//! a client that sends what it is told.
#![allow(dead_code)] // each test uses a part of it

pub mod groups;

use ringmain::base::ids::TopicId;
use ringmain::config::{ServeArgs, Settings};
use ringmain::io::Notifier;
use ringmain::node::{self, NodeError, Totals};
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::Request;
use ringmain::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ringmain::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ringmain::protocol::wire::Records;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A wait that never ends is a failed test, not a hung one.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Version in which [`Client::produce`] speaks: the last one that names topics by name.
pub const PRODUCE: i16 = 12;

/// A folder that is gone when its test is.
pub fn data_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

/// What a node in this process is told: any free port, a shard on each of the machine's cores.
pub fn serve_args(dir: &Path, settings: &[&str]) -> ServeArgs {
    ServeArgs {
        data_dir: Some(dir.to_path_buf()),
        listen: Some("127.0.0.1:0".to_owned()),
        memory: Some("512M".to_owned()),
        cpus: Some(all_cpus()),
        set: settings.iter().map(|&setting| setting.to_owned()).collect(),
        ..ServeArgs::default()
    }
}

/// As a flag: requests cross shards where there are two.
pub fn all_cpus() -> String {
    thread::available_parallelism().map_or(1, usize::from).to_string()
}

/// A node in this process.
pub struct Node {
    pub address: SocketAddr,
    stop: Notifier,
    thread: JoinHandle<Result<Totals, NodeError>>,
}

impl Node {
    /// A node with these settings, each `name=value`.
    pub fn start(dir: &Path, settings: &[&str]) -> Node {
        Node::try_start(&serve_args(dir, settings)).expect("the node starts")
    }

    pub fn try_start(args: &ServeArgs) -> Result<Node, NodeError> {
        let settings = Settings::load(args)?;
        let stop = Notifier::new();
        let (ready, is_ready) = mpsc::channel();
        let on_stop = stop.clone();
        let thread = thread::spawn(move || {
            node::run(settings, on_stop, move |it| ready.send(it.address).expect("test waits"))
        });
        match is_ready.recv() {
            Ok(address) => Ok(Node { address, stop, thread }),
            Err(_) => Err(thread.join().expect("no panic").expect_err("it never got ready")),
        }
    }

    /// Stops the node; it must not have panicked anywhere, nor copied what it served.
    pub fn stop(self) -> Totals {
        self.stop.notify();
        let totals = self.thread.join().expect("no panic").expect("a clean stop");
        assert_eq!((totals.panics, totals.fetch_copied_bytes), (0, 0), "{totals:?}");
        totals
    }

    pub fn client(&self) -> Client {
        Client::open(self.address).expect("the node listens")
    }
}

/// A node in a process of its own, and its data, which outlives it.
pub struct Process {
    pub folder: PathBuf,
    pub address: SocketAddr,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Process {
    /// Not started yet; the folder is `name`'s alone.
    pub fn new(name: &str, settings: &[&str]) -> Process {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("an earlier run's folder");
        }
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Process { folder, address, settings, child: None }
    }

    /// Starts the node and returns when it says that it is ready.
    pub fn start(&mut self) -> Client {
        let log = File::options().create(true).append(true).open(self.log());
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
        command
            .args(["serve", "--memory", "512M", "--cpus", &all_cpus()])
            .args(["--listen", &self.address.to_string(), "--data-dir"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("the folder is writable"));
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let child = self.child.insert(command.spawn().expect("the binary was built"));
        let mut said = Vec::new();
        let out = child.stdout.as_mut().expect("it is piped");
        while !said.ends_with(b"\n") {
            let mut byte = [0];
            out.read_exact(&mut byte).expect("the node says that it is ready");
            said.extend(byte);
        }
        self.client()
    }

    /// What the node has said.
    pub fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub fn client(&self) -> Client {
        Client::open(self.address).expect("the node listens")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// SIGTERM; the node must end as it should.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it was started");
        let id = child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
        assert!(told.success() && child.wait().expect("our own child").success());
    }

    /// Removes what it left.
    pub fn remove(self) {
        assert!(self.child.is_none(), "it was ended before");
        fs::remove_dir_all(&self.folder).expect("the test's own folder");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already failing: nothing is left to do about an error.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One connection that sends what it is told.
pub struct Client {
    pub socket: TcpStream,
    next_id: i32,
    unanswered: VecDeque<i32>,
}

impl Client {
    pub fn open(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Client { socket, next_id: 0, unanswered: VecDeque::new() })
    }

    /// Sends a request without waiting for its answer.
    pub fn send<'a, T: Request<'a>>(&mut self, version: i16, body: &T) -> io::Result<()> {
        self.send_unanswered(version, body)?;
        self.unanswered.push_back(self.next_id);
        Ok(())
    }

    /// Sends a request that gets no answer.
    pub fn send_unanswered<'a, T: Request<'a>>(
        &mut self,
        version: i16,
        body: &T,
    ) -> io::Result<()> {
        self.next_id += 1;
        let encoded = encode_request(version, self.next_id, Some("test"), body);
        self.socket.write_all(&encoded.head)
    }

    /// Sends bytes with their size in front.
    pub fn send_frame(&mut self, frame: &[u8]) {
        let size = i32::try_from(frame.len()).expect("a small frame");
        // A node that closes already makes this fail; the test looks at the answer.
        let _ = self.socket.write_all(&size.to_be_bytes());
        let _ = self.socket.write_all(frame);
    }

    /// The next answer's frame, which is that of the oldest request without one.
    ///
    /// # Errors
    /// The node closed the connection.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut size = [0; 4];
        self.socket.read_exact(&mut size).inspect_err(|error| {
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no answer in {PATIENCE:?}");
        })?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
        self.socket.read_exact(&mut frame)?;
        if let Some(id) = self.unanswered.pop_front() {
            assert_eq!(frame[..4], id.to_be_bytes(), "answers come in order");
        }
        Ok(frame)
    }

    /// The answer's frame.
    pub fn call<'a, T: Request<'a>>(&mut self, version: i16, body: &T) -> Vec<u8> {
        self.send(version, body).expect("the node reads");
        self.receive().expect("an answer")
    }

    pub fn is_closed(&mut self) -> bool {
        self.receive().is_err()
    }

    /// Creates a topic with these settings.
    pub fn create(
        &mut self,
        name: &str,
        partitions_count: i32,
        settings: &[(&str, &str)],
    ) -> TopicId {
        let (code, id) = self.try_create(name, partitions_count, settings);
        assert_eq!(code, ErrorCode::None);
        id
    }

    pub fn try_create(
        &mut self,
        name: &str,
        partitions_count: i32,
        settings: &[(&str, &str)],
    ) -> (ErrorCode, TopicId) {
        let config = |&(name, value): &(_, _)| CreatableTopicConfig { name, value: Some(value) };
        let topic = CreatableTopic {
            name,
            num_partitions: partitions_count,
            replication_factor: 1,
            configs: settings.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let frame = self.call(7, &request);
        let (_, answer) = decode_response::<CreateTopicsRequest>(7, &frame).expect("whole");
        (answer.topics[0].error_code, answer.topics[0].topic_id)
    }

    /// Produces one batch to partition `index`, acks=all; its code and base offset.
    pub fn produce(&mut self, topic: &str, index: i32, batch: &[u8]) -> (ErrorCode, i64) {
        let frame = self.call(PRODUCE, &produce_request(topic, index, batch, -1));
        produced(&frame)
    }
}

/// The code and base offset of the one batch of a Produce request.
pub fn produced(frame: &[u8]) -> (ErrorCode, i64) {
    let (_, answer) = decode_response::<ProduceRequest>(PRODUCE, frame).expect("whole");
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// A request with one batch.
pub fn produce_request<'a>(
    topic: &'a str,
    index: i32,
    batch: &'a [u8],
    acks: i16,
) -> ProduceRequest<'a> {
    let partition = PartitionProduceData { index, records: Records::Bytes(batch) };
    let data = TopicProduceData {
        name: topic,
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![data], ..Default::default() }
}
