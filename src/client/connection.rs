//! One connection to one broker: requests go out back to back, answers come in the same order.
//!
//! A task writes what is queued, as one gather list for everything that piled up meanwhile; a task
//! reads and hands each answer to its waiter. A failure ends the connection and all who wait on it.
//! **Invariant:** the requests that wait are exactly those sent and not yet answered, in order.

use super::error::ClientError;
use super::request::{BrokerVersions, Response, common_version, negotiate, request_frame};
use super::wait::{Answer, Gate, Reply, slot};
use crate::base::limits::{
    CLIENT_RECEIVE_BYTES, CLIENT_REQUESTS_WAITING_MAX, CLIENT_RESPONSE_BYTES_MAX,
};
use crate::io::{Buffer, Io, Slice, Socket};
use crate::protocol::api::ApiKey;
use crate::protocol::messages::Request;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Bytes of a request's size field, which its correlation id does not count.
const SIZE_BYTES: usize = 4;
/// Where a request's correlation id stands, from the start of the size field.
const CORRELATION_RANGE: std::ops::Range<usize> = 8..12;
/// The most slices in one gather list: the kernel takes 1,024.
const GATHER_SLICES_MAX: usize = 1_000;
/// How many looks at the clock make up the time allowed for an answer.
const WATCH_TICKS: u64 = 8;

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// What this client calls itself in the broker's logs and quotas.
    pub client_id: String,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time from sending a request to its answer; after it the connection is given up.
    pub request_timeout: Duration,
    /// How many requests [`Connection::call`] keeps unanswered before it waits.
    pub in_flight_max: usize,
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig {
            client_id: "ringmain".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            in_flight_max: 64,
        }
    }
}

/// A connection that has agreed on versions. Clones share it; it closes with the last of them.
#[derive(Clone)]
pub struct Connection {
    handle: Rc<Handle>,
}

/// Closes the connection when the last user is gone, while its tasks still hold what they share.
struct Handle {
    shared: Rc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let reason = "it was closed here".to_owned();
        self.shared.fail(&ClientError::Lost { address: self.shared.address.clone(), reason });
    }
}

/// What the users of a connection and its tasks have in common.
struct Shared {
    io: Io,
    socket: Socket,
    address: String,
    config: ConnectionConfig,
    correlation_id: Cell<i32>,
    outgoing: RefCell<Vec<Slice>>,
    waiting: RefCell<VecDeque<Waiting>>,
    written: Cell<bool>, // nothing queued and nothing being written
    failure: RefCell<Option<ClientError>>,
    versions: RefCell<BrokerVersions>,
    ticks: Cell<u64>,
    to_write: Gate,
    answered: Gate,
}

/// A request without its answer yet.
struct Waiting {
    correlation_id: i32,
    sent_at_tick: u64,
    reply: Reply<Result<Slice, ClientError>>,
}

impl Connection {
    /// Connects to `address` (`name` is what errors call it) and asks the broker for its versions.
    ///
    /// # Errors
    /// [`ClientError::Connect`], and those of [`Connection::call`].
    pub async fn open(
        io: &Io,
        address: SocketAddr,
        name: &str,
        config: ConnectionConfig,
    ) -> Result<Connection, ClientError> {
        let refused = |reason: String| ClientError::Connect { address: name.to_owned(), reason };
        let socket = match io.timeout(config.connect_timeout, io.connect(address)).await {
            Some(Ok(socket)) => socket,
            Some(Err(error)) => return Err(refused(error.to_string())),
            None => return Err(refused("no answer in time".to_owned())),
        };
        let connection = Connection::over(io, socket, name, config);
        let versions = negotiate(&connection).await?;
        *connection.handle.shared.versions.borrow_mut() = versions;
        Ok(connection)
    }

    /// Starts the tasks of a connection over `socket`, which knows no versions yet.
    fn over(io: &Io, socket: Socket, name: &str, config: ConnectionConfig) -> Connection {
        let shared = Rc::new(Shared {
            io: io.clone(),
            socket,
            address: name.to_owned(),
            config,
            correlation_id: Cell::new(0),
            outgoing: RefCell::default(),
            waiting: RefCell::default(),
            written: Cell::new(true),
            failure: RefCell::default(),
            versions: RefCell::default(),
            ticks: Cell::new(0),
            to_write: Gate::default(),
            answered: Gate::default(),
        });
        io.spawn(write_requests(Rc::clone(&shared)));
        io.spawn(read_answers(Rc::clone(&shared)));
        io.spawn(watch(Rc::downgrade(&shared), io.clone(), shared.config.request_timeout));
        Connection { handle: Rc::new(Handle { shared }) }
    }

    /// Sends `request` in the highest version that both sides know, and awaits its answer.
    ///
    /// Waits for its turn while [`ConnectionConfig::in_flight_max`] requests are unanswered.
    ///
    /// # Errors
    /// [`ClientError::Version`], [`ClientError::Lost`], [`ClientError::Timeout`]; an error code
    /// within the answer is the caller's to look at.
    pub async fn call<'a, R: Request<'a>>(&self, request: &R) -> Result<Response<R>, ClientError> {
        let version = self.version_of(R::KEY)?;
        self.call_version(request, version, &[]).await
    }

    /// As [`Connection::call`], in `version`; `records` are the slices that the request leaves
    /// room for (`Records::Elsewhere`), in its order.
    ///
    /// # Errors
    /// As there.
    pub async fn call_version<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
        records: &[Slice],
    ) -> Result<Response<R>, ClientError> {
        let shared = &self.handle.shared;
        let window = shared.config.in_flight_max.clamp(1, CLIENT_REQUESTS_WAITING_MAX);
        let is_free = || shared.waiting.borrow().len() < window || shared.is_failed();
        shared.answered.wait(|| is_free().then_some(())).await;
        let id = shared.next_correlation_id();
        let gather = request_frame(request, version, id, &shared.config.client_id, records);
        let frame = self.send_raw(gather).await?;
        Ok(Response::new(frame, version, &shared.address))
    }

    /// Sends a request that was encoded before and gives a future of its answer's frame.
    ///
    /// `gather` is the whole request from its size field on, the first slice at least up to the
    /// correlation id, which may be any number (answers are told apart by their order). The frame
    /// begins with the correlation id; the size field is cut off. Queued at once, in call order,
    /// whether or not the future is polled. No clock is read and nothing of the request copied.
    pub fn send_raw(&self, gather: Vec<Slice>) -> Answer<Result<Slice, ClientError>> {
        let shared = &self.handle.shared;
        let (reply, answer) = slot();
        if let Some(error) = shared.refusal() {
            reply.send(Err(error));
            return answer;
        }
        let id = gather.first().and_then(|head| head.get(CORRELATION_RANGE));
        let id = id.expect("the first slice of a request holds its fixed head");
        let correlation_id = i32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        let sent_at_tick = shared.ticks.get();
        shared.waiting.borrow_mut().push_back(Waiting { correlation_id, sent_at_tick, reply });
        shared.queue(gather);
        answer
    }

    /// Sends a request that the broker does not answer (a produce with acks=0).
    ///
    /// Waits while too much is unsent; what is sent is only known to have left this process.
    ///
    /// # Errors
    /// What ended the connection.
    pub async fn send_unanswered(&self, gather: Vec<Slice>) -> Result<(), ClientError> {
        let shared = &self.handle.shared;
        let is_room = || shared.outgoing.borrow().len() < GATHER_SLICES_MAX || shared.is_failed();
        shared.answered.wait(|| is_room().then_some(())).await;
        shared.failure.borrow().clone().map_or(Ok(()), Err)?;
        shared.queue(gather);
        Ok(())
    }

    /// Ends when everything queued has been handed to the kernel.
    ///
    /// # Errors
    /// What ended the connection before that.
    pub async fn sent(&self) -> Result<(), ClientError> {
        let shared = &self.handle.shared;
        let is_over = || shared.written.get() || shared.is_failed();
        shared.answered.wait(|| is_over().then_some(())).await;
        shared.failure.borrow().clone().map_or(Ok(()), Err)
    }

    /// The highest version of `key` that both sides know.
    ///
    /// # Errors
    /// [`ClientError::Version`]: there is none.
    pub fn version_of(&self, key: ApiKey) -> Result<i16, ClientError> {
        let shared = &self.handle.shared;
        let common = common_version(key, &shared.versions.borrow());
        common.ok_or_else(|| {
            let ours = key.api().versions;
            ClientError::Version {
                address: shared.address.clone(),
                api: key.api().name,
                ours: format!("{} to {}", ours.first, ours.last),
            }
        })
    }

    /// What errors call the broker.
    pub fn address(&self) -> &str {
        &self.handle.shared.address
    }

    /// What this client calls itself.
    pub fn client_id(&self) -> &str {
        &self.handle.shared.config.client_id
    }

    /// How many requests are unanswered.
    pub fn in_flight_count(&self) -> usize {
        self.handle.shared.waiting.borrow().len()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.handle.shared.is_failed()
    }
}

impl Shared {
    fn is_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Why a request cannot be taken now, if so.
    fn refusal(&self) -> Option<ClientError> {
        if let Some(error) = &*self.failure.borrow() {
            return Some(error.clone());
        }
        let count = self.waiting.borrow().len();
        let is_full = count >= CLIENT_REQUESTS_WAITING_MAX;
        is_full.then(|| ClientError::TooMany { address: self.address.clone(), count })
    }

    fn next_correlation_id(&self) -> i32 {
        let id = self.correlation_id.get();
        self.correlation_id.set(id.wrapping_add(1) & i32::MAX);
        id
    }

    fn queue(&self, gather: Vec<Slice>) {
        self.written.set(false);
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.is_empty() {
            *outgoing = gather;
        } else {
            outgoing.extend(gather);
        }
        drop(outgoing);
        self.to_write.open();
    }

    /// Ends the connection: all who wait get `error`, the tasks stop. Later calls do nothing.
    fn fail(&self, error: &ClientError) {
        if self.is_failed() {
            return;
        }
        *self.failure.borrow_mut() = Some(error.clone());
        self.socket.shutdown();
        self.outgoing.take();
        for waiting in self.waiting.take() {
            waiting.reply.send(Err(error.clone()));
        }
        self.to_write.open();
        self.answered.open();
    }

    fn lost(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Lost { address: self.address.clone(), reason: reason.to_string() }
    }

    fn malformed(&self, reason: String) -> ClientError {
        ClientError::Malformed { address: self.address.clone(), reason }
    }

    /// Hands `frame` (correlation id first) to the request that is next in line.
    fn deliver(&self, frame: Slice) -> Result<(), ClientError> {
        let id = frame.get(..4).map(|id| i32::from_be_bytes([id[0], id[1], id[2], id[3]]));
        let Some(waiting) = self.waiting.borrow_mut().pop_front() else {
            return Err(self.malformed("it answers a request that was never sent".to_owned()));
        };
        if id != Some(waiting.correlation_id) {
            let reason = format!("id {} was expected, not {id:?}", waiting.correlation_id);
            let error = self.malformed(reason);
            waiting.reply.send(Err(error.clone()));
            return Err(error);
        }
        waiting.reply.send(Ok(frame));
        Ok(())
    }
}

/// Writes what is queued until the connection ends.
async fn write_requests(shared: Rc<Shared>) {
    loop {
        let next = || {
            let is_due = !shared.outgoing.borrow().is_empty() || shared.is_failed();
            is_due.then(|| shared.outgoing.take())
        };
        let mut gather = shared.to_write.wait(next).await;
        while !gather.is_empty() && !shared.is_failed() {
            let later = gather.split_off(gather.len().min(GATHER_SLICES_MAX));
            if let Err(error) = shared.socket.send(gather).await {
                shared.fail(&shared.lost(error));
            }
            gather = later;
        }
        if shared.is_failed() {
            return;
        }
        if shared.outgoing.borrow().is_empty() {
            shared.written.set(true);
            shared.answered.open();
        }
    }
}

/// Reads answers until the connection ends.
async fn read_answers(shared: Rc<Shared>) {
    let mut buffer = shared.io.memory().allocate_wait(CLIENT_RECEIVE_BYTES).await;
    let mut have_bytes = 0;
    loop {
        let (outcome, back) = shared.socket.recv(buffer, have_bytes).await;
        buffer = back;
        let read_bytes = match outcome {
            Ok(0) => return shared.fail(&shared.lost("the broker closed it")),
            Ok(read_bytes) => read_bytes,
            Err(error) => return shared.fail(&shared.lost(error)),
        };
        have_bytes += read_bytes;
        match take_frames(&shared, &mut buffer, have_bytes).await {
            Ok(left_bytes) => have_bytes = left_bytes,
            Err(error) => return shared.fail(&error),
        }
        shared.answered.open();
    }
}

/// Delivers the frames in `buffer[..have_bytes]`; gives the bytes left over, moved to its front.
///
/// A frame that does not fit is read to its end into memory of its own, so that large answers
/// are copied only as far as they came with smaller ones.
async fn take_frames(
    shared: &Shared,
    buffer: &mut Buffer,
    have_bytes: usize,
) -> Result<usize, ClientError> {
    let mut at = 0;
    while have_bytes - at >= SIZE_BYTES {
        let size = [buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]];
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > CLIENT_RESPONSE_BYTES_MAX.min(shared.io.memory().budget_bytes() / 2) {
            return Err(shared.malformed(format!("it declares {size} bytes")));
        }
        let start = at + SIZE_BYTES;
        if have_bytes - start >= size {
            shared.deliver(Slice::from(buffer[start..start + size].to_vec()))?;
            at = start + size;
        } else if SIZE_BYTES + size > buffer.len() {
            let part = &buffer[start..have_bytes];
            let mut frame = shared.io.memory().allocate_wait(size).await;
            frame[..part.len()].copy_from_slice(part);
            let (outcome, frame) = shared.socket.recv_exact(frame, part.len(), size).await;
            outcome.map_err(|error| shared.lost(error))?;
            shared.deliver(frame.freeze())?;
            return Ok(0);
        } else {
            break;
        }
    }
    buffer.copy_within(at..have_bytes, 0);
    Ok(have_bytes - at)
}

/// Ends the connection when its oldest request has waited for `limit`.
///
/// Time is counted in ticks of this task, so a process that was held up (a pager on its output, a
/// stopped terminal) does not blame the broker, and sending a request reads no clock.
async fn watch(shared: Weak<Shared>, io: Io, limit: Duration) {
    loop {
        io.sleep(limit / WATCH_TICKS as u32).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.is_failed() {
            return;
        }
        let tick = shared.ticks.get() + 1;
        shared.ticks.set(tick);
        let oldest = shared.waiting.borrow().front().map(|waiting| waiting.sent_at_tick);
        if oldest.is_some_and(|sent_at| tick - sent_at > WATCH_TICKS) {
            shared.fail(&ClientError::Timeout { address: shared.address.clone(), limit });
        }
    }
}
