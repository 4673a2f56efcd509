//! A Kafka client of our own: what the command line and the load generator drive brokers with.
//!
//! Speaks to any broker, in the highest version that both know. Single-threaded: everything lives
//! on the runtime it was made on. Knows nothing of this program's own broker.
#![forbid(unsafe_code)]

pub mod admin;
pub mod assignor;
pub mod cluster;
pub mod configs;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod group_consumer;
pub mod groups;
pub mod membership;
pub mod partitioner;
pub mod producer;
pub mod request;
pub mod wait;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;
