package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"ringmain/tests/clients/go/check"
)

const (
	groupPartitionsCount = 6
	groupRecordsCount    = 200 // a partition
)

// A member consumes in routines of its own until it is closed, marks and commits what it read.
type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	ended  chan error
	ledger *ledger

	sync.Mutex
	owned       []int32
	generations int
}

// A ledger is shared by members, whose routines run at once.
type ledger struct {
	sync.Mutex
	check.Ledger
	failed string
}

func (l *ledger) count() int {
	l.Lock()
	defer l.Unlock()
	check.Require(l.failed == "", "%s", l.failed)
	return l.Count
}

// add notes a record; what is wrong with it is told by count, in the check's own routine.
func (l *ledger) add(got *sarama.ConsumerMessage) {
	l.Lock()
	defer l.Unlock()
	defer func() {
		if thrown := recover(); thrown != nil && l.failed == "" {
			l.failed = fmt.Sprint(thrown)
		}
	}()
	l.Add(got.Topic, got.Partition, got.Offset, got.Value)
}

func newMember(name, topic string, ledger *ledger, change func(*sarama.Config)) *member {
	config := newConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Consumer.Fetch.Default = 2_000
	config.ChannelBufferSize = 0
	change(config)
	group, err := sarama.NewConsumerGroup([]string{check.Bootstrap}, check.Prefix+name, config)
	check.Done(err, "group")
	context, cancel := context.WithCancel(context.Background())
	m := &member{group: group, cancel: cancel, ended: make(chan error, 1), ledger: ledger}
	go func() {
		for context.Err() == nil {
			if err := group.Consume(context, []string{topic}, m); err != nil {
				m.ended <- err
				return
			}
		}
		m.ended <- nil
	}()
	go func() {
		for range group.Errors() { // those that matter end Consume
		}
	}()
	return m
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.Lock()
	defer m.Unlock()
	m.owned = nil
	for _, partitions := range session.Claims() {
		m.owned = append(m.owned, sorted(partitions)...)
	}
	m.generations++
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	m.Lock()
	defer m.Unlock()
	session.Commit()
	m.owned = nil
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case got, isOpen := <-claim.Messages():
			if !isOpen {
				return nil
			}
			m.ledger.add(got)
			session.MarkMessage(got, "")
			time.Sleep(time.Millisecond) // so that others join in the middle
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) partitions() []int32 {
	m.Lock()
	defer m.Unlock()
	return append([]int32{}, m.owned...)
}

func (m *member) close() {
	m.cancel()
	check.Done(<-m.ended, "the end of a member")
	check.Done(m.group.Close(), "close")
}

func shared(count int, members ...*member) {
	check.Eventually(fmt.Sprintf("%d partitions are shared", count), func() bool {
		owners := map[int32]bool{}
		for _, m := range members {
			owned := m.partitions()
			if len(owned) != count/len(members) {
				return false
			}
			for _, partition := range owned {
				owners[partition] = true
			}
		}
		return len(owners) == count
	})
}

func groupChecks() {
	for _, strategy := range []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange(),
		sarama.NewBalanceStrategyRoundRobin(), sarama.NewBalanceStrategySticky()} {
		check.Run("group, three members share and hand over every record once, "+strategy.Name(), func() {
			shareAndHandOver("share-"+strategy.Name(), func(config *sarama.Config) {
				config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
			})
		})
	}
	check.Run("group, members that speak as version 0.11 and 2.1", func() {
		versions := []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V2_1_0_0, sarama.V0_11_0_0}
		next := 0
		shareAndHandOver("share-old", func(config *sarama.Config) {
			config.Version = versions[next]
			next++
		})
	})
	check.Run("group, a static member comes back without a rebalance", staticMember)
	check.Run("group, offsets are kept by an offset manager", offsetManager)
}

func shareAndHandOver(name string, change func(*sarama.Config)) {
	topic := newTopic(name, groupPartitionsCount)
	for partition := range int32(groupPartitionsCount) {
		fill(topic, partition, groupRecordsCount)
	}
	ledger := &ledger{}
	one := newMember(name, topic, ledger, change)
	defer one.group.Close()
	check.Eventually("one reads", func() bool {
		return len(one.partitions()) == groupPartitionsCount && ledger.count() > 0
	})
	two := newMember(name, topic, ledger, change)
	three := newMember(name, topic, ledger, change)
	shared(groupPartitionsCount, one, two, three)
	two.close()
	three.close()
	shared(groupPartitionsCount, one)
	check.Eventually("all is read", func() bool {
		return ledger.count() == groupPartitionsCount*groupRecordsCount
	})
	one.close()
	check.Equal(ledger.count(), groupPartitionsCount*groupRecordsCount, "records in all")
	committed, err := admin.ListConsumerGroupOffsets(check.Prefix+name, map[string][]int32{topic: {0, 5}})
	check.Done(err, "offsets")
	for _, partition := range []int32{0, 5} {
		check.Equal(committed.GetBlock(topic, partition).Offset, groupRecordsCount, "committed")
	}
}

func staticMember() {
	topic := newTopic("static", groupPartitionsCount)
	named := func(name string) func(*sarama.Config) {
		return func(config *sarama.Config) { config.Consumer.Group.InstanceId = name }
	}
	ledger := &ledger{}
	one := newMember("static", topic, ledger, named("one"))
	defer one.close()
	two := newMember("static", topic, ledger, named("two"))
	shared(groupPartitionsCount, one, two)
	owned, generations := fmt.Sprint(two.partitions()), one.generations
	two.close()
	again := newMember("static", topic, ledger, named("two"))
	defer again.close()
	shared(groupPartitionsCount, one, again)
	check.Equal(fmt.Sprint(again.partitions()), owned, "what it owned before")
	time.Sleep(500 * time.Millisecond) // a rebalance would be told with a heartbeat
	check.Equal(one.generations, generations, "generations that the other saw")
}

func offsetManager() {
	topic := newTopic("manager", 1)
	config := newConfig()
	config.Consumer.Offsets.AutoCommit.Enable = false
	own, err := sarama.NewClient([]string{check.Bootstrap}, config)
	check.Done(err, "client")
	defer own.Close()
	for _, step := range []struct {
		before int64
		mark   int64
		reset  int64
		note   string
	}{{-2, 7, 0, "first"}, {7, 9, 0, "second ß"}, {9, 0, 3, "back"}, {3, 4, 0, "on"}} {
		config.Consumer.Offsets.Initial = sarama.OffsetOldest
		manager, err := sarama.NewOffsetManagerFromClient(check.Prefix+"manager", own)
		check.Done(err, "manager")
		partition, err := manager.ManagePartition(topic, 0)
		check.Done(err, "partition")
		next, _ := partition.NextOffset()
		check.Equal(next, step.before, "the offset before")
		if step.mark > 0 {
			partition.MarkOffset(step.mark, step.note)
		} else {
			partition.ResetOffset(step.reset, step.note)
		}
		manager.Commit()
		check.Done(manager.Close(), "close")
		for problem := range partition.Errors() {
			check.Done(problem, "commit")
		}
		told, err := admin.ListConsumerGroupOffsets(check.Prefix+"manager", nil)
		check.Done(err, "offsets")
		block := told.GetBlock(topic, 0)
		check.Equal([]any{block.Offset, block.Metadata}, []any{max(step.mark, step.reset), step.note}, "committed")
	}
	response, err := admin.AlterConsumerGroupOffsets(check.Prefix+"manager",
		map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 2, LeaderEpoch: -1}}}, nil)
	check.Done(err, "alter")
	check.Require(errors.Is(response.Errors[topic][0], sarama.ErrNoError), "altered: %v", response.Errors)
}
