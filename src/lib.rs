//! ringmain, a streaming broker that Kafka's clients use unchanged: the tour of the code.

pub mod base;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod consensus;
pub mod io;
pub mod node;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod storage;
