package cli

import (
	"strings"
	"testing"
)

func TestPilotRefusesFlagsWithoutEffect(t *testing.T) {
	for args, want := range map[string]string{
		"--topology 5":                              "there is no topology 5: give 1 (simple)",
		"--topology 0":                              "there is no topology 0",
		"--topology=-1":                             "there is no topology -1",
		"--topology three":                          "--topology",
		"--topology 3 --form round-robin":           "topology 3 has no form \"round-robin\"",
		"--topology 4 --form failover":              "topology 4 has no forms",
		"--form failover":                           "--form goes with --topology 3",
		"--topology 1 --broker 127.0.0.1:1":         "--broker",
		"--no-kill":                                 "--no-kill",
		"--topology 1 --hdfs file:///tmp":           "--hdfs and --hbase go with the handbook's pipeline",
		"--hdfs /tmp/x":                             "give hdfs://HOST:PORT",
		"--hbase ,":                                 "names no server",
		"--hbase-table t":                           "needs an HBase",
		"--hbase a:1 --record-bytes 100":            "record-bytes",
		"--topology 3 --form replication --no-kill": "--no-kill",
		"--topology 4 --cars 3":                     "four simulators",
	} {
		code, stdout, stderr := runWith(t, append([]string{"sluice", "pilot", "--listen", "127.0.0.1:0", "--for", "1s"}, strings.Fields(args)...)...)
		if code != ExitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("pilot %s: exit code %d, %q, want %q", args, code, stderr+stdout, want)
		}
	}
}

func TestLedgerRefusesUnknownTopologies(t *testing.T) {
	for args, want := range map[string]string{
		"--topology 7":    "there is no topology 7",
		"--topology 3":    "no form",
		"--form failover": "--form is of --topology 3",

		"--topology 1 --hbase a:1": "--hdfs and --hbase go with the handbook's pipeline",
		"--hdfs /tmp/x":            "give hdfs://HOST:PORT",
	} {
		code, _, stderr := runWith(t, append([]string{"sluice", "ledger", "--dir", t.TempDir()}, strings.Fields(args)...)...)
		if code != ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("ledger %s: exit code %d, %q, want %q", args, code, stderr, want)
		}
	}
}
