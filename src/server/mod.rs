//! Connections, and the answers to Kafka's requests.
//!
//! Reading order: [`listener`] accepts and deals; [`connection`] reads [`frame`]s, hands them to
//! [`dispatch`] and sends the answers in order, as [`answer`] gathers them; `handlers` has one file
//! a request, the only place of Kafka's error codes; [`fetch_session`] remembers what consumers
//! want.
#![forbid(unsafe_code)]

pub mod answer;
pub mod connection;
pub mod dispatch;
pub mod fetch_session;
pub mod frame;
mod handlers;
pub mod listener;
