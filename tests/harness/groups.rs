//! What the tests of groups share: a member's requests and what their answers say.

use super::{Client, PATIENCE};
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::find_coordinator::FindCoordinatorRequest;
use ringmain::protocol::messages::heartbeat::HeartbeatRequest;
use ringmain::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringmain::protocol::messages::list_groups::ListGroupsRequest;
use ringmain::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringmain::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ringmain::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Versions that the requests speak.
pub const JOIN: i16 = 9;
const COMMIT: i16 = 9;
const FETCH: i16 = 9;

/// What one answer of JoinGroup says.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    pub code: ErrorCode,
    pub generation: i32,
    pub leader: String,
    pub member: String,
    pub members: Vec<String>,
}

impl Client {
    /// Finds the coordinator; for the first one the topic of groups is made.
    pub fn find(&mut self, group_id: &str) -> ErrorCode {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![group_id], ..Default::default() };
        let frame = self.call(6, &request);
        let (_, answer) = decode_response::<FindCoordinatorRequest>(6, &frame).expect("whole");
        answer.coordinators[0].error_code
    }

    /// As [`Client::find`], until the groups are loaded.
    pub fn find_loaded(&mut self, group_id: &str) {
        assert_eq!(self.find(group_id), ErrorCode::None);
        let began = Instant::now();
        while self.fetch_offset(group_id, "any").0 == ErrorCode::CoordinatorLoadInProgress {
            assert!(began.elapsed() < PATIENCE, "the groups are not loaded");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn send_join(&mut self, group_id: &str, member_id: &str) {
        let protocol = JoinGroupRequestProtocol { name: "range", metadata: b"words" };
        let request = JoinGroupRequest {
            group_id,
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id,
            protocol_type: "consumer",
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        self.send(JOIN, &request).expect("the node reads");
    }

    pub fn joined(&mut self) -> Joined {
        let frame = self.receive().expect("an answer");
        let (_, answer) = decode_response::<JoinGroupRequest>(JOIN, &frame).expect("whole");
        Joined {
            code: answer.error_code,
            generation: answer.generation_id,
            leader: answer.leader.to_owned(),
            member: answer.member_id.to_owned(),
            members: answer.members.iter().map(|member| member.member_id.to_owned()).collect(),
        }
    }

    /// The id that a member is given before it joins (KIP-394).
    pub fn member_id(&mut self, group_id: &str) -> String {
        self.send_join(group_id, "");
        let joined = self.joined();
        assert_eq!(joined.code, ErrorCode::MemberIdRequired);
        joined.member
    }

    pub fn send_sync(
        &mut self,
        group_id: &str,
        member: &str,
        generation: i32,
        all: &[(&str, &[u8])],
    ) {
        let assignments = all.iter();
        let assignments = assignments
            .map(|&(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let request = SyncGroupRequest {
            group_id,
            generation_id: generation,
            member_id: member,
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.send(5, &request).expect("the node reads");
    }

    pub fn synced(&mut self) -> (ErrorCode, Vec<u8>) {
        let frame = self.receive().expect("an answer");
        let (_, answer) = decode_response::<SyncGroupRequest>(5, &frame).expect("whole");
        (answer.error_code, answer.assignment.to_vec())
    }

    pub fn heartbeat(&mut self, group_id: &str, member_id: &str, generation_id: i32) -> ErrorCode {
        let request =
            HeartbeatRequest { group_id, generation_id, member_id, group_instance_id: None };
        let frame = self.call(4, &request);
        let (_, answer) = decode_response::<HeartbeatRequest>(4, &frame).expect("whole");
        answer.error_code
    }

    /// Joins alone and takes everything; the member's id. The group is at generation 1.
    pub fn settle(&mut self, group_id: &str) -> String {
        self.find_loaded(group_id);
        let member = self.member_id(group_id);
        self.send_join(group_id, &member);
        assert_eq!(self.joined().generation, 1);
        self.send_sync(group_id, &member, 1, &[(&member, b"all")]);
        assert_eq!(self.synced().0, ErrorCode::None);
        member
    }

    pub fn send_commit(&mut self, who: &Who<'_>, topic: &str, offset: i64) -> io::Result<()> {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_metadata: Some("note"),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: topic,
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: who.group_id,
            generation_id_or_member_epoch: who.generation,
            member_id: who.member_id,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        self.send(COMMIT, &request)
    }

    pub fn committed(&mut self) -> io::Result<ErrorCode> {
        let frame = self.receive()?;
        let (_, answer) = decode_response::<OffsetCommitRequest>(COMMIT, &frame).expect("whole");
        Ok(answer.topics[0].partitions[0].error_code)
    }

    pub fn commit(&mut self, who: &Who<'_>, topic: &str, offset: i64) -> ErrorCode {
        self.send_commit(who, topic, offset).expect("the node reads");
        self.committed().expect("an answer")
    }

    /// The group's code, and its offset of the topic's partition 0 with its metadata.
    pub fn fetch_offset(&mut self, group_id: &str, topic: &str) -> (ErrorCode, i64, String) {
        let topic = OffsetFetchRequestTopics {
            name: topic,
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id,
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let frame = self.call(FETCH, &request);
        let (_, answer) = decode_response::<OffsetFetchRequest>(FETCH, &frame).expect("whole");
        let group = &answer.groups[0];
        let found = group.topics.first().map(|topic| &topic.partitions[0]);
        let offset = found.map_or(-1, |found| found.committed_offset);
        let metadata = found.and_then(|found| found.metadata).unwrap_or_default();
        (group.error_code, offset, metadata.to_owned())
    }

    /// Groups by name, with their state.
    pub fn list(&mut self, states: &[&str]) -> Vec<(String, String)> {
        let request = ListGroupsRequest { states_filter: states.to_vec(), types_filter: vec![] };
        let frame = self.call(5, &request);
        let (_, answer) = decode_response::<ListGroupsRequest>(5, &frame).expect("whole");
        assert_eq!(answer.error_code, ErrorCode::None);
        let groups = answer.groups.iter();
        let mut groups: Vec<_> =
            groups.map(|group| (group.group_id.to_owned(), group.group_state.to_owned())).collect();
        groups.sort();
        groups
    }
}

/// Who commits.
pub struct Who<'a> {
    pub group_id: &'a str,
    pub member_id: &'a str,
    pub generation: i32,
}

impl<'a> Who<'a> {
    /// Somebody who is no member.
    pub fn outside(group_id: &'a str) -> Who<'a> {
        Who { group_id, member_id: "", generation: -1 }
    }
}
