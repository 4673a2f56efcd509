//! `ringmain topics`: create, list, describe, alter, delete.

use super::configs::{check_deleted_names, is_of_a_name, known_names, with_nearest_of};
use super::output::{print_json, print_with};
use super::table::Table;
use super::{BrokerArgs, CliError, Output, parse_pair};
use crate::base::ids::{NodeId, Offset};
use crate::client::admin::{NewTopic, Setting};
use crate::client::cluster::{Cluster, Topic};
use crate::client::configs::ConfigResource;
use crate::client::consumer::{TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, offsets_at};
use crate::client::error::ClientError;
use crate::io::Io;
use crate::protocol::error::ErrorCode;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Write;
use std::rc::Rc;

/// What is done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make topics
    Create(CreateArgs),
    /// List all topics
    List(ListArgs),
    /// Show partitions, offsets and settings
    Describe(DescribeArgs),
    /// Add partitions, change settings
    Alter(AlterArgs),
    /// Remove topics and all that they hold
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Number of replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting by Kafka's name, such as retention.ms=86400000; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Succeed where a topic is there already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Names of the topics; all of them where none is given
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Show every setting, also those that nobody changed
    #[arg(long)]
    all_settings: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
#[group(id = "changes", multiple = true, required = true,
        args = ["partitions", "config", "delete_config"])]
pub struct AlterArgs {
    /// Name of the topic
    topic: String,
    /// Number of partitions that it shall have in all
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting by Kafka's name; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// A setting that shall go back to the broker's default; may be repeated
    #[arg(long, value_name = "NAME")]
    delete_config: Vec<String>,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Succeed where a topic is not there
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Does `command`.
///
/// # Errors
/// What failed; `create` and `delete` do what they can of the rest, and say so first.
pub async fn run(io: &Io, command: TopicsCommand) -> Result<(), CliError> {
    match command {
        TopicsCommand::Create(args) => create(io, args).await,
        TopicsCommand::List(args) => list(io, args).await,
        TopicsCommand::Describe(args) => describe(io, args).await,
        TopicsCommand::Alter(args) => alter(io, args).await,
        TopicsCommand::Delete(args) => delete(io, args).await,
    }
}

async fn create(io: &Io, args: CreateArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let (mut made, mut failures) = (Vec::new(), Vec::new());
    for name in &args.topics {
        match create_one(&cluster, &args, name).await {
            Ok(outcome) => made.push(outcome),
            Err(error) => failures.push(error),
        }
        if is_hopeless(&failures) {
            break;
        }
    }
    match args.output {
        Output::Json => print_json(
            &made
                .iter()
                .map(|(topic, is_new)| {
                    let mut json = summary(topic);
                    json["created"] = json!(is_new);
                    json
                })
                .collect(),
        )?,
        Output::Text => print_with(|out| {
            for (topic, is_new) in &made {
                let count = topic.partitions.len();
                let noun = if count == 1 { "partition" } else { "partitions" };
                match is_new {
                    true => writeln!(out, "created topic {} with {count} {noun}", topic.name)?,
                    false => {
                        writeln!(out, "topic {} exists already, with {count} {noun}", topic.name)?;
                    }
                }
            }
            Ok(())
        })?,
    }
    CliError::of_several(failures)
}

/// Makes the topic `name`; gives it, and whether it is new.
async fn create_one(
    cluster: &Cluster,
    args: &CreateArgs,
    name: &str,
) -> Result<(Rc<Topic>, bool), ClientError> {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions_count: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.config.clone(),
    };
    let is_new = match cluster.create_topic(&topic).await {
        Err(error) if args.if_not_exists && error.is_code(ErrorCode::TopicAlreadyExists) => false,
        Err(error) if is_of_a_name(&error) && !args.config.is_empty() => {
            let names = args.config.iter().map(|(name, _)| name.as_str());
            return Err(match cluster.topic_setting_names(name).await {
                Ok(known) => with_nearest_of(error, names, &known),
                Err(_) => error,
            });
        }
        outcome => outcome.map(|()| true)?,
    };
    Ok((cluster.refresh_topic(name, true).await?, is_new))
}

/// Whether the last failure was no refusal of one topic: the next topic would fail as it did.
fn is_hopeless(failures: &[ClientError]) -> bool {
    failures.last().is_some_and(|error| !matches!(error, ClientError::Refused { .. }))
}

async fn list(io: &Io, args: ListArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let topics = cluster.all_topics().await?;
    if args.output == Output::Json {
        return print_json(&topics.iter().map(summary).collect());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "ID"]);
    for topic in &topics {
        table.row(vec![
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas_count(topic).to_string(),
            topic.id.to_string(),
        ]);
    }
    print_with(|out| table.print(out))
}

/// A topic as `describe` shows it.
struct Described {
    topic: Topic,
    /// For each partition its first offset and the one after its last; `None`: no leader says.
    offsets: Option<Vec<(Offset, Offset)>>,
    settings: Vec<Setting>,
}

async fn describe(io: &Io, args: DescribeArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let mut topics = Vec::new();
    if args.topics.is_empty() {
        topics = cluster.all_topics().await?;
    }
    for name in &args.topics {
        topics.push((*cluster.refresh_topic(name, false).await?).clone());
    }
    let mut described = Vec::with_capacity(topics.len());
    for topic in topics {
        let offsets = offsets_of(&cluster, &topic).await?;
        let mut settings = cluster.topic_settings(&topic.name).await?;
        settings.retain(|setting| args.all_settings || setting.is_of_topic);
        described.push(Described { topic, offsets, settings });
    }
    match args.output {
        Output::Json => print_json(&described.iter().map(description).collect()),
        Output::Text => print_with(|out| {
            for (index, described) in described.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                print_description(out, described)?;
            }
            Ok(())
        }),
    }
}

/// First and next offset of each partition; `None` where a partition has no leader now.
async fn offsets_of(
    cluster: &Cluster,
    topic: &Topic,
) -> Result<Option<Vec<(Offset, Offset)>>, CliError> {
    if topic.partitions.iter().any(|partition| partition.leader.is_none()) {
        return Ok(None);
    }
    let all: Vec<i32> = (0..topic.partitions.len() as i32).collect();
    let earliest = offsets_at(cluster, &topic.name, &all, TIMESTAMP_EARLIEST).await?;
    let latest = offsets_at(cluster, &topic.name, &all, TIMESTAMP_LATEST).await?;
    let both = earliest.iter().zip(&latest).map(|((_, first), (_, next))| (*first, *next));
    Ok(Some(both.collect()))
}

fn print_description(out: &mut dyn Write, described: &Described) -> std::io::Result<()> {
    let topic = &described.topic;
    writeln!(out, "topic {}, id {}", topic.name, topic.id)?;
    for setting in &described.settings {
        let value = setting.value.as_deref().unwrap_or("(hidden)");
        let origin = if setting.is_of_topic { "" } else { " (default)" };
        writeln!(out, "  {} = {value}{origin}", setting.name)?;
    }
    let head = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "FIRST", "NEXT"];
    let mut table = Table::new(&head);
    for (index, partition) in topic.partitions.iter().enumerate() {
        let offsets = described.offsets.as_ref().and_then(|offsets| offsets.get(index));
        let text = |offset: Option<Offset>| offset.map_or("-".to_owned(), |at| at.to_string());
        table.row(vec![
            index.to_string(),
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            join(&partition.replicas),
            join(&partition.in_sync),
            text(offsets.map(|(first, _)| *first)),
            text(offsets.map(|(_, next)| *next)),
        ]);
    }
    table.print(out)
}

async fn alter(io: &Io, args: AlterArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let mut configs: Vec<(String, Option<String>)> =
        args.config.into_iter().map(|(name, value)| (name, Some(value))).collect();
    configs.extend(args.delete_config.iter().map(|name| (name.clone(), None)));
    cluster.refresh_topic(&args.topic, false).await?; // a wrong name before half a change
    let resource = ConfigResource::Topic(args.topic.clone());
    check_deleted_names(&cluster, &resource, &args.delete_config).await?;
    if !configs.is_empty()
        && let Err(error) = cluster.alter_topic(&args.topic, &configs).await
    {
        let names = configs.iter().map(|(name, _)| name.as_str());
        let known = known_names(&cluster, &resource).await.filter(|_| is_of_a_name(&error));
        return Err(match known {
            Some(known) => with_nearest_of(error, names, &known),
            None => error,
        }
        .into());
    }
    if let Some(count) = args.partitions {
        cluster.set_partitions_count(&args.topic, count).await?;
    }
    let topic = cluster.refresh_topic(&args.topic, false).await?;
    match args.output {
        Output::Json => print_json(&summary(&topic)),
        Output::Text => print_with(|out| writeln!(out, "altered topic {}", topic.name)),
    }
}

async fn delete(io: &Io, args: DeleteArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let (mut deleted, mut missing, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for name in args.topics {
        match cluster.delete_topic(&name).await {
            Ok(()) => deleted.push(name),
            Err(error) if args.if_exists && error.is_code(ErrorCode::UnknownTopicOrPartition) => {
                missing.push(name);
            }
            Err(error) => failures.push(error),
        }
        if is_hopeless(&failures) {
            break;
        }
    }
    match args.output {
        Output::Json => print_json(&json!({ "deleted": deleted, "missing": missing }))?,
        Output::Text => print_with(|out| {
            deleted.iter().try_for_each(|name| writeln!(out, "deleted topic {name}"))?;
            missing.iter().try_for_each(|name| writeln!(out, "there is no topic {name}"))
        })?,
    }
    CliError::of_several(failures)
}

fn replicas_count(topic: &Topic) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

fn join(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

fn summary(topic: &Topic) -> Value {
    json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "internal": topic.is_internal,
        "partitions": topic.partitions.len(),
        "replication_factor": replicas_count(topic),
    })
}

fn description(described: &Described) -> Value {
    let topic = &described.topic;
    let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
        let offsets = described.offsets.as_ref().and_then(|offsets| offsets.get(index));
        json!({
            "partition": index,
            "leader": partition.leader.map(|leader| leader.0),
            "leader_epoch": partition.leader_epoch.0,
            "replicas": ids(&partition.replicas),
            "in_sync": ids(&partition.in_sync),
            "first_offset": offsets.map(|(first, _)| first.0),
            "next_offset": offsets.map(|(_, next)| next.0),
        })
    });
    let settings = described.settings.iter().map(|setting| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "source": if setting.is_of_topic { "topic" } else { "default" },
        })
    });
    json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "internal": topic.is_internal,
        "partitions": partitions.collect::<Vec<_>>(),
        "settings": settings.collect::<Vec<_>>(),
    })
}
