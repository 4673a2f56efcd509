//! `.hlog`: a latency second by second, in HdrHistogram's interval log format, version 1.3, which
//! its log reader and processor read.
//!
//! One line a second and series, tagged `PART.SERIES`. Histograms are in µs; the column of maxima,
//! which is for people, is in ms. To get ms from the log processor, tell it
//! `-outputValueUnitRatio 1000`.

use crate::result::{ResultError, RunResult, decode_histogram};

/// µs in the unit of the column of maxima.
const US_PER_MS: f64 = 1000.0;

/// What the log says of itself before its lines.
const NOTES: [&str; 2] = [
    "Histogram log format version 1.3",
    "Histograms are in microseconds, Interval_Max is in milliseconds: -outputValueUnitRatio 1000",
];

/// One line, before it is put in its place.
struct Line {
    start_s: f64, // since the first result's start
    text: String,
}

/// The log of all series of these results, ordered by time.
///
/// # Errors
/// A histogram of a result cannot be read.
pub fn text(results: &[RunResult]) -> Result<String, ResultError> {
    let start_ms = results.iter().map(|result| result.started_at_ms).min().unwrap_or(0);
    let mut lines = Vec::new();
    for result in results {
        let offset_s = (result.started_at_ms - start_ms) as f64 / 1000.0;
        for (part, series) in
            result.parts.iter().flat_map(|part| part.series.iter().map(move |one| (part, one)))
        {
            let tag = match results.len() {
                0 | 1 => tag(&[&part.name, &series.name]),
                _ => tag(&[&result.name, &part.name, &series.name]),
            };
            for interval in &series.intervals {
                let max_ms = decode_histogram(&interval.histogram)?.max() as f64 / US_PER_MS;
                let start_s = offset_s + interval.start_s;
                let (seconds, histogram) = (interval.seconds, &interval.histogram);
                let text = format!("Tag={tag},{start_s:.3},{seconds:.3},{max_ms:.3},{histogram}\n");
                lines.push(Line { start_s, text });
            }
        }
    }
    lines.sort_by(|a, b| a.start_s.total_cmp(&b.start_s)); // stable: series stay in their order
    let mut text = head(results, start_ms);
    text.extend(lines.iter().map(|line| line.text.as_str()));
    Ok(text)
}

/// The name of a series in a log: of what it belongs to, largest first, without what ends a tag.
pub fn tag(names: &[&str]) -> String {
    names.join(".").replace([',', ' ', '\r', '\n', '\t'], "-")
}

fn head(results: &[RunResult], start_ms: i64) -> String {
    let version = results.first().map_or("", |result| result.version.as_str());
    let mut text = format!("#[Logged with ringmain-bench {version}]\n");
    for note in NOTES {
        text += &format!("#[{note}]\n");
    }
    // Both: the times of the lines count from the one, and the other is where plots begin.
    let start_s = start_ms as f64 / 1000.0;
    for name in ["StartTime", "BaseTime"] {
        text += &format!("#[{name}: {start_s:.3} (seconds since epoch)]\n");
    }
    text + "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
            \"Interval_Compressed_Histogram\"\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Interval, Part, Series, encode_histogram, new_histogram};

    fn series(name: &str, starts_s: &[f64]) -> Series {
        let intervals = starts_s.iter().map(|start_s| {
            let mut histogram = new_histogram();
            histogram.record(1_500).expect("in range");
            Interval { start_s: *start_s, seconds: 1.0, histogram: encode_histogram(&histogram) }
        });
        Series { name: name.to_owned(), intervals: intervals.collect(), ..Series::default() }
    }

    fn result(name: &str, started_at_ms: i64) -> RunResult {
        let part = Part {
            name: "catch up".to_owned(),
            series: vec![series("fetch", &[0.0, 1.0]), series("schedule", &[0.0, 1.0])],
            ..Part::default()
        };
        let version = "0.1.0".to_owned();
        RunResult {
            name: name.to_owned(),
            version,
            started_at_ms,
            parts: vec![part],
            ..RunResult::default()
        }
    }

    /// The lines up to the histogram, which is the same in all.
    fn lines_of(results: &[RunResult]) -> Vec<String> {
        let text = text(results).expect("the histograms are our own");
        text.lines().map(|line| line.split(",HIST").next().unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn a_log_opens_with_its_format_and_goes_on_second_by_second() {
        let expected = [
            "#[Logged with ringmain-bench 0.1.0]",
            "#[Histogram log format version 1.3]",
            "#[Histograms are in microseconds, Interval_Max is in milliseconds: \
             -outputValueUnitRatio 1000]",
            "#[StartTime: 1764000000.250 (seconds since epoch)]",
            "#[BaseTime: 1764000000.250 (seconds since epoch)]",
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
             \"Interval_Compressed_Histogram\"",
            "Tag=catch-up.fetch,0.000,1.000,1.500",
            "Tag=catch-up.schedule,0.000,1.000,1.500",
            "Tag=catch-up.fetch,1.000,1.000,1.500",
            "Tag=catch-up.schedule,1.000,1.000,1.500",
        ];
        assert_eq!(lines_of(&[result("mixed", 1_764_000_000_250)]), expected);
    }

    #[test]
    fn several_workloads_follow_each_other_under_their_names() {
        let lines =
            lines_of(&[result("late, one", 1_764_000_030_000), result("a", 1_764_000_000_000)]);
        assert_eq!(lines[3], "#[StartTime: 1764000000.000 (seconds since epoch)]");
        assert_eq!(lines[6], "Tag=a.catch-up.fetch,0.000,1.000,1.500");
        assert_eq!(lines[13], "Tag=late--one.catch-up.schedule,31.000,1.000,1.500");
        assert_eq!(lines.len(), 14);
    }

    #[test]
    fn a_histogram_that_cannot_be_read_is_an_error() {
        let mut broken = result("a", 0);
        broken.parts[0].series[0].intervals[0].histogram = "AAAA".to_owned();
        assert!(matches!(text(&[broken]), Err(ResultError::Histogram(_))));
        assert!(text(&[]).expect("is a log without lines").ends_with("Histogram\"\n"));
    }
}
