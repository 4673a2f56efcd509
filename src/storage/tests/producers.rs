//! Batches with sequences: repeated ones, missing ones, and both over failures, stops and crashes.

use super::super::frame::tests::numbered;
use super::super::producers::Sent;
use super::super::snapshot::SNAPSHOT_SUFFIX;
use super::*;
use crate::io::sim::{self, Crash, Disk};
use futures_util::FutureExt as _;
use std::cell::RefCell;
use std::time::Duration;

/// A batch of `count` records by producer `id`.
fn sent(id: i64, sequence: i32, count: i32) -> Vec<u8> {
    let sent = Sent { producer_id: id, epoch: 0, sequence, offset_delta: count - 1 };
    numbered(600, sent, 5_000 + i64::from(sequence))
}

fn now_ms(log: &Log) -> i64 {
    log.0.io.clock().now_ms()
}

fn append(log: &Log, batch: &[u8]) -> Result<Appended, AppendError> {
    log.append(batch, LeaderEpoch(0), now_ms(log))
}

/// Appends and waits; returns the base offset and whether it was there before.
async fn put_sent(log: &Log, batch: &[u8]) -> (i64, bool) {
    let appended = append(log, batch).expect("it is the next one");
    log.wait_flushed(appended.last_offset.plus(1)).await.expect("a healthy disk");
    (appended.base_offset.0, appended.repeats.is_some())
}

fn is_refused(log: &Log, batch: &[u8]) -> bool {
    matches!(append(log, batch), Err(AppendError::Producer(ProducerError::OutOfOrder { .. })))
}

/// Producers 0 to 2 take turns; producer 3 only sends first. Returns how many batches each sent.
async fn take_turns(log: &Log, from: i32, count: i32) {
    if from == 0 {
        put_sent(log, &sent(3, 0, 1)).await;
    }
    for at in from..from + count {
        for id in 0..3 {
            assert!(!put_sent(log, &sent(id, at * 2, 2)).await.1);
        }
    }
}

/// The last five of each producer are known at their offsets, a gap is refused, the next is taken.
async fn check_turns(log: &Log, upto: i32, what: &str) {
    for id in 0..3 {
        for at in upto - 5..upto {
            let base_offset = 1 + i64::from(at) * 6 + id * 2;
            assert_eq!(put_sent(log, &sent(id, at * 2, 2)).await, (base_offset, true), "{what}");
        }
        assert!(is_refused(log, &sent(id, upto * 2 + 1, 1)), "{what}");
    }
    assert_eq!(put_sent(log, &sent(3, 0, 1)).await, (0, true), "{what}");
    assert!(is_refused(log, &sent(3, 7, 1)), "{what}");
}

/// Names of the snapshots that are there, by rising offset.
async fn snapshots(io: &Io) -> Vec<String> {
    let entries = io.list_dir(&dir(0)).await.unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    let mut names: Vec<_> = names.filter(|name| name.ends_with(SNAPSHOT_SUFFIX)).collect();
    names.sort();
    names
}

/// Goal: a repeated batch is answered no earlier than the first one, and as it. Method: repeat it
/// at once; fail the flush for both.
#[test]
fn a_repeated_batch_waits_for_the_first_one() {
    for fails in [false, true] {
        sim::run(1, |io, disk| async move {
            let (log, _) = open(&io, &small()).await;
            put_sent(&log, &sent(1, 0, 3)).await;
            if fails {
                disk.fail_next_sync();
            }
            let first = append(&log, &sent(1, 3, 2)).unwrap();
            let again = append(&log, &sent(1, 3, 2)).unwrap();
            assert_eq!((again.base_offset, again.last_offset), (Offset(3), Offset(4)));
            assert_eq!((first.repeats, again.repeats), (None, Some(5_003)));
            assert_eq!(log.end_offset(), Offset(5));
            let mut wait = Box::pin(log.wait_flushed(again.last_offset.plus(1)));
            assert!(wait.as_mut().now_or_never().is_none(), "not durable yet");
            assert_eq!(wait.await.is_err(), fails);
        });
    }
}

/// Goal: an append that a full disk takes back is not remembered, and may come again. Method: fill
/// the disk over a window of batches, then send them again.
#[test]
fn a_batch_taken_back_may_come_again() {
    sim::run(2, |io, disk| async move {
        let (log, _) = open(&io, &small()).await;
        take_turns(&log, 0, 8).await;
        disk.out_of_space(true);
        let mut refused = 8;
        // What still fits is taken; from some batch on everything is given back.
        let mut waits = Vec::new();
        for at in 8..60 {
            let appended: Vec<_> =
                (0..3).map(|id| append(&log, &sent(id, at * 2, 2)).unwrap()).collect();
            waits.extend(appended.iter().map(|a| log.wait_flushed(a.last_offset.plus(1))));
        }
        let results = futures_util::future::join_all(waits).await;
        assert_eq!(results.last(), Some(&Err(FlushError::NoSpace)));
        refused += results.iter().filter(|result| result.is_ok()).count() as i32 / 3;
        assert_eq!(log.end_offset(), Offset(1 + i64::from(refused) * 6));
        disk.out_of_space(false);
        check_turns(&log, refused, "taken back").await;
        take_turns(&log, refused, 3).await;
        check_turns(&log, refused + 3, "later").await;
    });
}

/// Goal: a restart forgets nobody, with or without a clean stop, over many segments and with
/// segments deleted. Method: stop or crash between turns; the snapshots are those that are needed.
#[test]
fn a_restart_forgets_nobody() {
    for (seed, clean_stop) in [(3, true), (4, false)] {
        sim::run(seed, |io, disk| async move {
            let config = LogConfig { retention_bytes: 70_000, retention_ms: -1, ..small() };
            let mut clean = None;
            for life in 0..6 {
                let what = format!("life {life}, clean stop {clean_stop}");
                let (topic_id, config) = (TopicId(7), config.clone());
                let open = OpenLog { dir: dir(0), topic_id, config, clean: clean.take() };
                let (log, recovery) = Log::open(&io, &committer(&io), open).await.unwrap();
                assert!(life == 0 || (recovery.scanned_bytes == 0) == clean_stop);
                if life > 0 {
                    check_turns(&log, life * 60, &what).await;
                }
                take_turns(&log, life * 60, 50).await;
                log.apply_retention(0).await.unwrap();
                io.sleep(Duration::from_secs(1)).await;
                take_turns(&log, life * 60 + 50, 10).await;
                check_turns(&log, life * 60 + 60, &what).await;
                assert!(life < 2 || log.start_offset() > Offset(1), "old segments are gone");
                if clean_stop {
                    let closed = log.close_clean().await.unwrap();
                    assert_eq!(closed.producers, Some(closed.segments.last().unwrap().end_offset));
                    let text = checkpoint::encode_clean(&[closed]);
                    clean = checkpoint::decode_clean(&text).unwrap().pop();
                } else {
                    disk.crash(Crash::LoseUnsynced);
                }
                let segments_count = log.segments_count();
                let left = snapshots(&io).await;
                // One for each segment, the one that the checkpoint names, and the next one.
                assert!((1..=segments_count + 2).contains(&left.len()), "{what}: {left:?}");
            }
        });
    }
}

/// Goal: no damage to a snapshot makes a start fail or forget. Method: damage or remove each of
/// them, after a clean stop and after a crash.
#[test]
fn a_damaged_snapshot_costs_a_longer_scan_only() {
    for (seed, remove, clean_stop) in [(5, false, true), (6, true, true), (7, false, false)] {
        for only_newest in [true, false] {
            sim::run(seed, |io, disk| async move {
                let (log, _) = open(&io, &small()).await;
                take_turns(&log, 0, 150).await;
                let clean = log.close_clean().await.unwrap();
                let mut names = snapshots(&io).await;
                assert!(names.len() > 3);
                if only_newest {
                    names.drain(..names.len() - 1);
                }
                for name in names {
                    let path = dir(0).join(name);
                    if remove {
                        io.remove_file(&path).await.unwrap();
                    } else {
                        disk.corrupt(&path, 20..21);
                    }
                }
                let (topic_id, config) = (TopicId(7), small());
                let clean = clean_stop.then_some(clean);
                let open = OpenLog { dir: dir(0), topic_id, config, clean };
                let (log, recovery) = Log::open(&io, &committer(&io), open).await.unwrap();
                assert_eq!(recovery.corrupt, []);
                check_turns(&log, 150, "damaged").await;
            });
        }
    }
}

/// Goal: a cut goes back to what was known there. Method: cut at every kind of place, in old
/// segments too, and go on from there; restart.
#[test]
fn a_cut_goes_back_to_what_was_known_there() {
    for upto in [7, 40, 119, 120] {
        sim::run(8, |io, disk| async move {
            let (log, _) = open(&io, &small()).await;
            take_turns(&log, 0, 120).await;
            let end = Offset(1 + upto * 6);
            assert_eq!(log.truncate_to(end).await.unwrap(), end);
            check_turns(&log, upto as i32, "cut").await;
            take_turns(&log, upto as i32, 5).await;
            disk.crash(Crash::LoseUnsynced);
            let (log, _) = open(&io, &small()).await;
            check_turns(&log, upto as i32 + 5, "restarted").await;
        });
    }
}

/// Goal: who is silent is forgotten when its time is up, also over a restart, and not before.
/// Method: virtual time.
#[test]
fn a_silent_producer_may_begin_anew() {
    sim::run(9, |io, _disk| async move {
        let config = LogConfig { producer_expiration_ms: 60_000, ..small() };
        let (log, _) = open(&io, &config).await;
        take_turns(&log, 0, 6).await;
        io.sleep(Duration::from_secs(40)).await;
        put_sent(&log, &sent(1, 12, 1)).await;
        let closed = log.close_clean().await.unwrap();
        io.sleep(Duration::from_secs(30)).await;
        let open = OpenLog { dir: dir(0), topic_id: TopicId(7), config, clean: Some(closed) };
        let (log, _) = Log::open(&io, &committer(&io), open).await.unwrap();
        assert_eq!(log.producers(now_ms(&log)).len(), 1);
        assert!(is_refused(&log, &sent(1, 99, 1)));
        assert!(!put_sent(&log, &sent(0, 99, 1)).await.1);
        assert!(is_refused(&log, &sent(0, 99 + 2, 1)));
    });
}

/// What a producer sent, as far as its fate matters: base sequence, records, base offset, whether
/// it was acknowledged.
type History = Rc<RefCell<Vec<Vec<(i32, i32, i64, bool)>>>>;

const PRODUCERS_COUNT: usize = 4;

/// Each producer sends on, up to five batches in flight, and now and then repeats one of them.
fn run_producers(io: &Io, log: &Log, history: &History, seed: u64) {
    for id in 0..PRODUCERS_COUNT {
        let (io, log, history) = (io.clone(), log.clone(), history.clone());
        io.clone().spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed ^ id as u64);
            loop {
                for _ in 0..random.usize(1..=5) {
                    let last = history.borrow()[id].last().copied();
                    let sequence = last.map_or(0, |(sequence, count, ..)| sequence + count);
                    let count = random.i32(1..5);
                    let one = sent(id as i64, sequence, count);
                    let Ok(appended) = append(&log, &one) else { return };
                    assert_eq!(appended.repeats, None);
                    let at = history.borrow()[id].len();
                    let base_offset = appended.base_offset.0;
                    history.borrow_mut()[id].push((sequence, count, base_offset, false));
                    let (wait, history) =
                        (log.wait_flushed(appended.last_offset.plus(1)), history.clone());
                    io.spawn(async move {
                        if wait.await.is_ok() {
                            history.borrow_mut()[id][at].3 = true;
                        }
                    });
                }
                let newest = history.borrow()[id].iter().rev().take(5).copied().collect::<Vec<_>>();
                for (sequence, count, base_offset, _) in newest {
                    let Ok(again) = append(&log, &sent(id as i64, sequence, count)) else { return };
                    assert_eq!(again.base_offset.0, base_offset);
                    assert!(again.repeats.is_some());
                }
                if random.u8(..) < 20 {
                    log.apply_retention(0).await.ok();
                }
                io.sleep(Duration::from_micros(random.u64(1..3_000))).await;
            }
        });
    }
}

/// After a crash: what is left is a prefix of what each producer sent, with all that was
/// acknowledged; its last five batches are found again, whoever asks, and no other may follow.
fn check_history(log: &Log, history: &History, what: &str) {
    let end_offset = log.end_offset().0;
    for (id, sent_all) in history.borrow_mut().iter_mut().enumerate() {
        let left_count = sent_all.iter().take_while(|one| one.2 < end_offset).count();
        assert!(sent_all[left_count..].iter().all(|one| !one.3), "{what}: acknowledged, and gone");
        sent_all.truncate(left_count);
        let next = sent_all.last().map_or(0, |(sequence, count, ..)| sequence + count);
        for (sequence, count, base_offset, _) in sent_all.iter().rev().take(5) {
            let again = append(log, &sent(id as i64, *sequence, *count)).unwrap_or_else(|error| {
                panic!("{what}: producer {id}, {sequence}, next {next}: {error}")
            });
            assert_eq!(again.base_offset.0, *base_offset, "{what}: producer {id}, {sequence}");
            assert!(again.repeats.is_some(), "{what}: producer {id}, {sequence} stored twice");
        }
        assert!(left_count == 0 || is_refused(log, &sent(id as i64, next + 1, 1)), "{what}");
    }
    assert_eq!(log.end_offset().0, end_offset, "{what}: nothing was stored");
}

/// Goal: no crash makes a batch be stored twice or a gap pass. Method: producers under random load,
/// retention and crashes, by seed; after each crash they repeat their last five batches.
#[test]
fn a_crash_at_any_moment_forgets_no_sequence() {
    for seed in 0..80 {
        let mut random = fastrand::Rng::with_seed(seed);
        let history = History::default();
        history.borrow_mut().resize_with(PRODUCERS_COUNT, Vec::new);
        let mut disk = Disk::default();
        for life in 0..4 {
            let what = format!("seed {seed}, life {life}");
            let (history, random) = (history.clone(), &mut random);
            disk = sim::run_on(random.u64(..), disk, |io, disk| async move {
                disk.set_one_flush_for_all(seed % 3 != 0);
                let retention_bytes = if seed % 2 == 0 { 100_000 } else { -1 };
                let config = LogConfig { retention_ms: -1, retention_bytes, ..small() };
                let (log, recovery) = open(&io, &config).await;
                if let Some(damage) = recovery.corrupt.first() {
                    // In recycled files only, and behind all that was acknowledged.
                    log.truncate_to(damage.start).await.expect("the log can be cut");
                }
                check_history(&log, &history, &what);
                run_producers(&io, &log, &history, random.u64(..));
                io.sleep(Duration::from_micros(random.u64(100..60_000))).await;
                disk.crash(super::crash::crash_of(random, &disk));
                disk.take()
            });
        }
    }
}
