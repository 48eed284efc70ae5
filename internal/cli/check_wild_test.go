package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/test/realfiles"
)

// TestCheckRealFiles checks every file of the collection. Where an agent uses
// only what is built, the components that would come up are those that Flume
// 1.11 brought up.
func TestCheckRealFiles(t *testing.T) {
	dir := realfiles.Dir("../..")
	table, err := os.ReadFile(filepath.Join(dir, "flume-1.11.tsv"))
	if err != nil {
		t.Skipf("SKIPPED: 225 real agent files were not checked: %v (set SLUICE_SHARED)", err)
	}
	env := &Env{Ctx: t.Context()}
	compared, used := 0, make(map[string]bool)
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		col := append(strings.Split(line, "\t"), "", "", "", "", "")
		file, name, outcome := col[0], col[1], col[2]
		id := file + "/" + name
		path := filepath.Join(dir, file)
		r, err := (&checkCmd{Files: []string{path}, Name: []string{name}}).check(env)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if code, out, _ := runCLI("check", "-n", name, path); (code == ExitOK) != r.ok || out == "" {
			t.Errorf("%s: exit %d, but ok is %v", id, code, r.ok)
		}
		if outcome == "up" && len(r.agents) == 0 {
			t.Errorf("%s: Flume has this agent, check does not", id)
		}
		// Some types were not on the class path of the Flume that it is compared with.
		if !allBuilt(t, path, name) || strings.HasPrefix(col[7], "Unable to load ") {
			continue
		}
		compared++
		up := func(words string) []string {
			l := strings.Fields(words)
			slices.Sort(l)
			return l
		}
		want := [3][]string{up(col[3]), up(col[4]), up(col[5])}
		var got [3][]string
		ok := false
		if len(r.agents) == 1 && r.agents[0].ok {
			a := r.agents[0]
			ok = true
			got = [3][]string{up(strings.Join(a.sources, " ")), up(strings.Join(a.channels, " ")), up(strings.Join(a.sinks, " "))}
		}
		same := ok == (outcome == "up")
		for i := range got {
			same = same && slices.Equal(got[i], want[i])
		}
		reason, differs := realfiles.Differences[id]
		used[id] = true
		switch {
		case !same && !differs:
			t.Errorf("%s: %v here, Flume %s %v (removed: %s%s)\n%v", id, got, outcome, want, col[6], col[7], r.findings)
		case same && differs:
			t.Errorf("%s no longer differs from Flume, take it from the list (%s)", id, reason)
		}
	}
	for id := range realfiles.Differences {
		if !used[id] {
			t.Errorf("%s is listed as a difference but was not compared", id)
		}
	}
	t.Logf("%d agents use only what is built", compared)
	complete := true // the components of the smart-car pilot
	for name, kind := range map[string]component.Kind{"spooldir": component.KindSource, "exec": component.KindSource, "netcat": component.KindSource,
		"org.apache.flume.sink.kafka.KafkaSink": component.KindSink, "regex_filter": component.KindInterceptor} {
		_, ok := component.Default().Lookup(kind, name)
		complete = complete && ok
	}
	if complete && compared < 38 {
		t.Errorf("only %d agents were compared", compared)
	}
}

// allBuilt says whether every type that the agent's components name, whether
// they stand or not, is in the registry.
func allBuilt(t *testing.T, path, name string) bool {
	conf, _, err := flumeconf.Load([]string{path}, flumeconf.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	model, _, ok := conf.Agent(t.Context(), name, flumeconf.FilterOptions{})
	if !ok {
		return true
	}
	reg := component.Default()
	built := func(kind component.Kind, typ string) bool {
		_, ok := reg.Lookup(kind, typ)
		return ok
	}
	for _, c := range model.Channels {
		if !built(component.KindChannel, c.Type.Text) {
			return false
		}
	}
	for _, c := range model.Sinks {
		if !built(component.KindSink, c.Type.Text) {
			return false
		}
	}
	for _, c := range model.Sources {
		if !built(component.KindSource, c.Type.Text) {
			return false
		}
		for _, n := range flumeconf.List(c.Prop("interceptors")) {
			if typ := c.Props.Text("interceptors." + n + ".type"); typ != "" && !built(component.KindInterceptor, typ) {
				return false
			}
		}
		if typ := c.Props.Text("selector.type"); typ != "" && !built(component.KindSelector, typ) {
			return false
		}
	}
	for _, g := range model.Groups {
		if typ := g.Props.Text("processor.type"); typ != "" && typ != "default" {
			return false
		}
	}
	return true
}

// TestCheckHandbook checks the five stages of the smart-car handbook's agent
// file: each can start, and nothing is left out.
func TestCheckHandbook(t *testing.T) {
	dir := realfiles.Dir("../..")
	for stage, number := range []string{"001", "002", "003", "004", "005"} {
		path := filepath.Join(dir, number+"-wikibook-bigdata2nd-SmartCar_Agent.conf")
		if _, err := os.Stat(path); err != nil {
			t.Skipf("SKIPPED: the handbook's agent files were not checked: %v (set SLUICE_SHARED)", err)
		}
		code, out, _ := runCLI("check", path)
		// The book's third stage already lists what only the fourth configures.
		errors := strings.Count(out, "error: ") - strings.Count(out, "is listed but has no properties; it is left out")
		if code != ExitOK || !strings.Contains(out, "agent SmartCar_Agent can start\n") || errors != 0 {
			t.Errorf("stage %d: exit %d\n%s", stage+1, code, out)
		}
		if hdfs := stage == 4; strings.Contains(out, "SmartCarInfo_HdfsSink") != hdfs {
			t.Errorf("stage %d: the HDFS sink should be there: %v\n%s", stage+1, hdfs, out)
		}
	}
}
