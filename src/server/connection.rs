//! One client's connection: requests in, answers out in their order.
//!
//! Produce and Fetch requests are pipelined: the next one is read and begun while earlier ones
//! wait for the disk or for data. Any other request waits until all before it were answered, and
//! the next waits for it, so that clients see what a broker shows that takes one request at a time.
//! (A commit of offsets is pipelined too: its order is its coordinator's.)
//! **Invariant:** answers leave in the order of their requests; the requests in flight are bounded
//! in count and bytes, and when they reach the bound the socket is not read.

use super::answer::{Gather, Outcome, Pending};
use super::dispatch::{self, Way};
use super::fetch_session::SessionCache;
use super::frame::{Frame, FrameError, Frames};
use crate::base::limits::{KIB, MIB};
use crate::io::{Socket, SocketHandle};
use crate::shard::mailbox::LocalFuture;
use crate::shard::signal::{Flag, Permit, Signal};
use crate::shard::state::{Connections, Shard};
use futures_util::future::{Either, select};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Requests of one connection in flight.
const REQUESTS_COUNT_MAX: usize = 256;
/// Bytes of one connection's requests in flight; one larger request is taken alone.
const REQUESTS_BYTES_MAX: usize = 32 * MIB;
/// Time between two looks for idle connections and for requests whose time is up.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Where answers wait for room that others hold, a send is given up whose peer took less than so
/// many bytes in so long. Otherwise a peer may take its time: consumers do not read while they
/// process what they have.
const SEND_STALL_TIME_MAX: Duration = Duration::from_secs(5);
const SEND_BYTES_MIN: u64 = 64 * KIB as u64;
/// How long a stop waits for requests in flight.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// What serves the connections of one shard.
pub struct Server {
    pub shard: Rc<Shard>,
    pub sessions: RefCell<SessionCache>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next_id: Cell<u64>,
    stopping: Flag,
    ended: Signal,
}

/// One connection's state that its two halves share.
struct Connection {
    id: u64,
    peer: SocketAddr,
    socket: Socket,
    server: Rc<Server>,
    queue: RefCell<VecDeque<InFlight>>,
    queue_bytes: Cell<usize>,
    /// The queue grew or shrank.
    changed: Signal,
    stop: Flag,
    /// A request that is served alone is under way: it is not in the queue.
    alone: Cell<bool>,
    last_active: Cell<Duration>,
    /// The answers under way hold a permit: since when the peer takes hardly any of them, and how
    /// much it had taken then, once the sweep has asked.
    stalled: Cell<Option<(Duration, Option<u64>)>>,
    /// Why the sweep ended the connection.
    swept: RefCell<Option<String>>,
}

struct InFlight {
    pending: Pending,
    bytes: usize,
    began: Duration,
    permit: Option<Permit>,
}

/// Why a connection ended.
enum End {
    /// The peer closed, or the socket failed.
    Peer,
    /// This side closes, and says why in the log.
    Refused(String),
    /// Idle for too long, or the node stops.
    Stopped,
}

impl Server {
    /// The server of `shard`.
    pub fn new(shard: Rc<Shard>) -> Rc<Server> {
        let slots = shard.settings().max_incremental_fetch_session_cache_slots;
        let slots_max = usize::try_from(slots).unwrap_or(0).div_ceil(shard.shards_count());
        let seed = shard.io.clock().now_ms().cast_unsigned().rotate_left(u32::from(shard.id.0));
        Rc::new(Server {
            sessions: RefCell::new(SessionCache::new(slots_max, seed)),
            shard,
            connections: RefCell::default(),
            next_id: Cell::new(0),
            stopping: Flag::default(),
            ended: Signal::default(),
        })
    }

    /// Makes this server the one that gets the shard's connections.
    pub fn open(self: &Rc<Self>) {
        self.shard.set_connections(Box::new(Doors(self.clone())));
        self.shard.io.spawn(self.clone().sweep());
    }

    /// Raised when the node stops: whoever waits for records answers with what there is.
    pub fn stopping(&self) -> &Flag {
        &self.stopping
    }

    fn take(self: &Rc<Self>, handle: SocketHandle) {
        if self.stopping.is_raised() {
            return self.shard.connection_ended(handle.peer().ip());
        }
        let socket = self.shard.io.adopt(handle);
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let connection = Rc::new(Connection {
            id,
            peer: socket.peer(),
            socket,
            server: self.clone(),
            queue: RefCell::default(),
            queue_bytes: Cell::new(0),
            changed: Signal::default(),
            stop: Flag::default(),
            alone: Cell::new(false),
            last_active: Cell::new(self.shard.io.clock().monotonic()),
            stalled: Cell::new(None),
            swept: RefCell::default(),
        });
        self.shard.metrics.connections_accepted.add(1);
        self.connections.borrow_mut().insert(id, connection.clone());
        let guard = Registered(connection);
        self.shard.io.spawn(async move { guard.0.run().await });
    }

    /// Ends idle connections, and lets requests notice that their time is up.
    async fn sweep(self: Rc<Self>) {
        loop {
            self.shard.io.sleep(SWEEP_INTERVAL).await;
            let now = self.shard.io.clock().monotonic();
            let idle_ms = self.shard.settings().connections_max_idle_ms;
            let idle_max = u64::try_from(idle_ms).ok().map(Duration::from_millis);
            let is_short = self.shard.answers_budget.is_short();
            for connection in self.connections.borrow().values() {
                connection.sweep_send(now, is_short);
                let queue = connection.queue.borrow();
                if let Some(first) = queue.front() {
                    if now.saturating_sub(first.began) >= SWEEP_INTERVAL {
                        connection.changed.notify();
                    }
                } else if !connection.alone.get()
                    && idle_max
                        .is_some_and(|most| now.saturating_sub(connection.last_active.get()) > most)
                {
                    connection.stop.raise();
                    if connection.queue_bytes.get() > 0 {
                        // Nothing else ends that send.
                        connection.give_up("the peer does not read its answers".to_owned());
                    }
                }
            }
        }
    }

    async fn drain(self: Rc<Self>) {
        self.stopping.raise();
        self.connections.borrow().values().for_each(|connection| connection.stop.raise());
        let ended = self.ended.until(|| self.connections.borrow().is_empty().then_some(()));
        if self.shard.io.timeout(DRAIN_TIME_MAX, ended).await.is_none() {
            tracing::warn!(
                connections = self.connections.borrow().len(),
                "requests still in flight are dropped"
            );
        }
    }
}

struct Doors(Rc<Server>);

impl Connections for Doors {
    fn take(&self, handle: SocketHandle) {
        self.0.take(handle);
    }

    fn drain(&self) -> LocalFuture<()> {
        Box::pin(self.0.clone().drain())
    }
}

/// Takes a connection off the books, also when its task panicked.
struct Registered(Rc<Connection>);

impl Drop for Registered {
    fn drop(&mut self) {
        let server = &self.0.server;
        server.connections.borrow_mut().remove(&self.0.id);
        self.0.queue.borrow_mut().clear();
        server.shard.metrics.connections_closed.add(1);
        server.shard.connection_ended(self.0.peer.ip());
        server.ended.notify();
    }
}

impl Connection {
    async fn run(self: &Rc<Self>) {
        let end = match select(pin!(self.read()), pin!(self.write())).await {
            Either::Left((end, _)) | Either::Right((end, _)) => end,
        };
        let end = self.swept.take().map_or(end, End::Refused);
        if let End::Refused(reason) = end {
            self.server.shard.metrics.requests_refused.add(1);
            tracing::warn!(peer = %self.peer, reason, "connection closed");
        }
        self.socket.shutdown();
    }

    /// Reads requests and begins them until the connection ends.
    async fn read(self: &Rc<Self>) -> End {
        let stop = pin!(self.stop.wait());
        let reading = pin!(self.read_requests());
        let end = match select(reading, stop).await {
            Either::Left((end, _)) => end,
            Either::Right(((), reading)) => {
                // A request that is served alone is finished, too.
                let finished = self.changed.until(|| (!self.alone.get()).then_some(()));
                match select(reading, pin!(finished)).await {
                    Either::Left((end, _)) => end,
                    Either::Right(_) => End::Stopped,
                }
            }
        };
        if !matches!(end, End::Peer) {
            self.answered().await;
        }
        end
    }

    async fn read_requests(self: &Rc<Self>) -> End {
        let shard = &self.server.shard;
        let bytes_max = usize::try_from(shard.settings().socket_request_max_bytes).unwrap_or(0);
        let budget = shard.requests_budget.clone();
        let mut frames = Frames::new(bytes_max, shard.io.memory().clone(), budget);
        loop {
            self.room().await;
            let frame = match frames.next(&self.socket).await {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(FrameError::Socket(_)) => return End::Peer,
                Err(error @ FrameError::Size { .. }) => return End::Refused(error.to_string()),
            };
            shard.metrics.requests.add(1);
            shard.metrics.bytes_in.add(frame.bytes.len() as u64 + 4);
            self.last_active.set(shard.io.clock().monotonic());
            if let Err(refused) = self.begin(frame).await {
                return End::Refused(refused.to_string());
            }
        }
    }

    async fn begin(self: &Rc<Self>, frame: Frame) -> Result<(), dispatch::Refused> {
        let bytes = frame.bytes.len();
        let mut permit = Some(frame.permit);
        let pending = match dispatch::begin(&self.server, self.peer.ip(), frame.bytes)? {
            Way::Pipelined(begin) => begin.run()?,
            Way::Alone(alone) => {
                self.answered().await;
                self.alone.set(true);
                if alone.waits_for_others() {
                    permit = None;
                }
                let outcome = alone.run().await;
                self.alone.set(false);
                Pending::Now(outcome?)
            }
        };
        let began = self.last_active.get();
        self.queue_bytes.set(self.queue_bytes.get() + bytes);
        let in_flight = InFlight { pending, bytes, began, permit };
        self.queue.borrow_mut().push_back(in_flight);
        self.changed.notify();
        Ok(())
    }

    /// Resolves when one more request may be in flight.
    async fn room(&self) {
        let has_room = || {
            let count = self.queue.borrow().len();
            count < REQUESTS_COUNT_MAX && self.queue_bytes.get() < REQUESTS_BYTES_MAX
        };
        self.changed.until(|| has_room().then_some(())).await;
    }

    /// Resolves when every request so far was answered.
    async fn answered(&self) {
        self.changed.until(|| (self.queue_bytes.get() == 0).then_some(())).await;
    }

    /// Sends answers until the connection ends.
    async fn write(&self) -> End {
        loop {
            let ready = poll_fn(|context| self.poll_answers(context)).await;
            let began = self.server.shard.io.clock().monotonic();
            let bytes = ready.gather.bytes() as u64;
            let (sends, answers_permits) = ready.gather.into_sends();
            if !answers_permits.is_empty() {
                self.stalled.set(Some((began, None)));
            }
            for send in sends {
                if self.socket.send(send).await.is_err() {
                    return End::Peer;
                }
            }
            self.stalled.set(None);
            drop(answers_permits);
            let metrics = &self.server.shard.metrics;
            let now = self.server.shard.io.clock().monotonic();
            metrics.send_time.record(now.saturating_sub(began));
            metrics.bytes_out.add(bytes);
            self.last_active.set(now);
            drop(ready.permits);
            self.queue_bytes.set(self.queue_bytes.get() - ready.bytes);
            self.changed.notify();
            if let Some(reason) = ready.close {
                return End::Refused(reason);
            }
        }
    }

    /// Looks whether the send under way gets on; if others need its room and it does not, ends it.
    fn sweep_send(&self, now: Duration, is_short: bool) {
        let Some((since, before)) = self.stalled.get() else { return };
        let all_bytes = self.socket.acknowledged_bytes();
        let Some(taken_bytes) = before.map(|bytes| all_bytes.saturating_sub(bytes)) else {
            return self.stalled.set(Some((now, Some(all_bytes))));
        };
        if taken_bytes >= SEND_BYTES_MIN {
            self.stalled.set(Some((now, Some(all_bytes))));
        } else if is_short && now.saturating_sub(since) >= SEND_STALL_TIME_MAX {
            let seconds = now.saturating_sub(since).as_secs();
            self.give_up(format!(
                "the peer took {taken_bytes} bytes of its answers in {seconds} s, and others wait"
            ));
        }
    }

    /// Ends the connection though answers are under way; `reason` goes to the log.
    fn give_up(&self, reason: String) {
        self.swept.borrow_mut().get_or_insert(reason);
        self.socket.shutdown();
    }

    /// Takes the answers that are ready from the front of the queue.
    fn poll_answers(&self, context: &mut Context<'_>) -> Poll<Ready> {
        let mut ready = Ready::default();
        while !ready.gather.is_full() && ready.close.is_none() {
            // Taken out while it is polled: its handler may look at this connection.
            let Some(mut first) = self.queue.borrow_mut().pop_front() else { break };
            let Poll::Ready(outcome) = first.pending.poll(context) else {
                self.queue.borrow_mut().push_front(first);
                break;
            };
            ready.bytes += first.bytes;
            ready.count += 1;
            ready.permits.extend(first.permit);
            match outcome {
                Outcome::Answer(answer) => ready.gather.add(answer),
                Outcome::Silent => {}
                Outcome::Close(reason) => ready.close = Some(reason),
            }
        }
        if ready.count == 0 {
            self.changed.register(context);
            return Poll::Pending;
        }
        Poll::Ready(ready)
    }
}

/// Answers to send, and what they give back once they are sent.
#[derive(Default)]
struct Ready {
    gather: Gather,
    count: usize,
    permits: Vec<Permit>,
    bytes: usize,
    close: Option<String>,
}
