package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/channel/file/flumelog"
)

// jsonChannelFrame is a frame of a file channel's segment.
type jsonChannelFrame struct {
	File     string             `json:"file"`
	Position int64              `json:"position"`
	Size     int64              `json:"size"`
	Type     string             `json:"type"`
	Frame    int64              `json:"frame"`
	Event    int64              `json:"event"`
	Count    int                `json:"count,omitempty"`
	Key      string             `json:"key,omitempty"`
	Taken    [][2]int64         `json:"taken,omitempty"`
	Events   []jsonChannelEvent `json:"events,omitempty"`
}

type jsonChannelEvent struct {
	Event      int64        `json:"event"`
	BodySize   int          `json:"bodySize"`
	Headers    []jsonHeader `json:"headers,omitempty"`
	Body       *string      `json:"body,omitempty"`
	BodyBase64 []byte       `json:"bodyBase64,omitempty"`
}

// channelSegment shows or verifies a segment of a file channel.
func (d *dumper) channelSegment(path string) error {
	deep := d.Deep || d.Data
	keys, err := d.keys()
	if err != nil {
		return err
	}
	seg, err := file.Inspect(path, keys, func(f *file.Frame) error {
		if d.Verify {
			return nil
		}
		return d.channelFrame(path, f, deep)
	}, func(p file.Damage) {
		d.out.Flush() // so that it stands where it belongs; Run reports a failure
		if p.Torn && lastChannelSegment(path) {
			fmt.Fprintf(d.env.Stderr, "%s (the end of a write that did not come to its end, or that is under way: a start cuts it off)\n", p)
			return
		}
		d.damaged++
		fmt.Fprintln(d.env.Stderr, p)
	})
	if err != nil {
		return err
	}
	if d.Verify {
		_, err = fmt.Fprintf(d.out, "%s: %d put(s) of %d event(s), %d commit(s) of takes, channel %s\n", path, seg.Frames-seg.Takes, seg.Events, seg.Takes, seg.Channel)
	} else if !d.JSON {
		_, err = fmt.Fprintf(d.out, "channel: %s firstFrame: %d firstEvent: %d segmentBefore: %d low: %d importUnderWay: %t frames: %d events: %d\n",
			seg.Channel, seg.First, seg.Event, seg.Before, seg.Low, seg.ImportUnderWay, seg.Frames, seg.Events)
	}
	return err
}

// keys are those for a file channel's events, or nil.
func (d *dumper) keys() (file.Keys, error) {
	if d.KeyStore == "" {
		return nil, nil
	}
	return (&file.KeyStore{File: d.KeyStore, PasswordFile: d.KeyStorePassword, Own: d.KeyPasswords}).Open()
}

// lastChannelSegment says whether no other segment beside it is newer. (One in another directory may be.)
func lastChannelSegment(path string) bool {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+file.SegmentExt))
	return err != nil || len(others) == 0 || others[len(others)-1] <= path
}

func (d *dumper) channelFrame(path string, f *file.Frame, deep bool) error {
	if deep && f.Key != "" && d.KeyStore == "" {
		return fmt.Errorf("the events of the frame at byte %d are encrypted with the key %q: give --keystore and --keystore-password-file, or show them without --deep and --print-data-log", f.Position, f.Key)
	}
	if d.JSON {
		j := jsonChannelFrame{File: path, Position: f.Position, Size: f.Size, Type: "take", Frame: f.Number, Event: f.Event, Taken: f.Taken}
		if f.Put {
			j.Type, j.Count, j.Key = "put", f.Count, f.Key
		}
		if deep {
			for i := range f.Events {
				j.Events = append(j.Events, d.jsonEvent(f.Event+int64(i), &f.Events[i]))
			}
		}
		return writeJSON(d.out, j)
	}
	if !f.Put {
		var ranges []string
		for _, r := range f.Taken {
			ranges = append(ranges, fmt.Sprintf("%d-%d", r[0], r[1]-1))
		}
		_, err := fmt.Fprintf(d.out, "take frame: %d position: %d size: %d taken: %s nextEvent: %d\n", f.Number, f.Position, f.Size, strings.Join(ranges, ","), f.Event)
		return err
	}
	encrypted := ""
	if f.Key != "" {
		encrypted = " key: " + f.Key
	}
	if _, err := fmt.Fprintf(d.out, "put frame: %d position: %d size: %d firstEvent: %d count: %d%s\n", f.Number, f.Position, f.Size, f.Event, f.Count, encrypted); err != nil || !deep {
		return err
	}
	for i := range f.Events {
		e := &f.Events[i]
		names := make([]string, len(e.Headers))
		for k, h := range e.Headers {
			if names[k] = h.Key; d.Data && h.Value == nil {
				names[k] += " is null"
			} else if d.Data {
				names[k] += "=" + string(h.Value)
			}
		}
		line := fmt.Sprintf("| event: %d bodySize: %d headers: [%s]", f.Event+int64(i), len(e.Body), strings.Join(names, ","))
		if d.Data {
			line += " body: " + string(e.Body)
		}
		if _, err := fmt.Fprintln(d.out, line); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) jsonEvent(number int64, e *event.Event) jsonChannelEvent {
	j := jsonChannelEvent{Event: number, BodySize: len(e.Body)}
	for _, h := range e.Headers {
		jh := jsonHeader{Key: h.Key}
		if d.Data {
			jh.Value, jh.ValueBase64 = textOrBytes(h.Value)
		}
		j.Headers = append(j.Headers, jh)
	}
	if d.Data {
		j.Body, j.BodyBase64 = textOrBytes(e.Body)
	}
	return j
}

// channelCheckpoint shows or verifies a checkpoint of a file channel.
func (d *dumper) channelCheckpoint(path string) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	c, err := file.ParseCheckpoint(b)
	if err != nil {
		d.damaged++
		d.out.Flush()
		fmt.Fprintf(d.env.Stderr, "%s: %v (a start reads the whole log instead)\n", path, err)
		return nil
	}
	switch {
	case d.Verify:
		_, err = fmt.Fprintf(d.out, "%s: readable\n", path)
	case d.JSON:
		err = writeJSON(d.out, struct {
			File string `json:"file"`
			file.CheckpointInfo
		}{path, c})
	default:
		_, err = fmt.Fprintf(d.out, "channel: %s frame: %d event: %d at %d:%d low: %d at %d:%d taken: %v waiting: %d\n",
			c.Channel, c.Frame, c.Event, c.Segment, c.Position, c.Low, c.LowSegment, c.LowPosition, c.Taken, c.Waiting)
	}
	return err
}

type repairCmd struct {
	Dirs   []string `arg:"" name:"dir" type:"existingdir" help:"All directories of a stopped file channel: checkpointDir and dataDirs."`
	DryRun bool     `name:"dry-run" help:"Only say what would be done."`
}

func (c *repairCmd) Help() string {
	return "Makes a file channel start that refuses to: files that are missing are no longer waited for, headers and checkpoints that cannot be read are made anew or set aside, " +
		"damaged bytes are copied to .damaged files (a start does that, too). Nothing is thrown away."
}

func (c *repairCmd) Run(env *Env) error {
	n, err := file.Repair(c.Dirs, c.DryRun, func(s string) { fmt.Fprintln(env.Stdout, s) })
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	switch {
	case n == 0:
		fmt.Fprintln(env.Stdout, "nothing to repair")
	case c.DryRun:
		fmt.Fprintf(env.Stdout, "%d thing(s) to do, nothing was changed\n", n)
	default:
		fmt.Fprintf(env.Stdout, "%d thing(s) done\n", n)
	}
	return nil
}

// integrity is what Flume's tool counts.
type integrity struct{ records, puts, valid, corrupt int64 }

// fcIntegrityTool answers to flume-ng tool fcintegritytool, for the files of a Flume and of a Sluice channel.
func fcIntegrityTool(env *Env, args []string) error {
	var dirs []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		switch name {
		case "-h", "--help", "-help":
			_, err := fmt.Fprint(env.Stdout, "usage: flume-ng tool fcintegritytool -l DIR,DIR\n -l,--dataDirs   data directories of a file channel, of Flume or of Sluice, that is stopped\n")
			return err
		case "-l", "--dataDirs", "-dataDirs":
			if !has {
				if i++; i == len(args) {
					return usageError(fmt.Errorf("fcintegritytool: %s needs the data directories", name))
				}
				value = args[i]
			}
			for d := range strings.SplitSeq(value, ",") {
				if st, err := os.Stat(d); err != nil || !st.IsDir() {
					return fmt.Errorf("data directory %s does not exist", d)
				}
				dirs = append(dirs, d)
			}
		case "-e", "--eventValidator", "-eventValidator":
			return usageError(errors.New("fcintegritytool: an event validator is a Java class, which this program does not run; events are checked without one"))
		default:
			if strings.HasPrefix(name, "-D") {
				fmt.Fprintf(env.Stderr, "fcintegritytool: %s has no effect: it is for an event validator\n", args[i])
				continue
			}
			return usageError(fmt.Errorf("fcintegritytool: unknown option %s", args[i]))
		}
	}
	if len(dirs) == 0 {
		return usageError(errors.New("fcintegritytool: -l DIR,DIR is missing (dataDirs is required)"))
	}
	var sum integrity
	own := false
	for _, dir := range dirs {
		logs, err := flumelog.Logs(dir)
		if err != nil {
			return err
		}
		for _, path := range logs {
			if err := sum.flume(env, path); err != nil {
				return err
			}
		}
		segs, err := filepath.Glob(filepath.Join(dir, "*"+file.SegmentExt))
		if err != nil {
			return err
		}
		for _, path := range segs {
			own = true
			if err := sum.sluice(env, path); err != nil {
				return err
			}
		}
	}
	if own && sum.corrupt > 0 {
		if _, err := file.Repair(dirs, false, func(s string) { fmt.Fprintln(env.Stderr, s) }); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(env.Stdout, `---------- Summary --------------------
Number of Events in the Channel = %d
Number of Put Events Processed = %d
Number of Valid Put Events = %d
Number of Invalid Put Events = 0
Number of Put Events that threw Exception during validation = 0
Number of Corrupt Events = %d
---------------------------------------
`, sum.records, sum.puts, sum.valid, sum.corrupt)
	return err
}

// sluice counts a segment. Each range of a take counts as a record, as each take does in Flume.
func (s *integrity) sluice(env *Env, path string) error {
	_, err := file.Inspect(path, nil, func(f *file.Frame) error {
		n := int64(f.Count)
		s.puts += n
		s.valid += n
		s.records += n + int64(len(f.Taken))
		return nil
	}, func(d file.Damage) {
		if d.Torn && lastChannelSegment(path) {
			return // a start cuts it off
		}
		s.corrupt++
		s.records++
		fmt.Fprintf(env.Stderr, "Corruption found in %s\n", d)
	})
	return err
}

// flume checks a log file of Flume, and marks what is corrupt so that Flume passes over it. The file is copied before.
func (s *integrity) flume(env *Env, path string) error {
	f, err := flumelog.Open(path)
	if errors.Is(err, flumelog.ErrEmpty) {
		fmt.Fprintf(env.Stderr, "%v: passed over\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Meta.Encrypted {
		return fmt.Errorf("%s is encrypted: as Flume's, this tool reads no encrypted files. A channel that takes them over passes over what is damaged", path)
	}
	saved := false
	for scan := f.Scan(0); ; {
		ok, err := scan.Next()
		if err == nil && ok {
			s.records++
			var r flumelog.Record
			var body []byte
			if r, body, err = flumelog.ParseRecord(scan.Payload); err == nil && r.Type == flumelog.Put {
				if _, err = flumelog.ParseEvent(body, nil); err == nil {
					s.puts++
					s.valid++
				}
			}
			if err == nil {
				continue
			}
			err = &flumelog.CorruptError{Path: path, Offset: scan.Offset, Err: err}
		} else if err != nil {
			s.records++
		}
		var bad *flumelog.CorruptError
		switch {
		case errors.As(err, &bad):
		case err != nil:
			return err
		case !ok:
			s.records++ // Flume's tool counts the end of a file, too
			return nil
		}
		s.corrupt++
		fmt.Fprintf(env.Stderr, "Corruption found: %v\n", bad)
		if !saved {
			if err := copyFile(path+".bak", path); err != nil {
				return fmt.Errorf("copy %s before it is changed: %w", path, err)
			}
			saved = true
		}
		if err := flumelog.MarkNoop(path, bad.Offset); err != nil {
			return err
		}
	}
}

// copyFile makes a durable copy.
func copyFile(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}
