package kafka

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/event"
)

// fakeBroker, set in the environment, turns the test binary into a broker: one
// that can be killed, and whose CPU time and memory are not the sink's. Its
// value is the port and the data directory.
const fakeBroker = "SLUICE_TEST_FAKE_BROKER"

func TestMain(m *testing.M) {
	if v := os.Getenv(fakeBroker); v != "" {
		if err := serve(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(v string) error {
	port, dir, _ := strings.Cut(v, " ")
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t")}
	if dir != "" {
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		opts = append(opts, kfake.DataDir(dir), kfake.SyncWrites(), kfake.Ports(n))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	fmt.Println(c.ListenAddrs()[0])
	_, err = io.Copy(io.Discard, os.Stdin) // until the parent ends
	return err
}

// startBroker returns the address of a broker of its own process, and how to
// kill it. dir may be empty: then it keeps nothing.
func startBroker(t testing.TB, port int, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", fakeBroker, port, dir))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says only that it was killed
	})
	t.Cleanup(kill)
	if addr, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr), kill
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSink reports the CPU time of one event besides the time. Set
// KAFKA_SERVERS to measure against a real broker.
func BenchmarkSink(b *testing.B) {
	addr := os.Getenv("KAFKA_SERVERS")
	if addr == "" {
		addr, _ = startBroker(b, 0, "")
	}
	s, evs := thousand(b, addr)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	from := cpu()
	for i := 0; i < b.N; i += len(evs) {
		if err := s.Write(ctx, evs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-from)/float64(b.N), "cpu-ns/op")
}

// thousand returns a sink with the pilot's properties and a batch, which went
// through it once.
func thousand(t testing.TB, addr string) (*sink, []event.Event) {
	s := newSink(t, addr, "brokerList="+addr, "topic=t", "batchSize=1000", "requiredAcks=1")
	evs := make([]event.Event, 1000)
	for i := range evs {
		evs[i].Body = []byte("20160101000000,P0001,2,0,F,N,10,D0812")
	}
	if err := s.Write(context.Background(), evs); err != nil {
		t.Fatal(err)
	}
	return s, evs
}

func TestNoAllocationPerEvent(t *testing.T) {
	addr, _ := startBroker(t, 0, "")
	s, evs := thousand(t, addr)
	for _, headers := range [][]event.KV{nil, {{Key: "topic", Value: []byte("t")}, {Key: "key", Value: []byte("k")}}} {
		for i := range evs {
			evs[i].Headers = append([]event.KV{}, headers...)
		}
		n := testing.AllocsPerRun(20, func() {
			if err := s.Write(context.Background(), evs); err != nil {
				t.Fatal(err)
			}
		})
		// The client allocates per request and per batch of records.
		if n > 200 {
			t.Errorf("%v allocations for 1000 events with %d headers", n, len(headers))
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	addr, _ := startBroker(t, 0, "")
	before := goleak.IgnoreCurrent()
	s, err := configure(t, "kafka.bootstrap.servers="+addr, "kafka.topic=t")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for range 2 {
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := write(t, s, ev("x")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Stop(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	goleak.VerifyNone(t, before)
}

// TestBrokerKilled kills the broker in the middle: what Write reported
// delivered is there after it is back, and nobody has to help.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	addr, kill := startBroker(t, port, dir)
	s := newSink(t, addr, "kafka.topic=t")
	const batches, size = 60, 20
	for b := range batches {
		if b%20 == 10 {
			old := kill
			go func() {
				time.Sleep(time.Duration(b%7) * time.Millisecond)
				old()
			}()
		}
		evs := make([]event.Event, size)
		for i := range evs {
			evs[i].Body = fmt.Appendf(nil, "%08d", b*size+i)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		for done := false; !done; {
			werr := make(chan error, 1)
			go func() { werr <- s.Write(ctx, evs) }()
			select {
			case err := <-werr:
				done = err == nil
				if ctx.Err() != nil {
					t.Fatal(err)
				}
			case <-time.After(2 * time.Second): // it is dead
				kill()
				_, kill = startBroker(t, port, dir)
				if err := <-werr; err == nil {
					done = true
				} else if ctx.Err() != nil {
					t.Fatal(err)
				}
			}
		}
		cancel()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := map[string]bool{}
	for len(seen) < batches*size {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("only %d of %d delivered events are there", len(seen), batches*size)
		}
		for _, r := range fs.Records() {
			seen[string(r.Value)] = true
		}
	}
}
