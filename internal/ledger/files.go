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
	slices.SortFunc(files, func(a, b rolled) int {
		return cmp.Or(cmp.Compare(a.millis, b.millis), cmp.Compare(a.nr, b.nr))
	})
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.path
	}
	return paths, nil
}

// readRolled counts the lines of the file_roll sink's files.
func readRolled(a *account, dir string) error {
	paths, err := rolledFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := readLines(a, path); err != nil {
			return err
		}
	}
	return nil
}

func readLines(a *account, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open rolled file: %w", err)
	}
	defer f.Close()
	n := 0
	where := func() string { return fmt.Sprintf("%s:%d", path, n) }
	// Twice the longest record: what is longer cannot be one.
	br := bufio.NewReaderSize(f, max(1<<16, 2*sim.MaxRecordBytes))
	for {
		l, err := br.ReadSlice('\n')
		if len(l) > 0 {
			n++
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				a.broken(where, "a line of more than %d bytes: %s", br.Size(), quote(l))
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = br.ReadSlice('\n')
				}
			default:
				a.arrive(0, bytes.TrimSuffix(l, []byte{'\n'}), where)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read rolled file: %w", err)
		}
	}
}
