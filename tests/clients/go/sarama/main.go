// Command sarama checks a broker with sarama. Arguments: HOST:PORT, a prefix for names, and a part
// of the checks' names.
package main

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/IBM/sarama"
	"ringmain/tests/clients/go/check"
)

const (
	partitionsCount = 3
	recordsCount    = 6_000
)

var (
	client sarama.Client
	admin  sarama.ClusterAdmin
)

func main() {
	check.Start()
	sarama.MaxRequestSize = 20 << 20 // the broker is to refuse, not the client
	var err error
	client, err = sarama.NewClient([]string{check.Bootstrap}, newConfig())
	check.Done(err, "client")
	admin, err = sarama.NewClusterAdminFromClient(client)
	check.Done(err, "admin")
	dataChecks()
	groupChecks()
	adminChecks()
	check.Done(admin.Close(), "close")
}

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Retry.Max = 0
	config.Consumer.Return.Errors = true
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

func newTopic(name string, partitionsCount int32) string {
	topic := check.Prefix + name
	check.Done(admin.CreateTopic(topic,
		&sarama.TopicDetail{NumPartitions: partitionsCount, ReplicationFactor: 1}, false), "create "+topic)
	check.Eventually("leaders answer", func() bool {
		for partition := range partitionsCount {
			if _, err := client.GetOffset(topic, partition, sarama.OffsetNewest); err != nil {
				client.RefreshMetadata(topic)
				return false
			}
		}
		return true
	})
	return topic
}

func dataChecks() {
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP,
		sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	acks := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}
	for _, codec := range codecs {
		for _, ack := range []string{"0", "1", "all"} {
			check.Run("produce and consume, acks "+ack+", "+codec.String(), func() {
				config := newConfig()
				config.Producer.RequiredAcks = acks[ack]
				config.Producer.Compression = codec
				produceAndConsume("pc-"+ack+"-"+codec.String(), config, ack != "0")
			})
		}
		check.Run("produce and consume, idempotent, "+codec.String(), func() {
			config := newIdempotent()
			config.Producer.Compression = codec
			produceAndConsume("pc-idempotent-"+codec.String(), config, true)
		})
	}
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V2_1_0_0,
		sarama.V2_8_0_0, sarama.V3_4_0_0, sarama.V4_0_0_0} {
		check.Run("produce and consume, speaking as version "+version.String(), func() {
			config := newConfig()
			config.Version = version
			config.Producer.RequiredAcks = sarama.WaitForAll
			produceAndConsume("pc-version-"+version.String(), config, true)
		})
	}
	check.Run("one record a request, synchronously", synchronous)
	check.Run("offsets by time, and consuming from there", offsets)
	check.Run("an offset out of range is refused", outOfRange)
	check.Run("pause and resume of a partition", pauseAndResume)
	check.Run("a batch beyond the limit is refused and writing goes on", tooLarge)
}

func newIdempotent() *sarama.Config {
	config := newConfig()
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Retry.Max = 3
	config.Net.MaxOpenRequests = 1
	return config
}

// connected returns a client whose connection is open: sarama's producers may otherwise find theirs
// not open yet, which fails a batch, or repeats it where retries are allowed.
func connected(config *sarama.Config) sarama.Client {
	own, err := sarama.NewClient([]string{check.Bootstrap}, config)
	check.Done(err, "client")
	for _, broker := range own.Brokers() {
		if err := broker.Open(own.Config()); !errors.Is(err, sarama.ErrAlreadyConnected) {
			check.Done(err, "open")
		}
		_, err := broker.Connected()
		check.Done(err, "connect")
	}
	return own
}

func produceAndConsume(name string, config *sarama.Config, hasOffsets bool) {
	topic := newTopic(name, partitionsCount)
	config.Producer.Flush.MaxMessages = 200
	config.Net.MaxOpenRequests = 1
	own := connected(config)
	defer own.Close()
	producer, err := sarama.NewAsyncProducerFromClient(own)
	check.Done(err, "producer")
	go func() {
		for number := range recordsCount {
			producer.Input() <- message(topic, number)
		}
		producer.AsyncClose()
	}()
	answered := 0
	var failed error
	errorsLeft, successesLeft := producer.Errors(), producer.Successes()
	for errorsLeft != nil || successesLeft != nil {
		select {
		case refused, isOpen := <-errorsLeft:
			if !isOpen {
				errorsLeft = nil
			} else if failed == nil {
				failed = refused
			}
		case sent, isOpen := <-successesLeft:
			if !isOpen {
				successesLeft = nil
			} else if answered++; failed == nil && hasOffsets &&
				sent.Offset != int64(sent.Metadata.(int)/partitionsCount) {
				failed = fmt.Errorf("offset %d of record %d", sent.Offset, sent.Metadata)
			}
		}
	}
	check.Done(failed, "produce")
	check.Equal(answered, recordsCount, "answers")
	config.ChannelBufferSize = recordsCount // a partition waits until the one before is compared
	consumer, err := sarama.NewConsumer([]string{check.Bootstrap}, config)
	check.Done(err, "consumer")
	defer consumer.Close()
	var readers []sarama.PartitionConsumer
	for partition := range int32(partitionsCount) {
		reader, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		check.Done(err, "consume")
		defer reader.Close()
		readers = append(readers, reader)
	}
	for partition, reader := range readers {
		for index, got := range take(reader, recordsCount/partitionsCount) {
			check.Equal(got.Offset, index, "offset")
			number := index*partitionsCount + partition
			actual := check.Record{Key: got.Key, Value: got.Value, Timestamp: got.Timestamp.UnixMilli()}
			for _, header := range got.Headers {
				actual.HeaderNames = append(actual.HeaderNames, string(header.Key))
				actual.Headers = append(actual.Headers, header.Value)
			}
			check.Same(actual, check.NewRecord(number), number)
		}
	}
}

func message(topic string, number int) *sarama.ProducerMessage {
	from := check.NewRecord(number)
	built := &sarama.ProducerMessage{Topic: topic, Partition: int32(number % partitionsCount),
		Timestamp: time.UnixMilli(from.Timestamp), Metadata: number}
	if from.Key != nil {
		built.Key = sarama.ByteEncoder(from.Key)
	}
	if from.Value != nil {
		built.Value = sarama.ByteEncoder(from.Value)
	}
	for index, name := range from.HeaderNames {
		built.Headers = append(built.Headers,
			sarama.RecordHeader{Key: []byte(name), Value: from.Headers[index]})
	}
	return built
}

func read(consumer sarama.Consumer, topic string, partition int32, from int64, count int) []*sarama.ConsumerMessage {
	reader, err := consumer.ConsumePartition(topic, partition, from)
	check.Done(err, "consume")
	defer reader.Close()
	return take(reader, count)
}

func take(reader sarama.PartitionConsumer, count int) []*sarama.ConsumerMessage {
	var got []*sarama.ConsumerMessage
	deadline := time.After(check.WaitMax)
	for len(got) < count {
		select {
		case one := <-reader.Messages():
			got = append(got, one)
		case err := <-reader.Errors():
			check.Done(err, "an error while reading")
		case <-deadline:
			check.Require(false, "%d of %d records did not come", count-len(got), count)
		}
	}
	return got
}

// fill appends "value N" from 0, N at FirstTimestamp + N.
func fill(topic string, partition int32, count int) {
	config := newConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	own := connected(config)
	defer own.Close()
	producer, err := sarama.NewSyncProducerFromClient(own)
	check.Done(err, "producer")
	defer producer.Close()
	var batch []*sarama.ProducerMessage
	for number := range count {
		batch = append(batch, &sarama.ProducerMessage{Topic: topic, Partition: partition,
			Value:     sarama.StringEncoder(fmt.Sprintf("value %d", number)),
			Timestamp: time.UnixMilli(check.FirstTimestamp + int64(number))})
		if len(batch) == 50 || number == count-1 {
			check.Done(producer.SendMessages(batch), "fill")
			batch = nil
		}
	}
}

func newConsumer() sarama.Consumer {
	consumer, err := sarama.NewConsumer([]string{check.Bootstrap}, newConfig())
	check.Done(err, "consumer")
	return consumer
}

func synchronous() {
	topic := newTopic("sync", 1)
	producer, err := sarama.NewSyncProducer([]string{check.Bootstrap}, newIdempotent())
	check.Done(err, "producer")
	defer producer.Close()
	for number := range 200 {
		partition, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic,
			Value: sarama.StringEncoder(fmt.Sprintf("value %d", number))})
		check.Done(err, "send")
		check.Equal([]int64{int64(partition), offset}, []int64{0, int64(number)}, "partition and offset")
	}
	consumer := newConsumer()
	defer consumer.Close()
	for index, got := range read(consumer, topic, 0, sarama.OffsetOldest, 200) {
		check.Equal(string(got.Value), fmt.Sprintf("value %d", index), "value")
	}
}

func offsets() {
	topic := newTopic("offsets", 1)
	fill(topic, 0, 500)
	at := func(time int64) int64 {
		offset, err := client.GetOffset(topic, 0, time)
		check.Done(err, "offset")
		return offset
	}
	check.Equal(at(sarama.OffsetOldest), 0, "oldest")
	check.Equal(at(sarama.OffsetNewest), 500, "newest")
	check.Equal(at(check.FirstTimestamp+333), 333, "by time")
	check.Equal(at(check.FirstTimestamp+1_000), -1, "of no record")
	consumer := newConsumer()
	defer consumer.Close()
	got := read(consumer, topic, 0, 333, 1)[0]
	check.Equal(string(got.Value), "value 333", "the record there")
	check.Equal(got.Timestamp.UnixMilli(), check.FirstTimestamp+333, "its time")
	newest, err := consumer.ConsumePartition(topic, 0, sarama.OffsetNewest)
	check.Done(err, "consume")
	defer newest.Close()
	fill(topic, 0, 1)
	check.Equal(take(newest, 1)[0].Offset, 500, "the first that comes later")
}

func outOfRange() {
	topic := newTopic("range", 1)
	fill(topic, 0, 10)
	consumer := newConsumer()
	defer consumer.Close()
	_, err := consumer.ConsumePartition(topic, 0, 500)
	check.Require(errors.Is(err, sarama.ErrOffsetOutOfRange), "refused with %v", err)
}

func pauseAndResume() {
	topic := newTopic("paused", 1)
	consumer := newConsumer()
	defer consumer.Close()
	reader, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	check.Done(err, "consume")
	defer reader.Close()
	reader.Pause()
	time.Sleep(600 * time.Millisecond) // a fetch that waits at the broker still brings records
	fill(topic, 0, 50)
	check.Require(reader.IsPaused(), "it is paused")
	check.Equal(len(reader.Messages()), 0, "records while paused")
	reader.Resume()
	for index, got := range take(reader, 50) {
		check.Equal(got.Offset, index, "offset")
	}
}

func tooLarge() {
	topic := newTopic("large", 1)
	config := newConfig()
	config.Producer.MaxMessageBytes = 10 << 20
	own := connected(config)
	defer own.Close()
	producer, err := sarama.NewSyncProducerFromClient(own)
	check.Done(err, "producer")
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic,
		Value: sarama.ByteEncoder(check.Noise(2 << 20))})
	check.Require(errors.Is(err, sarama.ErrMessageSizeTooLarge), "refused with %v", err)
	_, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic,
		Value: sarama.StringEncoder("small")})
	check.Done(err, "the small one")
	check.Equal(offset, 0, "offset of the first that is accepted")
}

func sorted(partitions []int32) []int32 {
	sort.Slice(partitions, func(a, b int) bool { return partitions[a] < partitions[b] })
	return partitions
}
