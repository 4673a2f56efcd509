//! The command line as its users run it: the built binary against a node, byte for byte.
//!
//! `COMMAND_LINE_TEST_BROKER=host:port` takes a broker that runs already, of any make, instead of
//! starting a node; what looks into the node's files is left out then.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use ringmain::client::partitioner::partition_of_key;
use serde_json::{Value, json};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const LINES_COUNT: usize = 20_000;
const START_SECONDS_MAX: u64 = 30;

/// A node of our own, or the broker that the environment names.
struct Node {
    child: Option<Child>,
    address: String,
    folder: PathBuf,
}

impl Node {
    fn start(name: &str) -> Node {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        if let Ok(address) = std::env::var("COMMAND_LINE_TEST_BROKER") {
            return Node { child: None, address, folder };
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let child = Command::new(env!("CARGO_BIN_EXE_ringmain"))
            .args(["serve", "--listen", &address, "--memory", "512M", "--data-dir"])
            .arg(&folder)
            .spawn()
            .expect("the binary was built");
        let node = Node { child: Some(child), address, folder };
        let started = Instant::now();
        while !node.run(&["topics", "list"], b"").status.success() {
            let waited = started.elapsed().as_secs();
            assert!(waited < START_SECONDS_MAX, "the node does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        node
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
        command.args(arguments).args(["--bootstrap-server", &self.address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        finish(self.command(arguments), input)
    }

    /// The output of a command that succeeds and says nothing on stderr.
    fn ok(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{arguments:?}: {stderr}");
        output.stdout
    }

    /// The JSON objects that a command prints, one a line.
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.ok(&[arguments, &["--output", "json"]].concat(), b"");
        output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("each line is JSON"))
            .collect()
    }

    /// Stops the node as an operator does.
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(killed.expect("kill is a program").success());
        assert!(child.wait().expect("it is our child").success(), "a clean stop is a success");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("the binary was built");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input); // a command that fails does not read to the end
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("writing does not panic");
    output
}

/// The one sentence of a command that fails with `code`.
fn failure(output: Output, code: i32) -> String {
    let text = String::from_utf8(output.stderr).expect("errors are text");
    assert_eq!(output.status.code(), Some(code), "{text}");
    if code == 1 {
        assert!(text.starts_with("ringmain: ") && text.lines().count() == 1, "{text:?}");
    }
    text
}

/// Lines of every byte but the line's end, of lengths from none to some thousand bytes.
fn sample_lines(seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut lines = Vec::new();
    for number in 0..LINES_COUNT {
        let length = if rng.u8(..) == 0 { rng.usize(0..5_000) } else { rng.usize(0..60) };
        lines.extend(format!("{number} ").bytes());
        lines.extend((0..length).map(|_| rng.u8(..)).map(|byte| byte ^ u8::from(byte == b'\n')));
        lines.push(b'\n');
    }
    lines
}

/// Goal: what goes in comes out, in order. Method: bytes of every kind, each codec, batches of
/// several sizes; the same partition, a last line without end.
#[test]
fn lines_come_back_byte_for_byte_with_every_codec() {
    let node = Node::start("command-line-lines");
    let lines = sample_lines(1);
    for (index, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("lines-{codec}-{}", std::process::id());
        let batch_bytes = ["8000", "50000", "524288"][index % 3];
        let flags = ["--compression", codec, "--batch-bytes", batch_bytes];
        node.ok(&[&["produce", &topic], &flags[..]].concat(), &lines);
        assert!(node.ok(&["consume", &topic], b"") == lines, "codec {codec}");
        node.ok(&["produce", &topic], b"the last line has no end");
        let from = LINES_COUNT.to_string();
        let last = node.ok(&["consume", &topic, "--from", &from], b"");
        assert_eq!(last, b"the last line has no end\n");
        node.ok(&["topics", "delete", &topic], b"");
    }
}

/// Goal: keys decide the partition as in Java, headers and times come along, and every way to
/// begin and to end is right. Method: one small topic, JSON and plain output.
#[test]
fn keys_headers_positions_and_counts() {
    let node = Node::start("command-line-keys");
    let topic = format!("keys-{}", std::process::id());
    node.ok(&["topics", "create", &topic, "--partitions", "4"], b"");
    let input: String = (0..500).map(|number| format!("key{number}=>value {number}\n")).collect();
    let flags = ["--key-separator", "=>", "--header", "trace=a=b", "--header", "empty="];
    node.ok(&[&["produce", &topic], &flags[..]].concat(), input.as_bytes());
    let records = node.lines(&["consume", &topic]);
    assert_eq!(records.len(), 500);
    for record in &records {
        let key = record["key"].as_str().expect("keys are text");
        assert_eq!(record["partition"], json!(partition_of_key(key.as_bytes(), 4)));
        assert_eq!(record["value"], json!(key.replace("key", "value ")));
        let trace = json!({ "name": "trace", "value": "a=b" });
        assert_eq!(record["headers"], json!([trace, { "name": "empty", "value": "" }]));
    }
    let one = ["consume", &topic, "--partition", "1"];
    let first: Vec<Value> =
        records.iter().filter(|record| record["partition"] == 1).cloned().collect();
    assert_eq!(node.lines(&one), first);
    let some = node.lines(&[&one, &["--from", "5", "--count", "3"][..]].concat());
    assert_eq!(some, first[5..8]);
    let time = first[7]["timestamp"].as_i64().expect("times are numbers");
    let since = node.lines(&[&one, &["--from", &format!("@{time}")][..]].concat());
    let at_or_after = first.iter().position(|record| record["timestamp"] == time);
    assert_eq!(since, first[at_or_after.expect("it is the seventh's")..]);
    let plain = node.ok(&[&one, &["--count", "1", "--key-separator", "=>"][..]].concat(), b"");
    let expected = format!("{}=>{}\n", text(&first[0]["key"]), text(&first[0]["value"]));
    assert_eq!(plain, expected.as_bytes());
    node.ok(&["produce", &topic, "--partition", "2", "--acks", "1"], b"to two\n");
    let two = node.lines(&["consume", &topic, "--partition", "2"]);
    assert_eq!(two.last().map(|record| &record["value"]), Some(&json!("to two")));
    assert_eq!(two.last().map(|record| &record["key"]), Some(&Value::Null));
}

fn text(value: &Value) -> &str {
    value.as_str().expect("it is text")
}

/// Goal: following shows records as they are written. Method: read from the pipe while producing.
#[test]
fn following_shows_what_is_written_later() {
    let node = Node::start("command-line-follow");
    let topic = format!("follow-{}", std::process::id());
    node.ok(&["produce", &topic], b"before\n");
    let mut command = node.command(&["consume", &topic, "--follow", "--count", "3"]);
    let mut child = command.spawn().expect("the binary was built");
    let mut reader = BufReader::new(child.stdout.take().expect("it is a pipe"));
    for value in ["before\n", "then\n", "and then\n"] {
        if value != "before\n" {
            node.ok(&["produce", &topic], value.as_bytes());
        }
        let mut line = String::new();
        reader.read_line(&mut line).expect("the pipe is open");
        assert_eq!(line, value);
    }
    assert!(child.wait().expect("it is our child").success(), "the count is reached");
}

/// Goal: topics are made, shown, changed and removed. Method: each command, JSON looked at.
#[test]
fn topics_are_created_described_altered_and_deleted() {
    let node = Node::start("command-line-topics");
    let topic = format!("topics-{}", std::process::id());
    let create = ["topics", "create", &topic, "--partitions", "3", "--config"];
    node.ok(&[&create[..], &["retention.ms=3600000"]].concat(), b"");
    let describe = || -> Value {
        let output = node.ok(&["topics", "describe", &topic, "--output", "json"], b"");
        serde_json::from_slice(&output).expect("it is JSON")
    };
    let described = &describe()[0];
    assert_eq!(described["name"], json!(topic));
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    let setting = json!({ "name": "retention.ms", "value": "3600000", "source": "topic" });
    assert_eq!(described["settings"], json!([setting]));
    let listed = node.ok(&["topics", "list"], b"");
    assert!(String::from_utf8_lossy(&listed).contains(&topic));
    node.ok(&["produce", &topic, "--partition", "1"], b"one\ntwo\n");
    node.ok(&["topics", "alter", &topic, "--partitions", "5"], b"");
    let described = &describe()[0];
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(5));
    assert_eq!(described["partitions"][1]["next_offset"], 2);
    let alter = ["topics", "alter", &topic, "--config", "segment.bytes=2097152"];
    node.ok(&[&alter[..], &["--delete-config", "retention.ms"]].concat(), b"");
    let setting = json!({ "name": "segment.bytes", "value": "2097152", "source": "topic" });
    assert_eq!(describe()[0]["settings"], json!([setting]));
    let again = failure(node.run(&["topics", "create", &topic], b""), 1);
    assert!(again.contains("TOPIC_ALREADY_EXISTS"), "{again}");
    let create = ["topics", "create", &topic, "--if-not-exists"];
    let told = String::from_utf8(node.ok(&create, b"")).expect("it is text");
    assert_eq!(told, format!("topic {topic} exists already, with 5 partitions\n"));
    let told = node.ok(&[&create[..], &["--output", "json"]].concat(), b"");
    let told: Value = serde_json::from_slice(&told).expect("it is JSON");
    assert_eq!(told[0]["created"], json!(false));
    let fewer = failure(node.run(&["topics", "alter", &topic, "--partitions", "2"], b""), 1);
    assert!(fewer.contains("INVALID_PARTITIONS"), "{fewer}");
    node.ok(&["topics", "delete", &topic], b"");
    let gone = failure(node.run(&["topics", "delete", &topic], b""), 1);
    assert!(gone.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{gone}");
    assert!(gone.contains("`ringmain topics list` shows those that exist"), "{gone}");
    node.ok(&["topics", "delete", &topic, "--if-exists"], b"");
}

/// Goal: of several topics each outcome is told. Method: one that cannot be between two that can.
#[test]
fn every_topics_outcome_is_told() {
    let node = Node::start("command-line-several");
    let (one, two) = (format!("one-{}", std::process::id()), format!("two-{}", std::process::id()));
    for (verb, told, wrong) in [("create", "created", "a/b"), ("delete", "deleted", "nope")] {
        let output = node.run(&["topics", verb, &one, wrong, &two], b"");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("{told} topic {one}")), "{text}");
        assert!(text.contains(&format!("{told} topic {two}")), "{text}");
        assert!(failure(output, 1).contains(wrong));
    }
}

/// Goal: failures are one sentence and an exit code. Method: a topic, partition, offset, setting
/// and file that are wrong, nobody listening, flags that make no sense, a reader that leaves.
#[test]
fn failures_are_one_sentence_and_an_exit_code() {
    let node = Node::start("command-line-failures");
    let topic = format!("failures-{}", std::process::id());
    node.ok(&["produce", &topic], &sample_lines(2));
    let wrong = |arguments: &[&str]| failure(node.run(arguments, b""), 1);
    assert!(wrong(&["consume", "no-such-topic-here"]).contains("topics list"));
    assert!(wrong(&["consume", &topic, "--partition", "7"]).contains("has no partition 7"));
    assert!(wrong(&["consume", &topic, "--from", "99999999"]).contains("after the end"));
    assert!(wrong(&["topics", "create", "a/b"]).contains("INVALID_TOPIC_EXCEPTION"));
    let setting = ["topics", "create", "x", "--config", "retention.mss=1"];
    assert!(wrong(&setting).contains("retention.mss"));
    let usage = |arguments: &[&str]| failure(node.run(arguments, b""), 2);
    assert!(usage(&["consume", &topic, "--from", "yesterday"]).contains("earliest"));
    assert!(usage(&["topics", "alter", &topic]).contains("--partitions"));
    assert!(usage(&["topics", "create", "x", "--config", "name"]).contains("name=value"));
    usage(&["produce"]);
    let ringmain = || Command::new(env!("CARGO_BIN_EXE_ringmain"));
    let run = |arguments: &[&str]| ringmain().args(arguments).output().expect("it was built");
    let nobody = ["topics", "list", "--bootstrap-server", "127.0.0.1:1"];
    assert!(failure(run(&nobody), 1).contains("cannot reach a broker at 127.0.0.1:1"));
    assert!(failure(run(&["log", "dump", "no/such/file.log"]), 1).contains("cannot read"));
    assert!(run(&["--version"]).status.success());
    let mut child = node.command(&["consume", &topic]).spawn().expect("it was built");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "a reader that leaves is no failure");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Goal: a node's files are readable and whole, also while it writes and after a clean stop.
/// Method: dump every segment and count the records of one topic.
#[test]
fn a_dump_reads_what_a_node_writes() {
    let mut node = Node::start("command-line-dump");
    if node.child.is_none() {
        return;
    }
    let create = ["topics", "create", "dumped", "--partitions", "2", "--config"];
    node.ok(&[&create[..], &["segment.bytes=1048576"]].concat(), b"");
    for codec in CODECS {
        let flags = ["--compression", codec, "--batch-bytes", "30000"];
        node.ok(&[&["produce", "dumped"], &flags[..]].concat(), &sample_lines(3));
    }
    let expected = (LINES_COUNT * CODECS.len()) as u64;
    assert_eq!(dumped_records_count(&node), expected, "while it runs");
    node.stop();
    assert_eq!(dumped_records_count(&node), expected, "after a clean stop");
}

fn dumped_records_count(node: &Node) -> u64 {
    let mut segments = Vec::new();
    segments_below(&node.folder, &mut segments);
    assert!(segments.len() >= 2, "two partitions have a segment each");
    let mut records_count = 0;
    for segment in segments {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
        command.args(["log", "dump", "--summary", "--output", "json"]).arg(&segment);
        let output = command.output().expect("it was built");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", segment.display());
        let summary: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        records_count += summary["records"].as_u64().expect("it is a count");
    }
    records_count
}

fn segments_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the node made it") {
        let path = entry.expect("it is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            segments_below(&path, found);
        } else if name.len() == 24 && name.ends_with(".log") {
            found.push(path);
        }
    }
}
