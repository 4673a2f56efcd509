//! The cluster: its metadata and settings, who may change them, and this node's replicas.
#![forbid(unsafe_code)]

pub mod changes;
pub mod metadata;
pub mod records;
pub mod settings;
