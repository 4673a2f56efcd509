import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Administering groups of the classic protocol, and their offsets. */
@SuppressWarnings("deprecation") // what clients 4 call otherwise they still have
final class GroupAdminChecks extends GroupChecks {
    GroupAdminChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    @Override
    void runAll() {
        run("group admin, list and describe a group in all its states", this::listAndDescribe);
        run("group admin, list, alter and delete offsets", this::offsets);
        run("group admin, offsets of a group with members are not altered", this::offsetsInUse);
        run("group admin, delete groups", this::deleteGroups);
        run("group admin, remove members by static name", this::removeStatic);
        run("group admin, remove all members", this::removeAll);
        admin.close();
    }

    private void listAndDescribe() throws Exception {
        String topic = newTopic("described", 4, Map.of());
        String group = prefix + "described";
        try (var one = member("described", Map.of("group.instance.id", "one")).subscribe(topic);
                var two = member("described", Map.of("client.id", "second")).subscribe(topic)) {
            Member.pollUntilShared(4, List.of(one, two));
            equal(listed(Set.of()).get(group), ConsumerGroupState.STABLE, "listed with its state");
            require(listed(Set.of(ConsumerGroupState.STABLE)).containsKey(group), "by its state");
            require(!listed(Set.of(ConsumerGroupState.EMPTY)).containsKey(group), "by another");
            var told = describeGroup(group);
            equal(told.state(), ConsumerGroupState.STABLE, "state");
            equal(told.partitionAssignor(), "range", "assignor");
            equal(told.isSimpleConsumerGroup(), false, "simple");
            equal(told.coordinator().host() + ":" + told.coordinator().port(), bootstrap,
                    "coordinator");
            equal(told.members().size(), 2, "members");
            for (var member : told.members()) {
                boolean isFirst = member.groupInstanceId().isPresent();
                equal(member.groupInstanceId(), isFirst ? Optional.of("one") : Optional.empty(),
                        "static name");
                equal(member.assignment().topicPartitions(), (isFirst ? one : two).owned,
                        "partitions of a member");
                require(isFirst || member.clientId().equals("second"), "client id");
                require(member.host().startsWith("/127.0.0.1"), "host " + member.host());
                require(!member.consumerId().isEmpty(), "member id");
            }
        }
        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(
                Set.of(new MemberToRemove("one")))).all().get();
        eventually("it is empty", () -> describeGroup(group).state() == ConsumerGroupState.EMPTY);
        equal(describeGroup(group).members().size(), 0, "members left");
        equal(listed(Set.of(ConsumerGroupState.EMPTY)).get(group), ConsumerGroupState.EMPTY,
                "listed as empty");
    }

    private Map<String, ConsumerGroupState> listed(Set<ConsumerGroupState> states)
            throws Exception {
        var options = new ListConsumerGroupsOptions().inStates(states);
        Map<String, ConsumerGroupState> listed = new HashMap<>();
        admin.listConsumerGroups(options).all().get().forEach(group ->
                listed.put(group.groupId(), group.state().get()));
        return listed;
    }

    private ConsumerGroupDescription describeGroup(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private void offsets() throws Exception {
        String topic = newTopic("offsets-of", 3, Map.of());
        String group = prefix + "offsets-of";
        var all = partitions(topic, 3);
        equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(),
                Map.of(), "of a group that is not there");
        var wanted = Map.of(all.get(0), new OffsetAndMetadata(5, Optional.of(0), "by admin"),
                all.get(1), new OffsetAndMetadata(6));
        admin.alterConsumerGroupOffsets(group, wanted).all().get();
        equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), wanted,
                "all offsets");
        var expected = new HashMap<TopicPartition, OffsetAndMetadata>();
        expected.put(all.get(1), new OffsetAndMetadata(6));
        expected.put(all.get(2), null);
        equal(Version.offsets(admin, group, all.subList(1, 3)), expected, "what was asked for");
        var unknown = new TopicPartition(prefix + "none", 0);
        refused(UnknownTopicOrPartitionException.class, () -> admin.alterConsumerGroupOffsets(
                group, Map.of(unknown, new OffsetAndMetadata(1))).all().get());
        var deleted = admin.deleteConsumerGroupOffsets(group, Set.of(all.get(0)));
        deleted.all().get();
        equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(),
                Map.of(all.get(1), new OffsetAndMetadata(6)), "what is left");
        refused(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroupOffsets(
                prefix + "nobody", Set.of(all.get(0))).all().get());
        fill(topic, 1, 10);
        try (var member = member("offsets-of", Map.of()).subscribe(topic)) {
            var offsets = new java.util.ArrayList<Long>();
            member.onRecord = record -> offsets.add(record.offset());
            Member.pollUntil("four records", List.of(member), () -> offsets.size() == 4);
            equal(offsets.get(0), 6L, "where the member began");
        }
    }

    private void offsetsInUse() throws Exception {
        String topic = newTopic("in-use", 1, Map.of());
        String other = newTopic("not-in-use", 1, Map.of());
        String group = prefix + "in-use";
        var partition = new TopicPartition(topic, 0);
        var free = new TopicPartition(other, 0);
        try (var member = member("in-use", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(1, List.of(member));
            member.consumer.commitSync(Map.of(partition, new OffsetAndMetadata(0),
                    free, new OffsetAndMetadata(0)));
            refused(UnknownMemberIdException.class, () -> admin.alterConsumerGroupOffsets(
                    group, Map.of(partition, new OffsetAndMetadata(1))).all().get());
            refused(GroupSubscribedToTopicException.class, () ->
                    admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get());
            admin.deleteConsumerGroupOffsets(group, Set.of(free)).all().get();
            var told = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            equal(told.keySet(), Set.of(partition), "what is left");
        }
    }

    private void deleteGroups() throws Exception {
        String topic = newTopic("deleted", 1, Map.of());
        String group = prefix + "deleted";
        try (var member = member("deleted", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(1, List.of(member));
            member.consumer.commitSync(Map.of(
                    new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
            refused(GroupNotEmptyException.class, () ->
                    admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        admin.deleteConsumerGroups(List.of(group)).all().get();
        require(!listed(Set.of()).containsKey(group), "it is not listed");
        equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(),
                Map.of(), "its offsets are gone");
        refused(GroupIdNotFoundException.class, () ->
                admin.deleteConsumerGroups(List.of(group)).all().get());
    }

    private void removeStatic() throws Exception {
        String topic = newTopic("remove-one", 2, Map.of());
        String group = prefix + "remove-one";
        try (var one = member("remove-one", Map.of("group.instance.id", "one")).subscribe(topic)) {
            var two = member("remove-one", Map.of("group.instance.id", "two")).subscribe(topic);
            Member.pollUntilShared(2, List.of(one, two));
            two.close(); // a static member does not leave
            var gone = new RemoveMembersFromConsumerGroupOptions(
                    Set.of(new MemberToRemove("two")));
            admin.removeMembersFromConsumerGroup(group, gone).all().get();
            Member.pollUntilShared(2, List.of(one));
            refused(UnknownMemberIdException.class, () ->
                    admin.removeMembersFromConsumerGroup(group, gone).all().get());
        }
    }

    private void removeAll() throws Exception {
        String topic = newTopic("remove-all", 2, Map.of());
        String group = prefix + "remove-all";
        try (var one = member("remove-all", Map.of()).subscribe(topic);
                var two = member("remove-all", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(2, List.of(one, two));
            one.commits = false;
            two.commits = false;
            Set<String> before = memberIds(group);
            admin.removeMembersFromConsumerGroup(
                    group, new RemoveMembersFromConsumerGroupOptions()).all().get();
            Member.pollUntil("they come back as others", List.of(one, two), () -> {
                Set<String> now = memberIds(group);
                Set<String> same = new HashSet<>(now);
                same.retainAll(before);
                return now.size() == 2 && same.isEmpty();
            });
            require(one.lost.size() + two.lost.size() == 2, "they were told of the loss");
        }
    }

    private Set<String> memberIds(String group) throws ExecutionException, InterruptedException {
        Set<String> ids = new HashSet<>();
        admin.describeConsumerGroups(List.of(group)).all().get().get(group).members()
                .forEach(member -> ids.add(member.consumerId()));
        return ids;
    }
}
