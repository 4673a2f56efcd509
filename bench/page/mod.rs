//! The page: one HTML file that holds all of a report, for one run or for many beside each other.
//!
//! In reading order: `tables` (figures and settings), `charts` and `over_time` (which plots, and
//! the lines in them), `axis` (where a value lies), `plot` (lines as SVG). Style and script are
//! files of their own and go into the page, which asks nothing of any network.
//! **Invariant:** whatever a result says, it is text on the page: all goes through [`escape`].

mod axis;
mod charts;
mod over_time;
mod plot;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

pub use tables::ExtraTable;

use crate::compare::{Comparison, Workload, words};
use crate::figures;
use crate::result::{ResultError, RunResult};

/// Colours that the style tells apart.
const COLORS_COUNT: usize = 6;

const TEMPLATE: &str = include_str!("template.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What a caller adds to a page.
#[derive(Default)]
pub struct Extras {
    /// In place of what was measured.
    pub title: Option<String>,
    /// Paragraphs, parted by empty lines.
    pub notes: Option<String>,
    pub table: Option<ExtraTable>,
}

/// The page as one file.
///
/// # Errors
/// A histogram cannot be read.
pub fn html(comparison: &Comparison, extras: &Extras) -> Result<String, ResultError> {
    assert!(!comparison.workloads.is_empty(), "there is a result at least");
    let title = extras.title.clone().unwrap_or_else(|| title(comparison));
    let mut body = head(comparison, &title);
    body += &warnings(comparison);
    if let Some(notes) = &extras.notes {
        body += &paragraphs(notes);
    }
    if let Some(table) = &extras.table {
        body += &table.html();
    }
    let is_alone = comparison.workloads.len() == 1;
    if !is_alone {
        body += &contents(comparison);
    }
    for index in 0..comparison.workloads.len() {
        body += &section(comparison, index)?;
    }
    if !is_alone {
        let machines = tables::machines(comparison);
        writeln!(body, "<div class=\"columns\">{machines}</div>").expect("into memory");
    }
    // The last one first: nothing that is put in is looked through for more.
    let parts = [("{{script}}", SCRIPT), ("{{body}}", &body), ("{{style}}", STYLE)];
    let mut page = TEMPLATE.to_owned();
    for (place, text) in parts {
        page = put(&page, place, text);
    }
    Ok(put(&page, "{{title}}", &escape(&title)))
}

fn put(page: &str, place: &str, text: &str) -> String {
    let (before, after) = page.split_once(place).expect("the template has each place");
    format!("{before}{text}{after}")
}

fn head(comparison: &Comparison, title: &str) -> String {
    let runs: Vec<&RunResult> = all_runs(comparison).collect();
    let sentence = escape(&sentence(comparison));
    let (title, version) = (escape(title), escape(&runs[0].version));
    let first_ms = runs.iter().map(|run| run.started_at_ms).min().unwrap_or(0);
    let last_ms = runs.iter().map(|run| run.started_at_ms).max().unwrap_or(0);
    let mut when = figures::date_time(first_ms);
    if last_ms - first_ms >= 60_000 {
        write!(when, " to {}", figures::date_time(last_ms)).expect("into memory");
    }
    format!(
        "<header><h1>{title}</h1><p class=\"lead\">{sentence}</p>\
         <p class=\"when\">{when}, measured by ringmain-bench {version}</p></header>\n"
    )
}

fn title(comparison: &Comparison) -> String {
    let labels = match comparison.labels.as_slice() {
        [label] => label.clone(),
        [first, second] => format!("{first} and {second}"),
        [first, others @ ..] => format!("{first} and {} others", others.len()),
        [] => String::new(),
    };
    match comparison.workloads.as_slice() {
        [workload] => format!("{}: {labels}", words(&workload.name)),
        _ => labels,
    }
}

/// What was measured, in one sentence.
fn sentence(comparison: &Comparison) -> String {
    if let ([workload], [_]) = (comparison.workloads.as_slice(), comparison.labels.as_slice()) {
        return single_sentence(workload);
    }
    let runs_counts = comparison.workloads.iter().flat_map(|workload| &workload.contenders);
    let (least, most) = runs_counts.fold((usize::MAX, 0), |(least, most), contender| {
        (least.min(contender.runs.len()), most.max(contender.runs.len()))
    });
    let runs = match (least, most) {
        (1, 1) => "one run each".to_owned(),
        (least, most) if least == most => format!("{most} runs each, shown by their medians"),
        (least, most) => format!("{least} to {most} runs each, shown by their medians"),
    };
    let labels = match comparison.labels.len() {
        1 => comparison.labels[0].clone(),
        count => format!("{count} brokers or versions"),
    };
    let workloads = match comparison.workloads.len() {
        1 => format!("the workload {}", words(&comparison.workloads[0].name)),
        count => format!("{count} workloads"),
    };
    let ratios = match comparison.has_rivals() {
        true => format!("; ratios are to the first, {}", comparison.labels[0]),
        false => String::new(),
    };
    format!("{labels} under {workloads}, {runs}{ratios}.")
}

fn single_sentence(workload: &Workload) -> String {
    let contender = &workload.contenders[0];
    let run = &contender.runs[0];
    let (label, seconds) = (&contender.label, figures::seconds(run.seconds));
    let did = match run.command.as_str() {
        "produce" => format!("Producers wrote to {label}"),
        "fetch" => format!("Consumers read from {label}"),
        "end-to-end" => format!("Producers wrote to {label} and consumers read it back"),
        "mixed" => format!("Producers, tailing consumers and one that catches up shared {label}"),
        "connections" => format!("Many connections, few of them active, were held to {label}"),
        "partitions" => format!("Producers wrote to many partitions of {label}"),
        "groups" => format!("Consumer groups used {label}"),
        "search" => format!("At the highest rate that was found, producers wrote to {label}"),
        other => format!("{} ran against {label}", words(other)),
    };
    let how = match &run.asked {
        Some(asked) if asked.bytes_per_second > 0.0 => {
            format!("at a fixed rate of {}", figures::byte_rate(asked.bytes_per_second))
        }
        Some(asked) => format!("at a fixed {}", figures::requests(asked.requests_per_second)),
        None => "as fast as it went".to_owned(),
    };
    let times = match contender.runs.len() {
        1 => String::new(),
        count => format!(" in each of {count} runs"),
    };
    let requests = figures::count(run.requests);
    let much = match (run.bytes, run.records) {
        (0, _) => format!("{requests} requests"),
        (bytes, 0) => format!("{} in {requests} requests", figures::bytes(bytes)),
        (bytes, records) => {
            let (bytes, records) = (figures::bytes(bytes), figures::count(records));
            format!("{bytes}, {records} records in {requests} requests")
        }
    };
    let much = if times.is_empty() { much } else { format!("in the first, {much}") };
    format!("{did} for {seconds}{times}, {how}: {much}.")
}

fn warnings(comparison: &Comparison) -> String {
    let warnings = comparison.warnings();
    if warnings.is_empty() {
        return String::new();
    }
    let items: String = warnings.iter().map(|one| format!("<li>{}</li>", escape(one))).collect();
    format!("<ul class=\"warnings\" aria-label=\"Warnings\">{items}</ul>\n")
}

fn paragraphs(notes: &str) -> String {
    let parted = notes.split("\n\n").map(str::trim).filter(|text| !text.is_empty());
    parted.map(|text| format!("<p class=\"note\">{}</p>\n", escape(text))).collect()
}

fn contents(comparison: &Comparison) -> String {
    let names = comparison.workloads.iter().enumerate();
    let items = names.map(|(index, workload)| {
        let name = escape(&words(&workload.name));
        format!("<li><a href=\"#workload-{index}\">{name}</a></li>")
    });
    let items: String = items.collect();
    format!("<nav aria-label=\"Workloads\"><ul>{items}</ul></nav>\n")
}

fn section(comparison: &Comparison, index: usize) -> Result<String, ResultError> {
    let workload = &comparison.workloads[index];
    let is_alone = comparison.workloads.len() == 1;
    let mut html = format!("<section class=\"workload\" id=\"workload-{index}\">\n");
    if !is_alone {
        writeln!(html, "<h2>{}</h2>", escape(&words(&workload.name))).expect("into memory");
    }
    let single = match workload.contenders.as_slice() {
        [contender] if contender.runs.len() == 1 => contender.runs.first(),
        _ => None,
    };
    if let [contender] = workload.contenders.as_slice() {
        html += &tables::key_figures(contender);
    }
    html += &match single {
        Some(run) => tables::parts(run) + &tables::latencies(run) + &tables::steps(run),
        None => tables::rivals(workload),
    };
    html += &tables::errors(workload);
    html += "<div class=\"plots\">\n";
    for plot in charts::of(workload)? {
        html += &plot.html();
    }
    html += "</div>\n";
    html += "<div class=\"columns\">";
    html += &single.map_or_else(String::new, tables::cost);
    html += &tables::settings(workload);
    if is_alone {
        html += &tables::machines(comparison);
    }
    html += "</div>\n";
    Ok(html + "</section>\n")
}

fn all_runs(comparison: &Comparison) -> impl Iterator<Item = &RunResult> {
    let contenders = comparison.workloads.iter().flat_map(|workload| &workload.contenders);
    contenders.flat_map(|contender| &contender.runs)
}

/// Text as HTML shows it, also between quotes.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            other => html.push(other),
        }
    }
    html
}
