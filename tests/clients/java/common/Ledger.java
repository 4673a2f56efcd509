import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;

/** What the members of a group read together: of each partition all offsets, in order, once. */
final class Ledger {
    private final Map<TopicPartition, Long> next = new HashMap<>();
    private final long recordsCount; // of each partition, with the values "value N"
    private int count;

    Ledger(long recordsCount) {
        this.recordsCount = recordsCount;
    }

    void add(ConsumerRecord<byte[], byte[]> record) {
        var partition = new TopicPartition(record.topic(), record.partition());
        long expected = next.getOrDefault(partition, 0L);
        Check.equal(record.offset(), expected, "next offset of " + partition);
        Check.equal(Check.text(record.value()), "value " + expected, "its value");
        next.put(partition, expected + 1);
        count++;
    }

    int count() {
        return count;
    }

    void mustBeWhole(int partitionsCount) {
        Check.equal(next.size(), partitionsCount, "partitions that were read");
        next.forEach((partition, end) -> Check.equal(end, recordsCount, "read of " + partition));
    }
}
