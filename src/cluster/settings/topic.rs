//! The table of topic settings: names, defaults and bounds are Kafka's.
//!
//! A topic that does not set one takes its broker's, under the broker's name for it; the first name
//! is the strongest. Where ringmain differs on purpose the row says so.

use super::broker::{CODECS, Effect, TIMESTAMP_TYPES};
use super::{Check, Kind};

/// A broker setting that fills in for a topic setting, and how many of the latter's units one is.
#[derive(Debug, Clone, Copy)]
pub struct Synonym {
    pub name: &'static str,
    pub factor: i64,
}

/// One topic setting.
#[derive(Debug)]
pub struct TopicSetting {
    pub name: &'static str,
    pub kind: Kind,
    pub check: Check,
    /// Strongest first. The default is that of the last one, times its factor.
    pub synonyms: &'static [Synonym],
    pub doc: &'static str,
    pub effect: Effect,
}

const fn as_is(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, factor: 60_000 }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym { name, factor: 3_600_000 }
}

macro_rules! topic_settings {
    ($($name:literal $kind:ident $check:expr,
      [$($synonym:expr),*], $effect:ident $doc:literal;)*) => {
        &[$(TopicSetting {
            name: $name,
            kind: Kind::$kind,
            check: $check,
            synonyms: &[$($synonym),*],
            doc: $doc,
            effect: Effect::$effect,
        },)*]
    };
}

use Check::{Any, AtLeast, Between, GzipLevel, ListOf, OneOf, Ratio, ThrottledReplicas};

/// Every topic setting, by name.
#[rustfmt::skip]
pub const TOPIC_SETTINGS: &[TopicSetting] = topic_settings! {
    "cleanup.policy" List ListOf(&["compact", "delete"]), [as_is("log.cleanup.policy")], Acts
        "What happens to old records: \"delete\" drops segments past retention, \"compact\" \
         keeps the newest record of each key, both together do both, an empty list keeps \
         everything.";
    "compression.gzip.level" Int GzipLevel, [as_is("compression.gzip.level")], Acts
        "Effort of gzip where the broker itself compresses for this topic.";
    "compression.lz4.level" Int Between(1, 17), [as_is("compression.lz4.level")], Acts
        "Effort of lz4 where the broker itself compresses for this topic.";
    "compression.type" String OneOf(CODECS), [as_is("compression.type")], Acts
        "Codec in which batches are stored; \"producer\" keeps them as they were sent.";
    "compression.zstd.level" Int Between(-131_072, 22), [as_is("compression.zstd.level")], Acts
        "Effort of zstd where the broker itself compresses for this topic.";
    "delete.retention.ms" Long AtLeast(0), [as_is("log.cleaner.delete.retention.ms")], Later
        "No effect yet: how long compaction keeps a delete marker, so that a reader from the \
         start still meets it.";
    "file.delete.delay.ms" Long AtLeast(0), [as_is("log.segment.delete.delay.ms")], Without
        "No effect: a segment's file goes when the last reader lets go of it.";
    "flush.messages" Long AtLeast(1), [as_is("log.flush.interval.messages")], Acts
        "After how many messages the log is flushed. At 1, the default, an acknowledged \
         write is on stable storage; a larger number acknowledges before the flush.";
    "flush.ms" Long AtLeast(0),
        [as_is("log.flush.interval.ms"), as_is("log.flush.scheduler.interval.ms")], Acts
        "Longest time a message waits unflushed where flush.messages is above 1.";
    "follower.replication.throttled.replicas" List ThrottledReplicas, [], Without
        "No effect: replicas whose follower side would be throttled.";
    "index.interval.bytes" Int AtLeast(0), [as_is("log.index.interval.bytes")], Acts
        "Bytes of log between two entries of the offset index.";
    "leader.replication.throttled.replicas" List ThrottledReplicas, [], Without
        "No effect: replicas whose leader side would be throttled.";
    "max.compaction.lag.ms" Long AtLeast(1), [as_is("log.cleaner.max.compaction.lag.ms")], Later
        "No effect yet: age at which a record becomes due for compaction whatever the share of \
         stale ones.";
    "max.message.bytes" Int AtLeast(0), [as_is("message.max.bytes")], Acts
        "Largest record batch that the topic takes, after compression.";
    "message.downconversion.enable" Bool Any, [as_is("log.message.downconversion.enable")], Without
        "No effect: clients that need older record formats are not served.";
    "message.format.version" String Any, [as_is("log.message.format.version")], Without
        "No effect: records are always stored in format 2.";
    "message.timestamp.after.max.ms" Long AtLeast(0),
        [as_is("log.message.timestamp.after.max.ms")], Acts
        "How far a record's timestamp may lie ahead of the broker's clock.";
    "message.timestamp.before.max.ms" Long AtLeast(0),
        [as_is("log.message.timestamp.before.max.ms")], Acts
        "How far a record's timestamp may lie behind the broker's clock.";
    "message.timestamp.type" String OneOf(TIMESTAMP_TYPES),
        [as_is("log.message.timestamp.type")], Acts
        "Whether a record carries the producer's time or that of its append.";
    "min.cleanable.dirty.ratio" Double Ratio, [as_is("log.cleaner.min.cleanable.ratio")], Later
        "No effect yet: share of the log that must be uncompacted before compaction runs.";
    "min.compaction.lag.ms" Long AtLeast(0), [as_is("log.cleaner.min.compaction.lag.ms")], Later
        "No effect yet: age up to which a record is never compacted away.";
    "min.insync.replicas" Int AtLeast(1), [as_is("min.insync.replicas")], Later
        "No effect yet: replicas that must hold a write of acks=all; no more than there are \
         count, and there is one.";
    "preallocate" Bool Any, [as_is("log.preallocate")], Without
        "No effect: segments are always prepared ahead.";
    "retention.bytes" Long Any, [as_is("log.retention.bytes")], Acts
        "Bytes a partition keeps before its oldest segments go; -1 for no limit.";
    "retention.ms" Long AtLeast(-1),
        [as_is("log.retention.ms"), minutes("log.retention.minutes"),
         hours("log.retention.hours")], Acts
        "How long records are kept before their segment goes; -1 for ever.";
    "segment.bytes" Int AtLeast(1_048_576), [as_is("log.segment.bytes")], Acts
        "Largest segment file; retention drops whole segments.";
    "segment.index.bytes" Int AtLeast(4), [as_is("log.index.size.max.bytes")], Without
        "No effect: an index is as large as its segment needs.";
    "segment.jitter.ms" Long AtLeast(0),
        [as_is("log.roll.jitter.ms"), hours("log.roll.jitter.hours")], Without
        "No effect: segments roll without a random delay.";
    "segment.ms" Long AtLeast(1), [as_is("log.roll.ms"), hours("log.roll.hours")], Acts
        "Age at which a segment is closed even if it is not full.";
    "unclean.leader.election.enable" Bool Any, [as_is("unclean.leader.election.enable")], Later
        "No effect yet: whether a replica that misses acknowledged records may become leader \
         when no other is left.";
};

/// The row of that name.
pub fn topic_setting(name: &str) -> Option<&'static TopicSetting> {
    let found = TOPIC_SETTINGS.binary_search_by(|setting| setting.name.cmp(name));
    found.ok().map(|index| &TOPIC_SETTINGS[index])
}
