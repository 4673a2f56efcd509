//! `ringmain groups reset-offsets`: where a group without members shall go on reading.
//!
//! **Invariant:** nothing is changed without `--execute`, and with it exactly what is shown.

use super::output::{print_json, print_with};
use super::table::Table;
use super::timestamp::{parse_duration_ms, parse_timestamp_ms};
use super::{BrokerArgs, CliError, Output};
use crate::base::ids::Offset;
use crate::client::cluster::Cluster;
use crate::client::consumer::{TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, offsets_at};
use crate::client::groups::CommittedOffset;
use crate::io::Io;
use crate::protocol::error::ErrorCode;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// States of a group that nobody is a member of.
const STATES_INACTIVE: [&str; 2] = ["Empty", "Dead"];

#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Id of the group; one that does not exist comes into being
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    goal: GoalArgs,
    /// Do it; without this the new offsets are only shown
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show the new offsets, as without any flag
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which partitions.
#[derive(Debug, Args)]
#[group(id = "scope", required = true, multiple = false, args = ["topic", "all_topics"])]
struct ScopeArgs {
    /// A topic, or some of its partitions as in orders:0,3; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITION,...]", value_parser = parse_scope)]
    topic: Vec<(String, Vec<i32>)>,
    /// Every partition that the group has an offset in
    #[arg(long)]
    all_topics: bool,
}

/// Where to.
#[derive(Debug, Args)]
#[group(id = "goal", required = true, multiple = false)]
struct GoalArgs {
    /// To the oldest record
    #[arg(long)]
    to_earliest: bool,
    /// Behind the newest record
    #[arg(long)]
    to_latest: bool,
    /// To where they are; with --topic for partitions without an offset: behind the newest record
    #[arg(long)]
    to_current: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records on from where they are; back, if negative
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record of this time or later, such as 2025-03-01T12:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to_datetime: Option<i64>,
    /// To the first record that is not older than this, such as 90m, 7d or P1DT2H
    #[arg(long, value_name = "DURATION", value_parser = parse_age)]
    by_duration: Option<i64>,
}

/// Where a partition's offset shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Earliest,
    Latest,
    Current,
    At(Offset),
    Shift(i64),
    Timestamp(i64),
}

/// One partition with its old offset and its new one.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    topic: String,
    partition: i32,
    old: Option<Offset>,
    new: Offset,
    end: Offset,
    is_clamped: bool, // what was asked for lies outside the log
}

/// What a partition's new offset depends on.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: Offset,
    end: Offset,
    at_time: Option<Offset>, // `None`: no record is that new, or no time was asked for
}

/// Works out the new offsets, and commits them where that was asked for.
///
/// # Errors
/// The group has members, a topic or partition does not exist, or there is nothing to shift.
pub async fn run(io: &Io, args: ResetArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    refuse_active(&cluster, &args.group).await?;
    let committed = cluster.committed_offsets(&args.group).await?;
    let committed: BTreeMap<(String, i32), CommittedOffset> =
        committed.into_iter().map(|one| ((one.topic.clone(), one.partition), one)).collect();
    let scope = scope_of(&cluster, &args, &committed).await?;
    let goal = args.goal.goal();
    let mut changes = Vec::new();
    for (topic, partitions) in scope {
        let bounds = bounds_of(&cluster, &topic, &partitions, goal).await?;
        for (partition, bounds) in bounds {
            let old = committed.get(&(topic.clone(), partition)).map(|one| one.offset);
            let (new, is_clamped) = new_offset(goal, old, bounds).ok_or_else(|| {
                let group = &args.group;
                CliError::Failed(format!(
                    "group {group} has no offset in {topic}-{partition} that could be shifted; \
                     name the partitions to shift, or set them with --to-offset"
                ))
            })?;
            let (topic, end) = (topic.clone(), bounds.end);
            changes.push(Change { topic, partition, old, new, end, is_clamped });
        }
    }
    if args.execute {
        let offsets: Vec<CommittedOffset> = changes.iter().map(Change::committed).collect();
        cluster.commit_offsets(&args.group, &offsets).await?;
    }
    print(&args, &changes)
}

/// A group that has members keeps its own offsets; the broker would refuse the commit, but only
/// when it comes to that.
async fn refuse_active(cluster: &Cluster, group: &str) -> Result<(), CliError> {
    let described = match cluster.describe_group(group).await {
        Err(error) if error.is_code(ErrorCode::GroupIdNotFound) => return Ok(()),
        outcome => outcome?,
    };
    if STATES_INACTIVE.contains(&described.state.as_str()) {
        return Ok(());
    }
    let count = described.members.len();
    Err(CliError::Failed(format!(
        "group {group} is in use: it is {} with {count} {}; stop its members first",
        described.state,
        if count == 1 { "member" } else { "members" }
    )))
}

/// The partitions that are meant, by topic.
async fn scope_of(
    cluster: &Cluster,
    args: &ResetArgs,
    committed: &BTreeMap<(String, i32), CommittedOffset>,
) -> Result<BTreeMap<String, Vec<i32>>, CliError> {
    let mut scope: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    if args.scope.all_topics {
        for (topic, partition) in committed.keys() {
            scope.entry(topic.clone()).or_default().push(*partition);
        }
        if scope.is_empty() {
            return Err(CliError::Failed(format!(
                "group {} has no offsets, so --all-topics means none; name them with --topic",
                args.group
            )));
        }
        return Ok(scope);
    }
    for (topic, partitions) in &args.scope.topic {
        let count = cluster.refresh_topic(topic, false).await?.partitions.len();
        let entry = scope.entry(topic.clone()).or_default();
        match partitions.is_empty() {
            true => entry.extend(0..count as i32),
            false => entry.extend(partitions),
        }
        if let Some(&partition) = entry.iter().find(|index| **index as usize >= count) {
            let topic = topic.clone();
            return Err(
                crate::client::error::ClientError::NoPartition { topic, partition, count }.into()
            );
        }
    }
    for partitions in scope.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Ok(scope)
}

async fn bounds_of(
    cluster: &Cluster,
    topic: &str,
    partitions: &[i32],
    goal: Goal,
) -> Result<Vec<(i32, Bounds)>, CliError> {
    let first = offsets_at(cluster, topic, partitions, TIMESTAMP_EARLIEST).await?;
    let end = offsets_at(cluster, topic, partitions, TIMESTAMP_LATEST).await?;
    let mut at_time = BTreeMap::new();
    if let Goal::Timestamp(ms) = goal {
        at_time.extend(offsets_at(cluster, topic, partitions, ms).await?);
    }
    let both = first.into_iter().zip(end);
    let bounds = both.map(|((partition, first), (_, end))| {
        let at_time = at_time.get(&partition).copied().filter(|offset| offset.0 >= 0);
        (partition, Bounds { first, end, at_time })
    });
    Ok(bounds.collect())
}

/// The new offset, and whether it is another than was asked for since that lies outside the log;
/// `None`: there is no old one to shift.
fn new_offset(goal: Goal, old: Option<Offset>, bounds: Bounds) -> Option<(Offset, bool)> {
    let wanted = match goal {
        Goal::Earliest => bounds.first,
        Goal::Latest => bounds.end,
        Goal::Current => old.unwrap_or(bounds.end),
        Goal::At(offset) => offset,
        Goal::Shift(count) => Offset(old?.0.saturating_add(count)),
        Goal::Timestamp(_) => bounds.at_time.unwrap_or(bounds.end),
    };
    let new = wanted.max(bounds.first).min(bounds.end);
    Some((new, new != wanted))
}

impl GoalArgs {
    fn goal(&self) -> Goal {
        if self.to_earliest {
            return Goal::Earliest;
        }
        if self.to_latest {
            return Goal::Latest;
        }
        let since = |age_ms: i64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(now.as_millis()).unwrap_or(i64::MAX).saturating_sub(age_ms).max(0)
        };
        let at = self.to_offset.map(|offset| Goal::At(Offset(offset)));
        at.or(self.shift_by.map(Goal::Shift))
            .or(self.to_datetime.map(Goal::Timestamp))
            .or(self.by_duration.map(|age_ms| Goal::Timestamp(since(age_ms))))
            .unwrap_or(Goal::Current)
    }
}

impl Change {
    fn committed(&self) -> CommittedOffset {
        CommittedOffset {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.new,
            leader_epoch: -1,
            metadata: None,
        }
    }
}

fn print(args: &ResetArgs, changes: &[Change]) -> Result<(), CliError> {
    if args.output == Output::Json {
        let changes = changes.iter().map(|change| {
            json!({
                "topic": change.topic,
                "partition": change.partition,
                "old_offset": change.old.map(|old| old.0),
                "new_offset": change.new.0,
                "end_offset": change.end.0,
                "clamped": change.is_clamped,
            })
        });
        let changes: Vec<Value> = changes.collect();
        let group = &args.group;
        return print_json(&json!({
            "group": group, "executed": args.execute, "offsets": changes
        }));
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "OLD", "NEW", "END"]);
    for change in changes {
        table.row(vec![
            change.topic.clone(),
            change.partition.to_string(),
            change.old.map_or("-".to_owned(), |old| old.to_string()),
            change.new.to_string(),
            change.end.to_string(),
        ]);
    }
    print_with(|out| {
        table.print(out)?;
        let clamped_count = changes.iter().filter(|change| change.is_clamped).count();
        if clamped_count > 0 {
            writeln!(out, "{clamped_count} outside the log: the nearest offset is taken there")?;
        }
        match args.execute {
            true => writeln!(out, "reset the offsets of group {}", args.group),
            false => writeln!(out, "nothing was changed: --execute does it"),
        }
    })
}

/// Parses `topic` or `topic:0,3`.
fn parse_scope(text: &str) -> Result<(String, Vec<i32>), String> {
    let (topic, partitions) = match text.split_once(':') {
        Some((topic, partitions)) => (topic, Some(partitions)),
        None => (text, None),
    };
    let wrong = || "TOPIC, or TOPIC:PARTITION,... such as orders:0,3 is expected".to_owned();
    if topic.is_empty() {
        return Err(wrong());
    }
    let numbers = partitions.into_iter().flat_map(|list| list.split(','));
    let numbers = numbers.map(|number| number.parse::<i32>().ok().filter(|number| *number >= 0));
    let numbers = numbers.collect::<Option<Vec<i32>>>().ok_or_else(wrong)?;
    Ok((topic.to_owned(), numbers))
}

fn parse_time(text: &str) -> Result<i64, String> {
    parse_timestamp_ms(text).ok_or_else(|| {
        "a date such as 2025-03-01T12:30:00Z, or @milliseconds is expected".to_owned()
    })
}

fn parse_age(text: &str) -> Result<i64, String> {
    parse_duration_ms(text).ok_or_else(|| "90m, 7d, P1DT2H or the like is expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each goal gives its offset, inside the log. Method: one of each, and beyond both ends.
    #[test]
    fn new_offsets_stay_inside_the_log() {
        let bounds = Bounds { first: Offset(10), end: Offset(50), at_time: Some(Offset(20)) };
        let old = Some(Offset(30));
        let new = |goal| new_offset(goal, old, bounds).map(|(offset, clamped)| (offset.0, clamped));
        assert_eq!(new(Goal::Earliest), Some((10, false)));
        assert_eq!(new(Goal::Latest), Some((50, false)));
        assert_eq!(new(Goal::Current), Some((30, false)));
        assert_eq!(new(Goal::At(Offset(40))), Some((40, false)));
        assert_eq!(new(Goal::At(Offset(3))), Some((10, true)));
        assert_eq!(new(Goal::At(Offset(51))), Some((50, true)));
        assert_eq!(new(Goal::Shift(-5)), Some((25, false)));
        assert_eq!(new(Goal::Shift(i64::MAX)), Some((50, true)));
        assert_eq!(new(Goal::Timestamp(1)), Some((20, false)));
        let none = Bounds { at_time: None, ..bounds };
        assert_eq!(new_offset(Goal::Timestamp(1), old, none), Some((Offset(50), false)));
        assert_eq!(new_offset(Goal::Shift(1), None, bounds), None);
        assert_eq!(new_offset(Goal::Current, None, bounds), Some((Offset(50), false)));
    }

    /// Goal: a scope is a topic or some partitions of it. Method: both, and what is neither.
    #[test]
    fn a_scope_is_a_topic_or_some_of_its_partitions() {
        assert_eq!(parse_scope("orders"), Ok(("orders".to_owned(), vec![])));
        assert_eq!(parse_scope("orders:0,3"), Ok(("orders".to_owned(), vec![0, 3])));
        for wrong in ["", ":1", "orders:", "orders:x", "orders:-1", "orders:1,,2"] {
            assert!(parse_scope(wrong).is_err(), "{wrong:?}");
        }
    }
}
