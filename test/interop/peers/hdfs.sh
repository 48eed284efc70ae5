#!/usr/bin/env bash
# HDFS: one NameNode and some DataNodes, RPC and WebHDFS. Who runs it is the superuser.
#   HDFS_PORT  NameNode RPC (19020); +1 its HTTP and WebHDFS, +2 DataNode data, +3 its HTTP, +4 its IPC; the next DataNode has +5 to +7, …
#   HDFS_NODES  DataNodes (1); pid files are datanode.pid, datanode2.pid, …; blocks have as many replicas, three at most
#   HDFS_HEAP  heap of each (256m)
#   HDFS_PERMISSIONS  whether permissions are checked (false)
#   hdfs.sh admin ARGS...  the administrator's tool, e.g. hdfs.sh admin -fs hdfs://127.0.0.1:19020 -safemode get
#   hdfs.sh dfs ARGS...   the file system shell, e.g. hdfs.sh dfs -fs hdfs://127.0.0.1:19020 -ls -R /
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
datanodes() { local i; echo datanode; for ((i = 2; i <= HDFS_NODES; i++)); do echo "datanode$i"; done; }

run() { "$JAVA" -Xmx"${HDFS_HEAP:-256m}" "${JAVA17_OPENS[@]}" -cp "$DIR/conf:$(libdir)/*" "$@"; }
# Ready: the NameNode knows all DataNodes and has left safe mode (WebHDFS can then make a directory).
ready() {
  local i
  for ((i = 0; i < HDFS_NODES; i++)); do http_ok "http://127.0.0.1:$((HDFS_PORT + 3 + 3 * i))/" || return; done
  curl -fsS -m 5 "http://127.0.0.1:$((HDFS_PORT + 1))/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState" | grep -q "\"NumLiveDataNodes\" : $HDFS_NODES," &&
    curl -fsS -m 5 -X PUT "http://127.0.0.1:$((HDFS_PORT + 1))/webhdfs/v1/tmp?op=MKDIRS&user.name=$(id -un)" | grep -q true
}
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$@"; }
peer_start() {
  local r h=127.0.0.1 p i=0
  keep HDFS_PORT=19020 HDFS_NODES=1 HDFS_HEAP=256m HDFS_PERMISSIONS=false
  p=$HDFS_PORT
  mkdir -p "$DIR"/conf/webapps/{hdfs,datanode} # the jars hold no web pages; the servlets need no more than the folders
  cp "$PEERS_SRC/hdfs/log4j.properties" "$DIR/conf/"
  { echo '<configuration>'; property fs.defaultFS "hdfs://$h:$p" hadoop.tmp.dir "$DIR/tmp" hadoop.http.staticuser.user hdfs
    echo '</configuration>'; } >"$DIR/conf/core-site.xml"
  { echo '<configuration>'
    property dfs.replication $((HDFS_NODES < 3 ? HDFS_NODES : 3)) dfs.permissions.enabled "$HDFS_PERMISSIONS" dfs.namenode.name.dir "file://$DIR/name" \
      dfs.namenode.http-address $h:$((p + 1)) dfs.datanode.hostname 127.0.0.1 dfs.namenode.safemode.extension 0 \
      dfs.client.block.write.replace-datanode-on-failure.policy NEVER dfs.namenode.datanode.registration.ip-hostname-check false
    echo '</configuration>'; } >"$DIR/conf/hdfs-site.xml"
  [ -d "$DIR/name/current" ] || run org.apache.hadoop.hdfs.server.namenode.NameNode -format -nonInteractive >"$DIR/format.log" 2>&1 ||
    { tail -n 15 "$DIR/format.log" >&2; die 1 "cannot format the NameNode"; }
  alive "$DIR/namenode.pid" || port_free $p $((p + 1))
  alive "$DIR/namenode.pid" || server namenode namenode.NameNode
  for r in $(datanodes); do
    alive "$DIR/$r.pid" || { port_free $((p + 2 + i)) $((p + 3 + i)) $((p + 4 + i)); server $r datanode.DataNode -Ddfs.datanode.data.dir="file://$DIR/data${r#datanode}" \
      -Ddfs.datanode.address=$h:$((p + 2 + i)) -Ddfs.datanode.http.address=$h:$((p + 3 + i)) -Ddfs.datanode.ipc.address=$h:$((p + 4 + i)); }
    i=$((i + 3))
  done
  for r in namenode $(datanodes); do wait_ready "$DIR/$r.pid" "$DIR/$r.log" ready; done
  endpoint "HDFS_RPC=$h:$p" "HDFS_URI=hdfs://$h:$p" "HDFS_WEB=http://$h:$((p + 1))/webhdfs/v1"
}
server() { # server NAME CLASS ARGS...
  local name=$1 class=$2; shift 2
  spawn "$DIR/$name.pid" "$DIR/$name.log" "$JAVA" -Xmx"$HDFS_HEAP" "${JAVA17_OPENS[@]}" -cp "$DIR/conf:$(libdir)/*" "org.apache.hadoop.hdfs.server.$class" "$@"
}
peer_stop() {
  local r
  keep HDFS_NODES=1
  for r in $(datanodes) namenode; do halt "$DIR/$r.pid"; done
}
peer_status() {
  local r files=()
  keep HDFS_NODES=1
  for r in namenode $(datanodes); do files+=("$DIR/$r.pid"); done
  status_of "${files[@]}"
}

tool() { peer_fetch; exec "$JAVA" -Xmx256m "${JAVA17_OPENS[@]}" -cp "$PEERS_SRC/hdfs:$(libdir)/*" "$@"; }
case "${1:-}" in
  dfs) shift; tool org.apache.hadoop.fs.FsShell "$@" ;;
  admin) shift; tool org.apache.hadoop.hdfs.tools.DFSAdmin "$@" ;;
esac
main "$@"
