package logtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// Config is a configuration with small segments, so that the suite crosses many.
func Config() log.TopicConfig {
	c := log.DefaultTopicConfig()
	c.SegmentBytes = 4096
	c.IndexInterval = 200
	return c
}

// Batch makes an uncompressed batch of n records with timestamps ts, ts+1, …; each value is size bytes.
func Batch(ts int64, n, size int) []byte {
	recs := make([]record.Record, n)
	for i := range recs {
		v := bytes.Repeat([]byte{byte('a' + i%26)}, size)
		copy(v, fmt.Sprintf("%d/%d", ts, i))
		recs[i] = record.Record{Timestamp: ts + int64(i), Value: v}
	}
	return record.Append(nil, record.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}, recs...)
}

// Bytes reads a result whole and releases it.
func Bytes(t testing.TB, r log.ReadResult) []byte {
	t.Helper()
	defer r.Release()
	var out []byte
	for _, s := range r.Sections {
		b := s.Bytes
		if s.File != nil {
			b = make([]byte, s.N)
			if _, err := s.File.ReadAt(b, s.Off); err != nil && err != io.EOF {
				t.Fatalf("read section: %v", err)
			}
		}
		out = append(out, b...)
	}
	if int64(len(out)) != r.Size {
		t.Fatalf("sections have %d bytes, Size says %d", len(out), r.Size)
	}
	return out
}

// Headers parses the batches of b and checks their CRCs.
func Headers(t testing.TB, b []byte) []record.Header {
	t.Helper()
	var out []record.Header
	for len(b) > 0 {
		h, err := record.Check(b)
		if err != nil {
			t.Fatalf("batch after %d others: %v", len(out), err)
		}
		out = append(out, h)
		b = b[h.Size():]
	}
	return out
}

// MustAppend appends and waits.
func MustAppend(t testing.TB, l log.Log, b []byte) log.Pending {
	t.Helper()
	p, err := l.Append(context.Background(), b, log.AppendOpts{AppendTime: time.Now().UnixMilli()})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	if err := p.Wait(context.Background()); err != nil {
		t.Fatalf("wait: %v", err)
	}
	return p
}

// FlipBit changes a bit of the byte at a position of a file.
func FlipBit(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// ReadAll reads from the start to the high watermark.
func ReadAll(t testing.TB, l log.Log) []byte {
	t.Helper()
	o := l.Offsets()
	var out []byte
	for off := o.Start; off < o.High; {
		r, err := l.Read(log.ReadReq{Offset: off, MaxBytes: 10000, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		if r.Next <= off {
			t.Fatalf("read at %d makes no progress", off)
		}
		off = r.Next
		out = append(out, Bytes(t, r)...)
	}
	return out
}
