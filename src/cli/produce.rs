//! `ringmain produce`: the lines of standard input become records.

use super::output::{Progress, print_json, rate};
use super::{BrokerArgs, CliError, Output, parse_pair};
use crate::base::limits::CLIENT_LINE_BYTES_MAX;
use crate::client::producer::{Acks, Producer, ProducerConfig};
use crate::io::Io;
use crate::protocol::compression::Codec;
use crate::protocol::record::NewRecord;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::{self, Read as _};
use std::time::Duration;

/// Bytes that are read from standard input at once.
const INPUT_BYTES: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// Name of the topic; the broker may create it on first use
    topic: String,
    /// What stands between key and value on a line; a line without it has no key
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    key_separator: Option<String>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Who must have a record before it counts: nobody, the leader, all replicas in sync
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// Send everything to this partition
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header for every record; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// Bytes of records that make a batch full
    #[arg(long, value_name = "BYTES", default_value_t = 512 * 1024,
          value_parser = clap::value_parser!(u32).range(1..=64 * 1024 * 1024))]
    batch_bytes: u32,
    /// Milliseconds to wait for a batch to fill
    #[arg(long, value_name = "MS", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(0..=60_000))]
    linger_ms: u64,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output; text says nothing where all went well
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0", alias = "none")]
    None,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

impl AcksArg {
    fn acks(self) -> Acks {
        match self {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        }
    }
}

/// What was sent so far.
#[derive(Default)]
struct Sent {
    records_count: u64,
    bytes: u64,
}

/// Sends every line and waits until all are acknowledged.
///
/// # Errors
/// The first record that could not be written.
pub async fn run(io: &Io, args: ProduceArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let config = ProducerConfig {
        acks: args.acks.acks(),
        compression: args.compression.codec(),
        batch_bytes: args.batch_bytes as usize,
        linger: Duration::from_millis(args.linger_ms),
        delivery_timeout: cluster.time_limit(),
        ..ProducerConfig::default()
    };
    cluster.topic(&args.topic, true).await?; // a wrong name is told before anything is typed
    let producer = Producer::new(&cluster, config);
    let mut progress = Progress::new(false);
    let mut sent = Sent::default();
    let outcome = send_lines(io, &args, &producer, &mut sent, &mut progress).await;
    let flushed = producer.flush().await;
    progress.clear();
    outcome?;
    flushed?;
    progress.finish(|elapsed| format!("sent {}", rate(sent.records_count, sent.bytes, elapsed)));
    if args.output == Output::Json {
        let (topic, records) = (&args.topic, sent.records_count);
        print_json(&json!({ "topic": topic, "records": records, "bytes": sent.bytes }))?;
    }
    Ok(())
}

async fn send_lines(
    io: &Io,
    args: &ProduceArgs,
    producer: &Producer,
    sent: &mut Sent,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let mut pending: Vec<u8> = Vec::new(); // the start of a line that has not ended
    loop {
        let (outcome, chunk) = io.blocking(read_input).await;
        let is_end = chunk.is_empty();
        outcome
            .map_err(|error| CliError::Failed(format!("cannot read standard input: {error}")))?;
        let mut rest = &chunk[..];
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            if pending.is_empty() {
                send_line(io, args, producer, line, sent).await?;
            } else {
                pending.extend_from_slice(line);
                send_line(io, args, producer, &pending, sent).await?;
                pending.clear();
            }
            rest = after;
        }
        pending.extend_from_slice(rest);
        if pending.len() > CLIENT_LINE_BYTES_MAX {
            let what = format!("a line is longer than {CLIENT_LINE_BYTES_MAX} bytes");
            return Err(CliError::Failed(what));
        }
        if is_end {
            if !pending.is_empty() {
                send_line(io, args, producer, &pending, sent).await?;
            }
            return Ok(());
        }
        progress.show(|elapsed| format!("sent {}", rate(sent.records_count, sent.bytes, elapsed)));
        if let Some(error) = producer.failure() {
            return Err(error.into());
        }
    }
}

/// The next bytes of standard input; none at its end.
fn read_input() -> (io::Result<()>, Vec<u8>) {
    let mut chunk = vec![0; INPUT_BYTES];
    loop {
        match io::stdin().lock().read(&mut chunk) {
            Ok(count) => {
                chunk.truncate(count);
                return (Ok(()), chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), Vec::new()),
        }
    }
}

async fn send_line(
    io: &Io,
    args: &ProduceArgs,
    producer: &Producer,
    line: &[u8],
    sent: &mut Sent,
) -> Result<(), CliError> {
    let (key, value) = split_line(line, args.key_separator.as_deref());
    let headers = args.header.iter().map(|(name, value)| (&**name, Some(value.as_bytes())));
    let headers: Vec<_> = headers.collect();
    let timestamp = io.clock().now_ms();
    let record = NewRecord { timestamp, key, value: Some(value), headers: &headers };
    producer.send(&args.topic, args.partition, &record).await?;
    if let Some(error) = producer.failure() {
        return Err(error.into()); // nothing more is begun
    }
    sent.records_count += 1;
    sent.bytes += line.len() as u64;
    Ok(())
}

/// A line's key, if it has the separator, and its value.
fn split_line<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes) else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// A separator as it is written on a command line: `\t` is a tab.
///
/// # Errors
/// A sentence: it is empty or holds a line's end.
pub fn parse_separator(text: &str) -> Result<String, String> {
    let separator = text.replace("\\t", "\t");
    if separator.is_empty() || separator.contains('\n') {
        return Err("one or more characters are expected, none of them a line's end".to_owned());
    }
    Ok(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the first separator splits, its absence means no key. Method: lines of each kind.
    #[test]
    fn a_line_splits_at_its_first_separator() {
        let none: Option<&[u8]> = None;
        assert_eq!(split_line(b"a:b", None), (none, &b"a:b"[..]));
        assert_eq!(split_line(b"a:b:c", Some(":")), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split_line(b"a=>b", Some("=>")), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split_line(b"ab", Some(":")), (none, &b"ab"[..]));
        assert_eq!(split_line(b":", Some(":")), (Some(&b""[..]), &b""[..]));
        assert_eq!(split_line(b"", Some("::")), (none, &b""[..]));
        assert_eq!(parse_separator("\\t"), Ok("\t".to_owned()));
        assert!(parse_separator("").is_err());
    }
}
