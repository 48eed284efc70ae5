//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const pilotAgent = "SmartCar_Agent"

// site is one agent's working directory, laid out as the handbook has it.
type site struct {
	dir, spool, driverLog, conf string
}

// newSite makes the directories and the agent file of a stage of the handbook,
// with its paths and its broker replaced.
func newSite(t *testing.T, stage int, broker string) site {
	t.Helper()
	dir := t.TempDir()
	s := site{
		dir:       dir,
		spool:     filepath.Join(dir, "car-batch-log"),
		driverLog: filepath.Join(dir, "driver-realtime-log", "SmartCarDriverInfo.log"),
		conf:      filepath.Join(dir, "agent.conf"),
	}
	text := strings.NewReplacer("/home/pilot-pjt/working", dir, "server02.hadoop.com:9092", broker).Replace(handbook(t, stage))
	if strings.Contains(text, dir+" /car-batch-log") { // stage 3 was published with a blank in the path
		s.spool = filepath.Join(dir+" ", "car-batch-log")
		t.Cleanup(func() { os.RemoveAll(dir + " ") })
	}
	for _, d := range []string{s.spool, filepath.Dir(s.driverLog)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string]string{s.conf: text, s.driverLog: ""} {
		if err := os.WriteFile(name, []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// handbook is the agent file of a stage as it was published, where the
// collection of such files is at hand, and else the same settings written anew.
func handbook(t *testing.T, stage int) string {
	t.Helper()
	shared := os.Getenv("SLUICE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(shared, "flume-conf", fmt.Sprintf("%03d-wikibook-bigdata2nd-SmartCar_Agent.conf", stage)))
	if err == nil {
		return string(b)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	t.Logf("NOT CHECKED with the handbook's own file (set SLUICE_SHARED): using the same settings written anew")
	return ownStage(stage)
}

// ownStage is a stage of the handbook's file in our words: the same names and
// values. The third names a source, a channel and a sink that it does not
// configure, and has a blank in a path.
func ownStage(stage int) string {
	const status = `
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.type = spooldir
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.spoolDir = /home/pilot-pjt/working/car-batch-log
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.deletePolicy = immediate
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.batchSize = 1000
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.channels = SmartCarInfo_Channel
SmartCar_Agent.channels.SmartCarInfo_Channel.type = memory
SmartCar_Agent.channels.SmartCarInfo_Channel.capacity = 100000
SmartCar_Agent.channels.SmartCarInfo_Channel.transactionCapacity = 10000
SmartCar_Agent.sinks.SmartCarInfo_LoggerSink.type = logger
SmartCar_Agent.sinks.SmartCarInfo_LoggerSink.channel = SmartCarInfo_Channel
`
	const statusFilter = `
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors = filterInterceptor
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.type = regex_filter
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.regex = ^\\d{14}
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.excludeEvents = false
`
	const driver = `
SmartCar_Agent.sources.DriverCarInfo_TailSource.type = exec
SmartCar_Agent.sources.DriverCarInfo_TailSource.command = tail -F /home/pilot-pjt/working/driver-realtime-log/SmartCarDriverInfo.log
SmartCar_Agent.sources.DriverCarInfo_TailSource.restart = true
SmartCar_Agent.sources.DriverCarInfo_TailSource.batchSize = 1000
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors = filterInterceptor2
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.type = regex_filter
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.regex = ^\\d{14}
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.excludeEvents = false
SmartCar_Agent.sources.DriverCarInfo_TailSource.channels = DriverCarInfo_Channel
SmartCar_Agent.channels.DriverCarInfo_Channel.type = memory
SmartCar_Agent.channels.DriverCarInfo_Channel.capacity = 100000
SmartCar_Agent.channels.DriverCarInfo_Channel.transactionCapacity = 10000
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.type = org.apache.flume.sink.kafka.KafkaSink
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.topic = SmartCar-Topic
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.brokerList = server02.hadoop.com:9092
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.requiredAcks = 1
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.batchSize = 1000
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.channel = DriverCarInfo_Channel
`
	lists := `SmartCar_Agent.sources = SmartCarInfo_SpoolSource
SmartCar_Agent.channels = SmartCarInfo_Channel
SmartCar_Agent.sinks = SmartCarInfo_LoggerSink
`
	if stage >= 3 {
		lists = `SmartCar_Agent.sources = SmartCarInfo_SpoolSource DriverCarInfo_TailSource
SmartCar_Agent.channels = SmartCarInfo_Channel DriverCarInfo_Channel
SmartCar_Agent.sinks = SmartCarInfo_LoggerSink DriverCarInfo_KafkaSink
`
	}
	switch text := lists + status; stage {
	case 1:
		return text
	case 2:
		return text + statusFilter
	case 3:
		return strings.Replace(text, "/working/", "/working /", 1) + statusFilter
	default:
		return text + statusFilter + driver
	}
}

// drop puts a finished file into the spool directory by a rename, as mv does.
func (s site) drop(t *testing.T, a runningAgent, name, content string) {
	t.Helper()
	tmp := filepath.Join(s.dir, name)
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	spooled := filepath.Join(s.spool, name)
	if err := os.Rename(tmp, spooled); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "the agent reads "+name, func() error {
		if !a.alive() {
			t.Fatalf("the agent has ended:\n%s", tail(a.log(), 3000))
		}
		if _, err := os.Stat(spooled); err == nil {
			return errors.New("it is still there")
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

// appendLog adds to the driver log with one write per piece.
func (s site) appendLog(t *testing.T, pieces ...string) {
	t.Helper()
	f, err := os.OpenFile(s.driverLog, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Error(err) // not Fatal: a writer beside the test calls this too
		return
	}
	defer f.Close()
	for _, p := range pieces {
		if _, err := f.WriteString(p); err != nil {
			t.Error(err)
			return
		}
	}
}

// firstRecord writes the first record into the driver log and waits until the
// topic has it, and with it that tail follows the log: from then on every line
// counts, before that only the last ten.
func (s site) firstRecord(t *testing.T, a runningAgent, kcatBin, addr, topic string) (record string) {
	t.Helper()
	text, kept := driverRecords(1, 1)
	s.appendLog(t, text)
	eventually(t, 3*time.Minute, "the first record comes", func() error {
		if !a.alive() {
			t.Fatalf("the agent has ended:\n%s", tail(a.log(), 3000))
		}
		if endOffset(t, kcatBin, addr, topic) == 0 {
			return errors.New("the topic has none")
		}
		return nil
	})
	return kept[0]
}

// runningAgent is Flume or Sluice.
type runningAgent interface {
	alive() bool
	log() string
	stop(t *testing.T)
}

type flumeAgent struct{ dir string }

func startFlume(t *testing.T, s site) runningAgent {
	t.Helper()
	fetched(t, "flume.sh")
	f := flumeAgent{filepath.Join(s.dir, "flume")}
	t.Cleanup(func() { f.stop(t) })
	if _, err := peer("flume.sh", []string{"FLUME_HEAP=128m", "FLUME_READY=type: SOURCE, name: SmartCarInfo_SpoolSource started"},
		"start", f.dir, s.conf, pilotAgent); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f flumeAgent) alive() bool {
	_, err := peer("flume.sh", nil, "status", f.dir)
	return err == nil
}

func (f flumeAgent) log() string {
	b, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (f flumeAgent) stop(t *testing.T) {
	t.Helper()
	if _, err := peer("flume.sh", nil, "stop", f.dir); err != nil {
		t.Error(err)
	}
}

type sluiceAgent struct{ *sluiceProcess }

func startAgent(t *testing.T, s site) runningAgent {
	t.Helper()
	return sluiceAgent{startSluice(t, "agent", "-n", pilotAgent, "-f", s.conf, "-Duser.home="+s.dir, "-Dflume.root.logger=INFO,console")}
}

func (a sluiceAgent) log() string { return a.out.String() }

var eventLine = regexp.MustCompile(`(?m)Event: \{ headers:\{.*\} body:.* \}$`)

func loggerLines(a runningAgent) []string { return eventLine.FindAllString(a.log(), -1) }

// status is a day's file with what can go wrong in one: headings, blanks,
// other scripts, carriage returns, control characters, a line over the
// deserializer's limit, no newline at the end.
func status() string {
	var b strings.Builder
	for i := range 1500 {
		switch i % 100 {
		case 0:
			b.WriteString("SmartCar Status Information,CarNum,TireFL,TireFR\n")
		case 13:
			b.WriteString("\n")
		case 27:
			fmt.Fprintf(&b, "201601010%05d,서울,%d\n", i, i)
		case 41:
			fmt.Fprintf(&b, "201601010%05d,with a carriage return\r\n", i)
		case 55:
			fmt.Fprintf(&b, "2016\t01\x01%05d\x7f,control characters\n", i)
		case 69:
			fmt.Fprintf(&b, "201601010%05d,%s\n", i, strings.Repeat("20160101000000,", 300))
		case 83:
			fmt.Fprintf(&b, " 201601010%05d,blank in front\n", i)
		default:
			fmt.Fprintf(&b, "201601010%05d,A%04d,100,79,71,87,1,1,1,1,A,A,94\n", i, i%100+1)
		}
	}
	b.WriteString("20160101235959,Z0100,the end")
	return b.String()
}

func agents() map[string]func(*testing.T, site) runningAgent {
	return map[string]func(*testing.T, site) runningAgent{"flume": startFlume, "sluice": startAgent}
}

// TestLoggerStages runs stages 1 to 3 of the handbook's agent file on both
// agents and compares what their logger sinks print, line by line.
func TestLoggerStages(t *testing.T) {
	for stage := 1; stage <= 3; stage++ {
		t.Run(strconv.Itoa(stage), func(t *testing.T) {
			lines := map[string][]string{}
			for name, start := range agents() {
				s := newSite(t, stage, "127.0.0.1:1")
				a := start(t, s)
				s.drop(t, a, "first.txt", status())
				s.drop(t, a, "empty.txt", "")
				s.drop(t, a, "last.txt", "20160102000000,last\n")
				last := "2016010200000" // as far as the logger shows a body
				eventually(t, 3*time.Minute, name+" logs the last event", func() error {
					if l := loggerLines(a); len(l) == 0 || !strings.Contains(l[len(l)-1], last) {
						return fmt.Errorf("%d events logged", len(l))
					}
					return nil
				})
				lines[name] = loggerLines(a)
				a.stop(t)
			}
			if n := len(lines["flume"]); n < 1000 {
				t.Errorf("Flume logged %d events only: this test compares too little", n)
			}
			sameLines(t, "sluice's logger lines against Flume's", lines["sluice"], lines["flume"])
		})
	}
}

// driverRecords is a piece of the driver log with headings in it, and the
// records that pass the filter.
func driverRecords(from, n int) (text string, kept []string) {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		if i%97 == 0 {
			b.WriteString("Driver Status Infomation,CarNum,AccStep,BrkStep,WheelStep,DirLightStep,Speed,AreaNum\n")
		}
		r := fmt.Sprintf("20160101%06d,A%04d,3,0,F,N,%d,D08", i, i%100+1, i%250)
		switch i % 211 {
		case 3:
			r += ",강남대로"
		case 5:
			r += "," + strings.Repeat("x", 3900)
		}
		kept = append(kept, r)
		b.WriteString(r)
		if i%211 == 7 {
			b.WriteByte('\r') // the exec source takes CR LF for one line end
		}
		b.WriteByte('\n')
	}
	return b.String(), kept
}

// TestStage4 runs the handbook's fourth stage, Flume and Sluice each against
// Apache Kafka and the built-in broker: all four topics hold what was written.
func TestStage4(t *testing.T) {
	brokers := map[string]func(*testing.T) string{"apache": kafka.start, "built-in": newBroker}
	kcatBin := program(t, "kcat")
	logged := map[string][]string{}
	for broker, addrOf := range brokers {
		for name, start := range agents() {
			t.Run(name+" to "+broker, func(t *testing.T) {
				addr := addrOf(t)
				s := newSite(t, 4, addr)
				topic := ownTopic("SmartCar-Topic") // one Apache Kafka serves two runs
				renameTopic(t, s.conf, topic)
				a := start(t, s)
				want := []string{s.firstRecord(t, a, kcatBin, addr, topic)}
				s.drop(t, a, "status.txt", status())

				burst, kept := driverRecords(2, 998)
				s.appendLog(t, burst)
				want = append(want, kept...)
				for i := 1000; i < 1500; i += 10 {
					text, kept := driverRecords(i, 10)
					half := len(text) / 2
					s.appendLog(t, text[:half], text[half:]) // a record may arrive in two writes
					want = append(want, kept...)
				}
				eventually(t, 3*time.Minute, "the topic holds every record", func() error {
					if n := endOffset(t, kcatBin, addr, topic); n < len(want) {
						return fmt.Errorf("%d of %d", n, len(want))
					}
					return nil
				})
				eventually(t, 3*time.Minute, "the logger shows the last status record", func() error {
					if l := loggerLines(a); len(l) == 0 || !strings.Contains(l[len(l)-1], "20160101235959") {
						return fmt.Errorf("%d events logged", len(l))
					}
					return nil
				})
				logged[name] = loggerLines(a)
				a.stop(t)
				if n := endOffset(t, kcatBin, addr, topic); n != len(want) {
					t.Errorf("after the agent's end the topic holds %d records, want %d", n, len(want))
				}
				sameLines(t, "records of the topic", kcat{}.consume(t, addr, topic, len(want)), want)
			})
		}
	}
	if len(logged) == 2 {
		sameLines(t, "sluice's logger lines against Flume's", logged["sluice"], logged["flume"])
	}
}

func renameTopic(t *testing.T, conf, topic string) {
	t.Helper()
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	s := strings.ReplaceAll(string(b), "= SmartCar-Topic", "= "+topic)
	if s == string(b) {
		t.Fatalf("%s names no topic SmartCar-Topic", conf)
	}
	if err := os.WriteFile(conf, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

// endOffset asks with kcat until the broker answers; a topic that is not there
// yet has none.
func endOffset(t *testing.T, kcatBin, addr, topic string) (n int) {
	t.Helper()
	eventually(t, 3*time.Minute, "the end of "+topic, func() error {
		out, err := exec.Command(kcatBin, "-Q", "-b", addr, "-t", topic+":0:-1").CombinedOutput()
		for _, early := range []string{"Unknown partition", "Unknown topic"} {
			if bytes.Contains(out, []byte(early)) {
				return nil
			}
		}
		_, off, ok := strings.Cut(strings.TrimSpace(string(out)), " offset ")
		if err != nil || !ok {
			return fmt.Errorf("kcat -Q: %v: %s", err, out)
		}
		n, err = strconv.Atoi(off)
		return err
	})
	return n
}

// TestBrokerKilled kills the built-in broker three times with SIGKILL while an
// agent writes to it. Nothing that the topic held before a kill may be gone or
// changed after it, and in the end every line is there, in order at its first
// appearance: at least once.
func TestBrokerKilled(t *testing.T) {
	kcatBin := program(t, "kcat")
	dir, addr := filepath.Join(t.TempDir(), "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	b := startBroker(t, dir, addr)
	const topic = "SmartCar-Topic"
	s := newSite(t, 4, addr)
	a := startAgent(t, s)

	// Lines keep coming all the time, so that every kill hits records on their way.
	want := []string{s.firstRecord(t, a, kcatBin, addr, topic)} // the writer's until it has ended
	stop, ended := make(chan struct{}), make(chan struct{})
	endWriter := sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(endWriter)
	go func() {
		defer close(ended)
		for {
			text, kept := driverRecords(1+len(want), 100)
			s.appendLog(t, text)
			want = append(want, kept...)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	read := func(n int) []string { return kcat{}.consume(t, addr, topic, n) }
	for range 3 {
		before := endOffset(t, kcatBin, addr, topic)
		eventually(t, 3*time.Minute, "the topic grows", func() error {
			if n := endOffset(t, kcatBin, addr, topic); n < before+2000 {
				return fmt.Errorf("from %d records to %d", before, n)
			}
			return nil
		})
		held := read(endOffset(t, kcatBin, addr, topic))
		b.kill()
		b = startBroker(t, dir, addr)
		if n := endOffset(t, kcatBin, addr, topic); n < len(held) {
			t.Fatalf("the topic held %d records before the kill and %d after it", len(held), n)
		}
		sameLines(t, "records from before the kill", read(len(held)), held)
	}
	endWriter()
	last := want[len(want)-1]
	var got []string
	eventually(t, 3*time.Minute, "the agent delivers the rest by itself", func() error {
		n := endOffset(t, kcatBin, addr, topic)
		if n < len(want) {
			return fmt.Errorf("%d of %d records", n, len(want))
		}
		if got = read(n); !slices.Contains(got, last) {
			return errors.New("the last record is missing")
		}
		return nil
	})
	a.stop(t)
	seen := map[string]bool{}
	var first []string
	for _, r := range got {
		if !seen[r] {
			seen[r] = true
			first = append(first, r)
		}
	}
	sameLines(t, "records at their first appearance", first, want)
	t.Logf("%d records written, %d in the topic: %d sent twice around three kills", len(want), len(got), len(got)-len(want))
}
