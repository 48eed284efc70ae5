package differential

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A script is a list of steps. A request step is
//
//	API VERSIONS NAME [OPTION...]
//	{request as JSON, by kmsg's field names; what is left out has its default}
//	----
//	VERSIONS {Apache Kafka's answer}
//
// with an answer for each run of versions that are answered alike. In the
// request $T is a prefix that makes names the script's own, $v the version,
// $now a time and $node the broker's number. Options:
//
//	until=PATH:VALUE  ask again until the answer has this value
//	save=VAR:PATH     keep a value of the answer as $VAR
//	on=NAME           use another connection
//	noanswer          nothing but the next request's answer is expected
//
// The other steps prepare something and fail the test when they fail:
//
//	create TOPIC PARTITIONS [SETTING=VALUE...]
//	delete TOPIC
//	produce TOPIC PARTITION VALUE...
//	await topic TOPIC PARTITIONS | await gone TOPIC | await group GROUP
//
// Lines that begin with # are comments.
type script struct {
	name  string // of the file, without .txt
	lines []string
	steps []*step
}

type step struct {
	line     int
	words    []string // of a step that is not a request
	api      int16
	min, max int16
	name     string
	opts     map[string][]string
	body     string
	answers  []answer
	// where the answers are in the script's lines, for rewriting
	from, to int
}

type answer struct {
	min, max int16
	text     string
}

func loadScripts(t testing.TB) []*script {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var out []*script
	for _, f := range files {
		s, err := loadScript(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func loadScript(file string) (*script, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &script{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		s.lines = append(s.lines, sc.Text())
	}
	names := map[string]bool{}
	for i := 0; i < len(s.lines); {
		line := strings.TrimSpace(s.lines[i])
		if line == "" || line[0] == '#' {
			i++
			continue
		}
		st := &step{line: i + 1, opts: map[string][]string{}}
		words := strings.Fields(line)
		i++
		switch words[0] {
		case "create", "delete", "produce", "await":
			st.words = words
			s.steps = append(s.steps, st)
			continue
		}
		if i, err = st.request(s, words, i); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, st.line, err)
		}
		if names[st.name] {
			return nil, fmt.Errorf("%s:%d: there are two steps %s", file, st.line, st.name)
		}
		names[st.name] = true
		s.steps = append(s.steps, st)
	}
	return s, nil
}

func (st *step) request(s *script, words []string, i int) (int, error) {
	if len(words) < 3 {
		return i, fmt.Errorf("want API VERSIONS NAME")
	}
	var err error
	if st.api, err = keyOf(words[0]); err != nil {
		return i, err
	}
	if st.min, st.max, err = versionsOf(words[1]); err != nil {
		return i, err
	}
	st.name = words[0] + "/" + words[2]
	for _, o := range words[3:] {
		k, v, _ := strings.Cut(o, "=")
		st.opts[k] = append(st.opts[k], v)
	}
	for ; i < len(s.lines) && s.lines[i] != "----" && s.lines[i] != ""; i++ {
		st.body += s.lines[i] + "\n"
	}
	st.from, st.to = i, i
	if i == len(s.lines) || s.lines[i] != "----" {
		return i, nil
	}
	for i++; i < len(s.lines) && s.lines[i] != ""; i++ {
		if c := s.lines[i][0]; c >= '0' && c <= '9' {
			vs, text, _ := strings.Cut(s.lines[i], " ")
			lo, hi, err := versionsOf(vs)
			if err != nil {
				return i, err
			}
			st.answers = append(st.answers, answer{lo, hi, text})
		} else if n := len(st.answers); n > 0 {
			st.answers[n-1].text += "\n" + s.lines[i]
		}
	}
	st.to = i
	return i, nil
}

func keyOf(name string) (int16, error) {
	if n, err := strconv.ParseInt(name, 10, 16); err == nil {
		return int16(n), nil
	}
	for k := int16(0); k <= kmsg.MaxKey; k++ {
		if kmsg.NameForKey(k) == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%q is no API", name)
}

func versionsOf(s string) (lo, hi int16, err error) {
	a, b, two := strings.Cut(s, "-")
	x, err := strconv.ParseInt(a, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no version: %w", a, err)
	}
	y := x
	if two {
		if y, err = strconv.ParseInt(b, 10, 16); err != nil || y < x {
			return 0, 0, fmt.Errorf("%q are no versions", s)
		}
	}
	return int16(x), int16(y), nil
}

// want is Apache Kafka's answer to a version, nil if there is none yet.
func (st *step) want(v int16) (any, error) {
	for _, a := range st.answers {
		if v >= a.min && v <= a.max {
			return parseJSON(a.text)
		}
	}
	return nil, nil
}

func parseJSON(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("parse %s: %w", s, err)
	}
	return v, nil
}
