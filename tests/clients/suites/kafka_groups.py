"""Kafka's own tools for groups: consumers, offsets, and the records that the coordinator keeps."""

import json
import subprocess
import time

from harness import Failed, expect, expect_equal, text
from tools import ToolSuite

GROUPS = "consumer.group.ConsumerGroupCommand"
CONSUMER = "consumer.ConsoleConsumer"
OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS_COUNT = 50

RECORDS_COUNT = 100
PARTITIONS_COUNT = 2
MEMBER_SECONDS_MAX = 60  # until a member of a new group has its partitions, or is gone again
ASSIGNORS = {"classic": "range", "consumer": "uniform"}


class KafkaGroups(ToolSuite):
    name = "kafka-groups"
    settings = {"group.initial.rebalance.delay.ms": "0"}  # each of these tools is a new group

    def check_the_formatters_read_what_the_coordinator_wrote(self):
        topic, group = self.filled_topic("formatted"), f"{self.mark}-formatted"
        self.consume_all(topic, group, "classic")
        ends = self.end_offsets(topic)
        offsets = self.formatted("Offsets", group)
        expect_equal({key["partition"]: value["data"]["offset"] for key, value in offsets}, ends,
                     "offsets of the consumer")
        for key, value in offsets:
            expect_equal(key["topic"], topic, "topic")
            expect_equal(value["data"]["metadata"], "", "metadata")
        described = self.tool("TopicCommand", "--describe", "--topic", topic)
        expect_equal({value["data"]["topicId"] for _, value in offsets},
                     {described.split("TopicId: ")[1].split()[0]}, "topic ids")
        self.compare_metadata([value["data"] for _, value in self.formatted("GroupMetadata", group)
                               if value["data"]["generation"] > 0])  # Kafka begins with an empty 0

        self.tool(GROUPS, "--group", group, "--reset-offsets", "--topic", f"{topic}:0",
                  "--to-earliest", "--execute")
        self.tool(GROUPS, "--group", group, "--delete-offsets", "--topic", f"{topic}:1")
        later = self.formatted("Offsets", group)[len(offsets):]
        told = [(key["partition"], value and value["data"]["offset"]) for key, value in later]
        expect_equal(told, [(0, 0), (1, None)], "offsets of the tool")

    def compare_metadata(self, generations):
        """One member came to the group, and left it."""
        for data in generations:
            expect_equal(data["protocolType"], "consumer", "protocol type")
        members = [(data["protocol"], data["leader"], data["members"]) for data in generations]
        joined = [(protocol, leader, held) for protocol, leader, held in members if held]
        expect(joined, f"no generation has a member: {generations}")
        for protocol, leader, held in joined:
            expect_equal([protocol, len(held)], ["range", 1], "protocol and members")
            expect_equal(held[0]["memberId"], leader, "the leader")
            expect_equal(held[0]["clientId"], "console-consumer", "client id")
            expect_equal(held[0]["clientHost"], "/127.0.0.1", "client host")
        expect_equal(members[-1], (None, None, []), "the last generation")
        numbers = [data["generation"] for data in generations]
        expect_equal(numbers, sorted(numbers), "generations")

    def check_kafka_consumer_groups_on_a_classic_group(self):
        self.use_groups_tool("classic")

    def check_kafka_consumer_groups_on_a_group_of_the_new_protocol(self):
        self.use_groups_tool("consumer")

    def use_groups_tool(self, protocol):
        topic, group = self.filled_topic(protocol), f"{self.mark}-{protocol}"
        with self.member(topic, group, protocol):
            self.describe_members(group)
            self.describe_state(group, protocol, "Stable", 1)
            self.refused(group, "but the current state is Stable", "--reset-offsets",
                         "--all-topics", "--to-earliest", "--execute")
            self.refused(group, "GroupNotEmptyException", "--delete")
        self.describe_state(group, protocol, "Empty", 0)
        ends = self.end_offsets(topic)
        self.describe_offsets(group, topic, ends, ends)
        reset = ("--group", group, "--reset-offsets", "--topic", topic, "--to-earliest")
        said = self.tool(GROUPS, *reset, "--dry-run")
        expect_equal(len(rows(said, group)), PARTITIONS_COUNT, "partitions that would be reset")
        self.describe_offsets(group, topic, ends, ends)
        self.tool(GROUPS, *reset, "--execute")
        self.describe_offsets(group, topic, {partition: 0 for partition in ends}, ends)
        listed = rows(self.tool("GroupsCommand", "--list"), group)
        expect_equal(listed, [[group, protocol.capitalize(), "consumer"]], "kafka-groups says")
        self.tool(GROUPS, "--delete", "--group", group)
        expect(group not in self.tool(GROUPS, "--list").splitlines(), "it is still listed")
        self.refused(group, "GroupIdNotFoundException", "--describe")

    def describe_members(self, group):
        deadline = time.monotonic() + MEMBER_SECONDS_MAX
        while True:
            said = self.tool(GROUPS, "--describe", "--members", "--group", group, may_fail=True)
            found = [row[2:] for row in rows(said, group)]
            if found == [["/127.0.0.1", "console-consumer", str(PARTITIONS_COUNT)]]:
                return
            expect(time.monotonic() < deadline, f"members: {said!r}")

    def describe_state(self, group, protocol, state, members_count):
        said = self.tool(GROUPS, "--describe", "--state", "--group", group)
        assignor = "-" if (protocol, state) == ("classic", "Empty") else ASSIGNORS[protocol]
        expect_equal(rows(said, group), [[group, self.broker.address, "(1)", assignor, state,
                                          str(members_count)]], "state")
        said = self.tool(GROUPS, "--list", "--state", state, "--type", protocol)
        expect_equal(rows(said, group), [[group, protocol.capitalize(), state]], "listed")

    def describe_offsets(self, group, topic, offsets, ends):
        said = self.tool(GROUPS, "--describe", "--offsets", "--group", group)
        expected = [[group, topic, *map(str, (partition, offsets[partition], end,
                                              end - offsets[partition])), "-", "-", "-"]
                    for partition, end in sorted(ends.items())]
        expect_equal(sorted(rows(said, group)), expected, "offsets")

    def refused(self, group, complaint, *arguments):
        said = self.tool(GROUPS, "--group", group, *arguments, may_fail=True)
        expect(complaint in said, f"the tool does not say {complaint!r}: {said!r}")

    # ---- what the checks share --------------------------------------------------------------

    def filled_topic(self, name):
        topic = self.topic(name)
        self.tool("TopicCommand", "--create", "--topic", topic, "--partitions", PARTITIONS_COUNT)
        self.produce_numbers(topic, RECORDS_COUNT)
        return topic

    def end_offsets(self, topic):
        lines = self.tool("GetOffsetShell", "--topic", topic).splitlines()
        return {int(partition): int(end) for _, partition, end in
                (line.rsplit(":", 2) for line in lines)}

    def consumer_arguments(self, topic, group, protocol):
        return ["--topic", topic, "--group", group, "--from-beginning", "--command-property",
                f"group.protocol={protocol}"]

    def consume_all(self, topic, group, protocol):
        said = self.tool(CONSUMER, *self.consumer_arguments(topic, group, protocol),
                         "--max-messages", RECORDS_COUNT)
        expect_equal(sorted(map(int, said.split())), list(range(RECORDS_COUNT)), "records")

    def formatted(self, name, group):
        """What that formatter prints of the group's partition: keys with their values, in order."""
        partition = java_hash(group) % OFFSETS_PARTITIONS_COUNT
        count = self.end_offsets(OFFSETS_TOPIC)[partition]
        said = self.tool(
            CONSUMER, "--topic", OFFSETS_TOPIC, "--partition", partition, "--offset", "earliest",
            "--max-messages", count, "--formatter",
            f"org.apache.kafka.tools.consumer.{name}MessageFormatter",
        )
        found, at, decoder = [], 0, json.JSONDecoder()
        while at < len(said):  # one after the other, with nothing between
            record, at = decoder.raw_decode(said, at)
            if record["key"]["data"]["group"] == group:
                found.append((record["key"]["data"], record["value"]))
        return found

    def member(self, topic, group, protocol):
        command = self.command(CONSUMER, *self.consumer_arguments(topic, group, protocol))
        return Member(command, self.folder / f"{protocol}-member.out")


class Member:
    """A console consumer in the background: within `with`, until all has come; then it leaves."""

    def __init__(self, command, said_file):
        self.command, self.said_file = command, said_file

    def __enter__(self):
        with open(self.said_file, "wb") as said:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            self.wait_for_records()
        except Failed:
            self.end()
            raise
        return self

    def wait_for_records(self):
        deadline = time.monotonic() + MEMBER_SECONDS_MAX
        while len(numbers(said := text(self.said_file.read_bytes()))) < RECORDS_COUNT:
            expect(self.process.poll() is None, f"the consumer ended: {said!r}")
            expect(time.monotonic() < deadline, f"records did not come: {said!r}")
            time.sleep(0.05)

    def __exit__(self, *error):
        self.process.terminate()  # it commits and leaves the group
        try:
            self.process.wait(MEMBER_SECONDS_MAX)
        except subprocess.TimeoutExpired as late:
            raise Failed("the consumer did not leave") from late
        finally:
            self.end()

    def end(self):
        self.process.kill()
        self.process.wait()


def numbers(said):
    return [line for line in said.splitlines() if line.isdigit()]


def rows(said, group):
    """Lines of a table that begin with the group, as words."""
    return [words for words in map(str.split, said.splitlines()) if words and words[0] == group]


def java_hash(word):
    """The magnitude of what Java's String.hashCode gives for ASCII; Kafka has 0 for the least."""
    code = 0
    for letter in word.encode("ascii"):
        code = (31 * code + letter) & 0xFFFFFFFF
    return min(code, (1 << 32) - code) & 0x7FFFFFFF


SUITES = [KafkaGroups]
