//! The vocabulary of every layer: identifiers, bounds, measurements. Imports nothing of ours.
#![forbid(unsafe_code)]

pub mod ids;
pub mod limits;
pub mod metrics;
