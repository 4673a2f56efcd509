import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ClassicGroupDescription;
import org.apache.kafka.clients.admin.ClientMetricsResourceListing;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ClassicGroupState;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidRequestException;

/** What only the newest admin clients ask. */
final class NewAdminChecks extends Check {
    NewAdminChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        run("admin, describe many topics in pages", this::pages);
        run("admin, settings of groups and client metrics", this::groupAndMetricsConfigs);
        run("admin, list resources that have settings", this::listConfigResources);
        run("admin, list client metrics", this::listClientMetrics);
        run("admin, describe groups as classic ones", this::describeClassicGroups);
        run("admin, supported features, and those that cannot be changed so", this::features);
        run("admin, the leader epoch of a partition is told", this::leaderEpochs);
        admin.close();
    }

    private void pages() throws Exception {
        List<String> names = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            names.add(newTopic("pages-" + number, 7, Map.of()));
        }
        var small = new DescribeTopicsOptions().partitionSizeLimitPerResponse(3);
        var told = admin.describeTopics(names, small).allTopicNames().get();
        equal(told.keySet(), new HashSet<>(names), "topics");
        told.values().forEach(topic -> {
            equal(topic.partitions().size(), 7, "partitions");
            for (int index = 0; index < 7; index++) {
                equal(topic.partitions().get(index).partition(), index, "in order");
            }
        });
    }

    private void groupAndMetricsConfigs() throws Exception {
        var group = new ConfigResource(ConfigResource.Type.GROUP, prefix + "group");
        set(group, "consumer.session.timeout.ms", "50000");
        equal(get(group, "consumer.session.timeout.ms").value(), "50000", "of the group");
        equal(get(group, "consumer.session.timeout.ms").source(),
                ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "source");
        refused(InvalidConfigurationException.class, () ->
                set(group, "consumer.session.timeout.ms", "100000000"));
        refused(InvalidConfigurationException.class, () -> set(group, "no.such", "1"));
        var metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, prefix + "metrics");
        set(metrics, "interval.ms", "60000");
        equal(get(metrics, "interval.ms").value(), "60000", "of the metrics");
        refused(InvalidRequestException.class, () -> set(metrics, "interval.ms", "1"));
    }

    private void set(ConfigResource resource, String name, String value) throws Exception {
        var operation = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(operation))).all().get();
    }

    private ConfigEntry get(ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
    }

    private void listConfigResources() throws Exception {
        var metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, prefix + "listed");
        set(metrics, "interval.ms", "60000");
        var group = new ConfigResource(ConfigResource.Type.GROUP, prefix + "listed");
        set(group, "consumer.session.timeout.ms", "50000");
        String topic = newTopic("listed", 1, Map.of());
        var all = admin.listConfigResources().all().get();
        int broker = admin.describeCluster().nodes().get().iterator().next().id();
        for (var one : List.of(metrics, group,
                new ConfigResource(ConfigResource.Type.TOPIC, topic),
                new ConfigResource(ConfigResource.Type.BROKER, "" + broker))) {
            require(all.contains(one), one + " is listed");
        }
        var only = admin.listConfigResources(Set.of(ConfigResource.Type.GROUP),
                new ListConfigResourcesOptions()).all().get();
        require(only.contains(group) && !only.contains(metrics), "by type");
    }

    @SuppressWarnings("deprecation") // in favour of listConfigResources, and still asked
    private void listClientMetrics() throws Exception {
        String name = prefix + "metrics-listed";
        var metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, name);
        var group = new ConfigResource(ConfigResource.Type.GROUP, prefix + "not-metrics");
        set(group, "consumer.session.timeout.ms", "50000");
        var listing = new ClientMetricsResourceListing(name);
        require(!admin.listClientMetricsResources().all().get().contains(listing), "too early");
        set(metrics, "interval.ms", "60000");
        eventually("it is listed", () ->
                admin.listClientMetricsResources().all().get().contains(listing));
        require(!admin.listClientMetricsResources().all().get().contains(
                new ClientMetricsResourceListing(group.name())), "a group is listed");
    }

    private void describeClassicGroups() throws Exception {
        String topic = newTopic("classic", 2, Map.of());
        String group = prefix + "classic";
        var settings = Map.of("group.id", group, "client.id", "the member",
                "auto.offset.reset", "earliest");
        try (var member = new Member(consumer(settings)).subscribe(topic)) {
            Member.pollUntilShared(2, List.of(member));
            var told = describeClassic(group);
            equal(told.state(), ClassicGroupState.STABLE, "state");
            equal(told.protocol(), "consumer", "protocol");
            equal(told.protocolData(), "range", "assignor");
            equal(told.coordinator().host() + ":" + told.coordinator().port(), bootstrap,
                    "coordinator");
            equal(told.members().size(), 1, "members");
            var one = told.members().iterator().next();
            equal(one.clientId(), "the member", "client id");
            equal(one.assignment().topicPartitions(), partitions(topic, 2), "partitions");
        }
        eventually("it is empty", () -> describeClassic(group).state() == ClassicGroupState.EMPTY);
        refused(GroupIdNotFoundException.class, () -> describeClassic(prefix + "nobody"));
        String other = prefix + "not-classic";
        var newProtocol = Map.of("group.id", other, "group.protocol", "consumer",
                "auto.offset.reset", "earliest");
        try (var member = new Member(consumer(newProtocol)).subscribe(topic)) {
            Member.pollUntilShared(2, List.of(member));
            refused(GroupIdNotFoundException.class, () -> describeClassic(other));
        }
    }

    private ClassicGroupDescription describeClassic(String group) throws Exception {
        return admin.describeClassicGroups(List.of(group)).all().get().get(group);
    }

    private void features() throws Exception {
        var features = admin.describeFeatures().featureMetadata().get();
        var version = features.supportedFeatures().get("group.version");
        require(version != null && version.maxVersion() >= 1, "group.version is supported");
        require(features.finalizedFeatures().containsKey("metadata.version"), "metadata.version");
        var dry = new UpdateFeaturesOptions().validateOnly(true);
        var type = FeatureUpdate.UpgradeType.UPGRADE;
        refused(ApiException.class, () -> admin.updateFeatures(
                Map.of("group.version", new FeatureUpdate((short) 90, type)), dry).all().get());
        refused(ApiException.class, () -> admin.updateFeatures(
                Map.of("no.such", new FeatureUpdate((short) 1, type)), dry).all().get());
        admin.updateFeatures(Map.of("group.version", new FeatureUpdate((short) 1, type)), dry)
                .all().get();
    }

    private void leaderEpochs() throws Exception {
        String topic = newTopic("epochs", 1, Map.of());
        fill(topic, 0, 3);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seekToBeginning(partitions(topic, 1));
            for (var record : read(consumer, 3).values().iterator().next()) {
                require(record.leaderEpoch().isPresent(), "a record has its leader epoch");
            }
            var partition = partitions(topic, 1).get(0);
            require(consumer.offsetsForTimes(Map.of(partition, FIRST_TIMESTAMP))
                    .get(partition).leaderEpoch().isPresent(), "an offset has one");
        }
    }
}
