//! What journals hold goes into the segments: after a crash, before any log is opened, and for one
//! log that is opened anew.
//!
//! Rounds are physical: these bytes, at this position of that file. To write them once more changes
//! nothing, so a crash in the middle is no concern.
//! **Invariant:** a journal is removed only when all that it holds is durable in the segments, and
//! before anything is appended there.

use super::StorageError;
use super::frame::Head;
use super::journal_frame::{
    FIRST_BLOCK_BYTES, Round, begins_round, decode_first_block, decode_round,
};
use super::owner::{DirOwner, owner_of, undecodable_owner};
use super::recovery::failed;
use super::segment::{LOG_SUFFIX, path_of};
use crate::base::ids::{Offset, TopicId};
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use crate::io::{File, Io, OpenMode};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Ends the name of a journal in the data directory. No partition's name does.
pub const JOURNAL_SUFFIX: &str = ".journal";

/// Bytes of one read or write here.
const PIECE_BYTES: usize = MIB;

const ALIGN: u64 = DIRECT_ALIGN_BYTES as u64;

/// What [`redo`] found in journals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redone {
    pub rounds: u64,
    /// Bytes that were written to segments.
    pub bytes: u64,
}

/// Bytes that follow each other in one segment.
struct Run {
    position: u64,
    bytes: Vec<u8>,
}

/// By directory, topic and segment, what belongs there.
type Runs = BTreeMap<(String, TopicId, Offset), Vec<Run>>;

/// Writes what the journals in `data_dir` hold into the segments, durably, and removes them. To be
/// called before any log there is opened.
///
/// # Errors
/// The disk's, or a partition's: some records that were acknowledged are in the journals only,
/// which stay. Without its directory a partition is passed over.
pub async fn redo(io: &Io, data_dir: &Path) -> Result<Redone, StorageError> {
    let mut redone = Redone::default();
    let mut journals: Vec<PathBuf> = Vec::new();
    for entry in io.list_dir(data_dir).await.map_err(failed("list", data_dir))? {
        if entry.name.ends_with(JOURNAL_SUFFIX) && !entry.is_dir {
            journals.push(data_dir.join(entry.name));
        }
    }
    for path in &journals {
        let file = io.open(path, OpenMode::Read).await.map_err(failed("open", path))?;
        let contents = read_whole(io, &file).await.map_err(failed("read", path))?;
        let rounds = needed_rounds(&contents, 0, path)?;
        let runs = runs_of(&rounds, None);
        redone.rounds += rounds.len() as u64;
        redone.bytes += write_runs(io, data_dir, &runs).await?;
        file.close().await;
    }
    for path in &journals {
        io.remove_file(path).await.map_err(failed("remove", path))?;
    }
    if !journals.is_empty() {
        io.sync_dir(data_dir).await.map_err(failed("sync", data_dir))?;
    }
    Ok(redone)
}

/// As [`redo`], of the journal `file` of `data_dir` and from round `needed_from` on, for the
/// partition directory `dir_name`; the journal stays.
pub(super) async fn redo_dir(
    io: &Io,
    file: &File,
    data_dir: &Path,
    (dir_name, needed_from): (&str, u64),
) -> Result<(), StorageError> {
    let contents = read_whole(io, file).await.map_err(failed("read a journal in", data_dir))?;
    let rounds = needed_rounds(&contents, needed_from, data_dir)?;
    write_runs(io, data_dir, &runs_of(&rounds, Some(dir_name))).await.map(|_| ())
}

async fn read_whole(io: &Io, file: &File) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.bytes()).map_err(io::Error::other)?;
    let mut contents = Vec::with_capacity(bytes);
    while contents.len() < bytes {
        let buffer = io.memory().allocate_wait(PIECE_BYTES).await;
        let (result, buffer) = file.read_at(contents.len() as u64, buffer).await;
        let read_bytes = result?;
        contents.extend_from_slice(&buffer[..read_bytes]);
        if read_bytes < PIECE_BYTES {
            break; // the end of the file
        }
    }
    Ok(contents)
}

/// The rounds of a journal that the newest one needs, in order, from number `needed_from` on.
///
/// # Errors
/// The first block is damaged: the rounds are there and cannot be told from a client's bytes.
fn needed_rounds<'a>(
    contents: &'a [u8],
    needed_from: u64,
    path: &Path,
) -> Result<Vec<Round<'a>>, StorageError> {
    let Some(id) = decode_first_block(contents) else {
        // Without any round a crash came while the journal was made.
        if !contents.chunks(DIRECT_ALIGN_BYTES).any(begins_round) {
            return Ok(Vec::new());
        }
        let path = path.to_path_buf();
        return Err(StorageError::Damaged { path, reason: "its first block names no journal" });
    };
    let mut rounds = Vec::new();
    let mut at = FIRST_BLOCK_BYTES;
    while at < contents.len() {
        match decode_round(&contents[at..], id) {
            Some(round) => {
                at += round.bytes.next_multiple_of(DIRECT_ALIGN_BYTES);
                rounds.push(round);
            }
            None => at += DIRECT_ALIGN_BYTES,
        }
    }
    rounds.sort_by_key(|round| round.number);
    let newest_needs = rounds.last().map_or(0, |newest| newest.needed_from);
    rounds.retain(|round| round.number >= needed_from.max(newest_needs));
    for pair in rounds.windows(2).filter(|pair| pair[0].number + 1 != pair[1].number) {
        let (after, before) = (pair[0].number, pair[1].number);
        // Those that a round which a crash tore was written over, or damage.
        tracing::warn!(journal = %path.display(), after, before, "rounds are missing");
    }
    Ok(rounds)
}

fn runs_of(rounds: &[Round<'_>], only_dir: Option<&str>) -> Runs {
    let mut runs = Runs::new();
    for part in rounds.iter().flat_map(|round| &round.parts) {
        let place = part.place;
        if only_dir.is_some_and(|dir_name| dir_name != place.dir_name) {
            continue;
        }
        let key = (place.dir_name.to_owned(), place.topic_id, place.segment);
        let of_segment = runs.entry(key).or_default();
        match of_segment.last_mut() {
            Some(run) if run.position + run.bytes.len() as u64 == place.position => {
                run.bytes.extend_from_slice(part.bytes);
            }
            _ => of_segment.push(Run { position: place.position, bytes: part.bytes.to_vec() }),
        }
    }
    runs
}

/// Returns how many bytes were written; durable on return.
async fn write_runs(io: &Io, data_dir: &Path, runs: &Runs) -> Result<u64, StorageError> {
    let mut written_bytes = 0;
    for ((dir_name, topic_id, segment), runs) in runs {
        let dir = data_dir.join(dir_name);
        if !is_plain(dir_name) || !is_topics(io, &dir, *topic_id).await? {
            continue; // deleted since
        }
        let path = path_of(&dir, *segment, LOG_SUFFIX);
        let file = match io.open(&path, OpenMode::ReadWrite).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // given up since
            opened => opened.map_err(failed("open", &path))?,
        };
        let mut end = file.bytes();
        for run in runs {
            end = end.max(run.position + run.bytes.len() as u64);
            let written = write_run(io, &file, run).await;
            written.map_err(failed("write what a journal holds to", &path))?;
            written_bytes += run.bytes.len() as u64;
        }
        if file.bytes() > end {
            // A closed segment ends where its last batch does.
            file.truncate(end).await.map_err(failed("truncate", &path))?;
        }
        file.sync().await.map_err(failed("flush", &path))?;
    }
    Ok(written_bytes)
}

fn is_plain(dir_name: &str) -> bool {
    let mut components = Path::new(dir_name).components();
    matches!(components.next(), Some(std::path::Component::Normal(_)))
        && components.next().is_none()
}

/// Whether `dir` is still the partition of that topic.
async fn is_topics(io: &Io, dir: &Path, topic_id: TopicId) -> Result<bool, StorageError> {
    match owner_of(io, dir).await.map_err(failed("read the owner of", dir))? {
        DirOwner::Undecodable => Err(undecodable_owner(dir)),
        owner => Ok(owner == DirOwner::Topic(topic_id)),
    }
}

/// Writes whole blocks. What they hold before the run stays, and behind it what continues it: the
/// rest of a recycled file's block is not to look like a batch that a crash tore.
async fn write_run(io: &Io, file: &File, run: &Run) -> io::Result<()> {
    let run_end = run.position + run.bytes.len() as u64;
    let mut at = run.position / ALIGN * ALIGN;
    while at < run_end {
        let end = (at + PIECE_BYTES as u64).min(run_end.next_multiple_of(ALIGN));
        let mut buffer = io.memory().allocate_wait((end - at) as usize).await;
        buffer.fill(0);
        let (from, to) = (run.position.max(at), run_end.min(end));
        if from > at {
            read_block(io, file, at, &mut buffer[..DIRECT_ALIGN_BYTES]).await?;
        }
        if to < end {
            let last = buffer.len() - DIRECT_ALIGN_BYTES;
            read_block(io, file, end - ALIGN, &mut buffer[last..]).await?;
            let behind = &mut buffer[(to - at) as usize..];
            let next = end_offset_of(&run.bytes).to_be_bytes();
            let shared = behind.len().min(next.len());
            if behind[..shared] != next[..shared] {
                behind.fill(0);
            }
        }
        let source = (from - run.position) as usize..(to - run.position) as usize;
        buffer[(from - at) as usize..(to - at) as usize].copy_from_slice(&run.bytes[source]);
        file.write_at(at, vec![buffer.freeze()]).await?;
        at = end;
    }
    Ok(())
}

/// The offset behind the last batch of `bytes`, which are whole batches.
fn end_offset_of(mut bytes: &[u8]) -> i64 {
    let mut end_offset = 0;
    while let Ok(head) = Head::parse_slice(bytes) {
        end_offset = head.end_offset();
        bytes = bytes.get(head.bytes as usize..).unwrap_or_default();
    }
    end_offset
}

/// The block at `position`, as far as the file has it.
async fn read_block(io: &Io, file: &File, position: u64, target: &mut [u8]) -> io::Result<()> {
    if position >= file.bytes() {
        return Ok(());
    }
    let buffer = io.memory().allocate_wait(DIRECT_ALIGN_BYTES).await;
    let (result, buffer) = file.read_at(position, buffer).await;
    let read_bytes = result?;
    target[..read_bytes].copy_from_slice(&buffer[..read_bytes]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim;
    use crate::storage::frame::tests::batch;

    /// Goal: behind what is redone stands what continues it, or nothing. Method: a file of other
    /// bytes, as a recycled one has them; the same with the next batch there.
    #[test]
    fn a_recycled_block_ends_behind_the_run() {
        for continues in [false, true] {
            sim::run(1, |io, _| async move {
                let path = Path::new("/words");
                let file = io.open(path, OpenMode::CreateNew).await.unwrap();
                let mut first = batch(300, 2, 0, 1);
                first[..8].copy_from_slice(&40_i64.to_be_bytes());
                let mut next = batch(200, 1, 0, 2);
                next[..8].copy_from_slice(&42_i64.to_be_bytes());
                let mut block = io.memory().allocate(DIRECT_ALIGN_BYTES).unwrap();
                block.fill(0xaa);
                if continues {
                    block[400..600].copy_from_slice(&next);
                }
                file.write_and_sync(0, vec![block.freeze()]).await.unwrap();
                write_run(&io, &file, &Run { position: 100, bytes: first.clone() }).await.unwrap();
                let found = io.read_file(path, DIRECT_ALIGN_BYTES).await.unwrap();
                assert_eq!(found[..100], [0xaa; 100]);
                assert_eq!(found[100..400], first);
                match continues {
                    true => assert_eq!(found[400..600], next),
                    false => assert!(found[400..].iter().all(|&byte| byte == 0)),
                }
            });
        }
    }

    /// Goal: a name in a journal leads nowhere but into the data directory. Method: names that
    /// would.
    #[test]
    fn a_directory_is_named_plainly() {
        assert!(is_plain("words-0") && is_plain("__consumer_offsets-49"));
        for name in ["", ".", "..", "../words-0", "/words-0", "words-0/x", "words-0/.."] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
