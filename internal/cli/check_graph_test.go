package cli

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/agent"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

// anything is a component that takes every property and does nothing. With it
// in place of all of Flume's types the rules of the graph can be compared with
// Flume's on files whose components are not built.
type anything struct{ props map[string]string }

func (a *anything) Fields() []component.Field {
	return []component.Field{component.Map("", &a.props)}
}
func (a *anything) Start(context.Context) error                         { return nil }
func (a *anything) Stop(context.Context) error                          { return nil }
func (a *anything) Run(context.Context, component.Output) error         { return nil }
func (a *anything) Write(context.Context, []event.Event) error          { return nil }
func (a *anything) Put(context.Context, *event.Batch) error             { return nil }
func (a *anything) Intercept(*event.Batch) error                        { return nil }
func (a *anything) Stats() component.ChannelStats                       { return component.ChannelStats{} }
func (a *anything) TransactionCapacity() int                            { return 0 }
func (a *anything) NewTaker() component.Taker                           { return nil }
func (a *anything) Select(*event.Event) *component.Route                { return &component.Route{} }
func (a *anything) NewSource(component.Env) (component.Source, error)   { return a, nil }
func (a *anything) NewSink(component.Env) (component.Sink, error)       { return a, nil }
func (a *anything) NewChannel(component.Env) (component.Channel, error) { return a, nil }
func (a *anything) NewInterceptor(component.Env) (component.Interceptor, error) {
	return a, nil
}
func (a *anything) NewSelector(component.Env, []string) (component.Selector, error) {
	return a, nil
}

// TestGraphOfRealFiles compares the components that stand by the rules of the
// graph alone with those that Flume 1.11 brought up.
func TestGraphOfRealFiles(t *testing.T) {
	dir := cmp.Or(os.Getenv("SLUICE_SHARED"), "../../../shared")
	table, err := os.ReadFile(filepath.Join(dir, "flume-conf", "flume-1.11.tsv"))
	if err != nil {
		t.Skipf("SKIPPED: the graphs of 225 real agent files were not compared with Flume's: %v (set SLUICE_SHARED)", err)
	}
	types, err := os.ReadFile(filepath.Join(dir, "flume-reference", "components.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	reg := &component.Registry{}
	for _, line := range strings.Split(strings.TrimSpace(string(types)), "\n")[1:] {
		col := strings.Split(line, "\t")
		info := component.Info{Kind: component.Kind(col[0]), Name: col[1], Classes: strings.Split(col[2], "; ")}
		if info.Name == "-" {
			info.Name = ""
		}
		switch info.Kind {
		case component.KindSource, component.KindChannel, component.KindSink, component.KindInterceptor, component.KindSelector:
			reg.Add(info, func() component.Config { return &anything{} })
		}
	}
	sorted := func(l []string) []string {
		l = slices.Clone(l)
		slices.Sort(l)
		return l
	}
	const zookeeper = "Flume asked the ZooKeeper of zookeeperConnect, which was out of reach"
	skip := map[string]string{
		"056-bkvarda-historiangen-flume_agent.conf/histingest1":     zookeeper,
		"061-bonibruno-Anomaly-Detection--flume.conf/flume1":        zookeeper,
		"097-deadking01-cmp-flume-conf.properties.kafka.es.conf/a1": zookeeper,
		"064-briantwalter-spark1090-flume.conf/tier1":               "Flume still waited for its Kafka channels to start",
	}
	compared, foreign := 0, 0
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		col := append(strings.Split(line, "\t"), "", "", "", "", "")
		file, name, outcome, removed, fatal := col[0], col[1], col[2], col[6], col[7]
		// A component that its own settings removed, or a class that the
		// installation lacked, says nothing about the graph.
		if removed != "" {
			continue
		}
		if _, class, unknown := strings.Cut(fatal, " type: "); unknown {
			kind := component.Kind(strings.Fields(fatal)[3])
			if _, flumes := reg.Lookup(kind, class); !flumes {
				foreign++
				unknownClass(t, reg, filepath.Join(dir, "flume-conf", file), name, class)
			}
			continue
		}
		if skip[file+"/"+name] != "" {
			continue
		}
		conf, findings, err := flumeconf.Load([]string{filepath.Join(dir, "flume-conf", file)}, flumeconf.Lookups{})
		if err != nil {
			t.Fatal(err)
		}
		var got [3][]string
		ok := false
		if model, more, found := conf.Agent(t.Context(), name, flumeconf.FilterOptions{}); found {
			if len(model.Groups) > 0 {
				continue // Flume names the group in place of its sinks
			}
			a, last := agent.Build(model, agent.Options{Registry: reg})
			findings = append(append(findings, more...), last...)
			if ok = a.Runnable(); ok {
				got[0], got[1], got[2] = a.Components()
			}
		}
		compared++
		same := ok == (outcome == "up")
		for i := range got {
			same = same && slices.Equal(sorted(got[i]), sorted(strings.Fields(col[3+i])))
		}
		if !same {
			t.Errorf("%s/%s: %v here, Flume %s %v %s\n%v", file, name, got, outcome, col[3:6], fatal, findings)
		}
	}
	if compared < 100 || foreign < 30 {
		t.Errorf("only %d agents and %d with foreign classes were compared", compared, foreign)
	}
}

// unknownClass expects that the agent is refused for the class that Flume
// could not load, with the place of it.
func unknownClass(t *testing.T, reg *component.Registry, path, name, class string) {
	conf, _, err := flumeconf.Load([]string{path}, flumeconf.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	model, _, ok := conf.Agent(t.Context(), name, flumeconf.FilterOptions{})
	if !ok {
		t.Errorf("%s: no agent %s", path, name)
		return
	}
	a, findings := agent.Build(model, agent.Options{Registry: reg})
	if a.Runnable() {
		t.Errorf("%s: agent %s can start without the class %s", path, name, class)
	}
	for _, d := range findings {
		if d.Severity == flumeconf.Error && d.Line > 0 && strings.HasSuffix(d.Key, ".type") && strings.Contains(d.Message, class) {
			return
		}
	}
	t.Errorf("%s: no finding names %s:\n%v", path, class, findings)
}
