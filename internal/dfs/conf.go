package dfs

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/colinmarc/hdfs/v2"
	"github.com/colinmarc/hdfs/v2/hadoopconf"
)

// loadConf reads core-site.xml and hdfs-site.xml, where there are some.
func loadConf(dir string) (hadoopconf.HadoopConf, error) {
	if dir == "" {
		dir = os.Getenv("HADOOP_CONF_DIR")
	}
	if dir == "" {
		return hadoopconf.HadoopConf{}, nil
	}
	conf, err := hadoopconf.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("read Hadoop's configuration: %w", err)
	}
	if conf == nil {
		return nil, fmt.Errorf("read Hadoop's configuration: %s has neither core-site.xml nor hdfs-site.xml", dir)
	}
	return conf, nil
}

// DefaultPort is that of a name node.
const DefaultPort = "8020"

// nameNodes are the addresses of the host in an hdfs:// address, which may be a name service.
func nameNodes(host string, conf hadoopconf.HadoopConf) ([]string, error) {
	if ids := conf["dfs.ha.namenodes."+host]; ids != "" {
		var addrs []string
		for id := range strings.SplitSeq(ids, ",") {
			key := "dfs.namenode.rpc-address." + host + "." + strings.TrimSpace(id)
			if conf[key] == "" {
				return nil, fmt.Errorf("the name service %s has no %s", host, key)
			}
			addrs = append(addrs, withPort(conf[key]))
		}
		return addrs, nil
	}
	if host == "" {
		return nil, fmt.Errorf("there is no name node in the address; write hdfs://HOST:PORT/PATH, or set fs.defaultFS in core-site.xml and HADOOP_CONF_DIR")
	}
	return []string{withPort(host)}, nil
}

// leastProtection is the least of what dfs.data.transfer.protection lists: the data node chooses. The library would insist on the highest.
func leastProtection(conf hadoopconf.HadoopConf) string {
	if strings.EqualFold(conf["dfs.encrypt.data.transfer"], "true") {
		return hdfs.DataTransferProtectionPrivacy
	}
	listed := strings.ToLower(conf["dfs.data.transfer.protection"])
	for _, p := range []string{hdfs.DataTransferProtectionAuthentication, hdfs.DataTransferProtectionIntegrity, hdfs.DataTransferProtectionPrivacy} {
		if strings.Contains(listed, p) {
			return p
		}
	}
	return ""
}

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), DefaultPort)
}

func cutScheme(s string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(s, ":")
	if !ok || scheme == "" || strings.Contains(scheme, "/") {
		return "", s, false
	}
	return strings.ToLower(scheme), rest, true
}

func cutHost(s string) (host, path string) {
	i := strings.IndexByte(s, '/')
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}
