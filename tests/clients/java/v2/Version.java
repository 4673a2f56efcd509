import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;

/** What is called otherwise in clients before 3.1. */
final class Version {
    private Version() {}

    static Map<String, KafkaFuture<TopicDescription>> descriptions(DescribeTopicsResult result) {
        return result.values();
    }

    static Map<TopicPartition, OffsetAndMetadata> offsets(
            Admin admin, String group, List<TopicPartition> partitions) throws Exception {
        var only = new ListConsumerGroupOffsetsOptions().topicPartitions(partitions);
        return admin.listConsumerGroupOffsets(group, only).partitionsToOffsetAndMetadata().get();
    }
}
