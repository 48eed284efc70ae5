//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/sim"
)

var pilotPage = regexp.MustCompile(`Page: +(http://\S+)`)

// TestPilotHadoop: the pilot with the handbook's finish, on Apache HDFS and HBase. What it says is not there it says before it
// begins. The agent that writes to HBase is killed, and a region split, while it runs. Then Hadoop's tool and HBase's Java client read
// what is there, line by line and cell by cell.
func TestPilotHadoop(t *testing.T) {
	hadoop := startHDFS(t, 1)
	hbase := newHBase(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	// Not the superuser, who may write everywhere.
	t.Setenv("HADOOP_USER_NAME", "pilot")
	dir := filepath.Join(t.TempDir(), "run")
	pilot := func() *sluiceProcess {
		return startSluice(t, "pilot", "--dir", dir, "--listen", "127.0.0.1:0", "--broker", "127.0.0.1:0", "--hdfs", hadoop.uri, "--hbase", hbase.zk)
	}
	refused := func(want ...string) {
		t.Helper()
		p := pilot()
		<-p.done
		for _, w := range want {
			if out := p.out.String(); p.err == nil || !strings.Contains(out, w) {
				t.Fatalf("%v, want %s in %s", p.err, w, out)
			}
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s was made for a run that did not begin", dir)
		}
	}
	const collected = "/pilot-pjt/collect"
	refused("the user pilot may not make " + collected + "/car-batch-log: give it the right (hdfs dfs -chown or -chmod)")
	for _, op := range []string{"MKDIRS", "SETOWNER&owner=pilot"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, hadoop.web+collected+"?op="+op+"&user.name="+me.Username, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", op, resp.Status)
		}
	}
	refused("table DriverCarInfo: there is no such table", "create 'DriverCarInfo', 'cf1', {NUMREGIONS => 4")
	hbase.do(t, "create", "DriverCarInfo", "other", "2", "6")
	refused("no column family cf1", "alter 'DriverCarInfo', 'cf1'")
	hbase.do(t, "family", "DriverCarInfo", "cf1")

	p := pilot()
	// consumer is the process that writes to HBase.
	type pilotState struct {
		Processes []struct {
			Name string
			PID  int
		}
		Consumer struct{ Delivered int64 }
	}
	var state pilotState
	consumer := 0
	look := func() error {
		state, consumer = pilotState{}, 0
		page := pilotPage.FindStringSubmatch(p.out.String())
		if page == nil {
			return errors.New("the pilot has not said where its page is")
		}
		resp, err := http.Get(page[1] + "/api/state")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&state); err != nil {
			return err
		}
		for _, c := range state.Processes {
			if c.Name == "SmartCar_Consumer" {
				consumer = c.PID
			}
		}
		return nil
	}
	// arrive waits for rows by another process than that.
	arrive := func(rows int64, not int) {
		t.Helper()
		eventually(t, 3*time.Minute, fmt.Sprintf("%d rows in HBase", rows), func() error {
			err := look()
			if err == nil && (state.Consumer.Delivered < rows || consumer == 0 || consumer == not) {
				err = fmt.Errorf("%d rows, written by process %d", state.Consumer.Delivered, consumer)
			}
			return err
		})
	}
	arrive(5000, 0)
	killed := consumer
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	hbase.do(t, "split", "DriverCarInfo", "4")
	arrive(state.Consumer.Delivered+5000, killed)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Minute):
		t.Fatal("the pilot does not end")
	}
	if out := p.out.String(); p.err != nil || !strings.Contains(out, "The ledger balances") || !strings.Contains(out, "status → HDFS") || !strings.Contains(out, "driver → HBase") {
		t.Fatalf("%v\n%s", p.err, out)
	}
	t.Log(tail(p.out.String(), 700))

	// Status: what the simulator wrote is known by its manifest; its files are gone.
	manifest, err := sim.LoadManifest(filepath.Join(dir, "working", sim.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	names, _, err := hadoop.files(collected)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^` + collected + `/car-batch-log/wrk_date=(\d{8})/car-batch-log\.\d+\.log$`)
	var days, want []string
	for _, n := range names {
		m := name.FindStringSubmatch(n)
		if m == nil {
			t.Fatalf("%s is in HDFS", n)
		}
		days = append(days, m[1])
	}
	got := splitLines(hadoop.tool(t, "dfs", append([]string{"-cat"}, names...)...))
	for i, line := range got {
		at := strings.LastIndexByte(line, ',')
		if day := line[at+1:]; !slices.Contains(days, day) {
			t.Fatalf("line %d has the day %s, the partitions %s", i, day, days)
		}
		got[i] = line[:at]
	}
	if err := sim.EachText(manifest.Config, sim.StatusKind, manifest.Status.Records, func(_ int64, line []byte) { want = append(want, string(line)) }); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "status lines in HDFS", got, want)

	// Driving records: their log is still there.
	text, err := os.ReadFile(filepath.Join(dir, "working", sim.DriverDir, sim.DriverLogName))
	if err != nil {
		t.Fatal(err)
	}
	columns := strings.Split("date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number", ",")
	record := regexp.MustCompile(`^\d{14}`)
	want = nil
	for line := range strings.Lines(string(text)) {
		if !record.MatchString(line) {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ",")
		key := []byte(fields[0])
		slices.Reverse(key)
		for i, f := range fields {
			want = append(want, fmt.Sprintf("%x %x %x %x", string(key)+"-"+fields[1], "cf1", columns[i], f))
		}
	}
	cells := hbase.do(t, "scan", "DriverCarInfo")
	slices.Sort(cells)
	slices.Sort(want)
	sameLines(t, "cells of DriverCarInfo", cells, want)
	t.Logf("%d status lines in %d files in HDFS, %d rows in HBase", len(got), len(names), len(cells)/len(columns))
}
