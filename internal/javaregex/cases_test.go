package javaregex

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden file anew with the java of this machine (JDK 17)")

// Other seeds and numbers are for looking around, not for committing.
var (
	seed   = flag.Uint64("seed", 17, "of the random patterns, with -update")
	random = flag.Int("random", 5000, "how many random patterns, with -update")
)

const golden = "testdata/java17.golden"

// The patterns that are written out, each run on the inputs behind it (and on
// commonInputs).
var written = []struct {
	pattern string
	flags   Flags
	repl    string
	inputs  []string
}{
	{`^\d{14}`, 0, "<$0>", []string{"20160101000000,Y0001,100", "2016010100000,Y", "SmartCar Status", "20160101000000", "x20160101000000"}},
	{`^.+\[((.+):.+:.+:.+)\]\s"(\w+)\s\/\w+\/(\w+)\/\w+\/(\w+)\s\S+\s(\d+)\s(\d+)`, 0, "$1|$2|$3|$4|$5|$6|$7", []string{
		`10.0.0.1 - - [21/Jul/2014:10:00:00 -0800] "GET /spideo/movies/x/y HTTP/1.1" 200 1234`,
		`10.0.0.1 - - [21/Jul/2014:10:00:00 -0800] "GET /spideo/movies/x/y HTTP/1.1" 200 -`,
		`[a:b:c:d] "GET /a/b/c/d e 1 2`, `x[a:b:c:d] "GET /a/b/c/d e 1 2`, `x[a:b:c:d:e:f] "GET /a/b/c/d e 1 2[3:4:5:6]`,
		"x\n[a:b:c:d] \"GET /a/b/c/d e 1 2"}},
	{`"type":"(\w+)"`, 0, "$1", []string{`{"type":"click","x":1}`, `{"type":"","type":"b"}`, `{"type":"a-b"}`}},
	{`"biType":"(\w+)"`, 0, "[$1]", []string{`{"id":1,"biType":"abc"}`, `{"biType": "abc"}`}},
	{`^//d{14}`, 0, "-", []string{"//dddddddddddddd", "20160101000000"}},
	{`.+TASK_SELECTING.+`, 0, "-", []string{"xTASK_SELECTINGy", "TASK_SELECTINGy", "xTASK_SELECTING", "a\nTASK_SELECTINGb", "a TASK_SELECTING TASK_SELECTING b"}},
	{`.+REPORT.+`, 0, "-", []string{"a REPORT b", "한REPORT글"}},
	{`.+,.+,.+,.+,(.+)`, 0, "$1", []string{"a,b,c,d,e", "a,b,c,d,e,f,g", ",,,,,,,,,", "a,b,c,d"}},
	{`(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})`, 0, "$1", []string{"x 2016-01-01 00:00:00 y", "2016-01-01 00:00", "2-2016-01-01 00:00:00", "2016-01-01  00:00:00"}},
	{`(\d\d\d\d-\d\d-\d\d\s)`, 0, "", []string{"2016-01-01 x 2016-01-02\ty", "2016-01-01"}},
	{`(INFO|ERROR):(TRANSFER):(SUBMIT|PENDING):(\w.*):(\w.*):(\w.*):(\w.*)`, 0, "$7", []string{"x INFO:TRANSFER:SUBMIT:a:b:c:d", "ERROR:TRANSFER:PENDING:a b:c d:e f:g:h:i", "INFO:TRANSFER:OTHER:a:b:c:d"}},
	{`^([^\t]+)\t([^\t]+)\t([^\t]+)$`, 0, "$3,$2,$1", []string{"a\tb\tc", "a\tb\tc\n", "a\tb\tc\td", "a\t\tc"}},
	{`<table>([^<]*)</table>`, 0, "$1", []string{"x<table>abc</table>y", "<table><b></table>"}},
	{`(\.\w+)(?<=Exception)`, 0, "E", []string{"java.lang.NullPointerException: x", "java.lang.Exceptional"}},
	{`.* proto=(\d+) .* src=(.*) dst=(.*) src_port=(\d+) dst_port=(\d+).*`, 0, "$1", []string{"x proto=6 y src=1.2.3.4 dst=5.6.7.8 src_port=1 dst_port=2 z"}},
	{`([^\s]*)\s-\s([^\s]*)\s\[(.*)\]\s+\"([\S]*)\s+([\S]*)\s+[\S]*\"\s+(\d+)\s+(\d+)`, 0, "$4", []string{`1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326`}},
	{`^.+(\d{4})-(\d{2})-(\d{2}).+$`, 0, "$1", []string{"xx2016-01-02yy", "2016-01-02y", "x2016-01-02y\n"}},
	{`^(?<day>\d+)-(?<mon>\w+)$`, 0, "${mon}/${day}", []string{"12-Jan", "12-Jan\n", "12-"}},
	{`(a+)+$`, 0, "x", []string{"aaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaab"}},
	{`(a*)*b`, 0, "x", []string{"aaaaaaaaaaaab", "aaaa"}},
	{`(a|b*)*`, 0, "<$1>", []string{"ab", "abba", ""}},
	{`(?:b|(|a))*`, 0, "<$1>", []string{"ba", "bbab"}},
	{`((a)b)*ac`, 0, "$2", []string{"ababac", "abac"}},
	{`(?:((a)b)*c|abab)`, 0, "$2", []string{"abab", "ababc"}},
	{`((a)|b)*ab`, 0, "$2", []string{"aab", "bbab"}},
	{`(?:(a)*+b|aac)`, 0, "$1", []string{"aac", "aab"}},
	{`(?=(a))b|c`, 0, "$1", []string{"ac"}},
	{`(a)?(b)?\1`, 0, "$2", []string{"aa", "aba", "b"}},
	{`x{2}{3}`, 0, "y", []string{"xx", "xxxxxx"}},
	{`a++b|a*+a`, 0, "y", []string{"aaab", "aaa"}},
	{`(?>a|ab)c`, 0, "y", []string{"abc", "ac"}},
	{`(?<!\d)\d{3}(?!\d)`, 0, "n", []string{"1234 567 89", "123"}},
	{`(?<=(\w{1,3}))x`, 0, "$1", []string{"abcdx", "x"}},
	{`\bfoo\b`, 0, "bar", []string{"foo", "foo_", "foo한", "a foo b", "éfoo", "foo\u0301", "\u0301foo"}},
	{`\Bfoo\B`, 0, "bar", []string{"xfoox", "foo"}},
	{`\Qa.b\E+`, 0, "q", []string{"a.bbb", "axb"}},
	{`\Q1\E2|\x{41}\u0042\x43\0104\cA\e`, 0, "q", []string{"12", "ABCD\x01\x1b"}},
	{`[a-z&&[^bc]]+`, 0, "_", []string{"abcd", "xyz"}},
	{`[a-d[m-p]&&[b-n]]+`, 0, "_", []string{"abcdmnop"}},
	{`[ab&&[a]&c]+`, 0, "_", []string{"ab&c"}},
	{`[^a-c[d-f]]+`, 0, "_", []string{"abcdefg"}},
	{`[]a]+|[a\-z]+|[a-]+`, 0, "_", []string{"]a", "a-z"}},
	{`(?i)straße|k|ſ`, 0, "_", []string{"STRASSE straße STRAßE", "K \u212a", "s S ſ"}},
	{`(?iu)straße|k|ſ`, 0, "_", []string{"STRASSE straße STRAẞE", "K \u212a", "s S ſ"}},
	{`(?iu)[k-s]+`, 0, "_", []string{"KLMkſ\u212a"}},
	{`(?i)[k-s]+`, 0, "_", []string{"KLMkſ\u212a"}},
	{`(?U)\w+\s\d+`, 0, "_", []string{"한글\u3000٣٤", "ab 12"}},
	{`\w+\s\d+`, 0, "_", []string{"한글\u3000٣٤", "ab 12"}},
	{`(?x) a b # c` + "\n" + ` d [e f] \ `, 0, "_", []string{"abde ", "abdf ", "a b d"}},
	{`^a$`, Multiline, "_", []string{"a\na\r\na\u2028a", "b\ra", "a\r\n"}},
	{`^`, Multiline, "_", []string{"", "a\nb\n", "a\r\nb"}},
	{`$`, 0, "_", []string{"", "a\n", "a\r\n", "a\n\n", "a\u0085", "a\u2029"}},
	{`$`, Multiline, "_", []string{"", "a\nb\r\nc", "\r\n"}},
	{`(?d)a.$`, 0, "_", []string{"ab\n", "a\r\n", "a\u0085"}},
	{`(?s).+`, 0, "_", []string{"a\nb", ""}},
	{`\Ga`, 0, "_", []string{"aab a"}},
	{`a\Z|b\z`, 0, "_", []string{"a\n", "b\n", "a", "b"}},
	{`\R`, 0, "_", []string{"a\r\nb\nc\rd\u2028", "\r\n\n"}},
	{`\R\n`, 0, "_", []string{"\r\n", "\r\n\n"}},
	{`\h+|\v+`, 0, "_", []string{"a \t\u3000b\n\u2029c"}},
	{`\p{L}+|\p{Nd}|\p{IsHangul}|\p{InGreek}|\p{Alpha}|\p{javaLowerCase}|\pL|\P{Lu}`, 0, "_", []string{"aé한α1A٣"}},
	{`\p{IsLatin}\p{Punct}\p{sc=Hira}\p{blk=BasicLatin}\p{gc=Lu}`, 0, "_", []string{"a!あ1Z"}},
	{`.`, 0, "<$0>", []string{"\xe2\x82x", "\xf0\x9f\x98", "\xff\xfe", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80a", "\xf1\x80\x80\xe1\x80", "\x80\x80", "\xc3(", "😀"}},
	{`\x{FFFD}+`, 0, "?", []string{"a\xffb\xe2\x82c", "\xef\xbf\xbd"}},
	{`[^a]*x`, 0, "?", []string{"\xff\xe2\x82x", "한글x"}},
	{`x*`, 0, "-", []string{"axb", "한", ""}},
	{`(a)(b)?`, 0, `\$1$1\\$2`, []string{"ab a"}},
	{`a|`, 0, "-", []string{"ba"}},
	{`()*|(^)*a|(\b)+`, 0, "$1", []string{"a"}},
	{`(a?)*?b`, 0, "$1", []string{"aab"}},
	{`(a|ab)(c|bcd)(d*)`, 0, "$1-$2-$3", []string{"abcd"}},
	{`(?:a|ab)??c|(?:x{2,3}?)+`, 0, "_", []string{"abc", "xxxxx"}},
	{`a{0}b{0,0}c`, 0, "_", []string{"abc"}},
	{`(?i:a)b(?-i)c|(?i)d`, 0, "_", []string{"Abc", "ABc", "D"}},
	{`(\w)\1|(?i)(\w)\2`, 0, "_", []string{"aA", "aa", "ab"}},
	{`\k<x>`, 0, "_", nil}, {`(?<x>a)\k<x>`, 0, "$1${x}", []string{"aa"}},
	{`*a`, 0, "", nil}, {`a**`, 0, "", nil}, {`(`, 0, "", nil}, {`)`, 0, "", nil}, {`[`, 0, "", nil}, {`[]`, 0, "", nil}, {`[^]`, 0, "", nil},
	{`a{`, 0, "", nil}, {`a{1`, 0, "", nil}, {`a{2,1}`, 0, "", nil}, {`{`, 0, "", nil}, {`{2}`, 0, "", []string{"a"}}, {`\`, 0, "", nil}, {`\y`, 0, "", nil},
	{`[z-a]`, 0, "", nil}, {`[a-\d]`, 0, "", nil}, {`\p{Foo}`, 0, "", nil}, {`\p{L`, 0, "", nil}, {`\xg`, 0, "", nil}, {`\u12`, 0, "", nil}, {`(?<1a>x)`, 0, "", nil},
	{`(?<a>x)(?<a>y)`, 0, "", nil}, {`(?<=a*)b`, 0, "", nil}, {`(?z)`, 0, "", nil}, {`[a&&]`, 0, "", nil}, {`[&&a]`, 0, "", []string{"a", "&"}}, {`[a&&&&b]`, 0, "", nil},
	{`]}`, 0, "x", []string{"]}"}}, {`a\Q`, 0, "x", []string{"a"}}, {`a\Eb`, 0, "x", nil}, {`(?i)*`, 0, "", nil}, {`[[:alpha:]]`, 0, "x", []string{"a:l"}},
	{`a.b`, Literal, "x", []string{"a.b", "axb"}}, {`A.b`, Literal | CaseInsensitive, "x", []string{"a.B", "axb"}},
	{`(?U)\b\w\B`, 0, "_", []string{"a\u0301b", "한글"}},
	{`[\w-a]+|[\w&&\d]`, 0, "_", []string{"a-b", "1"}}, {`[a-c-e]+`, 0, "_", []string{"abc-de"}},
	{`\07\010\0377\018`, 0, "_", []string{"\x07\x08\u00ff\x018", "\x07\x08\x1f7\x018"}},
	{`\11(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)\11`, 0, "$11$1$12", []string{"abcdefghijkk"}},
	{`(a)\11`, 0, "$11", []string{"aa1"}},
}

var commonInputs = []string{"", "a", "ab", "aab ab\n", "foo bar 12-34", "한글 é\r\n", "x=1;y=22"}

// generator makes random patterns and inputs for them.
type generator struct {
	*rand.Rand
	groups int
}

func (g *generator) pick(ss ...string) string { return ss[g.IntN(len(ss))] }

func (g *generator) atom(depth int) string {
	switch n := g.IntN(30); {
	case n < 10:
		return g.pick("a", "b", "c", "x", "1", ",", " ", "ab", "abc", "é", "한")
	case n < 12:
		return "."
	case n < 16:
		return g.pick(`\d`, `\w`, `\s`, `\S`, `\W`, `\D`, `\h`, `\v`, `\p{L}`, `\P{Lu}`, `\p{Alpha}`, `\R`, `\p{IsAlphabetic}`)
	case n < 20:
		return g.class(2)
	case n < 22:
		return g.pick("^", "$", `\b`, `\B`, `\A`, `\z`, `\Z`, `\G`)
	case n < 23 && g.groups > 0:
		return `\` + strconv.Itoa(1+g.IntN(g.groups))
	case depth <= 0:
		return g.pick("a", "b", "c")
	case n < 27:
		g.groups++
		return "(" + g.expr(depth-1) + ")"
	case n < 28:
		return "(?:" + g.expr(depth-1) + ")"
	case n < 29:
		return g.pick("(?=", "(?!", "(?>", "(?i:", "(?s:", "(?m:", "(?iu:", "(?U:") + g.expr(depth-1) + ")"
	}
	return g.pick("(?<=", "(?<!") + g.pick("a", "ab", `\w`, "[ab]{1,2}", "a|bc", "(b)", ".", `\b`) + ")"
}

func (g *generator) class(depth int) string {
	s := "["
	if g.IntN(3) == 0 {
		s += "^"
	}
	for range 1 + g.IntN(3) {
		switch g.IntN(8) {
		case 0:
			s += g.pick("a-c", "x-z", "0-9", "A-Z", "é-한")
		case 1:
			s += g.pick(`\d`, `\w`, `\s`, `\W`, `\p{Lu}`, `\n`)
		case 2:
			if depth > 0 {
				s += g.class(depth - 1)
			}
		case 3:
			if len(s) > 2 && depth > 0 {
				s += "&&" + g.pick("a-m", g.class(depth-1), `\w`)
			}
		default:
			s += g.pick("a", "b", "c", ",", "é", "&", "_")
		}
	}
	if s == "[" || s == "[^" {
		s += "a"
	}
	return s + "]"
}

func (g *generator) expr(depth int) string {
	var alts []string
	for range 1 + g.IntN(5)/3*g.IntN(3) {
		var sb strings.Builder
		for range g.IntN(4) {
			sb.WriteString(g.atom(depth))
			if g.IntN(5) < 2 {
				sb.WriteString(g.pick("*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?", "??", "{1,2}?", "*+", "++", "?+"))
			}
		}
		alts = append(alts, sb.String())
	}
	return strings.Join(alts, "|")
}

func (g *generator) input() string {
	var sb strings.Builder
	for range g.IntN(12) {
		switch n := g.IntN(24); n {
		case 0:
			sb.WriteString(g.pick("\n", "\r\n", "\r", "\u0085", "\u2028"))
		case 1:
			sb.WriteString(g.pick("é", "한", "É", "\u0301", "٣"))
		case 2:
			sb.WriteString(g.pick("\xff", "\xe2\x82", "\xc3", "\x80"))
		default:
			sb.WriteString(g.pick("a", "a", "a", "b", "b", "c", "A", "x", "1", "2", ",", " ", "_", "ab", "abc"))
		}
	}
	return sb.String()
}

func percent(s string) string {
	var sb strings.Builder
	for i := range len(s) {
		if c := s[i]; c > 0x20 && c < 0x7F && c != '%' {
			sb.WriteByte(c)
		} else {
			fmt.Fprintf(&sb, "%%%02X", c)
		}
	}
	return sb.String()
}

func unpercent(t *testing.T, s string) string {
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			sb.WriteByte(s[i])
			continue
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		sb.WriteByte(byte(v))
		i += 2
	}
	return sb.String()
}

// writeGolden asks Java.
func writeGolden(t *testing.T) {
	var in bytes.Buffer
	line := func(f ...string) { fmt.Fprintln(&in, strings.Join(f, "\t")) }
	for _, c := range written {
		line("P", strconv.Itoa(int(c.flags)), percent(c.pattern), percent(c.repl))
		for _, s := range append(append([]string{}, c.inputs...), commonInputs...) {
			line("I", percent(s))
		}
	}
	g := &generator{Rand: rand.New(rand.NewPCG(*seed, 4))}
	for range *random {
		g.groups = 0
		flags := Flags(0)
		for _, f := range []Flags{CaseInsensitive, Multiline, DotAll, UnixLines, UnicodeCase, UnicodeClass} {
			if g.IntN(12) == 0 {
				flags |= f
			}
		}
		line("P", strconv.Itoa(int(flags)), percent(g.expr(3)), percent(g.pick("-", "[$0]", "$1")))
		for range 5 {
			line("I", percent(g.input()))
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Fatal("-update needs java on the path:", err)
	}
	cmd := exec.Command(java, filepath.Join("testdata", "oracle", "Oracle.java"))
	cmd.Stdin = &in
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal("run the oracle:", err)
	}
	// Inputs of patterns that Java refuses say nothing.
	var kept bytes.Buffer
	refused := false
	for l := range bytes.Lines(out) {
		if l[0] == 'P' {
			refused = bytes.HasSuffix(bytes.TrimSpace(l), []byte("\terror"))
		} else if refused {
			continue
		}
		kept.Write(l)
	}
	if err := os.WriteFile(golden, kept.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

type goldenCase struct {
	pattern, repl string
	flags         Flags
	ok            bool
	inputs        []goldenInput
}

type goldenInput struct {
	text    string
	known   bool // Java gave an answer
	found   bool
	groups  []int // in UTF-16 units
	matches bool
	refused bool // the replacement
	result  string
}

func readGolden(t *testing.T) (cases []*goldenCase) {
	f, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		fs := strings.Split(sc.Text(), "\t")
		if fs[0] == "P" {
			n, err := strconv.Atoi(fs[1])
			if err != nil {
				t.Fatal(err)
			}
			cases = append(cases, &goldenCase{pattern: unpercent(t, fs[2]), repl: unpercent(t, fs[3]), flags: Flags(n), ok: fs[4] == "ok"})
			continue
		}
		in := goldenInput{text: unpercent(t, fs[1]), known: fs[2] != "?", found: fs[2] != "-", matches: fs[3] == "1", refused: fs[4] == "!"}
		if in.known && in.found {
			for _, s := range strings.Split(fs[2], ",") {
				n, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				in.groups = append(in.groups, n)
			}
		}
		in.result = unpercent(t, strings.TrimPrefix(fs[4], "="))
		c := cases[len(cases)-1]
		c.inputs = append(c.inputs, in)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// utf16Offsets maps offsets in UTF-16 units to offsets in bytes; -1 inside a
// surrogate pair.
func utf16Offsets(b []byte) []int {
	var m []int
	for pos := 0; pos < len(b); {
		r, n := decode(b[pos:])
		m = append(m, pos)
		if r >= 0x10000 {
			m = append(m, -1)
		}
		pos += n
	}
	return append(m, len(b))
}

// decoded is b as Java's decoder and encoder leave it.
func decoded(b []byte) string {
	var out []byte
	for pos := 0; pos < len(b); {
		r, n := decode(b[pos:])
		out = utf8.AppendRune(out, r)
		pos += n
	}
	return string(out)
}
