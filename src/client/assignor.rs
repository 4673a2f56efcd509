//! Who reads what, worked out by the leader of a classic group: range and cooperative-sticky.
//!
//! The same input gives the same answer whatever the order of members.
//! **Invariant:** no partition gets two owners, nor an owner that did not subscribe to its topic.

use std::collections::{BTreeMap, BTreeSet};

/// Kafka's names for the two.
pub const RANGE: &str = "range";
/// See [`RANGE`].
pub const COOPERATIVE_STICKY: &str = "cooperative-sticky";

/// A member as the assignors see it.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub topics: BTreeSet<String>,
    /// What it says it owns, of `generation`.
    pub owned: BTreeSet<(String, i32)>,
    /// -1: it does not know.
    pub generation: i32,
}

/// What each member is to read, by member id.
pub type Plan = BTreeMap<String, BTreeSet<(String, i32)>>;

/// Each topic is cut into runs, one for each of its subscribers in turn: the first ones get one
/// partition more where the number does not divide.
///
/// Static members come first, by their instance id, so that a restart does not shift the runs
/// (KIP-345). `counts` are the partitions of each topic.
pub fn range(members: &[Candidate], counts: &BTreeMap<String, i32>) -> Plan {
    let mut plan = empty_plan(members);
    let mut order: Vec<&Candidate> = members.iter().collect();
    order.sort_by_key(|member| {
        let instance = member.instance_id.as_ref();
        (instance.is_none(), instance.cloned(), member.member_id.clone())
    });
    for (topic, &count) in counts {
        let subscribers: Vec<&&Candidate> =
            order.iter().filter(|member| member.topics.contains(topic)).collect();
        let Ok(subscribers_count) = i32::try_from(subscribers.len()) else { continue };
        if subscribers_count == 0 {
            continue;
        }
        let (share, rest) = (count / subscribers_count, count % subscribers_count);
        let mut next = 0;
        for (index, member) in subscribers.iter().enumerate() {
            let end = next + share + i32::from((index as i32) < rest);
            let mine = plan.entry(member.member_id.clone()).or_default();
            mine.extend((next..end).map(|partition| (topic.clone(), partition)));
            next = end;
        }
    }
    plan
}

/// Everyone keeps what it owns as far as shares stay even; what changes hands is given out only
/// once its owner has let go, in the rebalance that follows (KIP-429).
pub fn cooperative_sticky(members: &[Candidate], counts: &BTreeMap<String, i32>) -> Plan {
    let owners = owners_of(members, counts);
    let mut plan = sticky(members, counts, &owners);
    for (member_id, mine) in &mut plan {
        // Who still owns it must hear first that it does not any more.
        mine.retain(|partition| owners.get(partition).is_none_or(|owner| *owner == member_id));
    }
    plan
}

fn empty_plan(members: &[Candidate]) -> Plan {
    members.iter().map(|member| (member.member_id.clone(), BTreeSet::new())).collect()
}

/// Who owns what now: of several that claim a partition the one of the newest generation; nobody
/// where two of the same do.
fn owners_of<'a>(
    members: &'a [Candidate],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<(String, i32), &'a str> {
    let mut claims: BTreeMap<(String, i32), Vec<&Candidate>> = BTreeMap::new();
    for member in members {
        for (topic, partition) in &member.owned {
            let is_there = counts.get(topic).is_some_and(|count| (0..*count).contains(partition));
            if is_there && member.topics.contains(topic) {
                claims.entry((topic.clone(), *partition)).or_default().push(member);
            }
        }
    }
    let newest = claims.into_iter().filter_map(|(partition, claimants)| {
        let generation = claimants.iter().map(|member| member.generation).max()?;
        let mut newest = claimants.iter().filter(|member| member.generation == generation);
        let owner = newest.next()?;
        newest.next().is_none().then_some((partition, owner.member_id.as_str()))
    });
    newest.collect()
}

/// The even plan that moves least: owners keep theirs, the rest goes to who has least, and then
/// single partitions move from who has most while that makes shares more even.
fn sticky(
    members: &[Candidate],
    counts: &BTreeMap<String, i32>,
    owners: &BTreeMap<(String, i32), &str>,
) -> Plan {
    let mut plan = empty_plan(members);
    let mut free = Vec::new();
    for (topic, &count) in counts {
        for partition in 0..count {
            let key = (topic.clone(), partition);
            match owners.get(&key) {
                Some(owner) => drop(plan.entry((*owner).to_owned()).or_default().insert(key)),
                None => free.push(key),
            }
        }
    }
    let subscribers: BTreeMap<&str, Vec<&str>> = counts
        .keys()
        .map(|topic| {
            let theirs = members.iter().filter(|member| member.topics.contains(topic));
            (topic.as_str(), theirs.map(|member| member.member_id.as_str()).collect())
        })
        .collect();
    let share = |plan: &Plan, member: &str| plan.get(member).map_or(0, BTreeSet::len);
    for key in free {
        let theirs = subscribers.get(key.0.as_str()).into_iter().flatten();
        let Some(least) = theirs.min_by_key(|member| share(&plan, member)) else { continue };
        plan.entry((*least).to_owned()).or_default().insert(key);
    }
    // Each move makes the sum of squares of the shares smaller, so this ends.
    while let Some((from, to, key)) = next_move(&plan, &subscribers) {
        plan.entry(from).or_default().remove(&key);
        plan.entry(to).or_default().insert(key);
    }
    plan
}

/// A partition whose move makes two shares more even, taken from the largest share that has one.
fn next_move(
    plan: &Plan,
    subscribers: &BTreeMap<&str, Vec<&str>>,
) -> Option<(String, String, (String, i32))> {
    let mut order: Vec<(&String, &BTreeSet<(String, i32)>)> = plan.iter().collect();
    order.sort_by_key(|(member, mine)| (std::cmp::Reverse(mine.len()), *member));
    let share = |member: &&&str| plan.get(**member).map_or(0, BTreeSet::len);
    for (from, mine) in order {
        let mut topics: Vec<&str> = mine.iter().map(|(topic, _)| topic.as_str()).collect();
        topics.dedup();
        for topic in topics {
            let to = subscribers.get(topic)?.iter().min_by_key(share)?;
            if share(&to) + 1 < mine.len() {
                let key = mine.iter().rev().find(|(other, _)| other == topic)?.clone();
                return Some((from.clone(), (*to).to_owned(), key));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: usize, topics: &[&str]) -> Candidate {
        Candidate {
            member_id: format!("member-{id}"),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            generation: 1,
            ..Candidate::default()
        }
    }

    fn counts(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
        counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
    }

    fn check(plan: &Plan, members: &[Candidate], context: &str) {
        let mut seen = BTreeSet::new();
        for member in members {
            for key in &plan[&member.member_id] {
                assert!(member.topics.contains(&key.0), "{context}: not subscribed");
                assert!(seen.insert(key.clone()), "{context}: {key:?} has two owners");
            }
        }
    }

    /// Goal: runs as Kafka's range assignor cuts them. Method: its documentation's example, and
    /// static members before others.
    #[test]
    fn range_cuts_each_topic_into_runs() {
        let members = [member(0, &["a", "b"]), member(1, &["a", "b"])];
        let plan = range(&members, &counts(&[("a", 3), ("b", 3)]));
        let of = |id: &str| plan[id].iter().map(|(t, p)| format!("{t}{p}")).collect::<Vec<_>>();
        assert_eq!(of("member-0"), ["a0", "a1", "b0", "b1"]);
        assert_eq!(of("member-1"), ["a2", "b2"]);
        let mut members = members;
        members[1].instance_id = Some("x".to_owned());
        let plan = range(&members, &counts(&[("a", 3)]));
        assert_eq!(plan["member-1"].len(), 2, "static members come first");
    }

    /// Goal: a member that comes takes no more than its share, nobody else loses, and nothing is
    /// given out before it was let go. Method: two rounds, as the protocol has them.
    #[test]
    fn a_new_member_takes_its_share_in_two_rounds() {
        let counts = counts(&[("a", 6)]);
        let mut members = vec![member(0, &["a"]), member(1, &["a"])];
        members[0].owned = (0..3).map(|partition| ("a".to_owned(), partition)).collect();
        members[1].owned = (3..6).map(|partition| ("a".to_owned(), partition)).collect();
        members.push(member(2, &["a"]));
        let first = cooperative_sticky(&members, &counts);
        check(&first, &members, "first round");
        assert!(first["member-2"].is_empty(), "all are owned still");
        for member in &mut members {
            let mine = first[&member.member_id].clone();
            assert!(member.owned.is_empty() || mine.is_subset(&member.owned));
            member.owned = mine;
            member.generation = 2;
        }
        let second = cooperative_sticky(&members, &counts);
        check(&second, &members, "second round");
        assert!(second.values().all(|mine| mine.len() == 2));
        assert!(members.iter().all(|member| member.owned.is_subset(&second[&member.member_id])));
    }

    /// Goal: claims of an older generation count for nothing. Method: two members claim the same.
    #[test]
    fn the_newest_generation_owns() {
        let mut members = [member(0, &["a"]), member(1, &["a"])];
        members[0].owned = BTreeSet::from([("a".to_owned(), 0)]);
        members[1].owned = BTreeSet::from([("a".to_owned(), 0)]);
        members[1].generation = 2;
        let plan = cooperative_sticky(&members, &counts(&[("a", 1)]));
        assert_eq!((plan["member-0"].len(), plan["member-1"].len()), (0, 1));
    }

    /// Goal: whatever members come and go, rounds end with every partition owned once, evenly
    /// where all want the same. Method: random groups, each run until nothing changes.
    #[test]
    fn rounds_end_with_every_partition_owned_once() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let topics = ["a", "b", "c"];
            let counts = counts(&topics.map(|topic| (topic, rng.i32(1..9))));
            let is_uniform = rng.bool();
            let mut members: Vec<Candidate> = Vec::new();
            for change in 0..12 {
                if members.len() > 1 && rng.bool() {
                    members.swap_remove(rng.usize(..members.len()));
                } else {
                    let some = topics.iter().filter(|_| is_uniform || rng.bool());
                    members.push(member(change, &some.copied().collect::<Vec<_>>()));
                }
                let rounds_count = settle(&mut members, &counts, change as i32);
                assert!(rounds_count <= 2, "seed {seed}: {rounds_count} rounds");
                let wanted: i32 = counts
                    .iter()
                    .filter(|(topic, _)| members.iter().any(|one| one.topics.contains(*topic)))
                    .map(|(_, count)| count)
                    .sum();
                let owned: usize = members.iter().map(|member| member.owned.len()).sum();
                assert_eq!(owned as i32, wanted, "seed {seed}");
                let sizes = members.iter().map(|member| member.owned.len());
                let spread = sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0);
                assert!(!is_uniform || spread <= 1, "seed {seed}: shares differ by {spread}");
                let plan = range(&members, &counts);
                check(&plan, &members, &format!("range, seed {seed}"));
            }
        }
    }

    /// Assigns until nothing changes; gives how many rounds that took.
    fn settle(members: &mut [Candidate], counts: &BTreeMap<String, i32>, generation: i32) -> u32 {
        for round in 0..10 {
            let plan = cooperative_sticky(members, counts);
            check(&plan, members, "settling");
            let is_same = members.iter().all(|member| member.owned == plan[&member.member_id]);
            for member in members.iter_mut() {
                member.owned = plan[&member.member_id].clone();
                member.generation = generation * 10 + round;
            }
            if is_same {
                return round as u32;
            }
        }
        u32::MAX
    }
}
