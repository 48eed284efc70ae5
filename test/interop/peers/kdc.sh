#!/usr/bin/env bash
# A Kerberos realm: MIT's KDC, from Debian's package, on 127.0.0.1.
#   KDC_PORT  port (15088), of TCP and UDP
#   KDC_REALM  its name (PEERS.TEST)
#   KDC_LIFE  the longest that a ticket lives (1d), e.g. 30s
#   kdc.sh admin DIR COMMAND...  one command of kadmin.local, e.g. kdc.sh admin DIR ktadd -k /tmp/keytab hdfs/localhost; KDC or not
# It makes DIR/krb5.conf, for KRB5_CONFIG and -Djava.security.krb5.conf. Clocks may differ by 10 s, so that a ticket is of no use soon after its end.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin
have_kdc() { command -v krb5kdc >/dev/null && command -v kadmin.local >/dev/null; }
# peer_fetch installs the packages. The servers that they would start do not start without a realm.
peer_fetch() {
  have_kdc && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die 3 "needs the Debian packages krb5-kdc and krb5-admin-server, and root to install them"
  (
    mkdir -p "$PEERS_HOME"
    flock 9
    have_kdc && exit 0
    say "installing the Debian packages krb5-kdc and krb5-admin-server"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends krb5-kdc krb5-admin-server; } >"$PEERS_HOME/kdc.log" 2>&1 </dev/null || registry_failed "$PEERS_HOME/kdc.log"
  ) 9>"$PEERS_HOME/kdc.lock"
}
settings() { export KRB5_CONFIG=$DIR/krb5.conf KRB5_KDC_PROFILE=$DIR/kdc.conf; }
peer_start() {
  keep KDC_PORT=15088 KDC_REALM=PEERS.TEST KDC_LIFE=1d
  settings
  cat >"$DIR/krb5.conf" <<END
[libdefaults]
  default_realm = $KDC_REALM
  dns_lookup_kdc = false
  dns_lookup_realm = false
  rdns = false
  udp_preference_limit = 1
  clockskew = 10
[realms]
  $KDC_REALM = {
    kdc = 127.0.0.1:$KDC_PORT
  }
END
  cat >"$DIR/kdc.conf" <<END
[kdcdefaults]
  kdc_listen = 127.0.0.1:$KDC_PORT
  kdc_tcp_listen = 127.0.0.1:$KDC_PORT
[realms]
  $KDC_REALM = {
    database_name = $DIR/principal
    key_stash_file = $DIR/stash
    acl_file = $DIR/acl
    max_life = $KDC_LIFE
    max_renewable_life = 7d
    supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
  }
[logging]
  kdc = FILE:$DIR/kdc.log
END
  [ -e "$DIR/principal" ] || kdb5_util create -s -r "$KDC_REALM" -P master >"$DIR/create.log" 2>&1 || { tail -n 5 "$DIR/create.log" >&2; die 1 "cannot make the realm"; }
  if ! alive "$DIR/kdc.pid"; then
    port_free "$KDC_PORT"
    spawn "$DIR/kdc.pid" "$DIR/log" krb5kdc -n -r "$KDC_REALM"
  fi
  wait_ready "$DIR/kdc.pid" "$DIR/log" port_open "$KDC_PORT"
  endpoint "KRB5_CONFIG=$DIR/krb5.conf" "KDC_REALM=$KDC_REALM"
}
peer_stop() { halt "$DIR/kdc.pid"; }
peer_status() { status_of "$DIR/kdc.pid"; }

if [ "${1:-}" = admin ]; then
  DIR=$2; shift 2
  settings
  exec kadmin.local -r "$(sed -n 's/^KDC_REALM=//p' "$DIR/settings")" "$@"
fi
main "$@"
