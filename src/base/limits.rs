//! Every bound in the program, with its unit and why it is what it is.
//!
//! A queue, buffer, cache or count without a row here is a fault.

/// Bytes in a KiB.
pub const KIB: usize = 1024;
/// Bytes in a MiB.
pub const MIB: usize = 1024 * KIB;

/// Position, length and address of every direct read and write are multiples of this many bytes:
/// the physical block of the disks we serve. The logical block may be 512, but a write of less than
/// 4 KiB costs the device a read.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// Largest request frame, bytes: Kafka's default of `socket.request.max.bytes`.
pub const REQUEST_BYTES_MAX: usize = 100 * MIB;

/// Largest record batch, bytes: Kafka's default of `message.max.bytes` (1 MiB and the 12-byte head
/// of a message set).
pub const MESSAGE_BYTES_MAX: usize = MIB + 12;

/// Records of one request, bytes, that a shard itself brings into the codec of their topics: at
/// most a few milliseconds at the highest levels. More than that goes to a thread that may take its
/// time; what it builds is no larger than `max.message.bytes`, one batch a partition at a time.
pub const RECOMPRESSED_AT_ONCE_BYTES_MAX: usize = 16 * KIB;

/// Largest segment file, bytes: index positions are 32 bit, as in Kafka.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Longest topic name, bytes: Kafka's bound; with a partition number and a suffix it still fits in
/// a file name of 255 bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Most partitions that one request creates: Kafka's bound. The change is one entry of the metadata
/// log, which stays below 1 MiB with it.
pub const PARTITIONS_PER_CHANGE_MAX: usize = 10_000;

/// Most partitions of all topics together: the metadata's snapshot stays below 64 MiB with it.
pub const PARTITIONS_COUNT_MAX: usize = 200_000;

/// Most groups and client metrics together that have settings of their own: every image lists them.
pub const CONFIGURED_COUNT_MAX: usize = 10_000;

/// Longest value of a setting, bytes: Kafka's own strings end there too.
pub const SETTING_VALUE_BYTES_MAX: usize = 32_767;

/// Longest name of a broker's setting that has no row in a table, bytes.
pub const SETTING_NAME_BYTES_MAX: usize = 255;

/// Most settings without a row in a table that are kept for one broker, and for all together: Kafka
/// has no bound; every image holds them, at most 3 MiB.
pub const BROKER_FOREIGN_SETTINGS_COUNT_MAX: usize = 100;

/// Room that a new data directory needs, bytes: the metadata log grows by 1 MiB at a time, and each
/// partition begins with files of its own.
pub const NEW_DATA_DIR_BYTES_MIN: u64 = 16 * MIB as u64;

/// Most shards in a process: ids are 16 bit and the mesh holds a queue for each pair.
pub const SHARDS_COUNT_MAX: usize = 256;

/// Most requests that wait for their answer on one connection of our own client.
pub const CLIENT_REQUESTS_WAITING_MAX: usize = 4096;

/// What our own client reads at once, bytes; a larger answer gets memory of its own.
pub const CLIENT_RECEIVE_BYTES: usize = 64 * KIB;

/// Largest answer that our own client takes, bytes: above what a broker sends for `fetch.max.bytes`
/// of 55 MiB, as a single batch may exceed that.
pub const CLIENT_RESPONSE_BYTES_MAX: usize = 256 * MIB;

/// Most bytes of records that our own producer holds until they are acknowledged: 32 MiB is Kafka's
/// default of `buffer.memory`.
pub const CLIENT_PRODUCER_BYTES_MAX: usize = 32 * MIB;

/// Most bytes that our own client lets a batch decompress to.
pub const CLIENT_BATCH_BYTES_MAX: usize = 1024 * MIB;

/// Longest line that `ringmain produce` takes for a record, bytes.
pub const CLIENT_LINE_BYTES_MAX: usize = 64 * MIB;

/// Most groups of one partition of `__consumer_offsets`: an empty one occupies about 1 KiB, so a
/// partition stays below 100 MiB with it.
pub const GROUPS_PER_COORDINATOR_MAX: usize = 100_000;

/// Most members of a group, and as many again that were given an id and have not joined with it. A
/// rebalance costs time in proportion.
pub const GROUP_MEMBERS_COUNT_MAX: usize = 10_000;

/// Most bytes of protocols and their metadata that a member of a group may bring: room for ten
/// thousand topic names of the longest kind, and for what it owns of them.
pub const GROUP_MEMBER_BYTES_MAX: usize = 4 * MIB;

/// Most bytes of metadata of all members of a group, and most bytes of their assignments: what its
/// leader is told in one answer, and what one record of the group holds.
pub const GROUP_BYTES_MAX: usize = 32 * MIB;

/// Most protocols that a member of a classic group may offer; clients have four to choose from.
pub const GROUP_PROTOCOLS_COUNT_MAX: usize = 100;

/// Most topics that a member under the consumer protocol subscribes to by name.
pub const GROUP_TOPICS_COUNT_MAX: usize = 50_000;

/// Longest regular expression of a subscription, bytes, and the most that one is compiled to.
pub const GROUP_REGEX_BYTES_MAX: usize = 16 * KIB;
/// See [`GROUP_REGEX_BYTES_MAX`].
pub const GROUP_REGEX_COMPILED_BYTES_MAX: usize = MIB;

/// Most partitions whose offsets one group keeps: Kafka has no bound; this is 5 times the most
/// partitions of a cluster here, for topics that come and go.
pub const GROUP_OFFSETS_COUNT_MAX: usize = 1_000_000;

/// Most bytes that a batch of `__consumer_offsets` decompresses to: above what the largest group
/// makes, its members' metadata and assignments of [`GROUP_BYTES_MAX`] each.
pub const GROUP_BATCH_BYTES_MAX: usize = 256 * MIB;

/// Most groups that one request names: as many as a partition of `__consumer_offsets` holds.
pub const GROUPS_PER_REQUEST_COUNT_MAX: usize = 100_000;
/// Most producers that number their batches and that one partition remembers; the longest silent
/// one gives way to a new one. One takes at most 192 bytes, the table that finds it included, with
/// what growth keeps free at most twice that: 100 thousand of them 38 MiB at most.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 100_000;

/// Most producers that all partitions of a shard remember together, 380 MiB of them; past it, a
/// partition gives up its longest silent one for each new one, but keeps one at least.
pub const PRODUCERS_PER_SHARD_MAX: usize = 1_000_000;

/// Largest file of what a partition remembers of its producers that is read, bytes: a full one of
/// ours, 46 bytes a producer for Kafka and up to 105 for us.
pub const PRODUCER_SNAPSHOT_BYTES_MAX: usize = PRODUCERS_PER_PARTITION_MAX * 151 + KIB;

/// Producer ids that the controller hands to a shard at a time: Kafka's block.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1_000;

const _: () = assert!(DIRECT_ALIGN_BYTES.is_power_of_two());
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64, "index positions are u32");
