//! Figures as people read them: `6.40 ms`, `1,006 MB/s`, `1,234,567`.
//!
//! Three digits that count where a value is measured, all of them where it is counted. Knows
//! nothing of what the figures are of.

/// From here on a count is written in millions.
const MILLIONS_MIN: f64 = 10_000_000.0;

/// `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `334,112` of something a second, `12.3 M` from ten million on; one decimal below a hundred.
pub fn rate(per_second: f64) -> String {
    if per_second >= MILLIONS_MIN {
        format!("{} M", three_digits(per_second / 1e6))
    } else if per_second >= 100.0 {
        count(per_second.round() as u64)
    } else {
        trimmed(per_second, 1)
    }
}

/// `342 MB/s`, `20.0 MB/s`: powers of ten, and MB up to any size, so that figures compare.
pub fn byte_rate(bytes_per_second: f64) -> String {
    let (value, unit) = match bytes_per_second {
        rate if rate >= 1e6 => (rate / 1e6, "MB/s"),
        rate if rate >= 1e3 => (rate / 1e3, "kB/s"),
        rate => return format!("{} B/s", rate.round()),
    };
    format!("{} {unit}", three_digits(value))
}

/// A round rate of bytes on an axis: `200 MB/s`, `0.5 MB/s`.
pub fn byte_rate_tick(bytes_per_second: f64) -> String {
    match bytes_per_second {
        rate if rate >= 0.999e5 || rate == 0.0 => format!("{} MB/s", trimmed(rate / 1e6, 2)),
        rate if rate >= 0.999e2 => format!("{} kB/s", trimmed(rate / 1e3, 2)),
        rate => format!("{} B/s", trimmed(rate, 2)),
    }
}

/// A round rate on an axis: `200 k`, `1.5 M`.
pub fn rate_tick(per_second: f64) -> String {
    match per_second {
        rate if rate >= 0.9999e6 => format!("{} M", trimmed(rate / 1e6, 2)),
        rate if rate >= 0.9999e4 => format!("{} k", trimmed(rate / 1e3, 2)),
        rate => trimmed(rate, 2),
    }
}

/// `20,882 requests/s`.
pub fn requests(per_second: f64) -> String {
    format!("{} requests/s", rate(per_second))
}

/// `334,112 records/s`.
pub fn records(per_second: f64) -> String {
    format!("{} records/s", rate(per_second))
}

/// `1.20 GB`: powers of ten, as disks and networks are counted.
pub fn bytes(value: u64) -> String {
    scaled(value as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// `128 MiB`: powers of 1024, as memory is counted.
pub fn memory(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A latency in µs, in the unit that leaves few digits: `232 µs`, `6.40 ms`, `1.25 s`.
pub fn latency(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    // The generator tells whole µs apart: `87.0 µs` would promise more.
    let digits = if unit == "µs" { trimmed(value, 1) } else { three_digits(value) };
    format!("{digits} {unit}")
}

/// A round value on an axis, without digits that say nothing: `200 µs`, `1 ms`, `0.5 ms`.
pub fn latency_tick(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 999.999 => (us, "µs"),
        us if us < 999_999.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", trimmed(value, 3))
}

/// `30 s`, `2.5 s`, `12 min 5 s`, `1 h 4 min`.
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        0..=9 => format!("{} s", trimmed(value, 2)),
        10..=119 => format!("{} s", trimmed(value, 1)),
        120..=7199 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        120..=7199 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// A share of one as `99.9 %`; never `100 %` of what is less, nor `0 %` of what is more.
pub fn share(value: f64) -> String {
    let percent = value * 100.0;
    let rounded = (percent * 10.0).round() / 10.0;
    if rounded >= 100.0 && percent < 100.0 {
        return format!("{} %", trimmed((percent * 1000.0).floor() / 1000.0, 3));
    }
    format!("{} %", trimmed(rounded, 1))
}

/// `1.82x` as a factor with its sign of multiplication.
pub fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{}×", three_digits(value)) } else { "–".to_owned() }
}

/// Three digits that count, thousands separated: `0.0123`, `6.40`, `23.4`, `640`, `1,006`.
pub fn three_digits(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => count(value.round().max(0.0) as u64),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        size if size >= 0.00995 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// At most `decimals` of them, and no zeroes at their end; thousands separated.
pub fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let whole = match whole.parse::<u64>() {
        Ok(whole) => count(whole),
        Err(_) => whole.to_owned(), // negative
    };
    if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") }
}

/// A percentile for its quantile's `1 / (1 - quantile)`, as many decimals as that tells apart:
/// `50 %`, `99.9 %`, `99.95 %`.
pub fn percentile(inverse: f64) -> String {
    let decimals = inverse.max(1.0).log10().ceil() as usize;
    // 1 / (1 - q) is seldom round in binary: the least error must not show as a digit.
    format!("{} %", trimmed(100.0 - 100.0 / inverse.max(1.0), decimals))
}

/// `2026-11-28 08:53 UTC` of the ms since 1970.
pub fn date_time(ms: i64) -> String {
    let minutes = ms.div_euclid(60_000);
    let (year, month, day) = date(minutes.div_euclid(1440));
    let minute = minutes.rem_euclid(1440);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    // Years that begin in March: the odd day comes last, and 400 of them always have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let calendar_month = if month < 10 { month + 3 } else { month - 9 };
    let calendar_year = year + era * 400 + i64::from(calendar_month <= 2);
    (calendar_year, calendar_month, day_of_month)
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut index) = (value, 0);
    while value >= step * 0.9995 && index + 1 < units.len() {
        value /= step;
        index += 1;
    }
    let digits = if index == 0 { trimmed(value, 0) } else { three_digits(value) };
    format!("{digits} {}", units[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_in_threes() {
        let texts = [0, 12, 999, 1_000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn a_latency_is_in_the_unit_that_leaves_three_digits() {
        let texts = [0.0, 0.5, 87.0, 232.4, 999.4, 999.6, 6400.0, 23_400.0, 640_000.0].map(latency);
        let expected = [
            "0 µs",
            "0.5 µs",
            "87 µs",
            "232.4 µs",
            "999.4 µs",
            "1.00 ms",
            "6.40 ms",
            "23.4 ms",
            "640 ms",
        ];
        assert_eq!(texts, expected);
        assert_eq!([999_600.0, 12.3e6, 3.6e9].map(latency), ["1.00 s", "12.3 s", "3,600 s"]);
        assert_eq!(
            [200.0, 1e3, 1500.0, 2e6].map(latency_tick),
            ["200 µs", "1 ms", "1.5 ms", "2 s"]
        );
    }

    #[test]
    fn rates_stay_in_one_unit() {
        let texts = [0.0, 640.0, 22_800.0, 20e6, 342.1e6, 2685e6].map(byte_rate);
        let expected = ["0 B/s", "640 B/s", "22.8 kB/s", "20.0 MB/s", "342 MB/s", "2,685 MB/s"];
        assert_eq!(texts, expected);
        let texts = [0.0, 7.26, 33_400.4, 8_400_000.0, 12_345_678.0].map(rate);
        assert_eq!(texts, ["0", "7.3", "33,400", "8,400,000", "12.3 M"]);
    }

    #[test]
    fn names_on_axes_are_short() {
        let texts = [0.0, 500.0, 2e5, 2.5e6, 3e9].map(byte_rate_tick);
        assert_eq!(texts, ["0 MB/s", "0.5 kB/s", "0.2 MB/s", "2.5 MB/s", "3,000 MB/s"]);
        let texts = [0.0, 0.5, 2_500.0, 20_000.0, 2.5e6].map(rate_tick);
        assert_eq!(texts, ["0", "0.5", "2,500", "20 k", "2.5 M"]);
    }

    #[test]
    fn sizes_are_decimal_and_memory_is_binary() {
        assert_eq!([512, 9_999, 1_200_000_000].map(bytes), ["512 B", "10.0 kB", "1.20 GB"]);
        assert_eq!([512, 128 << 20, 3 << 29].map(memory), ["512 B", "128 MiB", "1.50 GiB"]);
    }

    #[test]
    fn what_is_less_than_all_is_never_written_as_all() {
        let texts = [0.0, 0.827, 0.999, 0.99996, 1.0, 1.25].map(share);
        assert_eq!(texts, ["0 %", "82.7 %", "99.9 %", "99.996 %", "100 %", "125 %"]);
    }

    #[test]
    fn percentiles_have_the_decimals_that_matter() {
        let texts = [1.0, 2.0, 10.0, 20.0, 100.0, 1000.0, 2000.0, 1e6].map(percentile);
        let expected = ["0 %", "50 %", "90 %", "95 %", "99 %", "99.9 %", "99.95 %", "99.9999 %"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn times_and_ratios_read_well() {
        let texts = [0.5, 10.0, 30.04, 125.0, 600.0, 7500.0].map(seconds);
        assert_eq!(texts, ["0.5 s", "10 s", "30 s", "2 min 5 s", "10 min", "2 h 5 min"]);
        let texts = [0.0123, 0.5, 1.0, 12.345, 130.2, f64::NAN].map(ratio);
        assert_eq!(texts, ["0.012×", "0.50×", "1.00×", "12.3×", "130×", "–"]);
    }

    /// Goal: the calendar holds over leap years. Method: days that are known.
    #[test]
    fn days_become_dates() {
        assert_eq!(date_time(0), "1970-01-01 00:00 UTC");
        assert_eq!(date_time(-60_000), "1969-12-31 23:59 UTC");
        assert_eq!(date_time(951_827_696_000), "2000-02-29 12:34 UTC");
        assert_eq!(date_time(1_764_000_000_000), "2025-11-24 16:00 UTC");
        assert_eq!(date_time(4_107_542_400_000), "2100-03-01 00:00 UTC");
    }
}
