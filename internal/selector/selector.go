// Package selector holds Flume's channel selectors: which of a source's
// channels get an event.
package selector

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/suggest"
)

func init() {
	component.RegisterSelector(component.Info{
		Name:    "replicating",
		Classes: []string{"org.apache.flume.channel.ReplicatingChannelSelector"},
		Doc:     "Copies every event to all channels of the source.",
		Notes:   "An unknown name in `optional` is an error here; in Flume it breaks the source at its first event.",
	}, func() component.SelectorConfig { return new(replicatingConfig) })
	component.RegisterSelector(component.Info{
		Name:    "multiplexing",
		Classes: []string{"org.apache.flume.channel.MultiplexingChannelSelector"},
		Doc:     "Routes an event by the value of one header.",
		Notes: "An event that no mapping and no default takes is dropped as in Flume, but the start says so and the source counts it (`EventUnroutedCount`). " +
			"Channel lists are split on runs of white space; Flume splits on single spaces and trips over two.",
	}, func() component.SelectorConfig { return new(multiplexingConfig) })
}

// indexes resolves channel names.
func indexes(key string, names, channels []string) ([]int, error) {
	var is []int
	for _, n := range names {
		i := slices.Index(channels, n)
		if i < 0 {
			hint := suggest.Hint(n, channels)
			if hint == "" {
				hint = "the source's channels: " + strings.Join(channels, " ")
			}
			return nil, &component.KeyError{Key: key, Err: fmt.Errorf("channel %q is not one of the source's", n), Hint: hint}
		}
		if !slices.Contains(is, i) {
			is = append(is, i)
		}
	}
	return is, nil
}

type replicatingConfig struct{ optional []string }

func (c *replicatingConfig) Fields() []component.Field {
	return []component.Field{
		component.List("optional", &c.optional).
			Describe("Channels that an event may miss: a failure to put it there is logged and not tried again."),
	}
}

func (c *replicatingConfig) NewSelector(_ component.Env, channels []string) (component.Selector, error) {
	optional, err := indexes("optional", c.optional, channels)
	if err != nil {
		return nil, err
	}
	r := &component.Route{Optional: optional}
	for i := range channels {
		if !slices.Contains(optional, i) {
			r.Required = append(r.Required, i)
		}
	}
	return (*replicating)(r), nil
}

type replicating component.Route

func (r *replicating) Select(*event.Event) *component.Route { return r.Always() }
func (r *replicating) Always() *component.Route             { return (*component.Route)(r) }

type multiplexingConfig struct {
	header   string
	mapping  map[string]string
	optional map[string]string
	fallback []string
}

func (c *multiplexingConfig) Fields() []component.Field {
	return []component.Field{
		component.String("header", &c.header, "flume.selector.header").Describe("The header whose value picks the channels."),
		component.Map("mapping.", &c.mapping).Describe("`mapping.VALUE`: the channels for exactly that value."),
		component.Map("optional.", &c.optional).
			Describe("`optional.VALUE`: channels that get events of that value too, but may miss them."),
		component.List("default", &c.fallback).
			Describe("The channels where the header is missing, blank or has no mapping. Not set: such events are dropped."),
	}
}

func (c *multiplexingConfig) NewSelector(env component.Env, channels []string) (component.Selector, error) {
	m := &multiplexing{header: c.header, routes: make(map[string]*component.Route)}
	required, err := indexes("default", c.fallback, channels)
	if err != nil {
		return nil, err
	}
	m.fallback = &component.Route{Required: required}
	for value, names := range c.mapping {
		key := "mapping." + value
		is, err := indexes(key, strings.Fields(names), channels)
		if err != nil {
			return nil, err
		}
		m.routes[value] = &component.Route{Required: is}
	}
	for value, names := range c.optional {
		is, err := indexes("optional."+value, strings.Fields(names), channels)
		if err != nil {
			return nil, err
		}
		r := m.routes[value]
		if r == nil { // no mapping of its own: the default's channels stay required
			r = &component.Route{Required: m.fallback.Required}
			m.routes[value] = r
		}
		for _, i := range is {
			if !slices.Contains(r.Required, i) {
				r.Optional = append(r.Optional, i)
			}
		}
	}
	if len(c.mapping) == 0 && len(c.fallback) == 0 && len(c.optional) == 0 {
		return nil, &component.KeyError{Key: "mapping.", Err: fmt.Errorf("no mapping and no default: every event would be lost"),
			Hint: "set mapping.VALUE = CHANNEL or default = CHANNEL"}
	}
	if len(c.fallback) == 0 && env.Log != nil {
		env.Log.Warn("events whose header has no mapping are dropped: no default channel is set", "header", c.header)
	}
	return m, nil
}

type multiplexing struct {
	header   string
	routes   map[string]*component.Route
	fallback *component.Route
}

func (m *multiplexing) Select(e *event.Event) *component.Route {
	if v, ok := e.Header(m.header); ok {
		if r := m.routes[string(v)]; r != nil {
			return r
		}
	}
	return m.fallback
}
