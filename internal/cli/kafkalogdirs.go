package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

func kafkaLogDirs(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"describe": optFlag, "topic-list": optValue, "broker-list": optValue, // here it means numbers of brokers
	}), args, nil)
	if err != nil {
		return err
	}
	if _, err := a.one(tool, "describe"); err != nil {
		return err
	}
	topics := splitNonEmpty(a.last("topic-list", ""))
	cl, ctx, done, err := a.session(env, tool)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	bs, err := adm.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	ids := bs.NodeIDs()
	if list := splitNonEmpty(a.last("broker-list", "")); len(list) > 0 {
		var want []int32
		for _, s := range list {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				return usageError(fmt.Errorf("%s: --broker-list %s: want numbers of brokers", tool, a.last("broker-list", "")))
			}
			if !slices.Contains(ids, int32(n)) {
				return fmt.Errorf("ERROR: The given brokers do not exist from --broker-list: %d. Current existent brokers: %s", n, joinIDs(ids))
			}
			want = append(want, int32(n))
		}
		ids = want
	}
	type replica struct {
		Partition string `json:"partition"`
		Size      int64  `json:"size"`
		OffsetLag int64  `json:"offsetLag"`
		IsFuture  bool   `json:"isFuture"`
	}
	type logDir struct {
		Partitions []replica `json:"partitions"`
		Error      *string   `json:"error"`
		LogDir     string    `json:"logDir"`
	}
	type onBroker struct {
		Broker  int32    `json:"broker"`
		LogDirs []logDir `json:"logDirs"`
	}
	fmt.Fprintln(env.Stdout, "Querying brokers for log directories information")
	var answer struct {
		Brokers []onBroker `json:"brokers"`
		Version int        `json:"version"`
	}
	answer.Version = 1
	for _, id := range ids {
		dirs, err := adm.DescribeBrokerLogDirs(ctx, id, nil)
		if err != nil {
			return fmt.Errorf("describe log directories: %w", err)
		}
		b := onBroker{Broker: id, LogDirs: []logDir{}}
		for _, d := range dirs.Sorted() {
			ld := logDir{LogDir: d.Dir, Partitions: []replica{}}
			if d.Err != nil {
				text := d.Err.Error()
				ld.Error = &text
			}
			for _, p := range d.Topics.Sorted() {
				if len(topics) == 0 || slices.Contains(topics, p.Topic) {
					ld.Partitions = append(ld.Partitions, replica{fmt.Sprintf("%s-%d", p.Topic, p.Partition), p.Size, p.OffsetLag, p.IsFuture})
				}
			}
			b.LogDirs = append(b.LogDirs, ld)
		}
		answer.Brokers = append(answer.Brokers, b)
	}
	fmt.Fprintf(env.Stdout, "Received log directory information from brokers %s\n", joinIDs(ids))
	return writeJSON(env.Stdout, answer)
}

func splitNonEmpty(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
}
