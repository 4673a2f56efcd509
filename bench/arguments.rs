//! What the command line says: the flags of each subcommand.
//!
//! A workload file has the same names: each of its workloads is read as a command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use ringmain::protocol::compression::Codec;

use crate::files::{ComparisonArgs, FileArgs};
use crate::member::Protocol;
use crate::pace::Bounds;
use crate::units::{
    Cpus, Rate, parse_bytes, parse_cpus, parse_duration, parse_rate, parse_setting,
};

/// Partitions of the workload that is about many of them.
const PARTITIONS_MANY: &str = "4000";

/// Load generator for Kafka brokers: prebuilt batches, as fast as they go or at a fixed rate.
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
    /// Time records from their intended sending to their receipt, on one clock
    EndToEnd(Box<EndToEndArgs>),
    /// Produce, follow and catch up at once, each with figures of its own
    Mixed(Box<MixedArgs>),
    /// Produce on a few connections while thousands of others are open and idle
    Connections(Box<ConnectionsArgs>),
    /// Produce to thousands of partitions
    Partitions(Box<ProduceArgs>),
    /// Find the highest rate at which the latency of producing holds a goal
    Search(Box<SearchArgs>),
    /// Run the workloads of a file, one after the other or together
    Run(RunFileArgs),
    /// Measure the generator itself, on one core, against a sink that answers at once on others;
    /// the CPU time that is told is of both
    Sink(SinkArgs),
    /// Measure consumer groups: heartbeats, rebalances, commits of offsets
    #[command(subcommand)]
    Groups(GroupsCommand),
    /// Time a direct overwrite plus fdatasync with plain blocking system calls
    Disk(DiskArgs),
    /// Wait until a topic's partitions all have a leader that answers, and say how long that took
    Ready(ReadyArgs),
    /// Lay results of earlier runs beside each other: a table, and a page with --html
    Report(ComparisonArgs),
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
    /// Fail where the topic does not exist, instead of creating it
    #[arg(long, conflicts_with = "recreate")]
    pub no_create: bool,
}

/// How long, how wide, and how to report.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Connections, each with a thread of its own
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
    #[command(flatten)]
    pub report: ReportArgs,
}

/// What is said about the run, and where.
#[derive(Args, Clone)]
pub struct ReportArgs {
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Write the whole result, with its histograms, to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What is under test, in your words [default: the brokers' addresses]
    #[arg(long)]
    pub label: Option<String>,
    /// Process of the broker on this host, whose CPU time, memory, disk traffic and context
    /// switches are taken
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    #[command(flatten)]
    pub files: FileArgs,
}

/// Flags of `produce`.
#[derive(Args, Clone)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

/// What is sent, and how fast.
#[derive(Args, Clone)]
pub struct LoadArgs {
    /// Bytes of one record's value
    #[arg(long, value_parser = parse_bytes, default_value = "1K")]
    pub record_bytes: u64,
    /// Take the records' values from the lines of this file, in turn, instead of making them up
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record_bytes", "randomness"])]
    pub record_file: Option<PathBuf>,
    /// Share of the values' bytes that are random, from 0 to 1; the others are all alike. By
    /// default bytes are letters with 4 bits of entropy each
    #[arg(long, value_parser = parse_share)]
    pub randomness: Option<f64>,
    /// Give the records keys, this many different ones; they do not decide about partitions
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub keys: Option<u32>,
    /// Bytes of one batch before compression, at most; one record at least
    #[arg(long, value_parser = parse_bytes, default_value = "64K")]
    pub batch_bytes: u64,
    /// Bytes of batches in one request, each for another partition [default: 1M; with --linger one
    /// batch]
    #[arg(long, value_parser = parse_bytes)]
    pub request_bytes: Option<u64>,
    /// Who must have a batch before it is acknowledged: 0, 1 or all
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Number the batches, as Kafka's producers do by default: each connection is a producer
    #[arg(long)]
    pub idempotence: bool,
    /// Look for answers without sleeping: takes a core a connection, and leaves out of the
    /// latencies how long this machine takes to wake a thread
    #[arg(long)]
    pub busy_poll: bool,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    pub compression: Codec,
    /// Send at this rate, whatever the broker does, and count every latency from the time when the
    /// request was to be sent: 20MB (10^6 bytes a second, of batches as they are sent), 5000r
    /// (requests a second) or 100krec (records a second) of all connections together. Without it
    /// each connection sends the next request when an answer has come
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<Rate>,
    /// End well also where less than 99 % of --rate was achieved. That is told in any case; without
    /// this it is an error, too, after all that was measured has been written
    #[arg(long)]
    pub allow_missed_rate: bool,
    /// Let records come evenly at --rate and batches wait for them as a client's do: a batch is
    /// sent when it is full or its first record is so old. Latencies are then counted for each
    /// record from the time when it came. Batches are built before all the same, so with a fixed
    /// rate every one has as many records as this gives it
    #[arg(long, value_parser = parse_duration, requires = "rate", conflicts_with = "request_bytes")]
    pub linger: Option<Duration>,
}

/// Flags of `fetch`.
#[derive(Args, Clone)]
pub struct FetchArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Where to begin in each partition
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    pub from: From,
    /// Go on at the end of the data and wait for more, until the time is up, with one request a
    /// connection at a time: an answer that waits for data holds up those behind it
    #[arg(long, conflicts_with = "repeat")]
    pub follow: bool,
    /// Begin again when the end of the data is reached, until the time is up
    #[arg(long)]
    pub repeat: bool,
    /// Readers that each read the whole topic, over --connections of their own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub consumers: u16,
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

/// How consumers follow what is produced.
#[derive(Args, Clone)]
pub struct TailArgs {
    /// Consumers that each read everything as it comes, over a connection of their own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=4096))]
    pub consumers: u16,
    /// How long the broker may hold a fetch's answer back while there is nothing to send
    #[arg(long, value_parser = parse_duration, default_value = "500ms")]
    pub fetch_wait: Duration,
    /// Bytes of batches in one answer to a fetch, at most
    #[arg(long, value_parser = parse_bytes, default_value = "1M")]
    pub fetch_bytes: u64,
}

/// Flags of `end-to-end`.
#[derive(Args, Clone)]
pub struct EndToEndArgs {
    #[command(flatten)]
    pub produce: ProduceArgs,
    #[command(flatten)]
    pub tail: TailArgs,
}

/// Flags of `mixed`.
#[derive(Args, Clone)]
pub struct MixedArgs {
    #[command(flatten)]
    pub produce: ProduceArgs,
    #[command(flatten)]
    pub tail: TailArgs,
    /// Consumers that read the topic from its beginning while the others follow
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=4096))]
    pub catch_up: u16,
    /// Begin again when what was there at the start has been read, until the time is up
    #[arg(long)]
    pub catch_up_repeat: bool,
    /// Write to the topic first, without measuring it, until it holds about so many bytes
    #[arg(long, value_parser = parse_bytes)]
    pub history: Option<u64>,
}

/// Flags of `connections`.
#[derive(Args, Clone)]
pub struct ConnectionsArgs {
    /// Connections that are opened, have asked for the broker's versions once, and stay idle;
    /// --connections are the active ones
    #[arg(long, default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub idle: u32,
    #[command(flatten)]
    pub produce: ProduceArgs,
}

/// Flags of `search`.
#[derive(Args, Clone)]
pub struct SearchArgs {
    #[command(flatten)]
    pub produce: ProduceArgs,
    /// Goal for the median of the latency
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub p50: Option<Duration>,
    /// Goal for its 99th percentile
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub p99: Option<Duration>,
    /// Goal for its 99.9th percentile
    #[arg(long = "p99.9", value_parser = parse_duration, value_name = "TIME")]
    pub p99_9: Option<Duration>,
    /// Rates that are tried, at most; --rate is the first, or else half of what goes without a rate
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub steps: u32,
    /// Stop when the rate is known to this share of itself
    #[arg(long, default_value = "0.05", value_parser = parse_share)]
    pub tolerance: f64,
}

/// Flags of `run`.
#[derive(Args, Clone)]
pub struct RunFileArgs {
    /// Workload file, TOML: a [[workload]] with `kind` and `name` each, and the kind's flags
    /// without their dashes; `together = true` runs it at the same time as the one before;
    /// [defaults] holds for all
    pub file: PathBuf,
    /// Brokers of all workloads, whatever the file says
    #[arg(long)]
    pub brokers: Option<String>,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Flags of `sink`.
#[derive(Args, Clone)]
pub struct SinkArgs {
    /// Core of the generator; the sink takes the others
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Time of each measurement
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub duration: Duration,
    /// Connections of the generator, all on its one core
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    #[command(flatten)]
    pub report: ReportArgs,
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
    #[command(flatten)]
    pub run: RunArgs,
}

/// The whole command line, with the defaults that depend on the subcommand.
pub fn command_line() -> clap::Command {
    let many = |arg: clap::Arg| arg.default_value(PARTITIONS_MANY);
    Cli::command().mut_subcommand("partitions", |command| command.mut_arg("partitions", many))
}

impl RunArgs {
    /// What bounds the run.
    pub fn bounds(&self) -> Bounds {
        let RunArgs { warmup, duration, bytes, timeout, .. } = *self;
        Bounds { warmup, duration, bytes, timeout }
    }
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
            no_create: false,
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
            no_create: false,
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
    #[command(flatten)]
    pub report: ReportArgs,
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

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a number from 0 to 1, such as 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command_line().debug_assert();
    }
}
