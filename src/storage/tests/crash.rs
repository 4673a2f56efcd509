//! Crashes at random moments under random load: every acknowledged record is there, every log a
//! prefix.

use super::*;
use crate::io::sim::{self, Crash, Disk, SimDisk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

const LOGS_COUNT: usize = 3;
const LIVES_COUNT: usize = 4;

/// What a log was given: by base offset, the batch's body; and up to where it was told that it is
/// safe.
#[derive(Default)]
struct Model {
    given: BTreeMap<i64, Body>,
    safe_end: i64,
    start: i64,
}

type Models = Rc<RefCell<Vec<Model>>>;

struct Load {
    recycles: bool,
    /// 0: there is none.
    journal_bytes: u64,
    bytes_max: usize,
}

async fn run_life(io: Io, logs: Vec<Log>, models: Models, seed: u64, load: Rc<Load>) {
    for (number, log) in logs.into_iter().enumerate() {
        let (io, models, load) = (io.clone(), models.clone(), load.clone());
        io.clone().spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed ^ number as u64);
            let mut at: i64 = 0;
            loop {
                at += 1;
                for _ in 0..random.usize(1..4) {
                    let bytes = random.usize(61..load.bytes_max);
                    let one = batch(bytes, random.i32(1..4), at, random.u8(..));
                    let Ok(appended) = log.append(&one, LeaderEpoch(0), 0) else { return };
                    let base_offset = appended.base_offset.0;
                    models.borrow_mut()[number].given.insert(base_offset, body(&one));
                    let (wait, models) =
                        (log.wait_flushed(appended.last_offset.plus(1)), models.clone());
                    let end = appended.last_offset.0 + 1;
                    io.spawn(async move {
                        if wait.await.is_ok() {
                            let mut models = models.borrow_mut();
                            models[number].safe_end = models[number].safe_end.max(end);
                        }
                    });
                }
                if load.recycles && random.u8(..) < 20 {
                    log.apply_retention(0).await.ok();
                    models.borrow_mut()[number].start = log.start_offset().0;
                }
                io.sleep(Duration::from_micros(random.u64(1..3_000))).await;
            }
        });
    }
}

async fn check_log(log: &Log, model: &mut Model, recovery: &Recovery, recycles: bool, what: &str) {
    let start = log.start_offset().0;
    assert!(start <= model.start.max(model.safe_end), "{what}: the start ran ahead");
    for range in &recovery.corrupt {
        // Only in recycled files, and never what was acknowledged.
        assert!(recycles && range.start.0 >= model.safe_end, "{what}: {range:?}");
    }
    assert!(log.end_offset().0 >= model.safe_end, "{what}: acknowledged records are gone");
    if !recovery.corrupt.is_empty() {
        log.truncate_to(recovery.corrupt[0].start).await.expect("the log can be cut");
    }
    let found = read_from(log, Offset(start), 30_000).await.expect("everything can be read");
    let mut next = start;
    for (offset, bytes) in &found {
        assert_eq!(*offset, next, "{what}: a prefix has no holes");
        assert_eq!(model.given.get(offset), Some(&body(bytes)), "{what}");
        let head = Head::parse_slice(bytes).expect("split checks it");
        next = head.end_offset();
    }
    assert_eq!(next, log.end_offset().0, "{what}");
    model.given.retain(|offset, _| *offset < next);
    model.safe_end = next;
    model.start = start;
}

pub fn crash_of(random: &mut fastrand::Rng, disk: &SimDisk) -> Crash {
    match random.u8(..5) {
        0 => Crash::KeepAll,
        1 => Crash::LoseUnsynced,
        2 => Crash::TornAt { bytes: random.u64(..=disk.unsynced_bytes()) },
        _ => Crash::RandomSubset { seed: random.u64(..) },
    }
}

fn many_lives(seed: u64, one_flush_for_all: bool, recycles: bool) {
    println!("seed {seed}, one flush for all {one_flush_for_all}, recycles {recycles}");
    let mut random = fastrand::Rng::with_seed(seed);
    let models: Models = Rc::default();
    models.borrow_mut().resize_with(LOGS_COUNT, Model::default);
    let bytes_max = if random.bool() { 600 } else { 20_000 };
    let journal_bytes = [0, 64 << 10, 256 << 10, 1 << 20][random.usize(..4)];
    let load = Rc::new(Load { recycles, bytes_max, journal_bytes });
    let mut disk = Disk::default();
    for life in 0..LIVES_COUNT {
        let what = format!("seed {seed}, life {life}");
        let (models, load, random) = (models.clone(), load.clone(), &mut random);
        disk = sim::run_on(random.u64(..), disk, |io, disk| async move {
            disk.set_one_flush_for_all(one_flush_for_all);
            one_life(&io, models, random, load, &what).await;
            disk.crash(crash_of(random, &disk));
            disk.take()
        });
    }
}

async fn one_life(io: &Io, models: Models, random: &mut fastrand::Rng, load: Rc<Load>, what: &str) {
    let recycles = load.recycles;
    let retention_bytes = if recycles { 120_000 } else { -1 };
    let config = LogConfig { retention_ms: -1, retention_bytes, ..small() };
    let committer = match load.journal_bytes {
        0 => committer(io),
        bytes => journaling(io, bytes).await,
    };
    let mut logs = Vec::new();
    for number in 0..LOGS_COUNT {
        let opened = open_at(io, &committer, &dir(number), &config).await;
        let (log, recovery) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut model = std::mem::take(&mut models.borrow_mut()[number]);
        let what = format!("{what}, log {number}");
        check_log(&log, &mut model, &recovery, recycles, &what).await;
        models.borrow_mut()[number] = model;
        logs.push(log);
    }
    run_life(io.clone(), logs, models, random.u64(..), load).await;
    io.sleep(Duration::from_micros(random.u64(100..60_000))).await;
}

/// Goal: no crash loses what was acknowledged. Method: random load, schedule, moment and crash, by
/// seed. Of the last two, one tore the end of a segment whose successor was flushed, and one kept
/// only the second block of a head.
#[test]
fn a_crash_at_any_moment_loses_nothing_acknowledged() {
    for seed in (0..100).chain([411, 969]) {
        many_lives(seed, seed % 3 != 0, false);
    }
}

/// Goal: the same where old segments are written over. Method: as above with retention.
#[test]
fn a_crash_loses_nothing_in_recycled_files() {
    for seed in 1_000..1_040 {
        many_lives(seed, seed % 3 != 0, true);
    }
}
