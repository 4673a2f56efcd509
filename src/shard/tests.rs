//! A shard alone on the simulated machine: how tests begin, and what it does by itself.

use super::mailbox::ShardMessage;
use super::replica::Replica;
use super::state::{NodeFacts, Shard};
use crate::base::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::base::metrics::ShardMetrics;
use crate::cluster::metadata::{Image, Overrides};
use crate::cluster::records::{MetadataRecord, PartitionRecord};
use crate::io::{Io, Mesh, sim};
use crate::protocol::batch::BatchBuilder;
use crate::protocol::compression::Codec;
use crate::protocol::record::NewRecord;
use crate::storage::Committer;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The only shard of node 1, whose maintenance runs.
pub fn lone_shard(io: Io) -> Rc<Shard> {
    let mesh: Mesh<ShardMessage> = sim::meshes(&io, 1).remove(0);
    let node = Arc::new(NodeFacts {
        node_id: NodeId(1),
        data_dir: PathBuf::from("/data"),
        fixed: Arc::new(Overrides::new()),
        connections_counts: vec![AtomicUsize::new(0)],
        addresses: Mutex::default(),
    });
    let metrics = Rc::new(ShardMetrics::default());
    let committer = Committer::new(&io, &metrics);
    let shard = Shard::new(io, mesh, node, metrics, committer, []);
    shard.io.spawn(shard.clone().maintain());
    shard
}

/// The creation of a topic whose partitions node 1 leads.
pub fn topic_created(
    name: &str,
    id: TopicId,
    partitions_count: usize,
    internal: bool,
) -> MetadataRecord {
    let (leader, leader_epoch, partition_epoch) = (1, 0, 0);
    let (replicas, isr) = (vec![1], vec![1]);
    let one = PartitionRecord { leader, leader_epoch, replicas, isr, partition_epoch };
    let (name, overrides) = (name.to_owned(), Vec::new());
    let partitions = vec![one; partitions_count];
    MetadataRecord::TopicCreated { id: id.0, name, internal, partitions, overrides }
}

async fn lone_replica(shard: &Rc<Shard>) -> Rc<Replica> {
    let topic_id = TopicId(8);
    let mut image = Image::default();
    image.apply(&topic_created("words", topic_id, 1, false)).expect("the record fits");
    shard.apply_image(Arc::new(image)).await;
    let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
    shard.replica(id).expect("this shard owns it")
}

/// Goal: an operator has half a minute to mend a retention that would take everything. Method:
/// records of 1970; they go when retention looks at them first, after 30 s.
#[test]
fn retention_begins_after_half_a_minute() {
    sim::run(1, |io, _| async move {
        let shard = lone_shard(io.clone());
        let log = lone_replica(&shard).await.log();
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(&NewRecord { timestamp: 1, value: Some(b"old"), ..NewRecord::default() });
        let appended = log.append(&builder.finish(), LeaderEpoch(0), io.clock().now_ms()).unwrap();
        log.wait_flushed(appended.last_offset.plus(1)).await.unwrap();
        io.sleep(Duration::from_secs(28)).await;
        assert_eq!(log.start_offset(), Offset(0));
        io.sleep(Duration::from_secs(4)).await;
        assert_eq!(log.start_offset(), Offset(1));
    });
}
