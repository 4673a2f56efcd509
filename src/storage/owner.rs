//! Whose partition a directory is: what its `partition.metadata`, a file of Kafka's, says.

use super::StorageError;
use super::checkpoint::{PARTITION_METADATA_NAME, decode_partition_metadata};
use crate::base::ids::TopicId;
use crate::io::Io;
use std::io;
use std::path::Path;

/// A partition's metadata is two lines; more is none.
const METADATA_BYTES_MAX: usize = 4096;

/// What the `partition.metadata` of a directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirOwner {
    /// There is none.
    Nobody,
    Topic(TopicId),
    /// There is one, and it is damaged.
    Undecodable,
}

/// Whose partition the directory `dir` is, if there is such a directory.
///
/// # Errors
/// The file system's.
pub async fn owner_of(io: &Io, dir: &Path) -> io::Result<DirOwner> {
    match io.read_file(&dir.join(PARTITION_METADATA_NAME), METADATA_BYTES_MAX).await {
        Ok(text) => {
            let topic_id = decode_partition_metadata(&String::from_utf8_lossy(&text));
            Ok(topic_id.map_or(DirOwner::Undecodable, DirOwner::Topic))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DirOwner::Nobody),
        Err(error) => Err(error),
    }
}

/// The error of whoever must know the owner of `dir`.
pub(super) fn undecodable_owner(dir: &Path) -> StorageError {
    let path = dir.join(PARTITION_METADATA_NAME);
    StorageError::Damaged { path, reason: "not a partition.metadata" }
}
