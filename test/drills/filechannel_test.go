package drills

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/forgetfs"
)

// channelEnv makes the test binary a process with a file channel, several sources and several sinks; its value is a
// channelConfig. What it does it prints, each line before or after the step that it tells of, with one write:
//
//	p K A B   putter K puts its events A to B-1       P K A B   the put has returned
//	t K:N ... a sink has taken these events           v K:N ... the same, at the start, for show
//	c K:N ... it commits these events                 C K:N ... the commit has returned
//	ready     everything that was found has been shown
const channelEnv = "SLUICE_DRILL_CHANNEL"

type channelConfig struct {
	Dir, Shadow string // no shadow: the files are the operating system's
	Lie         bool   // the segments' fsync does nothing
	SyncEvery   time.Duration
	From        []int // by putter: its first event
}

const (
	putters       = 3
	takers        = 2
	channelEvents = 60_000
	someEvents    = 8_000 // below it nothing is taken
)

// slowSync takes a disk's time for a sync, so that there is something un-synced at most moments.
type slowSync struct{ vfs.FS }

func (s slowSync) Open(name string, flag int) (vfs.File, error) {
	f, err := s.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return slowFile{f, f.(vfs.Padder)}, nil
}

type slowFile struct {
	vfs.File
	vfs.Padder
}

func (f slowFile) Sync() error {
	time.Sleep(time.Millisecond)
	return f.File.Sync()
}

func runChannelChild(env string) error {
	var c channelConfig
	if err := json.Unmarshal([]byte(env), &c); err != nil {
		return err
	}
	var lie func(string) bool
	if c.Lie {
		lie = func(name string) bool { return strings.HasSuffix(name, ".events") }
	}
	var fsys vfs.FS = vfs.OS{}
	if c.Shadow != "" {
		f, err := forgetfs.New(c.Dir, c.Shadow, lie)
		if err != nil {
			return err
		}
		fsys = slowSync{f}
	}
	ch := file.New(file.Config{
		CheckpointDir: filepath.Join(c.Dir, "checkpoint"), DataDirs: []string{filepath.Join(c.Dir, "data1"), filepath.Join(c.Dir, "data2")},
		Capacity: channelEvents, TransactionCapacity: 1000, KeepAlive: 10 * time.Millisecond, MaxFileSize: 256 << 10,
		CheckpointEvery: 100 * time.Millisecond, SyncEvery: c.SyncEvery, FS: fsys,
		Env: component.Env{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))},
	})
	ctx := context.Background()
	if err := ch.Start(ctx); err != nil {
		return err
	}
	if err := show(ctx, ch); err != nil {
		return err
	}
	fmt.Println("ready")
	for k := range putters {
		go putForEver(ctx, ch, k, c.From[k])
	}
	for k := range takers {
		go takeForEver(ctx, ch, uint64(k))
	}
	_, err := io.Copy(io.Discard, os.Stdin) // the test kills this process; should the test die first, its end of the pipe closes
	return err
}

// show takes all that is there, says so, and gives it back.
func show(ctx context.Context, ch component.Channel) error {
	var leases []component.Lease
	for {
		l, err := ch.NewTaker().Take(ctx, 1000)
		if err != nil {
			return err
		}
		if l == nil {
			break
		}
		say("v", l.Events())
		leases = append(leases, l)
	}
	for _, l := range leases {
		if err := l.Rollback(); err != nil {
			return err
		}
	}
	return nil
}

func say(what string, evs []event.Event) {
	b := []byte(what)
	for i := range evs {
		id, _, _ := strings.Cut(string(evs[i].Body), " ")
		b = append(append(b, ' '), id...)
	}
	os.Stdout.Write(append(b, '\n')) // the test that reads it may be gone: then so are we, soon
}

func putForEver(ctx context.Context, ch component.Channel, k, from int) {
	pool := event.NewPool()
	rng := rand.New(rand.NewPCG(uint64(k), uint64(from)))
	for {
		n := 1 + rng.IntN(50)
		if rng.IntN(10) == 0 {
			n *= 20
		}
		b := pool.NewBatch()
		for i := from; i < from+n; i++ {
			b.Append(eventBody(k, i))
		}
		fmt.Printf("p %d %d %d\n", k, from, from+n)
		for {
			err := ch.Put(ctx, b)
			if err == nil {
				break
			}
			if !errors.Is(err, component.ErrFull) {
				fmt.Println("failed", err)
				return
			}
		}
		fmt.Printf("P %d %d %d\n", k, from, from+n)
		b.Release()
		from += n
	}
}

func eventBody(k, n int) []byte {
	return fmt.Appendf(nil, "%d:%d %s", k, n, pad[:n%len(pad)])
}

func takeForEver(ctx context.Context, ch component.Channel, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	tk := ch.NewTaker()
	for {
		for ch.Stats().Size < someEvents { // the channel must not be empty when the kill comes
			time.Sleep(time.Millisecond)
		}
		l, err := tk.Take(ctx, 1+rng.IntN(700))
		if err != nil {
			fmt.Println("failed", err)
			return
		}
		if l == nil {
			continue
		}
		for _, e := range l.Events() {
			var k, n int
			if _, err := fmt.Sscanf(string(e.Body), "%d:%d", &k, &n); err != nil || string(e.Body) != string(eventBody(k, n)) {
				fmt.Printf("failed: nobody put %.60q\n", e.Body)
				return
			}
		}
		if rng.IntN(5) == 0 {
			say("t", l.Events())
			err = l.Rollback()
		} else {
			say("c", l.Events())
			ids := slices.Clone(l.Events())
			for i := range ids {
				ids[i] = ids[i].Clone()
			}
			if err = l.Commit(); err == nil {
				say("C", ids)
			}
		}
		if err != nil {
			fmt.Println("failed", err)
			return
		}
	}
}

// ident is an event: putter and number.
type ident struct{ putter, number int }

// what is known of an event.
type standing uint8

const (
	begun     standing = iota // its put had begun
	committed                 // its put returned
	leaving                   // the commit of its take had begun
	gone                      // the commit of its take returned
)

// channelDrill keeps the account of a channel that another process has, and kills that.
type channelDrill struct {
	cfg     channelConfig
	log     *os.File
	state   map[ident]standing
	doubled int // events whose take was committed without an answer, and which came again
}

func newChannelDrill(t *testing.T, forgets, lie bool, every time.Duration) *channelDrill {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "channel.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	d := &channelDrill{cfg: channelConfig{Dir: filepath.Join(dir, "channel"), Lie: lie, SyncEvery: every, From: make([]int, putters)}, log: log, state: map[ident]standing{}}
	if forgets {
		d.cfg.Shadow = filepath.Join(dir, "shadow")
	}
	return d
}

// note takes down what a line says.
func (d *channelDrill) note(line string) error {
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "p", "P":
		var k, a, b int
		if _, err := fmt.Sscanf(rest, "%d %d %d", &k, &a, &b); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		for i := a; i < b; i++ {
			id := ident{k, i}
			if what == "p" {
				d.state[id] = begun
			} else if d.state[id] == begun {
				d.state[id] = committed // a taker may have been faster than the answer
			}
		}
		d.cfg.From[k] = max(d.cfg.From[k], b)
	case "t", "c", "C":
		return each(rest, func(id ident) error {
			s, known := d.state[id]
			if !known || s == gone {
				return fmt.Errorf("event %v was taken: known %v, gone %v", id, known, s == gone)
			}
			switch {
			case what == "c":
				d.state[id] = leaving
			case what == "C":
				d.state[id] = gone
			}
			return nil
		})
	default:
		return fmt.Errorf("the channel's process says %q", line)
	}
	return nil
}

func each(ids string, f func(ident) error) error {
	for s := range strings.FieldsSeq(ids) {
		k, n, _ := strings.Cut(s, ":")
		putter, err1 := strconv.Atoi(k)
		number, err2 := strconv.Atoi(n)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if err := f(ident{putter, number}); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what the channel shows with the account: all that must be there is, in order, and nothing else; then
// the account knows what became of the rest.
func (d *channelDrill) verify(shown []ident) error {
	last := make([]int, putters)
	for i := range last {
		last[i] = -1
	}
	there := map[ident]bool{}
	for _, id := range shown {
		s, known := d.state[id]
		switch {
		case !known || there[id]:
			return fmt.Errorf("event %v: known %v, shown before %v", id, known, there[id])
		case s == gone:
			return fmt.Errorf("%w: event %v came again after the commit of its take", errLost, id)
		case id.number <= last[id.putter]:
			return fmt.Errorf("event %v came behind number %d", id, last[id.putter])
		case s == leaving:
			d.doubled++
		}
		last[id.putter] = id.number
		there[id] = true
		d.state[id] = committed
	}
	lost := 0
	var one ident
	for id, s := range d.state {
		if there[id] {
			continue
		}
		if s == committed {
			lost++
			one = id
		}
		delete(d.state, id)
		if s == gone || s == leaving {
			d.state[id] = gone // it must not come any more
		}
	}
	if lost > 0 {
		return fmt.Errorf("%w: %d events, %v among them", errLost, lost, one)
	}
	return nil
}

// round starts the channel, verifies what is in it, lets it work, kills it, and forgets what was not synced.
func (d *channelDrill) round(t *testing.T) (waiting int, unsynced int64, err error) {
	env, err := json.Marshal(d.cfg)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), channelEnv+"="+string(env))
	cmd.Stderr = d.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	var kill sync.Once
	end := func() { kill.Do(func() { cmd.Process.Kill() }) }
	defer cmd.Wait()
	defer end()
	lines := bufio.NewReaderSize(out, 1<<20)
	var shown []ident
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			text, _ := os.ReadFile(d.log.Name()) // only to explain
			return 0, 0, fmt.Errorf("%w: the channel did not start: %q\n%s", errLost, line, text[max(0, len(text)-2000):])
		}
		if line == "ready\n" {
			break
		}
		ids, ok := strings.CutPrefix(line, "v ")
		if !ok {
			return 0, 0, fmt.Errorf("%w: the channel did not start: %s", errLost, line)
		}
		if err := each(ids, func(id ident) error { shown = append(shown, id); return nil }); err != nil {
			return 0, 0, err
		}
	}
	if err := d.verify(shown); err != nil {
		return 0, 0, err
	}
	var timer *time.Timer
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // killed; the last line may not be whole
			break
		}
		if timer == nil && strings.HasPrefix(line, "P ") { // there is something to lose
			timer = time.AfterFunc(time.Duration(50+rand.IntN(400))*time.Millisecond, end)
			defer timer.Stop()
		}
		if err := d.note(strings.TrimSuffix(line, "\n")); err != nil {
			return 0, 0, err
		}
	}
	for _, s := range d.state {
		if s == committed {
			waiting++
		}
	}
	cmd.Wait() // it was killed
	if d.cfg.Shadow != "" {
		unsynced, err = forgetfs.Restore(d.cfg.Dir, d.cfg.Shadow)
	}
	return waiting, unsynced, err
}

// channelRounds is two hundred where the broker's drill has fifty: these are short.
func channelRounds(t *testing.T) int {
	n := rounds(t)
	if os.Getenv("SLUICE_DRILL_ROUNDS") != "" {
		n *= 4
	}
	return n
}

// TestFileChannelKill9 kills a process with a file channel at random moments, while three sources put and two sinks take,
// commit and roll back; what was not synced at the kill is forgotten, too.
func TestFileChannelKill9(t *testing.T) {
	for _, p := range []struct {
		name    string
		forgets bool
		every   time.Duration
	}{
		{name: "un-synced writes forgotten", forgets: true},
		{name: "fsyncPerTransaction=false", every: 50 * time.Millisecond},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			n := channelRounds(t)
			counted, tries, doubled := 0, 0, 0
			var waited, forgotten int64
			for counted < n {
				d := newChannelDrill(t, p.forgets, false, p.every)
				for range 20 {
					if tries++; tries > 5*n+10 {
						t.Fatalf("only %d of %d rounds counted", counted, tries)
					}
					waiting, unsynced, err := d.round(t)
					if err != nil {
						t.Fatalf("round %d: %v", tries, err)
					}
					if waiting > 0 && (unsynced > 0 || !p.forgets) {
						counted++
						waited += int64(waiting)
						forgotten += unsynced
					}
					if counted == n {
						break
					}
				}
				if _, _, err := d.round(t); err != nil { // looks at what the last one left
					t.Fatalf("after round %d: %v", tries, err)
				}
				doubled += d.doubled
			}
			t.Logf("%d kills, %d counted: %d committed events waited at the kills, %d bytes were un-synced; none lost, none out of order; %d came again whose commit had begun and not returned",
				tries, counted, waited, forgotten, doubled)
		})
	}
}

// TestFileChannelKill9WithoutFsync is the proof that the drill can fail.
func TestFileChannelKill9WithoutFsync(t *testing.T) {
	t.Parallel()
	d := newChannelDrill(t, true, true, 0)
	for range 5 {
		waiting, unsynced, err := d.round(t)
		if errors.Is(err, errLost) {
			t.Logf("found, as it must be: %v", err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d events waited, %d bytes un-synced, and nothing found", waiting, unsynced)
	}
	t.Error("a channel without fsync passed the drill")
}
