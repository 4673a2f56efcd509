import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Administering topics, settings and the cluster, as far as clients 2.8 can. */
final class AdminChecks extends Check {
    private static final ConfigResource EVERY_BROKER =
            new ConfigResource(ConfigResource.Type.BROKER, "");

    AdminChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        run("admin, create, list and describe topics", this::createAndDescribe);
        run("admin, create topics with assignments", this::createWithAssignments);
        run("admin, topics that cannot be created are refused", this::createRefused);
        run("admin, more partitions", this::morePartitions);
        run("admin, more partitions, assigned or only tried", this::morePartitionsAssigned);
        run("admin, delete records", this::deleteRecords);
        run("admin, delete topics", this::deleteTopics);
        run("admin, a topic created again is empty", this::createdAgain);
        run("admin, offsets of earliest, latest and by time", this::offsetsBySpec);
        run("admin, internal topics are listed when asked for", this::internalTopics);
        run("admin, describe configs", this::describeConfigs);
        run("admin, synonyms and documentation of settings", this::synonymsAndDocs);
        run("admin, topic settings are set, appended, subtracted and deleted", this::topicConfigs);
        run("admin, wrong settings are refused", this::configsRefused);
        run("admin, settings of one broker and of all", this::brokerConfigs);
        run("admin, a setting of a topic acts", this::settingActs);
        run("admin, describe cluster", this::describeCluster);
        run("admin, describe features", this::describeFeatures);
        run("admin, log directories and their sizes", this::logDirs);
        run("admin, electing leaders is not needed", this::electLeaders);
        run("admin, no reassignments", this::reassignments);
        admin.close();
    }

    // ---- topics -------------------------------------------------------------------------------

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
        require(!described.isInternal(), "it is no topic of the broker's own");
        for (int index = 0; index < 3; index++) {
            var partition = described.partitions().get(index);
            equal(partition.partition(), index, "partition number");
            equal(partition.isr(), List.of(partition.leader()), "in-sync replicas");
            equal(partition.replicas(), List.of(partition.leader()), "replicas");
        }
        refused(UnknownTopicOrPartitionException.class, () -> describe(prefix + "none"));
    }

    private void createWithAssignments() throws Exception {
        int id = Integer.parseInt(brokerId());
        String topic = prefix + "assigned";
        create(new NewTopic(topic, Map.of(0, List.of(id), 1, List.of(id))));
        eventually("it has two partitions", () -> describe(topic).partitions().size() == 2);
        for (var wrong : List.of(Map.of(0, List.of(id + 1)), Map.of(1, List.of(id)),
                Map.of(0, List.of(id, id)), Map.of(0, List.<Integer>of()))) {
            refused(InvalidReplicaAssignmentException.class, () ->
                    create(new NewTopic(prefix + "wrong", wrong)));
        }
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

    private void morePartitionsAssigned() throws Exception {
        String topic = newTopic("more-assigned", 1, Map.of());
        int id = Integer.parseInt(brokerId());
        var dry = new CreatePartitionsOptions().validateOnly(true);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(9)), dry).all().get();
        equal(describe(topic).partitions().size(), 1, "partitions after only trying");
        var assigned = NewPartitions.increaseTo(3, List.of(List.of(id), List.of(id)));
        admin.createPartitions(Map.of(topic, assigned)).all().get();
        eventually("it has three", () -> describe(topic).partitions().size() == 3);
        for (var wrong : List.of(NewPartitions.increaseTo(4, List.of(List.of(id + 1))),
                NewPartitions.increaseTo(4, List.of(List.of(id), List.of(id))))) {
            refused(InvalidReplicaAssignmentException.class, () ->
                    admin.createPartitions(Map.of(topic, wrong)).all().get());
        }
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
        refused(OffsetOutOfRangeException.class, () -> deleteBefore(topic, 101));
        equal(deleteBefore(topic, -1), 100L, "all");
        equal(offset(topic, OffsetSpec.earliest()), 100L, "earliest");
    }

    private long deleteBefore(String topic, long offset) throws Exception {
        var partition = new TopicPartition(topic, 0);
        var before = Map.of(partition, RecordsToDelete.beforeOffset(offset));
        return admin.deleteRecords(before).lowWatermarks().get(partition).get().lowWatermark();
    }

    private void deleteTopics() throws Exception {
        String topic = newTopic("gone", 2, Map.of());
        fill(topic, 1, 100);
        admin.deleteTopics(List.of(topic)).all().get();
        eventually("it is not listed", () -> !admin.listTopics().names().get().contains(topic));
        refused(UnknownTopicOrPartitionException.class, () ->
                admin.deleteTopics(List.of(topic)).all().get());
    }

    private void createdAgain() throws Exception {
        String topic = newTopic("again", 1, Map.of());
        fill(topic, 0, 100);
        admin.deleteTopics(List.of(topic)).all().get();
        eventually("it is gone", () -> !admin.listTopics().names().get().contains(topic));
        newTopic("again", 1, Map.of());
        fill(topic, 0, 7);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            equal(read(consumer, 7).get(new TopicPartition(topic, 0)).get(0).offset(), 0L, "first");
            equal(consumer.endOffsets(partitions(topic, 1)).values().iterator().next(), 7L, "end");
        }
    }

    private void offsetsBySpec() throws Exception {
        String topic = newTopic("offsets", 1, Map.of());
        try (var producer = producer(Map.of("acks", "all"))) {
            for (long late : new long[] {5, 9, 7}) { // one batch each
                long timestamp = FIRST_TIMESTAMP + late;
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, bytes("x"))).get();
            }
        }
        equal(offset(topic, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(topic, OffsetSpec.latest()), 3L, "latest");
        equal(offset(topic, OffsetSpec.forTimestamp(FIRST_TIMESTAMP + 6)), 1L, "by time");
        equal(offset(topic, OffsetSpec.forTimestamp(FIRST_TIMESTAMP + 10)), -1L, "none so late");
        refused(UnknownTopicOrPartitionException.class, () ->
                offset(prefix + "none", OffsetSpec.latest()));
    }

    private long offset(String topic, OffsetSpec spec) throws Exception {
        var partition = new TopicPartition(topic, 0);
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    /** A commit makes the topic of commits, which is shown only to those who ask for such. */
    private void internalTopics() throws Exception {
        String topic = newTopic("committed", 1, Map.of());
        try (var consumer = consumer(Map.of("group.id", prefix + "internal"))) {
            consumer.assign(partitions(topic, 1));
            consumer.commitSync(Map.of(new TopicPartition(topic, 0),
                    new org.apache.kafka.clients.consumer.OffsetAndMetadata(0)));
        }
        String internal = "__consumer_offsets";
        var all = admin.listTopics(new ListTopicsOptions().listInternal(true)).listings().get();
        var listed = all.stream().filter(one -> one.name().equals(internal)).findFirst();
        require(listed.isPresent() && listed.get().isInternal(), "it is listed as internal");
        require(!admin.listTopics().names().get().contains(internal), "it is not listed unasked");
        require(describe(internal).isInternal(), "it is described as internal");
        equal(describe(internal).partitions().size(), 50, "its partitions");
    }

    // ---- settings -----------------------------------------------------------------------------

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

    private void synonymsAndDocs() throws Exception {
        String topic = newTopic("synonyms", 1, Map.of("max.message.bytes", "2000000"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var all = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var config = admin.describeConfigs(List.of(resource), all).all().get().get(resource);
        var entry = config.get("max.message.bytes");
        var sources = entry.synonyms().stream()
                .map(one -> one.name() + "=" + one.value() + " of " + one.source())
                .collect(Collectors.toList());
        equal(sources, List.of("max.message.bytes=2000000 of DYNAMIC_TOPIC_CONFIG",
                "message.max.bytes=1048588 of DEFAULT_CONFIG"), "synonyms");
        for (var one : config.entries()) {
            String text = one.documentation();
            require(text != null && !text.isBlank(), one.name() + " is documented");
        }
    }

    private void topicConfigs() throws Exception {
        String topic = newTopic("alter", 1, Map.of("retention.ms", "3600000"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        alter(resource, op("retention.ms", "7200000", AlterConfigOp.OpType.SET),
                op("cleanup.policy", "compact", AlterConfigOp.OpType.APPEND));
        equal(value(resource, "retention.ms"), "7200000", "set");
        equal(Set.of(value(resource, "cleanup.policy").split(",")), Set.of("delete", "compact"),
                "appended");
        alter(resource, op("retention.ms", "", AlterConfigOp.OpType.DELETE),
                op("cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT));
        equal(value(resource, "retention.ms"), "604800000", "the default again");
        equal(value(resource, "cleanup.policy"), "compact", "what is left");
        var dry = new AlterConfigsOptions().validateOnly(true);
        var tried = Map.<ConfigResource, Collection<AlterConfigOp>>of(
                resource, List.of(op("retention.ms", "1000", AlterConfigOp.OpType.SET)));
        admin.incrementalAlterConfigs(tried, dry).all().get();
        equal(value(resource, "retention.ms"), "604800000", "after only trying");
    }

    private void configsRefused() throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC,
                newTopic("wrong-configs", 1, Map.of()));
        refused(InvalidConfigurationException.class, () ->
                alter(resource, op("retention.ms", "soon", AlterConfigOp.OpType.SET)));
        refused(InvalidConfigurationException.class, () ->
                alter(resource, op("no.such.setting", "1", AlterConfigOp.OpType.SET)));
        refused(InvalidConfigurationException.class, () ->
                alter(resource, op("retention.ms", "1", AlterConfigOp.OpType.APPEND)));
        refused(InvalidRequestException.class, () ->
                alter(resource, op("retention.ms", "1", AlterConfigOp.OpType.SET),
                        op("retention.ms", "2", AlterConfigOp.OpType.SET)));
        refused(UnknownTopicOrPartitionException.class, () ->
                alter(new ConfigResource(ConfigResource.Type.TOPIC, prefix + "none"),
                        op("retention.ms", "1", AlterConfigOp.OpType.SET)));
        refused(InvalidRequestException.class, () -> alter(brokerResource(),
                op("log.dirs", "/nowhere", AlterConfigOp.OpType.SET)));
        equal(value(resource, "retention.ms"), "604800000", "nothing was changed");
    }

    private void brokerConfigs() throws Exception {
        String topic = newTopic("of-broker", 1, Map.of());
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var broker = brokerResource();
        try {
            alter(EVERY_BROKER, op("message.max.bytes", "3000000", AlterConfigOp.OpType.SET));
            eventuallySet(broker, "message.max.bytes", "3000000",
                    ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
            alter(broker, op("message.max.bytes", "4000000", AlterConfigOp.OpType.SET));
            eventuallySet(broker, "message.max.bytes", "4000000",
                    ConfigSource.DYNAMIC_BROKER_CONFIG);
            eventuallySet(resource, "max.message.bytes", "4000000",
                    ConfigSource.DYNAMIC_BROKER_CONFIG);
            byte[] value = new byte[3_500_000];
            var large = Map.of("acks", "all", "max.request.size", "10000000", "retries", "0");
            try (var producer = producer(large)) {
                producer.send(new ProducerRecord<>(topic, 0, null, value)).get();
            }
        } finally {
            alter(broker, op("message.max.bytes", "", AlterConfigOp.OpType.DELETE));
            alter(EVERY_BROKER, op("message.max.bytes", "", AlterConfigOp.OpType.DELETE));
        }
        eventuallySet(broker, "message.max.bytes", "1048588", ConfigSource.DEFAULT_CONFIG);
    }

    private void eventuallySet(
            ConfigResource resource, String name, String value, ConfigSource source)
            throws Exception {
        eventually(name + " is " + value + " of " + source, () -> {
            var entry = entry(resource, name);
            return entry.value().equals(value) && entry.source() == source;
        });
    }

    private void settingActs() throws Exception {
        String topic = newTopic("acts", 1, Map.of("max.message.bytes", "1000"));
        var record = new ProducerRecord<byte[], byte[]>(topic, 0, null, new byte[2_000]);
        try (var producer = producer(Map.of("acks", "all", "retries", "0"))) {
            refused(org.apache.kafka.common.errors.RecordTooLargeException.class, () ->
                    producer.send(record).get());
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            alter(resource, op("max.message.bytes", "3000", AlterConfigOp.OpType.SET));
            eventually("it is taken", () -> {
                try {
                    return producer.send(record).get().offset() == 0;
                } catch (java.util.concurrent.ExecutionException early) {
                    return false;
                }
            });
        }
    }

    private void alter(ConfigResource resource, AlterConfigOp... operations) throws Exception {
        admin.incrementalAlterConfigs(Map.of(resource, List.of(operations))).all().get();
    }

    private static AlterConfigOp op(String name, String value, AlterConfigOp.OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private String value(ConfigResource resource, String name) throws Exception {
        return entry(resource, name).value();
    }

    private ConfigEntry entry(ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
    }

    private ConfigResource brokerResource() throws Exception {
        return new ConfigResource(ConfigResource.Type.BROKER, brokerId());
    }

    // ---- the cluster --------------------------------------------------------------------------

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

    private void describeFeatures() throws Exception {
        var features = admin.describeFeatures().featureMetadata().get();
        var version = features.finalizedFeatures().get("group.version");
        require(version != null, "group.version is finalized: " + features);
        equal((int) version.maxVersionLevel(), 1, "its level");
        require(features.finalizedFeaturesEpoch().isPresent(), "they have an epoch");
    }

    private void logDirs() throws Exception {
        String topic = newTopic("dirs", 2, Map.of());
        fill(topic, 1, 100);
        int id = Integer.parseInt(brokerId());
        var dirs = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        require(!dirs.isEmpty(), "there is a directory");
        Map<Integer, Long> sizes = new HashMap<>();
        dirs.forEach((path, dir) -> {
            require(path.startsWith("/"), "absolute path " + path);
            require(dir.error() == null, "it is in order");
            dir.replicaInfos().forEach((partition, info) -> {
                if (partition.topic().equals(topic)) {
                    sizes.put(partition.partition(), info.size());
                    equal(info.offsetLag(), 0L, "lag");
                    require(!info.isFuture(), "it is not on its way");
                }
            });
        });
        equal(sizes.keySet(), Set.of(0, 1), "partitions");
        equal(sizes.get(0), 0L, "bytes of the empty one");
        require(sizes.get(1) > 1_000, "bytes of the other: " + sizes.get(1));
        var replica = new TopicPartitionReplica(topic, 1, id);
        var found = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
        require(dirs.containsKey(found.getCurrentReplicaLogDir()), "the replica's directory");
    }

    private void electLeaders() throws Exception {
        String topic = newTopic("elect", 1, Map.of());
        var partition = new TopicPartition(topic, 0);
        var none = new TopicPartition(prefix + "none", 0);
        for (var type : ElectionType.values()) {
            var results = admin.electLeaders(type, Set.of(partition, none)).partitions().get();
            var error = results.get(partition);
            require(error.isEmpty() || error.get() instanceof ElectionNotNeededException,
                    type + ": " + error);
            require(results.get(none).get() instanceof UnknownTopicOrPartitionException,
                    type + " of an unknown one: " + results.get(none));
        }
    }

    private void reassignments() throws Exception {
        String topic = newTopic("moves", 1, Map.of());
        var none = admin.listPartitionReassignments().reassignments().get();
        equal(none, Map.of(), "reassignments");
        var partition = new TopicPartition(topic, 0);
        equal(admin.listPartitionReassignments(Set.of(partition)).reassignments().get(),
                Map.of(), "of this partition");
    }
}
