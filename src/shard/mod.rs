//! A shard's state and the mailbox through which shards speak. Knows no Kafka error codes.
//!
//! Reading order: [`state`] is the shard; [`replica`] one partition on it; [`produce`], [`fetch`]
//! and [`offsets`] serve the shard's part of a request; [`mailbox`] carries them between shards
//! with [`calls`]; [`producers`] gives clients ids; [`groups`] hosts the group coordinators that
//! [`group_load`] loads; [`placement`] says who owns what; [`strays`] clears the data directory;
//! [`signal`] wakes tasks and bounds bytes.
#![forbid(unsafe_code)]

pub mod calls;
pub mod fetch;
pub mod group_load;
pub mod groups;
pub mod mailbox;
pub mod offsets;
pub mod placement;
pub mod produce;
pub mod producers;
pub mod replica;
pub mod signal;
pub mod state;
pub mod strays;
#[cfg(test)]
mod tests;
