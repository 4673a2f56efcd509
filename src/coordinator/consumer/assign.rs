//! The assignors on the broker's side: who is to own what.
//!
//! Both are pure and give each partition of a subscribed topic exactly one owner among those that
//! subscribe to it. `range` deals out runs of each topic's partitions; `uniform` balances the
//! counts and moves as little as that allows.

use crate::base::ids::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// The assignors' names, the default first, as Kafka lists them.
pub(super) const NAMES: [&str; 2] = ["uniform", "range"];

/// Topic and partition.
pub(super) type Part = (TopicId, i32);

/// What an assignor is told of a member.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    /// Sorts static members by their instance, so that a restart changes nothing.
    pub(super) instance_id: Option<String>,
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was to own before.
    pub(super) before: BTreeSet<Part>,
}

/// Who is to own what, by member.
pub(super) type Targets = BTreeMap<String, BTreeSet<Part>>;

/// Assigns with the assignor of that name; an unknown name is the default's.
pub(super) fn assign(
    name: &str,
    members: &BTreeMap<String, Subscriber>,
    partitions_counts: &BTreeMap<TopicId, i32>,
) -> Targets {
    match name {
        "range" => range(members, partitions_counts),
        _ => uniform(members, partitions_counts),
    }
}

fn subscribers_of(members: &BTreeMap<String, Subscriber>, topic: TopicId) -> Vec<&String> {
    let subscribed = members.iter().filter(|(_, member)| member.topics.contains(&topic));
    subscribed.map(|(id, _)| id).collect()
}

/// Each topic in runs, longer ones first; topics are cut alike, so that the same partitions of
/// topics with the same members meet at one member.
fn range(
    members: &BTreeMap<String, Subscriber>,
    partitions_counts: &BTreeMap<TopicId, i32>,
) -> Targets {
    let mut targets: Targets = members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    for (&topic, &partitions_count) in partitions_counts {
        let mut ids = subscribers_of(members, topic);
        ids.sort_by_key(|id| {
            let instance_id = members[*id].instance_id.as_ref();
            (instance_id.is_none(), instance_id.unwrap_or(id), *id)
        });
        let Ok(count) = i32::try_from(ids.len()) else { continue };
        if count == 0 {
            continue;
        }
        let (each, longer) = (partitions_count / count, partitions_count % count);
        let mut next = 0;
        for (rank, id) in (0..).zip(ids) {
            let end = next + each + i32::from(rank < longer);
            let target = targets.get_mut(id).expect("every member has a target");
            target.extend((next..end).map(|partition| (topic, partition)));
            next = end;
        }
    }
    targets
}

/// Keeps what is still right, hands out what nobody has to who has least, then evens out.
fn uniform(
    members: &BTreeMap<String, Subscriber>,
    partitions_counts: &BTreeMap<TopicId, i32>,
) -> Targets {
    let mut targets = Targets::new();
    let mut owned: BTreeSet<Part> = BTreeSet::new();
    for (id, member) in members {
        let still_right = |part: &&Part| {
            let (topic, partition) = **part;
            member.topics.contains(&topic)
                && partitions_counts.get(&topic).is_some_and(|count| partition < *count)
                && !owned.contains(*part)
        };
        let kept: BTreeSet<Part> = member.before.iter().filter(still_right).copied().collect();
        owned.extend(&kept);
        targets.insert(id.clone(), kept);
    }
    // Topics with the same subscribers share one order of loads.
    let mut alike: BTreeMap<Vec<&String>, Vec<TopicId>> = BTreeMap::new();
    for &topic in partitions_counts.keys() {
        alike.entry(subscribers_of(members, topic)).or_default().push(topic);
    }
    let mut classes: Vec<(Vec<&String>, Vec<TopicId>)> = alike.into_iter().collect();
    // Who can go to few places goes first.
    classes.sort_by_key(|(ids, topics)| (ids.len(), topics.first().copied()));
    for (ids, topics) in &classes {
        hand_out(ids, topics, partitions_counts, &owned, &mut targets);
    }
    even_out(&classes, &mut targets);
    targets
}

fn loads(ids: &[&String], targets: &Targets) -> BTreeSet<(usize, String)> {
    ids.iter().map(|id| (targets[*id].len(), (*id).clone())).collect()
}

fn hand_out(
    ids: &[&String],
    topics: &[TopicId],
    partitions_counts: &BTreeMap<TopicId, i32>,
    owned: &BTreeSet<Part>,
    targets: &mut Targets,
) {
    let mut loads = loads(ids, targets);
    for &topic in topics {
        for partition in 0..partitions_counts[&topic] {
            if owned.contains(&(topic, partition)) {
                continue;
            }
            let Some((load, id)) = loads.pop_first() else { return };
            targets.get_mut(&id).expect("every member has a target").insert((topic, partition));
            loads.insert((load + 1, id));
        }
    }
}

/// Moves partitions from who has most to who has least, while that helps: each move makes the sum
/// of the squares smaller, so it ends.
fn even_out(classes: &[(Vec<&String>, Vec<TopicId>)], targets: &mut Targets) {
    loop {
        let mut moved = false;
        for (ids, topics) in classes {
            let topics: BTreeSet<TopicId> = topics.iter().copied().collect();
            let mut loads = loads(ids, targets);
            let mut donors = loads.clone();
            while let Some((load, donor)) = donors.pop_last() {
                let Some((least, receiver)) = loads.first().cloned() else { break };
                if load < least + 2 {
                    break; // nobody has more than this one
                }
                let parts = &targets[&donor];
                let Some(part) = parts.iter().rev().find(|(topic, _)| topics.contains(topic))
                else {
                    continue; // it has nothing of these topics
                };
                let part = *part;
                targets.get_mut(&donor).expect("it has the part").remove(&part);
                targets.get_mut(&receiver).expect("every member has a target").insert(part);
                loads.remove(&(load, donor.clone()));
                loads.remove(&(least, receiver.clone()));
                loads.insert((least + 1, receiver));
                loads.insert((load - 1, donor.clone()));
                donors.insert((load - 1, donor));
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(subscriptions: &[(&str, &[u128])]) -> BTreeMap<String, Subscriber> {
        let subscriber = |topics: &[u128]| Subscriber {
            instance_id: None,
            topics: topics.iter().map(|topic| TopicId(*topic)).collect(),
            before: BTreeSet::new(),
        };
        subscriptions.iter().map(|(id, topics)| ((*id).to_owned(), subscriber(topics))).collect()
    }

    fn counts(topics: &[(u128, i32)]) -> BTreeMap<TopicId, i32> {
        topics.iter().map(|(topic, count)| (TopicId(*topic), *count)).collect()
    }

    fn remember(members: &mut BTreeMap<String, Subscriber>, targets: &Targets) {
        for (id, member) in members {
            member.before = targets.get(id).cloned().unwrap_or_default();
        }
    }

    fn check(
        members: &BTreeMap<String, Subscriber>,
        counts: &BTreeMap<TopicId, i32>,
        targets: &Targets,
    ) {
        let mut seen = BTreeSet::new();
        for (id, parts) in targets {
            for part in parts {
                assert!(seen.insert(*part), "{part:?} has two owners");
                assert!(members[id].topics.contains(&part.0), "{id} did not subscribe");
            }
        }
        let wanted =
            counts.iter().filter(|(topic, _)| !subscribers_of(members, **topic).is_empty());
        assert_eq!(seen.len() as i32, wanted.map(|(_, count)| count).sum::<i32>());
    }

    /// Goal: KIP-848, `range` gives runs, the same for topics alike. Method: 2 topics, 3 members.
    #[test]
    fn range_deals_out_runs() {
        let members = members(&[("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1, 2])]);
        let counts = counts(&[(1, 4), (2, 4)]);
        let targets = assign("range", &members, &counts);
        check(&members, &counts, &targets);
        for topic in [TopicId(1), TopicId(2)] {
            assert!(targets["a"].contains(&(topic, 0)) && targets["a"].contains(&(topic, 1)));
            assert!(targets["b"].contains(&(topic, 2)) && targets["c"].contains(&(topic, 3)));
        }
    }

    /// Goal: KIP-848, `uniform` differs by one at most and moves the least. Method: a third comes.
    #[test]
    fn uniform_balances_and_moves_little() {
        let counts = counts(&[(1, 7), (2, 5)]);
        let mut group = members(&[("a", &[1, 2]), ("b", &[1, 2])]);
        let before = assign("uniform", &group, &counts);
        check(&group, &counts, &before);
        group.extend(members(&[("c", &[1, 2])]));
        remember(&mut group, &before);
        let after = assign("uniform", &group, &counts);
        check(&group, &counts, &after);
        assert!(after.values().all(|parts| parts.len() == 4));
        for id in ["a", "b"] {
            assert!(after[id].is_subset(&before[id]), "who stays keeps");
        }
    }

    /// Goal: any subscriptions give one owner each, a second run changes nothing, and no single
    /// move would help. Method: random groups.
    #[test]
    fn random_subscriptions_are_balanced_and_stable() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let counts: BTreeMap<TopicId, i32> =
                (0..random.u128(1..6)).map(|topic| (TopicId(topic), random.i32(1..9))).collect();
            let mut group: BTreeMap<String, Subscriber> = (0..random.usize(1..8))
                .map(|id| {
                    let topics = counts.keys().filter(|_| random.bool()).copied().collect();
                    let before = BTreeSet::new();
                    (format!("m{id}"), Subscriber { instance_id: None, topics, before })
                })
                .collect();
            for name in NAMES {
                let targets = assign(name, &group, &counts);
                check(&group, &counts, &targets);
            }
            let targets = assign("uniform", &group, &counts);
            remember(&mut group, &targets);
            assert_eq!(assign("uniform", &group, &counts), targets);
            for (id, parts) in &targets {
                for (topic, _) in parts {
                    for other in subscribers_of(&group, *topic) {
                        assert!(targets[other].len() + 1 >= parts.len(), "{id} to {other}");
                    }
                }
            }
        }
    }
}
