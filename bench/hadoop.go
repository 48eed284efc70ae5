package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A sinkPeer is where the events of a workload end. The zero value is the null
// sink; HDFS and HBase have a Flume of their own jars each.
type sinkPeer string

const (
	hdfsPeer  sinkPeer = "hdfs"
	hbasePeer sinkPeer = "hbase"
)

// jars is the set of jars that a Flume for it runs with.
func (s sinkPeer) jars() string {
	if s == "" {
		return "flume"
	}
	return "flume-" + string(s)
}

// hadoop is the peers of the workloads that end in HDFS or HBase, each started
// when it is first needed.
type hadoop struct {
	scripts string // directory of hdfs.sh, hbase.sh, hbase-shell.sh
	dir     string
	hdfs    string // hdfs://HOST:PORT; empty: not started
	hbase   string // HOST:PORT of its ZooKeeper; empty: not started
	stops   []func() error
}

// need starts what a workload's events end in.
func (h *hadoop) need(ctx context.Context, peer sinkPeer) error {
	switch {
	case peer == hdfsPeer && h.hdfs == "":
		port, err := portRow(5)
		if err != nil {
			return err
		}
		if err := h.start(ctx, "hdfs.sh", fmt.Sprintf("HDFS_PORT=%d", port), "HDFS_HEAP=512m"); err != nil {
			return err
		}
		h.hdfs = fmt.Sprintf("hdfs://127.0.0.1:%d", port)
	case peer == hbasePeer && h.hbase == "":
		zk, err := freePort()
		if err != nil {
			return err
		}
		port, err := portRow(4)
		if err != nil {
			return err
		}
		if err := h.start(ctx, "hbase.sh", fmt.Sprintf("HBASE_ZK_PORT=%d", zk), fmt.Sprintf("HBASE_PORT=%d", port), "HBASE_HEAP=2g"); err != nil {
			return err
		}
		h.hbase = fmt.Sprintf("127.0.0.1:%d", zk)
	}
	return nil
}

func (h *hadoop) start(ctx context.Context, script string, env ...string) error {
	path, dir := filepath.Join(h.scripts, script), filepath.Join(h.dir, strings.TrimSuffix(script, ".sh"))
	cmd := exec.CommandContext(ctx, path, "start", dir)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("start %s: %w\n%s", script, err, out)
	}
	h.stops = append(h.stops, func() error {
		if out, err := exec.Command(path, "stop", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("stop %s: %w\n%s", script, err, out)
		}
		return nil
	})
	return nil
}

func (h *hadoop) stop() error {
	var errs []error
	for _, stop := range h.stops {
		errs = append(errs, stop())
	}
	h.stops, h.hdfs, h.hbase = nil, "", ""
	return errors.Join(errs...)
}

// portRow is the first of n free ports in a row, below those that the system
// gives to clients: servers take a while to come up.
func portRow(n int) (int, error) {
	row := 0
	for p := 22000; p < 30000; p++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			row = 0
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("find %d free ports in a row: %w", n, err)
		}
		if row++; row == n {
			return p - n + 1, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports in a row: none found", n)
}

// countHDFS has Hadoop's own tool read the files below a run's directory, in
// whatever format they are, and counts the lines. A file with a temporary name is an error.
func (h *hadoop) countHDFS(ctx context.Context, run string) (lines int64, files int, err error) {
	tool := filepath.Join(h.scripts, "hdfs.sh")
	list, err := exec.CommandContext(ctx, tool, "dfs", "-fs", h.hdfs, "-ls", "-C", "-R", "/bench/"+run).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("list the files in HDFS: %w", err)
	}
	args := []string{"dfs", "-fs", h.hdfs, "-text"}
	for name := range strings.FieldsSeq(string(list)) {
		base := name[strings.LastIndexByte(name, '/')+1:]
		switch {
		case strings.HasSuffix(base, ".tmp"):
			return 0, 0, fmt.Errorf("%s has not been closed", name)
		case strings.HasPrefix(base, filePrefix+"."):
			args = append(args, name)
			files++
		}
	}
	if files == 0 {
		return 0, 0, fmt.Errorf("there is no file below /bench/%s", run)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, fmt.Errorf("read the files in HDFS: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("read the files in HDFS: %w", err)
	}
	buf := make([]byte, 1<<20)
	var rerr error
	for rerr == nil {
		var n int
		n, rerr = out.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte("\n")))
	}
	if errors.Is(rerr, io.EOF) {
		rerr = nil
	}
	if err := errors.Join(rerr, cmd.Wait()); err != nil {
		return lines, files, fmt.Errorf("read the files in HDFS: %w\n%s", err, stderr.Bytes())
	}
	return lines, files, nil
}

// checkHDFS compares what is in HDFS with what was sent, and removes it.
func (h *hadoop) checkHDFS(ctx context.Context, run string, want int64) error {
	got, files, err := h.countHDFS(ctx, run)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%d files in HDFS hold %d lines, %d were sent", files, got, want)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(h.scripts, "hdfs.sh"), "dfs", "-fs", h.hdfs, "-rm", "-r", "-skipTrash", "/bench/"+run).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove the files in HDFS: %w\n%s", err, out)
	}
	return nil
}

// askHBase gives commands to HBase's Java client and returns what each printed.
func (h *hadoop) askHBase(ctx context.Context, commands ...[]string) ([]string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(h.scripts, "hbase-shell.sh"), h.hbase)
	var in strings.Builder
	for _, words := range commands {
		in.WriteString(strings.Join(words, "\t") + "\n")
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask HBase: %w\n%s", err, stderr.Bytes())
	}
	answers := []string{""}
	sc := bufio.NewScanner(bytes.NewReader(out))
	for sc.Scan() {
		switch text, ok := strings.CutPrefix(sc.Text(), "\t"); {
		case ok:
			answers[len(answers)-1] += text
		case sc.Text() == "ok":
			answers = append(answers, "")
		default:
			return nil, fmt.Errorf("ask HBase: %v: %s", commands[len(answers)-1], sc.Text())
		}
	}
	return answers[:len(answers)-1], sc.Err()
}

const family = "cf1"

// makeTable makes the table of a run, of one region.
func (h *hadoop) makeTable(ctx context.Context, table string) error {
	if _, err := h.askHBase(ctx, []string{"create", table, family}); err != nil {
		return fmt.Errorf("make table %s: %w", table, err)
	}
	return nil
}

// checkHBase compares the table's rows with what was sent, and takes the table out of service.
func (h *hadoop) checkHBase(ctx context.Context, table string, want int64) error {
	answers, err := h.askHBase(ctx, []string{"count", table}, []string{"disable", table})
	if err != nil {
		return fmt.Errorf("count the rows of %s: %w", table, err)
	}
	if answers[0] != fmt.Sprint(want) {
		return fmt.Errorf("table %s has %s rows, %d records were sent", table, answers[0], want)
	}
	return nil
}

// end adds to an input what a workload's sink needs, and the count after the agent has stopped.
func (h *hadoop) end(ctx context.Context, w workload, run string, c corpus, in *input) error {
	switch w.sink {
	case hdfsPeer:
		in.place.Sink = h.hdfs + "/bench/" + run
		in.after = func(ctx context.Context) error { return h.checkHDFS(ctx, run, c.Kept) }
	case hbasePeer:
		in.place.Sink, in.place.Table = h.hbase, run
		in.after = func(ctx context.Context) error { return h.checkHBase(ctx, run, c.Rows) }
		return h.makeTable(ctx, run)
	}
	return nil
}

// filePrefix is what files in HDFS begin with; the handbook's is the log type, too.
const filePrefix = "car-batch-log"

// hadoopSink are the lines of sink k1. HDFS gets the paths and the rolling of the
// pilot's own agent file, HBase the columns of its table of driving records, with a row
// key that no two events share.
func (w workload) hadoopSink(b *strings.Builder, p place) {
	line := func(format string, args ...any) { fmt.Fprintf(b, "a1.sinks.k1."+format+"\n", args...) }
	switch w.sink {
	case hdfsPeer:
		line("type = hdfs")
		line("hdfs.path = %s/%%{logType}/wrk_date=%%Y%%m%%d", p.Sink)
		line("hdfs.filePrefix = %%{logType}")
		line("hdfs.batchSize = 1000")
		line("hdfs.rollInterval = 0")
		line("hdfs.rollCount = 0")
		line("hdfs.rollSize = 67108864")
		line("hdfs.minBlockReplicas = 1") // there is one data node; Flume would begin a file with each of its first 30 batches
	case hbasePeer:
		line("type = hbase2")
		line("table = %s", p.Table)
		line("columnFamily = %s", family)
		line("zookeeperQuorum = %s", p.Sink)
		line("batchSize = 1000")
		line("serializer = org.apache.flume.sink.hbase2.RegexHBase2EventSerializer")
		line("serializer.regex = %s", `((\\d{14}),([^,]*)),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*)`)
		line("serializer.colNames = ROW_KEY,date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number")
		line("serializer.rowKeyIndex = 0")
	}
	for _, l := range w.sinkLines {
		line("%s", l)
	}
}

// pathHeaders are the interceptors that make the headers in hdfs.path.
const pathHeaders = "a1.sources.r1.interceptors = i1 i2\n" +
	"a1.sources.r1.interceptors.i1.type = timestamp\na1.sources.r1.interceptors.i1.preserveExisting = true\n" +
	"a1.sources.r1.interceptors.i2.type = static\na1.sources.r1.interceptors.i2.key = logType\na1.sources.r1.interceptors.i2.value = " + filePrefix + "\n"

// hadoopWorkloads are the rows that end in HDFS and in HBase.
func hadoopWorkloads() []workload {
	const million = 1_000_000
	return []workload{
		{
			Name: "hdfs", What: "spooldir → memory → HDFS sink, text", Target: 4,
			Lines: million, corpus: statusDay, all: true, sink: hdfsPeer, interceptors: pathHeaders,
			sinkLines: []string{"hdfs.fileType = DataStream"},
		},
		{
			Name: "hdfs-gzip", What: "the same, CompressedStream with gzip", Target: 4,
			Lines: million / 2, corpus: statusDay, all: true, sink: hdfsPeer, interceptors: pathHeaders,
			sinkLines: []string{"hdfs.fileType = CompressedStream", "hdfs.codeC = gzip"},
		},
		{
			Name: "hdfs-sequence", What: "the same, SequenceFile of texts", Target: 4,
			Lines: million / 2, corpus: statusDay, all: true, sink: hdfsPeer, interceptors: pathHeaders,
			sinkLines: []string{"hdfs.fileType = SequenceFile", "hdfs.writeFormat = Text"},
		},
		{
			Name: "kafka-hdfs", What: "Kafka source → memory → HDFS sink, text", Target: 4,
			Lines: million, corpus: driverLog, all: true, source: true, sink: hdfsPeer, interceptors: pathHeaders,
			sinkLines: []string{"hdfs.fileType = DataStream"},
		},
		{
			Name: "kafka-hbase", What: "Kafka source → memory → HBase sink, driving records of eight columns", Target: 4,
			Lines: million / 4, corpus: driverLog, all: true, source: true, sink: hbasePeer,
		},
	}
}

// clock is the ratio of events per second that is promised: where a peer does
// most of the work, no flow is slower than Flume's.
func (w workload) clock() float64 {
	if w.sink == "" {
		return 0
	}
	return 1
}

// inSmoke says whether a smoke run that names no row has this one: HDFS and
// HBase take longer to start than the rest together to run.
func (w workload) inSmoke() bool { return w.sink == "" }
