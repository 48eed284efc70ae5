//go:build interop

package interop

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// realHDFS is an Apache HDFS.
type realHDFS struct {
	dir, uri, web string
	env           []string // of its script
}

// start waits until it serves, and stops it when the test ends.
func (h *realHDFS) start(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := peer("hdfs.sh", nil, "stop", h.dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := peer("hdfs.sh", h.env, "start", h.dir); err != nil {
		t.Fatal(err)
	}
}

// startHDFS starts one where permissions are checked.
func startHDFS(t *testing.T, dataNodes int) *realHDFS {
	t.Helper()
	fetched(t, "hdfs.sh")
	h := &realHDFS{dir: t.TempDir()}
	port := (&ports{}).row(t, 2+3*dataNodes)
	h.uri, h.web = fmt.Sprintf("hdfs://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d/webhdfs/v1", port+1)
	h.env = []string{fmt.Sprintf("HDFS_PORT=%d", port), fmt.Sprintf("HDFS_NODES=%d", dataNodes), "HDFS_PERMISSIONS=true"}
	h.start(t)
	h.tool(t, "dfs", "-mkdir", "-p", "/logs", "/closed")
	h.tool(t, "dfs", "-chmod", "777", "/logs")
	return h
}

func (h *realHDFS) tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := peer("hdfs.sh", h.env, append([]string{name, "-fs", h.uri}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ask is a call of WebHDFS.
func (h *realHDFS) ask(p, op string) ([]byte, error) {
	resp, err := http.Get(h.web + (&url.URL{Path: p}).EscapedPath() + "?op=" + op + "&user.name=reader")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s of %s: %s: %s", op, p, resp.Status, b)
	}
	return b, err
}

// hdfsFile is a file and how many bytes the name node knows of: those of closed blocks.
type hdfsFile struct {
	name   string
	Length int
}

// list are the files below a directory, in the order of their names.
func (h *realHDFS) list(dir string) (files []hdfsFile, err error) {
	b, err := h.ask(dir, "LISTSTATUS")
	if err != nil {
		return nil, err
	}
	var list struct {
		FileStatuses struct {
			FileStatus []struct {
				PathSuffix, Type string
				Length           int
			}
		}
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	for _, f := range list.FileStatuses.FileStatus {
		p := path.Join(dir, f.PathSuffix)
		if f.Type != "DIRECTORY" {
			files = append(files, hdfsFile{p, f.Length})
			continue
		}
		below, err := h.list(p)
		if err != nil {
			return nil, err
		}
		files = append(files, below...)
	}
	return files, nil
}

// files are the contents of the files below a directory, in the order of their names.
func (h *realHDFS) files(dir string) (names []string, contents []string, err error) {
	list, err := h.list(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range list {
		b, err := h.ask(f.name, "OPEN")
		if err != nil {
			return nil, nil, err
		}
		names, contents = append(names, f.name), append(contents, string(b))
	}
	return names, contents, nil
}

// placed is a finished file in a spooling directory, whose source must not see it grow.
func placed(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := dir + "." + name
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// numbered is a file of lines from to to-1 in a spooling directory.
func numbered(t *testing.T, dir, name string, from, to int) {
	t.Helper()
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%d %s\n", i, strings.Repeat("x", i%100))
	}
	placed(t, dir, name, b.String())
}

// tally counts the lines of numbered in files: how often each number is there, and what is no such line.
func tally(n int, contents []string) (missing, double int, strange []string) {
	seen := make([]int, n)
	for _, c := range contents {
		for line := range strings.Lines(c) {
			num, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			i, err := strconv.Atoi(num)
			if err != nil || i < 0 || i >= n || rest != strings.Repeat("x", i%100) || !strings.HasSuffix(line, "\n") {
				strange = append(strange, line)
				continue
			}
			seen[i]++
		}
	}
	for _, k := range seen {
		switch {
		case k == 0:
			missing++
		case k > 1:
			double += k - 1
		}
	}
	return missing, double, strange
}

// hdfsAgent is an agent from a spooling directory through a file channel to an hdfs sink.
func hdfsAgent(t *testing.T, dir, to string, props ...string) string {
	t.Helper()
	conf := fmt.Sprintf(`a1.sources = r1
a1.channels = c1
a1.sinks = k1
a1.sources.r1.type = spooldir
a1.sources.r1.spoolDir = %[1]s/spool
a1.sources.r1.batchSize = 100
a1.sources.r1.channels = c1
a1.channels.c1.type = file
a1.channels.c1.checkpointDir = %[1]s/checkpoint
a1.channels.c1.dataDirs = %[1]s/data
a1.channels.c1.transactionCapacity = 1000
a1.sinks.k1.type = hdfs
a1.sinks.k1.channel = c1
a1.sinks.k1.hdfs.path = %[2]s
a1.sinks.k1.hdfs.fileType = DataStream
a1.sinks.k1.hdfs.rollInterval = 0
a1.sinks.k1.hdfs.rollSize = 0
a1.sinks.k1.hdfs.batchSize = 100
a1.sinks.k1.hdfs.retryInterval = 1
`, dir, to)
	for _, p := range props {
		conf += "a1.sinks.k1." + p + "\n"
	}
	return writeConf(t, dir, conf)
}

func TestHDFS(t *testing.T) {
	h := startHDFS(t, 3)

	// What the killed agents leave behind is closed when their leases have run out, a minute later: at the end of this test.
	day := startHDFSDay(t, h)
	t.Run("as Flume", func(t *testing.T) { hdfsAsFlume(t, h) })
	t.Run("formats", func(t *testing.T) { hdfsFormats(t, h) })
	t.Run("refusals", func(t *testing.T) { hdfsRefusals(t, h) })
	t.Run("bad bucket", func(t *testing.T) { hdfsBadBucket(t, h) })
	t.Run("bad input", func(t *testing.T) { hdfsBadInput(t, h) })

	day.finish(t)
}

// hdfsAsFlume: Flume's sink and Sluice's write the same events by the same agent file. The directories, the names but for
// their counters, and the contents are equal, as far as they are text by themselves; the others as Hadoop's tool shows them.
//
// hdfs.minBlockReplicas = 1 is for Flume: its client asks for three replicas, and where there are fewer its sink begins
// another file with the event that follows a flush.
func hdfsAsFlume(t *testing.T, h *realHDFS) {
	if _, err := peer("flume.sh", []string{"FLUME_JARS=flume-hdfs"}, "fetch"); err != nil {
		t.Fatal(err)
	}
	const events = 300
	formats := [][]string{
		{"hdfs.fileType = DataStream", "hdfs.fileSuffix = .txt", "hdfs.inUsePrefix = _"},
		{"hdfs.fileType = CompressedStream", "hdfs.codeC = gzip"},
		{"hdfs.fileType = DataStream", "serializer = avro_event", "hdfs.fileSuffix = .avro"},
		{"hdfs.writeFormat = Text"},
		{"hdfs.writeFormat = Writable", "hdfs.codeC = default"},
	}
	run := func(who string, agent func(conf string, monitor int) (stop func())) (files map[string][]string, shown string) {
		dir := t.TempDir()
		var spool strings.Builder
		for i := range events {
			fmt.Fprintf(&spool, "%d event %d \u00e4\n", 1_700_000_000_000+i*4*60_000, i)
		}
		if err := os.MkdirAll(filepath.Join(dir, "spool"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "spool", "a.log"), []byte(spool.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		var names []string
		var flows strings.Builder
		for i, f := range formats {
			n := fmt.Sprintf("f%d", i)
			names = append(names, n)
			for _, p := range append([]string{"type = hdfs", "channel = " + n, "hdfs.path = " + h.uri + "/logs/" + who + "/" + n + "/%Y-%m-%d/%H", "hdfs.filePrefix = p-%{kind}-%M", "hdfs.timeZone = Asia/Seoul",
				"hdfs.round = true", "hdfs.roundValue = 6", "hdfs.roundUnit = hour", "hdfs.rollCount = 25", "hdfs.rollSize = 0", "hdfs.rollInterval = 0", "hdfs.batchSize = 100",
				"hdfs.minBlockReplicas = 1"}, f...) {
				fmt.Fprintf(&flows, "a1.sinks.%s.%s\n", n, p)
			}
			fmt.Fprintf(&flows, "a1.channels.%[1]s.type = memory\na1.channels.%[1]s.capacity = 1000\na1.channels.%[1]s.transactionCapacity = 1000\n", n)
		}
		monitor := freePort(t)
		stop := agent(writeConf(t, dir, fmt.Sprintf(`a1.sources = r1
a1.channels = %[1]s
a1.sinks = %[1]s
a1.sources.r1.type = spooldir
a1.sources.r1.spoolDir = %[2]s/spool
a1.sources.r1.channels = %[1]s
a1.sources.r1.interceptors = i1 i2
a1.sources.r1.interceptors.i1.type = regex_extractor
a1.sources.r1.interceptors.i1.regex = ^(\\d+)
a1.sources.r1.interceptors.i1.serializers = s1
a1.sources.r1.interceptors.i1.serializers.s1.name = timestamp
a1.sources.r1.interceptors.i2.type = static
a1.sources.r1.interceptors.i2.key = kind
a1.sources.r1.interceptors.i2.value = k
%[3]s`, strings.Join(names, " "), dir, flows.String())), monitor)
		// The stop closes the files. To close them when they are idle would make more of them where the agent is held up for so long.
		eventually(t, 5*time.Minute, who+"'s sinks have all events", func() error {
			m, err := metrics(fmt.Sprintf("127.0.0.1:%d", monitor))
			if err != nil {
				return err
			}
			for _, n := range names {
				if got := m["SINK."+n]["EventDrainSuccessCount"]; got != strconv.Itoa(events) {
					return fmt.Errorf("%s has %s of %d", n, got, events)
				}
			}
			return nil
		})
		stop()
		files = map[string][]string{}
		eventually(t, 5*time.Minute, who+"'s files are closed", func() error {
			clear(files)
			lines := 0
			all, contents, err := h.files("/logs/" + who)
			if err != nil {
				return err
			}
			closed := map[string]int{}
			for i, name := range all {
				if strings.HasSuffix(name, ".tmp") {
					return fmt.Errorf("%s is open", name)
				}
				parts := strings.Split(strings.TrimPrefix(name, "/logs/"+who), ".")
				parts[1] = "N"
				name = strings.Join(parts, ".")
				closed[name[:3]]++
				text := contents[i]
				switch {
				case strings.HasPrefix(name, "/f1/"):
					z, err := gzip.NewReader(strings.NewReader(text))
					if err != nil {
						return err
					}
					b, err := io.ReadAll(z)
					if err != nil {
						return err
					}
					text = string(b)
				case !strings.HasPrefix(name, "/f0/"):
					text = ""
				}
				lines += strings.Count(text, "\n")
				files[name] = append(files[name], text)
			}
			for _, n := range names {
				if lines != 2*events || closed["/"+n] != closed["/f0"] {
					return fmt.Errorf("%d lines, files: %v", lines, closed)
				}
			}
			return nil
		})
		return files, h.tool(t, "dfs", "-text", "/logs/"+who+"/f2/*/*/*", "/logs/"+who+"/f3/*/*/*", "/logs/"+who+"/f4/*/*/*")
	}
	want, wantShown := run("flume", func(conf string, monitor int) func() {
		f := flumeAgent{filepath.Join(t.TempDir(), "flume")}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("flume's log (end):\n%s", tail(f.log(), 6000))
			}
			f.kill(t)
		})
		if _, err := peer("flume.sh", []string{"FLUME_JARS=flume-hdfs", "FLUME_HEAP=256m", fmt.Sprintf("FLUME_HTTP=%d", monitor)}, "start", f.dir, conf, "a1"); err != nil {
			t.Fatal(err)
		}
		return func() { f.stop(t) }
	})
	got, gotShown := run("sluice", func(conf string, monitor int) func() {
		p := startSluice(t, "agent", "-n", "a1", "-f", conf, "-Dflume.monitoring.type=http", "-Dflume.monitoring.host=127.0.0.1", fmt.Sprintf("-Dflume.monitoring.port=%d", monitor))
		return func() { p.stop(t) }
	})
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if len(got[name]) != len(want[name]) {
			t.Errorf("%s: %d files, of Flume's %d", name, len(got[name]), len(want[name]))
			continue
		}
		for i, w := range want[name] {
			if g := got[name][i]; g != w {
				at := firstDifference(g, w)
				t.Errorf("%s, file %d: %d bytes, Flume's has %d; from byte %d on: %.120q, Flume's %.120q", name, i, len(g), len(w), at, g[max(0, at-60):], w[max(0, at-60):])
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("names %q, Flume's %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if gotShown != wantShown {
		at := firstDifference(gotShown, wantShown)
		t.Errorf("Hadoop shows %d bytes, of Flume's %d; from byte %d on: %.120q, Flume's %.120q", len(gotShown), len(wantShown), at, gotShown[max(0, at-60):], wantShown[max(0, at-60):])
	}
	if n := strings.Count(gotShown, "\n"); n < 3*events {
		t.Errorf("Hadoop shows %d lines, want %d and more", n, 3*events)
	}
	t.Logf("%d names, %d bytes as Hadoop shows them: equal", len(got), len(gotShown))
}

// firstDifference is where two texts begin to differ.
func firstDifference(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i
}

// hdfsFormats writes the same events in all formats and has Hadoop's own tool read them.
func hdfsFormats(t *testing.T, h *realHDFS) {
	dir := t.TempDir()
	const lines = 20_000
	numbered(t, filepath.Join(dir, "spool"), "a.log", 0, lines)
	want, err := os.ReadFile(filepath.Join(dir, "spool", "a.log"))
	if err != nil {
		t.Fatal(err)
	}
	formats := [][]string{{"hdfs.fileType = DataStream"}}
	for _, c := range []string{"gzip", "bzip2", "default", "snappy", "lz4"} {
		formats = append(formats, []string{"hdfs.fileType = CompressedStream", "hdfs.codeC = " + c})
	}
	for _, c := range []string{"none", "gzip", "snappy"} {
		formats = append(formats, []string{"hdfs.fileType = SequenceFile", "hdfs.writeFormat = Text", "hdfs.codeC = " + c})
	}
	formats = append(formats, []string{"hdfs.fileType = SequenceFile", "hdfs.writeFormat = Writable"})
	var names []string
	var flows strings.Builder
	for i, f := range formats {
		n := fmt.Sprintf("f%d", i)
		names = append(names, n)
		fmt.Fprintf(&flows, "a1.channels.%[1]s.type = memory\na1.channels.%[1]s.capacity = 100000\na1.channels.%[1]s.transactionCapacity = 1000\na1.sinks.%[1]s.type = hdfs\na1.sinks.%[1]s.channel = %[1]s\n"+
			"a1.sinks.%[1]s.hdfs.path = %[2]s/logs/formats/%[1]s\na1.sinks.%[1]s.hdfs.rollCount = 8000\na1.sinks.%[1]s.hdfs.rollSize = 0\na1.sinks.%[1]s.hdfs.rollInterval = 0\na1.sinks.%[1]s.hdfs.batchSize = 1000\n", n, h.uri)
		for _, p := range f {
			fmt.Fprintf(&flows, "a1.sinks.%s.%s\n", n, p)
		}
	}
	list := strings.Join(names, " ")
	p := startSluice(t, "agent", "-n", "a1", "-f", writeConf(t, dir, fmt.Sprintf("a1.sources = r1\na1.channels = %[1]s\na1.sinks = %[1]s\na1.sources.r1.type = spooldir\na1.sources.r1.spoolDir = %[2]s/spool\n"+
		"a1.sources.r1.batchSize = 1000\na1.sources.r1.channels = %[1]s\n%[3]s", list, dir, flows.String())))
	eventually(t, 5*time.Minute, "the file is read", func() error {
		_, err := os.Stat(filepath.Join(dir, "spool", "a.log.COMPLETED"))
		return err
	})
	p.stop(t) // drains and closes
	for i, f := range formats {
		glob := "/logs/formats/" + names[i] + "/*"
		got := h.tool(t, "dfs", "-text", glob)
		if strings.HasPrefix(f[0], "hdfs.fileType = SequenceFile") {
			var b strings.Builder
			for line := range strings.Lines(got) {
				_, value, _ := strings.Cut(line, "\t")
				if f[1] == "hdfs.writeFormat = Writable" { // shown in hexadecimal
					for hex := range strings.FieldsSeq(value) {
						c, err := strconv.ParseUint(hex, 16, 8)
						if err != nil {
							t.Fatalf("%q", line)
						}
						b.WriteByte(byte(c))
					}
					b.WriteByte('\n')
					continue
				}
				b.WriteString(value)
			}
			got = b.String()
		}
		if got != string(want) {
			t.Errorf("%v: Hadoop reads %d bytes, want %d: %.100q", f, len(got), len(want), got)
		}
	}
}

// hdfsRefusals: a cluster that refuses, or is not there for a while, loses nothing and is named once.
func hdfsRefusals(t *testing.T, h *realHDFS) {
	const lines = 3000
	sites := map[string]struct {
		where string
		says  string
		heal  func()
	}{
		"permission": {"/closed", "may not write to", func() { h.tool(t, "dfs", "-chmod", "777", "/closed") }},
		"safe mode":  {"/logs/safe", "safe mode", func() { h.tool(t, "admin", "-safemode", "leave") }},
		"quota":      {"/logs/full", "quota", func() { h.tool(t, "admin", "-clrSpaceQuota", "/logs/full") }},
		"data nodes": {"/logs/node", "", nil},
	}
	for _, name := range []string{"permission", "quota", "safe mode", "data nodes"} {
		site := sites[name]
		t.Run(name, func(t *testing.T) {
			switch name {
			case "safe mode":
				h.tool(t, "admin", "-safemode", "enter")
			case "quota":
				h.tool(t, "dfs", "-mkdir", "-p", "/logs/full")
				h.tool(t, "dfs", "-chmod", "777", "/logs/full")
				h.tool(t, "admin", "-setSpaceQuota", "1000", "/logs/full")
			}
			dir := t.TempDir()
			numbered(t, filepath.Join(dir, "spool"), "a.log", 0, lines)
			conf := hdfsAgent(t, dir, h.uri+site.where+"/a", "hdfs.proxyUser = driver", "hdfs.rollCount = 0")
			p := startSluice(t, "agent", "-n", "a1", "-f", conf)
			where := site.where
			if name == "data nodes" {
				eventually(t, 3*time.Minute, "the agent writes", func() error { _, err := h.list(where); return err })
				for _, node := range []string{"datanode", "datanode2", "datanode3"} {
					h.signal(t, node, syscall.SIGKILL)
				}
				numbered(t, filepath.Join(dir, "spool"), "b.log", lines, 2*lines)
				eventually(t, 3*time.Minute, "the sink says what is wrong", func() error {
					if !strings.Contains(p.out.String(), "level=ERROR") && !strings.Contains(p.out.String(), "level=WARN") {
						return fmt.Errorf("%s", tail(p.out.String(), 500))
					}
					return nil
				})
				if _, err := peer("hdfs.sh", nil, "start", h.dir); err != nil {
					t.Fatal(err)
				}
			} else {
				eventually(t, 3*time.Minute, "the sink says what is wrong", func() error {
					if !strings.Contains(p.out.String(), site.says) {
						return fmt.Errorf("%s", tail(p.out.String(), 500))
					}
					return nil
				})
				site.heal()
			}
			n := lines
			if name == "data nodes" {
				n = 2 * lines
			}
			eventually(t, 5*time.Minute, "all lines are there", func() error {
				_, contents, err := h.files(where)
				if err != nil {
					return err
				}
				if missing, _, _ := tally(n, contents); missing > 0 {
					return fmt.Errorf("%d are missing", missing)
				}
				return nil
			})
			p.stop(t)
			names, contents, err := h.files(where)
			if err != nil {
				t.Fatal(err)
			}
			missing, double, strange := tally(n, contents)
			if missing > 0 || name != "data nodes" && (double > 0 || len(strange) > 0) {
				t.Errorf("%d missing, %d double, strange: %.200q", missing, double, strange)
			}
			if strings.Contains(strings.Join(names, " "), ".tmp") {
				t.Errorf("files are left open: %v", names)
			}
			t.Logf("%d lines, %d double; it said: %s", n, double, firstLine(p.out.String(), "err="))
		})
	}
}

// hdfsBadBucket: one of ten directories is closed to the agent. The lines of the others are delivered, its own are set aside,
// and replayed when it is open.
func hdfsBadBucket(t *testing.T, h *realHDFS) {
	const lines = 3000
	h.tool(t, "dfs", "-mkdir", "-p", "/logs/ten/7")
	h.tool(t, "dfs", "-chmod", "777", "/logs/ten")
	dir := t.TempDir()
	numbered(t, filepath.Join(dir, "spool"), "a.log", 0, lines)
	conf := hdfsAgent(t, dir, h.uri+"/logs/ten/%{digit}", "hdfs.proxyUser = driver", "hdfs.rollCount = 0", "hdfs.refusedTimeout = 2",
		"deadletter = file", "deadletter.directory = "+dir+"/dead")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	conf = writeConf(t, dir, string(b)+`a1.sources.r1.interceptors = i1
a1.sources.r1.interceptors.i1.type = regex_extractor
a1.sources.r1.interceptors.i1.regex = ^\\d*(\\d)\\s
a1.sources.r1.interceptors.i1.serializers = s1
a1.sources.r1.interceptors.i1.serializers.s1.name = digit
`)
	count := func() (contents []string, others int, err error) {
		names, contents, err := h.files("/logs/ten")
		for i, n := range names {
			if !strings.HasPrefix(n, "/logs/ten/7/") {
				others += strings.Count(contents[i], "\n")
			}
		}
		return contents, others, err
	}
	counted := func() []string {
		contents, _, err := count()
		if err != nil {
			t.Fatal(err)
		}
		return contents
	}
	p := startSluice(t, "agent", "-n", "a1", "-f", conf)
	eventually(t, 3*time.Minute, "the lines of the other directories are there", func() error {
		_, others, err := count() // a file may get its name between the list and the look into it
		if err == nil && others < lines/10*9 {
			err = fmt.Errorf("%d lines; the agent says:\n%s", others, tail(p.out.String(), 1000))
		}
		return err
	})
	p.stop(t) // drains: the rest are dead letters
	contents := counted()
	if missing, double, strange := tally(lines, contents); missing != lines/10 || double > 0 || len(strange) > 0 {
		t.Errorf("%d missing, %d double, strange: %.200q", missing, double, strange)
	}
	h.tool(t, "dfs", "-chmod", "777", "/logs/ten/7")
	if out, err := exec.Command(binary, "deadletter", "replay", filepath.Join(dir, "dead", "a1.sink.k1"), "-f", conf, "-n", "a1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contents = counted()
	missing, double, strange := tally(lines, contents)
	if missing > 0 || double > 0 || len(strange) > 0 {
		t.Errorf("after the replay: %d missing, %d double, strange: %.200q", missing, double, strange)
	}
	t.Logf("%d lines for ten directories, one of them closed: %d set aside and replayed, 0 missing, 0 double", lines, lines/10)
}

func firstLine(log, with string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, with) {
			return strings.TrimSpace(line)
		}
	}
	return "nothing"
}

// A killed agent's files are in the object store after the next start; what was there before it was closed is nothing.
func TestHDFSObjectStore(t *testing.T) {
	program(t, "bash")
	var next ports
	dir, port := t.TempDir(), next.take(t)
	if _, err := peer("s3.sh", []string{fmt.Sprintf("S3_PORT=%d", port)}, "start", dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := peer("s3.sh", nil, "stop", dir); err != nil {
			t.Error(err)
		}
	})
	const lines = 200_000
	agentDir := t.TempDir()
	numbered(t, filepath.Join(agentDir, "spool"), "a.log", 0, lines)
	conf := hdfsAgent(t, agentDir, "s3a://bucket/logs/%{none}x", "hdfs.batchSize = 1000", "hdfs.rollCount = 150000", "hdfs.fileSuffix = .log", fmt.Sprintf("hdfs.fs.s3a.endpoint = http://127.0.0.1:%d", port),
		"hdfs.fs.s3a.path.style.access = true", "hdfs.fs.s3a.access.key = me", "hdfs.fs.s3a.secret.key = secret", "hdfs.fs.s3a.multipart.size = 5M", "hdfs.fs.s3a.buffer.dir = "+filepath.Join(agentDir, "buffer"))
	files := func() (names, contents []string) {
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(p, ".log") {
				return err
			}
			b, err := os.ReadFile(p)
			names, contents = append(names, p), append(contents, string(b))
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return names, contents
	}
	p := startSluice(t, "agent", "-n", "a1", "-f", conf)
	eventually(t, 3*time.Minute, "the agent writes", func() error {
		if found, err := filepath.Glob(filepath.Join(agentDir, "buffer", "bucket", "logs", "x", "*.tmp")); err != nil || len(found) == 0 {
			return fmt.Errorf("%q, %v", found, err)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond)
	p.kill()
	p = startSluice(t, "agent", "-n", "a1", "-f", conf)
	eventually(t, 5*time.Minute, "the file is read", func() error {
		_, err := os.Stat(filepath.Join(agentDir, "spool", "a.log.COMPLETED"))
		return err
	})
	p.stop(t)
	names, contents := files()
	missing, double, strange := tally(lines, contents)
	if missing > 0 || len(strange) > 1 || len(names) < 2 {
		t.Errorf("%d lines are missing, strange: %.200q, objects %q", missing, strange, names)
	}
	t.Logf("%d objects, 0 of %d lines missing, %d doubled, %d cut", len(names), lines, double, len(strange))
}
