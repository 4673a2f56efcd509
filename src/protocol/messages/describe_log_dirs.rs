//! DescribeLogDirs: the directories of a broker and what lies in them.

use super::table::*;

message! {
    /// Key 35, versions 1 to 5, flexible from 2.
    DescribeLogDirsRequest<'a> {
        1.. => topics: Option<Vec<DescribableLogDirTopic<'a>>>,
    }
}

message! {
    DescribableLogDirTopic<'a> {
        1.. => topic: &'a str,
        1.. => partitions: Vec<i32>,
    }
}

message! {
    /// Key 35, versions 1 to 5, flexible from 2.
    DescribeLogDirsResponse<'a> {
        1.. => throttle_time_ms: i32,
        3.. => error_code: ErrorCode,
        1.. => results: Vec<DescribeLogDirsResult<'a>>,
    }
}

message! {
    DescribeLogDirsResult<'a> {
        1.. => error_code: ErrorCode,
        1.. => log_dir: &'a str,
        1.. => topics: Vec<DescribeLogDirsTopic<'a>>,
        4.. => total_bytes: i64 = -1,
        4.. => usable_bytes: i64 = -1,
        5.. => is_cordoned: bool,
    }
}

message! {
    DescribeLogDirsTopic<'a> {
        1.. => name: &'a str,
        1.. => partitions: Vec<DescribeLogDirsPartition>,
    }
}

message! {
    DescribeLogDirsPartition {
        1.. => partition_index: i32,
        1.. => partition_size: i64,
        1.. => offset_lag: i64,
        1.. => is_future_key: bool,
    }
}
