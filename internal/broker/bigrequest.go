package broker

import "strings"

// requestLimit is the largest size of a request other than Produce.
func requestLimit(key, version int16) int32 {
	switch {
	case key == 8: // OffsetCommit carries metadata of up to 4 KiB for each partition
		return maxOffsetCommit
	case bigShape(key, version) != "":
		return maxBigRequest
	}
	return maxSmallRequest
}

// bigShape is the shape, for wire.CheckShape, of the requests that clients may
// rightly send above maxSmallRequest: thousands of topics or partitions in
// one. "" is for the others.
func bigShape(key, version int16) string {
	from := func(v int16, s string) string {
		if version >= v {
			return s
		}
		return ""
	}
	until := func(v int16, s string) string {
		if version <= v {
			return s
		}
		return ""
	}
	var shape []string
	switch key {
	case 3: // Metadata
		topic := []string{from(10, "u"), "s"}
		if version < 9 {
			// Before flexible versions an array of strings and one of structs
			// with a string look the same.
			topic = []string{"s"}
		}
		shape = []string{"[", strings.Join(topic, ""), "]", from(4, "1")}
		if version >= 8 && version <= 10 {
			shape = append(shape, "1")
		}
		shape = append(shape, from(8, "1"))
	case 8: // OffsetCommit
		shape = []string{"s4s", from(7, "s"), until(4, "8"), "[", until(9, "s"), from(10, "u"), "[48", from(6, "4"), "s]]"}
	case 19: // CreateTopics
		shape = []string{"[s42[4<4>][ss]]4", from(1, "1")}
	case 44: // IncrementalAlterConfigs
		shape = []string{"[1s[s1s]]1"}
	}
	return strings.Join(shape, "")
}
