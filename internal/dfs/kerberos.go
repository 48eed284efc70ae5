package dfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	krb "github.com/jcmturner/gokrb5/v8/client"
	krbconfig "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

// kerberosClient reads what a login needs.
func kerberosClient(o Options) (*krb.Client, error) {
	if o.Principal == "" || o.Keytab == "" {
		return nil, errors.New("the cluster wants Kerberos: set hdfs.kerberosPrincipal and hdfs.kerberosKeytab of the HDFS sink (the Hive sink has no Kerberos)")
	}
	keys, err := keytab.Load(o.Keytab)
	if err != nil {
		return nil, fmt.Errorf("read hdfs.kerberosKeytab: %w", err)
	}
	file := o.Krb5Conf
	if file == "" {
		file = os.Getenv("KRB5_CONFIG")
	}
	if file == "" {
		file = "/etc/krb5.conf"
	}
	conf, err := krbconfig.Load(file)
	if err != nil {
		return nil, fmt.Errorf("read the Kerberos configuration: %w (KRB5_CONFIG or -Djava.security.krb5.conf names another file)", err)
	}
	name, realm, ok := strings.Cut(o.Principal, "@")
	if !ok {
		realm = conf.LibDefaults.DefaultRealm
	}
	if host, err := os.Hostname(); err == nil {
		name = strings.Replace(name, "_HOST", strings.ToLower(host), 1)
	}
	return krb.NewWithKeytab(name, realm, keys, conf, krb.DisablePAFXFAST(true)), nil
}

// login asks for a ticket. It reads the keytab anew: one that was wrong may have been replaced.
func login(o Options) (*krb.Client, error) {
	k, err := kerberosClient(o)
	if err != nil {
		return nil, err
	}
	if err := k.AffirmLogin(); err != nil {
		k.Destroy()
		return nil, fmt.Errorf("log in to Kerberos as %s: %w: %s", o.Principal, err, handshakeHint(err.Error()))
	}
	return k, nil
}

// handshake is in the errors of a connection to a name node that could not be authenticated.
const handshake = "SASL handshake"

// handshakeHint is what to do about a login or a handshake that failed. The library's errors are texts.
func handshakeHint(text string) string {
	switch {
	case strings.Contains(text, "KDC_ERR_C_PRINCIPAL_UNKNOWN"):
		return "correct hdfs.kerberosPrincipal, or have it made in the KDC"
	case strings.Contains(text, "KDC_ERR_S_PRINCIPAL_UNKNOWN"):
		return "dfs.namenode.kerberos.principal in hdfs-site.xml is to be the name node's (_HOST is the host as it is written in the address)"
	case strings.Contains(text, "matching key not found"):
		return "klist -kt shows whose keys hdfs.kerberosKeytab has: hdfs.kerberosPrincipal is not there"
	case strings.Contains(text, "KDC_ERR_PREAUTH_FAILED"), strings.Contains(text, "keytab incorrect"), strings.Contains(text, "KDC_ERR_KEY_EXPIRED"), strings.Contains(text, "KDC_ERR_ETYPE_NOSUPP"):
		return "the key in hdfs.kerberosKeytab is not, or no longer, the principal's: have the keytab made anew"
	case strings.Contains(text, "KRB_AP_ERR_SKEW"), strings.Contains(text, "clock skew"), strings.Contains(text, "Clock skew"):
		return "set the clock"
	case strings.Contains(text, "kerberos authentication not supported by namenode"):
		return "the name node has no Kerberos: see whether the address and HADOOP_CONF_DIR are of the same cluster"
	case strings.Contains(text, "no available namenodes") && !strings.Contains(text, "KDC"):
		return "see what the name node's log says of it"
	}
	return "see whether the KDC of the realm answers"
}
