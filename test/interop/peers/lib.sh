# Shared by every peer script: jar cache, process start/stop, readiness. Source it, do not run it.
# Exit codes: 0 done, 1 failed, 2 bad usage, 3 package registry not reachable.
# Environment: PEERS_HOME  jar cache          (default ~/.cache/peers)
#              PEERS_DATA  default data root  (default $TMPDIR/peers-$UID)
#              PEERS_WAIT  seconds to wait for readiness (default 300)
set -euo pipefail
PEERS_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PEERS_HOME=${PEERS_HOME:-$HOME/.cache/peers}
PEERS_DATA=${PEERS_DATA:-${TMPDIR:-/tmp}/peers-$UID}
PEERS_WAIT=${PEERS_WAIT:-300}
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java
PEER=$(basename "$0" .sh)
# What Hadoop, HBase and friends of their age need to run on Java 17.
JAVA17_OPENS=() SPAWNED=()
for p in java.lang java.lang.reflect java.io java.net java.nio java.util java.util.concurrent sun.nio.ch \
         sun.security.util java.security; do JAVA17_OPENS+=(--add-opens "java.base/$p=ALL-UNNAMED"); done

http_ok() { curl -fsS -m 5 -o /dev/null "$1"; }
say()  { printf '%s: %s\n' "$PEER" "$*" >&2; }
die()  { local rc=$1; shift; say "$*"; exit "$rc"; }
need() { command -v "$1" >/dev/null || die 1 "needs '$1' on the PATH"; }

# registry_failed LOG: says why a download failed; 3 when the registry did not answer, else 1.
registry_failed() {
  if grep -qiE 'Could not transfer|Unknown ?host|Connection refused|timed out|Network is unreachable|no such host|offline mode|Temporary failure|dial tcp|Failed to connect|Could not resolve host|E: Failed to fetch' "$1"; then
    grep -iE -m1 'Could not transfer|Unknown ?host|refused|timed out|unreachable|no such host|offline|Temporary|dial tcp|Failed|resolve host' "$1" | cut -c1-300 >&2
    die 3 "the package registry cannot be reached (full log: $1)"
  fi
  grep -E -m3 'ERROR|error' "$1" | cut -c1-300 >&2 || true
  die 1 "download failed (full log: $1)"
}

# jarhome [NAME]: where the jars of NAME/pom.xml live. The name holds a hash of that file, so an edited list of
# jars gets a directory of its own and two checkouts with different lists can share one cache.
jarhome() { local name=${1:-$PEER}; echo "$PEERS_HOME/$name-$(sha256sum <"$PEERS_SRC/$name/pom.xml" | cut -c1-12)"; }

# fetch_jars [NAME]: jars of NAME/pom.xml into $(jarhome NAME)/lib, once.
fetch_jars() {
  local name=${1:-$PEER} home
  home=$(jarhome "$name")
  [ -d "$home/lib" ] && return 0
  need mvn; need java
  mkdir -p "$home"
  (
    flock 9
    [ -d "$home/lib" ] && exit 0
    say "fetching the jars of $name/pom.xml"
    rm -rf "$home/lib.new"
    mvn -B -q -Dstyle.color=never -f "$PEERS_SRC/$name/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$home/lib.new" -Dmdep.overWriteReleases=true >"$home/fetch.log" 2>&1 </dev/null ||
      registry_failed "$home/fetch.log"
    mv "$home/lib.new" "$home/lib"
  ) 9>"$home/lock"
}
libdir() { echo "$(jarhome "${1:-$PEER}")/lib"; }

# A pidfile holds "PID STARTTIME", so a recycled pid is never taken for ours.
starttime() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; set -- ${s##*) }; echo "${20}"; }
alive() { # alive PIDFILE: a zombie is only when the last of its threads has ended, which may hold its ports and locks until then
  local pid st; [ -f "$1" ] && read -r pid st <"$1" && [ -n "$st" ] && [ "$(starttime "$pid")" = "$st" ] &&
    awk '/^State:/{z = $2 == "Z"} /^Threads:/{n = $2} END{exit NR == 0 || z && n <= 1}' "/proc/$pid/status" 2>/dev/null
}
spawn() { # spawn PIDFILE LOG COMMAND...: in its own session, log started afresh (the last one kept as LOG.prev)
  local pidfile=$1 log=$2 pid; shift 2
  [ -f "$log" ] && mv -f "$log" "$log.prev"
  : >"$log" # here and not by the new process, which may come to it later than who looks into the log
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  pid=$!; disown "$pid"
  echo "$pid $(starttime "$pid")" >"$pidfile"
  SPAWNED+=("$pidfile")
}
halt() { # halt PIDFILE [SECONDS [SIGNAL]]: SIGNAL (default TERM), then KILL after SECONDS (default 30)
  local pid st i
  if alive "$1"; then
    read -r pid st <"$1"; kill -"${3:-TERM}" "$pid" 2>/dev/null || true
    for ((i = 0; i < ${2:-30} * 10; i++)); do alive "$1" || break; sleep 0.1; done
    if alive "$1"; then say "pid $pid did not end in ${2:-30} s, killed"; kill -KILL "$pid" 2>/dev/null || true
      for ((i = 0; i < 300; i++)); do alive "$1" || break; sleep 0.1; done; fi
  fi
  rm -f "$1"
}
# wait_ready PIDFILE LOG CHECK...: until CHECK succeeds; fails at once when the process has ended or CHECK answers 2.
wait_ready() {
  local pidfile=$1 log=$2 end=$((SECONDS + PEERS_WAIT)) rc why=; shift 2
  while :; do
    rc=0; "$@" >/dev/null 2>&1 || rc=$?
    [ $rc -ne 0 ] || return 0
    if ! alive "$pidfile"; then why='ended during start'
    elif [ $rc -eq 2 ]; then why='started wrongly'
    elif ((SECONDS >= end)); then why="not ready after $PEERS_WAIT s"; fi
    [ -z "$why" ] || { tail -n 15 "$log" >&2; halt "$pidfile" 5; die 1 "$why (log: $log)"; }
    sleep 0.2
  done
}
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
log_has() { grep -qE "$2" "$1"; }
# port_free PORT...: nobody listens there, or not for long: somebody may just have been killed.
port_free() {
  local p i
  for p; do
    for ((i = 0; i < 100; i++)); do port_open "$p" || continue 2; sleep 0.1; done
    die 1 "port $p is taken"
  done
}

# keep NAME=DEFAULT...: sets NAME from the environment, else from the last start in DIR, else DEFAULT; remembers it.
keep() {
  local kv n old
  mkdir -p "$DIR"
  for kv; do
    n=${kv%%=*}; old=$(sed -n "s/^$n=//p" "$DIR/settings" 2>/dev/null | tail -n1 || true)
    printf -v "$n" '%s' "${!n:-${old:-${kv#*=}}}"
  done
  { for kv; do n=${kv%%=*}; echo "$n=${!n}"; done
    while IFS= read -r old; do # what another verb keeps stays
      for kv; do [ "${kv%%=*}" != "${old%%=*}" ] || continue 2; done
      echo "$old"
    done < <(cat "$DIR/settings" 2>/dev/null); } >"$DIR/settings.new"
  mv "$DIR/settings.new" "$DIR/settings"
}
endpoint() { printf '%s\n' "$@" | tee "$DIR/endpoint"; } # NAME=VALUE lines, fit for `eval` and `source`

# rss_mb PIDFILE: resident set now, in MB.
rss_mb() { local pid st; read -r pid st <"$1"; awk '/^VmRSS/{printf "%d", $2/1024}' "/proc/$pid/status"; }
status_of() { # status_of PIDFILE...: 0 when all run
  local f rc=0
  for f; do
    if alive "$f"; then echo "$(basename "$f" .pid): running, pid $(cut -d' ' -f1 "$f"), $(rss_mb "$f") MB"
    else echo "$(basename "$f" .pid): stopped"; rc=1; fi
  done
  [ $rc -ne 0 ] || cat "$DIR/endpoint" 2>/dev/null || true
  return $rc
}

# main: peer_start, peer_stop and peer_status come from the peer's script; peer_fetch defaults to fetch_jars.
declare -F peer_fetch >/dev/null || peer_fetch() { fetch_jars; }
main() {
  local verb=${1:-}; [ $# -gt 0 ] && shift
  DIR=${1:-$PEERS_DATA/$PEER}; [ $# -gt 0 ] && shift
  case $verb in
    fetch) peer_fetch ;;
    start) peer_fetch; mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
      trap '[ $? -eq 0 ] || for f in ${SPAWNED[@]+"${SPAWNED[@]}"}; do halt "$f" 5; done' EXIT # a failed start leaves nothing behind
      trap 'exit 1' INT TERM
      peer_start "$@" ;;
    stop | status) DIR=$(cd "$DIR" 2>/dev/null && pwd) || { [ "$verb" = stop ] && exit 0; echo "$PEER: stopped"; exit 1; }
      "peer_$verb" "$@" ;;
    *) echo "usage: $PEER.sh {fetch|start|stop|status} [DIR]${USAGE:+ $USAGE}" >&2; exit 2 ;;
  esac
}
