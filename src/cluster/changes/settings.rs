//! Changes of settings: of topics, of brokers, of groups and client metrics.
//!
//! What a resource sets is replaced as a whole or changed one by one; either way all that it would
//! set in the end is checked before anything is accepted.

use super::{
    ChangeError, Plan, Resource, SettingChange, SettingVerb, check_value_lengths, topic_name_fault,
    trimmed,
};
use crate::base::limits::{
    BROKER_FOREIGN_SETTINGS_COUNT_MAX, CONFIGURED_COUNT_MAX, SETTING_NAME_BYTES_MAX,
    SETTING_VALUE_BYTES_MAX,
};
use crate::cluster::metadata::{NamedResource, Overrides};
use crate::cluster::records::MetadataRecord;
use crate::cluster::settings::{
    self, BrokerSetting, Check, Foreign, Kind, Reach, Update, broker_setting, foreign, list_items,
    topic_setting,
};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Plan<'_> {
    /// Changes settings of one resource, all or none.
    ///
    /// # Errors
    /// [`ChangeError`]: the resource is unknown, or its settings would not stand.
    pub fn alter_settings(
        &mut self,
        resource: &Resource,
        changes: &[SettingChange],
    ) -> Result<(), ChangeError> {
        check_changes(changes)?;
        let before = self.overrides_of(resource);
        let mut after = before.as_ref().clone();
        for change in changes {
            self.alter_one(resource, change, &mut after)?;
        }
        self.replace_overrides(resource, &before, &after)
    }

    /// Makes `wanted` the only settings of the resource that are set: Kafka's older AlterConfigs.
    ///
    /// # Errors
    /// As [`Plan::alter_settings`].
    pub fn replace_settings(
        &mut self,
        resource: &Resource,
        wanted: &[(String, Option<String>)],
    ) -> Result<(), ChangeError> {
        let changes: Vec<SettingChange> = wanted
            .iter()
            .map(|(name, value)| SettingChange {
                name: name.clone(),
                verb: SettingVerb::Set,
                value: value.clone(),
            })
            .collect();
        check_changes(&changes)?;
        let before = self.overrides_of(resource);
        let set = changes.into_iter();
        let set = set.filter_map(|change| Some((change.name, trimmed(&change.value)?)));
        self.replace_overrides(resource, &before, &set.collect())
    }

    /// What is set; of a topic that does not exist nothing, which is told once the settings are
    /// known to be right.
    fn overrides_of(&self, resource: &Resource) -> Arc<Overrides> {
        let found = match resource {
            Resource::Topic(name) => self.image.topic(name).map(|topic| &topic.overrides),
            Resource::Broker(id) => self.image.broker_overrides(*id),
            Resource::AllBrokers => Some(self.image.default_broker_overrides()),
            Resource::Named(kind, name) => self.image.named_overrides(*kind, name),
        };
        found.cloned().unwrap_or_default()
    }

    fn alter_one(
        &self,
        resource: &Resource,
        change: &SettingChange,
        overrides: &mut Overrides,
    ) -> Result<(), ChangeError> {
        let name = &change.name;
        let value = change.value.as_deref().unwrap_or("");
        let appends = change.verb == SettingVerb::Append;
        match change.verb {
            SettingVerb::Set => drop(overrides.insert(name.clone(), value.trim().to_owned())),
            SettingVerb::Delete => drop(overrides.remove(name)),
            SettingVerb::Append | SettingVerb::Subtract => {
                let inherited = self.inherited_list(resource, name, appends)?;
                let current = overrides.get(name).cloned().unwrap_or(inherited);
                overrides.insert(name.clone(), changed_list(&current, value, appends));
            }
        }
        Ok(())
    }

    /// The list that a resource has where it sets none.
    fn inherited_list(
        &self,
        resource: &Resource,
        name: &str,
        appends: bool,
    ) -> Result<String, ChangeError> {
        let is_list = |kind: Option<Kind>| kind == Some(Kind::List);
        let text = match resource {
            Resource::Topic(_) => match topic_setting(name) {
                Some(setting) if is_list(Some(setting.kind)) => {
                    return Ok(self.layers().topic_value(setting, &Overrides::new()));
                }
                _ => not_a_list(name, appends),
            },
            Resource::Broker(_) | Resource::AllBrokers => {
                let row = broker_setting(name);
                let foreign = foreign(name);
                let kind = row.map_or(foreign.kind, |row| row.kind);
                if kind == Kind::List && (row.is_some() || foreign.known) {
                    let own = row.and_then(|row| self.layers().broker_value(row.name));
                    return Ok(own.or(foreign.default).unwrap_or_default().to_owned());
                }
                if row.is_none() && !foreign.known {
                    format!("Unknown config name: {name}")
                } else {
                    let verb = if appends { "append" } else { "subtract" };
                    format!("Config value {verb} is not allowed for config key: {name}")
                }
            }
            // Kafka's schema of these resources knows no lists, client metrics' own among them.
            Resource::Named(..) => not_a_list(name, appends),
        };
        Err(ChangeError::InvalidConfig(text))
    }

    fn replace_overrides(
        &mut self,
        resource: &Resource,
        before: &Overrides,
        after: &Overrides,
    ) -> Result<(), ChangeError> {
        check_resource_name(resource)?;
        check_value_lengths(after)?;
        let record: &dyn Fn(String, Option<String>) -> MetadataRecord = match resource {
            Resource::Topic(topic) => {
                settings::check_topic_overrides(after, &self.layers())?;
                let text = || format!("The topic '{topic}' does not exist.");
                let topic = self.image.topic(topic);
                let topic_id = topic.ok_or_else(|| ChangeError::UnknownTopic(text()))?.id.0;
                &move |name, value| MetadataRecord::TopicSettingChanged { topic_id, name, value }
            }
            Resource::Broker(id) => {
                check_broker_overrides(before, after, false)?;
                let node_id = Some(id.0);
                &move |name, value| MetadataRecord::BrokerSettingChanged { node_id, name, value }
            }
            Resource::AllBrokers => {
                check_broker_overrides(before, after, true)?;
                &|name, value| MetadataRecord::BrokerSettingChanged { node_id: None, name, value }
            }
            Resource::Named(kind, resource) => {
                settings::check_named_overrides(*kind, after, &self.layers())?;
                self.check_configured_count(before, after)?;
                &move |name, value| MetadataRecord::NamedSettingChanged {
                    kind: *kind,
                    resource: resource.clone(),
                    name,
                    value,
                }
            }
        };
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
            self.accept(record(name.clone(), after.get(name).cloned()));
        }
        Ok(())
    }

    fn check_configured_count(
        &self,
        before: &Overrides,
        after: &Overrides,
    ) -> Result<(), ChangeError> {
        let is_new = before.is_empty() && !after.is_empty();
        if is_new && self.image.configured_count() >= CONFIGURED_COUNT_MAX {
            return Err(ChangeError::PolicyViolation(format!(
                "At most {CONFIGURED_COUNT_MAX} groups and client metrics may have settings."
            )));
        }
        Ok(())
    }
}

fn not_a_list(name: &str, appends: bool) -> String {
    let verb = if appends { "APPEND" } else { "SUBTRACT" };
    format!("Can't {verb} to key {name} because its type is not LIST.")
}

fn check_resource_name(resource: &Resource) -> Result<(), ChangeError> {
    let text = match resource {
        Resource::Topic(name) if name.is_empty() => "Default topic resources are not allowed.",
        Resource::Topic(name) => {
            let fault = topic_name_fault(name);
            return fault.map_or(Ok(()), |fault| Err(ChangeError::InvalidTopic(fault)));
        }
        Resource::Named(NamedResource::Group, name) if name.is_empty() => {
            "Default group resources are not allowed."
        }
        Resource::Named(NamedResource::ClientMetrics, name) if name.is_empty() => {
            "Subscription name can't be empty"
        }
        Resource::Named(_, name) if name.len() > SETTING_VALUE_BYTES_MAX => {
            "The resource's name is too long."
        }
        Resource::Named(..) | Resource::Broker(_) | Resource::AllBrokers => return Ok(()),
    };
    Err(ChangeError::InvalidRequest(text.to_owned()))
}

fn changed_list(current: &str, items: &str, appends: bool) -> String {
    let mut list: Vec<&str> = list_items(current).collect();
    for item in list_items(items) {
        let place = list.iter().position(|present| *present == item);
        match place {
            None if appends => list.push(item),
            Some(index) if !appends => drop(list.remove(index)),
            _ => {}
        }
    }
    list.join(",")
}

fn check_changes(changes: &[SettingChange]) -> Result<(), ChangeError> {
    let mut names = BTreeSet::new();
    if !changes.iter().all(|change| names.insert(&change.name)) {
        return Err(ChangeError::InvalidRequest("Error due to duplicate config keys".to_owned()));
    }
    let needs_value = |change: &&SettingChange| change.verb != SettingVerb::Delete;
    let nulls: Vec<&str> = changes
        .iter()
        .filter(needs_value)
        .filter(|change| change.value.is_none())
        .map(|change| change.name.as_str())
        .collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for : {}", nulls.join(", "));
        return Err(ChangeError::InvalidRequest(text));
    }
    Ok(())
}

/// Whether settings of a broker, or of `all` brokers, may change so; what is set already was
/// checked then.
fn check_broker_overrides(
    before: &Overrides,
    after: &Overrides,
    all: bool,
) -> Result<(), ChangeError> {
    let new: Vec<(&str, &str, BrokerRule)> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(name, value)| (name.as_str(), value.as_str(), BrokerRule::of(name)))
        .collect();
    let refuse_those = |reach: Reach, text: &str| {
        let wrong = new.iter().filter(|(_, _, rule)| rule.reach == reach);
        let names: Vec<&str> = wrong.map(|(name, ..)| *name).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(ChangeError::InvalidRequest(format!("{text}: [{}]", names.join(", "))))
    };
    refuse_those(Reach::Start, "Cannot update these configs dynamically")?;
    refuse_those(
        Reach::OneListener,
        "These security configs can be dynamically updated only per-listener using the listener \
         prefix",
    )?;
    for (name, value, rule) in &new {
        settings::check_value(name, rule.kind, rule.check, value)
            .map_err(|error| ChangeError::InvalidRequest(error.to_string()))?;
    }
    if all {
        refuse_those(
            Reach::OneBroker,
            "Cannot update these configs at default cluster level, broker id must be specified",
        )?;
    }
    check_foreign_count(after)
}

/// What a value of a broker's setting must be, and for what it can be changed.
struct BrokerRule {
    kind: Kind,
    check: Check,
    reach: Reach,
}

impl BrokerRule {
    fn of(name: &str) -> BrokerRule {
        let Some(&BrokerSetting { kind, check, update, .. }) = broker_setting(name) else {
            let Foreign { kind, reach, .. } = foreign(name);
            return BrokerRule { kind, check: Check::Any, reach };
        };
        let reach = if update == Update::Running { Reach::AnyBroker } else { Reach::Start };
        BrokerRule { kind, check, reach }
    }
}

/// Names that no table bounds are bounded here.
fn check_foreign_count(overrides: &Overrides) -> Result<(), ChangeError> {
    let mut foreign_count = 0;
    for name in overrides.keys().filter(|name| broker_setting(name).is_none()) {
        foreign_count += 1;
        if name.len() > SETTING_NAME_BYTES_MAX {
            return Err(ChangeError::PolicyViolation(format!(
                "The name of a configuration is {} bytes, at most {SETTING_NAME_BYTES_MAX} are \
                 taken.",
                name.len()
            )));
        }
    }
    if foreign_count > BROKER_FOREIGN_SETTINGS_COUNT_MAX {
        return Err(ChangeError::PolicyViolation(format!(
            "At most {BROKER_FOREIGN_SETTINGS_COUNT_MAX} configurations that this broker does not \
             have are kept."
        )));
    }
    Ok(())
}
