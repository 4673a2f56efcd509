//! ListPartitionReassignments: on a single node no replica is ever on the move.

use crate::protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers that nothing is under way, whatever is asked for: Kafka, too, leaves out what is not.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let _: ListPartitionReassignmentsRequest = request.decode()?;
    Ok(request.encode(&ListPartitionReassignmentsResponse::default()))
}
