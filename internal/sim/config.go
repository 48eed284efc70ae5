// Package sim writes the two logs of the smart-car pilot: the status of every
// car each 3 s into one file a day, and the driving records of every driver as
// they happen into one growing log. What it writes follows from the seed and
// the Config alone, never from the clock of the machine, so a run can be
// repeated, resumed after a kill and checked by content against its Manifest.
package sim

import (
	"fmt"
	"time"
)

// Steps of the simulated clock, in seconds. The book samples a car's status
// each 3 s; the driving step of 2 s is the handbook's own simulator's.
const (
	StatusStep = 3
	DriverStep = 2

	secondsPerDay = 86400
	// StatusTicksPerDay is the number of status records of one car in a whole
	// day: 00:00:00 to 23:59:57.
	StatusTicksPerDay = secondsPerDay / StatusStep
)

// Limits of a Config.
const (
	MaxCars        = 9999 // the car number has four digits
	MaxRecordBytes = 4096 // the handbook's "under 4 KB"
	MaxGarbage     = 0.9
)

// stampLayout is time14, the first field of every record.
const stampLayout = "20060102150405"

// Config is everything that decides the bytes: the same Config gives the same
// lines in the same files. It is stored in the manifest.
type Config struct {
	// Start is the simulated instant at which the running clock begins, as
	// yyyyMMddHHmmss. With Days, the whole days begin with Start's date and
	// the running clock begins Days days after Start.
	Start string `json:"start"`
	// Days is the number of whole status days written before the clock runs.
	Days int `json:"days"`
	// Cars is the number of cars and of drivers, 1 to 9999.
	Cars int    `json:"cars"`
	Seed uint64 `json:"seed"`
	// Garbage is the share of garbage among all lines, 0 to 0.9; the headings
	// come on top.
	Garbage float64 `json:"garbage"`
	// RecordBytes pads a driving record to this length (without its line
	// feed) by a ninth field; 0 leaves records as they are.
	RecordBytes int `json:"record_bytes"`
	// RotateBytes renames the driving log before it would grow beyond this
	// many bytes; 0 never rotates.
	RotateBytes int64 `json:"rotate_bytes"`
	// BurstEvery is the simulated seconds between bursts, in which all
	// drivers report at the same instant in one write; a multiple of
	// DriverStep, 0 for none.
	BurstEvery int `json:"burst_every"`
	// Status and Driver say which of the two logs are written.
	Status bool `json:"status"`
	Driver bool `json:"driver"`
}

// Validate names the first setting that is out of its limits.
func (c Config) Validate() error {
	if _, err := c.start(); err != nil {
		return err
	}
	switch {
	case c.Cars < 1 || c.Cars > MaxCars:
		return fmt.Errorf("cars is %d: give 1 to %d", c.Cars, MaxCars)
	case c.Days < 0:
		return fmt.Errorf("days is %d: give 0 or more", c.Days)
	case !(c.Garbage >= 0 && c.Garbage <= MaxGarbage):
		return fmt.Errorf("garbage is %v: give a share of 0 to %v", c.Garbage, MaxGarbage)
	case c.RecordBytes < 0 || c.RecordBytes > MaxRecordBytes:
		return fmt.Errorf("record bytes is %d: give 0 to %d", c.RecordBytes, MaxRecordBytes)
	case c.RotateBytes < 0:
		return fmt.Errorf("rotate bytes is %d: give 0 (never) or more", c.RotateBytes)
	case c.BurstEvery < 0 || c.BurstEvery%DriverStep != 0:
		return fmt.Errorf("burst interval is %d s of simulated time: give a multiple of %d s, or 0 for none", c.BurstEvery, DriverStep)
	case !c.Status && !c.Driver:
		return fmt.Errorf("neither the status log nor the driving log is to be written: enable one of them")
	case c.Days > 0 && !c.Status:
		return fmt.Errorf("days is %d but the status log is off: whole days are days of the status log", c.Days)
	}
	return nil
}

// start is Start as seconds since the Unix epoch. Simulated time has no zone
// and no leap seconds: a day is 86,400 s.
func (c Config) start() (int64, error) {
	sec, err := ParseStamp(c.Start)
	if err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	return sec, nil
}

// clockStart is the simulated second at which the running clock begins.
func (c Config) clockStart() int64 {
	sec, err := c.start()
	if err != nil {
		panic("sim: Config used without Validate: " + err.Error())
	}
	return sec + int64(c.Days)*secondsPerDay
}

// ParseStamp reads yyyyMMdd or yyyyMMddHHmmss as seconds of simulated time.
func ParseStamp(s string) (int64, error) {
	full := s
	if len(s) == 8 {
		full += "000000"
	}
	t, err := time.Parse(stampLayout, full)
	if err != nil || len(full) != 14 {
		return 0, fmt.Errorf("%q is not a simulated time: write yyyyMMdd or yyyyMMddHHmmss", s)
	}
	return t.Unix(), nil
}

// FormatStamp is the inverse of ParseStamp: time14.
func FormatStamp(sec int64) string { return time.Unix(sec, 0).UTC().Format(stampLayout) }

// ceilTo rounds sec up to a multiple of step.
func ceilTo(sec, step int64) int64 { return (sec + step - 1) / step * step }
