"""The clients of the race: ringmain-bench, the tools that come with Kafka, librdkafka's own tool.

Each call runs one of them to its end and returns a dict of figures in base units (bytes, records,
requests a second; latencies in µs); whatever a client reports as failed fails the measurement.
"""

import json
import os
import re
import shutil

import crates
import maven
from harness import BUILD, BUILD_SECONDS_MAX, Failed, expect, run

RUN_SECONDS_MAX = 240

# As bin/kafka-producer-perf-test.sh starts it.
TOOL_JAVA_OPTIONS = ("-Xmx512M", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                     "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
                     "-Djava.awt.headless=true")

LIBRDKAFKA_VERSION = "4.10.0+2.12.1"  # the part after the plus is librdkafka's
# What the race does not use. Optimized, unlike the build that the tests of librdkafka are run with.
LIBRDKAFKA_CONFIGURE = ["--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-lz4-ext"]
LIBRDKAFKA_BATCH_BYTES = 1_000_000


class Generator:
    """ringmain-bench: the raw client, which sends prebuilt batches."""

    def __init__(self, program):
        self.program = program

    def run(self, *arguments, seconds_max=RUN_SECONDS_MAX):
        """Runs a workload; returns its result document."""
        arguments = [str(argument) for argument in arguments]
        said = run([self.program, *arguments, "--output", "json"], seconds_max=seconds_max)
        result = json.loads(said)
        expect(result["errors"] == 0,
               f"{result['errors']} errors: {result['errors_by_name']} in {' '.join(arguments)}")
        expect(result["requests"] > 0, f"nothing was answered: {' '.join(arguments)}")
        return result

    def ready(self, address, topic, partitions_count, seconds_max):
        """Waits until each of the topic's partitions has a leader that tells its offsets."""
        run([self.program, "ready", "--brokers", address, "--topic", topic, "--partitions",
             str(partitions_count), "--timeout", f"{seconds_max}s"], seconds_max=seconds_max + 5)


class KafkaTools:
    """The programs behind kafka-producer-perf-test.sh and kafka-e2e-latency.sh."""

    def __init__(self):
        self.class_path = maven.jars("tools")

    def java(self, program, *arguments):
        return run(["java", *TOOL_JAVA_OPTIONS, "-cp", self.class_path,
                    f"org.apache.kafka.tools.{program}", *arguments],
                   seconds_max=RUN_SECONDS_MAX).decode()

    def produce(self, address, topic, records_count, warmup_count, record_bytes):
        """The producer with its defaults: what it got after its first `warmup_count` records."""
        said = self.java(
            "ProducerPerformance", "--bootstrap-server", address, "--topic", topic,
            "--num-records", str(records_count + warmup_count), "--throughput", "-1",
            "--record-size", str(record_bytes), "--warmup-records", str(warmup_count),
            "--command-property", "acks=all")
        steady = re.search(r"^(\d+) steady state records sent, ([\d.]+) records/sec", said,
                           re.MULTILINE)
        expect(steady, f"ProducerPerformance did not say how fast it was:\n{said[-500:]}")
        records_per_second = float(steady.group(2))
        return {"records_per_second": records_per_second,
                "bytes_per_second": records_per_second * record_bytes}

    def end_to_end(self, address, topic, records_count, record_bytes):
        """One record after the other, each from before its send until it is read."""
        said = self.java("EndToEndLatency", address, topic, str(records_count), "all",
                         str(record_bytes))
        mean = re.search(r"^Avg latency: ([\d.]+) ms", said, re.MULTILINE)
        expect(mean, f"EndToEndLatency gave no average:\n{said[-500:]}")
        return {"mean_us": float(mean.group(1)) * 1000}


class Librdkafka:
    """`rdkafka_performance`, the tool in librdkafka's examples, in one process."""

    def __init__(self):
        self.program = build_librdkafka()

    def produce(self, address, topic, records_count, record_bytes):
        """To random partitions, acks=all, in batches of up to 1 MB."""
        said = self.run(
            "-P", "-t", topic, "-b", address, "-s", record_bytes, "-c", records_count, "-a", "-1",
            "-X", f"batch.size={LIBRDKAFKA_BATCH_BYTES}", "-X", "batch.num.messages=1000000",
            "-X", "linger.ms=5", "-X", "queue.buffering.max.messages=500000")
        found = re.search(r"(\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms", said)
        expect(found, f"rdkafka_performance did not say how fast it was:\n{said[-500:]}")
        delivered, failed, milliseconds = map(int, found.groups())
        expect(failed == 0 and delivered == records_count,
               f"{delivered} of {records_count} records were delivered, {failed} failed")
        return {"records_per_second": delivered / milliseconds * 1000,
                "bytes_per_second": delivered * record_bytes / milliseconds * 1000}

    def consume(self, address, topic, partitions_count, records_count):
        """From the beginning of every partition until so many records have come."""
        partitions = [part for index in range(partitions_count) for part in ("-p", index)]
        said = self.run("-C", "-t", topic, *partitions, "-b", address, "-o", "beginning",
                        "-c", records_count)
        found = re.findall(r"^% (\d+) messages \((\d+) bytes\) consumed in (\d+)ms", said,
                           re.MULTILINE)
        expect(found, f"rdkafka_performance did not say how fast it was:\n{said[-500:]}")
        records, size_bytes, milliseconds = map(int, found[-1])
        expect(records >= records_count, f"only {records} of {records_count} records came")
        return {"bytes": size_bytes, "seconds": milliseconds / 1000,
                "bytes_per_second": size_bytes / milliseconds * 1000}

    def run(self, *arguments):
        return run([self.program, *arguments, "-q"], seconds_max=RUN_SECONDS_MAX,
                   may_fail=True).decode(errors="replace")


def build_librdkafka():
    """Builds librdkafka and its tool from the source inside the crate `rdkafka-sys`."""
    folder = BUILD / "librdkafka" / f"{LIBRDKAFKA_VERSION}-optimized"
    program = folder / "examples" / "rdkafka_performance"
    if program.exists():
        return program
    work = folder.with_suffix(".building")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(crates.packed("rdkafka-sys", LIBRDKAFKA_VERSION) / "librdkafka", work)
    run(["./configure", *LIBRDKAFKA_CONFIGURE], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    run(["make", f"-j{os.cpu_count()}", "libs"], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    run(["make", "-C", "examples", "rdkafka_performance"], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    work.rename(folder)
    if not program.exists():
        raise Failed(f"{program} was not built")
    return program


def write_json(file, value):
    file.write_text(json.dumps(value) + "\n")
