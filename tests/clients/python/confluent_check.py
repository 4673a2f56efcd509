"""confluent-kafka: contents, order and offsets of what is written, groups of both protocols, admin.

usage: confluent_check.py BROKER PREFIX, PREFIX being of names that nobody uses
"""

import itertools
import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING, Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions,
    ConsumerGroupType, IsolationLevel, KafkaError, KafkaException, Producer, TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions,
    NewTopic, OffsetSpec, ResourceType,
)

from checks import Deadline, check, expect, expect_equal, for_each, records, run_all

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
REBALANCING = [KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS,
               KafkaError.STALE_MEMBER_EPOCH]
PROTOCOLS = ["range", "roundrobin", "cooperative-sticky", "consumer"]
RECORDS_COUNT = 3_000
PARTITIONS_COUNT = 6
NAMES = itertools.count()


class Broker:
    def __init__(self, address, prefix):
        self.address, self.prefix = address, prefix
        self.admin = AdminClient({"bootstrap.servers": address})

    def name(self, what):
        return f"{self.prefix}{next(NAMES)}-{what}"

    def create(self, what, partitions_count=1, **settings):
        topic = self.name(what)
        config = {name.replace("_", "."): value for name, value in settings.items()}
        done(self.admin.create_topics([NewTopic(topic, partitions_count, 1, config=config)]))
        return topic

    def producer(self, **settings):
        return Producer({"bootstrap.servers": self.address, "acks": "all", **dotted(settings)})

    def consumer(self, group, **settings):
        return Consumer({
            "bootstrap.servers": self.address, "group.id": group, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", **dotted(settings),
        })

    def fill(self, topic, count, partitions_count=1, **settings):
        """Values 0 to `count` by turns to the partitions; offset of value n: n // partitions."""
        with Closing(self.producer(**settings)) as producer:
            for number in range(count):
                produce(producer, topic, str(number).encode(), number % partitions_count)


class Closing:
    """Flushes a producer, closes a consumer."""

    def __init__(self, client):
        self.client = client

    def __enter__(self):
        return self.client

    def __exit__(self, kind, error, _):
        if isinstance(self.client, Producer):
            left_count = self.client.flush(30)
            expect(kind or left_count == 0, f"{left_count} records not delivered after 30 s")
        else:
            self.client.close()


def dotted(settings):
    return {name.replace("_", "."): value for name, value in settings.items()}


def done(futures, seconds=30):
    """The results of an admin call by name; the first error is raised."""
    return {name: future.result(seconds) for name, future in futures.items()}


def refused(futures):
    """The names of the errors of an admin call, each of which must have failed."""
    return [error_of(future.result) for future in futures.values()]


def error_of(call, *arguments):
    try:
        call(*arguments)
    except KafkaException as error:
        return error.args[0].name()
    raise AssertionError("it was not refused")


def raise_for(error, _):
    if error is not None:
        raise KafkaException(error)


def produce(producer, topic, value, partition, **more):
    more.setdefault("on_delivery", raise_for)
    while True:
        try:
            return producer.produce(topic, value, partition=partition, **more)
        except BufferError:
            producer.poll(0.1)


def poll(consumer, count, seconds=30):
    """The next `count` records."""
    deadline, messages = Deadline(seconds), []
    while len(messages) < count:
        deadline.is_ahead(lambda: f"{count} records, {len(messages)} came")
        for message in consumer.consume(count - len(messages), 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    return messages


def poll_nothing(consumer, seconds):
    """A consumer has to be polled to take part in its group; no record may come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        message = consumer.poll(0.1)
        expect(message is None or message.error(), f"a record came: {message and message.value()}")


# ---- records ---------------------------------------------------------------------------------


@for_each(codec=CODECS)
def contents_order_and_offsets_with(broker, codec):
    topic = broker.create("records", 2)
    made = records(RECORDS_COUNT, seed=41)
    offsets = []
    producer = broker.producer(
        compression_type=codec, enable_idempotence=True, linger_ms=5, batch_num_messages=500)

    def delivered(error, message):
        raise_for(error, message)
        offsets.append((message.partition(), message.offset()))

    with Closing(producer):
        for number, (key, value, headers, stamp) in enumerate(made):
            produce(producer, topic, value, number % 2, key=key, headers=headers, timestamp=stamp,
                    on_delivery=delivered)
    expected = [(partition, offset) for partition in range(2)
                for offset in range(RECORDS_COUNT // 2)]
    expect_equal(sorted(offsets), expected, "offsets of the deliveries")
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        for partition in range(2):
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
            got = [(m.offset(), m.key(), m.value(), m.headers() or [], m.timestamp()[1])
                   for m in poll(consumer, RECORDS_COUNT // 2)]
            want = [(offset, *record) for offset, record in enumerate(made[partition::2])]
            expect_equal(got, want, f"records of partition {partition}")


@for_each(acks=["0", "1", "all"])
def records_arrive_with_acks(broker, acks):
    topic = broker.create("acks")
    broker.fill(topic, 500, acks=acks)
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        got = [(m.offset(), m.value()) for m in poll(consumer, 500)]
    expect_equal(got, [(n, str(n).encode()) for n in range(500)], "records")


@check
def idempotent_producers_keep_the_order_with_five_requests_in_flight(broker):
    topic = broker.create("idempotent")
    producers = [broker.producer(enable_idempotence=True, linger_ms=0, batch_num_messages=3,
                                 max_in_flight_requests_per_connection=5) for _ in range(3)]
    for number in range(2_000):
        for index, producer in enumerate(producers):
            produce(producer, topic, f"{index} {number}".encode(), 0)
            producer.poll(0)
    for producer in producers:
        expect_equal(producer.flush(30), 0, "records left")
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages = poll(consumer, 6_000)
        poll_nothing(consumer, 0.5)
    expect_equal([m.offset() for m in messages], list(range(6_000)), "offsets")
    for index in range(3):
        mine = [m.value() for m in messages if m.value().startswith(f"{index} ".encode())]
        expect_equal(mine, [f"{index} {n}".encode() for n in range(2_000)], f"of producer {index}")


@check
def a_record_that_is_too_large_is_refused_alone(broker):
    topic = broker.create("large", max_message_bytes="20000")
    told = []
    with Closing(broker.producer(linger_ms=0)) as producer:
        for size in (1_000, 30_000, 2_000):
            produce(producer, topic, b"x" * size, 0,
                    on_delivery=lambda error, m: told.append((error and error.name(), len(m))))
            producer.flush(30)
    expect_equal(told, [(None, 1_000), ("MSG_SIZE_TOO_LARGE", 30_000), (None, 2_000)], "outcomes")


@check
def log_append_time_is_the_brokers(broker):
    topic = broker.create("stamps", message_timestamp_type="LogAppendTime")
    before_ms = time.time() * 1000
    with Closing(broker.producer()) as producer:
        produce(producer, topic, b"v", 0, timestamp=1_000)
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        kind, stamp_ms = poll(consumer, 1)[0].timestamp()
    expect_equal(kind, 2, "type of the timestamp")
    expect(before_ms - 1 <= stamp_ms <= time.time() * 1000 + 1, f"{stamp_ms} is not now")


@check
def positions_seek_pause_and_watermarks(broker):
    topic = broker.create("positions", 2)
    broker.fill(topic, 200, 2)
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        consumer.assign([TopicPartition(topic, 0, 10), TopicPartition(topic, 1, 20)])
        consumer.pause([second])
        got = [(m.partition(), m.offset()) for m in poll(consumer, 90)]
        expect_equal(got, [(0, offset) for offset in range(10, 100)], "with one paused")
        poll_nothing(consumer, 0.5)
        consumer.resume([second])
        got = [(m.partition(), m.offset()) for m in poll(consumer, 80)]
        expect_equal(got, [(1, offset) for offset in range(20, 100)], "of the resumed")
        expect_equal([p.offset for p in consumer.position([first, second])], [100, 100], "position")
        consumer.seek(TopicPartition(topic, 0, 95))
        expect_equal([m.offset() for m in poll(consumer, 5)], list(range(95, 100)), "after seek")
        expect_equal(consumer.get_watermark_offsets(first, timeout=10), (0, 100), "watermarks")


@check
def offsets_are_found_by_time(broker):
    topic = broker.create("times")
    with Closing(broker.producer()) as producer:
        for number in range(100):
            produce(producer, topic, b"v", 0, timestamp=1_000_000 + 10 * number)
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        for stamp, offset in [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_000_990, 99),
                              (1_000_991, -1)]:
            [found] = consumer.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=10)
            expect_equal(found.offset, offset, f"offset of {stamp}")


@check
def an_offset_out_of_range_goes_where_the_policy_says(broker):
    topic = broker.create("range")
    broker.fill(topic, 10)
    for policy, offset in [("earliest", 0), ("latest", 10)]:
        with Closing(broker.consumer(broker.name("none"), auto_offset_reset=policy)) as consumer:
            consumer.assign([TopicPartition(topic, 0, 1_000)])
            if policy == "earliest":
                expect_equal(poll(consumer, 1)[0].offset(), offset, policy)
            else:
                poll_nothing(consumer, 1.5)
                broker.fill(topic, 1)
                expect_equal(poll(consumer, 1)[0].offset(), offset, policy)
    with Closing(broker.consumer(broker.name("none"), auto_offset_reset="error")) as consumer:
        consumer.assign([TopicPartition(topic, 0, 1_000)])
        message = consumer.poll(10)
        expect(message is not None and message.error(), "no error came")
        expect_equal(message.error().code(), KafkaError._AUTO_OFFSET_RESET, "error")


@check
def read_committed_sees_what_has_no_transaction(broker):
    topic = broker.create("isolation")
    broker.fill(topic, 50, enable_idempotence=True)
    with Closing(broker.consumer(broker.name("none"), isolation_level="read_committed")) as reader:
        reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        expect_equal([m.offset() for m in poll(reader, 50)], list(range(50)), "offsets")


# ---- groups ----------------------------------------------------------------------------------


def of_protocol(protocol):
    """The settings of a member; classic ones by the name of their assignor."""
    if protocol == "consumer":
        return {"group_protocol": "consumer"}
    return {"group_protocol": "classic", "partition_assignment_strategy": protocol,
            "session_timeout_ms": 6_000, "heartbeat_interval_ms": 500}


class Members:
    """Members of one group, polled by turns.

    `got` has what they read, `(index of the member, partition, offset, value)`, each record once
    its offset is committed: what is read in the middle of a rebalance may not be anybody's.
    """

    def __init__(self, broker, group, topics, protocol):
        self.broker, self.group, self.topics, self.protocol = broker, group, topics, protocol
        self.consumers, self.got = [], []
        self.pending = {}  # of each member: what it has read and not committed, by where it is

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for consumer in self.consumers:
            consumer.close()

    def join(self, on_revoke=None, **settings):
        consumer = self.broker.consumer(self.group, **of_protocol(self.protocol), **settings)
        listeners = {"on_revoke": on_revoke} if on_revoke else {}
        consumer.subscribe(self.topics, **listeners)
        self.consumers.append(consumer)
        return consumer

    def leave(self, consumer):
        self.consumers.remove(consumer)
        self.pending.pop(consumer, None)
        consumer.close()

    def poll(self):
        for index, consumer in enumerate(self.consumers):
            pending = self.pending.setdefault(consumer, {})
            for message in consumer.consume(500, 0.1):
                if message.error():
                    raise KafkaException(message.error())
                pending[message.topic(), message.partition(), message.offset()] = message.value()
            if self.commit(consumer, pending):
                self.got += [(index, partition, offset, value)
                             for (_, partition, offset), value in sorted(pending.items())]
                pending.clear()

    def commit(self, consumer, pending):
        """Whether the group took it; what is somebody else's by now is struck from `pending`."""
        mine = {(p.topic, p.partition) for p in consumer.assignment()}
        for place in [place for place in pending if place[:2] not in mine]:
            del pending[place]
        ends = {}
        for topic, partition, offset in sorted(pending):
            ends[topic, partition] = offset + 1
        try:
            offsets = [TopicPartition(*place, end) for place, end in ends.items()]
            if offsets:
                consumer.commit(offsets=offsets, asynchronous=False)
            return True
        except KafkaException as error:
            if error.args[0].code() in REBALANCING:
                return False
            raise

    def shares(self):
        return [sorted((p.topic, p.partition) for p in c.assignment()) for c in self.consumers]

    def settle(self, partitions_count, seconds=60):
        """Polls until every partition has one owner and every member a fair share."""
        deadline = Deadline(seconds)
        fair = [partitions_count // len(self.consumers),
                -(-partitions_count // len(self.consumers))]
        while deadline.is_ahead(lambda: f"a fair share for all: {self.shares()}"):
            self.poll()
            shares = self.shares()
            owned = sum(shares, [])
            if (len(owned) == len(set(owned)) == partitions_count
                    and all(len(share) in fair for share in shares)):
                return shares

    def read(self, count, seconds=60):
        deadline = Deadline(seconds)
        while len(self.got) < count:
            deadline.is_ahead(lambda: f"{count} records, {len(self.got)} came")
            self.poll()


@for_each(protocol=PROTOCOLS)
def a_group_shares_its_partitions_and_loses_nothing_with(broker, protocol):
    topic, group = broker.create("shared", PARTITIONS_COUNT), broker.name("group")
    broker.fill(topic, 300, PARTITIONS_COUNT)
    with Members(broker, group, [topic], protocol) as members:
        first = members.join()
        members.settle(PARTITIONS_COUNT)
        members.join()
        members.settle(PARTITIONS_COUNT)
        broker.fill(topic, 300, PARTITIONS_COUNT)
        members.read(600)
        expect_equal({index for index, *_ in members.got[-300:]}, {0, 1}, "who read the second")
        members.leave(first)
        members.settle(PARTITIONS_COUNT)
        broker.fill(topic, 300, PARTITIONS_COUNT)
        members.read(900)
        members.poll()
        got = sorted((partition, offset, value) for _, partition, offset, value in members.got)
    per_fill = 300 // PARTITIONS_COUNT
    want = [(partition, offset, str(offset % per_fill * PARTITIONS_COUNT + partition).encode())
            for partition in range(PARTITIONS_COUNT) for offset in range(3 * per_fill)]
    expect_equal(got, want, "what all read together, each record once")
    [state] = broker.admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)]).values()
    committed = {p.partition: p.offset for p in state.result(10).topic_partitions}
    expect_equal(committed, dict.fromkeys(range(PARTITIONS_COUNT), 3 * per_fill), "committed")


@for_each(protocol=PROTOCOLS)
def a_group_goes_on_where_it_committed_with(broker, protocol):
    topic, group = broker.create("resume"), broker.name("group")
    broker.fill(topic, 100)
    with Closing(broker.consumer(group, **of_protocol(protocol))) as consumer:
        consumer.subscribe([topic])
        expect_equal([m.offset() for m in poll(consumer, 100)], list(range(100)), "first read")
        consumer.commit(offsets=[TopicPartition(topic, 0, 40, "half-way")], asynchronous=False)
        [held] = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        expect_equal((held.offset, held.metadata), (40, "half-way"), "committed")
    with Closing(broker.consumer(group, **of_protocol(protocol))) as consumer:
        consumer.subscribe([topic])
        expect_equal([m.offset() for m in poll(consumer, 60)], list(range(40, 100)), "resumed")


@for_each(protocol=["range", "consumer"])
def what_is_read_is_committed_by_itself_with(broker, protocol):
    topic, group = broker.create("auto"), broker.name("group")
    broker.fill(topic, 50)
    settings = {**of_protocol(protocol), "enable_auto_commit": True}
    with Closing(broker.consumer(group, **settings)) as consumer:
        consumer.subscribe([topic])
        poll(consumer, 50)
    broker.fill(topic, 5)
    with Closing(broker.consumer(group, **settings)) as consumer:
        consumer.subscribe([topic])
        expect_equal([m.offset() for m in poll(consumer, 5)], list(range(50, 55)), "resumed")


@for_each(protocol=["range", "consumer"])
def a_static_member_that_comes_back_keeps_its_partitions_with(broker, protocol):
    topic, group = broker.create("static", 4), broker.name("group")
    with Members(broker, group, [topic], protocol) as members:
        revoked = []
        stays = members.join(lambda _, partitions: revoked.extend(partitions),
                             group_instance_id="stays")
        goes = members.join(group_instance_id="goes")
        before = members.settle(4)
        revoked.clear()
        members.leave(goes)
        poll_nothing(stays, 1.5)
        members.join(group_instance_id="goes")
        after = members.settle(4)
        expect_equal(after, before, "shares")
        expect_equal(revoked, [], "taken from the one that stayed")


@for_each(protocol=["range", "consumer"])
def new_partitions_and_topics_that_match_are_taken_up_with(broker, protocol):
    prefix, group = broker.name("match"), broker.name("group")
    names = [f"{prefix}-a", f"{prefix}-b"]
    done(broker.admin.create_topics([NewTopic(names[0], 2, 1)]))
    settings = {**of_protocol(protocol), "topic_metadata_refresh_interval_ms": 1_000}
    with Closing(broker.consumer(group, **settings)) as consumer:
        consumer.subscribe([f"^{prefix}-[ab]$"])

        def wait_for(count):
            deadline = Deadline(60)
            while len(consumer.assignment()) != count:
                deadline.is_ahead(lambda: f"{count} partitions: {consumer.assignment()}")
                poll_nothing(consumer, 0.2)

        wait_for(2)
        done(broker.admin.create_topics([NewTopic(names[1], 3, 1)]))
        wait_for(5)
        done(broker.admin.create_partitions([NewPartitions(names[0], 4)]))
        wait_for(7)


@check
def a_group_moves_to_the_new_protocol_and_back(broker):
    topic, group = broker.create("migrate", 2), broker.name("group")
    read_count = 0
    for protocol in ["range", "consumer", "range"]:
        broker.fill(topic, 10, 2)
        with Closing(broker.consumer(group, **of_protocol(protocol))) as consumer:
            consumer.subscribe([topic])
            messages = poll(consumer, 10)
            per_partition = {p: sorted(m.offset() for m in messages if m.partition() == p)
                             for p in range(2)}
            expect_equal(per_partition, {p: list(range(read_count, read_count + 5))
                                         for p in range(2)}, f"read with {protocol}")
            consumer.commit(asynchronous=False)
        read_count += 5


@check
def both_protocols_live_in_one_group(broker):
    topic, group = broker.create("mixed", 4), broker.name("group")
    broker.fill(topic, 40, 4)
    with Members(broker, group, [topic], "cooperative-sticky") as members:
        members.join()
        members.settle(4)
        members.protocol = "consumer"
        members.join()
        members.settle(4)
        broker.fill(topic, 40, 4)
        members.read(80)
        got = sorted((partition, offset) for _, partition, offset, _ in members.got)
    expect_equal(got, [(p, o) for p in range(4) for o in range(20)], "what both read")


# ---- admin -----------------------------------------------------------------------------------


@check
def topics_are_created_described_grown_and_deleted(broker):
    admin, name = broker.admin, broker.name("topic")
    node_id = next(iter(admin.list_topics(timeout=10).brokers))
    assigned = f"{name}-assigned"
    done(admin.create_topics([
        NewTopic(name, 3, 1, config={"retention.ms": "7200000"}),
        NewTopic(assigned, 2, replica_assignment=[[node_id], [node_id]]),
    ]))
    metadata = admin.list_topics(timeout=10).topics
    expect_equal([len(metadata[n].partitions) for n in (name, assigned)], [3, 2], "partitions")
    [described] = done(admin.describe_topics(TopicCollection([name]))).values()
    expect_equal([p.id for p in described.partitions], [0, 1, 2], "described")
    expect_equal({p.leader.id for p in described.partitions}, {node_id}, "leaders")
    expect_equal([[n.id for n in p.isr] for p in described.partitions], [[node_id]] * 3, "in sync")
    done(admin.create_partitions([NewPartitions(name, 5)]))
    done(admin.create_partitions([NewPartitions(name, 9)], validate_only=True))
    expect_equal(len(admin.list_topics(name, timeout=10).topics[name].partitions), 5, "grown")
    done(admin.create_topics([NewTopic(f"{name}-not", 1, 1)], validate_only=True))
    done(admin.delete_topics([name, assigned]))
    deadline = Deadline()
    while left := [n for n in admin.list_topics(timeout=10).topics if n.startswith(name)]:
        deadline.is_ahead(lambda: f"{left} are no longer listed")  # Kafka tells it a moment later


@check
def wrong_topics_are_refused_with_kafkas_codes(broker):
    admin, topic = broker.admin, broker.create("there")
    for asked, code in [
        (NewTopic(topic, 1, 1), "TOPIC_ALREADY_EXISTS"),
        (NewTopic("no/slash", 1, 1), "TOPIC_EXCEPTION"),
        (NewTopic("x" * 250, 1, 1), "TOPIC_EXCEPTION"),
        (NewTopic(broker.name("none"), 0, 1), "INVALID_PARTITIONS"),
        (NewTopic(broker.name("none"), 1, 3), "INVALID_REPLICATION_FACTOR"),
        (NewTopic(broker.name("none"), 1, 1, config={"no.such": "1"}), "INVALID_CONFIG"),
        (NewTopic(broker.name("none"), 1, 1, config={"retention.ms": "x"}), "INVALID_CONFIG"),
        (NewTopic(broker.name("none"), 1, replica_assignment=[[77]]), "INVALID_REPLICA_ASSIGNMENT"),
    ]:
        expect_equal(refused(admin.create_topics([asked])), [code], f"{asked.topic:.20}")
    expect_equal(refused(admin.delete_topics([broker.name("none")])), ["UNKNOWN_TOPIC_OR_PART"],
                 "delete")
    expect_equal(refused(admin.create_partitions([NewPartitions(topic, 1)])),
                 ["INVALID_PARTITIONS"], "partitions")


@check
def settings_are_described_and_altered(broker):
    admin, topic = broker.admin, broker.create("settings", retention_ms="3600000")

    def described(resource):
        return done(admin.describe_configs([resource]))[resource]

    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = described(resource)
    expect_equal((entries["retention.ms"].value, entries["retention.ms"].source),
                 ("3600000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value), "set at creation")
    expect_equal((entries["cleanup.policy"].value, entries["cleanup.policy"].is_default),
                 ("delete", True), "a default")
    expect("log.retention.ms" in entries["retention.ms"].synonyms or
           "retention.ms" in entries["retention.ms"].synonyms, "synonyms")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("max.message.bytes", "12345", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
    ])
    done(admin.incremental_alter_configs([change], validate_only=True))
    expect_equal(described(resource)["retention.ms"].value, "3600000", "after validation only")
    done(admin.incremental_alter_configs([change]))
    entries = described(resource)
    values = [entries[name].value
              for name in ("retention.ms", "max.message.bytes", "cleanup.policy")]
    expect_equal(values, ["604800000", "12345", "delete,compact"], "after the change")
    node_id = next(iter(admin.list_topics(timeout=10).brokers))
    entries = described(ConfigResource(ResourceType.BROKER, str(node_id)))
    expect(entries["node.id"].is_read_only and entries["node.id"].value == str(node_id), "node.id")
    wrong = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("max.message.bytes", "-5", incremental_operation=AlterConfigOpType.SET)])
    expect_equal(refused(admin.incremental_alter_configs([wrong])), ["INVALID_CONFIG"], "wrong")
    unknown = ConfigResource(ResourceType.TOPIC, broker.name("none"))
    expect_equal(refused(admin.describe_configs([unknown])), ["UNKNOWN_TOPIC_OR_PART"], "unknown")


@check
def records_are_deleted_up_to_an_offset(broker):
    topic = broker.create("delete", 2)
    broker.fill(topic, 100, 2)
    low = done(broker.admin.delete_records(
        [TopicPartition(topic, 0, 20), TopicPartition(topic, 1, -1)]))
    marks = {p.partition: told.low_watermark for p, told in low.items()}
    expect_equal(marks, {0: 20, 1: 50}, "low watermarks")
    too_far = broker.admin.delete_records([TopicPartition(topic, 0, 51)])
    expect_equal(refused(too_far), ["OFFSET_OUT_OF_RANGE"], "past the end")
    with Closing(broker.consumer(broker.name("none"))) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        expect_equal([m.offset() for m in poll(consumer, 30)], list(range(20, 50)), "what is left")


@check
def offsets_are_listed_by_what_is_asked(broker):
    topic = broker.create("list")
    with Closing(broker.producer()) as producer:
        for stamp in (1_000, 5_000, 3_000):
            produce(producer, topic, b"v", 0, timestamp=stamp)
    partition = TopicPartition(topic, 0)
    for spec, offset, stamp in [
        (OffsetSpec.earliest(), 0, -1), (OffsetSpec.latest(), 3, -1),
        (OffsetSpec.max_timestamp(), 1, 5_000), (OffsetSpec.for_timestamp(2_000), 1, 5_000),
        (OffsetSpec.for_timestamp(6_000), -1, -1),
    ]:
        told = done(broker.admin.list_offsets(
            {partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED))[partition]
        expect_equal((told.offset, told.timestamp), (offset, stamp), f"{spec.__class__.__name__}")


@check
def the_cluster_is_described(broker):
    told = broker.admin.describe_cluster().result(10)
    host, _, port = broker.address.rpartition(":")
    expect_equal([(n.host, n.port) for n in told.nodes], [(host, int(port))], "nodes")
    expect_equal(told.controller.id, told.nodes[0].id, "controller")
    expect_equal(told.cluster_id, broker.admin.cluster_id(timeout=10), "cluster id")


@for_each(protocol=["range", "consumer"])
def groups_are_listed_described_and_deleted_with(broker, protocol):
    admin, topic, group = broker.admin, broker.create("listed", 2), broker.name("group")
    kind = ConsumerGroupType.CONSUMER if protocol == "consumer" else ConsumerGroupType.CLASSIC
    with Members(broker, group, [topic], protocol) as members:
        members.join(client_id="someone")
        members.settle(2)
        listed = {g.group_id: (g.state, g.type)
                  for g in admin.list_consumer_groups(types={kind}).result(10).valid}
        expect_equal(listed.get(group), (ConsumerGroupState.STABLE, kind), "listed")
        [told] = done(admin.describe_consumer_groups([group])).values()
        expect_equal((told.state, told.type, told.partition_assignor),
                     (ConsumerGroupState.STABLE, kind,
                      "uniform" if protocol == "consumer" else "range"), "described")
        [member] = told.members
        expect_equal(member.client_id, "someone", "client")
        held = sorted(p.partition for p in member.assignment.topic_partitions)
        expect_equal(held, [0, 1], "assignment")
        expect_equal(refused(admin.delete_consumer_groups([group])), ["NON_EMPTY_GROUP"], "in use")
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
        [told] = done(admin.alter_consumer_group_offsets([wanted])).values()
        expect_equal([p.error.name() for p in told.topic_partitions], ["UNKNOWN_MEMBER_ID"],
                     "offsets of a group in use")
    [told] = done(admin.describe_consumer_groups([group])).values()
    expect_equal((told.state, told.members), (ConsumerGroupState.EMPTY, []), "left")
    done(admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])]))
    [held] = done(admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])])).values()
    expect_equal([p.offset for p in held.topic_partitions], [3], "offsets")
    done(admin.delete_consumer_groups([group]))
    expect_equal(refused(admin.delete_consumer_groups([group])), ["GROUP_ID_NOT_FOUND"], "again")
    listed = [g.group_id for g in admin.list_consumer_groups().result(10).valid]
    expect(group not in listed, "still listed")


if __name__ == "__main__":
    run_all(Broker(sys.argv[1], sys.argv[2]))
