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
