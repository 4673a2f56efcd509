package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
	"ringmain/tests/clients/go/check"
)

func adminChecks() {
	check.Run("admin, create, list, describe and delete topics", topics)
	check.Run("admin, more partitions", morePartitions)
	check.Run("admin, delete records", deleteRecords)
	check.Run("admin, settings of topics", topicConfigs)
	check.Run("admin, offsets", listOffsets)
	check.Run("admin, groups and their end", groups)
	check.Run("admin, the cluster and its log directories", cluster)
	check.Run("admin, electing leaders", electLeaders)
}

func refused(err, expected error, what string) {
	check.Require(errors.Is(err, expected), "%s: refused with %v, not %v", what, err, expected)
}

func pointer(text string) *string { return &text }

func topics() {
	name := newTopic("topic", 3)
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}
	refused(admin.CreateTopic(name, detail, false), sarama.ErrTopicAlreadyExists, "the same name")
	refused(admin.CreateTopic("a b", detail, false), sarama.ErrInvalidTopic, "a wrong name")
	refused(admin.CreateTopic(check.Prefix+"three",
		&sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}, false),
		sarama.ErrInvalidReplicationFactor, "three replicas")
	refused(admin.CreateTopic(check.Prefix+"wrong", &sarama.TopicDetail{NumPartitions: 1,
		ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": pointer("soon")}}, false),
		sarama.ErrInvalidConfig, "a wrong setting")
	check.Done(admin.CreateTopic(check.Prefix+"dry", detail, true), "only trying")
	listed, err := admin.ListTopics()
	check.Done(err, "list")
	check.Equal(listed[name].NumPartitions, 3, "partitions")
	_, isListed := listed[check.Prefix+"dry"]
	check.Require(!isListed, "what was only tried is not listed")
	described, err := admin.DescribeTopics([]string{name, check.Prefix + "none"})
	check.Done(err, "describe")
	for _, one := range described {
		if one.Name == name {
			check.Equal(len(one.Partitions), 3, "partitions described")
			check.Equal(one.Partitions[0].Isr, []int32{one.Partitions[0].Leader}, "in-sync replicas")
			check.Require(one.Uuid != sarama.Uuid{}, "it has an id")
		} else {
			refused(one.Err, sarama.ErrUnknownTopicOrPartition, "an unknown name")
		}
	}
	check.Done(admin.DeleteTopic(name), "delete")
	refused(admin.DeleteTopic(name), sarama.ErrUnknownTopicOrPartition, "deleting it again")
}

func morePartitions() {
	name := newTopic("more", 1)
	check.Done(admin.CreatePartitions(name, 9, nil, true), "only trying")
	check.Done(admin.CreatePartitions(name, 4, nil, false), "grow")
	listed, err := admin.ListTopics()
	check.Done(err, "list")
	check.Equal(listed[name].NumPartitions, 4, "partitions")
	refused(admin.CreatePartitions(name, 2, nil, false), sarama.ErrInvalidPartitions, "less")
}

func deleteRecords() {
	name := newTopic("records", 1)
	fill(name, 0, 100)
	check.Done(admin.DeleteRecords(name, map[int32]int64{0: 40}), "delete")
	oldest, err := client.GetOffset(name, 0, sarama.OffsetOldest)
	check.Done(err, "oldest")
	check.Equal(oldest, 40, "oldest")
	consumer := newConsumer()
	defer consumer.Close()
	check.Equal(string(read(consumer, name, 0, sarama.OffsetOldest, 60)[0].Value), "value 40", "the first left")
}

func topicConfigs() {
	name := newTopic("configs", 1)
	value := func(setting string) string {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name,
			ConfigNames: []string{setting}})
		check.Done(err, "describe")
		check.Equal(len(entries), 1, "settings that were asked for")
		return entries[0].Value + " of " + entries[0].Source.String()
	}
	alter := func(op sarama.IncrementalAlterConfigsOperation, setting, to string) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, name,
			map[string]sarama.IncrementalAlterConfigsEntry{setting: {Operation: op, Value: pointer(to)}}, false)
	}
	check.Done(alter(sarama.IncrementalAlterConfigsOperationSet, "retention.ms", "7200000"), "set")
	check.Equal(value("retention.ms"), "7200000 of Topic", "set")
	check.Done(alter(sarama.IncrementalAlterConfigsOperationAppend, "cleanup.policy", "compact"), "append")
	check.Equal(value("cleanup.policy"), "delete,compact of Topic", "appended")
	check.Done(alter(sarama.IncrementalAlterConfigsOperationDelete, "retention.ms", ""), "delete")
	check.Equal(value("retention.ms"), "604800000 of Default", "deleted")
	refused(alter(sarama.IncrementalAlterConfigsOperationSet, "retention.ms", "soon"),
		sarama.ErrInvalidConfig, "a wrong value")
	check.Done(admin.AlterConfig(sarama.TopicResource, name,
		map[string]*string{"segment.ms": pointer("60000")}, false), "the whole state")
	check.Equal(value("segment.ms"), "60000 of Topic", "what was named")
	check.Equal(value("cleanup.policy"), "delete of Default", "what was not")
}

func listOffsets() {
	name := newTopic("admin-offsets", 2)
	fill(name, 1, 100)
	for time, expected := range map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: 100,
		check.FirstTimestamp + 42: 42} {
		told, err := admin.ListOffsets(map[string]map[int32]int64{name: {1: time}}, nil)
		check.Done(err, "request")
		check.Equal(told[name][1].Err, sarama.ErrNoError, "answer")
		check.Equal(told[name][1].Offset, expected, fmt.Sprintf("offset of %d", time))
	}
}

func groups() {
	topic := newTopic("described", 2)
	fill(topic, 0, 10)
	group := check.Prefix + "described"
	ledger := &ledger{}
	m := newMember("described", topic, ledger, func(config *sarama.Config) {
		config.Consumer.Group.InstanceId = "one"
		config.ClientID = "first"
	})
	shared(2, m)
	check.Eventually("all is read", func() bool { return ledger.count() == 10 })
	described, err := admin.DescribeConsumerGroups([]string{group})
	check.Done(err, "describe")
	told := described[0]
	check.Equal([]string{told.State, told.ProtocolType, told.Protocol},
		[]string{"Stable", "consumer", "range"}, "the group")
	check.Equal(len(told.Members), 1, "members")
	for _, one := range told.Members {
		check.Equal([]string{*one.GroupInstanceId, one.ClientId}, []string{"one", "first"}, "the member")
		assigned, err := one.GetMemberAssignment()
		check.Done(err, "assignment")
		check.Equal(sorted(assigned.Topics[topic]), []int32{0, 1}, "its partitions")
	}
	listed, err := admin.ListConsumerGroups()
	check.Done(err, "list")
	check.Equal(listed[group], "consumer", "listed")
	refused(admin.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup, "deleting it with members")
	m.close()
	left, err := admin.RemoveMemberFromConsumerGroup(group, []string{"one"})
	check.Done(err, "remove")
	check.Equal(left.Err, sarama.ErrNoError, "removed")
	check.Done(admin.DeleteConsumerGroupOffset(group, topic, 0), "delete an offset")
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
	check.Done(err, "offsets")
	check.Equal(offsets.GetBlock(topic, 0).Offset, -1, "the deleted offset")
	check.Done(admin.DeleteConsumerGroup(group), "delete")
	refused(admin.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound, "deleting it again")
}

func cluster() {
	brokers, controller, err := admin.DescribeCluster()
	check.Done(err, "cluster")
	check.Equal(len(brokers), 1, "brokers")
	check.Equal(brokers[0].Addr(), check.Bootstrap, "address")
	check.Equal(controller, brokers[0].ID(), "controller")
	coordinator, err := admin.Coordinator(check.Prefix + "group")
	check.Done(err, "coordinator")
	check.Equal(coordinator.ID(), brokers[0].ID(), "coordinator")
	name := newTopic("dirs", 1)
	fill(name, 0, 100)
	dirs, err := admin.DescribeLogDirs([]int32{brokers[0].ID()})
	check.Done(err, "directories")
	isFound := false
	for _, dir := range dirs[brokers[0].ID()] {
		check.Require(strings.HasPrefix(dir.Path, "/"), "directory %s", dir.Path)
		for _, topic := range dir.Topics {
			if topic.Topic == name {
				isFound = true
				check.Require(topic.Partitions[0].Size > 1_000, "bytes %d", topic.Partitions[0].Size)
			}
		}
	}
	check.Require(isFound, "the topic has a directory")
}

func electLeaders() {
	name := newTopic("elect", 1)
	results, err := admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{name: {0}})
	check.Done(err, "request")
	check.Equal(results[name][0].ErrorCode, sarama.ErrElectionNotNeeded, "preferred")
}
