#!/usr/bin/env bash
# Apache Flume agent.
#   flume.sh start DIR CONF [NAME]   NAME defaults to the first agent named in CONF; one DIR per agent, also its working directory
#   FLUME_HEAP  heap (512m); FLUME_OPTS  more JVM options, e.g. -DJndiAllowedProtocols=tcp (a JMS source on ActiveMQ needs it)
#   FLUME_JARS  which Flume: flume (1.11.0), flume-1.9, flume-hbase or flume-hdfs (1.11.0 with its HBase 2 or its HDFS sink)
#   FLUME_HTTP  port for the JSON metrics (none); FLUME_READY  log line (regex) to wait for
USAGE='[CONF [NAME]]'
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PEER=${FLUME_JARS:-flume}
JVM=("${JAVA17_OPENS[@]}" -Dlog4j2.configurationFile="$PEERS_SRC/flume/log4j2.properties" -Dlog4j.configuration="file:$PEERS_SRC/flume-1.9/log4j.properties" -Dlog4j.shutdownHookEnabled=false)

# Ready: every source and sink is being started, and every source has reported its start. Some (netcat, syslog, custom ones)
# never report: for those, ready once the log has been quiet for ten looks, some two seconds. A time would be over at once when
# the machine had a pause.
SEEN='' QUIET=0
names() { sed -nE "s/^[[:space:]]*$FLUME_NAME\.$1[[:space:]]*=[[:space:]]*//p" "$FLUME_CONF" | tr -d '\r'; }
ready() {
  local c grouped=' ' mute='' size
  ! log_has "$1" 'has been removed due to an error during configuration' || return 2 # Flume would run on without it
  if [ -n "$FLUME_READY" ]; then log_has "$1" "$FLUME_READY"; return; fi
  for c in $(names sinkgroups); do # a group starts in place of its sinks
    log_has "$1" "Starting Sink $c\$" || return
    grouped+="$(names "sinkgroups\.$c\.sinks") "
  done
  for c in $(names sinks); do [[ $grouped == *" $c "* ]] || log_has "$1" "Starting Sink $c\$" || return; done
  for c in $(names sources); do
    log_has "$1" "Starting Source $c\$" || return
    log_has "$1" "type: SOURCE, name: $c started" || mute=1
  done
  [ -n "$mute" ] || return 0
  size=$(stat -c %s "$1")
  [ "$size" = "$SEEN" ] || { SEEN=$size QUIET=0; }
  ((++QUIET >= 10))
}
peer_start() {
  local mon=()
  [ $# -lt 1 ] || FLUME_CONF=$(realpath "$1")
  [ $# -lt 2 ] || FLUME_NAME=$2
  keep FLUME_CONF= FLUME_NAME= FLUME_HEAP=512m FLUME_HTTP= FLUME_READY= FLUME_OPTS=
  [ -f "$FLUME_CONF" ] || die 2 "no agent file: give CONF or FLUME_CONF"
  [ -n "$FLUME_NAME" ] || FLUME_NAME=$(sed -nE 's/^[[:space:]]*([A-Za-z0-9_-]+)\.(sources|channels|sinks)[[:space:]]*=.*/\1/p' "$FLUME_CONF" | head -n1)
  if ! alive "$DIR/flume.pid"; then
    [ -z "$FLUME_HTTP" ] || { port_free "$FLUME_HTTP"; mon=(-Dflume.monitoring.type=http -Dflume.monitoring.port="$FLUME_HTTP"); }
    cd "$DIR"
    spawn "$DIR/flume.pid" "$DIR/log" "$JAVA" -Xms"$FLUME_HEAP" -Xmx"$FLUME_HEAP" "${JVM[@]}" ${mon[@]+"${mon[@]}"} $FLUME_OPTS \
      -cp "$(libdir)/*" org.apache.flume.node.Application -n "$FLUME_NAME" -f "$FLUME_CONF"
    wait_ready "$DIR/flume.pid" "$DIR/log" ready "$DIR/log"
  fi
  endpoint "FLUME_LOG=$DIR/log" ${FLUME_HTTP:+"FLUME_METRICS=http://127.0.0.1:$FLUME_HTTP/metrics"}
}
peer_stop() { halt "$DIR/flume.pid" 120; } # killed, it would lose what its memory channels hold
peer_status() { status_of "$DIR/flume.pid"; }

main "$@"
