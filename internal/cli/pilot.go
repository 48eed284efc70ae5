package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/pilot"
)

type pilotCmd struct {
	For         time.Duration `help:"Run the simulated clock for so long; without it, until Ctrl-C." placeholder:"60s"`
	Speed       float64       `help:"Simulated seconds per second. At 60, drivers write 3,000 records a second and cars 2,000." default:"60"`
	Dir         string        `help:"Keep the run's data here (an empty or new directory). Without it they are in a temporary one, removed when the ledger balances." placeholder:"DIR" type:"path"`
	Keep        bool          `help:"Keep the temporary directory."`
	Days        int           `help:"First write N whole days of status, 2,880,000 records each, as fast as possible." placeholder:"N"`
	Cars        int           `help:"Number of cars and drivers." default:"100"`
	Seed        uint64        `help:"The same seed and flags write the same bytes." default:"1"`
	Garbage     float64       `help:"Share of garbage lines beside the headings." default:"0.01"`
	RecordBytes int           `help:"Pad a driving record to this many bytes (up to 4096)." placeholder:"N"`
	RotateBytes int64         `help:"Rename the driving log before it grows beyond this many bytes." placeholder:"N"`
	BurstEvery  time.Duration `help:"Simulated time between bursts of all drivers at once (0 for none)." default:"60s"`
	HDFS        string        `help:"The status flow ends here, by the handbook's hdfs sink: hdfs://HOST:PORT or file:///DIR, below which /pilot-pjt/collect/car-batch-log is to be empty. What is written stays there." name:"hdfs" placeholder:"URL"`
	HBase       string        `help:"The driving records end as rows in the HBase of these ZooKeeper servers." name:"hbase" placeholder:"HOST:PORT,…"`
	HBaseTable  string        `help:"Their table, which must be there and empty, with the family cf1. Default: DriverCarInfo." name:"hbase-table" placeholder:"NAME"`
	Topology    *int          `help:"Run the cars' data through one of the four topologies of examples/ instead: 1 simple, 2 multiplexing, 3 fan-out, 4 aggregation." placeholder:"N"`
	Form        string        `help:"How agent 1 of topology 3 shares its events out: load-balance, replication or failover (default)." placeholder:"FORM"`
	Kill        bool          `help:"Where another agent stands in for one (topology 3 by failover, topology 4), kill -9 that one in the middle and start it again." default:"true" negatable:""`
	Listen      string        `help:"Address of the live page; a busy port is replaced by a free one." default:"127.0.0.1:8085" placeholder:"HOST:PORT"`
	Broker      *string       `help:"Address of the run's broker; a busy port is replaced by a free one. Default: 127.0.0.1:9092." placeholder:"HOST:PORT"`
	MaxData     int64         `help:"End the run in order when its data have grown to this many megabytes (0: no limit). Each of --days adds 1,500." default:"8192" placeholder:"MB"`
}

// Help is the command's long help.
func (pilotCmd) Help() string {
	return `Runs the smart-car collection pipeline on this machine, each part a process of
its own: simulator, the handbook's agent with its two flows, broker, and an agent
that consumes the topic into files or HBase. On the end or Ctrl-C it drains, and a ledger
compares what was written with what arrived. Exit code 1 if it does not balance.
docs/pilot.md explains the page and the ledger.

  sluice pilot --hdfs hdfs://nn:8020 --hbase zk:2181   ends as the handbook does
  sluice pilot --hdfs file:///tmp/collect              its partitions, without Hadoop
  sluice pilot --topology 3                            agent 3 takes over from agent 2
  sluice pilot --topology 3 --form replication         both get everything
  sluice pilot --topology 4 --for 60s                  four agents, an aggregator and its double`
}

// Run runs the pilot.
func (c *pilotCmd) Run(env *Env) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	if c.BurstEvery%time.Second != 0 {
		return usageError(fmt.Errorf("--burst-every is %v: give whole seconds", c.BurstEvery))
	}
	topology, err := c.topology()
	if err != nil {
		return usageError(err)
	}
	limit := c.MaxData << 20
	if limit > 0 {
		limit += int64(c.Days) * 1500 << 20
	}
	o := pilot.Options{
		Exe: exe, For: c.For, Speed: c.Speed, Dir: c.Dir, Keep: c.Keep, Days: c.Days, Cars: c.Cars, Seed: c.Seed, Garbage: c.Garbage,
		RecordBytes: c.RecordBytes, RotateBytes: c.RotateBytes, BurstEvery: int(c.BurstEvery / time.Second), Listen: c.Listen, Broker: *c.Broker,
		MaxData: limit, Hadoop: ledger.Hadoop{HDFS: c.HDFS, HBase: c.HBase, Table: c.HBaseTable},
		Topology: topology, Form: c.Form, Kill: c.Kill, Stdout: env.Stdout, TTY: isTerminal(env.Stdout),
	}
	if err := o.Validate(); err != nil {
		return usageError(err)
	}
	err = pilot.Run(env.Ctx, o)
	if errors.Is(err, pilot.ErrUnbalanced) {
		return &exitError{Code: ExitFailed}
	}
	return err
}

// topology is the topology's number, 0 for none. It fills in what was left out
// and refuses what has no effect.
func (c *pilotCmd) topology() (number int, err error) {
	if c.Topology != nil {
		if number = *c.Topology; number == 0 {
			return 0, ledger.Topology{}.Validate()
		}
	}
	switch {
	case number != 0 && c.Broker != nil:
		return 0, errors.New("--broker goes with the pipeline that has one, not with --topology")
	case number != 0 && (c.HDFS != "" || c.HBase != "" || c.HBaseTable != ""):
		return 0, errors.New("--hdfs and --hbase go with the handbook's pipeline, not with --topology")
	case number == 0 && c.Form != "":
		return 0, errors.New("--form goes with --topology 3")
	case number == 3 && c.Form == "":
		c.Form = ledger.Failover
	}
	shows := pilot.ShowsKill(number, c.Form)
	if !c.Kill && !shows {
		return 0, errors.New("--no-kill goes with a run that kills an agent: --topology 3 by failover, or 4")
	}
	c.Kill = shows && c.Kill
	if c.Broker == nil {
		broker := defaultBroker
		c.Broker = &broker
	}
	return number, nil
}
