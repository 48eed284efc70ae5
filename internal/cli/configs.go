package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type configsCmd struct {
	Describe configsDescribeCmd `cmd:"" help:"Show settings: those that are set, or all."`
	Set      configsSetCmd      `cmd:"" help:"Change settings."`
	Delete   configsDeleteCmd   `cmd:"" help:"Set settings back to their defaults."`
}

// entity is what has settings.
type entity struct {
	kind kmsg.ConfigResourceType
	name string // of a broker its number, or "" for the defaults of all
}

func (e entity) String() string {
	switch {
	case e.kind == kmsg.ConfigResourceTypeTopic:
		return "topic " + e.name
	case e.kind == kmsg.ConfigResourceTypeGroupConfig:
		return "group " + e.name
	case e.name == "":
		return "all brokers"
	}
	return "broker " + e.name
}

type entityFlag struct {
	Topic          string `group:"Whose" xor:"entity" placeholder:"NAME" help:"A topic's settings."`
	Broker         *int32 `group:"Whose" xor:"entity" placeholder:"N" help:"A broker's settings."`
	BrokerDefaults bool   `group:"Whose" xor:"entity" help:"Settings of all brokers together."`
	Group          string `group:"Whose" xor:"entity" placeholder:"NAME" help:"A consumer group's settings."`
}

func (f *entityFlag) entity() (entity, error) {
	switch {
	case f.Topic != "":
		return entity{kmsg.ConfigResourceTypeTopic, f.Topic}, nil
	case f.Broker != nil:
		return entity{kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(*f.Broker))}, nil
	case f.BrokerDefaults:
		return entity{kind: kmsg.ConfigResourceTypeBroker}, nil
	case f.Group != "":
		return entity{kmsg.ConfigResourceTypeGroupConfig, f.Group}, nil
	}
	return entity{}, errors.New("say whose settings: --topic NAME, --broker N, --broker-defaults or --group NAME")
}

// describeConfigs returns an entity's settings by name.
func describeConfigs(ctx context.Context, cl *kgo.Client, e entity) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = e.kind, e.name
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if len(resp.Resources) != 1 {
		return nil, errors.New("the broker says nothing about it")
	}
	got := resp.Resources[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return nil, brokerError(err, deref(got.ErrorMessage))
	}
	slices.SortFunc(got.Configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	return got.Configs, nil
}

// alterConfigs changes an entity's settings one by one, leaving the others; a
// nil value deletes.
func alterConfigs(ctx context.Context, cl *kgo.Client, e entity, changes []kadm.AlterConfig, dryRun bool) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = dryRun
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = e.kind, e.name
	for _, c := range changes {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value, rc.Op = c.Name, c.Value, kmsg.IncrementalAlterConfigOp(c.Op)
		r.Configs = append(r.Configs, rc)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return brokerError(err, deref(r.ErrorMessage))
		}
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

type configsDescribeCmd struct {
	kafkaFlags
	entityFlag
	All  bool `help:"Show the defaults, too, and what a topic has from its broker."`
	JSON bool `help:"Write JSON, a line for each setting."`
}

func (c *configsDescribeCmd) Run(env *Env) error {
	e, err := c.entity()
	if err != nil {
		return usageError(err)
	}
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	list, err := describeConfigs(ctx, cl, e)
	if err != nil {
		return fmt.Errorf("look up settings of %s: %w", e, err)
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	shown := 0
	for _, s := range list {
		inherited := e.kind == kmsg.ConfigResourceTypeTopic && s.Source != kmsg.ConfigSourceDynamicTopicConfig
		if !c.All && (inherited || s.Source == kmsg.ConfigSourceDefaultConfig) {
			continue
		}
		shown++
		value := deref(s.Value)
		if s.IsSensitive {
			value = "(hidden)"
		}
		if c.JSON {
			writeJSON(env.Stdout, struct {
				Name     string  `json:"name"`
				Value    *string `json:"value"`
				Source   string  `json:"source"`
				ReadOnly bool    `json:"readOnly"`
				Doc      string  `json:"doc,omitempty"`
			}{s.Name, s.Value, s.Source.String(), s.ReadOnly, deref(s.Documentation)})
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, value, configSource(s.Source))
	}
	if shown == 0 && !c.JSON {
		fmt.Fprintf(env.Stderr, "%s has no settings of its own; --all shows the defaults\n", e)
	}
	return w.Flush()
}

// configSource says where a setting comes from.
func configSource(s kmsg.ConfigSource) string {
	switch s {
	case kmsg.ConfigSourceDynamicTopicConfig, kmsg.ConfigSourceDynamicBrokerConfig:
		return "set here"
	case kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		return "set for all brokers"
	case kmsg.ConfigSourceStaticBrokerConfig:
		return "set at the broker's start"
	case kmsg.ConfigSourceDefaultConfig:
		return "default"
	}
	return strings.ToLower(s.String())
}

type configsSetCmd struct {
	kafkaFlags
	entityFlag
	Settings []string `arg:"" name:"name=value" help:"Settings by Kafka's names, such as retention.ms=600000."`
	DryRun   bool     `help:"Only have the broker check them."`
}

func (c *configsSetCmd) Run(env *Env) error {
	var changes []kadm.AlterConfig
	for _, s := range c.Settings {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return usageError(fmt.Errorf("%q is not NAME=VALUE", s))
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: strings.TrimSpace(k), Value: &v})
	}
	return c.change(env, &c.entityFlag, changes, c.DryRun)
}

type configsDeleteCmd struct {
	kafkaFlags
	entityFlag
	Names  []string `arg:"" name:"name" help:"Names of settings."`
	DryRun bool     `help:"Only have the broker check it."`
}

func (c *configsDeleteCmd) Run(env *Env) error {
	var changes []kadm.AlterConfig
	for _, n := range c.Names {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: n})
	}
	return c.change(env, &c.entityFlag, changes, c.DryRun)
}

func (f *kafkaFlags) change(env *Env, whose *entityFlag, changes []kadm.AlterConfig, dryRun bool) error {
	e, err := whose.entity()
	if err != nil {
		return usageError(err)
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	if err := alterConfigs(ctx, cl, e, changes, dryRun); err != nil {
		return fmt.Errorf("change settings of %s: %w", e, err)
	}
	if dryRun {
		fmt.Fprintf(env.Stdout, "the broker would take the settings of %s\n", e)
		return nil
	}
	fmt.Fprintf(env.Stdout, "changed %d setting(s) of %s\n", len(changes), e)
	return nil
}
