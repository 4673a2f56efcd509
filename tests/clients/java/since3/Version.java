import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;

/** What is called otherwise in clients since 3.3. */
final class Version {
    private Version() {}

    static Map<String, KafkaFuture<TopicDescription>> descriptions(DescribeTopicsResult result) {
        return result.topicNameValues();
    }

    static Map<TopicPartition, OffsetAndMetadata> offsets(
            Admin admin, String group, List<TopicPartition> partitions) throws Exception {
        var only = new ListConsumerGroupOffsetsSpec().topicPartitions(partitions);
        return admin.listConsumerGroupOffsets(Map.of(group, only)).all().get().get(group);
    }
}
