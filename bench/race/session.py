"""One broker in one run: started on an empty directory, warmed up, measured, gone with its data."""

import json
import os
import shutil

import brokers
import clients
import machine
from harness import Failed, run

WARMUP_SECONDS = 20  # until Kafka's compiler has seen what is measured, and each has its memory
CREATE_SECONDS_MAX = 120

# Records a second that a client that takes a number of records, not a time, is expected to send in
# the first run; later runs take what was measured.
FIRST_RATES = {
    "kafka-producer": {"k0": 120_000, "k1": 6_000, "ringmain": 120_000},
    "librdkafka-16": {"k0": 350_000, "k1": 250_000, "ringmain": 600_000},
    "librdkafka-1000": {"k0": 250_000, "ringmain": 400_000},
    "librdkafka-4000": {"k0": 150_000, "ringmain": 300_000},
    "librdkafka-10000": {"ringmain": 300_000},
}


class Tools:
    """What all sessions share: the programs, the machine, where results go."""

    def __init__(self, options, memory, disk):
        self.binaries = options.binaries
        self.data_dir = options.data_dir
        self.documents_folder = options.out / "runs"
        self.is_quick = options.quick
        self.memory, self.disk = memory, disk
        self.generator = clients.Generator(options.binaries / "ringmain-bench")
        self.kafka_tools = clients.KafkaTools()
        self.librdkafka = clients.Librdkafka()
        self.labels = {name: brokers.label_of(name, options.binaries) for name in options.brokers}
        self.rates = {}  # (measurement, broker) -> records a second, as last measured


class Session:
    def __init__(self, tools, name, run_number):
        self.tools = tools
        self.name = name
        self.run_number = run_number
        self.folder = tools.data_dir / name
        self.topics = set()
        self.is_warm = False
        self.generator, self.disk = tools.generator, tools.disk
        self.kafka_tools, self.librdkafka = tools.kafka_tools, tools.librdkafka

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        machine.touch_free_memory()
        self.broker = brokers.broker_of(self.name, self.folder, self.tools.binaries)
        self.address = self.broker.address
        try:
            self.started_s = self.broker.start()
        except Failed:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.broker.end()
        self.remove()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.name in brokers.KAFKAS:
            self.tools.memory.fill()  # what the page cache held of it, before the host has it back
        os.sync()  # and the file system has told the disk what is free now

    def warm_up(self):
        """Requests of one record, then batches of the sizes that are measured, then reading."""
        if self.is_warm:
            return
        self.is_warm = True
        produce = ("produce", *self.target("warm-up"), "--acks", "all", "--warmup", "0s")
        small = ("--record-bytes", "100", "--batch-bytes", "1", "--request-bytes", "1",
                 "--connections", "8", "--in-flight", "4")
        self.generator.run(*produce, *small, "--duration", f"{WARMUP_SECONDS * 0.4:.1f}s")
        for size in ("16K", "930000"):
            self.generator.run(*produce, "--batch-bytes", size, "--request-bytes", size,
                               "--duration", f"{WARMUP_SECONDS * 0.2:.1f}s")
        read = ("fetch", *self.address_flags("warm-up"), "--from", "earliest", "--repeat",
                "--warmup", "0s")
        self.generator.run(*read, "--duration", f"{WARMUP_SECONDS * 0.2:.1f}s")

    # ---- flags of ringmain-bench ---------------------------------------------------------------

    def address_flags(self, topic):
        return ["--brokers", self.address, "--topic", topic]

    def target(self, topic):
        self.topics.add(topic)
        return self.address_flags(topic)

    def seconds(self, value):
        """A measured time; a quick race halves it."""
        return value / 2 if self.tools.is_quick else value

    def timed(self, seconds, warmup="1s"):
        return ["--duration", f"{self.seconds(seconds):g}s", "--warmup", warmup]

    def load(self, name, kind, *flags):
        """Runs a workload of ringmain-bench that counts, with the broker's cost; keeps its result.
        The page shows results of one name beside each other."""
        file = self.tools.documents_folder / f"{name}.{self.name}.{self.run_number}.json"
        self.generator.run(kind, *flags, "--json", file, "--label", self.tools.labels[self.name],
                           "--broker-pid", self.broker.process.pid)
        result = {**json.loads(file.read_text()), "name": name}
        clients.write_json(file, result)
        return result

    # ---- topics and expectations ---------------------------------------------------------------

    def has(self, topic):
        return topic in self.topics

    def create_topic(self, name, partitions_count=16):
        self.topics.add(name)
        run([self.tools.binaries / "ringmain", "topics", "create", name, "--partitions",
             str(partitions_count), "--if-not-exists", "-b", self.address, "--timeout",
             str(CREATE_SECONDS_MAX)], seconds_max=CREATE_SECONDS_MAX + 5)
        self.generator.ready(self.address, name, partitions_count, CREATE_SECONDS_MAX)

    def expected_rate(self, measurement):
        known = self.tools.rates.get((measurement, self.name))
        return known or FIRST_RATES[measurement][self.name]

    def remember_rate(self, measurement, records_per_second):
        self.tools.rates[(measurement, self.name)] = records_per_second
