package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	stateName  = "log-state"
	epochsName = "leader-epoch-checkpoint"
	// smallFile bounds the small text files, so that a wrong one cannot fill the memory.
	smallFile = 16 << 20
)

// state is the small file that says what the segments alone cannot.
type state struct {
	start    int64 // log start offset
	recovery int64 // segments that start below it are durable and need no scan
	// After a clean shutdown only: the log's end and the size of its last segment. The numbers must match the files;
	// a marker that outlived its time is not believed.
	clean     bool
	cleanEnd  int64
	cleanSize int64
}

func (s state) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "sluice-log 1\nstart %d\nrecovery %d\n", s.start, s.recovery)
	if s.clean {
		fmt.Fprintf(&b, "clean %d %d\n", s.cleanEnd, s.cleanSize)
	}
	fmt.Fprintf(&b, "crc %08x\n", crc32.Checksum([]byte(b.String()), castagnoli))
	return []byte(b.String())
}

func decodeState(b []byte) (state, error) {
	var s state
	i := strings.LastIndex(string(b), "crc ")
	if i < 0 {
		return s, errors.New("it has no CRC line")
	}
	text := string(b[:i])
	if want := fmt.Sprintf("crc %08x\n", crc32.Checksum([]byte(text), castagnoli)); string(b[i:]) != want {
		return s, errors.New("CRC mismatch")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != "sluice-log 1" {
		return s, fmt.Errorf("its first line is %q: want %q", lines[0], "sluice-log 1")
	}
	for _, line := range lines[1:] {
		var err error
		switch f := strings.Fields(line); {
		case len(f) == 2 && f[0] == "start":
			s.start, err = strconv.ParseInt(f[1], 10, 64)
		case len(f) == 2 && f[0] == "recovery":
			s.recovery, err = strconv.ParseInt(f[1], 10, 64)
		case len(f) == 3 && f[0] == "clean":
			s.clean = true
			if s.cleanEnd, err = strconv.ParseInt(f[1], 10, 64); err == nil {
				s.cleanSize, err = strconv.ParseInt(f[2], 10, 64)
			}
		default:
			return state{}, fmt.Errorf("unknown line %q", line)
		}
		if err != nil {
			return state{}, fmt.Errorf("line %q: %w", line, err)
		}
	}
	if s.start < 0 || s.recovery < 0 {
		return state{}, errors.New("negative offset")
	}
	return s, nil
}

// epoch says that a leader epoch began at an offset.
type epoch struct {
	epoch int32
	start int64
}

// epochs is the list, ascending in both. It is never changed in place, so that readers can keep a copy of the slice.
type epochs []epoch

// add returns the list with an epoch that begins at start, if it is new.
func (e epochs) add(ep int32, start int64) epochs {
	if n := len(e); n > 0 && e[n-1].epoch >= ep {
		return e
	}
	// An epoch in which nothing was written is of no use to anyone.
	return append(slices.Clip(e.truncate(start)), epoch{ep, start})
}

// truncate returns the list without epochs that begin at or after end.
func (e epochs) truncate(end int64) epochs {
	n := len(e)
	for n > 0 && e[n-1].start >= end {
		n--
	}
	return e[:n]
}

// end is OffsetForLeaderEpoch: the largest epoch not above ep, and where the next one begins.
func (e epochs) end(ep int32, logEnd int64) (int32, int64) {
	if ep < 0 {
		return -1, -1
	}
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].epoch > ep {
			continue
		}
		if i == len(e)-1 {
			// Asked for an epoch that has not begun: nothing is known of it (KIP-101).
			if ep > e[i].epoch {
				return -1, -1
			}
			return e[i].epoch, logEnd
		}
		return e[i].epoch, e[i+1].start
	}
	if len(e) > 0 {
		return ep, e[0].start
	}
	return -1, -1
}

func (e epochs) last() int32 {
	if len(e) == 0 {
		return 0
	}
	return e[len(e)-1].epoch
}

// encode writes Kafka's own format: version, count, then epoch and start offset in a line each.
func (e epochs) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "0\n%d\n", len(e))
	for _, x := range e {
		fmt.Fprintf(&b, "%d %d\n", x.epoch, x.start)
	}
	return []byte(b.String())
}

func decodeEpochs(b []byte) (epochs, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" || lines[1] != strconv.Itoa(len(lines)-2) {
		return nil, errors.New("version or count is wrong")
	}
	var out epochs
	for _, line := range lines[2:] {
		var x epoch
		if n, err := fmt.Sscanf(line, "%d %d", &x.epoch, &x.start); n != 2 || err != nil {
			return nil, fmt.Errorf("line %q: want an epoch and an offset", line)
		}
		if n := len(out); x.epoch < 0 || x.start < 0 || n > 0 && (x.epoch <= out[n-1].epoch || x.start <= out[n-1].start) {
			return nil, fmt.Errorf("line %q is out of order", line)
		}
		out = append(out, x)
	}
	return out, nil
}

// readSmall reads a small file; absent is nil, nil.
func readSmall(fsys vfs.FS, dir, name string) ([]byte, error) {
	b, err := seglog.ReadFile(fsys, filepath.Join(dir, name), smallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
