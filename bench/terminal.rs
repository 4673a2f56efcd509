//! What a terminal shows: the summary of one run, and several results beside each other.
//!
//! Lines up figures in columns, and leaves out what there is none of.

use crate::compare::{Comparison, SCHEDULE, Table, Workload, words};
use crate::figures;
use crate::result::{Asked, Broker, Latency, Part, RunResult, Series};

/// Columns from the left to the figures of a summary.
const NAME_COLUMNS: usize = 12;

/// One run: rates, latencies, what it took, errors, and what there is to warn of.
pub fn of_run(run: &RunResult) -> String {
    let name = match run.name == run.command || run.name.is_empty() {
        true => words(&run.command),
        false => format!("{} ({})", run.name, words(&run.command)),
    };
    let mut text = format!("{name}: {}, {}", run.label, figures::seconds(run.seconds));
    if run.ended_early {
        text += ", stopped before its time";
    }
    let has_parts = run.parts.len() > 1;
    for part in &run.parts {
        if has_parts {
            text += &format!("\n {}", words(&part.name));
        }
        text += &rates(part);
        text += &latencies(part);
    }
    text += &cost(run);
    text += &errors(run);
    text += &steps(run);
    for warning in &run.warnings {
        text += &format!("\n  WARNING     {warning}");
    }
    text
}

fn line(name: &str, text: &str) -> String {
    format!("\n  {name:<NAME_COLUMNS$}{text}")
}

fn rates(part: &Part) -> String {
    let mut rates = Vec::new();
    if part.bytes > 0 {
        rates.push(figures::byte_rate(part.bytes_per_second));
    }
    if part.records > 0 {
        rates.push(figures::records(part.records_per_second));
    }
    rates.push(figures::requests(part.requests_per_second));
    let mut text = line("rate", &rates.join(", "));
    if let Some(asked) = &part.asked {
        let rate = asked_rate(asked);
        let share = figures::share(asked.achieved_share);
        text += &line("asked", &format!("{rate}, {share} achieved"));
    }
    let mut total = format!("{} requests", figures::count(part.requests));
    if part.records > 0 {
        total = format!("{} records in {total}", figures::count(part.records));
    }
    if part.bytes > 0 {
        total = format!("{}, {total}", figures::bytes(part.bytes));
    }
    text + &line("total", &total)
}

fn latencies(part: &Part) -> String {
    const HEADS: [&str; 7] = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];
    let has_values = |series: &&Series| series.latency_us.max > 0.0;
    if !part.series.iter().any(|series| has_values(&series)) {
        return String::new();
    }
    let cells =
        |texts: &[String]| texts.iter().map(|text| format!("{text:>10}")).collect::<String>();
    let mut text = line("latency", &cells(&HEADS.map(str::to_owned)));
    for series in part.series.iter().filter(has_values) {
        let name = match series.name.as_str() {
            SCHEDULE => "own delay".to_owned(),
            name => words(name),
        };
        text += &line(&name, &cells(&percentiles(&series.latency_us).map(figures::latency)));
    }
    text
}

fn percentiles(latency: &Latency) -> [f64; 7] {
    let Latency { p50, p90, p99, p99_9, p99_99, max, mean, .. } = *latency;
    [p50, p90, p99, p99_9, p99_99, max, mean]
}

fn cost(run: &RunResult) -> String {
    let of_a_core = |cores: f64| format!("{:.0} % of a core", cores * 100.0);
    let mut text = String::new();
    if let Some(broker) = &run.broker {
        text += &line("broker", &broker_cost(broker).join(", "));
        let (written, read) =
            (figures::bytes(broker.written_bytes), figures::bytes(broker.read_bytes));
        let switches = figures::count(broker.voluntary_switches + broker.involuntary_switches);
        let memory = figures::memory(broker.memory_bytes_max);
        text += &line("", &format!("{memory} at most, {written} written, {read} read"));
        text += &line("", &format!("{switches} context switches"));
    }
    text + &line("generator", &of_a_core(run.client_cores))
}

fn broker_cost(broker: &Broker) -> Vec<String> {
    let mut costs = vec![format!("{:.0} % of a core", broker.cores * 100.0)];
    if broker.cpu_ms_per_mb > 0.0 {
        costs.push(format!("{} ms a MB", figures::three_digits(broker.cpu_ms_per_mb)));
    }
    if broker.cpu_us_per_request > 0.0 {
        costs.push(format!("{} a request", figures::latency(broker.cpu_us_per_request)));
    }
    costs
}

/// What `search` tried.
fn steps(run: &RunResult) -> String {
    let mut text = String::new();
    for (index, step) in run.steps.iter().enumerate() {
        let name = if index == 0 { "steps" } else { "" };
        let latency = format!("{} {}", step.quantile, figures::latency(step.latency_us));
        let share = format!("{} achieved", figures::share(step.asked.achieved_share));
        let held = if step.held { "held" } else { "not held" };
        let rate = asked_rate(&step.asked);
        text += &line(name, &format!("{rate:>18}  {share:>16}  {latency:>14}  {held}"));
    }
    text
}

fn asked_rate(asked: &Asked) -> String {
    match asked.bytes_per_second > 0.0 {
        true => figures::byte_rate(asked.bytes_per_second),
        false => figures::requests(asked.requests_per_second),
    }
}

fn errors(run: &RunResult) -> String {
    let mut text = String::new();
    let mut sum = 0;
    for part in &run.parts {
        sum += part.errors;
        for (name, count) in &part.errors_by_name {
            text += &line("", &format!("{} x {name}", figures::count(*count)));
        }
    }
    let sum = if sum == 0 { "none".to_owned() } else { figures::count(sum) };
    format!("{}{text}", line("errors", &sum))
}

// ---- several results --------------------------------------------------------------------------

/// All results as tables, and what there is to warn of.
pub fn of_comparison(comparison: &Comparison) -> String {
    if let Some(run) = comparison.single() {
        return of_run(run);
    }
    let mut blocks: Vec<String> = comparison.workloads.iter().map(of_workload).collect();
    let warnings = comparison.warnings();
    let warnings = warnings.into_iter().map(|warning| format!("WARNING  {warning}"));
    let warnings = warnings.collect::<Vec<_>>().join("\n");
    if !warnings.is_empty() {
        blocks.push(warnings);
    }
    blocks.join("\n\n")
}

fn of_workload(workload: &Workload) -> String {
    let tables = workload.tables();
    let texts = tables
        .iter()
        .map(|table| of_table(&format!("{}, {}", words(&workload.name), table.title), table));
    texts.collect::<Vec<_>>().join("\n\n")
}

/// A row of medians for each label, below it their spread and their ratio to the first.
fn of_table(title: &str, table: &Table) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut heads = vec![title.to_owned()];
    heads.extend(table.heads.iter().map(|head| (*head).to_owned()));
    lines.push(heads);
    for row in &table.rows {
        let cells = || row.cells.iter().map(Option::as_ref);
        let mut medians = vec![row.label.clone()];
        medians.extend(cells().map(|cell| match cell {
            Some(cell) if cell.is_bad => format!("! {}", cell.median),
            Some(cell) => cell.median.clone(),
            None => "–".to_owned(),
        }));
        lines.push(medians);
        let more = |name: String, of: &dyn Fn(&crate::compare::Cell) -> Option<String>| {
            let mut line = vec![name];
            line.extend(cells().map(|cell| cell.and_then(of).unwrap_or_default()));
            line
        };
        if row.runs_count > 1 {
            let name = format!("  {} runs", row.runs_count);
            lines.push(more(name, &|cell| match cell.is_bad_at_worst && !cell.is_bad {
                true => cell.spread.as_ref().map(|spread| format!("! {spread}")),
                false => cell.spread.clone(),
            }));
        }
        if cells().flatten().any(|cell| cell.ratio.is_some()) {
            lines.push(more("  to the first".to_owned(), &|cell| cell.ratio.clone()));
        }
    }
    align(&lines)
}

/// The first column to the left, the others to the right, each as wide as its widest text.
fn align(lines: &[Vec<String>]) -> String {
    let columns_count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let texts = lines.iter().filter_map(|line| line.get(column));
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns_count).map(width).collect();
    let texts = lines.iter().map(|line| {
        let mut text = String::new();
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match index {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        text.trim_end().to_owned()
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// Goal: a summary reads well. Method: the whole of one that has all there is.
    #[test]
    fn a_run_is_summed_up_line_by_line() {
        let mut run = samples::run("ringmain 0.1.0", 200, 10);
        run.parts[0].errors = 1_200;
        run.parts[0].errors_by_name = [("NOT_LEADER_OR_FOLLOWER".to_owned(), 1_200)].into();
        run.warnings = vec!["1,200 requests failed".to_owned()];
        let expected = "\
produce: ringmain 0.1.0, 10 s
  rate        16.0 MB/s, 16,000 records/s, 1,000 requests/s
  asked       16.0 MB/s, 100 % achieved
  total       160 MB, 160,000 records in 10,000 requests
  latency            p50       p90       p99     p99.9    p99.99       max      mean
  publish         200 µs    200 µs    200 µs   2.00 ms   2.00 ms   2.00 ms    218 µs
  own delay         4 µs      4 µs      4 µs     40 µs     40 µs     40 µs    4.4 µs
  broker      50 % of a core, 1.25 ms a MB, 11.5 µs a request
              128 MiB at most, 160 MB written, 0 B read
              1,234 context switches
  generator   25 % of a core
  errors      1,200
              1,200 x NOT_LEADER_OR_FOLLOWER
  WARNING     1,200 requests failed";
        assert_eq!(of_run(&run), expected);
        let comparison = Comparison::new(vec![run.clone()]);
        assert_eq!(of_comparison(&comparison), of_run(&run));
    }

    #[test]
    fn what_there_is_none_of_is_left_out() {
        let mut run = samples::of_parts("here", vec![samples::part("commit", &[], 1)]);
        run.command = "groups commit".to_owned();
        run.broker = None;
        run.ended_early = true;
        let part = &mut run.parts[0];
        (part.bytes, part.asked) = (0, None);
        let expected = "\
produce (groups commit): here, 1 s, stopped before its time
  rate        16,000 records/s, 1,000 requests/s
  total       16,000 records in 1,000 requests
  generator   25 % of a core
  errors      none";
        assert_eq!(of_run(&run), expected);
    }

    /// The cells of each line, however far apart.
    fn rows(text: &str) -> Vec<Vec<&str>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let cells = line.split("  ").map(str::trim);
            rows.push(cells.filter(|cell| !cell.is_empty()).collect());
        }
        rows
    }

    #[test]
    fn rivals_stand_below_each_other_with_their_ratios() {
        let runs = [100, 300, 200].map(|us| samples::run("ours", us, 2));
        let mut other = samples::run("theirs", 500, 2);
        other.parts[0].asked.as_mut().expect("was asked").achieved_share = 0.5;
        other.warnings = vec!["achieved 50 %".to_owned()];
        let text = of_comparison(&Comparison::new([&runs[..], &[other]].concat()));
        let expected = "\
produce, throughput  asked  achieved  rate  records/s  requests/s  broker CPU  CPU a request  memory
ours  16.0 MB/s  100 %  16.0 MB/s  16,000  1,000  1.25 ms/MB  11.5 µs  128 MiB
3 runs
theirs  16.0 MB/s  ! 50 %  16.0 MB/s  16,000  1,000  1.25 ms/MB  11.5 µs  128 MiB
to the first  1.00×  1.00×  1.00×  1.00×  1.00×  1.00×

produce, publish latency  p50  p90  p99  p99.9  p99.99  max
ours  200 µs  200 µs  200 µs  2.00 ms  2.00 ms  2.00 ms
3 runs  100–300 µs  100–300 µs  100–300 µs  1.00–3.00 ms  1.00–3.00 ms  1.00–3.00 ms
theirs  500 µs  500 µs  500 µs  5.00 ms  5.00 ms  5.00 ms
to the first  2.50×  2.50×  2.50×  2.50×  2.50×  2.50×

WARNING  theirs: achieved 50 %";
        assert_eq!(rows(&text), rows(expected), "in\n{text}");
        let latencies: Vec<usize> =
            text.lines().skip(6).take(5).map(|line| line.chars().count()).collect();
        assert!(latencies.iter().all(|width| *width == latencies[0]), "ragged in\n{text}");
    }
}
