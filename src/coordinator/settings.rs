//! The settings that govern groups, with Kafka's names, units and defaults.

/// All of them; plain numbers, filled by whoever reads the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// group.min.session.timeout.ms
    pub session_timeout_ms_min: i32,
    /// group.max.session.timeout.ms
    pub session_timeout_ms_max: i32,
    /// group.initial.rebalance.delay.ms
    pub initial_rebalance_delay_ms: i32,
    /// group.max.size: within `GROUP_MEMBERS_COUNT_MAX`.
    pub members_count_max: usize,
    /// group.consumer.max.size: within `GROUP_MEMBERS_COUNT_MAX`.
    pub consumer_members_count_max: usize,
    /// offset.metadata.max.bytes: of a commit's metadata, in Java's characters.
    pub offset_metadata_max: usize,
    /// offsets.retention.minutes, in ms
    pub offsets_retention_ms: i64,
    /// offsets.retention.check.interval.ms
    pub offsets_check_interval_ms: i64,
    /// group.consumer.session.timeout.ms
    pub consumer_session_timeout_ms: i32,
    /// group.consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: i32,
    /// group.consumer.regex.refresh.interval.ms
    pub consumer_regex_refresh_ms: i64,
    /// group.consumer.migration.policy
    pub consumer_migration: MigrationPolicy,
}

/// What one group sets for itself (KIP-848); the coordinator's settings count where it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnSettings {
    /// consumer.session.timeout.ms
    pub consumer_session_timeout_ms: Option<i32>,
    /// consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: Option<i32>,
}

impl OwnSettings {
    /// `settings` with what is set here instead.
    pub(super) fn over(self, settings: &GroupSettings) -> GroupSettings {
        let (session, heartbeat) =
            (self.consumer_session_timeout_ms, self.consumer_heartbeat_interval_ms);
        GroupSettings {
            consumer_session_timeout_ms: session.unwrap_or(settings.consumer_session_timeout_ms),
            consumer_heartbeat_interval_ms: heartbeat
                .unwrap_or(settings.consumer_heartbeat_interval_ms),
            ..settings.clone()
        }
    }
}

/// Whether groups change between the two protocols while they have members (KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    Disabled,
    Upgrade,
    Downgrade,
    Bidirectional,
}

impl MigrationPolicy {
    pub(super) fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    pub(super) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            members_count_max: crate::base::limits::GROUP_MEMBERS_COUNT_MAX,
            consumer_members_count_max: crate::base::limits::GROUP_MEMBERS_COUNT_MAX,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_check_interval_ms: 600_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_regex_refresh_ms: 600_000,
            consumer_migration: MigrationPolicy::Bidirectional,
        }
    }
}
