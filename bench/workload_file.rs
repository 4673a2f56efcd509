//! A workload file: several workloads by name, one after the other or together.
//!
//! ```toml
//! [defaults]              # for every workload that has the parameter
//! brokers = "127.0.0.1:9092"
//! record-bytes = "1K"
//!
//! [[workload]]
//! name = "orders"
//! kind = "produce"
//! rate = "20MB"
//!
//! [[workload]]
//! name = "readers"
//! kind = "fetch"
//! together = true         # at the same time as the one before
//! follow = true
//! ```
//!
//! Each workload is read as the command line that its parameters make, so that both have the same
//! names, values and refusals.

use anyhow::{Context, anyhow, bail, ensure};
use clap::FromArgMatches as _;
use toml::{Table, Value};

use crate::arguments::{Cli, Command, ReportArgs, RunFileArgs, command_line};
use crate::job::{Job, Measured};
use crate::outcome::{Origin, now_ms, print};
use crate::pace::stopped_at;
use crate::result::RunResult;

/// Kinds of workloads that a file may have: subcommands that make a job.
const KINDS: &[&str] = &[
    "produce",
    "fetch",
    "end-to-end",
    "mixed",
    "connections",
    "partitions",
    "groups commit",
    "disk",
];

/// Keys of a workload that are no flags.
const OWN_KEYS: &[&str] = &["name", "kind", "together"];

/// Flags that are of the whole run: they stand on its command line.
const RUN_FLAGS: &[&str] = &["json", "hgrm", "hlog", "html", "output", "help", "version"];

/// Least likeness of two words of which one may have been meant for the other.
const LIKENESS_MIN: f64 = 0.7;

/// A workload as the file has it.
pub struct Workload {
    pub command: Command,
    pub origin: Origin,
    /// Whether it runs at the same time as the one before.
    pub is_together: bool,
}

/// Runs `ringmain-bench run`: prints each result, and writes all of them to one file.
///
/// # Errors
/// The file says something that cannot be, or a workload cannot go on.
pub fn run(args: &RunFileArgs) -> anyhow::Result<()> {
    let shown = args.file.display();
    let text =
        std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {shown}"))?;
    let workloads = parse(&text, &overrides(args)).with_context(|| format!("in {shown}"))?;
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    let mut left = workloads.into_iter().peekable();
    while let Some(first) = left.next() {
        let mut group = vec![first];
        while let Some(next) = left.next_if(|next| next.is_together) {
            group.push(next);
        }
        if stopped_at().is_some() {
            break; // what was measured is still told
        }
        let measured = match run_together(group) {
            Ok(measured) => measured,
            Err(error) => {
                failures.push(error);
                break; // as above
            }
        };
        for (result, failure) in measured {
            print(std::slice::from_ref(&result), args.report.output)?;
            failures
                .extend(failure.map(|failure| anyhow!("workload {:?}: {failure}", result.name)));
            results.push(result);
        }
    }
    if let Some(path) = &args.report.json {
        let text = serde_json::to_string(&results)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    args.report.files.write(&results)?;
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// What the command line says for all workloads, whatever the file says.
fn overrides(args: &RunFileArgs) -> Table {
    let mut overrides = Table::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            overrides.insert(name.to_owned(), Value::String(value));
        }
    };
    set("brokers", args.brokers.clone());
    set("label", args.report.label.clone());
    set("broker-pid", args.report.broker_pid.map(|pid| pid.to_string()));
    overrides
}

/// Makes all ready, one after the other, and then measures them at the same time. Each result comes
/// with what is an error about it, if there is something.
fn run_together(group: Vec<Workload>) -> anyhow::Result<Vec<(RunResult, Option<String>)>> {
    let mut ready = Vec::with_capacity(group.len());
    for workload in group {
        let name = workload.origin.name.clone().unwrap_or_default();
        let context = || format!("workload {name:?}");
        let (report, job) = prepare(&workload.command).with_context(context)?;
        let job = job.with_context(context)?;
        ready.push((workload.origin, report.clone(), job));
    }
    let is_shared = ready.len() > 1;
    let started_at_ms = now_ms();
    std::thread::scope(|scope| {
        let measure = |(origin, report, job): (Origin, ReportArgs, Job)| {
            scope.spawn(move || {
                let measured: Measured = job.measure()?;
                let failure = measured.failure.clone();
                let mut result = origin.result(&report, started_at_ms, measured);
                if is_shared {
                    let note = "ran together with others: client and broker costs are of all";
                    result.warnings.push(note.to_owned());
                }
                anyhow::Ok((result, failure))
            })
        };
        let threads: Vec<_> = ready.into_iter().map(measure).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.map_err(|_| anyhow!("a workload panicked"))?).collect()
    })
}

/// What a subcommand has to say about its report, and the job that it makes.
///
/// # Errors
/// It is none that makes a job.
pub fn prepare(command: &Command) -> anyhow::Result<(&ReportArgs, anyhow::Result<Job>)> {
    Ok(match command {
        Command::Produce(args) | Command::Partitions(args) => {
            (&args.run.report, crate::produce::prepare(args))
        }
        Command::Fetch(args) => (&args.run.report, crate::fetch::prepare(args)),
        Command::EndToEnd(args) => (&args.produce.run.report, crate::end_to_end::prepare(args)),
        Command::Mixed(args) => (&args.produce.run.report, crate::end_to_end::prepare_mixed(args)),
        Command::Connections(args) => (&args.produce.run.report, crate::idle::prepare(args)),
        Command::Groups(crate::arguments::GroupsCommand::Commit(args)) => {
            (&args.run.report, crate::commit::prepare(args))
        }
        Command::Disk(args) => (&args.report, crate::disk::prepare(args)),
        _ => bail!("it is no workload that a file can have"),
    })
}

/// The workloads of a file's text.
///
/// # Errors
/// It is no TOML, or names something that is not there: what, and what is nearest to it.
pub fn parse(text: &str, overrides: &Table) -> anyhow::Result<Vec<Workload>> {
    let file: Table = toml::from_str(text).map_err(|error| anyhow!("{error}"))?;
    check_names(file.keys(), &["defaults", "workload"], "the file")?;
    let defaults = match file.get("defaults") {
        Some(Value::Table(defaults)) => defaults.clone(),
        Some(_) => bail!("defaults must be a table: [defaults]"),
        None => Table::new(),
    };
    let any_kind: Vec<String> = KINDS.iter().flat_map(|kind| flags_of(kind)).collect();
    let any_kind: Vec<&str> = any_kind.iter().map(String::as_str).collect();
    check_names(defaults.keys(), &any_kind, "[defaults]")?;
    let Some(Value::Array(workloads)) = file.get("workload") else {
        bail!("there is no [[workload]]");
    };
    let read = |(index, workload): (usize, &Value)| {
        let workload = workload.as_table().ok_or_else(|| anyhow!("write [[workload]]"))?;
        parse_workload(workload, &defaults, overrides, index)
    };
    workloads.iter().enumerate().map(read).collect()
}

fn parse_workload(
    workload: &Table,
    defaults: &Table,
    overrides: &Table,
    index: usize,
) -> anyhow::Result<Workload> {
    let text = |key: &str| workload.get(key).and_then(Value::as_str);
    let place = match text("name") {
        Some(name) => format!("workload {name:?}"),
        None => format!("the workload at place {}", index + 1),
    };
    let kind = text("kind").ok_or_else(|| anyhow!("{place} has no kind"))?;
    ensure!(KINDS.contains(&kind), "{place}: there is no kind {kind:?}{}", hint(kind, KINDS));
    let flags = flags_of(kind);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let own = workload.iter().filter(|(key, _)| !OWN_KEYS.contains(&key.as_str()));
    let own: Table = own.map(|(key, value)| (flag(key), value.clone())).collect();
    check_names(own.keys(), &flags, &format!("{place} ({kind})"))?;
    let mut line: Vec<String> = vec!["ringmain-bench".to_owned()];
    line.extend(kind.split(' ').map(str::to_owned));
    for name in &flags {
        let value = overrides.get(*name).or_else(|| own.get(*name));
        let default = || defaults.iter().find(|(key, _)| flag(key) == *name).map(|(_, v)| v);
        if let Some(value) = value.or_else(default) {
            put_flag(&mut line, name, value).with_context(|| place.clone())?;
        }
    }
    let command = command_line();
    let matches = command.clone().try_get_matches_from(line).map_err(|error| {
        let rendered = error.to_string();
        let reason = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ");
        anyhow!("{place}: {reason}")
    })?;
    let mut origin = Origin::of(&command, &matches);
    origin.name = Some(text("name").unwrap_or(kind).to_owned());
    let is_together = match workload.get("together") {
        None => false,
        Some(Value::Boolean(is_together)) => *is_together,
        Some(_) => bail!("{place}: together must be true or false"),
    };
    let command = Cli::from_arg_matches(&matches)?.command;
    Ok(Workload { command, origin, is_together })
}

/// Flags of a kind, without their dashes.
fn flags_of(kind: &str) -> Vec<String> {
    let root = command_line();
    let command = kind
        .split(' ')
        .fold(&root, |command, name| command.find_subcommand(name).expect("kinds are subcommands"));
    let longs = command.get_arguments().filter_map(|argument| argument.get_long());
    longs.filter(|long| !RUN_FLAGS.contains(long)).map(str::to_owned).collect()
}

/// A key as its flag is written: `batch_bytes` is `batch-bytes`.
fn flag(key: &str) -> String {
    key.replace('_', "-")
}

fn put_flag(line: &mut Vec<String>, name: &str, value: &Value) -> anyhow::Result<()> {
    match value {
        Value::String(text) => line.push(format!("--{name}={text}")),
        Value::Integer(number) => line.push(format!("--{name}={number}")),
        Value::Float(number) => line.push(format!("--{name}={number}")),
        Value::Boolean(true) => line.push(format!("--{name}")),
        Value::Boolean(false) => {}
        Value::Array(values) => {
            values.iter().try_for_each(|value| put_flag(line, name, value))?;
        }
        _ => bail!("{name} must be a text, a number, true or false, or a list of such"),
    }
    Ok(())
}

/// Refuses the first name that is not known.
fn check_names<'a>(
    names: impl Iterator<Item = &'a String>,
    known: &[&str],
    place: &str,
) -> anyhow::Result<()> {
    for name in names {
        let name = flag(name);
        ensure!(
            known.contains(&name.as_str()),
            "{place} has a parameter {name:?} that does not exist{}",
            hint(&name, known)
        );
    }
    Ok(())
}

/// What may have been meant by `name`, as the end of a sentence.
fn hint(name: &str, known: &[&str]) -> String {
    let likeness = |other: &&&str| strsim::jaro_winkler(name, other);
    let nearest = known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match nearest {
        Some(nearest) if likeness(&nearest) >= LIKENESS_MIN => {
            format!("; did you mean {nearest:?}?")
        }
        _ => format!("; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text, &Table::new()).err().expect("it is wrong"))
    }

    /// Goal: parameters are the flags'. Method: defaults, own ones, numbers, switches, lists.
    #[test]
    fn workloads_have_their_own_parameters_over_the_defaults() {
        let text = r#"
            [defaults]
            brokers = "10.0.0.1:9092"
            record_bytes = 100
            follow = true
            [[workload]]
            kind = "produce"
            name = "orders"
            record-bytes = "2K"
            idempotence = true
            topic-config = ["retention.ms=1000", "segment.bytes=1048576"]
            rate = "20MB"
            [[workload]]
            kind = "fetch"
            together = true
        "#;
        let workloads = parse(text, &Table::new()).expect("it is right");
        let Command::Produce(produce) = &workloads[0].command else { panic!("kind") };
        assert_eq!(produce.load.record_bytes, 2048);
        assert!(produce.load.idempotence && produce.load.rate.is_some());
        assert_eq!(produce.target.topic_config.len(), 2);
        let Command::Fetch(fetch) = &workloads[1].command else { panic!("kind") };
        assert!(fetch.follow);
        assert_eq!(fetch.target.brokers, "10.0.0.1:9092");
        assert_eq!(workloads[0].origin.name.as_deref(), Some("orders"));
        assert_eq!(workloads[1].origin.name.as_deref(), Some("fetch"));
        assert_eq!((workloads[0].is_together, workloads[1].is_together), (false, true));
        let mut overrides = Table::new();
        overrides.insert("brokers".to_owned(), Value::String("10.0.0.2:9092".to_owned()));
        let workloads = parse(text, &overrides).expect("it is right");
        let Command::Produce(produce) = &workloads[0].command else { panic!("kind") };
        assert_eq!(produce.target.brokers, "10.0.0.2:9092");
    }

    #[test]
    fn the_example_is_right() {
        let workloads = parse(include_str!("workloads/example.toml"), &Table::new());
        let names = workloads.expect("it is right").into_iter().map(|one| one.origin.name);
        assert_eq!(names.flatten().collect::<Vec<_>>(), ["orders", "audit", "ingest"]);
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_is_nearest() {
        let fault = refusal("[[workload]]\nkind = \"produce\"\nbatch-byts = 1");
        assert!(fault.contains("\"batch-byts\"") && fault.contains("\"batch-bytes\""), "{fault}");
        let fault = refusal("[[workload]]\nname = \"a\"\nkind = \"prodce\"");
        assert!(fault.contains("workload \"a\"") && fault.contains("\"produce\""), "{fault}");
        let fault = refusal("[default]\nbrokers = \"a\"");
        assert!(fault.contains("did you mean \"defaults\"?"), "{fault}");
        let fault = refusal("[defaults]\nxyzzy = 1\n[[workload]]\nkind = \"fetch\"");
        assert!(fault.contains("[defaults]") && fault.contains("there are: "), "{fault}");
        let fault = refusal("[[workload]]\nkind = \"fetch\"\njson = \"f\"");
        assert!(fault.contains("\"json\""), "{fault}");
        assert!(refusal("[[workload]]\nname = \"a\"").contains("has no kind"));
        assert!(refusal("").contains("no [[workload]]"));
        assert!(refusal("[[workload]").contains("expected"));
    }

    #[test]
    fn values_are_checked_as_those_of_flags() {
        let fault = refusal("[[workload]]\nkind = \"produce\"\nname = \"a\"\nrate = \"fast\"");
        assert!(fault.contains("workload \"a\"") && fault.contains("--rate"), "{fault}");
        let fault = refusal("[[workload]]\nkind = \"produce\"\nkeys = {a = 1}");
        assert!(fault.contains("keys must be"), "{fault}");
    }
}
