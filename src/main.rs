//! The command line: one binary for the broker and for all that one does with it.

use clap::{Parser, Subcommand};
use ringmain::node::ServeArgs;
use ringmain::{cli, node};
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Overrides what is logged, as `RUST_LOG` does elsewhere: `debug`, `ringmain::storage=trace`.
const LOG_VARIABLE: &str = "RINGMAIN_LOG";

/// A streaming broker that Kafka's clients use unchanged
#[derive(Debug, Parser)]
#[command(name = "ringmain", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker until it is told to stop
    Serve(ServeArgs),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Serve(args) => {
            start_log("info");
            match node::serve(&args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("ringmain: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Client(command) => {
            start_log("warn");
            cli::run(command)
        }
    }
}

/// Logs to stderr what `RINGMAIN_LOG` asks for, else `default` and above; in colour on a terminal.
fn start_log(default: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    subscriber.with_ansi(io::stderr().is_terminal()).init();
}
