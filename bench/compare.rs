//! Several results beside each other: by workload, by what was under test, and its repeated runs.
//!
//! Results of one name are one workload; those of one label in it are runs of the same, and stand
//! for it with their median and their spread. Ratios are to the first label. Knows no HTML.
//! **Invariant:** a workload has contenders, and a contender has runs: one at least.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use crate::figures;
use crate::result::{
    Part, ResultError, RunResult, Series, decode_histogram, new_histogram, parse_results,
};

/// Achieved less of the asked rate than this: the latencies are of another load.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// The series that tells of the generator, not of the broker.
pub const SCHEDULE: &str = "schedule";

/// Flags that say where a run's report goes or where its broker is, not what was measured.
pub const FLAGS_ASIDE: [&str; 9] = [
    "--brokers",
    "--broker-pid",
    "--topic",
    "--label",
    "--output",
    "--json",
    "--hgrm",
    "--hlog",
    "--html",
];

/// All results of a report.
pub struct Comparison {
    /// What was under test, in the order of the files.
    pub labels: Vec<String>,
    pub workloads: Vec<Workload>,
}

/// What one name of a workload has for results.
pub struct Workload {
    pub name: String,
    pub contenders: Vec<Contender>,
}

/// The runs of one label in a workload.
pub struct Contender {
    pub label: String,
    /// Index into [`Comparison::labels`].
    pub label_index: usize,
    pub runs: Vec<RunResult>,
}

/// A figure over repeated runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// A table with a row for each contender.
pub struct Table {
    /// What the figures are of, in lower case.
    pub title: String,
    pub heads: Vec<&'static str>,
    pub rows: Vec<Row>,
}

/// What one contender has for each head.
pub struct Row {
    pub label: String,
    pub label_index: usize,
    pub runs_count: usize,
    pub cells: Vec<Option<Cell>>,
}

/// One figure, written.
#[derive(Debug, PartialEq)]
pub struct Cell {
    pub median: String,
    /// Least to most, where there are several runs.
    pub spread: Option<String>,
    /// To the first row.
    pub ratio: Option<String>,
    /// Whether a reader must see it: errors, a rate that was not achieved.
    pub is_bad: bool,
    /// Whether that holds for a run at least.
    pub is_bad_at_worst: bool,
}

#[derive(Clone)]
struct Column {
    head: &'static str,
    of: fn(&RunResult, &Part, Option<&Series>) -> Option<f64>,
    name: fn(f64) -> String,
    has_ratio: bool,
    is_bad: fn(f64) -> bool,
}

impl Comparison {
    /// Of results in the order in which they are to stand.
    pub fn new(results: Vec<RunResult>) -> Comparison {
        let mut comparison = Comparison { labels: Vec::new(), workloads: Vec::new() };
        for result in results {
            comparison.add(result);
        }
        comparison
    }

    /// Of the files that `--json` wrote.
    ///
    /// # Errors
    /// A file cannot be read, or is something else.
    pub fn read(paths: &[PathBuf]) -> anyhow::Result<Comparison> {
        let mut results = Vec::new();
        for path in paths {
            let name = path.display();
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            let found = parse_results(&text).with_context(|| name.to_string())?;
            anyhow::ensure!(!found.is_empty(), "{name} holds no result");
            results.extend(found);
        }
        Ok(Comparison::new(results))
    }

    fn add(&mut self, result: RunResult) {
        let label_index = position_or_push(&mut self.labels, &result.label);
        let name = if result.name.is_empty() { &result.command } else { &result.name };
        let workload = match self.workloads.iter_mut().position(|one| one.name == *name) {
            Some(index) => &mut self.workloads[index],
            None => {
                self.workloads.push(Workload { name: name.clone(), contenders: Vec::new() });
                self.workloads.last_mut().expect("was pushed")
            }
        };
        match workload.contenders.iter_mut().find(|one| one.label_index == label_index) {
            Some(contender) => contender.runs.push(result),
            None => workload.contenders.push(Contender {
                label: result.label.clone(),
                label_index,
                runs: vec![result],
            }),
        }
    }

    /// The result, where there is only one.
    pub fn single(&self) -> Option<&RunResult> {
        match self.workloads.as_slice() {
            [workload] => match workload.contenders.as_slice() {
                [contender] if contender.runs.len() == 1 => contender.runs.first(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether more than one label is compared.
    pub fn has_rivals(&self) -> bool {
        self.labels.len() > 1
    }

    /// What readers must know first, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for workload in &self.workloads {
            for contender in &workload.contenders {
                let of = match (self.single().is_some(), self.workloads.len()) {
                    (true, _) => String::new(),
                    (false, 1) => format!("{}: ", contender.label),
                    (false, _) => format!("{}, {}: ", workload.name, contender.label),
                };
                let warnings = contender.warnings();
                sentences.extend(warnings.into_iter().map(|warning| format!("{of}{warning}")));
            }
        }
        sentences
    }
}

impl Workload {
    /// Names of the parts that any run has, in their order.
    pub fn part_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for part in self.runs().flat_map(|run| &run.parts) {
            position_or_push(&mut names, &part.name);
        }
        names
    }

    /// Names of a part's series, in their order, the generator's own left out.
    pub fn series_names(&self, part_name: &str) -> Vec<String> {
        let mut names = Vec::new();
        for part in self.runs().filter_map(|run| part_of(run, part_name)) {
            for series in part.series.iter().filter(|series| series.name != SCHEDULE) {
                position_or_push(&mut names, &series.name);
            }
        }
        names
    }

    fn runs(&self) -> impl Iterator<Item = &RunResult> {
        self.contenders.iter().flat_map(|contender| &contender.runs)
    }

    /// The figures of all contenders: for each part a table of its rates, and one for each of its
    /// latencies.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for (index, part) in self.part_names().iter().enumerate() {
            let mut columns = RATE_COLUMNS.to_vec();
            if index == 0 {
                columns.extend(BROKER_COLUMNS);
            }
            tables.push(self.table(self.titled(part, "throughput"), part, None, columns));
            for series in self.series_names(part) {
                let title = self.titled(part, &format!("{} latency", words(&series)));
                tables.push(self.table(title, part, Some(&series), LATENCY_COLUMNS.to_vec()));
            }
        }
        tables.retain(|table| !table.heads.is_empty());
        tables
    }

    /// With the part's name, where there are several.
    fn titled(&self, part: &str, title: &str) -> String {
        match self.part_names().len() {
            1 => title.to_owned(),
            _ => format!("{}: {title}", words(part)),
        }
    }

    /// Columns that are empty in every row are left out.
    fn table(
        &self,
        title: String,
        part_name: &str,
        series_name: Option<&str>,
        columns: Vec<Column>,
    ) -> Table {
        let spreads: Vec<Vec<Option<Spread>>> = columns
            .iter()
            .map(|column| {
                let of = |contender: &Contender| contender.spread(column, part_name, series_name);
                self.contenders.iter().map(of).collect()
            })
            .collect();
        let used: Vec<usize> = (0..columns.len())
            .filter(|index| spreads[*index].iter().flatten().any(|spread| spread.max > 0.0))
            .collect();
        let rows = self.contenders.iter().enumerate().map(|(row, contender)| {
            let cell = |index: &usize| {
                let (column, first) = (&columns[*index], spreads[*index][0]);
                let base = if row == 0 || !column.has_ratio { None } else { first };
                spreads[*index][row].map(|spread| Cell::new(column, spread, base))
            };
            Row {
                label: contender.label.clone(),
                label_index: contender.label_index,
                runs_count: contender.runs.len(),
                cells: used.iter().map(cell).collect(),
            }
        });
        let rows = rows.collect();
        Table { title, heads: used.iter().map(|index| columns[*index].head).collect(), rows }
    }
}

impl Contender {
    fn spread(&self, column: &Column, part: &str, series: Option<&str>) -> Option<Spread> {
        let values = self.runs.iter().filter_map(|run| {
            let part = part_of(run, part)?;
            let series = series.and_then(|name| series_of(part, name));
            (column.of)(run, part, series)
        });
        Spread::of(values.collect())
    }

    /// All values of a series in all runs; `None` where no run has it.
    ///
    /// # Errors
    /// A histogram cannot be read.
    pub fn merged(&self, part: &str, series: &str) -> Result<Option<Histogram<u64>>, ResultError> {
        let mut sum = new_histogram();
        sum.auto(true); // another version's may reach further
        for text in self
            .runs
            .iter()
            .filter_map(|run| Some(&series_of(part_of(run, part)?, series)?.histogram))
        {
            add(&mut sum, &decode_histogram(text)?)?;
        }
        Ok(Some(sum).filter(|sum| !sum.is_empty()))
    }

    /// Those of its runs, each once with how many runs say it, and what does not fit together.
    fn warnings(&self) -> Vec<String> {
        let mut sentences: Vec<String> = Vec::new();
        for run in &self.runs {
            for warning in &run.warnings {
                position_or_push(&mut sentences, warning);
            }
        }
        let runs_count = self.runs.len();
        let early_count = self.runs.iter().filter(|run| run.ended_early).count();
        let says = |run: &&RunResult, sentence: &String| run.warnings.contains(sentence);
        if runs_count > 1 {
            for sentence in &mut sentences {
                let count = self.runs.iter().filter(|run| says(run, sentence)).count();
                *sentence = format!("{sentence} ({count} of {runs_count} runs)");
            }
        }
        match (early_count, runs_count) {
            (0, _) => {}
            (_, 1) => sentences.push("stopped before its time".to_owned()),
            (early, all) => {
                sentences.push(format!("stopped before their time ({early} of {all} runs)"));
            }
        }
        let mixed = self.mixed_flags();
        if !mixed.is_empty() {
            let flags = mixed.into_iter().collect::<Vec<_>>().join(", ");
            sentences.push(format!(
                "its {runs_count} runs are not of the same settings: {flags} differ; \
                 label them apart with --label"
            ));
        }
        sentences
    }

    /// Flags that its runs have with different values.
    fn mixed_flags(&self) -> BTreeSet<&str> {
        let names = self.runs.iter().flat_map(|run| &run.settings).map(|one| one.name.as_str());
        let value = |run: &RunResult, name: &str| {
            run.settings.iter().find(|one| one.name == name).map(|one| one.value.clone())
        };
        let is_mixed = |name: &&str| {
            self.runs.iter().any(|run| value(run, name) != value(&self.runs[0], name))
        };
        names.filter(|name| !FLAGS_ASIDE.contains(name)).filter(is_mixed).collect()
    }
}

impl Spread {
    /// Of some values; `None` of none. The median of an even number is between the middle two.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Spread { median, min, max })
    }

    /// [`Spread::text`], where least and most differ once they are written.
    pub fn differing(&self, name: fn(f64) -> String) -> Option<String> {
        (name(self.min) != name(self.max)).then(|| self.text(name))
    }

    /// `340–345 MB/s`: least to most, the unit once where both have the same.
    pub fn text(&self, name: fn(f64) -> String) -> String {
        let (least, most) = (name(self.min), name(self.max));
        match (least.rsplit_once(' '), most.rsplit_once(' ')) {
            (Some((least, unit)), Some((_, unit_of_most))) if unit == unit_of_most => {
                format!("{least}–{most}")
            }
            _ => format!("{least}–{most}"),
        }
    }
}

impl Cell {
    fn new(column: &Column, spread: Spread, base: Option<Spread>) -> Cell {
        let ratio = base.filter(|base| base.median > 0.0).map(|base| spread.median / base.median);
        Cell {
            median: (column.name)(spread.median),
            spread: spread.differing(column.name),
            ratio: ratio.map(figures::ratio),
            is_bad: (column.is_bad)(spread.median),
            is_bad_at_worst: (column.is_bad)(spread.min) || (column.is_bad)(spread.max),
        }
    }
}

/// The run's part of that name.
pub fn part_of<'a>(run: &'a RunResult, name: &str) -> Option<&'a Part> {
    run.parts.iter().find(|part| part.name == name)
}

/// The part's series of that name.
pub fn series_of<'a>(part: &'a Part, name: &str) -> Option<&'a Series> {
    part.series.iter().find(|series| series.name == name)
}

/// Adds the values of one histogram to those of another, which grows as it must.
///
/// # Errors
/// The other reaches further than any that can be made.
pub fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) -> Result<(), ResultError> {
    sum.add(other).map_err(|error| ResultError::Histogram(error.to_string()))
}

/// A name of the document as words: `end_to_end` is `end to end`.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn position_or_push(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|one| one == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

fn positive(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn never(_: f64) -> bool {
    false
}

fn name_count(value: f64) -> String {
    figures::count(value.round() as u64)
}

fn name_memory(value: f64) -> String {
    figures::memory(value.round() as u64)
}

fn name_ms_per_mb(value: f64) -> String {
    format!("{} ms/MB", figures::three_digits(value))
}

const RATE_COLUMNS: [Column; 6] = [
    Column {
        head: "asked",
        of: |_, part, _| {
            let asked = part.asked.as_ref()?;
            positive(asked.bytes_per_second)
        },
        name: figures::byte_rate,
        has_ratio: false,
        is_bad: never,
    },
    Column {
        head: "achieved",
        of: |_, part, _| part.asked.as_ref().map(|asked| asked.achieved_share),
        name: figures::share,
        has_ratio: false,
        is_bad: |share| share < ACHIEVED_SHARE_MIN,
    },
    Column {
        head: "rate",
        of: |_, part, _| positive(part.bytes_per_second),
        name: figures::byte_rate,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "records/s",
        of: |_, part, _| positive(part.records_per_second),
        name: figures::rate,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "requests/s",
        of: |_, part, _| positive(part.requests_per_second),
        name: figures::rate,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "errors",
        of: |_, part, _| Some(part.errors as f64),
        name: name_count,
        has_ratio: false,
        is_bad: |errors| errors > 0.0,
    },
];

const LATENCY_COLUMNS: [Column; 6] = [
    Column {
        head: "p50",
        of: |_, _, series| series.map(|series| series.latency_us.p50),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "p90",
        of: |_, _, series| series.map(|series| series.latency_us.p90),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "p99",
        of: |_, _, series| series.map(|series| series.latency_us.p99),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "p99.9",
        of: |_, _, series| series.map(|series| series.latency_us.p99_9),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "p99.99",
        of: |_, _, series| series.map(|series| series.latency_us.p99_99),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "max",
        of: |_, _, series| series.map(|series| series.latency_us.max),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
];

const BROKER_COLUMNS: [Column; 3] = [
    Column {
        head: "broker CPU",
        of: |run, _, _| positive(run.broker.as_ref()?.cpu_ms_per_mb),
        name: name_ms_per_mb,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "CPU a request",
        of: |run, _, _| positive(run.broker.as_ref()?.cpu_us_per_request),
        name: figures::latency,
        has_ratio: true,
        is_bad: never,
    },
    Column {
        head: "memory",
        of: |run, _, _| positive(run.broker.as_ref()?.memory_bytes_max as f64),
        name: name_memory,
        has_ratio: true,
        is_bad: never,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Setting;
    use crate::samples;

    fn named(mut run: RunResult, name: &str) -> RunResult {
        run.name = name.to_owned();
        run
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_middle_two() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn a_spread_names_its_unit_once_where_it_can() {
        let text = |min, max| Spread { median: min, min, max }.text(figures::latency);
        assert_eq!(text(340.0, 345.0), "340–345 µs");
        assert_eq!(text(772.0, 1220.0), "772 µs–1.22 ms");
        let close = Spread { median: 2e6, min: 2.001e6, max: 2.002e6 };
        assert_eq!(close.differing(figures::byte_rate), None);
    }

    /// Goal: runs are put together by their name and label, in the order of the files. Method: two
    /// workloads of two labels, mixed.
    #[test]
    fn results_group_by_workload_and_label() {
        let comparison = Comparison::new(vec![
            named(samples::run("a", 100, 2), "open"),
            named(samples::run("b", 200, 2), "open"),
            named(samples::run("b", 200, 2), "ingest"),
            named(samples::run("a", 120, 2), "open"),
        ]);
        assert_eq!(comparison.labels, ["a", "b"]);
        let shape: Vec<(&str, Vec<(&str, usize)>)> = comparison
            .workloads
            .iter()
            .map(|workload| {
                let contenders = workload.contenders.iter();
                let shape = contenders.map(|one| (one.label.as_str(), one.runs.len()));
                (workload.name.as_str(), shape.collect())
            })
            .collect();
        assert_eq!(shape, [("open", vec![("a", 2), ("b", 1)]), ("ingest", vec![("b", 1)])]);
        assert_eq!(comparison.workloads[1].contenders[0].label_index, 1);
        assert!(comparison.single().is_none() && comparison.has_rivals());
    }

    /// Goal: medians, spreads and ratios to the first. Method: known latencies, 3 runs and 1.
    #[test]
    fn a_table_has_medians_their_spread_and_ratios_to_the_first() {
        let runs = [100, 400, 200].map(|us| samples::run("a", us, 2));
        let comparison = Comparison::new([&runs[..], &[samples::run("b", 500, 2)]].concat());
        let tables = comparison.workloads[0].tables();
        let titles: Vec<&str> = tables.iter().map(|table| table.title.as_str()).collect();
        assert_eq!(titles, ["throughput", "publish latency"]);
        let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
        assert_eq!(tables[1].heads, heads);
        let cell = |row: usize, column: usize| {
            let cell = tables[1].rows[row].cells[column].as_ref().expect("has a value");
            (cell.median.as_str(), cell.spread.as_deref(), cell.ratio.as_deref())
        };
        assert_eq!(cell(0, 0), ("200 µs", Some("100–400 µs"), None));
        assert_eq!(cell(1, 0), ("500 µs", None, Some("2.50×")));
        assert_eq!(cell(0, 3), ("2.00 ms", Some("1.00–4.00 ms"), None));
        // No errors, so no column for them.
        assert!(!tables[0].heads.contains(&"errors"), "{:?}", tables[0].heads);
    }

    #[test]
    fn a_rate_that_one_run_missed_stands_out_at_its_worst() {
        let mut missed = samples::run("a", 100, 2);
        missed.parts[0].asked.as_mut().expect("was asked").achieved_share = 0.83;
        missed.parts[0].errors = 3;
        missed.warnings = vec!["achieved 83 %".to_owned()];
        let good = samples::run("a", 100, 2);
        let runs = vec![good.clone(), missed, good];
        let comparison = Comparison::new(runs);
        let table = &comparison.workloads[0].tables()[0];
        let cell = |head: &str| {
            let column = table.heads.iter().position(|one| *one == head).expect("has the column");
            table.rows[0].cells[column].as_ref().expect("has a value")
        };
        let (achieved, errors) = (cell("achieved"), cell("errors"));
        assert_eq!((achieved.median.as_str(), achieved.is_bad), ("100 %", false));
        assert_eq!(
            (achieved.spread.as_deref(), achieved.is_bad_at_worst),
            (Some("83–100 %"), true)
        );
        assert_eq!((errors.median.as_str(), errors.is_bad_at_worst), ("0", true));
        assert_eq!(comparison.warnings(), ["a: achieved 83 % (1 of 3 runs)"]);
    }

    /// Goal: runs that are not repetitions are not taken for such in silence. Method: another
    /// value of one flag, and another broker, which is no other setting.
    #[test]
    fn runs_of_other_settings_under_one_label_are_warned_of() {
        let mut other = samples::run("a", 100, 2);
        other.settings[0].value = "127.0.0.1:9093".to_owned();
        let same = Comparison::new(vec![samples::run("a", 100, 2), other.clone()]);
        assert_eq!(same.warnings(), [""; 0]);
        other.settings.push(Setting { name: "--rate".to_owned(), value: "20MB".to_owned() });
        other.ended_early = true;
        let mixed = Comparison::new(vec![samples::run("a", 100, 2), other]);
        let expected = [
            "a: stopped before their time (1 of 2 runs)",
            "a: its 2 runs are not of the same settings: --rate differ; label them apart with \
             --label",
        ];
        assert_eq!(mixed.warnings(), expected);
    }

    #[test]
    fn histograms_of_all_runs_come_together() {
        let runs = [100, 300].map(|us| samples::run("a", us, 2));
        let comparison = Comparison::new(runs.to_vec());
        let contender = &comparison.workloads[0].contenders[0];
        let merged = contender.merged("produce", "publish").expect("our own").expect("has values");
        assert_eq!(merged.len(), 4 * samples::REQUESTS_PER_SECOND);
        assert_eq!((merged.min(), merged.max() / 10), (100, 300));
        assert!(contender.merged("produce", "fetch").expect("none to read").is_none());
    }

    #[test]
    fn a_file_that_is_no_result_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        let error = |text: &str| {
            fs::write(&path, text).expect("writes");
            let error = Comparison::read(std::slice::from_ref(&path)).err().expect("is refused");
            format!("{error:#}")
        };
        assert!(error("{}").contains("a.json: it is a result in format 0"));
        assert!(error("?").contains("a.json: it is not a result of ringmain-bench"));
        assert!(error("").contains("a.json holds no result"));
        let gone = Comparison::read(&[folder.path().join("b.json")]).err().expect("is refused");
        assert!(format!("{gone:#}").starts_with("cannot read "));
    }
}
