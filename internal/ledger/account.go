// Package ledger compares what arrived at the ends of the pilot's flows with
// what the simulator's manifest says was written: by content, line for line,
// with missing, doubled and altered lines told apart.
package ledger

import (
	"cmp"
	"fmt"
	"maps"
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
	confirmed int            // records[confirmed:] may never have been written: the simulator was killed
	garbage   map[uint64]int // and how often it was written
	positions []int64        // of records in the log; nil: all of them, in order
	index     []uint32       // positions ordered by (hash, position); nil until needed
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
	e := &expected{config: m.Config, kind: kind, log: log, records: records, confirmed: int(log.Records), garbage: make(map[uint64]int, len(garbage))}
	for _, h := range garbage {
		e.garbage[h]++
	}
	return e, nil
}

// only is what is expected where a flow gets some of the records.
func (e *expected) only(wanted func(record []byte) bool) (*expected, error) {
	part := *e
	part.records, part.positions, part.index, part.confirmed = nil, []int64{}, nil, 0
	err := sim.EachText(e.config, e.kind, int64(len(e.records)), func(at int64, line []byte) {
		if !wanted(line) {
			return
		}
		part.records, part.positions = append(part.records, e.records[at]), append(part.positions, at)
		if at < int64(e.confirmed) {
			part.confirmed++
		}
	})
	if err != nil {
		return nil, fmt.Errorf("generate the %s records again: %w", e.kind, err)
	}
	return &part, nil
}

// at is the position of a record in the log.
func (e *expected) at(i int) int64 {
	if e.positions == nil {
		return int64(i)
	}
	return e.positions[i]
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
	notes [faults]int // seen so far, by fault

	// crashed says that a process was killed: a file may end in a torn line.
	crashed bool
	// unfiltered flows get the garbage, too. got counts it.
	unfiltered bool
	got        map[uint64]int
	// streams names the streams of a flow that has several ends. first is
	// where each record arrived first, twice where it came again.
	streams []string
	first   []uint8
	twice   map[[2]uint8]int64
}

// The faults that are noted.
const (
	faultDouble = iota
	faultAltered
	faultGarbage
	faultOrder
	faultTorn
	faults // how many there are
)

func newAccount(name string, e *expected) *account {
	return &account{
		e: e, seen: make([]uint64, (len(e.records)+63)/64), next: map[int]uint32{},
		flow: Flow{Name: name, Written: e.log.Lines, Garbage: e.log.GarbageLines(), InOrder: true},
	}
}

// allLines makes the account that of a flow without a filter, in which every
// line is expected at one of several ends.
func (a *account) allLines(crashed bool, streams ...string) *account {
	a.unfiltered, a.got, a.crashed = true, map[uint64]int{}, crashed
	a.flow.Garbage = 0
	return a.ends(streams...)
}

// ends names the ends of a flow, by stream.
func (a *account) ends(streams ...string) *account {
	a.streams, a.first, a.twice = streams, make([]uint8, len(a.e.records)), map[[2]uint8]int64{}
	return a
}

// knows says whether a line was written, whatever has become of it.
func (a *account) knows(line []byte) bool {
	h := sim.HashLine(line)
	return len(a.e.find(h)) > 0 || a.e.garbage[h] > 0
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
	if int(next) < len(a.e.records) && !a.flow.Unordered {
		ahead := a.e.records[next:min(int(next)+lookAhead, len(a.e.records))]
		for i, want := range ahead {
			if want == h && !a.was(next+uint32(i)) {
				a.mark(stream, next+uint32(i))
				return
			}
		}
	}
	positions := a.e.find(h)
	for _, i := range positions {
		if a.was(i) {
			continue
		}
		if i < next && !a.flow.Unordered {
			a.flow.InOrder = false
			a.note(faultOrder, "out of order", where, "record %d after record %d: %s", a.e.at(int(i)), a.e.at(int(next-1)), quote(line))
		}
		a.mark(stream, i)
		return
	}
	if n := a.e.garbage[h]; n > 0 && len(positions) == 0 {
		if a.got[h] < n && a.unfiltered {
			a.got[h]++
			return
		}
		if a.unfiltered {
			a.flow.Duplicated++
			a.note(faultDouble, "doubled", where, "garbage: %s", quote(line))
			return
		}
		a.flow.GarbageArrived++
		a.note(faultGarbage, "garbage", where, "%s", quote(line))
		return
	}
	if len(positions) > 0 {
		a.flow.Duplicated++
		if a.streams != nil {
			a.twice[[2]uint8{a.first[positions[0]], uint8(stream)}]++
		}
		a.note(faultDouble, "doubled", where, "record %d: %s", a.e.at(int(positions[0])), quote(line))
		return
	}
	a.flow.Altered++
	a.note(faultAltered, "altered or unknown", where, "%s", quote(line))
}

// mark marks a record's first arrival.
func (a *account) mark(stream int, i uint32) {
	a.seen[i/64] |= 1 << (i % 64)
	if a.streams != nil {
		a.first[i] = uint8(stream)
	}
	a.next[stream] = max(a.next[stream], i+1)
}

// broken counts something that is not even a line: it cannot be matched.
func (a *account) broken(where func() string, format string, args ...any) {
	a.flow.Arrived++
	a.flow.Altered++
	a.note(faultAltered, "altered or unknown", where, format, args...)
}

// torn notes the end of a file that a kill left unfinished.
func (a *account) torn(where func() string, line []byte) {
	a.flow.Torn++
	a.note(faultTorn, "torn by a kill", where, "%s", quote(line))
}

func (a *account) note(fault int, what string, where func() string, format string, args ...any) {
	if a.notes[fault]++; a.notes[fault] <= maxNotes {
		a.flow.Notes = append(a.flow.Notes, fmt.Sprintf("%s, %s: %s", what, where(), fmt.Sprintf(format, args...)))
	}
}

// close counts what never came and returns the flow's line of the ledger.
func (a *account) close() (Flow, error) {
	var missing []int
	f := &a.flow
	for i := range a.e.records {
		switch {
		case a.was(uint32(i)):
			f.Expected++
		case i < a.e.confirmed:
			f.Expected++
			if f.Missing++; f.Missing <= maxNotes {
				missing = append(missing, i)
			}
		default:
			f.Unconfirmed++
		}
	}
	a.closeGarbage()
	for _, k := range slices.SortedFunc(maps.Keys(a.twice), func(x, y [2]uint8) int { return slices.Compare(x[:], y[:]) }) {
		f.Notes = append(f.Notes, fmt.Sprintf("%d records that had arrived at %s came again at %s", a.twice[k], a.streams[k[0]], a.streams[k[1]]))
	}
	if len(missing) > 0 {
		var want []int64
		for _, i := range missing {
			want = append(want, a.e.at(i))
		}
		texts, err := sim.Texts(a.e.config, a.e.kind, want)
		if err != nil {
			return *f, fmt.Errorf("generate the missing lines again: %w", err)
		}
		for _, i := range missing {
			at, text := a.e.at(i), "hash "+strconv.FormatUint(a.e.records[i], 16)
			// The text is shown only where it is the line that was written.
			if t := []byte(texts[at]); sim.HashLine(t) == a.e.records[i] {
				text = quote(t)
			}
			f.Notes = append(f.Notes, fmt.Sprintf("missing, record %d: %s", at, text))
		}
	}
	return *f, nil
}

// closeGarbage counts the garbage of a flow that gets it.
func (a *account) closeGarbage() {
	if !a.unfiltered {
		return
	}
	f, missing, written := &a.flow, int64(0), int64(0)
	for h, n := range a.e.garbage {
		written += int64(n)
		missing += int64(n - a.got[h])
	}
	// A killed simulator announces lines that it may not have written.
	unconfirmed := min(missing, max(0, written-a.e.log.GarbageLines()))
	f.Expected += written - unconfirmed
	f.Unconfirmed += unconfirmed
	if missing -= unconfirmed; missing > 0 {
		f.Missing += missing
		f.Notes = append(f.Notes, fmt.Sprintf("missing: %d lines of garbage", missing))
	}
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
