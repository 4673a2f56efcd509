//! The cluster: its metadata and settings, who may change them, and this node's replicas.
#![forbid(unsafe_code)]

pub mod changes;
pub mod controller;
mod frames;
pub mod metadata;
pub mod metadata_log;
mod quorum;
pub mod records;
pub mod settings;
