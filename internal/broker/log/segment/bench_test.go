package segment

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// slowSync calls before ahead of each file sync.
type slowSync struct {
	*memfs.FS
	before func()
}

func (s *slowSync) Open(name string, flag int) (vfs.File, error) {
	f, err := s.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s.before}, nil
}

type slowFile struct {
	vfs.File
	before func()
}

func (f *slowFile) Sync() error {
	f.before()
	return f.File.Sync()
}

func benchLog(b testing.TB) *Log {
	c := log.DefaultTopicConfig()
	return store{vfs.OS{}, filepath.Join(b.TempDir(), "t-0")}.Open(b, c).(*Log)
}

func BenchmarkAppend(b *testing.B) {
	l := benchLog(b)
	batch := logtest.Batch(1_700_000_000_000, 1000, 100)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Append(context.Background(), batch, log.AppendOpts{}); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 { // keep the disk small
			if err := l.DeleteTo(context.Background(), l.Offsets().End); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, c := range []struct {
		name string
		max  int
	}{{"16KiB_copied", 16 << 10}, {"1MiB_file", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			l := benchLog(b)
			for range 2000 {
				if _, err := l.Append(context.Background(), logtest.Batch(1_700_000_000_000, 10, 500), log.AppendOpts{}); err != nil {
					b.Fatal(err)
				}
			}
			end := l.Offsets().End
			b.ReportAllocs()
			off, size := int64(0), int64(0)
			for b.Loop() {
				r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: c.max, MinOne: true})
				if err != nil {
					b.Fatal(err)
				}
				size = r.Size
				if off = r.Next; off >= end {
					off = 0
				}
				r.Release()
			}
			b.SetBytes(size)
			b.StopTimer()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func TestAppendAllocations(t *testing.T) {
	l := benchLog(t)
	batch := logtest.Batch(1_700_000_000_000, 1000, 100)
	n := testing.AllocsPerRun(200, func() {
		if _, err := l.Append(context.Background(), batch, log.AppendOpts{}); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("an append allocates %v objects: want at most 1 (the index's growth)", n)
	}
	n = testing.AllocsPerRun(200, func() {
		r, err := l.Read(log.ReadReq{Offset: 5000, MaxBytes: 20_000, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Sections {
			if s.File == nil && len(s.Bytes) == 0 {
				t.Fatal(io.ErrUnexpectedEOF)
			}
		}
		r.Release()
	})
	if n > 3 {
		t.Errorf("a read allocates %v objects: want at most 3", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
