#!/usr/bin/env bash
# Runs a Java program of ours with one version of Apache Kafka's client library.
#   kafka-clients.sh VERSION FILE.java ARGS...    VERSION is 2.0, 3.9 or that of kafka.sh: 4.3
#   kafka-clients.sh fetch                        gets the jars of all versions
# FILE.java is compiled against 4.3 whatever runs it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
jars() { [ "$1" = 4.3 ] && echo kafka || echo "kafka-clients-$1"; }
case ${1:-} in
  fetch) for v in 2.0 3.9 4.3; do (fetch_jars "$(jars $v)") || exit; done; exit 0 ;;
  2.0 | 3.9 | 4.3) ;;
  *) echo "usage: kafka-clients.sh {fetch | {2.0|3.9|4.3} FILE.java ARGS...}" >&2; exit 2 ;;
esac
version=$1 source=$2; shift 2
fetch_jars kafka; fetch_jars "$(jars "$version")"
need javac
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
javac -nowarn -Xlint:none -cp "$(libdir kafka)/*" -d "$dir" "$source" 2>"$dir/log" || { cat "$dir/log" >&2; die 1 "cannot compile $source"; }
# Unverified: the verifier would look for classes that an old version does not have.
"$JAVA" -Xmx"${KAFKA_CLI_HEAP:-512m}" -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote -Dlog4j2.configurationFile="$PEERS_SRC/kafka/cli-log4j2.properties" \
  -cp "$dir:$(libdir "$(jars "$version")")/*" "$(basename "$source" .java)" "$@"
