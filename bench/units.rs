//! Sizes, times, rates and sets of cores as people write them.
//!
//! A value that cannot be used is refused here, with what would be right.

use std::time::Duration;

/// Most cores that `--cpus` may name: the size of the kernel's fixed set.
const CPUS_MAX: usize = 1024;

/// A set of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// Reads `4096`, `16K`, `1MiB`, `8g`: powers of 1024, 1 at least.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits_count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_count);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("'{unit}' is no unit: use K, M, G or T (powers of 1024)")),
    };
    let count: u64 = digits.parse().map_err(|_| "write a number, such as 64K".to_owned())?;
    match count.checked_mul(1 << shift) {
        Some(0) => Err("must be 1 at least".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("is more than 64 bits hold".to_owned()),
    }
}

/// Reads `10s`, `500ms`, `2m`, `1.5s`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let number_bytes = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(number_bytes);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{unit}' is no unit: use us, ms, s, m or h")),
    };
    let count: f64 = number.parse().map_err(|_| "write a number, such as 10s".to_owned())?;
    Duration::try_from_secs_f64(count * seconds_per_unit).map_err(|error| error.to_string())
}

/// Reads `0,2-3`.
pub fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = |part: &str| format!("'{part}' is neither a core's number nor a range like 2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong(part))?;
        let last: usize = last.trim().parse().map_err(|_| wrong(part))?;
        if first > last || last >= CPUS_MAX {
            return Err(wrong(part));
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value, such as retention.bytes=1073741824".to_owned()),
    }
}

/// A rate and what it counts, of all connections together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Bytes of batches a second, as they are sent.
    Bytes(f64),
    /// Requests a second.
    Requests(f64),
    /// Records a second.
    Records(f64),
}

/// Reads `20MB`, `20M` (10^6 bytes a second), `20MiB`, `5000r`, `5kr` (requests), `100krec`
/// (records), each also with `/s` behind it. Decimal, as the report prints rates.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || {
        format!("'{text}' is no rate: write 20MB (bytes), 5000r (requests) or 100krec (records)")
    };
    let number_bytes = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(number_bytes);
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let (factor, unit) = match unit.chars().next() {
        Some('k' | 'K') => (1e3, &unit[1..]),
        Some('m' | 'M') => (1e6, &unit[1..]),
        Some('g' | 'G') => (1e9, &unit[1..]),
        _ => (1.0, unit),
    };
    let binary = match factor {
        1e3 => 1024.0,
        1e6 => 1_048_576.0,
        _ => 1_073_741_824.0,
    };
    let count: f64 = number.parse().map_err(|_| wrong())?;
    let rate = match unit {
        "" | "b" | "B" => Rate::Bytes(count * factor),
        "ib" | "iB" if factor > 1.0 => Rate::Bytes(count * binary),
        "r" | "req" => Rate::Requests(count * factor),
        "rec" => Rate::Records(count * factor),
        _ => return Err(wrong()),
    };
    if count > 0.0 && count.is_finite() { Ok(rate) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_never_zero() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("16K"), Ok(16 << 10));
        assert_eq!(parse_bytes("8GiB"), Ok(8 << 30));
        assert!(parse_bytes("0").is_err());
        assert!(parse_bytes("K").is_err());
        assert!(parse_bytes("1x").is_err());
        assert!(parse_bytes("99999999999T").is_err());
    }

    #[test]
    fn times_have_units_and_a_bare_number_is_seconds() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("fast").is_err());
        assert!(parse_duration("5 days").is_err());
    }

    #[test]
    fn cores_are_listed_singly_or_as_a_range() {
        assert_eq!(parse_cpus("0,2-4"), Ok(Cpus(vec![0, 2, 3, 4])));
        assert!(parse_cpus("3-1").is_err());
        assert!(parse_cpus("").is_err());
        assert!(parse_cpus("0-99999999999").is_err());
    }

    #[test]
    fn rates_are_decimal_and_say_what_they_count() {
        assert_eq!(parse_rate("20MB"), Ok(Rate::Bytes(20e6)));
        assert_eq!(parse_rate("20M"), Ok(Rate::Bytes(20e6)));
        assert_eq!(parse_rate("1.5MiB/s"), Ok(Rate::Bytes(1.5 * 1_048_576.0)));
        assert_eq!(parse_rate("5000r"), Ok(Rate::Requests(5000.0)));
        assert_eq!(parse_rate("5kr/s"), Ok(Rate::Requests(5000.0)));
        assert_eq!(parse_rate("100krec"), Ok(Rate::Records(1e5)));
        for wrong in ["", "0", "-1", "fast", "20X", "20MBr", "inf"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
