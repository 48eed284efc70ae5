package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
)

// brokerCmd runs a broker until the first signal.
type brokerCmd struct {
	Listen    []string `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Address to listen on. Only this machine can reach the default; there is no authentication, so think before you open it. Port 0 takes a free one. May be repeated, with a name for each: LAN://0.0.0.0:9093."`
	Advertise []string `placeholder:"HOST:PORT" help:"Address told to clients, when they must use another than the one they came to first (a container, a NAT). May be repeated, one for each address to listen on, in their order or by name: LAN://kafka.example:9093."`
	Data      string   `required:"" placeholder:"DIR" type:"path" help:"Directory of the broker's data; made if absent. One broker at a time."`
	Metrics   string   `placeholder:"HOST:PORT" help:"Serve Prometheus text at /metrics there. Default: nowhere."`
	NodeID    int32    `default:"1" placeholder:"N" help:"The broker's number."`

	Partitions   int32             `default:"1" placeholder:"N" help:"Partitions of topics that are created without a number (num.partitions)."`
	AutoCreate   bool              `default:"true" negatable:"" help:"Create a topic when a client first names it (auto.create.topics.enable)."`
	TopicDefault map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"Setting of all topics that do not say otherwise, by Kafka's name: retention.ms=600000, retention.bytes, segment.bytes, max.message.bytes, flush.messages, sluice.sync.acks=true, … May be repeated."`
	MaxDisk      string            `default:"auto" placeholder:"SIZE" help:"Limit of all topics together, such as 20GiB; the oldest segments go first. auto: the lower of 10 GiB and 10 % of the free space. none: no limit."`
	MinFreeDisk  string            `default:"256MiB" placeholder:"SIZE" help:"Refuse to produce while the disk has less free space than this. none: never."`

	MaxConnections int           `default:"2000" placeholder:"N" help:"Connections at a time; more are closed."`
	IdleTimeout    time.Duration `default:"10m" help:"Close a connection without requests after this time."`
	StopTimeout    time.Duration `default:"10s" help:"Bound of a graceful stop; after it connections are cut."`
	Repair         bool          `help:"Cut a damaged partition off at the damage, and lose what follows, instead of refusing to start."`
	LogLevel       string        `default:"info" enum:"debug,info,warn,error" help:"Least level of what goes to stderr: debug, info, warn or error."`
}

func (c *brokerCmd) Run(env *Env) error {
	cfg := broker.Config{
		Listen: strings.Join(c.Listen, ","), Advertise: strings.Join(c.Advertise, ","), Metrics: c.Metrics, DataDir: c.Data, NodeID: c.NodeID,
		NumPartitions: c.Partitions, DisableAutoCreate: !c.AutoCreate, TopicDefaults: c.TopicDefault,
		MaxConnections: c.MaxConnections, IdleTimeout: c.IdleTimeout, StopTimeout: c.StopTimeout, Repair: c.Repair,
	}
	var err error
	if cfg.MaxDisk, err = parseSize(c.MaxDisk); err != nil && c.MaxDisk != "auto" {
		return usageError(fmt.Errorf("--max-disk: %w, or auto", err))
	}
	if cfg.MinFreeDisk, err = parseSize(c.MinFreeDisk); err != nil {
		return usageError(fmt.Errorf("--min-free-disk: %w", err))
	}
	if cfg.MaxDisk == 0 && c.MaxDisk != "auto" || cfg.MinFreeDisk == 0 {
		return usageError(errors.New("--max-disk and --min-free-disk: 0 bytes make no sense; for no limit say none"))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return usageError(fmt.Errorf("--log-level: %w", err))
	}
	cfg.Logger = slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))

	b, err := broker.Start(env.Ctx, cfg)
	if errors.As(err, new(*broker.ConfigError)) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	// Scripts wait for this line; it is the first on stdout.
	fmt.Fprintf(env.Stdout, "sluice broker listening on %s, data in %s\n", b.Addr(), c.Data)
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
