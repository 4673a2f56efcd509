//! A connection of the load generator: one thread, blocking calls, few of them.
//!
//! The generator shares its cores with the broker that it measures, so its own cost is part of
//! every figure. A ring with an executor on top was the alternative: it wakes through an event file
//! and several enters (about 60 µs of CPU a wake-up); here a wake-up is the return of one `recv`,
//! and a request costs one `writev` however many batches it holds.
//! **Invariant:** what lies between `start` and `end` of a receiver was received and not yet taken.

use std::io::{self, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

/// Bytes of a frame's size field.
pub const SIZE_BYTES: usize = 4;

/// Most slices in one `writev`: the kernel's bound.
const GATHER_SLICES_MAX: usize = 1024;

/// Bytes asked for while no frame has begun. Holds hundreds of acknowledgements; small, because
/// what a large frame's first read takes beyond it would have to be moved.
const FIRST_READ_BYTES: usize = 32 * 1024;

/// Largest answer, bytes: more is taken for a broken stream. Kafka's consumers ask for 50 MiB.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How late wake-ups are taken to be: at first, and at most.
const LATENESS_FIRST: Duration = Duration::from_micros(20);
const LATENESS_MAX: Duration = Duration::from_micros(60);

/// Two steps down undo one up: two of three wake-ups are in time.
const LATENESS_STEP_UP: Duration = Duration::from_nanos(1000);
const LATENESS_STEP_DOWN: Duration = Duration::from_nanos(500);

/// How long a lane that stays awake looks for an answer before it sleeps after all.
const AWAKE_MAX: Duration = Duration::from_millis(10);

/// Longest wait in one go, so that a run that was stopped ends soon. Less than a second.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A connected socket and what has been received from it.
pub struct Lane {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    lateness: Duration, // of wake-ups, about
    timeout: Duration,
    stays_awake: bool,
}

impl Lane {
    /// Connects within `timeout`, which then also bounds the wait for each answer.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Lane> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let buffer = vec![0; FIRST_READ_BYTES];
        let (start, end, lateness, stays_awake) = (0, 0, LATENESS_FIRST, false);
        Ok(Lane { stream, buffer, start, end, lateness, timeout, stays_awake })
    }

    /// Whether [`Lane::receive`] looks for an answer again and again for [`AWAKE_MAX`] before it
    /// sleeps: then no wake-up of this thread is in what it measures, at the price of a core.
    pub fn stay_awake(&mut self, does: bool) {
        self.stays_awake = does;
    }

    /// Sends all of `gather`; blocks while the peer does not read.
    ///
    /// # Errors
    /// Those of the socket; part may have been sent.
    pub fn send(&mut self, gather: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut left = gather;
        IoSlice::advance_slices(&mut left, 0); // drops empty slices at the front
        while !left.is_empty() {
            let count = left.len().min(GATHER_SLICES_MAX);
            match self.stream.write_vectored(&left[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent_bytes) => IoSlice::advance_slices(&mut left, sent_bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.in_words(error)),
            }
        }
        Ok(())
    }

    /// Waits until a whole frame is there; returns where it lies behind its size field.
    ///
    /// # Errors
    /// Those of the socket, `UnexpectedEof` when the peer closed, `InvalidData` for a size that
    /// no broker sends, `TimedOut` when nothing came in time.
    pub fn receive(&mut self) -> io::Result<Range<usize>> {
        loop {
            match self.frame_bytes()? {
                Some(frame_bytes) if self.end - self.start >= frame_bytes => {
                    let body = self.start + SIZE_BYTES..self.start + frame_bytes;
                    self.start += frame_bytes;
                    return Ok(body);
                }
                Some(frame_bytes) => {
                    let missing_bytes = frame_bytes - (self.end - self.start);
                    self.read(missing_bytes, RecvFlags::WAITALL)?;
                }
                None => {
                    if self.stays_awake {
                        self.look_for_bytes()?;
                    }
                    self.read(FIRST_READ_BYTES, RecvFlags::empty())?;
                }
            }
        }
    }

    /// Comes back when there is something to receive, or after [`AWAKE_MAX`].
    fn look_for_bytes(&self) -> io::Result<()> {
        let until = Instant::now() + AWAKE_MAX;
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        while Instant::now() < until {
            match rustix::net::recv(&self.stream, &mut [0u8; 1][..], flags) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => std::hint::spin_loop(),
                Ok(_) => break, // also an end, which the next call sees
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until something can be received, or until `until`; false when the time was first.
    ///
    /// It sleeps until shortly before its time, by as much as this thread is usually woken too
    /// late, and looks again and again from then on: so it is some µs late at most, at the price of
    /// about as much CPU time as a wake-up is late.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn wait(&mut self, until: Instant) -> io::Result<bool> {
        if self.has_frame() {
            return Ok(true);
        }
        let until = until.min(Instant::now() + WAIT_MAX);
        loop {
            let now = Instant::now();
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(false);
            }
            let sleep = left.saturating_sub(self.lateness);
            let timeout = Timespec { tv_sec: 0, tv_nsec: sleep.as_nanos() as i64 };
            let mut watched = [PollFd::new(&self.stream, PollFlags::IN)];
            match rustix::event::poll(&mut watched, Some(&timeout)) {
                Ok(0) if !sleep.is_zero() => self.learn(now.elapsed().saturating_sub(sleep)),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes into account that a wake-up was so late: a step up or down, whatever the distance, so
    /// that one that was late by ms, since others had the core, does not cost the next ones.
    fn learn(&mut self, lateness: Duration) {
        self.lateness = if lateness > self.lateness {
            (self.lateness + LATENESS_STEP_UP).min(LATENESS_MAX)
        } else {
            self.lateness.saturating_sub(LATENESS_STEP_DOWN)
        };
    }

    /// The bytes at `range`, which `receive` returned last.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Whether a whole frame has been received already, so that `receive` will not block.
    pub fn has_frame(&self) -> bool {
        matches!(self.frame_bytes(), Ok(Some(bytes)) if self.end - self.start >= bytes)
    }

    /// Length of the frame at the front with its size field; `None` while that is not there yet.
    fn frame_bytes(&self) -> io::Result<Option<usize>> {
        let Some(size) = self.buffer[self.start..self.end].first_chunk::<SIZE_BYTES>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size);
        match usize::try_from(size) {
            Ok(size) if size <= FRAME_BYTES_MAX => Ok(Some(SIZE_BYTES + size)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of {size} bytes; is this a Kafka broker?"),
            )),
        }
    }

    fn read(&mut self, bytes_max: usize, flags: RecvFlags) -> io::Result<()> {
        self.make_room(bytes_max);
        let room = &mut self.buffer[self.end..self.end + bytes_max];
        match rustix::net::recv(&self.stream, room, flags) {
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, received_bytes)) => {
                self.end += received_bytes;
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(self.in_words(error.into())),
        }
    }

    /// The kernel says "try again" where the time for an answer is over.
    fn in_words(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::WouldBlock {
            return error;
        }
        let reason = format!("no sign of the broker for {:.0} s", self.timeout.as_secs_f64());
        io::Error::new(io::ErrorKind::TimedOut, reason)
    }

    /// Makes `bytes` of room behind `end`. What was not taken moves to the front when it must.
    fn make_room(&mut self, bytes: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end + bytes > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end + bytes > self.buffer.len() {
            self.buffer.resize(self.end + bytes, 0);
        }
    }
}

/// Has the kernel wake this thread as exactly as it can. By default it may be 50 µs late, so that
/// several wake-ups become one.
pub fn sharpen_timers() {
    // A kernel that refuses is only a little late.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Allows this thread only the cores of `cpus`; threads that it starts inherit that.
///
/// # Errors
/// No core of the set exists or may be used.
pub fn place_thread(cpus: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (Lane, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let lane = Lane::connect(address, Duration::from_secs(5)).expect("listening");
        let (peer, _) = listener.accept().expect("connected");
        (lane, peer)
    }

    fn frame(fill: u8, bytes: usize) -> Vec<u8> {
        let mut frame = (bytes as u32).to_be_bytes().to_vec();
        frame.resize(SIZE_BYTES + bytes, fill);
        frame
    }

    /// Goal: frames come out whole whatever their size and however they arrive. Method: small,
    /// empty and large frames back to back, sent in pieces that cut size fields and bodies.
    #[test]
    fn frames_come_out_as_they_went_in() {
        let (mut lane, mut peer) = pair();
        let sizes = [5, 0, 1_000_000, 3, 40_000, 1];
        let stream: Vec<u8> =
            sizes.iter().enumerate().flat_map(|(index, size)| frame(index as u8, *size)).collect();
        let sender = std::thread::spawn(move || {
            for piece in stream.chunks(33_333) {
                peer.write_all(piece).expect("the lane reads");
            }
        });
        for (index, size) in sizes.into_iter().enumerate() {
            let body = lane.receive().expect("a frame");
            assert_eq!(lane.bytes(body), vec![index as u8; size]);
        }
        assert!(!lane.has_frame());
        sender.join().expect("sent all");
        assert_eq!(lane.receive().expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_gather_list_of_thousands_goes_out_in_order() {
        let (mut lane, mut peer) = pair();
        let pieces: Vec<Vec<u8>> = (0..3000).map(|index| vec![index as u8; index % 7]).collect();
        let mut gather: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        lane.send(&mut gather).expect("the peer's buffer holds it");
        drop(lane);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).expect("closed");
        assert_eq!(received, pieces.concat());
    }

    /// Goal: a lane that stays awake gets the same. Method: a frame that is there, one that comes
    /// while it looks, one after it fell asleep, an end.
    #[test]
    fn a_lane_that_stays_awake_receives() {
        let (mut lane, mut peer) = pair();
        lane.stay_awake(true);
        peer.write_all(&frame(1, 3)).expect("connected");
        let sender = std::thread::spawn(move || {
            for (fill, pause) in [(2, AWAKE_MAX / 2), (3, AWAKE_MAX * 2)] {
                std::thread::sleep(pause);
                peer.write_all(&frame(fill, 3)).expect("connected");
            }
        });
        for fill in 1..=3 {
            let body = lane.receive().expect("a frame");
            assert_eq!(lane.bytes(body), [fill; 3]);
        }
        assert_eq!(lane.receive().expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
        sender.join().expect("sent all");
    }

    /// Goal: a wait ends with what comes first, and never before its time. Method: nothing comes;
    /// then a frame is there.
    #[test]
    fn a_wait_ends_with_its_time_or_with_something_to_receive() {
        let (mut lane, mut peer) = pair();
        let until = Instant::now() + Duration::from_millis(20);
        assert!(!lane.wait(until).expect("connected"));
        assert!(Instant::now() >= until);
        peer.write_all(&frame(1, 3)).expect("connected");
        peer.write_all(&frame(2, 3)).expect("connected");
        while !lane.wait(Instant::now() + Duration::from_secs(5)).expect("connected") {}
        lane.receive().expect("the first");
        while !lane.wait(Instant::now() + Duration::from_secs(5)).expect("connected") {}
        lane.receive().expect("the second");
    }

    #[test]
    fn what_is_late_by_far_is_no_more_than_a_step() {
        let (mut lane, _peer) = pair();
        lane.learn(Duration::from_millis(50));
        assert_eq!(lane.lateness, LATENESS_FIRST + LATENESS_STEP_UP);
        for lateness in [10, 10, 10, 40].repeat(100) {
            lane.learn(Duration::from_micros(lateness));
        }
        assert!(lane.lateness >= Duration::from_micros(9), "{:?}", lane.lateness);
        assert!(lane.lateness <= Duration::from_micros(12), "{:?}", lane.lateness);
    }

    #[test]
    fn a_negative_size_is_refused() {
        let (mut lane, mut peer) = pair();
        peer.write_all(&(-2i32).to_be_bytes()).expect("connected");
        assert_eq!(lane.receive().expect_err("no frame").kind(), io::ErrorKind::InvalidData);
    }
}
