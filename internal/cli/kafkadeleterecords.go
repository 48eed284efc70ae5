package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kadm"
)

func kafkaDeleteRecords(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{"offset-json-file": optValue}), args, nil)
	if err != nil {
		return err
	}
	if !a.has("offset-json-file") {
		return usageError(fmt.Errorf("%s: --offset-json-file FILE is missing", tool))
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	plan, err := readDeletePlan(a.last("offset-json-file", ""))
	if err != nil {
		return usageError(err)
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	fmt.Fprintln(env.Stdout, "Executing records delete operation")
	rs, err := kadm.NewClient(cl).DeleteRecords(ctx, plan)
	if err != nil {
		return fmt.Errorf("delete records: %w", err)
	}
	fmt.Fprintln(env.Stdout, "Records delete operation completed:")
	var bad error
	for _, o := range plan.Sorted() {
		r, ok := rs.Lookup(o.Topic, o.Partition)
		if !ok {
			r.Err = errors.New("the broker says nothing about it")
		}
		if r.Err != nil {
			fmt.Fprintf(env.Stdout, "partition: %s-%d\terror: %v\n", o.Topic, o.Partition, r.Err)
			bad = &exitError{Code: ExitFailed}
			continue
		}
		fmt.Fprintf(env.Stdout, "partition: %s-%d\tlow_watermark: %d\n", o.Topic, o.Partition, r.LowWatermark)
	}
	return bad
}

// readDeletePlan reads {"partitions": [{"topic", "partition", "offset"}], "version": 1}.
func readDeletePlan(path string) (kadm.Offsets, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read offsets: %w", err)
	}
	var j struct {
		Version    *int `json:"version"`
		Partitions []struct {
			Topic     string `json:"topic"`
			Partition *int32 `json:"partition"`
			Offset    *int64 `json:"offset"`
		} `json:"partitions"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("read offsets %s: %w", path, err)
	}
	if j.Version != nil && *j.Version != 1 {
		return nil, fmt.Errorf("read offsets %s: Not supported version field value %d", path, *j.Version)
	}
	if j.Partitions == nil {
		return nil, fmt.Errorf("read offsets %s: Missing partitions field", path)
	}
	plan := kadm.Offsets{}
	for i, p := range j.Partitions {
		if p.Topic == "" || p.Partition == nil || p.Offset == nil {
			return nil, fmt.Errorf("read offsets %s: entry %d lacks topic, partition or offset", path, i+1)
		}
		if _, twice := plan.Lookup(p.Topic, *p.Partition); twice {
			return nil, fmt.Errorf("read offsets %s: Offset json file contains duplicate topic partitions: %s-%d", path, p.Topic, *p.Partition)
		}
		plan.AddOffset(p.Topic, *p.Partition, *p.Offset, -1)
	}
	return plan, nil
}
