//! From what a job measured to the result document, and to where that goes.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::{ArgMatches, Command};

use crate::arguments::{Output, ReportArgs};
use crate::job::{Job, Measured};
use crate::process::machine;
use crate::result::{FORMAT, RunResult, Setting};
use crate::terminal;

/// What a workload is called and what it was told: its command line.
#[derive(Clone, Default)]
pub struct Origin {
    /// Kind of the workload: `produce`, `groups commit`.
    pub command: String,
    /// The workload's name in its file.
    pub name: Option<String>,
    pub settings: Vec<Setting>,
}

impl Origin {
    /// Of a command line that was read as `matches`.
    pub fn of(program: &Command, matches: &ArgMatches) -> Origin {
        let (mut names, mut command, mut matches) = (Vec::new(), program, matches);
        while let Some((name, inner)) = matches.subcommand() {
            names.push(name);
            command = command.find_subcommand(name).expect("it was just read");
            matches = inner;
        }
        let settings = command.get_arguments().filter_map(|argument| {
            let name = format!("--{}", argument.get_long()?);
            let raw = matches.get_raw(argument.get_id().as_str())?;
            let values: Vec<String> = raw.map(|value| value.to_string_lossy().into()).collect();
            let is_unset_switch = values == ["false"];
            (!is_unset_switch).then(|| Setting { name, value: values.join(",") })
        });
        Origin { command: names.join(" "), name: None, settings: settings.collect() }
    }

    /// Runs the job, prints its result and writes its files.
    ///
    /// # Errors
    /// The job cannot go on, a file cannot be written, or the rate that was asked for was not held:
    /// what was measured has been printed and written then.
    pub fn report(self, args: &ReportArgs, job: Job) -> anyhow::Result<()> {
        let started_at_ms = now_ms();
        let measured = job.measure()?;
        let failure = measured.failure.clone();
        let result = self.result(args, started_at_ms, measured);
        publish(&[result], args)?;
        failure.map_or(Ok(()), |failure| Err(anyhow!(failure)))
    }

    /// The result document of what was measured.
    pub fn result(self, args: &ReportArgs, started_at_ms: i64, measured: Measured) -> RunResult {
        let name = self.name.unwrap_or_else(|| self.command.clone());
        let brokers = self.settings.iter().find(|setting| setting.name == "--brokers");
        let address = brokers.map_or("this machine".to_owned(), |setting| setting.value.clone());
        let asked = measured.parts.iter().find_map(|part| part.asked.clone());
        let main = measured.parts.first().cloned().unwrap_or_default();
        let mut errors_by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in measured.parts.iter().flat_map(|part| &part.errors_by_name) {
            *errors_by_name.entry(name.clone()).or_default() += count;
        }
        let broker_cores = measured.broker.as_ref().map(|broker| rounded(broker.cores));
        RunResult {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: self.command,
            name,
            label: args.label.clone().unwrap_or(address),
            started_at_ms,
            settings: self.settings,
            machine: machine(),
            parts: measured.parts,
            steps: Vec::new(),
            asked,
            broker: measured.broker,
            ended_early: measured.ended_early,
            warnings: measured.warnings,
            seconds: main.seconds,
            bytes: main.bytes,
            records: main.records,
            requests: main.requests,
            bytes_per_second: main.bytes_per_second,
            records_per_second: main.records_per_second,
            requests_per_second: main.requests_per_second,
            errors: errors_by_name.values().sum(),
            errors_by_name,
            latency_us: main.series.into_iter().next().unwrap_or_default().latency_us,
            client_cores: rounded(measured.client_cores),
            broker_cores,
        }
    }
}

/// Time of the wall clock, ms since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn rounded(cores: f64) -> f64 {
    (cores * 1000.0).round() / 1000.0
}

/// Prints the results and writes them to all files that were asked for.
///
/// # Errors
/// A file cannot be written.
pub fn publish(results: &[RunResult], args: &ReportArgs) -> anyhow::Result<()> {
    print(results, args.output)?;
    if let Some(path) = &args.json {
        let text = match results {
            [result] => serde_json::to_string(result)?,
            results => serde_json::to_string(results)?,
        };
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    args.files.write(results)
}

/// Prints the results, their warnings loudly.
///
/// # Errors
/// None that a result has.
pub fn print(results: &[RunResult], output: Output) -> anyhow::Result<()> {
    for result in results {
        for warning in &result.warnings {
            eprintln!("ringmain-bench: WARNING: {warning}");
        }
        match output {
            Output::Text => println!("{}", terminal::of_run(result)),
            Output::Json => println!("{}", serde_json::to_string(result)?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::command_line;

    /// Goal: a result tells how it was made. Method: a command line with set, unset and default
    /// flags.
    #[test]
    fn the_settings_are_the_flags_with_their_values() {
        let command = command_line();
        let line = ["ringmain-bench", "produce", "--connections", "8", "--idempotence"];
        let origin = Origin::of(&command, &command.clone().get_matches_from(line));
        assert_eq!(origin.command, "produce");
        let value = |name: &str| {
            origin.settings.iter().find(|one| one.name == name).map(|one| one.value.as_str())
        };
        assert_eq!(value("--connections"), Some("8"));
        assert_eq!(value("--idempotence"), Some("true"));
        assert_eq!(value("--acks"), Some("all"));
        assert_eq!((value("--recreate"), value("--rate")), (None, None));
        let line = ["ringmain-bench", "groups", "commit"];
        let origin = Origin::of(&command, &command.clone().get_matches_from(line));
        assert_eq!(origin.command, "groups commit");
    }
}
