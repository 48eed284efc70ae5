package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sluice-data/sluice/internal/ledger"
)

// running waits for the end of the run: the simulators' own, the signal, a
// child that cannot be kept up, or a full directory.
func (p *pilot) running(ctx context.Context) error {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	began, sized := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			p.con.say("Stopping: the simulator first, then the rest once it is drained.")
			return p.stopSimulators()
		case <-t.C:
		}
		for _, c := range p.pipe.children() {
			if err := c.failure(); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(p.pipe.simulators(), (*child).running) {
			return nil
		}
		p.pipe.tick(time.Since(began))
		if p.MaxData > 0 && time.Since(sized) > sizeCheckEvery {
			sized = time.Now()
			if n := dirSize(p.Dir); n > p.MaxData {
				p.tell("the run's data have grown to %d MB: stopping in order before the disk is full", n>>20)
				return p.stopSimulators()
			}
		}
	}
}

func (p *pilot) stopSimulators() error {
	var errs []error
	for _, c := range p.pipe.simulators() {
		errs = append(errs, c.stop(c.grace))
	}
	return errors.Join(errs...)
}

// dirSize adds up what a directory holds. Files that vanish meanwhile do not
// count.
func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// restarts counts how often the processes between the simulators and the ends
// were started again.
func restarts(p pipeline) (n int) {
	for _, c := range p.children() {
		if !c.finite {
			n += c.process().Restarts
		}
	}
	return n
}

// ledger runs the ledger as a process of its own and reads its result back.
func (p *pilot) ledger(ctx context.Context, restarted bool, flags ...string) error {
	path := filepath.Join(p.Dir, "ledger.json")
	args := append([]string{"ledger", "--dir", p.Dir, "--json", path}, flags...)
	if restarted {
		args = append(args, "--allow-duplicates")
	}
	p.con.endLine()
	// See child.keep: the death signal belongs to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.Exe, args...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stdout
	cmd.SysProcAttr = ChildAttr()
	err := cmd.Run()
	if data, rerr := os.ReadFile(path); rerr == nil {
		res := &ledger.Result{}
		if jerr := json.Unmarshal(data, res); jerr != nil {
			return fmt.Errorf("read the ledger's result: %w", jerr)
		}
		p.mu.Lock()
		p.result = res
		p.mu.Unlock()
		if err != nil && !res.Balanced {
			return ErrUnbalanced
		}
	}
	if err != nil {
		return fmt.Errorf("draw up the ledger: %w", err)
	}
	return nil
}

// stopAll stops what still runs.
func (p *pilot) stopAll() {
	for _, c := range p.pipe.children() {
		if err := c.stop(c.grace); err != nil && c.failure() == nil {
			p.con.say("%v", err)
		}
	}
}
