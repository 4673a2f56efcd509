//! What a log does when the disk fails it.

use super::*;
use crate::io::sim::{self, Crash};
use std::time::Duration;

/// Goal: no cut of the last write loses what was acknowledged. Method: cut it at every 512 bytes.
#[test]
fn a_torn_tail_is_cut_at_every_512_bytes() {
    for sector in 0..=40_u64 {
        sim::run(sector, |io, disk| async move {
            let (log, _) = open(&io, &small()).await;
            let mut wanted = Vec::new();
            for at in 0..7 {
                let one = batch(900 + at * 531, 1, 0, at as u8);
                put(&log, &one).await.unwrap();
                wanted.push(body(&one));
            }
            let unsafe_ones: Vec<_> = (0..4).map(|at| batch(3_100, 1, 0, 50 + at)).collect();
            for one in &unsafe_ones {
                log.append(one, LeaderEpoch(0), 0).unwrap();
            }
            while disk.unsynced_bytes() == 0 {
                io.yield_now().await;
            }
            disk.crash(Crash::TornAt { bytes: sector * 512 });
            let (log, recovery) = open(&io, &small()).await;
            assert_eq!(recovery.corrupt, [], "sector {sector}");
            let found = read_from(&log, Offset(0), 5_000).await.unwrap();
            wanted.extend(unsafe_ones.iter().map(|one| body(one)));
            assert!(found.len() >= 7, "sector {sector}: {} left", found.len());
            for (at, (offset, bytes)) in found.iter().enumerate() {
                assert_eq!((*offset, body(bytes)), (at as i64, wanted[at]));
            }
            // What was cut stays gone, whatever is appended over it.
            put(&log, &batch(70, 1, 0, 99)).await.unwrap();
            let (log, recovery) = open(&io, &small()).await;
            assert_eq!(recovery.corrupt, []);
            assert_eq!(log.end_offset(), Offset(found.len() as i64 + 1));
        });
    }
}

/// Goal: files go only once the disk knows that the log starts behind them. Method: fail the
/// checkpoint of a retention; look at the files, crash, try again.
#[test]
fn a_checkpoint_that_fails_keeps_old_segments() {
    for crashes in [false, true] {
        sim::run(5, |io, disk| async move {
            let config = LogConfig { retention_bytes: 100_000, retention_ms: -1, ..small() };
            let (mut log, _) = open(&io, &config).await;
            for at in 0..60 {
                put(&log, &batch(5_000, 1, 0, at)).await.unwrap();
            }
            io.sleep(Duration::from_secs(1)).await;
            let first = segment::path_of(&dir(0), Offset(0), segment::LOG_SUFFIX);
            let segments_count = log.segments_count();
            disk.fail_next_write();
            log.apply_retention(0).await.expect_err("the disk refused");
            io.sleep(Duration::from_secs(1)).await;
            assert!(disk.contents(&first).is_some(), "nothing goes");
            assert_eq!(log.segments_count(), segments_count);
            if crashes {
                disk.crash(Crash::KeepAll);
                (log, _) = open(&io, &config).await;
                assert_eq!(log.start_offset(), Offset(0));
                assert_eq!(read_from(&log, Offset(0), 9_999).await.unwrap().len(), 60);
            }
            let removed = log.apply_retention(0).await.expect("the disk is well again");
            assert!(removed > 1, "{removed}");
            assert_eq!(log.segments_count(), segments_count - removed);
            io.sleep(Duration::from_secs(1)).await;
            assert!(disk.contents(&first).is_none());
            let start = log.start_offset();
            let kept = read_from(&log, start, 9_999).await.unwrap();
            assert_eq!(kept.len() as i64, 60 - start.0);
        });
    }
}

/// Goal: after a failed write or flush nothing is acknowledged, others go on, and reopening serves
/// what is durable. Method: fail one; append to it and to another log; reopen.
#[test]
fn a_failed_write_or_flush_fences_the_log() {
    for (seed, flush) in [(1, true), (2, false), (3, true), (4, false)] {
        sim::run(seed, |io, disk| async move {
            let committer = committer(&io);
            let (log, _) = open_at(&io, &committer, &dir(0), &small()).await.unwrap();
            let (other, _) = open_at(&io, &committer, &dir(1), &small()).await.unwrap();
            for at in 0..20 {
                put(&log, &batch(1_000, 1, 0, at)).await.unwrap();
            }
            if flush {
                disk.fail_next_sync();
            } else {
                disk.fail_next_write();
            }
            let failed = put(&log, &batch(20_000, 1, 0, 77)).await;
            assert!(matches!(failed, Err(FlushError::Fenced(_))), "{failed:?}");
            let refused = log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0);
            assert!(matches!(refused, Err(AppendError::Fenced(_))));
            assert_eq!(log.flushed_offset(), Offset(20));
            assert_eq!(read_from(&log, Offset(0), 5_000).await.unwrap().len(), 20);
            put(&other, &batch(100, 1, 0, 0)).await.unwrap();
            assert!(committer.has_room());
            drop(log);
            disk.crash(Crash::LoseUnsynced);
            let (log, recovery) = open(&io, &small()).await;
            assert_eq!(recovery.corrupt, []);
            assert_eq!(log.end_offset(), Offset(20));
            put(&log, &batch(100, 1, 0, 0)).await.unwrap();
        });
    }
}

/// Goal: a shared flush that fails fences every log of its group. Method: eight logs at once.
#[test]
fn a_failed_shared_flush_fences_the_whole_group() {
    sim::run(5, |io, disk| async move {
        let committer = committer(&io);
        let logs = open_many(&io, &committer, 8, &small()).await;
        for log in &logs {
            for _ in 0..4 {
                put(log, &batch(100, 1, 0, 0)).await.unwrap();
            }
        }
        io.sleep(Duration::from_secs(1)).await;
        disk.fail_next_sync();
        let mut waits = Vec::new();
        for log in &logs {
            log.append(&batch(100, 1, 0, 0), LeaderEpoch(0), 0).unwrap();
            waits.push(log.wait_flushed(Offset(5)));
        }
        let results = futures_util::future::join_all(waits).await;
        let failed_count = results.iter().filter(|result| result.is_err()).count();
        assert!(failed_count > 0);
        for (log, result) in logs.iter().zip(&results) {
            assert_eq!(log.fenced().is_some(), result.is_err());
            assert_eq!(log.flushed_offset(), Offset(if result.is_err() { 4 } else { 5 }));
        }
        disk.crash(Crash::LoseUnsynced);
        for (number, result) in results.iter().enumerate() {
            let (log, _) = open_at(&io, &committer, &dir(number), &small()).await.unwrap();
            assert!(log.end_offset() >= Offset(if result.is_ok() { 5 } else { 4 }));
        }
    });
}

/// Goal: damage before valid batches is kept, fenced and named, before and after a restart; the
/// rest is served. Method: turn over one byte of each class, in closed and open segments.
#[test]
fn damage_in_the_middle_is_fenced_and_kept() {
    for (case, at_byte) in
        [0_u64, 3, 8, 11, 16, 18, 25, 40, 60, 61, 300, 499].into_iter().enumerate()
    {
        for restart in [false, true] {
            sim::run(case as u64, |io, disk| async move {
                let (mut log, _) = open(&io, &small()).await;
                for at in 0..60 {
                    put(&log, &batch(500, 2, at, at as u8)).await.unwrap();
                }
                forget_memory(&log);
                let victim = 20 * 500 + at_byte;
                let path = segment::path_of(&dir(0), Offset(0), segment::LOG_SUFFIX);
                disk.corrupt(&path, victim..victim + 1);
                if restart {
                    disk.crash(Crash::KeepAll);
                    let recovery;
                    (log, recovery) = open(&io, &small()).await;
                    assert_eq!(recovery.corrupt.len(), 1, "byte {at_byte}");
                }
                let before = read_from(&log, Offset(0), 1_000).await;
                let damaged = ReadError::Corrupt { start: Offset(40), end: Offset(42) };
                assert_eq!(before, Err(damaged.clone()), "byte {at_byte}, restart {restart}");
                let read = log.read(Offset(0), 100_000, Offset(120), true).await.unwrap();
                assert_eq!((read.bytes, read.next_offset), (10_000, Offset(40)));
                for inside in [40, 41] {
                    let read = log.read(Offset(inside), 100, Offset(120), true).await;
                    assert_eq!(read.err(), Some(damaged.clone()));
                }
                assert_eq!(read_from(&log, Offset(42), 700).await.unwrap().len(), 39);
                let (log, _) = open(&io, &small()).await;
                assert_eq!(log.corrupt_ranges().len(), 1);
                assert_eq!(log.end_offset(), Offset(120));
                assert_eq!(read_from(&log, Offset(42), 700).await.unwrap().len(), 39);
                put(&log, &batch(500, 2, 0, 0)).await.unwrap();
            });
        }
    }
}

/// Goal: a full disk costs the records under way and nothing else. Method: fill, read and cut
/// meanwhile, make room, go on, restart.
#[test]
fn appends_resume_when_space_returns() {
    sim::run(6, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        let mut wanted = 0;
        for at in 0..10 {
            put(&log, &batch(1_000, 1, 0, at)).await.unwrap();
            wanted += 1;
        }
        disk.out_of_space(true);
        let mut refused_count = 0;
        for at in 0..300 {
            match put(&log, &batch(1_000, 1, 0, at as u8)).await {
                Ok(appended) => {
                    assert_eq!(appended.base_offset, Offset(wanted));
                    wanted += 1;
                }
                Err(error) => {
                    assert_eq!(error, FlushError::NoSpace);
                    refused_count += 1;
                }
            }
        }
        assert!(refused_count > 100, "{refused_count}");
        assert_eq!(log.end_offset(), Offset(wanted));
        assert_eq!(read_from(&log, Offset(0), 3_000).await.unwrap().len() as i64, wanted);
        disk.out_of_space(false);
        for at in 0..100 {
            let appended = put(&log, &batch(1_500, 1, 0, at)).await.unwrap();
            assert_eq!(appended.base_offset, Offset(wanted));
            wanted += 1;
        }
        forget_memory(&log);
        assert_eq!(read_from(&log, Offset(0), 3_000).await.unwrap().len() as i64, wanted);
        let (log, recovery) = open(&io, &small()).await;
        assert_eq!((recovery.corrupt, log.end_offset()), (Vec::new(), Offset(wanted)));
    });
}

/// Goal: a directory of another topic is left alone. Method: open under another id.
#[test]
fn a_log_of_another_topic_is_refused() {
    sim::run(7, |io, _disk| async move {
        let (log, _) = open(&io, &small()).await;
        drop(log);
        let topic_id = TopicId(8);
        let other = OpenLog { dir: dir(0), topic_id, config: small(), clean: None };
        let refused = Log::open(&io, &committer(&io), other).await;
        assert!(matches!(refused, Err(StorageError::ForeignTopic { .. })));
    });
}

/// Goal: a full disk fails only who waits for what it took. Method: a write that fits the space
/// made ready and waits for its flush, behind it one that does not; many timings.
#[test]
fn a_full_disk_takes_only_what_was_not_written() {
    for seed in 0..40 {
        sim::run(seed, |io, disk| async move {
            let config = LogConfig { segment_bytes: 1 << 20, ..small() };
            let (log, _) = open(&io, &config).await;
            put(&log, &batch(300_000, 1, 0, 0)).await.unwrap();
            disk.out_of_space(true);
            let waits = [(300_000, 1), (600_000, 2)].map(|(bytes, offset)| {
                log.append(&batch(bytes, 1, 0, 0), LeaderEpoch(0), 0).unwrap();
                log.wait_flushed(Offset(offset + 1))
            });
            let results = futures_util::future::join_all(waits).await;
            assert_eq!(results, [Ok(()), Err(FlushError::NoSpace)], "seed {seed}");
            assert_eq!((log.flushed_offset(), log.end_offset()), (Offset(2), Offset(2)));
        });
    }
}

/// Goal: closing a log does not wait for room. Method: acknowledge records under a relaxed policy
/// until the disk is full, close; make room, close again.
#[test]
fn closing_on_a_full_disk_ends() {
    sim::run(8, |io, disk| async move {
        let flush = FlushPolicy::Relaxed { messages: 1_000_000, ms: 60_000 };
        let (log, _) = open(&io, &LogConfig { flush, ..small() }).await;
        put(&log, &batch(1_000, 1, 0, 0)).await.unwrap();
        disk.out_of_space(true);
        let mut acked_count = 1;
        while log.append(&batch(10_000, 1, 0, 0), LeaderEpoch(0), 0).is_ok() {
            acked_count += 1;
            io.sleep(Duration::from_millis(10)).await;
        }
        let closed = io.timeout(Duration::from_secs(60), log.close_clean()).await;
        assert!(matches!(closed, Some(Err(StorageError::NoSpace { .. }))), "{closed:?}");
        disk.out_of_space(false);
        let closed = log.close_clean().await.unwrap();
        assert_eq!(closed.segments.last().unwrap().end_offset, Offset(acked_count));
    });
}

/// Goal: what is on a full disk can be read after a crash. Method: open there, read, make room, go
/// on.
#[test]
fn a_log_opens_on_a_full_disk() {
    sim::run(9, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        for at in 0..200 {
            put(&log, &batch(1_000, 1, 0, at)).await.unwrap();
        }
        disk.crash(Crash::LoseUnsynced);
        disk.out_of_space(true);
        let (log, recovery) = open(&io, &small()).await;
        assert_eq!(recovery.corrupt, []);
        assert_eq!(read_from(&log, Offset(0), 5_000).await.unwrap().len(), 200);
        disk.out_of_space(false);
        put(&log, &batch(1_000, 1, 0, 0)).await.unwrap();
        let (log, _) = open(&io, &small()).await;
        assert_eq!(read_from(&log, Offset(0), 5_000).await.unwrap().len(), 201);
    });
}

/// Goal: a cut that is given up leaves a log that works or one that says that it does not. Method:
/// give it up ever later; append, close, open again.
#[test]
fn a_cut_that_is_given_up_holds_nothing() {
    let mut fenced_count = 0;
    for micros in (0..3_000).step_by(50) {
        fenced_count += sim::run(micros, |io, _disk| async move {
            let (log, _) = open(&io, &small()).await;
            for at in 0..100 {
                put(&log, &batch(1_000, 1, 0, at)).await.unwrap();
            }
            let patience = Duration::from_micros(micros);
            let cut = io.timeout(patience, log.truncate_to(Offset(5))).await;
            if log.fenced().is_none() {
                let next = log.end_offset();
                let put = io.timeout(Duration::from_secs(9), put(&log, &batch(99, 1, 0, 0))).await;
                assert_eq!(put.expect("it is not held").unwrap().base_offset, next);
                return 0;
            }
            assert!(cut.is_none(), "a cut that was done fences nothing");
            let (log, _) = open(&io, &small()).await;
            assert!(log.end_offset() >= Offset(5));
            put(&log, &batch(99, 1, 0, 0)).await.unwrap();
            1
        });
    }
    assert!(fenced_count > 0, "no cut was given up halfway");
}

/// Overwrites bytes of the first segment's file, as a bad disk does.
async fn damage(io: &Io, disk: &sim::SimDisk, position: usize, bytes: &[u8]) {
    let path = segment::path_of(&dir(0), Offset(0), segment::LOG_SUFFIX);
    let mut contents = disk.contents(&path).expect("the segment's file");
    contents[position..position + bytes.len()].copy_from_slice(bytes);
    io.replace_file(&path, contents).await.expect("the disk has room");
}

/// Goal: a base offset that fell, which no checksum covers, is damage and no end of the log.
/// Method: lower one in the middle, open after a crash.
#[test]
fn a_base_offset_that_fell_is_damage() {
    sim::run(10, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        for at in 0..60 {
            put(&log, &batch(500, 2, at, at as u8)).await.unwrap();
        }
        disk.crash(Crash::KeepAll);
        damage(&io, &disk, 20 * 500, &8_i64.to_be_bytes()).await;
        let (log, recovery) = open(&io, &small()).await;
        let range = recovery.corrupt.first().expect("the damaged batch");
        assert_eq!((recovery.corrupt.len(), range.start, range.end), (1, Offset(40), Offset(42)));
        assert_eq!(log.end_offset(), Offset(120));
        assert_eq!(read_from(&log, Offset(42), 700).await.unwrap().len(), 39);
    });
}

/// Goal: a batch in a record's value is never taken for one of the log. Method: values that hold
/// batches with offsets near, far and farther than an index reaches; damage the length of the batch
/// around them and another field of it, with more damage behind and without; after a crash and
/// without one.
#[test]
fn a_batch_in_a_value_is_no_batch_of_the_log() {
    let fields: [(usize, &[u8]); 2] = [(8, &[0, 0, 4]), (30, &[9])];
    for inner_offset in [43_i64, 1_000, 1 << 40] {
        for (at, bytes) in fields {
            for (more_damage, crash) in [(false, true), (true, true), (false, false)] {
                sim::run(11, |io, disk| async move {
                    let (log, _) = open(&io, &small()).await;
                    for number in 0..60 {
                        let mut one = batch(500, 2, number, number as u8);
                        if number == 20 {
                            let mut inner = batch(90, 1, 0, 3);
                            inner[..8].copy_from_slice(&inner_offset.to_be_bytes());
                            let mut next = inner.clone();
                            next[..8].copy_from_slice(&(inner_offset + 1).to_be_bytes());
                            one[100..190].copy_from_slice(&inner);
                            one[190..280].copy_from_slice(&next);
                            let crc = crc32c::crc32c(&one[21..]);
                            one[17..21].copy_from_slice(&crc.to_be_bytes());
                        }
                        put(&log, &one).await.unwrap();
                    }
                    let mut log = log;
                    forget_memory(&log);
                    damage(&io, &disk, 20 * 500 + at, bytes).await;
                    if more_damage {
                        damage(&io, &disk, 30 * 500 + 100, &[1; 9]).await;
                    }
                    if crash {
                        disk.crash(Crash::KeepAll);
                        io.remove_file(&dir(0).join(checkpoint::CHECKPOINT_NAME)).await.unwrap();
                        log = open(&io, &small()).await.0;
                    } else {
                        log.0.state.borrow().active().forget_file();
                    }
                    let case = (inner_offset, at, more_damage, crash);
                    let damaged = ReadError::Corrupt { start: Offset(40), end: Offset(42) };
                    let read = log.read(Offset(40), 100_000, Offset(120), true).await;
                    assert_eq!(read.err(), Some(damaged), "{case:?}");
                    assert_eq!(log.end_offset(), Offset(120), "{case:?}");
                    let next = if more_damage { 62 } else { 42 };
                    let rest = read_from(&log, Offset(next), 700).await.unwrap();
                    assert_eq!(rest.len() as i64, (120 - next) / 2, "{case:?}");
                    assert_eq!(log.corrupt_ranges().len(), 1 + usize::from(more_damage));
                });
            }
        }
    }
}

/// Goal: after a crash between a cut and its checkpoint nothing tells of what was cut. Method: a
/// damaged range and a newer epoch behind the cut; put the files from before it back.
#[test]
fn a_crash_behind_a_cut_leaves_no_stale_epochs_and_ranges() {
    sim::run(12, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        for at in 0..60 {
            put(&log, &batch(500, 2, at, at as u8)).await.unwrap();
        }
        disk.crash(Crash::KeepAll);
        damage(&io, &disk, 20 * 500 + 100, &[1; 9]).await;
        let (log, _) = open(&io, &small()).await;
        let newer = log.append(&batch(500, 2, 0, 0), LeaderEpoch(3), 0).unwrap();
        log.wait_flushed(newer.last_offset.plus(1)).await.unwrap();
        disk.crash(Crash::KeepAll);
        let (log, _) = open(&io, &small()).await;
        assert_eq!((log.latest_epoch(), log.corrupt_ranges().len()), (LeaderEpoch(3), 1));
        let names =
            [checkpoint::CHECKPOINT_NAME, epochs::EPOCHS_NAME].map(|name| dir(0).join(name));
        let before = names.clone().map(|name| disk.contents(&name).expect("it was written"));
        log.truncate_to(Offset(10)).await.unwrap();
        disk.crash(Crash::KeepAll);
        for (name, contents) in names.iter().zip(before) {
            io.replace_file(name, contents).await.unwrap();
        }
        let (log, _) = open(&io, &small()).await;
        assert_eq!(log.end_offset(), Offset(10));
        assert_eq!((log.latest_epoch(), log.corrupt_ranges()), (LeaderEpoch(0), Vec::new()));
        put(&log, &batch(500, 2, 0, 0)).await.unwrap();
        assert_eq!(read_from(&log, Offset(0), 700).await.unwrap().len(), 6);
    });
}
