//! The command line as its users run it: the built binary against a node, byte for byte.
//!
//! `COMMAND_LINE_TEST_BROKER=host:port` takes a broker that runs already, of any make, instead of
//! starting a node; what looks into the node's files is left out then.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
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
            .args(["serve", "--listen", &address, "--memory", "512M"])
            .args(["--set", "group.initial.rebalance.delay.ms=0", "--data-dir"])
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
    assert!(wrong(&setting).contains("retention.mss is not known, did you mean retention.ms?"));
    let alter = ["topics", "alter", &topic, "--config", "segment.byte=2097152"];
    assert!(wrong(&alter).contains("segment.byte is not known, did you mean segment.bytes?"));
    let delete = wrong(&["topics", "alter", &topic, "--delete-config", "retention.mss"]);
    assert!(delete.contains("there is no setting retention.mss; "), "{delete}");
    assert!(delete.contains("did you mean retention.ms?"), "{delete}");
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

const SETTLE_SECONDS_MAX: u64 = 60;

impl Node {
    /// What a command prints as one JSON value.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ok(&[arguments, &["--output", "json"]].concat(), b"");
        serde_json::from_slice(&output).expect("it is JSON")
    }

    fn group(&self, group: &str) -> Value {
        self.json(&["groups", "describe", group])[0].clone()
    }

    /// The group's description once `is_so` of it.
    fn group_when(&self, group: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let output = self.run(&["groups", "describe", group, "--output", "json"], b"");
            let described = serde_json::from_slice::<Value>(&output.stdout);
            let described = described.map(|all| all[0].clone()).unwrap_or_default();
            if output.status.success() && is_so(&described) {
                return described;
            }
            let waited = started.elapsed().as_secs();
            assert!(waited < SETTLE_SECONDS_MAX, "group {group} stays {described}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The sum of one number over all of a group's partitions.
fn sum(group: &Value, name: &str) -> i64 {
    let offsets = group["offsets"].as_array().expect("it is a list");
    offsets.iter().map(|offset| offset[name].as_i64().expect("it is a number")).sum()
}

/// How many partitions each member has, least first.
fn shares(group: &Value) -> Vec<usize> {
    let members = group["members"].as_array().cloned().unwrap_or_default();
    let share = |member: &Value| -> usize {
        let topics = member["assigned"].as_array().cloned().unwrap_or_default();
        topics.iter().filter_map(|topic| topic["partitions"].as_array()).map(Vec::len).sum()
    };
    let mut shares: Vec<usize> = members.iter().map(share).collect();
    shares.sort_unstable();
    shares
}

/// Goal: a group goes on where it stopped, and its offsets are shown, reset and removed. Method:
/// each protocol: read some, read the rest, reset without and with --execute, delete.
#[test]
fn a_group_goes_on_where_it_stopped_and_is_reset_and_deleted() {
    let node = Node::start("command-line-groups");
    for protocol in ["classic", "consumer"] {
        let topic = format!("grouped-{protocol}-{}", std::process::id());
        let group = format!("group-{protocol}-{}", std::process::id());
        node.ok(&["topics", "create", &topic, "--partitions", "3"], b"");
        for partition in ["0", "1", "2"] {
            let lines: String = (0..100).map(|line| format!("{partition}-{line}\n")).collect();
            node.ok(&["produce", &topic, "--partition", partition], lines.as_bytes());
        }
        let consume = ["consume", &topic, "--group", &group, "--protocol", protocol];
        let some = node.lines(&[&consume[..], &["--count", "70"]].concat());
        assert_eq!(some.len(), 70, "{protocol}");
        let described = node.group(&group);
        assert_eq!(described["type"], json!(protocol));
        assert_eq!((sum(&described, "committed_offset"), sum(&described, "lag")), (70, 230));
        let rest = node.lines(&consume);
        let mut values: Vec<&str> =
            some.iter().chain(&rest).map(|record| text(&record["value"])).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!((rest.len(), values.len()), (230, 300), "{protocol}: each record once");
        assert!(node.lines(&consume).is_empty(), "{protocol}: nothing is left");
        let listed = node.json(&["groups", "list"]);
        let listed = listed.as_array().expect("it is a list").iter();
        let mine: Vec<&Value> = listed.filter(|one| one["group"] == json!(group)).collect();
        assert_eq!((mine.len(), &mine[0]["state"]), (1, &json!("Empty")));
        check_resets(&node, &group, &topic);
        assert_eq!(node.lines(&consume).len(), 55, "{protocol}: what was reset is read again");
        node.ok(&["groups", "delete", &group], b"");
        for verb in ["describe", "delete"] {
            let gone = failure(node.run(&["groups", verb, &group], b""), 1);
            assert!(gone.contains("GROUP_ID_NOT_FOUND"), "{gone}");
            assert!(gone.contains("`ringmain groups list`"), "{gone}");
        }
        node.ok(&["topics", "delete", &topic], b"");
    }
}

/// Resets partition 0 by 50 and partition 2 to offset 95; the second one's lag is 5 then.
fn check_resets(node: &Node, group: &str, topic: &str) {
    let shift = ["groups", "reset-offsets", group, "--shift-by", "-50", "--topic"];
    let first = format!("{topic}:0");
    let shown = node.json(&[&shift[..], &[&first]].concat());
    assert_eq!(shown["executed"], json!(false));
    assert_eq!(shown["offsets"][0]["new_offset"], json!(50));
    assert_eq!(sum(&node.group(group), "lag"), 0, "a dry run changes nothing");
    node.ok(&[&shift[..], &[&first, "--execute"]].concat(), b"");
    let last = format!("{topic}:2");
    let to = ["groups", "reset-offsets", group, "--topic", &last, "--to-offset", "95"];
    node.ok(&[&to[..], &["--execute"]].concat(), b"");
    assert_eq!(sum(&node.group(group), "lag"), 55);
    let all = ["groups", "reset-offsets", group, "--all-topics"];
    let beyond = node.json(&[&all[..], &["--to-offset", "1000"]].concat());
    assert_eq!(beyond["offsets"][1]["clamped"], json!(true));
    assert_eq!(beyond["offsets"][1]["new_offset"], json!(100));
    let since = node.json(&[&all[..], &["--by-duration", "P1D"]].concat());
    assert_eq!(since["offsets"][1]["new_offset"], json!(0), "all records are younger than a day");
    let ninth = format!("{topic}:9");
    let wrong = [&all[..3], &["--topic", &ninth, "--to-latest"]].concat();
    assert!(failure(node.run(&wrong, b""), 1).contains("has no partition 9"));
    assert!(failure(node.run(&all, b""), 2).contains("--to-earliest"));
}

/// Goal: a group is sent to both ends of a topic and to a time. Method: three records at times that
/// are known, in partition 0 alone; each way shown first, then done and read again; a group that
/// comes into being by it.
#[test]
fn a_group_is_reset_to_the_ends_and_to_a_time() {
    let node = Node::start("command-line-reset");
    let topic = format!("timed-{}", std::process::id());
    let group = format!("timed-group-{}", std::process::id());
    node.ok(&["topics", "create", &topic, "--partitions", "2"], b"");
    let mut times = Vec::new();
    for line in ["a\n", "b\n", "c\n"] {
        node.ok(&["produce", &topic, "--partition", "0"], line.as_bytes());
        let last = node.lines(&["consume", &topic]).pop().expect("it was just written");
        times.push(last["timestamp"].as_i64().expect("times are numbers"));
        thread::sleep(Duration::from_millis(2)); // so that no two have the same time
    }
    let reset = ["groups", "reset-offsets", &group, "--topic", &topic];
    let after = format!("@{}", times[0] + 1);
    let exactly = format!("@{}", times[2]);
    let ways: [(&[&str], i64); 6] = [
        (&["--to-latest"], 3),
        (&["--to-earliest"], 0),
        (&["--to-datetime", &after], 1),
        (&["--to-datetime", &exactly], 2),
        (&["--to-datetime", "1999-12-31T23:59:59.5+02:00"], 0),
        (&["--to-datetime", "2999-01-01"], 3), // no record is that new: behind the last
    ];
    let mut before = Value::Null; // no such group
    for (way, expected) in ways {
        let shown = node.json(&[&reset[..], way].concat());
        let done = node.json(&[&reset[..], way, &["--execute"]].concat());
        assert_eq!((&shown["executed"], &done["executed"]), (&json!(false), &json!(true)));
        let both = done["offsets"].as_array().expect("it is a list");
        assert_eq!(shown["offsets"], done["offsets"], "{way:?}: what was shown changed nothing");
        let row = |index: usize, name: &str| both[index][name].clone();
        assert_eq!((row(0, "old_offset"), row(0, "new_offset")), (before, json!(expected)));
        assert_eq!((row(0, "end_offset"), row(0, "clamped")), (json!(3), json!(false)), "{way:?}");
        assert_eq!((row(1, "new_offset"), row(1, "end_offset")), (json!(0), json!(0)), "{way:?}");
        let described = node.group(&group);
        assert_eq!(
            (sum(&described, "committed_offset"), sum(&described, "lag")),
            (expected, 3 - expected)
        );
        before = json!(expected);
    }
    node.ok(&[&reset[..], &["--to-datetime", &after, "--execute"]].concat(), b"");
    let read = node.ok(&["consume", &topic, "--group", &group], b"");
    assert_eq!(String::from_utf8_lossy(&read), "b\nc\n", "it goes on where it was sent");
    let wrong = [&reset[..], &["--to-datetime", "yesterday"]].concat();
    assert!(failure(node.run(&wrong, b""), 2).contains("2025-03-01T12:30:00Z"));
    let two = [&reset[..], &["--to-latest", "--to-earliest"]].concat();
    failure(node.run(&two, b""), 2);
}

/// Goal: members share partitions, take over from who leaves, and lose or repeat nothing. Method:
/// each way to share: two readers, records, one is interrupted, more records.
#[test]
fn members_share_partitions_and_an_interrupted_one_hands_over() {
    let node = Node::start("command-line-members");
    let ways: [&[&str]; 3] = [
        &["--protocol", "classic"],
        &["--assignor", "cooperative-sticky"],
        &["--protocol", "consumer"],
    ];
    for (index, way) in ways.into_iter().enumerate() {
        let topic = format!("shared-{index}-{}", std::process::id());
        let group = format!("sharing-{index}-{}", std::process::id());
        node.ok(&["topics", "create", &topic, "--partitions", "4"], b"");
        let arguments = [&["consume", &topic, "--group", &group, "--follow"][..], way].concat();
        let mut members = [0, 1].map(|_| node.command(&arguments).spawn().expect("it was built"));
        node.group_when(&group, |group| shares(group) == [2, 2]);
        let in_use = ["groups", "reset-offsets", &group, "--topic", &topic, "--to-latest"];
        assert!(failure(node.run(&in_use, b""), 1).contains("is in use"));
        let delete = failure(node.run(&["groups", "delete", &group], b""), 1);
        assert!(delete.contains("NON_EMPTY_GROUP"), "{delete}");
        produce_everywhere(&node, &topic, 0..50);
        let is_read = |count: i64| {
            move |group: &Value| {
                group["offsets"].as_array().is_some_and(|all| {
                    all.len() == 4 && all.iter().all(|one| one["committed_offset"] == json!(count))
                })
            }
        };
        node.group_when(&group, is_read(50));
        let first = interrupt(&mut members[0]);
        node.group_when(&group, |group| shares(group) == [4]);
        produce_everywhere(&node, &topic, 50..70);
        node.group_when(&group, is_read(70));
        let second = interrupt(&mut members[1]);
        node.group_when(&group, |group| group["state"] == json!("Empty"));
        assert!(!first.is_empty(), "{way:?}: both have read");
        let mut lines = [first, second].concat();
        lines.sort_unstable();
        let mut expected: Vec<String> =
            (0..4).flat_map(|part| (0..70).map(move |line| format!("{part}-{line}"))).collect();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{way:?}: each record once");
    }
}

fn produce_everywhere(node: &Node, topic: &str, lines: std::ops::Range<i32>) {
    for partition in 0..4 {
        let text: String = lines.clone().map(|line| format!("{partition}-{line}\n")).collect();
        node.ok(&["produce", topic, "--partition", &partition.to_string()], text.as_bytes());
    }
}

/// Ends `child` as Ctrl-C does, which is a success; gives the lines that it has printed.
fn interrupt(child: &mut Child) -> Vec<String> {
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill is a program").success());
    let mut output = String::new();
    let mut stdout = child.stdout.take().expect("it is a pipe");
    stdout.read_to_string(&mut output).expect("lines are text");
    assert!(child.wait().expect("it is our child").success(), "leaving is a success");
    output.lines().map(str::to_owned).collect()
}

/// Goal: settings are shown with where they come from, changed, and wrong names put right. Method:
/// a topic, the brokers, a group; a change, its check only, and one back.
#[test]
fn settings_are_described_and_altered() {
    let node = Node::start("command-line-configs");
    let topic = format!("configs-{}", std::process::id());
    node.ok(&["topics", "create", &topic], b"");
    let of_topic = ["configs", "alter", "--topic", &topic];
    let set = ["--set", "retention.ms=7200000"];
    node.ok(&[&of_topic[..], &set, &["--validate-only"]].concat(), b"");
    let describe = ["configs", "describe", "--topic", &topic];
    assert_eq!(node.json(&describe)[0]["settings"], json!([]), "it was only checked");
    node.ok(&[&of_topic[..], &set].concat(), b"");
    let own = &node.json(&describe)[0]["settings"][0];
    assert_eq!((&own["name"], &own["value"]), (&json!("retention.ms"), &json!("7200000")));
    assert_eq!(own["source"], json!("DYNAMIC_TOPIC_CONFIG"));
    let all = node.json(&[&describe[..], &["--all"]].concat());
    let all = all[0]["settings"].as_array().expect("it is a list").clone();
    let source = |name: &str| {
        let found = all.iter().find(|setting| setting["name"] == json!(name));
        found.map(|setting| text(&setting["source"]).to_owned())
    };
    assert_eq!(source("segment.ms").as_deref(), Some("DEFAULT_CONFIG"));
    node.ok(&[&of_topic[..], &["--append", "cleanup.policy=compact"]].concat(), b"");
    let shown = String::from_utf8(node.ok(&describe, b"")).expect("it is text");
    assert!(shown.contains("delete,compact") && shown.contains("retention.ms"), "{shown}");
    let delete = ["--delete", "retention.ms", "--delete", "cleanup.policy"];
    node.ok(&[&of_topic[..], &delete].concat(), b"");
    assert_eq!(node.json(&describe)[0]["settings"], json!([]));
    let wrong = [&of_topic[..], &["--set", "retention.mss=1"]].concat();
    let wrong = failure(node.run(&wrong, b""), 1);
    assert!(wrong.contains("INVALID_CONFIG") && wrong.contains("retention.ms"), "{wrong}");
    let twice = [&of_topic[..], &["--set", "retention.ms=1", "--delete", "retention.ms"]].concat();
    assert!(failure(node.run(&twice, b""), 2).contains("named twice"));
    assert!(failure(node.run(&describe[..2], b""), 2).contains("--broker-defaults"));
    let nowhere = ["configs", "describe", "--topic", "no-such-topic-here"];
    assert!(failure(node.run(&nowhere, b""), 1).contains("UNKNOWN_TOPIC_OR_PARTITION"));
    let group = format!("configs-{}", std::process::id());
    let of_group = ["configs", "alter", "--group", &group, "--set"];
    node.ok(&[&of_group[..], &["consumer.session.timeout.ms=50000"]].concat(), b"");
    let described = node.json(&["configs", "describe", "--group", &group, "--broker-defaults"]);
    assert_eq!(described[0]["type"], json!("broker-defaults"));
    assert_eq!(described[1]["settings"][0]["value"], json!("50000"));
    let delete = ["--delete", "consumer.session.timeout.ms"];
    node.ok(&[&["configs", "alter", "--group", &group][..], &delete].concat(), b"");
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
    // A log's last records may be in the journal only, for a moment.
    let until = Instant::now() + Duration::from_secs(10);
    while dumped_records_count(&node) < expected && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
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
