//! A result as text for the terminal.

use std::fmt::Write as _;

use crate::result::{Asked, Broker, Part, RunResult, Series};

/// The result for people. What is a warning has been said on stderr and stands here again.
pub fn text(result: &RunResult) -> String {
    let mut text = String::new();
    let is_single = result.parts.len() == 1;
    for part in &result.parts {
        let name = match is_single {
            true => result.name.clone(),
            false => format!("{} / {}", result.name, part.name),
        };
        put_part(&mut text, &name, part);
    }
    if let Some(broker) = &result.broker {
        put_broker(&mut text, broker);
    }
    put(&mut text, "client", &format!("{:.0} % of a core", result.client_cores * 100.0));
    if result.parts.is_empty() || result.errors == 0 {
        put(&mut text, "errors", "0");
    }
    for step in &result.steps {
        let what = format!(
            "{:>10.0} requests/s, {:>8.1} MB/s: {} {:.0} µs, achieved {:.1} %, {}",
            step.asked.requests_per_second,
            step.asked.bytes_per_second / 1e6,
            step.quantile,
            step.latency_us,
            step.asked.achieved_share * 100.0,
            if step.held { "held" } else { "not held" }
        );
        put(&mut text, "step", &what);
    }
    if result.ended_early {
        put(&mut text, "NOTE", "the run was stopped before its time");
    }
    for warning in &result.warnings {
        put(&mut text, "WARNING", warning);
    }
    text.truncate(text.trim_end().len());
    text
}

fn put(text: &mut String, name: &str, what: &str) {
    writeln!(text, "  {name:<11}{what}").expect("writing to a String cannot fail");
}

fn put_part(text: &mut String, name: &str, part: &Part) {
    *text += &format!(
        "{name}: {:.2} s, {} requests, {} records, {:.1} MB\n",
        part.seconds,
        part.requests,
        part.records,
        part.bytes as f64 / 1e6
    );
    let rate = format!(
        "{:.1} MB/s, {:.0} records/s, {:.0} requests/s",
        part.bytes_per_second / 1e6,
        part.records_per_second,
        part.requests_per_second
    );
    put(text, "rate", &rate);
    if let Some(asked) = &part.asked {
        put(text, "asked", &asked_text(asked));
    }
    let names_count = part.series.len();
    for series in part.series.iter().filter(|series| !series.histogram.is_empty()) {
        let name = if names_count == 1 { "latency" } else { series.name.as_str() };
        put_series(text, name, series);
    }
    if part.errors > 0 {
        put(text, "errors", &part.errors.to_string());
        for (name, count) in &part.errors_by_name {
            *text += &format!("    {count} x {name}\n");
        }
    }
}

fn asked_text(asked: &Asked) -> String {
    format!(
        "{:.1} MB/s, {:.0} records/s, {:.0} requests/s: achieved {:.1} %",
        asked.bytes_per_second / 1e6,
        asked.records_per_second,
        asked.requests_per_second,
        asked.achieved_share * 100.0
    )
}

fn put_series(text: &mut String, name: &str, series: &Series) {
    let latency = &series.latency_us;
    let figures = format!(
        "p50 {} µs, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {}",
        latency.p50, latency.p90, latency.p99, latency.p99_9, latency.p99_99, latency.max
    );
    put(text, &name.replace('_', "-"), &figures);
}

fn put_broker(text: &mut String, broker: &Broker) {
    let cost = format!(
        "{:.1} % of a core, {:.3} ms/MB, {:.2} µs a request, {:.0} MiB",
        broker.cores * 100.0,
        broker.cpu_ms_per_mb,
        broker.cpu_us_per_request,
        broker.memory_bytes_max as f64 / 1_048_576.0
    );
    put(text, "broker", &cost);
    let moved = format!(
        "wrote {:.1} MB, read {:.1} MB, {} context switches, {} of them involuntary",
        broker.written_bytes as f64 / 1e6,
        broker.read_bytes as f64 / 1e6,
        broker.voluntary_switches + broker.involuntary_switches,
        broker.involuntary_switches
    );
    put(text, "", &moved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Latency;

    /// Goal: who looks sees what matters. Method: a run that missed its rate.
    #[test]
    fn a_missed_rate_an_error_and_the_broker_are_told() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            latency_us: Latency { p99: 1234.0, ..Latency::default() },
            histogram: "there".to_owned(),
            ..Series::default()
        };
        let part = Part {
            name: "produce".to_owned(),
            requests: 83,
            errors: 2,
            errors_by_name: [("NOT_ENOUGH_REPLICAS".to_owned(), 2)].into(),
            asked: Some(Asked { achieved_share: 0.83, ..Asked::default() }),
            series: vec![series("publish"), series("schedule")],
            ..Part::default()
        };
        let result = RunResult {
            name: "produce".to_owned(),
            parts: vec![part],
            broker: Some(Broker { cpu_us_per_request: 12.5, ..Broker::default() }),
            errors: 2,
            warnings: vec!["achieved only 83 %".to_owned()],
            ..RunResult::default()
        };
        let text = text(&result);
        for expected in [
            "achieved 83.0 %",
            "publish    p50 0 µs",
            "schedule ",
            "p99 1234,",
            "2 x NOT_ENOUGH_REPLICAS",
            "12.50 µs a request",
            "WARNING    achieved only 83 %",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
}
