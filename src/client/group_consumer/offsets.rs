//! A group's offsets as its member asks for them and commits them.

use super::GroupConsumer;
use crate::base::ids::Offset;
use crate::client::cluster::RETRY_PAUSE;
use crate::client::consumer::TopicPart;
use crate::client::error::ClientError;
use crate::client::groups::{
    CommittedOffset, OFFSETS_VERSION_MAX, commit_topics, committed_of, is_elsewhere,
    offset_commit_code, offset_fetch_code,
};
use crate::client::request::Response;
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::OffsetCommitRequest;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use std::collections::BTreeMap;
use std::rc::Rc;

impl GroupConsumer {
    /// The group's offsets in `partitions`, where it has any.
    pub(super) async fn fetch_committed(
        &mut self,
        partitions: &[TopicPart],
    ) -> Result<BTreeMap<TopicPart, Offset>, ClientError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            by_topic.entry(topic).or_default().push(*partition);
        }
        let new = by_topic.iter().map(|(name, indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes: indexes.clone(),
            ..OffsetFetchRequestTopics::default()
        });
        let old = by_topic.iter().map(|(name, indexes)| OffsetFetchRequestTopic {
            name,
            partition_indexes: indexes.clone(),
        });
        let group_id = self.config.group.clone();
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: &group_id,
                topics: Some(new.collect()),
                ..OffsetFetchRequestGroup::default()
            }],
            group_id: &group_id,
            topics: Some(old.collect()),
            require_stable: true,
        };
        let deadline = self.cluster.now() + self.cluster.time_limit();
        loop {
            let response = match self.ask_offsets(&request).await {
                Err(error) if error.is_retriable() && self.cluster.now() < deadline => {
                    self.connection = None;
                    self.cluster.io().sleep(RETRY_PAUSE).await;
                    continue;
                }
                outcome => outcome?,
            };
            let body = response.body()?;
            let code = offset_fetch_code(&body);
            let is_passing = is_elsewhere(code) || code == ErrorCode::UnstableOffsetCommit;
            if is_passing && self.cluster.now() < deadline {
                self.connection = None;
                self.cluster.io().sleep(RETRY_PAUSE).await;
                continue;
            }
            ClientError::check(code, None, || format!("offsets of group {group_id}"))?;
            let found = committed_of(&body).into_iter();
            let found = found.map(|one| ((Rc::from(one.topic), one.partition), one.offset));
            return Ok(found.collect());
        }
    }

    async fn ask_offsets<'a>(
        &mut self,
        request: &OffsetFetchRequest<'a>,
    ) -> Result<Response<OffsetFetchRequest<'a>>, ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version_of(ApiKey::OffsetFetch)?.min(OFFSETS_VERSION_MAX);
        connection.call_version(request, version, &[]).await
    }

    /// Commits what was marked and is not committed; false: the group is busy, try again later.
    ///
    /// # Errors
    /// A refusal that no later commit would escape.
    pub async fn commit(&mut self) -> Result<bool, ClientError> {
        let is_new =
            |(key, offset): &(&TopicPart, &Offset)| self.committed.get(*key) != Some(*offset);
        let new: Vec<(TopicPart, Offset)> =
            self.done.iter().filter(is_new).map(|(key, offset)| (key.clone(), *offset)).collect();
        if new.is_empty() {
            return Ok(true);
        }
        let offsets: Vec<CommittedOffset> = new
            .iter()
            .map(|((topic, partition), offset)| CommittedOffset {
                topic: topic.to_string(),
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: None,
            })
            .collect();
        let connection = match self.coordinator().await {
            Ok(connection) => connection,
            Err(error) => return self.tolerate(error).map(|()| false),
        };
        let identity = self.identity.clone();
        let request = OffsetCommitRequest {
            group_id: &identity.group,
            generation_id_or_member_epoch: identity.epoch,
            member_id: &identity.member_id,
            group_instance_id: identity.instance_id.as_deref(),
            topics: commit_topics(&offsets),
            ..OffsetCommitRequest::default()
        };
        let version = connection.version_of(ApiKey::OffsetCommit)?.min(OFFSETS_VERSION_MAX);
        let code = match connection.call_version(&request, version, &[]).await {
            Ok(response) => response.body().map(|body| offset_commit_code(&body))?,
            Err(error) => return self.tolerate(error).map(|()| false),
        };
        match code {
            ErrorCode::None => {
                self.committed.extend(new);
                Ok(true)
            }
            ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch => Ok(false),
            // The next heartbeat says the same, and what follows from it.
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedMemberEpoch => Ok(true),
            code if is_elsewhere(code) || code.is_retriable() => {
                self.connection = None;
                Ok(false)
            }
            code => {
                let what = || format!("committing for group {}", self.config.group);
                ClientError::check(code, None, what).map(|()| true)
            }
        }
    }
}
