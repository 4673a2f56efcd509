// Checks a broker with kafkajs. Arguments: HOST:PORT, a prefix for names, a part of checks' names.
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { ZstdCodec } from 'zstd-codec'
import {
  Ledger, bootstrap, equal, eventually, firstTimestamp, prefix, record, refused, require, run, sleep,
} from './check.js'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = kafkajs
const partitionsCount = 3
const recordsCount = 3_000

CompressionCodecs[CompressionTypes.Snappy] = snappy
const zstd = await new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: buffer => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({
  brokers: [bootstrap], clientId: 'kafkajs-check', logLevel: logLevel.NOTHING, retry: { retries: 4 },
})
const admin = kafka.admin()
await admin.connect()

async function newTopic(name, numPartitions = 1, configEntries = []) {
  const topic = prefix + name
  await admin.createTopics({
    waitForLeaders: true, topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }],
  })
  return topic
}

async function withProducer(options, body) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...options })
  await producer.connect()
  try {
    return await body(producer)
  } finally {
    await producer.disconnect()
  }
}

/** Appends "value N" from 0 to a partition, N at firstTimestamp + N. */
async function fill(topic, partition, count, first = 0) {
  await withProducer({}, async producer => {
    for (let from = first; from < first + count; from += 50) {
      const messages = []
      for (let n = from; n < Math.min(from + 50, first + count); n++) {
        messages.push({ partition, value: `value ${n}`, timestamp: `${firstTimestamp + n}` })
      }
      await producer.send({ topic, messages })
    }
  })
}

/** Runs a consumer until the condition holds; what a message's handler throws fails it. */
async function consume(consumer, onMessage, condition, options = {}) {
  let failed
  await consumer.run({
    autoCommit: false, ...options,
    eachMessage: async ({ topic, partition, message }) => {
      try {
        if (!failed) await onMessage(topic, partition, message)
      } catch (error) {
        failed = error
      }
    },
  })
  await eventually('all is consumed', () => {
    if (failed) throw failed
    return condition()
  })
}

async function read(topic, count, groupId = `${topic}-reader`) {
  const got = new Map()
  let seen = 0
  const consumer = kafka.consumer({ groupId })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consume(consumer, (_, partition, message) => {
      const of = got.get(partition) ?? []
      equal(Number(message.offset), of.length, 'offset')
      got.set(partition, [...of, message])
      seen++
    }, () => seen >= count)
  } finally {
    await consumer.disconnect()
  }
  return got
}

async function produceAndConsume(name, acks, compression, idempotent) {
  const topic = await newTopic(name, partitionsCount)
  const next = Array(partitionsCount).fill(0)
  await withProducer({ idempotent, maxInFlightRequests: 1 }, async producer => {
    for (let from = 0; from < recordsCount; from += 500) {
      const messages = Array.from({ length: 500 }, (_, index) => {
        const { timestamp, ...rest } = record(from + index)
        const partition = (from + index) % partitionsCount
        return { ...rest, timestamp: `${timestamp}`, partition }
      })
      const answers = await producer.send({ topic, messages, acks, compression })
      if (acks === 0) continue
      equal(answers.length, partitionsCount, 'answers')
      for (const { partition, baseOffset, errorCode } of answers) {
        equal([errorCode, Number(baseOffset)], [0, next[partition]], 'base offset')
        next[partition] += messages.filter(one => one.partition === partition).length
      }
    }
  })
  for (const [partition, messages] of await read(topic, recordsCount)) {
    equal(messages.length, recordsCount / partitionsCount, 'records of a partition')
    messages.forEach((message, index) => {
      const expected = record(index * partitionsCount + partition)
      const headers = Object.entries(message.headers).map(([name, value]) => [name, `${value}`])
      equal({
        key: message.key && `${message.key}`, value: message.value && `${message.value}`,
        headers: Object.fromEntries(headers), timestamp: Number(message.timestamp),
      }, expected, `record ${index} of ${partition}`)
    })
  }
}

for (const codec of ['None', 'GZIP', 'Snappy', 'ZSTD']) {
  for (const acks of codec === 'None' ? [0, 1, -1] : [-1]) {
    await run(`produce and consume, acks ${acks === -1 ? 'all' : acks}, ${codec.toLowerCase()}`, () =>
      produceAndConsume(`pc-${acks}-${codec}`, acks, CompressionTypes[codec], false))
  }
  await run(`produce and consume, idempotent, ${codec.toLowerCase()}`, () =>
    produceAndConsume(`pc-idempotent-${codec}`, -1, CompressionTypes[codec], true))
}

await run('keys choose their partitions', async () => {
  const topic = await newTopic('keys', 8)
  await withProducer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner }, async producer => {
    // Where Kafka's own client puts these keys in 8 partitions.
    for (const [key, partition] of Object.entries({ a: 4, key: 1, ringmain: 4, 21: 4 })) {
      const [answer] = await producer.send({ topic, messages: [{ key, value: 'x' }] })
      equal(answer.partition, partition, `partition of ${key}`)
    }
  })
})

await run('a batch beyond the limit is refused and writing goes on', async () => {
  const topic = await newTopic('large')
  await withProducer({ retry: { retries: 0 } }, async producer => {
    const value = Buffer.alloc(2 << 20, 'x')
    await refused('MESSAGE_TOO_LARGE', () => producer.send({ topic, messages: [{ value }] }))
    const [answer] = await producer.send({ topic, messages: [{ value: 'small' }] })
    equal(answer.baseOffset, '0', 'offset of the first that is accepted')
  })
})

await run('a topic is created on first use', async () => {
  const topic = `${prefix}first-use`
  await withProducer({ allowAutoTopicCreation: true }, producer =>
    producer.send({ topic, messages: [{ value: 'value 0' }] }))
  equal(`${(await read(topic, 1)).get(0)[0].value}`, 'value 0', 'its record')
})

// ---- groups ---------------------------------------------------------------------------------

const groupPartitionsCount = 6
const groupRecordsCount = 200

async function member(groupId, topic, ledger, options = {}) {
  const consumer = kafka.consumer({
    groupId: prefix + groupId, sessionTimeout: 10_000, heartbeatInterval: 200, maxWaitTimeInMs: 100,
    maxBytesPerPartition: 2_000, ...options,
  })
  const state = { consumer, owned: [], joins: 0, failed: undefined }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    state.owned = payload.memberAssignment[topic] ?? []
    state.joins++
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: true, autoCommitThreshold: 1, partitionsConsumedConcurrently: 1,
    eachMessage: async ({ partition, message }) => {
      try {
        ledger.add(topic, partition, message.offset, `${message.value}`)
      } catch (error) {
        state.failed ??= error
      }
      await sleep(1)
    },
  })
  return state
}

async function shared(count, ...members) {
  await eventually(`${count} partitions are shared`, () => {
    for (const { failed } of members) if (failed) throw failed
    const owned = members.flatMap(one => one.owned)
    return members.every(one => one.owned.length === count / members.length) &&
      new Set(owned).size === count
  })
}

await run('group, three members share and hand over every record', async () => {
  const topic = await newTopic('share', groupPartitionsCount)
  for (let p = 0; p < groupPartitionsCount; p++) await fill(topic, p, groupRecordsCount)
  const ledger = new Ledger()
  const one = await member('share', topic, ledger)
  try {
    await eventually('one reads', () => one.owned.length === groupPartitionsCount && ledger.count > 0)
    const two = await member('share', topic, ledger)
    const three = await member('share', topic, ledger)
    await shared(groupPartitionsCount, one, two, three)
    await two.consumer.disconnect()
    await three.consumer.disconnect()
    await shared(groupPartitionsCount, one)
    await eventually('all is read', () => {
      for (const { failed } of [one, two, three]) if (failed) throw failed
      return ledger.count === groupPartitionsCount * groupRecordsCount
    })
  } finally {
    await one.consumer.disconnect()
  }
  const [told] = await admin.fetchOffsets({ groupId: `${prefix}share`, topics: [topic] })
  equal(told.partitions.map(({ offset }) => Number(offset)),
    Array(groupPartitionsCount).fill(groupRecordsCount), 'committed')
})

await run('group, the next member starts where the last one committed', async () => {
  const topic = await newTopic('resume')
  await fill(topic, 0, 100)
  for (const [start, next] of [[0, 30], [30, 70], [70, 71]]) {
    const consumer = kafka.consumer({ groupId: `${prefix}resume` })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    let first
    await consume(consumer, (_, __, message) => { first ??= Number(message.offset) },
      () => first !== undefined)
    equal(first, start, 'first offset')
    await consumer.commitOffsets([{ topic, partition: 0, offset: `${next}`, metadata: 'note ß' }])
    const [told] = await admin.fetchOffsets({ groupId: `${prefix}resume`, topics: [topic] })
    equal([told.partitions[0].offset, told.partitions[0].metadata], [`${next}`, 'note ß'], 'committed')
    await consumer.disconnect()
  }
})

await run('group, seek, pause and resume', async () => {
  const topic = await newTopic('seek', 2)
  await fill(topic, 0, 50)
  await fill(topic, 1, 50)
  const consumer = kafka.consumer({ groupId: `${prefix}seek`, maxWaitTimeInMs: 100 })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    const got = [[], []]
    const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
    const ended = consume(consumer, (_, partition, message) => { got[partition].push(+message.offset) },
      () => got[1].includes(49))
    await joined
    consumer.pause([{ topic, partitions: [0] }])
    consumer.seek({ topic, partition: 1, offset: '45' })
    await ended
    equal(got[1].slice(-5), [45, 46, 47, 48, 49], 'after the seek')
    const before = got[0].length
    consumer.seek({ topic, partition: 0, offset: '40' })
    consumer.resume([{ topic, partitions: [0] }])
    await eventually('the paused one is read', () => got[0].includes(49))
    equal(got[0].slice(-10), [40, 41, 42, 43, 44, 45, 46, 47, 48, 49], 'after the pause')
    require(before === 0 || got[0][0] === 0, 'what came before the pause came in order')
  } finally {
    await consumer.disconnect()
  }
})

await run('group, a pattern and several topics', async () => {
  const topics = [await newTopic('pattern-a'), await newTopic('pattern-b')]
  await newTopic('xpattern')
  for (const topic of [...topics, `${prefix}xpattern`]) await fill(topic, 0, 5)
  const consumer = kafka.consumer({ groupId: `${prefix}pattern` })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic: new RegExp(`^${prefix}pattern-.*$`), fromBeginning: true })
    const ledger = new Ledger()
    await consume(consumer, (topic, partition, message) =>
      ledger.add(topic, partition, message.offset, `${message.value}`), () => ledger.count === 10)
    equal([...ledger.next.keys()].sort(), topics.map(topic => `${topic}-0`), 'topics')
  } finally {
    await consumer.disconnect()
  }
})

// ---- administering --------------------------------------------------------------------------

await run('admin, create, list, describe and delete topics', async () => {
  const topic = await newTopic('topic', 3)
  const one = (name, more = {}) => ({
    topics: [{ topic: name, numPartitions: 1, replicationFactor: 1, ...more }],
  })
  equal(await admin.createTopics(one(topic)), false, 'creating it again')
  await refused('INVALID_TOPIC_EXCEPTION', () => admin.createTopics(one('a b')))
  await refused('INVALID_REPLICATION_FACTOR', () =>
    admin.createTopics(one(`${prefix}three`, { replicationFactor: 3 })))
  await refused('INVALID_CONFIG', () => admin.createTopics(
    one(`${prefix}wrong`, { configEntries: [{ name: 'retention.ms', value: 'soon' }] })))
  await admin.createTopics({ ...one(`${prefix}dry`), validateOnly: true, waitForLeaders: false })
  const listed = await admin.listTopics()
  require(listed.includes(topic) && !listed.includes(`${prefix}dry`), 'what is listed')
  const { topics: [told] } = await admin.fetchTopicMetadata({ topics: [topic] })
  equal(told.partitions.map(one => one.partitionId).sort(), [0, 1, 2], 'partitions')
  for (const partition of told.partitions) equal(partition.isr, [partition.leader], 'in-sync')
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  const { topics: [grown] } = await admin.fetchTopicMetadata({ topics: [topic] })
  equal(grown.partitions.length, 5, 'partitions after growing')
  await refused('INVALID_PARTITIONS', () =>
    admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }))
  await admin.deleteTopics({ topics: [topic] })
  require(!(await admin.listTopics()).includes(topic), 'it is gone')
})

await run('admin, offsets of topics and deleting records', async () => {
  const topic = await newTopic('offsets')
  await fill(topic, 0, 100)
  const [told] = await admin.fetchTopicOffsets(topic)
  equal([told.low, told.high], ['0', '100'], 'low and high')
  const [byTime] = await admin.fetchTopicOffsetsByTimestamp(topic, firstTimestamp + 42)
  equal(byTime.offset, '42', 'by time')
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
  const [after] = await admin.fetchTopicOffsets(topic)
  equal([after.low, after.high], ['40', '100'], 'after deleting')
})

await run('admin, settings of topics', async () => {
  const name = await newTopic('configs', 1, [{ name: 'retention.ms', value: '3600000' }])
  const type = ConfigResourceTypes.TOPIC
  const value = async setting => {
    const { resources: [told] } = await admin.describeConfigs({
      includeSynonyms: false, resources: [{ type, name, configNames: [setting] }],
    })
    return told.configEntries[0].configValue
  }
  equal(await value('retention.ms'), '3600000', 'as created')
  const alter = to => admin.alterConfigs({ validateOnly: false, resources: [
    { type, name, configEntries: [{ name: 'retention.ms', value: to }] }] })
  await alter('7200000')
  equal(await value('retention.ms'), '7200000', 'altered')
  await refused('INVALID_CONFIG', () => alter('soon'))
})

await run('admin, groups, their offsets and their end', async () => {
  const topic = await newTopic('described', 2)
  await fill(topic, 0, 10)
  const groupId = `${prefix}described`
  const ledger = new Ledger()
  const one = await member('described', topic, ledger)
  await eventually('all is read', () => ledger.count === 10)
  const { groups: [told] } = await admin.describeGroups([groupId])
  equal([told.state, told.protocolType, told.members.length], ['Stable', 'consumer', 1], 'the group')
  equal(told.members[0].clientId, 'kafkajs-check', 'its member')
  const { groups } = await admin.listGroups()
  require(groups.some(group => group.groupId === groupId), 'it is listed')
  await refused('NON_EMPTY_GROUP', () => admin.deleteGroups([groupId]))
  await one.consumer.disconnect()
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '3' }] })
  const [after] = await admin.fetchOffsets({ groupId, topics: [topic] })
  equal(after.partitions.find(p => p.partition === 0).offset, '3', 'set offset')
  await admin.resetOffsets({ groupId, topic, earliest: true })
  await admin.deleteGroups([groupId])
  await refused('GROUP_ID_NOT_FOUND', () => admin.deleteGroups([groupId]))
})

await run('admin, the cluster', async () => {
  const cluster = await admin.describeCluster()
  equal(cluster.brokers.map(({ host, port }) => `${host}:${port}`), [bootstrap], 'brokers')
  equal(cluster.controller, cluster.brokers[0].nodeId, 'controller')
  require(cluster.clusterId, 'the cluster has an id')
})

await admin.disconnect()
