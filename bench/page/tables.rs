//! What stands on the page beside the plots: figures in large, tables of them, settings, machines.

use std::fmt::Write as _;

use super::escape;
use crate::compare::{
    ACHIEVED_SHARE_MIN, Cell, Comparison, Contender, FLAGS_ASIDE, SCHEDULE, Spread, Table,
    Workload, part_of, series_of, words,
};
use crate::figures;
use crate::result::{Asked, Latency, Machine, Part, RunResult, Setting};

/// A table of any kind that a caller puts on the page: `--table FILE`.
#[derive(serde::Deserialize)]
pub struct ExtraTable {
    pub columns: Vec<String>,
    /// Texts, numbers or nulls.
    pub rows: Vec<Vec<serde_json::Value>>,
}

impl ExtraTable {
    /// The table, its first column as heads of its rows.
    pub fn html(&self) -> String {
        let mut html = "<div class=\"scroll\"><table class=\"extra\"><thead><tr>".to_owned();
        for column in &self.columns {
            write!(html, "<th scope=\"col\">{}</th>", escape(column)).expect("into memory");
        }
        html += "</tr></thead><tbody>\n";
        for row in &self.rows {
            html += "<tr>";
            for (index, value) in row.iter().enumerate() {
                let text = match value {
                    serde_json::Value::String(text) => escape(text),
                    serde_json::Value::Null => String::new(),
                    other => escape(&other.to_string()),
                };
                let head = escape(self.columns.get(index).map_or("", String::as_str));
                html += &match index {
                    0 => format!("<th scope=\"row\">{text}</th>"),
                    _ => format!("<td data-head=\"{head}\">{text}</td>"),
                };
            }
            html += "</tr>\n";
        }
        html + "</tbody></table></div>\n"
    }
}

// ---- one contender ----------------------------------------------------------------------------

/// The figures that matter most, in large: rate, what was asked, and the latency's percentiles.
pub fn key_figures(contender: &Contender) -> String {
    let Some(part_name) = contender.runs[0].parts.first().map(|part| part.name.as_str()) else {
        return String::new();
    };
    let parts: Vec<&Part> =
        contender.runs.iter().filter_map(|run| part_of(run, part_name)).collect();
    let has_bytes = parts.iter().any(|part| part.bytes > 0);
    let mut html = "<dl class=\"figures\">".to_owned();
    html += &rate_figures(&contender.runs, &parts, has_bytes);
    let series = parts[0].series.first().filter(|series| series.name != SCHEDULE);
    if let Some(name) = series.map(|series| series.name.as_str()) {
        let latencies: Vec<&Latency> =
            parts.iter().filter_map(|part| Some(&series_of(part, name)?.latency_us)).collect();
        let values = |of: fn(&Latency) -> f64| latencies.iter().map(|one| of(one)).collect();
        let percentiles: [(&str, Vec<f64>); 4] = [
            ("p50", values(|latency| latency.p50)),
            ("p99", values(|latency| latency.p99)),
            ("p99.9", values(|latency| latency.p99_9)),
            ("max", values(|latency| latency.max)),
        ];
        for (head, values) in percentiles {
            let Some(spread) = Spread::of(values).filter(|spread| spread.max > 0.0) else {
                continue;
            };
            let note = spread.differing(figures::latency);
            let note = note.unwrap_or_else(|| format!("{} latency", words(name)));
            html += &figure(head, &figures::latency(spread.median), &[note], false);
        }
    }
    html + "</dl>\n"
}

fn rate_figures(runs: &[RunResult], parts: &[&Part], has_bytes: bool) -> String {
    let name: fn(f64) -> String = if has_bytes { figures::byte_rate } else { figures::requests };
    let of =
        |part: &&Part| if has_bytes { part.bytes_per_second } else { part.requests_per_second };
    let Some(spread) = Spread::of(parts.iter().map(of).collect()) else { return String::new() };
    let mut notes = Vec::new();
    notes.extend(spread.differing(name));
    if has_bytes {
        let median = |of: fn(&Part) -> f64| {
            Spread::of(parts.iter().map(|part| of(part)).collect()).map_or(0.0, |s| s.median)
        };
        let records = median(|part| part.records_per_second);
        if records > 0.0 {
            notes.push(figures::records(records));
        }
        notes.push(figures::requests(median(|part| part.requests_per_second)));
    }
    // Of the part that was asked, which need not be the one whose figures come first.
    let asked: Vec<&Asked> = runs.iter().filter_map(|run| run.asked.as_ref()).collect();
    let Some(first) = asked.first() else {
        return figure("rate", &name(spread.median), &notes, false);
    };
    let share = Spread::of(asked.iter().map(|asked| asked.achieved_share).collect())
        .expect("at least one was asked");
    let is_bad = share.min < ACHIEVED_SHARE_MIN;
    let asked_rate = if has_bytes { first.bytes_per_second } else { first.requests_per_second };
    let achieved = share.differing(figures::share).unwrap_or_else(|| figures::share(share.median));
    notes.insert(0, format!("{achieved} of asked"));
    figure("rate asked", &name(asked_rate), &[], false)
        + &figure("rate achieved", &name(spread.median), &notes, is_bad)
}

fn figure(head: &str, value: &str, notes: &[String], is_bad: bool) -> String {
    let class = if is_bad { " class=\"bad\"" } else { "" };
    let (number, unit) = value.rsplit_once(' ').unwrap_or((value, ""));
    let mut html =
        format!("<div{class}><dt>{head}</dt><dd><b>{}</b> <i>{}</i>", escape(number), escape(unit));
    for note in notes {
        write!(html, "<small>{}</small>", escape(note)).expect("into memory");
    }
    html + "</dd></div>"
}

/// Every series of a run in figures, the generator's own error among them.
pub fn latencies(run: &RunResult) -> String {
    const HEADS: [&str; 8] = ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let all = run.parts.iter().flat_map(|part| part.series.iter().map(move |one| (part, one)));
    let with_values = all.filter(|(_, series)| series.latency_us.max > 0.0);
    let mut rows = with_values.map(|(part, series)| {
        let name = match run.parts.len() {
            1 => words(&series.name),
            _ => format!("{}: {}", words(&part.name), words(&series.name)),
        };
        let Latency { min, mean, p50, p90, p99, p99_9, p99_99, max } = series.latency_us;
        let values = [min, mean, p50, p90, p99, p99_9, p99_99, max];
        (name, values.map(figures::latency).to_vec())
    });
    match rows.next() {
        Some(first) => plain_table("Latency", "series", &HEADS, [first].into_iter().chain(rows)),
        None => String::new(),
    }
}

/// The rates of a run's parts, where it has several.
pub fn parts(run: &RunResult) -> String {
    const HEADS: [&str; 6] = ["asked", "achieved", "rate", "records/s", "requests/s", "errors"];
    if run.parts.len() < 2 {
        return String::new();
    }
    let rows = run.parts.iter().map(|part| {
        let (asked, achieved) = match &part.asked {
            Some(asked) => (asked_rate(asked), figures::share(asked.achieved_share)),
            None => ("–".to_owned(), "–".to_owned()),
        };
        let rate = figures::byte_rate(part.bytes_per_second);
        let records = figures::rate(part.records_per_second);
        let requests = figures::rate(part.requests_per_second);
        let errors = figures::count(part.errors);
        (words(&part.name), vec![asked, achieved, rate, records, requests, errors])
    });
    plain_table("Throughput", "part", &HEADS, rows)
}

/// What `search` tried, in its order.
pub fn steps(run: &RunResult) -> String {
    let Some(first) = run.steps.first() else { return String::new() };
    let heads = ["asked", "achieved", first.quantile.as_str(), "held"];
    let rows = run.steps.iter().enumerate().map(|(index, step)| {
        let held = if step.held { "yes" } else { "no" }.to_owned();
        let (asked, latency) = (asked_rate(&step.asked), figures::latency(step.latency_us));
        let cells = vec![asked, figures::share(step.asked.achieved_share), latency, held];
        ((index + 1).to_string(), cells)
    });
    let goal = figures::latency(first.goal_us);
    let title = format!("Steps of the search for {} of at most {goal}", first.quantile);
    plain_table(&title, "step", &heads, rows)
}

fn asked_rate(asked: &Asked) -> String {
    match asked.bytes_per_second > 0.0 {
        true => figures::byte_rate(asked.bytes_per_second),
        false => figures::requests(asked.requests_per_second),
    }
}

/// A table with a name before each row.
fn plain_table(
    title: &str,
    corner: &str,
    heads: &[&str],
    rows: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let names: String =
        heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let mut html = format!(
        "<div class=\"scroll\"><table class=\"rivals\"><caption>{}</caption><thead><tr>\
         <th scope=\"col\">{corner}</th>{names}</tr></thead><tbody>\n",
        escape(title)
    );
    for (name, cells) in rows {
        write!(html, "<tr><th scope=\"row\">{}</th>", escape(&name)).expect("into memory");
        for (head, cell) in heads.iter().zip(cells) {
            let (head, cell) = (escape(head), escape(&cell));
            write!(html, "<td data-head=\"{head}\">{cell}</td>").expect("into memory");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

/// What the broker's process and the generator used, where it is known.
pub fn cost(run: &RunResult) -> String {
    let mut pairs = vec![("generator", format!("{} of a core", figures::share(run.client_cores)))];
    if let Some(broker) = &run.broker {
        pairs.push(("broker", format!("{} of a core", figures::share(broker.cores))));
        if broker.cpu_ms_per_mb > 0.0 {
            let value = figures::three_digits(broker.cpu_ms_per_mb);
            pairs.push(("broker CPU", format!("{value} ms a MB")));
        }
        if broker.cpu_us_per_request > 0.0 {
            let value = figures::latency(broker.cpu_us_per_request);
            pairs.push(("broker CPU", format!("{value} a request")));
        }
        pairs.push(("broker memory, most", figures::memory(broker.memory_bytes_max)));
        pairs.push(("written to disk", figures::bytes(broker.written_bytes)));
        pairs.push(("read from disk", figures::bytes(broker.read_bytes)));
        let (given, taken) = (broker.voluntary_switches, broker.involuntary_switches);
        let switches =
            format!("{} by itself, {} forced", figures::count(given), figures::count(taken));
        pairs.push(("context switches", switches));
    }
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
    definitions("What it took", &pairs.collect::<Vec<_>>())
}

// ---- several contenders -----------------------------------------------------------------------

/// A workload's figures, a table for each part and series with a row for each contender.
pub fn rivals(workload: &Workload) -> String {
    workload.tables().iter().map(rival_table).collect()
}

fn rival_table(table: &Table) -> String {
    let title = escape(&capitalized(&table.title));
    let mut html =
        format!("<div class=\"scroll\"><table class=\"rivals\"><caption>{title}</caption>");
    html += "<thead><tr><th scope=\"col\"></th>";
    for head in &table.heads {
        write!(html, "<th scope=\"col\">{head}</th>").expect("into memory");
    }
    html += "</tr></thead><tbody>\n";
    for row in &table.rows {
        let color = row.label_index % super::COLORS_COUNT;
        let runs = match row.runs_count {
            1 => "1 run".to_owned(),
            count => format!("{count} runs, medians"),
        };
        write!(
            html,
            "<tr><th scope=\"row\"><i class=\"chip c{color}\"></i>{}<small>{runs}</small></th>",
            escape(&row.label)
        )
        .expect("into memory");
        for (head, cell) in table.heads.iter().zip(&row.cells) {
            html += &cell_html(head, cell.as_ref());
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn cell_html(head: &str, cell: Option<&Cell>) -> String {
    let Some(cell) = cell else {
        return format!("<td data-head=\"{head}\">–</td>");
    };
    let class = if cell.is_bad { " class=\"bad\"" } else { "" };
    let mut html = format!("<td data-head=\"{head}\"{class}><b>{}</b>", escape(&cell.median));
    if let Some(ratio) = &cell.ratio {
        write!(html, "<em>{ratio}</em>").expect("into memory");
    }
    if let Some(spread) = &cell.spread {
        let class = if cell.is_bad_at_worst { " class=\"bad\"" } else { "" };
        write!(html, "<small{class}>{}</small>", escape(spread)).expect("into memory");
    }
    html + "</td>"
}

/// Errors by their names, of every run that had any.
pub fn errors(workload: &Workload) -> String {
    let mut pairs = Vec::new();
    for contender in &workload.contenders {
        let mut sums = std::collections::BTreeMap::<&str, u64>::new();
        for part in contender.runs.iter().flat_map(|run| &run.parts) {
            for (name, count) in &part.errors_by_name {
                *sums.entry(name).or_default() += count;
            }
        }
        for (name, count) in sums {
            let of = match workload.contenders.len() {
                1 => String::new(),
                _ => format!("{}: ", contender.label),
            };
            pairs.push((format!("{of}{name}"), figures::count(count)));
        }
    }
    if pairs.is_empty() { String::new() } else { definitions("Errors", &pairs) }
}

/// Flags of a workload: those that all runs share, then those of each contender.
pub fn settings(workload: &Workload) -> String {
    let runs: Vec<&RunResult> =
        workload.contenders.iter().filter_map(|contender| contender.runs.first()).collect();
    let value = |run: &RunResult, name: &str| {
        let setting = run.settings.iter().find(|one| one.name == name);
        setting.map(|one| one.value.clone())
    };
    let is_shared = |name: &str| runs.iter().all(|run| value(run, name) == value(runs[0], name));
    let is_told = |setting: &&Setting| !FLAGS_ASIDE.contains(&setting.name.as_str());
    let mut pairs = Vec::new();
    for setting in runs[0].settings.iter().filter(is_told).filter(|one| is_shared(&one.name)) {
        pairs.push((setting.name.clone(), setting.value.clone()));
    }
    for (contender, run) in workload.contenders.iter().zip(&runs) {
        for setting in run.settings.iter().filter(is_told).filter(|one| !is_shared(&one.name)) {
            let name = format!("{} {}", contender.label, setting.name);
            pairs.push((name, setting.value.clone()));
        }
    }
    definitions("Settings", &pairs)
}

/// The machines: one list where all runs were on the same.
pub fn machines(comparison: &Comparison) -> String {
    let mut machines: Vec<(&Machine, Vec<&str>)> = Vec::new();
    for workload in &comparison.workloads {
        for contender in &workload.contenders {
            for run in &contender.runs {
                let label = contender.label.as_str();
                match machines.iter_mut().find(|(machine, _)| **machine == run.machine) {
                    Some((_, labels)) if labels.contains(&label) => {}
                    Some((_, labels)) => labels.push(label),
                    None => machines.push((&run.machine, vec![label])),
                }
            }
        }
    }
    let is_one = machines.len() == 1;
    let lists = machines.into_iter().map(|(machine, labels)| {
        let title = match is_one {
            true => "Machine".to_owned(),
            false => format!("Machine of {}", labels.join(", ")),
        };
        let cores = match machine.cores_count {
            1 => "1 core".to_owned(),
            count => format!("{count} cores"),
        };
        let pairs = [
            ("processor".to_owned(), format!("{}, {cores}", machine.cpu)),
            ("memory".to_owned(), figures::memory(machine.memory_bytes)),
            ("kernel".to_owned(), machine.kernel.clone()),
        ];
        definitions(&title, &pairs)
    });
    lists.collect()
}

/// A list of names with their values.
fn definitions(title: &str, pairs: &[(String, String)]) -> String {
    let mut html = format!("<section class=\"facts\"><h3>{}</h3><dl>", escape(title));
    for (name, value) in pairs {
        let (name, value) = (escape(name), escape(value));
        write!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>").expect("into memory");
    }
    html + "</dl></section>\n"
}
