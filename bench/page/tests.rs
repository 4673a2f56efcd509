//! The page as text: what must stand on it, and what must never. That it renders and fits is shown
//! in a browser by tests/clients/suites/bench_reports.py.

use super::*;
use crate::result::{Slice, Step};
use crate::samples;

fn page(results: Vec<RunResult>) -> String {
    html(&Comparison::new(results), &Extras::default()).expect("the histograms are our own")
}

/// All values of an attribute on the page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let opening = format!(" {name}=\"");
    let rest = page.split(opening.as_str()).skip(1);
    rest.map(|rest| rest.split('"').next().unwrap_or_default()).collect()
}

/// The drawn lines, without the grids.
fn lines(page: &str) -> Vec<&str> {
    page.split("<path class=\"line ").skip(1).collect()
}

/// Goal: one file, no network, nothing that is not a number. Method: look at several pages for what
/// would be otherwise.
#[test]
fn every_page_is_whole_and_asks_nothing_of_a_network() {
    let rivals =
        vec![samples::run("a", 100, 3), samples::run("a", 120, 3), samples::run("b", 900, 3)];
    let pages =
        [page(vec![samples::run("a", 100, 2)]), page(rivals), page(vec![RunResult::default()])];
    for page in pages {
        assert!(!page.contains("{{"), "a place of the template is still open");
        for foreign in ["http://", "https://", "src=", "<link", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("default-src 'none'"));
        for path in attributes(&page, "d") {
            assert!(!path.contains("NaN") && !path.contains("inf"), "{path}");
        }
        for open in ["section", "div", "figure", "table", "dl", "svg", "script", "button"] {
            let opened = page.matches(&format!("<{open}")).count();
            assert_eq!(opened, page.matches(&format!("</{open}>")).count(), "{open}");
        }
    }
}

/// Goal: what a result says is never taken for markup. Method: a hostile text in every field that
/// holds one.
#[test]
fn texts_of_a_result_are_text() {
    let hostile = "</script><script>alert('x')</script>\"&";
    let mut run = samples::run(hostile, 100, 2);
    run.name = hostile.to_owned();
    run.version = hostile.to_owned();
    run.warnings = vec![hostile.to_owned()];
    run.machine.cpu = hostile.to_owned();
    run.machine.kernel = hostile.to_owned();
    run.settings[1].value = hostile.to_owned();
    run.parts[0].name = hostile.to_owned();
    run.parts[0].series[0].name = hostile.to_owned();
    run.parts[0].errors_by_name = [(hostile.to_owned(), 1)].into();
    let table = ExtraTable {
        columns: vec![hostile.to_owned()],
        rows: vec![vec![serde_json::Value::String(hostile.to_owned())]],
    };
    let extras = Extras {
        title: Some(hostile.to_owned()),
        notes: Some(hostile.to_owned()),
        table: Some(table),
    };
    for results in [vec![run.clone()], vec![run, samples::run("b", 100, 2)]] {
        let page = html(&Comparison::new(results), &extras).expect("renders");
        assert!(!page.contains("<script>alert") && !page.contains("alert('x')"), "{page}");
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, page.matches("<figure").count() + 1, "the data and one script");
    }
}

/// Goal: a percentile line goes from the least value to the greatest and ends there. Method: known
/// values over a grid that goes further.
#[test]
fn a_percentile_line_ends_at_the_greatest_value() {
    let mut histogram = crate::result::new_histogram();
    histogram.record_n(100, 99).expect("in range");
    histogram.record(1_000).expect("in range");
    let grid = [1.0, 2.0, 10.0, 99.0, 150.0, 1000.0];
    let line = charts::percentile_line(&histogram, &grid);
    let expected = [Some(100.0), Some(100.0), Some(100.0), Some(100.0), Some(1000.0), None];
    assert_eq!(line, expected);
    let empty = charts::percentile_line(&crate::result::new_histogram(), &grid);
    assert_eq!(empty, [None; 6]);
}

#[test]
fn what_was_measured_is_one_sentence_with_its_figures() {
    let page = page(vec![samples::run("ringmain 0.1.0", 200, 10)]);
    let lead = "Producers wrote to ringmain 0.1.0 for 10 s, at a fixed rate of 16.0 MB/s: 160 MB, \
                160,000 records in 10,000 requests.";
    assert!(page.contains(lead));
    for figure in [
        "<dt>rate asked</dt><dd><b>16.0</b> <i>MB/s</i>",
        "<dt>rate achieved</dt><dd><b>16.0</b> <i>MB/s</i><small>100 % of asked</small>",
        "<dt>p50</dt><dd><b>200</b> <i>µs</i><small>publish latency</small>",
        "<dt>p99.9</dt><dd><b>2.00</b> <i>ms</i>",
        "<dt>processor</dt><dd>a processor, 2 cores</dd>",
        "<dt>--acks</dt><dd>all</dd>",
        "<dt>broker CPU</dt><dd>1.25 ms a MB</dd>",
    ] {
        assert!(page.contains(figure), "{figure}");
    }
    // Where the broker was says nothing of what was measured.
    assert!(!page.contains("<dt>--brokers</dt>"));
}

#[test]
fn a_rate_that_was_missed_stands_out() {
    let mut run = samples::run("a", 200, 3);
    for asked in [run.asked.as_mut(), run.parts[0].asked.as_mut()] {
        asked.expect("was asked").achieved_share = 0.83;
    }
    run.warnings = vec!["achieved 83 %".to_owned()];
    run.parts[0].timeline[1] = Slice { start_s: 1.0, seconds: 1.0, errors: 7, ..Slice::default() };
    let page = page(vec![run]);
    assert!(page.contains("<li>achieved 83 %</li>"));
    assert!(page.contains("<div class=\"bad\"><dt>rate achieved</dt>"));
    // A mark in each view of the throughput, and its count in the read-out.
    assert_eq!(lines(&page).iter().filter(|line| line.starts_with("warning")).count(), 3);
    assert!(page.contains("\"texts\":[\"\",\"7\",\"\"]"));
}

/// Goal: repeated runs are faint behind what they make together. Method: count the lines.
#[test]
fn repeated_runs_are_drawn_faintly_behind_their_sum() {
    let results: Vec<RunResult> = [("a", 100), ("b", 300), ("a", 110), ("b", 310), ("b", 330)]
        .map(|(label, us)| samples::run(label, us, 3))
        .into();
    let page = page(results);
    let by_percentile = page.split("<figure").nth(1).expect("is the first plot");
    let by_percentile = by_percentile.split("</svg>").next().expect("its first view");
    let drawn = lines(by_percentile);
    let faint = drawn.iter().filter(|line| line.split('"').next().unwrap_or("").contains("faint"));
    assert_eq!((drawn.len(), faint.count()), (7, 5));
    assert!(drawn[5].starts_with("c0\"") && drawn[6].starts_with("c1\""));
    assert!(page.contains("<small>2 runs, medians</small>"));
    assert!(page.contains("<em>2.95×</em>"), "310 to 105");
}

/// Goal: what was asked is drawn where it was asked of all. Method: the same of two, then not.
#[test]
fn what_was_asked_is_a_line_where_it_was_the_same_of_all() {
    let mut rivals = vec![samples::run("a", 100, 2), samples::run("b", 100, 2)];
    let asides = |page: &str| lines(page).iter().filter(|line| line.starts_with("aside")).count();
    assert_eq!(asides(&page(rivals.clone())), 3, "one in each view of the throughput");
    let asked = rivals[1].parts[0].asked.as_mut().expect("was asked");
    asked.requests_per_second *= 2.0;
    assert_eq!(asides(&page(rivals)), 0);
}

/// Goal: a label has one colour on the whole page. Method: the second workload lacks the first.
#[test]
fn a_label_keeps_its_colour_in_every_workload() {
    let mut alone = samples::run("b", 100, 2);
    alone.name = "ingest".to_owned();
    let page = page(vec![samples::run("a", 100, 2), samples::run("b", 100, 2), alone]);
    let second = page.split("id=\"workload-1\"").nth(1).expect("is there");
    assert!(second.contains("class=\"line c1\"") && page.contains("href=\"#workload-1\""));
}

#[test]
fn a_long_run_has_a_point_for_several_seconds() {
    let mut run = samples::run("a", 100, 1);
    run.parts[0].seconds = 3600.0;
    let slice = |second: u32| Slice {
        start_s: f64::from(second) + 0.001,
        seconds: 1.0,
        bytes: 1_000_000,
        ..Slice::default()
    };
    run.parts[0].timeline = (0..3600).map(slice).collect();
    let page = page(vec![run]);
    assert!(page.contains("a point for each 4 s"));
    let over_time = page.split("Throughput over time</h3>").nth(1).expect("is there");
    let line = over_time.split("<path class=\"line c0\"").nth(1).expect("is drawn");
    let points = attributes(line, "d")[0].matches('L').count() + 1;
    assert_eq!(points, 900);
}

#[test]
fn the_steps_of_a_search_are_told_and_drawn() {
    let mut run = samples::run("a", 100, 2);
    run.command = "search".to_owned();
    let step = |bytes_per_second: f64, latency_us: f64| Step {
        bytes_per_second,
        latency_us,
        quantile: "p99".to_owned(),
        goal_us: 5_000.0,
        held: latency_us <= 5_000.0,
        ..Step::default()
    };
    run.steps = vec![step(20e6, 600.0), step(200e6, 91_000.0), step(100e6, 1_100.0)];
    let page = page(vec![run]);
    assert!(page.contains("Steps of the search for p99 of at most 5.00 ms"));
    assert!(page.contains("<td data-head=\"held\">no</td>"));
    assert!(page.contains("\"texts\":[\"600 µs\",\"1.10 ms\",\"91.0 ms\"]"), "by rate");
}

#[test]
fn extras_stand_above_the_results() {
    let table = r#"{"columns": ["row", "K0"], "rows": [["ingest", 1006], ["open", null]]}"#;
    let extras = Extras {
        title: Some("The race".to_owned()),
        notes: Some("Two cores.\n\nOne disk.\n".to_owned()),
        table: Some(serde_json::from_str(table).expect("is one")),
    };
    let comparison = Comparison::new(vec![samples::run("a", 100, 2)]);
    let page = html(&comparison, &extras).expect("renders");
    assert!(page.contains("<title>The race</title>") && page.contains("<h1>The race</h1>"));
    assert!(page.contains("<p class=\"note\">Two cores.</p>\n<p class=\"note\">One disk.</p>"));
    let row = "<tr><th scope=\"row\">ingest</th><td data-head=\"K0\">1006</td></tr>";
    assert!(page.find(row).expect("is there") < page.find("class=\"figures\"").expect("is there"));
}
