import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own Java client against a broker: produce, consume and administer, newest versions.
 *
 * <p>Arguments: HOST:PORT and a prefix for topic names. Each check prints one line, {@code ok NAME}
 * or {@code FAILED NAME: why}; the exit code is 0 when all were made, whatever came out.
 */
public final class ClientCheck {
    private static final Duration WAIT_MAX = Duration.ofSeconds(30);
    private static final int PARTITIONS_COUNT = 3;
    private static final int RECORDS_COUNT = 6_000; // about 1 MB, several batches a partition
    private static final long FIRST_TIMESTAMP = 1_700_000_000_000L;

    private final String bootstrap;
    private final String prefix;
    private final Admin admin;

    private ClientCheck(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(common());
    }

    public static void main(String[] arguments) throws Exception {
        var check = new ClientCheck(arguments[0], arguments[1]);
        for (String acks : List.of("0", "1", "all")) {
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                String name = "produce and consume, acks " + acks + ", " + codec;
                run(name, () -> check.produceAndConsume(acks, codec));
            }
        }
        run("seek, position and offsets by time", check::seekAndOffsets);
        run("admin offsets of earliest, latest, by time, greatest time", check::adminOffsets);
        run("a waiting fetch is answered when a record comes", check::longPoll);
        run("small fetch limits still make progress", check::smallFetchLimits);
        run("a fetch session follows pause, resume and new partitions", check::fetchSession);
        run("an offset out of range is refused", check::outOfRange);
        run("a batch beyond the limit is refused and writing goes on", check::tooLarge);
        run("create, list and describe topics", check::createAndDescribe);
        run("topics that cannot be created are refused", check::createRefused);
        run("more partitions", check::morePartitions);
        run("describe configs", check::describeConfigs);
        run("describe cluster", check::describeCluster);
        run("delete records", check::deleteRecords);
        run("delete topics by name and by id", check::deleteTopics);
        run("a topic created again is empty", check::createdAgain);
        check.admin.close();
    }

    private interface Body {
        void run() throws Exception;
    }

    private static void run(String name, Body body) {
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            String where = Arrays.stream(error.getStackTrace())
                    .filter(frame -> frame.getClassName().startsWith("ClientCheck"))
                    .findFirst().map(frame -> " (line " + frame.getLineNumber() + ")").orElse("");
            String why = (error + where).replace('\n', ' ');
            System.out.println("FAILED " + name + ": " + why);
        }
        System.out.flush();
    }

    // ---- produce and consume ------------------------------------------------------------------

    private void produceAndConsume(String acks, String codec) throws Exception {
        String topic = newTopic("pc-" + acks + "-" + codec, PARTITIONS_COUNT, Map.of());
        Map<Integer, List<ProducerRecord<byte[], byte[]>>> sent = new HashMap<>();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        List<Long> expectedOffsets = new ArrayList<>();
        try (var producer = producer(Map.of("acks", acks, "compression.type", codec))) {
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
            long expected = acks.equals("0") ? -1 : expectedOffsets.get(number);
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
    private static ProducerRecord<byte[], byte[]> recordFor(String topic, int number) {
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

    private static void compare(
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

    private void adminOffsets() throws Exception {
        String topic = newTopic("offsets", 1, Map.of());
        try (var producer = producer(Map.of("acks", "all"))) {
            for (long late : new long[] {5, 9, 7}) { // one batch each: the greatest is not the last
                long timestamp = FIRST_TIMESTAMP + late;
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, bytes("x"))).get();
            }
        }
        equal(offset(topic, OffsetSpec.earliest()).offset(), 0L, "earliest");
        equal(offset(topic, OffsetSpec.latest()).offset(), 3L, "latest");
        equal(offset(topic, OffsetSpec.maxTimestamp()).offset(), 1L, "of the greatest time");
        equal(offset(topic, OffsetSpec.maxTimestamp()).timestamp(), FIRST_TIMESTAMP + 9, "time");
        equal(offset(topic, OffsetSpec.forTimestamp(FIRST_TIMESTAMP + 6)).offset(), 1L, "by time");
        equal(offset(topic, OffsetSpec.forTimestamp(FIRST_TIMESTAMP + 10)).offset(), -1L, "none");
    }

    private ListOffsetsResultInfo offset(String topic, OffsetSpec spec) throws Exception {
        var partition = new TopicPartition(topic, 0);
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
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

    // ---- administer ---------------------------------------------------------------------------

    private void createAndDescribe() throws Exception {
        String one = prefix + "one";
        String three = prefix + "three";
        var asked = List.of(new NewTopic(one, 1, (short) 1),
                new NewTopic(three, Optional.of(3), Optional.empty()));
        var created = admin.createTopics(asked);
        created.all().get();
        equal(created.numPartitions(three).get(), 3, "partitions created");
        require(!created.topicId(one).get().equals(Uuid.ZERO_UUID), "the topic has an id");
        eventually("both are listed", () ->
                admin.listTopics().names().get().containsAll(List.of(one, three)));
        var described = describe(three);
        equal(described.topicId(), created.topicId(three).get(), "id by name");
        var byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(described.topicId())));
        equal(byId.allTopicIds().get().values().iterator().next().name(), three, "name by id");
        require(!described.isInternal(), "it is no topic of the broker's own");
        for (int index = 0; index < 3; index++) {
            var partition = described.partitions().get(index);
            equal(partition.partition(), index, "partition number");
            equal(partition.isr(), List.of(partition.leader()), "in-sync replicas");
            equal(partition.replicas(), List.of(partition.leader()), "replicas");
        }
        refused(UnknownTopicOrPartitionException.class, () -> describe(prefix + "none"));
    }

    private void createRefused() throws Exception {
        String name = newTopic("taken", 1, Map.of());
        refused(TopicExistsException.class, () -> create(new NewTopic(name, 1, (short) 1)));
        for (String wrong : List.of("../up", "a b", "", ".", "..", "x".repeat(250), "ß")) {
            refused(InvalidTopicException.class, () -> create(new NewTopic(wrong, 1, (short) 1)));
        }
        String free = prefix + "free";
        refused(InvalidPartitionsException.class, () -> create(new NewTopic(free, 0, (short) 1)));
        refused(InvalidReplicationFactorException.class, () ->
                create(new NewTopic(free, 1, (short) 2)));
        for (var wrong : List.of(Map.of("retention.ms", "soon"), Map.of("no.such", "1"))) {
            refused(InvalidConfigurationException.class, () ->
                    create(new NewTopic(free, 1, (short) 1).configs(wrong)));
        }
        var dry = new CreateTopicsOptions().validateOnly(true);
        admin.createTopics(List.of(new NewTopic(free, 1, (short) 1)), dry).all().get();
        require(!admin.listTopics().names().get().contains(free), "nothing was created");
    }

    private void morePartitions() throws Exception {
        String topic = newTopic("more", 1, Map.of());
        fill(topic, 0, 10);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        eventually("it has four", () -> describe(topic).partitions().size() == 4);
        fill(topic, 3, 10);
        try (var consumer = consumer(Map.of())) {
            var ends = consumer.endOffsets(partitions(topic, 4)).values();
            equal(ends.stream().mapToLong(Long::longValue).sum(), 20L, "records in all");
        }
        for (int count : new int[] {4, 2}) {
            refused(InvalidPartitionsException.class, () ->
                    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(count)))
                            .all().get());
        }
        var unknown = Map.of(prefix + "none", NewPartitions.increaseTo(2));
        refused(UnknownTopicOrPartitionException.class, () ->
                admin.createPartitions(unknown).all().get());
    }

    private void describeConfigs() throws Exception {
        String topic = newTopic("configs", 1, Map.of("retention.ms", "3600000"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        equal(config.get("retention.ms").value(), "3600000", "what was set");
        equal(config.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG,
                "where it was set");
        equal(config.get("retention.ms").type(), ConfigEntry.ConfigType.LONG, "its type");
        equal(config.get("cleanup.policy").value(), "delete", "a default");
        require(config.get("cleanup.policy").isDefault(), "it is known as a default");
        equal(config.get("segment.bytes").value(), "1073741824", "another default");
        var broker = new ConfigResource(ConfigResource.Type.BROKER, brokerId());
        var ofBroker = admin.describeConfigs(List.of(broker)).all().get().get(broker);
        require(!ofBroker.entries().isEmpty(), "the broker has settings");
        var unknown = new ConfigResource(ConfigResource.Type.TOPIC, prefix + "none");
        refused(UnknownTopicOrPartitionException.class, () ->
                admin.describeConfigs(List.of(unknown)).all().get());
    }

    private String brokerId() throws Exception {
        return admin.describeCluster().nodes().get().iterator().next().idString();
    }

    private void describeCluster() throws Exception {
        var cluster = admin.describeCluster();
        require(!cluster.clusterId().get().isBlank(), "the cluster has an id");
        equal(cluster.nodes().get().size(), 1, "nodes");
        var node = cluster.nodes().get().iterator().next();
        equal(node.host() + ":" + node.port(), bootstrap, "the node's address");
        require(cluster.nodes().get().contains(cluster.controller().get()), "a controller");
        equal(admin.describeCluster().clusterId().get(), cluster.clusterId().get(), "same id");
    }

    private void deleteRecords() throws Exception {
        String topic = newTopic("records", 1, Map.of());
        fill(topic, 0, 100);
        equal(deleteBefore(topic, 40), 40L, "low watermark");
        equal(deleteBefore(topic, 10), 40L, "it does not go back");
        try (var consumer = consumer(Map.of("auto.offset.reset", "earliest"))) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            equal(read(consumer, 60).get(partition).get(0).offset(), 40L, "first offset left");
        }
        refused(org.apache.kafka.common.errors.OffsetOutOfRangeException.class,
                () -> deleteBefore(topic, 101));
        equal(deleteBefore(topic, -1), 100L, "all");
        equal(offset(topic, OffsetSpec.earliest()).offset(), 100L, "earliest");
    }

    private long deleteBefore(String topic, long offset) throws Exception {
        var partition = new TopicPartition(topic, 0);
        var before = Map.of(partition, RecordsToDelete.beforeOffset(offset));
        return admin.deleteRecords(before).lowWatermarks().get(partition).get().lowWatermark();
    }

    private void deleteTopics() throws Exception {
        String byName = newTopic("gone-name", 2, Map.of());
        String byId = newTopic("gone-id", 2, Map.of());
        fill(byName, 1, 100);
        Uuid id = describe(byId).topicId();
        admin.deleteTopics(List.of(byName)).all().get();
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        eventually("neither is listed", () -> {
            var names = admin.listTopics().names().get();
            return !names.contains(byName) && !names.contains(byId);
        });
        refused(UnknownTopicOrPartitionException.class, () ->
                admin.deleteTopics(List.of(byName)).all().get());
        refused(UnknownTopicIdException.class, () ->
                admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
    }

    private void createdAgain() throws Exception {
        String topic = newTopic("again", 1, Map.of());
        fill(topic, 0, 100);
        Uuid id = describe(topic).topicId();
        admin.deleteTopics(List.of(topic)).all().get();
        eventually("it is gone", () -> !admin.listTopics().names().get().contains(topic));
        newTopic("again", 1, Map.of());
        require(!describe(topic).topicId().equals(id), "its id is another");
        fill(topic, 0, 7);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            equal(read(consumer, 7).get(new TopicPartition(topic, 0)).get(0).offset(), 0L, "first");
            equal(consumer.endOffsets(partitions(topic, 1)).values().iterator().next(), 7L, "end");
        }
    }

    // ---- helpers ------------------------------------------------------------------------------

    private Properties common() {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("default.api.timeout.ms", "20000");
        settings.put("request.timeout.ms", "15000");
        return settings;
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, String> more) {
        var settings = common();
        settings.put("linger.ms", "5");
        settings.put("delivery.timeout.ms", "30000");
        settings.putAll(more);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        var settings = common();
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "none");
        settings.putAll(more);
        return new KafkaConsumer<>(
                settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private String newTopic(String name, int partitionsCount, Map<String, String> configs)
            throws Exception {
        String topic = prefix + name;
        create(new NewTopic(topic, partitionsCount, (short) 1).configs(configs));
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        partitions(topic, partitionsCount).forEach(p -> ends.put(p, OffsetSpec.latest()));
        // Every leader answers before anything is sent: a retry would change the order.
        eventually(topic + " is there", () -> admin.listOffsets(ends).all().get() != null);
        return topic;
    }

    private void create(NewTopic topic) throws Exception {
        admin.createTopics(List.of(topic)).all().get();
    }

    private TopicDescription describe(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static List<TopicPartition> partitions(String topic, int count) {
        return IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p))
                .collect(Collectors.toList());
    }

    /** Appends {@code count} records "value N" with rising times in many small batches. */
    private void fill(String topic, int partition, int count) {
        try (var producer = producer(Map.of("acks", "all", "batch.size", "400"))) {
            for (int number = 0; number < count; number++) {
                long timestamp = FIRST_TIMESTAMP + number;
                byte[] value = bytes("value " + number);
                producer.send(new ProducerRecord<>(topic, partition, timestamp, null, value));
            }
            producer.flush();
        }
    }

    /** Polls until {@code count} records came; records of one partition must come in order. */
    private static Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> read(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> got = new HashMap<>();
        long deadline = System.nanoTime() + WAIT_MAX.toNanos();
        int left = count;
        while (left > 0) {
            require(System.nanoTime() < deadline, left + " of " + count + " records did not come");
            for (var record : consumer.poll(Duration.ofMillis(200))) {
                var partition = new TopicPartition(record.topic(), record.partition());
                var records = got.computeIfAbsent(partition, key -> new ArrayList<>());
                if (!records.isEmpty()) {
                    long last = records.get(records.size() - 1).offset();
                    equal(record.offset(), last + 1, "offset after " + last);
                }
                records.add(record);
                left--;
            }
        }
        return got;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void eventually(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + WAIT_MAX.toNanos();
        while (true) {
            try {
                if (condition.holds()) {
                    return;
                }
            } catch (ExecutionException unknown) {
                if (!(unknown.getCause() instanceof UnknownTopicOrPartitionException)) {
                    throw unknown;
                }
            }
            require(System.nanoTime() < deadline, "still not true: " + what);
            Thread.sleep(10);
        }
    }

    private static void refused(Class<? extends Exception> expected, Body body) throws Exception {
        try {
            body.run();
        } catch (ExecutionException error) {
            require(expected.isInstance(error.getCause()),
                    "refused with " + error.getCause() + ", not " + expected.getSimpleName());
            return;
        }
        throw new AssertionError("accepted, not refused with " + expected.getSimpleName());
    }

    private static void equal(Object actual, Object expected, String what) {
        boolean same = actual instanceof Collection<?> one && expected instanceof Collection<?> two
                ? new HashSet<>(one).equals(new HashSet<>(two)) && one.size() == two.size()
                : Objects.equals(actual, expected);
        require(same, what + ": " + actual + " instead of " + expected);
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
