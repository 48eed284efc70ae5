package hbase

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/hbase/hbasetest"
)

// scanned are the rows of a scan as ROW=VALUE, and what it ended with.
func scanned(ctx context.Context, cl *Client, s Scan, also func(n int)) (found []string, err error) {
	err = cl.Scan(ctx, "t", s, func(cells []Cell) error {
		var b strings.Builder
		fmt.Fprintf(&b, "%s", cells[0].Row)
		for _, c := range cells {
			fmt.Fprintf(&b, " %s:%s=%s", c.Family, c.Qualifier, c.Value)
		}
		found = append(found, b.String())
		if also != nil {
			also(len(found))
		}
		return nil
	})
	return found, err
}

// A scan sees every row once and in order, whatever happens to the table meanwhile.
func TestScan(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.ScanRows = 3
	c.CreateTable("t", []string{"f", "g"}, "2", "4")
	cl := connect(t, c)
	b := new(Batch)
	var want, wantF []string
	for i := range 60 {
		row := fmt.Sprintf("%02d", i*7%60)
		addPut(t, b, row, "f", "v"+row)
		if err := b.Add([]byte("g"), []byte("w"), []byte(row)); err != nil {
			t.Fatal(err)
		}
		want, wantF = append(want, row+" f:q=v"+row+" g:w="+row), append(wantF, row+" f:q=v"+row)
	}
	slices.Sort(want)
	slices.Sort(wantF)
	do(t, cl, b)
	if got, err := scanned(t.Context(), cl, Scan{}, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %q", err, got)
	}
	if got, err := scanned(t.Context(), cl, Scan{Family: []byte("f"), Limit: 25}, nil); err != nil || !slices.Equal(got, wantF[:25]) {
		t.Errorf("25 rows of one family: %v, %q", err, got)
	}
	got, err := scanned(t.Context(), cl, Scan{Family: []byte("f")}, func(n int) {
		switch n {
		case 4:
			c.Move("t", "0", 1)
		case 10:
			c.Split("t", "15")
		case 20:
			c.StopServer(1)
			c.StartServer(1)
		case 40:
			c.Disable("t", true)
			time.AfterFunc(20*time.Millisecond, func() { c.Disable("t", false) })
		}
	})
	if err != nil || !slices.Equal(got, wantF) {
		t.Errorf("through all that happened: %v, %q", err, got)
	}
}

func TestScanEnds(t *testing.T) {
	c := hbasetest.New(t, 1)
	cl := connect(t, c, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	if _, err := scanned(t.Context(), cl, Scan{}, nil); !errors.Is(err, ErrNoTable) {
		t.Errorf("without a table: %v", err)
	}
	c.CreateTable("t", []string{"f"})
	if got, err := scanned(t.Context(), cl, Scan{}, nil); err != nil || got != nil {
		t.Errorf("an empty table: %v, %q", err, got)
	}
	if _, err := scanned(t.Context(), cl, Scan{Family: []byte("x")}, nil); !Is(err, "NoSuchColumnFamilyException") {
		t.Errorf("without the family: %v", err)
	}
	do(t, cl, rows(t, "a=1", "b=2"))
	stop := errors.New("enough")
	if err := cl.Scan(t.Context(), "t", Scan{}, func([]Cell) error { return stop }); err != stop {
		t.Errorf("the caller's error: %v", err)
	}
	c.Disable("t", true)
	if _, err := scanned(t.Context(), cl, Scan{}, nil); err == nil || !strings.Contains(err.Error(), "tried for 50ms") {
		t.Errorf("a disabled table: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := scanned(ctx, cl, Scan{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A server that sends a row again would have a scan go round and round.
func TestScanRefusesRowsBehindIt(t *testing.T) {
	if _, _, err := cutRow([]Cell{{Row: []byte("a")}}, []byte("a\x00")); err == nil {
		t.Error("taken")
	}
}
