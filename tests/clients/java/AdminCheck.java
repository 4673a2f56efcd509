import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.FeatureUpdate.UpgradeType;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;

/**
 * Kafka's own admin client against a broker: what is refused, with which code and in which words,
 * and what is in force afterwards. The words are Apache Kafka's, on which this passes too.
 *
 * <p>Arguments: HOST:PORT and a prefix for names. Each check prints one line, {@code ok NAME} or
 * {@code FAILED NAME: why}; the exit code is 0 when all were made, whatever came out.
 */
public final class AdminCheck {
    private static final String OK = "ok";

    private final String prefix;
    private final Admin admin;
    private final String topic;
    private final String broker;

    private AdminCheck(String bootstrap, String prefix) throws Exception {
        this.prefix = prefix;
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("default.api.timeout.ms", "20000");
        settings.put("request.timeout.ms", "15000");
        this.admin = Admin.create(settings);
        this.topic = prefix + "admin";
        admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
        this.broker = admin.describeCluster().nodes().get().iterator().next().idString();
    }

    public static void main(String[] arguments) throws Exception {
        var check = new AdminCheck(arguments[0], arguments[1]);
        run("settings of topics are refused in Kafka's words", check::topicValues);
        run("lists of a topic are appended to and subtracted from", check::topicLists);
        run("what is wrong with a change of settings is told", check::wrongChanges);
        run("only dynamic settings of brokers change", check::brokerValues);
        run("settings of brokers without effect are kept", check::foreignValues);
        run("a broker's setting is in force at once, for topics too", check::brokerInForce);
        run("settings of groups", check::groups);
        run("settings of client metrics", check::clientMetrics);
        run("config resources are listed", check::listed);
        run("topics that cannot be created", check::createRefused);
        run("manual assignments", check::assignments);
        run("partitions that cannot be added", check::partitionsRefused);
        run("unknown topics by name and id", check::unknownTopics);
        run("authorized operations without an authorizer", check::operations);
        run("elections that are not needed", check::elections);
        run("reassignments and moves between directories", check::reassignments);
        run("features", check::features);
        run("the metadata quorum", check::quorum);
        run("log directories", check::logDirs);
        run("delete records out of range", check::deleteRecords);
        check.admin.close();
    }

    private interface Body {
        void run() throws Exception;
    }

    private interface Call {
        Object run() throws Exception;
    }

    private static void run(String name, Body body) {
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            System.out.println("FAILED " + name + ": " + error.toString().replace('\n', ' '));
        }
        System.out.flush();
    }

    // ---- settings -----------------------------------------------------------------------------

    private void topicValues() throws Exception {
        String long_ = "Not a number of type LONG";
        for (String[] row : new String[][] {
            {"retention.ms", "-2", "Value must be at least -1"},
            {"retention.ms", "soon", long_},
            {"retention.ms", "", long_},
            {"segment.bytes", "3000000000", "Not a number of type INT"},
            {"segment.bytes", "1024", "Value must be at least 1048576"},
            {"preallocate", "yes", "Expected value to be either true or false"},
            {"min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"},
            {"min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE"},
            {"cleanup.policy", "shred", "String must be one of: compact, delete"},
            {"compression.type", "x",
                "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
            {"compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"},
            {"compression.lz4.level", "18", "Value must be no more than 17"},
            {"compression.zstd.level", "23", "Value must be no more than 22"},
            {"compression.zstd.level", "-200000", "Value must be at least -131072"},
            {"message.timestamp.type", "Now", "String must be one of: CreateTime, LogAppendTime"},
            {"flush.messages", "0", "Value must be at least 1"},
            {"min.insync.replicas", "0", "Value must be at least 1"},
            {"max.message.bytes", "-1", "Value must be at least 0"},
            {"segment.ms", "0", "Value must be at least 1"},
            {"max.compaction.lag.ms", "0", "Value must be at least 1"},
        }) {
            says("InvalidConfigurationException: Invalid value " + row[1] + " for configuration "
                    + row[0] + ": " + row[2], () -> set(Type.TOPIC, topic, row[0], row[1]));
        }
        says("InvalidConfigurationException: Unknown topic config name: no.such",
                () -> set(Type.TOPIC, topic, "no.such", "1"));
        says("InvalidConfigurationException: Configuration 'cleanup.policy' values must not be "
                + "empty.", () -> set(Type.TOPIC, topic, "cleanup.policy", "compact,,delete"));
        says("InvalidConfigurationException: conflict topic config setting min.compaction.lag.ms "
                + "(9) > max.compaction.lag.ms (5)", () -> alter(Type.TOPIC, topic,
                op(OpType.SET, "min.compaction.lag.ms", "9"),
                op(OpType.SET, "max.compaction.lag.ms", "5")));
        equal(show(Type.TOPIC, topic).entries().stream()
                .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                .count(), 0L, "settings of the topic after all those refusals");
    }

    private void topicLists() throws Exception {
        says("InvalidConfigurationException: Can't APPEND to key retention.ms because its type is "
                + "not LIST.",
                () -> alter(Type.TOPIC, topic, op(OpType.APPEND, "retention.ms", "5")));
        says("InvalidConfigurationException: Can't SUBTRACT to key retention.ms because its type "
                + "is not LIST.",
                () -> alter(Type.TOPIC, topic, op(OpType.SUBTRACT, "retention.ms", "5")));
        says(OK, () -> alter(Type.TOPIC, topic, op(OpType.APPEND, "cleanup.policy", "compact")));
        equal(value(Type.TOPIC, topic, "cleanup.policy"), "delete,compact", "the longer list");
        says(OK, () -> alter(Type.TOPIC, topic,
                op(OpType.SUBTRACT, "cleanup.policy", "delete,compact")));
        equal(value(Type.TOPIC, topic, "cleanup.policy"), "", "the list without items");
        says(OK, () -> alter(Type.TOPIC, topic, op(OpType.DELETE, "cleanup.policy", "")));
        equal(value(Type.TOPIC, topic, "cleanup.policy"), "delete", "the default again");
    }

    private void wrongChanges() throws Exception {
        says("InvalidRequestException: Null value not supported for : retention.ms",
                () -> set(Type.TOPIC, topic, "retention.ms", null));
        says("InvalidRequestException: Error due to duplicate config keys",
                () -> alter(Type.TOPIC, topic, op(OpType.SET, "retention.ms", "1"),
                        op(OpType.SET, "retention.ms", "2")));
        String none = prefix + "none";
        says("UnknownTopicOrPartitionException: The topic '" + none + "' does not exist.",
                () -> set(Type.TOPIC, none, "retention.ms", "1"));
        says("InvalidConfigurationException: Invalid value x for configuration retention.ms: Not a "
                + "number of type LONG", () -> set(Type.TOPIC, none, "retention.ms", "x"));
        says("InvalidRequestException: Default topic resources are not allowed.",
                () -> set(Type.TOPIC, "", "retention.ms", "1"));
        says("InvalidTopicException: Topic name is invalid: 'a b' contains one or more characters "
                + "other than ASCII alphanumerics, '.', '_' and '-'",
                () -> set(Type.TOPIC, "a b", "retention.ms", "1"));
        says(OK, () -> alter(Type.TOPIC, topic, op(OpType.DELETE, "no.such", "")));
        says(OK, () -> set(Type.TOPIC, topic, "delete.retention.ms", " 5 "));
        equal(value(Type.TOPIC, topic, "delete.retention.ms"), "5", "a value between spaces");
        says(OK, () -> alter(Type.TOPIC, topic, op(OpType.DELETE, "delete.retention.ms", "")));
        var dry = new AlterConfigsOptions().validateOnly(true);
        var resource = new ConfigResource(Type.TOPIC, topic);
        var change = Map.of(resource,
                (java.util.Collection<AlterConfigOp>) List.of(op(OpType.SET, "retention.ms", "7")));
        admin.incrementalAlterConfigs(change, dry).all().get();
        equal(value(Type.TOPIC, topic, "retention.ms"), "604800000", "what was only validated");
        says("UnknownTopicOrPartitionException: ", () -> show(Type.TOPIC, none));
        says("InvalidTopicException: Topic name is invalid: the empty string is not allowed",
                () -> show(Type.TOPIC, ""));
    }

    private void brokerValues() throws Exception {
        for (String name : List.of(broker, "")) {
            for (String fixed : List.of("num.partitions", "log.retention.hours", "node.id",
                    "log.dirs", "auto.create.topics.enable", "default.replication.factor",
                    "socket.request.max.bytes", "offsets.retention.minutes", "fetch.max.bytes")) {
                says("InvalidRequestException: Cannot update these configs dynamically: [" + fixed
                        + "]", () -> set(Type.BROKER, name, fixed, "1"));
            }
            says("InvalidRequestException: Invalid value x for configuration log.retention.ms: Not "
                    + "a number of type LONG",
                    () -> set(Type.BROKER, name, "log.retention.ms", "x"));
            says("InvalidRequestException: Invalid value -1 for configuration max.connections: "
                    + "Value must be at least 0",
                    () -> set(Type.BROKER, name, "max.connections", "-1"));
            says("InvalidRequestException: Invalid value 3.0 for configuration "
                    + "log.cleaner.min.cleanable.ratio: Value must be no more than 1",
                    () -> set(Type.BROKER, name, "log.cleaner.min.cleanable.ratio", "3"));
            says("InvalidConfigurationException: Config value append is not allowed for config "
                    + "key: log.retention.ms",
                    () -> alter(Type.BROKER, name, op(OpType.APPEND, "log.retention.ms", "5")));
            says("InvalidConfigurationException: Unknown config name: no.such",
                    () -> alter(Type.BROKER, name, op(OpType.APPEND, "no.such", "5")));
            says(OK, () -> alter(Type.BROKER, name, op(OpType.DELETE, "no.such", "")));
            for (String[] row : new String[][] {{"max.connections", "100000"},
                {"max.connections.per.ip", "50000"}, {"message.max.bytes", "2000000"},
                {"compression.type", "zstd"}, {"log.retention.bytes", "5000000"},
                {"log.roll.ms", "100000000"}, {"log.index.interval.bytes", "5000"},
                {"background.threads", "11"}, {"log.message.timestamp.type", "LogAppendTime"}}) {
                says(OK, () -> set(Type.BROKER, name, row[0], row[1]));
                eventually(name + ": " + row[0],
                        () -> row[1].equals(value(Type.BROKER, name, row[0])));
                says(OK, () -> alter(Type.BROKER, name, op(OpType.DELETE, row[0], "")));
            }
        }
        says("InvalidRequestException: Broker id must not be empty",
                () -> show(Type.BROKER_LOGGER, ""), true);
    }

    private void foreignValues() throws Exception {
        String unknown = prefix + "no.such";
        String sasl = "sasl.kerberos.min.time.before.relogin";
        for (String name : List.of(broker, "")) {
            for (String[] row : new String[][] {{unknown, "x"}, {"log.cleaner.threads", "1"}}) {
                says(OK, () -> set(Type.BROKER, name, row[0], row[1]));
                eventually(row[0] + " is there", () -> show(Type.BROKER, name).get(row[0]) != null);
            }
            var shown = show(Type.BROKER, name).get(unknown);
            require(shown.isSensitive() && shown.isReadOnly(), "nobody's setting: " + shown);
            equal(shown.type(), ConfigEntry.ConfigType.UNKNOWN, "its type");
            equal(shown.value(), null, "its value is not shown");
            equal(value(Type.BROKER, name, "log.cleaner.threads"), "1", "a setting of Kafka's");
            says("InvalidRequestException: Invalid value x for configuration log.cleaner.threads: "
                    + "Not a number of type INT",
                    () -> set(Type.BROKER, name, "log.cleaner.threads", "x"));
            says("InvalidRequestException: Cannot update these configs dynamically: "
                    + "[early.start.listeners]",
                    () -> set(Type.BROKER, name, "early.start.listeners", "x"));
            says("InvalidRequestException: These security configs can be dynamically updated only "
                    + "per-listener using the listener prefix: [ssl.keystore.location]",
                    () -> set(Type.BROKER, name, "ssl.keystore.location", "/x"));
            says("InvalidConfigurationException: Unknown config name: " + unknown,
                    () -> alter(Type.BROKER, name, op(OpType.APPEND, unknown, "y")));
            for (String gone : List.of(unknown, "log.cleaner.threads")) {
                says(OK, () -> alter(Type.BROKER, name, op(OpType.DELETE, gone, "")));
            }
        }
        for (String listener : List.of(sasl, "listener.name.plaintext.no.such")) {
            says("InvalidRequestException: Cannot update these configs at default cluster level, "
                    + "broker id must be specified: [" + listener + "]",
                    () -> set(Type.BROKER, "", listener, "58000"));
        }
        says(OK, () -> set(Type.BROKER, broker, sasl, "58000"));
        eventually("a setting of SASL", () -> "58000".equals(value(Type.BROKER, broker, sasl)));
        equal(synonyms(show(Type.BROKER, broker).get(sasl)), List.of(
                sasl + "=58000 DYNAMIC_BROKER_CONFIG", sasl + "=60000 DEFAULT_CONFIG"),
                "its synonyms");
    }

    private void brokerInForce() throws Exception {
        set(Type.BROKER, broker, "log.retention.ms", "111111111");
        set(Type.BROKER, "", "log.retention.ms", "222222222");
        eventually("both layers are there", () ->
                show(Type.TOPIC, topic).get("retention.ms").synonyms().size() == 3);
        var ofTopic = show(Type.TOPIC, topic).get("retention.ms");
        equal(ofTopic.value(), "111111111", "what the topic takes over");
        equal(ofTopic.source(), ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG, "its source");
        equal(synonyms(ofTopic), List.of("log.retention.ms=111111111 DYNAMIC_BROKER_CONFIG",
                "log.retention.ms=222222222 DYNAMIC_DEFAULT_BROKER_CONFIG",
                "log.retention.hours=168 DEFAULT_CONFIG"), "its synonyms");
        var ofBroker = show(Type.BROKER, broker);
        require(ofBroker.get("num.partitions").isReadOnly(), "num.partitions is read-only");
        require(!ofBroker.get("log.retention.ms").isReadOnly(), "log.retention.ms is not");
        require(ofBroker.get("log.retention.ms").documentation() != null, "it is documented");
        require(show(Type.BROKER, "").get("log.retention.ms") != null, "the cluster's default");
        alter(Type.BROKER, broker, op(OpType.DELETE, "log.retention.ms", ""));
        eventually("the cluster's default counts", () ->
                "222222222".equals(value(Type.TOPIC, topic, "retention.ms")));
        alter(Type.BROKER, "", op(OpType.DELETE, "log.retention.ms", ""));
        eventually("Kafka's default counts", () ->
                "604800000".equals(value(Type.TOPIC, topic, "retention.ms")));
    }

    private void groups() throws Exception {
        String group = prefix + "group";
        String session = "consumer.session.timeout.ms";
        String heartbeat = "consumer.heartbeat.interval.ms";
        says(OK, () -> set(Type.GROUP, group, session, "50000"));
        for (String wrong : List.of("1", "90000")) {
            says("InvalidConfigurationException: " + session
                    + " must be in the range 45000 to 60000 inclusive.",
                    () -> set(Type.GROUP, group, session, wrong));
        }
        says("InvalidConfigurationException: Invalid value x for configuration " + session
                + ": Not a number of type INT", () -> set(Type.GROUP, group, session, "x"));
        says("InvalidConfigurationException: " + heartbeat
                + " must be in the range 5000 to 15000 inclusive.",
                () -> set(Type.GROUP, group, heartbeat, "20000"));
        says(OK, () -> set(Type.GROUP, group, heartbeat, "6000"));
        says("InvalidConfigurationException: Unknown group config name: no.such",
                () -> set(Type.GROUP, group, "no.such", "1"));
        says("InvalidRequestException: Default group resources are not allowed.",
                () -> set(Type.GROUP, "", session, "50000"));
        eventually("it is there", () -> "6000".equals(value(Type.GROUP, group, heartbeat)));
        var shown = show(Type.GROUP, group).get(session);
        equal(shown.source(), ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "its source");
        equal(synonyms(shown), List.of(session + "=50000 DYNAMIC_GROUP_CONFIG",
                "group.consumer.session.timeout.ms=45000 DEFAULT_CONFIG"), "its synonyms");
        says("InvalidRequestException: Group name must not be empty", () -> show(Type.GROUP, ""));
    }

    private void clientMetrics() throws Exception {
        String name = prefix + "metrics";
        says(OK, () -> set(Type.CLIENT_METRICS, name, "interval.ms", "5000"));
        says("InvalidRequestException: Invalid value 5 for interval.ms, interval must be between "
                + "100 and 3600000 (1 hour)",
                () -> set(Type.CLIENT_METRICS, name, "interval.ms", "5"));
        says("InvalidRequestException: Unknown client metrics configuration: no.such",
                () -> set(Type.CLIENT_METRICS, name, "no.such", "1"));
        says("InvalidConfigurationException: Illegal client matching pattern: zzz=1",
                () -> set(Type.CLIENT_METRICS, name, "match", "zzz=1"));
        says(OK, () -> set(Type.CLIENT_METRICS, name, "match", "client_id=x.*"));
        says("InvalidRequestException: Subscription name can't be empty",
                () -> set(Type.CLIENT_METRICS, "", "interval.ms", "5000"));
        eventually("it is there", () ->
                "client_id=x.*".equals(value(Type.CLIENT_METRICS, name, "match")));
        equal(show(Type.CLIENT_METRICS, name).get("metrics").source(),
                ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source of what was not set");
    }

    private void listed() throws Exception {
        var all = admin.listConfigResources().all().get();
        for (var resource : List.of(new ConfigResource(Type.TOPIC, topic),
                new ConfigResource(Type.BROKER, broker),
                new ConfigResource(Type.BROKER_LOGGER, broker),
                new ConfigResource(Type.GROUP, prefix + "group"),
                new ConfigResource(Type.CLIENT_METRICS, prefix + "metrics"))) {
            require(all.contains(resource), resource + " is listed");
        }
        alter(Type.GROUP, prefix + "group", op(OpType.DELETE, "consumer.session.timeout.ms", ""),
                op(OpType.DELETE, "consumer.heartbeat.interval.ms", ""));
        eventually("a group without settings is not listed", () ->
                admin.listConfigResources(Set.of(Type.GROUP), new ListConfigResourcesOptions())
                        .all().get().stream().noneMatch(it -> it.name().equals(prefix + "group")));
    }

    // ---- topics -------------------------------------------------------------------------------

    private void createRefused() throws Exception {
        String free = prefix + "free";
        says("TopicExistsException: Topic '" + topic + "' already exists.",
                () -> create(new NewTopic(topic, 0, (short) 1).configs(Map.of("no.such", "1"))));
        says("InvalidRequestException: Creation of internal topic __cluster_metadata is "
                + "prohibited.", () -> create(new NewTopic("__cluster_metadata", 1, (short) 1)));
        create(new NewTopic(prefix + ".c_d", 1, (short) 1));
        says("InvalidTopicException: Topic '" + prefix + ".c.d' collides with existing topic: "
                + prefix + ".c_d", () -> create(new NewTopic(prefix + ".c.d", 1, (short) 1)));
        says("InvalidPartitionsException: Number of partitions was set to an invalid non-positive "
                + "value.", () -> create(new NewTopic(free, 0, (short) 1)));
        says("InvalidReplicationFactorException: Replication factor must be larger than 0, or -1 "
                + "to use the default value.", () -> create(new NewTopic(free, 0, (short) 0)));
        says("InvalidReplicationFactorException: Unable to replicate the partition 2 time(s): The "
                + "target replication factor of 2 cannot be reached because only 1 broker(s) are "
                + "registered", () -> create(new NewTopic(free, 1, (short) 2)), true);
        says("PolicyViolationException: Excessively large number of partitions per request.",
                () -> create(new NewTopic(free, 100_000, (short) 1)));
        var empty = new HashMap<String, String>();
        empty.put("retention.ms", null);
        says("InvalidConfigurationException: Null value not supported for topic configs: "
                + "retention.ms", () -> create(new NewTopic(free, 1, (short) 1).configs(empty)));
        var asked = new NewTopic(free, Optional.of(3), Optional.empty())
                .configs(Map.of("retention.ms", "5"));
        var dry = admin.createTopics(
                List.of(asked), new CreateTopicsOptions().validateOnly(true));
        equal(dry.numPartitions(free).get(), 3, "partitions that there would be");
        equal(dry.replicationFactor(free).get(), 1, "replicas that there would be");
        equal(dry.config(free).get().get("retention.ms").value(), "5", "what it would be set to");
        require(!admin.listTopics().names().get().contains(free), "nothing was created");
    }

    private void assignments() throws Exception {
        int id = Integer.parseInt(broker);
        var manual = "InvalidReplicaAssignmentException: The manual partition assignment includes ";
        Map<Map<Integer, List<Integer>>, String> rows = Map.of(
                Map.of(0, List.of(id), 1, List.of(id)), OK,
                Map.of(1, List.of(id)), "InvalidReplicaAssignmentException: partitions should be a "
                        + "consecutive 0-based integer sequence",
                Map.of(0, List.of()), manual + "an empty replica list.",
                Map.of(0, List.of(77)), manual + "broker 77, but no such broker is registered.",
                Map.of(0, List.of(id, id)), manual + "the broker " + id + " more than once.");
        var dry = new CreateTopicsOptions().validateOnly(true);
        for (var row : rows.entrySet()) {
            says(row.getValue(), () -> {
                var asked = List.of(new NewTopic(prefix + "manual", row.getKey()));
                admin.createTopics(asked, dry).all().get();
                return OK;
            });
        }
    }

    private void partitionsRefused() throws Exception {
        says("InvalidPartitionsException: Topic already has 2 partition(s).", () -> more(2, null));
        says("InvalidPartitionsException: The topic " + topic + " currently has 2 partition(s); 1 "
                + "would not be an increase.", () -> more(1, null));
        says("InvalidReplicaAssignmentException: Attempted to add 2 additional partition(s), but "
                + "only 1 assignment(s) were specified.",
                () -> more(4, List.of(List.of(Integer.parseInt(broker)))));
        says("InvalidReplicaAssignmentException: The manual partition assignment includes broker "
                + "77, but no such broker is registered.", () -> more(3, List.of(List.of(77))));
        says(OK, () -> more(3, List.of(List.of(Integer.parseInt(broker)))));
    }

    private Object more(int count, List<List<Integer>> assignments) throws Exception {
        var wanted = assignments == null
                ? NewPartitions.increaseTo(count) : NewPartitions.increaseTo(count, assignments);
        var dry = new CreatePartitionsOptions().validateOnly(true);
        admin.createPartitions(Map.of(topic, wanted), dry).all().get();
        return OK;
    }

    private void unknownTopics() throws Exception {
        String none = prefix + "none";
        var id = TopicCollection.ofTopicIds(List.of(new Uuid(1, 2)));
        String unknown = "UnknownTopicOrPartitionException: This server does not host this "
                + "topic-partition.";
        says(unknown, () -> admin.deleteTopics(List.of(none)).all().get());
        says("UnknownTopicIdException: This server does not host this topic ID.",
                () -> admin.deleteTopics(id).all().get());
        says(unknown, () -> admin.describeTopics(List.of(none)).allTopicNames().get());
        says("InvalidTopicException: ",
                () -> admin.describeTopics(List.of("a b")).allTopicNames().get(), true);
        says("UnknownTopicIdException: ",
                () -> admin.describeTopics(id).allTopicIds().get(), true);
        says(unknown, () -> admin.createPartitions(Map.of(none, NewPartitions.increaseTo(2)))
                .all().get());
    }

    private void operations() throws Exception {
        String ofTopic = "[ALTER, ALTER_CONFIGS, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS, READ, "
                + "WRITE]";
        var options = new DescribeTopicsOptions().includeAuthorizedOperations(true);
        var byName = admin.describeTopics(List.of(topic), options).allTopicNames().get().get(topic);
        equal(sorted(byName.authorizedOperations()), ofTopic, "on a topic by name");
        var byId = admin.describeTopics(
                TopicCollection.ofTopicIds(List.of(byName.topicId())), options).allTopicIds().get();
        equal(sorted(byId.get(byName.topicId()).authorizedOperations()), ofTopic, "by id");
        var cluster = admin.describeCluster(
                new DescribeClusterOptions().includeAuthorizedOperations(true));
        equal(sorted(cluster.authorizedOperations().get()), "[ALTER, ALTER_CONFIGS, "
                + "CLUSTER_ACTION, CREATE, DESCRIBE, DESCRIBE_CONFIGS, IDEMPOTENT_WRITE]",
                "on the cluster");
    }

    // ---- the cluster --------------------------------------------------------------------------

    private void elections() throws Exception {
        var first = new TopicPartition(topic, 0);
        var far = new TopicPartition(topic, 99);
        var none = new TopicPartition(prefix + "none", 0);
        for (var type : List.of(ElectionType.PREFERRED, ElectionType.UNCLEAN)) {
            var outcomes = admin.electLeaders(type, Set.of(first, far, none)).partitions().get();
            equal(words(outcomes.get(first)), "ElectionNotNeededException: Leader election not "
                    + "needed for topic partition.", type + " of a partition with its leader");
            equal(words(outcomes.get(far)), "UnknownTopicOrPartitionException: No such partition "
                    + "as " + far, type + " of a partition that is not there");
            equal(words(outcomes.get(none)), "UnknownTopicOrPartitionException: No such topic as "
                    + none.topic(), type + " of a topic that is not there");
        }
        equal(admin.electLeaders(ElectionType.PREFERRED, null).partitions().get(), Map.of(), "all");
        equal(admin.listPartitionReassignments().reassignments().get(), Map.of(), "on the move");
    }

    private void reassignments() throws Exception {
        int id = Integer.parseInt(broker);
        String assignment = "InvalidReplicaAssignmentException: The manual partition assignment "
                + "includes ";
        says(OK, () -> reassign(topic, 0, List.of(id)));
        says(assignment + "broker 77, but no such broker is registered.",
                () -> reassign(topic, 0, List.of(77)));
        says(assignment + "the broker " + id + " more than once.",
                () -> reassign(topic, 0, List.of(id, id)));
        says("NoReassignmentInProgressException: No partition reassignment is in progress.",
                () -> reassign(topic, 0, null));
        String none = prefix + "none";
        for (var to : Arrays.asList(List.of(id), null)) {
            says("UnknownTopicOrPartitionException: Unable to find partition " + topic + ":99.",
                    () -> reassign(topic, 99, to));
            says("UnknownTopicOrPartitionException: Unable to find a topic named " + none + ".",
                    () -> reassign(none, 0, to));
        }
        var dirs = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        String dir = dirs.keySet().iterator().next();
        says(OK, () -> move(topic, 0, dir));
        says("UnknownTopicOrPartitionException: ", () -> move(topic, 99, dir), true);
        says("UnknownTopicOrPartitionException: ", () -> move(none, 0, dir), true);
        for (String wrong : List.of("/no/such", "relative", "")) {
            says("LogDirNotFoundException: ", () -> move(topic, 0, wrong), true);
            says("LogDirNotFoundException: ", () -> move(none, 0, wrong), true);
        }
    }

    private Object reassign(String name, int partition, List<Integer> to) throws Exception {
        var wanted = Optional.ofNullable(to).map(NewPartitionReassignment::new);
        admin.alterPartitionReassignments(Map.of(new TopicPartition(name, partition), wanted))
                .all().get();
        return OK;
    }

    private Object move(String name, int partition, String dir) throws Exception {
        var replica = new TopicPartitionReplica(name, partition, Integer.parseInt(broker));
        admin.alterReplicaLogDirs(Map.of(replica, dir)).all().get();
        return OK;
    }

    private void features() throws Exception {
        var known = admin.describeFeatures().featureMetadata().get();
        var group = known.finalizedFeatures().get("group.version");
        equal(group.maxVersionLevel(), (short) 1, "the level of the consumer group protocol");
        equal(known.supportedFeatures().get("group.version").maxVersion(), (short) 1, "its most");
        String failed = "InvalidUpdateVersionException: The update failed for all features since "
                + "the following feature had an error: Invalid update version ";
        says(OK, () -> update("group.version", 1, UpgradeType.UPGRADE));
        says(failed + "2 for feature group.version. Local controller " + broker
                + " only supports versions 0-1",
                () -> update("group.version", 2, UpgradeType.UPGRADE));
        says(failed + "1 for feature no.such. Local controller " + broker
                + " does not support this feature.",
                () -> update("no.such", 1, UpgradeType.UPGRADE));
        var metadata = known.finalizedFeatures().get("metadata.version");
        short level = metadata.maxVersionLevel();
        short most = known.supportedFeatures().get("metadata.version").maxVersion();
        equal(level, most, "the metadata's version is the highest");
        says(OK, () -> update("metadata.version", level, UpgradeType.UPGRADE));
        says(failed + "25 for feature metadata.version. Can't downgrade the version of this "
                + "feature without setting the upgrade type to either safe or unsafe downgrade.",
                () -> update("metadata.version", 25, UpgradeType.UPGRADE));
        says(failed + "99 for feature metadata.version. Local controller " + broker
                + " only supports versions 7-" + most,
                () -> update("metadata.version", 99, UpgradeType.UPGRADE));
        String unsupported = failed.replace("Invalid update version ", "Unsupported "
                + "metadata.version downgrade from " + level + " to 25. ");
        says(unsupported + "Refusing to perform the requested downgrade because it might delete "
                + "metadata information.",
                () -> update("metadata.version", 25, UpgradeType.SAFE_DOWNGRADE));
        says(unsupported + "Unsafe metadata downgrade is not supported in this version.",
                () -> update("metadata.version", 25, UpgradeType.UNSAFE_DOWNGRADE));
    }

    private Object update(String name, int level, UpgradeType type) throws Exception {
        var update = Map.of(name, new FeatureUpdate((short) level, type));
        admin.updateFeatures(update, new UpdateFeaturesOptions().validateOnly(true)).all().get();
        return OK;
    }

    private void quorum() throws Exception {
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        equal(Integer.toString(quorum.leaderId()), broker, "who leads");
        equal(quorum.voters().size(), 1, "voters");
        equal(quorum.observers().size(), 0, "observers");
        require(quorum.leaderEpoch() > 0 && quorum.highWatermark() > 0, "it has agreed on things");
        require(quorum.voters().get(0).logEndOffset() >= quorum.highWatermark(), "its log's end");
        require(quorum.nodes().containsKey(quorum.leaderId()), "where it is reached");
    }

    private void logDirs() throws Exception {
        int id = Integer.parseInt(broker);
        var dirs = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        equal(dirs.size(), 1, "directories");
        var dir = dirs.values().iterator().next();
        require(dir.error() == null, "it is well: " + dir.error());
        require(dir.totalBytes().orElse(-1) >= dir.usableBytes().orElse(0), "the disk's size");
        var replica = dir.replicaInfos().get(new TopicPartition(topic, 0));
        require(replica.size() == 0 && replica.offsetLag() == 0, "an empty log: " + replica);
        require(!replica.isFuture(), "it is not about to move: " + replica);
        var none = new TopicPartitionReplica(prefix + "none", 0, id);
        var one = new TopicPartitionReplica(topic, 1, id);
        var found = admin.describeReplicaLogDirs(List.of(none, one)).all().get();
        require(found.get(none).getCurrentReplicaLogDir() == null, "what is not there");
        equal(found.get(one).getCurrentReplicaLogDir(), dirs.keySet().iterator().next(), "where");
    }

    private void deleteRecords() throws Exception {
        var partition = new TopicPartition(topic, 0);
        for (long offset : new long[] {5, -2}) {
            says("OffsetOutOfRangeException: ", () -> admin.deleteRecords(
                    Map.of(partition, RecordsToDelete.beforeOffset(offset))).all().get(), true);
        }
        set(Type.TOPIC, topic, "cleanup.policy", "compact");
        eventually("a compacted topic keeps what it has", () -> {
            try {
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(0))).all().get();
                return false;
            } catch (ExecutionException error) {
                return words(Optional.of(error.getCause())).startsWith("PolicyViolationException");
            }
        });
        alter(Type.TOPIC, topic, op(OpType.DELETE, "cleanup.policy", ""));
    }

    // ---- helpers ------------------------------------------------------------------------------

    private Object create(NewTopic asked) throws Exception {
        admin.createTopics(List.of(asked)).all().get();
        return OK;
    }

    private static AlterConfigOp op(OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private Object set(Type type, String name, String setting, String value) throws Exception {
        return alter(type, name, op(OpType.SET, setting, value));
    }

    private Object alter(Type type, String name, AlterConfigOp... changes) throws Exception {
        var resource = new ConfigResource(type, name);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(changes))).all().get();
        return OK;
    }

    private Config show(Type type, String name) throws Exception {
        var resource = new ConfigResource(type, name);
        var all = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(List.of(resource), all).all().get().get(resource);
    }

    private String value(Type type, String name, String setting) throws Exception {
        var entry = show(type, name).get(setting);
        return entry == null ? null : entry.value();
    }

    private static List<String> synonyms(ConfigEntry entry) {
        var found = new ArrayList<String>();
        entry.synonyms().forEach(it -> found.add(it.name() + "=" + it.value() + " " + it.source()));
        return found;
    }

    private static String sorted(Set<?> items) {
        return items.stream().map(Object::toString).collect(Collectors.toCollection(TreeSet::new))
                .toString();
    }

    private static String words(Optional<Throwable> error) {
        return error.map(it -> it.getClass().getSimpleName() + ": " + it.getMessage()).orElse(OK);
    }

    private static void says(String expected, Call call) throws Exception {
        says(expected, call, false);
    }

    /** The call's outcome reads so, or begins so: its refusal with the code's class, or ok. */
    private static void says(String expected, Call call, boolean begins) throws Exception {
        String said;
        try {
            call.run();
            said = OK;
        } catch (ExecutionException error) {
            said = words(Optional.of(error.getCause()));
        } catch (NumberFormatException error) {
            return; // the client itself asks no broker of that name
        }
        require(begins ? said.startsWith(expected) : said.equals(expected),
                "«" + said + "» instead of «" + expected + "»");
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    /** Kafka's brokers follow their controller a little later. */
    private static void eventually(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (!condition.holds()) {
            require(System.nanoTime() < deadline, "still not true: " + what);
            Thread.sleep(10);
        }
    }

    private static void equal(Object actual, Object expected, String what) {
        require(Objects.equals(actual, expected), what + ": " + actual + " instead of " + expected);
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
