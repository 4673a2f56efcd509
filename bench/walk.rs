//! What a fetch brought for one partition, looked at as cheaply as the offsets allow.
//!
//! Only headers are touched, one cache line a batch, unless checksums are asked for.

use ringmain::protocol::batch::{BatchError, BatchView, Batches};

/// What whole batches there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// With the cut-off batch at the end, if there is one: it went over the wire.
    pub bytes: u64,
    pub records_count: u64,
    /// Where to go on.
    pub next_offset: i64,
}

/// Walks over `records`, which were asked for from `offset` on.
///
/// The first batch may begin before `offset`, since batches are sent whole; a batch that is cut off
/// at the end is left for the next request. Each whole batch is shown to `look`.
///
/// # Errors
/// Bytes that are no batch, a wrong checksum, offsets that do not grow: what was found.
pub fn walk(
    records: &[u8],
    offset: i64,
    is_verified: bool,
    look: &mut impl FnMut(&BatchView<'_>),
) -> Result<Walked, String> {
    let mut walked = Walked { bytes: records.len() as u64, records_count: 0, next_offset: offset };
    let mut is_first = true;
    for batch in Batches::new(records) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(BatchError::Incomplete { .. }) if !is_first => break,
            Err(error) => return Err(format!("after offset {}: {error}", walked.next_offset)),
        };
        let (first, next) = (batch.base_offset().0, batch.next_offset().0);
        let is_in_order = if is_first { next > offset } else { first >= walked.next_offset };
        if !is_in_order || next <= first {
            return Err(format!(
                "a batch of offsets {first} to {} where {} is next",
                next - 1,
                walked.next_offset
            ));
        }
        if is_verified {
            batch.check_crc().map_err(|error| format!("offset {first}: {error}"))?;
        }
        look(&batch);
        walked.next_offset = next;
        walked.records_count += u64::from(batch.records_count());
        is_first = false;
    }
    Ok(walked)
}

#[cfg(test)]
mod tests {
    use super::*;

    use ringmain::base::ids::{LeaderEpoch, Offset};
    use ringmain::protocol::batch::{BatchBuilder, patch_base_offset_and_epoch};
    use ringmain::protocol::compression::Codec;
    use ringmain::protocol::record::NewRecord;

    /// A batch of 3 records at `offset`.
    fn batch(offset: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..3 {
            builder.append(&NewRecord { value: Some(b"value"), ..Default::default() });
        }
        let mut bytes = builder.finish();
        patch_base_offset_and_epoch(&mut bytes, Offset(offset), LeaderEpoch(1));
        bytes
    }

    #[test]
    fn whole_batches_count_and_a_cut_off_one_is_left() {
        let mut records = [batch(9), batch(12), batch(20)].concat();
        let whole = walk(&records, 10, true, &mut |_| {}).expect("in order");
        assert_eq!((whole.next_offset, whole.records_count), (23, 9));
        records.truncate(records.len() - 1);
        let cut = walk(&records, 10, true, &mut |_| {}).expect("in order");
        assert_eq!((cut.next_offset, cut.records_count), (15, 6));
        assert_eq!(cut.bytes, records.len() as u64);
    }

    #[test]
    fn offsets_that_go_back_are_named() {
        let records = [batch(12), batch(9)].concat();
        let fault = walk(&records, 12, false, &mut |_| {}).expect_err("9 after 14");
        assert!(fault.contains("9 to 11") && fault.contains("15"), "{fault}");
        assert!(walk(&batch(3), 6, false, &mut |_| {}).is_err(), "all of it lies before");
    }

    #[test]
    fn a_flipped_bit_is_seen_when_asked_for() {
        let mut records = batch(0);
        *records.last_mut().expect("not empty") ^= 1;
        assert!(walk(&records, 0, false, &mut |_| {}).is_ok());
        assert!(walk(&records, 0, true, &mut |_| {}).is_err());
    }
}
