//! The table of broker settings: names, defaults and bounds are Kafka's.

use super::{Check, Kind};

/// When a broker setting can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// At start only.
    Restart,
    /// While running, for one broker or for all.
    Running,
}

/// Whether anything acts on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Acts,
    /// Accepted and shown; acts once what it is about is served: compaction, transactions, more
    /// than one replica.
    Later,
    /// Accepted and shown so that files written for Kafka load; nothing acts on it.
    Without,
}

/// One broker setting.
#[derive(Debug)]
pub struct BrokerSetting {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
    pub check: Check,
    pub update: Update,
    pub effect: Effect,
    pub doc: &'static str,
}

/// Values of `compression.type`.
pub const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// Values of `message.timestamp.type`.
pub const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
/// Values of `group.consumer.migration.policy`.
pub const MIGRATION_POLICIES: &[&str] = &["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"];

macro_rules! broker_settings {
    ($($name:literal $kind:ident $default:tt $check:expr,
        $update:ident $effect:ident $doc:literal;)*) => {
        &[$(BrokerSetting {
            name: $name,
            kind: Kind::$kind,
            default: default_of!($default),
            check: $check,
            update: Update::$update,
            effect: Effect::$effect,
            doc: $doc,
        },)*]
    };
}

use Check::{Any, AtLeast, Between, GzipLevel, ListOf, NotEmpty, OneOf, OneOfAnyCase, Ratio};

/// Every broker setting, by name.
#[rustfmt::skip]
pub const BROKER_SETTINGS: &[BrokerSetting] = broker_settings! {
    "advertised.listeners" String none Any, Restart Acts
        "Address that clients are told to connect to; the listeners' own where it is not set.";
    "auto.create.topics.enable" Bool "true" Any, Restart Acts
        "Whether asking for a topic that does not exist creates it.";
    "auto.leader.rebalance.enable" Bool "true" Any, Restart Later
        "No effect yet: whether leadership goes back to the preferred replicas by itself.";
    "background.threads" Int "10" AtLeast(1), Running Without
        "No effect: background work shares the shards' threads.";
    "broker.id" Int none AtLeast(-1), Restart Acts
        "Older name of node.id.";
    "broker.rack" String none Any, Restart Acts
        "Rack or zone of this broker, told to clients and used to spread replicas.";
    "compression.gzip.level" Int "-1" GzipLevel, Running Acts
        "Effort of gzip where the broker itself compresses.";
    "compression.lz4.level" Int "9" Between(1, 17), Running Acts
        "Effort of lz4 where the broker itself compresses.";
    "compression.type" String "producer" OneOf(CODECS), Running Acts
        "Codec in which topics store batches unless they set another.";
    "compression.zstd.level" Int "3" Between(-131_072, 22), Running Acts
        "Effort of zstd where the broker itself compresses.";
    "connections.max.idle.ms" Long "600000" Any, Restart Acts
        "A connection without a request for this long is closed.";
    "controller.listener.names" String none Any, Restart Without
        "No effect: controllers are reached over the ordinary listeners.";
    "controller.quorum.bootstrap.servers" List none Any, Restart Without
        "No effect: the metadata group of a single node needs no addresses.";
    "controller.quorum.voters" List none Any, Restart Without
        "No effect: the metadata group of a single node needs no addresses.";
    "default.replication.factor" Int "1" AtLeast(1), Restart Acts
        "Replicas of a topic that is created without saying how many.";
    "delete.topic.enable" Bool "true" Any, Restart Acts
        "Whether topics can be deleted.";
    "fetch.max.bytes" Int "57671680" AtLeast(1024), Restart Acts
        "Most bytes of records in one fetch answer.";
    "group.consumer.assignors" List "uniform,range" ListOf(&["uniform", "range"]), Restart
        Without
        "No effect: members choose between both assignors, uniform is the default.";
    "group.consumer.heartbeat.interval.ms" Int "5000" AtLeast(1), Restart Acts
        "Time between heartbeats of members under the consumer group protocol.";
    "group.consumer.max.heartbeat.interval.ms" Int "15000" AtLeast(1), Restart Acts
        "Longest heartbeat interval that a group may set for itself.";
    "group.consumer.max.session.timeout.ms" Int "60000" AtLeast(1), Restart Acts
        "Longest session timeout that a group may set for itself.";
    "group.consumer.max.size" Int "2147483647" AtLeast(1), Restart Acts
        "Most members of a group under the consumer group protocol; 10000 at most.";
    "group.consumer.migration.policy" String "bidirectional" OneOfAnyCase(MIGRATION_POLICIES),
        Restart Acts
        "Whether groups that have members may go from the classic to the consumer group protocol, \
         or back.";
    "group.consumer.min.heartbeat.interval.ms" Int "5000" AtLeast(1), Restart Acts
        "Shortest heartbeat interval that a group may set for itself.";
    "group.consumer.min.session.timeout.ms" Int "45000" AtLeast(1), Restart Acts
        "Shortest session timeout that a group may set for itself.";
    "group.consumer.regex.refresh.interval.ms" Int "600000" AtLeast(10_000), Restart Acts
        "How often the regular expressions of subscriptions are looked up anew.";
    "group.consumer.session.timeout.ms" Int "45000" AtLeast(1), Restart Acts
        "Silence after which a member under the consumer group protocol is dropped.";
    "group.initial.rebalance.delay.ms" Int "3000" AtLeast(0), Restart Acts
        "How long the first rebalance of an empty group waits for more members.";
    "group.max.session.timeout.ms" Int "1800000" AtLeast(1), Restart Acts
        "Longest session timeout that a member may ask for.";
    "group.max.size" Int "2147483647" AtLeast(1), Restart Acts
        "Most members of a classic group; 10000 at most.";
    "group.min.session.timeout.ms" Int "6000" AtLeast(1), Restart Acts
        "Shortest session timeout that a member may ask for.";
    "inter.broker.listener.name" String none Any, Restart Without
        "No effect: there is one kind of listener.";
    "listener.security.protocol.map" String
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"
        Any, Restart Without
        "No effect: every listener speaks plaintext.";
    "listeners" List "PLAINTEXT://127.0.0.1:9092" NotEmpty, Restart Acts
        "Address to accept connections on; unlike Kafka's the default serves this machine only.";
    "log.cleaner.delete.retention.ms" Long "86400000" AtLeast(0), Running Later
        "No effect yet: how long compaction keeps delete markers.";
    "log.cleaner.max.compaction.lag.ms" Long "9223372036854775807" AtLeast(1), Running Later
        "No effect yet: age at which a record becomes due for compaction.";
    "log.cleaner.min.cleanable.ratio" Double "0.5" Ratio, Running Later
        "No effect yet: share of a log that must be uncompacted before compaction runs.";
    "log.cleaner.min.compaction.lag.ms" Long "0" AtLeast(0), Running Later
        "No effect yet: age up to which a record is never compacted away.";
    "log.cleanup.policy" List "delete" ListOf(&["compact", "delete"]), Running Acts
        "What happens to old records: delete, compact or both.";
    "log.dir" String "./ringmain-data" NotEmpty, Restart Acts
        "Data directory where log.dirs is not set.";
    "log.dirs" List none NotEmpty, Restart Acts
        "The data directory; one only.";
    "log.flush.interval.messages" Long "1" AtLeast(1), Running Acts
        "After how many messages a log is flushed; at 1, unlike Kafka, acknowledged means durable.";
    "log.flush.interval.ms" Long none Any, Running Acts
        "Longest time a message waits unflushed where log.flush.interval.messages is above 1.";
    "log.flush.scheduler.interval.ms" Long "9223372036854775807" Any, Restart Acts
        "The flush interval where log.flush.interval.ms is not set.";
    "log.index.interval.bytes" Int "4096" AtLeast(0), Running Acts
        "Bytes of log between two entries of the offset index.";
    "log.index.size.max.bytes" Int "10485760" AtLeast(4), Running Without
        "No effect: an index is as large as its segment needs.";
    "log.message.downconversion.enable" Bool "true" Any, Running Without
        "No effect: clients that need older record formats are not served.";
    "log.message.format.version" String "3.0-IV1" Any, Restart Without
        "No effect: records are always stored in format 2.";
    "log.message.timestamp.after.max.ms" Long "3600000" AtLeast(0), Running Acts
        "How far a record's timestamp may lie ahead of the broker's clock.";
    "log.message.timestamp.before.max.ms" Long "9223372036854775807" AtLeast(0), Running Acts
        "How far a record's timestamp may lie behind the broker's clock.";
    "log.message.timestamp.type" String "CreateTime" OneOf(TIMESTAMP_TYPES), Running Acts
        "Whether records carry the producer's time or that of their append.";
    "log.preallocate" Bool "false" Any, Running Without
        "No effect: segments are always prepared ahead.";
    "log.retention.bytes" Long "-1" Any, Running Acts
        "Bytes a partition keeps before its oldest segments go; -1 for no limit.";
    "log.retention.check.interval.ms" Long "300000" AtLeast(1), Restart Acts
        "Time between two looks for segments that retention drops.";
    "log.retention.hours" Int "168" Any, Restart Acts
        "Hours that records are kept, where neither minutes nor ms are set.";
    "log.retention.minutes" Int none Any, Restart Acts
        "Minutes that records are kept, where ms are not set.";
    "log.retention.ms" Long none Any, Running Acts
        "How long records are kept; -1 for ever.";
    "log.roll.hours" Int "168" AtLeast(1), Restart Acts
        "Hours after which a segment is closed, where ms are not set.";
    "log.roll.jitter.hours" Int "0" AtLeast(0), Restart Without
        "No effect: segments roll without a random delay.";
    "log.roll.jitter.ms" Long none Any, Running Without
        "No effect: segments roll without a random delay.";
    "log.roll.ms" Long none Any, Running Acts
        "Age at which a segment is closed even if it is not full.";
    "log.segment.bytes" Int "1073741824" AtLeast(1_048_576), Running Acts
        "Largest segment file.";
    "log.segment.delete.delay.ms" Long "60000" AtLeast(0), Running Without
        "No effect: a segment's file goes when the last reader lets go of it.";
    "max.connections" Int "2147483647" AtLeast(0), Running Acts
        "Most connections at a time.";
    "max.connections.per.ip" Int "2147483647" AtLeast(0), Running Acts
        "Most connections at a time from one address.";
    "max.incremental.fetch.session.cache.slots" Int "1000" AtLeast(0), Restart Acts
        "Most fetch sessions kept at a time.";
    "message.max.bytes" Int "1048588" AtLeast(0), Running Acts
        "Largest record batch that a topic takes unless it sets another.";
    "min.insync.replicas" Int "1" AtLeast(1), Running Later
        "No effect yet: replicas that must hold a write of acks=all; no more than there are count, \
         and there is one.";
    "node.id" Int "1" AtLeast(0), Restart Acts
        "Number of this node in its cluster.";
    "num.io.threads" Int "8" AtLeast(1), Running Without
        "No effect: there is one thread for each of --cpus.";
    "num.network.threads" Int "3" AtLeast(1), Running Without
        "No effect: there is one thread for each of --cpus.";
    "num.partitions" Int "1" AtLeast(1), Restart Acts
        "Partitions of a topic that is created without saying how many.";
    "num.recovery.threads.per.data.dir" Int "2" AtLeast(1), Running Without
        "No effect: each shard recovers its own logs.";
    "num.replica.fetchers" Int "1" Any, Running Without
        "No effect: there is one link for each pair of shards.";
    "offset.metadata.max.bytes" Int "4096" Any, Restart Acts
        "Longest text that a client may store with an offset.";
    "offsets.commit.timeout.ms" Int "5000" AtLeast(1), Restart Without
        "No effect: a commit is answered when it is on disk or has failed.";
    "offsets.load.buffer.size" Int "5242880" AtLeast(1), Restart Without
        "No effect: groups are loaded in pieces of 1 MiB.";
    "offsets.retention.check.interval.ms" Long "600000" AtLeast(1), Restart Acts
        "How often expired offsets are looked for.";
    "offsets.retention.minutes" Int "10080" AtLeast(1), Restart Acts
        "How long a group without members keeps its committed offsets.";
    "offsets.topic.compression.codec" Int "0" Between(0, 4), Restart Acts
        "Codec in which groups and offsets are stored: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.";
    "offsets.topic.num.partitions" Int "50" AtLeast(1), Restart Acts
        "Partitions of the topic that holds committed offsets.";
    "offsets.topic.replication.factor" Short "1" AtLeast(1), Restart Acts
        "Replicas of the topic that holds committed offsets; ringmain's default suits a single \
         node.";
    "offsets.topic.segment.bytes" Int "104857600" AtLeast(1_048_576), Restart Acts
        "Segment size of the topic that holds groups and offsets.";
    "process.roles" List "broker,controller" Any, Restart Without
        "No effect: a node has both roles.";
    "producer.id.expiration.ms" Int "86400000" AtLeast(1), Running Acts
        "How long a partition remembers an idle producer.";
    "queued.max.requests" Int "500" AtLeast(1), Restart Without
        "No effect: requests are bounded by bytes of memory.";
    "replica.lag.time.max.ms" Long "30000" Any, Restart Later
        "No effect yet: a follower that has not caught up for this long leaves the in-sync set.";
    "socket.receive.buffer.bytes" Int "102400" AtLeast(-1), Restart Without
        "No effect: the kernel sizes socket buffers.";
    "socket.request.max.bytes" Int "104857600" AtLeast(1), Restart Acts
        "Largest request that is read.";
    "socket.send.buffer.bytes" Int "102400" AtLeast(-1), Restart Without
        "No effect: the kernel sizes socket buffers.";
    "transaction.max.timeout.ms" Int "900000" AtLeast(1), Restart Later
        "No effect yet: longest timeout that a transaction may ask for.";
    "transaction.state.log.min.isr" Int "1" AtLeast(1), Restart Later
        "No effect yet: in-sync replicas that the transaction log needs; ringmain's default suits \
         a single node.";
    "transaction.state.log.num.partitions" Int "50" AtLeast(1), Restart Later
        "No effect yet: partitions of the topic that holds transactions.";
    "transaction.state.log.replication.factor" Short "1" AtLeast(1), Restart Later
        "No effect yet: replicas of the topic that holds transactions; ringmain's default suits a \
         single node.";
    "transactional.id.expiration.ms" Int "604800000" AtLeast(1), Restart Later
        "No effect yet: how long an idle transactional id is remembered.";
    "unclean.leader.election.enable" Bool "false" Any, Running Later
        "No effect yet: whether a replica that misses acknowledged records may become leader when \
         no other is left.";
};

/// The row of that name.
pub fn broker_setting(name: &str) -> Option<&'static BrokerSetting> {
    let found = BROKER_SETTINGS.binary_search_by(|setting| setting.name.cmp(name));
    found.ok().map(|index| &BROKER_SETTINGS[index])
}
