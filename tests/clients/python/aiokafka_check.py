"""aiokafka: contents, order and offsets of what is written, classic groups, admin.

usage: aiokafka_check.py BROKER PREFIX, PREFIX being of names that nobody uses
"""

import asyncio
import itertools
import logging
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError, for_code
from aiokafka.structs import OffsetAndMetadata

from checks import Deadline, check, expect, expect_equal, for_each, records, run_all

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor,
             "sticky": StickyPartitionAssignor}
CHECK_SECONDS_MAX = 90
RECORDS_COUNT = 3_000
PARTITIONS_COUNT = 6
NAMES = itertools.count()


class Broker:
    def __init__(self, address, prefix):
        self.address, self.prefix = address, prefix

    def name(self, what):
        return f"{self.prefix}{next(NAMES)}-{what}"

    def admin(self):
        return Running(AIOKafkaAdminClient(bootstrap_servers=self.address))

    def producer(self, **settings):
        return AIOKafkaProducer(bootstrap_servers=self.address, **{"acks": "all", **settings})

    def consumer(self, *topics, **settings):
        settings = {"enable_auto_commit": False, "auto_offset_reset": "earliest",
                    "session_timeout_ms": 6_000, "heartbeat_interval_ms": 500, **settings}
        return AIOKafkaConsumer(*topics, bootstrap_servers=self.address, **settings)

    async def create(self, what, partitions_count=1, **settings):
        topic = self.name(what)
        config = {name.replace("_", "."): value for name, value in settings.items()}
        async with self.admin() as admin:
            told = await admin.create_topics(
                [NewTopic(topic, partitions_count, 1, topic_configs=config)])
        expect_equal([code for _, code, *_ in told.topic_errors], [0], "creation")
        return topic

    async def fill(self, topic, count, partitions_count=1, **settings):
        """Values 0 to `count` by turns to the partitions."""
        async with self.producer(**settings) as producer:
            sent = [
                await producer.send(topic, str(n).encode(), partition=n % partitions_count)
                for n in range(count)
            ]
            await asyncio.gather(*sent)


class Running:
    """`async with` for the admin client, which has none of its own."""

    def __init__(self, client):
        self.client = client

    async def __aenter__(self):
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def read(consumer, count, seconds=30):
    """The next `count` records."""
    deadline, got = Deadline(seconds), []
    while len(got) < count:
        deadline.is_ahead(lambda: f"{count} records, {len(got)} came")
        fetched = await consumer.getmany(timeout_ms=200, max_records=count - len(got))
        got += itertools.chain.from_iterable(fetched.values())
    return got


async def read_nothing(consumer, seconds):
    fetched = await consumer.getmany(timeout_ms=int(seconds * 1000))
    expect(not fetched, f"records came: {fetched}")


# ---- records ---------------------------------------------------------------------------------


@for_each(codec=CODECS)
async def contents_order_and_offsets_with(broker, codec):
    topic = await broker.create("records", 2)
    made = records(RECORDS_COUNT, seed=43)
    compression = None if codec == "none" else codec
    async with broker.producer(compression_type=compression, enable_idempotence=True,
                               linger_ms=5) as producer:
        sent = [await producer.send(topic, value, key, partition=number % 2, timestamp_ms=stamp,
                                    headers=headers)
                for number, (key, value, headers, stamp) in enumerate(made)]
        told = [(m.partition, m.offset) for m in await asyncio.gather(*sent)]
    want = [(number % 2, number // 2) for number in range(RECORDS_COUNT)]
    expect_equal(told, want, "offsets of the deliveries")
    consumer = broker.consumer()
    async with consumer:
        for partition in range(2):
            consumer.assign([TopicPartition(topic, partition)])
            got = [(m.offset, m.key, m.value, list(m.headers), m.timestamp)
                   for m in await read(consumer, RECORDS_COUNT // 2)]
            want = [(offset, *record) for offset, record in enumerate(made[partition::2])]
            expect_equal(got, want, f"records of partition {partition}")


@for_each(acks=[0, 1, "all"])
async def records_arrive_with_acks(broker, acks):
    topic = await broker.create("acks")
    await broker.fill(topic, 500, acks=acks)
    async with broker.consumer(topic) as consumer:
        got = [(m.offset, m.value) for m in await read(consumer, 500)]
    expect_equal(got, [(n, str(n).encode()) for n in range(500)], "records")


@check
async def idempotent_producers_keep_the_order_of_small_batches(broker):
    topic = await broker.create("idempotent")

    async def write(index):
        async with broker.producer(enable_idempotence=True, max_batch_size=200) as producer:
            sent = [await producer.send(topic, f"{index} {number}".encode(), partition=0)
                    for number in range(1_000)]
            return [m.offset for m in await asyncio.gather(*sent)]

    told = await asyncio.gather(*[write(index) for index in range(3)])
    async with broker.consumer(topic) as consumer:
        got = await read(consumer, 3_000)
        await read_nothing(consumer, 0.5)
    expect_equal([m.offset for m in got], list(range(3_000)), "offsets")
    for index in range(3):
        mine = [(m.offset, m.value) for m in got if m.value.startswith(f"{index} ".encode())]
        want = [(offset, f"{index} {n}".encode()) for n, offset in enumerate(told[index])]
        expect_equal(mine, want, f"of producer {index}")


@check
async def a_batch_built_by_hand_is_one_batch(broker):
    topic = await broker.create("batch")
    async with broker.producer() as producer:
        batch = producer.create_batch()
        for number in range(10):
            batch.append(key=None, value=str(number).encode(), timestamp=1_000 + number)
        told = await (await producer.send_batch(batch, topic, partition=0))
    expect_equal(told.offset, 0, "offset of the batch")
    async with broker.consumer(topic) as consumer:
        got = [(m.offset, m.value, m.timestamp) for m in await read(consumer, 10)]
    expect_equal(got, [(n, str(n).encode(), 1_000 + n) for n in range(10)], "records")


@check
async def a_record_that_is_too_large_is_refused_alone(broker):
    topic = await broker.create("large", max_message_bytes="20000")
    told = []
    async with broker.producer() as producer:
        for size in (1_000, 30_000, 2_000):
            try:
                await producer.send_and_wait(topic, b"x" * size, partition=0)
                told.append("")
            except MessageSizeTooLargeError:
                told.append("too large")
    expect_equal(told, ["", "too large", ""], "outcomes")


@check
async def positions_seek_pause_and_ends(broker):
    topic = await broker.create("positions", 2)
    await broker.fill(topic, 200, 2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = broker.consumer()
    async with consumer:
        consumer.assign([first, second])
        consumer.pause(second)
        got = [(m.partition, m.offset) for m in await read(consumer, 100)]
        expect_equal(got, [(0, offset) for offset in range(100)], "with one paused")
        consumer.resume(second)
        got = [(m.partition, m.offset) for m in await read(consumer, 100)]
        expect_equal(got, [(1, offset) for offset in range(100)], "of the resumed")
        expect_equal([await consumer.position(p) for p in (first, second)], [100, 100], "position")
        consumer.seek(first, 95)
        expect_equal([m.offset for m in await read(consumer, 5)], list(range(95, 100)), "sought")
        await consumer.seek_to_beginning(first)
        expect_equal([m.offset for m in await read(consumer, 3)], [0, 1, 2], "from the beginning")
        expect_equal(await consumer.end_offsets([first, second]), {first: 100, second: 100}, "ends")
        expect_equal(await consumer.beginning_offsets([first]), {first: 0}, "beginning")
        expect_equal(consumer.highwater(first), 100, "high watermark")


@check
async def offsets_are_found_by_time(broker):
    topic = await broker.create("times")
    async with broker.producer() as producer:
        for number in range(20):
            await producer.send(topic, b"v", partition=0, timestamp_ms=1_000_000 + 10 * number)
    partition = TopicPartition(topic, 0)
    async with broker.consumer() as consumer:
        for stamp, found in [(0, (0, 1_000_000)), (1_000_001, (1, 1_000_010)),
                             (1_000_190, (19, 1_000_190)), (1_000_191, None)]:
            told = (await consumer.offsets_for_times({partition: stamp}))[partition]
            expect_equal(told and (told.offset, told.timestamp), found, f"offset of {stamp}")


@check
async def an_offset_out_of_range_is_told(broker):
    topic = await broker.create("range")
    await broker.fill(topic, 10)
    consumer = broker.consumer(auto_offset_reset="none")
    async with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), 1_000)
        try:
            await asyncio.wait_for(consumer.getone(), 20)
        except OffsetOutOfRangeError:
            return
    raise AssertionError("reading at offset 1000 of 10 succeeded")


# ---- groups ----------------------------------------------------------------------------------


class Revoked(ConsumerRebalanceListener):
    def __init__(self):
        self.partitions = []

    async def on_partitions_revoked(self, revoked):
        self.partitions += revoked

    async def on_partitions_assigned(self, assigned):
        pass


class Members:
    """Members of one group, each read by a task that commits after every fetch."""

    def __init__(self, broker, group, topic, assignor):
        self.broker, self.group, self.topic = broker, group, topic
        self.settings = {"partition_assignment_strategy": [assignor]}
        self.consumers, self.got = {}, []  # consumer to its task; (partition, offset, value)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for consumer in list(self.consumers):
            await self.leave(consumer)

    async def join(self, listener=None, **settings):
        consumer = self.broker.consumer(group_id=self.group, **self.settings, **settings)
        consumer.subscribe([self.topic], listener=listener)
        await consumer.start()
        self.consumers[consumer] = asyncio.create_task(self.read(consumer))
        return consumer

    async def leave(self, consumer):
        task = self.consumers.pop(consumer)
        task.cancel()
        await asyncio.wait([task])
        await consumer.stop()

    async def read(self, consumer):
        while True:
            # As one step, so that a task which is ended has committed all that it has read.
            await asyncio.shield(self.fetch_and_commit(consumer))

    async def fetch_and_commit(self, consumer):
        for partition, messages in (await consumer.getmany(timeout_ms=100)).items():
            try:
                await consumer.commit({partition: messages[-1].offset + 1})
            except KafkaError:
                continue  # it is somebody else's by now, who reads the same again
            self.got += [(m.partition, m.offset, m.value) for m in messages]

    def shares(self):
        return [sorted(p.partition for p in consumer.assignment()) for consumer in self.consumers]

    async def settle(self, seconds=60):
        """Until every partition has one owner and every member a fair share, which comes back."""
        deadline = Deadline(seconds)
        share = PARTITIONS_COUNT // len(self.consumers)
        while deadline.is_ahead(lambda: f"a fair share for all: {self.shares()}"):
            shares = self.shares()
            if (sorted(sum(shares, [])) == list(range(PARTITIONS_COUNT))
                    and all(len(one) == share for one in shares)):
                return shares
            await asyncio.sleep(0.05)

    async def wait(self, count):
        deadline = Deadline(60)
        while len(self.got) < count:
            deadline.is_ahead(lambda: f"{count} records, {len(self.got)} came")
            await asyncio.sleep(0.05)


@for_each(assignor=list(ASSIGNORS))
async def a_group_shares_its_partitions_and_loses_nothing_with(broker, assignor):
    topic, group = await broker.create("shared", PARTITIONS_COUNT), broker.name("group")
    await broker.fill(topic, 300, PARTITIONS_COUNT)
    async with Members(broker, group, topic, ASSIGNORS[assignor]) as members:
        first = await members.join()
        await members.settle()
        await members.join()
        await members.join()
        await members.settle()
        await broker.fill(topic, 300, PARTITIONS_COUNT)
        await members.wait(600)
        await members.leave(first)
        await members.settle()
        await broker.fill(topic, 300, PARTITIONS_COUNT)
        await members.wait(900)
    per_fill = 300 // PARTITIONS_COUNT
    want = [(partition, offset, str(offset % per_fill * PARTITIONS_COUNT + partition).encode())
            for partition in range(PARTITIONS_COUNT) for offset in range(3 * per_fill)]
    expect_equal(sorted(members.got), want, "what all read together, each record once")
    async with broker.admin() as admin:
        held = await admin.list_consumer_group_offsets(group)
    expect_equal({p.partition: at.offset for p, at in held.items()},
                 dict.fromkeys(range(PARTITIONS_COUNT), 3 * per_fill), "committed")


@check
async def a_group_goes_on_where_it_committed(broker):
    topic, group = await broker.create("resume"), broker.name("group")
    await broker.fill(topic, 100)
    partition = TopicPartition(topic, 0)
    async with broker.consumer(topic, group_id=group) as consumer:
        expect_equal([m.offset for m in await read(consumer, 100)], list(range(100)), "first read")
        await consumer.commit({partition: OffsetAndMetadata(40, "half-way")})
        expect_equal(await consumer.committed(partition), 40, "committed")
    async with broker.consumer(topic, group_id=group) as consumer:
        expect_equal([m.offset for m in await read(consumer, 60)], list(range(40, 100)), "resumed")
    async with broker.admin() as admin:
        held = await admin.list_consumer_group_offsets(group)
    expect_equal((held[partition].offset, held[partition].metadata), (40, "half-way"), "kept")


@check
async def what_is_read_is_committed_by_itself(broker):
    topic, group = await broker.create("auto"), broker.name("group")
    await broker.fill(topic, 50)
    async with broker.consumer(topic, group_id=group, enable_auto_commit=True) as consumer:
        await read(consumer, 50)
    await broker.fill(topic, 5)
    async with broker.consumer(topic, group_id=group, enable_auto_commit=True) as consumer:
        expect_equal([m.offset for m in await read(consumer, 5)], list(range(50, 55)), "resumed")


@check
async def a_static_member_that_comes_back_keeps_its_partitions(broker):
    topic, group = await broker.create("static", PARTITIONS_COUNT), broker.name("group")
    revoked = Revoked()
    async with Members(broker, group, topic, RangePartitionAssignor) as members:
        await members.join(revoked, group_instance_id="stays")
        goes = await members.join(group_instance_id="goes")
        before = await members.settle()
        revoked.partitions.clear()
        await members.leave(goes)
        await asyncio.sleep(1.5)
        await members.join(group_instance_id="goes")
        after = await members.settle()
    expect_equal(after, before, "shares")
    expect_equal(revoked.partitions, [], "taken from the one that stayed")


@check
async def topics_that_match_are_taken_up(broker):
    prefix, group = broker.name("match"), broker.name("group")
    async with broker.admin() as admin:
        await admin.create_topics([NewTopic(f"{prefix}-a", 2, 1)])
        consumer = broker.consumer(group_id=group, metadata_max_age_ms=500)
        consumer.subscribe(pattern=f"^{prefix}-[ab]$")
        async with consumer:
            for count in (2, 5):
                deadline = Deadline(60)
                while len(consumer.assignment()) != count:
                    deadline.is_ahead(lambda: f"{count} partitions: {consumer.assignment()}")
                    await read_nothing(consumer, 0.1)
                await admin.create_topics([NewTopic(f"{prefix}-b", 3, 1)])


# ---- admin -----------------------------------------------------------------------------------


def error_names(told):
    return [for_code(code).__name__ for _, code, *_ in told]


@check
async def topics_are_created_described_grown_and_deleted(broker):
    name = broker.name("topic")
    async with broker.admin() as admin:
        await admin.create_topics([NewTopic(name, 3, 1)])
        [told] = await admin.describe_topics([name])
        expect_equal(sorted(p["partition"] for p in told["partitions"]), [0, 1, 2], "described")
        again = await admin.create_topics([NewTopic(name, 3, 1)])
        expect_equal(error_names(again.topic_errors), ["TopicAlreadyExistsError"], "again")
        await admin.create_partitions({name: NewPartitions(5)})
        [told] = await admin.describe_topics([name])
        expect_equal(len(told["partitions"]), 5, "grown")
        expect(name in await admin.list_topics(), "not listed")
        told = await admin.delete_topics([name])
        expect_equal(error_names(told.topic_error_codes), ["NoError"], "deletion")
        deadline = Deadline()
        while name in await admin.list_topics():  # Kafka's brokers learn of it a moment later
            deadline.is_ahead("it is no longer listed")
        told = await admin.delete_topics([name])
        expect_equal(error_names(told.topic_error_codes), ["UnknownTopicOrPartitionError"], "again")


@check
async def settings_are_described_and_altered(broker):
    topic = await broker.create("settings", retention_ms="3600000")
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]

    async def values(admin):
        [told] = await admin.describe_configs(asked)
        [resource] = told.resources
        return {name: value for name, value, *_ in resource[4]}

    async with broker.admin() as admin:
        expect_equal((await values(admin))["retention.ms"], "3600000", "set at creation")
        change = {"max.message.bytes": "12345", "cleanup.policy": "compact"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, change)])
        told = await values(admin)
    got = [told[name] for name in ("retention.ms", "max.message.bytes", "cleanup.policy")]
    expect_equal(got, ["604800000", "12345", "compact"], "after the change, which is of the whole")


@check
async def records_are_deleted_up_to_an_offset(broker):
    topic = await broker.create("delete")
    await broker.fill(topic, 50)
    async with broker.admin() as admin:
        told = await admin.delete_records(
            {TopicPartition(topic, 0): RecordsToDelete(before_offset=20)})
    expect_equal(told, {TopicPartition(topic, 0): 20}, "low watermark")
    async with broker.consumer(topic) as consumer:
        expect_equal([m.offset for m in await read(consumer, 30)], list(range(20, 50)), "left")


@check
async def groups_are_listed_and_described(broker):
    topic, group = await broker.create("listed", PARTITIONS_COUNT), broker.name("group")
    async with broker.admin() as admin:
        async with Members(broker, group, topic, RangePartitionAssignor) as members:
            await members.join(client_id="someone")
            await members.settle()
            expect((group, "consumer") in await admin.list_consumer_groups(), "not listed")
            [told] = await admin.describe_consumer_groups([group])
            error, name, state, kind, protocol, listed, *_ = told.groups[0]
            expect_equal((error, name, state, kind, protocol),
                         (0, group, "Stable", "consumer", "range"), "described")
            expect_equal([client for _, client, *_ in listed], ["someone"], "members")
        [told] = await admin.describe_consumer_groups([group])
        expect_equal((told.groups[0][2], told.groups[0][5]), ("Empty", []), "when all have left")


if __name__ == "__main__":
    logging.disable()
    run_all(Broker(sys.argv[1], sys.argv[2]), call=lambda function, arguments: asyncio.run(
        asyncio.wait_for(function(*arguments), CHECK_SECONDS_MAX)))
