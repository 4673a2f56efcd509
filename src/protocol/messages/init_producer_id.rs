//! InitProducerId: a producer id and epoch for an idempotent or transactional producer.

use super::table::*;

message! {
    /// Key 22, versions 0 to 6, flexible from 2.
    InitProducerIdRequest<'a> {
        0.. => transactional_id: Option<&'a str>,
        0.. => transaction_timeout_ms: i32,
        3.. => producer_id: i64 = -1,
        3.. => producer_epoch: i16 = -1,
        6.. => enable2_pc: bool,
        6.. => keep_prepared_txn: bool,
    }
}

message! {
    /// Key 22, versions 0 to 6, flexible from 2.
    InitProducerIdResponse {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => producer_id: i64 = -1,
        0.. => producer_epoch: i16,
        6.. => ongoing_txn_producer_id: i64 = -1,
        6.. => ongoing_txn_producer_epoch: i16 = -1,
    }
}
