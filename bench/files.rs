//! The files that hold a report: the page, the percentile distributions, the interval log.
//!
//! Each is written whole. A folder that is not there is not made: the path is a mistake then.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::compare::Comparison;
use crate::page::{self, ExtraTable, Extras};
use crate::result::{RunResult, decode_histogram};
use crate::{hgrm, hlog, terminal};

/// Files that a run writes beside what it prints.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// Write the latency's percentiles as HdrHistogram's plotter reads them; further series go
    /// beside it, named NAME.PART.SERIES.hgrm
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write every second's latencies as HdrHistogram's log reader reads them
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write a page with plots, one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of `report`.
#[derive(Args)]
pub struct ComparisonArgs {
    /// Results that --json wrote; those of one label and name are runs of the same
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,
    /// Write a page with all of it, one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Headline of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// File with plain text for the top of the page; empty lines part its paragraphs
    #[arg(long, value_name = "FILE")]
    pub notes: Option<PathBuf>,
    /// File with a table for the top of the page: {"columns": [...], "rows": [[...], ...]}
    #[arg(long, value_name = "FILE.json")]
    pub table: Option<PathBuf>,
}

impl FileArgs {
    /// Writes those that were asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, results: &[RunResult]) -> anyhow::Result<()> {
        if results.is_empty() {
            return Ok(()); // ended before there was any
        }
        if let Some(path) = &self.hgrm {
            write_hgrm(path, results)?;
        }
        if let Some(path) = &self.hlog {
            write(path, &hlog::text(results)?)?;
        }
        if let Some(path) = &self.html {
            let comparison = Comparison::new(results.to_vec());
            write(path, &page::html(&comparison, &Extras::default())?)?;
        }
        Ok(())
    }
}

/// `report`: what earlier runs found, beside each other.
///
/// # Errors
/// A file cannot be read or written, or is something else.
pub fn report(args: &ComparisonArgs) -> anyhow::Result<()> {
    let comparison = Comparison::read(&args.results)?;
    if let Some(path) = &args.html {
        let table = args.table.as_deref().map(read_table).transpose()?;
        let notes = args.notes.as_deref().map(read).transpose()?;
        let extras = Extras { title: args.title.clone(), notes, table };
        write(path, &page::html(&comparison, &extras)?)?;
    }
    println!("{}", terminal::of_comparison(&comparison));
    Ok(())
}

/// The first series goes to `path`, for it is what the run was about.
fn write_hgrm(path: &Path, results: &[RunResult]) -> anyhow::Result<()> {
    let mut is_first = true;
    for result in results {
        for part in &result.parts {
            for series in &part.series {
                let tag = match results.len() {
                    1 => hlog::tag(&[&part.name, &series.name]),
                    _ => hlog::tag(&[&result.name, &part.name, &series.name]),
                };
                let text = hgrm::text(&decode_histogram(&series.histogram)?, &tag);
                let beside = path.with_extension(format!("{tag}.hgrm"));
                write(if is_first { path } else { &beside }, &text)?;
                is_first = false;
            }
        }
    }
    Ok(())
}

fn read_table(path: &Path) -> anyhow::Result<ExtraTable> {
    serde_json::from_str(&read(path)?).with_context(|| {
        format!("{} is no table: {{\"columns\": [...], \"rows\": [[...], ...]}}", path.display())
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
