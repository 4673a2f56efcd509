//! The tables of settings of groups (KIP-848) and of client metrics (KIP-714), and their rules.
//!
//! A group that does not set one takes its broker's, under the broker's name for it.

use super::{Check, Kind, Layers, SettingsError, check_value};
use crate::base::limits::GROUP_REGEX_COMPILED_BYTES_MAX;
use crate::cluster::metadata::{NamedResource, Overrides};
use regex::RegexBuilder;

/// One setting of a group or of client metrics.
#[derive(Debug)]
pub struct NamedSetting {
    pub name: &'static str,
    pub kind: Kind,
    pub check: Check,
    /// The broker's name for it; its value counts where none was set.
    pub synonym: Option<&'static str>,
    /// Counts where there is no broker setting either.
    pub default: &'static str,
    pub doc: &'static str,
}

/// Every setting of groups, by name.
pub const GROUP_SETTINGS: &[NamedSetting] = &[
    NamedSetting {
        name: "consumer.heartbeat.interval.ms",
        kind: Kind::Int,
        check: Check::AtLeast(1),
        synonym: Some("group.consumer.heartbeat.interval.ms"),
        default: "5000",
        doc: "Time between heartbeats of the group's members under the consumer group protocol.",
    },
    NamedSetting {
        name: "consumer.session.timeout.ms",
        kind: Kind::Int,
        check: Check::AtLeast(1),
        synonym: Some("group.consumer.session.timeout.ms"),
        default: "45000",
        doc: "Silence after which a member under the consumer group protocol is dropped.",
    },
];

/// Every setting of client metrics, by name.
pub const CLIENT_METRICS_SETTINGS: &[NamedSetting] = &[
    NamedSetting {
        name: "interval.ms",
        kind: Kind::Int,
        check: Check::Any,
        synonym: None,
        default: "300000",
        doc: "No effect: how often clients would send these metrics; none are asked for.",
    },
    NamedSetting {
        name: "match",
        kind: Kind::List,
        check: Check::ListOf(&[]),
        synonym: None,
        default: "",
        doc: "No effect: which clients would be asked for these metrics; none are asked for.",
    },
    NamedSetting {
        name: "metrics",
        kind: Kind::List,
        check: Check::ListOf(&[]),
        synonym: None,
        default: "",
        doc: "No effect: first parts of the names of metrics; none are asked for.",
    },
];

/// Longest and shortest time between two pushes of a client, ms.
const PUSH_INTERVAL_MS: std::ops::RangeInclusive<i32> = 100..=3_600_000;

/// What a pattern may look at in a client.
const MATCHED: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Every setting of resources of that kind.
pub fn named_settings(kind: NamedResource) -> &'static [NamedSetting] {
    match kind {
        NamedResource::Group => GROUP_SETTINGS,
        NamedResource::ClientMetrics => CLIENT_METRICS_SETTINGS,
    }
}

/// Whether these overrides may stand on a group, or client metrics, of this broker.
///
/// # Errors
/// [`SettingsError`]: the first that may not, in Kafka's words.
pub fn check_named_overrides(
    kind: NamedResource,
    overrides: &Overrides,
    layers: &Layers,
) -> Result<(), SettingsError> {
    let settings = named_settings(kind);
    let row = |name: &str| settings.iter().find(|setting| setting.name == name);
    if let Some(name) = overrides.keys().find(|name| row(name).is_none()) {
        return Err(match kind {
            NamedResource::Group => SettingsError::UnknownGroupSetting { name: name.clone() },
            NamedResource::ClientMetrics => {
                SettingsError::UnknownClientMetricsSetting { name: name.clone() }
            }
        });
    }
    for (name, value) in overrides {
        let setting = row(name).expect("unknown names were refused");
        check_value(name, setting.kind, setting.check, value)?;
    }
    match kind {
        NamedResource::Group => check_group(overrides, layers),
        NamedResource::ClientMetrics => check_client_metrics(overrides),
    }
}

fn check_group(overrides: &Overrides, layers: &Layers) -> Result<(), SettingsError> {
    let number = |name: &str| -> i64 {
        let text = layers.named_value(NamedResource::Group, name, overrides);
        text.trim().parse().expect("group settings are checked numbers")
    };
    let bound = |name: String| layers.broker_value(&name)?.trim().parse::<i64>().ok();
    for part in ["heartbeat.interval.ms", "session.timeout.ms"] {
        let name = format!("consumer.{part}");
        let least = bound(format!("group.consumer.min.{part}")).unwrap_or(i64::MIN);
        let most = bound(format!("group.consumer.max.{part}")).unwrap_or(i64::MAX);
        if !(least..=most).contains(&number(&name)) {
            return Err(SettingsError::OutOfRange { name, least, most });
        }
    }
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    if number(session) <= number(heartbeat) {
        return Err(SettingsError::NotAbove { name: session, other: heartbeat });
    }
    Ok(())
}

fn check_client_metrics(overrides: &Overrides) -> Result<(), SettingsError> {
    if let Some(text) = overrides.get("interval.ms") {
        let interval_ms: i32 = text.trim().parse().expect("its type was checked");
        if !PUSH_INTERVAL_MS.contains(&interval_ms) {
            return Err(SettingsError::PushInterval { interval_ms });
        }
    }
    for pattern in super::list_items(overrides.get("match").map_or("", String::as_str)) {
        if !is_pattern(pattern) {
            return Err(SettingsError::MatchPattern { pattern: pattern.to_owned() });
        }
    }
    Ok(())
}

/// `what=regular expression`, with no further `=`.
fn is_pattern(text: &str) -> bool {
    let Some((what, expression)) = text.trim_end_matches('=').split_once('=') else { return false };
    let mut builder = RegexBuilder::new(expression.trim());
    builder.size_limit(GROUP_REGEX_COMPILED_BYTES_MAX);
    MATCHED.contains(&what.trim()) && !expression.contains('=') && builder.build().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: NamedResource, pairs: &[(&str, &str)]) -> Option<String> {
        let overrides: Overrides =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let fixed = Overrides::new();
        let outcome = check_named_overrides(kind, &overrides, &Layers::of_file(&fixed));
        outcome.err().map(|error| error.to_string())
    }

    /// The words are those of Kafka 4.4 to the same changes.
    #[test]
    fn a_groups_settings_keep_to_the_brokers_bounds() {
        let (session, heartbeat) =
            ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
        for (pairs, expected) in [
            (vec![(session, "50000")], None),
            (
                vec![(session, "1")],
                Some("consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive."),
            ),
            (
                vec![(session, "90000")],
                Some("consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive."),
            ),
            (
                vec![(session, "x")],
                Some(
                    "Invalid value x for configuration consumer.session.timeout.ms: Not a \
                 number of type INT",
                ),
            ),
            (
                vec![(session, "0")],
                Some(
                    "Invalid value 0 for configuration consumer.session.timeout.ms: Value \
                 must be at least 1",
                ),
            ),
            (
                vec![(heartbeat, "1")],
                Some(
                    "consumer.heartbeat.interval.ms must be in the range 5000 to 15000 inclusive.",
                ),
            ),
            (vec![(heartbeat, "6000")], None),
            (vec![("no.such", "1")], Some("Unknown group config name: no.such")),
        ] {
            assert_eq!(fault(NamedResource::Group, &pairs).as_deref(), expected, "{pairs:?}");
        }
    }

    /// The words are those of Kafka 4.3.1 to the same changes.
    #[test]
    fn client_metrics_have_intervals_and_patterns_as_kafkas() {
        for (name, value, expected) in [
            ("interval.ms", "5000", None),
            (
                "interval.ms",
                "5",
                Some(
                    "Invalid value 5 for interval.ms, interval must be between 100 and \
                 3600000 (1 hour)",
                ),
            ),
            (
                "interval.ms",
                "x",
                Some(
                    "Invalid value x for configuration interval.ms: Not a number of type \
                 INT",
                ),
            ),
            ("metrics", "a,b", None),
            ("metrics", "", None),
            ("metrics", "a,,b", Some("Configuration 'metrics' values must not be empty.")),
            ("match", "client_id=x.*", None),
            ("match", "", None),
            ("match", "zzz=1", Some("Illegal client matching pattern: zzz=1")),
            ("match", "client_id", Some("Illegal client matching pattern: client_id")),
            ("match", "client_id=", Some("Illegal client matching pattern: client_id=")),
            ("match", "client_id=a=b", Some("Illegal client matching pattern: client_id=a=b")),
            ("match", "client_id=[", Some("Illegal client matching pattern: client_id=[")),
            ("no.such", "1", Some("Unknown client metrics configuration: no.such")),
        ] {
            let found = fault(NamedResource::ClientMetrics, &[(name, value)]);
            assert_eq!(found.as_deref(), expected, "{name}={value}");
        }
    }
}
