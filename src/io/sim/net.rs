//! Simulated TCP: pipes of bytes between sockets of one world, with back-pressure.

use super::World;
use crate::io::memory::{Buffer, Slice};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Bytes that are on their way in one direction at most: what a kernel buffers, about.
const PIPE_BYTES_MAX: usize = 256 * 1024;
/// Ports for those who do not choose, as Linux has them.
const EPHEMERAL_PORT_FIRST: u16 = 32_768;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    taken_bytes: u64, // by the reader, in all
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn close(&mut self) {
        self.closed = true;
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

type Ends = (Rc<RefCell<Pipe>>, Rc<RefCell<Pipe>>, SocketAddr);

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Ends>,
    acceptor: Option<Waker>,
}

/// Who listens where, and the sockets that are between two owners.
#[derive(Default)]
pub struct Net {
    listeners: BTreeMap<SocketAddr, Rc<RefCell<Backlog>>>,
    parked: BTreeMap<u64, Ends>,
    parked_next: u64,
    port_next: u16,
}

impl Net {
    pub fn clear(&mut self) {
        self.listeners.clear();
        self.parked.clear();
    }

    fn port(&mut self) -> u16 {
        self.port_next = self.port_next.wrapping_add(1).max(EPHEMERAL_PORT_FIRST);
        self.port_next
    }
}

impl World {
    pub fn listen(self: &Rc<World>, address: SocketAddr) -> io::Result<SimListener> {
        let mut net = self.net.borrow_mut();
        let mut address = address;
        if address.port() == 0 {
            address.set_port(net.port());
        }
        if net.listeners.contains_key(&address) {
            let text =
                format!("{address} is in use by another program: stop that or take another port");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let backlog = Rc::new(RefCell::new(Backlog::default()));
        net.listeners.insert(address, backlog.clone());
        Ok(SimListener { world: self.clone(), address, backlog })
    }

    pub async fn connect(self: &Rc<World>, address: SocketAddr) -> io::Result<SimSocket> {
        self.pause().await;
        let mut net = self.net.borrow_mut();
        let Some(backlog) = net.listeners.get(&address).cloned() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let own_address = SocketAddr::new(address.ip(), net.port());
        drop(net);
        let (there, back) = (Rc::<RefCell<Pipe>>::default(), Rc::<RefCell<Pipe>>::default());
        let mut backlog = backlog.borrow_mut();
        backlog.waiting.push_back((there.clone(), back.clone(), own_address));
        if let Some(waker) = backlog.acceptor.take() {
            waker.wake();
        }
        Ok(SimSocket { world: self.clone(), ends: Some((back, there, address)) })
    }

    pub fn adopt(self: &Rc<World>, id: u64) -> SimSocket {
        let ends = self.net.borrow_mut().parked.remove(&id);
        assert!(ends.is_some(), "a handle is adopted once");
        SimSocket { world: self.clone(), ends }
    }
}

/// A simulated listening socket.
pub struct SimListener {
    world: Rc<World>,
    address: SocketAddr,
    backlog: Rc<RefCell<Backlog>>,
}

impl SimListener {
    pub async fn accept(&self) -> io::Result<SimSocket> {
        let ends = poll_fn(|context| {
            let mut backlog = self.backlog.borrow_mut();
            if let Some(ends) = backlog.waiting.pop_front() {
                return Poll::Ready(ends);
            }
            backlog.acceptor = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        Ok(SimSocket { world: self.world.clone(), ends: Some(ends) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.world.net.borrow_mut().listeners.remove(&self.address);
        for (incoming, outgoing, _) in self.backlog.borrow_mut().waiting.drain(..) {
            incoming.borrow_mut().close();
            outgoing.borrow_mut().close();
        }
    }
}

/// A simulated connection's end.
pub struct SimSocket {
    world: Rc<World>,
    ends: Option<Ends>, // incoming, outgoing, peer; none once it left as a handle
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if self.ends.is_some() {
            self.shutdown();
        }
    }
}

impl SimSocket {
    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("taken only by into_id, which consumes the socket")
    }

    pub fn peer(&self) -> SocketAddr {
        self.ends().2
    }

    pub fn shutdown(&self) {
        let (incoming, outgoing, _) = self.ends();
        incoming.borrow_mut().close();
        outgoing.borrow_mut().close();
    }

    /// Bytes that the peer has received.
    pub fn taken_bytes(&self) -> u64 {
        self.ends().1.borrow().taken_bytes
    }

    pub fn into_id(mut self) -> u64 {
        let ends = self.ends.take().expect("taken only here");
        let mut net = self.world.net.borrow_mut();
        let id = net.parked_next;
        net.parked_next += 1;
        net.parked.insert(id, ends);
        id
    }

    pub async fn receive(&self, buffer: Buffer, from: usize) -> (io::Result<usize>, Buffer) {
        let to = buffer.len();
        self.receive_up_to(buffer, from, to).await
    }

    pub async fn receive_up_to(
        &self,
        mut buffer: Buffer,
        from: usize,
        to: usize,
    ) -> (io::Result<usize>, Buffer) {
        let received = poll_fn(|context| {
            let mut pipe = self.ends().0.borrow_mut();
            if pipe.bytes.is_empty() {
                if pipe.closed {
                    return Poll::Ready(0);
                }
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            // Now and then less than is there, as on a network.
            let mut count = pipe.bytes.len().min(to - from);
            if self.world.random().is_multiple_of(4) {
                count = count.div_ceil(2);
            }
            for (target, byte) in buffer[from..].iter_mut().zip(pipe.bytes.drain(..count)) {
                *target = byte;
            }
            pipe.taken_bytes += count as u64;
            pipe.wake_writer();
            Poll::Ready(count)
        })
        .await;
        (Ok(received), buffer)
    }

    pub async fn send(&self, gather: &[Slice]) -> io::Result<()> {
        for slice in gather {
            let mut sent = 0;
            poll_fn(|context| {
                let mut pipe = self.ends().1.borrow_mut();
                if pipe.closed {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
                }
                let count = (slice.len() - sent).min(PIPE_BYTES_MAX - pipe.bytes.len());
                pipe.bytes.extend(&slice[sent..sent + count]);
                sent += count;
                if count > 0 {
                    pipe.wake_reader();
                }
                if sent == slice.len() {
                    return Poll::Ready(Ok(()));
                }
                pipe.writer = Some(context.waker().clone());
                Poll::Pending
            })
            .await?;
        }
        Ok(())
    }
}
