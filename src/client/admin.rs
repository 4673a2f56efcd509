//! Changes topics: creates, alters, describes and deletes them, through the cluster's controller.

use super::cluster::Cluster;
use super::configs::{ConfigChange, ConfigEdit, ConfigResource};
use super::error::ClientError;
use super::request::Response;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::Request;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use std::collections::BTreeSet;

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    /// `None`: the broker's default.
    pub partitions_count: Option<i32>,
    /// `None`: the broker's default.
    pub replication_factor: Option<i16>,
    /// Settings by Kafka's names.
    pub configs: Vec<(String, String)>,
}

/// A topic's setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: Option<String>,
    /// Somebody gave this topic the value; otherwise it is the broker's.
    pub is_of_topic: bool,
}

impl Cluster {
    /// Makes `topic`.
    ///
    /// # Errors
    /// The broker's refusal: it exists, the name or a setting is wrong.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let config =
            |(name, value)| CreatableTopicConfig { name, value: Some(String::as_str(value)) };
        let configs = topic.configs.iter().map(|(name, value)| config((name, value)));
        let creatable = CreatableTopic {
            name: &topic.name,
            num_partitions: topic.partitions_count.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![creatable],
            timeout_ms: self.timeout_ms(),
            ..CreateTopicsRequest::default()
        };
        let what = || format!("creating topic {}", topic.name);
        let response = self.call_controller(&request).await?;
        let body = response.body()?;
        let result = body.topics.first().ok_or_else(|| self.silent(&what()))?;
        ClientError::check(result.error_code, result.error_message, what)?;
        self.forget_topic(&topic.name);
        Ok(())
    }

    /// Names of the settings that a topic may have: what the broker would give a topic `name`.
    ///
    /// # Errors
    /// The broker's refusal of such a topic, be it without any setting.
    pub async fn topic_setting_names(&self, name: &str) -> Result<BTreeSet<String>, ClientError> {
        let (num_partitions, replication_factor) = (-1, -1);
        let topic = CreatableTopic {
            name,
            num_partitions,
            replication_factor,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: self.timeout_ms(),
            validate_only: true,
        };
        let what = || format!("settings of topic {name}");
        let response = self.call_controller(&request).await?;
        let body = response.body()?;
        let result = body.topics.first().ok_or_else(|| self.silent(&what()))?;
        ClientError::check(result.error_code, result.error_message, what)?;
        let configs = result.configs.as_deref().unwrap_or_default();
        Ok(configs.iter().map(|config| config.name.to_owned()).collect())
    }

    /// Removes the topic `name` and what it holds.
    ///
    /// # Errors
    /// The broker's refusal: there is none, or it may not be.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name), ..DeleteTopicState::default() }],
            topic_names: vec![name],
            timeout_ms: self.timeout_ms(),
        };
        let what = || format!("deleting topic {name}");
        let response = self.call_controller(&request).await?;
        let body = response.body()?;
        let result = body.responses.first().ok_or_else(|| self.silent(&what()))?;
        ClientError::check(result.error_code, result.error_message, what)?;
        self.forget_topic(name);
        Ok(())
    }

    /// Gives the topic `name` so many partitions in all, which must be more than it has.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn set_partitions_count(&self, name: &str, count: i32) -> Result<(), ClientError> {
        let topic = CreatePartitionsTopic { name, count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let what = || format!("adding partitions to topic {name}");
        let response = self.call_controller(&request).await?;
        let body = response.body()?;
        let result = body.results.first().ok_or_else(|| self.silent(&what()))?;
        ClientError::check(result.error_code, result.error_message, what)?;
        self.forget_topic(name);
        Ok(())
    }

    /// Sets settings of the topic `name`; without a value the broker's default counts again.
    ///
    /// # Errors
    /// The broker's refusal; then nothing was changed.
    pub async fn alter_topic(
        &self,
        name: &str,
        configs: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        let changes = configs.iter().map(|(name, value)| ConfigChange {
            name: name.clone(),
            edit: value.clone().map_or(ConfigEdit::Delete, ConfigEdit::Set),
        });
        let changes: Vec<ConfigChange> = changes.collect();
        self.alter_configs(&ConfigResource::Topic(name.to_owned()), &changes, false).await
    }

    /// The settings that are in force for the topic `name`, by name.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn topic_settings(&self, name: &str) -> Result<Vec<Setting>, ClientError> {
        let topic = ConfigResource::Topic(name.to_owned());
        let entries = self.describe_configs(&topic).await?.into_iter();
        let settings = entries.map(|entry| Setting {
            name: entry.name,
            value: entry.value,
            is_of_topic: entry.source == topic.own_source(),
        });
        Ok(settings.collect())
    }

    /// Sends `request` to the controller, and once more where that turned out to be another.
    async fn call_controller<'a, R: Request<'a>>(
        &self,
        request: &R,
    ) -> Result<Response<R>, ClientError> {
        match self.controller().await?.call(request).await {
            Err(ClientError::Lost { .. }) => {
                self.refresh_brokers().await?;
                self.controller().await?.call(request).await
            }
            outcome => outcome,
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.time_limit().as_millis()).unwrap_or(i32::MAX)
    }

    /// An answer without an entry for what was asked.
    fn silent(&self, what: &str) -> ClientError {
        let message = Some("the broker's answer does not mention it".to_owned());
        ClientError::Refused { what: what.to_owned(), code: ErrorCode::UnknownServerError, message }
    }
}
