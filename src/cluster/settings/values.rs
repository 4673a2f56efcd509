//! Typed settings: what the rest of the program reads.

use super::layers::Layers;
use super::{broker_setting, list_items, topic_setting};
use crate::cluster::metadata::Overrides;
use crate::protocol::compression::Codec;
use crate::protocol::recompression::Encoding;
use std::str::FromStr;

/// Whose time a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The settings in force for one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    pub cleanup_compact: bool,
    /// Neither of the two: everything is kept.
    pub cleanup_delete: bool,
    /// How batches are stored that came in another codec; nothing: as they came.
    pub compression: Option<Encoding>,
    pub delete_retention_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    /// A setting of the broker; the same for all topics.
    pub producer_id_expiration_ms: i64,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

impl TopicSettings {
    /// The settings of a topic that sets `overrides` on a broker with those layers.
    ///
    /// A value that its type does not take can only stem from a newer program; the default stands
    /// in.
    pub fn resolve(overrides: &Overrides, layers: &Layers) -> TopicSettings {
        let reader = TopicReader { overrides, layers };
        let policy = reader.text("cleanup.policy");
        TopicSettings {
            cleanup_compact: list_items(&policy).any(|item| item == "compact"),
            cleanup_delete: list_items(&policy).any(|item| item == "delete"),
            compression: reader.compression(),
            delete_retention_ms: reader.value("delete.retention.ms"),
            flush_messages: reader.value("flush.messages"),
            flush_ms: reader.value("flush.ms"),
            index_interval_bytes: reader.value("index.interval.bytes"),
            max_compaction_lag_ms: reader.value("max.compaction.lag.ms"),
            max_message_bytes: reader.value("max.message.bytes"),
            message_timestamp_after_max_ms: reader.value("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: reader.value("message.timestamp.before.max.ms"),
            message_timestamp_type: match reader.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: reader.value("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: reader.value("min.compaction.lag.ms"),
            min_insync_replicas: reader.value("min.insync.replicas"),
            producer_id_expiration_ms: broker_number(layers, "producer.id.expiration.ms"),
            retention_bytes: reader.value("retention.bytes"),
            retention_ms: reader.value("retention.ms"),
            segment_bytes: reader.value("segment.bytes"),
            segment_ms: reader.value("segment.ms"),
            unclean_leader_election_enable: reader.flag("unclean.leader.election.enable"),
        }
    }

    /// Whether an acknowledgement waits for the flush: ringmain's default.
    pub fn flush_each_ack(&self) -> bool {
        self.flush_messages <= 1
    }
}

struct TopicReader<'a> {
    overrides: &'a Overrides,
    layers: &'a Layers<'a>,
}

impl TopicReader<'_> {
    fn text(&self, name: &str) -> String {
        let setting = topic_setting(name).expect("the names here are rows of the table");
        self.layers.topic_value(setting, self.overrides)
    }

    fn value<T: FromStr>(&self, name: &str) -> T {
        let default = || {
            let setting = topic_setting(name).expect("the names here are rows of the table");
            let none = Overrides::new();
            let text = Layers::of_file(&none).topic_value(setting, &none);
            text.parse().ok().expect("defaults pass their own checks")
        };
        self.text(name).trim().parse().unwrap_or_else(|_| default())
    }

    fn compression(&self) -> Option<Encoding> {
        let codec = match self.text("compression.type").trim() {
            "uncompressed" => Codec::None,
            name => name.parse().ok()?, // "producer" is none
        };
        let level = match codec {
            Codec::Gzip => self.value("compression.gzip.level"),
            Codec::Lz4 => self.value("compression.lz4.level"),
            Codec::Zstd => self.value("compression.zstd.level"),
            Codec::None | Codec::Snappy => 0,
        };
        Some(Encoding { codec, level })
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).trim().eq_ignore_ascii_case("true")
    }
}

/// The settings in force for one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    pub auto_create_topics_enable: bool,
    pub broker_rack: Option<String>,
    pub connections_max_idle_ms: i64,
    pub default_replication_factor: i32,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: i32,
    pub group_consumer_heartbeat_interval_ms: i32,
    pub group_consumer_max_size: i32,
    pub group_consumer_migration_policy: String,
    pub group_consumer_regex_refresh_interval_ms: i32,
    pub group_consumer_session_timeout_ms: i32,
    pub group_initial_rebalance_delay_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_max_size: i32,
    pub group_min_session_timeout_ms: i32,
    pub log_retention_check_interval_ms: i64,
    pub max_connections: i32,
    pub max_connections_per_ip: i32,
    pub max_incremental_fetch_session_cache_slots: i32,
    pub message_max_bytes: i32,
    pub min_insync_replicas: i32,
    pub num_partitions: i32,
    pub offset_metadata_max_bytes: i32,
    pub offsets_retention_check_interval_ms: i64,
    pub offsets_retention_minutes: i32,
    pub offsets_topic_compression_codec: u8,
    pub offsets_topic_num_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: i32,
    pub socket_request_max_bytes: i32,
}

impl BrokerSettings {
    /// The settings of the broker with those layers; a value of a wrong type gives way to the
    /// default.
    pub fn resolve(layers: &Layers) -> BrokerSettings {
        BrokerSettings {
            auto_create_topics_enable: broker_flag(layers, "auto.create.topics.enable"),
            broker_rack: layers.broker_value("broker.rack").map(str::to_owned),
            connections_max_idle_ms: broker_number(layers, "connections.max.idle.ms"),
            default_replication_factor: broker_number(layers, "default.replication.factor"),
            delete_topic_enable: broker_flag(layers, "delete.topic.enable"),
            fetch_max_bytes: broker_number(layers, "fetch.max.bytes"),
            group_consumer_heartbeat_interval_ms: broker_number(
                layers,
                "group.consumer.heartbeat.interval.ms",
            ),
            group_consumer_max_size: broker_number(layers, "group.consumer.max.size"),
            group_consumer_migration_policy: broker_text(layers, "group.consumer.migration.policy"),
            group_consumer_regex_refresh_interval_ms: broker_number(
                layers,
                "group.consumer.regex.refresh.interval.ms",
            ),
            group_consumer_session_timeout_ms: broker_number(
                layers,
                "group.consumer.session.timeout.ms",
            ),
            group_initial_rebalance_delay_ms: broker_number(
                layers,
                "group.initial.rebalance.delay.ms",
            ),
            group_max_session_timeout_ms: broker_number(layers, "group.max.session.timeout.ms"),
            group_max_size: broker_number(layers, "group.max.size"),
            group_min_session_timeout_ms: broker_number(layers, "group.min.session.timeout.ms"),
            log_retention_check_interval_ms: broker_number(
                layers,
                "log.retention.check.interval.ms",
            ),
            max_connections: broker_number(layers, "max.connections"),
            max_connections_per_ip: broker_number(layers, "max.connections.per.ip"),
            max_incremental_fetch_session_cache_slots: broker_number(
                layers,
                "max.incremental.fetch.session.cache.slots",
            ),
            message_max_bytes: broker_number(layers, "message.max.bytes"),
            min_insync_replicas: broker_number(layers, "min.insync.replicas"),
            num_partitions: broker_number(layers, "num.partitions"),
            offset_metadata_max_bytes: broker_number(layers, "offset.metadata.max.bytes"),
            offsets_retention_check_interval_ms: broker_number(
                layers,
                "offsets.retention.check.interval.ms",
            ),
            offsets_retention_minutes: broker_number(layers, "offsets.retention.minutes"),
            offsets_topic_compression_codec: broker_number(
                layers,
                "offsets.topic.compression.codec",
            ),
            offsets_topic_num_partitions: broker_number(layers, "offsets.topic.num.partitions"),
            offsets_topic_replication_factor: broker_number(
                layers,
                "offsets.topic.replication.factor",
            ),
            offsets_topic_segment_bytes: broker_number(layers, "offsets.topic.segment.bytes"),
            socket_request_max_bytes: broker_number(layers, "socket.request.max.bytes"),
        }
    }
}

/// A broker setting that is a number and has a default.
pub fn broker_number<T: FromStr>(layers: &Layers, name: &str) -> T {
    let set = layers.broker_value(name).and_then(|value| value.trim().parse().ok());
    set.or_else(|| broker_setting(name)?.default?.parse().ok())
        .expect("the setting has a default, and that passes its own check")
}

/// A broker setting that is text and has a default.
pub fn broker_text(layers: &Layers, name: &str) -> String {
    layers.broker_value(name).unwrap_or_default().trim().to_owned()
}

/// A broker setting that is true or false.
pub fn broker_flag(layers: &Layers, name: &str) -> bool {
    layers.broker_value(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_setting_the_defaults_are_kafkas_and_acks_are_durable() {
        let none = Overrides::new();
        let layers = Layers::of_file(&none);
        let topic = TopicSettings::resolve(&none, &layers);
        assert_eq!(topic.retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(topic.segment_ms, topic.retention_ms);
        assert_eq!(topic.retention_bytes, -1);
        assert_eq!(topic.segment_bytes, 1 << 30);
        assert_eq!(topic.max_message_bytes, 1_048_588);
        assert_eq!(topic.compression, None);
        assert_eq!(topic.max_compaction_lag_ms, i64::MAX);
        assert!(topic.cleanup_delete && !topic.cleanup_compact);
        assert!(topic.flush_each_ack());
        let broker = BrokerSettings::resolve(&layers);
        assert_eq!(broker.num_partitions, 1);
        assert_eq!(broker.socket_request_max_bytes, 100 << 20);
        assert!(broker.auto_create_topics_enable && broker.delete_topic_enable);
        assert_eq!(broker.broker_rack, None);
    }

    #[test]
    fn a_topics_own_values_win_and_a_damaged_one_gives_way_to_the_default() {
        let pairs = [
            ("cleanup.policy", "compact"),
            ("flush.messages", "1000"),
            ("retention.ms", "later"),
            ("message.timestamp.type", "LogAppendTime"),
        ];
        let overrides: Overrides =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let fixed = Overrides::new();
        let topic = TopicSettings::resolve(&overrides, &Layers::of_file(&fixed));
        assert!(topic.cleanup_compact && !topic.cleanup_delete && !topic.flush_each_ack());
        assert_eq!(topic.retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(topic.message_timestamp_type, TimestampType::LogAppendTime);
    }

    /// Goal: each name of a codec is understood, with the level of that codec. Method: a topic on a
    /// broker that sets levels.
    #[test]
    fn a_topics_codec_comes_with_its_level() {
        let own = |pairs: &[(&str, &str)]| -> Overrides {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let fixed = own(&[("compression.gzip.level", "2"), ("compression.zstd.level", "-5")]);
        for (name, codec, level) in [
            ("uncompressed", Codec::None, 0),
            ("gzip", Codec::Gzip, 2),
            ("snappy", Codec::Snappy, 0),
            ("lz4", Codec::Lz4, 12),
            ("zstd", Codec::Zstd, -5),
        ] {
            let overrides = own(&[("compression.type", name), ("compression.lz4.level", "12")]);
            let topic = TopicSettings::resolve(&overrides, &Layers::of_file(&fixed));
            assert_eq!(topic.compression, Some(Encoding { codec, level }), "{name}");
        }
        let producer = own(&[("compression.type", "producer")]);
        let topic = TopicSettings::resolve(&producer, &Layers::of_file(&fixed));
        assert_eq!(topic.compression, None);
    }
}
