"""aiokafka, the asyncio client: aio.py HOST:PORT"""
import asyncio
import sys
import uuid

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAlreadyExistsError, for_code

from report import main, test

ADDR = sys.argv[1]
KEEP = {"retention.ms": "-1"}  # records that bear an old time would be deleted


async def admin(f):
    c = AIOKafkaAdminClient(bootstrap_servers=ADDR)
    await c.start()
    try:
        return await f(c)
    finally:
        await c.close()


async def new_topic(partitions=1, **config):
    name = "aio-" + uuid.uuid4().hex
    r = await admin(lambda c: c.create_topics([NewTopic(name, partitions, 1, topic_configs=config)]))
    assert r.topic_errors[0][1] == 0, r
    return name


async def produce(topic, values, **conf):
    async with AIOKafkaProducer(bootstrap_servers=ADDR, acks="all", **conf) as p:
        for f in [await p.send(topic, v) for v in values]:
            await f


async def read(c, n):
    got = []
    async with asyncio.timeout(180):
        while len(got) < n:
            for batch in (await c.getmany(timeout_ms=200)).values():
                got += batch
    return got


async def read_all(topic, n, **conf):
    async with AIOKafkaConsumer(bootstrap_servers=ADDR, **conf) as c:
        tp = TopicPartition(topic, 0)
        c.assign([tp])
        await c.seek_to_beginning(tp)
        return await read(c, n)


@test("topics")
async def create_list_delete():
    topic = await new_topic(2)
    r = await admin(lambda c: c.create_topics([NewTopic(topic, 1, 1)]))
    assert for_code(r.topic_errors[0][1]) is TopicAlreadyExistsError, r
    assert topic in await admin(lambda c: c.list_topics())
    await admin(lambda c: c.delete_topics([topic]))
    assert topic not in await admin(lambda c: c.list_topics())


@test("partitions")
async def create_partitions():
    topic = await new_topic(1)
    await admin(lambda c: c.create_partitions({topic: NewPartitions(3)}))
    d = await admin(lambda c: c.describe_topics([topic]))
    assert len(d[0]["partitions"]) == 3, d


@test("metadata, cluster")
async def describe_cluster():
    d = await admin(lambda c: c.describe_cluster())
    assert len(d["brokers"]) == 1 and d["cluster_id"], d


@test("topic and broker configs")
async def describe_configs():
    topic = await new_topic(1, **{"retention.ms": "600000"})
    r = await admin(lambda c: c.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    assert any(e[0] == "retention.ms" and e[1] == "600000" for e in r[0].resources[0][4]), r


for codec in (None, "gzip", "snappy", "lz4", "zstd"):
    @test("produce, " + (codec or "no compression"), f"produce_{codec}")
    async def produce_codec(codec=codec):
        topic = await new_topic()
        values = [b"%d " % i + b"abcdefgh" * 100 for i in range(300)]
        await produce(topic, values, compression_type=codec)
        assert [m.value for m in await read_all(topic, 300)] == values


@test("idempotent produce")
async def idempotent():
    topic = await new_topic()
    values = [b"%d" % i for i in range(3000)]
    await produce(topic, values, enable_idempotence=True, max_batch_size=1000)
    assert [m.value for m in await read_all(topic, 3000)] == values


@test("large messages")
async def large():
    topic = await new_topic()
    await produce(topic, [b"x" * 1_000_000])
    assert len((await read_all(topic, 1, max_partition_fetch_bytes=100))[0].value) == 1_000_000
    try:
        await produce(topic, [b"x" * 2_000_000], max_request_size=3_000_000)
    except MessageSizeTooLargeError:
        return
    raise AssertionError("no error")


@test("headers, null keys and values")
async def headers():
    topic = await new_topic(**KEEP)
    async with AIOKafkaProducer(bootstrap_servers=ADDR) as p:
        await p.send_and_wait(topic, None, key=b"k", headers=[("a", b"1"), ("n", None)], timestamp_ms=1_600_000_000_000)
    m = (await read_all(topic, 1))[0]
    assert (m.key, m.value, m.headers, m.timestamp) == (b"k", None, (("a", b"1"), ("n", None)), 1_600_000_000_000), m


@test("delete records")
async def delete_records():
    topic = await new_topic()
    tp = TopicPartition(topic, 0)
    await produce(topic, [b"%d" % i for i in range(10)])
    r = await admin(lambda c: c.delete_records({tp: RecordsToDelete(before_offset=4)}))
    assert r == {tp: 4}, r
    assert [m.offset for m in await read_all(topic, 6)] == list(range(4, 10))


@test("fetch")
async def seek_and_pause():
    topic = await new_topic(2)
    tp, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=ADDR) as p:
        for i in range(200):
            await p.send(topic, b"%d" % i, partition=i % 2)
    async with AIOKafkaConsumer(bootstrap_servers=ADDR, auto_offset_reset="earliest") as c:
        c.assign([tp, other])
        c.pause(other)
        c.seek(tp, 90)
        c.seek(other, 95)
        assert [m.offset for m in await read(c, 10)] == list(range(90, 100))
        c.resume(other)
        assert [m.offset for m in await read(c, 5)] == list(range(95, 100))
        c.seek(tp, 1000)  # out of range: it begins anew
        assert (await read(c, 1))[0].offset == 0


@test("compacted topics")
async def compacted():
    topic = await new_topic(**{"cleanup.policy": "compact"})
    async with AIOKafkaProducer(bootstrap_servers=ADDR) as p:
        for i in range(20):
            await p.send_and_wait(topic, b"%d" % i, key=b"%d" % (i % 3))
        await p.send_and_wait(topic, None, key=b"0")
        try:
            await p.send_and_wait(topic, b"no key")
        except KafkaError as e:
            assert e.errno in (87, -1) or "87" in str(e), repr(e)  # a code that the client does not know
        else:
            raise AssertionError("a record without a key was taken")
    assert {m.key: m.value for m in await read_all(topic, 21)} == {b"0": None, b"1": b"19", b"2": b"17"}


@test("look-up by time")
async def offsets_for_times():
    topic = await new_topic(**KEEP)
    tp = TopicPartition(topic, 0)
    async with AIOKafkaProducer(bootstrap_servers=ADDR) as p:
        for i in range(10):
            await p.send_and_wait(topic, b"x", timestamp_ms=1_600_000_000_000 + i * 1000)
    async with AIOKafkaConsumer(bootstrap_servers=ADDR) as c:
        assert (await c.offsets_for_times({tp: 1_600_000_004_500}))[tp].offset == 5
        assert (await c.end_offsets([tp]))[tp] == 10 and (await c.beginning_offsets([tp]))[tp] == 0


@test("offset commit and resume")
async def commit_and_resume():
    topic, group = await new_topic(), uuid.uuid4().hex
    tp = TopicPartition(topic, 0)
    await produce(topic, [b"%d" % i for i in range(50)])
    conf = dict(bootstrap_servers=ADDR, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest")
    async with AIOKafkaConsumer(topic, **conf) as c:
        await read(c, 50)
        await c.commit({tp: 30})
    async with AIOKafkaConsumer(topic, **conf) as c:
        assert await c.committed(tp) == 30
        assert (await read(c, 20))[0].offset == 30


@test("classic groups")
async def group():
    topic, group = await new_topic(4), uuid.uuid4().hex
    conf = dict(bootstrap_servers=ADDR, group_id=group, auto_offset_reset="earliest", heartbeat_interval_ms=200, session_timeout_ms=10000)
    async with AIOKafkaConsumer(topic, **conf) as a:
        async with asyncio.timeout(180):
            while len(a.assignment()) != 4:
                await asyncio.sleep(0.05)
        async with AIOKafkaConsumer(topic, **conf) as b:
            async with asyncio.timeout(180):
                while (len(a.assignment()), len(b.assignment())) != (2, 2):
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(180):
            while len(a.assignment()) != 4:
                await asyncio.sleep(0.05)
        groups = await admin(lambda c: c.list_consumer_groups())
        assert (group, "consumer") in [g[:2] for g in groups], groups


@test("static members")
async def static_members():
    topic, group = await new_topic(2), uuid.uuid4().hex
    conf = dict(bootstrap_servers=ADDR, group_id=group, auto_offset_reset="earliest", heartbeat_interval_ms=200, session_timeout_ms=60000)
    moves = []

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            moves.append(revoked)

        async def on_partitions_assigned(self, assigned):
            pass

    async def member(instance, listener=None):
        c = AIOKafkaConsumer(group_instance_id=instance, **conf)
        c.subscribe([topic], listener=listener)
        await c.start()
        return c

    a = await member("a", Listener())
    b = await member("b")
    async with asyncio.timeout(180):
        while (len(a.assignment()), len(b.assignment())) != (1, 1):
            await asyncio.sleep(0.05)
    had = b.assignment()
    moves.clear()
    await b.stop()
    b = await member("b")
    async with asyncio.timeout(180):
        while not b.assignment():
            await asyncio.sleep(0.05)
    assert b.assignment() == had and not moves, "the return of a static member rebalanced the group"
    await a.stop()
    await b.stop()


@test("transactions")
async def transaction():
    topic = await new_topic()
    async with asyncio.timeout(20):
        async with AIOKafkaProducer(bootstrap_servers=ADDR, transactional_id=uuid.uuid4().hex) as p:
            async with p.transaction():
                await p.send_and_wait(topic, b"x")


main(aiokafka.__version__, lambda f: asyncio.run(f()))
