//! From subscriptions to the target assignment: which topics, which epoch, who is to own what.

use super::{Consumer, Member, Refusal, Resolved, assign, refuse};
use crate::base::ids::TopicId;
use crate::base::limits;
use crate::coordinator::Turn;
use crate::coordinator::records;
use crate::coordinator::replies::Partitions;
use crate::coordinator::topics::TopicsView;
use crate::protocol::error::ErrorCode;
use assign::Subscriber;
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// A subscription's regular expression; it must match the whole name. Time is linear in the name,
/// and the compiled size is bounded, so none can blow up.
///
/// # Errors
/// Kafka's refusal, with the reason.
pub(super) fn compile(regex: &str) -> Result<Regex, Refusal> {
    let refused = |why: &str| {
        refuse(
            ErrorCode::InvalidRegularExpression,
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {why}."),
        )
    };
    if regex.len() > limits::GROUP_REGEX_BYTES_MAX {
        return refuse(
            ErrorCode::InvalidRegularExpression,
            "SubscribedTopicRegex is not a valid regular expression: it is too long.",
        );
    }
    // On its own first: an unbalanced bracket must not pair with those put around it.
    let checked = builder(regex).build().and_then(|_| builder(&format!("^(?:{regex})$")).build());
    match checked {
        Ok(compiled) => Ok(compiled),
        Err(regex::Error::CompiledTooBig(_)) => refused("it is too large"),
        Err(error) => refused(error.to_string().trim_end()),
    }
}

fn builder(regex: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(regex);
    builder.size_limit(limits::GROUP_REGEX_COMPILED_BYTES_MAX);
    builder
}

impl Consumer {
    /// Brings the epoch and the target up to date: `bump` says that members or subscriptions
    /// changed; whether the topics did is looked up here.
    pub(super) fn update_target(&mut self, bump: bool, turn: &mut Turn<'_>) {
        let mut bump = bump;
        if bump || self.topics_version != turn.topics.version() {
            self.resolve_regexes(turn);
            let hash = self.compute_hash(turn.topics);
            bump |= hash != self.metadata_hash;
            self.metadata_hash = hash;
            self.topics_version = turn.topics.version();
        }
        if bump {
            self.epoch += 1;
            self.write_epoch(turn);
        }
        if self.epoch > self.target_epoch {
            self.assign(turn);
        }
    }

    /// After members went: the epoch grows, the target follows with the next heartbeat.
    pub(super) fn bump_epoch(&mut self, turn: &mut Turn<'_>) {
        self.metadata_hash = self.compute_hash(turn.topics);
        self.epoch += 1;
        self.write_epoch(turn);
    }

    fn topics_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a String> {
        let resolved = member.regex.as_ref().and_then(|regex| self.regexes.get(regex));
        member.topics.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics))
    }

    /// A number that changes with the topics that the group reads: FNV-1a over those that exist.
    pub(super) fn compute_hash(&self, topics: &dyn TopicsView) -> i64 {
        let names: BTreeSet<&String> =
            self.members.values().flat_map(|member| self.topics_of(member)).collect();
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for name in names {
            let Some(topic) = topics.topic(name) else { continue };
            let id = topic.id.0.to_be_bytes();
            let count = topic.partitions_count.to_be_bytes();
            for byte in id.iter().chain(&count) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash as i64
    }

    /// Drops expressions that nobody uses, and resolves those that are new or whose topics may
    /// have changed.
    pub(super) fn resolve_regexes(&mut self, turn: &mut Turn<'_>) {
        let used: BTreeSet<String> =
            self.members.values().filter_map(|member| member.regex.clone()).collect();
        let unused: Vec<String> =
            self.regexes.keys().filter(|regex| !used.contains(*regex)).cloned().collect();
        for regex in unused {
            self.regexes.remove(&regex);
            turn.effects.records.push(records::regular_expression(&self.id, &regex, None));
        }
        for regex in used {
            let version = turn.topics.version();
            let before = self.regexes.get(&regex);
            if before.is_some_and(|resolved| resolved.version == version) {
                continue;
            }
            let Ok(compiled) = compile(&regex) else { continue }; // a newer broker accepted it
            let names = turn.topics.names().filter(|name| compiled.is_match(name));
            let topics: BTreeSet<String> = names.map(str::to_owned).collect();
            let changed = before.is_none_or(|resolved| resolved.topics != topics);
            let resolved = Resolved { topics, version, at_ms: turn.now.unix_ms };
            if changed {
                self.write_regex(&regex, &resolved, turn);
            }
            self.regexes.insert(regex, resolved);
        }
    }

    /// The assignor that most members ask for; the default if none does.
    pub(super) fn preferred_assignor(&self) -> &str {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(assignor) = &member.assignor {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let most =
            votes.into_iter().max_by_key(|(name, count)| (*count, *name == assign::NAMES[0]));
        most.map_or(assign::NAMES[0], |(name, _)| name)
    }

    /// Computes the target for the epoch and writes what changed.
    fn assign(&mut self, turn: &mut Turn<'_>) {
        let mut counts: BTreeMap<TopicId, i32> = BTreeMap::new();
        let mut subscribers = BTreeMap::new();
        for member in self.members.values() {
            let mut topics = BTreeSet::new();
            for name in self.topics_of(member) {
                let Some(topic) = turn.topics.topic(name) else { continue };
                counts.insert(topic.id, topic.partitions_count);
                topics.insert(topic.id);
            }
            let before = self.targets.get(&member.id);
            let before = before.into_iter().flatten().flat_map(|(topic, partitions)| {
                partitions.iter().map(|partition| (*topic, *partition))
            });
            let before = before.collect();
            let instance_id = member.instance_id.clone();
            subscribers.insert(member.id.clone(), Subscriber { instance_id, topics, before });
        }
        let targets = assign::assign(self.preferred_assignor(), &subscribers, &counts);
        for (member_id, parts) in targets {
            let mut target = Partitions::new();
            for (topic, partition) in parts {
                target.entry(topic).or_default().insert(partition);
            }
            if self.targets.get(&member_id) != Some(&target) {
                self.write_target(&member_id, &target, turn);
                self.targets.insert(member_id, target);
            }
        }
        self.target_epoch = self.epoch;
        self.write_target_epoch(turn);
    }
}
