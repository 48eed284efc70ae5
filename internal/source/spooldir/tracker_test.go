package spooldir

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hamba/avro/v2"
	avroocf "github.com/hamba/avro/v2/ocf"

	"github.com/sluice-data/sluice/internal/ocf"
	"github.com/sluice-data/sluice/internal/serde"
)

// avroStrings is an Avro file of strings in blocks of ten, and their encodings.
func avroStrings(t testing.TB, ss []string) (string, []string) {
	t.Helper()
	var buf bytes.Buffer
	enc, err := avroocf.NewEncoder(`"string"`, &buf, avroocf.WithBlockLength(10))
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, s := range ss {
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		p, err := avro.Marshal(avro.MustParse(`"string"`), s)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(p))
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String(), bodies
}

func TestTracker(t *testing.T) {
	tr := tracker{path: t.TempDir() + "/" + metaName}
	now := time.Now()
	if _, err := readTracker(tr.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none there: %v", err)
	}
	check := func(target string, want serde.Position) {
		t.Helper()
		got, err := readTracker(tr.path)
		if got.target != target || got.pos != want || err != nil {
			t.Errorf("%+v %v, want %q %+v", got, err, target, want)
		}
	}
	store := func(target string, pos serde.Position, exact bool) {
		t.Helper()
		if err := tr.store(target, pos, now, exact); err != nil {
			t.Fatal(err)
		}
	}
	store("/spool/한글.log", serde.Position{Offset: 5}, false)
	check("/spool/한글.log", serde.Position{Offset: 5})
	for i := range int64(200_000) {
		store("/spool/한글.log", serde.Position{Offset: 5 + i<<20}, false)
	}
	check("/spool/한글.log", serde.Position{Offset: 5 + 199_999<<20})
	if fi, err := os.Stat(tr.path); err != nil || fi.Size() > rollSize+1000 {
		t.Errorf("%d bytes, %v", fi.Size(), err)
	}
	store("/spool/b", serde.Position{Offset: 7, Records: 3}, false) // the records are only for the end
	check("/spool/b", serde.Position{Offset: 7})
	store("/spool/b", serde.Position{Offset: 7, Records: 3}, true)
	check("/spool/b", serde.Position{Offset: 7, Records: 3})
	store("/spool/b", serde.Position{Offset: 9, Records: 1}, false)
	check("/spool/b", serde.Position{Offset: 9})
	if err := tr.remove(); err != nil {
		t.Fatal(err)
	}
	if err := tr.remove(); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if exists(tr.path) || exists(tr.path+".tmp") {
		t.Error("something is left")
	}
}

// Every prefix of a tracker file, which is what a crash may leave, gives one
// of the positions stored or none.
func TestTornTracker(t *testing.T) {
	tr := tracker{path: t.TempDir() + "/" + metaName}
	for i := range int64(5) {
		if err := tr.store("/spool/f", serde.Position{Offset: i * 100_000}, time.Now(), false); err != nil {
			t.Fatal(err)
		}
	}
	tr.close()
	whole := read(t, tr.path)
	last := int64(-1)
	for n := range len(whole) + 1 {
		e, err := parseTracker(strings.NewReader(whole[:n]), int64(n))
		if err != nil {
			if last >= 0 {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if e.pos.Offset < last || e.pos.Offset%100_000 != 0 {
			t.Fatalf("%d bytes: %d after %d", n, e.pos.Offset, last)
		}
		last = e.pos.Offset
	}
	if last != 400_000 {
		t.Errorf("the whole file gives %d", last)
	}
}

// flumeTracker was written by Flume 1.11's DurablePositionTracker (Avro
// 1.11.0): target /spool/day.log, positions 0, 4600 and 138240000.
const flumeTracker = "" +
	"4f626a0104166176726f2e736368656d6190027b2274797065223a227265636f7264222c226e616d65223a225472616e73666572537461746546696c" +
	"654d657461222c226e616d657370616365223a226f72672e6170616368652e666c756d652e73657269616c697a6174696f6e222c226669656c647322" +
	"3a5b7b226e616d65223a226f6666736574222c2274797065223a226c6f6e67227d5d7d0866696c651c2f73706f6f6c2f6461792e6c6f6700b48b6b2d" +
	"a68299065618b770601a7df3020200b48b6b2da68299065618b770601a7df30204f047b48b6b2da68299065618b770601a7df3020a8080eb8301b48b" +
	"6b2da68299065618b770601a7df3"

func TestFlumeTracker(t *testing.T) {
	p, err := hex.DecodeString(flumeTracker)
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseTracker(bytes.NewReader(p), int64(len(p)))
	if err != nil || e.target != "/spool/day.log" || e.pos.Offset != 138240000 {
		t.Errorf("%+v %v", e, err)
	}
}

// Flume looks for the last position behind the first sync marker in the last
// 256 bytes of the file, whatever their number.
func TestFlumeFindsOurPosition(t *testing.T) {
	for _, n := range []int{1, 2, 5, 100} {
		tr := tracker{path: t.TempDir() + "/" + metaName}
		var want int64
		for i := range n {
			want = int64(i) << 33
			if err := tr.store("/spool/"+strings.Repeat("long name ", 30), serde.Position{Offset: want}, time.Now(), false); err != nil {
				t.Fatal(err)
			}
		}
		tr.close()
		p := []byte(read(t, tr.path))
		r, size := bytes.NewReader(p), int64(len(p))
		h, err := ocf.ReadHeader(r, size)
		if err != nil {
			t.Fatal(err)
		}
		at, err := h.Seek(r, size, max(0, size-256))
		if err != nil {
			t.Fatal(err)
		}
		got := int64(-1)
		for at < size {
			b, err := h.ReadBlock(r, size, at)
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, b.Size)
			if err := b.ReadData(r, data); err != nil {
				t.Fatal(err)
			}
			got = ocf.NewDecoder(data).Long()
			at = b.Next
		}
		if got != want {
			t.Errorf("%d positions: Flume would find %d, want %d", n, got, want)
		}
	}
}

func FuzzTracker(f *testing.F) {
	p, _ := hex.DecodeString(flumeTracker)
	f.Add(p)
	tr := tracker{path: f.TempDir() + "/" + metaName}
	if err := tr.store("/spool/f", serde.Position{Offset: 3, Records: 2}, time.Now(), true); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(read(f, tr.path)))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := parseTracker(bytes.NewReader(p), int64(len(p)))
		if err == nil && (e.target == "" || e.pos.Offset < 0 || e.pos.Records < 0) {
			t.Errorf("%+v", e)
		}
	})
}
