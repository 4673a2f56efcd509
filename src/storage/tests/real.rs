//! A smaller set on a real disk with direct I/O.

use super::*;
use crate::io;
use std::time::Duration;

/// A directory on the disk of the build, as temporary ones may be memory.
fn real_dir() -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&root).expect("the build's directory can be written");
    tempfile::tempdir_in(root).expect("a temporary directory")
}

/// Goal: the real disk does what the simulated one does. Method: append, read back from memory and
/// disk, stop cleanly, start, append into a partial block, start again without a clean stop.
#[test]
fn a_real_disk_keeps_a_log() {
    let dir = real_dir();
    let path = dir.path().join("words-0");
    io::run_one(|io| async move {
        let config = LogConfig { segment_bytes: 1 << 20, ..small() };
        let mut clean = None;
        let mut wanted = Vec::new();
        for life in 0..4 {
            let committer = committer(&io);
            let topic_id = TopicId(7);
            let left = clean.take();
            let open = OpenLog { dir: path.clone(), topic_id, config: config.clone(), clean: left };
            let (log, recovery) = Log::open(&io, &committer, open).await.unwrap();
            assert_eq!(recovery.corrupt, []);
            for at in 0..200_usize {
                let one = batch(70 + (at * 7_919) % 30_000, 2, at as i64, at as u8);
                wanted.push(body(&one));
                if at % 3 == 0 {
                    put(&log, &one).await.unwrap();
                } else {
                    log.append(&one, LeaderEpoch(0), 0).unwrap();
                }
            }
            log.wait_flushed(log.end_offset()).await.unwrap();
            let from_memory = read_from(&log, Offset(0), 400_000).await.unwrap();
            assert_eq!(from_memory.len(), wanted.len());
            assert!(
                from_memory.iter().zip(&wanted).all(|(one, body)| super::body(&one.1) == *body)
            );
            forget_memory(&log);
            assert!(read_from(&log, Offset(0), 400_000).await.unwrap() == from_memory);
            if life < 2 {
                clean = Some(log.close_clean().await.unwrap());
            } else {
                io.sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .expect("io_uring is usable");
}

/// Goal: segments roll, go and are recycled on a real disk. Method: write ten times what is kept.
#[test]
fn a_real_disk_recycles_segments() {
    let dir = real_dir();
    let path = dir.path().join("words-0");
    io::run_one(|io| async move {
        let (retention_bytes, retention_ms) = (2 << 20, -1);
        let config = LogConfig { segment_bytes: 1 << 20, retention_bytes, retention_ms, ..small() };
        let (log, _) = open_at(&io, &committer(&io), &path, &config).await.unwrap();
        for at in 0..160_usize {
            put(&log, &batch(100_000, 1, at as i64, at as u8)).await.unwrap();
            if at % 8 == 7 {
                io.sleep(Duration::from_millis(20)).await;
                log.apply_retention(0).await.unwrap();
            }
        }
        assert!(log.segments_count() < 6);
        forget_memory(&log);
        let kept = read_from(&log, log.start_offset(), 1 << 20).await.unwrap();
        let end_offset = log.end_offset();
        drop(log);
        let (log, recovery) = open_at(&io, &committer(&io), &path, &config).await.unwrap();
        assert_eq!((recovery.corrupt, log.end_offset()), (Vec::new(), end_offset));
        assert_eq!(read_from(&log, log.start_offset(), 1 << 20).await.unwrap(), kept);
        log.delete().await.unwrap();
        assert!(!io.exists(&path).await);
    })
    .expect("io_uring is usable");
}

/// What one load came to, for a person to read.
fn report(what: &str, bytes: u64, count: u64, took: Duration, mut times_us: Vec<u64>) {
    times_us.sort_unstable();
    let at = |share: f64| times_us[(share * (times_us.len() - 1) as f64) as usize];
    println!(
        "{what}: {:.0} MB/s, {:.1} thousand/s, p50 {} us, p99 {} us",
        bytes as f64 / took.as_secs_f64() / 1e6,
        count as f64 / took.as_secs_f64() / 1e3,
        at(0.5),
        at(0.99)
    );
}

/// Appends `bytes` at a time from `writers_count` tasks over `logs` for `time`; each waits for its
/// flush.
async fn load(io: &Io, logs: &[Log], writers_count: usize, bytes: usize, time: Duration) {
    let began = io.clock().monotonic();
    let times: Rc<std::cell::RefCell<Vec<u64>>> = Rc::default();
    let done = Rc::new(std::cell::Cell::new(0));
    for writer in 0..writers_count {
        let (io, log, times) = (io.clone(), logs[writer % logs.len()].clone(), times.clone());
        let done = done.clone();
        io.clone().spawn(async move {
            let one = batch(bytes, 1, 0, 1);
            while io.clock().monotonic() - began < time {
                let start = io.clock().monotonic();
                log.wait_room().await;
                put(&log, &one).await.expect("a healthy disk");
                let took = io.clock().monotonic() - start;
                times.borrow_mut().push(took.as_micros() as u64);
            }
            done.set(done.get() + 1);
        });
    }
    while done.get() < writers_count {
        io.sleep(Duration::from_millis(1)).await;
    }
    let took = io.clock().monotonic() - began;
    let times = times.take();
    let count = times.len() as u64;
    let what = format!("{} logs, {writers_count} writers, {bytes} bytes", logs.len());
    report(&what, count * bytes as u64, count, took, times);
}

/// Reads a whole log from the disk, as a consumer that catches up does.
async fn read_cold(io: &Io, log: &Log) {
    forget_memory(log);
    let began = io.clock().monotonic();
    let (mut from, mut bytes, mut times) = (log.start_offset(), 0, Vec::new());
    while from < log.end_offset() {
        let start = io.clock().monotonic();
        let read = log.read(from, 1 << 20, log.end_offset(), true).await.expect("it reads");
        (from, bytes) = (read.next_offset, bytes + read.bytes as u64);
        times.push((io.clock().monotonic() - start).as_micros() as u64);
    }
    let took = io.clock().monotonic() - began;
    report("cold read of one log", bytes, times.len() as u64, took, times);
}

/// Goal: figures of storage alone, without sockets. Method: the loads of the data path, then a cold
/// read.
#[test]
#[ignore = "takes the whole disk for half a minute; run it alone, in a release build"]
fn measure_a_real_disk() {
    let dir = real_dir();
    let root = dir.path().to_path_buf();
    io::run_one(|io| async move {
        let time = Duration::from_secs(3);
        let mut logs = Vec::new();
        for (round, (logs_count, writers_count, bytes)) in
            [(1, 1, 4096), (16, 32, 160), (16, 32, 16_000), (16, 8, 1 << 20), (16, 16, 1 << 20)]
                .into_iter()
                .enumerate()
        {
            let metrics = Rc::new(ShardMetrics::default());
            let committer = Committer::new(&io, &metrics);
            logs.clear();
            for number in 0..logs_count {
                let path = root.join(format!("words{round}-{number}"));
                let opened = open_at(&io, &committer, &path, &LogConfig::default()).await;
                logs.push(opened.expect("it opens").0);
            }
            load(&io, &logs, writers_count, bytes, time).await;
            let (write, flush) = (&metrics.write_time, &metrics.flush_time);
            println!(
                "  {} writes, p50 {} us, p99 {} us; {} groups, p50 {} us, p99 {} us; {} flushes",
                write.count(),
                write.quantile_us(0.5),
                write.quantile_us(0.99),
                flush.count(),
                flush.quantile_us(0.5),
                flush.quantile_us(0.99),
                metrics.flushes.get()
            );
            io.sleep(Duration::from_secs(1)).await;
        }
        for _ in 0..3 {
            read_cold(&io, &logs[0]).await;
        }
        io.sleep(Duration::from_millis(100)).await;
    })
    .expect("io_uring is usable");
}
