package selector

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterSelector(component.Info{
		Name:    "load_balancing",
		Classes: []string{"org.apache.flume.channel.LoadBalancingChannelSelector"},
		Doc:     "Gives each event to exactly one channel of the source, in turn or at random.",
		Notes: "It works as Flume's guide says; Flume 1.10 and 1.11 refuse both names and drop the source. " +
			"A channel that is full holds the source up, as any required channel does.",
	}, func() component.SelectorConfig { return new(loadBalancingConfig) })
}

const (
	policyRoundRobin = "round_robin"
	policyRandom     = "random"
)

type loadBalancingConfig struct{ policy string }

func (c *loadBalancingConfig) Fields() []component.Field {
	return []component.Field{
		component.Enum("policy", &c.policy, policyRoundRobin, policyRoundRobin, policyRandom).
			Describe("Which channel gets the next event: the next one of the source's list, or any with the same probability."),
	}
}

func (c *loadBalancingConfig) NewSelector(_ component.Env, channels []string) (component.Selector, error) {
	l := &loadBalancing{random: c.policy == policyRandom}
	for i := range channels {
		l.routes = append(l.routes, &component.Route{Required: []int{i}})
	}
	return l, nil
}

type loadBalancing struct {
	routes []*component.Route
	random bool
	next   atomic.Uint64
}

// SelectsEachEvent implements component.PerEvent.
func (l *loadBalancing) SelectsEachEvent() {}

func (l *loadBalancing) Select(*event.Event) *component.Route {
	if l.random {
		return l.routes[rand.IntN(len(l.routes))]
	}
	return l.routes[(l.next.Add(1)-1)%uint64(len(l.routes))]
}
