package charset

import (
	"bytes"
	"errors"
	"testing"
	"unicode/utf8"
)

func lookup(t testing.TB, name string) *Charset {
	t.Helper()
	c, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The expected results are those of java.nio.charset's decoders (new
// String(bytes, charset) for Replace) and encoders (String.getBytes).
func TestDecode(t *testing.T) {
	tests := []struct {
		charset, in string
		replace     string
		ignore      string
		fail        int // offset of the fault, -1 for none
	}{
		{"UTF-8", "a한😀", "a한😀", "a한😀", -1},
		{"UTF-8", "a\xffb", "a�b", "ab", 1},
		{"UTF-8", "\xe2\x82x", "�x", "x", 0},
		{"UTF-8", "\xe2\x82", "�", "", 0},
		{"UTF-8", "\xe0\x80\x80", "���", "", 0},
		{"UTF-8", "\xed\xa0\x80", "�", "", 0},
		{"UTF-8", "\xf0\x9f\x98x", "�x", "x", 0},
		{"UTF-8", "\xf0\x9fx", "�x", "x", 0},
		{"UTF-8", "\xf4\x90\x80\x80", "����", "", 0},
		{"UTF-8", "\xf5\x80", "��", "", 0},
		{"UTF-8", "\xc0\xaf", "��", "", 0},
		{"UTF-8", "ok\xef\xbf\xbd", "ok�", "ok�", -1},
		{"us-ascii", "a\x80b", "a�b", "ab", 1},
		{"latin1", "a\xe9\x80", "aé\u0080", "aé\u0080", -1},
		{"ISO-8859-15", "\xa4", "€", "€", -1},
		{"ISO-8859-3", "a\xa5", "a�", "a", 1},
		{"windows-1252", "\x80\x92", "€’", "€’", -1},
		{"EUC-KR", "\xc7\xd1\xb1\xdb x", "한글 x", "한글 x", -1},
		{"ms949", "\x8c\x63\xb0\xa1", "똠가", "똠가", -1},
		{"x-windows-949", "a\xff", "a�", "a", 1},
		{"EUC-KR", "a\xc7", "a�", "a", 1},
		{"Shift_JIS", "\x93\xfa\x96\x7b\xb1", "日本ｱ", "日本ｱ", -1},
		{"x-windows-949", "\x81#\x81\n", "\uFFFD#\uFFFD\n", "#\n", 0},
		{"Big5-HKSCS", "a\x88\xa3b", "a\uFFFDb", "ab", 1},
		{"GBK", "\xc4\xe3\xba\xc3", "你好", "你好", -1},
		{"GB18030", "\x81\x30\x81\x30", "\u0080", "\u0080", -1},
		{"UTF-16BE", "\x00a\xd8\x3d\xde\x00", "a😀", "a😀", -1},
		{"UTF-16LE", "a\x00=\xd8\x00\xde", "a😀", "a😀", -1},
		{"UTF-16BE", "\xde\x00\x00a", "�a", "a", 0},
		{"UTF-16BE", "\xd8\x3d\x00a", "�a", "a", 0},
		{"UTF-16BE", "\x00a\x00", "a�", "a", 2},
		{"UTF-32BE", "\x00\x00\x00a\x00\x01\xf6\x00", "a😀", "a😀", -1},
		{"UTF-32LE", "a\x00\x00\x00\x00\x00\x11\x00", "a�", "a", 4},
	}
	for _, tt := range tests {
		c := lookup(t, tt.charset)
		if got, err := c.AppendUTF8([]byte("<"), []byte(tt.in), Replace); string(got) != "<"+tt.replace || err != nil {
			t.Errorf("%s: replace %q: %q, %v; want %q", tt.charset, tt.in, got, err, tt.replace)
		}
		if got, err := c.AppendUTF8(nil, []byte(tt.in), Ignore); string(got) != tt.ignore || err != nil {
			t.Errorf("%s: ignore %q: %q, %v; want %q", tt.charset, tt.in, got, err, tt.ignore)
		}
		_, err := c.AppendUTF8(nil, []byte(tt.in), Fail)
		var de *DecodeError
		switch {
		case errors.As(err, &de):
			if int(de.Offset) != tt.fail {
				t.Errorf("%s: fail %q: at %d, want %d", tt.charset, tt.in, de.Offset, tt.fail)
			}
		case tt.fail >= 0:
			t.Errorf("%s: %q: no error", tt.charset, tt.in)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, tt := range []struct{ charset, in, want string }{
		{"UTF-8", "a한😀", "a한😀"},
		{"US-ASCII", "aé", "a?"},
		{"ISO-8859-1", "é한", "\xe9?"},
		{"EUC-KR", "한글", "\xc7\xd1\xb1\xdb"},
		{"EUC-KR", "a😀한", "a?\xc7\xd1"},
		{"UTF-16", "a", "\xfe\xff\x00a"},
		{"UTF-16LE", "a😀", "a\x00=\xd8\x00\xde"},
		{"UTF-32BE", "a", "\x00\x00\x00a"},
	} {
		if got := lookup(t, tt.charset).AppendText([]byte("<"), []byte(tt.in)); string(got) != "<"+tt.want {
			t.Errorf("%s: %q: %q, want %q", tt.charset, tt.in, got, tt.want)
		}
	}
}

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		charset, head string
		mark          int
		want          string // of the line feed
	}{
		{"UTF-16", "\xff\xfea\x00", 2, "\n\x00"},
		{"UTF-16", "\xfe\xff\x00a", 2, "\x00\n"},
		{"UTF-16", "\x00a", 0, "\x00\n"},
		{"UTF-16LE", "\xff\xfe", 0, "\n\x00"},
		{"UTF-32", "\xff\xfe\x00\x00", 4, "\n\x00\x00\x00"},
		{"UTF-8", "\xef\xbb\xbfa", 0, "\n"}, // Java keeps it
	} {
		c, n := lookup(t, tt.charset).Detect([]byte(tt.head))
		if got := string(c.AppendText(nil, []byte("\n"))); n != tt.mark || got != tt.want {
			t.Errorf("%s %q: mark %d, line feed %q", tt.charset, tt.head, n, got)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, n := range []string{"utf8", "UTF-8", " Latin1", "KSC5601", "MS949", "sjis"} {
		lookup(t, n)
	}
	if lookup(t, "latin1").Name() != "ISO-8859-1" {
		t.Error("latin1 is not ISO-8859-1, as it is in Java")
	}
	if _, err := Lookup("utf9"); err == nil {
		t.Error("utf9 is known")
	}
	if _, err := Narrow("UTF-16"); err == nil {
		t.Error("UTF-16 is narrow")
	}
}

func TestIndexLF(t *testing.T) {
	if i := lookup(t, "UTF-16BE").IndexLF([]byte("\x0a\x00\x00\x0a")); i != 2 {
		t.Errorf("UTF-16BE: %d", i)
	}
	if i := lookup(t, "UTF-16LE").IndexLF([]byte("\x0a\x01\x0a\x00")); i != 2 {
		t.Errorf("UTF-16LE: %d", i)
	}
}

// FuzzDecode checks for every character set that decoding ends, never fails
// under Replace, yields UTF-8, and agrees with decoding one character at a time.
func FuzzDecode(f *testing.F) {
	f.Add(uint8(0), []byte("a\xffb한"))
	f.Add(uint8(40), []byte("\xc7\xd1\xff"))
	f.Fuzz(func(t *testing.T, n uint8, p []byte) {
		c, _ := table[int(n)%len(table)].cs.Detect(p)
		got, err := c.AppendUTF8(nil, p, Replace)
		if err != nil || !utf8.Valid(got) {
			t.Fatalf("%s: %q, %v", c.Name(), got, err)
		}
		var one []byte
		for i := 0; i < len(p); {
			r, n := c.Next(p[i:])
			if n < 1 || i+n > len(p) {
				t.Fatalf("%s: Next(% x) took %d bytes", c.Name(), p[i:], n)
			}
			if r == Bad {
				r = utf8.RuneError
			}
			one = utf8.AppendRune(one, r)
			i += n
		}
		if !bytes.Equal(got, one) {
			t.Fatalf("%s: % x: at once %q, one by one %q", c.Name(), p, got, one)
		}
	})
}
