//! `ringmain consume`: prints records, from where and up to where one asks, or as a group's member.

use super::output::{Progress, json_bytes, json_headers, rate, stdout};
use super::produce::parse_separator;
use super::timestamp::parse_timestamp_ms;
use super::{BrokerArgs, CliError, Output};
use crate::base::ids::Offset;
use crate::client::assignor::{COOPERATIVE_STICKY, RANGE};
use crate::client::cluster::Cluster;
use crate::client::consumer::{
    ConsumedRecord, Consumer, ConsumerConfig, PartitionRecords, Start, TIMESTAMP_LATEST, TopicPart,
    offsets_at,
};
use crate::client::group_consumer::{GroupConfig, GroupConsumer, GroupProtocol};
use crate::io::{Io, Notifier, signals};
use clap::{Args, ValueEnum};
use futures_util::future::{Either, select};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time between a member's commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// Kafka's default of `session.timeout.ms`.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// Time to let go of partitions: that is one commit here.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a member that does not follow waits for partitions that others may have to let go
/// first: three of the longest usual heartbeat intervals.
const ASSIGNMENT_WAIT: Duration = Duration::from_secs(15);
/// Exit code of a program that was interrupted twice: 128 and the signal's number, as in shells.
const EXIT_INTERRUPTED: i32 = 130;

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin: earliest, latest (new records, as with --follow), an offset, or a time
    /// such as 2025-03-01T12:30:00Z or @1740832200000 (milliseconds since 1970); with --group only
    /// where the group has committed nothing
    #[arg(long, value_name = "POSITION", default_value = "earliest", value_parser = parse_start,
          allow_negative_numbers = true)]
    from: Start,
    /// Read this partition; may be repeated [default: all]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Stop after so many records
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Wait for new records instead of stopping at the end that the topic has now
    #[arg(long)]
    follow: bool,
    /// Read as a member of this group: it shares out the partitions and keeps the offsets
    #[arg(long, value_name = "GROUP", conflicts_with = "partition")]
    group: Option<String>,
    /// Protocol of the group [default: consumer where broker and group have it]
    #[arg(long, value_enum, requires = "group")]
    protocol: Option<ProtocolArg>,
    /// How the group shares out partitions: range or cooperative-sticky in the classic protocol,
    /// an assignor of the broker's (uniform, range) in the consumer protocol
    #[arg(long, value_name = "NAME", requires = "group")]
    assignor: Option<String>,
    /// Name of this member that outlives it: its partitions wait for it a while
    #[arg(long, value_name = "NAME", requires = "group")]
    instance_id: Option<String>,
    /// Print the key before the value, with this between them
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    key_separator: Option<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output; JSON is one object a line
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which protocol a group speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    /// Members agree among each other
    Classic,
    /// The broker assigns (KIP-848)
    Consumer,
}

/// Where a consumer stops and how records look.
struct Printer<'a> {
    args: &'a ConsumeArgs,
    left_count: u64,
    printed_count: u64,
    printed_bytes: u64,
}

impl ConsumeArgs {
    /// Whether it is to be stopped by a signal in good order: a member leaves its group.
    pub fn is_member(&self) -> bool {
        self.group.is_some()
    }
}

/// Prints records until the end, the count, or for ever.
///
/// # Errors
/// The topics cannot be read, the group refuses; or standard output ends.
pub async fn run(io: &Io, args: ConsumeArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    match args.group.clone() {
        Some(group) => run_member(io, &cluster, &args, group).await,
        None => run_alone(&cluster, &args).await,
    }
}

async fn run_alone(cluster: &Cluster, args: &ConsumeArgs) -> Result<(), CliError> {
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    for topic in &args.topics {
        consumer.assign(topic, &args.partition, args.from).await?;
    }
    let mut ends = Ends::default();
    if !args.is_endless() {
        ends.look(cluster, &consumer.positions()).await?;
        refuse_beyond_end(args, &ends)?;
    }
    let mut printer = Printer::new(args);
    let mut progress = Progress::new(true);
    let mut out = stdout();
    while printer.left_count > 0 {
        for ((topic, partition), position) in consumer.positions() {
            if ends.are_reached((topic.clone(), partition), position) {
                consumer.stop_fetching(&topic, partition);
            }
        }
        if consumer.positions().is_empty() && !consumer.has_ready() {
            break;
        }
        if let Some(records) = consumer.poll().await? {
            printer.print(&mut out, &records, &ends)?;
        }
        printer.show(&mut progress);
    }
    printer.finish(&mut progress);
    Ok(())
}

/// Reads as a member of `group`; commits and leaves in the end, however that came.
async fn run_member(
    io: &Io,
    cluster: &Cluster,
    args: &ConsumeArgs,
    group: String,
) -> Result<(), CliError> {
    if let (Some(ProtocolArg::Classic), Some(name)) = (args.protocol, args.assignor.as_deref())
        && ![RANGE, COOPERATIVE_STICKY].contains(&name)
    {
        let known = format!("{RANGE} or {COOPERATIVE_STICKY}");
        return Err(CliError::Usage(format!("--assignor {name} is not {known}")));
    }
    let is_sticky = args.assignor.as_deref() == Some(COOPERATIVE_STICKY);
    let protocol = match args.protocol {
        Some(ProtocolArg::Classic) => Some(GroupProtocol::Classic),
        Some(ProtocolArg::Consumer) => Some(GroupProtocol::Consumer),
        None => is_sticky.then_some(GroupProtocol::Classic),
    };
    let config = GroupConfig {
        group,
        topics: args.topics.clone(),
        instance_id: args.instance_id.clone(),
        protocol,
        assignor: args.assignor.clone(),
        start: args.from,
        commit_interval: COMMIT_INTERVAL,
        session_timeout: SESSION_TIMEOUT,
        rebalance_timeout: REBALANCE_TIMEOUT,
    };
    let mut member = GroupConsumer::new(cluster, config).await?;
    let stop = Notifier::new();
    let (on_signal, is_second) = (stop.clone(), AtomicBool::new(false));
    let watched = signals::on_stop(move |_| {
        if is_second.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_INTERRUPTED); // leaving takes longer than they want to wait
        }
        on_signal.notify();
    });
    watched.map_err(|error| CliError::Failed(format!("signals cannot be received: {error}")))?;
    let outcome =
        match select(pin!(read_member(cluster, args, &mut member)), pin!(io.wait(&stop))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Ok(()),
        };
    let left = member.leave().await;
    outcome?;
    Ok(left?)
}

async fn read_member(
    cluster: &Cluster,
    args: &ConsumeArgs,
    member: &mut GroupConsumer,
) -> Result<(), CliError> {
    let mut ends = Ends::default();
    let mut printer = Printer::new(args);
    let mut progress = Progress::new(true);
    let mut out = stdout();
    let mut idle_since = cluster.now();
    while printer.left_count > 0 {
        let polled = member.poll().await?;
        let positions = member.positions();
        if !args.is_endless() {
            ends.look(cluster, &positions).await?;
        }
        if let Some(records) = polled {
            let next = printer.print(&mut out, &records, &ends)?;
            member.mark(&records.topic, records.partition, next);
        }
        printer.show(&mut progress);
        if !positions.is_empty() || !member.is_member() {
            idle_since = cluster.now();
        }
        let is_at_end = |(key, next): (TopicPart, Offset)| ends.are_reached(key, next);
        if args.is_endless() || member.has_ready() {
            continue;
        }
        if !positions.is_empty() && positions.into_iter().all(is_at_end) {
            break;
        }
        if cluster.now() >= idle_since + ASSIGNMENT_WAIT {
            let group = args.group.as_deref().unwrap_or_default();
            return Err(CliError::Failed(format!(
                "group {group} gave this member no partitions; `ringmain groups describe {group}` \
                 shows who has them, --follow waits for some"
            )));
        }
    }
    printer.finish(&mut progress);
    Ok(())
}

impl ConsumeArgs {
    fn is_endless(&self) -> bool {
        self.follow || (self.from == Start::Latest && self.group.is_none())
    }
}

/// Where to stop: the end that each partition had when it was first looked at.
#[derive(Default)]
struct Ends(BTreeMap<TopicPart, Offset>);

impl Ends {
    /// Takes the ends of those of `positions` that are not known, and forgets all others.
    async fn look(
        &mut self,
        cluster: &Cluster,
        positions: &[(TopicPart, Offset)],
    ) -> Result<(), CliError> {
        self.0.retain(|key, _| positions.iter().any(|(other, _)| other == key));
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (key, _) in positions.iter().filter(|(key, _)| !self.0.contains_key(key)) {
            by_topic.entry(&key.0).or_default().push(key.1);
        }
        for (topic, partitions) in by_topic {
            let found = offsets_at(cluster, topic, &partitions, TIMESTAMP_LATEST).await?;
            self.0.extend(found.into_iter().map(|(index, end)| ((topic.into(), index), end)));
        }
        Ok(())
    }

    fn of(&self, topic: &std::rc::Rc<str>, partition: i32) -> Option<Offset> {
        self.0.get(&(std::rc::Rc::clone(topic), partition)).copied()
    }

    fn are_reached(&self, key: TopicPart, position: Offset) -> bool {
        self.0.get(&key).is_some_and(|end| position >= *end)
    }
}

/// An offset that nobody has written yet is a mistake, unless one waits for it.
fn refuse_beyond_end(args: &ConsumeArgs, ends: &Ends) -> Result<(), CliError> {
    let Start::At(from) = args.from else { return Ok(()) };
    match ends.0.iter().find(|(_, end)| from > **end) {
        Some(((topic, partition), end)) => Err(CliError::Failed(format!(
            "offset {from} is after the end of {topic}-{partition}, which is {end}; \
             name an earlier one"
        ))),
        None => Ok(()),
    }
}

impl<'a> Printer<'a> {
    fn new(args: &'a ConsumeArgs) -> Printer<'a> {
        let left_count = args.count.unwrap_or(u64::MAX);
        Printer { args, left_count, printed_count: 0, printed_bytes: 0 }
    }

    /// Prints `records` up to their end and the count, and flushes them; gives the offset after
    /// the last one that counts as read.
    fn print(
        &mut self,
        out: &mut dyn Write,
        records: &PartitionRecords,
        ends: &Ends,
    ) -> Result<Offset, CliError> {
        let end = ends.of(&records.topic, records.partition);
        let mut written = Ok(());
        let mut next = records.next();
        records.for_each(|consumed| {
            if self.left_count == 0 || end.is_some_and(|end| consumed.offset >= end) {
                next = consumed.offset;
                return ControlFlow::Break(());
            }
            written = self.print_one(out, records, consumed);
            self.left_count -= 1;
            self.printed_count += 1;
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        written.and_then(|()| out.flush()).map_err(|error| CliError::output(&error))?;
        Ok(next)
    }

    fn show(&self, progress: &mut Progress) {
        let (count, bytes) = (self.printed_count, self.printed_bytes);
        progress.show(|elapsed| format!("read {}", rate(count, bytes, elapsed)));
    }

    fn finish(&self, progress: &mut Progress) {
        let (count, bytes) = (self.printed_count, self.printed_bytes);
        progress.finish(|elapsed| format!("read {}", rate(count, bytes, elapsed)));
    }

    fn print_one(
        &mut self,
        out: &mut dyn Write,
        records: &PartitionRecords,
        consumed: &ConsumedRecord<'_>,
    ) -> io::Result<()> {
        let record = consumed.record;
        let (key, value) = (record.key, record.value);
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.printed_bytes += bytes as u64;
        if self.args.output == Output::Json {
            serde_json::to_writer(&mut *out, &json_record(records, consumed))?;
            return out.write_all(b"\n");
        }
        if let (Some(separator), Some(key)) = (&self.args.key_separator, key) {
            out.write_all(key)?;
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(value.unwrap_or_default())?;
        out.write_all(b"\n")
    }
}

fn json_record(records: &PartitionRecords, consumed: &ConsumedRecord<'_>) -> Value {
    let record = consumed.record;
    json!({
        "topic": &*records.topic,
        "partition": records.partition,
        "offset": consumed.offset.0,
        "timestamp": consumed.timestamp_ms,
        "key": json_bytes(record.key),
        "value": json_bytes(record.value),
        "headers": json_headers(record),
    })
}

/// Parses `--from`.
///
/// # Errors
/// A sentence with what is possible.
fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse::<u64>() {
        let offset = i64::try_from(offset).map_err(|_| "an offset is below 2^63".to_owned())?;
        return Ok(Start::At(Offset(offset)));
    }
    parse_timestamp_ms(text).map(Start::Timestamp).ok_or_else(|| {
        "earliest, latest, an offset, a date such as 2025-03-01T12:30:00Z, or @milliseconds \
         is expected"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each form of a position is understood. Method: one of each, and what is none.
    #[test]
    fn positions_are_words_offsets_or_times() {
        assert_eq!(parse_start("earliest"), Ok(Start::Earliest));
        assert_eq!(parse_start("latest"), Ok(Start::Latest));
        assert_eq!(parse_start("17"), Ok(Start::At(Offset(17))));
        assert_eq!(parse_start("@17"), Ok(Start::Timestamp(17)));
        assert_eq!(parse_start("1970-01-02"), Ok(Start::Timestamp(86_400_000)));
        for wrong in ["", "-1", "first", "99999999999999999999", "1.5"] {
            assert!(parse_start(wrong).is_err(), "{wrong:?}");
        }
    }
}
