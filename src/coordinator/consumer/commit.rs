//! Who may commit and fetch offsets in a group of the consumer protocol.

use super::Consumer;
use crate::coordinator::Call;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::{OffsetCommitRequest, OffsetCommitRequestTopic};

/// The OffsetCommit version that carries a member epoch.
const EPOCH_FROM: i16 = 9;

impl Consumer {
    /// Whether the commit may be: by a member in its epoch, or, for partitions that it has had
    /// since, in an older one (KIP-1251): an answer with a newer epoch may be on its way.
    ///
    /// # Errors
    /// Kafka's code.
    pub(in crate::coordinator) fn validate_commit(
        &self,
        call: &Call<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        if epoch < 0 && self.members.is_empty() {
            return Ok(()); // an admin client
        }
        let member = self.members.get(request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.classic.is_none() && call.version < EPOCH_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if epoch == member.epoch {
            return Ok(());
        }
        let stale = match member.classic {
            Some(_) => ErrorCode::IllegalGeneration,
            None => ErrorCode::StaleMemberEpoch,
        };
        let had_since = |topic: &OffsetCommitRequestTopic<'_>| {
            let topic_id = call.topics.topic(topic.name).map(|topic| topic.id);
            topic.partitions.iter().all(|partition| {
                [&member.assigned, &member.revoking].iter().any(|owned| {
                    let since = topic_id.and_then(|id| owned.get(&id));
                    let since = since.and_then(|owned| owned.get(&partition.partition_index));
                    since.is_some_and(|since| epoch >= *since)
                })
            })
        };
        let older = (0..member.epoch).contains(&epoch);
        if older && request.topics.iter().all(had_since) { Ok(()) } else { Err(stale) }
    }

    /// Whether the fetch may be: by anyone that claims no membership, or by a member in its epoch.
    ///
    /// # Errors
    /// Kafka's code.
    pub(in crate::coordinator) fn validate_fetch(
        &self,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id else {
            return if epoch < 0 { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        if member_id.is_empty() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match member.classic {
            _ if epoch == member.epoch => Ok(()),
            Some(_) => Err(ErrorCode::IllegalGeneration),
            None => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}
