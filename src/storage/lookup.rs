//! Finding records by their time: the time index leads to a batch, the batch's records decide.

use super::log::{Log, ReadError, TimestampedOffset};
use crate::base::ids::Offset;
use crate::base::limits::{MIB, REQUEST_BYTES_MAX};
use crate::protocol::batch::{BatchView, Batches};

/// Bytes read at a time while walking towards a timestamp.
const WALK_BYTES: usize = MIB;

impl Log {
    /// The first acknowledged record with `timestamp` or a later one; `None` without any.
    ///
    /// # Errors
    /// [`ReadError`]: damage or the disk came in between.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut after = Offset(-1);
        loop {
            let Some((from, upto)) = self.candidate(timestamp, after).await else {
                return Ok(None);
            };
            if let Some(found) =
                self.walk(from, upto, |view, at| view >= timestamp && at >= from.0).await?
            {
                return Ok(Some(found));
            }
            after = upto;
        }
    }

    /// The acknowledged record with the largest timestamp, the first of them; `None` without
    /// records.
    ///
    /// # Errors
    /// [`ReadError`]: damage or the disk came in between.
    pub async fn max_timestamp_offset(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        let (timestamp, batch_offset) = {
            let state = self.0.state.borrow();
            let mut newest = (-1, -1);
            for segment in &state.segments {
                if segment.max_timestamp.get() > newest.0 {
                    newest = (segment.max_timestamp.get(), segment.max_timestamp_offset.get());
                }
            }
            newest
        };
        let from = Offset(batch_offset.max(self.start_offset().0));
        let upto = self.flushed_offset();
        if timestamp < 0 || from >= upto {
            return Ok(None);
        }
        self.walk(from, upto, |view, _| view >= timestamp).await
    }

    /// The first segment behind `after` that may hold the timestamp: from where, and where it ends.
    async fn candidate(&self, timestamp: i64, after: Offset) -> Option<(Offset, Offset)> {
        let (segment, start, flushed, interval_bytes) = {
            let state = self.0.state.borrow();
            // A segment without an acknowledged record that is kept would be found again for ever.
            let segment = state.segments.iter().find(|segment| {
                segment.base_offset >= after
                    && segment.base_offset < state.flushed_offset
                    && segment.end_offset.get() > state.start_offset
                    && segment.max_timestamp.get() >= timestamp
            });
            let interval_bytes = state.config.index_interval_bytes;
            (segment?.clone(), state.start_offset, state.flushed_offset, interval_bytes)
        };
        // Without an index the walk begins at the segment's start.
        let _ = segment.load_index(&self.0.io, interval_bytes).await;
        let near =
            segment.index.borrow().as_ref().map(|index| index.offset_before_timestamp(timestamp));
        let near = if segment.has_index() { near } else { None };
        let from = near.unwrap_or(segment.base_offset).max(start);
        let upto = segment.end_offset.get().min(flushed);
        (from < upto).then_some((from, upto))
    }

    /// The first record between `from` and `upto` whose timestamp and offset `wanted` accepts.
    async fn walk(
        &self,
        from: Offset,
        upto: Offset,
        wanted: impl Fn(i64, i64) -> bool,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut from = from;
        while from < upto {
            let read = self.read(from, WALK_BYTES, upto, true).await?;
            if read.bytes == 0 {
                return Ok(None);
            }
            let bytes = read.slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat();
            for batch in Batches::new(&bytes) {
                let undecodable = |reason: String| ReadError::Undecodable { offset: from, reason };
                let batch = batch.map_err(|error| undecodable(error.to_string()))?;
                if !wanted(batch.max_timestamp(), i64::MAX) {
                    continue;
                }
                let found = find_record(&batch, &wanted).map_err(undecodable)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            from = read.next_offset;
        }
        Ok(None)
    }
}

fn find_record(
    batch: &BatchView<'_>,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<Option<TimestampedOffset>, String> {
    let payload = batch.decompressed(REQUEST_BYTES_MAX).map_err(|error| error.to_string())?;
    for record in batch.records_in(&payload) {
        let record = record.map_err(|error| error.to_string())?;
        let timestamp = batch.timestamp(record.timestamp_delta);
        let offset = batch.base_offset().plus(i64::from(record.offset_delta));
        if wanted(timestamp, offset.0) {
            let epoch = batch.leader_epoch();
            return Ok(Some(TimestampedOffset { offset, timestamp, epoch }));
        }
    }
    Ok(None)
}
