import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** Groups of the new consumer protocol (KIP-848), and groups that pass from one to the other. */
final class ConsumerProtocolChecks extends GroupChecks {
    private static final Set<String> CLASSIC_ONLY = Set.of(
            "session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy");

    ConsumerProtocolChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix + "new-");
    }

    @Override
    void runAll() {
        for (String assignor : List.of("uniform", "range")) {
            var settings = Map.of("group.remote.assignor", assignor);
            run("new group, three members share and hand over every record once, " + assignor,
                    () -> shareAndHandOver(assignor, settings));
        }
        run("new group, a rebalance moves only what must move", this::incremental);
        run("new group, an assignor that is not there is refused", this::unknownAssignor);
        run("new group, the next member starts where the last one committed", this::resume);
        run("new group, commits of one offset, of several, with metadata, async", this::commits);
        run("new group, commits by themselves", this::autoCommit);
        run("new group, where nothing was committed the reset decides", this::resetPolicies);
        run("new group, a pattern of the client takes up topics that come later", this::pattern);
        run("new group, a pattern of the broker takes up topics that come later",
                this::brokerPattern);
        run("new group, a pattern that is none is refused", this::wrongPattern);
        run("new group, partitions that come later are shared too", this::partitionsAdded);
        run("new group, a changed subscription and leaving", this::subscriptionChanges);
        run("new group, a static member comes back to its partitions without a rebalance",
                this::staticComesBack);
        run("new group, a second of the same static name is refused", this::staticTaken);
        run("new group, who is no member cannot commit while there are members",
                this::strangerCommits);
        run("new group, seek, pause and resume of what was assigned", this::seekAndPause);
        run("new group, twenty members and a hundred partitions", this::manyMembers);
        run("new group, list and describe", this::listAndDescribe);
        run("new group, delete", this::deleteGroup);
        run("new group, a session that ends gives the partitions away", this::sessionEnds);
        run("new group, a classic group becomes one member by member", this::upgrade);
        run("new group, and back", this::downgrade);
        admin.close();
    }

    @Override
    Member member(String group, Map<String, String> more) {
        var settings = new HashMap<>(Map.of("group.id", prefix + group, "group.protocol",
                "consumer", "auto.offset.reset", "earliest", "max.poll.records", "20"));
        settings.putAll(more);
        CLASSIC_ONLY.forEach(settings::remove);
        return new Member(consumer(settings));
    }

    private Member classic(String group) {
        return super.member(group, Map.of("partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"));
    }

    private void incremental() throws Exception {
        String topic = filledTopic("incremental");
        try (var one = member("incremental", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
            try (var two = member("incremental", Map.of()).subscribe(topic)) {
                Member.pollUntil("each owns three", List.of(one, two), () ->
                        one.owned.size() == 3 && two.owned.size() == 3);
                equal(one.revocations, List.of(two.owned), "what was taken of the first");
            }
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
            equal(one.revocations.size(), 1, "nothing was taken when the second left");
        }
    }

    private void unknownAssignor() throws Exception {
        String topic = newTopic("assignor", 1, Map.of());
        var settings = Map.of("group.remote.assignor", "nearest");
        try (var member = member("assignor", settings).subscribe(topic)) {
            refused(UnsupportedAssignorException.class, () ->
                    Member.pollUntil("it fails", List.of(member), () -> false));
        }
    }

    private void brokerPattern() throws Exception {
        String first = newTopic("regex-a", 2, Map.of());
        newTopic("xregex-a", 2, Map.of());
        var settings = Map.of("metadata.max.age.ms", "300");
        try (var member = member("regex", settings)) {
            var pattern = new SubscriptionPattern(prefix + "regex-[ab]");
            member.consumer.subscribe(pattern, member);
            Member.pollUntilShared(2, List.of(member));
            equal(topicsOf(member), Set.of(first), "topics");
            String second = newTopic("regex-b", 3, Map.of());
            Member.pollUntilShared(5, List.of(member));
            equal(topicsOf(member), Set.of(first, second), "topics with the new one");
        }
    }

    private void wrongPattern() throws Exception {
        try (var member = member("wrong-regex", Map.of())) {
            member.consumer.subscribe(new SubscriptionPattern("a[b"), member);
            refused(InvalidRegularExpression.class, () ->
                    Member.pollUntil("it fails", List.of(member), () -> false));
        }
    }

    private void staticComesBack() throws Exception {
        String topic = filledTopic("static");
        try (var one = member("static", named("one")).subscribe(topic)) {
            Set<TopicPartition> owned;
            int calls;
            try (var two = member("static", named("two")).subscribe(topic)) {
                Member.pollUntil("each owns three", List.of(one, two), () ->
                        one.owned.size() == 3 && two.owned.size() == 3);
                owned = Set.copyOf(two.owned);
                calls = one.assignments.size();
            }
            equal(describeGroup("static").members().size(), 2, "the other may come back");
            try (var again = member("static", named("two")).subscribe(topic)) {
                Member.pollUntil("it owns three again", List.of(one, again),
                        () -> again.owned.size() == 3);
                equal(again.owned, owned, "what it owned before");
                equal(one.assignments.size(), calls, "calls of the other's listener");
                equal(one.owned.size(), 3, "what the other owns");
            }
        }
    }

    private void staticTaken() throws Exception {
        String topic = filledTopic("taken");
        try (var first = member("taken", named("same")).subscribe(topic)) {
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(first));
            try (var second = member("taken", named("same")).subscribe(topic)) {
                refused(UnreleasedInstanceIdException.class, () ->
                        Member.pollUntil("it is refused", List.of(second), () -> false));
            }
            first.poll();
            equal(first.owned.size(), PARTITIONS_COUNT, "what the first owns");
        }
    }

    // ---- administering ------------------------------------------------------------------------

    private void listAndDescribe() throws Exception {
        String topic = newTopic("described", 4, Map.of());
        String group = prefix + "described";
        try (var one = member("described", Map.of("client.id", "first")).subscribe(topic);
                var two = member("described", named("two")).subscribe(topic)) {
            Member.pollUntil("each owns two", List.of(one, two), () ->
                    one.owned.size() == 2 && two.owned.size() == 2);
            var listing = listed(ListGroupsOptions.forConsumerGroups()).get(group);
            equal(listing.type(), Optional.of(GroupType.CONSUMER), "type");
            equal(listing.groupState(), Optional.of(GroupState.STABLE), "state");
            equal(listing.protocol(), "consumer", "protocol");
            var classic = new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC));
            require(!listed(classic).containsKey(group), "it is not listed as classic");
            eventually("it is stable for the broker too", () ->
                    describeGroup("described").groupState() == GroupState.STABLE);
            var told = describeGroup("described");
            equal(told.type(), GroupType.CONSUMER, "type described");
            equal(told.partitionAssignor(), "uniform", "assignor");
            equal(told.members().size(), 2, "members");
            int epoch = told.groupEpoch().get();
            equal(told.targetAssignmentEpoch(), Optional.of(epoch), "target epoch");
            for (MemberDescription member : told.members()) {
                boolean isFirst = member.clientId().equals("first");
                var own = (isFirst ? one : two).owned;
                equal(member.assignment().topicPartitions(), own, "partitions");
                equal(member.targetAssignment().get().topicPartitions(), own, "target");
                equal(member.memberEpoch(), Optional.of(epoch), "member epoch");
                equal(member.upgraded(), Optional.of(true), "it speaks the new protocol");
                equal(member.groupInstanceId(), isFirst ? Optional.empty() : Optional.of("two"),
                        "static name");
            }
        }
        refused(GroupIdNotFoundException.class, () -> describeGroup("nobody"));
    }

    private Map<String, GroupListing> listed(ListGroupsOptions options) throws Exception {
        Map<String, GroupListing> listed = new HashMap<>();
        admin.listGroups(options).all().get().forEach(one -> listed.put(one.groupId(), one));
        return listed;
    }

    private ConsumerGroupDescription describeGroup(String name) throws Exception {
        String group = prefix + name;
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private void deleteGroup() throws Exception {
        String topic = newTopic("deleted", 1, Map.of());
        var group = List.of(prefix + "deleted");
        try (var member = member("deleted", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(1, List.of(member));
            refused(GroupNotEmptyException.class, () ->
                    admin.deleteConsumerGroups(group).all().get());
        }
        eventually("it is empty", () -> describeGroup("deleted").groupState() == GroupState.EMPTY);
        admin.deleteConsumerGroups(group).all().get();
        refused(GroupIdNotFoundException.class, () -> describeGroup("deleted"));
    }

    /** The session of this group is 1 s, by its own setting; a member leaves without a word. */
    private void sessionEnds() throws Exception {
        String topic = newTopic("session", 2, Map.of());
        var resource = new ConfigResource(ConfigResource.Type.GROUP, prefix + "session");
        var short1 = new ConfigEntry("consumer.session.timeout.ms", "1500");
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(short1, AlterConfigOp.OpType.SET)))).all().get();
        try (var one = member("session", Map.of()).subscribe(topic)) {
            var two = member("session", named("two")).subscribe(topic);
            Member.pollUntilShared(2, List.of(one, two));
            two.commits = false;
            two.consumer.close(CloseOptions.timeout(Duration.ofSeconds(5))); // static: no goodbye
            equal(describeGroup("session").members().size(), 2, "members at first");
            Member.pollUntilShared(2, List.of(one));
            equal(describeGroup("session").members().size(), 1, "members after its session");
        }
    }

    // ---- from one protocol to the other -------------------------------------------------------

    private void upgrade() throws Exception {
        String topic = filledTopic("upgrade");
        var ledger = new Ledger(RECORDS_COUNT);
        var members = new ArrayList<Member>();
        try {
            members.add(classic("upgrade").subscribe(topic));
            members.add(classic("upgrade").subscribe(topic));
            members.forEach(member -> member.onRecord = ledger::add);
            Member.pollUntilShared(PARTITIONS_COUNT, members);
            equal(describeGroup("upgrade").type(), GroupType.CLASSIC, "type at first");
            for (int index = 0; index < 2; index++) {
                members.get(index).close();
                members.set(index, member("upgrade", Map.of()).subscribe(topic));
                members.get(index).onRecord = ledger::add;
                Member.pollUntilShared(PARTITIONS_COUNT, members);
                equal(describeGroup("upgrade").type(), GroupType.CONSUMER, "type");
                equal(describeGroup("upgrade").members().size(), 2, "members");
            }
            Member.pollUntil("all is read", members,
                    () -> ledger.count() == PARTITIONS_COUNT * RECORDS_COUNT);
        } finally {
            members.forEach(Member::close);
        }
        ledger.mustBeWhole(PARTITIONS_COUNT);
    }

    private void downgrade() throws Exception {
        String topic = filledTopic("downgrade");
        var ledger = new Ledger(RECORDS_COUNT);
        var members = new ArrayList<Member>();
        try {
            members.add(member("downgrade", Map.of()).subscribe(topic));
            members.add(member("downgrade", Map.of()).subscribe(topic));
            members.forEach(member -> member.onRecord = ledger::add);
            Member.pollUntilShared(PARTITIONS_COUNT, members);
            for (int index = 0; index < 2; index++) {
                members.get(index).close();
                members.set(index, classic("downgrade").subscribe(topic));
                members.get(index).onRecord = ledger::add;
                Member.pollUntilShared(PARTITIONS_COUNT, members);
                equal(describeGroup("downgrade").type(),
                        index == 0 ? GroupType.CONSUMER : GroupType.CLASSIC, "type");
            }
            Member.pollUntil("all is read", members,
                    () -> ledger.count() == PARTITIONS_COUNT * RECORDS_COUNT);
        } finally {
            members.forEach(Member::close);
        }
        ledger.mustBeWhole(PARTITIONS_COUNT);
    }
}
