package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"ringmain/tests/clients/go/check"

	"errors"
)

const (
	partitionsCount = 3
	recordsCount    = 6_000
	streamCount     = 50_000
)

func dataChecks() {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		compression := kgo.ProducerBatchCompression(codecs[codec])
		for _, ack := range []string{"0", "1", "all"} {
			check.Run("produce and consume, acks "+ack+", "+codec, func() {
				produceAndConsume("pc-"+ack+"-"+codec, ack != "0", compression,
					kgo.RequiredAcks(acks[ack]), kgo.DisableIdempotentWrite(),
					kgo.MaxProduceRequestsInflightPerBroker(1))
			})
		}
		check.Run("produce and consume, idempotent, "+codec, func() {
			produceAndConsume("pc-idempotent-"+codec, true, compression)
		})
	}
	check.Run("an idempotent producer keeps the order with five requests on their way", idempotentStream)
	check.Run("consume from offsets, from the end, and by time", startOffsets)
	check.Run("an offset out of range is reset as asked", outOfRange)
	check.Run("a waiting fetch is answered when a record comes", longPoll)
	check.Run("pause and resume partitions", pauseAndResume)
	check.Run("small fetch limits still make progress", smallFetches)
	check.Run("a batch beyond the limit is refused and writing goes on", tooLarge)
	check.Run("a topic is created on first use", firstUse)
	check.Run("keys choose their partitions", keys)
}

func timeOf(milliseconds int64) time.Time { return time.UnixMilli(milliseconds) }

func produceAndConsume(name string, hasOffsets bool, options ...kgo.Opt) {
	topic := newTopic(name, partitionsCount)
	producer := newClient(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(20_000))...)
	defer producer.Close()
	var records []*kgo.Record
	for number := range recordsCount {
		from := check.NewRecord(number)
		record := &kgo.Record{Topic: topic, Partition: int32(number % partitionsCount), Key: from.Key,
			Value: from.Value, Timestamp: timeOf(from.Timestamp)}
		for index, header := range from.HeaderNames {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header, Value: from.Headers[index]})
		}
		records = append(records, record)
	}
	for index, result := range producer.ProduceSync(ctx, records...) {
		check.Done(result.Err, "produce")
		if hasOffsets { // results come in the order of answers
			check.Equal(result.Record.Offset, numberOf(result.Record)/partitionsCount,
				fmt.Sprintf("offset of answer %d", index))
		}
	}
	consumer := newClient(kgo.ConsumeTopics(topic))
	defer consumer.Close()
	for partition, got := range read(consumer, recordsCount) {
		check.Equal(len(got), recordsCount/partitionsCount, "records of a partition")
		for index, record := range got {
			check.Equal(record.Offset, index, "offset")
			number := index*partitionsCount + int(partition)
			actual := check.Record{Key: record.Key, Value: record.Value,
				Timestamp: record.Timestamp.UnixMilli()}
			for _, header := range record.Headers {
				actual.HeaderNames = append(actual.HeaderNames, header.Key)
				actual.Headers = append(actual.Headers, header.Value)
			}
			check.Same(actual, check.NewRecord(number), number)
		}
	}
}

// numberOf is by the time, which every record has.
func numberOf(record *kgo.Record) int64 {
	return record.Timestamp.UnixMilli() - check.FirstTimestamp
}

func idempotentStream() {
	topic := newTopic("stream", 1)
	producer := newClient(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(2_000),
		kgo.MaxBufferedRecords(streamCount))
	defer producer.Close()
	failed := make(chan error, streamCount)
	for number := range streamCount {
		record := kgo.StringRecord(fmt.Sprintf("value %d", number))
		producer.Produce(ctx, record, func(record *kgo.Record, err error) {
			if err == nil && record.Offset != int64(number) {
				err = fmt.Errorf("offset %d of record %d", record.Offset, number)
			}
			if err != nil {
				failed <- err
			}
		})
	}
	check.Done(producer.Flush(ctx), "flush")
	close(failed)
	for err := range failed {
		check.Done(err, "an answer")
	}
	consumer := newClient(kgo.ConsumeTopics(topic))
	defer consumer.Close()
	for index, record := range read(consumer, streamCount)[0] {
		check.Equal(record.Offset, index, "offset")
		check.Equal(string(record.Value), fmt.Sprintf("value %d", index), "value")
	}
}

func startOffsets() {
	topic := newTopic("starts", 1)
	fill(topic, 1, 1_000)
	for offset, first := range map[kgo.Offset]int{
		kgo.NewOffset().AtStart():                              0,
		kgo.NewOffset().At(700):                                700,
		kgo.NewOffset().AtEnd().Relative(-5):                   995,
		kgo.NewOffset().AfterMilli(check.FirstTimestamp + 333): 333,
	} {
		consumer := newClient(kgo.ConsumePartitions(
			map[string]map[int32]kgo.Offset{topic: {0: offset}}))
		record := read(consumer, 1)[0][0]
		check.Equal(record.Offset, first, "first offset "+offset.String())
		check.Equal(string(record.Value), fmt.Sprintf("value %d", first), "its value")
		check.Equal(record.Timestamp.UnixMilli(), check.FirstTimestamp+int64(first), "its time")
		check.Require(record.LeaderEpoch >= 0, "it has a leader epoch")
		consumer.Close()
	}
}

func outOfRange() {
	topic := newTopic("range", 1)
	fill(topic, 1, 10)
	consumer := newClient(kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(500)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	check.Equal(read(consumer, 10)[0][0].Offset, 0, "first after the reset")
	consumer.Close()
	strict := newClient(kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(500)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer strict.Close()
	deadline, cancel := context.WithTimeout(ctx, check.WaitMax)
	defer cancel()
	err := strict.PollFetches(deadline).Err()
	check.Require(errors.Is(err, kerr.OffsetOutOfRange), "refused with %v", err)
}

func longPoll() {
	topic := newTopic("poll", 1)
	consumer := newClient(kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer consumer.Close()
	producer := newClient(kgo.DefaultProduceTopic(topic), kgo.DisableIdempotentWrite())
	defer producer.Close()
	for round := range 3 {
		began := time.Now()
		value := fmt.Sprintf("r%d", round)
		check.Done(producer.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(), "produce")
		check.Equal(string(read(consumer, 1)[0][0].Value), value, "the record")
		check.Require(time.Since(began) < 5*time.Second, "it came after %v", time.Since(began))
	}
}

func pauseAndResume() {
	topic := newTopic("paused", 2)
	fill(topic, 2, 50)
	consumer := newClient(kgo.ConsumeTopics(topic))
	defer consumer.Close()
	zero := map[string][]int32{topic: {0}}
	consumer.PauseFetchPartitions(zero)
	got := read(consumer, 50)
	check.Equal(len(got[0]), 0, "records of the paused one")
	check.Equal(len(got[1]), 50, "records of the other")
	consumer.ResumeFetchPartitions(zero)
	got = read(consumer, 50)
	check.Equal(len(got[0]), 50, "records of the resumed one")
	check.Equal(string(got[0][49].Value), "value 49", "its last")
}

func smallFetches() {
	topic := newTopic("small", 3)
	fill(topic, 3, 200)
	consumer := newClient(kgo.ConsumeTopics(topic), kgo.FetchMaxBytes(1), kgo.FetchMaxPartitionBytes(1))
	defer consumer.Close()
	for partition, records := range read(consumer, 600) {
		check.Equal(len(records), 200, fmt.Sprintf("records of %d", partition))
	}
}

func tooLarge() {
	topic := newTopic("large", 1)
	producer := newClient(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(10<<20),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite())
	defer producer.Close()
	large := &kgo.Record{Value: check.Noise(2 << 20)}
	err := producer.ProduceSync(ctx, large).FirstErr()
	check.Require(errors.Is(err, kerr.MessageTooLarge), "refused with %v", err)
	small, err := producer.ProduceSync(ctx, kgo.StringRecord("small")).First()
	check.Done(err, "the small one")
	check.Equal(small.Offset, 0, "offset of the first that is accepted")
}

func firstUse() {
	topic := check.Prefix + "first-use"
	producer := newClient(kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(),
		kgo.DisableIdempotentWrite())
	defer producer.Close()
	record, err := producer.ProduceSync(ctx, kgo.StringRecord("first")).First()
	check.Done(err, "produce")
	check.Equal(record.Offset, 0, "its offset")
}

func keys() {
	topic := newTopic("keys", 8)
	producer := newClient(kgo.DefaultProduceTopic(topic), kgo.DisableIdempotentWrite())
	defer producer.Close()
	// Where Kafka's own client puts these keys in 8 partitions.
	for key, partition := range map[string]int32{"a": 4, "key": 1, "ringmain": 4, "21": 4} {
		record, err := producer.ProduceSync(ctx, kgo.KeyStringRecord(key, "x")).First()
		check.Done(err, "produce")
		check.Equal(record.Partition, partition, "partition of "+key)
	}
}
