import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.internals.*;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * The Java client: java JavaClients HOST:PORT. Compiled once against the newest kafka-clients and run with old ones
 * too: a test that calls what a version does not have is left out of its run.
 */
public class JavaClients {
  interface Body { void run() throws Exception; }

  /** Records that bear an old time would be deleted. */
  static final String[] KEEP = {"retention.ms", "-1"};
  static String addr;
  static AdminClient admin;

  static void test(String feature, String name, Body body) {
    String result = "pass", detail = "";
    try {
      body.run();
    } catch (LinkageError | NoSuchMethodException e) {
      return; // not in this version of the client
    } catch (Throwable e) {
      if (e instanceof ConfigException || e.getCause() instanceof ConfigException || e.getCause() instanceof IllegalArgumentException) {
        return; // a setting, or a value of it, that this version does not have
      }
      result = "fail";
      detail = e.toString();
      for (StackTraceElement s : e.getStackTrace()) {
        if (s.getClassName().startsWith("JavaClients")) {
          detail = "line " + s.getLineNumber() + ": " + detail;
          break;
        }
      }
    }
    System.out.println(String.join("\t", "RESULT", result, feature, name, detail.replaceAll("[\n\t]+", " ")));
  }

  static void check(boolean ok, Object what) {
    if (!ok) throw new AssertionError(String.valueOf(what));
  }

  static void waitFor(String what, Callable<Boolean> f) throws Exception {
    long end = System.nanoTime() + 180_000_000_000L;
    while (!f.call()) {
      check(System.nanoTime() < end, "waited in vain: " + what);
      Thread.sleep(20);
    }
  }

  /** Wants an exception of the class that an error code maps to. */
  static void failsWith(Class<? extends Throwable> want, Body f) throws Exception {
    try {
      f.run();
    } catch (Throwable e) {
      Throwable got = e instanceof ExecutionException ? e.getCause() : e;
      check(want.isInstance(got), got + ", want " + want.getSimpleName());
      return;
    }
    throw new AssertionError("no error, want " + want.getSimpleName());
  }

  static Map<String, Object> conf(Object... kv) {
    Map<String, Object> m = new HashMap<>();
    m.put("bootstrap.servers", addr);
    for (int i = 0; i < kv.length; i += 2) m.put((String) kv[i], kv[i + 1]);
    return m;
  }

  static String unique(String p) { return p + "-" + UUID.randomUUID(); }

  static String newTopic(int partitions, String... kv) throws Exception {
    String name = unique("java");
    Map<String, String> config = new HashMap<>();
    for (int i = 0; i < kv.length; i += 2) config.put(kv[i], kv[i + 1]);
    admin.createTopics(Collections.singletonList(new NewTopic(name, partitions, (short) 1).configs(config))).all().get();
    return name;
  }

  static KafkaProducer<byte[], byte[]> producer(Object... kv) {
    return new KafkaProducer<>(conf(kv), new ByteArraySerializer(), new ByteArraySerializer());
  }

  static KafkaConsumer<byte[], byte[]> consumer(String group, Object... kv) {
    Map<String, Object> m = conf("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false");
    m.putAll(conf(kv));
    return new KafkaConsumer<>(m, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  static void produce(String topic, int n, Function<Integer, byte[]> value, Object... kv) throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<byte[], byte[]> p = producer(kv)) {
      for (int i = 0; i < n; i++) sent.add(p.send(new ProducerRecord<>(topic, value.apply(i))));
    }
    for (Future<RecordMetadata> f : sent) f.get();
  }

  static byte[] number(int i) { return String.valueOf(i).getBytes(); }

  static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> c, int n) throws Exception {
    List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
    waitFor(n + " records", () -> {
      c.poll(Duration.ofMillis(100)).forEach(got::add);
      return got.size() >= n;
    });
    return got;
  }

  static List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int n, Object... kv) throws Exception {
    try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"), kv)) {
      TopicPartition tp = new TopicPartition(topic, 0);
      c.assign(Collections.singletonList(tp));
      c.seekToBeginning(Collections.singletonList(tp));
      return read(c, n);
    }
  }

  /** Two members share a topic, one leaves, the other takes over. */
  static void shared(Object... kv) throws Exception {
    String topic = newTopic(4), group = unique("g");
    try (KafkaConsumer<byte[], byte[]> a = consumer(group, kv)) {
      a.subscribe(Collections.singletonList(topic));
      waitFor("the first member has all", () -> { a.poll(Duration.ofMillis(50)); return a.assignment().size() == 4; });
      try (KafkaConsumer<byte[], byte[]> b = consumer(group, kv)) {
        b.subscribe(Collections.singletonList(topic));
        waitFor("both have half", () -> {
          a.poll(Duration.ofMillis(50)); b.poll(Duration.ofMillis(50));
          return a.assignment().size() == 2 && b.assignment().size() == 2;
        });
        check(Collections.disjoint(a.assignment(), b.assignment()), "the members overlap");
        try (KafkaProducer<byte[], byte[]> p = producer()) {
          for (int i = 0; i < 40; i++) p.send(new ProducerRecord<>(topic, i % 4, null, number(i)));
        }
        int[] got = {0};
        waitFor("all records", () -> (got[0] += a.poll(Duration.ofMillis(50)).count() + b.poll(Duration.ofMillis(50)).count()) == 40);
        a.commitSync();
        b.commitSync();
      }
      waitFor("the first member has all again", () -> { a.poll(Duration.ofMillis(50)); return a.assignment().size() == 4; });
    }
  }

  public static void main(String[] args) throws Exception {
    addr = args[0];
    System.out.println("VERSION\t" + AppInfoParser.getVersion());
    admin = AdminClient.create(conf("request.timeout.ms", 30000));

    test("metadata, cluster", "describeCluster", () -> {
      DescribeClusterResult d = admin.describeCluster();
      check(d.nodes().get().size() == 1 && !d.clusterId().get().isEmpty(), d.nodes().get());
      check(d.controller().get().id() == d.nodes().get().iterator().next().id(), d.controller().get());
    });
    test("metadata, cluster", "describeFeatures", () -> check(admin.describeFeatures().featureMetadata().get() != null, "features"));
    test("topics", "create, describe, delete", () -> {
      String t = newTopic(3);
      failsWith(TopicExistsException.class, () -> admin.createTopics(Collections.singletonList(new NewTopic(t, 1, (short) 1))).all().get());
      failsWith(InvalidReplicationFactorException.class, () -> admin.createTopics(Collections.singletonList(new NewTopic(t + "x", 1, (short) 3))).all().get());
      failsWith(InvalidPartitionsException.class, () -> admin.createTopics(Collections.singletonList(new NewTopic(t + "x", 0, (short) 1))).all().get());
      failsWith(InvalidTopicException.class, () -> admin.createTopics(Collections.singletonList(new NewTopic("no/slash", 1, (short) 1))).all().get());
      check(admin.listTopics().names().get().contains(t), "listTopics");
      admin.deleteTopics(Collections.singletonList(t)).all().get();
      waitFor("the topic is gone", () -> !admin.listTopics().names().get().contains(t));
      failsWith(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(Collections.singletonList(t)).all().get());
    });
    test("topics", "describeTopics", () -> {
      String t = newTopic(3);
      TopicDescription d = admin.describeTopics(Collections.singletonList(t)).allTopicNames().get().get(t);
      check(d.partitions().size() == 3 && d.topicId() != null && d.partitions().get(0).isr().size() == 1, d);
      TopicCollection byId = TopicCollection.ofTopicIds(Collections.singletonList(d.topicId()));
      check(admin.describeTopics(byId).allTopicIds().get().get(d.topicId()).name().equals(t), "by id");
      admin.deleteTopics(byId).all().get();
    });
    test("partitions", "createPartitions", () -> {
      String t = newTopic(1);
      admin.createPartitions(Collections.singletonMap(t, NewPartitions.increaseTo(3))).all().get();
      waitFor("three partitions", () -> {
        try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"))) {
          return c.partitionsFor(t).size() == 3;
        }
      });
      failsWith(InvalidPartitionsException.class, () -> admin.createPartitions(Collections.singletonMap(t, NewPartitions.increaseTo(2))).all().get());
    });
    test("topic and broker configs", "describeConfigs, incrementalAlterConfigs", () -> {
      ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, newTopic(1, "retention.ms", "600000"));
      check(admin.describeConfigs(Collections.singletonList(r)).all().get().get(r).get("retention.ms").value().equals("600000"), "retention.ms");
      admin.incrementalAlterConfigs(Collections.singletonMap(r, Arrays.asList(
          new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE),
          new AlterConfigOp(new ConfigEntry("max.message.bytes", "4096"), AlterConfigOp.OpType.SET)))).all().get();
      waitFor("the change shows", () -> {
        org.apache.kafka.clients.admin.Config c = admin.describeConfigs(Collections.singletonList(r)).all().get().get(r);
        return c.get("retention.ms").isDefault() && c.get("max.message.bytes").value().equals("4096");
      });
      failsWith(InvalidConfigurationException.class, () -> admin.incrementalAlterConfigs(Collections.singletonMap(r, Collections.singletonList(
          new AlterConfigOp(new ConfigEntry("retention.ms", "x"), AlterConfigOp.OpType.SET)))).all().get());
    });
    test("topic and broker configs", "of the broker", () -> {
      ConfigResource r = new ConfigResource(ConfigResource.Type.BROKER, admin.describeCluster().nodes().get().iterator().next().idString());
      check(admin.describeConfigs(Collections.singletonList(r)).all().get().get(r).get("num.partitions") != null, "num.partitions");
    });
    test("log directories", "describeLogDirs", () -> {
      String t = newTopic(1);
      produce(t, 10, i -> new byte[1000]);
      int id = admin.describeCluster().nodes().get().iterator().next().id();
      long size = admin.describeLogDirs(Collections.singletonList(id)).allDescriptions().get().get(id).values().iterator().next()
          .replicaInfos().get(new TopicPartition(t, 0)).size();
      check(size > 10_000 && size < 12_000, size);
    });
    for (String codec : Arrays.asList("none", "gzip", "snappy", "lz4", "zstd")) {
      test("produce, " + (codec.equals("none") ? "no compression" : codec), "produce and read", () -> {
        String t = newTopic(1);
        produce(t, 500, i -> (i + " " + "abcdefgh".repeat(100)).getBytes(), "compression.type", codec, "acks", "all", "linger.ms", 20);
        int n = 0;
        for (ConsumerRecord<byte[], byte[]> r : readAll(t, 500)) {
          check(r.offset() == n && new String(r.value()).startsWith(n + " "), r);
          n++;
        }
      });
    }
    test("idempotent produce", "idempotent", () -> {
      String t = newTopic(1);
      produce(t, 5000, JavaClients::number, "enable.idempotence", "true", "acks", "all", "batch.size", 500);
      int n = 0;
      for (ConsumerRecord<byte[], byte[]> r : readAll(t, 5000)) check(new String(r.value()).equals(String.valueOf(n++)), r);
    });
    test("idempotent produce", "describeProducers", () -> {
      String t = newTopic(1);
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 3, JavaClients::number, "enable.idempotence", "true", "acks", "all");
      List<ProducerState> s = admin.describeProducers(Collections.singletonList(tp)).all().get().get(tp).activeProducers();
      check(s.size() == 1 && s.get(0).lastSequence() == 2, s);
    });
    test("large messages", "up to and above the limit", () -> {
      String t = newTopic(1);
      produce(t, 3, i -> new byte[1_000_000]);
      check(readAll(t, 3, "max.partition.fetch.bytes", 1000).get(2).value().length == 1_000_000, "length");
      failsWith(RecordTooLargeException.class, () -> produce(t, 1, i -> new byte[1_500_000], "max.request.size", 3_000_000));
    });
    test("headers, null keys and values", "headers", () -> {
      String t = newTopic(1, KEEP);
      try (KafkaProducer<byte[], byte[]> p = producer()) {
        p.send(new ProducerRecord<>(t, 0, 1_600_000_000_000L, (byte[]) null, (byte[]) null)).get();
        p.send(new ProducerRecord<>(t, 0, 1_600_000_000_001L, new byte[0], new byte[] {1},
            Arrays.asList(new RecordHeader("a", new byte[] {1}), new RecordHeader("a", new byte[] {2}), new RecordHeader("n", (byte[]) null)))).get();
      }
      List<ConsumerRecord<byte[], byte[]>> got = readAll(t, 2);
      check(got.get(0).key() == null && got.get(0).value() == null && got.get(0).timestamp() == 1_600_000_000_000L, got.get(0));
      check(got.get(1).key().length == 0 && got.get(1).headers().toArray().length == 3 && got.get(1).headers().lastHeader("n").value() == null, got.get(1));
    });
    test("headers, null keys and values", "LogAppendTime", () -> {
      String t = newTopic(1, "message.timestamp.type", "LogAppendTime");
      try (KafkaProducer<byte[], byte[]> p = producer()) {
        check(p.send(new ProducerRecord<>(t, 0, 1L, null, new byte[0])).get().timestamp() > 1, "the producer's answer");
      }
      check(readAll(t, 1).get(0).timestampType() == TimestampType.LOG_APPEND_TIME, "type");
    });
    test("fetch", "seek, positions, end offsets", () -> {
      String t = newTopic(1);
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 1000, JavaClients::number);
      try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"))) {
        c.assign(Collections.singletonList(tp));
        check(c.endOffsets(Collections.singletonList(tp)).get(tp) == 1000 && c.beginningOffsets(Collections.singletonList(tp)).get(tp) == 0, "offsets");
        c.seek(tp, 990);
        check(read(c, 10).get(0).offset() == 990 && c.position(tp) == 1000, c.position(tp));
        c.seek(tp, 5000); // out of range: back to the earliest
        check(read(c, 1).get(0).offset() == 0, "reset");
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"), "auto.offset.reset", "none")) {
        c.assign(Collections.singletonList(tp));
        c.seek(tp, 5000);
        failsWith(org.apache.kafka.clients.consumer.InvalidOffsetException.class, () -> read(c, 1));
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"), "isolation.level", "read_committed")) {
        c.assign(Collections.singletonList(tp));
        check(read(c, 1000).size() == 1000, "read_committed");
      }
    });
    test("look-up by time", "offsetsForTimes", () -> {
      String t = newTopic(1, KEEP);
      TopicPartition tp = new TopicPartition(t, 0);
      try (KafkaProducer<byte[], byte[]> p = producer()) {
        for (int i = 0; i < 100; i++) p.send(new ProducerRecord<>(t, 0, 1_000_000_000_000L + i * 1000, null, number(i)));
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer(unique("none"))) {
        OffsetAndTimestamp o = c.offsetsForTimes(Collections.singletonMap(tp, 1_000_000_041_500L)).get(tp);
        check(o.offset() == 42 && o.timestamp() == 1_000_000_042_000L, o);
        check(c.offsetsForTimes(Collections.singletonMap(tp, 2_000_000_000_000L)).get(tp) == null, "beyond the end");
      }
    });
    test("look-up by time", "listOffsets", () -> {
      String t = newTopic(1);
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 10, JavaClients::number);
      check(admin.listOffsets(Collections.singletonMap(tp, OffsetSpec.latest())).all().get().get(tp).offset() == 10, "latest");
      check(admin.listOffsets(Collections.singletonMap(tp, OffsetSpec.earliest())).all().get().get(tp).offset() == 0, "earliest");
      check(admin.listOffsets(Collections.singletonMap(tp, OffsetSpec.maxTimestamp())).all().get().get(tp).offset() >= 0, "maxTimestamp");
    });
    test("delete records", "deleteRecords", () -> {
      String t = newTopic(1);
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 100, JavaClients::number);
      check(admin.deleteRecords(Collections.singletonMap(tp, RecordsToDelete.beforeOffset(40))).lowWatermarks().get(tp).get().lowWatermark() == 40, "low watermark");
      check(readAll(t, 60).get(0).offset() == 40, "first offset");
      failsWith(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, () -> admin.deleteRecords(Collections.singletonMap(tp, RecordsToDelete.beforeOffset(4000))).all().get());
    });
    test("offset commit and resume", "commitSync, committed", () -> {
      String t = newTopic(1), g = unique("g");
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 100, JavaClients::number);
      try (KafkaConsumer<byte[], byte[]> c = consumer(g, "max.poll.records", 10)) {
        c.subscribe(Collections.singletonList(t));
        read(c, 60);
        c.commitSync(Collections.singletonMap(tp, new OffsetAndMetadata(60, "a note")));
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer(g)) {
        c.subscribe(Collections.singletonList(t));
        check(read(c, 40).get(0).offset() == 60, "resume");
        c.commitAsync();
      }
      OffsetAndMetadata o = admin.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata().get().get(tp);
      check(o.offset() == 100, o);
    });
    test("classic groups", "range", () -> shared("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"));
    test("classic groups", "sticky", () -> shared("partition.assignment.strategy", "org.apache.kafka.clients.consumer.StickyAssignor"));
    test("cooperative rebalance", "cooperative sticky", () -> {
      CooperativeStickyAssignor.class.getName();
      shared("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
    });
    test("static members", "a member returns", () -> {
      MemberDescription.class.getMethod("groupInstanceId").getName();
      String t = newTopic(2), g = unique("g");
      int[] revoked = {0};
      try (KafkaConsumer<byte[], byte[]> a = consumer(g, "group.instance.id", "a", "session.timeout.ms", 60000)) {
        a.subscribe(Collections.singletonList(t), new ConsumerRebalanceListener() {
          public void onPartitionsRevoked(Collection<TopicPartition> p) { revoked[0]++; }
          public void onPartitionsAssigned(Collection<TopicPartition> p) { }
        });
        Set<TopicPartition> had;
        try (KafkaConsumer<byte[], byte[]> b = consumer(g, "group.instance.id", "b", "session.timeout.ms", 60000)) {
          b.subscribe(Collections.singletonList(t));
          waitFor("each has one", () -> {
            a.poll(Duration.ofMillis(50)); b.poll(Duration.ofMillis(50));
            return a.assignment().size() == 1 && b.assignment().size() == 1;
          });
          had = new HashSet<>(b.assignment());
        }
        revoked[0] = 0;
        try (KafkaConsumer<byte[], byte[]> b = consumer(g, "group.instance.id", "b", "session.timeout.ms", 60000)) {
          b.subscribe(Collections.singletonList(t));
          waitFor("it is back", () -> { a.poll(Duration.ofMillis(50)); b.poll(Duration.ofMillis(50)); return b.assignment().size() == 1; });
          check(b.assignment().equals(had) && revoked[0] == 0, "the return of a static member rebalanced the group");
        }
      }
      admin.removeMembersFromConsumerGroup(g, new RemoveMembersFromConsumerGroupOptions(
          Arrays.asList(new MemberToRemove("a"), new MemberToRemove("b")))).all().get();
    });
    test("KIP-848 groups", "consumer protocol", () -> {
      GroupProtocol.CONSUMER.name();
      shared("group.protocol", "consumer");
    });
    test("group administration", "list, describe, offsets, delete", () -> {
      String t = newTopic(1), g = unique("g");
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 10, JavaClients::number);
      try (KafkaConsumer<byte[], byte[]> c = consumer(g, "client.id", "groups-test")) {
        c.subscribe(Collections.singletonList(t));
        read(c, 10);
        c.commitSync();
        ConsumerGroupDescription d = admin.describeConsumerGroups(Collections.singletonList(g)).all().get().get(g);
        check(d.members().size() == 1 && d.members().iterator().next().clientId().equals("groups-test")
            && d.members().iterator().next().assignment().topicPartitions().contains(tp), d);
        failsWith(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(Collections.singletonList(g)).all().get());
      }
      check(admin.listConsumerGroups().all().get().stream().anyMatch(l -> l.groupId().equals(g)), "list");
      admin.deleteConsumerGroups(Collections.singletonList(g)).all().get();
      failsWith(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(Collections.singletonList(g)).all().get());
    });
    test("group administration", "alter and delete offsets", () -> {
      String t = newTopic(1), g = unique("g");
      TopicPartition tp = new TopicPartition(t, 0);
      produce(t, 10, JavaClients::number);
      admin.alterConsumerGroupOffsets(g, Collections.singletonMap(tp, new OffsetAndMetadata(7))).all().get();
      check(admin.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata().get().get(tp).offset() == 7, "offset");
      admin.deleteConsumerGroupOffsets(g, Collections.singleton(tp)).all().get();
      check(admin.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata().get().get(tp) == null, "deleted");
    });
    test("compacted topics", "keys only", () -> {
      String t = newTopic(1, "cleanup.policy", "compact");
      failsWith(InvalidRecordException.class, () -> produce(t, 1, JavaClients::number));
      try (KafkaProducer<byte[], byte[]> p = producer()) {
        for (int i = 0; i < 20; i++) p.send(new ProducerRecord<>(t, number(i % 3), number(i))).get();
      }
      check(readAll(t, 20).size() == 20, "records");
    });
    test("transactions", "commit", () -> {
      try (KafkaProducer<byte[], byte[]> p = producer("transactional.id", unique("t"), "max.block.ms", 20000)) {
        p.initTransactions();
        p.beginTransaction();
        p.send(new ProducerRecord<>(newTopic(1), number(1)));
        p.commitTransaction();
      }
    });
    test("ACLs, SASL, TLS", "describeAcls", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
    System.exit(0);
  }
}
