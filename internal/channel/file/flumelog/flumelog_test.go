package flumelog

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/event"
)

// The encoders here are as the format's description has it. That real files are so is what test/interop looks at.

func fixed32(b []byte, id int, v int32) []byte {
	return binary.LittleEndian.AppendUint32(binary.AppendUvarint(b, uint64(id<<3|wireFixed32)), uint32(v))
}

func fixed64(b []byte, id int, v int64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, uint64(id<<3|wireFixed64)), uint64(v))
}

func bytesField(b []byte, id int, v []byte) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(b, uint64(id<<3|wireBytes)), uint64(len(v))), v...)
}

func delimit(b, msg []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(msg))), msg...) }

func record(t Type, tx, order int64, body []byte) []byte {
	p := delimit(nil, fixed64(fixed64(fixed32(nil, 1, int32(t)), 2, tx), 3, order))
	p = delimit(delimit(p, body), nil)
	return append(binary.BigEndian.AppendUint32([]byte{opRecord}, uint32(len(p))), p...)
}

func putBody(body string, headers ...string) []byte {
	var e []byte
	for i := 0; i < len(headers); i += 2 {
		e = bytesField(e, 1, bytesField(bytesField(nil, 1, []byte(headers[i])), 2, []byte(headers[i+1])))
	}
	e = bytesField(e, 2, []byte(body))
	return fixed64(bytesField(nil, 1, e), 2, int64(crc32.ChecksumIEEE([]byte(body))))
}

func metaOf(id int32, position, order int64) []byte {
	return delimit(nil, fixed64(fixed64(fixed64(fixed64(fixed32(fixed32(nil, 1, 3), 2, id), 3, position), 4, order), 6, 0), 7, 0))
}

// flume writes the files of a channel.
type flume struct {
	t     *testing.T
	dir   string
	logs  map[int32][]byte
	order int64
}

func newFlume(t *testing.T) *flume { return &flume{t: t, dir: t.TempDir(), logs: map[int32][]byte{}} }

func (f *flume) add(file int32, t Type, tx int64, body []byte) Pointer {
	f.order++
	p := NewPointer(file, int32(len(f.logs[file])))
	f.logs[file] = append(f.logs[file], record(t, tx, f.order, body)...)
	return p
}

func (f *flume) put(file int32, tx int64, bodies ...string) (ps []Pointer) {
	for _, b := range bodies {
		ps = append(ps, f.add(file, Put, tx, putBody(b, "k", "v-"+b)))
	}
	return ps
}

func (f *flume) take(file int32, tx int64, ps ...Pointer) {
	for _, p := range ps {
		f.add(file, Take, tx, fixed32(fixed32(nil, 1, p.File()), 2, int32(p.Offset())))
	}
}

func (f *flume) commit(file int32, tx int64, of Type) {
	f.add(file, Commit, tx, fixed32(nil, 1, int32(of)))
}
func (f *flume) rollback(file int32, tx int64) { f.add(file, Rollback, tx, nil) }

func (f *flume) write(name string, b []byte) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		f.t.Fatal(err)
	}
}

// files writes the logs, odd ones to the first directory.
func (f *flume) files(position map[int32]int64, order int64) Dirs {
	for _, dir := range []string{"d1", "d2"} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	for id, b := range f.logs {
		name := fmt.Sprintf("d%d/log-%d", 2-id%2, id)
		f.write(name, append(bytes.Clone(b), bytes.Repeat([]byte{opEOF}, 5000)...))
		f.write(name+".meta", metaOf(id, position[id], order))
	}
	return Dirs{Checkpoint: filepath.Join(f.dir, "c"), Backup: filepath.Join(f.dir, "b"), Data: []string{filepath.Join(f.dir, "d1"), filepath.Join(f.dir, "d2")}}
}

func (f *flume) checkpoint(dir string, order int64, capacity, head int, queue []Pointer, puts, takes []inflight) {
	longs := make([]uint64, checkpointHeader+capacity)
	longs[indexVersion], longs[indexOrder] = 3, uint64(order)
	for i, p := range queue {
		longs[checkpointHeader+(head+i)%capacity] = uint64(p)
	}
	var b []byte
	for _, v := range longs {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	f.write(dir+"/checkpoint", b)
	f.write(dir+"/checkpoint.meta", delimit(nil, fixed32(fixed32(fixed64(fixed32(nil, 1, 3), 2, order), 3, int32(len(queue))), 4, int32(head))))
	for name, ts := range map[string][]inflight{"inflightputs": puts, "inflighttakes": takes} {
		var b []byte
		for _, t := range ts {
			b = binary.BigEndian.AppendUint64(b, uint64(t.transaction))
			b = binary.BigEndian.AppendUint64(b, uint64(len(t.events)))
			for _, p := range t.events {
				b = binary.BigEndian.AppendUint64(b, uint64(p))
			}
		}
		if len(b) > 0 {
			sum := md5.Sum(b)
			b = append(sum[:], b...)
		}
		f.write(dir+"/"+name, b)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func bodies(t *testing.T, d Dirs, keys Keys) (out []string, checkpoint bool, lost int64) {
	t.Helper()
	q, err := Replay(context.Background(), quiet(), d, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	lost, err = q.Each(context.Background(), quiet(), func(e event.Event) error {
		out = append(out, string(e.Body))
		if len(e.Headers) != 1 || e.Headers[0].Key != "k" || string(e.Headers[0].Value) != "v-"+string(e.Body) {
			t.Errorf("headers of %s: %q", e.Body, e.Headers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, q.Checkpoint, lost
}

func want(t *testing.T, d Dirs, checkpoint bool, events ...string) {
	t.Helper()
	got, by, _ := bodies(t, d, nil)
	if !slices.Equal(got, events) || by != checkpoint {
		t.Errorf("by checkpoint %v: %q, want %v: %q", by, got, checkpoint, events)
	}
}

func TestReplay(t *testing.T) {
	f := newFlume(t)
	a := f.put(1, 10, "a1", "a2", "a3")
	b := f.put(2, 11, "b1", "b2")
	f.commit(2, 11, Put) // before a, although begun later
	f.commit(1, 10, Put)
	f.put(1, 12, "c1")
	f.rollback(1, 12)
	f.take(1, 13, b[0], a[0])
	f.commit(1, 13, Take)
	f.take(2, 14, a[1])
	f.rollback(2, 14)
	f.take(2, 15, b[1]) // open at the end
	f.put(1, 16, "d1")  // never committed
	e := f.put(2, 17, "e1", "e2")
	// A take whose commit comes before that of the put in what is read.
	f.take(1, 18, e[0])
	f.commit(1, 18, Take)
	f.commit(2, 17, Put)
	d := f.files(nil, 0)
	want(t, d, false, "b2", "a2", "a3", "e2")

	// With checkpoints that are not whole all is read.
	f.checkpoint("c", 3, 50, 0, nil, nil, nil)
	f.write("c/inflighttakes", []byte("0123456789abcdef garbage"))
	want(t, d, false, "b2", "a2", "a3", "e2")
}

func TestReplayFromCheckpoint(t *testing.T) {
	f := newFlume(t)
	a := f.put(1, 10, "a1", "a2", "a3", "a4")
	f.commit(1, 10, Put)
	f.take(1, 11, a[0]) // committed after the checkpoint
	f.take(1, 12, a[1]) // never committed
	b := f.put(2, 13, "b1", "b2")
	f.order++
	cp := f.order
	pos := map[int32]int64{1: int64(len(f.logs[1])), 2: int64(len(f.logs[2]))}
	f.commit(1, 11, Take)
	f.commit(2, 13, Put)
	c := f.put(1, 14, "c1", "c2")
	f.commit(1, 14, Put)
	f.take(2, 15, a[2], c[0])
	f.commit(2, 15, Take)
	f.checkpoint("c", cp, 5, 3, a[2:], []inflight{{13, b}}, []inflight{{11, a[:1]}, {12, a[1:2]}})
	d := f.files(pos, cp)
	want(t, d, true, "a2", "a4", "b1", "b2", "c2")

	// One that was being written is not used; the backup is.
	raw, err := os.ReadFile(filepath.Join(f.dir, "c", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	f.checkpoint("b", cp, 5, 0, a[2:], []inflight{{13, b}}, []inflight{{11, a[:1]}, {12, a[1:2]}})
	raw[8*indexMarker+7] = 1
	f.write("c/checkpoint", raw)
	want(t, d, false, "a2", "a4", "b1", "b2", "c2")
	f.write("b/backupComplete", nil)
	want(t, d, true, "a2", "a4", "b1", "b2", "c2")
}

func TestCorruptRecords(t *testing.T) {
	f := newFlume(t)
	p := f.put(1, 1, "one", "two", "three", "four")
	f.commit(1, 1, Put)
	i := bytes.Index(f.logs[1], []byte("two"))
	f.logs[1][i+5] ^= 1               // in what follows: its checksum or the body
	f.logs[1][p[2].Offset()] = opNoop // by the integrity tool
	d := f.files(nil, 0)
	got, _, lost := bodies(t, d, nil)
	if lost != 1 || !slices.Equal(got, []string{"one", "four"}) {
		t.Errorf("%d lost: %q", lost, got)
	}
	// A noop in a checkpoint's queue.
	f.checkpoint("c", f.order, 10, 0, p, nil, nil)
	got, by, lost := bodies(t, d, nil)
	if lost != 2 || !by || !slices.Equal(got, []string{"one", "four"}) {
		t.Errorf("%d lost: %q", lost, got)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *flume)
		want   string
	}{
		"no meta":    {func(f *flume) { os.Remove(filepath.Join(f.dir, "d1/log-1.meta")) }, "has no .meta"},
		"other meta": {func(f *flume) { f.write("d1/log-1.meta", metaOf(2, 0, 0)) }, "is of log file 2"},
		"version 2": {func(f *flume) {
			f.write("d1/log-1.meta", delimit(nil, fixed64(fixed64(fixed32(fixed32(nil, 1, 2), 2, 1), 3, 0), 4, 0)))
		}, "format 2"},
		"encrypted":     {func(f *flume) { f.write("d1/log-1.meta", encryptedMeta(1, "AESCTRNOPADDING", "key-1")) }, "no keys are given"},
		"same number":   {func(f *flume) { f.write("d2/log-1", nil); f.write("d2/log-1.meta", metaOf(1, 0, 0)) }, "have the same number"},
		"missing file":  {func(f *flume) { f.checkpoint("c", 99, 10, 0, []Pointer{NewPointer(7, 0)}, nil, nil) }, "lacks log-7"},
		"short meta":    {func(f *flume) { f.write("d1/log-1.meta", []byte{50, 1}) }, "malformed"},
		"without files": {func(f *flume) { os.RemoveAll(filepath.Join(f.dir, "d1")) }, "look for Flume's log files"},
	} {
		f := newFlume(t)
		f.put(1, 1, "one")
		f.commit(1, 1, Put)
		f.put(2, 2, "two")
		f.commit(2, 2, Put)
		d := f.files(nil, 0)
		c.change(f)
		q, err := Replay(context.Background(), quiet(), d, nil)
		if err == nil {
			_, err = q.Each(context.Background(), quiet(), func(event.Event) error { return nil })
			q.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A file that was just begun holds nothing; a meta that was being replaced is good.
	f := newFlume(t)
	f.put(1, 1, "one")
	f.commit(1, 1, Put)
	f.put(2, 2, "two")
	f.commit(2, 2, Put)
	d := f.files(nil, 0)
	f.write("d1/log-3", nil)
	f.write("d1/log-3.meta", nil)
	f.write("d2/log-4", nil)
	if err := os.Rename(filepath.Join(f.dir, "d1/log-1.meta"), filepath.Join(f.dir, "d1/log-1.meta.old")); err != nil {
		t.Fatal(err)
	}
	want(t, d, false, "one", "two")
}

func FuzzParseRecord(f *testing.F) {
	f.Add(record(Put, 1, 2, putBody("body", "k", "v", "k", "w"))[5:])
	f.Add(record(Take, 1, 2, fixed32(fixed32(nil, 1, 3), 2, 4))[5:])
	f.Add(record(Commit, 1, 2, fixed32(nil, 1, 2))[5:])
	f.Add(record(Rollback, 1, 2, nil)[5:])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, body, err := ParseRecord(b)
		if err != nil {
			return
		}
		if r.Type < Put || r.Type > Commit {
			t.Fatalf("%+v", r)
		}
		if e, err := ParseEvent(body, nil); err == nil && len(e.Body) > len(b) {
			t.Fatal("more than there is")
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	f.Add(metaOf(1, 2, 3))
	f.Add(encryptedMeta(1, "AESCTRNOPADDING", "key-1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMeta(b); err == nil && (m.ID < 0 || m.Position < 0) {
			t.Fatalf("%+v", m)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(delimit(nil, fixed32(fixed32(fixed64(fixed32(nil, 1, 3), 2, 9), 3, 1), 4, 0)), []byte{0, 0, 0, 9}, []byte{})
	f.Fuzz(func(t *testing.T, meta, queue, open []byte) {
		c := &checkpoint{}
		size, head, err := c.parseMeta(meta)
		if err == nil {
			longs := make([]byte, 8*checkpointHeader)
			longs[7] = 3
			binary.BigEndian.PutUint64(longs[8:], uint64(c.order))
			b := append(longs, queue...)
			q, err := readQueue(bytes.NewReader(b), int64(len(b)), c.order, size, head)
			if err == nil && len(q) != int(size) {
				t.Fatalf("%d of %d", len(q), size)
			}
		}
		sum := md5.Sum(open)
		if in, err := parseInflight(append(sum[:], open...)); err == nil && len(open) < 16*len(in) {
			t.Fatal("more than there is")
		}
	})
}

func FuzzScanner(f *testing.F) {
	two := append(record(Put, 1, 1, putBody("a")), record(Commit, 1, 2, fixed32(nil, 1, 1))...)
	f.Add(two)
	f.Add(append(two, bytes.Repeat([]byte{opEOF}, 9)...))
	f.Add(append([]byte{opNoop}, two[1:]...))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "log-1")
		if err := errors.Join(os.WriteFile(path, b, 0o644), os.WriteFile(path+".meta", metaOf(1, 0, 0), 0o644)); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := l.Scan(0)
		for last := int64(-1); ; {
			ok, err := s.Next()
			if err != nil && !errors.As(err, new(*CorruptError)) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if err == nil && s.Offset <= last {
				t.Fatal("no progress")
			}
			last = s.Offset
			if got, aerr := l.At(s.Offset, nil); err == nil && (aerr != nil || !bytes.Equal(got, s.Payload)) {
				t.Fatalf("At: %v", aerr)
			}
		}
	})
}
