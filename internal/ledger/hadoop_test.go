package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/hbase"
	"github.com/sluice-data/sluice/internal/hbase/hbasetest"
)

// inHadoop is a finished run whose flows ended in Hadoop.
func inHadoop(t *testing.T) (*fixture, *hbasetest.Cluster) {
	f := finished(t)
	cluster := hbasetest.New(t, 2)
	cluster.CreateTable(DefaultTable, []string{family}, "4", "8")
	f.opts = Options{Manifest: f.opts.Manifest, Hadoop: Hadoop{HDFS: "file://" + f.dir + "/hdfs/", HBase: cluster.ZooKeeper()}}
	return f, cluster
}

// store writes the partitions' files; the second day begins in the middle.
func (f *fixture) store(t *testing.T, lines []string, name string) {
	t.Helper()
	for i, day := range []string{"20261231", "20270101"} {
		part := lines[:len(lines)/2]
		if i == 1 {
			part = lines[len(lines)/2:]
		}
		dir := filepath.Join(f.dir, "hdfs", collectDir, "wrk_date="+day)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(part, ","+day+"\n") + "," + day + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// put writes rows as the handbook has them.
func put(t *testing.T, cluster *hbasetest.Cluster, records []string) {
	t.Helper()
	c := hbase.New(hbase.Config{Quorum: []string{cluster.ZooKeeper()}})
	defer c.Close()
	b := new(hbase.Batch)
	for _, r := range records {
		fields := strings.Split(r, ",")
		key := []byte(fields[0])
		slices.Reverse(key)
		if err := b.Put([]byte(string(key) + "-" + fields[1])); err != nil {
			t.Fatal(err)
		}
		for i, f := range fields {
			if err := b.Add([]byte(family), []byte(columns[i]), []byte(f)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Do(t.Context(), DefaultTable, b); err != nil {
		t.Fatal(err)
	}
}

func TestHadoop(t *testing.T) {
	f, cluster := inHadoop(t)
	f.store(t, f.status, "car-batch-log.1700000000000.log")
	put(t, cluster, f.driver)
	put(t, cluster, f.driver[:50]) // the same keys
	res := compare(t, f.opts)
	if !res.Balanced || len(res.Flows) != 2 || !res.Flows[0].InOrder || res.Flows[0].Unordered || !res.Flows[1].Unordered ||
		res.Flows[0].Arrived != int64(len(f.status)) || res.Flows[1].Arrived != int64(len(f.driver)) {
		t.Fatalf("%+v", res)
	}
	var out strings.Builder
	if err := res.Print(&out); err != nil || !strings.Contains(out.String(), HDFSFlow) || !strings.Contains(out.String(), HBaseFlow) || !strings.Contains(out.String(), "  -\n") {
		t.Errorf("%v\n%s", err, out.String())
	}

	// What is wrong in the table: a row that is not of the run, and another area in one that is.
	area := strings.LastIndexByte(f.driver[3], ',')
	put(t, cluster, []string{strings.Replace(f.driver[9], ",", ",X", 1), f.driver[3][:area] + ",Z99"})
	res = compare(t, f.opts)
	if g := res.Flows[1]; res.Balanced || g.Missing != 1 || g.Altered != 2 || !strings.Contains(fmt.Sprint(g.Notes), "Z99") {
		t.Errorf("%+v", g)
	}
}

// A row is a record only with its own key and all its columns.
func TestRecordOf(t *testing.T) {
	row := func(key string, change func(q, v string) (string, string)) (cells []hbase.Cell) {
		for i, v := range strings.Split("20160103221000,X0005,2,0,F,N,,A01", ",") {
			q, v := change(columns[i], v)
			cells = append(cells, hbase.Cell{Row: []byte(key), Family: []byte(family), Qualifier: []byte(q), Value: []byte(v)})
		}
		return cells
	}
	same := func(q, v string) (string, string) { return q, v }
	whole := row("00012230106102-X0005", same)
	if r, err := recordOf(whole); err != nil || string(r) != "20160103221000,X0005,2,0,F,N,,A01" {
		t.Errorf("%s, %v", r, err)
	}
	for want, cells := range map[string][]hbase.Cell{
		"the key of this record is":              row("00012230106102-X0006", same),
		`the column "cf1":"colour" is none`:      row("00012230106102-X0005", func(q, v string) (string, string) { return strings.Replace(q, "speed", "colour", 1), v })[6:],
		"the column area_number is not there":    whole[:7],
		`the column "other":"date" is none of a`: {{Row: whole[0].Row, Family: []byte("other"), Qualifier: []byte("date")}},
	} {
		if _, err := recordOf(cells); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestHDFSFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(lines []string) []string
		want  Flow
		note  string
	}{
		{"missing", func(l []string) []string { return slices.Delete(l, 3, 4) }, Flow{Missing: 1}, "missing, record 3"},
		{"doubled", func(l []string) []string { return slices.Insert(l, 4, l[3]) }, Flow{Duplicated: 1}, "doubled"},
		{"no day", func(l []string) []string { l[3] = l[3] + ",20160101,x"; return l }, Flow{Missing: 1, Altered: 1}, "altered"},
	} {
		f, _ := inHadoop(t)
		f.opts.Hadoop.HBase = ""
		f.store(t, c.fault(f.status), "car-batch-log.1700000000000.log")
		res := compare(t, f.opts)
		if g := res.Flows[0]; res.Balanced || g.Missing != c.want.Missing || g.Duplicated != c.want.Duplicated || g.Altered != c.want.Altered || !strings.Contains(fmt.Sprint(g.Notes), c.note) {
			t.Errorf("%s: %+v", c.name, g)
		}
	}

	f, _ := inHadoop(t)
	f.opts.Hadoop.HBase = ""
	f.store(t, f.status[:100], "car-batch-log.1700000000000-1.log.tmp") // of a killed agent
	f.store(t, f.status[100:], "car-batch-log.1700000000001.log")
	if res := compare(t, f.opts); !res.Balanced || !strings.Contains(fmt.Sprint(res.Flows[0].Notes), "left open by a kill") {
		t.Errorf("%+v", res)
	}
	// The second stands before the first in the list.
	for _, c := range [][2]string{{"wrk_date=20270101/other.log", "is no file of the agent's"}, {"sub/x", "is no partition"}} {
		name, want := c[0], c[1]
		p := filepath.Join(f.dir, "hdfs", collectDir, name)
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), f.opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The day behind a record is that of its partition; at midnight the next one.
func TestCollectedDay(t *testing.T) {
	a := &account{}
	for line, ok := range map[string]bool{"r,20261231": true, "r,20270101": true, "r,20270102": false, "r,20261230": false, "r": false, "": false} {
		if got, record, _ := a.collected("20261231")([]byte(line)); (got != nil) != ok || ok && string(record) != "r" {
			t.Errorf("%q: %v, %q", line, got, record)
		}
	}
}

func TestHadoopCheck(t *testing.T) {
	cluster := hbasetest.New(t, 1)
	dir := t.TempDir()
	h := Hadoop{HDFS: "file://" + dir, HBase: cluster.ZooKeeper()}
	fails := func(want ...string) {
		t.Helper()
		err := h.Check(t.Context())
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want %s", err, w)
			}
		}
	}
	fails("no such table", "create 'DriverCarInfo', 'cf1', {NUMREGIONS => 4, SPLITALGO => 'HexStringSplit'}")
	cluster.CreateTable(DefaultTable, []string{"other"})
	fails("no column family cf1", "alter 'DriverCarInfo', 'cf1'")
	cluster.AddFamily(DefaultTable, family)
	if err := h.Check(t.Context()); err != nil {
		t.Error(err)
	}
	put(t, cluster, []string{"20160103221000,X0005,2,0,F,N,80,A01"})
	fails("has rows already", "truncate_preserve 'DriverCarInfo'", "--hbase-table")
	if err := os.WriteFile(filepath.Join(dir, collectDir, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails("is not empty", "--hdfs file://"+dir+"/run2")
}

func TestHadoopValidate(t *testing.T) {
	for _, ok := range []Hadoop{{}, {HDFS: "hdfs://nn:8020"}, {HDFS: "hdfs://service/a/b/"}, {HDFS: "file:///tmp/x"}, {HBase: "a,b:2182"}, {HBase: "a", Table: "ns:t"}} {
		if err := ok.Validate(); err != nil {
			t.Errorf("%+v: %v", ok, err)
		}
	}
	for want, h := range map[string]Hadoop{
		"give hdfs://HOST:PORT":   {HDFS: "/tmp/x"},
		"give hdfs://HOST:PORT, ": {HDFS: "s3a://bucket/x"},
		"cannot hold":             {HDFS: "hdfs://nn/%Y"},
		"names no server":         {HBase: ","},
		"is not HOST:PORT":        {HBase: "a:x"},
		"no name of an HBase":     {HBase: "a", Table: "a b"},
		"needs an HBase":          {Table: "t"},
	} {
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", h, err, want)
		}
	}
}
