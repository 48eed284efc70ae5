package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// peer is a broker under test.
type peer interface {
	Name() string
	// Start returns when the process is there; it may not be ready yet. dir
	// keeps the data from one start to the next.
	Start(ctx context.Context, dir string) (*brokerProcess, error)
}

// brokerProcess is a running broker.
type brokerProcess struct {
	pid   int
	addr  string
	begun time.Time
	log   string
	stop  func() error
	kill  func() error
}

func (p *brokerProcess) Log() string { return tailOf(p.log) }

type sluiceBroker struct{ binary string }

func (sluiceBroker) Name() string { return "sluice" }

func (s sluiceBroker) Start(_ context.Context, dir string) (*brokerProcess, error) {
	port, err := brokerPort(dir)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "sluice.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	addr := "127.0.0.1:" + strconv.Itoa(port)
	cmd := exec.Command(s.binary, "broker", "--data", filepath.Join(dir, "data"), "--listen", addr, "--max-disk", "none")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	p := &sluiceProcess{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	return &brokerProcess{pid: p.PID(), addr: addr, begun: begun, log: log.Name(), stop: p.Stop, kill: func() error {
		if err := cmd.Process.Kill(); err != nil {
			return fmt.Errorf("kill sluice: %w", err)
		}
		<-p.done
		return nil
	}}, nil
}

// brokerPort picks a port for the directory once, so that a restarted broker
// is where clients look for it.
func brokerPort(dir string) (int, error) {
	file := filepath.Join(dir, "port")
	if b, err := os.ReadFile(file); err == nil {
		return strconv.Atoi(string(b))
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	return port, os.WriteFile(file, []byte(strconv.Itoa(port)), 0o644)
}

// kafkaBroker runs Apache Kafka through the script that the interop tests use.
type kafkaBroker struct{ script, heap string }

func (kafkaBroker) Name() string { return "kafka" }

// kafkaProps only make deleted topics leave the disk before the next run.
const kafkaProps = "log.segment.delete.delay.ms=1000\n"

func (k kafkaBroker) Start(ctx context.Context, dir string) (*brokerProcess, error) {
	port, err := brokerPort(dir)
	if err != nil {
		return nil, err
	}
	props := filepath.Join(dir, "extra.properties")
	if err := os.WriteFile(props, []byte(kafkaProps), 0o644); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	home := filepath.Join(dir, "kafka")
	cmd := exec.CommandContext(ctx, k.script, "start", home)
	cmd.Env = append(os.Environ(), fmt.Sprintf("KAFKA_PORT=%d", port), "KAFKA_HEAP="+k.heap, "KAFKA_PROPS="+props)
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start kafka: %w\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(home, "node1", "node1.pid"))
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	text, _, _ := strings.Cut(string(b), " ")
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("start kafka: read its pid file: %w", err)
	}
	return &brokerProcess{pid: pid, addr: fmt.Sprintf("127.0.0.1:%d", port), begun: begun, log: filepath.Join(home, "node1", "log"),
		stop: func() error {
			if out, err := exec.Command(k.script, "stop", home).CombinedOutput(); err != nil {
				return fmt.Errorf("stop kafka: %w\n%s", err, out)
			}
			return nil
		},
		kill: func() error {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill kafka: %w", err)
			}
			for {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, os.ErrNotExist) {
					return nil
				}
				time.Sleep(time.Millisecond)
			}
		}}, nil
}

// ready waits until the broker answers ApiVersions and returns how long after
// the start of its process that was.
func (p *brokerProcess) ready(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		c, err := dialBroker(ctx, p.addr)
		if err == nil {
			req := kmsg.NewPtrApiVersionsRequest()
			_, err = c.ask(req)
			c.Close()
			if err == nil {
				return time.Since(p.begun), nil
			}
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("the broker is not ready: %w\n--- the end of its log:\n%s", err, p.Log())
		}
		time.Sleep(time.Millisecond)
	}
}

// createTopic makes a topic and waits until every partition has its leader.
func (p *brokerProcess) createTopic(ctx context.Context, name string, parts int) error {
	c, err := dialBroker(ctx, p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 30_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, int32(parts), 1
	req.Topics = append(req.Topics, rt)
	r, err := c.ask(req)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	if err := kerr.ErrorForCode(r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	for ctx.Err() == nil {
		md := kmsg.NewPtrMetadataRequest()
		md.Version = 9
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(name)
		md.Topics = append(md.Topics, mt)
		r, err := c.ask(md)
		if err != nil {
			return fmt.Errorf("wait for topic %s: %w", name, err)
		}
		t := r.(*kmsg.MetadataResponse).Topics[0]
		led := 0
		for _, tp := range t.Partitions {
			if tp.ErrorCode == 0 && tp.Leader >= 0 {
				led++
			}
		}
		// The metadata is there before the log is: ask the log itself.
		if t.ErrorCode == 0 && led == parts {
			there := 0
			for there < parts {
				if _, err := c.endOffset(name, int32(there)); err != nil {
					break
				}
				there++
			}
			if there == parts {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("wait for topic %s: %w", name, context.Cause(ctx))
}

func (p *brokerProcess) deleteTopic(ctx context.Context, name string) error {
	c, err := dialBroker(ctx, p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 5, 30_000, []string{name}
	r, err := c.ask(req)
	if err == nil {
		err = kerr.ErrorForCode(r.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}

// endOffset asks where a partition ends.
func (c *kconn) endOffset(topic string, part int32) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 6
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = part, -1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	r, err := c.ask(req)
	if err != nil {
		return 0, err
	}
	a := r.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return a.Offset, kerr.ErrorForCode(a.ErrorCode)
}

// count adds up the end offsets of a topic.
func (p *brokerProcess) count(ctx context.Context, topic string, parts int) (n int64, err error) {
	c, err := dialBroker(ctx, p.addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for i := range parts {
		end, err := c.endOffset(topic, int32(i))
		if err != nil {
			return 0, fmt.Errorf("count the records of %s: %w", topic, err)
		}
		n += end
	}
	return n, nil
}
