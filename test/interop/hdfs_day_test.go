//go:build interop

package interop

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hdfsDay is a day's status file on its way from a spooling directory, through a file channel, to a directory of HDFS that is
// named by the day, and what happens to it there.
type hdfsDay struct {
	h     *realHDFS
	agent string // file
	p     *sluiceProcess
	lines []string // of the file, with their line feeds
	kills int
}

// startHDFSDay sends the file through kill -9 of the agent, the stop of a data node, a quota and safe mode. It returns when the
// last kill is done: finish waits for the rest.
func startHDFSDay(t *testing.T, h *realHDFS) *hdfsDay {
	t.Helper()
	dir, cars := t.TempDir(), cmp.Or(os.Getenv("SLUICE_HDFS_CARS"), "10")
	if out, err := exec.Command(binary, "sim", "--days", "1", "--cars", cars, "--dir", dir, "--start", "20160101").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made := filepath.Join(dir, "SmartCar", "SmartCarStatusInfo_20160101.txt")
	b, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	d := &hdfsDay{h: h, lines: strings.SplitAfter(string(b), "\n")}
	d.lines = d.lines[:len(d.lines)-1] // nothing is behind the last line feed
	d.agent = hdfsAgent(t, dir, h.uri+"/logs/day/%{logType}/wrk_date=%Y%m%d", "hdfs.filePrefix = %{logType}", "hdfs.fileSuffix = .log", "hdfs.rollCount = 0",
		fmt.Sprintf("hdfs.rollSize = %d", len(b)/24), "hdfs.idleTimeout = 3", "hdfs.batchSize = 1000")
	conf, err := os.ReadFile(d.agent)
	if err != nil {
		t.Fatal(err)
	}
	d.agent = writeConf(t, dir, string(conf)+`a1.channels.c1.capacity = 20000
a1.sources.r1.batchSize = 1000
a1.sources.r1.interceptors = i1 i2
a1.sources.r1.interceptors.i1.type = timestamp
a1.sources.r1.interceptors.i2.type = static
a1.sources.r1.interceptors.i2.key = logType
a1.sources.r1.interceptors.i2.value = car-batch-log
`)
	if err := os.Mkdir(filepath.Join(dir, "spool"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The day comes in pieces, so that there is something to write when HDFS refuses it, however fast the agent is. They are
	// larger than what is waited for by the files that killed agents leave open.
	given := 0 // lines
	give := func(percent int) {
		t.Helper()
		upTo := len(d.lines) * percent / 100
		placed(t, filepath.Join(dir, "spool"), fmt.Sprintf("%03d-%s", percent, filepath.Base(made)), strings.Join(d.lines[given:upTo], ""))
		given = upTo
	}
	d.p = startSluice(t, "agent", "-n", "a1", "-f", d.agent)
	begin := time.Now()
	arrived := func(percent int) {
		t.Helper()
		eventually(t, 5*time.Minute, fmt.Sprintf("%d %% of the day is in closed files", percent), func() error {
			files, err := h.list("/logs/day")
			if err != nil {
				return err
			}
			n := 0
			for _, f := range files {
				n += f.Length
			}
			if n < percent*len(b)/100 {
				return fmt.Errorf("%d bytes; the agent says:\n%s", n, tail(d.p.out.String(), 1500))
			}
			return nil
		})
		t.Logf("%5.1f s: %d %% is there", time.Since(begin).Seconds(), percent)
	}
	says := func(words string) {
		t.Helper()
		eventually(t, 3*time.Minute, "the agent says "+words, func() error {
			if log := d.p.out.String(); !strings.Contains(log, words) {
				return fmt.Errorf("%s", tail(log, 1500))
			}
			return nil
		})
		t.Logf("%5.1f s: %s", time.Since(begin).Seconds(), firstLine(d.p.out.String(), words))
	}
	kill := func() {
		d.p.kill()
		d.kills++
		d.p = startSluice(t, "agent", "-n", "a1", "-f", d.agent)
	}
	give(62)
	arrived(5)
	kill()
	arrived(15)
	h.signal(t, "datanode2", syscall.SIGTERM)
	t.Logf("%5.1f s: a data node of three is gone", time.Since(begin).Seconds())
	arrived(35) // without it
	kill()
	arrived(45)
	h.tool(t, "admin", "-setSpaceQuota", "1", "/logs/day")
	give(80)
	says("quota")
	h.tool(t, "admin", "-clrSpaceQuota", "/logs/day")
	arrived(60)
	h.tool(t, "admin", "-safemode", "enter")
	give(100)
	says("safe mode")
	h.tool(t, "admin", "-safemode", "leave")
	arrived(75)
	kill()
	if _, err := peer("hdfs.sh", nil, "start", h.dir); err != nil { // the data node
		t.Fatal(err)
	}
	return d
}

// finish waits until all files are closed, those of the killed agents as well, a minute after their end, and counts.
func (d *hdfsDay) finish(t *testing.T) {
	t.Helper()
	eventually(t, 5*time.Minute, "the files of the killed agents are closed and all of the day is there", func() error {
		files, err := d.h.list("/logs/day")
		if err != nil {
			return err
		}
		n, want := 0, 0
		for _, f := range files {
			if strings.HasSuffix(f.name, ".tmp") {
				return fmt.Errorf("%s is open", f.name)
			}
			n += f.Length
		}
		for _, l := range d.lines {
			want += len(l)
		}
		if n < want {
			return fmt.Errorf("%d bytes of %d", n, want)
		}
		return nil
	})
	d.p.stop(t)
	names, contents, err := d.h.files("/logs/day")
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int, len(d.lines)) // the last line of that text: headings are equal
	for i, l := range d.lines {
		at[l] = i
	}
	// The files in the order of their names have the lines in their order, but for those that are there again.
	next, repeated, cut := 0, 0, 0
	for i, c := range contents {
		if !strings.HasPrefix(names[i], "/logs/day/car-batch-log/wrk_date=20") || !strings.HasSuffix(names[i], ".log") {
			t.Errorf("%s", names[i])
		}
		for line := range strings.Lines(c) {
			k, known := at[line]
			switch {
			case next < len(d.lines) && line == d.lines[next]:
				next++
			case known && k < next:
				repeated++
			case !strings.HasSuffix(line, "\n"): // a write that was under way at a kill, at the end of its file
				cut++
			default:
				t.Fatalf("%s has %q where line %d, %q, is due", names[i], line, next, d.lines[min(next, len(d.lines)-1)])
			}
		}
	}
	if missing := len(d.lines) - next; missing > 0 || cut > d.kills+3 {
		t.Errorf("%d lines are missing, the first is %q; %d cut", missing, d.lines[next], cut)
	}
	t.Logf("a day of %d lines, %d files, %d kills of the agent: 0 missing, %d repeated, %d cut; without the repeated ones byte for byte in order", len(d.lines), len(names), d.kills, repeated, cut)
}

// signal ends a process of the cluster.
func (h *realHDFS) signal(t *testing.T, name string, sig syscall.Signal) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, name+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil || pid <= 1 || pid > math.MaxInt32 {
		t.Fatalf("%s.pid has %q", name, b)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, name+" ends", func() error {
		// It is no child of ours: its parent may not have asked for its end yet.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return errors.New("it runs")
		}
		return nil
	})
}
