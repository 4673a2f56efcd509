//! `ringmain configs`: describe and alter the settings of topics, brokers, groups, client metrics.

use super::output::{print_json, print_with};
use super::table::Table;
use super::{BrokerArgs, CliError, Output, parse_pair};
use crate::base::ids::NodeId;
use crate::client::cluster::Cluster;
use crate::client::configs::{ConfigChange, ConfigEdit, ConfigEntry, ConfigResource, ConfigSource};
use crate::client::error::ClientError;
use crate::io::Io;
use crate::protocol::error::ErrorCode;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;

/// Below this likeness (0.0 to 1.0) a suggestion confuses more than it helps.
const LIKENESS_MIN: f64 = 0.75;

/// What is done with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigsCommand {
    /// Show the settings that somebody made, or all, with where each value comes from
    Describe(DescribeArgs),
    /// Set settings, or let them go back to what counts without them
    Alter(AlterArgs),
}

/// Whose settings.
#[derive(Debug, Args)]
#[group(id = "resource", required = true, multiple = true)]
struct ResourceArgs {
    /// A topic's; may be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// A broker's, by its node id; may be repeated
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Vec<i32>,
    /// What counts for every broker that has nothing of its own
    #[arg(long)]
    broker_defaults: bool,
    /// A group's; may be repeated
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// A subscription to clients' metrics; may be repeated
    #[arg(long, value_name = "NAME")]
    client_metrics: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    resources: ResourceArgs,
    /// Show every setting, also those that nobody made for this very resource
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
#[group(id = "changes", multiple = true, required = true,
        args = ["set", "delete", "append", "subtract"])]
pub struct AlterArgs {
    #[command(flatten)]
    resources: ResourceArgs,
    /// Set a setting by Kafka's name, such as retention.ms=86400000; may be repeated
    #[arg(long, alias = "add-config", value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// Let a setting go back to what counts without it; may be repeated
    #[arg(long, alias = "delete-config", value_name = "NAME")]
    delete: Vec<String>,
    /// Add to a list, such as cleanup.policy=compact; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    append: Vec<(String, String)>,
    /// Take from a list; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    subtract: Vec<(String, String)>,
    /// Only ask whether the broker would do it
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Who reads the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Does `command`.
///
/// # Errors
/// What failed; the other resources are described or altered all the same.
pub async fn run(io: &Io, command: ConfigsCommand) -> Result<(), CliError> {
    match command {
        ConfigsCommand::Describe(args) => describe(io, args).await,
        ConfigsCommand::Alter(args) => alter(io, args).await,
    }
}

async fn describe(io: &Io, args: DescribeArgs) -> Result<(), CliError> {
    let cluster = args.brokers.connect(io).await?;
    let (mut described, mut failures) = (Vec::new(), Vec::new());
    for resource in args.resources.resources() {
        match cluster.describe_configs(&resource).await {
            Ok(mut entries) => {
                let own = resource.own_source();
                entries.retain(|entry| args.all || entry.source == own);
                described.push((resource, entries));
            }
            Err(error) => failures.push(error),
        }
    }
    match args.output {
        Output::Json => print_json(
            &described.iter().map(|(resource, entries)| description(resource, entries)).collect(),
        )?,
        Output::Text => print_with(|out| {
            for (index, (resource, entries)) in described.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                print_description(out, resource, entries, args.all)?;
            }
            Ok(())
        })?,
    }
    CliError::of_several(failures)
}

fn print_description(
    out: &mut dyn Write,
    resource: &ConfigResource,
    entries: &[ConfigEntry],
    is_all: bool,
) -> std::io::Result<()> {
    if entries.is_empty() {
        let hint = if is_all { "" } else { " of its own; --all shows those that count" };
        return writeln!(out, "{resource} has no settings{hint}");
    }
    writeln!(out, "{resource}")?;
    let mut table = Table::new(&["NAME", "VALUE", "SOURCE", "FIXED"]);
    for entry in entries {
        let value = match (&entry.value, entry.is_sensitive) {
            (_, true) => "(hidden)",
            (Some(value), _) if value.is_empty() => "(empty)",
            (Some(value), _) => value,
            (None, _) => "(none)",
        };
        table.row(vec![
            entry.name.clone(),
            value.to_owned(),
            entry.source.text().to_owned(),
            if entry.is_read_only { "until restart".to_owned() } else { String::new() },
        ]);
    }
    table.print(out)
}

fn description(resource: &ConfigResource, entries: &[ConfigEntry]) -> Value {
    let kind = match resource {
        ConfigResource::Topic(_) => "topic",
        ConfigResource::Broker(_) => "broker",
        ConfigResource::BrokerDefaults => "broker-defaults",
        ConfigResource::ClientMetrics(_) => "client-metrics",
        ConfigResource::Group(_) => "group",
    };
    let said = |synonym: &(String, Option<String>, ConfigSource)| {
        let (name, value, source) = synonym;
        json!({ "name": name, "value": value, "source": source.name() })
    };
    let settings = entries.iter().map(|entry| {
        json!({
            "name": entry.name,
            "value": entry.value,
            "source": entry.source.name(),
            "read_only": entry.is_read_only,
            "sensitive": entry.is_sensitive,
            "synonyms": entry.synonyms.iter().map(said).collect::<Vec<_>>(),
        })
    });
    json!({
        "type": kind,
        "name": resource.name(),
        "settings": settings.collect::<Vec<_>>(),
    })
}

async fn alter(io: &Io, args: AlterArgs) -> Result<(), CliError> {
    let changes = args.changes()?;
    let cluster = args.brokers.connect(io).await?;
    let (mut altered, mut failures) = (Vec::new(), Vec::new());
    for resource in args.resources.resources() {
        if let Err(error) = check_deleted_names(&cluster, &resource, &args.delete).await {
            failures.push(error);
            continue;
        }
        match cluster.alter_configs(&resource, &changes, args.validate_only).await {
            Ok(()) => altered.push(resource),
            Err(error) => failures.push(with_nearest(&cluster, &resource, &changes, error).await),
        }
    }
    let verb = if args.validate_only { "could alter" } else { "altered" };
    match args.output {
        Output::Json => {
            let names = altered.iter().map(ConfigResource::to_string).collect::<Vec<_>>();
            print_json(&json!({ "altered": names, "validated_only": args.validate_only }))?;
        }
        Output::Text => print_with(|out| {
            altered.iter().try_for_each(|resource| writeln!(out, "{verb} {resource}"))
        })?,
    }
    CliError::of_several(failures)
}

/// The refusal, with the nearest right names where wrong ones are the reason for it.
async fn with_nearest(
    cluster: &Cluster,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    error: ClientError,
) -> ClientError {
    if !is_of_a_name(&error) {
        return error;
    }
    let names = changes.iter().map(|change| change.name.as_str());
    match known_names(cluster, resource).await {
        Some(known) => with_nearest_of(error, names, &known),
        None => error,
    }
}

/// Whether a wrong name may be what was refused.
pub(super) fn is_of_a_name(error: &ClientError) -> bool {
    let codes = [ErrorCode::InvalidConfig, ErrorCode::InvalidRequest];
    codes.iter().any(|code| error.is_code(*code))
}

/// The refusal, with the name out of `known` that is most like each of `names` that is not there.
pub(super) fn with_nearest_of<'a>(
    error: ClientError,
    names: impl Iterator<Item = &'a str>,
    known: &BTreeSet<String>,
) -> ClientError {
    let ClientError::Refused { what, code, message } = error else { return error };
    let mut words = message.unwrap_or_default();
    for wrong in names.filter(|name| !known.contains(*name)) {
        match nearest(wrong, known) {
            Some(right) if !has_word(&words, right) => {
                words = format!("{words}; {wrong} is not known, did you mean {right}?");
            }
            _ => {}
        }
    }
    let message = Some(words.trim_start_matches("; ").to_owned());
    ClientError::Refused { what, code, message: message.filter(|words| !words.is_empty()) }
}

/// Refuses to delete a setting that the resource cannot have: Kafka's brokers take no notice.
pub(super) async fn check_deleted_names(
    cluster: &Cluster,
    resource: &ConfigResource,
    names: &[String],
) -> Result<(), ClientError> {
    if names.is_empty() {
        return Ok(());
    }
    let Some(known) = known_names(cluster, resource).await else { return Ok(()) };
    let Some(wrong) = names.iter().find(|name| !known.contains(*name)) else { return Ok(()) };
    let refused = ClientError::Refused {
        what: format!("altering {resource}"),
        code: ErrorCode::InvalidConfig,
        message: Some(format!("there is no setting {wrong}")),
    };
    Err(with_nearest_of(refused, std::iter::once(wrong.as_str()), &known))
}

/// The names that a resource may have settings of, as far as the brokers tell.
pub(super) async fn known_names(
    cluster: &Cluster,
    resource: &ConfigResource,
) -> Option<BTreeSet<String>> {
    let asked = match resource {
        // Its own answer only has what was set; each broker knows all the names.
        ConfigResource::BrokerDefaults => ConfigResource::Broker(cluster.brokers().first()?.id),
        resource => resource.clone(),
    };
    let entries = cluster.describe_configs(&asked).await.ok()?;
    let names: BTreeSet<String> = entries.into_iter().map(|entry| entry.name).collect();
    Some(names).filter(|names| !names.is_empty())
}

/// Whether `text` has `word` as a word of its own: the broker has made the suggestion itself.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || ".-_".contains(letter);
    text.split(|letter| !is_part(letter)).any(|other| other.trim_end_matches('.') == word)
}

/// The name that is most like `name`, if any is at all alike.
fn nearest<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let likeness = |known: &str| {
        let by_letters = strsim::normalized_damerau_levenshtein(name, known);
        by_letters.max(strsim::jaro_winkler(name, known))
    };
    known
        .iter()
        .map(|known| (likeness(known), known.as_str()))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, known)| known)
}

impl ResourceArgs {
    fn resources(&self) -> Vec<ConfigResource> {
        let topics = self.topic.iter().cloned().map(ConfigResource::Topic);
        let brokers = self.broker.iter().map(|id| ConfigResource::Broker(NodeId(*id)));
        let defaults = self.broker_defaults.then_some(ConfigResource::BrokerDefaults);
        let groups = self.group.iter().cloned().map(ConfigResource::Group);
        let metrics = self.client_metrics.iter().cloned().map(ConfigResource::ClientMetrics);
        topics.chain(brokers).chain(defaults).chain(groups).chain(metrics).collect()
    }
}

impl AlterArgs {
    fn changes(&self) -> Result<Vec<ConfigChange>, CliError> {
        let pairs = |pairs: &[(String, String)], edit: fn(String) -> ConfigEdit| {
            let changes = pairs.iter().map(|(name, value)| ConfigChange {
                name: name.clone(),
                edit: edit(value.clone()),
            });
            changes.collect::<Vec<_>>()
        };
        let mut changes = pairs(&self.set, ConfigEdit::Set);
        let deleted = self.delete.iter().cloned();
        changes.extend(deleted.map(|name| ConfigChange { name, edit: ConfigEdit::Delete }));
        changes.extend(pairs(&self.append, ConfigEdit::Append));
        changes.extend(pairs(&self.subtract, ConfigEdit::Subtract));
        let mut seen = BTreeSet::new();
        match changes.iter().find(|change| !seen.insert(&change.name)) {
            Some(twice) => {
                Err(CliError::Usage(format!("{} is named twice; say one thing of it", twice.name)))
            }
            None => Ok(changes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a slip of the keyboard is put right, nonsense is not. Method: one of each.
    #[test]
    fn the_nearest_name_is_near() {
        let known: BTreeSet<String> =
            ["retention.ms", "retention.bytes", "segment.bytes"].map(str::to_owned).into();
        assert_eq!(nearest("retention.mss", &known), Some("retention.ms"));
        assert_eq!(nearest("retntion.bytes", &known), Some("retention.bytes"));
        assert_eq!(nearest("zzz", &known), None);
        assert!(has_word("no retention.mss; is retention.ms meant?", "retention.ms"));
        assert!(!has_word("no retention.mss", "retention.ms"));
    }
}
