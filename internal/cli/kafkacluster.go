package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func kafkaBrokerAPIVersions(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(nil), args, nil)
	if err != nil {
		return err
	}
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
	vs, err := adm.ApiVersions(ctx)
	if err != nil {
		return fmt.Errorf("ask for versions: %w", err)
	}
	for _, b := range bs {
		rack := "null"
		if b.Rack != nil {
			rack = *b.Rack
		}
		v := vs[b.NodeID]
		if v.Err != nil {
			fmt.Fprintf(env.Stdout, "%s:%d (id: %d rack: %s isFenced: false) -> ERROR: %v\n", b.Host, b.Port, b.NodeID, rack, v.Err)
			continue
		}
		var lines []string
		for key := range int16(lastClientKey + 1) {
			low, high, ok := v.KeyVersions(key)
			if !ok && brokersKeys[key] {
				continue
			}
			name := javaKeyName(key)
			if !ok {
				lines = append(lines, fmt.Sprintf("\t%s(%d): UNSUPPORTED", name, key))
				continue
			}
			span := fmt.Sprintf("%d to %d", low, high)
			if low == high {
				span = strconv.Itoa(int(low))
			}
			usable := "UNKNOWN"
			if req := kmsg.RequestForKey(key); req != nil {
				usable = strconv.Itoa(int(min(high, req.MaxVersion())))
			}
			lines = append(lines, fmt.Sprintf("\t%s(%d): %s [usable: %s]", name, key, span, usable))
		}
		fmt.Fprintf(env.Stdout, "%s:%d (id: %d rack: %s isFenced: false) -> (\n%s\n)\n", b.Host, b.Port, b.NodeID, rack, strings.Join(lines, ",\n"))
	}
	return nil
}

func kafkaCluster(env *Env, tool string, args []string) error {
	var positional []string
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"config": alias("command-config"), "id": optValue, "include-fenced-brokers": noEffect(false, "no broker is fenced"),
		"b": {value: true, same: "bootstrap-server"}, "c": {value: true, same: "command-config"},
	}), args, &positional)
	if err != nil {
		return err
	}
	if len(positional) != 1 || !slices.Contains([]string{"cluster-id", "list-endpoints", "unregister"}, positional[0]) {
		return usageError(fmt.Errorf("%s: give one of cluster-id and list-endpoints", tool))
	}
	if positional[0] == "unregister" {
		return usageError(fmt.Errorf("%s: there is one broker, which cannot be unregistered", tool))
	}
	cl, ctx, done, err := a.session(env, tool)
	if err != nil {
		return err
	}
	defer done()
	meta, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask for the cluster: %w", err)
	}
	if positional[0] == "cluster-id" {
		fmt.Fprintf(env.Stdout, "Cluster ID: %s\n", meta.Cluster)
		return nil
	}
	hostLen, rackLen := 0, 10
	for _, b := range meta.Brokers {
		hostLen = max(hostLen, len(b.Host))
		if b.Rack != nil {
			rackLen = len(*b.Rack)
		}
	}
	row := func(id, host, port, rack, state string) {
		fmt.Fprintf(env.Stdout, "%-10s %-*s %-10s %-*s %-10s %-15s\n", id, hostLen, host, port, rackLen, rack, state, map[bool]string{true: "ENDPOINT_TYPE", false: "broker"}[id == "ID"])
	}
	row("ID", "HOST", "PORT", "RACK", "STATE")
	for _, b := range meta.Brokers {
		rack := "null"
		if b.Rack != nil {
			rack = *b.Rack
		}
		row(strconv.Itoa(int(b.NodeID)), b.Host, strconv.Itoa(int(b.Port)), rack, "unfenced")
	}
	return nil
}

// lastClientKey is the last API that Kafka 4.3's client knows; those below it
// that are only between brokers and controllers are not listed.
const lastClientKey = 92

var brokersKeys = map[int16]bool{4: true, 5: true, 6: true, 7: true, 52: true, 53: true, 54: true, 56: true, 58: true, 59: true, 62: true, 63: true, 67: true, 70: true, 73: true, 82: true}

// javaKeyName is an API's name as Kafka writes it.
func javaKeyName(key int16) string {
	name := kmsg.NameForKey(key)
	return cmp.Or(map[string]string{
		"InitProducerID": "InitProducerId", "SASLHandshake": "SaslHandshake", "SASLAuthenticate": "SaslAuthenticate",
		"DescribeACLs": "DescribeAcls", "CreateACLs": "CreateAcls", "DeleteACLs": "DeleteAcls",
		"DescribeUserSCRAMCredentials": "DescribeUserScramCredentials", "AlterUserSCRAMCredentials": "AlterUserScramCredentials",
		"AlterPartitionAssignments": "AlterPartitionReassignments",
	}[name], name)
}
