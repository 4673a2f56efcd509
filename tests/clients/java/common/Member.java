import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** A member of a group: its consumer, what it was told about partitions, what it read. */
final class Member implements ConsumerRebalanceListener, AutoCloseable {
    private static final Duration POLL = Duration.ofMillis(20);

    final KafkaConsumer<byte[], byte[]> consumer;
    final Set<TopicPartition> owned = new HashSet<>();
    final List<Set<TopicPartition>> assignments = new ArrayList<>(); // one a call
    final List<Set<TopicPartition>> revocations = new ArrayList<>(); // with something in it
    final Set<TopicPartition> lost = new HashSet<>();
    Consumer<ConsumerRecord<byte[], byte[]>> onRecord = record -> {};
    boolean commits = true; // what was read, when partitions are taken from it

    Member(KafkaConsumer<byte[], byte[]> consumer) {
        this.consumer = consumer;
    }

    Member subscribe(String... topics) {
        consumer.subscribe(List.of(topics), this);
        return this;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        assignments.add(Set.copyOf(partitions));
        owned.addAll(partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty()) {
            revocations.add(Set.copyOf(partitions));
        }
        if (commits) {
            consumer.commitSync(); // the next owner goes on after it
        }
        owned.removeAll(partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        lost.addAll(partitions);
        owned.removeAll(partitions);
    }

    /** One poll; what comes goes to {@code onRecord} and must belong to a partition of its own. */
    void poll() {
        for (var record : consumer.poll(POLL)) {
            var partition = new TopicPartition(record.topic(), record.partition());
            Check.require(owned.contains(partition), "a record of " + partition + ", not its own");
            onRecord.accept(record);
        }
    }

    Set<Integer> partitions() {
        return owned.stream().map(TopicPartition::partition).collect(Collectors.toSet());
    }

    @Override
    public void close() {
        consumer.close();
    }

    /** Polls all in turn until that holds. */
    static void pollUntil(String what, List<Member> members, Check.Condition condition)
            throws Exception {
        long deadline = System.nanoTime() + Check.WAIT_MAX.toNanos();
        while (!condition.holds()) {
            Check.require(System.nanoTime() < deadline, "still not true: " + what + " " + members);
            members.forEach(Member::poll);
        }
    }

    /** Polls all in turn until together they own `count` partitions, none owned twice, each some. */
    static void pollUntilShared(int count, List<Member> members) throws Exception {
        pollUntil(count + " partitions are shared", members, () -> {
            Map<TopicPartition, Integer> owners = new HashMap<>();
            members.forEach(member -> member.owned.forEach(p -> owners.merge(p, 1, Integer::sum)));
            return owners.size() == count && owners.values().stream().allMatch(n -> n == 1)
                    && members.stream().noneMatch(member -> member.owned.isEmpty());
        });
    }

    @Override
    public String toString() {
        return "owns " + partitions();
    }
}
