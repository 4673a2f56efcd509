package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"ringmain/tests/clients/go/check"

	"errors"
)

const (
	groupPartitionsCount = 6
	groupRecordsCount    = 200 // a partition
)

// A member polls in step with the others of its group, and knows what it owns.
type member struct {
	*kgo.Client
	sync.Mutex // callbacks come from the client's own routine
	owned      map[int32]bool
	assigned   int // calls with something in it
	revoked    int
	lost       int
}

func newMember(group string, topic string, options ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}}
	options = append([]kgo.Opt{
		kgo.ConsumerGroup(check.Prefix + group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.SessionTimeout(10 * time.Second),
		kgo.FetchMaxPartitionBytes(1_000), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, now map[string][]int32) {
			m.Lock()
			defer m.Unlock()
			for _, partition := range now[topic] {
				m.owned[partition] = true
			}
			m.assigned += min(1, len(now[topic]))
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, client *kgo.Client, gone map[string][]int32) {
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				fmt.Println("commit at a revocation:", err)
			}
			m.remove(gone[topic])
			m.revoked += len(gone[topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			m.remove(gone[topic])
			m.lost += len(gone[topic])
		}),
	}, options...)
	m.Client = newClient(options...)
	return m
}

// newProtocol is KIP-848's; the balancer names the broker's assignor, sticky for uniform.
func newProtocol(balancer kgo.GroupBalancer) []kgo.Opt {
	return []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(balancer)}
}

func (m *member) remove(partitions []int32) {
	m.Lock()
	defer m.Unlock()
	for _, partition := range partitions {
		delete(m.owned, partition)
	}
}

func (m *member) partitions() map[int32]bool {
	m.Lock()
	defer m.Unlock()
	copied := map[int32]bool{}
	for partition := range m.owned {
		copied[partition] = true
	}
	return copied
}

// leave is close with a goodbye: commits what was read, as every revocation does.
func (m *member) leave() {
	m.AllowRebalance()
	m.CloseAllowingRebalance()
}

func (m *member) poll(ledger *check.Ledger) error {
	deadline, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	fetches := m.PollRecords(deadline, 20)
	defer m.AllowRebalance()
	if err := fetches.Err0(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	fetches.EachRecord(func(record *kgo.Record) {
		ledger.Add(record.Topic, record.Partition, record.Offset, record.Value)
	})
	return nil
}

func pollUntil(what string, ledger *check.Ledger, members []*member, condition func() bool) {
	for deadline := time.Now().Add(check.WaitMax); !condition(); {
		for _, m := range members {
			check.Done(m.poll(ledger), "poll")
		}
		if time.Now().After(deadline) {
			var owned []map[int32]bool
			for _, m := range members {
				owned = append(owned, m.partitions())
			}
			check.Require(false, "still not true: %s, owned %v, %d records", what, owned, ledger.Count)
		}
	}
}

// pollUntilShared ends when all partitions have one owner, and each member its even share.
func pollUntilShared(count int, ledger *check.Ledger, members ...*member) {
	pollUntil(fmt.Sprintf("%d partitions are shared", count), ledger, members, func() bool {
		owners := map[int32]int{}
		for _, m := range members {
			owned := m.partitions()
			if len(owned) != count/len(members) {
				return false
			}
			for partition := range owned {
				owners[partition]++
			}
		}
		return len(owners) == count
	})
}

func groupChecks() {
	balancers := []struct {
		name    string
		options []kgo.Opt
	}{
		{"range", []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}},
		{"roundrobin", []kgo.Opt{kgo.Balancers(kgo.RoundRobinBalancer())}},
		{"sticky", []kgo.Opt{kgo.Balancers(kgo.StickyBalancer())}},
		{"cooperative-sticky", []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}},
		{"new protocol, uniform", newProtocol(kgo.StickyBalancer())},
		{"new protocol, range", newProtocol(kgo.RangeBalancer())},
	}
	for index, balancer := range balancers {
		check.Run("group, three members share and hand over every record once, "+balancer.name, func() {
			shareAndHandOver(fmt.Sprintf("share-%d", index), balancer.options...)
		})
	}
	for _, protocol := range []struct {
		name    string
		options []kgo.Opt
	}{{"classic", nil}, {"new", newProtocol(kgo.StickyBalancer())}} {
		run := func(name string, body func(string, ...kgo.Opt)) {
			check.Run("group, "+name+", "+protocol.name+" protocol", func() {
				body(protocol.name, protocol.options...)
			})
		}
		run("the next member starts where the last one committed", resume)
		run("a pattern takes up topics that come later", pattern)
		run("commits by themselves", autoCommit)
	}
	check.Run("group, a static member comes back without a rebalance", staticMember)
	check.Run("group, commits with metadata, of the past, and by who is no member", commits)
}

func shareAndHandOver(name string, options ...kgo.Opt) {
	topic := newTopic(name, groupPartitionsCount)
	fill(topic, groupPartitionsCount, groupRecordsCount)
	ledger := &check.Ledger{}
	one := newMember(name, topic, options...)
	defer one.CloseAllowingRebalance()
	pollUntil("one reads", ledger, []*member{one}, func() bool {
		return len(one.partitions()) == groupPartitionsCount && ledger.Count > 0
	})
	two := newMember(name, topic, options...)
	three := newMember(name, topic, options...)
	pollUntilShared(groupPartitionsCount, ledger, one, two, three)
	two.leave()
	three.leave()
	pollUntilShared(groupPartitionsCount, ledger, one)
	pollUntil("all is read", ledger, []*member{one}, func() bool {
		return ledger.Count == groupPartitionsCount*groupRecordsCount
	})
	check.Done(one.CommitUncommittedOffsets(ctx), "the last commit")
	offsets, err := admin.FetchOffsets(ctx, check.Prefix+name)
	check.Done(err, "fetch offsets")
	for partition := range int32(groupPartitionsCount) {
		committed, _ := offsets.Lookup(topic, partition)
		check.Equal(committed.At, groupRecordsCount, fmt.Sprintf("committed of %d", partition))
	}
}

func resume(protocol string, options ...kgo.Opt) {
	name := "resume-" + protocol
	topic := newTopic(name, 1)
	fill(topic, 1, 100)
	ledger := &check.Ledger{} // one for all: nothing is read twice or left out
	for ledger.Count < 100 {
		before := ledger.Count
		m := newMember(name, topic, options...)
		pollUntil("some records", ledger, []*member{m}, func() bool { return ledger.Count > before })
		check.Done(m.CommitUncommittedOffsets(ctx), "commit")
		m.leave()
	}
}

func staticMember() {
	name := "static"
	topic := newTopic(name, groupPartitionsCount)
	ledger := &check.Ledger{}
	one := newMember(name, topic, kgo.InstanceID("one"))
	defer one.CloseAllowingRebalance()
	two := newMember(name, topic, kgo.InstanceID("two"))
	pollUntilShared(groupPartitionsCount, ledger, one, two)
	owned, assigned, revoked := fmt.Sprint(two.partitions()), one.assigned, one.revoked
	two.leave()
	again := newMember(name, topic, kgo.InstanceID("two"))
	defer again.CloseAllowingRebalance()
	pollUntilShared(groupPartitionsCount, ledger, one, again)
	check.Equal(fmt.Sprint(again.partitions()), owned, "what it owned before")
	check.Equal([]int{one.assigned, one.revoked}, []int{assigned, revoked}, "calls of the other")
}

func pattern(protocol string, options ...kgo.Opt) {
	group := "pattern-" + protocol
	newTopic(group+"-a", 2)
	newTopic("x"+group, 2)
	seen := map[string]bool{}
	consumer := newClient(append(options, kgo.ConsumerGroup(check.Prefix+group), kgo.ConsumeRegex(),
		kgo.ConsumeTopics("^"+check.Prefix+group+"-.*"), kgo.MetadataMaxAge(time.Second),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	defer consumer.Close()
	fill(check.Prefix+group+"-a", 2, 5)
	fill(check.Prefix+"x"+group, 2, 5)
	note := func(records map[int32][]*kgo.Record) {
		for _, of := range records {
			for _, record := range of {
				seen[record.Topic] = true
			}
		}
	}
	note(read(consumer, 10))
	newTopic(group+"-b", 2)
	fill(check.Prefix+group+"-b", 2, 5)
	note(read(consumer, 10))
	check.Equal(seen, map[string]bool{check.Prefix + group + "-a": true, check.Prefix + group + "-b": true},
		"topics")
}

func autoCommit(protocol string, options ...kgo.Opt) {
	name := "auto-" + protocol
	topic := newTopic(name, 1)
	fill(topic, 1, 50)
	consumer := newClient(append(options, kgo.ConsumerGroup(check.Prefix+name), kgo.ConsumeTopics(topic),
		kgo.AutoCommitInterval(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	read(consumer, 50)
	deadline, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	consumer.PollFetches(deadline) // who polls again is done with what came before
	consumer.Close()
	offsets, err := admin.FetchOffsets(ctx, check.Prefix+name)
	check.Done(err, "fetch offsets")
	committed, _ := offsets.Lookup(topic, 0)
	check.Equal(committed.At, 50, "committed")
}

func commits() {
	topic := newTopic("commits", 2)
	group := check.Prefix + "commits"
	var wanted kadm.Offsets
	wanted.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: 0, Metadata: "note ß"})
	wanted.Add(kadm.Offset{Topic: topic, Partition: 1, At: 3, LeaderEpoch: -1})
	check.Done(admin.CommitAllOffsets(ctx, group, wanted), "commit")
	offsets, err := admin.FetchOffsets(ctx, group)
	check.Done(err, "fetch")
	told, _ := offsets.Lookup(topic, 0)
	check.Equal([]any{told.At, told.LeaderEpoch, told.Metadata}, []any{7, 0, "note ß"}, "with metadata")
	told, _ = offsets.Lookup(topic, 1)
	check.Equal([]any{told.At, told.LeaderEpoch, told.Metadata}, []any{3, -1, ""}, "without")
	fill(topic, 2, 10)
	ledger := &check.Ledger{}
	ledger.Begin(topic, 0, 7)
	ledger.Begin(topic, 1, 3)
	m := newMember("commits", topic)
	defer m.CloseAllowingRebalance()
	pollUntil("it reads on from there", ledger, []*member{m}, func() bool { return ledger.Count == 3+7 })
	responses, err := admin.CommitOffsets(ctx, group, wanted)
	check.Done(err, "the request")
	err = responses.Error()
	check.Require(errors.Is(err, kerr.UnknownMemberID), "a stranger's commit: %v", err)
}
