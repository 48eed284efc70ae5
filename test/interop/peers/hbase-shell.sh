#!/usr/bin/env bash
# HBase's own Java client, at the service of tests.
#   hbase-shell.sh HOST:PORT of ZooKeeper      commands from standard input, see hbase/HBaseShell.java
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -eq 1 ] || { sed -n '3s/# */usage: /p' "${BASH_SOURCE[0]}" >&2; exit 2; }
fetch_jars hbase
exec "$JAVA" -Xmx384m "${JAVA17_OPENS[@]}" -Djava.net.preferIPv4Stack=true -Dlog4j.configuration="file:$PEERS_SRC/hbase/shell-log4j.properties" \
  -cp "$(libdir hbase)/*" "$PEERS_SRC/hbase/HBaseShell.java" "$1"
