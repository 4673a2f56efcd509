"""What is measured: each a function of a running broker that returns its figures.

In each run a broker is started once, on an empty directory, and the measurements are made in the
order in which they stand here. Figures have base units: bytes, records, requests a second, µs,
seconds, CPU seconds, bytes of memory.
"""

import re
import time
from dataclasses import dataclass
from typing import Callable

import brokers
import machine
from harness import expect
from machine import GIB, MIB

PARTITIONS = 16
ACTIVE_CONNECTIONS = 100
CONNECTIONS = 10_000
HISTORY_BYTES = 9 * GIB  # 9 GB and a little: what a restart finds, and what is caught up on
NEWEST_BYTES = 256 * MIB  # in every broker's memory
NEWEST_REPEATS = 4  # of a client that cannot begin again by itself
FAN_OUT_CONSUMERS = 50
LIBRDKAFKA_CATCH_UP_RECORDS = 2_500_000  # of 1 KiB, in one process
RESTART_SECONDS_MAX = 120
MISSED = "--allow-missed-rate"  # a broker that is too slow for a rate has a figure all the same
FEW_RUNS = 3  # of what takes long and varies little
LOST = re.compile(r"(\d+) of \d+ idle connections were closed")

KAFKA_AND_RINGMAIN = ("k0", "ringmain")  # where no goal asks for K1

MEASUREMENTS = {}  # name -> Measurement, in the order of the run


@dataclass(frozen=True)
class Measurement:
    name: str
    brokers: tuple
    measure: Callable  # of a Session: {figure: value}
    runs_max: int  # where fewer than the race's runs are worth their time
    is_quick: bool  # part of --quick
    is_warm: bool  # whether the broker must have been warmed up before


def measurement(name, names=brokers.ALL, runs_max=100, is_quick=False, is_warm=True):
    def register(function):
        MEASUREMENTS[name] = Measurement(name, names, function, runs_max, is_quick, is_warm)
        return function
    return register


# ---- before the broker is warm ------------------------------------------------------------------


@measurement("start", names=KAFKA_AND_RINGMAIN, runs_max=FEW_RUNS, is_warm=False)
def start(session):
    """Clean, after kill -9 with no data, and after kill -9 with 9 GB."""
    clean_s = session.started_s
    session.broker.kill()
    killed_s = session.broker.start(RESTART_SECONDS_MAX)
    write_history(session)
    session.broker.kill()
    began = time.monotonic()
    session.broker.start(RESTART_SECONDS_MAX)
    session.generator.ready(session.address, "history", PARTITIONS, RESTART_SECONDS_MAX)
    return {"clean_s": clean_s, "killed_s": killed_s, "killed_9gb_s": time.monotonic() - began}


@measurement("idle", names=KAFKA_AND_RINGMAIN, runs_max=FEW_RUNS, is_quick=True, is_warm=False)
def idle(session):
    session.create_topic("idle")
    time.sleep(3)
    seconds = session.seconds(6)
    pid = session.broker.process.pid
    before, began = machine.cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    used = machine.cpu_seconds(pid) - before
    return {"cores": used / (time.monotonic() - began), "memory_bytes": machine.resident_bytes(pid)}


# ---- producing: the raw client ------------------------------------------------------------------


@measurement("ingest-raw", is_quick=True)
def ingest_raw(session):
    disk = {}
    if session.name == "ringmain":  # directly before: disks of virtual machines change their mind
        disk["fio_new_bytes_per_second"] = session.disk.first_write_bytes_per_second()
        disk["fio_bytes_per_second"] = session.disk.overwrite_bytes_per_second()
        disk["loopback_bytes_per_second"] = machine.loopback_bytes_per_second()
    return {**produce(session, "ingest-raw", 3, "--record-bytes", "1K", "--batch-bytes", "930000",
                      "--request-bytes", "930000"), **disk}


@measurement("ingest-16k", is_quick=True)
def ingest_16k(session):
    return produce(session, "ingest-16k", 3, "--record-bytes", "1K", "--batch-bytes", "16K",
                   "--request-bytes", "16K", *EIGHT_BY_FOUR)


@measurement("records-100b", names=KAFKA_AND_RINGMAIN)
def records_100b(session):
    return produce(session, "records-100b", 3, "--record-bytes", "100", "--batch-bytes", "860000",
                   "--request-bytes", "860000")


@measurement("requests-100b", is_quick=True)
def requests_100b(session):
    return produce(session, "requests-100b", 3, "--record-bytes", "100", "--batch-bytes", "1",
                   "--request-bytes", "1", *EIGHT_BY_FOUR)


EIGHT_BY_FOUR = ("--connections", "8", "--in-flight", "4")

# ---- producing: clients that people have, and latency at a fixed rate ---------------------------


@measurement("kafka-producer", is_quick=True)
def kafka_producer(session):
    seconds = session.seconds(4)
    expected = session.expected_rate("kafka-producer")
    session.create_topic("kafka-producer")
    figures = session.kafka_tools.produce(
        session.address, "kafka-producer", records_count=int(expected * seconds),
        warmup_count=int(expected * seconds / 2), record_bytes=1024)
    session.remember_rate("kafka-producer", figures["records_per_second"])
    return figures


@measurement("librdkafka-16", names=KAFKA_AND_RINGMAIN, is_quick=True)
def librdkafka_16(session):
    return librdkafka_produce(session, "librdkafka-16", PARTITIONS)


@measurement("open-20", is_quick=True)
def open_20(session):
    disk = {}
    if session.name == "ringmain":
        latency_us = session.generator.run("disk", "--dir", session.folder, "--duration",
                                           "2s")["latency_us"]
        disk = {f"disk_{name}": value for name, value in latencies(latency_us).items()}
    return {**open_loop(session, "open-20", 6, "20MB", "16K"), **disk}


@measurement("open-100")
def open_100(session):
    return open_loop(session, "open-100", 6, "100MB", "64K")


@measurement("open-fresh", names=KAFKA_AND_RINGMAIN)
def open_fresh(session):
    """On a topic that nothing was written to before: no warm-up either."""
    session.create_topic("open-fresh")
    return open_loop(session, "open-fresh", 4, "100MB", "64K", warmup="0s")


@measurement("end-to-end-tool", names=KAFKA_AND_RINGMAIN)
def end_to_end_tool(session):
    session.create_topic("end-to-end-tool", partitions_count=1)
    return session.kafka_tools.end_to_end(
        session.address, "end-to-end-tool", records_count=int(1000 * session.seconds(3)),
        record_bytes=100)


@measurement("end-to-end", names=KAFKA_AND_RINGMAIN)
def end_to_end(session):
    """One record a request, 1,000 a second, read by one consumer on the same clock."""
    result = session.load(
        "end-to-end", "end-to-end", *session.target("end-to-end"), "--record-bytes", "1K",
        "--batch-bytes", "1", "--request-bytes", "1", "--rate", "1000r", MISSED, *session.timed(4))
    return latencies(of_series(result, "end_to_end"))


# ---- reading, and what holds with much ---------------------------------------------------------


@measurement("catch-up-raw", names=KAFKA_AND_RINGMAIN, is_quick=True)
def catch_up_raw(session):
    write_history(session)
    disk = {}
    if session.name == "ringmain":
        disk["fio_bytes_per_second"] = session.disk.read_bytes_per_second()
    forget_history(session)
    read = fetch(session, "catch-up-raw", "history", "--from", "earliest", "--connections", "4",
                 "--in-flight", "2", "--duration", "100s", "--warmup", "0s")
    expect(read["disk_bytes"] > 0.8 * HISTORY_BYTES,
           f"only {read['disk_bytes'] / GIB:.1f} GiB came from the disk")
    return {**read, **disk}


@measurement("catch-up-librdkafka", names=KAFKA_AND_RINGMAIN)
def catch_up_librdkafka(session):
    write_history(session)
    forget_history(session)
    return session.librdkafka.consume(session.address, "history", PARTITIONS,
                                      int(session.seconds(LIBRDKAFKA_CATCH_UP_RECORDS)))


@measurement("catch-up-meanwhile", names=KAFKA_AND_RINGMAIN)
def catch_up_meanwhile(session):
    """The p99 of a producer at 20 MB/s alone, and while a consumer reads from the disk."""
    write_history(session)
    flags = [*session.target("history"), "--record-bytes", "1K", "--batch-bytes", "16K",
             "--request-bytes", "16K", "--rate", "20MB", MISSED, *EIGHT_BY_FOUR,
             *session.timed(3)]
    alone = session.load("catch-up-alone", "produce", *flags)
    forget_history(session)
    meanwhile = session.load("catch-up-meanwhile", "mixed", *flags, "--consumers", "0",
                             "--catch-up", "1", "--catch-up-repeat")
    [catch_up] = [part for part in meanwhile["parts"] if part["name"] == "catch-up"]
    return {"alone_p99_us": alone["latency_us"]["p99"],
            "meanwhile_p99_us": meanwhile["latency_us"]["p99"],
            "catch_up_bytes_per_second": catch_up["bytes_per_second"]}


@measurement("newest-raw", names=KAFKA_AND_RINGMAIN, is_quick=True)
def newest_raw(session):
    write_newest(session)
    return fetch(session, "newest-raw", "newest", "--from", "earliest", "--repeat", "--connections",
                 "4", "--in-flight", "2", *session.timed(3))


@measurement("newest-librdkafka", names=KAFKA_AND_RINGMAIN)
def newest_librdkafka(session):
    write_newest(session)
    records_count = NEWEST_BYTES // 1024 // PARTITIONS * (PARTITIONS - 1)
    read = [session.librdkafka.consume(session.address, "newest", PARTITIONS, records_count)
            for _ in range(NEWEST_REPEATS)]
    seconds = sum(one["seconds"] for one in read)
    return {"bytes_per_second": sum(one["bytes"] for one in read) / seconds}


@measurement("fan-out", names=KAFKA_AND_RINGMAIN)
def fan_out(session):
    """50 readers of the same newest data, each reads all of it, again and again."""
    write_newest(session)
    return fetch(session, "fan-out", "newest", "--from", "earliest", "--repeat", "--consumers",
                 str(FAN_OUT_CONSUMERS), "--connections", "1", *session.timed(3))


@measurement("connections", names=KAFKA_AND_RINGMAIN, runs_max=FEW_RUNS)
def connections(session):
    """100 connections that produce at 2,000 requests a second together, alone and among 9,900
    that are open and idle."""
    flags = [*session.target("connections"), "--record-bytes", "1K", "--batch-bytes", "1",
             "--request-bytes", "1", "--connections", str(ACTIVE_CONNECTIONS), "--rate", "2000r",
             MISSED, *session.timed(3)]
    alone = session.load("connections-alone", "produce", *flags)
    among = session.load("connections", "connections", *flags, "--idle",
                         str(CONNECTIONS - ACTIVE_CONNECTIONS))
    lost = [int(found.group(1)) for warning in among["warnings"]
            if (found := LOST.match(warning))]
    return {"alone_p99_us": alone["latency_us"]["p99"],
            "among_p99_us": among["latency_us"]["p99"], "lost": sum(lost)}


@measurement("librdkafka-1000", names=KAFKA_AND_RINGMAIN, runs_max=FEW_RUNS)
def librdkafka_1000(session):
    return librdkafka_produce(session, "librdkafka-1000", 1000)


@measurement("librdkafka-4000", names=KAFKA_AND_RINGMAIN, runs_max=FEW_RUNS)
def librdkafka_4000(session):
    return librdkafka_produce(session, "librdkafka-4000", 4000)


@measurement("librdkafka-10000", names=("ringmain",), runs_max=FEW_RUNS)
def librdkafka_10000(session):
    return librdkafka_produce(session, "librdkafka-10000", 10_000)


# ---- the loads ---------------------------------------------------------------------------------


def produce(session, name, seconds, *flags):
    """A closed loop on a topic of that name."""
    return rates(session.load(name, "produce", *session.target(name), "--acks", "all", *flags,
                              *session.timed(seconds)))


def fetch(session, name, topic, *flags):
    return rates(session.load(name, "fetch", *session.address_flags(topic), "--no-create", *flags))


def open_loop(session, name, seconds, rate, batch, warmup="1s"):
    """At a fixed rate, each latency from the time when the request was to be sent."""
    result = session.load(
        name, "produce", *session.target(name), "--acks", "all", "--record-bytes", "1K",
        "--batch-bytes", batch, "--request-bytes", batch, "--rate", rate, MISSED, *EIGHT_BY_FOUR,
        *session.timed(seconds, warmup))
    return {**latencies(result["latency_us"]), "achieved_share": result["asked"]["achieved_share"]}


def librdkafka_produce(session, name, partitions_count):
    session.create_topic(name, partitions_count)
    expected = session.expected_rate(name)
    figures = session.librdkafka.produce(session.address, name,
                                         int(expected * session.seconds(4)), 1024)
    session.remember_rate(name, figures["records_per_second"])
    return figures


def write_history(session):
    """9 GB of 1 KiB records in the topic `history`, once a run."""
    if session.has("history"):
        return
    session.generator.run("produce", *session.target("history"), "--record-bytes", "1K",
                          "--batch-bytes", "930000", "--request-bytes", "930000", "--bytes",
                          str(HISTORY_BYTES))


def forget_history(session):
    """Makes sure that the next read is one of the disk: drops what the page cache has of it.

    ringmain does not use the page cache, and its own memory has room for a twelfth of the topic."""
    if session.name in brokers.KAFKAS:
        machine.forget_pages_of(session.broker.data_dir)


def write_newest(session):
    if session.has("newest"):
        return
    session.generator.run("produce", *session.target("newest"), "--record-bytes", "1K",
                          "--batch-bytes", "64K", "--request-bytes", "64K", "--bytes",
                          str(NEWEST_BYTES))


# ---- figures of a result document --------------------------------------------------------------


def rates(result):
    broker = result["broker"]
    megabytes = result["bytes_per_second"] / 1e6
    return {
        "bytes_per_second": result["bytes_per_second"],
        "records_per_second": result["records_per_second"],
        "requests_per_second": result["requests_per_second"],
        "p99_us": result["latency_us"]["p99"],
        "broker_cores": broker["cores"],
        "broker_cpu_s_per_mb": broker["cores"] / megabytes,
        "broker_cpu_s_per_request": broker["cores"] / result["requests_per_second"],
        "cpu_s_per_mb": (broker["cores"] + result["client_cores"]) / megabytes,
        "disk_bytes": broker["read_bytes"],
    }


def latencies(latency_us):
    return {"p50_us": latency_us["p50"], "p99_us": latency_us["p99"],
            "p999_us": latency_us["p99_9"], "mean_us": latency_us["mean"]}


def of_series(result, name):
    for part in result["parts"]:
        for series in part["series"]:
            if series["name"] == name:
                return series["latency_us"]
    raise KeyError(f"the result has no series {name}")
