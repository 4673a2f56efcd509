//! Which shard owns a partition: a function of the topic's id and the count of shards.
//!
//! Nothing on disk names a shard, so a restart may use another count of cores.

use crate::base::ids::{ShardId, TopicPartition};

/// The shard of `partition` among `shards_count` (1 or more).
///
/// The partitions of a topic go round robin, starting at a shard that the topic's id picks: one
/// topic loads all shards alike, and so do many topics of one partition.
pub fn shard_of(partition: TopicPartition, shards_count: usize) -> ShardId {
    assert!(shards_count > 0, "there is at least one shard");
    let id = partition.topic_id.0;
    let start = ((id >> 64) as u64 ^ id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let turn = start.wrapping_add(u64::from(partition.partition.0.unsigned_abs()));
    let shard = turn % shards_count as u64;
    ShardId(u16::try_from(shard).expect("the count of shards is 16 bit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PartitionIndex, TopicId};

    fn place(topic_id: TopicId, partition: i32, shards_count: usize) -> usize {
        let partition = PartitionIndex(partition);
        usize::from(shard_of(TopicPartition { topic_id, partition }, shards_count).0)
    }

    /// Goal: no shard owns more than its share of a topic. Method: count over many topics.
    #[test]
    fn the_partitions_of_a_topic_spread_evenly() {
        for shards_count in 1..9 {
            let topic_id = TopicId::random();
            let mut counts = vec![0; shards_count];
            (0..64).for_each(|partition| counts[place(topic_id, partition, shards_count)] += 1);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.expect("not empty") - least.expect("not empty") <= 1, "{counts:?}");
        }
    }

    /// Goal: topics of one partition spread too. Method: 1,000 random ids over 4 shards.
    #[test]
    fn single_partition_topics_spread() {
        let mut counts = [0; 4];
        (0..1_000).for_each(|_| counts[place(TopicId::random(), 0, 4)] += 1);
        assert!(counts.iter().all(|&count| (150..350).contains(&count)), "{counts:?}");
    }
}
