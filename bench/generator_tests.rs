//! The generator against a scripted broker: its figures are those that the script makes true.
//!
//! No bound here is a speed: lower bounds are the script's delays, counts are the schedule's.

use std::time::{Duration, Instant};

use clap::Parser as _;
use hdrhistogram::Histogram;
use ringmain::protocol::error::ErrorCode;

use crate::arguments::{Cli, Command, EndToEndArgs, ProduceArgs};
use crate::job::{Job, Measured};
use crate::outcome::Origin;
use crate::pace::Bounds;
use crate::result::{Part, decode_histogram, parse_results};
use crate::scripted::{ScriptedBroker, TOPIC};
use crate::{end_to_end, produce};

const MS: Duration = Duration::from_millis(1);
const DELAY: Duration = Duration::from_millis(20);

fn produce_args(flags: &[&str]) -> ProduceArgs {
    let small = ["--record-bytes=100", "--batch-bytes=1K", "--warmup=0s", "--topic", TOPIC];
    let one = ["--partitions=1", "--timeout=20s"];
    let line = ["ringmain-bench", "produce"].iter().chain(&small).chain(&one).chain(flags);
    let Command::Produce(args) = Cli::parse_from(line).command else { unreachable!() };
    *args
}

fn job(broker: &ScriptedBroker, args: &ProduceArgs) -> Job {
    let mut args = args.clone();
    args.load.request_bytes = args.load.linger.is_none().then_some(1); // one batch
    let (crew, _) = produce::crew("produce", &args, &broker.topic(), None).expect("fits");
    let bounds = args.run.bounds();
    Job {
        bounds,
        crews: vec![crew],
        broker_pid: None,
        cpus: None,
        may_miss_rate: false,
        check: None,
    }
}

fn measure(broker: &ScriptedBroker, flags: &[&str]) -> Measured {
    job(broker, &produce_args(flags)).measure().expect("the broker answers")
}

fn histogram(part: &Part, name: &str) -> Histogram<u64> {
    let series = part.series.iter().find(|series| series.name == name).expect("it was recorded");
    decode_histogram(&series.histogram).expect("its own")
}

/// Values of `ms` and more. Histograms keep 3 digits, so a value may stand a little lower.
fn count_from(histogram: &Histogram<u64>, ms: u64) -> u64 {
    histogram.count_between(ms * 1000 - ms, u64::MAX)
}

/// Goal: latencies are the broker's delays. Method: 20 ms each; a closed loop of one in flight.
#[test]
fn a_closed_loop_measures_the_delays_of_the_broker() {
    let broker = ScriptedBroker::with_delay(DELAY);
    let measured = measure(&broker, &["--duration=600ms", "--connections=1", "--in-flight=1"]);
    let part = &measured.parts[0];
    let latencies = histogram(part, "publish");
    assert!(part.requests > 0);
    assert_eq!(latencies.len(), part.requests);
    assert_eq!(count_from(&latencies, 20), latencies.len(), "none is below the delay");
    assert!(part.requests <= 30, "600 ms hold no more than 30 times 20: {}", part.requests);
    assert_eq!(part.series[0].intervals.len(), 1);
    assert!(part.asked.is_none() && measured.warnings.is_empty());
}

/// Goal: the rate is what was asked for: no request is early, none is left out. Method: 100 a
/// second over 4 connections; the broker notes when they come.
#[test]
fn a_fixed_rate_sends_what_is_due_and_never_before() {
    let broker = ScriptedBroker::with_delay(DELAY);
    let began = Instant::now();
    let flags = ["--duration=1s", "--connections=4", "--in-flight=50", "--rate=100r"];
    let part = measure(&broker, &flags).parts.remove(0);
    let latencies = histogram(&part, "publish");
    assert_eq!(latencies.len(), 100, "each that was due has a latency");
    assert_eq!(count_from(&latencies, 20), 100, "none is below the delay");
    let arrivals = broker.arrivals();
    assert!(arrivals.len() <= 100);
    for (index, at) in arrivals.iter().enumerate() {
        let due = began + 10 * MS * index as u32;
        assert!(*at >= due, "request {index} came {:?} early", due - *at);
    }
    let asked = part.asked.as_ref().expect("there is a rate");
    assert_eq!(asked.requests_per_second, 100.0);
    assert_eq!(asked.achieved_share, part.requests as f64 / 100.0);
    assert!(histogram(&part, "schedule").len() as usize >= part.requests as usize);
}

/// Goal: coordinated omission is caught. Method: the broker answers nothing for a second; at a
/// fixed rate the requests that were due then have waited, in a closed loop they do not exist.
#[test]
fn a_stall_shows_at_a_fixed_rate_where_a_closed_loop_hides_it() {
    let stalled = || {
        ScriptedBroker::start(|at| {
            let is_stalled = (200 * MS..1200 * MS).contains(&at);
            (if is_stalled { 1200 * MS } else { at + MS }, ErrorCode::None)
        })
    };
    let run = ["--duration=1400ms", "--connections=1", "--in-flight=1"];
    let broker = stalled();
    let closed = histogram(&measure(&broker, &run).parts[0], "publish");
    assert_eq!(count_from(&closed, 500), 1, "a closed loop sees one slow request");

    let broker = stalled();
    let part = measure(&broker, &[&run[..], &["--rate=200r"]].concat()).parts.remove(0);
    let open = histogram(&part, "publish");
    assert_eq!(open.len(), 280, "200 a second for 1.4 s");
    // Of the 200 that were due in the stall, those of its first half waited half a second or more.
    // The first request may have come late, and the stall with it; each other is due 5 ms later.
    assert!(count_from(&open, 500) >= 90, "{}", count_from(&open, 500));
    assert!(open.value_at_quantile(0.99) >= 800_000, "{}", open.value_at_quantile(0.99));
    let share_open = count_from(&open, 500) as f64 / open.len() as f64;
    let share_closed = count_from(&closed, 500) as f64 / closed.len() as f64;
    assert!(share_open > share_closed);
    let schedule = histogram(&part, "schedule");
    assert!(count_from(&schedule, 500) >= 80, "they left late, and that is told");
}

/// Goal: what was never answered in time, or never sent, does not look better than what was late.
/// Method: a broker that stops answering until after the end.
#[test]
fn a_stall_at_the_end_is_charged_as_well() {
    let broker = ScriptedBroker::start(|at| {
        (if at >= 200 * MS { 1700 * MS } else { at + MS }, ErrorCode::None)
    });
    let flags = ["--duration=1200ms", "--connections=1", "--in-flight=2", "--rate=100r"];
    let measured = measure(&broker, &flags);
    let part = &measured.parts[0];
    let latencies = histogram(part, "publish");
    assert_eq!(latencies.len(), 120, "each that was due has a latency");
    assert!(count_from(&latencies, 400) >= 30, "{}", count_from(&latencies, 400));
    assert!(part.requests < 60, "few were answered: {}", part.requests);
    assert!(measured.warnings.iter().any(|warning| warning.contains("achieved only")));
    assert!(measured.failure.expect("it is an error").contains("cannot be held"));
}

/// Goal: with --linger each record counts from the time when it came. Method: 1000 records a
/// second for 5 ms batches, answered after 20 ms.
#[test]
fn lingering_records_count_from_their_own_time() {
    let broker = ScriptedBroker::with_delay(DELAY);
    let flags = ["--duration=600ms", "--connections=1", "--in-flight=50", "--rate=1000rec"];
    let part = measure(&broker, &[&flags[..], &["--linger=5ms"]].concat()).parts.remove(0);
    let latencies = histogram(&part, "publish");
    let batch_records = part.records / part.requests;
    assert_eq!(batch_records, 6, "at 0, 1, 2, 3, 4 and 5 ms");
    assert_eq!(latencies.len(), 100 * batch_records, "600 records, all of them");
    assert_eq!(count_from(&latencies, 20), latencies.len());
    let oldest_of_each = latencies.len() / batch_records;
    assert!(count_from(&latencies, 25) >= oldest_of_each, "the first has lingered for 5 ms");
}

/// Goal: errors are counted by name and are no throughput. Method: every answer after 100 ms is
/// one.
#[test]
fn errors_are_counted_by_name_and_are_no_throughput() {
    let broker = ScriptedBroker::start(|at| {
        let is_late = at >= 100 * MS;
        (at + MS, if is_late { ErrorCode::NotLeaderOrFollower } else { ErrorCode::None })
    });
    let flags = ["--duration=400ms", "--connections=1", "--in-flight=4", "--rate=100r"];
    let part = measure(&broker, &flags).parts.remove(0);
    let errors = part.errors_by_name.get("NOT_LEADER_OR_FOLLOWER").copied().unwrap_or(0);
    assert!(errors > 0);
    assert_eq!(part.errors, errors);
    assert!(part.requests + part.errors <= 40);
    assert_eq!(part.timeline.iter().map(|slice| slice.errors).sum::<u64>(), errors);
}

/// Goal: a result reads back as it was written, with figures that agree. Method: the longest way,
/// over the document's text.
#[test]
fn a_result_reads_back_with_figures_that_agree() {
    let broker = ScriptedBroker::with_delay(MS);
    let args = produce_args(&["--duration=1200ms", "--rate=100r"]);
    let measured = job(&broker, &args).measure().expect("the broker answers");
    let origin = Origin { command: "produce".to_owned(), ..Origin::default() };
    let result = origin.result(&args.run.report, 0, measured);
    let text = serde_json::to_string(&result).expect("encodes");
    assert_eq!(parse_results(&text).expect("its own"), std::slice::from_ref(&result));
    let part = &result.parts[0];
    assert_eq!((part.requests, part.bytes), (result.requests, result.bytes));
    let sums = part
        .timeline
        .iter()
        .fold((0, 0), |sum, slice| (sum.0 + slice.requests, sum.1 + slice.bytes));
    assert_eq!(sums, (result.requests, result.bytes));
    let whole = histogram(part, "publish");
    let of_intervals = part.series[0]
        .intervals
        .iter()
        .map(|interval| decode_histogram(&interval.histogram).expect("its own").len());
    assert_eq!(of_intervals.sum::<u64>(), whole.len());
    assert_eq!(result.latency_us.max, whole.max() as f64);
}

fn end_to_end_job(broker: &ScriptedBroker, flags: &[&str]) -> Job {
    let base = ["--record-bytes=100", "--batch-bytes=1K", "--request-bytes=1", "--warmup=0s"];
    let line = ["ringmain-bench", "end-to-end"].iter().chain(&base).chain(flags);
    let Command::EndToEnd(args) = Cli::parse_from(line).command else { unreachable!() };
    let args: EndToEndArgs = *args;
    end_to_end::job_of(&args, &broker.topic()).expect("fits")
}

/// Goal: each record that is acknowledged is met again, and its time runs from its intended
/// sending. Method: it becomes visible 20 ms after it came, to two consumers.
#[test]
fn records_are_met_again_and_their_time_is_from_their_sending() {
    let broker = ScriptedBroker::with_delay(DELAY);
    let flags = ["--duration=600ms", "--connections=2", "--rate=100r", "--consumers=2"];
    let measured = end_to_end_job(&broker, &flags).measure().expect("the broker answers");
    assert_eq!(measured.warnings.iter().find(|w| w.contains("did not reach")), None);
    let (tail, produce) = (&measured.parts[0], &measured.parts[1]);
    let arrived = histogram(tail, "end_to_end");
    let sent_count = broker.arrivals().len() as u64;
    assert!(sent_count > 0);
    assert_eq!(arrived.len(), 2 * sent_count, "each consumer gets all");
    assert_eq!(count_from(&arrived, 20), arrived.len(), "none is visible before");
    assert!(histogram(produce, "publish").len() >= sent_count);
}

/// Goal: what goes wrong before a run is one sentence. Method: nobody listens; a broker without a
/// common version; a topic that is not there.
#[test]
fn what_goes_wrong_before_a_run_is_said_in_a_sentence() {
    let refusal = |brokers: &str, flags: &[&str]| {
        let mut args = produce_args(flags);
        args.target.brokers = brokers.to_owned();
        let error = produce::prepare(&args).err().expect("it cannot run");
        format!("{error:#}")
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = closed.local_addr().expect("bound").to_string();
    drop(closed);
    let said = refusal(&nobody, &[]);
    assert!(said.contains("cannot reach a broker") && said.contains(&nobody), "{said}");

    let address = ScriptedBroker::with_delay(MS).address().to_string();
    let said = refusal(&address, &["--no-create"]);
    assert!(said.contains(TOPIC) && said.contains("--no-create"), "{said}");
    assert!(said.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{said}");

    let old = ScriptedBroker::with_versions(|at| (at, ErrorCode::None), 2);
    let said = refusal(&old.address().to_string(), &[]);
    assert!(said.contains("does not serve Produce"), "{said}");
}

/// Goal: a run whose broker goes away for good ends with its reason. Method: nobody listens.
#[test]
fn a_broker_that_is_gone_ends_the_run_with_the_reason() {
    let broker = ScriptedBroker::with_delay(MS);
    let args = produce_args(&["--duration=60s", "--request-bytes=1"]);
    let mut topic = broker.topic();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    topic.leaders[0].address = closed.local_addr().expect("bound");
    drop(closed);
    let (crew, _) = produce::crew("produce", &args, &topic, None).expect("fits");
    let bounds = Bounds { timeout: 100 * MS, ..args.run.bounds() };
    let job = Job {
        bounds,
        crews: vec![crew],
        broker_pid: None,
        cpus: None,
        may_miss_rate: true,
        check: None,
    };
    let error = format!("{:#}", job.measure().err().expect("nobody is there"));
    assert!(error.contains("no connection any more"), "{error}");
}
