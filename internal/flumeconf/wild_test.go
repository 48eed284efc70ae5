package flumeconf

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sharedDir finds the collection of real agent files that lies beside the
// repository where the project is developed.
func sharedDir(t *testing.T) string {
	dir := os.Getenv("SLUICE_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	if _, err := os.Stat(filepath.Join(dir, "flume-conf", "index.tsv")); err != nil {
		t.Skipf("SKIPPED: 225 real agent files were not read: %v (set SLUICE_SHARED)", err)
	}
	return dir
}

// readTSV returns the rows as maps by the head line.
func readTSV(t *testing.T, path string) []map[string]string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := make(map[string]string)
		for i, v := range row {
			m[rows[0][i]] = v
		}
		out = append(out, m)
	}
	return out
}

func TestRealFiles(t *testing.T) {
	shared := sharedDir(t)
	dir := filepath.Join(shared, "flume-conf")
	alias := make(map[string]string) // kind and class → short name
	for _, row := range readTSV(t, filepath.Join(shared, "flume-reference", "components.tsv")) {
		if row["alias"] != "-" {
			alias[row["kind"]+"s "+row["fqcn"]] = row["alias"]
		}
	}
	// The index lists prefixes that hold a component's section; Runnable wants
	// a list of channels.
	notRunnable := []string{"dev"}
	seen := 0
	for _, row := range readTSV(t, filepath.Join(dir, "index.tsv")) {
		t.Run(row["file"], func(t *testing.T) {
			seen++
			c, ds, err := Load([]string{filepath.Join(dir, row["file"])}, Lookups{})
			if err != nil {
				t.Fatal(err)
			}
			got := c.Runnable()
			slices.Sort(got)
			if Worst(ds) == Error {
				t.Errorf("findings: %v", ds)
			}
			want := slices.DeleteFunc(strings.Split(row["agents"], ","), func(n string) bool { return slices.Contains(notRunnable, n) })
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("agents %q, index %q", got, want)
			}
			types := map[string][]string{}
			inactive := 0
			for _, n := range got {
				a, found, _ := c.Agent(context.Background(), n, FilterOptions{})
				for word, list := range map[string][]Component{"sources": a.Sources, "channels": a.Channels, "sinks": a.Sinks} {
					for _, comp := range list {
						typ := comp.Type.Text
						if short, ok := alias[word+" "+typ]; ok {
							typ = short
						} else if !strings.Contains(typ, ".") {
							typ = strings.ToLower(typ)
						}
						types[word] = append(types[word], typ)
					}
				}
				for _, d := range found {
					if strings.Contains(d.Message, "is configured but does not run") && !strings.HasPrefix(d.Message, "sinkgroup") {
						inactive++
					}
				}
			}
			wantInactive := 0
			for _, word := range []string{"sources", "channels", "sinks"} {
				slices.Sort(types[word])
				want, n := indexTypes(row[word])
				wantInactive += n
				if !slices.Equal(types[word], want) {
					t.Errorf("%s %q, index %q", word, types[word], want)
				}
			}
			if inactive != wantInactive && len(want) == strings.Count(row["agents"], ",")+1 {
				t.Errorf("%d components that are not listed, index %d", inactive, wantInactive)
			}
		})
	}
	if seen != 225 {
		t.Errorf("%d files were read, not 225", seen)
	}
}

// indexTypes reads "spooldir memoryx2 logger(inactive)x2"; it counts the
// inactive ones and leaves them out.
func indexTypes(s string) (out []string, inactive int) {
	for _, w := range strings.Fields(s) {
		n := 1
		if i := strings.LastIndexByte(w, 'x'); i > 0 {
			if k, err := strconv.Atoi(w[i+1:]); err == nil {
				w, n = w[:i], k
			}
		}
		if strings.HasSuffix(w, "(inactive)") {
			inactive += n
			continue
		}
		for range n {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out, inactive
}
