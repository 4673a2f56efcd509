//! What the command line says: the flags of each subcommand, and sizes and times as people write
//! them.
//!
//! Knows no sockets. A value that cannot be used is refused here, with what would be right.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use ringmain::protocol::compression::Codec;

use crate::member::Protocol;

/// Most cores that `--cpus` may name: the size of the kernel's fixed set.
const CPUS_MAX: usize = 1024;

/// Load generator for Kafka brokers: prebuilt batches, one closed loop a connection.
#[derive(Parser)]
#[command(name = "ringmain-bench", version, about)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Send prebuilt batches and time the acknowledgements
    Produce(Box<ProduceArgs>),
    /// Read a topic from its beginning or its end and time the answers
    Fetch(Box<FetchArgs>),
    /// Measure consumer groups: heartbeats, rebalances, commits of offsets
    #[command(subcommand)]
    Groups(GroupsCommand),
    /// Time a direct overwrite plus fdatasync with plain blocking system calls
    Disk(DiskArgs),
    /// Wait until a topic's partitions all have a leader that answers, and say how long that took
    Ready(ReadyArgs),
}

/// Which topic of which brokers.
#[derive(Args, Clone)]
pub struct TargetArgs {
    /// Brokers to ask for the cluster's layout, host:port[,host:port]
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// Topic to use; created when it does not exist
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions of the topic when it is created
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub partitions: u32,
    /// Copies of each partition when the topic is created
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub replication: u16,
    /// Setting of the topic when it is created, name=value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub topic_config: Vec<(String, String)>,
    /// Delete the topic first if it exists: its records are lost
    #[arg(long)]
    pub recreate: bool,
}

/// How long, how wide, and how to report.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Connections, each a closed loop of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// Requests that one connection keeps unanswered
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub in_flight: u16,
    /// Measured time, such as 10s or 500ms; 10s unless --bytes or the end of the data bounds the
    /// run
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Time before the measurement begins; 1s, or none where the run is not bound by time
    #[arg(long, value_parser = parse_duration)]
    pub warmup: Option<Duration>,
    /// End after this many bytes of batches, such as 8G
    #[arg(long, value_parser = parse_bytes)]
    pub bytes: Option<u64>,
    /// Cores that the load generator's threads may use, such as 0,1 or 2-3
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
    /// Longest wait for an answer before the connection is given up
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    pub timeout: Duration,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `produce`.
#[derive(Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Bytes of one record's value
    #[arg(long, value_parser = parse_bytes, default_value = "1K")]
    pub record_bytes: u64,
    /// Bytes of one batch before compression, at most; one record at least
    #[arg(long, value_parser = parse_bytes, default_value = "64K")]
    pub batch_bytes: u64,
    /// Bytes of batches in one request, each for another partition
    #[arg(long, value_parser = parse_bytes, default_value = "1M")]
    pub request_bytes: u64,
    /// Who must have a batch before it is acknowledged: 0, 1 or all
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Number the batches, as Kafka's producers do by default: each connection is a producer
    #[arg(long)]
    pub idempotence: bool,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    pub compression: Codec,
}

/// Flags of `fetch`.
#[derive(Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Where to begin in each partition
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    pub from: From,
    /// Go on at the end of the data and wait for more, until the time is up
    #[arg(long, conflicts_with = "repeat")]
    pub follow: bool,
    /// Begin again when the end of the data is reached, until the time is up
    #[arg(long)]
    pub repeat: bool,
    /// Bytes of batches in one answer, at most
    #[arg(long, value_parser = parse_bytes, default_value = "1M")]
    pub request_bytes: u64,
    /// Bytes of one partition in one answer, at most
    #[arg(long, value_parser = parse_bytes, default_value = "1M")]
    pub partition_bytes: u64,
    /// How long the broker may hold an answer back while there is nothing to send
    #[arg(long, value_parser = parse_duration, default_value = "500ms")]
    pub wait: Duration,
    /// Check the CRC of every batch
    #[arg(long)]
    pub verify: bool,
}

/// What is measured of groups.
#[derive(Subcommand)]
pub enum GroupsCommand {
    /// Keep many groups alive, and take the CPU that their heartbeats cost the broker
    Heartbeat(HeartbeatArgs),
    /// Let a member join a large group, and time until all have their partitions again
    Rebalance(RebalanceArgs),
    /// Commit offsets of many groups, and time the answers
    Commit(CommitArgs),
}

/// Whose groups, of which topic, by which protocol.
#[derive(Args, Clone)]
pub struct GroupTargetArgs {
    /// Brokers to ask for the cluster's layout, host:port[,host:port]
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// Topic that the groups read; created when missing [default: bench-groups-PARTITIONS]
    #[arg(long)]
    pub topic: Option<String>,
    /// Setting of the topic when it is created, name=value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub topic_config: Vec<(String, String)>,
    /// Protocol of the groups
    #[arg(long, value_enum, default_value_t = Protocol::Classic)]
    pub protocol: Protocol,
    /// Time between heartbeats [default: what the broker asks for; 3s in the classic protocol]
    #[arg(long, value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// Process of the broker, whose CPU time is taken
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Cores that the load generator's threads may use, such as 0,1 or 2-3
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
    /// Longest wait for the groups to settle
    #[arg(long, value_parser = parse_duration, default_value = "60s")]
    pub timeout: Duration,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `groups heartbeat`.
#[derive(Args)]
pub struct HeartbeatArgs {
    #[command(flatten)]
    pub target: GroupTargetArgs,
    /// Number of groups
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub groups: u32,
    /// Members of each group, with a connection and a thread each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub members: u32,
    /// Partitions of the topic when it is created
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub partitions: u32,
    /// Time between all groups having settled and the measurement
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    pub warmup: Duration,
    /// Measured time
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    pub duration: Duration,
}

/// Flags of `groups rebalance`.
#[derive(Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    pub target: GroupTargetArgs,
    /// Members of the group, the one that joins included
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub members: u32,
    /// Partitions of the topic when it is created
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub partitions: u32,
    /// How often the last member joins
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
}

/// Flags of `groups commit`.
#[derive(Args)]
pub struct CommitArgs {
    /// Brokers to ask for the cluster's layout, host:port[,host:port]
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// Topic whose offsets are committed; created when it does not exist
    #[arg(long, default_value = "bench-commit")]
    pub topic: String,
    /// Partitions of the topic when it is created
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Setting of the topic when it is created, name=value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub topic_config: Vec<(String, String)>,
    /// Number of groups that are committed for
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub groups: u32,
    /// Partitions with an offset in each commit
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions_per_commit: u32,
    /// Process of the broker, whose CPU time is taken
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    #[command(flatten)]
    pub run: RunArgs,
}

impl GroupTargetArgs {
    /// The topic of `partitions` that the groups read.
    pub fn topic_args(&self, partitions: u32) -> TargetArgs {
        TargetArgs {
            brokers: self.brokers.clone(),
            topic: self.topic.clone().unwrap_or_else(|| format!("bench-groups-{partitions}")),
            partitions,
            replication: 1,
            topic_config: self.topic_config.clone(),
            recreate: false,
        }
    }
}

impl CommitArgs {
    /// The topic whose offsets are committed.
    pub fn topic_args(&self) -> TargetArgs {
        TargetArgs {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            partitions: self.partitions,
            replication: 1,
            topic_config: self.topic_config.clone(),
            recreate: false,
        }
    }
}

/// Flags of `disk`.
#[derive(Args)]
pub struct DiskArgs {
    /// Directory on the disk to measure; one file is made there and removed afterwards
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes of one write, a multiple of 4096
    #[arg(long, value_parser = parse_bytes, default_value = "4K")]
    pub block_bytes: u64,
    /// Bytes of the file, which is written whole before the measurement begins
    #[arg(long, value_parser = parse_bytes, default_value = "64M")]
    pub file_bytes: u64,
    /// Measured time
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `ready`.
#[derive(Args)]
pub struct ReadyArgs {
    /// Brokers to ask, host:port[,host:port]
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// Topic whose partitions must all answer
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions that must answer, at least
    #[arg(long, default_value_t = 1)]
    pub partitions: u32,
    /// Give up after this long
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    pub timeout: Duration,
}

/// Who must have a batch before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Acks {
    /// Nobody: there is no answer
    #[value(name = "0")]
    None,
    /// The partition's leader
    #[value(name = "1")]
    Leader,
    /// The whole in-sync set
    #[value(name = "all", alias = "-1")]
    All,
}

/// Where a reader begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum From {
    /// The oldest record there is
    Earliest,
    /// Behind the newest record there is
    Latest,
}

/// Shape of the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// A summary for people
    Text,
    /// One line of JSON
    Json,
}

/// A set of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// Reads `4096`, `16K`, `1MiB`, `8g`: powers of 1024, 1 at least.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits_count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_count);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("'{unit}' is no unit: use K, M, G or T (powers of 1024)")),
    };
    let count: u64 = digits.parse().map_err(|_| "write a number, such as 64K".to_owned())?;
    match count.checked_mul(1 << shift) {
        Some(0) => Err("must be 1 at least".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("is more than 64 bits hold".to_owned()),
    }
}

/// Reads `10s`, `500ms`, `2m`, `1.5s`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let number_bytes = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(number_bytes);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{unit}' is no unit: use us, ms, s, m or h")),
    };
    let count: f64 = number.parse().map_err(|_| "write a number, such as 10s".to_owned())?;
    Duration::try_from_secs_f64(count * seconds_per_unit).map_err(|error| error.to_string())
}

/// Reads `0,2-3`.
fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = |part: &str| format!("'{part}' is neither a core's number nor a range like 2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong(part))?;
        let last: usize = last.trim().parse().map_err(|_| wrong(part))?;
        if first > last || last >= CPUS_MAX {
            return Err(wrong(part));
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value, such as retention.bytes=1073741824".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_never_zero() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("16K"), Ok(16 << 10));
        assert_eq!(parse_bytes("8GiB"), Ok(8 << 30));
        assert!(parse_bytes("0").is_err());
        assert!(parse_bytes("K").is_err());
        assert!(parse_bytes("1x").is_err());
        assert!(parse_bytes("99999999999T").is_err());
    }

    #[test]
    fn times_have_units_and_a_bare_number_is_seconds() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("fast").is_err());
        assert!(parse_duration("5 days").is_err());
    }

    #[test]
    fn cores_are_listed_singly_or_as_a_range() {
        assert_eq!(parse_cpus("0,2-4"), Ok(Cpus(vec![0, 2, 3, 4])));
        assert!(parse_cpus("3-1").is_err());
        assert!(parse_cpus("").is_err());
        assert!(parse_cpus("0-99999999999").is_err());
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
