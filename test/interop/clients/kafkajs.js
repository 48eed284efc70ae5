// kafkajs, the pure JavaScript client: node kafkajs.js HOST:PORT
'use strict'
const assert = require('assert')
const { randomUUID } = require('crypto')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel, PartitionAssigners, ConfigResourceTypes, ResourceTypes, AclResourceTypes } = require('kafkajs')
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
const admin = kafka.admin()
const tests = []
const keep = [{ name: 'retention.ms', value: '-1' }] // records that bear an old time would be deleted
const test = (feature, name, f) => tests.push({ feature, name, f })
const unique = p => `${p}-${randomUUID()}`

async function wait(what, f, limit = 180000) {
  for (const end = Date.now() + limit; ; await new Promise(r => setTimeout(r, 50))) {
    const r = await f()
    if (r) return r
    assert(Date.now() < end, `waited in vain: ${what}`)
  }
}
async function newTopic(numPartitions = 1, configEntries = []) {
  const topic = unique('js')
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, configEntries }] })
  return topic
}
async function produce(topic, messages, { compression, ...options } = {}) {
  const p = kafka.producer(options)
  await p.connect()
  try {
    return await p.send({ topic, messages, compression, acks: -1 })
  } finally {
    await p.disconnect()
  }
}
// Runs a consumer until `done` says so; messages are kept in order.
async function consume(topic, done, { groupId = unique('g'), after, ...options } = {}) {
  const c = kafka.consumer({ groupId, ...options })
  const got = []
  await c.connect()
  await c.subscribe({ topics: [topic], fromBeginning: true })
  await c.run({ eachMessage: async ({ message, partition }) => { got.push({ ...message, partition }) } })
  try {
    if (after) await after(c)
    await wait('records', () => done(got))
    return got
  } finally {
    await c.disconnect()
  }
}
const many = n => Array.from({ length: n }, (_, i) => ({ key: String(i), value: `${i} ${'abcdefgh'.repeat(100)}` }))
const failsWith = (type, f) => assert.rejects(f, e => { assert.strictEqual((e.errors ? e.errors[0] : e).type, type, e.message); return true })

test('metadata, cluster', 'describeCluster', async () => {
  const d = await admin.describeCluster()
  assert(d.clusterId && d.brokers.length === 1 && d.controller === d.brokers[0].nodeId)
})
test('topics', 'create, list, delete', async () => {
  const topic = await newTopic(3)
  assert.strictEqual(await admin.createTopics({ topics: [{ topic }] }), false)
  assert((await admin.listTopics()).includes(topic))
  const md = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.strictEqual(md.topics[0].partitions.length, 3)
  await admin.deleteTopics({ topics: [topic] })
  assert(!(await admin.listTopics()).includes(topic))
  await failsWith('UNKNOWN_TOPIC_OR_PARTITION', () => admin.fetchTopicMetadata({ topics: [topic] }).then(async m => {
    // A broker may have made it again.
    if (m.topics.length) throw Object.assign(new Error('still there'), { type: 'STILL_THERE' })
  }))
})
test('partitions', 'createPartitions', async () => {
  const topic = await newTopic(1)
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await wait('three partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 3)
})
test('topic and broker configs', 'describeConfigs, alterConfigs', async () => {
  const topic = await newTopic(1, [{ name: 'retention.ms', value: '600000' }])
  const ask = () => admin.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  const entry = (r, name) => r.resources[0].configEntries.find(e => e.configName === name)
  assert.strictEqual(entry(await ask(), 'retention.ms').configValue, '600000')
  await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'max.message.bytes', value: '4096' }] }] })
  await wait('the change shows', async () => entry(await ask(), 'max.message.bytes').configValue === '4096')
  // The call sets all: what is not named goes back to its default.
  await wait('the default is back', async () => entry(await ask(), 'retention.ms').configValue !== '600000')
})
for (const [name, compression] of [['no compression', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy]]) {
  test(`produce, ${name}`, 'produce and read', async () => {
    const topic = await newTopic(), want = many(300)
    const r = await produce(topic, want, { compression })
    assert.strictEqual(r[0].baseOffset, '0')
    const got = await consume(topic, g => g.length >= 300)
    assert.deepStrictEqual(got.map(m => String(m.value)), want.map(m => m.value))
  })
}
test('idempotent produce', 'idempotent', async () => {
  const topic = await newTopic()
  const p = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await p.connect()
  for (let i = 0; i < 50; i++) await p.send({ topic, messages: [{ value: String(i) }], acks: -1 })
  await p.disconnect()
  const got = await consume(topic, g => g.length >= 50)
  assert.deepStrictEqual(got.map(m => String(m.value)), Array.from({ length: 50 }, (_, i) => String(i)))
})
test('large messages', 'up to and above the limit', async () => {
  const topic = await newTopic()
  await produce(topic, [{ value: Buffer.alloc(900000, 1) }])
  assert.strictEqual((await consume(topic, g => g.length === 1))[0].value.length, 900000)
  await failsWith('MESSAGE_TOO_LARGE', () => produce(topic, [{ value: Buffer.alloc(1200000) }]))
})
test('headers, null keys and values', 'headers', async () => {
  const topic = await newTopic(1, keep)
  await produce(topic, [{ key: null, value: 'v' }, { key: 'k', value: null, headers: { a: '1', b: Buffer.from([255]) }, timestamp: '1600000000000' }])
  const got = await consume(topic, g => g.length === 2)
  assert.strictEqual(got[0].key, null)
  assert.strictEqual(got[1].value, null)
  assert.strictEqual(got[1].timestamp, '1600000000000')
  assert.deepStrictEqual([String(got[1].headers.a), got[1].headers.b[0]], ['1', 255])
})
test('look-up by time', 'fetchTopicOffsetsByTimestamp', async () => {
  const topic = await newTopic(1, keep)
  await produce(topic, Array.from({ length: 20 }, (_, i) => ({ value: String(i), timestamp: String(1600000000000 + i * 1000) })))
  assert.strictEqual((await admin.fetchTopicOffsetsByTimestamp(topic, 1600000007500))[0].offset, '8')
  const o = (await admin.fetchTopicOffsets(topic))[0]
  assert.deepStrictEqual([o.low, o.high], ['0', '20'])
})
test('delete records', 'deleteTopicRecords', async () => {
  const topic = await newTopic()
  await produce(topic, many(10))
  await admin.fetchTopicOffsets(topic) // else it does not know the partition's leader
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
  assert.strictEqual((await admin.fetchTopicOffsets(topic))[0].low, '4')
  assert.strictEqual((await consume(topic, g => g.length === 6))[0].offset, '4')
})
test('fetch', 'seek, pause, resume', async () => {
  const topic = await newTopic()
  await produce(topic, many(100))
  const got = await consume(topic, g => g.some(m => m.offset === '99'), {
    after: async c => {
      c.seek({ topic, partition: 0, offset: '90' })
      c.pause([{ topic }])
      c.resume([{ topic }])
    },
  })
  assert(got.length >= 10)
})
test('offset commit and resume', 'commitOffsets', async () => {
  const topic = await newTopic(), groupId = unique('g')
  await produce(topic, many(40))
  await consume(topic, g => g.length >= 40, { groupId })
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '25' }] })
  assert.strictEqual((await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset, '25')
  const got = await consume(topic, g => g.length >= 15, { groupId })
  assert.strictEqual(got[0].offset, '25')
  await admin.resetOffsets({ groupId, topic, earliest: true })
  assert.strictEqual((await consume(topic, g => g.length >= 40, { groupId }))[0].offset, '0')
})
test('classic groups', 'two members share, one leaves', async () => {
  const topic = await newTopic(4), groupId = unique('g')
  const member = async () => {
    const c = kafka.consumer({ groupId, partitionAssigners: [PartitionAssigners.roundRobin], heartbeatInterval: 200 })
    const m = { c, parts: [], got: 0 }
    c.on(c.events.GROUP_JOIN, e => { m.parts = e.payload.memberAssignment[topic] || [] })
    await c.connect()
    await c.subscribe({ topics: [topic], fromBeginning: true })
    await c.run({ eachMessage: async () => { m.got++ } })
    return m
  }
  const a = await member()
  await wait('the first has all', () => a.parts.length === 4)
  const b = await member()
  await wait('both have half', () => a.parts.length === 2 && b.parts.length === 2)
  await produce(topic, Array.from({ length: 40 }, (_, i) => ({ value: 'x', partition: i % 4 })))
  await wait('all records', () => a.got + b.got === 40)
  const d = (await admin.describeGroups([groupId])).groups[0]
  assert.deepStrictEqual([d.state, d.members.length, d.protocol], ['Stable', 2, 'RoundRobinAssigner'])
  await b.c.disconnect()
  await wait('the first has all again', () => a.parts.length === 4)
  await a.c.disconnect()
})
test('group administration', 'list, delete', async () => {
  const topic = await newTopic(), groupId = unique('g')
  await produce(topic, many(1))
  await consume(topic, g => g.length === 1, { groupId })
  assert((await admin.listGroups()).groups.some(g => g.groupId === groupId && g.protocolType === 'consumer'))
  await admin.deleteGroups([groupId])
  assert(!(await admin.listGroups()).groups.some(g => g.groupId === groupId))
})
test('compacted topics', 'keys, deletions, no key', async () => {
  const topic = await newTopic(1, [{ name: 'cleanup.policy', value: 'compact' }])
  await produce(topic, Array.from({ length: 20 }, (_, i) => ({ key: String(i % 3), value: String(i) })))
  await produce(topic, [{ key: '0', value: null }])
  await failsWith('INVALID_RECORD', () => produce(topic, [{ value: 'no key' }]))
  const last = {}
  for (const m of await consume(topic, g => g.length === 21)) last[m.key] = m.value && String(m.value)
  assert.deepStrictEqual(last, { 0: null, 1: '19', 2: '17' })
})
test('transactions', 'commit', async () => {
  const topic = await newTopic()
  const p = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { retries: 2 } }).producer({ transactionalId: unique('t'), maxInFlightRequests: 1, idempotent: true })
  await p.connect()
  try {
    const txn = await p.transaction()
    await txn.send({ topic, messages: [{ value: 'x' }] })
    await txn.commit()
  } finally {
    await p.disconnect()
  }
})
test('ACLs, SASL, TLS', 'describeAcls', () => admin.describeAcls({ resourceType: AclResourceTypes.ANY, resourcePatternType: 1, operation: 1, permissionType: 1 }))

// A promise that nothing settles ends the process as if all were well.
process.exitCode = 1
const alive = setInterval(() => {}, 1000)
;(async () => {
  console.log(`VERSION\t${require('kafkajs/package.json').version}`)
  await admin.connect()
  for (const { feature, name, f } of tests) {
    let result = 'pass', detail = ''
    try {
      await f()
    } catch (e) {
      result = 'fail'
      detail = String(e.stack || e).replace(/[\n\t]+ */g, ' ').slice(0, 400)
    }
    console.log(['RESULT', result, feature, name, detail].join('\t'))
  }
  await admin.disconnect()
  clearInterval(alive)
  process.exit(0) // a client that failed may leave timers
})().catch(e => { console.error(e); process.exit(1) })
