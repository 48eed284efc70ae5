package differential

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of the other side down: Apache Kafka's into the scripts, kfake's differences into kfake.list")

const kfakeList = "testdata/kfake.list"

// kfakeHead begins kfake.list.
const kfakeHead = `# What kfake, the double in the tests of our Kafka source and sink, answers
# differently from Apache Kafka 4.3, one line for each field:
#
#   API.PATH  SCRIPT/STEP...
#
# with [] for any element. "API: no answer" is a request that is not answered,
# or that needs a value which an earlier answer did not have; "not served" are
# versions that kfake does not announce. Messages for people are not compared.
# Written by
#
#   go test ./test/differential -run TestKfake -rewrite

`

// kfakeLines makes the lines of kfake.list.
func kfakeLines(found map[kfakeDifference]string) []string {
	steps := map[string][]string{}
	for d := range found {
		steps[d.field] = append(steps[d.field], d.step)
	}
	var out []string
	for field, s := range steps {
		slices.Sort(s)
		out = append(out, field+"  "+strings.Join(s, " "))
	}
	slices.Sort(out)
	return out
}

// parseKfakeList reads what kfakeLines wrote.
func parseKfakeList(raw []byte) (map[kfakeDifference]bool, error) {
	out := map[kfakeDifference]bool{}
	for line := range strings.Lines(string(raw)) {
		l := strings.TrimSpace(line)
		if l == "" || l[0] == '#' {
			continue
		}
		field, steps, ok := strings.Cut(l, "  ")
		if !ok {
			return nil, fmt.Errorf("%q names no step", l)
		}
		for s := range strings.FieldsSeq(steps) {
			out[kfakeDifference{field, s}] = true
		}
	}
	return out, nil
}

// kfakeDifference is a field of an answer and the step that asked for it.
type kfakeDifference struct{ field, step string }

// How long kfake may take for an answer. A step that kfake.list says is not
// answered gets less: it is only to be seen that it still is not.
const (
	kfakePatience     = time.Minute
	kfakeListPatience = time.Second
)

var element = regexp.MustCompile(`\[[^\]]*\]`)

// TestKfake asks kfake what TestSluice asks the broker. Where kfake agrees
// with Apache Kafka, two implementations that know nothing of each other
// confirm the answer; where it does not, a test with kfake proves nothing.
func TestKfake(t *testing.T) {
	var listed map[kfakeDifference]bool
	if !*rewrite {
		raw, err := os.ReadFile(kfakeList)
		if err != nil {
			t.Fatal(err)
		}
		if listed, err = parseKfakeList(raw); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	found := map[kfakeDifference]string{}
	asked, alike := 0, 0
	note := func(field, step, what string) {
		mu.Lock()
		defer mu.Unlock()
		found[kfakeDifference{field, step}] = what
	}
	t.Run("scripts", func(t *testing.T) {
		for _, s := range loadScripts(t) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				// Each script has its own: what one breaks is not another's.
				fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(fake.Close)
				r := newRunner(t, peer{addr: fake.ListenAddrs()[0]}, s, "x00001")
				patience := func(d kfakeDifference) {
					r.patience = kfakePatience
					if listed[d] {
						r.patience = kfakeListPatience
					}
				}
				serves := kfakeServes(t, r)
				for _, st := range s.steps {
					if st.words != nil {
						what := strings.Join(st.words[:min(2, len(st.words))], " ") + ": not done"
						patience(kfakeDifference{what, s.name})
						if err := r.prepare(st.words); err != nil {
							note(what, s.name, err.Error())
						}
						continue
					}
					api, name, _ := strings.Cut(st.name, "/")
					step := s.name + "/" + name
					patience(kfakeDifference{api + ": no answer", step})
					for v := st.min; v <= st.max; v++ {
						if !serves(st.api, v) {
							note(api+": not served", strconv.Itoa(int(v)), "")
							continue
						}
						got, err := r.request(st, v)
						if err != nil {
							note(api+": no answer", step, err.Error())
							// Its answer may still come: the connection is of no use.
							on := strings.Join(st.opts["on"], "")
							if c := r.conns[on]; c != nil {
								c.Close()
								delete(r.conns, on)
							}
							break
						}
						ds := slices.DeleteFunc(differencesOf(t, st, v, got), func(d difference) bool { return strings.Contains(d.path, "ErrorMessage") })
						for _, d := range ds {
							note(api+element.ReplaceAllString(d.path, "[]"), step, fmt.Sprintf("version %d (%s.txt:%d)\n  kfake: %s\n  Kafka: %s", v, s.name, st.line, d.got, d.want))
						}
						mu.Lock()
						asked++
						if len(ds) == 0 {
							alike++
						}
						mu.Unlock()
					}
				}
			})
		}
	})
	t.Logf("%d requests compared, %d answers are Apache Kafka's", asked, alike)
	if t.Failed() {
		return
	}
	if *rewrite {
		text := kfakeHead + strings.Join(kfakeLines(found), "\n") + "\n"
		if err := os.WriteFile(kfakeList, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for d, what := range found {
		if !listed[d] {
			t.Errorf("%s in %s is not in kfake.list (-rewrite writes it): %s", d.field, d.step, what)
		}
	}
	for d := range listed {
		if _, ok := found[d]; !ok {
			t.Errorf("kfake.list: %s in %s is no difference any more", d.field, d.step)
		}
	}
}

// kfakeServes tells which versions kfake announces. It does not survive a
// request of an API that it does not know.
func kfakeServes(t *testing.T, r *runner) func(key, version int16) bool {
	t.Helper()
	c, err := r.conn("prepare")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.ask(c, &kmsg.ApiVersionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	av, ok := resp.(*kmsg.ApiVersionsResponse)
	if !ok {
		t.Fatal(errors.New("the answer is no ApiVersions answer"))
	}
	return func(key, version int16) bool {
		for _, k := range av.ApiKeys {
			if k.ApiKey == key {
				return version >= k.MinVersion && version <= k.MaxVersion
			}
		}
		return false
	}
}
