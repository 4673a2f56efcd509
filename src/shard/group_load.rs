//! Loading a coordinator: its partition of `__consumer_offsets`, read from start to end.

use super::replica::Replica;
use crate::base::ids::Offset;
use crate::base::limits::{GROUP_BATCH_BYTES_MAX, MIB};
use crate::coordinator::{Coordinator, GroupSettings};
use crate::io::{Io, Slice};
use crate::protocol::batch::{BatchView, Batches};
use crate::storage::ReadError;
use std::borrow::Cow;
use std::rc::Rc;

/// What one read asks for; a larger batch comes whole.
const READ_BYTES: usize = MIB;

/// Why there is no coordinator.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Loading again gives the same.
    #[error("the record at offset {offset} cannot be used: {reason}")]
    Damaged { offset: Offset, reason: String },
    #[error("the log cannot be read now: {0}")]
    Unavailable(String),
}

/// A coordinator with all groups of the partition. `finish_load` is still to be called.
///
/// # Errors
/// [`LoadError`]; nothing was changed.
pub async fn load(
    io: &Io,
    replica: &Rc<Replica>,
    settings: GroupSettings,
) -> Result<Coordinator, LoadError> {
    let log = replica.log();
    if let Some(reason) = log.fenced() {
        return Err(LoadError::Unavailable(reason));
    }
    if replica.has_line() {
        // Left by the coordinator before this one; it may still get into the log.
        return Err(LoadError::Unavailable("appends wait for room".to_owned()));
    }
    let end = log.end_offset();
    let flushed = log.wait_flushed(end).await;
    flushed.map_err(|error| LoadError::Unavailable(error.to_string()))?;
    let began = io.clock().monotonic();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut coordinator = Coordinator::new(settings, seed);
    let mut offset = log.start_offset();
    let mut records_count = 0;
    while offset < end {
        let read = log.read(offset, READ_BYTES, end, true).await?;
        if read.next_offset <= offset {
            return Err(LoadError::Unavailable(format!("nothing is read at offset {offset}")));
        }
        records_count += load_batches(&mut coordinator, offset, &joined(&read.slices))?;
        offset = read.next_offset;
        io.yield_now().await;
    }
    if records_count > 0 {
        let time = io.clock().monotonic().saturating_sub(began);
        let (partition, groups) = (replica.id().partition, coordinator.groups_count());
        tracing::info!(%partition, groups, records = records_count, ?time, "groups loaded");
    }
    Ok(coordinator)
}

fn joined(slices: &[Slice]) -> Cow<'_, [u8]> {
    match slices {
        [only] => Cow::Borrowed(only),
        several => Cow::Owned(several.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat()),
    }
}

/// Loads the records of whole batches, those from `from` on; returns how many.
fn load_batches(
    coordinator: &mut Coordinator,
    from: Offset,
    bytes: &[u8],
) -> Result<usize, LoadError> {
    let mut records_count = 0;
    let mut next_offset = from;
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| damaged(next_offset, &error))?;
        next_offset = batch.next_offset();
        // Markers of transactions say nothing without the transactions' records.
        if !batch.is_control() {
            records_count += load_batch(coordinator, from, &batch)?;
        }
    }
    Ok(records_count)
}

fn load_batch(
    coordinator: &mut Coordinator,
    from: Offset,
    batch: &BatchView<'_>,
) -> Result<usize, LoadError> {
    let base = batch.base_offset();
    if batch.is_transactional() {
        return Err(damaged(base, &"it belongs to a transaction, and those are not served"));
    }
    let records = batch.decompressed(GROUP_BATCH_BYTES_MAX);
    let records = records.map_err(|error| damaged(base, &error))?;
    let mut records_count = 0;
    for record in batch.records_in(&records) {
        let record = record.map_err(|error| damaged(base, &error))?;
        let offset = base.plus(record.offset_delta.into());
        if offset < from {
            continue; // given up by DeleteRecords
        }
        let Some(key) = record.key else { return Err(damaged(offset, &"it has no key")) };
        coordinator.load(key, record.value).map_err(|error| damaged(offset, &error))?;
        records_count += 1;
    }
    Ok(records_count)
}

fn damaged(offset: Offset, reason: &dyn std::fmt::Display) -> LoadError {
    LoadError::Damaged { offset, reason: reason.to_string() }
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> LoadError {
        match error {
            ReadError::Corrupt { start, .. } => damaged(start, &error),
            ReadError::Undecodable { offset, .. } => damaged(offset, &error),
            ReadError::OutOfRange { .. } | ReadError::Io { .. } => {
                LoadError::Unavailable(error.to_string())
            }
        }
    }
}
