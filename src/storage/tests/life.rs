//! What a log does on a healthy disk: append, read, roll, cut, look up, retain, stop and start.

use super::*;
use crate::io::sim::{self, Crash};
use crate::protocol::batch::BatchBuilder;
use crate::protocol::compression::Codec;
use crate::protocol::record::NewRecord;
use futures_util::FutureExt as _;
use std::task::Poll;
use std::time::Duration;

/// Appends `count` batches of varied size; returns their bodies.
async fn fill(log: &Log, count: usize) -> Vec<Body> {
    let mut bodies = Vec::new();
    for at in 0..count {
        let bytes = 70 + (at * 977) % 9_000;
        let one = batch(bytes, 1 + (at % 3) as i32, at as i64, at as u8);
        bodies.push(body(&one));
        put(log, &one).await.expect("a healthy disk");
    }
    bodies
}

fn bodies(found: &[(i64, Vec<u8>)]) -> Vec<Body> {
    found.iter().map(|(_, bytes)| body(bytes)).collect()
}

/// Goal: memory and disk serve the same, across segments. Method: read all, in pieces of many
/// sizes, with memory, without it, and after a restart without a clean stop.
#[test]
fn what_was_appended_is_read_from_memory_and_from_disk() {
    sim::run(1, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        let wanted = fill(&log, 200).await;
        assert!(log.segments_count() > 5);
        for bytes_max in [1, 5_000, 100_000, 10_000_000] {
            assert_eq!(bodies(&read_from(&log, Offset(0), bytes_max).await.unwrap()), wanted);
        }
        let from_memory = read_from(&log, Offset(0), 50_000).await.unwrap();
        forget_memory(&log);
        for bytes_max in [1, 5_000, 100_000, 10_000_000] {
            assert!(read_from(&log, Offset(0), bytes_max).await.unwrap() == from_memory);
        }
        let (again, recovery) = open(&io, &small()).await;
        assert_eq!(recovery.corrupt, []);
        assert_eq!(recovery.cut_bytes, 0);
        assert_eq!(again.end_offset(), log.end_offset());
        assert!(read_from(&again, Offset(0), 50_000).await.unwrap() == from_memory);
        let more = fill(&again, 20).await;
        let tail = read_from(&again, log.end_offset(), 50_000).await.unwrap();
        assert_eq!(bodies(&tail), more);
    });
}

/// Goal: what a clean stop says of a log is in its files. Method: append at every step of a close.
#[test]
fn a_log_that_is_being_closed_takes_no_appends() {
    sim::run(16, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        fill(&log, 10).await;
        let closing = {
            let log = log.clone();
            async move { log.close_clean().await.expect("a healthy disk") }
        };
        let mut closing = std::pin::pin!(closing);
        let mut refused_count = 0;
        let clean = loop {
            if let Poll::Ready(clean) = futures_util::poll!(closing.as_mut()) {
                break clean;
            }
            if log.0.held.get() {
                let refused = log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0);
                assert!(matches!(refused, Err(AppendError::Fenced(_))), "{refused:?}");
                refused_count += 1;
            }
            io.sleep(Duration::from_micros(10)).await;
        };
        assert!(refused_count > 0, "the close takes more than one step");
        let end = clean.segments.last().expect("a segment").end_offset;
        disk.crash(Crash::LoseUnsynced);
        let open =
            OpenLog { dir: dir(0), topic_id: TopicId(7), config: small(), clean: Some(clean) };
        let (again, _) = Log::open(&io, &committer(&io), open).await.expect("the log opens");
        assert_eq!(again.end_offset(), end);
        let found = read_from(&again, Offset(0), 50_000).await.expect("all of it is there");
        let last = Head::parse_slice(&found.last().expect("batches").1).expect("split checks it");
        assert_eq!(last.end_offset(), end.0);
    });
}

/// Goal: a read keeps to its bounds. Method: each offset inside batches, limits below and above.
#[test]
fn a_read_gives_whole_batches_within_its_limits() {
    sim::run(2, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        for at in 0..10 {
            put(&log, &batch(500, 4, 0, at)).await.unwrap();
        }
        for memory in [true, false] {
            if !memory {
                forget_memory(&log);
            }
            let read = log.read(Offset(6), 1_200, Offset(40), true).await.unwrap();
            assert_eq!((read.bytes, read.next_offset), (1_000, Offset(12)));
            assert_eq!(split(&concat(&read.slices))[0].0, 4);
            let read = log.read(Offset(6), 10, Offset(40), true).await.unwrap();
            assert_eq!((read.bytes, read.next_offset), (500, Offset(8)));
            let read = log.read(Offset(6), 10, Offset(40), false).await.unwrap();
            assert_eq!((read.bytes, read.next_offset), (0, Offset(6)));
            let read = log.read(Offset(6), 5_000, Offset(11), true).await.unwrap();
            assert_eq!((read.bytes, read.next_offset), (500, Offset(8)));
            let read = log.read(Offset(40), 5_000, Offset(40), true).await.unwrap();
            assert_eq!((read.bytes, read.next_offset), (0, Offset(40)));
            let beyond = log.read(Offset(41), 5_000, Offset(50), true).await;
            assert!(matches!(beyond, Err(ReadError::OutOfRange { .. })));
        }
    });
}

/// Goal: a batch larger than chunks and pieces comes back whole. Method: 5 MB, from memory and
/// disk.
#[test]
fn a_batch_of_many_pieces_is_read_whole() {
    sim::run(3, |io, _disk| async move {
        let config = LogConfig { segment_bytes: 64 << 20, ..small() };
        let (log, _) = open(&io, &config).await;
        put(&log, &batch(3_333, 1, 0, 1)).await.unwrap();
        let large = batch(5_000_000, 2, 0, 2);
        put(&log, &large).await.unwrap();
        put(&log, &batch(999, 1, 0, 3)).await.unwrap();
        for memory in [true, false] {
            if !memory {
                forget_memory(&log);
            }
            let read = log.read(Offset(1), 10, Offset(4), true).await.unwrap();
            assert_eq!(body(&concat(&read.slices)), body(&large));
            assert_eq!(read_from(&log, Offset(0), 1 << 20).await.unwrap().len(), 3);
        }
    });
}

/// Goal: a clean stop makes the start read nothing, and the log goes on. Method: stop, start,
/// append, into the middle of a block that only the disk has; several times.
#[test]
fn a_log_goes_on_after_a_clean_stop() {
    sim::run(4, |io, disk| async move {
        let mut clean = None;
        let mut wanted = Vec::new();
        for life in 0..5 {
            let committer = committer(&io);
            let topic_id = TopicId(7);
            let open = OpenLog { dir: dir(0), topic_id, config: small(), clean: clean.take() };
            let (log, recovery) = Log::open(&io, &committer, open).await.unwrap();
            assert_eq!(recovery.scanned_bytes, 0);
            assert_eq!(bodies(&read_from(&log, Offset(0), 9_999).await.unwrap()), wanted);
            if life != 2 {
                wanted.extend(fill(&log, 30).await);
            }
            assert_eq!(bodies(&read_from(&log, Offset(0), 9_999).await.unwrap()), wanted);
            forget_memory(&log);
            assert_eq!(bodies(&read_from(&log, Offset(0), 9_999).await.unwrap()), wanted);
            let closed = log.close_clean().await.unwrap();
            for facts in &closed.segments {
                let path = segment::path_of(&dir(0), facts.base_offset, segment::LOG_SUFFIX);
                let contents = disk.contents(&path).unwrap();
                assert_eq!(contents.len() as u64, facts.bytes);
                split(&contents);
                let path = segment::path_of(&dir(0), facts.base_offset, segment::INDEX_SUFFIX);
                check_index(&contents, &disk.contents(&path).unwrap(), facts.base_offset.0);
            }
            assert!(log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0).is_err());
            let text = checkpoint::encode_clean(&[closed]);
            clean = checkpoint::decode_clean(&text).unwrap().pop();
        }
    });
}

/// Every entry of an offset index names a batch by its last offset, as kafka-dump-log checks.
fn check_index(log: &[u8], index: &[u8], base_offset: i64) {
    for entry in index.chunks(8) {
        let relative = u32::from_be_bytes(entry[..4].try_into().expect("indexes are whole"));
        let position =
            u32::from_be_bytes(entry[4..].try_into().expect("indexes are whole")) as usize;
        let head = Head::parse_slice(&log[position..]).expect("indexes are whole");
        assert_eq!(head.last_offset(), base_offset + i64::from(relative));
    }
    assert!(log.len() < 3_000 || !index.is_empty());
}

/// Goal: a cut removes exactly the rest, also after a restart. Method: cut at random places, append
/// others.
#[test]
fn a_cut_log_ends_at_the_cut() {
    for seed in 0..12_u64 {
        sim::run(seed, |io, _disk| async move {
            let (mut log, _) = open(&io, &small()).await;
            let mut wanted = fill(&log, 60).await;
            let mut random = fastrand::Rng::with_seed(seed);
            for round in 0..4 {
                if random.bool() {
                    forget_memory(&log);
                }
                let at = random.usize(..wanted.len());
                let found = read_from(&log, Offset(0), 40_000).await.unwrap();
                log.truncate_to(Offset(found[at].0)).await.unwrap();
                wanted.truncate(at);
                assert_eq!(log.end_offset(), Offset(found[at].0));
                if random.bool() {
                    (log, _) = open(&io, &small()).await;
                }
                assert_eq!(bodies(&read_from(&log, Offset(0), 40_000).await.unwrap()), wanted);
                for extra in 0..10 {
                    let one = batch(300 + extra * 700, 1, 0, 100 + round);
                    put(&log, &one).await.unwrap();
                    wanted.push(body(&one));
                }
                assert_eq!(bodies(&read_from(&log, Offset(0), 40_000).await.unwrap()), wanted);
            }
            let (again, recovery) = open(&io, &small()).await;
            assert_eq!(recovery.corrupt, []);
            assert_eq!(bodies(&read_from(&again, Offset(0), 40_000).await.unwrap()), wanted);
        });
    }
}

/// Goal: retention keeps what the settings say, moves the start durably and recycles one file.
/// Method: by bytes, by time, by DeleteRecords; a slice that a reader holds stays good.
#[test]
fn old_segments_go_and_their_files_serve_again() {
    sim::run(6, |io, disk| async move {
        let config = LogConfig { retention_bytes: 100_000, retention_ms: -1, ..small() };
        let (log, _) = open(&io, &config).await;
        fill(&log, 150).await;
        let held = log.read(Offset(0), 20_000, Offset(50), true).await.unwrap();
        let before = concat(&held.slices);
        io.sleep(Duration::from_secs(1)).await;
        let segments_count = log.segments_count();
        let removed = log.apply_retention(5_000).await.unwrap();
        assert!(removed > 3 && log.segments_count() == segments_count - removed);
        assert!(log.bytes() < 100_000 + (64 << 10));
        let gone = log.read(Offset(0), 20_000, Offset(50), true).await;
        assert!(matches!(gone, Err(ReadError::OutOfRange { .. })));
        io.sleep(Duration::from_secs(1)).await;
        assert!(disk.contents(&dir(0).join(segment::SPARE_NAME)).is_some());
        let wanted = read_from(&log, log.start_offset(), 9_999).await.unwrap();
        let more = fill(&log, 40).await;
        assert!(disk.contents(&dir(0).join(segment::SPARE_NAME)).is_none());
        assert_eq!(concat(&held.slices), before);
        forget_memory(&log);
        let found = read_from(&log, log.start_offset(), 9_999).await.unwrap();
        assert_eq!(found[..wanted.len()], wanted);
        assert_eq!(bodies(&found[wanted.len()..]), more);
        // After a restart the recycled file's old batches stay unseen.
        let start_offset = log.start_offset();
        let (log, recovery) = open(&io, &config).await;
        assert_eq!((recovery.corrupt, log.start_offset()), (Vec::new(), start_offset));
        assert_eq!(read_from(&log, log.start_offset(), 9_999).await.unwrap(), found);
        // DeleteRecords.
        let middle = Offset(found[found.len() / 2].0);
        assert_eq!(log.advance_start_offset(middle).await.unwrap(), middle);
        let (log, _) = open(&io, &config).await;
        assert_eq!(log.start_offset(), middle);
        // By time: everything is past it, also the active segment.
        log.set_config(LogConfig { retention_ms: 1_000, ..config.clone() });
        for _ in 0..3 {
            log.apply_retention(1_000_000).await.unwrap();
            io.sleep(Duration::from_secs(1)).await;
        }
        assert_eq!((log.segments_count(), log.start_offset()), (1, log.end_offset()));
        let (log, _) = open(&io, &config).await;
        assert_eq!(log.start_offset(), log.end_offset());
        assert!(log.end_offset() > Offset(100));
        log.delete().await.unwrap();
        assert!(!io.exists(&dir(0)).await);
    });
}

/// Goal: a quiet log rolls by age. Method: two appends a week apart by the caller's clock.
#[test]
fn a_segment_rolls_when_it_is_old() {
    sim::run(7, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        let now_ms = io.clock().now_ms();
        let one = batch(100, 1, 0, 0);
        log.append(&one, LeaderEpoch(0), now_ms).unwrap();
        log.append(&one, LeaderEpoch(0), now_ms + small().segment_ms).unwrap();
        assert_eq!(log.segments_count(), 1);
        log.append(&one, LeaderEpoch(0), now_ms + small().segment_ms + 1).unwrap();
        assert_eq!(log.segments_count(), 2);
    });
}

/// Goal: a log that rolls gives up its old segments at once and writes over them, so that all it
/// writes goes where data was before. Method: nobody calls for retention while it fills.
#[test]
fn a_rolling_log_writes_over_its_old_segments() {
    sim::run(8, |io, disk| async move {
        let config = LogConfig { retention_bytes: 100_000, retention_ms: -1, ..small() };
        let (log, _) = open(&io, &config).await;
        log.0.committer.begin_retention();
        let (mut files, mut before) = (0, Offset(-1));
        for at in 0..200 {
            put(&log, &batch(6_000, 1, 0, at)).await.expect("a healthy disk");
            io.sleep(Duration::from_millis(10)).await;
            let active = log.0.state.borrow().active().clone();
            if active.base_offset != before {
                before = active.base_offset;
                files += 1;
                let contents = disk.contents(&active.path(segment::LOG_SUFFIX)).unwrap();
                let is_recycled = contents[8_192..].iter().any(|byte| *byte != 0);
                assert!(files <= 4 || is_recycled, "segment {files} at {before}");
            }
        }
        assert!(files > 15, "{files} segments");
        assert!(log.bytes() < 100_000 + 2 * (64 << 10), "{} bytes are left", log.bytes());
        let found = read_from(&log, log.start_offset(), 9_999).await.unwrap();
        assert_eq!(found.last().map(|(offset, _)| *offset), Some(199));
        disk.crash(Crash::LoseUnsynced);
        let (log, recovery) = open(&io, &config).await;
        assert!(recovery.corrupt.is_empty(), "{:?}", recovery.corrupt);
        assert_eq!(read_from(&log, log.start_offset(), 9_999).await.unwrap(), found);
    });
}

/// Goal: a log that is held keeps its segments: a clean stop tells the next start which there are.
/// Method: hold it, look for old segments; let it go, look again.
#[test]
fn a_log_that_is_held_keeps_its_segments() {
    sim::run(25, |io, _disk| async move {
        let config = LogConfig { retention_bytes: 100_000, retention_ms: -1, ..small() };
        let (log, _) = open(&io, &config).await;
        fill(&log, 100).await;
        io.sleep(Duration::from_secs(1)).await;
        let segments_count = log.segments_count();
        log.0.held.set(true);
        log.set_config(LogConfig { retention_ms: 1, ..config.clone() });
        assert_eq!(log.apply_retention(1_000_000).await.unwrap(), 0);
        assert_eq!(log.segments_count(), segments_count);
        log.0.held.set(false);
        log.set_config(config);
        assert!(log.apply_retention(1_000_000).await.unwrap() > 2);
    });
}

/// Goal: retention never strands unwritten bytes. Method: an expired batch, retention before its
/// write, then wait for it.
#[test]
fn an_expired_segment_rolls_only_when_it_is_written() {
    sim::run(7, |io, _disk| async move {
        let config = LogConfig { retention_ms: 1_000, ..small() };
        let (log, _) = open(&io, &config).await;
        let appended = log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0).unwrap();
        let later_ms = io.clock().now_ms() + 1_000_000;
        log.apply_retention(later_ms).await.unwrap();
        assert_eq!(log.segments_count(), 1);
        let flushed = log.wait_flushed(appended.last_offset.plus(1));
        io.timeout(Duration::from_secs(5), flushed).await.expect("it is written").unwrap();
        log.apply_retention(later_ms).await.unwrap();
        assert_eq!(log.segments_count(), 2);
    });
}

fn records(codec: Codec, timestamps: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for &timestamp in timestamps {
        let value = Some(&b"a value of some length"[..]);
        builder.append(&NewRecord { timestamp, key: None, value, headers: &[] });
    }
    builder.finish()
}

/// Goal: a look-up by time finds the record, not only its batch. Method: batches of every codec
/// whose timestamps are known, over several segments, from memory and disk.
#[test]
fn the_first_record_at_or_after_a_time_is_found() {
    sim::run(8, |io, _disk| async move {
        let config = LogConfig { segment_bytes: 4_000, index_interval_bytes: 300, ..small() };
        let (log, _) = open(&io, &config).await;
        for at in 0..100_i64 {
            let codec = Codec::ALL[at as usize % Codec::ALL.len()];
            let base = at * 30;
            let one = records(codec, &[base, base + 20, base + 10]);
            let appended = log.append(&one, LeaderEpoch(at as i32 / 50), 1_000).unwrap();
            log.wait_flushed(appended.last_offset.plus(1)).await.unwrap();
        }
        for memory in [true, false] {
            if !memory {
                forget_memory(&log);
            }
            for at in (0..100_i64).step_by(7) {
                let found = log.offset_for_timestamp(at * 30 + 1).await.unwrap().unwrap();
                assert_eq!((found.offset, found.timestamp), (Offset(at * 3 + 1), at * 30 + 20));
                assert_eq!(found.epoch, LeaderEpoch(at as i32 / 50));
                let found = log.offset_for_timestamp(at * 30).await.unwrap().unwrap();
                assert_eq!((found.offset, found.timestamp), (Offset(at * 3), at * 30));
            }
            assert_eq!(log.offset_for_timestamp(99 * 30 + 21).await.unwrap(), None);
            let newest = log.max_timestamp_offset().await.unwrap().unwrap();
            assert_eq!((newest.offset, newest.timestamp), (Offset(99 * 3 + 1), 99 * 30 + 20));
        }
        assert_eq!(log.latest_epoch(), LeaderEpoch(1));
        assert_eq!(log.epoch_end_offset(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(150))));
        let (log, _) = open(&io, &config).await;
        assert_eq!(log.epoch_end_offset(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(150))));
    });
}

/// Goal: waiting is for what it says. Method: a watch and a flush wait around one append.
#[test]
fn waiters_wake_when_their_offset_is_safe() {
    sim::run(9, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        let watch = log.subscribe();
        let appended = log.append(&batch(100, 5, 0, 0), LeaderEpoch(0), 0).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(4)));
        assert_eq!((log.flushed_offset(), log.end_offset()), (Offset(0), Offset(5)));
        assert_eq!(watch.past(Offset(4)).await.unwrap(), Offset(5));
        assert_eq!(disk.unsynced_bytes(), 0);
        let soon = io.timeout(Duration::from_secs(1), watch.past(Offset(5))).await;
        assert!(soon.is_none());
        for _ in 0..1_000 {
            assert!(watch.past(Offset(5)).now_or_never().is_none());
            assert!(log.wait_flushed(Offset(6)).now_or_never().is_none());
        }
        assert_eq!(log.0.flush_wakers.waiting_count(), 0);
        assert!(log.has_room());
        log.wait_room().await;
    });
}

/// Goal: a relaxed log answers at once and flushes when due. Method: by time, then by records.
#[test]
fn a_relaxed_log_flushes_when_it_is_due() {
    sim::run(10, |io, disk| async move {
        let flush = FlushPolicy::Relaxed { messages: 10, ms: 5_000 };
        let (log, _) = open(&io, &LogConfig { flush, ..small() }).await;
        let appended = log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0).unwrap();
        assert_eq!(log.flushed_offset(), appended.last_offset.plus(1));
        io.sleep(Duration::from_secs(1)).await;
        assert!(disk.unsynced_bytes() > 0);
        io.sleep(Duration::from_secs(9)).await;
        assert_eq!(disk.unsynced_bytes(), 0);
        for _ in 0..12 {
            log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0).unwrap();
            io.sleep(Duration::from_millis(100)).await;
        }
        assert!(disk.unsynced_bytes() <= 2 * 4096);
        log.close_clean().await.unwrap();
        assert_eq!(disk.unsynced_bytes(), 0);
    });
}

/// Goal: garbage is refused whole. Method: cut and stretched batches.
#[test]
fn bytes_that_are_no_batches_are_not_appended() {
    sim::run(11, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        let good = batch(100, 1, 0, 0);
        for bad in [&good[..60], &good[..99], &[0; 200], &[&good[..], &[1, 2]].concat(), &[]] {
            let refused = log.append(bad, LeaderEpoch(0), 0);
            assert!(matches!(refused, Err(AppendError::Malformed(_))), "{refused:?}");
        }
        assert_eq!(log.end_offset(), Offset(0));
    });
}

/// Goal: many quiet logs cost little. Method: 200 logs with one batch each; count their buffers.
#[test]
fn a_quiet_log_holds_little_memory() {
    sim::run(12, |io, _disk| async move {
        let committer = committer(&io);
        let logs = open_many(&io, &committer, 200, &small()).await;
        for log in &logs {
            put(log, &batch(100, 1, 0, 0)).await.unwrap();
        }
        assert!(committer.tail_bytes() <= 200 * (16 << 10));
        io.sleep(Duration::from_secs(20)).await;
        committer.evict(usize::MAX);
        assert_eq!(committer.tail_bytes(), 0);
        for log in &logs {
            put(log, &batch(5_000, 1, 0, 9)).await.unwrap();
            assert_eq!(read_from(log, Offset(0), 100).await.unwrap().len(), 2);
        }
    });
}

/// Goal: asking for a time while the first batch waits for its flush ends, without a record.
/// Method: append and ask before the disk had its turn; the thread would spin for ever otherwise.
#[test]
fn a_time_is_looked_up_while_the_first_flush_is_under_way() {
    sim::run(9, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        log.append(&records(Codec::None, &[70]), LeaderEpoch(0), 0).unwrap();
        assert_eq!(log.offset_for_timestamp(0).await.unwrap(), None);
        log.wait_flushed(log.end_offset()).await.unwrap();
        let found = log.offset_for_timestamp(0).await.unwrap().unwrap();
        assert_eq!(found.offset, Offset(0));
    });
}

/// Goal: one log of a shard at a time writes zeroes ahead, or flushes them. Method: keep the turn
/// and append to two logs; give it back.
#[test]
fn zeroes_ahead_wait_for_their_turn() {
    sim::run(21, |io, _disk| async move {
        let committer = committer(&io);
        let logs = open_many(&io, &committer, 2, &LogConfig::default()).await;
        let are_ahead = || {
            let active = |log: &Log| log.0.state.borrow().active().clone();
            let is_ahead =
                |it: Rc<segment::Segment>| it.prepared_bytes.get() > it.end_bytes.get() + 4096;
            logs.iter().map(active).map(is_ahead).collect::<Vec<_>>()
        };
        let turn = committer.zeroing().take().await;
        for log in &logs {
            fill(log, 4).await;
        }
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!(are_ahead(), [false, false]);
        drop(turn);
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!(are_ahead(), [true, true]);
    });
}

/// Goal: a log that is closed writes no zeroes when its turn comes: who closes it waits. Method:
/// keep the turn, begin to close, give it back.
#[test]
fn a_log_that_closes_writes_no_zeroes() {
    sim::run(23, |io, _disk| async move {
        let (log, _) = open(&io, &LogConfig::default()).await;
        let committer = log.0.committer.clone();
        let turn = committer.zeroing().take().await;
        fill(&log, 4).await;
        let segment = log.0.state.borrow().active().clone();
        assert!(log.0.preparing.get());
        let mut closing = std::pin::pin!(log.close_clean());
        assert!(io.timeout(Duration::from_secs(1), &mut closing).await.is_none());
        assert!(log.0.held.get());
        drop(turn);
        closing.await.unwrap();
        assert_eq!(segment.zeroed.get(), (0, 0));
    });
}

/// Goal: readers together have the disk read a bounded number of pieces at once. Method: take all
/// turns, read from the disk; give one back.
#[test]
fn cold_reads_wait_for_their_turn() {
    sim::run(22, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        fill(&log, 50).await;
        forget_memory(&log);
        let committer = log.0.committer.clone();
        let turns = committer.read_cache().turns();
        let mut taken = Vec::new();
        while let Some(turn) = turns.take().now_or_never() {
            taken.push(turn);
        }
        assert!(taken.len() > 1, "one piece at a time would let the disk idle");
        let mut read = std::pin::pin!(read_from(&log, Offset(0), 100_000));
        assert!(io.timeout(Duration::from_secs(1), &mut read).await.is_none());
        taken.pop();
        assert_eq!(read.await.unwrap().len(), 50);
    });
}

/// Goal: a log whose write changed metadata is written again only after its flush, with all that
/// came meanwhile. Method: large appends to a new file, faster than the disk takes them.
#[test]
fn a_growing_file_gets_one_write_a_flush() {
    sim::run(24, |io, _disk| async move {
        let (log, _) = open(&io, &LogConfig::default()).await;
        let metrics = log.0.committer.metrics();
        for at in 0..60 {
            log.append(&batch(400_000, 1, 0, at), LeaderEpoch(0), 1_000).expect("there is room");
            io.sleep(Duration::from_micros(50)).await;
        }
        log.wait_flushed(Offset(60)).await.unwrap();
        let (writes, flushes) = (metrics.writes.get(), metrics.flushes.get());
        assert!(writes > 3, "{writes} writes");
        assert_eq!(writes, flushes);
    });
}
