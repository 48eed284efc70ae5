package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/sim"
)

type simCmd struct {
	Dir         string        `help:"Working directory: SmartCar/, driver-realtime-log/ and the manifest are written in it." default:"." type:"path"`
	Spool       string        `help:"Move each completed status file into this directory (rename)." placeholder:"DIR" type:"path"`
	Start       string        `help:"Simulated date, or date and time, at which the clock starts: yyyyMMdd[HHmmss]." default:"20160101"`
	Days        int           `help:"Write N whole days of the status log first, as fast as possible. Alone, the run ends after them." placeholder:"N"`
	Speed       *float64      `help:"Simulated seconds per second of the running clock; 0 is as fast as possible (needs --until or --for). Default: 1, real time." placeholder:"N"`
	For         time.Duration `help:"End the running clock after so much real time." placeholder:"60s"`
	Until       string        `help:"End the run when the simulated clock gets there: yyyyMMdd[HHmmss]." placeholder:"TIME"`
	Cars        int           `help:"Number of cars, and of drivers (1 to 9999)." default:"100"`
	Seed        uint64        `help:"The same seed and flags give the same bytes." default:"1"`
	Garbage     float64       `help:"Share of garbage lines beside the headings (0 to 0.9)." default:"0"`
	RecordBytes int           `help:"Pad a driving record to this many bytes by a ninth field (up to 4096)." placeholder:"N"`
	RotateBytes int64         `help:"Rename the driving log before it grows beyond this many bytes." placeholder:"N"`
	BurstEvery  time.Duration `help:"Simulated time between bursts: all drivers at once, in one write (a multiple of 2s; 0 for none)." default:"60s"`
	Status      bool          `help:"Write the status log." default:"true" negatable:""`
	Driver      bool          `help:"Write the driving log." default:"true" negatable:""`
	Resume      bool          `help:"Go on where a killed run with the same flags in the same directory left off."`
	Hold        bool          `help:"Write the headings, then wait for a line on standard input before the clock starts."`
}

// Help is the command's long help.
func (simCmd) Help() string {
	return `Writes the two logs of the smart-car pilot: the status of every car each 3 s
into one file a day, and the driving records of every driver each 2 s, as they
happen, into one log. manifest.json in the working directory accounts for every
line (see docs/pilot.md); "sluice ledger" compares it with what arrived.

  sluice sim --days 1                   one whole day of status, in about a second
  sluice sim --speed 60 --for 60s       an hour of both logs in a minute
  sluice sim --spool car-batch-log      real time; a day's file moves at midnight`
}

// Run writes until the end that the flags give, or until a signal.
func (c *simCmd) Run(env *Env) error {
	o := sim.Options{
		Config: sim.Config{
			Start: c.Start, Days: c.Days, Cars: c.Cars, Seed: c.Seed, Garbage: c.Garbage, RecordBytes: c.RecordBytes,
			RotateBytes: c.RotateBytes, BurstEvery: int(c.BurstEvery / time.Second), Status: c.Status, Driver: c.Driver,
		},
		Dir: c.Dir, Spool: c.Spool, For: c.For, Until: c.Until, Resume: c.Resume,
		Log: slog.New(slog.NewTextHandler(env.Stderr, nil)),
	}
	if c.BurstEvery%time.Second != 0 {
		return usageError(fmt.Errorf("--burst-every is %v: give whole seconds", c.BurstEvery))
	}
	switch {
	case c.Speed == nil:
		// No speed given: whole days alone end the run, as nothing asks for a clock.
		o.Speed, o.OnlyDays = 1, c.Days > 0 && c.For == 0 && c.Until == ""
	case *c.Speed < 0:
		return usageError(fmt.Errorf("--speed is %v: give simulated seconds per second, or 0", *c.Speed))
	default:
		o.Speed = *c.Speed
	}
	if o.OnlyDays {
		// Driving records happen on the running clock only.
		o.Driver = false
	}
	if err := o.Validate(); err != nil {
		return usageError(err)
	}
	if c.Days > 0 {
		bar := newBar(env.Stderr, "status records")
		o.Progress = bar.show
		defer bar.done()
	}
	if c.Hold {
		o.Hold = func(ctx context.Context) error { return awaitLine(ctx, env.Stdin) }
	}
	if err := sim.Run(env.Ctx, o); err != nil {
		return err
	}
	m, err := sim.LoadManifest(o.ManifestPath())
	if err != nil {
		return err
	}
	for _, l := range []struct {
		what string
		log  *sim.Log
	}{{"status", m.Status}, {"driver", m.Driver}} {
		if l.log != nil {
			fmt.Fprintf(env.Stdout, "%s: %d records and %d garbage lines, %d bytes, %d files\n", l.what, l.log.Records, l.log.GarbageLines(), l.log.Bytes, len(l.log.Files))
		}
	}
	fmt.Fprintf(env.Stdout, "simulated clock: %s, manifest: %s\n", m.Clock, o.ManifestPath())
	return nil
}

// awaitLine returns at the first line of in, or when ctx ends. The reading
// goroutine cannot be interrupted; it ends with the line, or the process.
func awaitLine(ctx context.Context, in io.Reader) error {
	got := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(in).ReadString('\n')
		if err == io.EOF {
			err = fmt.Errorf("standard input ended without a line: %w", io.ErrUnexpectedEOF)
		}
		got <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-got:
		return err
	}
}

// bar draws progress: a bar on a terminal, a line every few seconds elsewhere.
type bar struct {
	w     io.Writer
	what  string
	tty   bool
	began time.Time
	last  time.Time
	drawn bool
}

func newBar(w io.Writer, what string) *bar {
	now := time.Now()
	return &bar{w: w, what: what, tty: isTerminal(w), began: now, last: now}
}

func (b *bar) show(done, all int64) {
	now := time.Now()
	if !b.tty && now.Sub(b.last) < 5*time.Second && done < all {
		return
	}
	b.last = now
	rate := float64(done) / max(now.Sub(b.began).Seconds(), 0.001) / 1e6
	share := float64(done) / float64(max(all, 1))
	if !b.tty {
		fmt.Fprintf(b.w, "%3.0f %%  %d of %d %s, %.1f M/s\n", 100*share, done, all, b.what, rate)
		return
	}
	const width = 30
	full := int(share * width)
	fmt.Fprintf(b.w, "\r%s%s %3.0f %%  %d of %d %s, %.1f M/s ", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*share, done, all, b.what, rate)
	b.drawn = true
}

func (b *bar) done() {
	if b.drawn {
		fmt.Fprintln(b.w)
	}
}

// isTerminal says whether w is a character device, which decides only how
// progress is drawn.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
