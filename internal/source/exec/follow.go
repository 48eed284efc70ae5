package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/javapath"
	"github.com/sluice-data/sluice/internal/tail"
)

// followed is a command that is tail -F and nothing else.
type followed struct {
	file  string
	lines int64 // to begin with, before the end of the file
	from  int64 // or the number of the first line; 0: lines counts
}

// recognise takes a command apart. It answers false where the command does, or
// might do, anything that following the file does not.
func recognise(shell, command string) (f followed, ok bool) {
	if shell != "" && !plain(fields(shell), command) {
		return f, false
	}
	args := fields(command)
	if len(args) == 0 || !slices.Contains([]string{"tail", "/bin/tail", "/usr/bin/tail"}, args[0]) {
		return f, false
	}
	f.lines = 10
	var files []string
	name, retry := false, false
	for args = args[1:]; len(args) > 0; {
		arg := args[0]
		args = args[1:]
		value := func(text string, there bool) (string, bool) { // of an option: in the same word, or the next one
			if there || len(args) == 0 {
				return text, there
			}
			text, args = args[0], args[1:]
			return text, true
		}
		if arg == "--" {
			files = append(files, args...)
			break
		}
		if long, isLong := strings.CutPrefix(arg, "--"); isLong {
			key, text, there := strings.Cut(long, "=")
			switch key {
			case "follow":
				name = there && text == "name"
				if !name {
					return f, false
				}
			case "retry", "quiet", "silent":
				if there {
					return f, false
				}
				retry = retry || key == "retry"
			case "lines", "sleep-interval":
				text, there = value(text, there)
				if !there || !f.option(key[0] == 'l', text) {
					return f, false
				}
			default:
				return f, false
			}
			continue
		}
		letters, isShort := strings.CutPrefix(arg, "-")
		if !isShort {
			files = append(files, arg)
			continue
		}
		if letters == "" { // standard input
			return f, false
		}
		for letters != "" {
			c := letters[0]
			letters = letters[1:]
			switch c {
			case 'F':
				name, retry = true, true
			case 'q':
			case 'n', 's':
				text, there := value(letters, letters != "")
				if !there || !f.option(c == 'n', text) {
					return f, false
				}
				letters = ""
			default:
				return f, false
			}
		}
	}
	if !name || !retry || len(files) != 1 || files[0] == "" || files[0][0] == '+' {
		return f, false
	}
	f.file = files[0]
	return f, true
}

// option takes the value of -n or -s.
func (f *followed) option(lines bool, text string) bool {
	if !lines {
		s, err := strconv.ParseFloat(text, 64)
		return err == nil && s >= 0 // how often tail looks is of no matter
	}
	from := strings.HasPrefix(text, "+")
	n, err := strconv.ParseUint(strings.TrimLeft(text, "+-"), 10, 62)
	if err != nil || len(strings.TrimLeft(text, "+-")) < len(text)-1 {
		return false
	}
	if f.from, f.lines = 0, int64(n); from {
		f.from = max(1, int64(n))
	}
	return true
}

// plain says that a shell would run the command's words as they are.
func plain(shell []string, command string) bool {
	if len(shell) != 2 || shell[1] != "-c" || !slices.Contains([]string{"sh", "bash", "dash", "ash", "ksh"}, filepath.Base(shell[0])) {
		return false
	}
	return strings.IndexFunc(command, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" \t_./+:,@%=-", r))
	}) < 0
}

// begin is where tail begins in a file that is there when it starts.
func (f *followed) begin(file *os.File, size int64) (int64, error) {
	if f.from > 0 {
		return lineStart(file, f.from-1)
	}
	return lastLines(file, size, f.lines)
}

// lineStart is where the line after n line feeds begins.
func lineStart(r io.ReaderAt, n int64) (pos int64, err error) {
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := r.ReadAt(buf, pos)
		for p := buf[:k]; n > 0; n-- {
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				pos += int64(len(p))
				break
			}
			p = p[i+1:]
			pos += int64(i + 1)
		}
		if err == io.EOF {
			return pos, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return pos, nil
}

// lastLines is where the last n lines begin. What stands after the last line
// feed is a line, too.
func lastLines(r io.ReaderAt, size, n int64) (int64, error) {
	if n == 0 {
		return size, nil
	}
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		p := buf[:min(int64(len(buf)), end)]
		if _, err := r.ReadAt(p, end-int64(len(p))); err != nil && err != io.EOF {
			return 0, err
		}
		for {
			i := bytes.LastIndexByte(p, '\n')
			if i < 0 {
				end -= int64(len(p))
				break
			}
			end -= int64(len(p) - i)
			p = p[:i]
			if end+1 < size { // not the line feed at the very end
				if n--; n == 0 {
					return end + 1, nil
				}
			}
		}
	}
	return 0, nil
}

const defaultPositionDir = "/.flume/exec"

// follower makes what follows the file instead of the command.
func (c *config) follower(f followed, env component.Env) (*tail.Source, error) {
	path, err := javapath.Abs(f.file)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, errNotRegular
	}
	dir := c.positionDir
	if dir == "" {
		home, err := javapath.Home(env.Properties)
		if err != nil {
			return nil, err
		}
		dir = home + defaultPositionDir
	}
	name := fmt.Sprintf("%s.%s.%08x.json", env.Agent, env.Name, crc32.ChecksumIEEE([]byte(path)))
	o := tail.Options{
		Groups:    []tail.Group{{Dir: javapath.Clean(filepath.Dir(path)), Name: filepath.Base(path)}},
		Cut:       &cutter{recoder: recoder{cs: c.charset}},
		BatchSize: c.batchSize, MaxBatches: tail.NoLimit, Start: f.begin, Hold: max(0, c.batchTimeout),
		Idle: 2 * time.Minute, KeepPartial: true, WriteEvery: 3 * time.Second,
		PauseStep: 200 * time.Millisecond, PauseMax: time.Second, MaxOpen: 16, Env: env,
	}
	return tail.NewSource(o, filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))), nil
}

// cutter ends lines as lines does.
type cutter struct{ recoder }

// Cut implements tail.Cutter.
func (c *cutter) Cut(b *event.Batch, ch tail.Chunk) (used int) {
	p := ch.P
	if ch.Prev == '\r' && len(p) > 0 && p[0] == '\n' {
		used = 1 // of the line end before
	}
	for n := 0; n < ch.Max && used < len(p); n++ {
		rest := p[used:]
		end := bytes.IndexByte(rest, '\n')
		next := end + 1
		if end < 0 {
			end, next = len(rest), len(rest)
		}
		if i := bytes.IndexByte(rest[:end], '\r'); i >= 0 {
			if next = i + 1; next == end && end < len(rest) {
				next++
			}
			end = i
		} else if end == len(rest) && ch.Mode != tail.All {
			break
		}
		c.add(b, rest[:end:end])
		used += next
	}
	return used
}

// recoder gives lines the bytes that they have after Java has read them.
type recoder struct {
	cs   *charset.Charset
	text []byte
}

// add appends a line that is in a block of b's.
func (r *recoder) add(b *event.Batch, line []byte) {
	if r.cs.Valid(line) {
		b.Add(line)
		return
	}
	// Java decodes and encodes again: malformed bytes come out as the
	// replacement character, or as ? where the set has none.
	text, _ := r.cs.AppendUTF8(r.text[:0], line, charset.Replace) // Replace has no errors
	mid := len(text)
	r.text = r.cs.AppendText(text, text)
	b.Append(r.text[mid:])
}

// errNotRegular: what is followed is a pipe, a device or a directory.
var errNotRegular = errors.New("it is no regular file")

// lockedWait is how long a position that another agent uses is waited for: longer
// than an agent that is stopped may take to end.
const lockedWait = time.Minute

// startFollowing opens the positions; nil where the command has to run.
func (s *source) startFollowing(ctx context.Context) (*tail.Source, error) {
	f, err := s.cfg.follower(*s.tail, s.env)
	if err == nil {
		err = f.Start(ctx)
	}
	switch {
	case err == nil:
		s.lockedSince = time.Time{}
		s.env.Log.Info("the file is followed with a position; the command is not run", "command", s.cfg.command)
		return f, nil
	case s.cfg.positionDir != "" && !errors.Is(err, errNotRegular):
		return nil, fmt.Errorf("follow %s: %w (followByPosition = false runs the command)", s.tail.file, err)
	case errors.Is(err, tail.ErrLocked):
		if s.lockedSince.IsZero() {
			s.lockedSince = time.Now()
		}
		if time.Since(s.lockedSince) < lockedWait { // an agent that takes its time to stop
			return nil, fmt.Errorf("follow %s: %w (after %v the command is run instead, without a position)", s.tail.file, err, lockedWait)
		}
	}
	s.env.Log.Warn("the file cannot be followed with a position: the command is run, and a restart may lose or repeat lines", "command", s.cfg.command, "err", err)
	return nil, nil
}

// runFollowing is Run where the command is not run.
func runFollowing(ctx context.Context, hard <-chan struct{}, f *tail.Source, out component.Output) error {
	ctx, cancel := context.WithCancel(ctx)
	var helper sync.WaitGroup
	defer helper.Wait()
	defer cancel()
	helper.Go(func() {
		select {
		case <-hard:
			cancel()
		case <-ctx.Done():
		}
	})
	return f.Run(ctx, out)
}
