//! Producing on a few connections while thousands of others are open and idle: `connections`.
//!
//! The idle ones are opened by a few threads, have asked for the broker's versions as every client
//! does, and are asked once more when the measurement is over: so it is known which are still open.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use ringmain::protocol::header::encode_request;
use ringmain::protocol::messages::api_versions::ApiVersionsRequest;

use crate::CLIENT_ID;
use crate::arguments::ConnectionsArgs;
use crate::groups::allow_files;
use crate::job::Job;
use crate::lane::SIZE_BYTES;
use crate::produce;
use crate::topic;

/// Threads that open connections, and ask on them.
const OPENERS_COUNT: usize = 4;

/// Open files beside the connections.
const FILES_SPARE: u64 = 64;

/// Largest answer that tells a broker's versions, bytes: more is taken for a broken stream.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Makes `ringmain-bench connections` ready to run, with all its idle connections open.
///
/// # Errors
/// There may not be so many open files, a connection is refused, or those of `produce`.
pub fn prepare(args: &ConnectionsArgs) -> anyhow::Result<Job> {
    let run = &args.produce.run;
    let idle_count = args.idle as usize;
    allow_files(u64::from(args.idle) + u64::from(run.connections) + FILES_SPARE)?;
    let topic = topic::prepare(&args.produce.target)?;
    let (crew, _) = produce::crew("active", &args.produce, &topic, None)?;
    let addresses: Vec<SocketAddr> = topic.leaders.iter().map(|leader| leader.address).collect();
    let began = Instant::now();
    let idle = open(&addresses, idle_count, run.timeout)?;
    eprintln!("{idle_count} connections are open after {:.2} s", began.elapsed().as_secs_f64());
    let check = move || {
        let open_count = still_open(idle);
        let closed_count = idle_count - open_count;
        let lost = format!("{closed_count} of {idle_count} idle connections were closed");
        if closed_count > 0 { vec![lost] } else { Vec::new() }
    };
    Ok(Job {
        bounds: run.bounds(),
        crews: vec![crew],
        broker_pid: run.report.broker_pid,
        cpus: run.cpus.clone(),
        may_miss_rate: args.produce.load.allow_missed_rate,
        check: Some(Box::new(check)),
    })
}

/// Opens `count` connections, to each address equally many, and asks for versions on each.
fn open(
    addresses: &[SocketAddr],
    count: usize,
    timeout: Duration,
) -> anyhow::Result<Vec<TcpStream>> {
    ensure!(!addresses.is_empty(), "no broker leads a partition of the topic");
    let opener = |turn: usize| {
        let indexes = (turn..count).step_by(OPENERS_COUNT);
        indexes
            .map(|index| {
                let address = addresses[index % addresses.len()];
                open_one(address, timeout)
                    .with_context(|| format!("opening connection {} to {address}", index + 1))
            })
            .collect::<anyhow::Result<Vec<TcpStream>>>()
    };
    let opener = &opener;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..OPENERS_COUNT).map(|turn| scope.spawn(move || opener(turn))).collect();
        let mut streams = Vec::with_capacity(count);
        for thread in threads {
            streams.extend(thread.join().map_err(|_| anyhow!("an opener panicked"))??);
        }
        Ok(streams)
    })
}

fn open_one(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    ask(&mut stream)?;
    Ok(stream)
}

/// Asks for the broker's versions and waits for the answer.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let request = encode_request(0, 0, Some(CLIENT_ID), &ApiVersionsRequest::default());
    stream.write_all(&request.head)?;
    let mut size = [0; SIZE_BYTES];
    stream.read_exact(&mut size)?;
    let bytes = u32::from_be_bytes(size) as usize;
    if bytes > ANSWER_BYTES_MAX {
        let reason = format!("an answer of {bytes} bytes; is this a Kafka broker?");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    stream.read_exact(&mut vec![0; bytes])
}

/// How many of the connections still answer.
fn still_open(mut streams: Vec<TcpStream>) -> usize {
    let share = streams.len().div_ceil(OPENERS_COUNT).max(1);
    std::thread::scope(|scope| {
        let asker = |share: &mut [TcpStream]| {
            share.iter_mut().filter_map(|stream| ask(stream).ok()).count()
        };
        let threads: Vec<_> =
            streams.chunks_mut(share).map(|share| scope.spawn(move || asker(share))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Goal: connections that were closed are told from those that stayed. Method: a broker that
    /// answers each first question, and a second one on half of the connections.
    #[test]
    fn connections_that_were_closed_meanwhile_are_missed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let broker = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for index in 0..20 {
                let (mut stream, _) = listener.accept().expect("a client");
                answer(&mut stream);
                if index % 2 == 0 {
                    kept.push(stream);
                }
            }
            kept.iter_mut().for_each(answer);
        });
        let streams = open(&[address], 20, Duration::from_secs(10)).expect("it answers");
        assert_eq!(still_open(streams), 10);
        broker.join().expect("served all");
    }

    fn answer(stream: &mut TcpStream) {
        let mut size = [0; 4];
        stream.read_exact(&mut size).expect("a question");
        stream.read_exact(&mut vec![0; u32::from_be_bytes(size) as usize]).expect("all of it");
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0]).expect("it waits");
    }
}
