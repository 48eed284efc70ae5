#!/usr/bin/env bash
# The command line tools of Apache Kafka, from the jars of kafka.sh (any broker that speaks the protocol will do).
#   kafka-cli.sh TOOL ARGS...    e.g. kafka-cli.sh topics --bootstrap-server 127.0.0.1:19092 --list
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
T=org.apache.kafka.tools
case ${1:-} in
  producer-perf) c=$T.ProducerPerformance ;;
  console-producer) c=$T.ConsoleProducer ;;
  console-consumer) c=$T.consumer.ConsoleConsumer ;;
  topics) c=$T.TopicCommand ;;
  consumer-groups) c=$T.consumer.group.ConsumerGroupCommand ;;
  get-offsets) c=$T.GetOffsetShell ;;
  dump-log) c=$T.DumpLogSegments ;;
  configs) c=kafka.admin.ConfigCommand ;;
  groups) c=$T.GroupsCommand ;;
  log-dirs) c=$T.LogDirsCommand ;;
  delete-records) c=$T.DeleteRecordsCommand ;;
  broker-api-versions) c=$T.BrokerApiVersionsCommand ;;
  cluster) c=$T.ClusterTool ;;
  metadata-quorum) c=$T.MetadataQuorumCommand ;;
  features) c=$T.FeatureCommand ;;
  leader-election) c=$T.LeaderElectionCommand ;;
  reassign-partitions) c=$T.reassign.ReassignPartitionsCommand ;;
  transactions) c=$T.TransactionsCommand ;;
  acls) c=$T.AclCommand ;;
  consumer-perf) c=$T.ConsumerPerformance ;;
  e2e-latency) c=$T.EndToEndLatency ;;
  verifiable-producer) c=$T.VerifiableProducer ;;
  verifiable-consumer) c=$T.VerifiableConsumer ;;
  *.*) c=$1 ;; # any main class
  *) echo "usage: kafka-cli.sh {$(sed -n 's/^  \([a-z-]*\)) c=.*/\1/p' "${BASH_SOURCE[0]}" | paste -sd'|')} ARGS..." >&2; exit 2 ;;
esac
shift
fetch_jars kafka
exec "$JAVA" -Xmx"${KAFKA_CLI_HEAP:-512m}" -Dlog4j2.configurationFile="${KAFKA_CLI_LOG4J:-$PEERS_SRC/kafka/cli-log4j2.properties}" \
  -cp "$(libdir kafka)/*" "$c" "$@"
