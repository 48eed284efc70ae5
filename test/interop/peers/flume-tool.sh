#!/usr/bin/env bash
# Apache Flume's tools (flume-ng tool), from the jars of flume.sh and one more.
#   flume-tool.sh fcintegritytool -l DIR,DIR …   as flume-ng tool
#   flume-tool.sh fetch                          the jars, and nothing else
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
fetch_jars flume
fetch_jars flume-tools
[ "${1:-}" != fetch ] || exit 0
exec "$JAVA" -Xmx256m ${FLUME_OPTS:-} -Dlog4j2.configurationFile="$PEERS_SRC/flume/log4j2.properties" \
  -cp "$(libdir flume)/*:$(libdir flume-tools)/*" org.apache.flume.tools.FlumeToolsMain "$@"
