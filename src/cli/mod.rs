//! The subcommands of `ringmain` beside `serve`: topics, groups, configs,
//! produce, consume, log.
//!
//! People get aligned text, programs `--output json`. A failure is one sentence on stderr, and the
//! command ends with an exit code: 1 where the work failed, 2 where the command line was wrong.
#![forbid(unsafe_code)]

pub mod configs;
pub mod consume;
pub mod groups;
pub mod log;
pub mod output;
pub mod produce;
pub mod reset;
pub mod segment;
pub mod table;
pub mod timestamp;
pub mod topics;

use crate::client::cluster::Cluster;
use crate::client::connection::ConnectionConfig;
use crate::client::error::ClientError;
use crate::io::{self as ring, Io, signals};
use clap::{Args, Subcommand, ValueEnum};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of work that failed.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a wrong command line; clap's own.
pub const EXIT_USAGE: u8 = 2;

/// What a client can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// List, describe and delete consumer groups, reset their offsets
    #[command(subcommand)]
    Groups(groups::GroupsCommand),
    /// Describe and alter the settings of topics, brokers, groups and client metrics
    #[command(subcommand)]
    Configs(configs::ConfigsCommand),
    /// Write the lines of standard input to a topic
    Produce(produce::ProduceArgs),
    /// Print topics' records, alone or as a member of a group
    Consume(consume::ConsumeArgs),
    /// Look into segment files
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// Which brokers to ask.
#[derive(Debug, Clone, Args)]
pub struct BrokerArgs {
    /// Brokers to ask first, as host:port, separated by commas
    #[arg(
        long,
        short = 'b',
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap_server: Vec<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,
}

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Several things failed, each with its own sentence.
    #[error("{} things failed", .0.len())]
    Several(Vec<ClientError>),
    /// The flags make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The work was done, or could not be, and the reason is a sentence of its own.
    #[error("{0}")]
    Failed(String),
    /// Whoever read our output stopped: that is no failure.
    #[error("standard output was closed")]
    BrokenPipe,
}

impl CliError {
    /// A failed write to standard output.
    pub fn output(error: &io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CliError::BrokenPipe;
        }
        CliError::Failed(format!("cannot write to standard output: {error}"))
    }

    /// `Ok` where nothing failed.
    fn of_several(failures: Vec<ClientError>) -> Result<(), CliError> {
        if failures.is_empty() { Ok(()) } else { Err(CliError::Several(failures)) }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            CliError::BrokenPipe => ExitCode::SUCCESS,
            CliError::Usage(_) => ExitCode::from(EXIT_USAGE),
            CliError::Client(_) | CliError::Several(_) | CliError::Failed(_) => {
                ExitCode::from(EXIT_FAILURE)
            }
        }
    }
}

/// Does `command`, prints why it failed if it did, and gives the exit code.
pub fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Topics(command) => on_ring(async move |io| topics::run(&io, command).await),
        Command::Groups(command) => on_ring(async move |io| groups::run(&io, command).await),
        Command::Configs(command) => on_ring(async move |io| configs::run(&io, command).await),
        Command::Produce(args) => on_ring(async move |io| produce::run(&io, args).await),
        Command::Consume(args) => {
            if args.is_member()
                && let Err(error) = signals::block()
            {
                tracing::warn!(%error, "a signal ends this without leaving the group");
            }
            on_ring(async move |io| consume::run(&io, args).await)
        }
        Command::Log(command) => log::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                CliError::BrokenPipe => {}
                CliError::Several(errors) => {
                    errors.iter().for_each(|error| eprintln!("ringmain: {error}"));
                }
                error => eprintln!("ringmain: {error}"),
            }
            error.exit_code()
        }
    }
}

/// Runs `work` on a runtime of this thread.
fn on_ring(work: impl AsyncFnOnce(Io) -> Result<(), CliError>) -> Result<(), CliError> {
    let outcome = ring::run_one(async move |io| work(io).await);
    outcome.unwrap_or_else(|error| {
        let what = format!("io_uring cannot be used here: {error}; it needs Linux 5.19 or newer");
        Err(CliError::Failed(what))
    })
}

impl BrokerArgs {
    /// Connects to the cluster.
    async fn connect(&self, io: &Io) -> Result<Cluster, CliError> {
        let request_timeout = Duration::from_secs(self.timeout);
        let connect_timeout = request_timeout.min(ConnectionConfig::default().connect_timeout);
        let config =
            ConnectionConfig { request_timeout, connect_timeout, ..ConnectionConfig::default() };
        Ok(Cluster::connect(io, &self.bootstrap_server, config).await?)
    }
}

/// Parses `name=value`.
///
/// # Errors
/// A sentence: there is no `=` or no name.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("name=value is expected".to_owned()),
    }
}
