//! One broker process: what is started in which order, and how it stops.
//!
//! Start: settings, probe, data directory, then on the shards: metadata log, replicas, listener.
//! Stop: no more connections, requests in flight end, logs are closed, and last the mark of a clean
//! stop is written. Whatever fails on the way is told in one sentence.
//! **Invariant:** the mark of a clean stop is written only when nothing appends any more.

use crate::base::metrics::ShardMetrics;
use crate::cluster::changes::ChangeError;
use crate::cluster::controller::QuorumState;
use crate::cluster::controller::{Controller, ControllerConfig};
use crate::cluster::metadata::{Broker, Image};
use crate::config::{ConfigError, Endpoint, Settings};
use crate::io::probe::{self, ProbeConfig, ProbeError, ProbeReport};
use crate::io::{
    Io, Listener, Mesh, Notifier, OpenMode, ShardsConfig, is_full, run_shards, signals,
};
use crate::server::connection::Server;
use crate::server::listener;
use crate::shard::mailbox::{
    CONTROLLER_SHARD, ChangeReply, ChangeRequest, LocalFuture, ShardMessage, ShardReply,
    ShardRequest,
};
use crate::shard::producers::ProducerIdsReply;
use crate::shard::signal::Flag;
use crate::shard::state::{Control, NodeFacts, Shard};
use crate::shard::strays;
use crate::storage::{
    Budgets, CleanLog, Committer, DataDir, DataDirError, JournalPlace, StorageError, redo,
};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a port may stay taken: the kernel ends the rings of a process that was killed, and with
/// them its listener, a little later than the process.
const LISTEN_WAIT_MAX: Duration = Duration::from_secs(2);
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_millis(20);

pub use crate::config::ServeArgs;

/// Why a node did not start, or did not stop clean; each is a sentence for the person at it.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{address} is in use by another program; stop that one or choose another --listen")]
    AddressInUse { address: SocketAddr },
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("the cluster's metadata cannot be used: {0}")]
    Metadata(String),
    #[error(
        "what a journal holds cannot be brought to its partition: {0}; mend it, or move the \
         partition's directory away to start without it"
    )]
    Journal(StorageError),
    #[error("the data directory cannot be cleaned up: {0}")]
    Strays(io::Error),
    #[error("this broker cannot be registered: {0}")]
    Register(#[from] ChangeError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("{0}")]
    Shards(io::Error),
    #[error("the mark of a clean stop could not be written, the next start recovers: {0}")]
    CleanMark(io::Error),
}

/// Runs a node until a signal stops it.
///
/// Prints one line to stdout when clients can connect.
///
/// # Errors
/// One sentence for the person who started it.
pub fn serve(args: &ServeArgs) -> Result<(), NodeError> {
    let settings = Settings::load(args)?;
    signals::block().map_err(NodeError::Signals)?;
    let stop = Notifier::new();
    let on_signal = stop.clone();
    signals::on_stop(move |signal| {
        tracing::info!(?signal, "stopping");
        on_signal.notify();
    })
    .map_err(NodeError::Signals)?;
    run(settings, stop, |ready| println!("{ready}")).map(|_| ())
}

/// What a node says of itself once clients can connect.
#[derive(Debug, Clone)]
pub struct Ready {
    pub address: SocketAddr,
    pub advertised: Endpoint,
    pub data_dir: std::path::PathBuf,
    pub shards_count: usize,
    pub one_flush_for_all: bool,
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flush = if self.one_flush_for_all {
            "one flush for all logs of a shard"
        } else {
            "a flush for each log"
        };
        let Ready { address, data_dir, shards_count, .. } = self;
        let data_dir = data_dir.display();
        write!(
            f,
            "ringmain ready on {address}, data in {data_dir}, {shards_count} shard(s), {flush}"
        )
    }
}

/// Runs a node until `stop` is notified; calls `on_ready` once clients can connect.
///
/// Returns what the node did.
///
/// # Errors
/// As [`serve`].
pub fn run(
    settings: Settings,
    stop: Notifier,
    on_ready: impl Fn(&Ready) + Send + Sync + 'static,
) -> Result<Totals, NodeError> {
    for name in &settings.without_effect {
        tracing::info!(setting = name, "accepted without effect");
    }
    let address = listen_address(&settings)?;
    let (data_dir, clean) = DataDir::open(&settings.data_dir, settings.node_id)?;
    let shards_count = settings.cpus.len();
    let probe = ProbeConfig { data_dir: settings.data_dir.clone(), shards_count };
    let report = probe::run(&probe).map_err(|error| match error {
        ProbeError::DataDir { path, cause } if is_full(&cause) => {
            NodeError::DataDir(DataDirError::Full { path })
        }
        error => NodeError::Probe(error),
    })?;
    report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let node = Arc::new(NodeFacts {
        node_id: settings.node_id,
        data_dir: settings.data_dir.clone(),
        fixed: settings.fixed.clone(),
        connections_counts: (0..shards_count).map(|_| AtomicUsize::new(0)).collect(),
        addresses: Mutex::new(HashMap::new()),
    });
    let config = ShardsConfig {
        cpus: settings.cpus.clone(),
        memory_bytes_per_shard: settings.memory_bytes / shards_count,
    };
    let start = Arc::new(Start {
        settings,
        address,
        node,
        clean,
        cluster_id: data_dir.cluster_id().to_owned(),
        report,
        stop,
        on_ready: Box::new(on_ready),
    });
    let main = move |io: Io, mesh: Mesh<ShardMessage>| shard_main(io, mesh, start.clone());
    let ends = run_shards(config, main).map_err(NodeError::Shards)?;
    let mut logs = Vec::new();
    let mut totals = Totals::default();
    for end in ends {
        let (closed, counted) = end?;
        logs.extend(closed);
        totals.add(&counted);
    }
    data_dir.write_clean(&logs).map_err(NodeError::CleanMark)?;
    tracing::info!(logs = logs.len(), "stopped clean after {totals}");
    Ok(totals)
}

/// What a node did from its start to its end, all shards together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    pub connections: u64,
    /// Connections that were closed over what they sent.
    pub refused: u64,
    pub append_bytes: u64,
    pub fetch_bytes: u64,
    /// Record bytes of fetch answers that were copied on the way: 0.
    pub fetch_copied_bytes: u64,
    /// Tasks that a panic ended: 0.
    pub panics: u64,
}

impl Totals {
    fn of(shard: &Shard) -> Totals {
        let metrics = &shard.metrics;
        Totals {
            requests: metrics.requests.get(),
            connections: metrics.connections_accepted.get(),
            refused: metrics.requests_refused.get(),
            append_bytes: metrics.append_bytes.get(),
            fetch_bytes: metrics.fetch_bytes.get(),
            fetch_copied_bytes: metrics.fetch_copied_bytes.get(),
            panics: shard.io.panics(),
        }
    }

    fn add(&mut self, other: &Totals) {
        self.requests += other.requests;
        self.connections += other.connections;
        self.refused += other.refused;
        self.append_bytes += other.append_bytes;
        self.fetch_bytes += other.fetch_bytes;
        self.fetch_copied_bytes += other.fetch_copied_bytes;
        self.panics += other.panics;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { requests, connections, append_bytes, fetch_bytes, .. } = self;
        write!(
            f,
            "{requests} requests on {connections} connections, {append_bytes} bytes appended, \
             {fetch_bytes} bytes fetched"
        )?;
        let exceptions = [
            (self.refused, "connections closed over what they sent"),
            (self.fetch_copied_bytes, "fetched bytes copied on the way"),
            (self.panics, "tasks ended by a panic"),
        ];
        let mut happened = exceptions.iter().filter(|(count, _)| *count > 0);
        happened.try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// What every shard is started with.
struct Start {
    settings: Settings,
    address: SocketAddr,
    node: Arc<NodeFacts>,
    clean: Vec<CleanLog>,
    cluster_id: String,
    report: ProbeReport,
    stop: Notifier,
    on_ready: Box<dyn Fn(&Ready) + Send + Sync>,
}

/// The first address of the host to listen on, if it is free now: told before a long recovery.
fn listen_address(settings: &Settings) -> Result<SocketAddr, NodeError> {
    let addresses = settings.listen.resolve()?;
    let address = *addresses.first().expect("a name that resolves has an address");
    let deadline = Instant::now() + LISTEN_WAIT_MAX;
    while address.port() != 0
        && let Err(cause) = TcpListener::bind(address)
    {
        match cause.kind() {
            io::ErrorKind::AddrInUse if Instant::now() < deadline => {
                thread::sleep(LISTEN_RETRY_INTERVAL);
            }
            io::ErrorKind::AddrInUse => return Err(NodeError::AddressInUse { address }),
            _ => return Err(NodeError::Listen { address, cause }),
        }
    }
    Ok(address)
}

/// One shard's life; returns what closed logs leave and what it did, or why it could not start.
async fn shard_main(
    io: Io,
    mesh: Mesh<ShardMessage>,
    start: Arc<Start>,
) -> Result<(Vec<CleanLog>, Totals), NodeError> {
    let metrics = Rc::new(ShardMetrics::default());
    let budgets = Budgets::of(io.memory().budget_bytes());
    let committer = Committer::with_budgets(&io, &metrics, budgets);
    let unwritten = DataDir::unwritten_file(&start.settings.data_dir);
    match io.open(&unwritten, OpenMode::Read).await {
        Ok(file) => committer.flush_through(file),
        Err(error) => tracing::warn!(%error, "flushes go through the logs' own files"),
    }
    let data_dir = &start.settings.data_dir;
    if let Ok(space) = io.disk_space(data_dir).await {
        let (shard, shards_count) = (mesh.shard().0, mesh.shards_count());
        let place = JournalPlace::of(data_dir, shard, shards_count, space.usable_bytes);
        place.into_iter().for_each(|place| committer.journal_in(&io, place));
    }
    let clean = start.clean.iter().cloned();
    let shard = Shard::new(io, mesh, start.node.clone(), metrics, committer, clean);
    Server::new(shard.clone()).open();
    shard.io.spawn(shard.clone().maintain());
    shard.io.spawn(shard.clone().keep_group_time());
    if shard.id != CONTROLLER_SHARD {
        shard.clone().serve_mailbox().await;
        return Ok((Vec::new(), Totals::of(&shard)));
    }
    shard.io.spawn(shard.clone().serve_mailbox());
    let result = control_shard_main(&shard, &start).await;
    shard.end_others();
    result.map(|logs| (logs, Totals::of(&shard)))
}

/// The life of the shard that has the controller and the listener.
async fn control_shard_main(shard: &Rc<Shard>, start: &Start) -> Result<Vec<CleanLog>, NodeError> {
    let config = ControllerConfig {
        data_dir: start.settings.data_dir.clone(),
        node_id: start.settings.node_id,
        fixed: start.settings.fixed.clone(),
    };
    // Every image follows a change of this node's own, and that hands it out itself.
    let controller = Controller::open(&shard.io, config, |_| ()).await;
    let data_dir = &start.settings.data_dir;
    let full = || NodeError::DataDir(DataDirError::Full { path: data_dir.clone() });
    let controller = controller.map_err(|error| match error.is_full() {
        true => full(),
        false => NodeError::Metadata(error.to_string()),
    })?;
    let image = controller.image();
    // No log is opened before: the image that tells of them is handed out below.
    let redone = redo(&shard.io, data_dir).await.map_err(|error| match &error {
        StorageError::Io { source, .. } if is_full(source) => full(),
        _ => NodeError::Journal(error),
    })?;
    if redone.rounds > 0 {
        let (rounds, bytes) = (redone.rounds, redone.bytes);
        tracing::info!(rounds, bytes, "partitions have what the journals held");
    }
    let set_aside = strays::set_aside(&shard.io, data_dir, &image, &start.clean).await;
    set_aside.map_err(|error| if is_full(&error) { full() } else { NodeError::Strays(error) })?;
    distribute(shard, &image).await;
    let control = ControlHere { shard: shard.clone(), controller: controller.clone() };
    shard.set_control(Box::new(control));
    let stop_accepting = Rc::new(Flag::default());
    let result = match open_listener(shard, start, &controller).await {
        Ok((listener, ready)) => {
            let accepting = listener::accept(shard.clone(), listener, stop_accepting.clone());
            shard.io.spawn(accepting);
            (start.on_ready)(&ready);
            shard.io.wait(&start.stop).await;
            Ok(())
        }
        Err(NodeError::Register(ChangeError::NoSpace)) => Err(full()),
        Err(error) => Err(error),
    };
    stop_accepting.raise();
    shard.ask_all(|| ShardRequest::Drain).await;
    let mut logs = Vec::new();
    for reply in shard.ask_all(|| ShardRequest::CloseLogs).await {
        match reply {
            ShardReply::Closed(closed) => logs.extend(closed),
            other => unreachable!("closing is answered with {other:?}"),
        }
    }
    controller.close().await;
    result.map(|()| logs)
}

/// Binds the port, and makes the address known to the cluster.
async fn open_listener(
    shard: &Rc<Shard>,
    start: &Start,
    controller: &Controller,
) -> Result<(Listener, Ready), NodeError> {
    let listener = shard.io.listen(start.address).await;
    let listener = listener.map_err(|cause| NodeError::Listen { address: start.address, cause })?;
    let address = listener.local_addr();
    let advertised = start.settings.advertised(address.port());
    let broker = Broker {
        id: start.settings.node_id,
        host: advertised.host.clone(),
        port: advertised.port,
        rack: start.settings.rack.clone(),
    };
    controller.register_broker(&start.cluster_id, &broker).await?;
    distribute(shard, &controller.image()).await;
    let ready = Ready {
        address,
        advertised,
        data_dir: start.settings.data_dir.clone(),
        shards_count: shard.shards_count(),
        one_flush_for_all: start.report.one_flush_for_all,
    };
    Ok((listener, ready))
}

/// Puts `image` in force on every shard.
async fn distribute(shard: &Rc<Shard>, image: &Arc<Image>) {
    if image.version() > shard.image().version() {
        shard.ask_all(|| ShardRequest::Image(image.clone())).await;
    }
}

/// The controller as the shards see it.
struct ControlHere {
    shard: Rc<Shard>,
    controller: Controller,
}

impl Control for ControlHere {
    fn change(&self, request: ChangeRequest) -> LocalFuture<ChangeReply> {
        let (shard, controller) = (self.shard.clone(), self.controller.clone());
        Box::pin(async move {
            let reply = carry_out(&controller, request).await;
            distribute(&shard, &controller.image()).await;
            if controller.has_proposals() {
                // Where the disk is full nobody waits for what comes of them once there is room.
                let later = shard.clone();
                shard.io.spawn(async move {
                    controller.quiet().await;
                    distribute(&later, &controller.image()).await;
                });
            }
            reply
        })
    }

    fn allocate_producer_ids(&self) -> LocalFuture<ProducerIdsReply> {
        let controller = self.controller.clone();
        Box::pin(async move { controller.allocate_producer_ids().await })
    }

    fn quorum_state(&self) -> QuorumState {
        self.controller.quorum_state()
    }
}

async fn carry_out(controller: &Controller, request: ChangeRequest) -> ChangeReply {
    match request {
        ChangeRequest::CreateTopics { topics, validate_only } => {
            ChangeReply::Topics(controller.create_topics(&topics, validate_only).await)
        }
        ChangeRequest::DeleteTopics(topics) => {
            ChangeReply::Topics(controller.delete_topics(&topics).await)
        }
        ChangeRequest::CreatePartitions { topics, validate_only } => {
            ChangeReply::Done(controller.create_partitions(&topics, validate_only).await)
        }
        ChangeRequest::AlterSettings { changes, validate_only } => {
            ChangeReply::Done(controller.alter_configs(&changes, validate_only).await)
        }
        ChangeRequest::ReplaceSettings { wanted, validate_only } => {
            ChangeReply::Done(controller.replace_configs(&wanted, validate_only).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a person reads what a node did, and what should not be only where it was.
    #[test]
    fn totals_are_a_sentence() {
        let mut totals =
            Totals { requests: 9, connections: 2, append_bytes: 70, ..Totals::default() };
        let text = "9 requests on 2 connections, 70 bytes appended, 0 bytes fetched";
        assert_eq!(totals.to_string(), text);
        (totals.refused, totals.panics) = (3, 1);
        let more = ", 3 connections closed over what they sent, 1 tasks ended by a panic";
        assert_eq!(totals.to_string(), format!("{text}{more}"));
    }
}
