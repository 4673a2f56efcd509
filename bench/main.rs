//! `ringmain-bench`: a load generator for any Kafka broker, and the figures that it is compared
//! with.
//!
//! In reading order: `arguments` (the flags), `topic` (make it, find its leaders), `load` (prebuilt
//! requests), `lane` (a connection), `pace` (when a run measures and ends), `produce` and `fetch`
//! (the loops), `walk` (what a fetch brought), `groups` and `commit` (consumer groups), `member`
//! (one of theirs), `disk` (the base line), `report` (what was measured, as text or JSON).

#![forbid(unsafe_code)]

mod arguments;
mod commit;
mod crc;
mod disk;
mod fetch;
mod groups;
mod lane;
mod load;
mod member;
mod pace;
mod produce;
mod report;
mod result;
mod topic;
mod walk;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use arguments::{Cli, Command, GroupsCommand, Output, ReadyArgs};
use report::Report;

/// What the generator calls itself in the broker's logs and quotas.
pub const CLIENT_ID: &str = "ringmain-bench";

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Produce(args) => produce::run(&args).map(|report| print(&report, args.run.output)),
        Command::Fetch(args) => fetch::run(&args).map(|report| print(&report, args.run.output)),
        Command::Groups(command) => measure_groups(&command),
        Command::Disk(args) => disk::run(&args).map(|report| print(&report, args.output)),
        Command::Ready(args) => ready(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmain-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report, output: Output) {
    match output {
        Output::Text => println!("{}", report.text()),
        Output::Json => println!("{}", report.json()),
    }
}

fn measure_groups(command: &GroupsCommand) -> anyhow::Result<()> {
    match command {
        GroupsCommand::Heartbeat(args) => {
            let report = groups::heartbeat(args)?;
            print_as(args.target.output, || report.text(), || serde_json::to_string(&report))
        }
        GroupsCommand::Rebalance(args) => {
            let report = groups::rebalance(args)?;
            print_as(args.target.output, || report.text(), || serde_json::to_string(&report))
        }
        GroupsCommand::Commit(args) => {
            print(&commit::run(args)?, args.run.output);
            Ok(())
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
