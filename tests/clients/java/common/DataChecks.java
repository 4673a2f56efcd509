import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Producing and consuming by partition and offset. */
final class DataChecks extends Check {
    private static final int PARTITIONS_COUNT = 3;
    private static final int RECORDS_COUNT = 6_000; // about 1 MB, several batches a partition
    private static final int STREAM_RECORDS_COUNT = 50_000;

    DataChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String acks : List.of("0", "1", "all")) {
                run("produce and consume, acks " + acks + ", " + codec,
                        () -> produceAndConsume(Map.of("acks", acks, "compression.type", codec)));
            }
            var idempotent = Map.of(
                    "acks", "all", "compression.type", codec, "enable.idempotence", "true");
            run("produce and consume, idempotent, " + codec, () -> produceAndConsume(idempotent));
        }
        run("an idempotent producer keeps the order with five requests on their way",
                this::idempotentStream);
        run("idempotent producers at once in one partition", this::idempotentProducersAtOnce);
        run("keys choose their partitions", this::keysChoosePartitions);
        run("seek, position and offsets by time", this::seekAndOffsets);
        run("a waiting fetch is answered when a record comes", this::longPoll);
        run("small fetch limits still make progress", this::smallFetchLimits);
        run("a fetch session follows pause, resume and new partitions", this::fetchSession);
        run("an offset out of range is refused", this::outOfRange);
        run("an offset out of range is reset as asked", this::outOfRangeReset);
        run("a batch beyond the limit is refused and writing goes on", this::tooLarge);
        run("log append time is what the broker says", this::logAppendTime);
        admin.close();
    }

    private void produceAndConsume(Map<String, String> settings) throws Exception {
        String name = "pc-" + String.join("-", new TreeMap<>(settings).values());
        String topic = newTopic(name, PARTITIONS_COUNT, Map.of());
        Map<Integer, List<ProducerRecord<byte[], byte[]>>> sent = new HashMap<>();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        List<Long> expectedOffsets = new ArrayList<>();
        try (var producer = producer(settings)) {
            for (int number = 0; number < RECORDS_COUNT; number++) {
                var record = recordFor(topic, number);
                var ofPartition = sent.computeIfAbsent(record.partition(), p -> new ArrayList<>());
                expectedOffsets.add((long) ofPartition.size());
                ofPartition.add(record);
                answers.add(producer.send(record));
            }
            producer.flush();
        }
        for (int number = 0; number < RECORDS_COUNT; number++) {
            long expected = settings.get("acks").equals("0") ? -1 : expectedOffsets.get(number);
            equal(answers.get(number).get().offset(), expected, "offset of record " + number);
        }
        try (var consumer = consumer(Map.of())) {
            var partitions = partitions(topic, PARTITIONS_COUNT);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var got = read(consumer, RECORDS_COUNT);
            for (int partition = 0; partition < PARTITIONS_COUNT; partition++) {
                compare(got.get(new TopicPartition(topic, partition)), sent.get(partition));
            }
        }
    }

    /** Keys, values and headers of all shapes, null and empty among them, decided by the number. */
    static ProducerRecord<byte[], byte[]> recordFor(String topic, int number) {
        byte[] key = number % 7 == 0 ? null : bytes("key-" + number % 101);
        String text = "value " + number + " " + "ß".repeat(number % 150);
        byte[] value = number % 13 == 0 ? null : number % 11 == 0 ? new byte[0] : bytes(text);
        long timestamp = FIRST_TIMESTAMP + number;
        var record = new ProducerRecord<>(topic, number % PARTITIONS_COUNT, timestamp, key, value);
        for (int header = 0; header < number % 3; header++) {
            byte[] content = header == 1 ? null : bytes("h" + number);
            record.headers().add(new RecordHeader("header-" + header, content));
        }
        return record;
    }

    static void compare(
            List<ConsumerRecord<byte[], byte[]>> got, List<ProducerRecord<byte[], byte[]>> sent) {
        equal(got.size(), sent.size(), "records in the partition");
        for (int index = 0; index < sent.size(); index++) {
            var actual = got.get(index);
            var expected = sent.get(index);
            equal(actual.offset(), (long) index, "offset");
            require(Arrays.equals(actual.key(), expected.key()), "key at " + index);
            require(Arrays.equals(actual.value(), expected.value()), "value at " + index);
            equal(actual.timestamp(), expected.timestamp(), "timestamp at " + index);
            var headers = expected.headers().toArray();
            require(Arrays.equals(actual.headers().toArray(), headers), "headers at " + index);
        }
    }

    private void seekAndOffsets() throws Exception {
        String topic = newTopic("seek", 2, Map.of());
        fill(topic, 0, 1_000);
        var full = new TopicPartition(topic, 0);
        var empty = new TopicPartition(topic, 1);
        try (var consumer = consumer(Map.of("max.poll.records", "10"))) {
            equal(consumer.beginningOffsets(List.of(full, empty)), Map.of(full, 0L, empty, 0L),
                    "beginning offsets");
            equal(consumer.endOffsets(List.of(full, empty)), Map.of(full, 1_000L, empty, 0L),
                    "end offsets");
            var asked = Map.of(full, FIRST_TIMESTAMP + 700, empty, FIRST_TIMESTAMP);
            var byTime = consumer.offsetsForTimes(asked);
            equal(byTime.get(full).offset(), 700L, "offset by time");
            equal(byTime.get(full).timestamp(), FIRST_TIMESTAMP + 700, "its time");
            require(byTime.get(empty) == null, "an empty partition has no offset by time");
            var late = consumer.offsetsForTimes(Map.of(full, FIRST_TIMESTAMP + 1_000));
            require(late.get(full) == null, "no record is that late");
            consumer.assign(List.of(full, empty));
            for (long offset : new long[] {700, 0, 999, 333}) {
                consumer.seek(full, offset);
                consumer.seek(empty, 0);
                var first = read(consumer, 1).get(full).get(0);
                equal(first.offset(), offset, "first offset after a seek");
                equal(text(first.value()), "value " + offset, "its value");
            }
            consumer.seekToEnd(List.of(full, empty));
            equal(consumer.position(full), 1_000L, "position at the end");
            equal(consumer.partitionsFor(topic).size(), 2, "partitions");
        }
    }

    private void longPoll() throws Exception {
        String topic = newTopic("poll", 1, Map.of());
        var settings = Map.of("fetch.max.wait.ms", "20000", "fetch.min.bytes", "1");
        try (var consumer = consumer(settings); var producer = producer(Map.of("acks", "all"))) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            require(consumer.poll(Duration.ofMillis(500)).isEmpty(), "the topic is empty");
            for (int round = 0; round < 3; round++) { // the fetch waits at the broker meanwhile
                long began = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, bytes("r" + round))).get();
                var record = read(consumer, 1).get(new TopicPartition(topic, 0)).get(0);
                equal(text(record.value()), "r" + round, "the record");
                long took = (System.nanoTime() - began) / 1_000_000;
                require(took < 5_000, "it came after " + took + " ms");
            }
        }
    }

    private void smallFetchLimits() throws Exception {
        String topic = newTopic("small", PARTITIONS_COUNT, Map.of());
        IntStream.range(0, PARTITIONS_COUNT).forEach(partition -> fill(topic, partition, 200));
        var limits = Map.of("fetch.max.bytes", "1", "max.partition.fetch.bytes", "1");
        try (var consumer = consumer(limits)) {
            consumer.assign(partitions(topic, PARTITIONS_COUNT));
            consumer.seekToBeginning(partitions(topic, PARTITIONS_COUNT));
            var got = read(consumer, 200 * PARTITIONS_COUNT);
            got.values().forEach(records -> equal(records.size(), 200, "records"));
        }
    }

    private void fetchSession() throws Exception {
        int count = 20;
        String topic = newTopic("session", count, Map.of());
        try (var consumer = consumer(Map.of("fetch.max.wait.ms", "100"))) {
            var all = partitions(topic, count);
            consumer.assign(all.subList(0, 10));
            consumer.seekToBeginning(all.subList(0, 10));
            IntStream.range(0, count).forEach(partition -> fill(topic, partition, 30));
            equal(read(consumer, 300).size(), 10, "partitions with records");
            consumer.pause(all.subList(0, 5));
            IntStream.range(0, count).forEach(partition -> fill(topic, partition, 30));
            equal(read(consumer, 150).keySet(), Set.copyOf(all.subList(5, 10)), "those not paused");
            consumer.resume(all.subList(0, 5));
            equal(read(consumer, 150).keySet(), Set.copyOf(all.subList(0, 5)), "those resumed");
            consumer.assign(all);
            consumer.seekToBeginning(all.subList(10, 20));
            equal(read(consumer, 600).keySet(), Set.copyOf(all.subList(10, 20)), "the new ones");
        }
    }

    private void outOfRange() throws Exception {
        String topic = newTopic("range", 1, Map.of());
        fill(topic, 0, 10);
        try (var consumer = consumer(Map.of("auto.offset.reset", "none"))) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, 11);
            try {
                read(consumer, 1);
                throw new AssertionError("offset 11 of 10 was read");
            } catch (OffsetOutOfRangeException expected) {
                equal(expected.offsetOutOfRangePartitions(), Map.of(partition, 11L), "refused");
            }
        }
    }

    private void tooLarge() throws Exception {
        String topic = newTopic("large", 1, Map.of());
        byte[] value = new byte[2 << 20];
        new Random(3).nextBytes(value);
        var settings = Map.of("acks", "all", "max.request.size", "10000000", "retries", "0");
        try (var producer = producer(settings)) {
            var large = new ProducerRecord<byte[], byte[]>(topic, 0, null, value);
            refused(RecordTooLargeException.class, () -> producer.send(large).get());
            var small = new ProducerRecord<byte[], byte[]>(topic, 0, null, bytes("small"));
            equal(producer.send(small).get().offset(), 0L, "offset of the first that is accepted");
        }
    }

    private void idempotentStream() throws Exception {
        String topic = newTopic("stream", 1, Map.of());
        var settings = Map.of("acks", "all", "enable.idempotence", "true", "batch.size", "2000",
                "linger.ms", "0", "max.in.flight.requests.per.connection", "5");
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (var producer = producer(settings)) {
            for (int number = 0; number < STREAM_RECORDS_COUNT; number++) {
                byte[] value = bytes("value " + number);
                answers.add(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            }
            producer.flush();
        }
        for (int number = 0; number < STREAM_RECORDS_COUNT; number++) {
            equal(answers.get(number).get().offset(), (long) number, "offset of the answer");
        }
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            var got = read(consumer, STREAM_RECORDS_COUNT).get(new TopicPartition(topic, 0));
            for (int number = 0; number < STREAM_RECORDS_COUNT; number++) {
                equal(text(got.get(number).value()), "value " + number, "value at " + number);
            }
        }
    }

    private void idempotentProducersAtOnce() throws Exception {
        String topic = newTopic("at-once", 1, Map.of());
        var settings = Map.of("acks", "all", "enable.idempotence", "true", "batch.size", "1000");
        int count = 3_000;
        try (var one = producer(settings); var two = producer(settings)) {
            for (int number = 0; number < count; number++) {
                one.send(new ProducerRecord<>(topic, 0, bytes("one"), bytes("" + number)));
                two.send(new ProducerRecord<>(topic, 0, bytes("two"), bytes("" + number)));
            }
        }
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            Map<String, Integer> next = new HashMap<>();
            for (var record : read(consumer, 2 * count).get(new TopicPartition(topic, 0))) {
                int expected = next.merge(text(record.key()), 1, Integer::sum) - 1;
                equal(text(record.value()), "" + expected, "value of " + text(record.key()));
            }
            equal(next, Map.of("one", count, "two", count), "records of each");
            equal(consumer.endOffsets(partitions(topic, 1)).values().iterator().next(),
                    2L * count, "end");
        }
    }

    /** One key, one partition, the same as the partitioner of every client of Kafka takes. */
    private void keysChoosePartitions() throws Exception {
        String topic = newTopic("keys", 8, Map.of());
        try (var producer = producer(Map.of("acks", "all"))) {
            for (int number = 0; number < 400; number++) {
                byte[] key = bytes("key-" + number % 40);
                int hash = org.apache.kafka.common.utils.Utils.murmur2(key) & 0x7fffffff;
                var answer = producer.send(new ProducerRecord<>(topic, key, bytes("" + number)));
                equal(answer.get().partition(), hash % 8, "partition of record " + number);
            }
        }
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 8));
            consumer.seekToBeginning(partitions(topic, 8));
            Map<String, Integer> last = new HashMap<>();
            read(consumer, 400).values().forEach(records -> records.forEach(record -> {
                int number = Integer.parseInt(text(record.value()));
                Integer before = last.put(text(record.key()), number);
                equal(before == null ? number - 40 : before, number - 40, "the one before");
            }));
            equal(last.size(), 40, "keys");
        }
    }

    private void outOfRangeReset() throws Exception {
        String topic = newTopic("reset", 1, Map.of());
        fill(topic, 0, 10);
        var partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 500);
            var got = read(consumer, 10).get(partition);
            equal(got.get(0).offset(), 0L, "earliest");
            equal(text(got.get(9).value()), "value 9", "the last");
        }
        try (var consumer = consumer(Map.of("auto.offset.reset", "latest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 500);
            eventually("the position is the end", () -> {
                require(consumer.poll(Duration.ofMillis(100)).isEmpty(), "nothing to read");
                return consumer.position(partition) == 10;
            });
        }
    }

    private void logAppendTime() throws Exception {
        String topic = newTopic("append", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (var producer = producer(Map.of("acks", "all"));
                var consumer = consumer(Map.of())) {
            var record = new ProducerRecord<byte[], byte[]>(
                    topic, 0, FIRST_TIMESTAMP, null, bytes("x"));
            long told = producer.send(record).get().timestamp();
            require(told >= before - 1_000, "the answer's time is " + told);
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            var got = read(consumer, 1).get(new TopicPartition(topic, 0)).get(0);
            equal(got.timestamp(), told, "time of the record");
            equal(got.timestampType().toString(), "LogAppendTime", "its type");
        }
    }
}
