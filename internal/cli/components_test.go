package cli

import (
	"strings"
	"testing"

	_ "github.com/sluice-data/sluice/standard"
)

// runCLI runs the command line as main does.
func runCLI(args ...string) (code int, stdout, stderr string) {
	var out, errOut strings.Builder
	code = Run(append([]string{"sluice"}, args...), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestComponents(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want []string // in the output, or in the error
	}{
		{nil, 0, []string{"channel\n  file ", "\n  memory", "selector\n", "sink\n", "  file_roll "}},
		{[]string{"sink"}, 0, []string{"sink\n", "  null "}},
		{[]string{"memory"}, 0, []string{"channel memory:", "type = memory | org.apache.flume.channel.MemoryChannel", "  transactionCapacity  ", "  capacity "}},
		{[]string{"org.apache.flume.channel.memorychannel"}, 0, []string{"channel memory:"}},
		{[]string{"memmory"}, 2, []string{`no component is called "memmory" (did you mean "memory"?)`}},
		{[]string{"elasticsearch"}, 2, []string{"elasticsearch: Flume's sink of this name is not there yet"}},
		{[]string{"entirely-other"}, 2, []string{"(all: sluice components)"}},
	} {
		code, out, errOut := runCLI(append([]string{"components"}, tt.args...)...)
		if code != tt.code {
			t.Errorf("components %q: exit %d, want %d: %s", tt.args, code, tt.code, errOut)
		}
		for _, w := range tt.want {
			if !strings.Contains(out+errOut, w) {
				t.Errorf("components %q lacks %q:\n%s%s", tt.args, w, out, errOut)
			}
		}
	}
}
