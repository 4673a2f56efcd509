//! The generator itself, measured: what one core of it sends to a sink that answers at once.
//!
//! The sink takes produce requests without looking inside, and does not even copy them: the kernel
//! throws their bytes away. It runs on other cores than the generator. Beside both figures stands
//! that of a bare loop of writes, which is what a socket of this machine takes from one core.

use std::io::{self, IoSlice, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::net::RecvFlags;

use ringmain::base::ids::TopicId;
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::header::encode_response;
use ringmain::protocol::messages::produce::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};

use crate::arguments::{Cli, Command, ProduceArgs, SinkArgs};
use crate::job::{Crew, Job, Measured, Work};
use crate::lane::{Lane, place_thread};
use crate::outcome::{Origin, now_ms, publish};
use crate::pace::{Bounds, Pace};
use crate::produce;
use crate::recorder::Recorder;
use crate::topic::{Leader, Topic};

/// Least figures that the generator must reach from one core: below them it may be the bottleneck.
const BYTES_PER_SECOND_MIN: f64 = 3e9;
const REQUESTS_PER_SECOND_MIN: f64 = 300e3;

/// Version of the produce requests and their answers.
const VERSION: i16 = 9;

/// Where a request's correlation id stands, and an answer's, from the start of the size field.
const REQUEST_ID_FROM: usize = 8;
const REQUEST_ID_END: usize = 12;
const ANSWER_ID_FROM: usize = 4;

/// Bytes of a write of the bare loop.
const BARE_WRITE_BYTES: usize = 1 << 20;

/// Bytes that the sink takes or throws away in one call.
const READ_BYTES: usize = 64 << 10;
const DISCARD_BYTES: usize = 4 << 20;

/// What is sent to find the most bytes and the most requests.
const BYTES_FLAGS: &[&str] =
    &["--record-bytes=1K", "--batch-bytes=64K", "--request-bytes=1M", "--in-flight=4"];
const REQUESTS_FLAGS: &[&str] =
    &["--record-bytes=100", "--batch-bytes=1", "--request-bytes=1", "--in-flight=64"];

/// From a write of the bare loop to its return.
const WRITE: &str = "write";

/// Runs `ringmain-bench sink`.
///
/// # Errors
/// There are no two cores, or the loopback does not work.
pub fn run(args: &SinkArgs, origin: Origin) -> anyhow::Result<()> {
    let cores = allowed_cores()?;
    let own_core = args.cpu.or(cores.last().copied()).context("no core may be used")?;
    let others: Vec<usize> = cores.into_iter().filter(|core| *core != own_core).collect();
    ensure!(!others.is_empty(), "the generator and its sink need a core each");
    let answering = listen(&others, |stream| {
        let _ = answer_all(&stream); // it ends with the connection
    })?;
    let discarding = listen(&others, |stream| {
        let _ = discard(&stream, usize::MAX);
    })?;
    place_thread(&[own_core])?;
    let started_at_ms = now_ms();
    let mut measured = measure_producers("bytes", args, BYTES_FLAGS, answering)?;
    let requests = measure_producers("requests", args, REQUESTS_FLAGS, answering)?;
    let bare = measure_bare(args, discarding)?;
    let bare_bytes_per_second = bare.parts[0].bytes_per_second;
    measured.parts.extend(requests.parts);
    measured.parts.extend(bare.parts);
    measured.warnings.extend(shortfalls(&measured, bare_bytes_per_second));
    let result = origin.result(&args.report, started_at_ms, measured);
    publish(&[result], &args.report)
}

/// What to say where the generator is slower than it must be.
fn shortfalls(measured: &Measured, bare_bytes_per_second: f64) -> Vec<String> {
    let (bytes, requests) = (&measured.parts[0], &measured.parts[1]);
    let mut said = Vec::new();
    if bytes.bytes_per_second < BYTES_PER_SECOND_MIN {
        said.push(format!(
            "one core sends {:.2} GB/s, below {:.0}; a bare loop of writes gets {:.2} here",
            bytes.bytes_per_second / 1e9,
            BYTES_PER_SECOND_MIN / 1e9,
            bare_bytes_per_second / 1e9
        ));
    }
    if requests.requests_per_second < REQUESTS_PER_SECOND_MIN {
        said.push(format!(
            "one core sends {:.0} requests/s, below {REQUESTS_PER_SECOND_MIN:.0}",
            requests.requests_per_second
        ));
    }
    said
}

fn bounds(args: &SinkArgs) -> Bounds {
    Bounds {
        warmup: Some(Duration::from_millis(500)),
        duration: Some(args.duration),
        bytes: None,
        timeout: Duration::from_secs(10),
    }
}

fn measure_producers(
    name: &'static str,
    args: &SinkArgs,
    flags: &[&str],
    address: SocketAddr,
) -> anyhow::Result<Measured> {
    let connections = format!("--connections={}", args.connections);
    let line = ["ringmain-bench", "produce"].iter().chain(flags).copied();
    let cli = <Cli as clap::Parser>::try_parse_from(line.chain([connections.as_str()]))?;
    let Command::Produce(produce_args) = cli.command else { unreachable!("it was asked for") };
    let produce_args: ProduceArgs = *produce_args;
    let topic = Topic {
        name: "sink".to_owned(),
        id: TopicId(1),
        leaders: vec![Leader { address, partitions: (0..16).collect() }],
        produce_version: VERSION,
        fetch_version: -1,
        earliest: Default::default(),
        latest: Default::default(),
    };
    let (crew, _) = produce::crew(name, &produce_args, &topic, None)?;
    Job {
        bounds: bounds(args),
        crews: vec![crew],
        broker_pid: None,
        cpus: None,
        may_miss_rate: true,
        check: None,
    }
    .measure()
}

fn measure_bare(args: &SinkArgs, address: SocketAddr) -> anyhow::Result<Measured> {
    let work = |_| -> Work {
        Box::new(move |pace: &Pace, mut recorder: Recorder| {
            let mut lane = Lane::connect(address, Duration::from_secs(10))?;
            let bytes = vec![b'-'; BARE_WRITE_BYTES];
            loop {
                let began = Instant::now();
                if pace.is_over(began) {
                    return Ok(());
                }
                lane.send(&mut [IoSlice::new(&bytes)])?;
                let now = Instant::now();
                recorder.answered(now, bytes.len() as u64, 0);
                if recorder.counts(now) {
                    recorder.latency(0, now, now - began, 1);
                }
            }
        })
    };
    let work = (0..args.connections).map(work).collect();
    let crew = Crew { name: "bare", series: &[WRITE], rate: None, is_finite: false, work };
    Job {
        bounds: bounds(args),
        crews: vec![crew],
        broker_pid: None,
        cpus: None,
        may_miss_rate: true,
        check: None,
    }
    .measure()
}

/// The cores that this process may use.
fn allowed_cores() -> anyhow::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Serves each connection on a thread of its own, on `cores` only.
fn listen(
    cores: &[usize],
    serve: impl Fn(TcpStream) + Copy + Send + 'static,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let cores = cores.to_vec();
    std::thread::spawn(move || {
        if let Err(error) = place_thread(&cores) {
            eprintln!("ringmain-bench: the sink runs where it likes: {error}");
        }
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Throws away `bytes`, or all until the end.
fn discard(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let mut left = bytes;
    let mut room = vec![0; DISCARD_BYTES.min(bytes)];
    while left > 0 {
        let count = left.min(room.len());
        match rustix::net::recv(stream, &mut room[..count], RecvFlags::TRUNC) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, thrown)) => left -= thrown,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The answer to any request, but for its correlation id.
fn good_answer() -> Vec<u8> {
    let partition = PartitionProduceResponse { index: 0, ..Default::default() };
    let topic = TopicProduceResponse {
        name: "sink",
        partition_responses: vec![partition],
        ..Default::default()
    };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
    encode_response(ApiKey::Produce, VERSION, 0, &response).head
}

/// Answers each request as soon as all of it has come.
fn answer_all(mut stream: &TcpStream) -> io::Result<()> {
    let answer = good_answer();
    let mut room = vec![0; READ_BYTES];
    let mut kept = 0; // bytes of a frame's beginning, at the front of the room
    let mut answers = Vec::new();
    loop {
        let (_, received) = rustix::net::recv(stream, &mut room[kept..], RecvFlags::empty())?;
        if received == 0 {
            return Ok(());
        }
        let end = kept + received;
        let mut start = 0;
        answers.clear();
        while let Some(head) = room[start..end].first_chunk::<REQUEST_ID_END>() {
            let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let frame_bytes = size_of::<u32>() + size as usize;
            let missing_bytes = frame_bytes.saturating_sub(end - start);
            if missing_bytes > 0 {
                stream.write_all(&answers)?; // those before it need not wait
                answers.clear();
                discard(stream, missing_bytes)?;
            }
            let at = answers.len() + ANSWER_ID_FROM;
            answers.extend_from_slice(&answer);
            answers[at..at + 4].copy_from_slice(&head[REQUEST_ID_FROM..]);
            start += frame_bytes.min(end - start);
        }
        stream.write_all(&answers)?;
        room.copy_within(start..end, 0);
        kept = end - start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmain::protocol::header::decode_response;
    use ringmain::protocol::messages::produce::ProduceRequest;

    fn request(id: i32, bytes: usize) -> Vec<u8> {
        let mut frame = ((8 + bytes) as u32).to_be_bytes().to_vec();
        frame.extend([0, 0, 0, VERSION as u8]);
        frame.extend(id.to_be_bytes());
        frame.resize(4 + 8 + bytes, b'-');
        frame
    }

    /// Goal: each request has its answer, whatever its size and however it comes. Method: sizes
    /// around the sink's buffers, in pieces that cut heads.
    #[test]
    fn every_request_is_answered_once_and_in_order() {
        let address = listen(&allowed_cores().expect("there are some"), |stream| {
            drop(answer_all(&stream));
        });
        let address = address.expect("listens");
        let mut lane = Lane::connect(address, Duration::from_secs(20)).expect("connects");
        let sizes = [0, 1, READ_BYTES - 13, READ_BYTES, 3 * READ_BYTES, 5, DISCARD_BYTES + 9, 100];
        let stream: Vec<u8> =
            sizes.iter().enumerate().flat_map(|(id, bytes)| request(id as i32, *bytes)).collect();
        for piece in stream.chunks(65_531) {
            lane.send(&mut [IoSlice::new(piece)]).expect("the sink reads");
        }
        for id in 0..sizes.len() as i32 {
            let body = lane.receive().expect("an answer");
            let (answered, response) =
                decode_response::<ProduceRequest<'_>>(VERSION, lane.bytes(body)).expect("sound");
            assert_eq!(answered, id);
            assert!(response.responses[0].partition_responses[0].error_code.is_none());
        }
    }
}
