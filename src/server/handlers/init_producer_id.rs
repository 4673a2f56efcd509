//! InitProducerId: an id for a producer that numbers its batches. Transactions are not served.

use crate::protocol::batch::NO_PRODUCER_ID;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

const NO_EPOCH: i16 = -1;
/// A new id begins with this epoch.
const FIRST_EPOCH: i16 = 0;

/// Answers with a new id. One that the producer has already (KIP-360) matters only to transactions:
/// as in Kafka a producer without a transactional id gets another.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: InitProducerIdRequest = request.decode()?;
    let id_without_epoch =
        (body.producer_id == NO_PRODUCER_ID) != (body.producer_epoch == NO_EPOCH);
    let given = match body.transactional_id {
        _ if id_without_epoch => Err(ErrorCode::InvalidRequest),
        Some("") => Err(ErrorCode::InvalidRequest),
        // As FindCoordinator says it: no retry helps.
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None => request.server.shard.producer_id().await.map_err(|error| {
            tracing::warn!(%error, "no producer id can be given out");
            // The one code on which all clients ask again, and idempotent ones the same broker.
            ErrorCode::CoordinatorLoadInProgress
        }),
    };
    Ok(request.encode(&InitProducerIdResponse {
        error_code: given.err().unwrap_or(ErrorCode::None),
        producer_id: given.unwrap_or(NO_PRODUCER_ID),
        producer_epoch: given.map_or(NO_EPOCH, |_| FIRST_EPOCH),
        ..Default::default()
    }))
}
