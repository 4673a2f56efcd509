//! DescribeCluster: the brokers, and which of them controls.

use super::operations::{NOT_ASKED, OF_CLUSTER};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Endpoints of brokers; controllers have none of their own here.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers with every broker.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeClusterRequest = request.decode()?;
    let shard = &request.server.shard;
    let image = shard.image();
    let unsupported = format!("Unsupported endpoint type {}", body.endpoint_type);
    let (error_code, error_message) = match body.endpoint_type {
        BROKERS => (ErrorCode::None, None),
        CONTROLLERS => (
            ErrorCode::MismatchedEndpointType,
            Some(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint \
                  of type CONTROLLER",
            ),
        ),
        _ => (ErrorCode::UnsupportedEndpointType, Some(unsupported.as_str())),
    };
    if error_code != ErrorCode::None {
        let endpoint_type = body.endpoint_type;
        let response = DescribeClusterResponse {
            error_code,
            error_message,
            endpoint_type,
            ..Default::default()
        };
        return Ok(request.encode(&response));
    }
    let brokers = image.brokers().map(|broker| DescribeClusterBroker {
        broker_id: broker.id.0,
        host: &broker.host,
        port: broker.port.into(),
        rack: broker.rack.as_deref(),
        is_fenced: false,
    });
    let asked = body.include_cluster_authorized_operations;
    Ok(request.encode(&DescribeClusterResponse {
        cluster_id: image.cluster_id(),
        controller_id: shard.node.node_id.0,
        brokers: brokers.collect(),
        cluster_authorized_operations: if asked { OF_CLUSTER } else { NOT_ASKED },
        ..Default::default()
    }))
}
