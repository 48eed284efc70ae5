//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// realHive is Hive's metastore, and Hive's own command line.
type realHive struct{ dir, uri string }

func (h *realHive) start(t *testing.T) {
	t.Helper()
	if _, err := peer("hive.sh", []string{"HIVE_PORT=" + h.uri[strings.LastIndexByte(h.uri, ':')+1:]}, "start", h.dir); err != nil {
		t.Fatal(err)
	}
}

func (h *realHive) stop(t *testing.T) {
	t.Helper()
	if _, err := peer("hive.sh", nil, "stop", h.dir); err != nil {
		t.Error(err)
	}
}

// sql runs statements; rows have tabs between their columns.
func (h *realHive) sql(t *testing.T, statements string) (rows []string) {
	t.Helper()
	cmd := exec.Command(filepath.Join("peers", "hive.sh"), "sql", h.dir)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(statements), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", statements, err, tail(out.String(), 1000), tail(stderr.String(), 2000))
	}
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.TrimSuffix(line, "\n"))
	}
	return rows
}

// hiveAgent is an agent from a spooling directory through a file channel to a hive sink. The time of an event is the first number of 13 digits in it.
func hiveAgent(t *testing.T, dir string, h *realHive, props ...string) string {
	t.Helper()
	conf := fmt.Sprintf(`a1.sources = r1
a1.channels = c1
a1.sinks = k1
a1.sources.r1.type = spooldir
a1.sources.r1.spoolDir = %[1]s/spool
a1.sources.r1.channels = c1
a1.sources.r1.batchSize = 1000
a1.sources.r1.interceptors = i1
a1.sources.r1.interceptors.i1.type = regex_extractor
a1.sources.r1.interceptors.i1.regex = (\\d{13})
a1.sources.r1.interceptors.i1.serializers = s1
a1.sources.r1.interceptors.i1.serializers.s1.name = timestamp
a1.channels.c1.type = file
a1.channels.c1.checkpointDir = %[1]s/checkpoint
a1.channels.c1.dataDirs = %[1]s/data
a1.channels.c1.transactionCapacity = 1000
a1.sinks.k1.type = hive
a1.sinks.k1.channel = c1
a1.sinks.k1.hive.metastore = %[2]s
a1.sinks.k1.hive.database = default
a1.sinks.k1.batchSize = 1000
a1.sinks.k1.timeZone = UTC
a1.sinks.k1.rollInterval = 5
a1.sinks.k1.deadletter = file
a1.sinks.k1.deadletter.directory = %[1]s/dead
`, dir, h.uri)
	for _, p := range props {
		conf += "a1.sinks.k1." + p + "\n"
	}
	return writeConf(t, dir, conf)
}

func spool(t *testing.T, dir, name string, lines []string) {
	t.Helper()
	placed(t, filepath.Join(dir, "spool"), name, strings.Join(lines, "\n")+"\n")
}

// tallyRows counts how often each row of want is there.
func tallyRows(t *testing.T, what string, got []string, want []string) (double int) {
	t.Helper()
	seen := make(map[string]int, len(want))
	for _, w := range want {
		seen[w] = 0
	}
	strange, missing := 0, 0
	for _, g := range got {
		n, ok := seen[g]
		if !ok {
			if strange++; strange < 5 {
				t.Errorf("%s: strange row %q", what, g)
			}
			continue
		}
		if n > 0 {
			double++
		}
		seen[g] = n + 1
	}
	for w, n := range seen {
		if n == 0 {
			if missing++; missing < 5 {
				t.Errorf("%s: %q is missing", what, w)
			}
		}
	}
	if missing > 0 || strange > 0 {
		t.Errorf("%s: %d rows are missing, %d are strange", what, missing, strange)
	}
	return double
}

// Two tables, one with text on the local file system and one with JSON on HDFS, both partitioned by time, are filled and
// read by Hive itself.
func TestHive(t *testing.T) {
	fetched(t, "hive.sh")
	h := &realHive{dir: t.TempDir(), uri: fmt.Sprintf("thrift://127.0.0.1:%d", freePort(t))}
	t.Cleanup(func() { h.stop(t) })
	hdfs := startHDFS(t, 1)
	h.start(t)

	// What Hive is asked at the end.
	const lines, docs = 200_000, 20_000
	at := func(i, step int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(i*step)).UTC() }
	var bodies, want []string
	for i := range lines {
		when := at(i, 1000)
		bodies = append(bodies, fmt.Sprintf("%d|%d|t\u00e4xt %d, with \\|%d.5", when.UnixMilli(), i, i, i))
		want = append(want, fmt.Sprintf("%d\tt\u00e4xt %d, with \\\t%d.5\t%s\t%02d", i, i, i, when.Format("2006-01-02"), when.Hour()/6*6))
	}
	var objects, wantDocs []string
	for i := range docs {
		when := at(i, 8000)
		objects = append(objects, fmt.Sprintf(`{"ts": %d, "n": %d, "Text": "quote \" and \u00e4", "tags": ["a%d", "b"], "at": {"x": %d}}`, when.UnixMilli(), i, i%7, i))
		wantDocs = append(wantDocs, fmt.Sprintf("%d\tquote \" and \u00e4\t[\"a%d\",\"b\"]\t{\"x\":%d}\t%s", i, i%7, i, when.Format("2006-01-02")))
	}

	// The first sink starts before there are tables.
	local, remote := t.TempDir(), t.TempDir()
	spool(t, local, "first.log", bodies[:1])
	localConf := hiveAgent(t, local, h, "hive.table = lines", "hive.partition = %Y-%m-%d,%H", "round = true", "roundValue = 6", "roundUnit = hour",
		"serializer = DELIMITED", "serializer.delimiter = |", "serializer.fieldnames = ,n,words,f", "hive.txnsPerBatchAsk = 20")
	spool(t, remote, "a.log", append(objects[:docs/2:docs/2], `{"ts": 1700000000000, "n": 1`, `no time`, `{"ts": 1700000000000, "n": "x"}`))
	remoteConf := hiveAgent(t, remote, h, "hive.table = docs", "hive.partition = %Y-%m-%d", "serializer = json")
	agent := startSluice(t, "agent", "-n", "a1", "-f", localConf)
	eventually(t, 3*time.Minute, "the sink says what is wrong", func() error {
		if !strings.Contains(agent.out.String(), "create it, or correct hive.database and hive.table") {
			return fmt.Errorf("%s", tail(agent.out.String(), 500))
		}
		return nil
	})

	// What a process of long ago left: its last row is cut.
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	left, err := http.NewRequest(http.MethodPut, hdfs.web+"/docs/day=2023-11-15/_sluice.1600000000000?op=CREATE&user.name="+me.Username,
		strings.NewReader(`{"n":1000000,"text":"left"}`+"\n"+`{"n":1000001,"te`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(left)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusCreated {
		t.Fatalf("put a file: %s", resp.Status)
	}
	wantDocs = append(wantDocs, "1000000\tleft\tNULL\tNULL\t2023-11-15")

	h.sql(t, fmt.Sprintf(`
		create external table lines (n int, words string, f double) partitioned by (day string, hour string) row format delimited fields terminated by ',' escaped by '\\' stored as textfile;
		create external table docs (n int, text string, tags array<string>, at map<string,int>) partitioned by (day string) stored as jsonfile location '%[1]s/docs';
		alter table docs add partition (day = '2023-11-15');
		alter table docs add partition (day = '2023-11-14') location '%[1]s/elsewhere';
		create external table columnar (n int) stored as orc;`, hdfs.uri))

	other := startSluice(t, "agent", "-n", "a1", "-f", remoteConf)

	// Killed in the middle. Where the agent is done with a piece before this test looks, the next has to do.
	const kills, pieces = 3, 12
	warehouse := filepath.Join(h.dir, "warehouse", "lines")
	killed, given := 0, 1
	for k := 0; k < pieces && killed < kills; k++ {
		name, upTo := fmt.Sprint(k, ".log"), 1+(k+1)*lines/(pieces+1)
		had, _ := hiveFiles(t, warehouse)
		spool(t, local, name, bodies[given:upTo])
		given = upTo
		hidden := 0
		eventually(t, 5*time.Minute, "the agent writes", func() (err error) {
			_, reading := os.Stat(filepath.Join(local, "spool", name+".COMPLETED"))
			var written int
			written, hidden = hiveFiles(t, warehouse)
			if written == had || hidden == 0 && reading != nil {
				err = fmt.Errorf("%d bytes, %d hidden files; the agent says %s", written, hidden, tail(agent.out.String(), 500))
			}
			return err
		})
		if hidden == 0 {
			continue
		}
		agent.kill()
		killed++
		agent = startSluice(t, "agent", "-n", "a1", "-f", localConf)
	}
	spool(t, local, "rest.log", bodies[given:])

	hiveRefusals(t, h)

	// The metastore is away when a partition is wanted that it has not told of.
	eventually(t, 5*time.Minute, "the first half is written", func() error {
		_, err := os.Stat(filepath.Join(remote, "spool", "a.log.COMPLETED"))
		return err
	})
	eventually(t, 5*time.Minute, "all lines are there", func() error {
		if _, hidden := hiveFiles(t, warehouse); hidden > 0 {
			return fmt.Errorf("%d files are open", hidden)
		}
		_, err := os.Stat(filepath.Join(local, "spool", "rest.log.COMPLETED"))
		return err
	})
	h.stop(t)
	spool(t, remote, "b.log", objects[docs/2:])
	eventually(t, 3*time.Minute, "the sink says what is wrong", func() error {
		if !strings.Contains(other.out.String(), "connect to the metastore") {
			return fmt.Errorf("%s", tail(other.out.String(), 500))
		}
		return nil
	})
	h.start(t)
	eventually(t, 5*time.Minute, "the second half is written", func() error {
		_, err := os.Stat(filepath.Join(remote, "spool", "b.log.COMPLETED"))
		if names, _, lerr := hdfs.files("/docs"); err == nil && lerr == nil && !strings.Contains(strings.Join(names, " "), "day=2023-11-16") {
			err = fmt.Errorf("files: %q", names)
		}
		return err
	})
	agent.stop(t)
	other.stop(t)

	rows := h.sql(t, "select n, words, f, day, hour from lines where n >= 0; select 'docs'; select n, text, tags, at, day from docs where n >= 0;")
	for i, r := range rows {
		if r == "docs" {
			double := tallyRows(t, "lines", rows[:i], want)
			t.Logf("text on the local file system, %d kills: 0 of %d rows missing, %d double", killed, lines, double)
			if double := tallyRows(t, "docs", rows[i+1:], wantDocs); double > 0 {
				t.Errorf("%d documents are double", double)
			}
			t.Logf("JSON on HDFS: %d rows", len(rows)-i-1)
		}
	}
	out, err := exec.Command(binary, "deadletter", "list", filepath.Join(remote, "dead")).Output()
	if err != nil || bytes.Count(out, []byte("\n")) != 1+3 { // a head line
		t.Errorf("dead letters: %s, %v", out, err)
	}
}

// hiveFiles are the bytes in a table's files, and the number of files that are not complete.
func hiveFiles(t *testing.T, dir string) (written, hidden int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // not there yet, or renamed
		}
		if info, err := e.Info(); err == nil {
			written += int(info.Size())
		}
		if strings.HasPrefix(e.Name(), "_") {
			hidden++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return written, hidden
}

// hiveRefusals: what does not fit is said, once.
func hiveRefusals(t *testing.T, h *realHive) {
	for want, props := range map[string][]string{
		"INSERT INTO":           {"hive.table = columnar", "serializer = JSON"},
		`no column \"nowhere\"`: {"hive.table = lines", "hive.partition = a,b", "serializer = DELIMITED", "serializer.fieldnames = n,nowhere"},
		"hive.partition has 0":  {"hive.table = lines", "serializer = JSON"},
	} {
		dir := t.TempDir()
		spool(t, dir, "a.log", []string{strconv.Itoa(1_700_000_000_000)})
		p := startSluice(t, "agent", "-n", "a1", "-f", hiveAgent(t, dir, h, props...))
		eventually(t, 3*time.Minute, "the sink refuses", func() error {
			if !strings.Contains(p.out.String(), want) {
				return fmt.Errorf("%s, want %s", tail(p.out.String(), 500), want)
			}
			return nil
		})
		p.kill()
	}
}
