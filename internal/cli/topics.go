package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type topicsCmd struct {
	Create   topicsCreateCmd   `cmd:"" help:"Create topics."`
	List     topicsListCmd     `cmd:"" help:"List topics."`
	Describe topicsDescribeCmd `cmd:"" help:"Show partitions, offsets and settings."`
	Delete   topicsDeleteCmd   `cmd:"" help:"Delete topics and all their records."`
}

type topicsCreateCmd struct {
	kafkaFlags
	Names       []string          `arg:"" name:"topic" help:"Topics to create."`
	Partitions  int32             `short:"p" default:"-1" placeholder:"N" help:"Number of partitions; -1 leaves it to the broker."`
	Replication int16             `short:"r" default:"-1" placeholder:"N" help:"Replication factor; -1 leaves it to the broker. Sluice's own has 1."`
	Config      map[string]string `short:"c" mapsep:"none" placeholder:"NAME=VALUE" help:"Setting of the topics, by Kafka's name. May be repeated."`
	IfNotExists bool              `help:"A topic that exists already is no error."`
}

func (c *topicsCreateCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	configs := map[string]*string{}
	for k, v := range c.Config {
		configs[k] = &v
	}
	rs, err := kadm.NewClient(cl).CreateTopics(ctx, c.Partitions, c.Replication, configs, c.Names...)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rs)) { // rs.Sorted puts the topics' random IDs first
		r := rs[name]
		switch {
		case r.Err == nil:
			fmt.Fprintf(env.Stdout, "created topic %s with %d partition(s)\n", r.Topic, r.NumPartitions)
		case errors.Is(r.Err, kerr.TopicAlreadyExists) && c.IfNotExists:
			fmt.Fprintf(env.Stdout, "topic %s exists already\n", r.Topic)
		default:
			errs = append(errs, fmt.Errorf("create topic %s: %w", r.Topic, brokerError(r.Err, r.ErrMessage)))
		}
	}
	return errors.Join(errs...)
}

type topicsListCmd struct {
	kafkaFlags
	Internal bool `help:"Show the broker's own topics too."`
}

func (c *topicsListCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	list := kadm.NewClient(cl).ListTopics
	if c.Internal {
		list = kadm.NewClient(cl).ListTopicsWithInternal
	}
	ts, err := list(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, name := range ts.Names() {
		fmt.Fprintln(env.Stdout, name)
	}
	if len(ts) == 0 {
		fmt.Fprintln(env.Stderr, "there are no topics yet; create one with: sluice topics create NAME")
	}
	return nil
}

type topicsDescribeCmd struct {
	kafkaFlags
	Names []string `arg:"" optional:"" name:"topic" help:"Topics to show; all without a name."`
}

func (c *topicsDescribeCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	for _, name := range c.Names {
		if _, err := c.describeTopic(ctx, cl, name); err != nil {
			return err
		}
	}
	ts, err := adm.ListTopics(ctx, c.Names...)
	if err != nil {
		return fmt.Errorf("describe topics: %w", err)
	}
	names := ts.Names()
	if len(names) == 0 {
		fmt.Fprintln(env.Stderr, "there are no topics yet; create one with: sluice topics create NAME")
		return nil
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return fmt.Errorf("look up offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return fmt.Errorf("look up offsets: %w", err)
	}
	own, err := ownConfigs(ctx, adm, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		t := ts[name]
		fmt.Fprintf(env.Stdout, "topic %s: %d partition(s), id %s\n", name, len(t.Partitions), topicIDText(t.ID))
		if len(own[name]) > 0 {
			fmt.Fprintf(env.Stdout, "  settings: %s\n", strings.Join(own[name], ", "))
		}
		w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "  partition\tleader\tfirst offset\tnext offset\trecords\t")
		for _, p := range t.Partitions.Sorted() {
			s, _ := starts.Lookup(name, p.Partition)
			e, _ := ends.Lookup(name, p.Partition)
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t\n", p.Partition, p.Leader, s.Offset, e.Offset, e.Offset-s.Offset)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// ownConfigs lists the settings that are the topics' own, as NAME=VALUE.
func ownConfigs(ctx context.Context, adm *kadm.Client, names []string) (map[string][]string, error) {
	own := map[string][]string{}
	rcs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("look up settings: %w", err)
	}
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				own[rc.Name] = append(own[rc.Name], c.Key+"="+c.MaybeValue())
			}
		}
		slices.Sort(own[rc.Name])
	}
	return own, nil
}

type topicsDeleteCmd struct {
	kafkaFlags
	Names    []string `arg:"" name:"topic" help:"Topics to delete."`
	IfExists bool     `help:"A topic that does not exist is no error."`
}

func (c *topicsDeleteCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env.Ctx)
	if err != nil {
		return err
	}
	defer done()
	rs, err := kadm.NewClient(cl).DeleteTopics(ctx, c.Names...)
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rs)) {
		r := rs[name]
		switch {
		case r.Err == nil:
			fmt.Fprintf(env.Stdout, "deleted topic %s\n", name)
		case errors.Is(r.Err, kerr.UnknownTopicOrPartition) && c.IfExists:
			fmt.Fprintf(env.Stdout, "topic %s does not exist\n", name)
		default:
			errs = append(errs, fmt.Errorf("delete topic %s: %w", name, brokerError(r.Err, r.ErrMessage)))
		}
	}
	return errors.Join(errs...)
}
