//! Points in time as people write them: RFC 3339 dates, and milliseconds since 1970 after an `@`;
//! and lengths of time.

const MS_PER_DAY: i64 = 86_400_000;
const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_MINUTE: i64 = 60_000;

/// Milliseconds since 1970 of `@1700000000000`, `2025-03-01`, `2025-03-01T12:30:00Z`,
/// `2025-03-01T12:30:00.250+02:00`; without a zone the time is UTC. `None`: it is none of these.
pub fn parse_timestamp_ms(text: &str) -> Option<i64> {
    if let Some(number) = text.strip_prefix('@') {
        return number.parse().ok().filter(|ms| *ms >= 0);
    }
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year: i64 = digits(parts.next()?, 4)?;
    let month: i64 = digits(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day: i64 = digits(parts.next()?, 2)?;
    if parts.next().is_some() || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let day_ms = days_since_1970(year, month, day) * MS_PER_DAY;
    Some(day_ms + time.map_or(Some(0), time_of_day_ms)?)
}

/// Milliseconds of `500ms`, `30s`, `90m`, `12h`, `7d`, or ISO 8601's `P1DT2H30M5S`, which is what
/// Kafka's tools take. `None`: it is none of these, or does not fit.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let Some(iso) = text.strip_prefix(['P', 'p']) else {
        let digits_count = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits_count);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => MS_PER_MINUTE,
            "h" => MS_PER_HOUR,
            "d" => MS_PER_DAY,
            _ => return None,
        };
        return number.parse::<i64>().ok()?.checked_mul(unit_ms);
    };
    let (days, time) = match iso.split_once(['T', 't']) {
        Some((days, time)) => (days, Some(time).filter(|time| !time.is_empty())?),
        None => (Some(iso).filter(|iso| !iso.is_empty())?, ""),
    };
    let (days_ms, rest) = iso_part(days, 'D', MS_PER_DAY)?;
    let (hours_ms, time) = iso_part(time, 'H', MS_PER_HOUR)?;
    let (minutes_ms, time) = iso_part(time, 'M', MS_PER_MINUTE)?;
    let (seconds_ms, time) = iso_part(time, 'S', 1_000)?;
    if !rest.is_empty() || !time.is_empty() {
        return None;
    }
    days_ms.checked_add(hours_ms)?.checked_add(minutes_ms)?.checked_add(seconds_ms)
}

/// The part of `text` up to `mark` in milliseconds, and the rest; nothing is 0.
fn iso_part(text: &str, mark: char, unit_ms: i64) -> Option<(i64, &str)> {
    let Some((number, rest)) = text.split_once([mark, mark.to_ascii_lowercase()]) else {
        return Some((0, text));
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { number.parse::<i64>().ok()? } else { return None };
    Some((number.checked_mul(unit_ms)?, rest))
}

/// `2025-03-01T12:30:00.250Z` for milliseconds since 1970.
pub fn format_timestamp_ms(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let (year, month, day) = date_of_days(days);
    let (hour, rest) = (rest / MS_PER_HOUR, rest % MS_PER_HOUR);
    let (minute, rest) = (rest / MS_PER_MINUTE, rest % MS_PER_MINUTE);
    let (second, part) = (rest / 1_000, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{part:03}Z")
}

/// A number of exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// `hh:mm[:ss[.fraction]]` and a zone, less the zone's distance from UTC.
fn time_of_day_ms(text: &str) -> Option<i64> {
    let (clock, zone_ms) = split_zone(text)?;
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second_ms = parts.next().map_or(Some(0), seconds_ms)?;
    if parts.next().is_some() {
        return None;
    }
    Some(hour * MS_PER_HOUR + minute * MS_PER_MINUTE + second_ms - zone_ms)
}

/// The time without its zone, and the zone's distance from UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let distance = digits(hours, 2)? * MS_PER_HOUR + digits(minutes, 2)? * MS_PER_MINUTE;
    let is_west = text[at..].starts_with('-');
    Some((&text[..at], if is_west { -distance } else { distance }))
}

/// `ss` or `ss.fraction`, in milliseconds; finer digits are cut off.
fn seconds_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let second = digits(whole, 2).filter(|second| *second < 60)?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some(second * 1_000 + padded.parse::<i64>().ok()?)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, counted in years that begin with March so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let leap_days =
        march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    march_year * 365 + leap_days + day_of_year - 719_468
}

/// The date that lies `days` after 1970-01-01.
fn date_of_days(days: i64) -> (i64, i64, i64) {
    let year_days = if days < 0 { 365 } else { 366 }; // towards the past: never a year too late
    let mut year = 1970 + days.div_euclid(year_days);
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut left = days - days_since_1970(year, 1, 1);
    let mut month = 1;
    while left >= days_of_month(year, month) {
        left -= days_of_month(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: dates mean what RFC 3339 says. Method: known instants in each form.
    #[test]
    fn known_instants_are_read() {
        assert_eq!(parse_timestamp_ms("@1700000000123"), Some(1_700_000_000_123));
        assert_eq!(parse_timestamp_ms("1970-01-01"), Some(0));
        assert_eq!(parse_timestamp_ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(parse_timestamp_ms("2023-11-14T22:13:20.5Z"), Some(1_700_000_000_500));
        assert_eq!(parse_timestamp_ms("2023-11-15T00:13:20+02:00"), Some(1_700_000_000_000));
        assert_eq!(parse_timestamp_ms("2023-11-14T17:13-05:00"), Some(1_699_999_980_000));
    }

    /// Goal: what is no date is refused. Method: near misses.
    #[test]
    fn near_misses_are_refused() {
        let wrong = [
            "",
            "@",
            "@-1",
            "2023-2-1",
            "2023-02-29",
            "2023-13-01",
            "2023-01-01T24:00",
            "2023-01-01T10",
            "2023-01-01T10:00:60",
            "2023-01-01T10:00:00.",
            "tomorrow",
            "12",
        ];
        for text in wrong {
            assert_eq!(parse_timestamp_ms(text), None, "{text:?}");
        }
    }

    /// Goal: printing and reading agree. Method: every 12,345th minute of four centuries.
    #[test]
    fn what_is_printed_reads_back() {
        for step in 0..17_000 {
            let ms = -30 * 365 * MS_PER_DAY + step * 12_345 * MS_PER_MINUTE + step;
            assert_eq!(parse_timestamp_ms(&format_timestamp_ms(ms)), Some(ms));
        }
    }

    /// Goal: lengths of time in both spellings. Method: known values, and near misses.
    #[test]
    fn durations_are_numbers_with_a_unit_or_iso_8601() {
        let right = [
            ("500ms", 500),
            ("30s", 30_000),
            ("90m", 5_400_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("P7D", 604_800_000),
            ("PT0S", 0),
            ("P1DT2H30M5S", 95_405_000),
            ("pt5m", 300_000),
        ];
        for (text, ms) in right {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text:?}");
        }
        let wrong = ["", "5", "m", "-5m", "1.5h", "P", "PT", "P5", "PT5D", "P1H", "PT5M1H", "5 m"];
        for text in wrong {
            assert_eq!(parse_duration_ms(text), None, "{text:?}");
        }
        assert_eq!(parse_duration_ms("99999999999999999d"), None);
    }
}
