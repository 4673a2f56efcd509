//! Which partition a record goes to: the choice that Kafka's own producers make.
//!
//! A key always lands in the same partition, and in the one that Java's producer would take, so
//! that writers in several languages agree. Records without a key stay with one partition until a
//! batch is full, since batches that are full are cheaper than batches that are fair.
//! **Invariant:** every choice lies below the count of partitions that it was asked for.

/// Start value of Kafka's murmur2.
const MURMUR2_SEED: u32 = 0x9747_b28c;
const MURMUR2_FACTOR: u32 = 0x5bd1_e995;
const MURMUR2_SHIFT: u32 = 24;

/// Hash of `bytes`: 32-bit murmur2, read as little-endian words, as Kafka's producers compute it.
pub fn murmur2(bytes: &[u8]) -> u32 {
    let mut hash = MURMUR2_SEED ^ bytes.len() as u32; // lengths wrap as they do in Java
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut mixed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        mixed = mixed.wrapping_mul(MURMUR2_FACTOR);
        mixed ^= mixed >> MURMUR2_SHIFT;
        mixed = mixed.wrapping_mul(MURMUR2_FACTOR);
        hash = hash.wrapping_mul(MURMUR2_FACTOR) ^ mixed;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MURMUR2_FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MURMUR2_FACTOR);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions_count` (1 or more).
pub fn partition_of_key(key: &[u8], partitions_count: usize) -> usize {
    assert!(partitions_count > 0, "a topic has partitions");
    (murmur2(key) & 0x7fff_ffff) as usize % partitions_count
}

/// Chooses for records without a key: one partition for `batch_bytes`, then another.
pub struct Sticky {
    batch_bytes: usize,
    current: Option<usize>,
    sent_bytes: usize,
    random: u64,
}

impl Sticky {
    /// `seed` is any number that differs between producers, so that they spread out.
    pub fn new(batch_bytes: usize, seed: u64) -> Sticky {
        Sticky { batch_bytes, current: None, sent_bytes: 0, random: seed | 1 }
    }

    /// The partition for a record of `record_bytes`, among `partitions_count` (1 or more).
    pub fn choose(&mut self, record_bytes: usize, partitions_count: usize) -> usize {
        assert!(partitions_count > 0, "a topic has partitions");
        let kept = self
            .current
            .filter(|current| *current < partitions_count && self.sent_bytes < self.batch_bytes);
        let chosen = kept.unwrap_or_else(|| self.switch(partitions_count));
        self.sent_bytes += record_bytes;
        chosen
    }

    /// Takes another partition than the current one, where there is one.
    fn switch(&mut self, partitions_count: usize) -> usize {
        let step = self.next_random() as usize;
        let chosen = match self.current {
            Some(current) if partitions_count > 1 => {
                (current + 1 + step % (partitions_count - 1)) % partitions_count
            }
            _ => step % partitions_count,
        };
        self.current = Some(chosen);
        self.sent_bytes = 0;
        chosen
    }

    /// Marsaglia's xorshift: spreads partitions, decides nothing that must be unpredictable.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: keys go where Java's producer sends them. Method: the values of Kafka's own tests.
    #[test]
    fn murmur2_gives_the_values_of_kafkas_tests() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "key {:?}", String::from_utf8_lossy(key));
        }
    }

    /// Goal: a key's partition is in range and never changes. Method: many keys and counts.
    #[test]
    fn a_key_keeps_its_partition() {
        for count in 1..50 {
            for number in 0..200_u32 {
                let key = number.to_string();
                let partition = partition_of_key(key.as_bytes(), count);
                assert!(partition < count);
                assert_eq!(partition, partition_of_key(key.as_bytes(), count));
            }
        }
    }

    /// Goal: without keys, batches are filled and all partitions get some. Method: count both.
    #[test]
    fn records_without_a_key_stay_until_a_batch_is_full_and_then_move() {
        let mut sticky = Sticky::new(1_000, 12_345);
        let mut switches = 0;
        let mut seen = [0_usize; 4];
        let mut last = sticky.choose(100, 4);
        for _ in 1..4_000 {
            let chosen = sticky.choose(100, 4);
            seen[chosen] += 1;
            switches += usize::from(chosen != last);
            last = chosen;
        }
        assert_eq!(switches, 399, "ten records of 100 bytes fill a batch of 1000");
        assert!(seen.iter().all(|count| *count > 400), "{seen:?}");
        assert_eq!(Sticky::new(10, 7).choose(1, 1), 0);
    }
}
