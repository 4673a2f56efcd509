//! Kafka's wire format: frames, headers, messages and record batches, as bytes in memory.
//!
//! Every message is a table, one row a field (`messages/`); every key with its versions is one row
//! of [`api::TABLE`]. Decoding borrows from the frame and allocates no more than a small multiple
//! of it. Nothing here does I/O or knows what a request is for.
#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
pub mod compression;
pub mod error;
pub mod header;
pub mod messages;
pub mod produce;
pub mod recompression;
pub mod record;
pub mod schema;
pub mod subscription;
pub mod wire;
