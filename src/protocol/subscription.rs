//! What consumers of the classic protocol put into their metadata and assignments.
//!
//! Clients write these bytes for each other; the broker reads them to know which topics a group
//! uses, and writes them for members that stay classic in a group of the consumer protocol.

use super::schema::message;
use super::wire::{Reader, Version, Wire, WireError, Writer};

/// The newest version that is known; newer ones only add at the end.
const VERSION_MAX: i16 = 3;

message! {
    /// What a consumer wants and has: versions 0 to 3.
    Subscription<'a> {
        0.. => topics: Vec<&'a str>,
        0.. => user_data: Option<&'a [u8]>,
        1.. => owned_partitions: Vec<TopicPartitions<'a>>,
        2.. => generation_id: i32 = -1,
        3.. => rack_id: Option<&'a str>,
    }
}

message! {
    TopicPartitions<'a> {
        0.. => topic: &'a str,
        0.. => partitions: Vec<i32>,
    }
}

message! {
    /// What a consumer is assigned: versions 0 to 3, all alike.
    Assignment<'a> {
        0.. => assigned_partitions: Vec<TopicPartitions<'a>>,
        0.. => user_data: Option<&'a [u8]>,
    }
}

/// Reads a consumer's metadata, with its version.
///
/// # Errors
/// [`WireError`]: it is none.
pub fn read(metadata: &[u8]) -> Result<(i16, Subscription<'_>), WireError> {
    let mut reader = Reader::new(metadata);
    let number = read_version(&mut reader)?;
    let version = Version { number: number.min(VERSION_MAX), flexible: false };
    Ok((number, Subscription::read(&mut reader, version)?))
}

fn read_version(reader: &mut Reader<'_>) -> Result<i16, WireError> {
    let number = i16::read(reader, Version { number: 0, flexible: false })?;
    if number < 0 {
        return Err(WireError::BadLength { length: i64::from(number), least: 0 });
    }
    Ok(number)
}

/// Reads a consumer's assignment.
///
/// # Errors
/// [`WireError`]: it is none.
pub fn read_assignment(assignment: &[u8]) -> Result<Assignment<'_>, WireError> {
    let mut reader = Reader::new(assignment);
    let number = read_version(&mut reader)?;
    let version = Version { number: number.min(VERSION_MAX), flexible: false };
    Assignment::read(&mut reader, version)
}

/// The topics of a consumer's metadata, if it is one's.
pub fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (_, subscription) = read(metadata).ok()?;
    Some(subscription.topics.into_iter().map(str::to_owned).collect())
}

/// An assignment's bytes in `number`'s version.
pub fn write_assignment(number: i16, assignment: &Assignment<'_>) -> Vec<u8> {
    let version = Version { number: number.min(VERSION_MAX), flexible: false };
    let mut writer = Writer::with_capacity(64);
    writer.put(&version.number.to_be_bytes());
    assignment.write(&mut writer, version);
    writer.finish().head
}

/// A subscription's bytes in `number`'s version.
pub fn write(number: i16, subscription: &Subscription<'_>) -> Vec<u8> {
    let version = Version { number: number.min(VERSION_MAX), flexible: false };
    let mut writer = Writer::with_capacity(64);
    writer.put(&version.number.to_be_bytes());
    subscription.write(&mut writer, version);
    writer.finish().head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what clients write is read, whatever their version. Method: write and read each; cut.
    #[test]
    fn a_subscription_reads_back_in_every_version() {
        let owned = TopicPartitions { topic: "a", partitions: vec![1, 2] };
        let whole = Subscription {
            topics: vec!["a", "b"],
            user_data: Some(b"x"),
            owned_partitions: vec![owned],
            generation_id: 4,
            rack_id: Some("r"),
        };
        for number in 0..=VERSION_MAX {
            let bytes = write(number, &whole);
            let (read_number, read_back) = read(&bytes).unwrap();
            assert_eq!((read_number, &read_back.topics), (number, &whole.topics));
            assert_eq!(read_back.rack_id, whole.rack_id.filter(|_| number >= 3));
            assert_eq!(topics(&bytes).unwrap(), ["a", "b"]);
            assert!(topics(&bytes[..bytes.len() - 1]).is_none());
        }
        let mut newer = write(VERSION_MAX, &whole);
        newer[1] = 9;
        newer.extend_from_slice(b"more");
        assert_eq!(read(&newer).unwrap().0, 9);
        assert!(topics(b"").is_none());
        assert!(topics(&[0xff, 0xff, 0, 0]).is_none());
    }
}
