//! Settings of Kafka's brokers that have no row in the table of ours.
//!
//! Kafka keeps what a client sets of a running broker, also under names that it does not know,
//! since plugins may read them. So what tools send is kept and shown here, too; nothing acts on it.
//! A file that sets one of these is refused at the start: who sets `ssl.*` there means it.

use super::{Kind, broker_setting};

/// For what a setting can be changed while brokers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// For nothing: it is read at the start.
    Start,
    /// For one broker or for all.
    AnyBroker,
    /// For one broker.
    OneBroker,
    /// For one listener of a broker, under `listener.name.<listener>.`.
    OneListener,
}

/// How Kafka treats a setting that has no row in the table of brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// [`Kind::Unknown`]: the name is not Kafka's, or not without its listener.
    pub kind: Kind,
    pub default: Option<&'static str>,
    pub reach: Reach,
    /// It is Kafka's own name, not one below a listener or nobody's.
    pub known: bool,
}

struct Row {
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    reach: Reach,
}

macro_rules! foreign_settings {
    ($($name:literal $kind:ident $default:tt $reach:ident;)*) => {
        &[$(Row {
            name: $name,
            kind: Kind::$kind,
            default: default_of!($default),
            reach: Reach::$reach,
        },)*]
    };
}

/// What of Kafka 4.4 can be changed while a broker runs, by name.
#[rustfmt::skip]
const ROWS: &[Row] = foreign_settings! {
    "config.providers" List "" AnyBroker;
    "cordoned.log.dirs" List "" OneBroker;
    "errors.deadletterqueue.auto.create.topics.enable" Bool "false" AnyBroker;
    "errors.deadletterqueue.topic.name.prefix" String "dlq." AnyBroker;
    "follower.fetch.last.tiered.offset.enable" Bool "false" AnyBroker;
    "follower.replication.throttled.rate" Long none AnyBroker;
    "group.consumer.assignment.interval.ms" Int "1000" AnyBroker;
    "group.coordinator.cached.buffer.max.bytes" Int "1048588" AnyBroker;
    "group.share.assignment.interval.ms" Int "1000" AnyBroker;
    "group.streams.assignment.interval.ms" Int "1000" AnyBroker;
    "leader.replication.throttled.rate" Long none AnyBroker;
    "log.cleaner.backoff.ms" Long "15000" AnyBroker;
    "log.cleaner.dedupe.buffer.size" Long "134217728" AnyBroker;
    "log.cleaner.io.buffer.load.factor" Double "0.9" AnyBroker;
    "log.cleaner.io.buffer.size" Int "524288" AnyBroker;
    "log.cleaner.io.max.bytes.per.second" Double "1.7976931348623157E308" AnyBroker;
    "log.cleaner.threads" Int "1" AnyBroker;
    "log.local.retention.bytes" Long "-2" AnyBroker;
    "log.local.retention.ms" Long "-2" AnyBroker;
    "log.remote.copy.lag.bytes" Long "-1" AnyBroker;
    "log.remote.copy.lag.ms" Long "0" AnyBroker;
    "max.connection.creation.rate" Int "2147483647" AnyBroker;
    "max.connections.per.ip.overrides" String "" AnyBroker;
    "max.decompressed.message.bytes" Int "2147483639" AnyBroker;
    "metric.reporters" List "org.apache.kafka.common.metrics.JmxReporter" AnyBroker;
    "principal.builder.class" Class
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder" OneBroker;
    "remote.fetch.max.wait.ms" Int "500" AnyBroker;
    "remote.list.offsets.request.timeout.ms" Long "30000" AnyBroker;
    "remote.log.index.file.cache.total.size.bytes" Long "1073741824" AnyBroker;
    "remote.log.manager.copier.thread.pool.size" Int "10" AnyBroker;
    "remote.log.manager.copy.max.bytes.per.second" Long "9223372036854775807" AnyBroker;
    "remote.log.manager.expiration.thread.pool.size" Int "10" AnyBroker;
    "remote.log.manager.fetch.max.bytes.per.second" Long "9223372036854775807" AnyBroker;
    "remote.log.manager.follower.thread.pool.size" Int "2" AnyBroker;
    "remote.log.reader.threads" Int "10" AnyBroker;
    "replica.alter.log.dirs.io.max.bytes.per.second" Long none AnyBroker;
    "sasl.enabled.mechanisms" List "GSSAPI" OneBroker;
    "sasl.jaas.config" Password none OneBroker;
    "sasl.kerberos.kinit.cmd" String "/usr/bin/kinit" OneBroker;
    "sasl.kerberos.min.time.before.relogin" Long "60000" OneBroker;
    "sasl.kerberos.principal.to.local.rules" List "DEFAULT" OneBroker;
    "sasl.kerberos.service.name" String none OneBroker;
    "sasl.kerberos.ticket.renew.jitter" Double "0.05" OneBroker;
    "sasl.kerberos.ticket.renew.window.factor" Double "0.8" OneBroker;
    "sasl.login.refresh.buffer.seconds" Short "300" OneBroker;
    "sasl.login.refresh.min.period.seconds" Short "60" OneBroker;
    "sasl.login.refresh.window.factor" Double "0.8" OneBroker;
    "sasl.login.refresh.window.jitter" Double "0.05" OneBroker;
    "sasl.mechanism.inter.broker.protocol" String "GSSAPI" OneBroker;
    "share.coordinator.cached.buffer.max.bytes" Int "1048588" AnyBroker;
    "ssl.cipher.suites" List "" OneBroker;
    "ssl.client.auth" String "none" OneBroker;
    "ssl.enabled.protocols" List "TLSv1.2,TLSv1.3" OneBroker;
    "ssl.endpoint.identification.algorithm" String "https" OneBroker;
    "ssl.engine.factory.class" Class none OneListener;
    "ssl.key.password" Password none OneListener;
    "ssl.keymanager.algorithm" String "SunX509" OneBroker;
    "ssl.keystore.certificate.chain" Password none OneListener;
    "ssl.keystore.key" Password none OneListener;
    "ssl.keystore.location" String none OneListener;
    "ssl.keystore.password" Password none OneListener;
    "ssl.keystore.type" String "JKS" OneListener;
    "ssl.protocol" String "TLSv1.3" OneBroker;
    "ssl.provider" String none OneBroker;
    "ssl.secure.random.implementation" String none OneBroker;
    "ssl.trustmanager.algorithm" String "PKIX" OneBroker;
    "ssl.truststore.certificates" Password none OneListener;
    "ssl.truststore.location" String none OneListener;
    "ssl.truststore.password" Password none OneListener;
    "ssl.truststore.type" String "JKS" OneListener;
    "transaction.partition.verification.enable" Bool "true" AnyBroker;
};

/// What of Kafka 4.4 is read at the start, by name.
#[rustfmt::skip]
const START_NAMES: &[&str] = &[
    "add.partitions.to.txn.retry.backoff.max.ms", "add.partitions.to.txn.retry.backoff.ms",
    "alter.config.policy.class.name", "alter.log.dirs.replication.quota.window.num",
    "alter.log.dirs.replication.quota.window.size.seconds", "authorizer.class.name",
    "broker.heartbeat.interval.ms", "broker.session.timeout.ms", "client.quota.callback.class",
    "connection.failed.authentication.delay.ms", "connections.max.reauth.ms",
    "controlled.shutdown.enable", "controller.quorum.append.linger.ms",
    "controller.quorum.auto.join.enable", "controller.quorum.election.backoff.max.ms",
    "controller.quorum.election.timeout.ms", "controller.quorum.fetch.max.bytes",
    "controller.quorum.fetch.snapshot.max.bytes", "controller.quorum.fetch.timeout.ms",
    "controller.quorum.request.timeout.ms", "controller.quorum.retry.backoff.ms",
    "controller.quota.window.num", "controller.quota.window.size.seconds",
    "controller.socket.timeout.ms", "create.topic.policy.class.name",
    "delegation.token.expiry.check.interval.ms", "delegation.token.expiry.time.ms",
    "delegation.token.max.lifetime.ms", "delegation.token.secret.key",
    "delete.records.purgatory.purge.interval.requests", "early.start.listeners",
    "fetch.purgatory.purge.interval.requests", "group.consumer.max.assignment.interval.ms",
    "group.consumer.min.assignment.interval.ms", "group.coordinator.append.linger.ms",
    "group.coordinator.background.threads", "group.coordinator.rebalance.protocols",
    "group.coordinator.threads", "group.share.assignors", "group.share.delivery.count.limit",
    "group.share.heartbeat.interval.ms", "group.share.max.assignment.interval.ms",
    "group.share.max.delivery.count.limit", "group.share.max.heartbeat.interval.ms",
    "group.share.max.partition.max.record.locks", "group.share.max.record.lock.duration.ms",
    "group.share.max.session.timeout.ms", "group.share.max.share.sessions", "group.share.max.size",
    "group.share.min.assignment.interval.ms", "group.share.min.delivery.count.limit",
    "group.share.min.heartbeat.interval.ms", "group.share.min.partition.max.record.locks",
    "group.share.min.record.lock.duration.ms", "group.share.min.session.timeout.ms",
    "group.share.partition.max.record.locks", "group.share.record.lock.duration.ms",
    "group.share.session.timeout.ms", "group.streams.assignors",
    "group.streams.heartbeat.interval.ms", "group.streams.initial.rebalance.delay.ms",
    "group.streams.max.assignment.interval.ms", "group.streams.max.heartbeat.interval.ms",
    "group.streams.max.session.timeout.ms", "group.streams.max.size",
    "group.streams.max.standby.replicas", "group.streams.min.assignment.interval.ms",
    "group.streams.min.heartbeat.interval.ms", "group.streams.min.session.timeout.ms",
    "group.streams.num.standby.replicas", "group.streams.rack.aware.assignment.tags",
    "group.streams.session.timeout.ms", "group.streams.topology.description.plugin.class",
    "initial.broker.registration.timeout.ms", "kafka.metrics.polling.interval.secs",
    "kafka.metrics.reporters", "leader.imbalance.check.interval.seconds", "log.cleaner.enable",
    "log.dir.failure.timeout.ms", "log.flush.offset.checkpoint.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms", "max.request.partition.size.limit",
    "metadata.log.dir", "metadata.log.max.record.bytes.between.snapshots",
    "metadata.log.max.snapshot.interval.ms", "metadata.log.segment.bytes",
    "metadata.log.segment.ms", "metadata.max.idle.interval.ms", "metadata.max.retention.bytes",
    "metadata.max.retention.ms", "metrics.num.samples", "metrics.recording.level",
    "metrics.sample.window.ms", "num.replica.alter.log.dirs.threads",
    "producer.purgatory.purge.interval.requests", "queued.max.request.bytes", "quota.window.num",
    "quota.window.size.seconds", "remote.log.manager.copy.quota.window.num",
    "remote.log.manager.copy.quota.window.size.seconds",
    "remote.log.manager.fetch.quota.window.num",
    "remote.log.manager.fetch.quota.window.size.seconds", "remote.log.manager.task.interval.ms",
    "remote.log.manager.thread.pool.size", "remote.log.metadata.custom.metadata.max.bytes",
    "remote.log.metadata.manager.class.name", "remote.log.metadata.manager.class.path",
    "remote.log.metadata.manager.impl.prefix", "remote.log.metadata.manager.listener.name",
    "remote.log.reader.max.pending.tasks", "remote.log.storage.manager.class.name",
    "remote.log.storage.manager.class.path", "remote.log.storage.manager.impl.prefix",
    "remote.log.storage.system.enable", "replica.fetch.backoff.ms", "replica.fetch.max.bytes",
    "replica.fetch.min.bytes", "replica.fetch.response.max.bytes", "replica.fetch.wait.max.ms",
    "replica.high.watermark.checkpoint.interval.ms", "replica.selector.class",
    "replica.socket.receive.buffer.bytes", "replica.socket.timeout.ms",
    "replication.quota.window.num", "replication.quota.window.size.seconds", "request.timeout.ms",
    "sasl.client.callback.handler.class", "sasl.login.callback.handler.class", "sasl.login.class",
    "sasl.login.connect.timeout.ms", "sasl.login.read.timeout.ms",
    "sasl.login.retry.backoff.max.ms", "sasl.login.retry.backoff.ms",
    "sasl.mechanism.controller.protocol", "sasl.oauthbearer.allow.unverified.audience",
    "sasl.oauthbearer.allow.unverified.issuer", "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds", "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file", "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.template.file", "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.expected.audience", "sasl.oauthbearer.expected.issuer",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.jwt.retriever.class", "sasl.oauthbearer.jwt.validator.class",
    "sasl.oauthbearer.scope", "sasl.oauthbearer.scope.claim.name",
    "sasl.oauthbearer.sub.claim.name", "sasl.oauthbearer.token.endpoint.url",
    "sasl.server.callback.handler.class", "sasl.server.max.receive.size",
    "security.inter.broker.protocol", "security.providers", "share.coordinator.append.linger.ms",
    "share.coordinator.load.buffer.size", "share.coordinator.snapshot.update.records.per.snapshot",
    "share.coordinator.state.topic.compression.codec", "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.segment.bytes", "share.coordinator.threads",
    "share.coordinator.write.timeout.ms", "share.fetch.purgatory.purge.interval.requests",
    "socket.connection.setup.timeout.max.ms", "socket.connection.setup.timeout.ms",
    "socket.listen.backlog.size", "ssl.allow.dn.changes", "ssl.allow.san.changes",
    "ssl.principal.mapping.rules", "telemetry.max.bytes",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    "transaction.remove.expired.transaction.cleanup.interval.ms",
    "transaction.state.log.load.buffer.size", "transaction.state.log.segment.bytes",
    "transaction.two.phase.commit.enable",
];

/// What may be set for the listeners of all brokers at once.
const LISTENER_NAMES: [&str; 3] =
    ["max.connection.creation.rate", "max.connections", "num.network.threads"];

/// How Kafka treats the setting `name` of a broker.
pub fn foreign(name: &str) -> Foreign {
    let row = |name: &str| {
        let found = ROWS.binary_search_by(|row| row.name.cmp(name));
        found.ok().map(|index| &ROWS[index])
    };
    if let Some(base) = below_listener(name) {
        let own = broker_setting(base).map(|setting| setting.kind);
        let kind = own.or_else(|| row(base).map(|row| row.kind)).unwrap_or(Kind::Unknown);
        let for_all = LISTENER_NAMES.contains(&base);
        let reach = if for_all { Reach::AnyBroker } else { Reach::OneBroker };
        return Foreign { kind, default: None, reach, known: false };
    }
    if START_NAMES.binary_search(&name).is_ok() {
        return Foreign { kind: Kind::Unknown, default: None, reach: Reach::Start, known: true };
    }
    match row(name) {
        Some(&Row { kind, default, reach, .. }) => Foreign { kind, default, reach, known: true },
        None => {
            Foreign { kind: Kind::Unknown, default: None, reach: Reach::AnyBroker, known: false }
        }
    }
}

/// The part behind the listener's name of a setting for one listener.
fn below_listener(name: &str) -> Option<&str> {
    let (_listener, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_sorted_and_name_nothing_of_ours() {
        assert!(ROWS.is_sorted_by(|left, right| left.name < right.name));
        assert!(START_NAMES.is_sorted_by(|left, right| left < right));
        let names = ROWS.iter().map(|row| row.name).chain(START_NAMES.iter().copied());
        for name in names {
            assert!(broker_setting(name).is_none(), "{name}");
        }
    }

    /// The kinds and reaches are those that Kafka 4.4 shows.
    #[test]
    fn names_are_told_apart_as_in_kafka() {
        for (name, kind, reach) in [
            ("log.cleaner.threads", Kind::Int, Reach::AnyBroker),
            ("sasl.kerberos.min.time.before.relogin", Kind::Long, Reach::OneBroker),
            ("ssl.keystore.password", Kind::Password, Reach::OneListener),
            ("early.start.listeners", Kind::Unknown, Reach::Start),
            ("no.such.name", Kind::Unknown, Reach::AnyBroker),
            ("listener.name.plaintext.ssl.keystore.location", Kind::String, Reach::OneBroker),
            ("listener.name.plaintext.no.such", Kind::Unknown, Reach::OneBroker),
            ("listener.name.plaintext.max.connections", Kind::Int, Reach::AnyBroker),
            ("listener.name.", Kind::Unknown, Reach::AnyBroker),
        ] {
            let found = foreign(name);
            assert_eq!((found.kind, found.reach), (kind, reach), "{name}");
        }
    }
}
