#!/usr/bin/env bash
# Hive: a metastore (the Thrift service, on embedded Derby), and Hive's own command line, which asks it.
#   HIVE_PORT  Thrift (19083); HIVE_HEAP  heap of each (512m); HIVE_WAREHOUSE  where tables are (DIR/warehouse; may be an hdfs:// address)
#   hive.sh sql DIR   statements from standard input, with the metastore of DIR; what they answer, a row a line, fields by tabs, is its output.
#                     There is no MapReduce: SELECT … WHERE works, count(*) does not.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ready() { log_has "$1" 'Started the new metaserver on port' && port_open "$HIVE_PORT"; }
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$@"; }
peer_start() {
  keep HIVE_PORT=19083 HIVE_HEAP=512m "HIVE_WAREHOUSE=file://$DIR/warehouse"
  if ! alive "$DIR/hive.pid"; then
    port_free "$HIVE_PORT"
    mkdir -p "$DIR/conf" "$DIR/cli"; cp "$PEERS_SRC/hive/log4j2.properties" "$DIR/conf/"; cp "$PEERS_SRC/hive/log4j2.properties" "$DIR/cli/"
    { echo '<configuration>'
      property metastore.thrift.port "$HIVE_PORT" metastore.thrift.bind.host 127.0.0.1 metastore.warehouse.dir "$HIVE_WAREHOUSE" \
        javax.jdo.option.ConnectionURL "jdbc:derby:;databaseName=$DIR/derby;create=true" \
        javax.jdo.option.ConnectionDriverName org.apache.derby.jdbc.EmbeddedDriver \
        datanucleus.schema.autoCreateAll true metastore.schema.verification false metastore.try.direct.sql false \
        metastore.task.threads.always '' metastore.housekeeping.threads.on false metastore.event.db.notification.api.auth false \
        metastore.stats.autogather false
      echo '</configuration>'; } >"$DIR/conf/metastore-site.xml"
    { echo '<configuration>'
      property hive.metastore.uris "thrift://127.0.0.1:$HIVE_PORT" hive.metastore.warehouse.dir "$HIVE_WAREHOUSE" fs.defaultFS file:/// \
        hive.execution.engine mr hive.fetch.task.conversion more hive.cbo.enable false hive.stats.autogather false \
        hive.security.authorization.enabled false hive.exec.scratchdir "$DIR/scratch" hive.exec.local.scratchdir "$DIR/scratch.local" \
        hive.downloaded.resources.dir "$DIR/resources" hive.querylog.location "$DIR/querylog" hive.cli.print.header false
      echo '</configuration>'; } >"$DIR/cli/hive-site.xml"
    cd "$DIR"
    spawn "$DIR/hive.pid" "$DIR/log" "$JAVA" -Xmx"$HIVE_HEAP" "${JAVA17_OPENS[@]}" -Dlog4j2.configurationFile="$DIR/conf/log4j2.properties" \
      -Dderby.stream.error.file="$DIR/derby.log" -cp "$DIR/conf:$(libdir)/*" org.apache.hadoop.hive.metastore.HiveMetaStore -p "$HIVE_PORT"
    wait_ready "$DIR/hive.pid" "$DIR/log" ready "$DIR/log"
  fi
  endpoint "HIVE_METASTORE=thrift://127.0.0.1:$HIVE_PORT"
}
peer_stop() { halt "$DIR/hive.pid"; }
peer_status() { status_of "$DIR/hive.pid"; }

if [ "${1:-}" = sql ]; then
  [ $# -eq 2 ] && [ -d "$2/cli" ] || { echo 'usage: hive.sh sql DIR (of a metastore that was started)' >&2; exit 2; }
  fetch_jars
  cd "$2"
  exec "$JAVA" -Xmx"${HIVE_HEAP:-512m}" "${JAVA17_OPENS[@]}" -Dlevel=ERROR -Dlog4j2.configurationFile="$2/cli/log4j2.properties" \
    -cp "$2/cli:$(libdir)/*" org.apache.hadoop.hive.cli.CliDriver -S -e "$(cat)"
fi
main "$@"
