package spillablememory

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
)

func decode(t *testing.T, props ...component.Property) (Config, []component.Finding, error) {
	t.Helper()
	cfg := new(config)
	findings := component.Decode(component.Default(), cfg, props)
	ch, err := cfg.NewChannel(component.Env{Properties: map[string]string{"user.home": "/home/u"}, Finding: func(f component.Finding) { findings = append(findings, f) }})
	if err != nil {
		return Config{}, findings, err
	}
	return ch.(*Channel).cfg, findings, nil
}

func prop(k, v string) component.Property { return component.Property{Key: k, Value: v} }

func TestConfig(t *testing.T) {
	c, findings, err := decode(t)
	if err != nil || len(findings) != 0 {
		t.Fatal(findings, err)
	}
	if c.MemoryCapacity != 10000 || c.OverflowCapacity != 100000000 || c.TransactionCapacity != 10000 || c.Timeout != 3*time.Second || c.Threshold != 5 || c.SlotSize != 500 ||
		c.File.CheckpointDir != "/home/u/.flume/file-channel/checkpoint" || c.File.Capacity != 100000000 || c.File.KeepAlive != 3*time.Second {
		t.Errorf("defaults: %+v", c)
	}
	// Flume falls back to the defaults where a number is none.
	c, findings, err = decode(t, prop("memoryCapacity", "-1"), prop("overflowCapacity", "many"), prop("overflowTimeout", "-2"), prop("avgEventSize", "0"))
	if err != nil || len(findings) != 4 || c.MemoryCapacity != 10000 || c.OverflowCapacity != 100000000 || c.Timeout != 3*time.Second || c.SlotSize != 500 {
		t.Errorf("bad numbers: %+v, %v, %v", c, findings, err)
	}
	c, findings, err = decode(t, prop("byteCapacity", "10000"), prop("byteCapacityBufferPercentage", "50"), prop("avgEventSize", "100"), prop("overflowTimeout", "0"), prop("checkpointDir", "/c"), prop("dataDirs", "/a,/b"),
		prop("overflowDeactivationThreshold", "30"), prop("transactionCapacity", "7"), prop("memoryCapacity", "20"), prop("overflowCapacity", "5"))
	if err != nil || len(findings) != 0 || c.Slots != 50 || c.SlotSize != 100 || c.Timeout != 0 || c.File.CheckpointDir != "/c" || len(c.File.DataDirs) != 2 || c.Threshold != 30 ||
		c.TransactionCapacity != 7 || c.MemoryCapacity != 20 || c.OverflowCapacity != 5 {
		t.Errorf("%+v, %v, %v", c, findings, err)
	}
	if c, _, _ := decode(t, prop("byteCapacity", "0")); c.Slots != math.MaxInt32 {
		t.Errorf("byteCapacity 0: %d slots", c.Slots)
	}
	c, findings, err = decode(t, prop("memoryCapacity", "0"), prop("overflowCapacity", "0"))
	if err != nil || len(findings) != 1 || findings[0].Key != "overflowCapacity" || c.OverflowCapacity != 100000000 {
		t.Errorf("no part at all: %+v, %v, %v", c, findings, err)
	}
	c, findings, err = decode(t, prop("memoryCapacity", "50"), prop("overflowCapacity", "-1"))
	if err != nil || len(findings) != 0 || c.OverflowCapacity != 0 || c.TransactionCapacity != 50 || len(c.File.DataDirs) != 0 {
		t.Errorf("memory only: %+v, %v, %v", c, findings, err)
	}
	if c, findings, _ := decode(t, prop("memoryCapacity", "50"), prop("overflowCapacity", "60"), prop("transactionCapacity", "61")); len(findings) != 1 || c.TransactionCapacity != 60 {
		t.Errorf("transactionCapacity above both: %d, %v", c.TransactionCapacity, findings)
	}
	for _, key := range []string{"capacity", "keep-alive"} {
		if _, findings, err := decode(t, prop(key, "5")); err != nil || len(findings) != 1 || findings[0].Error {
			t.Errorf("%s: %v, %v", key, findings, err)
		}
	}
	var ke *component.KeyError
	if _, _, err := decode(t, prop("checkpointDir", "/a"), prop("dataDirs", "/a")); !errors.As(err, &ke) || ke.Key != "dataDirs" {
		t.Errorf("one directory twice: %v", err)
	}
}
