//! `ringmain groups`: list, describe with lag, delete; resetting offsets is in `cli/reset.rs`.

use super::output::{print_json, print_with};
use super::reset::{self, ResetArgs};
use super::table::Table;
use super::{BrokerArgs, CliError, Output};
use crate::base::ids::Offset;
use crate::client::cluster::Cluster;
use crate::client::consumer::{TIMESTAMP_LATEST, offsets_at};
use crate::client::error::ClientError;
use crate::client::groups::{CommittedOffset, GroupDescription, GroupMember, ListedGroup};
use crate::io::Io;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// What is done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// List all groups with their state and protocol
    List(ListArgs),
    /// Show members, assignments, committed offsets and lag
    Describe(DescribeArgs),
    /// Remove groups without members, and their offsets
    Delete(DeleteArgs),
    /// Set the offsets of a group without members; only shows them unless --execute is given
    ResetOffsets(Box<ResetArgs>),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only groups in this state, such as Stable or Empty; may be repeated
    #[arg(long, value_name = "STATE", ignore_case = true)]
    state: Vec<String>,
    /// Only groups of this type, such as classic or consumer; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    kind: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Ids of the groups; all of them where none is given
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Ids of the groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Does `command`.
///
/// # Errors
/// What failed; `describe` and `delete` do what they can of the rest, and say so first.
pub async fn run(io: &Io, command: GroupsCommand) -> Result<(), CliError> {
    match command {
        GroupsCommand::List(args) => list(io, args).await,
        GroupsCommand::Describe(args) => describe(io, args).await,
        GroupsCommand::Delete(args) => delete(io, args).await,
        GroupsCommand::ResetOffsets(args) => reset::run(io, *args).await,
    }
}

async fn list(io: &Io, args: ListArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let mut groups = cluster.list_groups().await?;
    let is_wanted = |wanted: &[String], text: &str| {
        wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(text))
    };
    groups
        .retain(|group| is_wanted(&args.state, &group.state) && is_wanted(&args.kind, &group.kind));
    if args.output == Output::Json {
        return print_json(&groups.iter().map(listed).collect());
    }
    let mut table = Table::new(&["GROUP", "TYPE", "STATE", "PROTOCOL", "COORDINATOR"]);
    for group in groups {
        let coordinator = group.coordinator.to_string();
        table.row(vec![
            group.id,
            or_dash(group.kind),
            or_dash(group.state),
            or_dash(group.protocol_type),
            coordinator,
        ]);
    }
    print_with(|out| table.print(out))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn listed(group: &ListedGroup) -> Value {
    json!({
        "group": group.id,
        "type": group.kind,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "coordinator": group.coordinator.0,
    })
}

/// A group as `describe` shows it.
struct Described {
    group: GroupDescription,
    positions: Vec<Position>,
}

/// A partition that the group reads or has read.
struct Position {
    topic: String,
    partition: i32,
    committed: Option<CommittedOffset>,
    end: Option<Offset>,  // `None`: the partition is gone or has no leader now
    owner: Option<usize>, // index of the member
}

impl Position {
    /// How many records the group has not read yet; all where it has committed nothing is not
    /// known, since the log may not begin at 0.
    fn lag(&self) -> Option<i64> {
        Some((self.end?.0 - self.committed.as_ref()?.offset.0).max(0))
    }
}

async fn describe(io: &Io, args: DescribeArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let mut ids = args.groups;
    if ids.is_empty() {
        ids = cluster.list_groups().await?.into_iter().map(|group| group.id).collect();
    }
    let (mut described, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match describe_one(&cluster, &id).await {
            Ok(one) => described.push(one),
            Err(error @ ClientError::Refused { .. }) => failures.push(error),
            Err(error) => {
                failures.push(error);
                break;
            }
        }
    }
    match args.output {
        Output::Json => print_json(&described.iter().map(description).collect())?,
        Output::Text => print_with(|out| {
            for (index, described) in described.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                print_description(out, described)?;
            }
            Ok(())
        })?,
    }
    CliError::of_several(failures)
}

async fn describe_one(cluster: &Cluster, id: &str) -> Result<Described, ClientError> {
    let group = cluster.describe_group(id).await?;
    let committed = cluster.committed_offsets(id).await?;
    let mut owners: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for (index, member) in group.members.iter().enumerate() {
        for (topic, partitions) in &member.assigned {
            owners.extend(partitions.iter().map(|partition| ((topic.as_str(), *partition), index)));
        }
    }
    let mut committed: BTreeMap<(String, i32), CommittedOffset> = committed
        .into_iter()
        .map(|offset| ((offset.topic.clone(), offset.partition), offset))
        .collect();
    let mut keys: BTreeSet<(String, i32)> = committed.keys().cloned().collect();
    keys.extend(owners.keys().map(|(topic, partition)| ((*topic).to_owned(), *partition)));
    let ends = ends_of(cluster, &keys).await?;
    let positions = keys.into_iter().map(|key| Position {
        committed: committed.remove(&key),
        end: ends.get(&key).copied(),
        owner: owners.get(&(key.0.as_str(), key.1)).copied(),
        topic: key.0,
        partition: key.1,
    });
    let positions = positions.collect();
    Ok(Described { group, positions })
}

/// The ends of the logs of `keys`; without those that are gone or have no leader now.
async fn ends_of(
    cluster: &Cluster,
    keys: &BTreeSet<(String, i32)>,
) -> Result<BTreeMap<(String, i32), Offset>, ClientError> {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in keys {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let mut ends = BTreeMap::new();
    for (topic, mut partitions) in by_topic {
        let described = match cluster.refresh_topic(topic, false).await {
            Ok(described) => described,
            Err(ClientError::Refused { .. } | ClientError::NoLeader { .. }) => continue,
            Err(error) => return Err(error),
        };
        let has_leader = |index: &i32| {
            let found = usize::try_from(*index).ok().and_then(|at| described.partitions.get(at));
            found.is_some_and(|partition| partition.leader.is_some())
        };
        partitions.retain(has_leader);
        match offsets_at(cluster, topic, &partitions, TIMESTAMP_LATEST).await {
            Ok(found) => {
                let found = found.into_iter();
                ends.extend(found.map(|(index, end)| ((topic.to_owned(), index), end)));
            }
            Err(ClientError::Refused { .. } | ClientError::NoLeader { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ends)
}

fn print_description(out: &mut dyn Write, described: &Described) -> std::io::Result<()> {
    let group = &described.group;
    write!(out, "group {}, {} protocol, state {}", group.id, group.kind, group.state)?;
    if !group.assignor.is_empty() {
        write!(out, ", assignor {}", group.assignor)?;
    }
    if let Some(epoch) = group.epoch {
        write!(out, ", epoch {epoch}")?;
    }
    let count = group.members.len();
    let noun = if count == 1 { "member" } else { "members" };
    writeln!(out, ", {count} {noun}, coordinator {}", group.coordinator)?;
    if !group.members.is_empty() {
        member_table(group).print(out)?;
    }
    if described.positions.is_empty() {
        return writeln!(out, "no offsets are committed");
    }
    if !group.members.is_empty() {
        writeln!(out)?;
    }
    position_table(described).print(out)
}

fn member_table(group: &GroupDescription) -> Table {
    let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "EPOCH", "ASSIGNED"]);
    for member in &group.members {
        let mut assigned = topics_text(&member.assigned);
        if let Some(target) = member.target.as_ref().filter(|target| **target != member.assigned) {
            assigned = format!("{assigned}, to be {}", topics_text(target));
        }
        table.row(vec![
            member.id.clone(),
            member.instance_id.clone().unwrap_or_else(|| "-".to_owned()),
            member.client_id.clone(),
            member.host.clone(),
            member.epoch.map_or("-".to_owned(), |epoch| epoch.to_string()),
            assigned,
        ]);
    }
    table
}

fn position_table(described: &Described) -> Table {
    let mut table =
        Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "CLIENT"]);
    for position in &described.positions {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |n| n.to_string());
        let owner = position.owner.map(|index| &described.group.members[index]);
        let of_owner = |text: fn(&GroupMember) -> &str| owner.map_or("-", text).to_owned();
        table.row(vec![
            position.topic.clone(),
            position.partition.to_string(),
            number(position.committed.as_ref().map(|committed| committed.offset.0)),
            number(position.end.map(|end| end.0)),
            number(position.lag()),
            of_owner(|member| &member.id),
            of_owner(|member| &member.client_id),
        ]);
    }
    table
}

/// `words:0-3,7 lines:1`: runs of partitions as one range.
fn topics_text(topics: &[(String, Vec<i32>)]) -> String {
    if topics.is_empty() {
        return "nothing".to_owned();
    }
    let text = topics.iter().map(|(topic, partitions)| {
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        for &partition in partitions {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == partition => *last = partition,
                _ => ranges.push((partition, partition)),
            }
        }
        let ranges = ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        format!("{topic}:{}", ranges.collect::<Vec<_>>().join(","))
    });
    text.collect::<Vec<_>>().join(" ")
}

fn description(described: &Described) -> Value {
    let group = &described.group;
    let by_topic = |topics: &[(String, Vec<i32>)]| -> Value {
        let topics = topics.iter();
        topics.map(|(topic, list)| json!({ "topic": topic, "partitions": list })).collect()
    };
    let members = group.members.iter().map(|member| {
        json!({
            "member": member.id,
            "instance": member.instance_id,
            "client": member.client_id,
            "host": member.host,
            "epoch": member.epoch,
            "topics": member.topics,
            "regex": member.regex,
            "assigned": by_topic(&member.assigned),
            "target": member.target.as_deref().map(by_topic),
        })
    });
    let positions = described.positions.iter().map(|position| {
        let committed = position.committed.as_ref();
        json!({
            "topic": position.topic,
            "partition": position.partition,
            "committed_offset": committed.map(|committed| committed.offset.0),
            "leader_epoch": committed.map(|one| one.leader_epoch).filter(|epoch| *epoch >= 0),
            "metadata": committed.and_then(|committed| committed.metadata.as_deref()),
            "end_offset": position.end.map(|end| end.0),
            "lag": position.lag(),
            "member": position.owner.map(|index| &group.members[index].id),
        })
    });
    json!({
        "group": group.id,
        "type": group.kind,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "assignor": group.assignor,
        "epoch": group.epoch,
        "coordinator": group.coordinator,
        "members": members.collect::<Vec<_>>(),
        "offsets": positions.collect::<Vec<_>>(),
    })
}

async fn delete(io: &Io, args: DeleteArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in args.groups {
        match cluster.delete_group(&id).await {
            Ok(()) => deleted.push(id),
            Err(error @ ClientError::Refused { .. }) => failures.push(error),
            Err(error) => {
                failures.push(error);
                break;
            }
        }
    }
    match args.output {
        Output::Json => print_json(&json!({ "deleted": deleted }))?,
        Output::Text => {
            print_with(|out| deleted.iter().try_for_each(|id| writeln!(out, "deleted group {id}")))?
        }
    }
    CliError::of_several(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: assignments are short. Method: runs, single partitions, several topics, nothing.
    #[test]
    fn runs_of_partitions_are_one_range() {
        let topics = [("a".to_owned(), vec![0, 1, 2, 7]), ("b".to_owned(), vec![4])];
        assert_eq!(topics_text(&topics), "a:0-2,7 b:4");
        assert_eq!(topics_text(&[]), "nothing");
    }

    /// Goal: lag is what is left to read, never less than nothing. Method: before, at and behind
    /// the end, and without one of the two.
    #[test]
    fn lag_is_the_distance_to_the_end() {
        let position = |committed: Option<i64>, end: Option<i64>| {
            let committed = committed.map(|offset| CommittedOffset {
                topic: "t".to_owned(),
                partition: 0,
                offset: Offset(offset),
                leader_epoch: -1,
                metadata: None,
            });
            let end = end.map(Offset);
            Position { topic: "t".to_owned(), partition: 0, committed, end, owner: None }
        };
        assert_eq!(position(Some(3), Some(10)).lag(), Some(7));
        assert_eq!(position(Some(10), Some(10)).lag(), Some(0));
        assert_eq!(position(Some(11), Some(10)).lag(), Some(0));
        assert_eq!(position(None, Some(10)).lag(), None);
        assert_eq!(position(Some(3), None).lag(), None);
    }
}
