package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file/flumelog"
	"github.com/sluice-data/sluice/internal/seglog"
)

const importedFile = "sluice-imported.json"

// imported is importedFile.
type imported struct {
	Time   time.Time      `json:"time"`
	Events int64          `json:"events"`
	Lost   int64          `json:"unreadable"`
	Files  []importedPart `json:"files"`
}

// importedPart is a file of Flume as it was.
type importedPart struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// Bounds of an imported frame.
const (
	importEvents = 1000
	importBytes  = 1 << 20
)

// importFlume takes over the events of a Flume channel that was stopped on these directories. Its files are only read.
func (rec *recovery) importFlume(ctx context.Context) (bool, error) {
	w, cfg := rec.w, &rec.c.cfg
	paths, err := rec.flumeLogs()
	if err != nil || len(paths) == 0 {
		return false, err
	}
	record := filepath.Join(cfg.CheckpointDir, importedFile)
	if _, err := seglog.ReadFile(w.fs, record, maxCheckpoint); !errors.Is(err, fs.ErrNotExist) {
		rec.c.log.Warn("the events of the Flume channel here were taken over before, and the channel's own files are gone since: they are not taken over again", "record", record)
		return false, err
	}
	began := time.Now()
	q, err := flumelog.Replay(ctx, rec.c.log, flumelog.Dirs{Checkpoint: cfg.CheckpointDir, Backup: cfg.BackupDir, Data: cfg.DataDirs}, w.opener.keys)
	if err != nil {
		return false, fmt.Errorf("take over the events of the Flume channel: %w", err)
	}
	defer q.Close()
	rec.c.log.Info("taking over the events of a Flume channel", "events", len(q.Events), "files", len(q.Paths), "by_checkpoint", q.Checkpoint)
	s, err := w.create(0, segmentInfo{id: w.id, importing: true, prev: -1})
	if err != nil {
		return false, err
	}
	w.use(s)
	b, n, events := make([]byte, frameHead), 0, int64(0)
	flush := func() error {
		if n == 0 {
			return nil
		}
		_, err := w.put(b, n)
		b, n = b[:frameHead], 0
		return err
	}
	lost, err := q.Each(ctx, rec.c.log, func(e event.Event) error {
		b = appendEvent(b, &e)
		n++
		events++
		if n == importEvents || len(b) >= importBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = rec.endImport(s, events)
	}
	if err == nil {
		err = writeImported(rec, record, imported{Time: began.UTC().Truncate(time.Second), Events: events, Lost: lost}, paths)
	}
	if err != nil {
		return false, fmt.Errorf("take over the events of the Flume channel: %w", err)
	}
	rec.c.log.Info("the events of the Flume channel are taken over; its files are as they were", "events", events, "unreadable", lost, "took", time.Since(began).Round(time.Millisecond))
	return true, nil
}

// endImport begins the first segment that does not say that an import is under way.
func (rec *recovery) endImport(first *segment, events int64) error {
	w := rec.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end.seg.importing = false
	if events > 0 {
		return w.roll(0, true, 0)
	}
	w.segs = nil
	if err := w.remove(first); err != nil {
		return err
	}
	s, err := w.create(0, segmentInfo{id: w.id, prev: -1})
	if err == nil {
		w.use(s)
	}
	return err
}

// writeImported writes down what was taken over. Without it, nothing but a warning at each start would come of it.
func writeImported(rec *recovery, record string, in imported, paths []string) error {
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return err
		}
		in.Files = append(in.Files, importedPart{p, st.Size(), st.ModTime().UTC()})
	}
	b, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return err
	}
	return seglog.WriteFile(rec.w.fs, record, append(b, '\n'))
}

// flumeLogs lists the log files of a Flume channel in the data directories.
func (rec *recovery) flumeLogs() (paths []string, err error) {
	for _, dir := range rec.c.cfg.DataDirs {
		if rec.c.cfg.unlocked {
			continue // nothing of Flume's is on a file system for tests
		}
		p, err := flumelog.Logs(dir)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p...)
	}
	return paths, nil
}

// warnUnimported says so if Flume has worked on the directories since its events were taken over, or if they never were.
func (rec *recovery) warnUnimported() error {
	paths, err := rec.flumeLogs()
	if err != nil || len(paths) == 0 {
		return err
	}
	known := map[importedPart]bool{}
	b, err := seglog.ReadFile(rec.w.fs, filepath.Join(rec.c.cfg.CheckpointDir, importedFile), maxCheckpoint)
	if err == nil {
		var in imported
		if err = json.Unmarshal(b, &in); err == nil {
			for _, f := range in.Files {
				known[f] = true
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		rec.c.log.Warn("what was taken over from Flume is not known", "err", err)
	}
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("look at the files of Flume: %w", err)
		}
		if !known[importedPart{p, st.Size(), st.ModTime().UTC()}] {
			rec.c.log.Warn("a file of Flume's channel is not among those whose events were taken over; its events stay there (give them to a channel with empty directories beside it)", "file", p)
		}
	}
	return nil
}
