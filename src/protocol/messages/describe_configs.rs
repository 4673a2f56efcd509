//! DescribeConfigs: the settings of topics, brokers and groups, with where each value comes from.

use super::table::*;

message! {
    /// Key 32, versions 1 to 4, flexible from 4.
    DescribeConfigsRequest<'a> {
        1.. => resources: Vec<DescribeConfigsResource<'a>>,
        1.. => include_synonyms: bool,
        3.. => include_documentation: bool,
    }
}

message! {
    DescribeConfigsResource<'a> {
        /// 2 topic, 4 broker, 8 broker's loggers, 16 client metrics, 32 group.
        1.. => resource_type: i8,
        1.. => resource_name: &'a str,
        /// Null asks for all.
        1.. => configuration_keys: Option<Vec<&'a str>>,
    }
}

message! {
    /// Key 32, versions 1 to 4, flexible from 4.
    DescribeConfigsResponse<'a> {
        1.. => throttle_time_ms: i32,
        1.. => results: Vec<DescribeConfigsResult<'a>>,
    }
}

message! {
    DescribeConfigsResult<'a> {
        1.. => error_code: ErrorCode,
        1.. => error_message: Option<&'a str>,
        1.. => resource_type: i8,
        1.. => resource_name: &'a str,
        1.. => configs: Vec<DescribeConfigsResourceResult<'a>>,
    }
}

message! {
    DescribeConfigsResourceResult<'a> {
        1.. => name: &'a str,
        1.. => value: Option<&'a str>,
        1.. => read_only: bool,
        /// 1 topic, 2 broker, 3 all brokers, 4 the broker's file, 5 default, 6 logger, 7 client
        /// metrics, 8 group.
        1.. => config_source: i8 = -1,
        1.. => is_sensitive: bool,
        1.. => synonyms: Vec<DescribeConfigsSynonym<'a>>,
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        3.. => config_type: i8,
        3.. => documentation: Option<&'a str>,
    }
}

message! {
    DescribeConfigsSynonym<'a> {
        1.. => name: &'a str,
        1.. => value: Option<&'a str>,
        1.. => source: i8,
    }
}
