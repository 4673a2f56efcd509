//! Partitions on disk: appended, flushed, read, cut and given up again. Imports base, protocol and
//! io.
//!
//! Reading order: [`log`] is the public face, [`append`] puts batches at its end; [`segment`],
//! [`index`], [`epochs`] and [`frame`] are what a log is made of; [`tail_cache`] holds its newest
//! bytes; [`commit`] and [`write`] bring them to the disk, into space that [`prepare`] made ready,
//! small ones of many logs through the shard's [`journal`] in [`rounds`], which [`redo`] reads
//! after a crash; [`read`] and [`lookup`] find them again; [`retention`] and [`truncate`] give them
//! up; [`checkpoint`] and [`recovery`] carry a log over a stop or a crash, with [`scan`];
//! [`producers`] tells repeated batches, [`snapshot`] and [`replay`] carry that over; [`data_dir`]
//! is the directory around all logs, [`owner`] whose one of them is; [`wake`] lets tasks wait.
//! **Invariant:** what was acknowledged is on stable storage, and every log is a prefix of what was
//! appended.
#![forbid(unsafe_code)]

mod append;
pub mod checkpoint;
pub mod commit;
pub mod data_dir;
pub mod epochs;
mod frame;
mod index;
mod journal;
mod journal_frame;
pub mod log;
mod lookup;
mod owner;
mod prepare;
pub mod producers;
mod read;
mod recovery;
mod redo;
mod replay;
mod retention;
mod rounds;
mod scan;
mod segment;
mod snapshot;
mod tail_cache;
#[cfg(test)]
mod tests;
mod truncate;
pub mod wake;
mod write;

pub use checkpoint::CleanLog;
pub use commit::{Budgets, Committer};
pub use data_dir::{DataDir, DataDirError};
pub use journal::JournalPlace;
pub use log::{
    AppendError, Appended, FlushError, FlushPolicy, Log, LogConfig, OpenLog, ReadBatches,
    ReadError, Recovery, TimestampedOffset, Watch,
};
pub use owner::{DirOwner, owner_of};
pub use producers::{KnownProducer, ProducerError};
pub use redo::{Redone, redo};

use crate::base::ids::{Offset, TopicId};
use std::path::PathBuf;

/// Why a log could not be opened, closed, cut or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("index of segment {segment}: {reason}")]
    Index { segment: Offset, reason: String },
    #[error("{path} belongs to topic {found}, not to {expected}")]
    ForeignTopic { path: PathBuf, found: TopicId, expected: TopicId },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: &'static str },
    #[error("no space is left for what {path} was given")]
    NoSpace { path: PathBuf },
    #[error("the log is fenced: {0}")]
    Fenced(String),
    #[error(transparent)]
    Unreadable(ReadError),
}
