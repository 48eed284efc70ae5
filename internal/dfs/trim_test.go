package dfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTrim(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	long := strings.Repeat("x", 200<<10)
	for text, want := range map[string]string{"": "", "a\n": "a\n", "a\nb": "a\n", "a": "", "a\n" + long: "a\n", long + "\n": long + "\n", long: "", "\n": "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := (Local{}).Trim(name); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%.20q (%d bytes) becomes %.20q (%d bytes), %v", text, len(text), got, len(got), err)
		}
	}
}
