import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Consumer groups of the classic protocol: sharing, handing over, commits, static members. */
class GroupChecks extends Check {
    static final int PARTITIONS_COUNT = 6;
    static final int RECORDS_COUNT = 200; // a partition
    private static final String ASSIGNORS = "org.apache.kafka.clients.consumer.";

    GroupChecks(String bootstrap, String prefix) {
        super(bootstrap, prefix);
    }

    void runAll() {
        for (String assignor : List.of("RangeAssignor", "RoundRobinAssignor", "StickyAssignor",
                "CooperativeStickyAssignor")) {
            run("classic group, three members share and hand over every record once, " + assignor,
                    () -> shareAndHandOver(assignor, assignor(assignor)));
        }
        run("classic group, a cooperative rebalance moves only what must move", this::cooperative);
        run("classic group, the next member starts where the last one committed", this::resume);
        run("classic group, commits of one offset, of several, with metadata, async", this::commits);
        run("classic group, commits by themselves", this::autoCommit);
        run("classic group, where nothing was committed the reset decides", this::resetPolicies);
        run("classic group, a pattern takes up topics that come later", this::pattern);
        run("classic group, partitions that come later are shared too", this::partitionsAdded);
        run("classic group, a changed subscription and leaving", this::subscriptionChanges);
        run("classic group, a static member comes back to its partitions without a rebalance",
                this::staticMember);
        run("classic group, a static member that stays away loses its partitions", this::staticExpires);
        run("classic group, a second of the same static name fences the first", this::staticFenced);
        run("classic group, who is no member cannot commit while there are members", this::strangerCommits);
        run("classic group, seek, pause and resume of what was assigned", this::seekAndPause);
        run("classic group, twenty members and a hundred partitions", this::manyMembers);
        admin.close();
    }

    Member member(String group, Map<String, String> more) {
        var settings = new HashMap<String, String>();
        settings.put("group.id", prefix + group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", "10000");
        settings.put("heartbeat.interval.ms", "200");
        settings.put("max.poll.records", "20");
        settings.putAll(more);
        return new Member(consumer(settings));
    }

    private static Map<String, String> assignor(String name) {
        return Map.of("partition.assignment.strategy", ASSIGNORS + name);
    }

    // ---- sharing ------------------------------------------------------------------------------

    final void shareAndHandOver(String assignor, Map<String, String> settings) throws Exception {
        String topic = filledTopic("share-" + assignor);
        String group = "share-" + assignor;
        var ledger = new Ledger(RECORDS_COUNT);
        try (var one = member(group, settings).subscribe(topic)) {
            one.onRecord = ledger::add;
            Member.pollUntil("one owns all", List.of(one),
                    () -> one.owned.size() == PARTITIONS_COUNT && ledger.count() > 0);
            try (var two = member(group, settings).subscribe(topic);
                    var three = member(group, settings).subscribe(topic)) {
                two.onRecord = ledger::add;
                three.onRecord = ledger::add;
                var all = List.of(one, two, three);
                Member.pollUntilShared(PARTITIONS_COUNT, all);
                all.forEach(member -> equal(member.owned.size(), 2, "partitions of each"));
            }
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
            Member.pollUntil("all is read", List.of(one),
                    () -> ledger.count() == PARTITIONS_COUNT * RECORDS_COUNT);
            one.consumer.commitSync();
            var ends = one.consumer.committed(Set.copyOf(partitions(topic, PARTITIONS_COUNT)));
            ends.forEach((partition, end) -> equal(end.offset(), (long) RECORDS_COUNT, "committed"));
        }
        ledger.mustBeWhole(PARTITIONS_COUNT);
    }

    private void cooperative() throws Exception {
        String topic = filledTopic("cooperative");
        var settings = assignor("CooperativeStickyAssignor");
        try (var one = member("cooperative", settings).subscribe(topic)) {
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
            try (var two = member("cooperative", settings).subscribe(topic)) {
                Member.pollUntilShared(PARTITIONS_COUNT, List.of(one, two));
                equal(one.revocations, List.of(two.owned), "what was taken of the first");
                equal(one.owned.size(), 3, "what the first kept");
            }
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
            equal(one.revocations.size(), 1, "nothing was taken when the second left");
        }
    }

    final void manyMembers() throws Exception {
        String topic = newTopic("many", 100, Map.of());
        var members = new ArrayList<Member>();
        try {
            for (int number = 0; number < 20; number++) {
                members.add(member("many", Map.of()).subscribe(topic));
            }
            Member.pollUntil("each owns five", members,
                    () -> members.stream().allMatch(member -> member.owned.size() == 5));
            Set<TopicPartition> owned = new HashSet<>();
            members.forEach(member -> owned.addAll(member.owned));
            equal(owned.size(), 100, "all partitions are owned");
        } finally {
            members.forEach(Member::close);
        }
    }

    final void pattern() throws Exception {
        String first = newTopic("pattern-a", 2, Map.of());
        newTopic("other-a", 2, Map.of());
        var settings = Map.of("metadata.max.age.ms", "300");
        try (var member = member("pattern", settings)) {
            member.commits = false; // a commit for a topic that is gone is tried until time is up
            member.consumer.subscribe(Pattern.compile(Pattern.quote(prefix) + "pattern-.*"), member);
            Member.pollUntilShared(2, List.of(member));
            String second = newTopic("pattern-b", 3, Map.of());
            Member.pollUntilShared(5, List.of(member));
            equal(topicsOf(member), Set.of(first, second), "topics");
            admin.deleteTopics(List.of(first)).all().get();
            Member.pollUntil("the deleted one is gone", List.of(member),
                    () -> topicsOf(member).equals(Set.of(second)));
        }
    }

    final void partitionsAdded() throws Exception {
        String topic = newTopic("grows", 2, Map.of());
        var settings = Map.of("metadata.max.age.ms", "300");
        try (var one = member("grows", settings).subscribe(topic);
                var two = member("grows", settings).subscribe(topic)) {
            Member.pollUntilShared(2, List.of(one, two));
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Member.pollUntilShared(4, List.of(one, two));
            equal(one.owned.size(), 2, "partitions of the first");
        }
    }

    final void subscriptionChanges() throws Exception {
        String a = newTopic("change-a", 2, Map.of());
        String b = newTopic("change-b", 2, Map.of());
        try (var one = member("change", Map.of()).subscribe(a);
                var two = member("change", Map.of()).subscribe(a, b)) {
            Member.pollUntilShared(4, List.of(one, two));
            equal(topicsOf(one), Set.of(a), "what the first asked for");
            one.subscribe(b);
            Member.pollUntil("it owns the other", List.of(one, two), () ->
                    topicsOf(one).equals(Set.of(b)));
            Member.pollUntilShared(4, List.of(one, two));
            equal(topicsOf(one), Set.of(b), "what it asks for now");
            one.consumer.unsubscribe();
            require(one.owned.isEmpty(), "nothing is left after leaving");
            Member.pollUntilShared(4, List.of(two));
        }
    }

    static Set<String> topicsOf(Member member) {
        Set<String> topics = new HashSet<>();
        member.owned.forEach(partition -> topics.add(partition.topic()));
        return topics;
    }

    // ---- commits ------------------------------------------------------------------------------

    final void resume() throws Exception {
        String topic = newTopic("resume", 1, Map.of());
        fill(topic, 0, 100);
        var partition = new TopicPartition(topic, 0);
        for (long start : new long[] {0, 30, 70}) {
            try (var member = member("resume", Map.of("max.poll.records", "7")).subscribe(topic)) {
                var first = new AtomicReference<Long>();
                member.onRecord = record -> {
                    first.compareAndSet(null, record.offset());
                    equal(text(record.value()), "value " + record.offset(), "its value");
                };
                Member.pollUntil("a record", List.of(member), () -> first.get() != null);
                equal(first.get(), start, "first offset");
                long next = start == 0 ? 30 : 70;
                member.consumer.seek(partition, next); // what leaving commits is the position
                member.consumer.commitSync();
            }
        }
    }

    final void commits() throws Exception {
        String topic = newTopic("commits", 3, Map.of());
        IntStream.range(0, 3).forEach(partition -> fill(topic, partition, 50));
        var all = partitions(topic, 3);
        try (var consumer = consumer(Map.of("group.id", prefix + "commits"))) {
            equal(consumer.committed(Set.copyOf(all)).get(all.get(0)), null, "before any");
            consumer.assign(all);
            consumer.commitSync(Map.of(all.get(0), new OffsetAndMetadata(7, "note ß")));
            var told = consumer.committed(Set.copyOf(all));
            equal(told.get(all.get(0)), new OffsetAndMetadata(7, "note ß"), "with metadata");
            equal(told.get(all.get(1)), null, "of another partition");
            var answer = new AtomicReference<Object>();
            consumer.commitAsync(
                    Map.of(all.get(1), new OffsetAndMetadata(8), all.get(2),
                            new OffsetAndMetadata(9)),
                    (offsets, error) -> answer.set(error == null ? "done" : error));
            consumer.seekToEnd(all);
            all.forEach(consumer::position); // only this asks where the end is
            eventually("the commit is answered", () -> {
                consumer.poll(Duration.ofMillis(20));
                return answer.get() != null;
            });
            equal(answer.get(), "done", "the answer");
            consumer.seek(all.get(0), 3);
            consumer.commitSync(); // all positions; less than before is allowed
            told = consumer.committed(Set.copyOf(all));
            equal(told.get(all.get(0)).offset(), 3L, "back");
            equal(told.get(all.get(1)).offset(), 50L, "the end");
        }
        try (var other = consumer(Map.of("group.id", prefix + "commits"))) {
            equal(other.committed(Set.copyOf(all)).get(all.get(0)).offset(), 3L, "for another");
            other.assign(all);
            var first = read(other, 47).get(all.get(0)).get(0);
            equal(first.offset(), 3L, "it starts there");
            var large = Map.of(all.get(0), new OffsetAndMetadata(1, "x".repeat(5_000)));
            refused(org.apache.kafka.common.errors.OffsetMetadataTooLarge.class, () ->
                    other.commitSync(large));
        }
    }

    final void autoCommit() throws Exception {
        String topic = newTopic("auto", 1, Map.of());
        fill(topic, 0, 50);
        var partition = new TopicPartition(topic, 0);
        var settings = Map.of("enable.auto.commit", "true", "auto.commit.interval.ms", "100");
        try (var member = member("auto", settings)) {
            member.consumer.subscribe(List.of(topic));
            read(member.consumer, 50);
            eventually("it is committed", () -> {
                member.consumer.poll(Duration.ofMillis(20));
                var told = member.consumer.committed(Set.of(partition)).get(partition);
                return told != null && told.offset() == 50;
            });
            fill(topic, 0, 10);
            read(member.consumer, 10);
        }
        try (var consumer = consumer(Map.of("group.id", prefix + "auto"))) {
            long told = consumer.committed(Set.of(partition)).get(partition).offset();
            equal(told, 60L, "closing commits too");
        }
    }

    final void resetPolicies() throws Exception {
        String topic = newTopic("policies", 1, Map.of());
        fill(topic, 0, 20);
        try (var none = member("none", Map.of("auto.offset.reset", "none")).subscribe(topic)) {
            refused(NoOffsetForPartitionException.class, () ->
                    Member.pollUntil("it fails", List.of(none), () -> false));
        }
        try (var late = member("late", Map.of("auto.offset.reset", "latest")).subscribe(topic)) {
            var first = new AtomicReference<Long>();
            late.onRecord = record -> first.compareAndSet(null, record.offset());
            Member.pollUntil("it has a position", List.of(late), () ->
                    !late.owned.isEmpty() && position(late.consumer, topic) == 20);
            fill(topic, 0, 1);
            Member.pollUntil("a record", List.of(late), () -> first.get() != null);
            equal(first.get(), 20L, "the first after it came");
        }
    }

    private static long position(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        return consumer.position(new TopicPartition(topic, 0));
    }

    final void strangerCommits() throws Exception {
        String topic = newTopic("stranger", 1, Map.of());
        var partition = new TopicPartition(topic, 0);
        try (var member = member("stranger", Map.of()).subscribe(topic)) {
            Member.pollUntilShared(1, List.of(member));
            try (var stranger = consumer(Map.of("group.id", prefix + "stranger"))) {
                stranger.assign(List.of(partition));
                refused(CommitFailedException.class, () ->
                        stranger.commitSync(Map.of(partition, new OffsetAndMetadata(5))));
            }
            var told = member.consumer.committed(Set.of(partition)).get(partition);
            equal(told, null, "nothing was committed");
            member.consumer.commitSync(Map.of(partition, new OffsetAndMetadata(0)));
        }
    }

    final void seekAndPause() throws Exception {
        String topic = newTopic("paused", 2, Map.of());
        fill(topic, 0, 50);
        fill(topic, 1, 50);
        var zero = new TopicPartition(topic, 0);
        try (var member = member("paused", Map.of("max.poll.records", "5")).subscribe(topic)) {
            Member.pollUntilShared(2, List.of(member));
            member.consumer.pause(List.of(zero));
            List<Long> ofZero = new ArrayList<>();
            List<Long> ofOne = new ArrayList<>();
            member.onRecord = record ->
                    (record.partition() == 0 ? ofZero : ofOne).add(record.offset());
            member.consumer.seek(new TopicPartition(topic, 1), 45);
            Member.pollUntil("the other is read", List.of(member), () -> ofOne.contains(49L));
            equal(ofZero, List.of(), "records of the paused one");
            equal(ofOne.subList(ofOne.size() - 5, ofOne.size()),
                    List.of(45L, 46L, 47L, 48L, 49L), "after the seek");
            member.consumer.resume(List.of(zero));
            member.consumer.seek(zero, 40);
            Member.pollUntil("the first is read", List.of(member), () -> ofZero.size() == 10);
            equal(ofZero.get(0), 40L, "where it began");
        }
    }

    // ---- static members -----------------------------------------------------------------------

    static Map<String, String> named(String name) {
        return Map.of("group.instance.id", name);
    }

    final void staticMember() throws Exception {
        String topic = filledTopic("static");
        try (var one = member("static", named("one")).subscribe(topic)) {
            Set<TopicPartition> owned;
            int calls;
            try (var two = member("static", named("two")).subscribe(topic)) {
                Member.pollUntilShared(PARTITIONS_COUNT, List.of(one, two));
                owned = Set.copyOf(two.owned);
                calls = one.assignments.size();
            }
            try (var again = member("static", named("two")).subscribe(topic)) {
                Member.pollUntilShared(PARTITIONS_COUNT, List.of(one, again));
                equal(again.owned, owned, "what it owned before");
                for (int round = 0; round < 20; round++) {
                    one.poll();
                    again.poll();
                }
                equal(one.assignments.size(), calls, "calls of the other's listener");
                equal(one.revocations.size(), calls - 1, "what was taken of the other");
            }
        }
    }

    final void staticExpires() throws Exception {
        String topic = filledTopic("expires");
        try (var one = member("expires", named("one")).subscribe(topic)) {
            var settings = new HashMap<>(named("two"));
            settings.put("session.timeout.ms", "2000"); // the broker's is used by the new protocol
            try (var two = member("expires", settings).subscribe(topic)) {
                Member.pollUntilShared(PARTITIONS_COUNT, List.of(one, two));
            }
            equal(one.owned.size(), PARTITIONS_COUNT / 2, "its share while the other may come back");
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(one));
        }
    }

    private void staticFenced() throws Exception {
        String topic = filledTopic("fenced");
        try (var first = member("fenced", named("same")).subscribe(topic)) {
            Member.pollUntilShared(PARTITIONS_COUNT, List.of(first));
            try (var second = member("fenced", named("same")).subscribe(topic)) {
                Member.pollUntilShared(PARTITIONS_COUNT, List.of(second));
                refused(FencedInstanceIdException.class, () ->
                        Member.pollUntil("it is fenced", List.of(first), () -> false));
                second.poll();
                equal(second.owned.size(), PARTITIONS_COUNT, "what the second owns");
            }
        }
    }

    // ---- records ------------------------------------------------------------------------------

    final String filledTopic(String name) throws Exception {
        String topic = newTopic(name, PARTITIONS_COUNT, Map.of());
        try (var producer = producer(Map.of("acks", "all", "batch.size", "1000"))) {
            for (int number = 0; number < RECORDS_COUNT; number++) {
                for (int partition = 0; partition < PARTITIONS_COUNT; partition++) {
                    byte[] value = bytes("value " + number);
                    producer.send(new ProducerRecord<>(topic, partition, null, value));
                }
            }
        }
        return topic;
    }
}
