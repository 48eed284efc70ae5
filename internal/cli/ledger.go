package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/pilot"
)

type ledgerCmd struct {
	Dir             string   `help:"Directory of a pilot run; the other flags default to its parts." default:"." type:"path"`
	Manifest        string   `help:"The simulator's manifest." placeholder:"FILE" type:"path"`
	LoggerLog       []string `help:"An agent's log with the logger sink's lines, oldest first." placeholder:"FILE" type:"path"`
	Bootstrap       string   `help:"A running broker. Without it the broker is started on the run's data directory, and stopped again." placeholder:"HOST:PORT"`
	Data            string   `help:"The broker's data directory." placeholder:"DIR" type:"path"`
	Topic           string   `help:"The driving records' topic." placeholder:"NAME"`
	Files           string   `help:"Directory of the file_roll sink." placeholder:"DIR" type:"path"`
	HDFS            string   `help:"The run ended here, by \"pilot --hdfs URL\": status is read from there." name:"hdfs" placeholder:"URL"`
	HBase           string   `help:"The run ended in the HBase of these ZooKeeper servers, by \"pilot --hbase\": its rows stand for the consumer's files." name:"hbase" placeholder:"HOST:PORT,…"`
	HBaseTable      string   `help:"The table in it." name:"hbase-table" placeholder:"NAME"`
	Flow            []string `help:"Compare these flows only: status, topic, files." enum:"status,topic,files" default:"status,topic,files"`
	AllowDuplicates bool     `help:"Count duplicates without failing: after a crash, delivery is at least once."`
	Topology        int      `help:"The directory is that of a run of \"pilot --topology N\"; its flows are compared." placeholder:"N"`
	Form            string   `help:"The form of topology 3 that ran." enum:",load-balance,replication,failover" default:"" placeholder:"FORM"`
	JSON            string   `help:"Also write the result as JSON." name:"json" placeholder:"FILE" type:"path"`
}

// Help is the command's long help.
func (ledgerCmd) Help() string {
	return `Compares by content what the simulator's manifest says was written with what
arrived: status records in the agent's log or in HDFS, driving records in the topic
and in the consumer's files or HBase. Exit code 1 if an event is missing, doubled or altered.`
}

// Run prints the ledger.
func (c *ledgerCmd) Run(env *Env) error {
	if c.Topology == 0 && c.Form != "" {
		return usageError(errors.New("--form is of --topology 3"))
	}
	if c.Topology != 0 && (c.HDFS != "" || c.HBase != "" || c.HBaseTable != "") {
		return usageError(errors.New("--hdfs and --hbase go with the handbook's pipeline, not with --topology"))
	}
	if c.Topology != 0 {
		t := ledger.Topology{Number: c.Topology, Form: c.Form, Dir: c.Dir}
		if err := t.Validate(); err != nil {
			return usageError(err)
		}
		res, err := ledger.RunTopology(t, c.AllowDuplicates)
		return c.settle(env, res, err)
	}
	l := ledger.LayoutOf(c.Dir)
	h := ledger.Hadoop{HDFS: c.HDFS, HBase: c.HBase, Table: c.HBaseTable}
	if err := h.Validate(); err != nil {
		return usageError(err)
	}
	o := ledger.Options{Manifest: or(c.Manifest, l.Manifest), AllowDuplicates: c.AllowDuplicates, Bootstrap: c.Bootstrap}
	for _, f := range c.Flow {
		switch f {
		case "status":
			if o.Hadoop.HDFS = h.HDFS; h.HDFS != "" && len(c.LoggerLog) == 0 {
				break
			}
			if o.LoggerLogs = c.LoggerLog; len(o.LoggerLogs) == 0 {
				o.LoggerLogs = []string{l.AgentLog}
			}
		case "topic":
			o.Topic = or(c.Topic, l.Topic)
		case "files":
			if o.Hadoop.HBase, o.Hadoop.Table = h.HBase, h.Table; h.HBase != "" && c.Files == "" {
				break
			}
			o.Files = or(c.Files, l.Files)
		}
	}
	if o.Topic != "" && o.Bootstrap == "" {
		addr, stop, err := startBroker(env, or(c.Data, l.Broker))
		if err != nil {
			return err
		}
		defer stop()
		o.Bootstrap = addr
	}
	res, err := ledger.Run(env.Ctx, o)
	return c.settle(env, res, err)
}

// settle prints a ledger and turns its verdict into the exit code.
func (c *ledgerCmd) settle(env *Env, res *ledger.Result, err error) error {
	if err != nil {
		return err
	}
	if err := res.Print(env.Stdout); err != nil {
		return err
	}
	if c.JSON != "" {
		if err := writeResult(c.JSON, res); err != nil {
			return err
		}
	}
	if !res.Balanced {
		return &exitError{Code: ExitFailed}
	}
	return nil
}

func writeResult(path string, res *ledger.Result) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if err := errors.Join(res.JSON(f), f.Close()); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// or is the first of the two that is not empty.
func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// startBroker runs this executable's broker on a data directory until stop is
// called.
func startBroker(env *Env, data string) (addr string, stop func(), err error) {
	if _, err := os.Stat(data); err != nil {
		return "", nil, fmt.Errorf("find the broker's data: %w; give --bootstrap for a broker that runs elsewhere", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find own executable: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("find a port for the broker: %w", err)
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, fmt.Errorf("find a port for the broker: %w", err)
	}
	logPath := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-ledger-broker-%d.log", os.Getpid()))
	log, err := os.Create(logPath)
	if err != nil {
		return "", nil, fmt.Errorf("open the broker's log: %w", err)
	}
	// No limit: the topic is to be read as it is, not cut to the free space.
	cmd := exec.Command(exe, "broker", "--listen", addr, "--data", data, "--max-disk", "none")
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, pilot.ChildAttr()
	died, started := make(chan error, 1), make(chan error, 1)
	go func() {
		// The death signal that a child gets belongs to the thread that
		// started it, so this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			died <- cmd.Wait()
		}
	}()
	err = <-started
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start the broker: %w", err), log.Close())
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may be gone already
		select {
		case <-died:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-died
		}
		log.Close()
		os.Remove(logPath)
	}
	if err := awaitBroker(env.Ctx, addr, died); err != nil {
		said, _ := os.ReadFile(logPath)
		stop()
		return "", nil, fmt.Errorf("start the broker on %s: %w\n%s", data, err, said)
	}
	return addr, stop, nil
}

// awaitBroker returns when a broker answers at addr.
func awaitBroker(ctx context.Context, addr string, died chan error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ping, cancel := context.WithTimeout(ctx, time.Second)
		err := client.Ping(ping)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case end := <-died:
			died <- end // for stop
			return fmt.Errorf("it ended: %v", end)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
