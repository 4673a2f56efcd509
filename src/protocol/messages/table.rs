//! What every table needs: the macro and the types of its columns.

pub(super) use crate::base::ids::TopicId;
pub(super) use crate::protocol::error::ErrorCode;
pub(super) use crate::protocol::schema::{message, nullable};
pub(super) use crate::protocol::wire::Records;
