// Package differential asks Sluice's broker and others the same questions and
// compares the answers field by field. The questions, with Apache Kafka's
// answers to them, are in testdata/*.txt; what Sluice answers differently is
// in testdata/differences.list, each with its reason.
//
//	go test ./test/differential                                      Sluice against the answers that are written down
//	go test ./test/differential -run TestKfake -rewrite              write down what kfake answers differently
//	go test -tags interop ./test/differential -run Kafka             a live Apache Kafka against them
//	go test -tags interop ./test/differential -run Kafka -rewrite    write them anew
//
// What is not the same in two runs is not compared: ids, ports, times of the
// broker's clock, sizes of disks. Elements of arrays are compared by what they
// are about, not by their place.
package differential

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/internal/broker"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// startSluice starts our broker.
func startSluice(t *testing.T) peer {
	t.Helper()
	b, err := broker.Start(context.Background(), broker.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(),
		Logger: slog.New(slog.DiscardHandler), LogLevel: new(slog.LevelVar)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return peer{addr: b.Addr(), node: 1}
}

// runScripts runs every script and hands each answer on.
func runScripts(t *testing.T, p peer, each func(t *testing.T, s *script, st *step, v int16, got string)) {
	for _, s := range loadScripts(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, p, s, fmt.Sprintf("x%05x", rand.IntN(1<<20)))
			for _, st := range s.steps {
				if st.words != nil {
					if err := r.prepare(st.words); err != nil {
						t.Fatalf("%s.txt:%d: %s: %v", s.name, st.line, strings.Join(st.words, " "), err)
					}
					continue
				}
				for v := st.min; v <= st.max; v++ {
					got, err := r.request(st, v)
					if err != nil {
						t.Fatalf("%s.txt:%d: %s version %d: %v", s.name, st.line, st.name, v, err)
					}
					each(t, s, st, v, got)
				}
			}
		})
	}
}

// differencesOf compares an answer with Apache Kafka's.
func differencesOf(t *testing.T, st *step, v int16, got string) []difference {
	t.Helper()
	want, err := st.want(v)
	if err != nil {
		t.Fatal(err)
	}
	if want == nil {
		t.Errorf("%s version %d: no answer of Apache Kafka is written down: run with -rewrite", st.name, v)
		return nil
	}
	g, err := parseJSON(got)
	if err != nil {
		t.Fatal(err)
	}
	var out []difference
	compare("", g, want, func(d difference) { out = append(out, d) })
	slices.SortFunc(out, func(a, b difference) int { return strings.Compare(a.path, b.path) })
	return out
}

// listed is a line of differences.list.
type listed struct {
	line    int
	pattern *regexp.Regexp
	text    string
	used    bool
}

func loadList(t *testing.T) []*listed {
	t.Helper()
	f, err := os.Open("testdata/differences.list")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []*listed
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		where, why, ok := strings.Cut(line, "  ")
		if !ok || strings.TrimSpace(why) == "" {
			t.Fatalf("differences.list:%d: no reason after two spaces", n)
		}
		p := strings.ReplaceAll(regexp.QuoteMeta(where), `\*`, `.*`)
		out = append(out, &listed{line: n, pattern: regexp.MustCompile("^" + p + "$"), text: line})
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSluice compares Sluice's answers with Apache Kafka's.
func TestSluice(t *testing.T) {
	p := startSluice(t)
	list := loadList(t)
	var mu sync.Mutex
	asked := 0
	t.Run("scripts", func(t *testing.T) {
		runScripts(t, p, func(t *testing.T, s *script, st *step, v int16, got string) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			for _, d := range differencesOf(t, st, v, got) {
				where := fmt.Sprintf("%s/%s%s", s.name, st.name, d.path)
				known := false
				for _, l := range list {
					if l.pattern.MatchString(where) {
						l.used, known = true, true
					}
				}
				if !known {
					t.Errorf("%s version %d (%s.txt:%d)\n  Sluice: %s\n  Kafka:  %s", where, v, s.name, st.line, d.got, d.want)
				}
			}
		})
	})
	t.Logf("%d requests compared", asked)
	if t.Failed() {
		return
	}
	for _, l := range list {
		if !l.used {
			t.Errorf("differences.list:%d: there is no such difference any more: %s", l.line, l.text)
		}
	}
}

// TestEveryVersionIsAsked holds the scripts against what the broker announces.
func TestEveryVersionIsAsked(t *testing.T) {
	asked := map[int16]map[int16]bool{}
	for _, s := range loadScripts(t) {
		for _, st := range s.steps {
			if st.words != nil {
				continue
			}
			if asked[st.api] == nil {
				asked[st.api] = map[int16]bool{}
			}
			for v := st.min; v <= st.max; v++ {
				asked[st.api][v] = true
			}
		}
	}
	r := newRunner(t, startSluice(t), &script{}, "x")
	c, err := r.conn("")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.ask(c, &kmsg.ApiVersionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		for v := k.MinVersion; v <= k.MaxVersion; v++ {
			if !asked[k.ApiKey][v] {
				t.Errorf("no script asks %s version %d", kmsg.NameForKey(k.ApiKey), v)
			}
		}
	}
}

// TestFormat checks that what the scripts are compared by loses nothing.
func TestFormat(t *testing.T) {
	one, err := parseJSON(`{"Topics": [{"Topic": "a", "ErrorCode": "NONE"}, {"Topic": "b"}], "X": 9007199254740993}`)
	if err != nil {
		t.Fatal(err)
	}
	two, err := parseJSON(`{"Topics": [{"Topic": "b", "Y": 1}, {"Topic": "c"}], "X": 9007199254740992}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	compare("", one, two, func(d difference) { got = append(got, d.path+" "+d.got+" "+d.want) })
	slices.Sort(got)
	want := []string{`.Topics[a] {"ErrorCode":"NONE","Topic":"a"} missing`, `.Topics[b].Y default 1`, `.Topics[c] missing {"Topic":"c"}`, `.X 9007199254740993 9007199254740992`}
	if !slices.Equal(got, want) {
		t.Errorf("differences:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
