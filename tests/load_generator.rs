//! `ringmain-bench` as its users run it: the built binary against a node.
//!
//! What its figures are worth is tested beside them, in bench/generator_tests.rs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const START_SECONDS_MAX: u64 = 30;
/// Small requests, so that a debug build keeps up.
const SMALL: [&str; 6] = ["--batch-bytes", "4K", "--request-bytes", "4K", "--partitions", "4"];

struct Node {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Node {
    fn start(name: &str) -> Node {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let address = free_address();
        let child = Command::new(env!("CARGO_BIN_EXE_ringmain"))
            .args(["serve", "--listen", &address, "--memory", "512M", "--data-dir"])
            .arg(folder.join("data"))
            .spawn()
            .expect("the binary was built");
        let node = Node { child, address, folder };
        let started = Instant::now();
        while !node.bench(&["ready", "--topic", "none", "--timeout", "1s"]).stderr_has("none") {
            let waited = started.elapsed().as_secs();
            assert!(waited < START_SECONDS_MAX, "the node does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        node
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain-bench"));
        command.args(arguments).args(["--brokers", &self.address]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn bench(&self, arguments: &[&str]) -> Ended {
        Ended(self.command(arguments).output().expect("it was built"))
    }

    /// The result of a run that gets a Ctrl-C as soon as it has said `text`.
    fn interrupted(&self, arguments: &[&str], text: &str) -> Value {
        let mut running = self.command(arguments).spawn().expect("it was built");
        let stderr = BufReader::new(running.stderr.take().expect("it is a pipe"));
        let said = stderr.lines().map(|line| line.expect("it is text"));
        let mut unread = said.skip_while(|line| !line.contains(text));
        assert!(unread.next().is_some(), "{arguments:?} never said {text}");
        interrupt(&running);
        let rest: Vec<String> = unread.collect();
        let ended = running.wait_with_output().expect("it is our child");
        assert!(ended.status.success(), "{arguments:?}: {rest:?}");
        serde_json::from_slice(&ended.stdout).expect("it is JSON")
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("it is text").to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program that has ended.
struct Ended(Output);

impl Ended {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn stderr_has(&self, text: &str) -> bool {
        self.stderr().contains(text)
    }

    /// The one line that says why it failed.
    fn failure(&self) -> String {
        assert_eq!(self.0.status.code(), Some(1), "{}", self.stderr());
        assert!(self.0.stdout.is_empty());
        let stderr = self.stderr();
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
        stderr
    }
}

/// Ctrl-C.
fn interrupt(running: &Child) {
    let kill = Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(kill.expect("kill is a program").success());
}

fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it is bound").to_string()
}

fn read_json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("it was written")).expect("it is JSON")
}

/// Goal: Ctrl-C ends a run early, and what it found is told. Method: interrupt a run of an hour
/// once its topic holds records.
#[test]
fn an_interrupted_run_still_reports_what_it_found() {
    let node = Node::start("bench-interrupted");
    let json = node.path("result.json");
    let hour = ["produce", "--topic", "t", "--duration", "1h", "--warmup", "0s", "--json", &json];
    let running = node.command(&[&hour[..], &SMALL].concat()).spawn().expect("it was built");
    let fetch = ["fetch", "--topic", "t", "--partitions", "4", "--no-create", "--output", "json"];
    let started = Instant::now();
    loop {
        let ended = node.bench(&fetch);
        let fetched: Option<Value> = serde_json::from_slice(&ended.0.stdout).ok();
        if fetched.is_some_and(|result| result["records"].as_u64() > Some(0)) {
            break;
        }
        assert!(started.elapsed().as_secs() < START_SECONDS_MAX, "nothing is produced");
    }
    interrupt(&running);
    let ended = Ended(running.wait_with_output().expect("it is our child"));
    assert!(ended.0.status.success(), "{}", ended.stderr());
    let result = read_json(&json);
    assert_eq!(result["ended_early"], true);
    assert!(result["records"].as_u64() > Some(0));
    assert!(result["seconds"].as_f64() < Some(3600.0));
    assert!(String::from_utf8_lossy(&ended.0.stdout).contains("stopped before its time"));
}

/// Goal: Ctrl-C ends what is measured of groups, too, and what it found is told. Method:
/// interrupt each, in both protocols, once it says that it measures.
#[test]
fn interrupted_groups_still_report_what_they_found() {
    let node = Node::start("bench-interrupted-groups");
    let heartbeat = ["groups", "heartbeat", "--groups", "2", "--interval", "10ms"];
    let heartbeat = [&heartbeat[..], &["--warmup", "0s", "--duration", "1h"]].concat();
    let rebalance = ["groups", "rebalance", "--members", "3", "--partitions", "6"];
    let rebalance = [&rebalance[..], &["--rounds", "1000", "--interval", "10ms"]].concat();
    for protocol in ["classic", "consumer"] {
        let flags = ["--protocol", protocol, "--output", "json"];
        let ended = node.interrupted(&[&heartbeat[..], &flags].concat(), "measured");
        assert_eq!(ended["ended_early"], true);
        assert!(ended["seconds"].as_f64() < Some(3600.0), "{ended}");
        let ended = node.interrupted(&[&rebalance[..], &flags].concat(), "round 2 of");
        let rounds_count = ended["rounds"].as_array().map(Vec::len);
        assert_eq!(ended["ended_early"], true);
        assert!((2..1000).contains(&rounds_count.expect("it is a list")), "{ended}");
    }
}

/// Goal: a workload file runs what it names, together where it says so. Method: three workloads, of
/// which two share their time; their results stand in one file.
#[test]
fn a_workload_file_gives_a_result_for_each_name() {
    let node = Node::start("bench-file");
    let file = node.path("workloads.toml");
    let text = r#"
        [defaults]
        topic = "t"
        partitions = 4
        batch-bytes = "4K"
        duration = "400ms"
        warmup = "100ms"
        allow-missed-rate = true
        [[workload]]
        name = "writers"
        kind = "produce"
        request-bytes = "4K"
        rate = "100r"
        [[workload]]
        name = "readers"
        kind = "fetch"
        follow = true
        together = true
        [[workload]]
        name = "both"
        kind = "end-to-end"
        request-bytes = "4K"
        rate = "100r"
    "#;
    fs::write(&file, text).expect("it can be written");
    let json = node.path("results.json");
    let ended = node.bench(&["run", &file, "--json", &json, "--output", "json"]);
    assert!(ended.0.status.success(), "{}", ended.stderr());
    let results = read_json(&json);
    let names: Vec<&str> = results
        .as_array()
        .expect("several")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["writers", "readers", "both"]);
    assert_eq!(String::from_utf8_lossy(&ended.0.stdout).lines().count(), 3, "a line each");
    assert_eq!(results[0]["asked"]["requests_per_second"], 100.0);
    assert_eq!(results[2]["parts"][0]["series"][0]["name"], "end_to_end");
    assert!(results[2]["records"].as_u64() > Some(0));
}

/// Goal: every kind of workload runs and says what it did. Method: each for a moment, or for a
/// few bytes.
#[test]
fn every_kind_of_workload_says_what_it_did() {
    let node = Node::start("bench-kinds");
    let moment = ["--duration", "200ms", "--warmup", "0s"];
    let result = |line: &[&str]| -> Value {
        let ended = node.bench(&[line, &["--output", "json"]].concat());
        assert!(ended.0.status.success(), "{line:?}: {}", ended.stderr());
        let result: Value = serde_json::from_slice(&ended.0.stdout).expect("it is JSON");
        assert!(result["requests"].as_u64() > Some(0), "{line:?}");
        assert_eq!(result["errors"], 0, "{line:?}");
        result
    };
    let names = |result: &Value| -> Vec<String> {
        let parts = result["parts"].as_array().expect("several").iter();
        parts.map(|part| part["name"].as_str().expect("a name").to_owned()).collect()
    };
    let idempotent = ["produce", "--idempotence", "--bytes", "1M", "--keys", "9"];
    let written = result(&[&idempotent[..], &SMALL].concat());
    let read = result(&["fetch", "--consumers", "3", "--verify", "--partitions", "4"]);
    assert_eq!(read["records"].as_u64(), written["records"].as_u64().map(|count| 3 * count));

    let mixed = ["mixed", "--topic", "m", "--history", "1M", "--rate", "50r"];
    let mixed = result(&[&mixed[..], &moment, &SMALL, &["--allow-missed-rate"]].concat());
    assert_eq!(names(&mixed), ["produce", "tail", "catch-up"]);
    let caught_up = mixed["parts"][2]["bytes"].as_u64();
    assert!(caught_up >= Some(1_000_000), "the history: {caught_up:?}");

    let many = ["partitions", "--topic", "many", "--partitions", "200", "--batch-bytes", "1K"];
    let many = result(&[&many[..], &moment, &["--request-bytes", "16K"]].concat());
    assert_eq!(many["command"], "partitions");
    let search = ["search", "--topic", "s", "--p99", "1h", "--rate", "20r", "--steps", "2"];
    let search = result(&[&search[..], &moment, &SMALL].concat());
    let steps = search["steps"].as_array().expect("there are some");
    assert!((1..=2).contains(&steps.len()), "{steps:?}");
    assert_eq!(steps[0]["asked"]["requests_per_second"], 20.0);
    let commit = ["groups", "commit", "--groups", "3", "--partitions", "2", "--connections", "1"];
    assert_eq!(result(&[&commit[..], &moment].concat())["command"], "groups commit");
}

/// Goal: the base line and the sink need no broker. Method: each for a moment.
#[test]
fn the_disk_and_the_sink_are_measured_without_a_broker() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let mut kinds = vec![vec!["disk", "--dir", folder, "--file-bytes", "1M"]];
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        kinds.push(vec!["sink"]);
    }
    for line in kinds {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain-bench"));
        command.args(&line).args(["--duration", "200ms", "--output", "json"]);
        let ended = Ended(command.output().expect("it was built"));
        assert!(ended.0.status.success(), "{line:?}: {}", ended.stderr());
        let result: Value = serde_json::from_slice(&ended.0.stdout).expect("it is JSON");
        assert!(result["requests"].as_u64() > Some(0), "{line:?}");
    }
}

/// Goal: idle connections are opened, kept and found again. Method: 500 beside two active ones.
#[test]
fn idle_connections_stay_beside_active_ones() {
    let node = Node::start("bench-connections");
    let flags = ["connections", "--idle", "500", "--connections", "2", "--allow-missed-rate"];
    let run = ["--rate", "50r", "--duration", "300ms", "--warmup", "0s", "--output", "json"];
    let ended = node.bench(&[&flags[..], &run, &SMALL].concat());
    assert!(ended.0.status.success(), "{}", ended.stderr());
    let result: Value = serde_json::from_slice(&ended.0.stdout).expect("it is JSON");
    assert_eq!(result["parts"][0]["name"], "active");
    assert!(!ended.stderr_has("were closed"), "{}", ended.stderr());
    assert!(ended.stderr_has("500 connections are open"));
}

/// Goal: a rate that was not held is a failure, unless that is allowed; what was measured is told
/// all the same. Method: a rate that no machine holds, without and with the flag.
#[test]
fn a_missed_rate_is_exit_code_1_unless_it_is_allowed() {
    let node = Node::start("bench-missed-rate");
    let json = node.path("missed.json");
    let rate = ["produce", "--topic", "t", "--rate", "1000000000r", "--warmup", "0s"];
    let run = ["--duration", "300ms", "--output", "json", "--json", &json];
    let line = [&rate[..], &run, &SMALL].concat();
    let allowed = [&line[..], &["--allow-missed-rate"]].concat();
    for (line, code) in [(&line, 1), (&allowed, 0)] {
        let ended = node.bench(line);
        let said = ended.stderr();
        assert_eq!(ended.0.status.code(), Some(code), "{said}");
        let sentences: Vec<&str> = said.lines().filter(|line| !line.contains("WARNING")).collect();
        assert_eq!(sentences.len(), usize::from(code == 1), "{said}");
        assert!(sentences.iter().all(|line| line.contains("--allow-missed-rate")), "{said}");
        assert!(said.contains("achieved only"), "it is told in any case: {said}");
        let result = read_json(&json);
        assert_eq!(result["asked"]["requests_per_second"], 1e9);
        assert!(result["asked"]["achieved_share"].as_f64() < Some(0.99), "{result}");
        let printed: Value = serde_json::from_slice(&ended.0.stdout).expect("it is JSON");
        assert_eq!(printed["records"], result["records"]);
        fs::remove_file(&json).expect("each run writes its own");
    }
}

/// Goal: what goes wrong is one sentence and exit code 1. Method: each of the usual mistakes.
#[test]
fn mistakes_are_one_sentence_and_exit_code_1() {
    let node = Node::start("bench-mistakes");
    let said = node.bench(&["produce", "--topic", "nowhere", "--no-create"]).failure();
    assert!(said.contains("nowhere") && said.contains("--no-create"), "{said}");
    let said = node.bench(&["produce", "--record-file", "/nowhere/at/all"]).failure();
    assert!(said.contains("/nowhere/at/all"), "{said}");
    let said = node.bench(&["end-to-end", "--compression", "lz4"]).failure();
    assert!(said.contains("--compression"), "{said}");
    let said = node.bench(&["search", "--rate", "10r"]).failure();
    assert!(said.contains("--p99"), "{said}");
    let said = node.bench(&["produce", "--broker-pid", "4294967295", "--duration", "1s"]).failure();
    assert!(said.contains("4294967295"), "{said}");
    let nobody = free_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain-bench"));
    let ended = command.args(["produce", "--brokers", &nobody]).output().expect("it was built");
    let said = Ended(ended).failure();
    assert!(said.contains("cannot reach a broker") && said.contains(&nobody), "{said}");
}
