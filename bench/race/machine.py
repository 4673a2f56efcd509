"""The machine under the race: its memory, disk and loopback without a broker, cost of processes.

A guest that hands free memory back to its host pays for each page of it that is used again, and the
page cache, which Apache Kafka writes to, grows by such pages: 0.4 GB/s instead of 4. So the memory
that no process holds is kept in use, as on a server that has run for a while: a sparse file is read
until the page cache is full of it. Its pages are clean: the kernel replaces them as fast as it
takes free ones, and none of them is handed back.
"""

import mmap
import os
import platform
import re
import socket
import time
from pathlib import Path

from harness import Failed, run

MIB = 1 << 20
GIB = 1 << 30

FREE_BYTES_LEFT = 3 * GIB  # for processes: Kafka's heap, ringmain's buffers, the clients
TOUCH_MARGIN_BYTES = 300 * MIB  # of the free memory: below it the kernel would begin to reclaim
PAGE_BYTES = 4096

FIO_FILE_GIB = 4
FIO_SECONDS = 3
FIO_REQUESTS_IN_FLIGHT = 4
LOOPBACK_SECONDS = 2
LOOPBACK_PIECE_BYTES = MIB

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def memory_bytes(name):
    """A line of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, value = line.split(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise Failed(f"/proc/meminfo has no {name}")


def describe():
    """What a table of figures must say about where they were taken."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "kernel": platform.release(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores_count": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes("MemTotal"),
    }


class Memory:
    """Keeps the free memory in use, see above. Holds a sparse file, which takes no disk."""

    def __init__(self, folder):
        self.file = folder / "page-cache-filler"
        self.buffer = bytearray(4 * MIB)
        with open(self.file, "wb") as filler:
            filler.truncate(max(0, memory_bytes("MemAvailable") - FREE_BYTES_LEFT))

    def fill(self):
        """Makes the page cache full again: soon after data was deleted, or the host has it."""
        with open(self.file, "rb", buffering=0) as filler:
            while filler.readinto(self.buffer):
                pass

    def close(self):
        self.file.unlink(missing_ok=True)


def touch_free_memory():
    """Uses nearly all free memory once, so that the host backs it, and gives it back."""
    size_bytes = memory_bytes("MemFree") - TOUCH_MARGIN_BYTES
    if size_bytes < PAGE_BYTES:
        return
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for position in range(0, size_bytes, PAGE_BYTES):
            memory[position] = 1


def forget_pages_of(folder):
    """Drops what the page cache holds of the files below `folder`: the next read is of the disk."""
    for file in sorted(folder.rglob("*")):
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError:  # removed meanwhile
            continue
        try:
            if file.is_file():
                os.fdatasync(descriptor)  # pages that are not written yet would stay
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class Disk:
    """What fio gets from the disk of `folder` by direct I/O."""

    def __init__(self, folder):
        self.file = folder / "fio.data"

    def first_write_bytes_per_second(self):
        """Writing a new file: what a log does, unless it has an old segment to write over."""
        self.file.unlink(missing_ok=True)
        os.sync()  # else the freed blocks are given back to the disk meanwhile
        return self.write_bytes_per_second("--name=new")

    def overwrite_bytes_per_second(self):
        self.fill()
        return self.write_bytes_per_second("--name=overwrite", "--overwrite=1", "--time_based",
                                           f"--runtime={FIO_SECONDS}")

    def write_bytes_per_second(self, *flags):
        said = self.fio("--rw=write", "--bs=512k", *flags)
        return int(said.split(";")[47]) * 1024

    def read_bytes_per_second(self):
        self.fill()
        said = self.fio("--name=read", "--rw=read", "--bs=1m", "--time_based",
                        f"--runtime={FIO_SECONDS}")
        return int(said.split(";")[6]) * 1024

    def fill(self):
        if not self.file.exists():
            self.fio("--name=fill", "--rw=write", "--bs=1m", "--end_fsync=1")

    def fio(self, *flags):
        return run(["fio", f"--filename={self.file}", f"--size={FIO_FILE_GIB}g", "--direct=1",
                    "--ioengine=io_uring", f"--iodepth={FIO_REQUESTS_IN_FLIGHT}", "--minimal",
                    *flags]).decode()

    def close(self):
        self.file.unlink(missing_ok=True)


def loopback_bytes_per_second():
    """A bare loop over one TCP connection: one process sends 1 MiB pieces, one reads them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            send_until_closed(server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            received_bytes = receive_for(connection, LOOPBACK_SECONDS)
    os.waitpid(child, 0)
    return received_bytes / LOOPBACK_SECONDS


def send_until_closed(port):
    """Ends this process."""
    try:
        piece = bytes(LOOPBACK_PIECE_BYTES)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while True:
                connection.sendall(piece)
    except OSError:
        pass
    finally:
        os._exit(0)


def receive_for(connection, seconds):
    buffer = bytearray(LOOPBACK_PIECE_BYTES)
    received_bytes = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        received_bytes += connection.recv_into(buffer)
    return received_bytes


def cpu_seconds(pid):
    """User and system time that a process has used so far, with those of all its threads."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2:].split()  # its name may hold spaces
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def stolen_seconds():
    """Time that the host gave to others while cores of this guest had work."""
    return int(Path("/proc/stat").read_text().split()[8]) / TICKS_PER_SECOND


def resident_bytes(pid):
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if not found:
        raise Failed(f"process {pid} does not tell its memory")
    return int(found.group(1)) * 1024
