"""Kafka's own tools: topics, produce, consume, offsets, API versions, dump."""

import re

from harness import LeftOut, expect, expect_equal
from tools import ToolSuite

PERF_RECORDS_COUNT = 100_000
DUMP_RECORDS_COUNT = 300_000  # numbers in batches of 16 KiB: about 4 MB, so 4 segments or more
SEGMENT_BYTES = 1 << 20  # the least that Kafka takes

DUMPED_RECORD = re.compile(rb"^\| offset: (\d+) .* payload: (.*)$", re.MULTILINE)
USABLE_API = re.compile(r"^\t(\w+)\(\d+\): .*\[usable: (\d+)\]", re.MULTILINE)
SEGMENT_NAME = re.compile(r"\d{20}\.log")


class KafkaTools(ToolSuite):
    name = "kafka-tools"

    def check_kafka_topics_creates_lists_describes_alters_and_deletes(self):
        topic = self.topic("tool")
        said = self.tool("TopicCommand", "--create", "--topic", topic, "--partitions", "3",
                         "--config", "retention.ms=7200000")
        expect(f"Created topic {topic}." in said, f"create says {said!r}")
        expect(topic in self.tool("TopicCommand", "--list").splitlines(), "it is not listed")
        said = self.tool("TopicCommand", "--describe", "--topic", topic)
        for part in ["PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=7200000",
                     "Partition: 2", "Isr: "]:
            expect(part in said, f"describe does not say {part!r}: {said!r}")
        self.tool("TopicCommand", "--alter", "--topic", topic, "--partitions", "5")
        said = self.tool("TopicCommand", "--describe", "--topic", topic)
        expect("PartitionCount: 5" in said, f"describe after alter says {said!r}")
        self.tool("TopicCommand", "--delete", "--topic", topic)
        expect(topic not in self.tool("TopicCommand", "--list").splitlines(), "still listed")

    def check_producer_perf_test_get_offsets_and_console_consumer(self):
        topic = self.topic("perf")
        self.produce_numbers(topic, PERF_RECORDS_COUNT)
        said = self.tool("GetOffsetShell", "--topic", topic)
        expect_equal(said.strip(), f"{topic}:0:{PERF_RECORDS_COUNT}", "latest offset")
        said = self.tool("GetOffsetShell", "--topic", topic, "--time", "-2")
        expect_equal(said.strip(), f"{topic}:0:0", "earliest offset")
        for first, count in [(0, PERF_RECORDS_COUNT), (PERF_RECORDS_COUNT - 10, 10)]:
            said = self.tool("consumer.ConsoleConsumer", "--topic", topic, "--partition", "0",
                             "--offset", first, "--max-messages", count)
            expected = [str(number) for number in range(first, first + count)]
            expect_equal(said.split(), expected, f"records from {first}")

    def check_producer_perf_test_with_every_acks_and_codec(self):
        topic = self.topic("perf-codecs")
        count = 20_000
        for acks, codec in [("0", "lz4"), ("1", "zstd"), ("all", "snappy"), ("all", "gzip")]:
            said = self.tool(
                "ProducerPerformance", "--topic", topic, "--num-records", count, "--record-size",
                "200", "--throughput", "-1", "--command-property", f"acks={acks}",
                f"compression.type={codec}",
            )
            expect(f"{count} records sent" in said.splitlines()[-1], f"the tool says {said!r}")
        said = self.tool("GetOffsetShell", "--topic", topic)
        expect_equal(said.strip(), f"{topic}:0:{4 * count}", "latest offset")

    def check_consumer_perf_test(self):
        topic = self.topic("perf")
        said = self.tool("ConsumerPerformance", "--topic", topic, "--num-records",
                         PERF_RECORDS_COUNT, "--hide-header")
        figures = said.splitlines()[-1].split(", ")
        # After two times, the megabytes and their rate.
        expect_equal(int(figures[4]), PERF_RECORDS_COUNT, f"records in {said!r}")

    def check_kafka_broker_api_versions(self):
        said = self.tool("BrokerApiVersionsCommand")
        expect(said.startswith(f"{self.broker.address} (id: "), f"it begins with {said!r:.200}")
        usable = {name: int(version) for name, version in USABLE_API.findall(said)}
        for name in ["Produce", "Fetch", "Metadata", "CreateTopics", "ConsumerGroupHeartbeat"]:
            expect(usable.get(name, 0) > 0, f"{name} is not usable: {said!r}")
        expect("UNKNOWN" not in said, f"the client does not know all of {said!r}")

    def check_kafka_dump_log_reads_closed_segments_and_their_indexes(self):
        topic = self.topic("dump")
        self.tool("TopicCommand", "--create", "--topic", topic, "--config",
                  f"segment.bytes={SEGMENT_BYTES}", "--config", "index.interval.bytes=4096")
        self.produce_numbers(topic, DUMP_RECORDS_COUNT)
        segments = self.segments(topic)
        expect(len(segments) >= 3, f"only {len(segments)} segments")
        self.compare_dump(segments[:-1], int(segments[-1].stem))
        indexes = [segment.with_suffix(suffix) for segment in segments[:-1]
                   for suffix in (".index", ".timeindex")]
        missing = [str(index) for index in indexes if not index.exists()]
        expect(not missing, f"no index files {missing}")
        said = self.tool("DumpLogSegments", "--files", ",".join(map(str, indexes)),
                         bootstrap=False)
        for complaint in ["Mismatch", "mismatch", "out of order", "corrupt"]:
            expect(complaint not in said, f"the tool complains: {said[-1500:]}")

    def check_kafka_dump_log_reads_the_last_segment_after_a_clean_stop(self):
        codecs = ["gzip", "zstd"]
        for codec in codecs:
            self.tool("TopicCommand", "--create", "--topic", self.topic(codec), "--config",
                      f"compression.type={codec}")
            self.produce_numbers(self.topic(codec), 1_000)
        self.broker.stop()
        self.compare_dump(self.segments(self.topic("dump")), DUMP_RECORDS_COUNT)
        for codec in codecs:
            segments = self.segments(self.topic(codec))
            self.compare_dump(segments, 1_000)
            said = self.tool("DumpLogSegments", "--files", segments[0], bootstrap=False)
            found = set(re.findall(r"compresscodec: (\w+)", said))
            expect_equal(found, {codec}, "codecs of what was sent uncompressed")

    def segments(self, topic):
        """The log files of the one topic that has many, wherever the broker keeps its partitions."""
        if self.broker.data_dir is None:
            raise LeftOut("where the broker's files are was not told")
        folders = {}
        for path in self.broker.data_dir.rglob("*.log"):
            if SEGMENT_NAME.fullmatch(path.name):
                folders.setdefault(path.parent, []).append(path)
        named = {folder: paths for folder, paths in folders.items() if topic in folder.name}
        choice = named or folders
        expect(choice, f"no log files in {self.broker.data_dir}")
        return sorted(max(choice.values(), key=len))

    def compare_dump(self, segments, records_count):
        """The tool finds the records 0 to `records_count`, in order, each with its own number."""
        said = self.tool("DumpLogSegments", "--print-data-log", "--files",
                         ",".join(map(str, segments)), bootstrap=False).encode()
        numbers = [(int(offset), int(payload)) for offset, payload in DUMPED_RECORD.findall(said)]
        expected = [(number, number) for number in range(records_count)]
        expect_equal(numbers, expected, "offsets and payloads")
        expect(b"isvalid: false" not in said, "the tool found a wrong checksum")


SUITES = [KafkaTools]
