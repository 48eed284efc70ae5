package broker

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// The environment variables that make the test binary a broker.
const (
	childDir    = "SLUICE_TEST_BROKER_DIR"
	childListen = "SLUICE_TEST_BROKER_LISTEN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(runChild(dir, os.Getenv(childListen)))
	}
	goleak.VerifyTestMain(m)
}

func runChild(dir, listen string) int {
	b, err := startAgain(Config{Listen: listen, DataDir: dir, MaxDisk: -1})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("listening", b.Addr())
	<-b.Done() // never: the test kills the process
	return 0
}

// child is a broker in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t *testing.T, dir, listen string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childListen+"="+listen)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		t.Fatalf("broker did not start: %q %v", line, err)
	}
	c.addr = addr
	return c
}

// kill is kill -9. It is idempotent.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// TestKill9 kills the broker in the middle of producing and committing, again
// and again, and accounts for everything that was acknowledged.
func TestKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := startChild(t, dir, "127.0.0.1:0")
	addr := c.addr
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("k"),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(200), kgo.AlwaysRetryEOF())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := ctxOf(t)
	adm := kadm.NewClient(cl)
	type ack struct {
		n   int
		off int64
	}
	acks := make(chan ack, 1_000_000)
	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() { // idempotent: a retry over a crash must not double a record
		n := 0
		for {
			select {
			case <-stop:
				cl.Flush(ctx)
				sent <- n
				return
			default:
			}
			i := n
			n++
			cl.Produce(ctx, kgo.StringRecord(fmt.Sprintf("%06d", i)), func(r *kgo.Record, err error) {
				if err != nil {
					t.Errorf("record %d: %v", i, err)
					return
				}
				acks <- ack{i, r.Offset}
			})
		}
	}()
	var committed int64 = -1
	for round := range 4 {
		// Commits of rising offsets until the kill; the last acknowledged
		// one must be there afterwards. The time to the kill begins when this
		// broker has acknowledged a commit and a record.
		running, killed := context.WithCancel(ctx)
		before, had, timed := committed, len(acks), false
		for running.Err() == nil {
			var os kadm.Offsets
			os.Add(kadm.Offset{Topic: "k", Partition: 0, At: committed + 1, LeaderEpoch: -1})
			if adm.CommitAllOffsets(running, "kg", os) == nil {
				committed++
			}
			if !timed && committed > before && len(acks) > had {
				timed = true
				time.AfterFunc(time.Duration(50+rand.IntN(150))*time.Millisecond, func() { c.kill(); killed() })
			}
		}
		if killed(); ctx.Err() != nil {
			t.Fatalf("round %d: %d commits and %d records were acknowledged in vain: %v", round, committed-before, len(acks)-had, ctx.Err())
		}
		c = startChild(t, dir, addr)
		var got kadm.OffsetResponses
		for got, err = adm.FetchOffsets(ctx, "kg"); err != nil; got, err = adm.FetchOffsets(ctx, "kg") {
			if ctx.Err() != nil { // until then the client may still come upon what is left of the broker before
				t.Fatalf("round %d: %v", round, err)
			}
		}
		// One commit may have been written and its answer lost.
		if o, ok := got.Lookup("k", 0); committed >= 0 && (!ok || o.At < committed || o.At > committed+1) {
			t.Fatalf("round %d: committed is %d (%v), acknowledged was %d", round, o.At, ok, committed)
		}
	}
	close(stop)
	n := <-sent
	close(acks)
	got := map[string]int{}
	byOffset := map[int64]string{}
	cons := consumerOf(t, addr, "k")
	for len(byOffset) < n {
		fs := cons.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(byOffset), n, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Value)]++; byOffset[r.Offset] = string(r.Value) })
	}
	for a := range acks {
		if v := fmt.Sprintf("%06d", a.n); byOffset[a.off] != v {
			t.Fatalf("offset %d holds %q, acknowledged was %q", a.off, byOffset[a.off], v)
		}
	}
	for v, k := range got {
		if k != 1 {
			t.Errorf("%s is there %d times", v, k)
		}
	}
	t.Logf("%d records, %d commits over 4 kills", n, committed+1)
}

func consumerOf(t *testing.T, addr, topic string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}
