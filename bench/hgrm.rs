//! `.hgrm`: a latency's percentile distribution as text, line for line as HdrHistogram's Java
//! library prints it, so that its plotter and all that grew around it read it.
//!
//! Values are in ms, which the plotter takes them for, with three decimals: the µs that the
//! generator tells apart. A file holds one distribution.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines for each halving of what is left to 100 %, as in HdrHistogram's own tools.
const TICKS_PER_HALF_DISTANCE: u64 = 5;

/// µs in the unit of the file.
const US_PER_MS: f64 = 1000.0;

/// The distribution of `histogram`, which is in µs; `what` is told in the last line.
pub fn text(histogram: &Histogram<u64>, what: &str) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in steps(histogram) {
        let share = step.percentile / 100.0;
        let value = step.value_us as f64 / US_PER_MS;
        write!(text, "{value:12.3} {share:2.12} {:10}", step.values_count).expect("into memory");
        if step.percentile < 100.0 {
            write!(text, " {:14.2}", 1.0 / (1.0 - share)).expect("into memory");
        }
        text.push('\n');
    }
    let (mean_us, deviation_us) = mean_and_deviation_us(histogram);
    let (mean, deviation) = (mean_us / US_PER_MS, deviation_us / US_PER_MS);
    let max = histogram.max() as f64 / US_PER_MS;
    text += &format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n");
    text += &format!("#[Max     = {max:12.3}, Total count    = {:12}]\n", histogram.len());
    let (buckets_count, sub_buckets_count) = (histogram.buckets(), sub_buckets_count(histogram));
    text += &format!("#[Buckets = {buckets_count:12}, SubBuckets     = {sub_buckets_count:12}]\n");
    text + &format!("#[Unit    = {:>12}, Series         = {}]\n", "ms", what.replace(']', ")"))
}

/// One line: so many values are at most this one.
struct Step {
    value_us: u64,
    percentile: f64,
    values_count: u64,
}

/// Percentiles that come ever closer to 100, with a last one at 100.
///
/// Reckons in percent, and adds up: a level that is off by its last bit, as Java's are, decides
/// over a line more or less.
fn steps(histogram: &Histogram<u64>) -> Vec<Step> {
    let total_count = histogram.len();
    let (mut steps, mut percentile, mut values_count) = (Vec::new(), 0.0, 0_u64);
    for recorded in histogram.iter_recorded() {
        values_count += recorded.count_at_value();
        let value_us = histogram.highest_equivalent(recorded.value_iterated_to());
        let percentile_here = 100.0 * values_count as f64 / total_count as f64;
        while percentile_here >= percentile {
            steps.push(Step { value_us, percentile, values_count });
            if values_count == total_count {
                steps.push(Step { value_us, percentile: 100.0, values_count });
                return steps;
            }
            let halvings = ((100.0_f64 / (100.0 - percentile)).ln() / 2.0_f64.ln()) as i32;
            let ticks = TICKS_PER_HALF_DISTANCE as f64 * 2.0_f64.powi(halvings + 1);
            percentile += 100.0 / ticks;
        }
    }
    steps
}

/// Of the values that stand for their buckets, µs.
fn mean_and_deviation_us(histogram: &Histogram<u64>) -> (f64, f64) {
    let total_count = histogram.len().max(1) as f64;
    let middle = |value: u64| histogram.median_equivalent(value) as f64;
    let recorded =
        || histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value()));
    // Not sum(): that of nothing is -0.0, which would show.
    let sum = recorded().fold(0.0, |sum, (value, count)| sum + middle(value) * count as f64);
    let mean = sum / total_count;
    let squares = recorded()
        .fold(0.0, |sum, (value, count)| sum + (middle(value) - mean).powi(2) * count as f64);
    (mean, (squares / total_count).sqrt())
}

/// Values told apart in one bucket: a power of two that holds the digits twice.
fn sub_buckets_count(histogram: &Histogram<u64>) -> u64 {
    (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::new_histogram;

    fn lines_of(histogram: &Histogram<u64>) -> Vec<String> {
        text(histogram, "produce.publish").lines().map(str::to_owned).collect()
    }

    /// Goal: the form is HdrHistogram's. Method: what its Java library prints for the same values.
    #[test]
    fn the_text_is_what_the_java_library_prints() {
        let mut histogram = new_histogram();
        histogram.record_n(1_000, 3).expect("in range");
        histogram.record(2_500).expect("in range");
        let expected = [
            "       Value     Percentile TotalCount 1/(1-Percentile)",
            "",
            "       1.000 0.000000000000          3           1.00",
            "       1.000 0.100000000000          3           1.11",
            "       1.000 0.200000000000          3           1.25",
            "       1.000 0.300000000000          3           1.43",
            "       1.000 0.400000000000          3           1.67",
            "       1.000 0.500000000000          3           2.00",
            "       1.000 0.550000000000          3           2.22",
            "       1.000 0.600000000000          3           2.50",
            "       1.000 0.650000000000          3           2.86",
            "       1.000 0.700000000000          3           3.33",
            "       1.000 0.750000000000          3           4.00",
            "       2.501 0.775000000000          4           4.44",
            "       2.501 1.000000000000          4",
            "#[Mean    =        1.375, StdDeviation   =        0.650]",
            "#[Max     =        2.501, Total count    =            4]",
            "#[Buckets =           22, SubBuckets     =         2048]",
            "#[Unit    =           ms, Series         = produce.publish]",
        ];
        assert_eq!(lines_of(&histogram), expected);
    }

    #[test]
    fn an_empty_histogram_has_no_lines_between_head_and_foot() {
        let lines = lines_of(&new_histogram());
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[2], "#[Mean    =        0.000, StdDeviation   =        0.000]");
        assert_eq!(lines[3], "#[Max     =        0.000, Total count    =            0]");
    }

    /// Goal: the last lines come close to all values. Method: a million of them, and the level
    /// before the last leaves less than one out.
    #[test]
    fn the_lines_reach_as_far_as_the_values_do() {
        let mut histogram = new_histogram();
        for value in 1..=1_000_000 {
            histogram.record(value).expect("in range");
        }
        let steps = steps(&histogram);
        assert!(steps.windows(2).all(|pair| pair[0].percentile < pair[1].percentile));
        assert!(steps.windows(2).all(|pair| pair[0].values_count <= pair[1].values_count));
        assert_eq!(steps.last().expect("has lines").values_count, 1_000_000);
        // Values as large as these share buckets of 512.
        assert!(steps[steps.len() - 2].percentile > 99.95);
    }
}
