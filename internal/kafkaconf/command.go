package kafkaconf

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
)

// Role is what a command does with its client.
type Role uint8

// The roles.
const (
	Administer Role = iota
	Produce
	Consume
)

// Command is the client of a command line, from the same properties that
// Kafka's tools take in --command-config and --command-property.
type Command struct {
	Servers []string // bootstrap.servers; empty when it is not set
	Group   string   // group.id; empty when it is not set
	// Timeout bounds a whole operation: default.api.timeout.ms, or for
	// producers delivery.timeout.ms. 0 when it is not set.
	Timeout time.Duration
	Opts    []kgo.Opt // without the servers
	// GroupOpts are Consume's, for a member of a group; without its name.
	GroupOpts []kgo.Opt
	// Notes says which of the properties do nothing here, and why.
	Notes []string
}

// NewCommand reads props, where a later value of a key counts. An error names
// the property that is wrong.
func NewCommand(role Role, props []component.Property) (*Command, error) {
	given := map[string]string{}
	var list []component.Property
	for _, p := range props {
		p.Value = strings.TrimSpace(p.Value)
		if _, again := given[p.Key]; again {
			list = slices.DeleteFunc(list, func(q component.Property) bool { return q.Key == p.Key })
		}
		given[p.Key] = p.Value
		list = append(list, p)
	}
	c := &Command{}
	conf := &commandConf{role: role}
	for _, f := range component.Decode(nil, conf, list) {
		text := f.Key + ": " + f.Message
		if f.Hint != "" {
			text += " (" + f.Hint + ")"
		}
		if f.Error {
			return nil, fmt.Errorf("%s", text)
		}
		c.Notes = append(c.Notes, text)
	}
	if s := conf.servers; s != "" {
		c.Servers = strings.Split(s, ",")
	}
	env := Env{
		Component: component.Env{Log: slog.New(slog.DiscardHandler)},
		// The command dials Servers, or what its own option says.
		Servers: []string{"localhost:9092"},
	}
	var err error
	switch role {
	case Produce:
		c.Opts, err = conf.producer.Options(env)
		c.Opts = append(c.Opts, kgo.ProducerLinger(conf.linger))
		if _, ok := given["delivery.timeout.ms"]; ok {
			c.Timeout = conf.producer.DeliveryTimeout
		}
		switch {
		case conf.producer.ignoreKeys || conf.producer.Partitioner == "sticky":
			c.Opts = append(c.Opts, kgo.RecordPartitioner(kgo.StickyPartitioner()))
		case conf.producer.Partitioner == "round":
			c.Opts = append(c.Opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		}
	case Consume:
		if c.Opts, err = conf.consumer.fetchOptions(env); err == nil {
			c.GroupOpts, err = conf.consumer.groupOptions()
		}
		if conf.rebalance == "consumer" {
			c.GroupOpts = append(c.GroupOpts, kgo.ServerSideBalancer())
		}
		if _, ok := given["group.id"]; ok {
			c.Group = conf.consumer.Group
		}
		c.Timeout = conf.timeout
	default:
		c.Opts, err = conf.client.options(env)
		c.Timeout = conf.timeout
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// commandConf declares the properties of a command's client: those of the
// agent's clients, and what differs.
type commandConf struct {
	role      Role
	servers   string
	timeout   time.Duration
	linger    time.Duration
	rebalance string // group.protocol

	client   client // Administer
	producer Producer
	consumer Consumer
}

func (c *commandConf) Fields() []component.Field {
	const onTheWay = "what has been read is sent at once, and waits for room and for the topic as long as for its acknowledgement (delivery.timeout.ms)"
	var fields []component.Field
	own := []component.Field{
		component.String("bootstrap.servers", &c.servers, ""),
		component.Ignore("metric.reporters", "a command has no metrics"),
		component.Ignore("metrics.num.samples", "a command has no metrics"),
		component.Ignore("metrics.recording.level", "a command has no metrics"),
		component.Ignore("metrics.sample.window.ms", "a command has no metrics"),
		component.Ignore("auto.include.jmx.reporter", "a command has no metrics"),
		component.Ignore("enable.metrics.push", "a command has no metrics"),
	}
	switch c.role {
	case Produce:
		fields = c.producer.Fields("")
		own = append(own,
			ms("linger.ms", &c.linger, 0, 0),
			component.Ignore("batch.size", "a batch takes what has been read, up to max.request.size"),
			component.Ignore("max.block.ms", onTheWay),
			component.Ignore("default.api.timeout.ms", "delivery.timeout.ms is the limit"),
			component.Refuse("transactional.id", "a command does not write in transactions"),
		)
	case Consume:
		fields = c.consumer.Fields("")
		own = append(own,
			ms("default.api.timeout.ms", &c.timeout, 0, 1),
			component.Enum("group.protocol", &c.rebalance, "classic", "classic", "consumer"),
			component.Ignore("enable.auto.commit", "a group's offsets are committed when its records have been shown; without a group nothing is committed"),
			component.Ignore("auto.commit.interval.ms", "a group's offsets are committed when its records have been shown"),
			component.Ignore("max.poll.records", "as many records are taken as there are"),
		)
	default:
		fields = c.client.fields("")
		own = append(own, ms("default.api.timeout.ms", &c.timeout, 0, 1))
	}
	fields = slices.DeleteFunc(fields, func(f component.Field) bool {
		return f.Key == "" || slices.ContainsFunc(own, func(o component.Field) bool { return o.Key == f.Key })
	})
	for i := range fields {
		if fields[i].Key == "client.id" {
			fields[i] = component.String("client.id", c.clientID(), "sluice")
		}
	}
	return append(fields, own...)
}

func (c *commandConf) clientID() *string {
	switch c.role {
	case Produce:
		return &c.producer.client.id
	case Consume:
		return &c.consumer.client.id
	}
	return &c.client.id
}
