//! Partition directories that belong to no topic: set aside before any log is opened.
//!
//! A crash between the agreement on a deletion and the removal of its directories leaves them, and
//! a new topic of the same name would find them in its place. They are renamed, not removed:
//! whoever lost the metadata log would otherwise lose the records, too.

use crate::base::ids::TopicId;
use crate::cluster::metadata::Image;
use crate::io::Io;
use crate::storage::{CleanLog, DirOwner, owner_of};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// What the name of a directory set aside ends with, as in Kafka.
const STRAY_SUFFIX: &str = "-stray";

/// Renames the directories under `data_dir` whose topic is not in `image`; returns how many.
///
/// `clean` is what a clean stop left: it says whose a directory is without a look at the disk.
///
/// # Errors
/// The file system's.
pub async fn set_aside(
    io: &Io,
    data_dir: &Path,
    image: &Image,
    clean: &[CleanLog],
) -> io::Result<usize> {
    let clean: HashMap<&str, TopicId> =
        clean.iter().map(|log| (log.dir_name.as_str(), log.topic_id)).collect();
    let mut count = 0;
    for entry in io.list_dir(data_dir).await? {
        if !entry.is_dir || entry.name.ends_with(STRAY_SUFFIX) {
            continue;
        }
        let dir = data_dir.join(&entry.name);
        let topic_id = match clean.get(entry.name.as_str()) {
            Some(topic_id) => *topic_id,
            None => match owner_of(io, &dir).await? {
                DirOwner::Topic(topic_id) => topic_id,
                DirOwner::Nobody | DirOwner::Undecodable => continue,
            },
        };
        if image.topic_by_id(topic_id).is_some() {
            continue;
        }
        let name = format!("{}.{topic_id}{STRAY_SUFFIX}", entry.name);
        tracing::warn!(dir = %dir.display(), renamed = name, "the directory belongs to no topic");
        io.rename(&dir, &data_dir.join(name)).await?;
        count += 1;
    }
    if count > 0 {
        io.sync_dir(data_dir).await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim;
    use crate::storage::checkpoint::{PARTITION_METADATA_NAME, encode_partition_metadata};

    /// Goal: only directories of unknown topics move. Method: one of them, one without metadata.
    #[test]
    fn a_directory_of_no_topic_is_set_aside_once() {
        sim::run(1, |io, _| async move {
            let data_dir = Path::new("/data");
            for name in ["words-0", "metadata"] {
                io.create_dir_all(&data_dir.join(name)).await.unwrap();
            }
            let metadata = encode_partition_metadata(TopicId(5)).into_bytes();
            let path = data_dir.join("words-0").join(PARTITION_METADATA_NAME);
            io.replace_file(&path, metadata).await.unwrap();
            let image = Image::default();
            assert_eq!(set_aside(&io, data_dir, &image, &[]).await.unwrap(), 1);
            assert_eq!(set_aside(&io, data_dir, &image, &[]).await.unwrap(), 0);
            let entries = io.list_dir(data_dir).await.unwrap();
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, ["metadata", "words-0.AAAAAAAAAAAAAAAAAAAABQ-stray"]);
        });
    }
}
