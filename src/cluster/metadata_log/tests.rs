//! The metadata log on a simulated disk: restarts, torn writes, failed flushes, snapshots.

use super::*;
use crate::io::sim::{self, Crash, SimDisk};

const DIR: &str = "/data/metadata";

fn entry(index: u64) -> Entry {
    Entry { index, term: 1, data: vec![index as u8; 700] }
}

fn state(commit: u64) -> Option<HardState> {
    Some(HardState { term: 1, vote: 1, commit })
}

async fn open(io: &Io) -> Result<(MetadataLog, Restored), MetadataLogError> {
    MetadataLog::open(io, Path::new(DIR), vec![1]).await
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Io, SimDisk) -> F) {
    sim::run(1, test);
}

#[test]
fn a_new_log_is_a_group_of_its_voters_and_opens_again_as_that() {
    run(|io, disk| async move {
        let (_, restored) = open(&io).await.unwrap();
        assert_eq!(restored, Restored::bootstrap(vec![1]));
        disk.crash(Crash::LoseUnsynced);
        let (_, again) = open(&io).await.unwrap();
        assert_eq!(again, restored);
    });
}

#[test]
fn what_was_persisted_is_there_after_a_power_failure() {
    run(|io, disk| async move {
        let (mut log, _) = open(&io).await.unwrap();
        for index in 1..=40 {
            log.persist(state(index - 1), vec![entry(index)]).await.unwrap();
        }
        log.persist(None, vec![entry(41), entry(42)]).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let (mut log, restored) = open(&io).await.unwrap();
        assert_eq!(restored.entries, (1..=42).map(entry).collect::<Vec<_>>());
        assert_eq!(Some(restored.hard_state), state(39));
        log.persist(state(42), vec![entry(43)]).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let (_, restored) = open(&io).await.unwrap();
        assert_eq!(restored.entries.len(), 43);
    });
}

#[test]
fn an_entry_replaces_those_at_its_index_and_beyond() {
    run(|io, _| async move {
        let (mut log, _) = open(&io).await.unwrap();
        log.persist(state(0), (1..=5).map(entry).collect()).await.unwrap();
        let other = Entry { index: 3, term: 2, data: vec![9] };
        log.persist(state(2), vec![other.clone()]).await.unwrap();
        log.close().await;
        let (_, restored) = open(&io).await.unwrap();
        assert_eq!(restored.entries, [entry(1), entry(2), other]);
    });
}

/// Goal: a write that the power cut tears is gone whole, and the log goes on. Method: let a persist
/// fail at its flush, keep a growing part of it, open, append, open again.
#[test]
fn a_torn_write_is_cut_wherever_it_tore() {
    for kept_bytes in (0..=8_192).step_by(512) {
        run(|io, disk| async move {
            let (mut log, _) = open(&io).await.unwrap();
            log.persist(state(0), vec![entry(1)]).await.unwrap();
            let last = Entry { index: 2, term: 1, data: vec![5; 6_000] };
            let (written, tail_position) = (log.tail.clone(), log.tail_position);
            let frame = Frame { hard_state: None, entries: vec![last.clone()] };
            let bytes =
                [written, frames::encode_frame(&frame, log.frames_count, log.salt)].concat();
            let mut buffer = io.memory().allocate(bytes.len().next_multiple_of(4096)).unwrap();
            buffer.fill(0);
            buffer[..bytes.len()].copy_from_slice(&bytes);
            log.file.write_at(tail_position, vec![buffer.freeze()]).await.unwrap();
            disk.crash(Crash::TornAt { bytes: kept_bytes });
            let (mut log, restored) = open(&io).await.unwrap();
            let whole = kept_bytes as usize >= bytes.len();
            let expected = if whole { vec![entry(1), last] } else { vec![entry(1)] };
            assert_eq!(restored.entries, expected, "kept {kept_bytes}");
            let next = entry(expected.len() as u64 + 1);
            log.persist(state(1), vec![next.clone()]).await.unwrap();
            disk.crash(Crash::LoseUnsynced);
            let (_, restored) = open(&io).await.unwrap();
            assert_eq!(restored.entries.last(), Some(&next), "kept {kept_bytes}");
            assert_eq!(restored.entries.len(), expected.len() + 1, "kept {kept_bytes}");
        });
    }
}

#[test]
fn a_failed_write_or_flush_fences_the_log() {
    for fail in [SimDisk::fail_next_sync, SimDisk::fail_next_write] {
        run(|io, disk| async move {
            let (mut log, _) = open(&io).await.unwrap();
            log.persist(state(0), vec![entry(1)]).await.unwrap();
            fail(&disk);
            let failed = log.persist(None, vec![entry(2)]).await;
            assert!(matches!(failed, Err(MetadataLogError::Io { .. })), "{failed:?}");
            let refused = log.persist(None, vec![entry(2)]).await;
            assert!(matches!(refused, Err(MetadataLogError::Fenced)), "{refused:?}");
            disk.crash(Crash::LoseUnsynced);
            let (_, restored) = open(&io).await.unwrap();
            assert_eq!(restored.entries[0], entry(1));
        });
    }
}

/// Goal: a full disk fences nothing and loses nothing. Method: fill it, persist more than the file
/// has room for, and a snapshot; make room, go on, cut the power.
#[test]
fn a_full_disk_is_no_failure() {
    run(|io, disk| async move {
        let (mut log, _) = open(&io).await.unwrap();
        log.persist(state(0), vec![entry(1)]).await.unwrap();
        disk.out_of_space(true);
        let large = Entry { index: 2, term: 1, data: vec![5; 2 * MIB] };
        let snapshot = Snapshot { index: 1, term: 1, voters: vec![1], data: vec![3; 100] };
        let restored = Restored { hard_state: state(1).unwrap(), snapshot, entries: vec![] };
        for _ in 0..3 {
            let full = log.persist(None, vec![large.clone()]).await;
            assert!(matches!(full, Err(MetadataLogError::NoSpace { .. })), "{full:?}");
            let full = log.restart_from(&restored).await;
            assert!(matches!(full, Err(MetadataLogError::NoSpace { .. })), "{full:?}");
        }
        log.persist(None, vec![Entry { index: 2, term: 1, data: vec![5] }]).await.unwrap();
        disk.out_of_space(false);
        log.persist(None, vec![large.clone()]).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let (_, found) = open(&io).await.unwrap();
        assert_eq!(found.entries, [entry(1), large]);
    });
}

#[test]
fn damage_before_the_last_write_is_told_from_a_torn_end() {
    run(|io, disk| async move {
        let (mut log, _) = open(&io).await.unwrap();
        for index in 1..=20 {
            log.persist(state(0), vec![entry(index)]).await.unwrap();
        }
        log.close().await;
        disk.corrupt(&log_path(Path::new(DIR), 1), 6_000..6_010);
        let error = open(&io).await.err().unwrap().to_string();
        assert!(error.contains("damage to the disk"), "{error}");
    });
}

/// Goal: a snapshot replaces the entries before it, and a crash on the way loses nothing. Method:
/// restart from a snapshot; once whole, once with the old log put back as a crash leaves it.
#[test]
fn a_snapshot_replaces_the_entries_before_it() {
    run(|io, disk| async move {
        let (mut log, _) = open(&io).await.unwrap();
        log.persist(state(8), (1..=10).map(entry).collect()).await.unwrap();
        let old = disk.contents(&log_path(Path::new(DIR), 1)).unwrap();
        let snapshot = Snapshot { index: 8, term: 1, voters: vec![1], data: vec![3; 100] };
        let restored = Restored {
            hard_state: state(8).unwrap(),
            snapshot: snapshot.clone(),
            entries: vec![entry(9), entry(10)],
        };
        log.restart_from(&restored).await.unwrap();
        log.persist(None, vec![entry(11)]).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        let (_, found) = open(&io).await.unwrap();
        assert_eq!(found.snapshot, snapshot);
        assert_eq!(found.entries, [entry(9), entry(10), entry(11)]);
        assert_eq!(io.list_dir(Path::new(DIR)).await.unwrap().len(), 2);
        io.remove_file(&log_path(Path::new(DIR), 2)).await.unwrap();
        io.replace_file(&log_path(Path::new(DIR), 1), old).await.unwrap();
        let (_, found) = open(&io).await.unwrap();
        assert_eq!(found, restored);
    });
}

#[test]
fn entries_that_do_not_follow_the_snapshot_are_dropped() {
    let head = LogHead { salt: 1, base_index: 0, base_term: 0 };
    let frames = vec![Frame { hard_state: state(2), entries: (1..=10).map(entry).collect() }];
    let snapshot = |index, term| Snapshot { index, term, voters: vec![1], data: vec![] };
    assert_eq!(merged(snapshot(8, 1), &head, frames.clone()).entries, [entry(9), entry(10)]);
    assert_eq!(merged(snapshot(8, 2), &head, frames.clone()).entries, []);
    assert_eq!(merged(snapshot(12, 1), &head, frames).entries, []);
}

#[test]
fn a_lost_file_is_an_error_not_an_empty_cluster() {
    for name in [SNAPSHOT_NAME.to_owned(), format!("{LOG_PREFIX}{:020}", 1)] {
        run(|io, _| async move {
            let (mut log, _) = open(&io).await.unwrap();
            log.persist(state(0), vec![entry(1)]).await.unwrap();
            log.close().await;
            io.remove_file(&Path::new(DIR).join(name)).await.unwrap();
            assert!(matches!(open(&io).await, Err(MetadataLogError::Missing { .. })));
        });
    }
}

/// What a log has acknowledged: entries from index 1 on, and how many of them its snapshot has.
#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    taken: u64,
}

/// One persist or snapshot, given up at a random moment; false where it was, or failed.
async fn random_step(
    io: &Io,
    log: &mut MetadataLog,
    random: &mut fastrand::Rng,
    kept: &mut Kept,
) -> bool {
    let patience = std::time::Duration::from_micros(random.u64(0..2_000));
    let next = kept.entries.len() as u64 + 1;
    if random.u8(0..10) > 0 || kept.entries.is_empty() {
        let new: Vec<Entry> = (next..next + random.u64(1..12)).map(entry).collect();
        let done = io.timeout(patience, log.persist(None, new.clone())).await;
        let done = matches!(done, Some(Ok(())));
        kept.entries.extend(new.into_iter().filter(|_| done));
        return done;
    }
    let index = random.u64(kept.taken.max(1)..next);
    let snapshot = Snapshot { index, term: 1, voters: vec![1], data: vec![1; 9_000] };
    let entries = kept.entries[index as usize..].to_vec();
    let hard_state = HardState { term: 1, vote: 1, commit: index };
    let restart = Restored { hard_state, snapshot, entries };
    kept.taken = index;
    let done = io.timeout(patience, log.restart_from(&restart)).await;
    matches!(done, Some(Ok(())))
}

/// Goal: whatever a power cut leaves, what was acknowledged is there. Method: seeded persists and
/// snapshots, each possibly given up halfway, then a cut that keeps a random part; compare.
#[test]
fn random_power_cuts_lose_nothing_that_was_persisted() {
    let base = fastrand::u64(..);
    for seed in (0..25).map(|n| base.wrapping_add(n)) {
        println!("seed {seed}");
        sim::run(seed, |io, disk| async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut kept = Kept::default();
            for _ in 0..20 {
                let (mut log, restored) = open(&io).await.unwrap();
                let taken = restored.snapshot.index;
                let found: Vec<Entry> = (1..=taken).map(entry).chain(restored.entries).collect();
                assert!(found.starts_with(&kept.entries), "seed {seed}: {} are left", found.len());
                kept = Kept { entries: found, taken };
                let mut steps = random.usize(0..6);
                while steps > 0 && random_step(&io, &mut log, &mut random, &mut kept).await {
                    steps -= 1;
                }
                disk.crash(match random.u8(0..4) {
                    0 => Crash::KeepAll,
                    1 => Crash::LoseUnsynced,
                    2 => Crash::TornAt { bytes: random.u64(0..40) * 512 },
                    _ => Crash::RandomSubset { seed: random.u64(..) },
                });
            }
        });
    }
}
