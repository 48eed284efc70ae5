#!/usr/bin/env bash
# Apache Flume's avro-client, from the jars of flume.sh.
#   flume-client.sh -H HOST -p PORT -F FILE …   the options of flume-ng avro-client
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
fetch_jars flume
exec "$JAVA" -Xmx128m ${FLUME_OPTS:-} -Dlog4j2.configurationFile="$PEERS_SRC/flume/log4j2.properties" \
  -cp "$(libdir flume)/*" org.apache.flume.client.avro.AvroCLIClient "$@"
