#!/usr/bin/env bash
# PostgreSQL, from Debian's package: one server on 127.0.0.1, with the user, the password and the database `peer`.
#   PG_PORT  port (15432); PG_CONF  file with more server settings
# It does not run as root: then the user `postgres` of the package has it, and must be able to enter DIR.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bindir() {
  local d
  for d in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do [ -x "$d/postgres" ] && { echo "$d"; return; }; done
  d=$(command -v initdb) && dirname "$(realpath "$d")"
}
# peer_fetch installs the package, without the server that it would set up and start.
peer_fetch() {
  bindir >/dev/null && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die 3 "needs the Debian package postgresql, and root to install it"
  (
    mkdir -p "$PEERS_HOME"
    flock 9
    bindir >/dev/null && exit 0
    say "installing the Debian package postgresql"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-common &&
        mkdir -p /etc/postgresql-common/createcluster.d && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/peers.conf &&
        apt-get install -y -qq --no-install-recommends postgresql; } >"$PEERS_HOME/postgres.log" 2>&1 </dev/null || registry_failed "$PEERS_HOME/postgres.log"
  ) 9>"$PEERS_HOME/postgres.lock"
}

AS=()
[ "$(id -u)" != 0 ] || AS=(setpriv --reuid=postgres --regid=postgres --init-groups)
# Ready: its database answers, which is made when it is not there.
query() { PGPASSWORD=peer psql -qAt -h 127.0.0.1 -p "$PG_PORT" -U peer -d "$1" -c "$2"; }
ready() { query peer 'SELECT 1' || { query postgres 'CREATE DATABASE peer' && query peer 'SELECT 1'; }; }
peer_start() {
  local bin
  keep PG_PORT=15432 PG_CONF=
  bin=$(bindir)
  if ! alive "$DIR/postgres.pid"; then
    port_free "$PG_PORT"
    if [ ! -f "$DIR/data/PG_VERSION" ]; then
      rm -rf "$DIR/data" "$DIR/password"
      mkdir -m 0700 "$DIR/data"
      echo peer >"$DIR/password"; chmod 0644 "$DIR/password" # it is no secret
      [ ${#AS[@]} -eq 0 ] || chown postgres "$DIR/data"
      (cd / && ${AS[@]+"${AS[@]}"} "$bin/initdb" -D "$DIR/data" -U peer --auth-host=scram-sha-256 --auth-local=reject --pwfile="$DIR/password" --encoding=UTF8 --locale=C --no-sync) >"$DIR/initdb.log" 2>&1 ||
        { tail -n 5 "$DIR/initdb.log" >&2; rm -rf "$DIR/data"; die 1 "cannot set up the data directory (log: $DIR/initdb.log)"; }
      { echo "listen_addresses = '127.0.0.1'"; echo "unix_socket_directories = ''"; [ -z "$PG_CONF" ] || cat "$PG_CONF"; } >>"$DIR/data/postgresql.conf"
    fi
    cd /
    spawn "$DIR/postgres.pid" "$DIR/log" ${AS[@]+"${AS[@]}"} "$bin/postgres" -D "$DIR/data" -p "$PG_PORT"
    wait_ready "$DIR/postgres.pid" "$DIR/log" log_has "$DIR/log" 'ready to accept connections'
    wait_ready "$DIR/postgres.pid" "$DIR/log" ready
  fi
  endpoint "PG_URL=postgresql://peer:peer@127.0.0.1:$PG_PORT/peer"
}
peer_stop() { halt "$DIR/postgres.pid" 180 INT; } # INT: without waiting for clients to go
peer_status() { status_of "$DIR/postgres.pid"; }

main "$@"
