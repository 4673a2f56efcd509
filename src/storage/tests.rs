//! Tests of storage as a whole, on the simulated disk and on a real one.

mod crash;
mod faults;
mod journal;
mod life;
mod producers;
mod real;

use super::frame::{HEAD_BYTES, Head};
use super::*;
use crate::base::ids::LeaderEpoch;
use crate::base::metrics::ShardMetrics;
use crate::io::{Io, Slice};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use super::frame::tests::batch;

/// The directory of partition `number`.
pub fn dir(number: usize) -> PathBuf {
    PathBuf::from(format!("/data/words-{number}"))
}

/// Small segments, so that tests roll often.
pub fn small() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, index_interval_bytes: 1024, ..LogConfig::default() }
}

pub fn committer(io: &Io) -> Committer {
    Committer::new(io, &Rc::new(ShardMetrics::default()))
}

/// A committer with a journal of `bytes`, and what an earlier one holds put where it belongs.
pub async fn journaling(io: &Io, bytes: u64) -> Committer {
    let data_dir = PathBuf::from("/data");
    io.create_dir_all(&data_dir).await.expect("a directory");
    redo(io, &data_dir).await.expect("the disk works");
    let committer = committer(io);
    let name = "shard-0.journal".to_owned();
    committer.journal_in(io, JournalPlace { data_dir, name, bytes });
    committer
}

pub async fn open_at(
    io: &Io,
    committer: &Committer,
    dir: &Path,
    config: &LogConfig,
) -> Result<(Log, Recovery), StorageError> {
    let topic_id = TopicId(7);
    let open = OpenLog { dir: dir.to_path_buf(), topic_id, config: config.clone(), clean: None };
    Log::open(io, committer, open).await
}

/// Partitions 0 to `count`, undamaged.
pub async fn open_many(
    io: &Io,
    committer: &Committer,
    count: usize,
    config: &LogConfig,
) -> Vec<Log> {
    let mut logs = Vec::new();
    for number in 0..count {
        let opened = open_at(io, committer, &dir(number), config).await.expect("the log opens");
        assert_eq!(opened.1.corrupt, []);
        logs.push(opened.0);
    }
    logs
}

/// A fresh committer and partition 0.
pub async fn open(io: &Io, config: &LogConfig) -> (Log, Recovery) {
    open_at(io, &committer(io), &dir(0), config).await.expect("the log opens")
}

/// Appends one batch in epoch 0 and waits until it is safe.
pub async fn put(log: &Log, batch: &[u8]) -> Result<Appended, FlushError> {
    let appended = log.append(batch, LeaderEpoch(0), 1_000).expect("the log takes appends");
    log.wait_flushed(appended.last_offset.plus(1)).await?;
    Ok(appended)
}

/// The bytes of an answer, in one run.
pub fn concat(slices: &[Slice]) -> Vec<u8> {
    slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat()
}

/// Every batch of the log that can be read, from `from` on, in pieces of `bytes_max`.
pub async fn read_from(
    log: &Log,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<(i64, Vec<u8>)>, ReadError> {
    let mut found = Vec::new();
    let mut from = from;
    let upto = log.flushed_offset();
    while from < upto {
        let read = log.read(from, bytes_max, upto, true).await?;
        let bytes = concat(&read.slices);
        assert_eq!(bytes.len(), read.bytes);
        assert!(read.next_offset > from, "a read that may give one batch moves on");
        found.extend(split(&bytes));
        from = read.next_offset;
    }
    Ok(found)
}

/// Whole batches with their base offsets.
pub fn split(mut bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let head = Head::parse_slice(bytes).expect("only whole batches are served");
        let (one, rest) = bytes.split_at(head.bytes as usize);
        assert!(frame::crc_holds(&head, [one]), "only good batches are served");
        found.push((head.base_offset, one.to_vec()));
        bytes = rest;
    }
    found
}

/// Stands for a batch's bytes behind what the log patches, in few characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    bytes: usize,
    crc: u32,
}

/// What the log must give back of `batch`.
pub fn body(batch: &[u8]) -> Body {
    Body { bytes: batch.len(), crc: crc32c::crc32c(&batch[16..]) }
}

/// Lets all chunks in memory go, as a full cache would.
pub fn forget_memory(log: &Log) {
    let mut state = log.0.state.borrow_mut();
    assert_eq!(state.dirty_bytes(), 0);
    let released_bytes = state.tail.release_all();
    drop(state);
    log.0.committer.release_tail(released_bytes);
    log.0.committer.read_cache().evict(usize::MAX);
}

const _: () = assert!(HEAD_BYTES == 61);
