package broker

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDocumentedVersions compares the table of docs/broker.md with the
// dispatch table, and both with what kmsg can decode.
func TestDocumentedVersions(t *testing.T) {
	doc, err := os.ReadFile("../../docs/broker.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "<!-- api table -->")
	table, _, ok2 := strings.Cut(table, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatal("no table in docs/broker.md")
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\w+ \| \d+ \| [\d–]+) \|`).FindAllStringSubmatch(table, -1) {
		got = append(got, m[1])
	}
	var want []string
	for _, a := range apis() {
		versions := fmt.Sprint(a.min)
		if a.max > a.min {
			versions = fmt.Sprintf("%d–%d", a.min, a.max)
		}
		want = append(want, fmt.Sprintf("%s | %d | %s", kmsg.NameForKey(a.key), a.key, versions))
		if most := kmsg.RequestForKey(a.key).MaxVersion(); a.max > most {
			t.Errorf("key %d: version %d is served, kmsg knows %d", a.key, a.max, most)
		}
		if (a.handle == nil) == (a.start == nil) {
			t.Errorf("key %d has not exactly one handler", a.key)
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("docs/broker.md has\n%s\nthe broker serves\n%s", g, w)
	}
	// Every topic setting is named in the page.
	for _, k := range topicConfigKeys() {
		if !strings.Contains(string(doc), "`"+k.name) {
			t.Errorf("docs/broker.md does not name the setting %s", k.name)
		}
	}
}
