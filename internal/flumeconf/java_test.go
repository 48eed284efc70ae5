package flumeconf

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

var updateJava = flag.Bool("update-java", false, "rewrite testdata/java-properties.golden with the java on the PATH (a JDK)")

const javaGolden = "testdata/java-properties.golden"

// javaInputs are properties texts made of the bytes that matter to the
// grammar. The byte 0xe9 makes most of them invalid as UTF-8, so that both
// sides read ISO-8859-1.
func javaInputs() [][]byte {
	pieces := []string{"a", "b", "k", "=", ":", " ", "\\", "\\", "\n", "\n", "\r\n", "\r", "#", "!", "\t", "\f",
		"\\u0041", "\\u00", "\\ud83d\\ude00", "\\n", "\\\n", "\\\r\n  ", "\\#", "=1\n", "\xe9", "\\=", "u0031", "\x00"}
	rng := rand.New(rand.NewPCG(1, 2))
	var in [][]byte
	for range 1500 {
		var b []byte
		for range 1 + rng.IntN(12) {
			b = append(b, pieces[rng.IntN(len(pieces))]...)
		}
		in = append(in, b)
	}
	return in
}

// TestJavaProperties compares Parse with what java.util.Properties made of the
// same texts; the committed results keep the test free of Java.
func TestJavaProperties(t *testing.T) {
	if *updateJava {
		var in bytes.Buffer
		for _, b := range javaInputs() {
			fmt.Fprintf(&in, "%x\n", b)
		}
		cmd := exec.Command("java", "testdata/PropertiesOracle.java")
		cmd.Stdin = &in
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("run java: %v", err)
		}
		if err := os.WriteFile(javaGolden, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(javaGolden)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != len(javaInputs()) {
		t.Fatalf("%d results for %d inputs: run with -update-java", len(lines), len(javaInputs()))
	}
	refused := 0
	for i, want := range javaInputs() {
		text, result, _ := strings.Cut(lines[i], " ")
		if text != hex.EncodeToString(want) {
			t.Fatalf("line %d is not the result of input %d: run with -update-java", i+1, i)
		}
		p, ds := Parse("f", want)
		got := javaForm(p)
		if Worst(ds) == Error {
			got = "error"
			refused++
		}
		if got != result {
			t.Errorf("Parse(%q)\n got %s\nJava %s", want, got, result)
		}
	}
	if refused == 0 || refused > len(lines)/2 {
		t.Errorf("%d of %d inputs were refused: the inputs no longer test much", refused, len(lines))
	}
}

// javaForm is p in the oracle's notation.
func javaForm(p *Properties) string {
	units := func(s string) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(s)) {
			fmt.Fprintf(&b, "%04x", u)
		}
		return b.String()
	}
	var pairs []string
	for _, e := range p.All() {
		pairs = append(pairs, units(e.Name)+"="+units(e.Value.Raw))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
