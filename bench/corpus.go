package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/internal/sim"
)

// corpus is an input file and what a correct flow makes of it.
type corpus struct {
	Path  string
	Lines int64 // events read
	Kept  int64 // events that pass the workload's filter
	Rows  int64 // lines that are no heading, of the pilot's logs
	Bytes int64
	Times int // how often the file is handed over; the counts are of all
}

// times is the corpus n times over.
func (c corpus) times(n int) corpus {
	return corpus{Path: c.Path, Lines: c.Lines * int64(n), Kept: c.Kept * int64(n), Rows: c.Rows, Bytes: c.Bytes * int64(n), Times: n}
}

// corpusFunc makes a corpus of about n lines in dir.
type corpusFunc func(ctx context.Context, dir string, n int64) (corpus, error)

// lineFunc appends line i (without newline) to dst and says whether the
// workload's filter keeps it.
type lineFunc func(r *rand.Rand, i int64, dst []byte) ([]byte, bool)

// makeCorpus writes n lines and then reads the file once, so that every run
// finds it in the page cache.
func makeCorpus(dir, name string, n int64, line lineFunc) (c corpus, err error) {
	c = corpus{Path: filepath.Join(dir, name), Lines: n}
	f, err := os.Create(c.Path)
	if err != nil {
		return c, fmt.Errorf("make corpus %s: %w", name, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("make corpus %s: %w", name, cerr)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.New(rand.NewPCG(20160101, uint64(len(name))))
	buf := make([]byte, 0, 512)
	for i := range n {
		var keep bool
		if buf, keep = line(r, i, buf[:0]); keep {
			c.Kept++
		}
		buf = append(buf, '\n')
		c.Bytes += int64(len(buf))
		if _, err = w.Write(buf); err != nil {
			return c, fmt.Errorf("make corpus %s: %w", name, err)
		}
	}
	if err = w.Flush(); err != nil {
		return c, fmt.Errorf("make corpus %s: %w", name, err)
	}
	return c, touch(c.Path)
}

func touch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("touch corpus: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		return fmt.Errorf("touch corpus: %w", err)
	}
	return nil
}

// lines makes a corpus of n lines from a generator.
func lines(f lineFunc) corpusFunc {
	return func(_ context.Context, dir string, n int64) (corpus, error) {
		return makeCorpus(dir, "corpus.txt", n, f)
	}
}

// statusDay is the simulator's status file of a whole day; n sets the number of
// cars, 100 for the pilot's 2,880,100 lines.
func statusDay(ctx context.Context, dir string, n int64) (corpus, error) {
	const perCar = sim.StatusTicksPerDay + 1 // and a heading
	cars := max(1, int(n/perCar))
	return simulate(ctx, dir, sim.StatusKind, sim.Options{
		Config: sim.Config{Start: simStart, Days: 1, Cars: cars, Seed: 1, Status: true}, OnlyDays: true,
	})
}

// driverLog is the simulator's driving log of 100 drivers.
func driverLog(ctx context.Context, dir string, n int64) (corpus, error) {
	const cars = 100
	start, err := sim.ParseStamp(simStart)
	if err != nil {
		return corpus{}, fmt.Errorf("make corpus: %w", err)
	}
	return simulate(ctx, dir, sim.DriverKind, sim.Options{
		Config: sim.Config{Start: simStart, Cars: cars, Seed: 1, Driver: true}, Until: sim.FormatStamp(start + n/cars*sim.DriverStep),
	})
}

const simStart = "20160101"

func simulate(ctx context.Context, dir string, kind sim.Kind, o sim.Options) (corpus, error) {
	o.Dir, o.Log = dir, slog.New(slog.DiscardHandler)
	if err := sim.Run(ctx, o); err != nil {
		return corpus{}, fmt.Errorf("make corpus: %w", err)
	}
	m, err := sim.LoadManifest(o.ManifestPath())
	if err != nil {
		return corpus{}, fmt.Errorf("make corpus: %w", err)
	}
	l := m.Of(kind)
	if len(l.Files) != 1 {
		return corpus{}, fmt.Errorf("make corpus: the simulator wrote %d files of %s, not one", len(l.Files), kind)
	}
	name := filepath.Join(sim.StatusDir, l.Files[0].Name)
	if kind == sim.DriverKind {
		name = filepath.Join(sim.DriverDir, l.Files[0].Name)
	}
	c := corpus{Path: filepath.Join(dir, name), Lines: l.Lines, Kept: l.Records, Rows: l.Records, Bytes: l.Bytes}
	return c, touch(c.Path)
}

var start2018 = time.Date(2018, 3, 1, 0, 0, 0, 0, time.UTC)

// jsonLine is a tracking event; one in ten lacks the field that the filter wants.
func jsonLine(r *rand.Rand, i int64, dst []byte) ([]byte, bool) {
	dst = append(dst, `{"ts":`...)
	dst = strconv.AppendInt(dst, 1546300800000+i*37, 10)
	dst = append(dst, `,"userId":"u`...)
	dst = strconv.AppendInt(dst, int64(r.IntN(1_000_000)), 10)
	dst = append(dst, `","page":"/shop/item/`...)
	dst = strconv.AppendInt(dst, int64(r.IntN(10_000)), 10)
	dst = append(dst, '"')
	keep := i%10 != 7
	if keep {
		dst = append(dst, `,"biType":"`...)
		dst = append(dst, [...]string{"click", "view", "pay", "search"}[r.IntN(4)]...)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"os":"android","appVer":"4.12.0","net":"wifi"}`...)
	return dst, keep
}

// accessLine is an HTTP server's log line.
func accessLine(r *rand.Rand, i int64, dst []byte) ([]byte, bool) {
	for n := range 4 {
		if n > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendInt(dst, int64(1+r.IntN(250)), 10)
	}
	dst = append(dst, " - - ["...)
	dst = start2018.Add(time.Duration(i)*20*time.Millisecond).AppendFormat(dst, "02/Jan/2006:15:04:05 -0700")
	dst = append(dst, `] "`...)
	dst = append(dst, [...]string{"GET", "GET", "GET", "POST", "HEAD"}[r.IntN(5)]...)
	dst = append(dst, ` /Store/`...)
	dst = append(dst, [...]string{"catalog", "search", "basket", "recommendation", "rating"}[r.IntN(5)]...)
	dst = append(dst, ` HTTP/1.1" `...)
	dst = append(dst, [...]string{"200", "200", "200", "304", "404"}[r.IntN(5)]...)
	return strconv.AppendInt(append(dst, ' '), int64(r.IntN(90_000)), 10), true
}

// purchaseLine carries a date and time in its third column.
func purchaseLine(r *rand.Rand, i int64, dst []byte) ([]byte, bool) {
	dst = append(dst, "product"...)
	dst = strconv.AppendInt(dst, int64(r.IntN(5000)), 10)
	dst = strconv.AppendFloat(append(dst, ','), float64(100+r.IntN(90_000))/100, 'f', 2, 64)
	dst = start2018.Add(time.Duration(i)*250*time.Millisecond).AppendFormat(append(dst, ','), time.DateTime)
	dst = append(dst, ",category"...)
	dst = strconv.AppendInt(dst, int64(r.IntN(40)), 10)
	dst = append(dst, ',')
	for n := range 4 {
		if n > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendInt(dst, int64(1+r.IntN(250)), 10)
	}
	return dst, true
}

// serverLine is a server's log; every second line carries the word that the filter wants.
func serverLine(r *rand.Rand, i int64, dst []byte) ([]byte, bool) {
	dst = start2018.Add(time.Duration(i)*7*time.Millisecond).AppendFormat(dst, "2006-01-02 15:04:05.000")
	dst = append(dst, " INFO  [worker-"...)
	dst = strconv.AppendInt(dst, int64(r.IntN(16)), 10)
	dst = append(dst, "] task="...)
	dst = strconv.AppendInt(dst, i, 10)
	keep := i%2 == 0
	if keep {
		dst = append(dst, " state=REPORT "...)
	} else {
		dst = append(dst, " state=WAITING "...)
	}
	dst = append(dst, "device=nexus-"...)
	dst = strconv.AppendInt(dst, int64(r.IntN(900)), 10)
	return append(dst, " battery=ok duration=17ms"...), keep
}

// hopLine is 48 bytes: a time, a car and what its sensors say.
func hopLine(r *rand.Rand, i int64, dst []byte) ([]byte, bool) {
	dst = start2018.Add(time.Duration(i)*time.Millisecond).AppendFormat(dst, "20060102150405.000")
	dst = append(dst, ",A"...)
	dst = strconv.AppendInt(dst, 1000+int64(r.IntN(100)), 10)
	for range 7 {
		dst = append(dst, ',')
		dst = strconv.AppendInt(dst, 10+int64(r.IntN(90)), 10)
	}
	dst = append(dst, ",AB"...)
	return dst, true
}
