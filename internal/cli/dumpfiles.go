package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-data/sluice/internal/broker/dump"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/partition"
)

func (d *dumper) index(path string, times bool) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	base := baseOf(path)
	x, err := segment.ParseIndex(b, base, times)
	if err != nil {
		d.problem(dump.Problem{File: path, Position: int64(len(b)), Offset: -1, Err: err})
		return nil
	}
	if d.indexSanity {
		_, err := fmt.Fprintf(d.out, "%s passed sanity check.\n", path)
		return err
	}
	if len(x.Entries) == 0 && d.kafka && !times {
		_, err := fmt.Fprintf(d.out, "%s is empty.\n", path)
		return err
	}
	for _, e := range x.Entries {
		switch {
		case d.Verify:
		case d.JSON && times:
			err = writeJSON(d.out, struct {
				File      string `json:"file"`
				Timestamp int64  `json:"timestamp"`
				Offset    int64  `json:"offset"`
			}{path, e.Timestamp, e.Offset})
		case d.JSON:
			err = writeJSON(d.out, struct {
				File     string `json:"file"`
				Offset   int64  `json:"offset"`
				Position int64  `json:"position"`
			}{path, e.Offset, e.Position})
		case times:
			_, err = fmt.Fprintf(d.out, "timestamp: %d offset: %d\n", e.Timestamp, e.Offset)
		default:
			_, err = fmt.Fprintf(d.out, "offset: %d position: %d\n", e.Offset, e.Position)
		}
		if err != nil {
			return err
		}
	}
	log := strings.TrimSuffix(path, filepath.Ext(path)) + ".log"
	st, err := os.Stat(log)
	if errors.Is(err, fs.ErrNotExist) {
		d.problem(dump.Problem{File: path, Offset: -1, Err: errors.New("there is no segment beside it")})
		return nil
	}
	if err != nil {
		return err
	}
	if x.Ours && x.LogSize != st.Size() {
		text := fmt.Sprintf("%s: it was made for a segment of %d bytes, which has %d", path, x.LogSize, st.Size())
		if lastSegment(log) {
			fmt.Fprintf(d.env.Stderr, "%s (the segment was written to since: the next start makes it anew)\n", text)
			return nil
		}
		d.problem(dump.Problem{File: path, Position: int64(len(b)), Offset: -1, Err: fmt.Errorf("it was made for a segment of %d bytes, which has %d", x.LogSize, st.Size())})
		return nil
	}
	problems, err := dump.Index(path, log, base, x, times)
	if err != nil {
		return err
	}
	for _, p := range problems {
		d.problem(p)
	}
	if d.Verify && !d.kafka {
		_, err = fmt.Fprintf(d.out, "%s: %d entries\n", path, len(x.Entries))
	}
	return err
}

func (d *dumper) snapshot(path string) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	if len(b) < 4 || string(b[:4]) != "SLPS" {
		// Apache Kafka's has a form of its own.
		d.out.Flush()
		fmt.Fprintf(d.env.Stderr, "%s: no snapshot of this broker (Apache Kafka's are not decoded)\n", path)
		return nil
	}
	ps, offset, err := partition.ParseSnapshot(b)
	if err == nil && offset != baseOf(path) {
		err = fmt.Errorf("it goes up to offset %d, and its name says %d", offset, baseOf(path))
	}
	if err != nil {
		d.problem(dump.Problem{File: path, Offset: baseOf(path), Err: err})
		return nil
	}
	if d.Verify {
		_, err = fmt.Fprintf(d.out, "%s: %d producer(s)\n", path, len(ps))
		return err
	}
	for _, p := range ps {
		if d.JSON {
			if err := writeJSON(d.out, struct {
				File string `json:"file"`
				partition.ProducerEntry
			}{path, p}); err != nil {
				return err
			}
			continue
		}
		line := fmt.Sprintf("producerId: %d producerEpoch: %d lastTimestamp: %d", p.ID, p.Epoch, p.LastTimestamp)
		for _, b := range p.Batches {
			line += fmt.Sprintf(" [firstSequence: %d lastSequence: %d firstOffset: %d lastOffset: %d]", b.FirstSequence, b.LastSequence, b.FirstOffset, b.LastOffset)
		}
		if _, err := fmt.Fprintln(d.out, line); err != nil {
			return err
		}
	}
	return nil
}

// text shows the small files that are text.
func (d *dumper) text(path, kind string) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	var v any
	var bad error
	if kind == stateFile {
		v, bad = segment.ParseState(b)
	} else {
		v, bad = segment.ParseEpochs(b)
	}
	if bad != nil {
		d.problem(dump.Problem{File: path, Offset: -1, Err: bad})
		return nil
	}
	switch {
	case d.Verify:
		_, err = fmt.Fprintf(d.out, "%s: readable\n", path)
	case d.JSON:
		var j []byte
		if j, err = json.Marshal(v); err == nil {
			err = writeJSON(d.out, struct {
				File string          `json:"file"`
				Data json.RawMessage `json:"data"`
			}{path, j})
		}
	default:
		_, err = d.out.Write(b)
	}
	return err
}
