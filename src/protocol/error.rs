//! Kafka's error codes: number, name, whether to try again, and what it means.
//!
//! The numbers and names are Kafka 4.4's. A number that is not known here reads as
//! [`ErrorCode::UnknownServerError`], which is what Kafka's own clients make of it.

use super::schema::Kind;
use super::wire::{Reader, Version, Wire, WireError, Writer};
use std::fmt;

const RETRIABLE: bool = true;
const FINAL: bool = false;

macro_rules! codes {
    ($(
        $(#[$attribute:meta])?
        $number:literal $variant:ident $name:ident $retriable:ident $message:literal;
    )*) => {
        /// What went wrong, as clients are told.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attribute])? $variant = $number,)*
        }

        impl ErrorCode {
            /// All of them, by number.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The code of a number; [`ErrorCode::UnknownServerError`] if there is none.
            pub fn from_number(number: i16) -> ErrorCode {
                match number {
                    $($number => ErrorCode::$variant,)*
                    _ => ErrorCode::UnknownServerError,
                }
            }

            /// Kafka's name for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => stringify!($name),)*
                }
            }

            /// What it means, in a few words.
            pub fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $message,)*
                }
            }

            /// Whether the same request may succeed later.
            pub fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => $retriable,)*
                }
            }
        }
    };
}

codes! {
    -1 UnknownServerError UNKNOWN_SERVER_ERROR FINAL
        "the broker met an error that it did not foresee";
    #[default] 0 None NONE FINAL "no error";
    1 OffsetOutOfRange OFFSET_OUT_OF_RANGE FINAL "the offset lies outside the log";
    2 CorruptMessage CORRUPT_MESSAGE RETRIABLE "the batch is damaged or malformed";
    3 UnknownTopicOrPartition UNKNOWN_TOPIC_OR_PARTITION RETRIABLE
        "there is no such topic or partition here";
    4 InvalidFetchSize INVALID_FETCH_SIZE FINAL "the fetch size is invalid";
    5 LeaderNotAvailable LEADER_NOT_AVAILABLE RETRIABLE "the partition has no leader at the moment";
    6 NotLeaderOrFollower NOT_LEADER_OR_FOLLOWER RETRIABLE
        "this broker does not lead the partition, or holds no replica of it";
    7 RequestTimedOut REQUEST_TIMED_OUT RETRIABLE "the request took longer than its timeout";
    8 BrokerNotAvailable BROKER_NOT_AVAILABLE FINAL "the broker is not available";
    9 ReplicaNotAvailable REPLICA_NOT_AVAILABLE RETRIABLE "the replica is not available";
    10 MessageTooLarge MESSAGE_TOO_LARGE FINAL "the batch is larger than the topic allows";
    11 StaleControllerEpoch STALE_CONTROLLER_EPOCH FINAL
        "the controller has moved to a newer epoch";
    12 OffsetMetadataTooLarge OFFSET_METADATA_TOO_LARGE FINAL
        "the metadata of the offset is too large";
    13 NetworkException NETWORK_EXCEPTION RETRIABLE "the connection ended before an answer came";
    14 CoordinatorLoadInProgress COORDINATOR_LOAD_IN_PROGRESS RETRIABLE
        "the coordinator is still loading";
    15 CoordinatorNotAvailable COORDINATOR_NOT_AVAILABLE RETRIABLE
        "the coordinator is not available";
    16 NotCoordinator NOT_COORDINATOR RETRIABLE "this broker is not the coordinator";
    17 InvalidTopicException INVALID_TOPIC_EXCEPTION FINAL "the topic name is invalid";
    18 RecordListTooLarge RECORD_LIST_TOO_LARGE FINAL "the batches are larger than a segment";
    19 NotEnoughReplicas NOT_ENOUGH_REPLICAS RETRIABLE "too few replicas are in sync";
    20 NotEnoughReplicasAfterAppend NOT_ENOUGH_REPLICAS_AFTER_APPEND RETRIABLE
        "the batch was written, but too few replicas were in sync";
    21 InvalidRequiredAcks INVALID_REQUIRED_ACKS FINAL "acks must be -1, 0 or 1";
    22 IllegalGeneration ILLEGAL_GENERATION FINAL "the generation is not the group's current one";
    23 InconsistentGroupProtocol INCONSISTENT_GROUP_PROTOCOL FINAL
        "the member's protocols do not fit the group's";
    24 InvalidGroupId INVALID_GROUP_ID FINAL "the group id is invalid";
    25 UnknownMemberId UNKNOWN_MEMBER_ID FINAL "the group does not know this member";
    26 InvalidSessionTimeout INVALID_SESSION_TIMEOUT FINAL
        "the session timeout is outside the allowed range";
    27 RebalanceInProgress REBALANCE_IN_PROGRESS FINAL "the group is rebalancing";
    28 InvalidCommitOffsetSize INVALID_COMMIT_OFFSET_SIZE FINAL "the commit is too large";
    29 TopicAuthorizationFailed TOPIC_AUTHORIZATION_FAILED FINAL "no permission for the topic";
    30 GroupAuthorizationFailed GROUP_AUTHORIZATION_FAILED FINAL "no permission for the group";
    31 ClusterAuthorizationFailed CLUSTER_AUTHORIZATION_FAILED FINAL
        "no permission for the cluster";
    32 InvalidTimestamp INVALID_TIMESTAMP FINAL "a timestamp is outside the allowed range";
    33 UnsupportedSaslMechanism UNSUPPORTED_SASL_MECHANISM FINAL
        "the SASL mechanism is not supported";
    34 IllegalSaslState ILLEGAL_SASL_STATE FINAL "the SASL exchange is not at this step";
    35 UnsupportedVersion UNSUPPORTED_VERSION FINAL "the version is not supported";
    36 TopicAlreadyExists TOPIC_ALREADY_EXISTS FINAL "the topic exists already";
    37 InvalidPartitions INVALID_PARTITIONS FINAL "the number of partitions is invalid";
    38 InvalidReplicationFactor INVALID_REPLICATION_FACTOR FINAL
        "the replication factor is invalid or larger than the number of brokers";
    39 InvalidReplicaAssignment INVALID_REPLICA_ASSIGNMENT FINAL
        "the replica assignment is invalid";
    40 InvalidConfig INVALID_CONFIG FINAL "the setting is invalid";
    41 NotController NOT_CONTROLLER RETRIABLE "this node is not the controller";
    42 InvalidRequest INVALID_REQUEST FINAL "the request is invalid";
    43 UnsupportedForMessageFormat UNSUPPORTED_FOR_MESSAGE_FORMAT FINAL
        "the record format does not allow this";
    44 PolicyViolation POLICY_VIOLATION FINAL "a policy forbids it";
    45 OutOfOrderSequenceNumber OUT_OF_ORDER_SEQUENCE_NUMBER FINAL
        "the sequence number is out of order";
    46 DuplicateSequenceNumber DUPLICATE_SEQUENCE_NUMBER FINAL
        "the sequence number was seen before";
    47 InvalidProducerEpoch INVALID_PRODUCER_EPOCH FINAL "the producer's epoch is too old";
    48 InvalidTxnState INVALID_TXN_STATE FINAL "the transaction is not in a state for this";
    49 InvalidProducerIdMapping INVALID_PRODUCER_ID_MAPPING FINAL
        "the producer id does not belong to the transactional id";
    50 InvalidTransactionTimeout INVALID_TRANSACTION_TIMEOUT FINAL
        "the transaction timeout is larger than allowed";
    51 ConcurrentTransactions CONCURRENT_TRANSACTIONS RETRIABLE
        "another operation on the transaction is under way";
    52 TransactionCoordinatorFenced TRANSACTION_COORDINATOR_FENCED FINAL
        "a newer transaction coordinator has taken over";
    53 TransactionalIdAuthorizationFailed TRANSACTIONAL_ID_AUTHORIZATION_FAILED FINAL
        "no permission for the transactional id";
    54 SecurityDisabled SECURITY_DISABLED FINAL "security is not set up";
    55 OperationNotAttempted OPERATION_NOT_ATTEMPTED FINAL "nothing was attempted";
    56 KafkaStorageError KAFKA_STORAGE_ERROR RETRIABLE "the disk failed";
    57 LogDirNotFound LOG_DIR_NOT_FOUND FINAL "there is no such log directory";
    58 SaslAuthenticationFailed SASL_AUTHENTICATION_FAILED FINAL "the login failed";
    59 UnknownProducerId UNKNOWN_PRODUCER_ID FINAL "nothing is known of this producer id";
    60 ReassignmentInProgress REASSIGNMENT_IN_PROGRESS FINAL "a reassignment is under way";
    61 DelegationTokenAuthDisabled DELEGATION_TOKEN_AUTH_DISABLED FINAL
        "delegation tokens are switched off";
    62 DelegationTokenNotFound DELEGATION_TOKEN_NOT_FOUND FINAL "there is no such delegation token";
    63 DelegationTokenOwnerMismatch DELEGATION_TOKEN_OWNER_MISMATCH FINAL
        "the delegation token belongs to somebody else";
    64 DelegationTokenRequestNotAllowed DELEGATION_TOKEN_REQUEST_NOT_ALLOWED FINAL
        "delegation tokens need an authenticated connection";
    65 DelegationTokenAuthorizationFailed DELEGATION_TOKEN_AUTHORIZATION_FAILED FINAL
        "no permission for the delegation token";
    66 DelegationTokenExpired DELEGATION_TOKEN_EXPIRED FINAL "the delegation token has expired";
    67 InvalidPrincipalType INVALID_PRINCIPAL_TYPE FINAL "the type of principal is not supported";
    68 NonEmptyGroup NON_EMPTY_GROUP FINAL "the group has members";
    69 GroupIdNotFound GROUP_ID_NOT_FOUND FINAL "there is no such group";
    70 FetchSessionIdNotFound FETCH_SESSION_ID_NOT_FOUND RETRIABLE "there is no such fetch session";
    71 InvalidFetchSessionEpoch INVALID_FETCH_SESSION_EPOCH RETRIABLE
        "the fetch session is at another epoch";
    72 ListenerNotFound LISTENER_NOT_FOUND RETRIABLE "no listener matches";
    73 TopicDeletionDisabled TOPIC_DELETION_DISABLED FINAL "deleting topics is switched off";
    74 FencedLeaderEpoch FENCED_LEADER_EPOCH RETRIABLE
        "the leader epoch is older than the broker's";
    75 UnknownLeaderEpoch UNKNOWN_LEADER_EPOCH RETRIABLE
        "the leader epoch is newer than the broker's";
    76 UnsupportedCompressionType UNSUPPORTED_COMPRESSION_TYPE FINAL
        "the codec is not supported in this version";
    77 StaleBrokerEpoch STALE_BROKER_EPOCH FINAL "the broker's epoch is too old";
    78 OffsetNotAvailable OFFSET_NOT_AVAILABLE RETRIABLE
        "the new leader does not know the offset yet";
    79 MemberIdRequired MEMBER_ID_REQUIRED FINAL "join again with the member id of this answer";
    80 PreferredLeaderNotAvailable PREFERRED_LEADER_NOT_AVAILABLE RETRIABLE
        "the preferred leader is not available";
    81 GroupMaxSizeReached GROUP_MAX_SIZE_REACHED FINAL "the group is full";
    82 FencedInstanceId FENCED_INSTANCE_ID FINAL "another member has taken the instance id";
    83 EligibleLeadersNotAvailable ELIGIBLE_LEADERS_NOT_AVAILABLE RETRIABLE
        "no eligible leader is available";
    84 ElectionNotNeeded ELECTION_NOT_NEEDED RETRIABLE "the leader is already the right one";
    85 NoReassignmentInProgress NO_REASSIGNMENT_IN_PROGRESS FINAL "no reassignment is under way";
    86 GroupSubscribedToTopic GROUP_SUBSCRIBED_TO_TOPIC FINAL
        "the group is subscribed to the topic";
    87 InvalidRecord INVALID_RECORD FINAL "a record is invalid";
    88 UnstableOffsetCommit UNSTABLE_OFFSET_COMMIT RETRIABLE
        "offsets of open transactions stand in the way";
    89 ThrottlingQuotaExceeded THROTTLING_QUOTA_EXCEEDED RETRIABLE "a quota is used up";
    90 ProducerFenced PRODUCER_FENCED FINAL "a newer producer has taken over";
    91 ResourceNotFound RESOURCE_NOT_FOUND FINAL "there is no such resource";
    92 DuplicateResource DUPLICATE_RESOURCE FINAL "the resource exists already";
    93 UnacceptableCredential UNACCEPTABLE_CREDENTIAL FINAL "the credential is not acceptable";
    94 InconsistentVoterSet INCONSISTENT_VOTER_SET FINAL "the sets of voters do not agree";
    95 InvalidUpdateVersion INVALID_UPDATE_VERSION FINAL "the version of the update is invalid";
    96 FeatureUpdateFailed FEATURE_UPDATE_FAILED FINAL "the feature could not be updated";
    97 PrincipalDeserializationFailure PRINCIPAL_DESERIALIZATION_FAILURE FINAL
        "the forwarded principal could not be read";
    98 SnapshotNotFound SNAPSHOT_NOT_FOUND FINAL "there is no such snapshot";
    99 PositionOutOfRange POSITION_OUT_OF_RANGE FINAL "the position lies outside the snapshot";
    100 UnknownTopicId UNKNOWN_TOPIC_ID RETRIABLE "there is no topic with this id";
    101 DuplicateBrokerRegistration DUPLICATE_BROKER_REGISTRATION FINAL "the broker id is taken";
    102 BrokerIdNotRegistered BROKER_ID_NOT_REGISTERED FINAL "the broker id is not registered";
    103 InconsistentTopicId INCONSISTENT_TOPIC_ID RETRIABLE "the topic id is not the log's";
    104 InconsistentClusterId INCONSISTENT_CLUSTER_ID FINAL "the cluster id is another cluster's";
    105 TransactionalIdNotFound TRANSACTIONAL_ID_NOT_FOUND FINAL
        "there is no such transactional id";
    106 FetchSessionTopicIdError FETCH_SESSION_TOPIC_ID_ERROR RETRIABLE
        "the session does not use topic ids the same way";
    107 IneligibleReplica INELIGIBLE_REPLICA FINAL "the replica may not join the in-sync set";
    108 NewLeaderElected NEW_LEADER_ELECTED FINAL "the partition got a new leader meanwhile";
    109 OffsetMovedToTieredStorage OFFSET_MOVED_TO_TIERED_STORAGE FINAL
        "the offset has moved to tiered storage";
    110 FencedMemberEpoch FENCED_MEMBER_EPOCH FINAL "the member's epoch is too old";
    111 UnreleasedInstanceId UNRELEASED_INSTANCE_ID FINAL "the instance id is still in use";
    112 UnsupportedAssignor UNSUPPORTED_ASSIGNOR FINAL "the assignor is not supported";
    113 StaleMemberEpoch STALE_MEMBER_EPOCH FINAL "the member's epoch is behind";
    114 MismatchedEndpointType MISMATCHED_ENDPOINT_TYPE FINAL "the endpoint is of another type";
    115 UnsupportedEndpointType UNSUPPORTED_ENDPOINT_TYPE FINAL
        "the type of endpoint is not supported";
    116 UnknownControllerId UNKNOWN_CONTROLLER_ID FINAL "the controller id is not known";
    117 UnknownSubscriptionId UNKNOWN_SUBSCRIPTION_ID FINAL "the subscription id is not known";
    118 TelemetryTooLarge TELEMETRY_TOO_LARGE FINAL "the telemetry is too large";
    119 InvalidRegistration INVALID_REGISTRATION FINAL "the registration is invalid";
    120 TransactionAbortable TRANSACTION_ABORTABLE FINAL "the transaction must be aborted";
    121 InvalidRecordState INVALID_RECORD_STATE FINAL "the record is not in a state for this";
    122 ShareSessionNotFound SHARE_SESSION_NOT_FOUND RETRIABLE "there is no such share session";
    123 InvalidShareSessionEpoch INVALID_SHARE_SESSION_EPOCH RETRIABLE
        "the share session is at another epoch";
    124 FencedStateEpoch FENCED_STATE_EPOCH FINAL "the state's epoch is too old";
    125 InvalidVoterKey INVALID_VOTER_KEY FINAL "the voter's key is not the one known";
    126 DuplicateVoter DUPLICATE_VOTER FINAL "the voter is one already";
    127 VoterNotFound VOTER_NOT_FOUND FINAL "there is no such voter";
    128 InvalidRegularExpression INVALID_REGULAR_EXPRESSION FINAL
        "the regular expression is invalid";
    129 RebootstrapRequired REBOOTSTRAP_REQUIRED FINAL "start again from the bootstrap servers";
    130 StreamsInvalidTopology STREAMS_INVALID_TOPOLOGY FINAL "the topology is invalid";
    131 StreamsInvalidTopologyEpoch STREAMS_INVALID_TOPOLOGY_EPOCH FINAL
        "the topology's epoch is invalid";
    132 StreamsTopologyFenced STREAMS_TOPOLOGY_FENCED FINAL "the topology's epoch is too old";
    133 ShareSessionLimitReached SHARE_SESSION_LIMIT_REACHED RETRIABLE
        "there are too many share sessions";
    134 GroupDeletionFailed GROUP_DELETION_FAILED FINAL "the group could not be deleted";
    135 StreamsTopologyDescriptionUpdateFailed STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED FINAL
        "the topology's description could not be stored";
    136 ControllerIdNotRegistered CONTROLLER_ID_NOT_REGISTERED FINAL
        "the controller id is not registered";
}

impl ErrorCode {
    /// Kafka's number for it.
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Whether it says that all is well.
    pub fn is_none(self) -> bool {
        self == ErrorCode::None
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.number(), self.message())
    }
}

impl<'a> Wire<'a> for ErrorCode {
    const KIND: Kind = Kind::ErrorCode;

    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, WireError> {
        i16::read(reader, version).map(ErrorCode::from_number)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        self.number().write(writer, version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: numbers name their code. Method: all of them, and one beyond.
    #[test]
    fn every_code_comes_back_from_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), *code);
        }
        assert_eq!(ErrorCode::from_number(9_999), ErrorCode::UnknownServerError);
        assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::InvalidConfig.is_retriable());
    }
}
