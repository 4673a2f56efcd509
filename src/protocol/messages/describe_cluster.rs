//! DescribeCluster: the brokers or controllers, without topics.

use super::table::*;

message! {
    /// Key 60, versions 0 to 2, flexible from 0.
    DescribeClusterRequest {
        0.. => include_cluster_authorized_operations: bool,
        /// 1 brokers, 2 controllers.
        1.. => endpoint_type: i8 = 1,
        2.. => include_fenced_brokers: bool,
    }
}

message! {
    /// Key 60, versions 0 to 2, flexible from 0.
    DescribeClusterResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        1.. => endpoint_type: i8 = 1,
        0.. => cluster_id: &'a str,
        0.. => controller_id: i32 = -1,
        0.. => brokers: Vec<DescribeClusterBroker<'a>>,
        /// A set of bits; `i32::MIN`: was not asked for.
        0.. => cluster_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    DescribeClusterBroker<'a> {
        0.. => broker_id: i32,
        0.. => host: &'a str,
        0.. => port: i32,
        0.. => rack: Option<&'a str>,
        2.. => is_fenced: bool,
    }
}
