// Package hbase is the sink that writes events into tables of HBase. It is
// Flume's hbase, hbase2 and asynchbase in one; docs/hbase.md has what it
// promises.
package hbase

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	client "github.com/sluice-data/sluice/internal/hbase"
)

const notes = "- A batch counts as delivered when the region servers confirmed all of its puts and increments; they do so after their write-ahead logs have them. Events that are not confirmed are offered again, and only those. " +
	"Puts come first, then increments, as in Flume.\n" +
	"- **At least once.** A put that is repeated with the same row key changes nothing; the serializer decides about row keys. An increment that is repeated counts twice, unless the repetition is within the same try of the sink.\n" +
	"- A table or a column family that is missing, and a permission that is, are named once; the events wait, and go on when it is there.\n" +
	"- An event that can never be stored (an empty row key, a cell larger than the server takes) fails alone and is told as such; see dead letters.\n" +
	"- Splits and moves of regions and servers that are busy are waited for within `hbase.client.operation.timeout` (`timeout` of asynchbase), quietly for some two seconds.\n" +
	"- HBase 2 is spoken to directly; there is no Java client, whose version Flume's `hbase` and `hbase2` check. Kerberos and TLS are refused.\n" +
	"- `hbase-site.xml` is looked for in `$HBASE_CONF_DIR`, `$HBASE_HOME/conf` and `/etc/hbase/conf`, and may be named by `hbaseSite`. What the agent file says wins."

func init() {
	register := func(name, class, serializer string, async bool) {
		component.RegisterSink(component.Info{
			Name: name, Classes: []string{class},
			Doc:   "Writes events into a table of HBase.",
			Notes: notes,
		}, func() component.SinkConfig { return &config{serializerClass: serializer, async: async} })
	}
	register("hbase", "org.apache.flume.sink.hbase.HBaseSink", "org.apache.flume.sink.hbase.SimpleHbaseEventSerializer", false)
	register("hbase2", "org.apache.flume.sink.hbase2.HBase2Sink", "org.apache.flume.sink.hbase2.SimpleHBase2EventSerializer", false)
	register("asynchbase", "org.apache.flume.sink.hbase.AsyncHBaseSink", "org.apache.flume.sink.hbase.SimpleAsyncHbaseEventSerializer", true)
}

type config struct {
	serializerClass string
	async           bool

	table, family string
	batchSize     int64
	serializer    component.Config
	coalesce      bool
	wal           bool
	maxFails      int

	site      string
	quorum    string
	parent    string
	registry  string
	bootstrap string
	user      string
	// In ms, as hbase-site.xml has them; 0: not set.
	rpcTimeout, timeout, pause int64

	perServer int
}

// perServerKey is HBase's name for the requests under way at a server.
const (
	perServerKey = "hbase.client.max.perserver.tasks"
	maxPerServer = 100
)

const kerberos = "Kerberos is not there; use an HBase whose hbase.security.authentication is simple, reached through a network that is protected otherwise"

func (c *config) Fields() []component.Field {
	inSite := func(f component.Field, def string) component.Field {
		return f.AsDefault("(hbase-site.xml, else " + def + ")")
	}
	fields := []component.Field{
		component.String("table", &c.table, "").Require().Describe("The table; NAMESPACE:TABLE outside of the namespace default. It must exist."),
		component.String("columnFamily", &c.family, "").Require().Describe("The column family of all cells. It must exist."),
		component.Int64("batchSize", &c.batchSize, 100).In("events").Min(1).Max(1 << 20).Describe("The most events taken in one transaction. Larger batches are faster."),
		component.Part("serializer", &c.serializer, KindSerializer, "serializer.", c.serializerClass).Describe("What makes rows of events."),
		component.Bool("coalesceIncrements", &c.coalesce, false).Describe("Sum up a batch's increments of the same cell and send one."),
		component.Bool("enableWal", &c.wal, true).Describe("Whether servers put the rows into their write-ahead logs. Without it a server that dies loses what it has not flushed, long after the sink was told that all is well."),
		inSite(component.String("zookeeperQuorum", &c.quorum, "").AsType("list"), "localhost:2181").
			Describe("ZooKeeper servers as HOST:PORT, separated by commas; the port is 2181 where it is left out. Any one of them will do."),
		inSite(component.String("znodeParent", &c.parent, ""), "/hbase").Describe("HBase's node in ZooKeeper."),
		component.Refuse("kerberosPrincipal", kerberos),
		component.Refuse("kerberosKeytab", kerberos),
		component.String("hbaseSite", &c.site, "").AsType("path").Describe("An hbase-site.xml to read in place of the one that is found."),
		inSite(component.String("hbase.client.registry.impl", &c.registry, ""), "ZKConnectionRegistry").
			Describe("How the server of hbase:meta is found, by the name of HBase's class for it: ZKConnectionRegistry asks ZooKeeper; RpcConnectionRegistry and MasterRegistry ask masters or region servers, without ZooKeeper."),
		inSite(component.String("hbase.client.bootstrap.servers", &c.bootstrap, "").AsType("list").Old("hbase.masters"), "none").
			Describe("For RpcConnectionRegistry: masters or region servers as HOST:PORT, separated by commas."),
		inSite(component.Int64("hbase.rpc.timeout", &c.rpcTimeout, 0).Min(0).In("ms"), "60000").
			Describe("How long to wait for the answer to one request."),
		inSite(component.Int64("hbase.client.pause", &c.pause, 0).Min(0).In("ms"), "100").
			Describe("The pause before the first retry; later ones are up to 20 times as long."),
		inSite(component.Int(perServerKey, &c.perServer, 0).Min(0).Max(maxPerServer).In("requests"), "4").
			Describe("How many requests of a batch, each for other regions, are under way at a region server at once. Java's client has 2; a server works on a request with one thread."),
		component.String("user", &c.user, "").AsDefault("($HADOOP_USER_NAME, else the process's user)").
			Describe("The user that the sink says it is; HBase believes it, as Kerberos is off."),
	}
	if !c.async {
		return append(fields,
			inSite(component.Int64("hbase.client.operation.timeout", &c.timeout, 0).Min(0).In("ms"), "60000").
				Describe("How long the sink tries before it gives a batch back to the channel, to be taken anew. Flume's client waits up to 20 minutes."))
	}
	return append(fields,
		component.Int64("timeout", &c.timeout, 60000).In("ms").Describe("How long the sink tries before it gives a batch back to the channel, to be taken anew. 0 and less: 60000, as in Flume."),
		component.Int("maxConsecutiveFails", &c.maxFails, 10).Describe("After so many batches in a row that failed all connections are made anew, and regions looked up again. Less than 1: never."),
		component.Ignore("async.", "these are settings of the library asynchbase, which is not there; hbase.rpc.timeout and others stand beside it"),
	)
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	cfg, err := c.client(env)
	if err != nil {
		return nil, err
	}
	sc, ok := c.serializer.(SerializerConfig)
	if !ok {
		return nil, fmt.Errorf("make serializer: %T has no NewSerializer method", c.serializer)
	}
	ser, err := sc.NewSerializer(env)
	if err != nil {
		var key *component.KeyError
		if errors.As(err, &key) {
			key.Key = "serializer." + key.Key
		}
		return nil, err
	}
	if len(c.family) > client.MaxFamily {
		return nil, &component.KeyError{Key: "columnFamily", Err: client.ErrFamily}
	}
	if !c.wal {
		env.Warn("enableWal", "", "a server that dies loses the rows that it has not flushed yet, without a word to the sink")
	}
	s := &sink{config: *c, env: env, cfg: cfg, family: []byte(c.family), ser: ser}
	s.puts.SkipWAL, s.incs.SkipWAL = !c.wal, !c.wal
	s.count = s.counted
	return s, nil
}

// client settles the connection: what the agent file says, then
// hbase-site.xml, then HBase's defaults.
func (c *config) client(env component.Env) (client.Config, error) {
	site, err := c.readSite(env)
	if err != nil {
		return client.Config{}, err
	}
	own := func(v, key string) string { return cmp.Or(v, site.Get(key)) }
	// Where a value comes from the file, so does the blame.
	wrong := func(key string, err error) error { return &component.KeyError{Key: key, Err: err} }

	if v := site.Get("hbase.security.authentication"); v != "" && !strings.EqualFold(v, "simple") {
		return client.Config{}, wrong("hbaseSite", fmt.Errorf("hbase.security.authentication is %s: %s", v, kerberos))
	}
	if v := site.Get("hbase.client.netty.tls.enabled"); strings.EqualFold(v, "true") {
		return client.Config{}, wrong("hbaseSite", errors.New("hbase.client.netty.tls.enabled is true: TLS is not there"))
	}
	cfg := client.Config{Log: env.Log, Trouble: env.Health}
	if c.async && c.timeout <= 0 {
		env.Warn("timeout", "write 60000", "counts as 60000, as in Flume")
		c.timeout = 60000
	}
	for _, n := range []struct {
		key  string
		own  int64
		into *time.Duration
	}{
		{"hbase.rpc.timeout", c.rpcTimeout, &cfg.RPCTimeout},
		{"hbase.client.operation.timeout", c.timeout, &cfg.Timeout},
		{"hbase.client.pause", c.pause, &cfg.Pause},
	} {
		ms := n.own
		if v := site.Get(n.key); ms == 0 && v != "" {
			if _, err := fmt.Sscan(v, &ms); err != nil {
				return cfg, wrong("hbaseSite", fmt.Errorf("%s: %q is not a number of ms", n.key, v))
			}
		}
		if ms = min(ms, 1<<31-1); ms > 0 {
			*n.into = time.Duration(ms) * time.Millisecond
		}
	}

	cfg.PerServer = c.perServer
	if v := site.Get(perServerKey); cfg.PerServer == 0 && v != "" {
		if cfg.PerServer, err = strconv.Atoi(v); err != nil || cfg.PerServer < 1 || cfg.PerServer > maxPerServer {
			return cfg, wrong("hbaseSite", fmt.Errorf("%s: %q is not a number from 1 to %d", perServerKey, v, maxPerServer))
		}
	}

	if cfg.User = cmp.Or(c.user, os.Getenv("HADOOP_USER_NAME")); cfg.User == "" {
		u, err := user.Current()
		if err != nil {
			return cfg, wrong("user", fmt.Errorf("find out who runs the process: %w", err))
		}
		cfg.User = u.Username
	}

	registry := own(c.registry, "hbase.client.registry.impl")
	switch registry[strings.LastIndexByte(registry, '.')+1:] {
	case "", "ZKConnectionRegistry":
		cfg.Registry = client.ZooKeeperRegistry
	case "RpcConnectionRegistry", "MasterRegistry":
		cfg.Registry = client.RPCRegistry
		servers := cmp.Or(own(c.bootstrap, "hbase.client.bootstrap.servers"), site.Get("hbase.masters"))
		cfg.Bootstrap, err = client.Servers(servers, "16000")
		if err == nil && len(cfg.Bootstrap) == 0 {
			err = errors.New("required with this registry, but not set (masters or region servers as HOST:PORT)")
		}
		if err != nil {
			return cfg, wrong("hbase.client.bootstrap.servers", err)
		}
		return cfg, nil
	default:
		return cfg, &component.KeyError{Key: "hbase.client.registry.impl", Err: fmt.Errorf("unknown registry %q", registry), Hint: "known: ZKConnectionRegistry, RpcConnectionRegistry, MasterRegistry"}
	}

	quorum, port := c.quorum, "2181"
	if quorum == "" {
		quorum = site.Get("hbase.zookeeper.quorum")
		if p := site.Get("hbase.zookeeper.property.clientPort"); p != "" {
			port = p
		}
	}
	if quorum == "" {
		quorum = "localhost"
		env.Warn("zookeeperQuorum", "", "not set, and no hbase-site.xml says it: localhost:%s is asked, as HBase does", port)
	}
	if cfg.Quorum, err = client.Servers(quorum, port); err == nil && len(cfg.Quorum) == 0 {
		err = fmt.Errorf("%q names no server", quorum)
	}
	if err != nil {
		return cfg, wrong("zookeeperQuorum", err)
	}
	cfg.Parent = cmp.Or(own(c.parent, "zookeeper.znode.parent"), "/hbase")
	if cfg.Parent[0] != '/' {
		return cfg, wrong("znodeParent", fmt.Errorf("%q does not begin with a slash", cfg.Parent))
	}
	return cfg, nil
}

// readSite reads hbase-site.xml, if there is one.
func (c *config) readSite(env component.Env) (client.Site, error) {
	paths := []string{c.site}
	if c.site == "" {
		paths = nil
		if d := os.Getenv("HBASE_CONF_DIR"); d != "" {
			paths = append(paths, d)
		}
		if d := os.Getenv("HBASE_HOME"); d != "" {
			paths = append(paths, filepath.Join(d, "conf"))
		}
		paths = append(paths, "/etc/hbase/conf")
		for i := range paths {
			paths[i] = filepath.Join(paths[i], "hbase-site.xml")
		}
	}
	for _, p := range paths {
		site, err := client.ReadSite(p)
		if errors.Is(err, fs.ErrNotExist) && c.site == "" {
			continue
		}
		if err != nil {
			return nil, &component.KeyError{Key: "hbaseSite", Err: err}
		}
		env.Log.Info("HBase's settings are read from a file", "file", p)
		return site, nil
	}
	return nil, nil
}
