package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
)

// brokerCmd runs a broker until the first signal. A flag that is not given
// leaves what the file says, so the flags of properties have no default here.
type brokerCmd struct {
	File     string   `arg:"" optional:"" placeholder:"server.properties" help:"Apache Kafka's server.properties, as it is. What has no effect here, or is refused, is said at the start. Flags win over it."`
	Config   string   `placeholder:"FILE" help:"The same, as a flag."`
	Override []string `sep:"none" placeholder:"NAME=VALUE" help:"A property that wins over the file's. May be repeated."`

	Listen    []string `placeholder:"HOST:PORT" help:"Address to listen on. Only this machine can reach the default; there is no authentication, so think before you open it. Port 0 takes a free one. May be repeated, with a name for each: LAN://0.0.0.0:9093. Default: 127.0.0.1:9092."`
	Advertise []string `placeholder:"HOST:PORT" help:"Address told to clients, when they must use another than the one they came to first (a container, a NAT). May be repeated, one for each address to listen on, in their order or by name: LAN://kafka.example:9093."`
	Data      string   `placeholder:"DIR" type:"path" help:"Directory of the broker's data; made if absent. One broker at a time. Required, here or as log.dirs in the file."`
	Metrics   string   `placeholder:"HOST:PORT" help:"Serve Prometheus text at /metrics there. Default: nowhere."`
	NodeID    *int32   `placeholder:"N" help:"The broker's number. Default: 1."`

	Partitions   *int32            `placeholder:"N" help:"Partitions of topics that are created without a number (num.partitions). Default: 1."`
	AutoCreate   *bool             `negatable:"" help:"Create a topic when a client first names it (auto.create.topics.enable). Default: yes."`
	TopicDefault map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"Setting of all topics that do not say otherwise, by Kafka's name: retention.ms=600000, retention.bytes, segment.bytes, max.message.bytes, flush.messages, sluice.sync.acks=true, … May be repeated."`
	MaxDisk      string            `placeholder:"SIZE" help:"Limit of all topics together, such as 20GiB; the oldest segments go first. auto: the lower of 10 GiB and 10 % of the free space. none: no limit. Default: auto."`
	MinFreeDisk  string            `placeholder:"SIZE" help:"Refuse to produce while the disk has less free space than this. none: never. Default: 256MiB."`

	MaxConnections      *int           `placeholder:"N" help:"Connections at a time; more are closed (max.connections). Default: 2000."`
	MaxConnectionsPerIP *int           `name:"max-connections-per-ip" placeholder:"N" help:"Connections of one client address at a time (max.connections.per.ip). Default: no limit of its own."`
	IdleTimeout         *time.Duration `placeholder:"TIME" help:"Close a connection without requests after this time (connections.max.idle.ms). Default: 10m."`
	StopTimeout         time.Duration  `default:"10s" help:"Bound of a graceful stop; after it connections are cut."`
	Repair              bool           `help:"Cut a damaged partition off at the damage, and lose what follows, instead of refusing to start."`
	LogLevel            string         `default:"info" enum:"debug,info,warn,error" help:"Least level of what goes to stderr: debug, info, warn or error."`
}

func (c *brokerCmd) Run(env *Env) error {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return usageError(fmt.Errorf("--log-level: %w", err))
	}
	cfg := broker.Config{StopTimeout: c.StopTimeout, Repair: c.Repair, LogLevel: level}
	cfg.Logger = slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
	if err := c.configure(&cfg); err != nil {
		return usageError(err)
	}
	if cfg.DataDir == "" {
		return usageError(errors.New("the data directory is missing: --data DIR (or log.dirs=DIR in server.properties; try: sluice broker --help)"))
	}
	b, err := broker.Start(env.Ctx, cfg)
	if errors.As(err, new(*broker.ConfigError)) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	// Scripts wait for this line; it is the first on stdout.
	fmt.Fprintf(env.Stdout, "sluice broker listening on %s, data in %s\n", b.Addr(), cfg.DataDir)
	if ls := b.Listeners(); len(ls) > 1 {
		for _, l := range ls {
			fmt.Fprintf(env.Stdout, "listener %s\n", l)
		}
	}
	if n := b.DiskLimit(); n >= 0 {
		fmt.Fprintf(env.Stdout, "topics are kept to %s together; the oldest records go first (--max-disk changes it)\n", formatSize(n))
	}
	if a := b.MetricsAddr(); a != "" {
		fmt.Fprintf(env.Stdout, "metrics at http://%s/metrics\n", a)
	}
	<-b.Done()
	return b.Close(context.Background())
}

// configure puts the file, then the overrides, then the flags into cfg.
func (c *brokerCmd) configure(cfg *broker.Config) error {
	file := c.Config
	if c.File != "" {
		if file != "" {
			return errors.New("two files: name server.properties once, alone or with --config")
		}
		file = c.File
	}
	props, err := readServerProperties(file, c.Override, cfg.Logger)
	if err != nil {
		return err
	}
	set := func(name, flag, value string) { props[name] = placed{value, flag} }
	if len(c.Listen) > 0 {
		set("listeners", "--listen", strings.Join(c.Listen, ","))
	}
	if len(c.Advertise) > 0 {
		set("advertised.listeners", "--advertise", strings.Join(c.Advertise, ","))
	}
	if c.Data != "" {
		set("log.dirs", "--data", c.Data)
	}
	if c.Metrics != "" {
		set("sluice.metrics.listen", "--metrics", c.Metrics)
	}
	if c.NodeID != nil {
		set("node.id", "--node-id", strconv.Itoa(int(*c.NodeID)))
	}
	if c.Partitions != nil {
		set("num.partitions", "--partitions", strconv.Itoa(int(*c.Partitions)))
	}
	if c.AutoCreate != nil {
		set("auto.create.topics.enable", "--auto-create", strconv.FormatBool(*c.AutoCreate))
	}
	if c.MaxConnections != nil {
		set("max.connections", "--max-connections", strconv.Itoa(*c.MaxConnections))
	}
	if c.MaxConnectionsPerIP != nil {
		set("max.connections.per.ip", "--max-connections-per-ip", strconv.Itoa(*c.MaxConnectionsPerIP))
	}
	if c.IdleTimeout != nil {
		set("connections.max.idle.ms", "--idle-timeout", strconv.FormatInt(c.IdleTimeout.Milliseconds(), 10))
	}
	for _, size := range []struct{ name, flag, value, auto string }{
		{"sluice.max.disk.bytes", "--max-disk", c.MaxDisk, "auto"}, {"sluice.min.free.disk.bytes", "--min-free-disk", c.MinFreeDisk, ""},
	} {
		switch size.value {
		case "":
			continue
		case size.auto:
			delete(props, size.name)
			continue
		}
		n, err := parseSize(size.value)
		if err != nil {
			return fmt.Errorf("%s: %w", size.flag, err)
		}
		set(size.name, size.flag, strconv.FormatInt(n, 10))
	}
	if err := applyServerProperties(cfg, props, cfg.Logger); err != nil {
		return err
	}
	if cfg.TopicDefaults == nil {
		cfg.TopicDefaults = map[string]string{}
	}
	maps.Copy(cfg.TopicDefaults, c.TopicDefault)
	return nil
}

// parseSize reads «10GiB», «500M», «123456» or «none» (-1). A letter alone
// means the binary unit, as everywhere in this program.
func parseSize(s string) (int64, error) {
	if s == "none" {
		return -1, nil
	}
	num := strings.TrimRight(s, "KkMmGgTtIiBb")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s[len(num):]), "b"), "i")
	shift, ok := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]
	n, err := strconv.ParseFloat(num, 64)
	if err != nil || !ok || !(n >= 0) || n*float64(int64(1)<<shift) > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a size: want a number of bytes, a number with K, M, G or T (as in 20GiB), or none", s)
	}
	return int64(n * float64(int64(1)<<shift)), nil
}

func formatSize(n int64) string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n >= 1<<u.shift {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(int64(1)<<u.shift), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
