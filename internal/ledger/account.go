// Package ledger compares what arrived at the ends of the pilot's flows with
// what the simulator's manifest says was written: by content, line for line,
// with missing, doubled and altered lines told apart.
package ledger

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/sluice-data/sluice/internal/sim"
)

// expected is what the manifest says of one log: the hashes of its records in
// written order, and those of its garbage. It is shared by the accounts of
// several flows and not changed by them, but for the index it builds once.
type expected struct {
	config    sim.Config
	kind      sim.Kind
	log       *sim.Log
	records   []uint64
	confirmed int // records[confirmed:] may never have been written: the simulator was killed
	garbage   map[uint64]struct{}
	index     []uint32 // positions ordered by (hash, position); nil until needed
}

func loadExpected(manifest string, m *sim.Manifest, kind sim.Kind) (*expected, error) {
	log := m.Of(kind)
	if log == nil {
		return nil, fmt.Errorf("the manifest %s has no %s log", manifest, kind)
	}
	dir := filepath.Dir(manifest)
	records, err := sim.ReadHashes(filepath.Join(dir, log.RecordHashes))
	if err != nil {
		return nil, err
	}
	garbage, err := sim.ReadHashes(filepath.Join(dir, log.GarbageHashes))
	if err != nil {
		return nil, err
	}
	if int64(len(records)) < log.Records || m.Complete && int64(len(records)) > log.Records {
		return nil, fmt.Errorf("%s holds %d hashes and the manifest counts %d records: they are not of the same run", log.RecordHashes, len(records), log.Records)
	}
	e := &expected{config: m.Config, kind: kind, log: log, records: records, confirmed: int(log.Records), garbage: make(map[uint64]struct{}, len(garbage))}
	for _, h := range garbage {
		e.garbage[h] = struct{}{}
	}
	return e, nil
}

// find returns the positions of a hash in the index.
func (e *expected) find(h uint64) []uint32 {
	if e.index == nil {
		e.index = make([]uint32, len(e.records))
		for i := range e.index {
			e.index[i] = uint32(i)
		}
		slices.SortFunc(e.index, func(a, b uint32) int {
			return cmp.Or(cmp.Compare(e.records[a], e.records[b]), cmp.Compare(a, b))
		})
	}
	lo, found := slices.BinarySearchFunc(e.index, h, func(i uint32, h uint64) int { return cmp.Compare(e.records[i], h) })
	if !found {
		return nil
	}
	hi := lo
	for hi < len(e.index) && e.records[e.index[hi]] == h {
		hi++
	}
	return e.index[lo:hi]
}

// maxNotes bounds the offending lines that are kept for each kind of fault.
const maxNotes = 5

// account matches the arrivals of one flow with what is expected.
type account struct {
	e     *expected
	seen  []uint64       // bit set over e.records
	next  map[int]uint32 // per stream, the position behind its last match
	flow  Flow
	notes [4]int // seen so far, by fault
}

// The faults that are noted.
const (
	faultDouble = iota
	faultAltered
	faultGarbage
	faultOrder
)

func newAccount(name string, e *expected) *account {
	return &account{
		e: e, seen: make([]uint64, (len(e.records)+63)/64), next: map[int]uint32{},
		flow: Flow{Name: name, Written: e.log.Lines, Garbage: e.log.GarbageLines(), InOrder: true},
	}
}

func (a *account) was(i uint32) bool { return a.seen[i/64]&(1<<(i%64)) != 0 }

// lookAhead is how far a gap is searched for before the index is built: the
// common gap is short, and the index of ten days costs more than the rest.
const lookAhead = 1024

// arrive counts one line. Lines of one stream (a file list, a partition) must
// come in written order. where names the line's place for a note.
func (a *account) arrive(stream int, line []byte, where func() string) {
	a.flow.Arrived++
	h := sim.HashLine(line)
	next := a.next[stream]
	if int(next) < len(a.e.records) {
		ahead := a.e.records[next:min(int(next)+lookAhead, len(a.e.records))]
		for i, want := range ahead {
			if want == h && !a.was(next+uint32(i)) {
				a.first(stream, next+uint32(i))
				return
			}
		}
	}
	positions := a.e.find(h)
	for _, i := range positions {
		if a.was(i) {
			continue
		}
		if i < next {
			a.flow.InOrder = false
			a.note(faultOrder, "out of order", where, "record %d after record %d: %s", i, next-1, quote(line))
		}
		a.first(stream, i)
		return
	}
	if _, garbage := a.e.garbage[h]; garbage && len(positions) == 0 {
		a.flow.GarbageArrived++
		a.note(faultGarbage, "garbage", where, "%s", quote(line))
		return
	}
	if len(positions) > 0 {
		a.flow.Duplicated++
		a.note(faultDouble, "doubled", where, "record %d: %s", positions[0], quote(line))
		return
	}
	a.flow.Altered++
	a.note(faultAltered, "altered or unknown", where, "%s", quote(line))
}

// first marks a record's first arrival.
func (a *account) first(stream int, i uint32) {
	a.seen[i/64] |= 1 << (i % 64)
	a.next[stream] = max(a.next[stream], i+1)
}

// broken counts something that is not even a line: it cannot be matched.
func (a *account) broken(where func() string, format string, args ...any) {
	a.flow.Arrived++
	a.flow.Altered++
	a.note(faultAltered, "altered or unknown", where, format, args...)
}

func (a *account) note(fault int, what string, where func() string, format string, args ...any) {
	if a.notes[fault]++; a.notes[fault] <= maxNotes {
		a.flow.Notes = append(a.flow.Notes, fmt.Sprintf("%s, %s: %s", what, where(), fmt.Sprintf(format, args...)))
	}
}

// close counts what never came and returns the flow's line of the ledger.
func (a *account) close() (Flow, error) {
	var missing []int64
	f := &a.flow
	for i := range a.e.records {
		switch {
		case a.was(uint32(i)):
			f.Expected++
		case i < a.e.confirmed:
			f.Expected++
			if f.Missing++; f.Missing <= maxNotes {
				missing = append(missing, int64(i))
			}
		default:
			f.Unconfirmed++
		}
	}
	if len(missing) > 0 {
		texts, err := sim.Texts(a.e.config, a.e.kind, missing)
		if err != nil {
			return *f, fmt.Errorf("generate the missing lines again: %w", err)
		}
		for _, i := range missing {
			text := "hash " + strconv.FormatUint(a.e.records[i], 16)
			// The text is shown only where it is the line that was written.
			if t := []byte(texts[i]); sim.HashLine(t) == a.e.records[i] {
				text = quote(t)
			}
			f.Notes = append(f.Notes, fmt.Sprintf("missing, record %d: %s", i, text))
		}
	}
	return *f, nil
}

// quote shows a line, shortened and with everything unprintable escaped.
func quote(line []byte) string {
	const limit = 120
	if len(line) <= limit {
		return strconv.Quote(string(line))
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(line[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(string(line[:cut])), len(line))
}
