//! Settings of topics, brokers, groups and client metrics: what is in force, why, and changing it.
//!
//! A broker's own settings are asked of that broker, all others of any.

use super::cluster::Cluster;
use super::connection::Connection;
use super::error::ClientError;
use crate::base::ids::NodeId;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use std::fmt;

/// What has settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    Topic(String),
    Broker(NodeId),
    /// What counts for every broker that has nothing of its own.
    BrokerDefaults,
    ClientMetrics(String),
    Group(String),
}

/// Where a value comes from: Kafka's word for it, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    Broker,
    BrokerDefaults,
    BrokerFile,
    Default,
    BrokerLogger,
    ClientMetrics,
    Group,
    Unknown,
}

/// A setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: the broker keeps it to itself, or there is none.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_read_only: bool,
    pub is_sensitive: bool,
    /// All that was said about it, the one in force first: name, value, source.
    pub synonyms: Vec<(String, Option<String>, ConfigSource)>,
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub edit: ConfigEdit,
}

/// What is done to a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    Set(String),
    /// Back to what counts without it.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Takes from a list.
    Subtract(String),
}

impl ConfigResource {
    /// Kafka's number of this kind.
    fn kind(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) | ConfigResource::BrokerDefaults => 4,
            ConfigResource::ClientMetrics(_) => 16,
            ConfigResource::Group(_) => 32,
        }
    }

    /// Its name as requests have it.
    pub fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name)
            | ConfigResource::ClientMetrics(name)
            | ConfigResource::Group(name) => name.clone(),
            ConfigResource::Broker(id) => id.to_string(),
            ConfigResource::BrokerDefaults => String::new(),
        }
    }

    /// The source of values that somebody gave to this very resource.
    pub fn own_source(&self) -> ConfigSource {
        match self {
            ConfigResource::Topic(_) => ConfigSource::Topic,
            ConfigResource::Broker(_) => ConfigSource::Broker,
            ConfigResource::BrokerDefaults => ConfigSource::BrokerDefaults,
            ConfigResource::ClientMetrics(_) => ConfigSource::ClientMetrics,
            ConfigResource::Group(_) => ConfigSource::Group,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::BrokerDefaults => write!(f, "the brokers' defaults"),
            ConfigResource::ClientMetrics(name) => write!(f, "client metrics {name}"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl ConfigSource {
    fn from_number(number: i8) -> ConfigSource {
        match number {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::BrokerDefaults,
            4 => ConfigSource::BrokerFile,
            5 => ConfigSource::Default,
            6 => ConfigSource::BrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            _ => ConfigSource::Unknown,
        }
    }

    /// Kafka's name for it, which its own tools show.
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::Broker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::BrokerDefaults => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::BrokerFile => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::BrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Unknown => "UNKNOWN",
        }
    }

    /// The same for people.
    pub fn text(self) -> &'static str {
        match self {
            ConfigSource::Topic => "topic",
            ConfigSource::Broker => "broker",
            ConfigSource::BrokerDefaults => "brokers' defaults",
            ConfigSource::BrokerFile => "broker's file",
            ConfigSource::Default => "default",
            ConfigSource::BrokerLogger => "broker's logger",
            ConfigSource::ClientMetrics => "client metrics",
            ConfigSource::Group => "group",
            ConfigSource::Unknown => "unknown",
        }
    }
}

impl ConfigEdit {
    /// Kafka's number for it, and the value that goes with it.
    fn operation(&self) -> (i8, Option<&str>) {
        match self {
            ConfigEdit::Set(value) => (0, Some(value)),
            ConfigEdit::Delete => (1, None),
            ConfigEdit::Append(value) => (2, Some(value)),
            ConfigEdit::Subtract(value) => (3, Some(value)),
        }
    }
}

impl Cluster {
    /// The settings in force for `resource`, by name.
    ///
    /// # Errors
    /// There is no such topic or broker, or it may not be seen.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let name = resource.name();
        let asked = DescribeConfigsResource {
            resource_type: resource.kind(),
            resource_name: &name,
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![asked],
            include_synonyms: true,
            include_documentation: false,
        };
        let response = self.broker_for(resource).await?.call(&request).await?;
        let body = response.body()?;
        let result = body.results.first().ok_or_else(|| not_told(resource))?;
        let what = || format!("settings of {resource}");
        ClientError::check(result.error_code, result.error_message, what)?;
        let mut entries: Vec<ConfigEntry> = result.configs.iter().map(entry).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Makes `changes` to the settings of `resource`: all of them or none. With
    /// `is_validated_only` the broker only says whether it would.
    ///
    /// # Errors
    /// The broker's refusal; then nothing was changed.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        is_validated_only: bool,
    ) -> Result<(), ClientError> {
        let name = resource.name();
        let configs = changes.iter().map(|change| {
            let (config_operation, value) = change.edit.operation();
            AlterableConfig { name: &change.name, config_operation, value }
        });
        let altered = AlterConfigsResource {
            resource_type: resource.kind(),
            resource_name: &name,
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![altered],
            validate_only: is_validated_only,
        };
        let response = self.broker_for(resource).await?.call(&request).await?;
        let body = response.body()?;
        let result = body.responses.first().ok_or_else(|| not_told(resource))?;
        let what = || format!("altering {resource}");
        ClientError::check(result.error_code, result.error_message, what)
    }

    /// Whom to ask about `resource`.
    async fn broker_for(&self, resource: &ConfigResource) -> Result<Connection, ClientError> {
        match resource {
            ConfigResource::Broker(id) => self.broker(*id).await,
            _ => self.controller().await,
        }
    }
}

fn entry(config: &DescribeConfigsResourceResult<'_>) -> ConfigEntry {
    let synonyms = config.synonyms.iter().map(|synonym| {
        let value = synonym.value.map(str::to_owned);
        (synonym.name.to_owned(), value, ConfigSource::from_number(synonym.source))
    });
    ConfigEntry {
        name: config.name.to_owned(),
        value: config.value.map(str::to_owned),
        source: ConfigSource::from_number(config.config_source),
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        synonyms: synonyms.collect(),
    }
}

/// An answer without an entry for what was asked.
fn not_told(resource: &ConfigResource) -> ClientError {
    ClientError::Refused {
        what: format!("settings of {resource}"),
        code: ErrorCode::UnknownServerError,
        message: Some("the broker's answer does not mention it".to_owned()),
    }
}
