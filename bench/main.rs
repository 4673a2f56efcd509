//! `ringmain-bench`: a load generator for any Kafka broker, and the figures that it is compared
//! with.
//!
//! In reading order: `arguments` and `units` (the flags), `topic` (make it, find its leaders),
//! `job` (a workload that is ready to run), `pace` (when it measures and ends), `schedule` (when
//! requests are due), `recorder` (what threads see), `result` (the document that comes of it).
//! - Producing: `produce`, `producer` (a connection's loop) over `lane` (the connection), `load`
//!   (prebuilt requests), `payload` (their records), `crc`, `stamp` (when they were to be sent).
//! - Together: `end_to_end` (also with those that catch up), `idle` (thousands of connections),
//!   `workload_file` (several by name), `search` (the highest rate that holds a goal).
//! - Fetching: `fetch`, `consumer` (a connection's loop), `walk` (what a fetch brought).
//! - `sink`: the generator itself, measured.
//! - Groups: `groups` and `commit`, `member` (one of theirs). `disk`: the base line of a write.
//! - What is said of it: `outcome` (the result and where it goes), `progress` (while it runs),
//!   `process` (what it cost), `compare` (several results beside each other), `terminal` (as text),
//!   `files` (as what other programs read): `hgrm` and `hlog` (HdrHistogram's own formats), `page`
//!   (one HTML file). `figures`: numbers as people read them.

#![forbid(unsafe_code)]

mod arguments;
mod commit;
mod compare;
mod consumer;
mod crc;
mod disk;
mod end_to_end;
mod fetch;
mod figures;
mod files;
mod groups;
mod hgrm;
mod hlog;
mod idle;
mod job;
mod lane;
mod load;
mod member;
mod outcome;
mod pace;
mod page;
mod payload;
mod process;
mod produce;
mod producer;
mod progress;
mod recorder;
mod result;
mod schedule;
mod search;
mod sink;
mod stamp;
mod terminal;
mod topic;
mod units;
mod walk;
mod workload_file;

#[cfg(test)]
mod generator_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod scripted;

use std::process::ExitCode;
use std::time::Instant;

use clap::FromArgMatches as _;

use arguments::{Cli, Command, GroupsCommand, Output, ReadyArgs, command_line};
use outcome::Origin;
use ringmain::io::signals;

/// What the generator calls itself in the broker's logs and quotas.
pub const CLIENT_ID: &str = "ringmain-bench";

/// What a program ends with that was interrupted twice.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let origin = Origin::of(&command_line(), &matches);
    let ended = watch_signals(&cli.command).and_then(|()| run(cli.command, origin));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmain-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The first Ctrl-C ends the measurement, which is still reported; the second one ends everything.
/// What waits only has nothing to report and just ends.
fn watch_signals(command: &Command) -> anyhow::Result<()> {
    if matches!(command, Command::Ready(_)) {
        return Ok(());
    }
    signals::block()?;
    signals::on_stop(|_| {
        if !pace::stop_all() {
            std::process::exit(INTERRUPTED);
        }
    })?;
    Ok(())
}

fn run(command: Command, origin: Origin) -> anyhow::Result<()> {
    match command {
        Command::Groups(GroupsCommand::Heartbeat(args)) => {
            let report = groups::heartbeat(&args)?;
            print_as(args.target.output, || report.text(), || serde_json::to_string(&report))
        }
        Command::Groups(GroupsCommand::Rebalance(args)) => {
            let report = groups::rebalance(&args)?;
            print_as(args.target.output, || report.text(), || serde_json::to_string(&report))
        }
        Command::Ready(args) => ready(&args),
        Command::Report(args) => files::report(&args),
        Command::Run(args) => workload_file::run(&args),
        Command::Sink(args) => sink::run(&args, origin),
        Command::Search(args) => search::run(&args, &origin),
        command => {
            let (report, job) = workload_file::prepare(&command)?;
            origin.report(report, job?)
        }
    }
}

fn print_as(
    output: Output,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> serde_json::Result<String>,
) -> anyhow::Result<()> {
    match output {
        Output::Text => println!("{}", text()),
        Output::Json => println!("{}", json()?),
    }
    Ok(())
}

fn ready(args: &ReadyArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    let partitions_min = args.partitions as usize;
    let topic = topic::wait_until_ready(&args.brokers, &args.topic, partitions_min, args.timeout)?;
    let waited_ms = began.elapsed().as_secs_f64() * 1e3;
    println!("{} partitions answer after {waited_ms:.1} ms", topic.partitions_count());
    Ok(())
}
