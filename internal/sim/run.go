package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Options say where and how fast a run writes; they do not change a byte of
// it, only how far it gets.
type Options struct {
	Config
	// Dir is the working directory: the logs, the manifest and its side files
	// lie in it.
	Dir string
	// Spool receives each completed status file; empty leaves them in
	// Dir/SmartCar.
	Spool string
	// Speed is simulated seconds per second of the running clock; 0 is as
	// fast as possible and needs Until or For.
	Speed float64
	// For ends the running clock after so much real time; 0 does not.
	For time.Duration
	// Until ends the run when the simulated clock reaches it (time14); empty
	// does not.
	Until string
	// OnlyDays ends the run after the whole days.
	OnlyDays bool
	// Resume goes on where a killed run of the same Config left off.
	Resume bool
	// Hold, when set, is called after the headings were written and before
	// the clock runs.
	Hold func(ctx context.Context) error
	// Progress, when set, is called a few times a second while whole days are
	// written, with records done and all records of the days.
	Progress func(done, all int64)
	Log      *slog.Logger
}

// never is a simulated second whose milliseconds still fit.
const never = math.MaxInt64 / 1000

const (
	checkpointEvery = 500 * time.Millisecond
	// wakeEvery is the shortest sleep: what falls due within it goes out in
	// one write.
	wakeEvery = 5 * time.Millisecond
)

// runner is one run of the simulator.
type runner struct {
	Options
	until      int64 // simulated second, or never
	status     *statusGen
	driver     *driverGen
	sw, dw     *logWriter
	clock      int64 // simulated second reached
	resumed    *Manifest
	done       map[string]bool // status files completed before a resume
	rotated    int             // driving logs renamed so far
	onDisk     int             // driving logs renamed before a resume
	checkpoint time.Time
	behind     time.Time // of the last warning
}

// Run writes the logs until the end that the options give or until ctx ends,
// completes the day's file that is open, moves it, and writes the manifest. It
// returns nil when it got that far.
func Run(ctx context.Context, o Options) error {
	r, err := newRunner(o)
	if err != nil {
		return err
	}
	err = r.run(ctx)
	switch {
	case err != nil:
	case ctx.Err() != nil && r.catchingUp():
		err = errors.New("interrupted while passing over what is already written; resume again")
	default:
		err = r.finish()
	}
	for _, w := range []*logWriter{r.sw, r.dw} {
		if w != nil {
			err = errors.Join(err, w.close())
		}
	}
	return err
}

func newRunner(o Options) (*runner, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &runner{Options: o, until: never, done: map[string]bool{}}
	r.clock, _ = o.start() // validated
	if o.Until != "" {
		var err error
		if r.until, err = ParseStamp(o.Until); err != nil {
			return nil, fmt.Errorf("until: %w", err)
		}
		if r.until <= o.clockStart() {
			return nil, fmt.Errorf("until is %s, which is not after the start of the clock, %s", o.Until, FormatStamp(o.clockStart()))
		}
	}
	if o.Speed < 0 || math.IsNaN(o.Speed) || math.IsInf(o.Speed, 0) {
		return nil, fmt.Errorf("speed is %v: give simulated seconds per second, or 0 for as fast as possible", o.Speed)
	}
	if o.Speed == 0 && o.For == 0 && o.Until == "" && !o.OnlyDays {
		return nil, errors.New("speed 0 writes as fast as possible and would fill the disk: give an end too")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make working directory: %w", err)
	}
	if o.Spool != "" {
		if err := os.MkdirAll(o.Spool, 0o755); err != nil {
			return nil, fmt.Errorf("make spool directory: %w", err)
		}
	}
	if err := r.openLogs(); err != nil {
		return nil, err
	}
	return r, nil
}

// ManifestPath is where the run writes its manifest.
func (o *Options) ManifestPath() string { return filepath.Join(o.Dir, ManifestName) }

func (r *runner) openLogs() error {
	if r.Resume {
		m, err := LoadManifest(r.ManifestPath())
		if err != nil {
			return fmt.Errorf("resume: %w", err)
		}
		if m.Config != r.Config {
			return fmt.Errorf("resume: %s is of a run with other settings; give the same ones", r.ManifestPath())
		}
		if m.Complete {
			return fmt.Errorf("resume: %s is of a run that ended in order; nothing is left to go on with", r.ManifestPath())
		}
		r.resumed = m
		if err := r.settleDays(); err != nil {
			return err
		}
	}
	var err error
	if r.Status {
		r.status = newStatusGen(r.Config)
		if r.sw, err = newLogWriter("status", r.Dir, StatusDir, r.Resume); err != nil {
			return err
		}
	}
	if !r.Driver {
		return nil
	}
	r.driver = newDriverGen(r.Config)
	if r.dw, err = newLogWriter("driver", r.Dir, DriverDir, r.Resume); err != nil {
		return err
	}
	if r.onDisk, err = rotations(r.dw.dir); err != nil {
		return err
	}
	if !r.Resume && r.onDisk > 0 {
		return fmt.Errorf("%s holds rotated logs of another run: remove them, or give another directory", r.dw.dir)
	}
	return r.openDriver()
}

// settleDays finishes the moves that a killed run had announced in its
// manifest: a complete day's file that is still here goes to the spool
// directory now.
func (r *runner) settleDays() error {
	if r.resumed.Status == nil {
		return nil
	}
	for _, f := range r.resumed.Status.Files {
		if !f.Complete {
			continue
		}
		r.done[f.Name] = true
		path := filepath.Join(r.Dir, StatusDir, f.Name)
		if _, err := os.Lstat(path); err == nil && r.Spool != "" {
			if err := moveInto(r.Spool, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) openDriver() error {
	if r.rotated < r.onDisk {
		r.dw.openDone(DriverLogName)
		return nil
	}
	return r.dw.open(DriverLogName, r.Resume)
}

func (r *runner) run(ctx context.Context) error {
	if r.dw != nil {
		r.driver.headings(&r.dw.block)
		if err := r.dw.flush(); err != nil {
			return err
		}
	}
	if err := r.save(false); err != nil {
		return err
	}
	if r.Hold != nil {
		if err := r.Hold(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for the word to start: %w", err)
		}
	}
	if err := r.wholeDays(ctx); err != nil || r.OnlyDays || ctx.Err() != nil {
		return err
	}
	return r.runClock(ctx)
}

// wholeDays writes the status files of whole days as fast as they can be made.
func (r *runner) wholeDays(ctx context.Context) error {
	if r.Days == 0 {
		return nil
	}
	all := int64(r.Days) * StatusTicksPerDay
	var shown time.Time
	for tick := int64(0); tick < all && ctx.Err() == nil; tick++ {
		if err := r.statusTick(); err != nil {
			return err
		}
		if tick%64 != 0 {
			continue
		}
		now := time.Now()
		if r.Progress != nil && now.Sub(shown) > 100*time.Millisecond {
			shown = now
			r.Progress(tick*int64(r.Cars), all*int64(r.Cars))
		}
		if err := r.saveAt(now); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := r.closeDay(); err != nil {
		return err
	}
	if r.Progress != nil {
		r.Progress(all*int64(r.Cars), all*int64(r.Cars))
	}
	return nil
}

// statusTick writes one tick, after opening the day's file and completing the
// one before it where the day has changed.
func (r *runner) statusTick() error {
	if r.status.fresh {
		if err := r.closeDay(); err != nil {
			return err
		}
		name := StatusFileName(r.status.at)
		if r.done[name] {
			r.sw.openDone(name)
		} else if err := r.sw.open(name, r.Resume); err != nil {
			return err
		}
	}
	r.clock = max(r.clock, r.status.at)
	r.status.tick(&r.sw.block)
	if len(r.sw.block.buf) >= flushBytes {
		return r.sw.flush()
	}
	return nil
}

// closeDay completes the open status file and moves it into the spool
// directory. The manifest calls the file complete before it is moved, so that
// a resume knows of the move whatever instant a kill hits.
func (r *runner) closeDay() error {
	if r.sw == nil || len(r.sw.log.Files) == 0 || r.sw.file().Complete {
		return nil
	}
	moved := r.sw.discard
	if err := r.sw.finish(); err != nil {
		return err
	}
	if err := r.save(false); err != nil {
		return err
	}
	if r.Spool == "" || moved {
		return nil
	}
	return moveInto(r.Spool, filepath.Join(r.sw.dir, r.sw.file().Name))
}

// driverUnit writes one unit, after renaming the log where it would outgrow
// its limit.
func (r *runner) driverUnit() error {
	b := &r.dw.block
	burst := r.driver.burst()
	if burst {
		// All drivers at once in one write of their own.
		if err := r.dw.flush(); err != nil {
			return err
		}
	}
	mark, hashes, garbage, sorts := len(b.buf), len(b.records), len(b.garbage), b.sorts
	r.clock = max(r.clock, r.driver.due()/1000)
	r.driver.unit(b)
	if size := r.dw.file().Bytes + int64(mark); r.RotateBytes > 0 && size > 0 && size+int64(len(b.buf)-mark) > r.RotateBytes {
		// The unit belongs to the next file: set it aside, rename, put it back.
		unit := block{
			buf:     append([]byte(nil), b.buf[mark:]...),
			records: append([]uint64(nil), b.records[hashes:]...),
			garbage: append([]uint64(nil), b.garbage[garbage:]...),
		}
		for s := range unit.sorts {
			unit.sorts[s] = b.sorts[s] - sorts[s]
		}
		b.buf, b.records, b.garbage, b.sorts = b.buf[:mark], b.records[:hashes], b.garbage[:garbage], sorts
		if err := r.rotate(); err != nil {
			return err
		}
		*b = unit
	}
	if burst || len(b.buf) >= flushBytes {
		return r.dw.flush()
	}
	return nil
}

// rotate renames the driving log to the next number and begins a new one.
func (r *runner) rotate() error {
	done := r.dw.discard
	if err := r.dw.finish(); err != nil {
		return err
	}
	r.rotated++
	name := fmt.Sprintf("%s.%d", DriverLogName, r.rotated)
	r.dw.file().Name = name
	if !done {
		if err := os.Rename(filepath.Join(r.dw.dir, DriverLogName), filepath.Join(r.dw.dir, name)); err != nil {
			return fmt.Errorf("rotate driving log: %w", err)
		}
	}
	return r.openDriver()
}

// next is the simulated instant of the next thing to write, in milliseconds,
// and the function that writes it.
func (r *runner) next() (int64, func() error) {
	if r.driver == nil {
		return r.status.at * 1000, r.statusTick
	}
	due := r.driver.due()
	if r.status != nil && r.status.at*1000 <= due {
		return r.status.at * 1000, r.statusTick
	}
	return due, r.driverUnit
}

// runClock writes what falls due while the simulated clock runs.
func (r *runner) runClock(ctx context.Context) error {
	base := r.clockStart() * 1000
	if r.Resume {
		// Pass over what the killed run wrote; the clock goes on from there.
		for {
			due, emit := r.next()
			if due >= r.until*1000 || !r.catchingUp() {
				break
			}
			base = max(base, due)
			if err := emit(); err != nil {
				return err
			}
			// Flush often: only a flush tells how much is still to be passed over.
			if err := r.flush(); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
	}
	began := time.Now()
	for ctx.Err() == nil {
		elapsed := time.Since(began)
		now := int64(math.MaxInt64)
		if r.Speed > 0 {
			now = base + int64(float64(elapsed)/float64(time.Millisecond)*r.Speed)
		}
		behind, err := r.emitUntil(min(now, r.until*1000))
		if err != nil {
			return err
		}
		if now < math.MaxInt64 {
			r.clock = max(r.clock, min(now/1000, r.until))
		}
		if err := r.flush(); err != nil {
			return err
		}
		if err := r.saveAt(time.Now()); err != nil {
			return err
		}
		due, _ := r.next()
		if due >= r.until*1000 && now >= r.until*1000 {
			r.clock = r.until
			return nil
		}
		if r.For > 0 && elapsed >= r.For {
			return nil
		}
		if behind {
			r.warnBehind(now, due)
			continue
		}
		wait := wakeEvery
		if r.Speed > 0 {
			wait = max(wait, time.Duration(float64(min(due, r.until*1000)-now)/r.Speed*float64(time.Millisecond)))
		}
		// The clock in the manifest is watched: it moves even where nothing falls due.
		wait = min(wait, checkpointEvery)
		if r.For > 0 {
			wait = min(wait, r.For-elapsed)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// emitUntil writes what falls due before the simulated millisecond now, at
// most about a flush's worth of units, and says whether more is due.
func (r *runner) emitUntil(now int64) (more bool, err error) {
	for range 10_000 {
		due, emit := r.next()
		if due >= now {
			return false, nil
		}
		if err := emit(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *runner) warnBehind(now, due int64) {
	if r.Speed == 0 || float64(now-due) < 2000*r.Speed || time.Since(r.behind) < 10*time.Second {
		return
	}
	r.behind = time.Now()
	r.Log.Warn("the simulator cannot hold the speed asked for; its clock runs late", "simulated_seconds_late", (now-due)/1000, "speed", r.Speed)
}

// catchingUp says whether a resumed run is still passing over what the killed
// one wrote.
func (r *runner) catchingUp() bool {
	return r.resumed != nil && (r.sw.catchingUp(r.resumed.Status) || r.dw.catchingUp(r.resumed.Driver))
}

func (r *runner) flush() error {
	for _, w := range []*logWriter{r.sw, r.dw} {
		if w != nil {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish completes the logs and the manifest.
func (r *runner) finish() error {
	if err := r.closeDay(); err != nil {
		return err
	}
	if r.dw != nil {
		if err := r.dw.flush(); err != nil {
			return err
		}
	}
	return r.save(true)
}

func (r *runner) saveAt(now time.Time) error {
	if now.Sub(r.checkpoint) < checkpointEvery {
		return nil
	}
	return r.save(false)
}

// save replaces the manifest.
func (r *runner) save(complete bool) error {
	r.checkpoint = time.Now()
	m := &Manifest{Format: ManifestFormat, Complete: complete, Config: r.Config, Updated: r.checkpoint.UTC(), Clock: FormatStamp(r.clock)}
	if r.sw != nil {
		m.Status = r.sw.snapshot()
	}
	if r.dw != nil {
		m.Driver = r.dw.snapshot()
	}
	if old := r.resumed; old != nil {
		// While catching up the account must not fall back behind the killed
		// run's: a second kill would then resume from too little.
		if r.sw.catchingUp(old.Status) {
			m.Status = old.Status
		}
		if r.dw.catchingUp(old.Driver) {
			m.Driver = old.Driver
		}
	}
	return m.store(r.ManifestPath())
}
