//! The simulated world keeps the promises of the real one, and breaks where it is told to.

use super::*;
use crate::io::{OpenMode, Slice};
use std::net::SocketAddr;
use std::path::Path;

const PATH: &str = "/data/log";

async fn setup(io: &Io) -> crate::io::File {
    io.create_dir_all(Path::new("/data")).await.unwrap();
    let file = io.open(Path::new(PATH), OpenMode::CreateNew).await.unwrap();
    io.sync_dir(Path::new("/data")).await.unwrap();
    file
}

fn block(io: &Io, value: u8, bytes: usize) -> Vec<Slice> {
    let mut buffer = io.memory().allocate(bytes).unwrap();
    buffer.fill(value);
    vec![buffer.freeze()]
}

/// Goal: a seed is a run. Method: the order in which random sleepers end, twice.
#[test]
fn the_same_seed_gives_the_same_run() {
    let order = |seed| {
        run(seed, async |io, _| {
            let order = Rc::new(RefCell::new(Vec::new()));
            for number in 0..20 {
                let (io, order) = (io.clone(), order.clone());
                io.clone().spawn(async move {
                    io.yield_now().await;
                    io.blocking(|| ()).await;
                    order.borrow_mut().push(number);
                });
            }
            io.sleep(Duration::from_secs(3_600)).await;
            assert_eq!(io.clock().monotonic().as_secs(), 3_600);
            order.take()
        })
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

/// Goal: each kind of crash leaves what it says. Method: one synced block, two unsynced ones.
#[test]
fn a_crash_keeps_what_it_promises() {
    for (crash, bytes, second) in [
        (Crash::KeepAll, 12_288, 2),
        (Crash::LoseUnsynced, 4_096, 0),
        (Crash::TornAt { bytes: 0 }, 4_096, 0),
        (Crash::TornAt { bytes: 512 }, 8_192, 2),
        (Crash::TornAt { bytes: 4_096 + 512 }, 12_288, 2),
    ] {
        run(3, async |io, disk| {
            let file = setup(&io).await;
            file.write_and_sync(0, block(&io, 1, 4_096)).await.unwrap();
            file.write_at(4_096, block(&io, 2, 8_192)).await.unwrap();
            assert_eq!(disk.unsynced_bytes(), 8_192);
            disk.crash(crash);
            assert!(file.sync().await.is_err(), "open files are dead");
            let contents = disk.contents(Path::new(PATH)).unwrap();
            assert_eq!(contents.len(), bytes, "{crash:?}");
            assert!(contents[..4_096].iter().all(|byte| *byte == 1));
            assert_eq!(contents.get(4_096).copied().unwrap_or(0), second);
            if let Crash::TornAt { bytes } = crash
                && bytes > 0
            {
                let kept = contents.iter().filter(|byte| **byte == 2).count();
                assert_eq!(kept as u64, bytes);
            }
            let file = io.open(Path::new(PATH), OpenMode::ReadWrite).await.unwrap();
            let (read, _) = file.read_at(0, io.memory().allocate(16_384).unwrap()).await;
            assert_eq!(read.unwrap(), bytes);
        });
    }
}

/// Goal: a flush covers other files' completed overwrites, but neither fresh blocks nor what began
/// after it. Method: two files, one flush, a crash.
#[test]
fn one_flush_covers_overwrites_of_other_files_only() {
    for one_flush in [true, false] {
        run(5, async |io, disk| {
            disk.set_one_flush_for_all(one_flush);
            let file = setup(&io).await;
            assert_eq!(file.one_flush_for_all(), one_flush);
            let other_path = Path::new("/data/other");
            let other = io.open(other_path, OpenMode::CreateNew).await.unwrap();
            io.sync_dir(Path::new("/data")).await.unwrap();
            other.write_zeroes(0, 4_096).await.unwrap();
            other.sync().await.unwrap();
            other.write_at(0, block(&io, 1, 4_096)).await.unwrap();
            other.write_at(4_096, block(&io, 2, 4_096)).await.unwrap();
            file.sync().await.unwrap();
            disk.crash(Crash::LoseUnsynced);
            let contents = disk.contents(other_path).unwrap();
            assert_eq!(contents, vec![u8::from(one_flush); 4_096]);
        });
    }
}

/// Goal: a write through is durable, and makes nothing else so. Method: one beside another write of
/// the same file and one of another file, a crash; the same with a flush that fails.
#[test]
fn a_write_through_is_durable_alone() {
    for fails in [false, true] {
        run(9, async |io, disk| {
            let file = setup(&io).await;
            let path = Path::new("/data/other");
            let other = io.open(path, OpenMode::CreateNew).await.unwrap();
            io.sync_dir(Path::new("/data")).await.unwrap();
            other.write_zeroes(0, 12_288).await.unwrap();
            other.sync().await.unwrap();
            other.write_at(0, block(&io, 1, 4_096)).await.unwrap();
            if fails {
                disk.fail_next_sync();
            }
            let result = other.write_through(4_096, block(&io, 2, 4_096)).await;
            assert_eq!(result.is_err(), fails);
            other.write_at(8_192, block(&io, 3, 4_096)).await.unwrap();
            file.write_through(0, block(&io, 4, 4_096)).await.unwrap();
            disk.crash(Crash::LoseUnsynced);
            let contents = disk.contents(path).unwrap();
            let kept = [0, if fails { 0 } else { 2 }, 0];
            assert_eq!([contents[0], contents[4_096], contents[8_192]], kept);
        });
    }
}

/// Goal: injected faults come out once and have the effect of real ones. Method: each in turn.
#[test]
fn injected_faults_come_out_and_a_failed_flush_is_final() {
    run(7, async |io, disk| {
        let file = setup(&io).await;
        disk.fail_next_write();
        let error = file.write_at(0, block(&io, 1, 8_192)).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        file.write_at(0, block(&io, 2, 4_096)).await.unwrap();
        disk.fail_next_sync();
        file.sync().await.unwrap_err();
        file.sync().await.unwrap();
        disk.out_of_space(true);
        let error = file.write_at(1 << 20, block(&io, 3, 4_096)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        file.write_at(0, block(&io, 4, 4_096)).await.unwrap();
        disk.out_of_space(false);
        disk.crash(Crash::LoseUnsynced);
        assert_eq!(disk.contents(Path::new(PATH)).unwrap().len(), 0, "doomed by the flush");
    });
}

/// Goal: names need their directory's sync; a replaced file is whole. Method: crash after each.
#[test]
fn names_are_durable_after_the_directory_was_synced() {
    run(11, async |io, disk| {
        let path = Path::new(PATH);
        setup(&io).await;
        let lost = Path::new("/data/lost");
        io.open(lost, OpenMode::CreateNew).await.unwrap();
        io.rename(path, Path::new("/data/moved")).await.unwrap();
        assert!(!io.exists(path).await);
        disk.crash(Crash::LoseUnsynced);
        assert!(io.exists(path).await && !io.exists(lost).await);
        let small = Path::new("/data/checkpoint");
        io.replace_file(small, b"one".to_vec()).await.unwrap();
        io.replace_file(small, vec![7; 5_000]).await.unwrap();
        disk.crash(Crash::LoseUnsynced);
        assert_eq!(io.read_file(small, 5_000).await.unwrap(), vec![7; 5_000]);
        disk.corrupt(small, 10..11);
        assert_eq!(io.read_file(small, 5_000).await.unwrap()[9..12], [7, 0xf8, 7]);
        let names: Vec<_> = io.list_dir(Path::new("/data")).await.unwrap();
        assert_eq!(names.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["checkpoint", "log"]);
        io.remove_dir_all(Path::new("/data")).await.unwrap();
        assert!(!io.exists(small).await);
    });
}

/// Goal: sockets, handles, mesh, panics and waits behave as the real ones. Method: an echo server
/// on "another shard" that is sent its socket, under many seeds.
#[test]
fn sockets_and_messages_work_in_every_order() {
    for seed in 0..50 {
        run(seed, async |io, _| {
            let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let listener = io.listen(address).await.unwrap();
            let local = listener.local_addr();
            assert!(io.listen(local).await.is_err());
            let mut meshes = meshes(&io, 2);
            let (second, first) = (meshes.pop().unwrap(), meshes.pop().unwrap());
            let server = io.clone();
            io.spawn(async move {
                let (from, handle) = second.recv().await;
                assert_eq!(from, ShardId(0));
                let socket = server.adopt(handle);
                let buffer = server.memory().allocate(1_000_000).unwrap();
                let (read, buffer) = socket.recv_exact(buffer, 0, 1_000_000).await;
                read.unwrap();
                socket.send(vec![buffer.freeze()]).await.unwrap();
                panic!("after its work");
            });
            io.spawn(async move {
                let socket = listener.accept().await.unwrap();
                first.send(ShardId(1), socket.into_handle());
            });
            let client = io.connect(local).await.unwrap();
            client.send(block(&io, 5, 1_000_000)).await.unwrap();
            let buffer = io.memory().allocate(1_000_000).unwrap();
            let (read, buffer) = client.recv_exact(buffer, 0, 1_000_000).await;
            read.unwrap();
            assert!(buffer.iter().all(|byte| *byte == 5));
            let (read, buffer) = client.recv(buffer, 0).await;
            assert_eq!((read.unwrap(), io.panics()), (0, 1));
            drop(buffer);
            let waited = io.timeout(Duration::from_secs(5), std::future::pending::<()>()).await;
            assert!(waited.is_none() && io.connect(address).await.is_err());
        });
    }
}

/// Goal: memory that is waited for comes in order. Method: a waiter over budget, freed later.
#[test]
fn waiting_for_memory_ends_when_it_is_freed() {
    run(13, async |io, _| {
        let all = io.memory().allocate(io.memory().budget_bytes()).unwrap();
        let (inner, got) = (io.clone(), Rc::new(Cell::new(0)));
        let target = got.clone();
        io.spawn(async move {
            let buffer = inner.memory().allocate_wait(4_096).await;
            target.set(buffer.len());
        });
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!(got.get(), 0);
        drop(all);
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!(got.get(), 4_096);
    });
}
