package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// spoolNames are the names under which a corpus is handed to a spooldir source.
func (c corpus) spoolNames() []string {
	names := make([]string, c.Times)
	for i := range names {
		names[i] = fmt.Sprintf("corpus-%03d.txt", i)
	}
	return names
}

// input is how the corpus reaches an agent that is already up.
type input struct {
	place   place
	release func() error                    // lets the flow begin
	check   func(ctx context.Context) error // looks at what arrived outside the agent
	after   func(ctx context.Context) error // the same, when the agent has ended; nil: nothing
}

func (b *bench) input(ctx context.Context, w workload, dir string, c corpus) (input, error) {
	in, err := b.begin(ctx, w, dir, c)
	if err != nil {
		return in, err
	}
	return in, b.hadoop.end(ctx, w, filepath.Base(dir), c, &in)
}

// begin is the input up to the source.
func (b *bench) begin(ctx context.Context, w workload, dir string, c corpus) (input, error) {
	if w.tail {
		return tailInput(dir, c)
	}
	if w.source {
		return b.topicInput(ctx, filepath.Base(dir), c)
	}
	if !w.kafka {
		spool := filepath.Join(dir, "spool")
		port, err := freePort()
		if err != nil {
			return input{}, err
		}
		return input{
			place: place{Spool: spool, Port: port, Channel: filepath.Join(dir, "channel")},
			// A hard link: the file appears at once and whole, and the corpus
			// outlives the agent's deleting it.
			release: func() error {
				for _, name := range c.spoolNames() {
					if err := os.Link(c.Path, filepath.Join(spool, name)); err != nil {
						return fmt.Errorf("drop the file: %w", err)
					}
				}
				return nil
			},
			check: func(context.Context) error { return nil },
		}, nil
	}

	topic := filepath.Base(dir)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.broker))
	if err != nil {
		return input{}, fmt.Errorf("connect to Kafka: %w", err)
	}
	adm := kadm.NewClient(cl)
	if r, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil || r.Err != nil {
		cl.Close()
		return input{}, fmt.Errorf("create topic %s: %w", topic, errors.Join(err, r.Err))
	}
	feed, gate, err := gatedCat(dir, c.Path, c.Times)
	if err != nil {
		cl.Close()
		return input{}, err
	}
	return input{
		place:   place{Command: "sh " + feed, Broker: b.broker, Topic: topic},
		release: func() error { return openGate(ctx, gate) },
		check: func(ctx context.Context) error {
			defer cl.Close()
			ends, err := adm.ListEndOffsets(ctx, topic)
			if err != nil {
				return fmt.Errorf("count the records of %s: %w", topic, err)
			}
			e, ok := ends.Lookup(topic, 0)
			if !ok || e.Err != nil {
				return fmt.Errorf("count the records of %s: %v", topic, e.Err)
			}
			if e.Offset != c.Kept {
				return fmt.Errorf("topic %s holds %d records, %d lines were read", topic, e.Offset, c.Kept)
			}
			if _, err := adm.DeleteTopics(ctx, topic); err != nil {
				return fmt.Errorf("delete topic %s: %w", topic, err)
			}
			return nil
		},
	}, nil
}

// tailInput makes the files beside the directory that is followed and moves
// them in: one file under many names would be one file.
func tailInput(dir string, c corpus) (input, error) {
	spool, ready := filepath.Join(dir, "spool"), filepath.Join(dir, "ready")
	if err := os.Mkdir(ready, 0o755); err != nil {
		return input{}, fmt.Errorf("prepare input: %w", err)
	}
	names := c.spoolNames()
	for i, name := range names {
		to := filepath.Join(ready, name)
		var err error
		if i == 0 {
			err = os.Link(c.Path, to)
		} else {
			err = copyFile(c.Path, to)
		}
		if err != nil {
			return input{}, fmt.Errorf("prepare input: %w", err)
		}
	}
	return input{
		place: place{Spool: spool},
		release: func() error {
			for _, name := range names {
				if err := os.Rename(filepath.Join(ready, name), filepath.Join(spool, name)); err != nil {
					return fmt.Errorf("move the file in: %w", err)
				}
			}
			return nil
		},
		check: func(context.Context) error { return nil },
	}, nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// gatedCat writes a script that waits in the open of a named pipe, which costs
// no CPU time, and becomes cat when openGate opens the pipe at this end. So an
// exec flow begins when the agent is up, as a spooldir flow does.
func gatedCat(dir, file string, times int) (script, gate string, err error) {
	script, gate = filepath.Join(dir, "feed.sh"), filepath.Join(dir, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		return "", "", fmt.Errorf("make pipe: %w", err)
	}
	text := fmt.Sprintf("read -r line <'%s'\nexec cat%s\n", gate, strings.Repeat(" '"+file+"'", times))
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		return "", "", fmt.Errorf("write command: %w", err)
	}
	return script, gate, nil
}

// openGate lets the command that reads a line from the pipe go on.
func openGate(ctx context.Context, gate string) error {
	for {
		f, err := os.OpenFile(gate, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) { // nobody reads yet: the agent has not started the command
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for the exec source to start its command: %w", context.Cause(ctx))
			case <-time.After(10 * time.Millisecond):
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("open pipe: %w", err)
		}
		if _, err := f.WriteString("go\n"); err != nil {
			return errors.Join(fmt.Errorf("write pipe: %w", err), f.Close())
		}
		return f.Close()
	}
}
