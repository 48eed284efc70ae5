package ledger

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/sluice-data/sluice/internal/sim"
)

// rolledName is a file of the file_roll sink: milliseconds of its start, then
// a running number.
var rolledName = regexp.MustCompile(`^(\d{1,15})-(\d{1,9})$`)

type rolled struct {
	path       string
	millis, nr int64
}

func byTime(a, b rolled) int {
	return cmp.Or(cmp.Compare(a.millis, b.millis), cmp.Compare(a.nr, b.nr))
}

// rolledFiles lists the sink's files in written order.
func rolledFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list rolled files: %w", err)
	}
	var files []rolled
	for _, e := range entries {
		m := rolledName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		r := rolled{path: filepath.Join(dir, e.Name())}
		r.millis, _ = strconv.ParseInt(m[1], 10, 64) // at most 15 digits
		r.nr, _ = strconv.ParseInt(m[2], 10, 64)
		files = append(files, r)
	}
	slices.SortFunc(files, byTime)
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.path
	}
	return paths, nil
}

// sorter says whose a line of a sink's file is and what of it was written by
// the simulator. It answers nil and why when it is nobody's.
type sorter func(line []byte) (a *account, record []byte, why string)

// all is the sorter of files that hold one flow, line for line.
func (a *account) all(line []byte) (*account, []byte, string) { return a, line, "" }

// readRolled counts the lines of a file_roll sink's files, which are a stream
// of the accounts that sort names. What is nobody's counts in other.
func readRolled(dir string, stream int, other *account, sort sorter) error {
	paths, err := rolledFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open rolled file: %w", err)
		}
		err = readLines(f, path, stream, other, sort)
		f.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return nil
}

// readLines counts the lines of one file, which is at path.
func readLines(f io.Reader, path string, stream int, other *account, sort sorter) error {
	n := 0
	where := func() string { return fmt.Sprintf("%s:%d", path, n) }
	// Twice the longest record: what is longer cannot be one.
	br := bufio.NewReaderSize(f, max(1<<16, 2*sim.MaxRecordBytes))
	for {
		l, err := br.ReadSlice('\n')
		if len(l) > 0 {
			n++
			line, whole := bytes.CutSuffix(l, []byte{'\n'})
			a, record, why := sort(line)
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				other.broken(where, "a line of more than %d bytes: %s", br.Size(), quote(l))
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = br.ReadSlice('\n')
				}
			case !whole && other.crashed && (a == nil || !a.knows(record)):
				other.torn(where, line)
			case a == nil:
				other.broken(where, "%s: %s", why, quote(line))
			default:
				a.arrive(stream, record, where)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}
