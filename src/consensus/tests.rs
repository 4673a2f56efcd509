//! A group in memory: one voter alone, restarts, and three voters over a network that loses
//! messages.

use super::*;
use std::collections::VecDeque;

fn config(id: u64, seed: u64) -> RaftConfig {
    RaftConfig { id, election_ticks: 10, heartbeat_ticks: 2, seed }
}

/// A member with its disk: what it made durable, and what it applied.
struct Member {
    raft: Raft,
    disk: Restored,
    applied: Vec<Entry>,
}

impl Member {
    fn start(id: u64, seed: u64, disk: Restored) -> Member {
        let raft = Raft::new(&config(id, seed), disk.clone()).unwrap();
        let applied = decode_state(&disk.snapshot.data);
        Member { raft, disk, applied }
    }

    fn restart(&mut self, id: u64, seed: u64) {
        *self = Member::start(id, seed, self.disk.clone());
    }

    /// Does all that is due and returns the messages to send.
    fn settle(&mut self) -> Vec<Outgoing> {
        let mut messages = Vec::new();
        while let Some(effects) = self.raft.effects() {
            messages.extend(effects.messages);
            if let Some(snapshot) = effects.snapshot {
                self.applied = decode_state(&snapshot.data);
                self.disk.entries.clear();
                self.disk.snapshot = snapshot;
            }
            if let Some(first) = effects.entries.first() {
                self.disk.entries.retain(|entry| entry.index < first.index);
            }
            self.disk.entries.extend(effects.entries);
            if let Some(hard_state) = effects.hard_state {
                self.disk.hard_state = hard_state;
            }
            self.raft.persisted(effects.number);
            messages.extend(effects.messages_after);
            if let Some(last) = effects.committed.last().map(|entry| entry.index) {
                self.applied.extend(effects.committed);
                self.raft.applied(last);
            }
        }
        messages
    }

    fn compact(&mut self) {
        let Some(last) = self.applied.last().map(|entry| entry.index) else { return };
        self.disk.snapshot = self.raft.compact(last, encode_state(&self.applied));
        self.disk.entries.retain(|entry| entry.index > last);
    }

    fn commands(&self) -> Vec<&[u8]> {
        let filled = self.applied.iter().filter(|entry| !entry.data.is_empty());
        filled.map(|entry| entry.data.as_slice()).collect()
    }
}

fn encode_state(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(entry.index.to_le_bytes());
        bytes.extend(entry.term.to_le_bytes());
        bytes.extend((entry.data.len() as u64).to_le_bytes());
        bytes.extend(&entry.data);
    }
    bytes
}

fn decode_state(mut bytes: &[u8]) -> Vec<Entry> {
    let number = |bytes: &mut &[u8]| {
        let (head, rest) = bytes.split_first_chunk::<8>().unwrap();
        *bytes = rest;
        u64::from_le_bytes(*head)
    };
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (index, term) = (number(&mut bytes), number(&mut bytes));
        let length = number(&mut bytes) as usize;
        entries.push(Entry { index, term, data: bytes[..length].to_vec() });
        bytes = &bytes[length..];
    }
    entries
}

#[test]
fn a_single_voter_elects_itself_after_ticks() {
    let mut member = Member::start(1, 7, Restored::bootstrap(vec![1]));
    for _ in 0..20 {
        member.raft.tick();
        assert!(member.settle().is_empty(), "there is nobody to write to");
    }
    assert_eq!(member.raft.role(), Role::Leader);
    assert_eq!(member.raft.leader(), Some(1));
}

/// Goal: agreed means durable. Method: withhold `persisted` and see nothing committed, then give
/// it.
#[test]
fn a_proposal_commits_only_once_it_is_persisted() {
    let mut member = Member::start(1, 7, Restored::bootstrap(vec![1]));
    assert_eq!(member.raft.propose(vec![1]), Err(ProposeError::NotLeader { leader: None }));
    member.raft.campaign();
    member.settle();
    let position = member.raft.propose(b"first".to_vec()).unwrap();
    let effects = member.raft.effects().unwrap();
    assert_eq!(effects.entries.len(), 1);
    assert!(effects.must_sync && effects.committed.is_empty());
    assert!(member.raft.effects().is_none(), "nothing goes on before the disk");
    member.raft.persisted(effects.number);
    let effects = member.raft.effects().unwrap();
    assert_eq!(effects.committed[0].data, b"first");
    assert_eq!(effects.committed[0].index, position.index);
    assert_eq!(effects.committed[0].term, position.term);
}

#[test]
fn a_restarted_voter_continues_from_what_it_kept() {
    let mut member = Member::start(1, 7, Restored::bootstrap(vec![1]));
    for round in 0..5_u8 {
        member.raft.campaign();
        member.settle();
        member.raft.propose(vec![round]).unwrap();
        member.settle();
        assert_eq!(member.commands().len(), usize::from(round) + 1);
        if round == 2 {
            member.compact();
        }
        let term = member.raft.term();
        member.restart(1, 7);
        assert_eq!(member.raft.to_restored(), member.disk);
        assert!(member.raft.term() >= term);
    }
    member.raft.campaign();
    member.settle();
    assert_eq!(member.commands(), [[0], [1], [2], [3], [4]]);
}

#[test]
fn a_kept_log_with_a_gap_is_refused() {
    let entry = |index| Entry { index, term: 1, data: vec![] };
    let refused = |restored: Restored| Raft::new(&config(1, 1), restored).unwrap_err().to_string();
    let mut restored = Restored::bootstrap(vec![1]);
    restored.entries = vec![entry(2)];
    assert!(refused(restored.clone()).contains("entries 1 to 1 are missing"));
    restored.entries = vec![entry(1), entry(3)];
    assert!(refused(restored.clone()).contains("entry 3 follows entry 1"));
    restored.entries = vec![entry(1)];
    restored.hard_state = HardState { term: 1, vote: 1, commit: 4 };
    assert!(refused(restored).contains("4 entries were agreed on"));
    assert!(refused(Restored::default()).contains("no voters"));
}

#[test]
fn a_damaged_message_is_refused() {
    let mut raft = Raft::new(&config(1, 1), Restored::bootstrap(vec![1, 2, 3])).unwrap();
    for _ in 0..20 {
        raft.tick();
    }
    let effects = raft.effects().unwrap();
    let mut messages = effects.messages.into_iter().chain(effects.messages_after);
    let good = messages.next().unwrap().bytes;
    let mut other = Raft::new(&config(2, 1), Restored::bootstrap(vec![1, 2, 3])).unwrap();
    assert!(matches!(raft.step(&good), Err(MessageError::Stranger { from: 1, .. })));
    assert!(matches!(raft.step(&[]), Err(MessageError::Invalid { .. })));
    assert!(matches!(raft.step(&[9; 64]), Err(MessageError::Version { .. })));
    for cut in 4..good.len() - 1 {
        let _ = other.step(&good[..cut]);
    }
    assert_eq!(other.role(), Role::Follower);
}

/// Three members and the messages under way.
struct Group {
    members: Vec<Member>,
    network: VecDeque<Outgoing>,
    random: fastrand::Rng,
    loss_percent: u8,
    seed: u64,
}

impl Group {
    fn new(seed: u64) -> Group {
        let disk = || Restored::bootstrap(vec![1, 2, 3]);
        let members = (1..=3).map(|id| Member::start(id, seed, disk())).collect();
        let random = fastrand::Rng::with_seed(seed);
        Group { members, network: VecDeque::new(), random, loss_percent: 20, seed }
    }

    /// Delivers some of what is under way, out of order and with losses; now and then lets time
    /// pass.
    fn round(&mut self) {
        for _ in 0..self.random.usize(0..8) {
            let Some(last) = self.network.len().checked_sub(1) else { break };
            let place = self.random.usize(0..=last);
            let message = self.network.remove(place).unwrap();
            if self.random.u8(0..100) >= self.loss_percent {
                self.members[message.to as usize - 1].raft.step(&message.bytes).unwrap();
            }
        }
        for index in 0..3 {
            if self.random.u8(0..100) < 60 {
                self.members[index].raft.tick();
            }
            let messages = self.members[index].settle();
            self.network.extend(messages);
        }
    }

    fn leader(&mut self) -> Option<&mut Member> {
        let leaders = self.members.iter_mut().filter(|member| member.raft.role() == Role::Leader);
        leaders.max_by_key(|member| member.raft.term())
    }
}

/// Goal: members never disagree and nothing agreed is lost. Method: seeded losses, reordering,
/// restarts and compactions; after every round each pair's applied entries must be one the start of
/// the other.
#[test]
fn three_voters_agree_over_a_network_that_loses_messages() {
    let base = fastrand::u64(..);
    for seed in (0..12).map(|n| base.wrapping_add(n)) {
        println!("seed {seed}");
        let mut group = Group::new(seed);
        let mut proposed = 0_u32;
        for round in 0..3_000 {
            group.round();
            if group.random.u8(0..100) < 20
                && let Some(leader) = group.leader()
                && leader.raft.propose(proposed.to_le_bytes().to_vec()).is_ok()
            {
                proposed += 1;
            }
            if group.random.u16(0..1_000) < 5 {
                let index = group.random.usize(0..3);
                group.members[index].restart(index as u64 + 1, seed);
            }
            if group.random.u16(0..1_000) < 5 {
                let index = group.random.usize(0..3);
                group.members[index].compact();
            }
            agree(&group, round);
        }
        group.loss_percent = 0;
        (0..600).for_each(|_| group.round());
        let lengths: Vec<usize> = group.members.iter().map(|m| m.applied.len()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "seed {seed}: {lengths:?}");
        assert!(group.members[0].commands().len() > 20, "seed {seed}: {lengths:?}");
    }
}

fn agree(group: &Group, round: u32) {
    for pair in [(0, 1), (1, 2), (0, 2)] {
        let (left, right) = (&group.members[pair.0].applied, &group.members[pair.1].applied);
        let common = left.len().min(right.len());
        assert_eq!(left[..common], right[..common], "seed {}, round {round}", group.seed);
    }
}
