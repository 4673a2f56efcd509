//! Joining a generation of the classic protocol, and leading it where the group says so.

use super::{GroupConsumer, GroupProtocol};
use crate::client::assignor::{self, COOPERATIVE_STICKY, Candidate, RANGE};
use crate::client::cluster::RETRY_PAUSE;
use crate::client::connection::Connection;
use crate::client::consumer::TopicPart;
use crate::client::error::ClientError;
use crate::client::groups::is_elsewhere;
use crate::client::membership::{Joined, classic_join, classic_sync};
use crate::protocol::error::ErrorCode;
use crate::protocol::subscription;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

impl GroupConsumer {
    /// The classic protocol's assignors that it offers. With range among them it gives up all
    /// that it owns before it joins, since range does not know what others still own.
    fn assignors(&self) -> Vec<&'static str> {
        match self.config.assignor.as_deref() {
            Some(COOPERATIVE_STICKY) => vec![COOPERATIVE_STICKY],
            Some(RANGE) => vec![RANGE],
            _ => vec![RANGE, COOPERATIVE_STICKY],
        }
    }

    /// Joins a generation of the classic protocol, again until the group has agreed on one.
    pub(super) async fn join(&mut self) -> Result<(), ClientError> {
        self.is_joining = true;
        let outcome = self.join_until_settled().await;
        self.is_joining = false;
        outcome
    }

    async fn join_until_settled(&mut self) -> Result<(), ClientError> {
        loop {
            self.commit().await?;
            let assignors = self.assignors();
            if assignors.contains(&RANGE) {
                self.lose_all();
            }
            let connection = match self.coordinator().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.pause_after(error).await?;
                    continue;
                }
            };
            let owned: Vec<TopicPart> = self.owned.iter().cloned().collect();
            let joined =
                classic_join(&connection, &self.identity, &self.config, &assignors, &owned);
            let joined = match joined.await {
                Ok(joined) => joined,
                Err(error) => {
                    self.pause_after(error).await?;
                    continue;
                }
            };
            match self.take_join(&connection, joined).await {
                Ok(Some(target)) => {
                    let is_revoking = self.owned.difference(&target).next().is_some();
                    self.reconcile(target).await?;
                    if !is_revoking {
                        break;
                    }
                    // Others wait for what was let go: a second round gives it to them.
                }
                Ok(None) => self.cluster.io().sleep(RETRY_PAUSE).await,
                Err(error) => self.pause_after(error).await?,
            }
        }
        self.is_joined = true;
        self.failing_since = None;
        self.beat_at = self.cluster.now() + self.interval;
        Ok(())
    }

    async fn pause_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.tolerate(error)?;
        self.cluster.io().sleep(RETRY_PAUSE).await;
        Ok(())
    }

    /// What the group gives this member, once the leader has worked it out; `None`: join again.
    async fn take_join(
        &mut self,
        connection: &Connection,
        joined: Joined,
    ) -> Result<Option<BTreeSet<TopicPart>>, ClientError> {
        if !joined.member_id.is_empty() {
            self.identity.member_id.clone_from(&joined.member_id);
        }
        match joined.code {
            ErrorCode::None => self.identity.epoch = joined.generation,
            code => return self.take_join_refusal(code).map(|()| None),
        }
        let assignments = self.lead(&joined).await?;
        let (code, assignment) =
            classic_sync(connection, &self.identity, &joined, &assignments).await?;
        if code != ErrorCode::None {
            return self.take_join_refusal(code).map(|()| None);
        }
        if assignment.is_empty() {
            return Ok(Some(BTreeSet::new()));
        }
        let assignment =
            subscription::read_assignment(&assignment).map_err(|error| ClientError::Malformed {
                address: connection.address().to_owned(),
                reason: format!("the assignment of group {}: {error}", self.config.group),
            })?;
        let topics = assignment.assigned_partitions.into_iter();
        let target = topics.flat_map(|topic| {
            let name: Rc<str> = Rc::from(topic.topic);
            topic.partitions.into_iter().map(move |index| (Rc::clone(&name), index))
        });
        Ok(Some(target.collect()))
    }

    /// After a refused join or sync: whether to try again, and as whom.
    fn take_join_refusal(&mut self, code: ErrorCode) -> Result<(), ClientError> {
        match code {
            ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress => Ok(()),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.lose_all();
                self.use_protocol(GroupProtocol::Classic);
                Ok(())
            }
            code if is_elsewhere(code) => {
                self.connection = None;
                Ok(())
            }
            code => {
                let what = || format!("joining group {}", self.config.group);
                ClientError::check(code, None, what)
            }
        }
    }

    /// Everyone's assignment, where this member leads the generation; nothing otherwise.
    async fn lead(&self, joined: &Joined) -> Result<assignor::Plan, ClientError> {
        if !joined.is_leader {
            return Ok(assignor::Plan::new());
        }
        let topics: BTreeSet<&String> =
            joined.members.iter().flat_map(|member| &member.topics).collect();
        let mut counts = BTreeMap::new();
        for topic in topics {
            match self.cluster.refresh_topic(topic, false).await {
                Ok(found) => drop(counts.insert(topic.clone(), found.partitions.len() as i32)),
                Err(ClientError::Refused { .. }) => {} // nobody reads what is not there
                Err(error) => return Err(error),
            }
        }
        let members: &[Candidate] = &joined.members;
        Ok(match joined.assignor.as_str() {
            COOPERATIVE_STICKY => assignor::cooperative_sticky(members, &counts),
            _ => assignor::range(members, &counts),
        })
    }
}
