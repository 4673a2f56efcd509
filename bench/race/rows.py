"""The rows of the table: which figure of which measurement, how it is shown, the goal for it."""

from dataclasses import dataclass

from machine import MIB


@dataclass(frozen=True)
class Goal:
    """ringmain's median is at least (or at most) `factor` times what it is held against."""

    is_floor: bool  # at least; else at most
    factor: float
    against: object  # a broker's name, `fio`, `own FIGURE` of ringmain, or None: `factor` alone

    def text(self, row):
        bound = "at least" if self.is_floor else "at most"
        if self.against is None:
            return f"{bound} {row.shown(self.factor)} {row.unit}".rstrip()
        names = {"fio": "fio", "k0": "K0", "k1": "K1"}
        name = names.get(self.against) or self.against.removeprefix("own ")
        return f"{bound} {self.factor:g} x {name}"

    def holds(self, median, bound):
        return median >= self.factor * bound if self.is_floor else median <= self.factor * bound


@dataclass(frozen=True)
class Row:
    title: str
    measurement: str
    figure: str
    unit: str
    scale: float  # of the figure's base unit: shown = figure * scale
    digits: int
    goals: tuple

    @property
    def name(self):
        return f"{self.measurement}.{self.figure}"

    def shown(self, value):
        return f"{value * self.scale:,.{self.digits}f}"


def at_least(factor, against=None):
    return Goal(True, factor, against)


def at_most(factor, against=None):
    return Goal(False, factor, against)


def megabytes(title, measurement, *goals):
    return Row(title, measurement, "bytes_per_second", "MB/s", 1e-6, 0, goals)


def latency(title, measurement, figure, *goals):
    return Row(title, measurement, figure, "µs", 1, 0, goals)


def seconds(title, figure, *goals):
    return Row(title, "start", figure, "s", 1, 2, goals)


def fixed_rate(title, measurement):
    return (
        latency(f"{title}: p50", measurement, "p50_us", at_most(1.2, "k0")),
        latency(f"{title}: p99", measurement, "p99_us", at_most(0.5, "k1")),
        latency(f"{title}: p99.9", measurement, "p999_us", at_most(0.5, "k0")),
    )


ROWS = (
    megabytes("ingest, raw, 1 KiB records in 0.93 MB batches", "ingest-raw",
              at_least(0.85, "fio"), at_least(1.5, "k0")),
    megabytes("ingest, raw, 16 KB batches, 8 connections x 4", "ingest-16k",
              at_least(2.5, "k0"), at_least(10, "k1")),
    Row("100 B records, raw, 0.86 MB batches", "records-100b", "records_per_second", "M/s", 1e-6, 2,
        (at_least(1.5, "k0"),)),
    Row("one 100 B record a request, 8 x 4", "requests-100b", "requests_per_second", "/s", 1, 0,
        (at_least(3, "k0"), at_least(13, "k1"))),
    megabytes("Kafka's own producer as it comes", "kafka-producer",
              at_least(1, "k0"), at_least(8, "k1")),
    megabytes("librdkafka, 1 KiB, 1 MB batches", "librdkafka-16", at_least(1.3, "k0")),
    *fixed_rate("20 MB/s, 16 KB batches", "open-20"),
    *fixed_rate("100 MB/s, 64 KB batches", "open-100"),
    latency("the same on a new topic: p99.9", "open-fresh", "p999_us", at_most(6000)),
    latency("end to end, Kafka's tool: mean", "end-to-end-tool", "mean_us", at_most(1, "k0")),
    latency("end to end: p50", "end-to-end", "p50_us"),
    latency("end to end: p99", "end-to-end", "p99_us"),
    latency("end to end: p99.9", "end-to-end", "p999_us", at_most(0.5, "k0")),
    megabytes("catch-up from disk, raw", "catch-up-raw", at_least(0.95, "fio")),
    megabytes("catch-up from disk, librdkafka", "catch-up-librdkafka", at_least(1, "k0")),
    latency("produce p99 alone", "catch-up-meanwhile", "alone_p99_us"),
    latency("produce p99 during a catch-up", "catch-up-meanwhile", "meanwhile_p99_us",
            at_most(1.5, "own alone_p99_us")),
    megabytes("newest from memory, librdkafka", "newest-librdkafka", at_least(1, "k0")),
    megabytes("newest from memory, raw client", "newest-raw", at_least(1.2, "k0")),
    Row("the same: CPU of broker and client", "newest-raw", "cpu_s_per_mb", "ms/MB", 1e3, 2,
        (at_most(1, "k0"),)),
    megabytes("fan-out, 1 topic to 50 consumers", "fan-out", at_least(1.2, "k0")),
    megabytes("librdkafka, 1,000 partitions", "librdkafka-1000"),
    megabytes("librdkafka, 4,000 partitions", "librdkafka-4000",
              at_least(0.85, "own librdkafka-16.bytes_per_second")),
    megabytes("librdkafka, 10,000 partitions", "librdkafka-10000",
              at_least(0.75, "own librdkafka-16.bytes_per_second")),
    Row("idle: CPU", "idle", "cores", "% of a core", 100, 2, (at_most(0.005),)),
    Row("idle: memory", "idle", "memory_bytes", "MiB", 1 / MIB, 0, (at_most(128 * MIB),)),
    latency("100 active connections alone: p99", "connections", "alone_p99_us"),
    latency("100 active of 10,000 connections: p99", "connections", "among_p99_us",
            at_most(1.5, "own alone_p99_us")),
    Row("10,000 connections: lost", "connections", "lost", "", 1, 0, (at_most(0),)),
    Row("broker CPU, 0.93 MB batches", "ingest-raw", "broker_cpu_s_per_mb", "ms/MB", 1e3, 2,
        (at_most(0.4e-3),)),
    Row("broker CPU, 16 KB batches", "ingest-16k", "broker_cpu_s_per_mb", "ms/MB", 1e3, 2,
        (at_most(1.2e-3),)),
    Row("broker CPU, one record a request", "requests-100b", "broker_cpu_s_per_request",
        "µs/request", 1e6, 1, (at_most(12e-6),)),
    seconds("start, clean", "clean_s", at_most(0.2)),
    seconds("start after kill -9, empty", "killed_s", at_most(0.5)),
    seconds("start after kill -9, 9 GB", "killed_9gb_s", at_most(2)),
)

BASE_LINES = (
    Row("fio, direct overwrite, 512 KiB", "ingest-raw", "fio_bytes_per_second", "MB/s", 1e-6, 0,
        ()),
    Row("fio, direct write of a new file, 512 KiB", "ingest-raw", "fio_new_bytes_per_second",
        "MB/s", 1e-6, 0, ()),
    Row("fio, direct read, 1 MiB", "catch-up-raw", "fio_bytes_per_second", "MB/s", 1e-6, 0, ()),
    *(latency(f"a 4 KiB overwrite and fdatasync: {text}", "open-20", f"disk_{name}_us")
      for name, text in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))),
    Row("loopback, one bare connection", "ingest-raw", "loopback_bytes_per_second", "MB/s", 1e-6, 0,
        ()),
)
