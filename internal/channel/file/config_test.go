package file

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
)

func decode(t *testing.T, props ...component.Property) (Config, []component.Finding, error) {
	t.Helper()
	cfg := new(config)
	findings := component.Decode(component.Default(), cfg, props)
	ch, err := cfg.NewChannel(component.Env{Properties: map[string]string{"user.home": "/home/u"}})
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
	if c.CheckpointDir != "/home/u/.flume/file-channel/checkpoint" || !slices.Equal(c.DataDirs, []string{"/home/u/.flume/file-channel/data"}) || c.BackupDir != "" ||
		c.Capacity != 1000000 || c.TransactionCapacity != 10000 || c.KeepAlive != 3*time.Second || c.MaxFileSize != 1623195647 || c.MinFree != 524288000 ||
		c.CheckpointEvery != 30*time.Second || c.NoCheckpointOnClose || c.SyncEvery != 0 {
		t.Errorf("defaults: %+v", c)
	}
	c, findings, err = decode(t, prop("checkpointDir", " /c "), prop("dataDirs", "/a , ,/b/,d"), prop("capacity", "-1"), prop("minimumRequiredSpace", "1"), prop("maxFileSize", "9999999999"),
		prop("checkpointInterval", "5"), prop("useDualCheckpoints", "true"), prop("backupCheckpointDir", "/k"), prop("fsyncPerTransaction", "false"), prop("checkpointOnClose", "false"))
	rel, aerr := filepath.Abs("d")
	if aerr != nil {
		t.Fatal(aerr)
	}
	if err != nil || len(findings) != 1 || c.CheckpointDir != "/c" || !slices.Equal(c.DataDirs, []string{"/a", "/b", rel}) || c.Capacity != 1000000 || c.MinFree != 1<<20 ||
		c.MaxFileSize != 1623195647 || c.CheckpointEvery != time.Second || c.BackupDir != "/k" || c.SyncEvery != 5*time.Second || !c.NoCheckpointOnClose {
		t.Errorf("%+v, %v, %v", c, findings, err)
	}
	for key, props := range map[string][]component.Property{
		"transactionCapacity": {prop("capacity", "10")},
		"dataDirs":            {prop("checkpointDir", "/a"), prop("dataDirs", "/b,/a/")},
		"backupCheckpointDir": {prop("useDualCheckpoints", "true")},
	} {
		_, _, err := decode(t, props...)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
}
