package suggest

import (
	"strings"
	"testing"
)

func TestSuggest(t *testing.T) {
	keys := []string{"capacity", "transactionCapacity", "byteCapacity", "keep-alive", "batchSize", "excludeEvents", "channels", "c1"}
	for _, tc := range []struct{ word, want string }{
		{"Channels", "channels"},
		{"transactionalCapacity", "transactionCapacity"},
		{"excludeEvent", "excludeEvents"},
		{"batch-size", "batchSize"},
		{"keepAlive", "keep-alive"},
		{"bacthSize", "batchSize"},
		{"chaneels", "channels"},
		{"c2", ""},                       // two letters: any other name would be "near"
		{"C1", "c1"},                     // but case alone is a likely mistake
		{"capacity", ""},                 // known, nothing to say
		{"somethingElse", ""},            // nothing near
		{"", ""},                         //
		{strings.Repeat("x", 1<<20), ""}, // hostile
	} {
		if got := Suggest(tc.word, keys); got != tc.want {
			t.Errorf("Suggest(%.30q) = %q, want %q", tc.word, got, tc.want)
		}
	}
}

func TestSuggestDottedPrefix(t *testing.T) {
	known := []string{"sink.rollInterval", "flumeBatchSize", "org.apache.flume.sink.kafka.KafkaSink", "a.x.type", "b.type", "a.id"}
	for _, tt := range []struct{ word, want string }{
		{"rollInterval", "sink.rollInterval"},
		{"rollinterval", "sink.rollInterval"},
		{"kafka.flumeBatchSize", "flumeBatchSize"},
		{"KafkaSink", "org.apache.flume.sink.kafka.KafkaSink"},
		{"type", ""}, // two end in it
		{"x.type", "a.x.type"},
		{"id", ""},       // too short to say anything
		{"Interval", ""}, // not a whole word behind a dot
	} {
		if got := Suggest(tt.word, known); got != tt.want {
			t.Errorf("Suggest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

func TestSuggestPrefersTheFirstOfEquals(t *testing.T) {
	if got := Suggest("sink9", []string{"sink1", "sink2"}); got != "sink1" {
		t.Errorf("got %q", got)
	}
}

func TestSuggestCandidateEqualToTheWord(t *testing.T) {
	// The word itself among the candidates does not hide another spelling.
	if got := Suggest("Channels", []string{"Channels", "channels"}); got != "channels" {
		t.Errorf("got %q", got)
	}
}

func TestHint(t *testing.T) {
	if got := Hint("netcatt", []string{"netcat"}); got != `did you mean "netcat"?` {
		t.Errorf("got %q", got)
	}
	if got := Hint("zzz", []string{"netcat"}); got != "" {
		t.Errorf("got %q", got)
	}
}

func FuzzSuggest(f *testing.F) {
	f.Add("Channels", "channels")
	f.Add("\xff\xfe", "é")
	f.Fuzz(func(t *testing.T, word, cand string) {
		if got := Suggest(word, []string{cand}); got != "" && got != cand {
			t.Fatalf("Suggest(%q, %q) = %q", word, cand, got)
		}
	})
}
