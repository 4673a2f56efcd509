//! TCP sockets on the shard's ring.
//!
//! Sending gathers: one SENDMSG for up to [`GATHER_COUNT_MAX`] slices, which the kernel fills and
//! loops over by itself. From 16 KiB up it is SENDMSG_ZC, and the slices are kept until the
//! notification that the network has let go of them; after 8 notifications in a row that say
//! "copied after all" a connection goes back to SENDMSG. Loopback always copies, and there the
//! detour costs 1.3 to 1.7 times more, so it starts without.

use super::executor::Shard;
use super::file::GATHER_COUNT_MAX;
use super::memory::{Buffer, Slice};
use super::ring::{Gather, Keep, OnDrop, Op, Submission, ZeroCopyNotes, checked};
use super::sim::net::{SimListener, SimSocket};
use crate::base::limits::KIB;
use io_uring::{opcode, squeue, types};
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

/// Least bytes of a send that avoids the copy: below, the bookkeeping costs more.
const ZERO_COPY_BYTES_MIN: usize = 16 * KIB;
/// Notifications in a row that say "copied" until a connection stops trying.
const ZERO_COPY_COPIED_MAX: u32 = 8;
/// `IORING_SEND_ZC_REPORT_USAGE`: notifications say whether the kernel copied.
const ZERO_COPY_REPORT_USAGE: u16 = 8;
/// `struct tcp_info` of linux/tcp.h up to `tcpi_bytes_acked` (Linux 4.1), in words of 8 bytes.
const TCP_INFO_WORDS: usize = 16;
/// Largest single receive, bytes.
const RECEIVE_BYTES_MAX: usize = 1 << 30;

/// A connected stream. Closes when dropped; operations in flight then end.
pub struct Socket(pub(super) SocketKind);

pub(super) enum SocketKind {
    Real(RealSocket),
    Sim(SimSocket),
}

/// A socket on its way to another shard.
pub struct SocketHandle(pub(super) HandleKind);

pub(super) enum HandleKind {
    Real { descriptor: OwnedFd, peer: SocketAddr },
    Sim { id: u64, peer: SocketAddr },
}

impl SocketHandle {
    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            HandleKind::Real { peer, .. } | HandleKind::Sim { peer, .. } => *peer,
        }
    }
}

impl Socket {
    /// Receives at least 1 byte into `buffer[from..]`, or 0 when the peer has closed.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn recv(&self, buffer: Buffer, from: usize) -> (io::Result<usize>, Buffer) {
        assert!(from < buffer.len(), "there is room to receive into");
        let to = buffer.len();
        match &self.0 {
            SocketKind::Real(socket) => socket.receive(buffer, from, to, 0).await,
            SocketKind::Sim(socket) => socket.receive(buffer, from).await,
        }
    }

    /// Receives exactly `buffer[from..to]`: one wake-up for a frame's rest.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed before; else the connection is broken.
    pub async fn recv_exact(
        &self,
        buffer: Buffer,
        from: usize,
        to: usize,
    ) -> (io::Result<()>, Buffer) {
        assert!(from <= to && to <= buffer.len(), "the range lies in the buffer");
        let (mut at, mut buffer) = (from, buffer);
        while at < to {
            let received = match &self.0 {
                SocketKind::Real(socket) => socket.receive(buffer, at, to, libc::MSG_WAITALL).await,
                SocketKind::Sim(socket) => socket.receive_up_to(buffer, at, to).await,
            };
            buffer = received.1;
            match received.0 {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
                Ok(bytes) => at += bytes,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Sends all of `gather` in order. One send at a time a socket.
    ///
    /// # Errors
    /// The connection is broken; some bytes may have gone.
    pub async fn send(&self, gather: Vec<Slice>) -> io::Result<()> {
        match &self.0 {
            SocketKind::Real(socket) => socket.send(gather).await,
            SocketKind::Sim(socket) => socket.send(&gather).await,
        }
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            SocketKind::Real(socket) => socket.peer,
            SocketKind::Sim(socket) => socket.peer(),
        }
    }

    /// Ends both directions: what is pending returns, the peer sees the end.
    pub fn shutdown(&self) {
        match &self.0 {
            SocketKind::Real(socket) => socket.shutdown(),
            SocketKind::Sim(socket) => socket.shutdown(),
        }
    }

    /// Bytes that the peer's kernel has taken so far: whether a send gets on.
    pub fn acknowledged_bytes(&self) -> u64 {
        match &self.0 {
            SocketKind::Real(socket) => socket.acknowledged_bytes(),
            SocketKind::Sim(socket) => socket.taken_bytes(),
        }
    }

    /// For another shard to `adopt`. No operation may be in flight.
    pub fn into_handle(self) -> SocketHandle {
        match self.0 {
            SocketKind::Real(mut socket) => {
                let descriptor = socket.descriptor.take().expect("taken only here");
                let descriptor = Rc::try_unwrap(descriptor).unwrap_or_else(|shared| {
                    shared.try_clone().expect("the system has a descriptor left")
                });
                SocketHandle(HandleKind::Real { descriptor, peer: socket.peer })
            }
            SocketKind::Sim(socket) => {
                let peer = socket.peer();
                SocketHandle(HandleKind::Sim { id: socket.into_id(), peer })
            }
        }
    }
}

/// A socket of the machine.
pub(super) struct RealSocket {
    shard: Rc<Shard>,
    descriptor: Option<Rc<OwnedFd>>, // none only while it leaves as a handle
    peer: SocketAddr,
    may_zero_copy: bool,
    notes: Rc<ZeroCopyNotes>,
}

impl Drop for RealSocket {
    fn drop(&mut self) {
        // What is still in flight holds the descriptor open: this lets it end.
        if let Some(descriptor) = &self.descriptor
            && Rc::strong_count(descriptor) > 1
        {
            self.shutdown();
        }
    }
}

impl RealSocket {
    fn new(shard: &Rc<Shard>, descriptor: OwnedFd) -> io::Result<RealSocket> {
        let stream = TcpStream::from(descriptor);
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(RealSocket::adopt(shard, stream.into(), peer))
    }

    pub fn adopt(shard: &Rc<Shard>, descriptor: OwnedFd, peer: SocketAddr) -> RealSocket {
        RealSocket {
            shard: shard.clone(),
            descriptor: Some(Rc::new(descriptor)),
            peer,
            may_zero_copy: !peer.ip().to_canonical().is_loopback(),
            notes: Rc::default(),
        }
    }

    pub async fn connect(shard: &Rc<Shard>, address: SocketAddr) -> io::Result<RealSocket> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nothing else owns it.
        let descriptor = Rc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let (storage, bytes) = kernel_address(address);
        let storage = Box::new(storage);
        let entry = opcode::Connect::new(types::Fd(fd), (&raw const *storage).cast(), bytes);
        let submission = Submission {
            entry: entry.build(),
            keep: Keep::Address(storage),
            descriptor: Some(descriptor.clone()),
            on_drop: OnDrop::Cancel,
            notes: None,
        };
        // SAFETY: the address is boxed and kept, and so is the descriptor.
        let (result, _) = unsafe { shard.ring.submit(submission) }.await;
        checked(result)?;
        let descriptor = Rc::try_unwrap(descriptor).expect("the operation is over");
        RealSocket::new(shard, descriptor)
    }

    fn descriptor(&self) -> &Rc<OwnedFd> {
        self.descriptor.as_ref().expect("taken only by into_handle, which consumes the socket")
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.descriptor().as_raw_fd())
    }

    async fn receive(
        &self,
        buffer: Buffer,
        from: usize,
        to: usize,
        flags: i32,
    ) -> (io::Result<usize>, Buffer) {
        assert!(from < to && to <= buffer.len());
        let bytes = u32::try_from((to - from).min(RECEIVE_BYTES_MAX)).expect("bounded");
        let start = buffer.start().wrapping_add(from);
        let entry = opcode::Recv::new(self.fd(), start, bytes).flags(flags).build();
        let submission = Submission {
            entry,
            keep: Keep::Buffer(buffer),
            descriptor: Some(self.descriptor().clone()),
            on_drop: OnDrop::Cancel,
            notes: None,
        };
        // SAFETY: the range lies in the buffer (asserted), and buffer and descriptor are kept.
        let op = unsafe { self.shard.ring.submit(submission) };
        let (result, Keep::Buffer(buffer)) = op.await else {
            unreachable!("a receive ends with one completion and gives back what was kept")
        };
        (checked(result), buffer)
    }

    #[cfg(test)]
    pub fn force_zero_copy(&mut self) {
        self.may_zero_copy = true;
    }

    #[cfg(test)]
    pub fn copied_in_row_count(&self) -> u32 {
        self.notes.copied_in_row_count.get()
    }

    async fn send(&self, slices: Vec<Slice>) -> io::Result<()> {
        let mut rest = Gather::new(slices);
        let mut rest_bytes = rest.bytes();
        let mut skip = 0;
        while rest_bytes > 0 {
            let count = (rest.vectors.len() - skip).min(GATHER_COUNT_MAX);
            let piece_bytes: usize =
                rest.vectors[skip..skip + count].iter().map(|vector| vector.iov_len).sum();
            let zero_copy = self.may_zero_copy
                && piece_bytes >= ZERO_COPY_BYTES_MIN
                && self.notes.copied_in_row_count.get() < ZERO_COPY_COPIED_MAX;
            // A zero-copy send keeps its list beyond its result: the rest needs one of its own.
            let copy = zero_copy.then(|| rest.duplicate());
            let (result, kept) = self.send_once(rest, skip, count, zero_copy).await;
            let sent_bytes = checked(result)?;
            if sent_bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest_bytes -= sent_bytes;
            rest = match (kept, copy) {
                (_, Some(copy)) => copy,
                (Keep::Gather(kept), None) => kept,
                _ => unreachable!("a plain send gives back what was kept"),
            };
            skip = rest.consume(skip, sent_bytes);
        }
        Ok(())
    }

    async fn send_once(
        &self,
        mut gather: Box<Gather>,
        skip: usize,
        count: usize,
        zero_copy: bool,
    ) -> (i32, Keep) {
        let header = gather.aim(skip, count);
        let entry: squeue::Entry = if zero_copy {
            opcode::SendMsgZc::new(self.fd(), header)
                .ioprio(ZERO_COPY_REPORT_USAGE)
                .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
                .build()
        } else {
            opcode::SendMsg::new(self.fd(), header)
                .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
                .build()
        };
        let submission = Submission {
            entry,
            keep: Keep::Gather(gather),
            descriptor: Some(self.descriptor().clone()),
            on_drop: OnDrop::Send,
            notes: zero_copy.then(|| self.notes.clone()),
        };
        // SAFETY: header and vectors are in the boxed, kept gather list, which holds the slices.
        unsafe { self.shard.ring.submit(submission) }.await
    }

    /// 0 where the kernel does not say.
    fn acknowledged_bytes(&self) -> u64 {
        let mut info = [0_u64; TCP_INFO_WORDS];
        let mut bytes = libc::socklen_t::try_from(size_of_val(&info)).expect("a small array");
        // SAFETY: the descriptor is open, and both pointers are to as many bytes as `bytes` says.
        unsafe {
            libc::getsockopt(
                self.descriptor().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        info[TCP_INFO_WORDS - 1]
    }

    fn shutdown(&self) {
        // SAFETY: no pointers. An error means that the connection is gone already.
        unsafe { libc::shutdown(self.descriptor().as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// A socket that connections arrive at.
pub struct Listener(pub(super) ListenerKind);

pub(super) enum ListenerKind {
    Real(RealListener),
    Sim(SimListener),
}

impl Listener {
    /// The next connection. One task accepts at a time.
    ///
    /// # Errors
    /// Out of descriptors, mostly: wait a moment and go on.
    pub async fn accept(&self) -> io::Result<Socket> {
        match &self.0 {
            ListenerKind::Real(listener) => Ok(Socket(SocketKind::Real(listener.accept().await?))),
            ListenerKind::Sim(listener) => Ok(Socket(SocketKind::Sim(listener.accept().await?))),
        }
    }

    /// Where it listens: the port is a real one when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerKind::Real(listener) => listener.address,
            ListenerKind::Sim(listener) => listener.address(),
        }
    }
}

/// A listening socket of the machine.
pub(super) struct RealListener {
    shard: Rc<Shard>,
    descriptor: Rc<OwnedFd>,
    address: SocketAddr,
    accepting: RefCell<Option<Op>>,
}

impl RealListener {
    pub fn listen(shard: &Rc<Shard>, address: SocketAddr) -> io::Result<RealListener> {
        // The standard library sets SO_REUSEADDR and a backlog that the kernel caps.
        let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => io::Error::new(
                error.kind(),
                format!("{address} is in use by another program: stop that or take another port"),
            ),
            io::ErrorKind::AddrNotAvailable => {
                io::Error::new(error.kind(), format!("{address} is no address of this machine"))
            }
            io::ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                format!("listening on {address} is not allowed: take a port of 1024 or higher"),
            ),
            kind => io::Error::new(kind, format!("cannot listen on {address}: {error}")),
        })?;
        let address = listener.local_addr()?;
        let descriptor = Rc::new(OwnedFd::from(listener));
        let accepting = RefCell::new(None);
        Ok(RealListener { shard: shard.clone(), descriptor, address, accepting })
    }

    async fn accept(&self) -> io::Result<RealSocket> {
        loop {
            let taken = self.accepting.borrow_mut().take();
            let op = taken.unwrap_or_else(|| self.shard.ring.accept(&self.descriptor));
            // Put back also when this future is dropped: connections wait in the operation.
            let mut place = Accepting { op: Some(op), home: &self.accepting };
            let next = place.op.as_mut().expect("put there above").next().await;
            let Some(result) = next else {
                place.op = None; // the kernel ended it after an error: begin a new one
                continue;
            };
            match checked(result) {
                Ok(_) => {
                    // SAFETY: the kernel just made this descriptor for us.
                    let descriptor = unsafe { OwnedFd::from_raw_fd(result) };
                    match RealSocket::new(&self.shard, descriptor) {
                        Ok(socket) => return Ok(socket),
                        Err(error) => tracing::debug!(%error, "a connection was gone at once"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

struct Accepting<'a> {
    op: Option<Op>,
    home: &'a RefCell<Option<Op>>,
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            let last = self.home.borrow_mut().replace(op);
            drop(last);
        }
    }
}

/// An address in the kernel's form, and how many bytes of it count.
fn kernel_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let bytes = match address {
        SocketAddr::V4(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in>();
            // SAFETY: the storage is larger than and aligned for every kind of address.
            unsafe {
                (*place).sin_family = libc::AF_INET as libc::sa_family_t;
                (*place).sin_port = address.port().to_be();
                (*place).sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            }
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                (*place).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*place).sin6_port = address.port().to_be();
                (*place).sin6_addr.s6_addr = address.ip().octets();
                (*place).sin6_flowinfo = address.flowinfo();
                (*place).sin6_scope_id = address.scope_id();
            }
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, bytes as libc::socklen_t)
}
