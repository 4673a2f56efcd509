//! Where a setting's value comes from: the layers, strongest first, and the answer to "describe".
//!
//! A topic's own value, then this broker's, then all brokers', then the file's and flags', then the
//! default. A topic setting without a value of its own asks for its broker settings in their order.

use super::foreign::{Foreign, foreign};
use super::named::{NamedSetting, named_settings};
use super::{BROKER_SETTINGS, Kind, TOPIC_SETTINGS, TopicSetting, Update, broker_setting};
use crate::base::ids::NodeId;
use crate::cluster::metadata::{Image, NamedResource, Overrides};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Layer that a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic,
    Broker,
    AllBrokers,
    /// The file or flags that the node was started with.
    Fixed,
    Default,
    ClientMetrics,
    Group,
}

impl Source {
    /// Kafka's number of the source in a DescribeConfigs answer.
    pub fn number(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::Broker => 2,
            Source::AllBrokers => 3,
            Source::Fixed => 4,
            Source::Default => 5,
            Source::ClientMetrics => 7,
            Source::Group => 8,
        }
    }
}

/// A value that would be in force if those before it were not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynonymValue {
    pub name: Cow<'static, str>,
    pub value: String,
    pub source: Source,
}

/// One setting as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: Cow<'static, str>,
    pub value: Option<String>,
    pub source: Source,
    pub kind: Kind,
    pub read_only: bool,
    pub sensitive: bool,
    pub synonyms: Vec<SynonymValue>,
    pub doc: &'static str,
}

/// The layers of one broker's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers<'a> {
    broker: Option<&'a Overrides>,
    all_brokers: Option<&'a Overrides>,
    fixed: &'a Overrides,
}

/// The layers that a broker setting has values in, strongest first.
const BROKER_SOURCES: [Source; 4] =
    [Source::Broker, Source::AllBrokers, Source::Fixed, Source::Default];

/// Broker settings that say the same in other units: each falls back on those after it.
const FAMILIES: &[&[&str]] = &[
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.roll.ms", "log.roll.hours"],
];

impl<'a> Layers<'a> {
    /// Only what the node was started with, and the defaults.
    pub fn of_file(fixed: &'a Overrides) -> Layers<'a> {
        Layers { broker: None, all_brokers: None, fixed }
    }

    /// The layers of `node_id` in this image, above what it was started with.
    pub fn of_image(image: &'a Image, node_id: NodeId, fixed: &'a Overrides) -> Layers<'a> {
        Layers {
            broker: image.broker_overrides(node_id).map(AsRef::as_ref),
            all_brokers: Some(image.default_broker_overrides()),
            fixed,
        }
    }

    /// The value that a layer has of a broker setting.
    fn layer_value(self, source: Source, name: &str) -> Option<&'a str> {
        let layer = match source {
            Source::Broker => self.broker?,
            Source::AllBrokers => self.all_brokers?,
            Source::Fixed => self.fixed,
            Source::Default => return broker_setting(name)?.default,
            Source::Topic | Source::ClientMetrics | Source::Group => return None,
        };
        layer.get(name).map(String::as_str)
    }

    /// The values of a broker setting, strongest first.
    fn broker_values(self, name: &str) -> impl Iterator<Item = (Source, &'a str)> {
        let value = move |source| Some((source, self.layer_value(source, name)?));
        BROKER_SOURCES.into_iter().filter_map(value)
    }

    /// The value in force of a broker setting; nothing where it has none and no default.
    pub fn broker_value(self, name: &str) -> Option<&'a str> {
        self.broker_values(name).next().map(|(_, value)| value)
    }

    /// The value in force of a topic setting on a topic that sets `overrides`.
    pub fn topic_value(self, setting: &TopicSetting, overrides: &Overrides) -> String {
        if let Some(value) = overrides.get(setting.name) {
            return value.clone();
        }
        let inherited = setting.synonyms.iter().find_map(|synonym| {
            self.broker_value(synonym.name).map(|value| scaled(value, synonym.factor))
        });
        inherited.unwrap_or_default()
    }

    /// Every topic setting of a topic that sets `overrides`.
    pub fn describe_topic(self, overrides: &Overrides) -> Vec<Described> {
        TOPIC_SETTINGS.iter().map(|setting| self.describe_topic_one(setting, overrides)).collect()
    }

    fn describe_topic_one(
        self,
        setting: &'static TopicSetting,
        overrides: &Overrides,
    ) -> Described {
        let own = overrides.get(setting.name).map(|value| SynonymValue {
            name: setting.name.into(),
            value: value.clone(),
            source: Source::Topic,
        });
        let inherited = setting.synonyms.first().map(|synonym| self.synonyms_of(synonym.name));
        let synonyms: Vec<SynonymValue> =
            own.into_iter().chain(inherited.into_iter().flatten()).collect();
        Described {
            name: setting.name.into(),
            value: Some(self.topic_value(setting, overrides)),
            source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
            kind: setting.kind,
            read_only: false,
            sensitive: false,
            synonyms,
            doc: setting.doc,
        }
    }

    /// Every broker setting of this broker, then what else was set for it.
    pub fn describe_broker(self) -> Vec<Described> {
        let describe = |setting: &'static super::BrokerSetting| {
            let own = self.broker_values(setting.name).next();
            Described {
                name: setting.name.into(),
                value: own.map(|(_, value)| value.to_owned()),
                source: own.map_or(Source::Default, |(source, _)| source),
                kind: setting.kind,
                read_only: setting.update == Update::Restart,
                sensitive: setting.kind.is_sensitive(),
                synonyms: self.synonyms_of(setting.name),
                doc: setting.doc,
            }
        };
        let set = self.broker.into_iter().chain(self.all_brokers).flatten().map(|(name, _)| name);
        let foreign: BTreeSet<&String> =
            set.filter(|name| broker_setting(name).is_none()).collect();
        let foreign = foreign.into_iter().map(|name| self.describe_foreign(name, &BROKER_SOURCES));
        BROKER_SETTINGS.iter().map(describe).chain(foreign).collect()
    }

    /// A setting of brokers without a row, which was set in one of `sources`.
    fn describe_foreign(self, name: &str, sources: &[Source]) -> Described {
        let Foreign { kind, default, known, .. } = foreign(name);
        let value_of = |source: &Source| {
            let value = match source {
                Source::Default => default,
                _ => self.layer_value(*source, name),
            };
            let name = Cow::Owned(name.to_owned());
            Some(SynonymValue { name, value: value?.to_owned(), source: *source })
        };
        let synonyms: Vec<SynonymValue> = sources.iter().filter_map(value_of).collect();
        let first = synonyms.first();
        Described {
            name: Cow::Owned(name.to_owned()),
            value: first.map(|synonym| synonym.value.clone()),
            source: first.map_or(Source::Default, |synonym| synonym.source),
            kind,
            read_only: !known,
            sensitive: kind.is_sensitive(),
            synonyms,
            doc: "No effect: kept and shown as Kafka does.",
        }
    }

    /// What was set for all brokers, as describing the broker without a name shows it.
    pub fn describe_all_brokers(self) -> Vec<Described> {
        let set = self.all_brokers.into_iter().flatten();
        set.map(|(name, value)| {
            let source = Source::AllBrokers;
            let Some(setting) = broker_setting(name) else {
                return self.describe_foreign(name, &[source]);
            };
            let name = Cow::Borrowed(setting.name);
            Described {
                name: name.clone(),
                value: Some(value.clone()),
                source,
                kind: setting.kind,
                read_only: false,
                sensitive: setting.kind.is_sensitive(),
                synonyms: vec![SynonymValue { name, value: value.clone(), source }],
                doc: setting.doc,
            }
        })
        .collect()
    }

    /// The value in force of a setting of a group, or of client metrics, that sets `overrides`.
    pub fn named_value(self, kind: NamedResource, name: &str, overrides: &Overrides) -> String {
        let setting = named_settings(kind).iter().find(|setting| setting.name == name);
        setting.map(|setting| self.named_value_of(setting, overrides)).unwrap_or_default()
    }

    fn named_value_of(self, setting: &NamedSetting, overrides: &Overrides) -> String {
        let own = overrides.get(setting.name).map(String::as_str);
        let inherited = setting.synonym.and_then(|synonym| self.broker_value(synonym));
        own.or(inherited).unwrap_or(setting.default).to_owned()
    }

    /// Every setting of a group, or of client metrics, that sets `overrides`.
    pub fn describe_named(self, kind: NamedResource, overrides: &Overrides) -> Vec<Described> {
        let describe = |setting: &'static NamedSetting| {
            let own = overrides.get(setting.name).map(|value| SynonymValue {
                name: setting.name.into(),
                value: value.clone(),
                source: match kind {
                    NamedResource::Group => Source::Group,
                    NamedResource::ClientMetrics => Source::ClientMetrics,
                },
            });
            let inherited = setting.synonym.map(|synonym| self.synonyms_of(synonym));
            let synonyms: Vec<SynonymValue> =
                own.into_iter().chain(inherited.into_iter().flatten()).collect();
            Described {
                name: setting.name.into(),
                value: Some(self.named_value_of(setting, overrides)),
                source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
                kind: setting.kind,
                read_only: false,
                sensitive: false,
                synonyms,
                doc: setting.doc,
            }
        };
        named_settings(kind).iter().map(describe).collect()
    }

    /// What a broker setting and those of its family are set to, strongest layer first. As in
    /// Kafka nothing is listed before the setting's own value: without one there are none.
    fn synonyms_of(self, name: &'static str) -> Vec<SynonymValue> {
        let own = [name];
        let family = FAMILIES.iter().find(|family| family.contains(&name));
        let names: &[&'static str] = family.copied().unwrap_or(&own);
        let values = BROKER_SOURCES.into_iter().flat_map(|source| {
            names.iter().filter_map(move |name| {
                let value = self.layer_value(source, name)?.to_owned();
                Some(SynonymValue { name: Cow::Borrowed(*name), value, source })
            })
        });
        values.skip_while(|synonym| synonym.name != name).collect()
    }
}

/// A broker's value in the topic setting's unit; "no limit" stays -1 in any unit.
fn scaled(value: &str, factor: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(_) if factor == 1 => value.to_owned(),
        Ok(number) if number < 0 => "-1".to_owned(),
        Ok(number) => number.saturating_mul(factor).to_string(),
        Err(_) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::settings::topic_setting;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn described<'a>(all: &'a [Described], name: &str) -> &'a Described {
        all.iter().find(|described| described.name == name).unwrap()
    }

    #[test]
    fn a_topics_retention_follows_its_brokers_hours_minutes_and_ms() {
        let setting = topic_setting("retention.ms").unwrap();
        let none = Overrides::new();
        for (fixed, expected) in [
            (overrides(&[]), "604800000"),
            (overrides(&[("log.retention.hours", "1")]), "3600000"),
            (overrides(&[("log.retention.hours", "-1")]), "-1"),
            (overrides(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")]), "120000"),
            (overrides(&[("log.retention.minutes", "2"), ("log.retention.ms", "3")]), "3"),
        ] {
            assert_eq!(Layers::of_file(&fixed).topic_value(setting, &none), expected);
        }
    }

    /// Goal: each layer beats the next. Method: one setting set in all of them, taken away in turn.
    #[test]
    fn the_stronger_layer_wins_and_synonyms_list_the_weaker_ones() {
        let (node, all) = (overrides(&[("compression.type", "lz4")]), overrides(&[]));
        let fixed = overrides(&[("compression.type", "zstd")]);
        let layers = Layers { broker: Some(&node), all_brokers: Some(&all), fixed: &fixed };
        let topic = overrides(&[("compression.type", "gzip")]);
        let all_of_topic = layers.describe_topic(&topic);
        let found = described(&all_of_topic, "compression.type");
        assert_eq!((found.value.as_deref(), found.source), (Some("gzip"), Source::Topic));
        let sources: Vec<Source> = found.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources, [Source::Topic, Source::Broker, Source::Fixed, Source::Default]);
        let inherited = layers.describe_topic(&Overrides::new());
        let found = described(&inherited, "compression.type");
        assert_eq!((found.value.as_deref(), found.source), (Some("lz4"), Source::Broker));
    }

    /// The synonyms are those that Kafka 4.3.1 lists for the same settings.
    #[test]
    fn a_brokers_setting_shows_its_family_behind_its_own_value() {
        let fixed = Overrides::new();
        let all = Layers::of_file(&fixed).describe_broker();
        let found = described(&all, "log.retention.ms");
        assert_eq!((found.value.as_deref(), found.source), (None, Source::Default));
        assert!(found.synonyms.is_empty(), "without a value of its own it has no synonyms");
        assert!(!found.read_only);
        assert!(described(&all, "node.id").read_only);
        let of_all = overrides(&[("log.retention.ms", "222")]);
        let node = overrides(&[("log.retention.ms", "111")]);
        let layers = Layers { broker: Some(&node), all_brokers: Some(&of_all), fixed: &fixed };
        let topic = layers.describe_topic(&overrides(&[("retention.ms", "5")]));
        let synonyms: Vec<(&str, &str, Source)> = described(&topic, "retention.ms")
            .synonyms
            .iter()
            .map(|synonym| (&*synonym.name, synonym.value.as_str(), synonym.source))
            .collect();
        assert_eq!(
            synonyms,
            [
                ("retention.ms", "5", Source::Topic),
                ("log.retention.ms", "111", Source::Broker),
                ("log.retention.ms", "222", Source::AllBrokers),
                ("log.retention.hours", "168", Source::Default),
            ]
        );
    }

    /// The rows are those that Kafka 4.4 shows of the same settings.
    #[test]
    fn what_has_no_row_is_shown_where_it_was_set() {
        let of_all = overrides(&[("no.such.name", "x"), ("log.cleaner.threads", "2")]);
        let node = overrides(&[("sasl.kerberos.min.time.before.relogin", "58000")]);
        let fixed = Overrides::new();
        let layers = Layers { broker: Some(&node), all_brokers: Some(&of_all), fixed: &fixed };
        let all = layers.describe_broker();
        let found = described(&all, "no.such.name");
        assert_eq!((found.kind.number(), found.sensitive, found.read_only), (0, true, true));
        assert_eq!(found.source, Source::AllBrokers);
        let found = described(&all, "sasl.kerberos.min.time.before.relogin");
        assert_eq!((found.value.as_deref(), found.source), (Some("58000"), Source::Broker));
        assert_eq!((found.kind, found.sensitive, found.read_only), (Kind::Long, false, false));
        assert_eq!(found.synonyms[1].value, "60000");
        let names: Vec<_> = layers.describe_all_brokers().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["log.cleaner.threads", "no.such.name"]);
        assert_eq!(Layers::of_file(&fixed).describe_broker().len(), BROKER_SETTINGS.len());
    }

    #[test]
    fn a_group_takes_what_it_does_not_set_from_its_broker() {
        let fixed = overrides(&[("group.consumer.heartbeat.interval.ms", "7000")]);
        let own = overrides(&[("consumer.session.timeout.ms", "50000")]);
        let group = Layers::of_file(&fixed).describe_named(NamedResource::Group, &own);
        let found = described(&group, "consumer.heartbeat.interval.ms");
        assert_eq!((found.value.as_deref(), found.source), (Some("7000"), Source::Fixed));
        let found = described(&group, "consumer.session.timeout.ms");
        assert_eq!((found.value.as_deref(), found.source), (Some("50000"), Source::Group));
        assert_eq!(found.synonyms[1].name, "group.consumer.session.timeout.ms");
        let metrics =
            Layers::of_file(&fixed).describe_named(NamedResource::ClientMetrics, &Overrides::new());
        let found = described(&metrics, "interval.ms");
        assert_eq!((found.value.as_deref(), found.source), (Some("300000"), Source::Default));
        assert!(found.synonyms.is_empty());
    }
}
