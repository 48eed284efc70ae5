"""confluent-kafka, the Python client on librdkafka: librdkafka.py HOST:PORT"""
import json
import sys
import time
import uuid

import confluent_kafka as ck
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
                                   ResourceType)

from report import main, test

ADDR = sys.argv[1]
BASE = {"bootstrap.servers": ADDR}
KEEP = {"retention.ms": "-1"}  # records that bear an old time would be deleted
admin = AdminClient(BASE)


def wait(what, f, limit=180):
    end = time.monotonic() + limit
    while True:
        if (r := f()):
            return r
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.05)


def new_topic(partitions=1, config=None):
    name = "rd-" + uuid.uuid4().hex[:12]
    admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(120)
    return name


def produce(topic, values, partition=-1, **conf):
    errors = []
    p = Producer({**BASE, "acks": "all", **conf})
    for v in values:
        while True:
            try:
                p.produce(topic, v, partition=partition, on_delivery=lambda err, msg: err and errors.append(err))
                break
            except BufferError:
                p.poll(0.1)
    left = p.flush(180)
    assert left == 0 and not errors, f"{left} undelivered, errors {errors[:3]}"


def consumer(group=None, **conf):
    return Consumer({**BASE, "group.id": group or "none-" + uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False, **conf})


def read(c, n, limit=180):
    got, end = [], time.monotonic() + limit
    while len(got) < n:
        assert time.monotonic() < end, f"{len(got)} of {n} records in {limit} s"
        m = c.poll(0.2)
        if m is None:
            continue
        if m.error():
            raise KafkaException(m.error())
        got.append(m)
    return got


def read_all(topic, n, **conf):
    c = consumer(**conf)
    c.assign([TopicPartition(topic, 0, 0)])
    try:
        return read(c, n)
    finally:
        c.close()


def fails_with(code, f):
    try:
        f()
    except KafkaException as e:
        assert e.args[0].code() == code, f"{e.args[0]}, want code {code}"
        return
    raise AssertionError(f"no error, want code {code}")


@test("metadata, cluster")
def list_topics():
    topic = new_topic(3)
    md = admin.list_topics(topic, timeout=120)
    assert len(md.brokers) == 1 and md.cluster_id and md.controller_id in md.brokers
    parts = md.topics[topic].partitions
    assert sorted(parts) == [0, 1, 2] and all(p.leader in md.brokers and list(p.isrs) == list(p.replicas) == [p.leader] for p in parts.values())


@test("metadata, cluster")
def describe_cluster():
    d = admin.describe_cluster(request_timeout=120).result(120)
    assert d.cluster_id and d.controller.id == d.nodes[0].id and d.nodes[0].port == int(ADDR.split(":")[1])


@test("topics")
def create_describe_delete():
    topic = new_topic(2)
    fails_with(KafkaError.TOPIC_ALREADY_EXISTS, lambda: admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(120))
    fails_with(KafkaError.INVALID_REPLICATION_FACTOR, lambda: admin.create_topics([NewTopic(topic + "x", 1, 3)])[topic + "x"].result(120))
    fails_with(KafkaError.TOPIC_EXCEPTION, lambda: admin.create_topics([NewTopic("no/slash", 1, 1)])["no/slash"].result(120))
    d = admin.describe_topics(ck.TopicCollection([topic]))[topic].result(120)
    assert len(d.partitions) == 2 and not d.is_internal
    admin.delete_topics([topic])[topic].result(120)
    wait("the topic is gone", lambda: topic not in admin.list_topics(timeout=120).topics)
    fails_with(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: admin.delete_topics([topic])[topic].result(120))


@test("partitions")
def create_partitions():
    topic = new_topic(1)
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(120)
    wait("four partitions", lambda: len(admin.list_topics(topic, timeout=120).topics[topic].partitions) == 4)
    fails_with(KafkaError.INVALID_PARTITIONS, lambda: admin.create_partitions([NewPartitions(topic, 2)])[topic].result(120))
    produce(topic, [b"x"], partition=3)


@test("topic and broker configs")
def topic_configs():
    topic = new_topic(1, {"retention.ms": "600000"})
    res = ConfigResource(ResourceType.TOPIC, topic)
    got = admin.describe_configs([res])[res].result(120)
    assert got["retention.ms"].value == "600000" and not got["retention.ms"].is_default and got["segment.bytes"].is_default
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("max.message.bytes", "4096", incremental_operation=AlterConfigOpType.SET)])
    admin.incremental_alter_configs([change])[change].result(120)

    def changed():
        got = admin.describe_configs([res])[res].result(120)
        return got["retention.ms"].is_default and got["max.message.bytes"].value == "4096"
    wait("the change shows", changed)
    bad = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry("no.such", "1", incremental_operation=AlterConfigOpType.SET)])
    fails_with(KafkaError.INVALID_CONFIG, lambda: admin.incremental_alter_configs([bad])[bad].result(120))


@test("topic and broker configs")
def broker_configs():
    id = str(next(iter(admin.list_topics(timeout=120).brokers)))
    res = ConfigResource(ResourceType.BROKER, id)
    got = admin.describe_configs([res])[res].result(120)
    assert "num.partitions" in got and "log.retention.ms" in got, sorted(got)[:20]


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    @test("produce, " + ("no compression" if codec == "none" else codec), "produce_" + codec)
    def produce_codec(codec=codec):
        topic, sent = new_topic(), []
        values = [b"%05d " % i + b"abcdefgh" * 120 for i in range(500)]
        produce(topic, values, **{"compression.type": codec, "linger.ms": 50, "statistics.interval.ms": 100,
                                  "stats_cb": lambda s: sent.append(json.loads(s)["tx_bytes"])})
        assert [m.value() for m in read_all(topic, len(values))] == values
        # A client that thinks that the broker is too old for a codec sends without it.
        if codec != "none" and sent:
            assert max(sent) < sum(map(len, values)) / 3, f"{max(sent)} bytes sent, not compressed"


@test("idempotent produce")
def idempotent():
    topic = new_topic()
    values = [b"%d" % i for i in range(5000)]
    produce(topic, values, **{"enable.idempotence": True, "batch.num.messages": 50})
    assert [m.value() for m in read_all(topic, len(values))] == values


@test("large messages")
def large():
    topic = new_topic()
    values = [bytes([i]) * 900_000 for i in range(5)]
    produce(topic, values)
    assert [m.value() for m in read_all(topic, 5, **{"fetch.message.max.bytes": 1000})] == values
    small = new_topic(config={"max.message.bytes": "1000"})
    errors = []
    p = Producer(BASE)
    p.produce(small, b"x" * 2000, on_delivery=lambda err, msg: errors.append(err))
    p.flush(180)
    assert errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, errors


@test("headers, null keys and values")
def headers():
    topic = new_topic(config=KEEP)
    p = Producer(BASE)
    want = [(None, b"v", None), (b"k", None, [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]), (b"", b"", [("한", b"\xff")])]
    for k, v, h in want:
        p.produce(topic, key=k, value=v, headers=h, timestamp=1_600_000_000_000)
    assert p.flush(180) == 0
    got = read_all(topic, 3)
    assert [(m.key(), m.value(), m.headers()) for m in got] == want
    assert all(m.timestamp() == (ck.TIMESTAMP_CREATE_TIME, 1_600_000_000_000) for m in got)


@test("headers, null keys and values")
def log_append_time():
    topic = new_topic(config={"message.timestamp.type": "LogAppendTime"})
    p = Producer(BASE)
    p.produce(topic, b"v", timestamp=1)
    assert p.flush(180) == 0
    kind, ms = read_all(topic, 1)[0].timestamp()
    assert kind == ck.TIMESTAMP_LOG_APPEND_TIME and abs(ms / 1000 - time.time()) < 3600


@test("fetch")
def seek_and_watermarks():
    topic = new_topic()
    produce(topic, [b"%d" % i for i in range(1000)])
    c = consumer()
    assert c.get_watermark_offsets(TopicPartition(topic, 0), timeout=120) == (0, 1000)
    c.assign([TopicPartition(topic, 0, 500)])
    assert read(c, 1)[0].offset() == 500
    c.seek(TopicPartition(topic, 0, 998))
    wait("offset 998", lambda: (m := c.poll(0.2)) and m.offset() == 998)
    c.pause([TopicPartition(topic, 0)])
    c.resume([TopicPartition(topic, 0)])
    c.close()


@test("fetch")
def out_of_range():
    topic = new_topic()
    produce(topic, [b"a", b"b"])
    c = consumer(**{"auto.offset.reset": "error"})
    c.assign([TopicPartition(topic, 0, 100)])
    m = wait("an answer", lambda: c.poll(0.2))
    assert m.error() and m.error().code() == KafkaError._AUTO_OFFSET_RESET, m.error()
    c.close()


@test("fetch")
def partition_eof():
    topic = new_topic()
    produce(topic, [b"a"])
    c = consumer(**{"enable.partition.eof": True})
    c.assign([TopicPartition(topic, 0, 0)])
    assert wait("a record", lambda: c.poll(0.2)).value() == b"a"
    assert wait("the end", lambda: c.poll(0.2)).error().code() == KafkaError._PARTITION_EOF
    c.close()


@test("look-up by time")
def offsets_for_times():
    topic = new_topic(config=KEEP)
    p = Producer(BASE)
    for i in range(100):
        p.produce(topic, b"%d" % i, timestamp=1_000_000_000_000 + i * 1000)
    assert p.flush(180) == 0
    c = consumer()
    ask = lambda ts: c.offsets_for_times([TopicPartition(topic, 0, ts)], timeout=120)[0].offset
    assert [ask(1_000_000_000_000), ask(1_000_000_041_500), ask(1_000_000_099_000)] == [0, 42, 99]
    assert ask(1_000_000_099_001) in (100, ck.OFFSET_END)
    c.close()
    tp = TopicPartition(topic, 0)
    for spec, want in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99), (OffsetSpec.for_timestamp(1_000_000_041_500), 42)):
        got = admin.list_offsets({tp: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[tp].result(120)
        assert got.offset == want, (spec, got.offset, want)


@test("delete records")
def delete_records():
    topic = new_topic()
    produce(topic, [b"%d" % i for i in range(100)])
    tp = TopicPartition(topic, 0, 40)
    assert admin.delete_records([tp])[tp].result(120).low_watermark == 40
    c = consumer()
    c.assign([TopicPartition(topic, 0, ck.OFFSET_BEGINNING)])
    assert read(c, 1)[0].offset() == 40
    c.close()


@test("offset commit and resume")
def commit_and_resume():
    topic, group = new_topic(), "g-" + uuid.uuid4().hex
    produce(topic, [b"%d" % i for i in range(100)])
    c = consumer(group)
    c.subscribe([topic])
    m = read(c, 60)[-1]
    c.commit(m, asynchronous=False)
    c.close()
    c = consumer(group)
    assert c.committed([TopicPartition(topic, 0)], timeout=120)[0].offset == 60
    c.subscribe([topic])
    assert [int(m.value()) for m in read(c, 40)] == list(range(60, 100))
    c.commit(offsets=[TopicPartition(topic, 0, 7, "note")], asynchronous=False)
    assert c.committed([TopicPartition(topic, 0)], timeout=120)[0].offset == 7
    c.close()


def shared(conf1, conf2, partitions=4):
    """Two members share a topic, one leaves, the other takes over."""
    topic, group = new_topic(partitions), "g-" + uuid.uuid4().hex
    a, b = consumer(group, **conf1), consumer(group, **conf2)
    a.subscribe([topic])
    wait("the first member has all", lambda: (a.poll(0.1), len(a.assignment()) == partitions)[1])
    b.subscribe([topic])
    wait("both have half", lambda: (a.poll(0.1), b.poll(0.1), len(a.assignment()) == len(b.assignment()) == partitions // 2)[2])
    assert not {t.partition for t in a.assignment()} & {t.partition for t in b.assignment()}
    for i in range(partitions):
        produce(topic, [b"%d" % i] * 10, partition=i)
    got = []
    def all_read():
        got.extend(m for m in (a.poll(0.1), b.poll(0.1)) if m and not m.error())
        return len(got) == partitions * 10
    wait("all records", all_read)
    b.close()
    wait("the first member has all again", lambda: (a.poll(0.1), len(a.assignment()) == partitions)[1])
    a.close()


@test("classic groups")
def group_range():
    shared({}, {})


@test("classic groups")
def group_roundrobin():
    conf = {"partition.assignment.strategy": "roundrobin"}
    shared(conf, conf)


@test("cooperative rebalance")
def group_cooperative():
    conf = {"partition.assignment.strategy": "cooperative-sticky"}
    shared(conf, conf)


@test("static members")
def static_member():
    topic, group = new_topic(2), "g-" + uuid.uuid4().hex
    revoked = []
    a = consumer(group, **{"group.instance.id": "a", "session.timeout.ms": 60000})
    b = consumer(group, **{"group.instance.id": "b", "session.timeout.ms": 60000})
    a.subscribe([topic], on_revoke=lambda c, parts: revoked.append(parts))
    b.subscribe([topic])
    wait("each has one", lambda: (a.poll(0.1), b.poll(0.1), len(a.assignment()) == len(b.assignment()) == 1)[2])
    revoked.clear()
    had = b.assignment()[0].partition
    b.close()
    b = consumer(group, **{"group.instance.id": "b", "session.timeout.ms": 60000})
    b.subscribe([topic])
    wait("it is back", lambda: (a.poll(0.1), b.poll(0.1), len(b.assignment()) == 1)[2])
    assert b.assignment()[0].partition == had and not revoked, "the return of a static member rebalanced the group"
    a.close()
    b.close()


if ck.libversion()[1] >= 0x020c0000:
    @test("KIP-848 groups")
    def group_consumer_protocol():
        conf = {"group.protocol": "consumer"}
        shared(conf, conf)

    @test("KIP-848 groups")
    def group_consumer_protocol_commit():
        topic, group = new_topic(), "g-" + uuid.uuid4().hex
        produce(topic, [b"%d" % i for i in range(100)])
        for first, last in ((0, 60), (60, 100)):
            c = consumer(group, **{"group.protocol": "consumer"})
            c.subscribe([topic])
            got = read(c, last - first)
            assert [int(m.value()) for m in got] == list(range(first, last))
            c.commit(got[-1], asynchronous=False)
            c.close()


@test("group administration")
def groups():
    topic, group = new_topic(), "g-" + uuid.uuid4().hex
    produce(topic, [b"x"] * 10)
    c = consumer(group, **{"client.id": "groups-test"})
    c.subscribe([topic])
    c.commit(read(c, 10)[-1], asynchronous=False)
    listed = admin.list_consumer_groups(request_timeout=120).result(120).valid
    assert any(g.group_id == group for g in listed)
    d = admin.describe_consumer_groups([group])[group].result(120)
    assert d.state == ck.ConsumerGroupState.STABLE and len(d.members) == 1 and d.members[0].client_id == "groups-test", d
    assert d.members[0].assignment.topic_partitions[0].topic == topic
    fails_with(KafkaError.NON_EMPTY_GROUP, lambda: admin.delete_consumer_groups([group])[group].result(120))
    c.close()
    wait("the group is empty", lambda: admin.describe_consumer_groups([group])[group].result(120).state == ck.ConsumerGroupState.EMPTY)
    admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])])[group].result(120)
    got = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])])[group].result(120)
    assert got.topic_partitions[0].offset == 3
    admin.delete_consumer_groups([group])[group].result(120)
    fails_with(KafkaError.GROUP_ID_NOT_FOUND, lambda: admin.delete_consumer_groups([group])[group].result(120))


@test("compacted topics")
def compacted():
    topic = new_topic(config={"cleanup.policy": "compact", "segment.ms": "100000"})
    p = Producer(BASE)
    for i in range(20):
        p.produce(topic, key=b"%d" % (i % 3), value=b"%d" % i)
    p.produce(topic, key=b"0")
    assert p.flush(180) == 0
    assert {m.key(): m.value() for m in read_all(topic, 21)} == {b"0": None, b"1": b"19", b"2": b"17"}


@test("transactions")
def transaction():
    p = Producer({**BASE, "transactional.id": uuid.uuid4().hex})
    p.init_transactions(20)
    p.begin_transaction()
    p.produce(new_topic(), b"x")
    p.commit_transaction(20)


main(f"{ck.__version__}, librdkafka {ck.libversion()[0]}")
