package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func readEvents(t *testing.T, log string) (bodies, faults []string) {
	t.Helper()
	err := events(strings.NewReader(log), func(_ int, b []byte) { bodies = append(bodies, string(b)) },
		func(line int, why string) { faults = append(faults, fmt.Sprintf("%d: %s", line, why)) })
	if err != nil {
		t.Fatal(err)
	}
	return bodies, faults
}

func TestEventRows(t *testing.T) {
	long := string(bytes.Repeat([]byte("0123456789abcdef"), 300))
	for _, c := range []struct {
		name, log string
		bodies    []string
		faults    int
	}{
		{"Flume's own example", "x Event: { headers:{k=v, k2=v2} body: 68 65 6C 6C 6F 0D                               hello. }\n", []string{"hello\r"}, 0},
		{"empty body", "Event: { headers:{} body: }\n", []string{""}, 0},
		{"no line feed at the end", dump([]byte("abc")), []string{"abc"}, 0},
		{"sixteen bytes", dump([]byte("0123456789abcdef")) + "\n", []string{"0123456789abcdef"}, 0},
		{"two rows", "p " + dump([]byte("0123456789abcdefg")) + "\n", []string{"0123456789abcdefg"}, 0},
		{"long", dump([]byte(long+"é")) + "\n", []string{long + "é"}, 0},
		{"text that looks like the end", dump([]byte("a } b } } }} } }1234 }")) + "\n", []string{"a } b } } }} } }1234 }"}, 0},
		{"text that looks like an event", dump([]byte("01234567890 ABC Event: { headers:{} body: 00")) + "\n", []string{"01234567890 ABC Event: { headers:{} body: 00"}, 0},
		{"header that looks like a body", strings.Replace(dump([]byte("abc")), "{}", "{a=} body: 11}", 1) + "\n", []string{"abc"}, 0},
		{"other lines", "one\n" + dump([]byte("abc")) + "\ntwo\n\n" + dump([]byte("d")) + "\n", []string{"abc", "d"}, 0},
		{"cell changed", strings.Replace(dump([]byte("abc")), "61", "62", 1), nil, 1},
		{"text changed", strings.Replace(dump([]byte("abc")), "abc", "abd", 1), nil, 1},
		{"small letters", strings.Replace(dump([]byte("a\n")), "0A", "0a", 1), nil, 1},
		{"row missing", strings.Join(slices.Delete(strings.Split(dump([]byte(strings.Repeat("x", 40))), "\n"), 1, 2), "\n"), nil, 1},
		{"row doubled", strings.Replace(dump([]byte(strings.Repeat("x", 40))), "\n00000010", "\n00000010 78 78 78 78 78 78 78 78 78 78 78 78 78 78 78 78 xxxxxxxxxxxxxxxx\n00000010", 1), nil, 1},
		{"cut in the middle", strings.Split(dump([]byte(strings.Repeat("x", 40))), "\n")[0] + "\n", nil, 1},
		{"cut by another event", strings.Split(dump([]byte(strings.Repeat("x", 40))), "\n")[0] + "\n" + dump([]byte("abc")) + "\n", []string{"abc"}, 1},
		{"rows without an event", strings.Split(dump([]byte(strings.Repeat("x", 40))), "\n")[1] + "\n", nil, 0},
		{"shortened to sixteen", dump([]byte("20160101000000,A")), []string{"20160101000000,A"}, 0},
		{"an endless line", strings.Repeat("y", 3*maxLogLine) + "\n" + dump([]byte("abc")) + "\n", []string{"abc"}, 0},
		{"an endless event", "Event: { headers:{" + strings.Repeat("y", 3*maxLogLine) + "\n" + dump([]byte("abc")) + "\n", []string{"abc"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bodies, faults := readEvents(t, c.log)
			if !slices.Equal(bodies, c.bodies) || len(faults) != c.faults {
				t.Errorf("bodies %q, want %q; faults %q, want %d", bodies, c.bodies, faults, c.faults)
			}
		})
	}
}

// Whatever the log holds: no panic, and an event that is read back is the one
// that was dumped.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("abc"), []byte("x\n"))
	f.Add([]byte(strings.Repeat("0123456789abcdef", 3)), []byte("Event: { headers:{} body: 00 00"))
	f.Add([]byte("Event: { headers:{} body: }"), []byte("00000010 30"))
	f.Fuzz(func(t *testing.T, body, noise []byte) {
		readEvents(t, string(noise))
		log := "\n" + dump(body) + "\n"
		if len(body) == 0 {
			log = "Event: { headers:{} body: }\n"
		}
		bodies, faults := readEvents(t, log)
		if len(bodies) != 1 || bodies[0] != string(body) || len(faults) > 0 {
			t.Errorf("%q came back as %q, faults %q", body, bodies, faults)
		}
	})
}
