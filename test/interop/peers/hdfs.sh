#!/usr/bin/env bash
# HDFS: one or two NameNodes and some DataNodes, RPC and WebHDFS. Who runs it is the superuser.
#   HDFS_PORT  NameNode RPC (19020); +1 its HTTP and WebHDFS, +2 DataNode data, +3 its HTTP, +4 its IPC; the next DataNode has +5 to +7, …
#   HDFS_NODES  DataNodes (1); pid files are datanode.pid, datanode2.pid, …; blocks have as many replicas, three at most
#   HDFS_REPLICAS  or so many
#   HDFS_NAMENODES  2: NameNodes nn1 and nn2 of the name service `cluster`, that share their edits in a directory; both begin as
#     standby. nn2 has the two ports after the last of the DataNodes; pid files are namenode.pid and namenode2.pid
#   HDFS_HEAP  heap of each (256m)
#   HDFS_PERMISSIONS  whether permissions are checked (false)
#   HDFS_REALM  a realm of Kerberos (none), with KRB5_CONFIG, and HDFS_KEYTAB with the keys of hdfs/localhost and HTTP/localhost
#   HDFS_RPC_PROTECTION, HDFS_DATA_PROTECTION  with a realm: authentication (default), integrity or privacy; of data there may be
#     one for each DataNode, with commas. HDFS_ENCRYPT  dfs.encrypt.data.transfer (false)
#   hdfs.sh admin ARGS...  the administrator's tool, e.g. hdfs.sh admin -fs hdfs://127.0.0.1:19020 -safemode get
#   hdfs.sh dfs ARGS...   the file system shell, e.g. hdfs.sh dfs -fs hdfs://127.0.0.1:19020 -ls -R /
#   hdfs.sh ha ARGS...    the tool for two NameNodes, e.g. hdfs.sh ha -transitionToActive nn1
# The tools read DIR/conf if HDFS_CONF names it; with a realm they log in by KRB5_CONFIG, KRB5PRINCIPAL and KRB5KEYTAB.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
datanodes() { local i; echo datanode; for ((i = 2; i <= HDFS_NODES; i++)); do echo "datanode$i"; done; }
namenodes() { echo namenode; [ "$HDFS_NAMENODES" -lt 2 ] || echo namenode2; }

# Started often and for a short while, they need neither the better compiler nor the parallel collector.
JAVA_QUICK=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "${JAVA17_OPENS[@]}")
krb5() { [ -z "${KRB5_CONFIG:-}" ] || echo "-Djava.security.krb5.conf=$KRB5_CONFIG"; }
run() { "$JAVA" -Xmx"${HDFS_HEAP:-256m}" $(krb5) "${JAVA_QUICK[@]}" -cp "$DIR/conf:$(libdir)/*" "$@"; }
# Ready: the NameNodes know all DataNodes, and the only one has left safe mode (WebHDFS can then make a directory).
ready() {
  local i bean=http://127.0.0.1:$((HDFS_PORT + 1))/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState
  for ((i = 0; i < HDFS_NODES; i++)); do http_ok "http://127.0.0.1:$((HDFS_PORT + 3 + 3 * i))/" || return; done
  curl -fsS -m 5 "$bean" | grep -q "\"NumLiveDataNodes\" : $HDFS_NODES," || return
  if [ "$HDFS_NAMENODES" -gt 1 ]; then
    curl -fsS -m 5 "${bean/:$((HDFS_PORT + 1))/:$((HDFS_PORT + 3 + 3 * HDFS_NODES))}" | grep -q "\"NumLiveDataNodes\" : $HDFS_NODES,"
  elif [ -n "$HDFS_REALM" ]; then
    curl -fsS -m 5 "$bean" | grep -q '"FSState" : "Operational"'
  else
    curl -fsS -m 5 -X PUT "http://127.0.0.1:$((HDFS_PORT + 1))/webhdfs/v1/tmp?op=MKDIRS&user.name=$(id -un)" | grep -q true
  fi
}
property() { printf '<property><name>%s</name><value>%s</value></property>\n' "$@"; }
peer_start() {
  local r h=127.0.0.1 p q i=0 uri protection data
  keep HDFS_PORT=19020 HDFS_NODES=1 HDFS_REPLICAS= HDFS_NAMENODES=1 HDFS_HEAP=256m HDFS_PERMISSIONS=false HDFS_REALM= HDFS_KEYTAB= KRB5_CONFIG= \
    HDFS_RPC_PROTECTION=authentication HDFS_DATA_PROTECTION=authentication HDFS_ENCRYPT=false
  p=$HDFS_PORT q=$((HDFS_PORT + 2 + 3 * HDFS_NODES))
  [ -z "$HDFS_REALM" ] || h=localhost # the name in the principals
  uri=hdfs://$h:$p
  [ "$HDFS_NAMENODES" -lt 2 ] || uri=hdfs://cluster
  mkdir -p "$DIR"/conf/webapps/{hdfs,datanode} # the jars hold no web pages; the servlets need no more than the folders
  cp "$PEERS_SRC/hdfs/log4j.properties" "$DIR/conf/"
  { echo '<configuration>'; property fs.defaultFS "$uri" hadoop.tmp.dir "$DIR/tmp" hadoop.http.staticuser.user hdfs
    [ -z "$HDFS_REALM" ] || property hadoop.security.authentication kerberos hadoop.security.authorization false hadoop.rpc.protection "$HDFS_RPC_PROTECTION"
    echo '</configuration>'; } >"$DIR/conf/core-site.xml"
  { echo '<configuration>'
    property dfs.replication "${HDFS_REPLICAS:-$((HDFS_NODES < 3 ? HDFS_NODES : 3))}" dfs.permissions.enabled "$HDFS_PERMISSIONS" dfs.namenode.name.dir "file://$DIR/name" \
      dfs.namenode.http-address 127.0.0.1:$((p + 1)) dfs.datanode.hostname $h dfs.namenode.safemode.extension 0 \
      dfs.client.block.write.replace-datanode-on-failure.policy NEVER dfs.namenode.datanode.registration.ip-hostname-check false
    [ "$HDFS_NAMENODES" -lt 2 ] || property dfs.nameservices cluster dfs.ha.namenodes.cluster nn1,nn2 \
      dfs.namenode.rpc-address.cluster.nn1 $h:$p dfs.namenode.http-address.cluster.nn1 $h:$((p + 1)) dfs.namenode.name.dir.cluster.nn1 "file://$DIR/name" \
      dfs.namenode.rpc-address.cluster.nn2 $h:$q dfs.namenode.http-address.cluster.nn2 $h:$((q + 1)) dfs.namenode.name.dir.cluster.nn2 "file://$DIR/name2" \
      dfs.namenode.shared.edits.dir "file://$DIR/edits" dfs.ha.tail-edits.period 1 dfs.ha.log-roll.period 1 'dfs.ha.fencing.methods' 'shell(/bin/true)' \
      dfs.client.failover.proxy.provider.cluster org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider
    if [ -n "$HDFS_REALM" ]; then
      for r in namenode datanode secondary.namenode; do property "dfs.$r.kerberos.principal" "hdfs/_HOST@$HDFS_REALM" "dfs.$r.keytab.file" "$HDFS_KEYTAB"; done
      property dfs.web.authentication.kerberos.principal "HTTP/localhost@$HDFS_REALM" dfs.web.authentication.kerberos.keytab "$HDFS_KEYTAB" \
        dfs.block.access.token.enable true dfs.data.transfer.protection "${HDFS_DATA_PROTECTION%%,*}" dfs.encrypt.data.transfer "$HDFS_ENCRYPT" \
        ignore.secure.ports.for.testing true # else DataNodes want ports of root's, or HTTPS
    fi
    echo '</configuration>'; } >"$DIR/conf/hdfs-site.xml"
  [ -d "$DIR/name/current" ] || run org.apache.hadoop.hdfs.server.namenode.NameNode $(id_of namenode) -format -nonInteractive >"$DIR/format.log" 2>&1 ||
    { tail -n 15 "$DIR/format.log" >&2; die 1 "cannot format the NameNode"; }
  [ "$HDFS_NAMENODES" -lt 2 ] || [ -d "$DIR/name2/current" ] || cp -r "$DIR/name" "$DIR/name2" # in place of -bootstrapStandby
  i=$p
  for r in $(namenodes); do
    alive "$DIR/$r.pid" || { port_free "$i" $((i + 1)); server "$r" namenode.NameNode $(id_of "$r"); }
    i=$q
  done
  i=0
  IFS=, read -ra protection <<<"$HDFS_DATA_PROTECTION"
  for r in $(datanodes); do
    data=()
    [ -z "$HDFS_REALM" ] || data=(-Ddfs.data.transfer.protection="${protection[i / 3]:-${protection[0]}}")
    alive "$DIR/$r.pid" || { port_free $((p + 2 + i)) $((p + 3 + i)) $((p + 4 + i)); server $r datanode.DataNode -Ddfs.datanode.data.dir="file://$DIR/data${r#datanode}" \
      -Ddfs.datanode.address=127.0.0.1:$((p + 2 + i)) -Ddfs.datanode.http.address=127.0.0.1:$((p + 3 + i)) -Ddfs.datanode.ipc.address=127.0.0.1:$((p + 4 + i)) ${data[@]+"${data[@]}"}; }
    i=$((i + 3))
  done
  for r in $(namenodes) $(datanodes); do wait_ready "$DIR/$r.pid" "$DIR/$r.log" ready; done
  endpoint "HDFS_RPC=$h:$p" "HDFS_URI=$uri" "HDFS_WEB=http://127.0.0.1:$((p + 1))/webhdfs/v1"
}
# id_of NAMENODE: by its address alone it does not know which of two it is.
id_of() { [ "$HDFS_NAMENODES" -lt 2 ] || case $1 in namenode) echo -Ddfs.ha.namenode.id=nn1 ;; *) echo -Ddfs.ha.namenode.id=nn2 ;; esac; }
server() { # server NAME CLASS ARGS...
  local name=$1 class=$2; shift 2
  spawn "$DIR/$name.pid" "$DIR/$name.log" "$JAVA" -Xmx"$HDFS_HEAP" $(krb5) "${JAVA_QUICK[@]}" -cp "$DIR/conf:$(libdir)/*" "org.apache.hadoop.hdfs.server.$class" "$@"
}
peer_stop() {
  local r
  keep HDFS_NODES=1 HDFS_NAMENODES=1
  for r in $(datanodes) $(namenodes); do halt "$DIR/$r.pid"; done
}
peer_status() {
  local r files=()
  keep HDFS_NODES=1 HDFS_NAMENODES=1
  for r in $(namenodes) $(datanodes); do files+=("$DIR/$r.pid"); done
  status_of "${files[@]}"
}

tool() { peer_fetch; exec "$JAVA" -Xmx256m $(krb5) "${JAVA_QUICK[@]}" -cp "${HDFS_CONF:-$PEERS_SRC/hdfs}:$(libdir)/*" "$@"; }
case "${1:-}" in
  dfs) shift; tool org.apache.hadoop.fs.FsShell "$@" ;;
  admin) shift; tool org.apache.hadoop.hdfs.tools.DFSAdmin "$@" ;;
  ha) shift; tool org.apache.hadoop.hdfs.tools.DFSHAAdmin "$@" ;;
esac
main "$@"
