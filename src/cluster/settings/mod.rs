//! Settings of topics and brokers: one table each, Kafka's names, defaults, bounds and words of
//! refusal.
//!
//! A value is text until [`values`] makes a typed struct of it. The tables say what exists; which
//! layer a value comes from (topic, broker, all brokers, file, default) is decided in [`layers`]
//! alone.

/// A default of a table's row.
macro_rules! default_of {
    (none) => {
        None
    };
    ($default:literal) => {
        Some($default)
    };
}

pub mod broker;
pub mod foreign;
pub mod layers;
pub mod named;
pub mod topic;
pub mod values;

pub use broker::{BROKER_SETTINGS, BrokerSetting, Effect, Update, broker_setting};
pub use foreign::{Foreign, Reach, foreign};
pub use layers::{Described, Layers, Source, SynonymValue};
pub use named::{NamedSetting, check_named_overrides, named_settings};
pub use topic::{TOPIC_SETTINGS, TopicSetting, topic_setting};
pub use values::{BrokerSettings, TimestampType, TopicSettings};

use super::metadata::Overrides;

/// Type of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    /// Name of a class of Java's.
    Class,
    Password,
    /// Of a setting that nobody knows.
    Unknown,
}

impl Kind {
    /// Kafka's number of the type in a DescribeConfigs answer.
    pub fn number(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
            Kind::Unknown => 0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Bool => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
            Kind::Unknown => "UNKNOWN",
        }
    }

    /// What must not be shown: of a setting that nobody knows it might be a secret.
    pub fn is_sensitive(self) -> bool {
        matches!(self, Kind::Password | Kind::Unknown)
    }
}

/// What a value must be, beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// As `OneOf`, in capitals or not.
    OneOfAnyCase(&'static [&'static str]),
    /// Each item one of these, or any where none are given; the list may be empty. An item that
    /// comes twice counts once.
    ListOf(&'static [&'static str]),
    NotEmpty,
    /// 1 to 9, or -1 for the codec's own.
    GzipLevel,
    /// `*` or `partition:broker` pairs.
    ThrottledReplicas,
}

/// A value that a setting does not take; reads as Kafka says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Invalid { name: String, value: String, reason: String },
    #[error("Configuration '{name}' values must not be empty.")]
    EmptyItem { name: String },
    #[error("Configuration '{name}' must not be empty. Valid values include: any non-empty value")]
    Empty { name: String },
}

/// Why settings of topics, groups and client metrics are refused; each reads as Kafka says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("Unknown topic config name: {name}")]
    UnknownTopicSetting { name: String },
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error(
        "conflict topic config setting min.compaction.lag.ms ({min_ms}) > max.compaction.lag.ms \
         ({max_ms})"
    )]
    CompactionLags { min_ms: i64, max_ms: i64 },
    #[error("Unknown group config name: {name}")]
    UnknownGroupSetting { name: String },
    #[error("{name} must be in the range {least} to {most} inclusive.")]
    OutOfRange { name: String, least: i64, most: i64 },
    #[error("{name} must be greater than {other}")]
    NotAbove { name: &'static str, other: &'static str },
    #[error("Unknown client metrics configuration: {name}")]
    UnknownClientMetricsSetting { name: String },
    #[error(
        "Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 \
         hour)"
    )]
    PushInterval { interval_ms: i32 },
    #[error("Illegal client matching pattern: {pattern}")]
    MatchPattern { pattern: String },
}

/// Whether `value` is one that the setting `name` of this kind and check takes.
///
/// # Errors
/// [`ValueError`], in Kafka's words.
pub fn check_value(name: &str, kind: Kind, check: Check, value: &str) -> Result<(), ValueError> {
    let trimmed = value.trim();
    let refused = |reason: String| Err(invalid(name, value, reason));
    let number = match kind {
        Kind::Bool => {
            let known = ["true", "false"].iter().any(|known| trimmed.eq_ignore_ascii_case(known));
            if !known {
                return refused("Expected value to be either true or false".to_owned());
            }
            None
        }
        Kind::Int => trimmed.parse::<i32>().map(i64::from).ok(),
        Kind::Short => trimmed.parse::<i16>().map(i64::from).ok(),
        Kind::Long => trimmed.parse::<i64>().ok(),
        Kind::Double => return check_ratio(name, check, value),
        Kind::String | Kind::List => return check_text(name, check, trimmed),
        Kind::Class => return refused(format!("Class {trimmed} could not be found.")),
        Kind::Password | Kind::Unknown => return Ok(()),
    };
    if matches!(kind, Kind::Int | Kind::Short | Kind::Long) && number.is_none() {
        return refused(format!("Not a number of type {}", kind.name()));
    }
    let reason = match (check, number) {
        (Check::AtLeast(min), Some(number)) => at_least(number, min),
        (Check::Between(min, max), Some(number)) => {
            at_least(number, min).or_else(|| no_more_than(number, max))
        }
        (Check::GzipLevel, Some(number)) => (number != -1 && !(1..=9).contains(&number))
            .then(|| "Value must be between 1 and 9 or equal to -1".to_owned()),
        _ => None,
    };
    reason.map_or(Ok(()), |reason| Err(invalid(name, trimmed, reason)))
}

fn invalid(name: &str, value: &str, reason: String) -> ValueError {
    ValueError::Invalid { name: name.to_owned(), value: value.to_owned(), reason }
}

fn check_ratio(name: &str, check: Check, value: &str) -> Result<(), ValueError> {
    let Ok(number) = value.trim().parse::<f64>() else {
        return Err(invalid(name, value, "Not a number of type DOUBLE".to_owned()));
    };
    let reason = match number {
        _ if !matches!(check, Check::Ratio) => return Ok(()),
        number if number > 1.0 => "Value must be no more than 1",
        number if number >= 0.0 => return Ok(()),
        _ => "Value must be at least 0",
    };
    // Numbers are told as Java writes them: 3.0, not 3.
    Err(invalid(name, &format!("{number:?}"), reason.to_owned()))
}

fn at_least(number: i64, min: i64) -> Option<String> {
    (number < min).then(|| format!("Value must be at least {min}"))
}

fn no_more_than(number: i64, max: i64) -> Option<String> {
    (number > max).then(|| format!("Value must be no more than {max}"))
}

fn check_text(name: &str, check: Check, value: &str) -> Result<(), ValueError> {
    let one_of = |value: &str, known: &[&str]| {
        Err(invalid(name, value, format!("String must be one of: {}", known.join(", "))))
    };
    match check {
        Check::OneOf(known) if !known.contains(&value) => one_of(value, known),
        Check::OneOfAnyCase(known) => {
            if known.iter().any(|known| known.eq_ignore_ascii_case(value)) {
                return Ok(());
            }
            let known = known.join(", ");
            let reason = format!("String must be one of (case insensitive): {known}");
            Err(invalid(name, value, reason))
        }
        Check::ListOf(known) if !value.is_empty() => {
            let mut items = value.split(',').map(str::trim);
            let wrong =
                items.find(|item| item.is_empty() || !(known.is_empty() || known.contains(item)));
            match wrong {
                None => Ok(()),
                Some("") => Err(ValueError::EmptyItem { name: name.to_owned() }),
                Some(item) => one_of(item, known),
            }
        }
        Check::NotEmpty if value.is_empty() => Err(ValueError::Empty { name: name.to_owned() }),
        Check::ThrottledReplicas => check_throttled_replicas(name, value),
        _ => Ok(()),
    }
}

fn check_throttled_replicas(name: &str, value: &str) -> Result<(), ValueError> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |item: &str| {
        item.split_once(':').is_some_and(|(partition, id)| digits(partition) && digits(id))
    };
    if value == "*" || list_items(value).all(pair) {
        return Ok(());
    }
    let items: Vec<&str> = value.split(',').map(str::trim).collect();
    let value = format!("[{}]", items.join(", "));
    Err(invalid(
        name,
        &value,
        format!(
            "{name} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        ),
    ))
}

/// The items of a list value, without the spaces around them.
pub fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Whether these overrides may stand on a topic whose broker's values are those of `layers`.
///
/// # Errors
/// [`SettingsError`]: the first that may not, in Kafka's words.
pub fn check_topic_overrides(overrides: &Overrides, layers: &Layers) -> Result<(), SettingsError> {
    for (name, value) in overrides {
        let setting = topic_setting(name)
            .ok_or_else(|| SettingsError::UnknownTopicSetting { name: name.clone() })?;
        check_value(name, setting.kind, setting.check, value)?;
    }
    let settings = TopicSettings::resolve(overrides, layers);
    let (min_ms, max_ms) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
    if min_ms > max_ms {
        return Err(SettingsError::CompactionLags { min_ms, max_ms });
    }
    Ok(())
}

/// The broker setting whose name is most like `name`, if any is at all alike.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, BROKER_SETTINGS.iter().map(|setting| setting.name))
}

/// The topic setting whose name is most like `name`, if any is at all alike.
pub fn nearest_topic_setting(name: &str) -> Option<&'static str> {
    nearest_of(name, TOPIC_SETTINGS.iter().map(|setting| setting.name))
}

/// Below this likeness (0.0 to 1.0) a suggestion confuses more than it helps.
const LIKENESS_MIN: f64 = 0.75;

fn nearest_of(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let likeness = |known: &str| {
        let by_letters = strsim::normalized_damerau_levenshtein(name, known);
        by_letters.max(strsim::jaro_winkler(name, known))
    };
    names
        .map(|known| (likeness(known), known))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_fault(name: &str, value: &str) -> Option<String> {
        let setting = topic_setting(name).unwrap();
        check_value(name, setting.kind, setting.check, value).err().map(|error| error.to_string())
    }

    #[test]
    fn both_tables_are_sorted_and_their_defaults_pass_their_own_checks() {
        assert!(TOPIC_SETTINGS.is_sorted_by(|left, right| left.name < right.name));
        assert!(BROKER_SETTINGS.is_sorted_by(|left, right| left.name < right.name));
        for setting in BROKER_SETTINGS {
            if let Some(default) = setting.default {
                assert_eq!(check_value(setting.name, setting.kind, setting.check, default), Ok(()));
            }
        }
        for setting in TOPIC_SETTINGS {
            for synonym in setting.synonyms {
                assert!(broker_setting(synonym.name).is_some(), "{}", synonym.name);
            }
        }
    }

    #[test]
    fn a_wrong_value_is_refused_in_kafkas_words() {
        for (name, value, expected) in [
            ("retention.ms", "-2", "Value must be at least -1"),
            ("retention.ms", "a week", "Not a number of type LONG"),
            ("segment.bytes", "3000000000", "Not a number of type INT"),
            ("segment.bytes", "1024", "Value must be at least 1048576"),
            ("preallocate", "yes", "Expected value to be either true or false"),
            ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
            ("min.cleanable.dirty.ratio", "NaN", "Value must be at least 0"),
            ("cleanup.policy", "shred", "String must be one of: compact, delete"),
            ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
            ("compression.lz4.level", "18", "Value must be no more than 17"),
            ("message.timestamp.type", "Now", "String must be one of: CreateTime, LogAppendTime"),
        ] {
            let expected = format!("Invalid value {value} for configuration {name}: {expected}");
            assert_eq!(topic_fault(name, value), Some(expected));
        }
        assert_eq!(
            topic_fault("cleanup.policy", "compact,shred").as_deref(),
            Some(
                "Invalid value shred for configuration cleanup.policy: String must be one of: \
                 compact, delete"
            )
        );
        assert_eq!(
            topic_fault("cleanup.policy", "compact,,delete").as_deref(),
            Some("Configuration 'cleanup.policy' values must not be empty.")
        );
        for (name, value) in [
            ("retention.ms", "-1"),
            ("cleanup.policy", "delete,delete"),
            ("retention.bytes", "-5"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "compact, delete"),
            ("preallocate", "TRUE"),
            ("leader.replication.throttled.replicas", "*"),
            ("leader.replication.throttled.replicas", "0:1,1:2"),
        ] {
            assert_eq!(topic_fault(name, value), None, "{name}={value}");
        }
        let fault = topic_fault("leader.replication.throttled.replicas", "0:1,x").unwrap();
        assert!(fault.starts_with("Invalid value [0:1, x] for configuration leader."), "{fault}");
    }

    #[test]
    fn lags_that_contradict_are_refused_together() {
        let overrides = |pairs: &[(&str, &str)]| -> Overrides {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let fixed = Overrides::new();
        let layers = Layers::of_file(&fixed);
        let lags = overrides(&[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "5")]);
        assert_eq!(
            check_topic_overrides(&lags, &layers).unwrap_err().to_string(),
            "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (5)"
        );
        assert_eq!(
            check_topic_overrides(&overrides(&[("retention", "1")]), &layers)
                .unwrap_err()
                .to_string(),
            "Unknown topic config name: retention"
        );
    }

    #[test]
    fn the_nearest_name_is_found_and_nonsense_has_none() {
        assert_eq!(nearest("num.partition"), Some("num.partitions"));
        assert_eq!(nearest("listener"), Some("listeners"));
        assert_eq!(nearest("log.dirr"), Some("log.dir"));
        assert_eq!(nearest("autocreate.topics.enable"), Some("auto.create.topics.enable"));
        assert_eq!(nearest_topic_setting("retention.msec"), Some("retention.ms"));
        assert_eq!(nearest("zzzz"), None);
    }
}
