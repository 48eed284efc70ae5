package wire

import (
	"strings"
	"testing"
)

func TestCheckShape(t *testing.T) {
	for _, tt := range []struct {
		body, shape string
		flexible    bool
		want        bool
	}{
		{"\x00\x01a\x00\x00\x00\x02\x01\x02", "s<1>", false, true},
		{"\x00\x01a\x00\x00\x00\x03\x01\x02", "s<1>", false, false},     // the count is a lie
		{"\x00\x01a\x00\x00\x00\x02\x01\x02\x03", "s<1>", false, false}, // something is left
		{"\xff\xff\xff\xff\xff\xff", "s<1>", false, true},
		{"\x02a\x03\x01\x00\x02\x00\x00", "s[1]", true, true},
		{"\x02a\x03\x01\x00\x02\x00\x01\x00\x00", "s[1]", true, false}, // tags
		{"\x7f\xff\xff\xff", "[1]", false, false},
	} {
		if got := CheckShape([]byte(tt.body), tt.shape, tt.flexible); got != tt.want {
			t.Errorf("CheckShape(%q, %s, %v) = %v", tt.body, tt.shape, tt.flexible, got)
		}
	}
}

func FuzzCheckShape(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x00\x00\x02\x01\x02"), false)
	f.Fuzz(func(t *testing.T, body []byte, flexible bool) {
		CheckShape(body, "s4su[s<4>8]"+strings.Repeat("[", 3)+"1]]]", flexible)
	})
}
