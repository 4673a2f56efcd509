import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.errors.UnknownTopicIdException;

/** What the admin client learned between 2.8 and 3.4: topic ids, producers, the quorum. */
final class IdChecks extends Check {
    IdChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        run("admin, topics by their ids", this::topicIds);
        run("admin, a topic created again has another id", this::anotherId);
        run("admin, the offset of the greatest time", this::greatestTime);
        run("admin, describe producers", this::describeProducers);
        run("admin, describe the quorum", this::describeQuorum);
        run("admin, offsets of several groups at once", this::offsetsOfSeveralGroups);
        admin.close();
    }

    private void topicIds() throws Exception {
        String name = prefix + "id";
        var created = admin.createTopics(List.of(new NewTopic(name, 2, (short) 1)));
        Uuid id = created.topicId(name).get();
        require(!id.equals(Uuid.ZERO_UUID), "the topic has an id");
        leadersAnswer(name, 2);
        equal(describe(name).topicId(), id, "id by name");
        var listed = admin.listTopics().namesToListings().get().get(name);
        equal(listed.topicId(), id, "id in the list");
        var ids = TopicCollection.ofTopicIds(List.of(id));
        var described = admin.describeTopics(ids).allTopicIds().get().get(id);
        equal(described.name(), name, "name by id");
        equal(described.partitions().size(), 2, "partitions by id");
        fill(name, 1, 10);
        admin.deleteTopics(ids).all().get();
        eventually("it is not listed", () -> !admin.listTopics().names().get().contains(name));
        refused(UnknownTopicIdException.class, () -> admin.deleteTopics(ids).all().get());
        refused(ApiException.class, () -> admin.describeTopics(ids).allTopicIds().get());
    }

    private void anotherId() throws Exception {
        String topic = newTopic("twice", 1, Map.of());
        Uuid id = describe(topic).topicId();
        admin.deleteTopics(List.of(topic)).all().get();
        eventually("it is gone", () -> !admin.listTopics().names().get().contains(topic));
        newTopic("twice", 1, Map.of());
        require(!describe(topic).topicId().equals(id), "its id is another");
    }

    private void greatestTime() throws Exception {
        String topic = newTopic("greatest", 1, Map.of());
        try (var producer = producer(Map.of("acks", "all"))) {
            for (long late : new long[] {5, 9, 7}) { // one batch each: the greatest is not the last
                long timestamp = FIRST_TIMESTAMP + late;
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, bytes("x"))).get();
            }
        }
        var partition = new TopicPartition(topic, 0);
        var told = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp()))
                .partitionResult(partition).get();
        equal(told.offset(), 1L, "offset");
        equal(told.timestamp(), FIRST_TIMESTAMP + 9, "time");
        var none = newTopic("greatest-none", 1, Map.of());
        var empty = new TopicPartition(none, 0);
        told = admin.listOffsets(Map.of(empty, OffsetSpec.maxTimestamp()))
                .partitionResult(empty).get();
        equal(told.offset(), -1L, "offset in an empty partition");
    }

    private void describeProducers() throws Exception {
        String topic = newTopic("producers", 1, Map.of());
        var partition = new TopicPartition(topic, 0);
        var settings = Map.of("acks", "all", "enable.idempotence", "true");
        try (var producer = producer(settings)) {
            for (int number = 0; number < 3; number++) { // a batch each: three sequences
                producer.send(new ProducerRecord<>(topic, 0, null, bytes("x"))).get();
            }
            var states = admin.describeProducers(List.of(partition))
                    .partitionResult(partition).get().activeProducers();
            equal(states.size(), 1, "producers");
            var state = states.get(0);
            require(state.producerId() >= 0, "it has an id");
            equal(state.producerEpoch(), 0, "epoch");
            equal(state.lastSequence(), 2, "last sequence");
            require(state.lastTimestamp() > FIRST_TIMESTAMP, "time " + state.lastTimestamp());
            require(state.currentTransactionStartOffset().isEmpty(), "no transaction");
        }
    }

    private void describeQuorum() throws Exception {
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        equal(quorum.voters().size(), 1, "voters");
        equal(quorum.voters().get(0).replicaId(), quorum.leaderId(), "the leader is that voter");
        int broker = admin.describeCluster().nodes().get().iterator().next().id();
        equal(quorum.leaderId(), broker, "and this broker");
        require(quorum.leaderEpoch() >= 1, "leader epoch");
        require(quorum.highWatermark() > 0, "high watermark");
    }

    private void offsetsOfSeveralGroups() throws Exception {
        String topic = newTopic("several", 2, Map.of());
        var partition = partitions(topic, 2).get(0);
        for (String group : List.of("several-a", "several-b")) {
            admin.alterConsumerGroupOffsets(prefix + group,
                    Map.of(partition, new OffsetAndMetadata(group.length()))).all().get();
        }
        var asked = Map.of(prefix + "several-a", new ListConsumerGroupOffsetsSpec(),
                prefix + "several-b", new ListConsumerGroupOffsetsSpec(),
                prefix + "nobody", new ListConsumerGroupOffsetsSpec());
        var told = admin.listConsumerGroupOffsets(asked).all().get();
        equal(told.keySet(), asked.keySet(), "groups");
        equal(told.get(prefix + "several-b").keySet(), Set.of(partition), "partitions");
        equal(told.get(prefix + "several-a").get(partition).offset(), 9L, "offset");
        equal(told.get(prefix + "nobody"), Map.of(), "of nobody");
    }
}
