//! The facade on the real machine: every trap that is handled has its test here.
//!
//! Files live on the disk of the build directory, as temporary directories often are in memory.

use super::*;
use crate::base::ids::ShardId;
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of its own on a real disk, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("target/io-tests/{}-{number}", std::process::id());
        let path = std::env::current_dir().expect("a directory").join(name);
        std::fs::create_dir_all(&path).expect("the build directory is writable");
        Scratch(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn one<T>(main: impl AsyncFnOnce(Io) -> T) -> T {
    run_one(async |io| main(io).await).expect("io_uring is usable where tests run")
}

fn filled(io: &Io, bytes: usize, value: u8) -> Slice {
    let mut buffer = io.memory().allocate(bytes).expect("memory for a test");
    buffer.fill(value);
    buffer.freeze()
}

const LOCAL: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Goal: a file gives back what was written, synced or not. Method: each verb once, then read.
#[test]
fn a_file_reads_back_what_was_written() {
    let scratch = Scratch::new();
    let path = scratch.file("data");
    one(async |io| {
        let file = io.open(&path, OpenMode::CreateNew).await.unwrap();
        file.allocate(MIB as u64).await.unwrap();
        assert_eq!(file.bytes(), MIB as u64);
        let gather = vec![filled(&io, 4096, 1), filled(&io, 8192, 2), filled(&io, 4096, 3)];
        file.write_at(4096, gather).await.unwrap();
        file.write_and_sync(MIB as u64, vec![filled(&io, 4096, 4)]).await.unwrap();
        let gather = vec![filled(&io, 4096, 5), filled(&io, 4096, 6)];
        file.write_through(8 * 4096, gather).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(file.bytes(), MIB as u64 + 4096);
        let buffer = io.memory().allocate(2 * MIB).unwrap();
        let (read, buffer) = file.read_at(0, buffer).await;
        assert_eq!(read.unwrap(), MIB + 4096);
        let at = |position: usize| buffer[position];
        assert_eq!([at(0), at(4096), at(8192), at(16_384 - 1), at(16_384)], [0, 1, 2, 2, 3]);
        assert_eq!([at(5 * 4096), at(MIB), at(MIB + 4095)], [0, 4, 4]);
        assert_eq!([at(8 * 4096), at(9 * 4096), at(10 * 4096)], [5, 6, 0]);
        file.write_zeroes(4096, 4096).await.unwrap();
        file.truncate(10_000).await.unwrap();
        let (read, buffer) = file.read_at(4096, buffer).await;
        assert_eq!(read.unwrap(), 10_000 - 4096);
        assert_eq!([buffer[0], buffer[4096]], [0, 2]);
        let (read, _) = file.read_at(MIB as u64, buffer).await;
        assert_eq!(read.unwrap(), 0, "beyond the end there is nothing");
        file.close().await;
    });
    assert_eq!(std::fs::read(&path).unwrap().len(), 10_000);
}

/// Goal: errors of the system come out as they are. Method: write to a file opened to read, a
/// missing file, an existing one.
#[test]
fn a_file_error_is_the_systems() {
    let scratch = Scratch::new();
    let path = scratch.file("data");
    one(async |io| {
        let missing = io.open(&path, OpenMode::Read).await.err().unwrap();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        io.open(&path, OpenMode::CreateNew).await.unwrap();
        let exists = io.open(&path, OpenMode::CreateNew).await.err().unwrap();
        assert_eq!(exists.kind(), std::io::ErrorKind::AlreadyExists);
        let file = io.open(&path, OpenMode::Read).await.unwrap();
        for error in [
            file.write_at(0, vec![filled(&io, 4096, 1)]).await.unwrap_err(),
            file.write_and_sync(0, vec![filled(&io, 4096, 1)]).await.unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    });
}

/// Goal: names and small files work. Method: each verb once, also with what is missing.
#[test]
fn names_change_and_small_files_are_replaced_whole() {
    let scratch = Scratch::new();
    one(async |io| {
        let dir = scratch.file("a/b");
        io.create_dir_all(&dir).await.unwrap();
        io.create_dir_all(&dir).await.unwrap();
        let path = dir.join("checkpoint");
        io.replace_file(&path, b"one".to_vec()).await.unwrap();
        io.replace_file(&path, b"two".to_vec()).await.unwrap();
        assert_eq!(io.read_file(&path, 3).await.unwrap(), b"two");
        let large = io.read_file(&path, 2).await.unwrap_err();
        assert_eq!(large.kind(), std::io::ErrorKind::InvalidData);
        io.rename(&path, &dir.join("other")).await.unwrap();
        io.sync_dir(&dir).await.unwrap();
        let entries = io.list_dir(&dir).await.unwrap();
        assert_eq!(entries, [DirEntry { name: "other".into(), is_dir: false, bytes: 3 }]);
        assert!(!io.exists(&path).await);
        io.remove_file(&dir.join("other")).await.unwrap();
        io.remove_dir_all(&scratch.file("a")).await.unwrap();
        assert!(!io.exists(&dir).await);
    });
}

/// Trap: a panic in a task would end its shard. Method: panic in tasks, at once and later.
#[test]
fn a_panic_ends_its_own_task_only() {
    one(async |io| {
        io.spawn(async { panic!("at once") });
        let later = io.clone();
        io.spawn(async move {
            later.yield_now().await;
            panic!("later");
        });
        let blocking = io.clone();
        io.spawn(async move { blocking.blocking(|| panic!("on another thread")).await });
        let alive = Rc::new(Cell::new(0));
        for _ in 0..10 {
            let (io, alive) = (io.clone(), alive.clone());
            io.clone().spawn(async move {
                io.sleep(Duration::from_millis(1)).await;
                alive.set(alive.get() + 1);
            });
        }
        while io.panics() < 3 || alive.get() < 10 {
            io.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(io.panics(), 3);
    });
}

/// Trap: what the kernel still writes to is freed. Method: drop receives that are in flight and see
/// that their memory comes back only once the kernel has let go.
#[test]
fn a_dropped_receive_keeps_its_buffer_until_the_kernel_lets_go() {
    one(async |io| {
        let listener = io.listen(LOCAL).await.unwrap();
        let client = io.connect(listener.local_addr()).await.unwrap();
        let server = listener.accept().await.unwrap();
        for _ in 0..20 {
            let buffer = io.memory().allocate(4096).unwrap();
            let used_bytes = io.memory().used_bytes();
            let receive = server.recv(buffer, 0);
            assert!(io.timeout(Duration::from_millis(1), receive).await.is_none());
            assert_eq!(io.memory().used_bytes(), used_bytes, "the slot still has the buffer");
            while io.memory().used_bytes() > 0 {
                io.yield_now().await;
            }
        }
        client.send(vec![b"still here".to_vec().into()]).await.unwrap();
        let (read, buffer) = server.recv(io.memory().allocate(4096).unwrap(), 0).await;
        assert_eq!(&buffer[..read.unwrap()], b"still here");
    });
}

/// Trap: a descriptor's number is used again below a queued operation. Method: drop files at once
/// after writes were begun, open others; every file has its own bytes.
#[test]
fn a_dropped_file_stays_open_below_its_operations() {
    let scratch = Scratch::new();
    one(async |io| {
        for number in 0..50_u8 {
            let path = scratch.file(&number.to_string());
            let file = io.open(&path, OpenMode::CreateNew).await.unwrap();
            let write = filled(&io, 4096, number);
            let abandoned = async {
                let file = file;
                file.write_at(0, vec![write]).await
            };
            let begun = io.timeout(Duration::ZERO, abandoned).await;
            drop(begun);
        }
    });
    for number in 0..50_u8 {
        let contents = std::fs::read(scratch.file(&number.to_string())).unwrap();
        assert_eq!(contents, vec![number; 4096], "the end of the shard waited for the write");
    }
}

/// Trap: returning from the main future drops queued writes. Method: begin detached writes, return.
#[test]
fn the_end_waits_for_the_writes_that_were_begun() {
    let scratch = Scratch::new();
    let path = scratch.file("data");
    one(async |io| {
        let file = io.open(&path, OpenMode::CreateNew).await.unwrap();
        for number in 0..8_u8 {
            let (file, data) = (file.clone(), filled(&io, MIB, number));
            io.spawn(async move {
                file.write_at(u64::from(number) * MIB as u64, vec![data]).await.unwrap();
            });
        }
    });
    let contents = std::fs::read(&path).unwrap();
    assert_eq!(contents.len(), 8 * MIB);
    assert!((0..8).all(|number| contents[number * MIB + 77] == number as u8));
}

/// Trap: a completion that comes as the shard falls asleep is missed. Method: many
/// tiny operations whose completions come at every possible moment; a miss hangs.
#[test]
fn no_completion_is_missed_among_many_tiny_operations() {
    let scratch = Scratch::new();
    one(async |io| {
        let file = io.open(&scratch.file("data"), OpenMode::CreateNew).await.unwrap();
        file.write_zeroes(0, 64 * 4096).await.unwrap();
        let left = Rc::new(Cell::new(16));
        for task in 0..16_u64 {
            let (io, file, left) = (io.clone(), file.clone(), left.clone());
            io.clone().spawn(async move {
                for round in 0..500_u64 {
                    let buffer = io.memory().allocate(4096).unwrap();
                    let position = (task * 31 + round) % 64 * 4096;
                    let (read, _) = file.read_at(position, buffer).await;
                    assert_eq!(read.unwrap(), 4096);
                    if round % 7 == task % 7 {
                        io.yield_now().await;
                    }
                }
                left.set(left.get() - 1);
            });
        }
        let mut waits_count = 0;
        while left.get() > 0 {
            io.sleep(Duration::from_millis(2)).await;
            waits_count += 1;
            assert!(waits_count < 100_000, "reads hang: {} tasks are left", left.get());
        }
        assert_eq!(io.panics(), 0);
    });
}

/// Trap: I/O waits behind a busy task. Method: one task never stops working but yields; reads have
/// to come through while it goes on.
#[test]
fn a_busy_task_that_yields_does_not_stall_reads() {
    let scratch = Scratch::new();
    one(async |io| {
        let file = io.open(&scratch.file("data"), OpenMode::CreateNew).await.unwrap();
        file.write_zeroes(0, 4096).await.unwrap();
        let done = Rc::new(Cell::new(false));
        let turns_count = Rc::new(Cell::new(0_u64));
        let busy = (io.clone(), done.clone(), turns_count.clone());
        io.spawn(async move {
            while !busy.1.get() {
                busy.2.set(busy.2.get() + 1);
                busy.0.yield_now().await;
            }
        });
        for _ in 0..200 {
            let (read, _) = file.read_at(0, io.memory().allocate(4096).unwrap()).await;
            assert_eq!(read.unwrap(), 4096);
        }
        done.set(true);
        assert!(turns_count.get() > 0, "the busy task was running all the while");
    });
}

/// Trap: a shard falls asleep although something is due. Method: many rounds of short sleeps,
/// wake-ups between tasks and from another thread; a lost one hangs.
#[test]
fn a_shard_does_not_sleep_over_runnable_tasks() {
    one(async |io| {
        let ping = Notifier::new();
        let pong = Notifier::new();
        let (thread_ping, thread_pong) = (ping.clone(), Arc::new(AtomicU64::new(0)));
        let rounds = thread_pong.clone();
        let (done, echo) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while echo.recv().is_ok() {
                rounds.fetch_add(1, Ordering::SeqCst);
                thread_ping.notify();
            }
        });
        for round in 0..2_000_u64 {
            let local = pong.clone();
            let inner = io.clone();
            io.spawn(async move {
                inner.yield_now().await;
                local.notify();
            });
            io.wait(&pong).await;
            done.send(()).unwrap();
            io.wait(&ping).await;
            assert_eq!(thread_pong.load(Ordering::SeqCst), round + 1);
            if round % 100 == 0 {
                io.sleep(Duration::from_micros(200)).await;
            }
        }
        drop(done);
        thread.join().unwrap();
    });
}

/// Goal: sockets carry bytes both ways and end cleanly, IPv4 and IPv6. Method: an echo with gathers
/// larger than any socket buffer.
#[test]
fn sockets_echo_large_gathers() {
    one(async |io| {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = match io.listen(address.parse().unwrap()).await {
                Ok(listener) => listener,
                Err(error) if address.starts_with('[') => {
                    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
                    continue; // a machine without IPv6
                }
                Err(error) => panic!("{error}"),
            };
            let local = listener.local_addr();
            let server = io.clone();
            io.spawn(async move {
                let socket = listener.accept().await.unwrap();
                loop {
                    let buffer = server.memory().allocate(300_000).unwrap();
                    let (read, mut buffer) = socket.recv(buffer, 0).await;
                    let bytes = read.unwrap();
                    if bytes == 0 {
                        break;
                    }
                    buffer.truncate(bytes);
                    socket.send(vec![buffer.freeze()]).await.unwrap();
                }
            });
            let client = Rc::new(io.connect(local).await.unwrap());
            assert_eq!(client.peer(), local);
            let gather: Vec<Slice> =
                (0..3000).map(|number| vec![number as u8; 1000].into()).collect();
            let sender = client.clone();
            io.spawn(async move { sender.send(gather).await.unwrap() });
            let buffer = io.memory().allocate(3_000_000).unwrap();
            let (read, buffer) = client.recv_exact(buffer, 0, 3_000_000).await;
            read.unwrap();
            assert!((0..3000).all(|number| buffer[number * 1000 + 999] == number as u8));
            client.shutdown();
            let (read, _) = client.recv(buffer, 0).await;
            assert_eq!(read.unwrap(), 0);
        }
    });
}

/// Goal: zero-copy sends deliver, keep their slices until the notification and fall back after the
/// kernel said eight times that it copied. Method: force them on over loopback, which copies.
#[test]
fn zero_copy_sends_deliver_and_fall_back() {
    one(async |io| {
        let listener = io.listen(LOCAL).await.unwrap();
        let mut client = io.connect(listener.local_addr()).await.unwrap();
        let server = listener.accept().await.unwrap();
        let SocketKind::Real(socket) = &mut client.0 else { panic!("a real one") };
        socket.force_zero_copy();
        for round in 0..20_u8 {
            let sent = vec![filled(&io, 64 * 1024, round), filled(&io, 4096, round)];
            client.send(sent).await.unwrap();
            let bytes = 68 * 1024;
            let buffer = io.memory().allocate(bytes).unwrap();
            let (read, buffer) = server.recv_exact(buffer, 0, bytes).await;
            read.unwrap();
            assert!(buffer.iter().all(|byte| *byte == round));
            drop(buffer);
            while io.memory().used_bytes() > 0 {
                io.yield_now().await;
            }
        }
        let SocketKind::Real(socket) = &client.0 else { panic!("a real one") };
        assert_eq!(socket.copied_in_row_count(), 8, "the ninth send was a plain one");
    });
}

/// Goal: the ways a connection fails are told apart. Method: a used port, a closed port, a peer
/// that goes away in the middle of a frame.
#[test]
fn connection_errors_say_what_happened() {
    one(async |io| {
        let listener = io.listen(LOCAL).await.unwrap();
        let local = listener.local_addr();
        let error = io.listen(local).await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("is in use"), "{error}");
        let client = io.connect(local).await.unwrap();
        let server = listener.accept().await.unwrap();
        client.send(vec![vec![1, 2, 3].into()]).await.unwrap();
        drop(client);
        let buffer = io.memory().allocate(4096).unwrap();
        let (read, _) = server.recv_exact(buffer, 0, 10).await;
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        drop(listener);
        let mut tries_count = 0;
        while io.connect(local).await.is_ok() {
            tries_count += 1;
            assert!(tries_count < 1_000, "a dropped listener stops listening");
            io.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Goal: shards exchange messages in order, sockets as handles, and buffers that are freed on the
/// other side. Method: two shards, one accepts and sends all to the other.
#[test]
fn shards_exchange_messages_sockets_and_buffers() {
    enum Message {
        Number(u64),
        Data(Slice),
        Socket(SocketHandle),
        Done,
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let config = ShardsConfig { cpus: vec![0, 1 % cpus], memory_bytes_per_shard: 64 * MIB };
    let values = run_shards(config, |io: Io, mesh: Mesh<Message>| async move {
        if mesh.shard() == ShardId(1) {
            let mut expected = 0;
            let mut data_bytes = 0;
            loop {
                match mesh.recv().await.1 {
                    Message::Number(number) => {
                        assert_eq!(number, expected);
                        expected += 1;
                    }
                    Message::Data(slice) => data_bytes += slice.len(),
                    Message::Socket(handle) => {
                        let socket = io.adopt(handle);
                        socket.send(vec![b"from shard 1".to_vec().into()]).await.unwrap();
                    }
                    Message::Done => break,
                }
            }
            mesh.send(ShardId(0), Message::Done);
            return expected + data_bytes as u64;
        }
        let listener = io.listen(LOCAL).await.unwrap();
        let client = io.connect(listener.local_addr()).await.unwrap();
        let handle = listener.accept().await.unwrap().into_handle();
        for number in 0..10_000 {
            mesh.send(ShardId(1), Message::Number(number));
        }
        mesh.send(ShardId(1), Message::Socket(handle));
        for _ in 0..1_000 {
            let buffer = io.memory().allocate_wait(MIB).await; // 64 MiB go round many times
            mesh.send(ShardId(1), Message::Data(buffer.freeze()));
        }
        mesh.send(ShardId(1), Message::Done);
        let (read, buffer) = client.recv(io.memory().allocate(4096).unwrap(), 0).await;
        assert_eq!(&buffer[..read.unwrap()], b"from shard 1");
        drop(buffer);
        assert!(matches!(mesh.recv().await, (ShardId(1), Message::Done)));
        assert_eq!(io.memory().used_bytes(), 0, "all came back from the other thread");
        1
    });
    assert_eq!(values.unwrap(), [1, 10_000 + 1_000 * MIB as u64]);
}

/// Goal: one shard's panic ends the others, too, and comes out. Method: a shard that waits forever.
#[test]
fn a_panic_of_a_main_ends_all_shards() {
    let config = ShardsConfig { cpus: vec![0, 0], memory_bytes_per_shard: MIB };
    let caught = std::panic::catch_unwind(|| {
        run_shards(config, |_, mesh: Mesh<()>| async move {
            assert!(mesh.shard() == ShardId(1), "shard 0 ends badly");
            mesh.recv().await;
        })
    });
    let text = executor::panic_text(&*caught.unwrap_err()).to_owned();
    assert!(text.contains("shard 0 ends badly"), "{text}");
    let config = ShardsConfig { cpus: vec![0, 100_000], memory_bytes_per_shard: MIB };
    let started = run_shards(config, |_, mesh: Mesh<()>| async move {
        mesh.recv().await;
    });
    assert!(started.unwrap_err().to_string().contains("100000"), "the CPU is named");
}

/// Goal: dropping futures of every kind at every point is safe. Method: time-outs of zero around
/// each operation, many times, then the shard still works.
#[test]
fn futures_can_be_dropped_at_any_time() {
    let scratch = Scratch::new();
    one(async |io| {
        let file = io.open(&scratch.file("data"), OpenMode::CreateNew).await.unwrap();
        file.write_zeroes(0, 65_536).await.unwrap();
        let listener = io.listen(LOCAL).await.unwrap();
        let local = listener.local_addr();
        for round in 0..100_u64 {
            let time = Duration::from_micros(round * 5);
            drop(io.timeout(time, io.connect(local)).await);
            drop(io.timeout(time, listener.accept()).await);
            let buffer = io.memory().allocate(65_536).unwrap();
            drop(io.timeout(time, file.read_at(0, buffer)).await);
            let data = vec![filled(&io, 4096, 1)];
            drop(io.timeout(time, file.write_and_sync(4096, data)).await);
            drop(io.timeout(time, file.sync()).await);
            let _ = io.timeout(time, io.blocking(std::thread::yield_now)).await;
            let _ = io.timeout(time, io.wait(&Notifier::new())).await;
        }
        while io.memory().used_bytes() > 0 {
            io.sleep(Duration::from_millis(1)).await;
        }
        let client = io.connect(local).await.unwrap();
        client.send(vec![b"works".to_vec().into()]).await.unwrap();
        assert_eq!(io.panics(), 0);
    });
}

/// Goal: a full submission queue loses nothing and cuts no link. Method: more operations in one
/// turn than the ring has entries, linked pairs among them.
#[test]
fn more_operations_than_the_ring_has_entries_all_complete() {
    let scratch = Scratch::new();
    one(async |io| {
        let file = io.open(&scratch.file("data"), OpenMode::CreateNew).await.unwrap();
        file.write_zeroes(0, 16 * 4096).await.unwrap();
        let done_count = Rc::new(Cell::new(0));
        let failures = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3_000_u64 {
            let (inner, file, done_count, failures) =
                (io.clone(), file.clone(), done_count.clone(), failures.clone());
            io.spawn(async move {
                let buffer = inner.memory().allocate(4096).unwrap();
                let result = if number % 50 == 1 {
                    let gather = vec![buffer.freeze()];
                    file.write_and_sync(number % 16 * 4096, gather).await.map(|()| 4096)
                } else {
                    file.read_at(number % 16 * 4096, buffer).await.0
                };
                if !matches!(result, Ok(DIRECT_ALIGN_BYTES)) {
                    failures.borrow_mut().push(result);
                }
                done_count.set(done_count.get() + 1);
            });
        }
        while done_count.get() < 3_000 {
            io.sleep(Duration::from_millis(1)).await;
        }
        assert!(failures.borrow().is_empty(), "{:?}", failures.borrow());
    });
}
