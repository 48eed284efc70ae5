#!/usr/bin/env bash
# HDFS: one NameNode and one DataNode, RPC and WebHDFS. Who runs it is the superuser.
#   HDFS_PORT  NameNode RPC (19020); +1 its HTTP and WebHDFS, +2 DataNode data, +3 its HTTP, +4 its IPC
#   HDFS_HEAP  heap of each (256m)
#   HDFS_PERMISSIONS  whether permissions are checked (false)
#   hdfs.sh admin ARGS...  the administrator's tool, e.g. hdfs.sh admin -fs hdfs://127.0.0.1:19020 -safemode get
#   hdfs.sh dfs ARGS...   the file system shell, e.g. hdfs.sh dfs -fs hdfs://127.0.0.1:19020 -ls -R /
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
ROLES=(namenode datanode)

run() { "$JAVA" -Xmx"${HDFS_HEAP:-256m}" "${JAVA17_OPENS[@]}" -cp "$DIR/conf:$(libdir)/*" "$@"; }
# Ready: the NameNode knows one live DataNode and has left safe mode (WebHDFS can then make a directory).
ready() {
  http_ok "http://127.0.0.1:$((HDFS_PORT + 3))/" &&
    curl -fsS -m 5 "http://127.0.0.1:$((HDFS_PORT + 1))/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState" | grep -q '"NumLiveDataNodes" : 1' &&
    curl -fsS -m 5 -X PUT "http://127.0.0.1:$((HDFS_PORT + 1))/webhdfs/v1/tmp?op=MKDIRS&user.name=$(id -un)" | grep -q true
}
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$@"; }
peer_start() {
  local r main h=127.0.0.1 p
  keep HDFS_PORT=19020 HDFS_HEAP=256m HDFS_PERMISSIONS=false
  p=$HDFS_PORT
  mkdir -p "$DIR"/conf/webapps/{hdfs,datanode} # the jars hold no web pages; the servlets need no more than the folders
  cp "$PEERS_SRC/hdfs/log4j.properties" "$DIR/conf/"
  { echo '<configuration>'; property fs.defaultFS "hdfs://$h:$p" hadoop.tmp.dir "$DIR/tmp" hadoop.http.staticuser.user hdfs
    echo '</configuration>'; } >"$DIR/conf/core-site.xml"
  { echo '<configuration>'
    property dfs.replication 1 dfs.permissions.enabled "$HDFS_PERMISSIONS" dfs.namenode.name.dir "file://$DIR/name" dfs.datanode.data.dir "file://$DIR/data" \
      dfs.namenode.http-address $h:$((p + 1)) dfs.datanode.address $h:$((p + 2)) dfs.datanode.http.address $h:$((p + 3)) \
      dfs.datanode.ipc.address $h:$((p + 4)) dfs.datanode.hostname 127.0.0.1 dfs.namenode.safemode.extension 0 \
      dfs.client.block.write.replace-datanode-on-failure.policy NEVER dfs.namenode.datanode.registration.ip-hostname-check false
    echo '</configuration>'; } >"$DIR/conf/hdfs-site.xml"
  [ -d "$DIR/name/current" ] || run org.apache.hadoop.hdfs.server.namenode.NameNode -format -nonInteractive >"$DIR/format.log" 2>&1 ||
    { tail -n 15 "$DIR/format.log" >&2; die 1 "cannot format the NameNode"; }
  alive "$DIR/namenode.pid" || port_free $p $((p + 1))
  alive "$DIR/datanode.pid" || port_free $((p + 2)) $((p + 3)) $((p + 4))
  for r in "${ROLES[@]}"; do
    main=NameNode; [ $r = namenode ] || main=DataNode
    alive "$DIR/$r.pid" || spawn "$DIR/$r.pid" "$DIR/$r.log" "$JAVA" -Xmx"$HDFS_HEAP" "${JAVA17_OPENS[@]}" \
      -cp "$DIR/conf:$(libdir)/*" org.apache.hadoop.hdfs.server.$r.$main
  done
  for r in "${ROLES[@]}"; do wait_ready "$DIR/$r.pid" "$DIR/$r.log" ready; done
  endpoint "HDFS_RPC=$h:$p" "HDFS_URI=hdfs://$h:$p" "HDFS_WEB=http://$h:$((p + 1))/webhdfs/v1"
}
peer_stop() { halt "$DIR/datanode.pid"; halt "$DIR/namenode.pid"; }
peer_status() { status_of "$DIR/namenode.pid" "$DIR/datanode.pid"; }

tool() { peer_fetch; exec "$JAVA" -Xmx256m "${JAVA17_OPENS[@]}" -cp "$PEERS_SRC/hdfs:$(libdir)/*" "$@"; }
case "${1:-}" in
  dfs) shift; tool org.apache.hadoop.fs.FsShell "$@" ;;
  admin) shift; tool org.apache.hadoop.hdfs.tools.DFSAdmin "$@" ;;
esac
main "$@"
