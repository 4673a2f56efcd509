//! ringmain, a streaming broker that Kafka's clients use unchanged: the tour of the code.
//!
//! Folders in reading order, the lowest layer first; none imports one that comes after it, but for
//! the client and the command line, which stand beside the server. A produced batch goes
//! `server/connection.rs`, `server/dispatch.rs`, `server/handlers/produce.rs`, `shard/mailbox.rs`,
//! `shard/replica.rs`, `storage/log.rs`, `storage/commit.rs`, `io/ring.rs`, and no other way; a
//! fetch takes the same road and waits on the replica's watermark.
//!
//! # `base/`: the vocabulary of every layer
//! - `base/ids.rs`: identifiers as newtypes. `base/limits.rs`: every bound, with its unit and why.
//! - `base/metrics.rs`: what a shard counts and times.
//!
//! # `io/`: the only place that names io_uring
//! Shards, files, sockets, memory and time, each real or simulated. **Invariant:** memory that the
//! kernel may touch is owned by the operation's slot until its last completion.
//! - `io/executor.rs`: a shard, one pinned thread with its loop; `io/tasks.rs`, `io/timers.rs`:
//!   what the loop runs. `io/pool.rs`: threads for what blocks. `io/clock.rs`: time.
//!   `io/signals.rs`: SIGTERM and SIGINT.
//! - `io/ring.rs`: a shard's own io_uring. `io/file.rs`, `io/socket.rs`: what goes over it;
//!   `io/fs.rs`: what may block and goes to threads.
//! - `io/memory.rs`: huge-page buffers, shared slices, append-only tails; `io/arena.rs`: where
//!   their runs of pages come from.
//! - `io/notify.rs`: waking a shard from outside. `io/mesh.rs`: messages between shards.
//! - `io/probe.rs`: what the node needs of its host, and the remedy for what is missing.
//! - `io/sim/`: the simulated twin: `io/sim/disk.rs` loses, tears and fails; `io/sim/net.rs`
//!   connects; `io/sim/tests.rs` holds them to the real ones. `io/tests.rs`: every trap has a test.
//!
//! # `protocol/`: Kafka's wire format
//! Bytes in, values out, and back; no I/O. **Invariant:** a frame decodes into at most a small
//! multiple of its own size, whatever it declares.
//! - `protocol/wire.rs`: the primitive types, the reader with its budget, the writer with its cuts.
//! - `protocol/schema.rs`: messages as tables, one row a field; the macro that makes the codec.
//! - `protocol/api.rs`: every key with its versions; what ApiVersions advertises comes from there.
//! - `protocol/header.rs`: whole frames. `protocol/error.rs`: Kafka's error codes.
//! - `protocol/batch.rs`: the record batch as a view, its patches, its builder.
//!   `protocol/record.rs`: the records inside. `protocol/compression.rs`: the codecs.
//! - `protocol/produce.rs`: what a broker checks of a batch before it appends it.
//!   `protocol/recompression.rs`: a batch in another codec.
//! - `protocol/subscription.rs`: what consumers of the classic protocol tell each other.
//! - `protocol/messages/`: a file a request, pairs tied in its top; `protocol/messages/table.rs` is
//!   what the tables import.
//!   The data path: `protocol/messages/produce.rs`, `protocol/messages/fetch.rs`,
//!   `protocol/messages/list_offsets.rs`, `protocol/messages/offset_for_leader_epoch.rs`,
//!   `protocol/messages/delete_records.rs`.
//!   What there is: `protocol/messages/api_versions.rs`, `protocol/messages/metadata.rs`,
//!   `protocol/messages/describe_cluster.rs`, `protocol/messages/describe_topic_partitions.rs`,
//!   `protocol/messages/describe_log_dirs.rs`, `protocol/messages/describe_producers.rs`,
//!   `protocol/messages/describe_quorum.rs`, `protocol/messages/list_partition_reassignments.rs`.
//!   Changing it: `protocol/messages/create_topics.rs`, `protocol/messages/delete_topics.rs`,
//!   `protocol/messages/create_partitions.rs`, `protocol/messages/elect_leaders.rs`,
//!   `protocol/messages/update_features.rs`, `protocol/messages/describe_configs.rs`,
//!   `protocol/messages/alter_configs.rs`, `protocol/messages/incremental_alter_configs.rs`,
//!   `protocol/messages/alter_partition_reassignments.rs`,
//!   `protocol/messages/alter_replica_log_dirs.rs`,
//!   `protocol/messages/list_config_resources.rs`.
//!   Groups and producers: `protocol/messages/find_coordinator.rs`,
//!   `protocol/messages/join_group.rs`, `protocol/messages/sync_group.rs`,
//!   `protocol/messages/heartbeat.rs`, `protocol/messages/leave_group.rs`,
//!   `protocol/messages/consumer_group_heartbeat.rs`,
//!   `protocol/messages/consumer_group_describe.rs`, `protocol/messages/offset_commit.rs`,
//!   `protocol/messages/offset_fetch.rs`, `protocol/messages/offset_delete.rs`,
//!   `protocol/messages/describe_groups.rs`, `protocol/messages/list_groups.rs`,
//!   `protocol/messages/delete_groups.rs`, `protocol/messages/init_producer_id.rs`.
//
//!
//! # `storage/`: partitions on disk
//! **Invariant:** what was acknowledged is on stable storage, and every log is a prefix of what was
//! appended.
//! - `storage/log.rs`: the public face: open, wait, what is where. `storage/append.rs`: batches at
//!   its end.
//! - `storage/segment.rs`, `storage/index.rs`, `storage/epochs.rs`, `storage/frame.rs`: what a log
//!   is made of: files of batches, where an offset or a time is, leader epochs, a batch's head.
//! - `storage/tail_cache.rs`: the newest bytes, which are the append buffers themselves.
//! - `storage/commit.rs`: pipelined group commit, one flush for many logs. `storage/write.rs`: one
//!   write of one log. `storage/prepare.rs`: space made ready before it is needed.
//!   `storage/wake.rs`: who waits for what.
//! - `storage/rounds.rs`: small appends of many logs in one write to the shard's journal, and
//!   behind that to their segments. `storage/journal.rs`: that ring, `storage/journal_frame.rs`:
//!   its bytes, `storage/redo.rs`: what it holds after a crash.
//! - `storage/read.rs`: whole batches from memory or, shared and read ahead, from disk.
//!   `storage/lookup.rs`: records by their time.
//! - `storage/producers.rs`: which batches are repeated, which are missing;
//!   `storage/snapshot.rs`: that as bytes, `storage/replay.rs`: that after a stop or crash.
//! - `storage/retention.rs`, `storage/truncate.rs`: giving up the old; cutting, closing, deleting.
//! - `storage/recovery.rs`, `storage/scan.rs`, `storage/checkpoint.rs`: a log over a stop or crash.
//! - `storage/data_dir.rs`: the directory around all logs, and whose it is. `storage/owner.rs`:
//!   whose partition one in it is.
//! - `storage/tests.rs`: on the simulated disk and a real one: `storage/tests/life.rs`,
//!   `storage/tests/faults.rs`, `storage/tests/crash.rs`, `storage/tests/real.rs`,
//!   `storage/tests/producers.rs`, `storage/tests/journal.rs`.
//
//!
//! # `consensus/`: agreement on one log
//! Raft behind a face of our own: messages, ticks and proposals in, effects out; no I/O, no clock.
//! - `consensus/memory.rs`: the log as the crate reads it. `consensus/wire.rs`: messages as bytes.
//! - `consensus/tests.rs`: one voter, restarts, three voters over a network that loses messages.
//
//!
//! # `cluster/`: what the cluster has agreed on, and who may change it
//! **Invariant:** a change is published only once it is durable, and all shards see the same images
//! in the same order.
//! - `cluster/metadata.rs`: the image, an immutable value that shares what did not change.
//!   `cluster/records.rs`: the records that change it, and their bytes.
//! - `cluster/changes.rs`: what clients ask for, checked, as records or a refusal in Kafka's words;
//!   settings in `cluster/changes/settings.rs`. `cluster/changes/tests.rs` has each refusal.
//! - `cluster/controller.rs`: has changes agreed on and publishes the images; on shard 0. Its
//!   tests: `cluster/controller/tests.rs`.
//! - `cluster/quorum.rs`: carries out raft's effects. `cluster/metadata_log.rs`: makes them durable
//!   in files of `cluster/frames.rs`; `cluster/metadata_log/tests.rs` breaks the disk under it.
//! - `cluster/settings/`: every setting as a row, of topics in `cluster/settings/topic.rs`, of
//!   brokers in `cluster/settings/broker.rs`, of groups and client metrics in
//!   `cluster/settings/named.rs`; `cluster/settings/foreign.rs`: Kafka's that we lack;
//!   `cluster/settings/layers.rs` says which layer wins, `cluster/settings/values.rs` is what the
//!   program reads.
//
//!
//! # `coordinator/`: consumer groups and their offsets
//! Requests and time in, replies and records of `__consumer_offsets` out; no I/O, no clock.
//! **Invariant:** no reply leaves before everything that it tells of is durable.
//! - `coordinator/records.rs`: Kafka's own record formats. `coordinator/load.rs`: back from them.
//! - `coordinator/groups.rs`: a group of either protocol; describing, listing, deleting.
//! - `coordinator/classic/` with `coordinator/classic/join.rs`, `coordinator/classic/rebalance.rs`,
//!   `coordinator/classic/sync.rs`: the classic protocol; `coordinator/classic/tests.rs` has its
//!   rules.
//! - `coordinator/consumer/`: the protocol of KIP-848: `coordinator/consumer/heartbeat.rs`,
//!   `coordinator/consumer/target.rs` and `coordinator/consumer/assign.rs` (who is to own what),
//!   `coordinator/consumer/reconcile.rs` (leading members there), `coordinator/consumer/commit.rs`;
//!   members of the classic protocol in it: `coordinator/consumer/classic_member.rs`, and from one
//!   to the other and back: `coordinator/consumer/migrate.rs`. `coordinator/consumer/tests.rs`.
//! - `coordinator/offsets/`: commits, fetches, and how offsets end; `coordinator/offsets/tests.rs`.
//! - `coordinator/replies.rs`: answers that own what they say. `coordinator/settings.rs`,
//!   `coordinator/topics.rs`: what a coordinator is told. `coordinator/random.rs`: member ids.
//!   `coordinator/harness.rs`: virtual time for its tests.
//
//!
//! # `shard/`: one core's share of the node
//! Replicas, and the messages between shards. **Invariant:** a replica lives on one shard and no
//! other thread touches it; appends keep the order in which they were handed in.
//! - `shard/state.rs`: the shard: its image, its replicas, opened and closed as images change.
//!   `shard/placement.rs`: which shard owns a partition. `shard/strays.rs`: directories of no
//!   topic.
//! - `shard/replica.rs`: one partition: checks batches, appends them, lets them wait for room.
//! - `shard/produce.rs`, `shard/fetch.rs`, `shard/offsets.rs`: a shard's part of a request.
//! - `shard/groups.rs`: hosts the group coordinators: their log, their clock, their callers;
//!   `shard/groups/tests.rs` fails the disk under them. `shard/group_load.rs` loads them.
//! - `shard/producers.rs`: ids for producers, and what partitions remember of them.
//! - `shard/mailbox.rs`: what shards ask of each other; `shard/calls.rs` finds the callers again.
//! - `shard/signal.rs`: wake-ups between tasks, and budgets of bytes.
//! - `shard/tests.rs`: a shard alone on the simulated machine.
//
//!
//! # `server/`: connections and the answers to Kafka's requests
//! **Invariant:** answers leave in the order of their requests, and what a connection holds is
//! bounded.
//! - `server/listener.rs` accepts, `server/connection.rs` serves one connection: `server/frame.rs`
//!   cuts what it receives into requests, `server/dispatch.rs` finds their handlers,
//!   `server/answer.rs` gathers what goes out. `server/fetch_session.rs`: what consumers asked
//!   before.
//! - `server/handlers/`: a file a request, and the only place of Kafka's error codes.
//!   The data path: `server/handlers/produce.rs`, `server/handlers/fetch.rs`,
//!   `server/handlers/list_offsets.rs`, `server/handlers/offset_for_leader_epoch.rs`,
//!   `server/handlers/delete_records.rs`, all three with `server/handlers/offsets.rs`.
//!   What there is: `server/handlers/api_versions.rs`, `server/handlers/metadata.rs`,
//!   `server/handlers/describe_cluster.rs`, `server/handlers/describe_topic_partitions.rs`,
//!   `server/handlers/describe_configs.rs`, `server/handlers/list_config_resources.rs`,
//!   `server/handlers/describe_log_dirs.rs`, `server/handlers/describe_quorum.rs`,
//!   `server/handlers/describe_producers.rs`,
//!   `server/handlers/list_partition_reassignments.rs`.
//!   Producers that number their batches: `server/handlers/init_producer_id.rs`.
//!   Changing it: `server/handlers/create_topics.rs`, `server/handlers/delete_topics.rs`,
//!   `server/handlers/create_partitions.rs`, `server/handlers/alter_configs.rs`,
//!   `server/handlers/incremental_alter_configs.rs`, `server/handlers/elect_leaders.rs`,
//!   `server/handlers/alter_partition_reassignments.rs`,
//!   `server/handlers/alter_replica_log_dirs.rs`,
//!   `server/handlers/update_features.rs`.
//!   Groups, all with `server/handlers/groups.rs`: `server/handlers/find_coordinator.rs`,
//!   `server/handlers/join_group.rs`, `server/handlers/sync_group.rs`,
//!   `server/handlers/heartbeat.rs`, `server/handlers/leave_group.rs`,
//!   `server/handlers/consumer_group_heartbeat.rs`,
//!   `server/handlers/consumer_group_describe.rs`, `server/handlers/offset_commit.rs`,
//!   `server/handlers/offset_fetch.rs`, `server/handlers/offset_delete.rs`,
//!   `server/handlers/describe_groups.rs`, `server/handlers/list_groups.rs`,
//!   `server/handlers/delete_groups.rs`.
//!   Shared: `server/handlers/errors.rs`, `server/handlers/operations.rs`,
//!   `server/handlers/resources.rs`.
//
//!
//! # `client/`: a Kafka client of our own
//! Drives any broker; knows nothing of ours. **Invariant:** a partition has one batch on its way,
//! so retries keep its order.
//! - `client/connection.rs`: one pipelined connection, its writer, its reader, its watch.
//!   `client/request.rs`: frames and versions. `client/wait.rs`: how tasks wait for each other.
//! - `client/cluster.rs`: brokers, topics, leaders. `client/admin.rs`: changing topics.
//!   `client/configs.rs`: settings. `client/groups.rs`: looking into groups from outside.
//! - `client/producer.rs`: batches and retries. `client/partitioner.rs`: which partition.
//! - `client/consumer.rs`: positions and fetches. `client/group_consumer.rs`: a member of a group,
//!   joining in `client/group_consumer/joining.rs`, its offsets in
//!   `client/group_consumer/offsets.rs`, its requests in `client/membership.rs`;
//!   `client/assignor.rs`: who of it reads what.
//! - `client/error.rs`: what goes wrong, in sentences.
//! - `client/tests.rs`, `client/group_tests.rs`: all of it against a scripted broker in simulated
//!   networks.
//
//!
//! # `cli/`: the subcommands beside `serve`
//! `main.rs` reads the command line. **Invariant:** a failure is one sentence and an exit code.
//! - `cli/topics.rs`, `cli/groups.rs` with `cli/reset.rs`, `cli/configs.rs`, `cli/produce.rs`,
//!   `cli/consume.rs`: what they say.
//! - `cli/log.rs`: dumps a segment file; `cli/segment.rs` walks it and tells damage from its end.
//! - `cli/output.rs`, `cli/table.rs`, `cli/timestamp.rs`: how things are printed and read.
//
//!
//! # `config.rs`: what a node is told at its start
//! Flags, `--set` and Kafka's file (`config/properties.rs`) over what the machine has
//! (`config/machine.rs`); `config/tests.rs` gives them right and wrong.
//!
//! # `node.rs`: one broker process
//! What starts in which order, and how it stops.
//

pub mod base;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod consensus;
pub mod coordinator;
pub mod io;
pub mod node;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod storage;
