package pilot

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/sluice-data/sluice/internal/ledger"
)

// sampleState is a run in its middle, with every kind of number on the page.
func sampleState() *State {
	s := &State{
		Phase: phaseRunning, ElapsedMS: 41_000, ForMS: 60_000, Clock: "20160102001100", Speed: 60, Cars: 100, SpoolFiles: 1,
		Processes: []Process{{"simulator", procUp, 4242, 0}, {agentName, procUp, 4243, 0}, {consumerName, procUp, 4244, 0}, {"broker", procRestarting, 4245, 1}},
		Notes:     []string{"12:00:01 Port 9092 for the broker is busy; taking 127.0.0.1:40123 instead.", "12:00:31 broker died (signal: killed); starting it again"},
	}
	s.Sim.Status = LogState{Records: 82_000, Garbage: 928, Bytes: 4_000_000, Files: 2, Rate: 2020}
	s.Sim.Driver = LogState{Records: 123_000, Garbage: 1342, Bytes: 4_600_000, Files: 1, Rate: 3030}
	s.Status = FlowState{Received: 60_806, Rate: 2000, Dropped: 706, ChannelSize: 72_345, Capacity: 100_000, Delivered: 60_100, OutRate: 1980}
	s.Driver = FlowState{Received: 124_342, Rate: 3030, Dropped: 1342, ChannelSize: 1200, Capacity: 100_000, Delivered: 121_800, OutRate: 3000}
	s.Topic.End, s.Topic.Lag, s.Topic.Rate, s.Topic.Known = 121_800, 640, 3000, true
	s.Consumer = FlowState{Received: 121_160, Rate: 2990, Capacity: 100_000, Delivered: 121_160, OutRate: 2990}
	s.Series = []Series{{"status → log", blue, 1980}, {"drivers → topic", orange, 3000}, {"topic → files", green, 2990}}
	for i := range 160 {
		f := float64(i)
		s.History = append(s.History, Point{int64(i) * 500, []float64{1000 + 900*math.Sin(f/20), 3000 + 150*math.Sin(f/5), 2900 + 300*math.Cos(f/7)}})
	}
	return s
}

func servePage(t *testing.T) *page {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newPage(l)
}

func get(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPageServes(t *testing.T) {
	p := servePage(t)
	if err := p.publish(sampleState()); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, p.url, ""); code != 200 || !strings.Contains(body, "Sluice pilot") {
		t.Errorf("/: %d", code)
	}
	for _, external := range []string{"http://", "https://"} {
		for line := range strings.Lines(string(indexHTML)) {
			if strings.Contains(strings.ReplaceAll(line, external+"www.w3.org", ""), external) {
				t.Errorf("the page names another server: %s", line)
			}
		}
	}
	code, body := get(t, p.url+"/api/state", "")
	var got State
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.Status.Delivered != 60_100 {
		t.Errorf("/api/state: %d, %v, %+v", code, err, got.Status)
	}
	if code, _ := get(t, p.url+"/etc/passwd", ""); code != 404 {
		t.Errorf("another path: %d", code)
	}
	if code, _ := get(t, p.url, "evil.example:80"); code != 403 {
		t.Errorf("a foreign host name: %d", code)
	}
	if code, _ := get(t, p.url, "localhost:1"); code != 200 {
		t.Errorf("localhost: %d", code)
	}

	// A stream gets each change and, at the end, the last state.
	resp, err := http.Get(p.url + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := sampleState()
	s.Phase = phaseDone
	if err := p.publish(s); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	events := strings.Split(strings.TrimSpace(string(stream)), "\n\n")
	if last := events[len(events)-1]; !strings.Contains(last, `"phase":"done"`) {
		t.Errorf("the last event is %.200s", last)
	}
}

// browser starts a headless Chromium where one is installed.
func browser(t *testing.T) context.Context {
	t.Helper()
	exe := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			exe = path
			break
		}
	}
	if exe == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Chromium is installed, and CI=true demands one")
		}
		t.Skip("NOT CHECKED: the live page in a browser, as no Chromium is installed (chromium, google-chrome, headless-shell)")
	}
	// Not the default options: the fewer switches, the more like a user's.
	alloc, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(exe), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(3*time.Minute), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancelTab := chromedp.NewContext(alloc)
	ctx, cancelTime := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(func() { cancelTime(); cancelTab(); cancel() })
	return ctx
}

func TestPageInBrowser(t *testing.T) {
	ctx := browser(t)
	p := servePage(t)
	if err := p.publish(sampleState()); err != nil {
		t.Fatal(err)
	}
	faults := pageFaults(ctx)
	shots := os.Getenv("SLUICE_SCREENSHOTS") // a directory, to look at the page
	for _, c := range []struct {
		name   string
		width  int64
		height int64
		scheme string
	}{{"wide-light", 1280, 900, "light"}, {"wide-dark", 1280, 900, "dark"}, {"narrow-light", 400, 800, "light"}, {"narrow-dark", 400, 800, "dark"}} {
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: c.scheme}},
		}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(c.width, c.height), chromedp.Navigate(p.url)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		awaitScript(t, ctx, `document.getElementById("v-logger").textContent !== "–"`)
		got, err := chromedp.Run(ctx, chromedp.Evaluate[shown](`({
			phase: document.getElementById("phase").textContent,
			logged: document.getElementById("v-logger").textContent,
			topic: document.getElementById("v-topic").textContent,
			dropped: document.getElementById("dropped").textContent,
			processes: document.getElementById("processes").textContent,
			overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
			nodes: document.querySelectorAll("svg .node").length,
			fill: parseFloat(document.getElementById("f-chan1").getAttribute("width")) / parseFloat(document.querySelector("svg .track").getAttribute("width")),
			dark: getComputedStyle(document.body).backgroundColor.match(/\d+/)[0] < 100,
		})`))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got.Phase != "running" || got.Logged != "60,100" || got.Topic != "121,800" || got.Dropped != "2,048" {
			t.Errorf("%s: %+v", c.name, got)
		}
		if !strings.Contains(got.Processes, "restarting · 1 restart") {
			t.Errorf("%s: processes %q", c.name, got.Processes)
		}
		if got.Overflow > 0 {
			t.Errorf("%s: the page is %d pixels wider than the window", c.name, got.Overflow)
		}
		if got.Nodes != 14 {
			t.Errorf("%s: %d nodes in the topology, want 14", c.name, got.Nodes)
		}
		if math.Abs(got.Fill-0.72345) > 0.01 {
			t.Errorf("%s: the fill of the channel is drawn as %.3f, want 0.723", c.name, got.Fill)
		}
		if got.Dark != (c.scheme == "dark") {
			t.Errorf("%s: dark is %v", c.name, got.Dark)
		}
		screenshot(t, ctx, shots, c.name)
	}

	// The page follows: new numbers come without a reload, and the ledger at
	// the end.
	s := sampleState()
	s.Phase, s.Status.Delivered = phaseDone, 82_000
	s.Ledger = &ledger.Result{Balanced: false, Flows: []ledger.Flow{{Name: ledger.StatusFlow, Written: 10, Expected: 9, Arrived: 8, Missing: 1, Notes: []string{`missing, record 3: "<b>x</b>"`}}}}
	if err := p.publish(s); err != nil {
		t.Fatal(err)
	}
	awaitScript(t, ctx, `document.getElementById("v-logger").textContent === "82,000"`)
	verdict, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#verdict")))
	if err != nil {
		t.Fatal(err)
	}
	note, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#ledger-notes")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(verdict, "NOT balance") || !strings.Contains(note, "<b>x</b>") {
		t.Errorf("verdict %q, note %q", verdict, note)
	}
	screenshot(t, ctx, shots, "ledger")

	// A run that ends in Hadoop names other parts.
	run := &smartCar{pilot: &pilot{Options: Options{Hadoop: ledger.Hadoop{HDFS: "hdfs://server01.hadoop.com:8020/a-rather-long-directory-of-this-run", HBase: "server02.hadoop.com:2181"}}}}
	e := run.ends()
	s.Ends = &e
	s.Ledger = &ledger.Result{Balanced: true, Flows: []ledger.Flow{{Name: ledger.HBaseFlow, Written: 9, Expected: 9, Arrived: 9, InOrder: true, Unordered: true}}}
	if err := p.publish(s); err != nil {
		t.Fatal(err)
	}
	for name, width := range map[string]int64{"hadoop-wide": 1280, "hadoop-narrow": 400} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(p.url)); err != nil {
			t.Fatal(err)
		}
		awaitScript(t, ctx, `document.getElementById("v-logger").textContent !== "–"`)
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("main").textContent + "in order: " + document.querySelector("#ledger-table td:last-child").textContent + (document.documentElement.scrollWidth > document.documentElement.clientWidth ? "TOO WIDE" : "")`))
		if err != nil {
			t.Fatal(err)
		}
		for want, there := range map[string]bool{"HDFS sink": true, "HBase sink": true, "file channel": true, "status records not in HDFS yet": true, "status ends inhdfs://server01": true,
			"driving records end inDriverCarInfo": true, "in order: –": true, "file_roll": false, "logger": false, "TOO WIDE": false} {
			if got := strings.Contains(text, want); got != there {
				t.Errorf("%s: that the page has %q is %v", name, want, got)
			}
		}
		screenshot(t, ctx, shots, name)
	}
	for _, f := range faults() {
		t.Errorf("the page's script: %s", f)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

// shown is what the test reads off the page.
type shown struct {
	Phase     string  `json:"phase"`
	Logged    string  `json:"logged"`
	Topic     string  `json:"topic"`
	Dropped   string  `json:"dropped"`
	Processes string  `json:"processes"`
	Overflow  int     `json:"overflow"`
	Nodes     int     `json:"nodes"`
	Fill      float64 `json:"fill"`
	Dark      bool    `json:"dark"`
}

// pageFaults collects what the page's script writes to the console as an
// error, and its exceptions; the returned function gives them.
func pageFaults(ctx context.Context) func() []string {
	var mu sync.Mutex
	var faults []string
	messages := chromedp.Console(ctx)
	go func() { // ends with ctx
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" {
				mu.Lock()
				faults = append(faults, m.String())
				mu.Unlock()
			}
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return faults
	}
}

// awaitScript waits until an expression is true on the page.
func awaitScript(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for ctx.Err() == nil {
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression)); err != nil {
			t.Fatal(err)
		} else if ok {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the page never came to %s", expression)
}

func screenshot(t *testing.T, ctx context.Context, dir, name string) {
	t.Helper()
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644); err != nil {
		t.Error(err)
	}
}
