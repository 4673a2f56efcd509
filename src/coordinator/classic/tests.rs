//! The classic protocol in virtual time.

use crate::coordinator::harness::{Sim, join_request, subscribed};
use crate::coordinator::replies::{LeaveReply, Reply};
use crate::coordinator::{GroupSettings, ReplyId};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};

fn leave(sim: &mut Sim, members: &[(&str, Option<&str>)]) -> LeaveReply {
    let members = members.iter().map(|(member_id, group_instance_id)| MemberIdentity {
        member_id,
        group_instance_id: *group_instance_id,
        reason: None,
    });
    let request = LeaveGroupRequest { group_id: "g", members: members.collect(), member_id: "" };
    let id = sim.call(|coordinator, call| coordinator.leave_group(call, &request));
    match sim.answer(id) {
        Some(Reply::LeaveGroup(reply)) => reply,
        other => panic!("not a leave's answer: {other:?}"),
    }
}

fn state(sim: &mut Sim) -> &'static str {
    let id = sim.call(|coordinator, call| coordinator.describe_group(call, "g"));
    match sim.answer(id) {
        Some(Reply::DescribeGroup(group)) => group.state,
        other => panic!("not a description: {other:?}"),
    }
}

/// Two members of a settled group, generation 2; the leader first.
fn settled_pair(sim: &mut Sim, protocols: &[&str]) -> (String, String) {
    let first = sim.settled();
    let (second, joined) = sim.join_twice(protocols);
    assert_eq!(sim.heartbeat(&first, 1), ErrorCode::RebalanceInProgress);
    let rejoined = sim.join(&first, None, protocols);
    assert_eq!(sim.join_reply(rejoined).unwrap().members.len(), 2);
    assert_eq!(sim.join_reply(joined).unwrap().members.len(), 0);
    let waiting = sim.sync(&second, 2, &[]);
    assert_eq!(sim.sync_reply(waiting), None);
    let synced = sim.sync(&first, 2, &[(&first, b"1"), (&second, b"2"), ("nobody", b"3")]);
    assert_eq!(sim.sync_reply(synced).unwrap().assignment, b"1");
    assert_eq!(sim.sync_reply(waiting).unwrap().assignment, b"2");
    (first, second)
}

/// Goal: KIP-394, a join without an id gets one and nothing else; old versions join at once.
#[test]
fn a_new_member_must_come_back_with_its_id() {
    let mut sim = Sim::prompt();
    let (member_id, joined) = sim.join_twice(&["range"]);
    assert!(member_id.starts_with("client-"));
    assert_eq!(sim.join_reply(joined).unwrap().error, ErrorCode::None);
    let mut old = Sim::prompt();
    old.version = 3;
    let joined = old.join("", None, &["range"]);
    assert_eq!(old.join_reply(joined).unwrap().error, ErrorCode::None);
    let stranger = sim.join("stranger", None, &["range"]);
    assert_eq!(sim.join_reply(stranger).unwrap().error, ErrorCode::UnknownMemberId);
}

/// Goal: an id that nobody uses does not hold a rebalance up for longer than the session.
#[test]
fn an_id_given_out_lapses_with_the_session() {
    let mut sim = Sim::prompt();
    let first = sim.join("", None, &["range"]);
    let lost = sim.join_reply(first).unwrap().member_id;
    let (_, joined) = sim.join_twice(&["range"]);
    assert_eq!(sim.join_reply(joined).unwrap().error, ErrorCode::None);
    sim.pass(10_001);
    let late = sim.join(&lost, None, &["range"]);
    assert_eq!(sim.join_reply(late).unwrap().error, ErrorCode::UnknownMemberId);
}

/// Goal: KIP-134, an empty group waits for more members, again for each that comes, but no longer
/// than the rebalance timeout. Method: one joins every 2 s; the delay is 3 s.
#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut sim = Sim::new(GroupSettings::default());
    let (_, first) = sim.join_twice(&["range"]);
    sim.pass(2_000);
    let (_, second) = sim.join_twice(&["range"]);
    sim.pass(2_000);
    assert_eq!(sim.replies.len(), 0, "the second member prolonged the delay");
    sim.pass(1_999);
    assert_eq!(sim.replies.len(), 0);
    sim.pass(1);
    assert_eq!(sim.join_reply(first).unwrap().generation, 1);
    assert_eq!(sim.join_reply(second).unwrap().generation, 1);
    let mut busy = Sim::new(GroupSettings::default());
    let (_, first) = busy.join_twice(&["range"]);
    for _ in 0..29 {
        busy.pass(2_000);
        busy.join_twice(&["range"]);
        assert!(!busy.replies.contains_key(&first));
    }
    busy.pass(2_000);
    assert!(busy.replies.contains_key(&first), "60 s are the most");
}

/// Goal: the protocol with the most votes among those that all support. Method: two against one;
/// then a member that supports none of them.
#[test]
fn members_vote_for_the_protocol() {
    let mut sim = Sim::new(GroupSettings::default());
    let ids: Vec<ReplyId> = [&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]]
        .iter()
        .map(|protocols| sim.join_twice(*protocols).1)
        .collect();
    sim.pass(10_000);
    for id in ids {
        assert_eq!(sim.join_reply(id).unwrap().protocol.as_deref(), Some("sticky"));
    }
    let other = sim.join("", None, &["own"]);
    assert_eq!(sim.join_reply(other).unwrap().error, ErrorCode::InconsistentGroupProtocol);
}

/// Goal: everybody gets its own part; a sync of an old generation or another protocol is refused.
#[test]
fn the_leaders_assignment_reaches_every_member() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    assert_eq!(state(&mut sim), "Stable");
    let again = sim.sync(&second, 2, &[]);
    assert_eq!(sim.sync_reply(again).unwrap().assignment, b"2");
    let stale = sim.sync(&first, 1, &[]);
    assert_eq!(sim.sync_reply(stale).unwrap().error, ErrorCode::IllegalGeneration);
    assert_eq!(sim.heartbeat(&first, 1), ErrorCode::IllegalGeneration);
    assert_eq!(sim.heartbeat("nobody", 2), ErrorCode::UnknownMemberId);
    assert_eq!(sim.heartbeat(&first, 2), ErrorCode::None);
}

/// Goal: a join that lost its answer gets it again without a rebalance; a leader's rejoin is one.
#[test]
fn only_a_changed_member_or_the_leader_rebalances_by_rejoining() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    let again = sim.join(&second, None, &["range"]);
    assert_eq!(sim.join_reply(again).unwrap().generation, 2);
    assert_eq!(state(&mut sim), "Stable");
    let leads = sim.join(&first, None, &["range"]);
    assert_eq!(sim.join_reply(leads), None);
    assert_eq!(state(&mut sim), "PreparingRebalance");
    let follows = sim.join(&second, None, &["range"]);
    assert_eq!(sim.join_reply(leads).unwrap().generation, 3);
    assert_eq!(sim.join_reply(follows).unwrap().generation, 3);
}

/// Goal: silence ends a session; the rest rebalances; the leader's place goes to who came next.
#[test]
fn a_silent_leader_is_dropped_and_replaced() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    sim.pass(9_000);
    assert_eq!(sim.heartbeat(&second, 2), ErrorCode::None);
    sim.pass(2_000);
    assert_eq!(sim.heartbeat(&first, 2), ErrorCode::UnknownMemberId);
    assert_eq!(sim.heartbeat(&second, 2), ErrorCode::RebalanceInProgress);
    let rejoined = sim.join(&second, None, &["range"]);
    let reply = sim.join_reply(rejoined).unwrap();
    assert_eq!((reply.generation, reply.leader), (3, second));
}

/// Goal: who does not rejoin in time is out; a member that waits is not silent.
#[test]
fn a_rebalance_ends_with_its_timeout() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    let (_, third) = sim.join_twice(&["range"]);
    let rejoined = sim.join(&first, None, &["range"]);
    for _ in 0..11 {
        sim.pass(5_000);
        assert_eq!(sim.heartbeat(&second, 2), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(sim.join_reply(rejoined), None);
    sim.pass(5_000);
    assert_eq!(sim.join_reply(rejoined).unwrap().members.len(), 2);
    assert_eq!(sim.join_reply(third).unwrap().generation, 3);
    assert_eq!(sim.heartbeat(&second, 2), ErrorCode::UnknownMemberId);
}

/// Goal: members that join and never sync are dropped with the rebalance timeout (KAFKA-13435).
#[test]
fn a_member_that_does_not_sync_is_dropped() {
    let mut sim = Sim::prompt();
    let (leader, joined) = sim.join_twice(&["range"]);
    assert!(sim.join_reply(joined).is_some());
    for _ in 0..12 {
        assert_eq!(sim.heartbeat(&leader, 1), ErrorCode::None);
        sim.pass(5_000);
    }
    assert_eq!(sim.heartbeat(&leader, 1), ErrorCode::UnknownMemberId);
}

/// Goal: KIP-345, a static member that restarts takes its old place without a rebalance, its
/// old self is fenced, and the new id survives a crash.
#[test]
fn a_static_member_returns_without_a_rebalance() {
    for version in [5, 9] {
        let mut sim = Sim::prompt();
        sim.version = version;
        let joined = sim.join("", Some("i"), &["range"]);
        let old_id = sim.join_reply(joined).unwrap().member_id;
        assert!(old_id.starts_with("i-"));
        let synced = sim.sync(&old_id, 1, &[(&old_id, b"all")]);
        assert_eq!(sim.sync_reply(synced).unwrap().error, ErrorCode::None);
        let joined = sim.join("", Some("i"), &["range"]);
        let reply = sim.join_reply(joined).unwrap();
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
        assert_ne!(reply.member_id, old_id);
        assert_eq!(reply.skip_assignment, version >= 9, "KIP-814");
        assert_eq!(reply.leader == reply.member_id, version >= 9);
        assert_eq!(sim.heartbeat(&old_id, 1), ErrorCode::UnknownMemberId);
        let fenced = sim.join(&old_id, Some("i"), &["range"]);
        assert_eq!(sim.join_reply(fenced).unwrap().error, ErrorCode::FencedInstanceId);
        sim.crash(usize::MAX);
        assert_eq!(sim.heartbeat(&reply.member_id, 1), ErrorCode::None);
        let synced = sim.sync(&reply.member_id, 1, &[]);
        assert_eq!(sim.sync_reply(synced).unwrap().assignment, b"all");
    }
}

/// Goal: a static member that is away keeps its place through a rebalance, until its session ends.
#[test]
fn an_absent_static_member_keeps_its_place_for_its_session() {
    let mut sim = Sim::prompt();
    let joined = sim.join("", Some("i"), &["range"]);
    let member_id = sim.join_reply(joined).unwrap().member_id;
    sim.sync(&member_id, 1, &[(&member_id, b"all")]);
    assert_eq!(
        leave(&mut sim, &[("", Some("other"))]).members[0].error,
        ErrorCode::UnknownMemberId
    );
    sim.pass(9_000);
    assert_eq!(state(&mut sim), "Stable");
    sim.pass(1_000);
    assert_eq!(state(&mut sim), "Empty");
    let joined = sim.join("", Some("i"), &["range"]);
    let reply = sim.join_reply(joined).unwrap();
    assert_eq!(reply.generation, 3, "generations only grow");
    assert_eq!(leave(&mut sim, &[("", Some("i"))]).members[0].error, ErrorCode::None);
    assert_eq!(state(&mut sim), "Empty");
}

/// Goal: one LeaveGroup names several members, one code each (KIP-345).
#[test]
fn members_leave_in_a_batch() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    let reply = leave(&mut sim, &[(&first, None), ("nobody", None), (&second, None)]);
    let errors: Vec<ErrorCode> = reply.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::None]);
    assert_eq!(state(&mut sim), "Empty");
    sim.crash(usize::MAX);
    assert_eq!(state(&mut sim), "Empty");
    assert_eq!(sim.heartbeat(&first, 2), ErrorCode::UnknownMemberId);
}

/// Goal: bad joins are refused and leave nothing. Method: each; then no group is there.
#[test]
fn refused_joins_leave_no_group() {
    let mut sim = Sim::prompt();
    let metadata = subscribed(&["t"]);
    let good = join_request("", None, &["range"], &metadata);
    let mut cases = Vec::new();
    let mut bad = good.clone();
    bad.group_id = "";
    cases.push((bad, ErrorCode::InvalidGroupId));
    for session_timeout_ms in [0, 5_999, 1_800_001, -1] {
        let mut bad = good.clone();
        bad.session_timeout_ms = session_timeout_ms;
        cases.push((bad, ErrorCode::InvalidSessionTimeout));
    }
    let mut bad = good.clone();
    bad.protocols = Vec::new();
    cases.push((bad, ErrorCode::InconsistentGroupProtocol));
    let mut bad = good.clone();
    bad.protocol_type = "";
    cases.push((bad, ErrorCode::InconsistentGroupProtocol));
    let mut bad = good.clone();
    bad.protocols = vec![bad.protocols[0].clone(); 101];
    cases.push((bad, ErrorCode::InvalidRequest));
    let huge = vec![0; crate::base::limits::GROUP_MEMBER_BYTES_MAX];
    let mut bad = good.clone();
    bad.protocols[0].metadata = &huge;
    cases.push((bad, ErrorCode::GroupMaxSizeReached));
    for (request, error) in cases {
        let id = sim.call(|coordinator, call| coordinator.join_group(call, &request));
        assert_eq!(sim.join_reply(id).unwrap().error, error);
        assert_eq!(sim.coordinator.groups_count(), 0);
    }
    assert!(sim.log.is_empty());
}

/// Goal: KIP-389, a full group takes no more members.
#[test]
fn a_full_group_refuses_new_members() {
    let mut sim = Sim::new(GroupSettings {
        initial_rebalance_delay_ms: 0,
        members_count_max: 2,
        ..GroupSettings::default()
    });
    let (first, _) = settled_pair(&mut sim, &["range"]);
    let third = sim.join("", None, &["range"]);
    assert_eq!(sim.join_reply(third).unwrap().error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(sim.heartbeat(&first, 2), ErrorCode::None);
}

/// Goal: a settled group survives a crash: no rebalance, sessions begin anew. A rebalance that was
/// under way did not happen.
#[test]
fn a_settled_group_survives_a_crash() {
    let mut sim = Sim::prompt();
    let (first, second) = settled_pair(&mut sim, &["range"]);
    sim.crash(usize::MAX);
    assert_eq!(sim.heartbeat(&first, 2), ErrorCode::None);
    sim.pass(9_999);
    assert_eq!(state(&mut sim), "Stable");
    sim.join(&first, None, &["range"]);
    sim.crash(usize::MAX);
    assert_eq!(sim.heartbeat(&second, 2), ErrorCode::None);
    sim.pass(10_000);
    assert_eq!(state(&mut sim), "Empty");
}

/// Goal: a clock that somebody sets ends no session and keeps none alive; offsets age by it all the
/// same. Method: the wall clock goes a day ahead, then back, between heartbeats.
#[test]
fn a_clock_that_is_set_ends_no_session() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let mut sim = Sim::prompt();
    let member = sim.settled();
    for ahead_ms in [DAY_MS, -DAY_MS, 365 * DAY_MS] {
        sim.unix_ahead_ms += ahead_ms;
        sim.pass(6_000);
        assert_eq!(sim.heartbeat(&member, 1), ErrorCode::None, "the session is 10 s long");
    }
    sim.unix_ahead_ms -= 365 * DAY_MS;
    sim.pass(10_000);
    assert_eq!(sim.heartbeat(&member, 1), ErrorCode::UnknownMemberId);
    assert_eq!(state(&mut sim), "Empty");
}
