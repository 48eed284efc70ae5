package component

import (
	"strings"
	"testing"
)

func TestBackslashed(t *testing.T) {
	for expr, want := range map[string]string{
		`^//d{14}`:           `^\\d{14}`,
		`(//d+)//s(//w+)`:    `(\\d+)\\s(\\w+)`,
		`//d`:                `\\d`,
		`//d//d`:             `\\d\\d`,
		`[//s\.]//D`:         `[\\s\\.]\\D`,
		`^\d{14}`:            "",
		`http://d+`:          "", // a host
		`//data/(\w+)`:       "", // a path
		`^// comment`:        "",
		`a//`:                "",
		`/d{4}`:              "", // may be a path
		`(\d+)///d`:          "",
		"":                   "",
		`\Qx\E//d?`:          `\\Qx\\E\\d?`,
		`^//d{4}-//d{2}(.*)`: `^\\d{4}-\\d{2}(.*)`,
	} {
		if got := backslashed(expr); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

type regexConfig struct{ expr string }

func (c *regexConfig) Fields() []Field {
	return []Field{String("regex", &c.expr, "").AsType("regex")}
}

// The warning comes with every property that is a regular expression.
func TestDecodeSlashes(t *testing.T) {
	fs := Decode(&Registry{}, &regexConfig{}, []Property{{"regex", `^//d{14}`}})
	if len(fs) != 1 || fs[0].Error || fs[0].Key != "regex" || !strings.Contains(fs[0].Hint, `^\\d{14}`) {
		t.Errorf("%+v", fs)
	}
	if fs := Decode(&Registry{}, &regexConfig{}, []Property{{"regex", `^\d{14}`}}); len(fs) > 0 {
		t.Errorf("%+v", fs)
	}
}
