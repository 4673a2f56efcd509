// Command franz checks a broker with franz-go. Arguments: HOST:PORT, a prefix for names, and a part
// of the checks' names.
package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"ringmain/tests/clients/go/check"
)

var (
	ctx   = context.Background()
	admin *kadm.Client
)

func main() {
	check.Start()
	client := newClient()
	admin = kadm.NewClient(client)
	dataChecks()
	groupChecks()
	adminChecks()
	client.Close()
}

func newClient(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(check.Bootstrap)}, options...)...)
	check.Done(err, "new client")
	return client
}

func newTopic(name string, partitionsCount int32) string {
	topic := check.Prefix + name
	created, err := admin.CreateTopic(ctx, partitionsCount, 1, nil, topic)
	check.Done(err, "create "+topic)
	check.Equal(created.NumPartitions, partitionsCount, "partitions")
	check.Eventually("leaders answer", func() bool {
		ends, err := admin.ListEndOffsets(ctx, topic)
		return err == nil && ends.Error() == nil && len(ends[topic]) == int(partitionsCount)
	})
	return topic
}

// fill appends "value N" from 0 to each partition, N at FirstTimestamp + N, in small batches.
func fill(topic string, partitionsCount, recordsCount int) {
	producer := newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(1_000), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxProduceRequestsInflightPerBroker(1))
	defer producer.Close()
	var records []*kgo.Record
	for number := range recordsCount {
		for partition := range partitionsCount {
			records = append(records, &kgo.Record{
				Topic: topic, Partition: int32(partition),
				Value:     []byte(fmt.Sprintf("value %d", number)),
				Timestamp: timeOf(check.FirstTimestamp + int64(number)),
			})
		}
	}
	check.Done(producer.ProduceSync(ctx, records...).FirstErr(), "fill")
}

// read polls until that many records came, and returns them by partition, in order.
func read(client *kgo.Client, count int) map[int32][]*kgo.Record {
	got := map[int32][]*kgo.Record{}
	deadline, cancel := context.WithTimeout(ctx, check.WaitMax)
	defer cancel()
	for left := count; left > 0; {
		fetches := client.PollFetches(deadline)
		check.Done(fetches.Err(), fmt.Sprintf("poll, %d of %d records left", left, count))
		fetches.EachRecord(func(record *kgo.Record) {
			of := got[record.Partition]
			if len(of) > 0 {
				check.Equal(record.Offset, of[len(of)-1].Offset+1, "next offset")
			}
			got[record.Partition] = append(of, record)
			left--
		})
	}
	return got
}
