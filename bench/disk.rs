//! The base line of a durable write: overwrite a block, flush, and nothing else.
//!
//! Plain blocking system calls on one thread, so that no part of ringmain is in the figure. The
//! file is written whole first: a write into space that holds data already changes no metadata,
//! which is the case that a prepared segment is compared with.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use ringmain::base::limits::{DIRECT_ALIGN_BYTES, MIB};

use crate::arguments::DiskArgs;
use crate::job::{Crew, Job, Work};
use crate::pace::{Bounds, Pace};
use crate::recorder::Recorder;

/// Bytes of one write while the file is prepared.
const PREPARE_BYTES: usize = MIB;

/// Time before the measurement begins: the disk's first flushes are slower.
const WARMUP: Duration = Duration::from_millis(200);

/// From a write to the end of its flush.
const WRITE: &str = "write";

/// Heap memory with an aligned part: direct I/O takes nothing else, and std aligns to 16 at most.
struct AlignedBytes {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AlignedBytes {
    fn new(bytes: usize, fill: u8) -> AlignedBytes {
        let memory = vec![fill; bytes + DIRECT_ALIGN_BYTES];
        let start = memory.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        assert!(start < DIRECT_ALIGN_BYTES, "a pointer to bytes can always be aligned");
        AlignedBytes { memory, start, bytes }
    }

    fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

/// Removes the scratch file however the measurement ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0)); // nothing left to tell when it is gone already
    }
}

/// Fills a scratch file, so that its blocks can be overwritten and flushed one after the other.
///
/// # Errors
/// The directory cannot be written, or its file system refuses direct I/O.
pub fn prepare(args: &DiskArgs) -> anyhow::Result<Job> {
    let align = DIRECT_ALIGN_BYTES as u64;
    ensure!(args.block_bytes.is_multiple_of(align), "--block-bytes must be a multiple of {align}");
    ensure!(args.block_bytes <= args.file_bytes, "--file-bytes must hold one block at least");
    let path = args.dir.join(format!(".ringmain-bench-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .with_context(|| format!("cannot create {} for direct writes", path.display()))?;
    let scratch = Scratch(path);
    let blocks_count = args.file_bytes / args.block_bytes;
    fill(&file, blocks_count * args.block_bytes).context("cannot fill the scratch file")?;
    let block_bytes = args.block_bytes;
    let work: Work = Box::new(move |pace, recorder| {
        let _scratch = scratch;
        overwrite(&file, block_bytes, blocks_count, pace, recorder)
    });
    let crew =
        Crew { name: "disk", series: &[WRITE], rate: None, is_finite: false, work: vec![work] };
    let bounds = Bounds {
        warmup: Some(WARMUP),
        duration: Some(args.duration),
        bytes: None,
        timeout: args.duration,
    };
    Ok(Job {
        bounds,
        crews: vec![crew],
        broker_pid: args.report.broker_pid,
        cpus: None,
        may_miss_rate: true,
        check: None,
    })
}

/// Overwrites and flushes one block after the other until the time is up.
fn overwrite(
    file: &File,
    block_bytes: u64,
    blocks_count: u64,
    pace: &Pace,
    mut recorder: Recorder,
) -> anyhow::Result<()> {
    let block = AlignedBytes::new(block_bytes as usize, 0xa5);
    for index in 0.. {
        let sent = Instant::now();
        if pace.is_over(sent) {
            break;
        }
        file.write_all_at(block.as_slice(), index % blocks_count * block_bytes)?;
        file.sync_data()?;
        let now = Instant::now();
        recorder.answered(now, block_bytes, 0);
        if recorder.counts(now) {
            recorder.latency(0, now, now - sent, 1);
        }
    }
    Ok(())
}

fn fill(file: &File, bytes: u64) -> std::io::Result<()> {
    let piece = AlignedBytes::new(PREPARE_BYTES, 0x5a);
    let mut position = 0;
    while position < bytes {
        let piece_bytes = (bytes - position).min(PREPARE_BYTES as u64);
        file.write_all_at(&piece.as_slice()[..piece_bytes as usize], position)?;
        position += piece_bytes;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aligned_part_is_aligned_and_as_long_as_asked() {
        let bytes = AlignedBytes::new(8192, 7);
        assert_eq!(bytes.as_slice().as_ptr() as usize % DIRECT_ALIGN_BYTES, 0);
        assert_eq!(bytes.as_slice(), &[7; 8192]);
    }
}
