//! Groups: what their heartbeats cost the broker, and how fast a rebalance settles.
//!
//! Each member is a thread with a connection of its own (`member`). Committing offsets is in
//! `commit`.
//! **Invariant:** nothing is measured before every group has settled: each partition has one owner
//! and all members of a group are in the same generation or epoch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;

use ringmain::io;
use ringmain::protocol::api::ApiKey;

use crate::arguments::{GroupTargetArgs, HeartbeatArgs, RebalanceArgs};
use crate::lane::place_thread;
use crate::member::{Member, Plan, Protocol, Seat, Status, Tally, Versions};
use crate::pace::{rest, stopped_at};
use crate::process::{cpu_seconds, cpu_seconds_of};
use crate::result::Latency;
use crate::topic;

/// Open files beside the members' connections: the binary's own, and those of its first questions.
const FILES_SPARE: u64 = 64;
/// Stack of a member's thread, bytes: it recurses nowhere and keeps its buffers elsewhere.
const STACK_BYTES: usize = 256 * 1024;
/// Most members of one run: a thread and a connection each.
const MEMBERS_COUNT_MAX: u64 = 20_000;
/// How often the seats are looked at while groups settle.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// What a run ends with that was stopped too soon.
const STOPPED_TOO_SOON: &str = "stopped before anything was measured";

/// What a run of `groups heartbeat` found. Field names are part of the interface.
#[derive(Serialize)]
pub struct HeartbeatReport {
    pub command: &'static str,
    pub protocol: String,
    pub groups: u32,
    pub members: u32,
    pub interval_seconds: f64,
    /// Whether somebody stopped the run before its time.
    pub ended_early: bool,
    /// From the first join until all groups had settled.
    pub join_seconds: f64,
    pub seconds: f64,
    pub heartbeats: u64,
    pub heartbeats_per_second: f64,
    pub errors: u64,
    pub errors_by_name: BTreeMap<String, u64>,
    pub latency_us: Latency,
    /// Share of one core that the broker used, 1.0 is a whole core; absent without --broker-pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cores: Option<f64>,
    pub client_cores: f64,
}

/// What a run of `groups rebalance` found. Field names are part of the interface.
#[derive(Serialize)]
pub struct RebalanceReport {
    pub command: &'static str,
    pub protocol: String,
    pub members: u32,
    pub partitions: i32,
    pub interval_seconds: f64,
    /// Whether somebody stopped the run before its last round.
    pub ended_early: bool,
    pub rounds: Vec<Round>,
    /// The worst round's.
    pub settle_seconds_max: f64,
    /// The worst round's; of the consumer protocol only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals_max: Option<f64>,
}

/// One member joining a group that had settled.
#[derive(Serialize, Clone, Copy)]
pub struct Round {
    /// From the last join of any member until all had their partitions. In the classic protocol
    /// all join again; in the consumer protocol only the new one does.
    pub settle_seconds: f64,
    /// From the new member's first request: with the time until the others hear of it.
    pub total_seconds: f64,
    /// The most heartbeats that a member sent until all had settled.
    pub heartbeats_max: u64,
    /// `total_seconds` in heartbeat intervals.
    pub intervals: f64,
}

/// Groups and who is in them.
struct Fleet {
    plan: Arc<Plan>,
    members: Vec<Running>,
}

/// A member and the thread that it runs on.
struct Running {
    group: usize,
    seat: Arc<Seat>,
    thread: JoinHandle<()>,
}

/// Runs `ringmain-bench groups heartbeat`.
///
/// # Errors
/// The groups cannot be set up, the broker's process is not there, or the run was stopped before
/// it measured anything.
pub fn heartbeat(args: &HeartbeatArgs) -> anyhow::Result<HeartbeatReport> {
    let members_count = u64::from(args.groups) * u64::from(args.members);
    ensure!(
        members_count <= MEMBERS_COUNT_MAX,
        "{members_count} members are more than the {MEMBERS_COUNT_MAX} of one run"
    );
    let names = group_names(args.groups);
    let (plan, addresses) = prepare(&args.target, args.partitions, members_count, &names)?;
    args.target.broker_pid.map_or(Ok(0.0), cpu_seconds_of)?;
    let began = Instant::now();
    let mut fleet = Fleet { plan, members: Vec::new() };
    for member in 0..args.members {
        for (group, name) in names.iter().enumerate() {
            let index = u64::from(member) * u64::from(args.groups) + group as u64;
            let phase = index as f64 / members_count as f64;
            fleet.add(group, name, addresses[group], phase)?;
        }
    }
    let measured = fleet.settle(names.len(), args.target.timeout).and_then(|is_settled| {
        let join_seconds = began.elapsed().as_secs_f64();
        ensure!(is_settled && rest(args.warmup), STOPPED_TOO_SOON);
        eprintln!("all groups have settled after {join_seconds:.2} s, heartbeats are measured");
        measure_heartbeats(args, &fleet, join_seconds)
    });
    fleet.end();
    measured
}

fn measure_heartbeats(
    args: &HeartbeatArgs,
    fleet: &Fleet,
    join_seconds: f64,
) -> anyhow::Result<HeartbeatReport> {
    let plan = &fleet.plan;
    let broker = || args.target.broker_pid.map(cpu_seconds_of).transpose();
    let (client_before, broker_before, from) = (cpu_seconds(), broker()?, Instant::now());
    plan.is_measuring.store(true, Ordering::Relaxed);
    let ended_early = !rest(args.duration);
    plan.is_measuring.store(false, Ordering::Relaxed);
    let seconds = from.elapsed().as_secs_f64();
    let (client_after, broker_after) = (cpu_seconds(), broker()?);
    let tally = std::mem::replace(
        &mut *plan.tally.lock().unwrap_or_else(PoisonError::into_inner),
        Tally::new(),
    );
    fleet.check_alive()?;
    let share = |used: f64| (used / seconds * 10_000.0).round() / 10_000.0;
    Ok(HeartbeatReport {
        command: "groups heartbeat",
        protocol: name_of(plan.protocol),
        groups: args.groups,
        members: args.members,
        interval_seconds: fleet.interval_seconds(),
        ended_early,
        join_seconds,
        seconds,
        heartbeats: tally.heartbeats_count,
        heartbeats_per_second: (tally.heartbeats_count as f64 / seconds * 10.0).round() / 10.0,
        errors: tally.errors.values().sum(),
        latency_us: Latency::of(&tally.latency_us),
        errors_by_name: tally.errors,
        broker_cores: broker_after.zip(broker_before).map(|(after, before)| share(after - before)),
        client_cores: share(client_after - client_before),
    })
}

/// Runs `ringmain-bench groups rebalance`.
///
/// # Errors
/// The group cannot be set up or does not settle in time, or the run was stopped in its first
/// round.
pub fn rebalance(args: &RebalanceArgs) -> anyhow::Result<RebalanceReport> {
    let names = group_names(1);
    let (plan, addresses) =
        prepare(&args.target, args.partitions, u64::from(args.members), &names)?;
    let mut fleet = Fleet { plan, members: Vec::new() };
    let measured = rebalance_rounds(args, &mut fleet, &names[0], addresses[0]);
    let interval_seconds = fleet.interval_seconds();
    let is_consumer = fleet.plan.protocol == Protocol::Consumer;
    let (protocol, partitions) = (name_of(fleet.plan.protocol), fleet.plan.partitions_count);
    fleet.end();
    let rounds = measured?;
    ensure!(!rounds.is_empty(), STOPPED_TOO_SOON);
    let worst = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    Ok(RebalanceReport {
        command: "groups rebalance",
        protocol,
        members: args.members,
        partitions,
        interval_seconds,
        ended_early: rounds.len() < args.rounds as usize,
        settle_seconds_max: worst(|round| round.settle_seconds),
        intervals_max: is_consumer.then(|| worst(|round| round.intervals)),
        rounds,
    })
}

/// All but one member settle; then, a round each, the last one joins, and leaves again. A round in
/// which the run is stopped does not count.
fn rebalance_rounds(
    args: &RebalanceArgs,
    fleet: &mut Fleet,
    name: &str,
    address: SocketAddr,
) -> anyhow::Result<Vec<Round>> {
    let others_count = args.members - 1;
    for index in 0..others_count {
        fleet.add(0, name, address, f64::from(index) / f64::from(others_count))?;
    }
    let mut rounds = Vec::new();
    for index in 0..args.rounds {
        if !fleet.settle(1, args.target.timeout)? {
            break;
        }
        let before: Vec<u64> = fleet.statuses().map(|status| status.heartbeats_count).collect();
        let began = Instant::now();
        fleet.add(0, name, address, 1.0)?;
        if !fleet.settle(1, args.target.timeout)? {
            break;
        }
        let statuses: Vec<Status> = fleet.statuses().collect();
        let latest = |of: fn(&Status) -> Option<Instant>| {
            statuses.iter().filter_map(of).max().unwrap_or(began)
        };
        let joined_at = latest(|status| status.joined_at);
        let settled_at = latest(|status| status.settled_at);
        let sent = statuses.iter().zip(before.iter().chain([&0]));
        let heartbeats_max = sent.map(|(status, before)| status.heartbeats_count - before).max();
        let total_seconds = (settled_at - began).as_secs_f64();
        eprintln!("round {} of {}: {total_seconds:.3} s in all", index + 1, args.rounds);
        rounds.push(Round {
            settle_seconds: (settled_at - joined_at).as_secs_f64(),
            total_seconds,
            heartbeats_max: heartbeats_max.unwrap_or(0),
            intervals: total_seconds / fleet.interval_seconds(),
        });
        fleet.remove_last();
    }
    Ok(rounds)
}

impl Fleet {
    /// Starts a member of the `group`th group on a thread of its own.
    fn add(
        &mut self,
        group: usize,
        name: &str,
        address: SocketAddr,
        phase: f64,
    ) -> anyhow::Result<()> {
        let seat = Arc::new(Seat::default());
        let member = Member::connect(&self.plan, &seat, name, address, phase);
        let member = member.with_context(|| format!("connecting to {address}"))?;
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder
            .spawn(|| member.run())
            .with_context(|| format!("starting the thread of member {}", self.members.len() + 1))?;
        self.members.push(Running { group, seat, thread });
        Ok(())
    }

    /// Waits until every one of the groups has settled; false when the program was stopped before.
    fn settle(&self, groups_count: usize, timeout: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_alive()?;
            let settled_count = self.settled_count(groups_count);
            if settled_count == groups_count {
                return Ok(true);
            }
            if stopped_at().is_some() {
                return Ok(false);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} of {groups_count} groups have not settled within {:.0} s",
                    groups_count - settled_count,
                    timeout.as_secs_f64()
                );
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// How many groups are settled.
    fn settled_count(&self, groups_count: usize) -> usize {
        let mut seen: Vec<Seen> =
            (0..groups_count).map(|_| Seen::new(self.plan.partitions_count)).collect();
        for member in &self.members {
            seen[member.group].add(&member.seat.status());
        }
        seen.iter().filter(|group| group.is_settled()).count()
    }

    fn statuses(&self) -> impl Iterator<Item = Status> {
        self.members.iter().map(|member| member.seat.status().clone())
    }

    /// Heartbeats of the members that have joined come after so many seconds.
    fn interval_seconds(&self) -> f64 {
        let intervals = self.statuses().map(|status| status.interval.as_secs_f64());
        intervals.fold(0.0, f64::max)
    }

    /// Fails where a member had to give up.
    fn check_alive(&self) -> anyhow::Result<()> {
        match self.statuses().find_map(|status| status.failure) {
            Some(reason) => Err(anyhow!("a member gave up: {reason}")),
            None => Ok(()),
        }
    }

    /// Has the member that came last leave its group.
    fn remove_last(&mut self) {
        if let Some(member) = self.members.pop() {
            end_all(vec![member]);
        }
    }

    /// Has everyone leave. A member in the middle of a join leaves after it.
    fn end(self) {
        end_all(self.members);
    }
}

/// What the seats of one group say together.
///
/// A broker may take members in before it assigns anew (Kafka puts that off so that several joins
/// cost one assignment). So even shares are asked for, too, which both of the brokers' assignors
/// and ours give.
struct Seen {
    epoch: Option<i32>,
    owners: Vec<bool>,
    owned_count: usize,
    share_min: usize,
    share_max: usize,
    is_sound: bool, // all in one epoch, no partition owned twice
}

impl Seen {
    fn new(partitions_count: i32) -> Seen {
        let owners = vec![false; partitions_count as usize];
        Seen {
            epoch: None,
            owners,
            owned_count: 0,
            share_min: usize::MAX,
            share_max: 0,
            is_sound: true,
        }
    }

    fn add(&mut self, status: &Status) {
        let epoch = status.epoch;
        self.is_sound &= epoch.is_some() && (self.epoch.is_none() || self.epoch == epoch);
        self.epoch = epoch;
        for &partition in &status.owned {
            match self.owners.get_mut(partition as usize) {
                Some(owner) if !*owner => *owner = true,
                _ => self.is_sound = false,
            }
        }
        self.owned_count += status.owned.len();
        self.share_min = self.share_min.min(status.owned.len());
        self.share_max = self.share_max.max(status.owned.len());
    }

    fn is_settled(&self) -> bool {
        let is_even = self.share_max <= self.share_min.saturating_add(1);
        self.is_sound && is_even && self.owned_count == self.owners.len()
    }
}

fn end_all(members: Vec<Running>) {
    for member in &members {
        member.seat.is_leaving.store(true, Ordering::Relaxed);
        member.thread.thread().unpark();
    }
    for member in members {
        // A panic of a member has been printed; the others still leave.
        let _ = member.thread.join();
    }
}

/// Ids that no other run uses at the same time.
pub fn group_names(count: u32) -> Vec<String> {
    let run = std::process::id();
    (0..count).map(|index| format!("bench-{run}-{index}")).collect()
}

/// Makes the topic, finds the coordinators, and sees to it that there may be so many connections.
fn prepare(
    target: &GroupTargetArgs,
    partitions: u32,
    members_count: u64,
    names: &[String],
) -> anyhow::Result<(Arc<Plan>, Vec<SocketAddr>)> {
    if let Some(cpus) = &target.cpus {
        place_thread(&cpus.0)?;
    }
    allow_files(members_count + FILES_SPARE)?;
    let topic = topic::prepare(&target.topic_args(partitions))?;
    let is_consumer = target.protocol == Protocol::Consumer;
    let (versions, addresses) = io::run_one(async |io| {
        let cluster = topic::connect(&io, &target.brokers, target.timeout).await?;
        let connection = cluster.any().await?;
        let version = |key, is_needed: bool| match connection.version_of(key) {
            Err(error) if is_needed => Err(error),
            outcome => Ok(outcome.unwrap_or(-1)),
        };
        let versions = Versions {
            join: version(ApiKey::JoinGroup, !is_consumer)?,
            sync: version(ApiKey::SyncGroup, !is_consumer)?,
            heartbeat: version(ApiKey::Heartbeat, !is_consumer)?,
            leave: version(ApiKey::LeaveGroup, !is_consumer)?,
            consumer: version(ApiKey::ConsumerGroupHeartbeat, is_consumer)?,
        };
        let mut addresses = Vec::with_capacity(names.len());
        for name in names {
            addresses.push(topic::coordinator_address(&cluster, name).await?);
        }
        anyhow::Ok((versions, addresses))
    })
    .context("the load generator's runtime")??;
    let plan = Plan {
        protocol: target.protocol,
        topic: topic.name.clone(),
        topic_id: topic.id,
        partitions_count: topic.partitions_count() as i32,
        versions,
        interval: target.interval,
        is_measuring: AtomicBool::new(false),
        tally: Mutex::new(Tally::new()),
    };
    Ok((Arc::new(plan), addresses))
}

/// Raises this process's limit of open files to `needed`, as far as it may.
pub fn allow_files(needed: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        maximum >= needed,
        "{needed} open files are needed and {maximum} are allowed: raise that with `ulimit -n`"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .context("raising the limit of open files")
}

fn name_of(protocol: Protocol) -> String {
    match protocol {
        Protocol::Classic => "classic".to_owned(),
        Protocol::Consumer => "consumer".to_owned(),
    }
}

/// What a report's first line says of a run that was stopped.
fn early(ended_early: bool) -> &'static str {
    if ended_early { ", stopped before its time" } else { "" }
}

impl HeartbeatReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let latency = &self.latency_us;
        let mut text = format!(
            "{}: {} groups of {} members, {} protocol, a heartbeat every {:.1} s{}\n",
            self.command,
            self.groups,
            self.members,
            self.protocol,
            self.interval_seconds,
            early(self.ended_early)
        );
        text += &format!(
            "  rate     {:.0} heartbeats/s over {:.1} s; all had joined after {:.1} s\n",
            self.heartbeats_per_second, self.seconds, self.join_seconds
        );
        text += &format!(
            "  latency  p50 {} µs, p90 {}, p99 {}, p99.9 {}, max {}\n",
            latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
        );
        if let Some(cores) = self.broker_cores {
            text += &format!("  broker   {:.2} % of a core\n", cores * 100.0);
        }
        text += &format!("  client   {:.2} % of a core\n", self.client_cores * 100.0);
        text += &format!("  errors   {}", self.errors);
        for (name, count) in &self.errors_by_name {
            text += &format!("\n    {count} x {name}");
        }
        text
    }
}

impl RebalanceReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} members over {} partitions, {} protocol, a heartbeat every {:.1} s{}",
            self.command,
            self.members,
            self.partitions,
            self.protocol,
            self.interval_seconds,
            early(self.ended_early)
        );
        for (index, round) in self.rounds.iter().enumerate() {
            text += &format!(
                "\n  round {}  settled {:.3} s after the last join; {:.3} s in all, \
                 {:.2} intervals, at most {} heartbeats a member",
                index + 1,
                round.settle_seconds,
                round.total_seconds,
                round.intervals,
                round.heartbeats_max
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a whole, even group of one epoch is settled. Method: one that is, and each way
    /// in which one is not.
    #[test]
    fn a_group_is_settled_when_it_is_whole_even_and_of_one_epoch() {
        let is_settled = |members: &[(Option<i32>, &[i32])]| {
            let mut seen = Seen::new(4);
            for (epoch, owned) in members {
                let owned = owned.to_vec();
                seen.add(&Status { epoch: *epoch, owned, ..Status::default() });
            }
            seen.is_settled()
        };
        assert!(is_settled(&[(Some(3), &[0, 1]), (Some(3), &[2, 3])]));
        assert!(is_settled(&[(Some(3), &[0, 1]), (Some(3), &[2]), (Some(3), &[3])]));
        assert!(!is_settled(&[(Some(3), &[0, 1]), (Some(4), &[2, 3])]), "two epochs");
        assert!(!is_settled(&[(Some(3), &[0, 1]), (None, &[2, 3])]), "one has not joined");
        assert!(!is_settled(&[(Some(3), &[0, 1]), (Some(3), &[1, 2])]), "two owners");
        assert!(!is_settled(&[(Some(3), &[0, 1]), (Some(3), &[2])]), "one without an owner");
        assert!(!is_settled(&[(Some(3), &[0, 1, 2, 3]), (Some(3), &[])]), "not assigned anew yet");
        assert!(!is_settled(&[]), "nobody is there");
    }
}
