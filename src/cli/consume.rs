//! `ringmain consume`: prints records, from where and up to where one asks.

use super::output::{Progress, json_bytes, json_headers, rate, stdout};
use super::produce::parse_separator;
use super::timestamp::parse_timestamp_ms;
use super::{BrokerArgs, CliError, Output};
use crate::base::ids::Offset;
use crate::client::consumer::{
    ConsumedRecord, Consumer, ConsumerConfig, PartitionRecords, Start, TIMESTAMP_LATEST, offsets_at,
};
use crate::io::Io;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// Name of the topic
    topic: String,
    /// Where to begin: earliest, latest (new records, as with --follow), an offset, or a time
    /// such as 2025-03-01T12:30:00Z or @1740832200000 (milliseconds since 1970)
    #[arg(long, value_name = "POSITION", default_value = "earliest", value_parser = parse_start)]
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
    /// Print the key before the value, with this between them
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    key_separator: Option<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output; JSON is one object a line
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Where a consumer stops and how records look.
struct Printer<'a> {
    args: &'a ConsumeArgs,
    left_count: u64,
    printed_count: u64,
    printed_bytes: u64,
}

/// Prints records until the end, the count, or for ever.
///
/// # Errors
/// The topic cannot be read; or standard output ends.
pub async fn run(io: &Io, args: ConsumeArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let mut consumer = Consumer::new(&cluster, ConsumerConfig::default());
    consumer.assign(&args.topic, &args.partition, args.from).await?;
    let is_endless = args.follow || args.from == Start::Latest;
    let assigned: Vec<i32> = consumer.positions().iter().map(|((_, index), _)| *index).collect();
    let mut ends: BTreeMap<i32, Offset> = BTreeMap::new();
    if !is_endless {
        ends = offsets_at(&cluster, &args.topic, &assigned, TIMESTAMP_LATEST)
            .await?
            .into_iter()
            .collect();
        refuse_beyond_end(&args, &ends)?;
    }
    let mut printer = Printer {
        args: &args,
        left_count: args.count.unwrap_or(u64::MAX),
        printed_count: 0,
        printed_bytes: 0,
    };
    let mut progress = Progress::new(true);
    let mut out = stdout();
    while printer.left_count > 0 {
        drop_finished(&mut consumer, &ends);
        if consumer.positions().is_empty() && !consumer.has_ready() {
            break;
        }
        if let Some(records) = consumer.poll().await? {
            let end = ends.get(&records.partition).copied();
            let printed = printer.print(&mut out, &records, end)?;
            printed.and_then(|()| out.flush()).map_err(|error| CliError::output(&error))?;
        }
        let (count, bytes) = (printer.printed_count, printer.printed_bytes);
        progress.show(|elapsed| format!("read {}", rate(count, bytes, elapsed)));
    }
    let (count, bytes) = (printer.printed_count, printer.printed_bytes);
    progress.finish(|elapsed| format!("read {}", rate(count, bytes, elapsed)));
    Ok(())
}

/// An offset that nobody has written yet is a mistake, unless one waits for it.
fn refuse_beyond_end(args: &ConsumeArgs, ends: &BTreeMap<i32, Offset>) -> Result<(), CliError> {
    let Start::At(from) = args.from else { return Ok(()) };
    match ends.iter().find(|(_, end)| from > **end) {
        Some((partition, end)) => Err(CliError::Failed(format!(
            "offset {from} is after the end of {}-{partition}, which is {end}; \
             name an earlier one",
            args.topic
        ))),
        None => Ok(()),
    }
}

/// Stops reading partitions whose position has come to their end.
fn drop_finished(consumer: &mut Consumer, ends: &BTreeMap<i32, Offset>) {
    for ((topic, partition), position) in consumer.positions() {
        if ends.get(&partition).is_some_and(|end| position >= *end) {
            consumer.stop_fetching(&topic, partition);
        }
    }
}

impl Printer<'_> {
    /// Prints `records` up to `end` and the count; a failed write is told apart from bad batches.
    fn print(
        &mut self,
        out: &mut dyn Write,
        records: &PartitionRecords,
        end: Option<Offset>,
    ) -> Result<io::Result<()>, CliError> {
        let mut written = Ok(());
        records.for_each(|consumed| {
            if self.left_count == 0 || end.is_some_and(|end| consumed.offset >= end) {
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
        Ok(written)
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
