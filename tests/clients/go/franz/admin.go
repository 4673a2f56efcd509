package main

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"ringmain/tests/clients/go/check"
)

func adminChecks() {
	check.Run("admin, create, list, validate and delete topics", topics)
	check.Run("admin, more partitions", morePartitions)
	check.Run("admin, offsets", listOffsets)
	check.Run("admin, delete records", deleteRecords)
	check.Run("admin, settings of topics", topicConfigs)
	check.Run("admin, groups, lag and their end", groups)
	check.Run("admin, groups of the new protocol", newGroups)
	check.Run("admin, brokers, versions and coordinators", brokers)
	check.Run("admin, log directories", logDirs)
	check.Run("admin, leader epochs", leaderEpochs)
	check.Run("admin, electing leaders", electLeaders)
	check.Run("admin, producers", producers)
}

func refused(err, expected error, what string) {
	check.Require(errors.Is(err, expected), "%s: refused with %v, not %v", what, err, expected)
}

func pointer(text string) *string { return &text }

func topics() {
	name := newTopic("topic", 3)
	_, err := admin.CreateTopic(ctx, 1, 1, nil, name)
	refused(err, kerr.TopicAlreadyExists, "the same name")
	_, err = admin.CreateTopic(ctx, 1, 3, nil, check.Prefix+"replicas")
	refused(err, kerr.InvalidReplicationFactor, "three replicas")
	_, err = admin.CreateTopic(ctx, 1, 1, nil, "a b")
	refused(err, kerr.InvalidTopicException, "a wrong name")
	_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": pointer("soon")}, check.Prefix+"w")
	refused(err, kerr.InvalidConfig, "a wrong setting")
	dry, err := admin.ValidateCreateTopics(ctx, 2, 1, nil, check.Prefix+"dry")
	check.Done(err, "only trying")
	check.Done(dry.Error(), "only trying")
	told, err := admin.ListTopics(ctx, name, check.Prefix+"dry")
	check.Done(err, "list")
	check.Equal(len(told[name].Partitions), 3, "partitions")
	refused(told[check.Prefix+"dry"].Err, kerr.UnknownTopicOrPartition, "what was only tried")
	check.Require(told[name].ID != kadm.TopicID{}, "it has an id")
	for index, partition := range told[name].Partitions.Sorted() {
		check.Equal(partition.Partition, index, "partition")
		check.Equal(partition.ISR, []int32{partition.Leader}, "in-sync replicas")
	}
	deleted, err := admin.DeleteTopics(ctx, name)
	check.Done(err, "delete")
	check.Done(deleted.Error(), "delete")
	_, err = admin.DeleteTopic(ctx, name)
	refused(err, kerr.UnknownTopicOrPartition, "deleting it again")
}

func morePartitions() {
	name := newTopic("more", 1)
	grown, err := admin.UpdatePartitions(ctx, 4, name)
	check.Done(err, "request")
	check.Done(grown.Error(), "grow")
	told, err := admin.ListTopics(ctx, name)
	check.Done(err, "list")
	check.Equal(len(told[name].Partitions), 4, "partitions")
	less, err := admin.UpdatePartitions(ctx, 2, name)
	check.Done(err, "request")
	refused(less.Error(), kerr.InvalidPartitions, "less")
}

func listOffsets() {
	name := newTopic("offsets", 2)
	fill(name, 2, 100)
	at := func(offsets kadm.ListedOffsets, err error) int64 {
		check.Done(err, "request")
		check.Done(offsets.Error(), "offsets")
		told, _ := offsets.Lookup(name, 1)
		return told.Offset
	}
	check.Equal(at(admin.ListStartOffsets(ctx, name)), 0, "start")
	check.Equal(at(admin.ListEndOffsets(ctx, name)), 100, "end")
	check.Equal(at(admin.ListCommittedOffsets(ctx, name)), 100, "last stable")
	check.Equal(at(admin.ListMaxTimestampOffsets(ctx, name)), 99, "of the greatest time")
	check.Equal(at(admin.ListOffsetsAfterMilli(ctx, check.FirstTimestamp+42, name)), 42, "by time")
}

func deleteRecords() {
	name := newTopic("records", 1)
	fill(name, 1, 100)
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: name, Partition: 0, At: 40})
	deleted, err := admin.DeleteRecords(ctx, before)
	check.Done(err, "request")
	check.Done(deleted.Error(), "delete")
	told, _ := deleted.Lookup(name, 0)
	check.Equal(told.LowWatermark, 40, "low watermark")
	consumer := newClient(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer consumer.Close()
	check.Equal(read(consumer, 60)[0][0].Offset, 40, "first offset left")
}

func topicConfigs() {
	name := newTopic("configs", 1)
	alter := func(op kadm.IncrementalOp, setting, value string) error {
		altered, err := admin.AlterTopicConfigs(ctx,
			[]kadm.AlterConfig{{Op: op, Name: setting, Value: pointer(value)}}, name)
		check.Done(err, "request")
		_, err = altered.On(name, nil)
		check.Done(err, "answer")
		return altered[0].Err
	}
	value := func(setting string) string {
		configs, err := admin.DescribeTopicConfigs(ctx, name)
		check.Done(err, "describe")
		for _, config := range configs[0].Configs {
			if config.Key == setting {
				return config.MaybeValue() + " of " + config.Source.String()
			}
		}
		return "nothing"
	}
	check.Done(alter(kadm.SetConfig, "retention.ms", "7200000"), "set")
	check.Equal(value("retention.ms"), "7200000 of DYNAMIC_TOPIC_CONFIG", "set")
	check.Done(alter(kadm.AppendConfig, "cleanup.policy", "compact"), "append")
	check.Equal(value("cleanup.policy"), "delete,compact of DYNAMIC_TOPIC_CONFIG", "appended")
	check.Done(alter(kadm.DeleteConfig, "retention.ms", ""), "delete")
	check.Equal(value("retention.ms"), "604800000 of DEFAULT_CONFIG", "deleted")
	refused(alter(kadm.SetConfig, "retention.ms", "soon"), kerr.InvalidConfig, "a wrong value")
	refused(alter(kadm.SetConfig, "no.such", "1"), kerr.InvalidConfig, "a wrong name")
	stated, err := admin.AlterTopicConfigsState(ctx,
		[]kadm.AlterConfig{{Name: "segment.ms", Value: pointer("60000")}}, name)
	check.Done(err, "request")
	check.Done(stated[0].Err, "the whole state")
	check.Equal(value("segment.ms"), "60000 of DYNAMIC_TOPIC_CONFIG", "what was named")
	check.Equal(value("cleanup.policy"), "delete of DEFAULT_CONFIG", "what was not")
}

func groups() {
	topic := newTopic("described", 2)
	fill(topic, 2, 10)
	group := check.Prefix + "described"
	ledger := &check.Ledger{}
	m := newMember("described", topic, kgo.InstanceID("one"), kgo.ClientID("first"))
	pollUntil("all is read", ledger, []*member{m}, func() bool { return ledger.Count == 20 })
	check.Done(m.CommitUncommittedOffsets(ctx), "commit")
	fill(topic, 1, 5)
	described, err := admin.DescribeGroups(ctx, group)
	check.Done(err, "describe")
	told := described[group]
	check.Equal([]string{told.State, told.ProtocolType, told.Protocol},
		[]string{"Stable", "consumer", "cooperative-sticky"}, "the group")
	check.Equal(len(told.Members), 1, "members")
	check.Equal([]string{*told.Members[0].InstanceID, told.Members[0].ClientID},
		[]string{"one", "first"}, "the member")
	assigned := told.AssignedPartitions()
	check.Equal(assigned.Sorted(), fmt.Sprintf("[{%s [0 1]}]", topic), "its partitions")
	lags, err := admin.Lag(ctx, group)
	check.Done(err, "lag")
	check.Equal(lags[group].Lag.Total(), 5, "lag")
	listed, err := admin.ListGroups(ctx, "Stable")
	check.Done(err, "list")
	check.Equal(listed[group].State, "Stable", "listed")
	_, err = admin.DeleteGroup(ctx, group)
	refused(err, kerr.NonEmptyGroup, "deleting it with members")
	m.leave()
	left, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("one"))
	check.Done(err, "leave")
	check.Done(left.Error(), "leave")
	deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {1: {}}})
	check.Done(err, "delete offsets")
	check.Done(deleted.Error(), "delete offsets")
	offsets, err := admin.FetchOffsets(ctx, group)
	check.Done(err, "fetch offsets")
	check.Equal(len(offsets[topic]), 1, "offsets left")
	_, err = admin.DeleteGroup(ctx, group)
	check.Done(err, "delete")
	_, err = admin.DeleteGroup(ctx, group)
	refused(err, kerr.GroupIDNotFound, "deleting it again")
}

func newGroups() {
	topic := newTopic("new-described", 2)
	group := check.Prefix + "new-described"
	m := newMember("new-described", topic,
		append(newProtocol(kgo.RangeBalancer()), kgo.ClientID("first"))...)
	ledger := &check.Ledger{}
	pollUntilShared(2, ledger, m)
	check.Eventually("it is stable", func() bool {
		described, err := admin.DescribeConsumerGroups(ctx, group)
		check.Done(err, "describe")
		return described[group].State == "Stable"
	})
	described, err := admin.DescribeConsumerGroups(ctx, group)
	check.Done(err, "describe")
	told := described[group]
	check.Done(told.Err, "described")
	check.Equal(told.AssignorName, "range", "assignor")
	check.Equal(told.Epoch, told.AssignmentEpoch, "epochs")
	check.Equal(len(told.Members), 1, "members")
	check.Equal([]any{told.Members[0].ClientID, told.Members[0].MemberEpoch},
		[]any{"first", told.Epoch}, "the member")
	listed, err := admin.ListGroupsByType(ctx, []string{"consumer"})
	check.Done(err, "list")
	check.Equal(listed[group].ProtocolType, "consumer", "listed")
	m.leave()
	check.Eventually("it is deleted", func() bool {
		_, err := admin.DeleteGroup(ctx, group)
		return err == nil
	})
}

func brokers() {
	listed, err := admin.ListBrokers(ctx)
	check.Done(err, "brokers")
	check.Equal(len(listed), 1, "brokers")
	check.Equal(fmt.Sprintf("%s:%d", listed[0].Host, listed[0].Port), check.Bootstrap, "address")
	metadata, err := admin.BrokerMetadata(ctx)
	check.Done(err, "metadata")
	check.Require(metadata.Cluster != "", "the cluster has an id")
	check.Equal(metadata.Controller, listed[0].NodeID, "controller")
	versions, err := admin.ApiVersions(ctx)
	check.Done(err, "versions")
	check.Done(versions[listed[0].NodeID].Err, "versions")
	found := admin.FindGroupCoordinators(ctx, check.Prefix+"a", check.Prefix+"b")
	check.Done(found.Error(), "coordinators")
	for _, one := range found {
		check.Equal(one.NodeID, listed[0].NodeID, "coordinator")
	}
}

func logDirs() {
	name := newTopic("dirs", 2)
	fill(name, 1, 100)
	dirs, err := admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{name: {0: {}, 1: {}}})
	check.Done(err, "request")
	var sizes []string
	dirs.Each(func(dir kadm.DescribedLogDir) {
		check.Done(dir.Err, "answer")
		check.Require(strings.HasPrefix(dir.Dir, "/"), "directory %s", dir.Dir)
		check.Require(dir.TotalBytes > 0 && dir.UsableBytes > 0, "its space")
		for _, partition := range dir.Topics[name] {
			sizes = append(sizes, fmt.Sprint(partition.Partition, partition.Size > 1_000))
		}
	})
	sort.Strings(sizes)
	check.Equal(sizes, []string{"0 true", "1 false"}, "partitions with data")
}

func leaderEpochs() {
	name := newTopic("epochs", 1)
	fill(name, 1, 10)
	var asked kadm.OffsetForLeaderEpochRequest
	asked.Add(name, 0, 0)
	told, err := admin.OffsetForLeaderEpoch(ctx, asked)
	check.Done(err, "request")
	one := told[name][0]
	check.Done(one.Err, "answer")
	check.Equal([]any{one.LeaderEpoch, one.EndOffset}, []any{0, 10}, "epoch and its end")
}

func electLeaders() {
	name := newTopic("elect", 1)
	results, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{name: {0: {}}})
	check.Done(err, "request")
	refused(results[name][0].Err, kerr.ElectionNotNeeded, "preferred")
}

func producers() {
	name := newTopic("producers", 1)
	producer := newClient(kgo.DefaultProduceTopic(name))
	defer producer.Close()
	for range 3 {
		check.Done(producer.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(), "produce")
	}
	told, err := admin.DescribeProducers(ctx, kadm.TopicsSet{name: {0: {}}})
	check.Done(err, "request")
	partition := told[name].Partitions[0]
	check.Done(partition.Err, "answer")
	check.Equal(len(partition.ActiveProducers), 1, "producers")
	for _, one := range partition.ActiveProducers {
		check.Equal([]any{one.ProducerEpoch, one.LastSequence, one.CurrentTxnStartOffset},
			[]any{0, 2, -1}, "its state")
	}
}
