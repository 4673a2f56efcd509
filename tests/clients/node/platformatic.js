// Checks a broker with @platformatic/kafka. Arguments: HOST:PORT, a prefix for names, a part of the
// checks' names.
import {
  Admin, Consumer, ListOffsetTimestamps, MessagesStreamModes, Producer, stringDeserializers, stringSerializers,
} from '@platformatic/kafka'
import {
  Ledger, bootstrap, equal, eventually, firstTimestamp, prefix, record, refused, require, run,
} from './check.js'

const partitionsCount = 3
const recordsCount = 3_000
const base = { clientId: 'platformatic-check', bootstrapBrokers: [bootstrap] }
const admin = new Admin(base)

async function newTopic(name, partitions = 1, configs = []) {
  const topic = prefix + name
  const [created] = await admin.createTopics({ topics: [topic], partitions, replicas: 1, configs })
  equal([created.name, created.partitions], [topic, partitions], 'created')
  await eventually('leaders answer', async () => {
    try {
      await endOffset(topic, partitions - 1)
      return true
    } catch {
      return false
    }
  })
  return topic
}

async function endOffset(topic, partition = 0, timestamp = ListOffsetTimestamps.LATEST) {
  const [told] = await admin.listOffsets({
    topics: [{ name: topic, partitions: [{ partitionIndex: partition, timestamp }] }],
  })
  return Number(told.partitions[0].offset)
}

async function withProducer(options, body) {
  const producer = new Producer({ ...base, serializers: stringSerializers, ...options })
  try {
    return await body(producer)
  } finally {
    await producer.close()
  }
}

/** Appends "value N" from 0 to a partition, N at firstTimestamp + N. */
async function fill(topic, partition, count) {
  await withProducer({ acks: -1 }, async producer => {
    for (let from = 0; from < count; from += 50) {
      const messages = []
      for (let n = from; n < Math.min(from + 50, count); n++) {
        messages.push({ topic, partition, value: `value ${n}`, timestamp: BigInt(firstTimestamp + n) })
      }
      await producer.send({ messages })
    }
  })
}

function newConsumer(groupId, options = {}) {
  return new Consumer({
    ...base, groupId: prefix + groupId, deserializers: stringDeserializers, maxWaitTime: 100,
    sessionTimeout: 10_000, heartbeatInterval: 300, rebalanceTimeout: 15_000, ...options,
  })
}

async function read(topic, count, options = {}) {
  const consumer = newConsumer(`reader-${topic}-${Math.random()}`)
  const got = new Map()
  let seen = 0
  let failed
  try {
    const stream = await consumer.consume({
      topics: [topic], mode: MessagesStreamModes.EARLIEST, autocommit: false, ...options,
    })
    stream.on('error', error => { failed ??= error })
    stream.on('data', message => {
      const of = got.get(message.partition) ?? []
      if (of.length && message.offset !== of.at(-1).offset + 1n) {
        failed ??= new Error(`offset ${message.offset} after ${of.at(-1).offset}`)
      }
      of.push(message)
      got.set(message.partition, of)
      seen++
    })
    await eventually(`${count} records came`, () => {
      if (failed) throw failed
      return seen >= count
    })
  } finally {
    await consumer.close(true)
  }
  return got
}

async function produceAndConsume(name, acks, compression, idempotent) {
  const topic = await newTopic(name, partitionsCount)
  const next = Array(partitionsCount).fill(0n)
  await withProducer({ acks, compression, idempotent }, async producer => {
    for (let from = 0; from < recordsCount; from += 500) {
      const messages = Array.from({ length: 500 }, (_, index) => {
        const { timestamp, key, value, headers } = record(from + index)
        const partition = (from + index) % partitionsCount
        return {
          topic, partition, headers, timestamp: BigInt(timestamp), key: key ?? undefined,
          value: value ?? undefined,
        }
      })
      const { offsets } = await producer.send({ messages })
      if (acks === 0) continue
      equal(offsets.length, partitionsCount, 'answers')
      for (const { partition, offset } of offsets) {
        equal(offset, next[partition], `base offset of ${partition}`)
        next[partition] += BigInt(messages.filter(one => one.partition === partition).length)
      }
    }
  })
  for (const [partition, messages] of await read(topic, recordsCount)) {
    equal(messages.length, recordsCount / partitionsCount, 'records of a partition')
    messages.forEach((message, index) => {
      const expected = record(index * partitionsCount + partition)
      equal({
        key: message.key ?? null, value: message.value ?? null,
        headers: Object.fromEntries(message.headers), timestamp: Number(message.timestamp),
        offset: Number(message.offset),
      }, { ...expected, offset: index }, `record ${index} of ${partition}`)
    })
  }
}

for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
  for (const acks of [0, 1, -1]) {
    await run(`produce and consume, acks ${acks === -1 ? 'all' : acks}, ${codec}`, () =>
      produceAndConsume(`pc-${acks}-${codec}`, acks, codec, false))
  }
  await run(`produce and consume, idempotent, ${codec}`, () =>
    produceAndConsume(`pc-idempotent-${codec}`, -1, codec, true))
}

await run('consume from offsets and from the end', async () => {
  const topic = await newTopic('starts')
  await fill(topic, 0, 500)
  const offsets = [{ topic, partition: 0, offset: 333n }]
  const got = await read(topic, 167, { mode: MessagesStreamModes.MANUAL, offsets })
  equal([got.get(0)[0].offset, got.get(0)[0].value], [333n, 'value 333'], 'first')
  equal(await endOffset(topic, 0, BigInt(firstTimestamp + 42)), 42, 'by time')
  equal(await endOffset(topic, 0, ListOffsetTimestamps.EARLIEST), 0, 'earliest')
  equal(await endOffset(topic), 500, 'latest')
})

await run('a batch beyond the limit is refused and writing goes on', async () => {
  const topic = await newTopic('large')
  await withProducer({ retries: 0, acks: -1 }, async producer => {
    const value = 'x'.repeat(2 << 20)
    await refused('MESSAGE_TOO_LARGE', () => producer.send({ messages: [{ topic, value }] }))
    const { offsets } = await producer.send({ messages: [{ topic, value: 'small' }] })
    equal(offsets[0].offset, 0n, 'offset of the first that is accepted')
  })
})

// ---- groups ---------------------------------------------------------------------------------

const groupPartitionsCount = 6
const groupRecordsCount = 200

async function member(groupId, topic, ledger, options = {}) {
  const consumer = newConsumer(groupId, { maxBytesPerPartition: 2_000, ...options })
  const state = { consumer, failed: undefined }
  const stream = await consumer.consume({
    topics: [topic], mode: MessagesStreamModes.COMMITTED, fallbackMode: 'earliest', autocommit: true,
  })
  stream.on('error', error => { state.failed ??= error })
  stream.on('data', message => {
    try {
      ledger.add(topic, message.partition, message.offset, message.value)
    } catch (error) {
      state.failed ??= error
    }
  })
  state.stream = stream
  return state
}

const ownedBy = one => [...(one.consumer.assignments ?? [])].flatMap(({ partitions }) => partitions)

async function shared(count, ...members) {
  await eventually(`${count} partitions are shared`, () => {
    const owned = members.flatMap(ownedBy)
    return members.every(one => ownedBy(one).length === count / members.length) &&
      new Set(owned).size === count
  })
}

for (const [protocol, options] of [['classic', {}], ['new', { groupProtocol: 'consumer' }]]) {

  await run(`group, members share and hand over, ${protocol} protocol`, async () => {
    const name = `share-${protocol}`
    const topic = await newTopic(name, groupPartitionsCount)
    for (let p = 0; p < groupPartitionsCount; p++) await fill(topic, p, groupRecordsCount)
    const ledger = new Ledger()
    const one = await member(name, topic, ledger, options)
    try {
      await eventually('all is read', () => {
        if (one.failed) throw one.failed
        return ledger.count === groupPartitionsCount * groupRecordsCount
      })
      const idle = { add() {} } // nothing is left to read: only who owns what counts
      const two = await member(name, topic, idle, options)
      await shared(groupPartitionsCount, one, two)
      await two.consumer.close(true)
      await shared(groupPartitionsCount, one)
    } finally {
      await one.consumer.close(true)
    }
    const [told] = await admin.listConsumerGroupOffsets({ groups: [prefix + name] })
    const committed = told.topics[0].partitions.map(one => Number(one.committedOffset))
    equal(committed, Array(groupPartitionsCount).fill(groupRecordsCount), 'committed')
  })

  await run(`group, the next member starts where the last one committed, ${protocol} protocol`, async () => {
    const name = `resume-${protocol}`
    const topic = await newTopic(name)
    await fill(topic, 0, 100)
    for (const [start, next] of [[0, 30], [30, 70], [70, 71]]) {
      const consumer = newConsumer(name, options)
      const stream = await consumer.consume({
        topics: [topic], mode: MessagesStreamModes.COMMITTED, fallbackMode: 'earliest', autocommit: false,
      })
      let first
      stream.on('data', message => { first ??= message })
      await eventually('a record', () => first)
      equal([Number(first.offset), first.value], [start, `value ${start}`], 'the first')
      await consumer.commit({ offsets: [{ topic, partition: 0, offset: BigInt(next), leaderEpoch: 0 }] })
      const told = await consumer.listCommittedOffsets({ topics: [{ topic, partitions: [0] }] })
      equal(told.get(topic), [BigInt(next)], 'committed')
      await consumer.close(true)
    }
  })
}

// ---- administering --------------------------------------------------------------------------

await run('admin, create, list, grow and delete topics', async () => {
  const topic = await newTopic('topic', 3)
  await refused('TOPIC_ALREADY_EXISTS', () => admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 }))
  await refused('INVALID_TOPIC_EXCEPTION', () => admin.createTopics({ topics: ['a b'], partitions: 1, replicas: 1 }))
  await refused('INVALID_REPLICATION_FACTOR', () =>
    admin.createTopics({ topics: [`${prefix}three`], partitions: 1, replicas: 3 }))
  require((await admin.listTopics()).includes(topic), 'it is listed')
  await admin.createPartitions({ topics: [{ name: topic, count: 5, assignments: null }] })
  const metadata = await admin.metadata({ topics: [topic], forceUpdate: true })
  equal(metadata.topics.get(topic).partitions.length, 5, 'partitions')
  await admin.deleteTopics({ topics: [topic] })
  require(!(await admin.listTopics()).includes(topic), 'it is gone')
})

await run('admin, settings of topics', async () => {
  const topic = await newTopic('configs', 1, [{ name: 'retention.ms', value: '3600000' }])
  const value = async name => {
    const [told] = await admin.describeConfigs({
      resources: [{ resourceType: 2, resourceName: topic, configurationKeys: [name] }],
    })
    return told.configs[0].value
  }
  equal(await value('retention.ms'), '3600000', 'as created')
  const alter = to => admin.incrementalAlterConfigs({
    resources: [{ resourceType: 2, resourceName: topic,
      configs: [{ name: 'retention.ms', configOperation: 0, value: to }] }],
  })
  await alter('7200000')
  equal(await value('retention.ms'), '7200000', 'altered')
  await refused('INVALID_CONFIG', () => alter('soon'))
})

await run('admin, deleting records', async () => {
  const topic = await newTopic('records')
  await fill(topic, 0, 100)
  await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 40n }] }] })
  equal(await endOffset(topic, 0, ListOffsetTimestamps.EARLIEST), 40, 'earliest')
  equal((await read(topic, 60)).get(0)[0].value, 'value 40', 'the first left')
})

await run('admin, groups and their end', async () => {
  const topic = await newTopic('described', 2)
  const groupId = `${prefix}described`
  await admin.alterConsumerGroupOffsets({
    groupId, topics: [{ name: topic, partitionOffsets: [{ partition: 0, offset: 7n }, { partition: 1, offset: 8n }] }],
  })
  const one = await member('described', topic, { add() {} })
  await shared(2, one)
  const told = (await admin.describeGroups({ groups: [groupId] })).get(groupId)
  equal([told.state, told.protocolType, told.members.size], ['Stable', 'consumer', 1], 'the group')
  equal([...told.members.values()][0].clientId, 'platformatic-check', 'its member')
  require((await admin.listGroups()).has(groupId), 'it is listed')
  await refused('NON_EMPTY_GROUP', () => admin.deleteGroups({ groups: [groupId] }))
  await one.consumer.close(true)
  await admin.deleteConsumerGroupOffsets({ groupId, topics: [{ name: topic, partitionIndexes: [0] }] })
  const [left] = await admin.listConsumerGroupOffsets({ groups: [groupId] })
  equal(left.topics[0].partitions.map(p => p.partitionIndex), [1], 'offsets left')
  await admin.deleteGroups({ groups: [groupId] })
  await refused('GROUP_ID_NOT_FOUND', () => admin.deleteGroups({ groups: [groupId] }))
})

await run('admin, log directories', async () => {
  const topic = await newTopic('dirs')
  await fill(topic, 0, 100)
  const [{ results }] = await admin.describeLogDirs({ topics: [{ name: topic, partitions: [0] }] })
  const sizes = results.flatMap(dir => dir.topics).filter(one => one.name === topic)
    .flatMap(one => one.partitions).map(one => Number(one.partitionSize) > 1_000)
  equal(sizes, [true], 'the partition has bytes')
})

await admin.close()
process.exit(0) // whatever a check that failed left open
