package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaEntities are the kinds of --entity-type; those without a resource have
// no settings here, for the reason given.
var kafkaEntities = map[string]struct {
	kind   kmsg.ConfigResourceType
	source kmsg.ConfigSource // of what is set for the entity itself
	none   string
}{
	"topics":         {kmsg.ConfigResourceTypeTopic, kmsg.ConfigSourceDynamicTopicConfig, ""},
	"brokers":        {kmsg.ConfigResourceTypeBroker, kmsg.ConfigSourceDynamicBrokerConfig, ""},
	"groups":         {kmsg.ConfigResourceTypeGroupConfig, 8, ""},
	"broker-loggers": {kmsg.ConfigResourceTypeBrokerLogger, 0, ""},
	"client-metrics": {kmsg.ConfigResourceTypeClientMetrics, 7, ""},
	"users":          {none: "there are no users, and client quotas are not set by this tool: Apache Kafka's kafka-configs and admin clients do"},
	"clients":        {none: "client quotas are not set by this tool: Apache Kafka's kafka-configs and admin clients do"},
	"ips":            {none: "there are no quotas of addresses; sluice broker --max-connections bounds connections"},
}

func kafkaConfigs(env *Env, tool string, args []string) error {
	opts := options(map[string]kafkaOpt{
		"alter": optFlag, "describe": optFlag, "all": optFlag, "entity-type": optValue, "entity-name": optValue, "entity-default": optFlag,
		"add-config": optValue, "add-config-file": optValue, "delete-config": optValue,
		"topic": optValue, "broker": optValue, "broker-defaults": optFlag, "broker-logger": optValue, "group": optValue, "client-metrics": optValue,
		"user": optValue, "user-defaults": optFlag, "client": optValue, "client-defaults": optFlag, "ip": optValue, "ip-defaults": optFlag,
		"zk-tls-config-file": gone(true, "there is no ZooKeeper; write --command-config FILE for the broker's clients"),
		"force":              noEffect(false, "nothing is asked"),
	})
	a, err := parseKafka(env, tool, opts, args, nil)
	if err != nil {
		return err
	}
	action, err := a.one(tool, "alter", "describe")
	if err != nil {
		return err
	}
	of, err := a.configsOf()
	if err != nil {
		return usageError(fmt.Errorf("%s: %w", tool, err))
	}
	var changes []kadm.AlterConfig
	if action == "alter" {
		if !of.named || of.name == "" && of.typ != "brokers" {
			return usageError(fmt.Errorf("%s: An entity name must be specified with --alter of %s", tool, of.typ))
		}
		if changes, err = a.changes(); err != nil {
			return usageError(fmt.Errorf("%s: %w", tool, err))
		}
	}
	cl, ctx, done, err := a.session(env, tool)
	if err != nil {
		return err
	}
	defer done()
	if action == "alter" {
		if err := alterConfigs(ctx, cl, of.entity(of.name), changes, false); err != nil {
			return fmt.Errorf("change settings of %s: %w", of.entity(of.name), err)
		}
		if of.name == "" {
			fmt.Fprintf(env.Stdout, "Completed updating default config for %s in the cluster.\n", of.typ)
		} else {
			fmt.Fprintf(env.Stdout, "Completed updating config for %s %s.\n", of.singular(), of.name)
		}
		return nil
	}
	names, err := of.known(ctx, cl)
	if err != nil {
		return err
	}
	if of.named {
		if !a.has("all") && !slices.Contains(names, of.name) {
			fmt.Fprintf(env.Stdout, "The %s '%s' doesn't exist and doesn't have dynamic config.\n", of.singular(), of.name)
			return nil
		}
		names = []string{of.name}
	}
	var errs []error
	for _, n := range names {
		if err := of.describe(ctx, cl, env.Stdout, n, a.has("all")); err != nil {
			errs = append(errs, fmt.Errorf("look up settings of %s: %w", of.entity(n), err))
		}
	}
	return errors.Join(errs...)
}

// configsOf is what kafka-configs is asked about: one entity of a type, or all.
type configsOf struct {
	typ    string // a key of kafkaEntities
	name   string // "" for the defaults of the type
	named  bool
	kind   kmsg.ConfigResourceType
	source kmsg.ConfigSource
}

// configsOf reads whose settings are meant, in the old form (--entity-type) or
// the new one (--topic and so on).
func (a kafkaArgs) configsOf() (configsOf, error) {
	var typ, name string
	types, named := 0, false
	for option, t := range map[string]string{"topic": "topics", "broker": "brokers", "broker-logger": "broker-loggers", "group": "groups", "client-metrics": "client-metrics", "user": "users", "client": "clients", "ip": "ips"} {
		if a.has(option) {
			typ, name, named = t, a.last(option, ""), true
			types++
		}
		if d := option + "-defaults"; a.has(d) {
			typ, name, named = t, "", true
			types++
		}
	}
	if a.has("entity-type") {
		typ = a.last("entity-type", "")
		types += len(a["entity-type"])
		switch {
		case a.has("entity-name"):
			name, named = a.last("entity-name", ""), true
		case a.has("entity-default"):
			named = true
		}
	}
	if types > 1 && !a.has("user") && !a.has("client") && typ != "users" && typ != "clients" {
		return configsOf{}, errors.New("one kind of entity at a time")
	}
	if types == 0 {
		return configsOf{}, kafkaSays("At least one entity type must be specified: --entity-type topics|brokers|groups, or --topic, --broker, --group")
	}
	kind, ok := kafkaEntities[typ]
	if !ok {
		return configsOf{}, kafkaSays("Invalid entity type %s, the entity type must be one of topics, brokers, broker-loggers, groups, client-metrics", typ)
	}
	if kind.none != "" {
		return configsOf{}, fmt.Errorf("there are no settings of %s here: %s", typ, kind.none)
	}
	if strings.HasPrefix(typ, "broker") && name != "" {
		if _, err := strconv.ParseInt(name, 10, 32); err != nil {
			return configsOf{}, kafkaSays("The entity name for %s must be a valid integer broker id, but it is: %s", typ, name)
		}
	}
	return configsOf{typ, name, named, kind.kind, kind.source}, nil
}

func (of *configsOf) entity(name string) entity { return entity{of.kind, name} }

func (of *configsOf) singular() string { return strings.TrimSuffix(of.typ, "s") }

// known are the names of the type's entities, "" for its defaults.
func (of *configsOf) known(ctx context.Context, cl *kgo.Client) ([]string, error) {
	adm := kadm.NewClient(cl)
	var known []string
	switch of.typ {
	case "topics":
		ts, err := adm.ListTopicsWithInternal(ctx)
		if err != nil {
			return nil, fmt.Errorf("list topics: %w", err)
		}
		known = ts.Names()
	case "brokers", "broker-loggers":
		bs, err := adm.ListBrokers(ctx)
		if err != nil {
			return nil, fmt.Errorf("list brokers: %w", err)
		}
		for _, id := range bs.NodeIDs() {
			known = append(known, strconv.Itoa(int(id)))
		}
		known = append(known, "")
	case "groups":
		gs, err := listGroups(ctx, cl, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		for _, g := range gs {
			known = append(known, g.Group)
		}
		ok, err := serves(ctx, cl, kmsg.ListConfigResources)
		if err != nil {
			return nil, err
		}
		if ok {
			rs, err := adm.ListConfigResources(ctx, kadm.ConfigResourceType(kmsg.ConfigResourceTypeGroupConfig))
			if err != nil {
				return nil, fmt.Errorf("list groups with settings: %w", err)
			}
			for _, r := range rs.Sorted() {
				if !slices.Contains(known, r.Name) {
					known = append(known, r.Name)
				}
			}
		}
	}
	return known, nil
}

// describe writes an entity's settings: those set for itself, or all.
func (of *configsOf) describe(ctx context.Context, cl *kgo.Client, out io.Writer, name string, all bool) error {
	switch {
	case name == "":
		fmt.Fprintf(out, "Default configs for %s in the cluster are:\n", of.typ)
	case all:
		fmt.Fprintf(out, "All configs for %s %s are:\n", of.singular(), name)
	default:
		fmt.Fprintf(out, "Dynamic configs for %s %s are:\n", of.singular(), name)
	}
	list, err := describeConfigs(ctx, cl, of.entity(name))
	if err != nil {
		return err
	}
	source := of.source
	if of.typ == "brokers" && name == "" {
		source = kmsg.ConfigSourceDynamicDefaultBrokerConfig
	}
	for _, s := range list {
		if !all && source != 0 && s.Source != source {
			continue
		}
		var syn []string
		for _, y := range s.ConfigSynonyms {
			syn = append(syn, fmt.Sprintf("%s:%s=%s", kafkaSource(y.Source), y.Name, orNull(y.Value)))
		}
		fmt.Fprintf(out, "  %s=%s sensitive=%t synonyms={%s}\n", s.Name, orNull(s.Value), s.IsSensitive, strings.Join(syn, ", "))
	}
	return nil
}

func orNull(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// kafkaSource is the name that Java's client gives a source.
func kafkaSource(s kmsg.ConfigSource) string {
	switch s {
	case 7:
		return "DYNAMIC_CLIENT_METRICS_CONFIG"
	case 8:
		return "DYNAMIC_GROUP_CONFIG"
	}
	return s.String()
}

var configName = regexp.MustCompile(`^[$a-zA-Z0-9._-]*$`)

// changes reads --add-config, --add-config-file and --delete-config.
func (a kafkaArgs) changes() ([]kadm.AlterConfig, error) {
	if a.has("add-config") && a.has("add-config-file") {
		return nil, kafkaSays("Only one of --add-config or --add-config-file must be specified")
	}
	var changes []kadm.AlterConfig
	for _, list := range a["delete-config"] {
		for n := range strings.SplitSeq(list, ",") {
			changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: strings.TrimSpace(n)})
		}
	}
	set := func(k, v string) error {
		if !configName.MatchString(k) {
			return kafkaSays("Invalid character found for config key: %s", k)
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
		return nil
	}
	if path := a.last("add-config-file", ""); path != "" {
		props, err := readProperties(path)
		if err != nil {
			return nil, err
		}
		for _, p := range props {
			if err := set(p.Key, p.Value); err != nil {
				return nil, err
			}
		}
	}
	if a.has("add-config") {
		for _, kv := range splitConfigs(a.last("add-config", "")) {
			k, v, ok := strings.Cut(kv, "=")
			if !ok {
				return nil, kafkaSays(`Invalid entity config: all configs to be added must be in the format "key=val" or  "key=[val1,val2]" to group values which contain commas.`)
			}
			if err := set(strings.TrimSpace(k), strings.TrimSpace(strings.NewReplacer("[", "", "]", "").Replace(v))); err != nil {
				return nil, err
			}
		}
	}
	if len(changes) == 0 {
		return nil, kafkaSays("At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter")
	}
	return changes, nil
}

// splitConfigs splits at commas that are not in brackets.
func splitConfigs(s string) []string {
	var out []string
	depth, from := 0, 0
	for i, c := range s {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && depth <= 0:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}
