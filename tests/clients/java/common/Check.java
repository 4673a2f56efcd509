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
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What all checks share: a broker's address, clients of it, topics with known records. */
class Check {
    static final Duration WAIT_MAX = Duration.ofSeconds(30);
    static final long FIRST_TIMESTAMP = 1_700_000_000_000L;

    private static String only = "";

    final String bootstrap;
    final String prefix; // of every topic and group: a broker may keep what other runs left
    final Admin admin;

    Check(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(common());
    }

    interface Body {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Runs only checks whose name holds {@code part}. */
    static void only(String part) {
        only = part;
    }

    /** Makes one check: prints {@code ok NAME} or {@code FAILED NAME: why}. */
    static void run(String name, Body body) {
        if (!name.contains(only)) {
            return;
        }
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            String where = Arrays.stream(error.getStackTrace())
                    .filter(frame -> !frame.getClassName().contains("."))
                    .filter(frame -> !frame.getClassName().equals("Check"))
                    .findFirst().map(frame -> " (" + frame.getFileName() + " line "
                            + frame.getLineNumber() + ")").orElse("");
            String why = (error + where).replace('\n', ' ');
            System.out.println("FAILED " + name + ": " + why);
        }
        System.out.flush();
    }

    // ---- clients ------------------------------------------------------------------------------

    final Properties common() {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("default.api.timeout.ms", "20000");
        settings.put("request.timeout.ms", "15000");
        return settings;
    }

    /** Not idempotent unless {@code more} says so, on every version of the client. */
    final KafkaProducer<byte[], byte[]> producer(Map<String, String> more) {
        var settings = common();
        settings.put("enable.idempotence", "false");
        settings.put("linger.ms", "5");
        settings.put("delivery.timeout.ms", "30000");
        settings.putAll(more);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    final KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        var settings = common();
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "none");
        settings.putAll(more);
        return new KafkaConsumer<>(
                settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    // ---- topics and records -------------------------------------------------------------------

    final String newTopic(String name, int partitionsCount, Map<String, String> configs)
            throws Exception {
        String topic = prefix + name;
        create(new NewTopic(topic, partitionsCount, (short) 1).configs(configs));
        leadersAnswer(topic, partitionsCount);
        return topic;
    }

    /** Every leader answers before anything is sent: a retry would change the order. */
    final void leadersAnswer(String topic, int partitionsCount) throws Exception {
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        partitions(topic, partitionsCount).forEach(p -> ends.put(p, OffsetSpec.latest()));
        eventually(topic + " is there", () -> admin.listOffsets(ends).all().get() != null);
    }

    final void create(NewTopic topic) throws Exception {
        admin.createTopics(List.of(topic)).all().get();
    }

    final TopicDescription describe(String topic) throws Exception {
        return Version.descriptions(admin.describeTopics(List.of(topic))).get(topic).get();
    }

    static List<TopicPartition> partitions(String topic, int count) {
        return IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p))
                .collect(Collectors.toList());
    }

    /** Appends {@code count} records "value N" with rising times in many small batches. */
    final void fill(String topic, int partition, int count) {
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
    static Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> read(
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

    // ---- what must hold -----------------------------------------------------------------------

    static void eventually(String what, Condition condition) throws Exception {
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

    /** The body fails with that exception, thrown as it is or as the cause of a future's. */
    static void refused(Class<? extends Exception> expected, Body body) throws Exception {
        try {
            body.run();
        } catch (Exception error) {
            var reason = error instanceof ExecutionException ? error.getCause() : error;
            require(expected.isInstance(reason),
                    "refused with " + reason + ", not " + expected.getSimpleName());
            return;
        }
        throw new AssertionError("accepted, not refused with " + expected.getSimpleName());
    }

    static void equal(Object actual, Object expected, String what) {
        boolean same = actual instanceof Collection<?> one && expected instanceof Collection<?> two
                ? new HashSet<>(one).equals(new HashSet<>(two)) && one.size() == two.size()
                : Objects.equals(actual, expected);
        require(same, what + ": " + actual + " instead of " + expected);
    }

    static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
