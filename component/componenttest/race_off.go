//go:build !race

package componenttest

const raceEnabled = false
