//! Small appends of several logs through the journal, and what is left of them when things go
//! wrong.

use super::*;
use crate::io::sim::{self, Crash, SimDisk};
use std::time::Duration;

const LOGS_COUNT: usize = 3;
const RING_BYTES: u64 = 1 << 20;

fn journal_path() -> PathBuf {
    PathBuf::from("/data/shard-0.journal")
}

async fn open_logs(io: &Io, committer: &Committer) -> Vec<Log> {
    open_many(io, committer, LOGS_COUNT, &small()).await
}

/// Appends one small batch to each log, and waits until all are safe.
async fn append_to_all(logs: &[Log], fill: u8) -> Result<(), FlushError> {
    let mut waits = Vec::new();
    for log in logs {
        let one = batch(200, 1, 0, fill);
        let appended = log.append(&one, LeaderEpoch(0), 0).expect("there is room");
        waits.push(log.wait_flushed(appended.last_offset.plus(1)));
    }
    let ends = futures_util::future::join_all(waits).await;
    ends.into_iter().collect()
}

/// Logs that have used the journal for a while: `count` batches each.
async fn journaled(io: &Io, count: u8) -> (Committer, Vec<Log>) {
    let committer = journaling(io, RING_BYTES).await;
    let logs = open_logs(io, &committer).await;
    // The first rounds say that a journal is wanted, and it takes a while to make.
    for fill in 0..count {
        append_to_all(&logs, fill).await.expect("the disk works");
        io.sleep(Duration::from_millis(if fill < 4 { 20 } else { 0 })).await;
    }
    (committer, logs)
}

fn behind_bytes(log: &Log) -> u64 {
    log.0.state.borrow().behind_bytes()
}

/// How many rounds there were.
fn journal_rounds(committer: &Committer) -> u64 {
    committer.journal().expect("it was given one").rounds_count()
}

async fn assert_holds(log: &Log, fills: impl Iterator<Item = u8>) {
    let wanted: Vec<Body> = fills.map(|fill| body(&batch(200, 1, 0, fill))).collect();
    let found = read_from(log, Offset(0), 10_000).await.expect("all of it can be read");
    assert_eq!(found.len(), wanted.len());
    for (at, (offset, bytes)) in found.iter().enumerate() {
        assert_eq!((*offset, body(bytes)), (at as i64, wanted[at]));
    }
}

/// Goal: one write and one flush serve several logs, and a crash right after keeps what they
/// acknowledged. Method: count them; lose all that was not flushed; look where it came from.
#[test]
fn a_round_is_one_write_and_outlives_a_crash() {
    sim::run(1, |io, disk| async move {
        let (committer, logs) = journaled(&io, 40).await;
        let before = (committer.metrics().writes.get(), committer.metrics().flushes.get());
        append_to_all(&logs, 40).await.unwrap();
        let after = (committer.metrics().writes.get(), committer.metrics().flushes.get());
        assert_eq!(after, (before.0 + 1, before.1 + 1));
        assert!(logs.iter().all(|log| behind_bytes(log) > 0), "segments come later");
        disk.crash(Crash::LoseUnsynced);
        let data_dir = PathBuf::from("/data");
        let redone = redo(&io, &data_dir).await.expect("the disk works");
        assert!(redone.rounds > 30 && redone.bytes > 30 * 3 * 200, "{redone:?}");
        assert!(disk.contents(&journal_path()).is_none(), "its work is done");
        assert_eq!(redo(&io, &data_dir).await.unwrap(), Redone::default());
        let committer = super::committer(&io);
        for log in open_logs(&io, &committer).await {
            assert_holds(&log, 0..41).await;
        }
    });
}

/// Goal: a log that is alone gets rounds of its own, which count for nothing but themselves: a ring
/// that is written over and over loses nothing. Method: small appends one after the other, as many
/// as fill the ring twice; lose all that was not flushed.
#[test]
fn a_lone_log_is_written_through() {
    sim::run(8, |io, disk| async move {
        let committer = journaling(&io, RING_BYTES).await;
        let (log, _) = open_at(&io, &committer, &dir(0), &small()).await.unwrap();
        for fill in 0..20 {
            put(&log, &batch(200, 1, 0, fill)).await.unwrap();
            io.sleep(Duration::from_millis(20)).await;
        }
        let metrics = committer.metrics();
        let before = (metrics.writes.get(), metrics.flushes.get());
        put(&log, &batch(200, 1, 0, 20)).await.unwrap();
        assert_eq!((metrics.writes.get(), metrics.flushes.get()), (before.0 + 1, before.1 + 1));
        assert!(behind_bytes(&log) > 0, "its segment comes later");
        for at in 21..600 {
            put(&log, &batch(200, 1, 0, at as u8)).await.unwrap();
        }
        assert!(journal_rounds(&committer) > 2 * RING_BYTES / 4_096);
        disk.crash(Crash::LoseUnsynced);
        redo(&io, Path::new("/data")).await.expect("the disk works");
        let (log, _) = open_at(&io, &super::committer(&io), &dir(0), &small()).await.unwrap();
        assert_holds(&log, (0..600).map(|at| at as u8)).await;
    });
}

/// Goal: segments get what the journal has, in few writes, and reads find it everywhere. Method:
/// append more than a write's worth; read from memory and, without it, from the files.
#[test]
fn segments_follow_behind_in_larger_writes() {
    sim::run(2, |io, _disk| async move {
        let (committer, logs) = journaled(&io, 10).await;
        let before = committer.metrics().writes.get();
        for fill in 10..250 {
            append_to_all(&logs, fill).await.unwrap();
        }
        let writes = committer.metrics().writes.get() - before;
        assert!((240..260).contains(&writes), "{writes} writes for 240 rounds");
        // A log that went quiet is brought to its file by itself.
        io.sleep(Duration::from_secs(20)).await;
        for log in &logs {
            assert_eq!(log.0.state.borrow().dirty_bytes(), 0);
            assert_holds(log, 0..250).await;
            forget_memory(log);
            assert_holds(log, 0..250).await;
        }
    });
}

/// Goal: a clean stop leaves no journal, and one that could not close all keeps it. Method: close
/// all logs; close all but one.
#[test]
fn a_clean_stop_needs_no_journal() {
    for closes_all in [true, false] {
        sim::run(3, |io, disk| async move {
            let (committer, logs) = journaled(&io, 20).await;
            for log in logs.iter().skip(usize::from(!closes_all)) {
                log.close_clean().await.expect("it closes");
            }
            committer.end_journal().await.expect("the disk works");
            assert_eq!(disk.contents(&journal_path()).is_none(), closes_all);
            disk.crash(Crash::LoseUnsynced);
            let committer = journaling(&io, RING_BYTES).await;
            for log in open_logs(&io, &committer).await {
                assert_holds(&log, 0..20).await;
            }
        });
    }
}

/// Goal: who closes logs waits for the disk only, not for them to become quiet. Method: append,
/// close all at once, look at the clock of the simulation.
#[test]
fn a_stop_waits_for_no_quiet() {
    sim::run(70, |io, _disk| async move {
        let (_committer, logs) = journaled(&io, 30).await;
        for log in &logs {
            log.append(&batch(200, 1, 0, 30), LeaderEpoch(0), 0).expect("there is room");
        }
        let began = io.clock().monotonic();
        let closing = logs.iter().map(|log| log.close_clean());
        for closed in futures_util::future::join_all(closing).await {
            closed.expect("it closes");
        }
        let took = io.clock().monotonic() - began;
        assert!(took < Duration::from_millis(50), "{took:?}");
    });
}

/// Breaks the disk, appends, and opens the fenced logs anew until all is well.
async fn fail_and_reopen(io: &Io, disk: &SimDisk, fail: impl Fn(&SimDisk)) {
    let (committer, logs) = journaled(io, 20).await;
    fail(disk);
    append_to_all(&logs, 77).await.expect_err("the disk refused");
    let mut reopened = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        assert!(log.fenced().is_some() && !log.is_busy());
        let opened = open_at(io, &committer, &dir(number), &small()).await;
        reopened.push(opened.expect("the disk is well again").0);
    }
    for log in &reopened {
        assert!(log.end_offset() >= Offset(20), "acknowledged records are gone");
        log.truncate_to(Offset(20)).await.expect("it can be cut");
    }
    for fill in 20..30 {
        append_to_all(&reopened, fill).await.expect("the disk works");
    }
    for log in &reopened {
        assert_holds(log, 0..30).await;
    }
    disk.crash(Crash::LoseUnsynced);
    let committer = journaling(io, RING_BYTES).await;
    for log in open_logs(io, &committer).await {
        assert_holds(&log, 0..30).await;
    }
}

/// Goal: after a failed write or flush of the journal nothing acknowledged is lost, then or at the
/// next crash. Method: fail either; open the logs anew, cut, append, crash.
#[test]
fn a_failed_round_fences_and_loses_nothing() {
    sim::run(4, |io, disk| async move {
        fail_and_reopen(&io, &disk, SimDisk::fail_next_write).await;
    });
    sim::run(5, |io, disk| async move {
        fail_and_reopen(&io, &disk, SimDisk::fail_next_sync).await;
    });
}

/// Goal: a log whose write behind the journal failed finds all of it when it is opened anew.
/// Method: fail that write; open; read.
#[test]
fn a_failed_write_behind_is_redone() {
    sim::run(6, |io, disk| async move {
        let (committer, logs) = journaled(&io, 30).await;
        disk.fail_next_write();
        committer.write_behind_soon(&logs[1].0);
        io.sleep(Duration::from_millis(50)).await;
        assert!(logs[1].fenced().is_some() && logs[0].fenced().is_none());
        let opened = open_at(&io, &committer, &dir(1), &small()).await.expect("it opens");
        assert_holds(&opened.0, 0..30).await;
        let logs = [logs[0].clone(), opened.0, logs[2].clone()];
        for fill in 30..60 {
            append_to_all(&logs, fill).await.unwrap();
        }
        disk.crash(Crash::LoseUnsynced);
        let committer = journaling(&io, RING_BYTES).await;
        for log in open_logs(&io, &committer).await {
            assert_holds(&log, 0..60).await;
        }
    });
}

/// Goal: what was cut does not come back. Method: cut, append other records there, crash.
#[test]
fn a_cut_outlives_the_journal() {
    for crash in [Crash::LoseUnsynced, Crash::KeepAll] {
        sim::run(7, |io, disk| async move {
            let (_committer, logs) = journaled(&io, 30).await;
            logs[0].truncate_to(Offset(12)).await.expect("it can be cut");
            for fill in 100..103 {
                put(&logs[0], &batch(200, 1, 0, fill)).await.unwrap();
            }
            disk.crash(crash);
            let committer = journaling(&io, RING_BYTES).await;
            let logs = open_logs(&io, &committer).await;
            assert_holds(&logs[0], (0..12).chain(100..103)).await;
            assert_holds(&logs[1], 0..30).await;
        });
    }
}

/// Goal: a topic of a deleted one's name gets nothing of it. Method: delete, create, crash.
#[test]
fn a_deleted_topics_rounds_are_nobodys() {
    sim::run(8, |io, disk| async move {
        let (committer, logs) = journaled(&io, 30).await;
        logs[0].delete().await.expect("it goes");
        let open = OpenLog { dir: dir(0), topic_id: TopicId(8), config: small(), clean: None };
        let (log, _) = Log::open(&io, &committer, open.clone()).await.expect("it opens");
        put(&log, &batch(200, 1, 0, 9)).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let committer = journaling(&io, RING_BYTES).await;
        let (log, _) = Log::open(&io, &committer, open).await.expect("it opens");
        assert_holds(&log, 9..10).await;
    });
}

/// Goal: a full disk takes back what waits, never what a round holds. Method: fill it, append what
/// needs more space, crash.
#[test]
fn a_full_disk_keeps_what_rounds_hold() {
    sim::run(9, |io, disk| async move {
        let (_committer, logs) = journaled(&io, 30).await;
        disk.out_of_space(true);
        let large = batch(50_000, 1, 0, 3);
        let mut acked = 30;
        while put(&logs[0], &large).await.is_ok() {
            acked += 1;
        }
        assert_eq!(logs[0].end_offset(), Offset(acked), "what waited was taken back");
        disk.out_of_space(false);
        append_to_all(&logs, 30).await.expect("there is room again");
        disk.crash(Crash::LoseUnsynced);
        let committer = journaling(&io, RING_BYTES).await;
        let logs = open_logs(&io, &committer).await;
        assert_eq!(logs[0].end_offset(), Offset(acked + 1));
        assert_holds(&logs[1], 0..31).await;
    });
}

/// Goal: a write that went past one behind the journal is acknowledged, whichever is flushed first.
/// Method: keep the older one unflushed, write a large batch directly, ask for the older's flush.
#[test]
fn an_older_flush_takes_nothing_back() {
    for seed in 10..100 {
        sim::run(seed, |io, _disk| async move {
            let (committer, logs) = journaled(&io, 30).await;
            committer.write_behind_soon(&logs[0].0);
            while behind_bytes(&logs[0]) > 0 {
                io.sleep(Duration::from_micros(1)).await;
            }
            let large = batch(20_000, 1, 0, 3);
            let appended = logs[0].append(&large, LeaderEpoch(0), 0).expect("there is room");
            let safe = logs[0].wait_flushed(appended.last_offset.plus(1));
            io.sleep(Duration::from_micros(seed * 10)).await;
            committer.flush_behind();
            let outcome = io.timeout(Duration::from_secs(1), safe).await;
            outcome.expect("it is acknowledged in time").expect("the disk works");
            io.sleep(Duration::from_millis(10)).await; // the older one has ended, too
            let closed = io.timeout(Duration::from_secs(1), logs[0].close_clean()).await;
            closed.expect("all of it is known to be flushed").expect("the disk works");
        });
    }
}

/// Goal: what a relaxed policy left unflushed does not tear what is safe behind it. Method: change
/// the policy between the two, lose all that was not flushed.
#[test]
fn a_stricter_policy_begins_with_a_flush() {
    sim::run(50, |io, disk| async move {
        let (_committer, logs) = journaled(&io, 30).await;
        let relaxed = FlushPolicy::Relaxed { messages: 1_000_000, ms: 1_000_000 };
        // Beyond what is prepared, so that no other file's flush covers it.
        let larger = LogConfig { segment_bytes: 1 << 20, ..small() };
        logs[0].set_config(LogConfig { flush: relaxed, ..larger.clone() });
        put(&logs[0], &batch(90_000, 1, 0, 7)).await.unwrap();
        while logs[0].0.state.borrow().dirty_bytes() > 0 {
            io.sleep(Duration::from_micros(1)).await;
        }
        logs[0].set_config(larger);
        // Once and no more: zeroes ahead end in a flush, too.
        append_to_all(&logs, 30).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let committer = journaling(&io, RING_BYTES).await;
        let logs = open_logs(&io, &committer).await;
        assert_eq!(logs[0].end_offset(), Offset(32));
    });
}

/// Goal: a journal that cannot be told from a client's bytes is no empty one. Method: damage its
/// first block before a start, and mend it.
#[test]
fn a_damaged_first_block_is_no_empty_journal() {
    sim::run(60, |io, disk| async move {
        journaled(&io, 30).await;
        disk.crash(Crash::LoseUnsynced);
        disk.corrupt(&journal_path(), 20..21);
        let error = redo(&io, Path::new("/data")).await.expect_err("records are in there");
        assert!(error.to_string().contains("names no journal"), "{error}");
        assert!(disk.contents(&journal_path()).is_some(), "it stays");
        disk.corrupt(&journal_path(), 20..21);
        assert!(redo(&io, Path::new("/data")).await.expect("it is whole again").rounds > 0);
    });
}

/// Goal: zeroes behind what only the journal holds count, and are not written again. Method: have
/// them there and have the log looked at; then without them.
#[test]
fn zeroes_behind_journaled_records_are_written_once() {
    sim::run(70, |io, _disk| async move {
        let committer = journaling(&io, RING_BYTES).await;
        let config = LogConfig { segment_bytes: 8 << 20, ..small() };
        let (log, _) = open_at(&io, &committer, &dir(0), &config).await.unwrap();
        for _ in 0..6 {
            put(&log, &batch(200, 1, 0, 7)).await.unwrap();
        }
        io.sleep(Duration::from_secs(1)).await;
        let segment = log.0.state.borrow().active().clone();
        assert!(!log.0.preparing.get() && segment.prepared_bytes.get() > segment.end_bytes.get());
        let end = segment.end_bytes.get().next_multiple_of(4096);
        segment.prepared_bytes.set(0); // as if the segment had nothing yet
        segment.zeroed.set((end, end + (1 << 20)));
        prepare::consider(&log.0, &segment);
        assert!(!log.0.preparing.get());
        segment.zeroed.set((end, end + 4096)); // fewer than usual, but up to the segment's size
        log.set_config(LogConfig { segment_bytes: end + 4096, ..config.clone() });
        prepare::consider(&log.0, &segment);
        assert!(!log.0.preparing.get());
        log.set_config(config);
        segment.zeroed.set((0, 0));
        prepare::consider(&log.0, &segment);
        assert!(log.0.preparing.get());
        io.sleep(Duration::from_secs(1)).await;
        assert!(!log.0.preparing.get() && segment.zeroed.get().0 >= end);
    });
}
