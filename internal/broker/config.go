// Package broker is a Kafka-compatible broker on one machine: any Kafka
// client or tool of the last years works against it, and every topic has
// replication factor 1.
//
// The files NN_name.go hold one API each (NN is the API key) and say which
// versions and rules it follows; the rest is the listener, the dispatch, the
// topics and the group coordinator around them.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Config of a broker. The zero value of a field means its default, but for
// DataDir, which is required.
type Config struct {
	// Listen are the addresses to listen on, separated by commas: HOST:PORT
	// or NAME://HOST:PORT. Default 127.0.0.1:9092; port 0 picks a free one.
	Listen string
	// Advertise are the addresses told to clients, in the same form: by name,
	// or in the order of the listeners. Default: the address through which the
	// client came.
	Advertise           string
	ProtocolMap         string   // listener.security.protocol.map; a listener that is not PLAINTEXT is refused
	ControllerListeners []string // controller.listener.names: these of Listen are left out
	InterBrokerListener string   // inter.broker.listener.name: must be one of Listen

	Metrics string // HOST:PORT for Prometheus text at /metrics; default: none
	// DisableLagMetrics leaves the groups' offsets out of the metrics.
	DisableLagMetrics bool
	DataDir           string
	NodeID            int32        // default 1; NodeZero for the number 0
	Logger            *slog.Logger // default: discard
	// LogLevel is the level of Logger, if clients may change it.
	LogLevel *slog.LevelVar

	// Static are the properties that SetProperties put into this Config.
	Static map[string]string

	Rack              string            // broker.rack
	NumPartitions     int32             // of topics created without a number; default 1
	DisableAutoCreate bool              // auto.create.topics.enable=false
	DisableDelete     bool              // delete.topic.enable=false
	TopicDefaults     map[string]string // topic settings by Kafka's names, for all topics that do not say otherwise
	MaxPartitions     int               // over all topics; default 10000
	MaxDisk           int64             // bytes of all topics together; default: the lower of 10 GiB and 10 % of the free space; -1: no limit
	MinFreeDisk       int64             // bytes; below it produce is refused; default 256 MiB; -1: no limit
	RetentionCheck    time.Duration     // how often retention runs; default 5 minutes, as in Apache Kafka
	CompactionCheck   time.Duration     // how often compacted topics are looked at; default 15 s
	OffsetsRetention  time.Duration     // offsets of empty groups; default 7 days
	Repair            bool              // cut damaged partitions off at the damage instead of refusing to start

	MaxConnections            int    // default 2000
	MaxConnectionsPerIP       int    // default: no limit but MaxConnections
	ConnectionsPerIPOverrides string // HOST:COUNT,…
	ipLimits                  map[netip.Addr]int
	MaxRequestBytes           int32         // of a Produce; default 100 MiB
	MaxInflightBytes          int64         // memory for the requests of all connections; default 1 GiB
	MaxConnInflightBytes      int64         // memory for the requests of one connection, above which it is not read until some are answered; default 64 MiB
	MaxInflight               int           // requests of one connection read ahead of their answers; default 16
	MaxFetchBytes             int32         // of one Fetch response; default 55 MiB
	IdleTimeout               time.Duration // of a connection without requests; default 10 min
	WriteTimeout              time.Duration // without any progress; default 1 min
	StopTimeout               time.Duration // bound on answering what was asked, at the end of the context; default 10 s

	GroupMinSession   time.Duration // group.min.session.timeout.ms; default 6 s
	GroupMaxSession   time.Duration // group.max.session.timeout.ms; default 30 min
	GroupMaxSize      int           // group.max.size; default 1000
	GroupInitialDelay time.Duration // group.initial.rebalance.delay.ms; default 0: the first member starts at once
	MaxGroups         int           // default 10000
	MaxGroupBytes     int64         // memory of all groups; default 512 MiB

	// Groups of the consumer protocol (KIP-848); the names are those of
	// group.consumer.*.
	GroupConsumerSession            time.Duration // session.timeout.ms; default 45 s
	GroupConsumerMinSession         time.Duration // min.session.timeout.ms; default 45 s
	GroupConsumerMaxSession         time.Duration // max.session.timeout.ms; default 60 s
	GroupConsumerHeartbeat          time.Duration // heartbeat.interval.ms; default 5 s
	GroupConsumerMinHeartbeat       time.Duration // min.heartbeat.interval.ms; default 5 s
	GroupConsumerMaxHeartbeat       time.Duration // max.heartbeat.interval.ms; default 15 s
	GroupConsumerAssignmentInterval time.Duration // assignment.interval.ms; default 0: every change is assigned at once
	GroupConsumerMaxSize            int           // max.size; default 1000
	GroupConsumerAssignors          []string      // assignors, the default one first; default uniform, range
	GroupConsumerMigration          string        // migration.policy; default bidirectional

	// FS holds the data directory; default: the operating system's. It is a
	// field for tests of failing disks.
	FS vfs.FS
	// FreeDisk returns the bytes that the data directory may still grow by;
	// default: statfs. It is a field for tests of the full disk.
	FreeDisk func(dir string) (int64, error)
}

// NodeZero is Config.NodeID for the number 0, as the zero value means the
// default.
const NodeZero = -1

const (
	defaultListen = "127.0.0.1:9092"
	// maxSmallRequest bounds every request but Produce. kmsg allocates an
	// array's elements on the word of its count, which it checks against the
	// bytes that are left; a small bound keeps that product small. Requests
	// that are rightly larger (requestLimit) are walked first, so that
	// their counts are known to be true: see bigShape.
	maxSmallRequest = 4 << 20
	maxBigRequest   = 16 << 20
	maxOffsetCommit = 64 << 20
	// maxAutoDisk and autoDiskShare make the default of MaxDisk: a broker
	// started without thought must not fill a laptop.
	maxAutoDisk   = 10 << 30
	autoDiskShare = 10 // one part in so many of the free space
)

// ConfigError is an error that a change of the Config mends.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" {
		return c, errors.New("start broker: no data directory is given")
	}
	def(&c.Listen, defaultListen)
	def(&c.NodeID, 1)
	if c.NodeID == NodeZero {
		c.NodeID = 0
	}
	def(&c.NumPartitions, 1)
	def(&c.MaxPartitions, 10_000)
	def(&c.MinFreeDisk, 256<<20)
	def(&c.RetentionCheck, 5*time.Minute)
	def(&c.CompactionCheck, 15*time.Second)
	def(&c.OffsetsRetention, 7*24*time.Hour)
	def(&c.MaxConnections, 2000)
	def(&c.MaxConnectionsPerIP, math.MaxInt32)
	def(&c.MaxRequestBytes, 100<<20)
	def(&c.MaxInflight, 16)
	def(&c.MaxInflightBytes, 1<<30)
	def(&c.MaxConnInflightBytes, 64<<20)
	def(&c.MaxFetchBytes, 55<<20)
	def(&c.IdleTimeout, 10*time.Minute)
	def(&c.WriteTimeout, time.Minute)
	def(&c.StopTimeout, 10*time.Second)
	def(&c.GroupMinSession, 6*time.Second)
	def(&c.GroupMaxSession, 30*time.Minute)
	def(&c.GroupMaxSize, 1000)
	def(&c.MaxGroups, 10_000)
	def(&c.MaxGroupBytes, 512<<20)
	def(&c.GroupConsumerSession, 45*time.Second)
	def(&c.GroupConsumerMinSession, 45*time.Second)
	def(&c.GroupConsumerMaxSession, 60*time.Second)
	def(&c.GroupConsumerHeartbeat, 5*time.Second)
	def(&c.GroupConsumerMinHeartbeat, 5*time.Second)
	def(&c.GroupConsumerMaxHeartbeat, 15*time.Second)
	def(&c.GroupConsumerMaxSize, 1000)
	def(&c.GroupConsumerMigration, string(group.MigrateBoth))
	if len(c.GroupConsumerAssignors) == 0 {
		c.GroupConsumerAssignors = group.Assignors()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	if c.FreeDisk == nil {
		c.FreeDisk = freeDisk
	}
	switch {
	case c.NodeID < 0:
		return c, fmt.Errorf("start broker: node id %d: want 0 or more", c.NodeID)
	case c.NumPartitions < 1:
		return c, fmt.Errorf("start broker: num.partitions %d: want 1 or more", c.NumPartitions)
	case c.MaxDisk < -1:
		return c, fmt.Errorf("start broker: disk limit %d: want a number of bytes, or -1 for none", c.MaxDisk)
	case c.GroupMinSession > c.GroupMaxSession:
		return c, fmt.Errorf("start broker: the smallest session time-out %v is above the largest %v", c.GroupMinSession, c.GroupMaxSession)
	}
	if err := c.checkGroups(); err != nil {
		return c, fmt.Errorf("start broker: %w", err)
	}
	var err error
	if c.ipLimits, err = parseIPLimits(c.ConnectionsPerIPOverrides); err != nil {
		return c, fmt.Errorf("start broker: max.connections.per.ip.overrides: %w", err)
	}
	if c.Metrics != "" {
		if _, _, err := splitHostPort(c.Metrics); err != nil {
			return c, fmt.Errorf("start broker: address of the metrics: %w", err)
		}
	}
	return c, nil
}

// topicDefaults are the settings of topics that say nothing themselves.
func (c *Config) topicDefaults(maxDisk int64) (log.TopicConfig, error) {
	tc := log.DefaultTopicConfig()
	if maxDisk >= 0 {
		// Space is freed a segment at a time, and the newest segment of a
		// partition stays: under a small limit segments must be small.
		tc.SegmentBytes = min(tc.SegmentBytes, max(maxDisk/64, 2<<20))
	}
	for name, value := range c.TopicDefaults {
		if err := setTopicConfig(&tc, name, value); err != nil {
			return tc, fmt.Errorf("start broker: topic default: %w", err)
		}
	}
	if err := tc.Validate(); err != nil {
		return tc, fmt.Errorf("start broker: topic default: %w", err)
	}
	return tc, nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func splitHostPort(addr string) (string, int32, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT: port %q is not a number from 0 to 65535", addr, port)
	}
	return host, int32(p), nil
}
