// Package report prints tests as lines that TestSuites reads.
package report

import (
	"fmt"
	"strings"
	"time"
)

// Version comes first.
func Version(v string) { fmt.Printf("VERSION\t%s\n", v) }

// Test runs f and prints what it came to; a panic is a failure.
func Test(feature, name string, f func() error) {
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return f()
	}()
	result, detail := "pass", ""
	if err != nil {
		result, detail = "fail", strings.NewReplacer("\n", " ", "\t", " ").Replace(err.Error())
	}
	fmt.Printf("RESULT\t%s\t%s\t%s\t%s\n", result, feature, name, detail)
}

// Wait calls f until it says true, for three minutes at most.
func Wait(what string, f func() (bool, error)) error {
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ok, err := f()
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain: %s (%v)", what, err)
		}
	}
}

// Topic is a name that no other run has.
func Topic(prefix string) string { return fmt.Sprintf("%s-%d", prefix, time.Now().UnixNano()) }
