package serde

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/hamba/avro/v2"
	avroocf "github.com/hamba/avro/v2/ocf"
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

// input is a file in memory, which is UTF-8 and must be well-formed unless opts say otherwise.
func input(t testing.TB, content string, opts ...func(*Input)) Input {
	in := Input{File: strings.NewReader(content), Size: int64(len(content)), Pool: event.NewPool(),
		Charset: charset.UTF8(), Log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(&in)
	}
	t.Cleanup(func() {
		if n := in.Pool.Outstanding(); n != 0 {
			t.Errorf("%d blocks leaked", n)
		}
	})
	return in
}

func withCharset(name string) func(*Input) {
	return func(in *Input) { in.Charset, _ = charset.Lookup(name) }
}

func withPolicy(p charset.Policy) func(*Input) { return func(in *Input) { in.Errors = p } }

func deserializer(t testing.TB, name string, in Input, props ...component.Property) (Deserializer, error) {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindDeserializer, name)
	if !ok {
		t.Fatalf("no deserializer %q", name)
	}
	cfg := typ.New()
	for _, f := range component.Decode(component.Default(), cfg, props) {
		t.Fatalf("%s: %s", f.Key, f.Message)
	}
	return cfg.(DeserializerConfig).NewDeserializer(in)
}

// readAll reads batches of max until the end or a fault, and checks that a
// deserializer opened at each position on the way yields the rest.
func readAll(t testing.TB, name string, in Input, max int, props ...component.Property) ([]string, error) {
	t.Helper()
	d, err := deserializer(t, name, in, props...)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var bodies []string
	var marks []Position
	var counts []int
	for {
		marks = append(marks, d.Position())
		counts = append(counts, len(bodies))
		b := in.Pool.NewBatch()
		err = d.Read(b, max)
		if b.Len() > max {
			t.Fatalf("%d events, at most %d were asked for", b.Len(), max)
		}
		for _, e := range b.Events() {
			bodies = append(bodies, string(e.Body))
		}
		b.Release()
		if err != nil {
			break
		}
	}
	if in.From != (Position{}) {
		return bodies, err
	}
	for i, m := range marks {
		if m == (Position{}) {
			continue
		}
		again := in
		again.From = m
		rest, err2 := readAll(t, name, again, max, props...)
		if !reflect.DeepEqual(append([]string{}, bodies[counts[i]:]...), append([]string{}, rest...)) {
			t.Errorf("from %+v: %q, want %q", m, rest, bodies[counts[i]:])
		}
		if fmt.Sprint(err2) != fmt.Sprint(err) {
			t.Errorf("from %+v: %v, want %v", m, err2, err)
		}
	}
	return bodies, err
}

func TestLine(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	tests := []struct {
		name, in string
		max      int // maxLineLength
		opts     []func(*Input)
		out      string
		want     []string
		err      string
	}{
		{name: "empty", in: "", want: nil},
		{name: "lines", in: "a\nb\n", want: []string{"a", "b"}},
		{name: "no last line feed", in: "a\nb", want: []string{"a", "b"}},
		{name: "carriage return stays", in: "a\r\n\r\n", want: []string{"a\r", "\r"}},
		{name: "empty lines", in: "\n\na\n\n", want: []string{"", "", "a", ""}},
		{name: "line feed only", in: "\n", want: []string{""}},
		{name: "just fits", in: "abc\nd\n", max: 4, want: []string{"abc", "d"}},
		{name: "line feed does not fit", in: "abcd\ne\n", max: 4, want: []string{"abcd", "", "e"}},
		{name: "cut", in: "abcdefghij\n", max: 4, want: []string{"abcd", "efgh", "ij"}},
		{name: "cut without line feed", in: "abcdefgh", max: 4, want: []string{"abcd", "efgh"}},
		{name: "characters not bytes", in: "한글말\n한글말\n", max: 4, want: []string{"한글말", "한글말"}},
		{name: "cut between characters", in: "한글말을\n", max: 3, want: []string{"한글말", "을"}},
		{name: "pair is two characters", in: "a😀b\n", max: 4, want: []string{"a😀b", ""}},
		{name: "pair is not cut", in: "a😀b\n", max: 2, want: []string{"a", "😀", "b"}},
		{name: "one character", in: "a😀\n", max: 1, want: []string{"a", "😀", ""}},
		{name: "longer than a block", in: "x\n" + long + "\ny\n", max: 1 << 20, want: []string{"x", long, "y"}},
		{name: "bad byte", in: "a\nb\xff\nc\n", want: []string{"a"}, err: "at byte 3: byte 3: ff is not UTF-8"},
		{name: "bad byte in a long line", in: "a\nbcdefg\xff\nc\n", max: 7, want: []string{"a"}, err: "at byte 8: byte 8: ff is not UTF-8"},
		{name: "bad byte behind the cut", in: "abcdef\xff\nc\n", max: 5, want: []string{"abcde"}, err: "at byte 6: byte 6: ff is not UTF-8"},
		{name: "character cut off by the end", in: "a\nb\xed\x95", want: []string{"a"}, err: "at byte 3: byte 3: ed 95 is not UTF-8"},
		{name: "replace", in: "a\nb\xffc\xed\x95\nd\xff", opts: []func(*Input){withPolicy(charset.Replace)}, want: []string{"a", "b�c�", "d�"}},
		{name: "ignore", in: "a\nb\xffc\nd\xff", opts: []func(*Input){withPolicy(charset.Ignore)}, want: []string{"a", "bc", "d"}},
		{name: "ignore more than fits", in: "a" + strings.Repeat("\xff", 200_000) + "b\nc\n", max: 10, opts: []func(*Input){withPolicy(charset.Ignore)}, want: []string{"ab", "c"}},
		{name: "ASCII", in: "a\nb\x80\n", opts: []func(*Input){withCharset("US-ASCII")}, want: []string{"a"}, err: "at byte 3: byte 3: 80 is not US-ASCII"},
		{name: "Latin 1", in: "\xe9\na\n\xe9", opts: []func(*Input){withCharset("ISO-8859-1")}, want: []string{"é", "a", "é"}},
		{name: "Latin 1 through", in: "\xe9\na\n", out: "ISO-8859-1", opts: []func(*Input){withCharset("ISO-8859-1")}, want: []string{"\xe9", "a"}},
		{name: "Latin 1 out", in: "é한\n", out: "ISO-8859-1", want: []string{"\xe9?"}},
		{name: "EUC-KR", in: "\xc7\xd1\xb1\xdb\nabc\n\xb8\xbb", opts: []func(*Input){withCharset("EUC-KR")}, want: []string{"한글", "abc", "말"}},
		{name: "EUC-KR cut", in: "\xc7\xd1\xb1\xdb\xb8\xbb\n", max: 2, opts: []func(*Input){withCharset("MS949")}, want: []string{"한글", "말"}},
		{name: "EUC-KR bad", in: "a\n\xc7\xd1\xff\n", opts: []func(*Input){withCharset("EUC-KR")}, want: []string{"a"}, err: "at byte 4: byte 4: ff is not EUC-KR"},
		{name: "UTF-16 with a mark", in: "\xff\xfea\x00\n\x00=\xd8\x00\xde\n\x00b\x00", opts: []func(*Input){withCharset("UTF-16")}, want: []string{"a", "😀", "b"}},
		{name: "UTF-16 without", in: "\x00a\x00\n\x0a\x00\x00\n", opts: []func(*Input){withCharset("UTF-16")}, want: []string{"a", "\u0a00"}},
		{name: "UTF-16 odd", in: "\x00a\x00\n\x00", opts: []func(*Input){withCharset("UTF-16BE")}, want: []string{"a"}, err: "at byte 4: byte 4: 00 is not UTF-16BE"},
	}
	for _, tt := range tests {
		for _, n := range []int{1, 2, 1000} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, n), func(t *testing.T) {
				props := []component.Property{}
				if tt.max > 0 {
					props = append(props, component.Property{Key: "maxLineLength", Value: fmt.Sprint(tt.max)})
				}
				if tt.out != "" {
					props = append(props, component.Property{Key: "outputCharset", Value: tt.out})
				}
				got, err := readAll(t, "LINE", input(t, tt.in, tt.opts...), n, props...)
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %.200q, want %.200q", got, tt.want)
				}
				var fe *FormatError
				if tt.err == "" && err != io.EOF || tt.err != "" && (!errors.As(err, &fe) || err.Error() != tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
			})
		}
	}
}

// A line that only the end of the file ends is not delivered while the file
// changes, a whole one is.
func TestLineAtEnd(t *testing.T) {
	changed := errors.New("the file has changed")
	asked := func(in *Input) { in.AtEnd = func() error { return changed } }
	for _, tt := range []struct {
		in   string
		want []string
		err  error
	}{
		{"a\nb", []string{"a"}, changed},
		{"a\nb\n", []string{"a", "b"}, io.EOF},
		{"a\n" + strings.Repeat("b", 3000), []string{"a", strings.Repeat("b", 2048)}, changed},
	} {
		got, err := readAll(t, "LINE", input(t, tt.in, asked), 10)
		if !reflect.DeepEqual(got, tt.want) || err != tt.err {
			t.Errorf("%.20q: %.40q, %v", tt.in, got, err)
		}
	}
}

func TestLineShrunkFile(t *testing.T) {
	in := input(t, "a\nb\n")
	in.Size = 100
	got, err := readAll(t, "LINE", in, 10)
	if !reflect.DeepEqual(got, []string{"a", "b"}) || err != io.EOF {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBlob(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  string
		want []string
	}{
		{"", "10", nil},
		{"a\n\xffb", "10", []string{"a\n\xffb"}},
		{"abcdef", "4", []string{"abcd", "ef"}},
		{"abcd", "4", []string{"abcd"}},
	} {
		for _, name := range []string{"BLOB", "org.apache.flume.sink.solr.morphline.BlobDeserializer$Builder"} {
			got, err := readAll(t, name, input(t, tt.in), 3, component.Property{Key: "maxBlobLength", Value: tt.max})
			if !reflect.DeepEqual(got, tt.want) || err != io.EOF {
				t.Errorf("%q: %q, %v", tt.in, got, err)
			}
		}
	}
}

const testSchema = `{"type":"record","name":"R","namespace":"x.y","doc":"d","fields":[
	{"name":"n","type":"long"},
	{"name":"s","type":["null","string"],"default":null},
	{"name":"when","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"m","type":{"type":"map","values":"double"}},
	{"name":"a","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["X","Y"]}}},
	{"name":"f","type":{"type":"fixed","name":"F","size":3}},
	{"name":"next","type":["null","R"],"default":null}]}`

// avroFile is a container file of n records in blocks of two, with the
// encoding of each.
func avroFile(t testing.TB, n int, codec avroocf.CodecName) (string, []string) {
	t.Helper()
	schema := avro.MustParse(testSchema)
	var buf bytes.Buffer
	enc, err := avroocf.NewEncoderWithSchema(schema, &buf, avroocf.WithCodec(codec), avroocf.WithBlockLength(2))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range n {
		v := map[string]any{"n": int64(i), "s": nil, "when": int64(5), "m": map[string]any{"k": 1.5}, "a": []any{"X", "Y"}, "f": [3]byte{1, 2, 3}, "next": nil}
		if i%2 == 1 {
			v["s"] = map[string]any{"string": strings.Repeat("s", i)}
		}
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		p, err := avro.Marshal(schema, v)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, string(p))
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String(), want
}

func TestAvro(t *testing.T) {
	for _, codec := range []avroocf.CodecName{avroocf.Null, avroocf.Deflate, avroocf.Snappy, avroocf.ZStandard} {
		file, want := avroFile(t, 7, codec)
		for _, n := range []int{1, 3, 100} {
			got, err := readAll(t, "AVRO", input(t, file), n)
			if !reflect.DeepEqual(got, want) || err != io.EOF {
				t.Errorf("%s, batches of %d: %q, %v; want %q", codec, n, got, err, want)
			}
		}
	}
	if got, err := readAll(t, "AVRO", input(t, "text"), 10); got != nil || err == nil || !strings.Contains(err.Error(), "not an Avro container file") {
		t.Errorf("text: %q, %v", got, err)
	}
	file, want := avroFile(t, 7, avroocf.Null)
	got, err := readAll(t, "AVRO", input(t, file[:len(file)-3]), 10)
	if len(got) != 6 || err == nil || err == io.EOF {
		t.Errorf("torn file: %d records of %d, %v", len(got), len(want), err)
	}
	broken := []byte(file)
	broken[strings.Index(file, want[4])+1] = 7 // no such branch of the union
	got, err = readAll(t, "AVRO", input(t, string(broken)), 10)
	if len(got) != 4 || err == nil || !strings.Contains(err.Error(), "record 0 of the block: a union has no branch -4") {
		t.Errorf("broken record: %d records, %v", len(got), err)
	}
}

// Without the number of records, which Flume does not store, reading goes on
// at the start of the block.
func TestAvroFlumePosition(t *testing.T) {
	file, want := avroFile(t, 6, avroocf.Null)
	in := input(t, file)
	d, err := deserializer(t, "AVRO", in)
	if err != nil {
		t.Fatal(err)
	}
	b := in.Pool.NewBatch()
	if err := d.Read(b, 3); err != nil {
		t.Fatal(err)
	}
	b.Release()
	in.From = Position{Offset: d.Position().Offset}
	d.Close()
	got, err := readAll(t, "AVRO", in, 10)
	if !reflect.DeepEqual(got, want[2:]) || err != io.EOF {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAvroHeaders(t *testing.T) {
	file, _ := avroFile(t, 1, avroocf.Null)
	for _, tt := range []struct{ typ, key, want string }{
		// Avro 1.11's SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema) in Flume's hex.
		{"HASH", "flume.avro.schema.hash", "e372d166b09baebd"},
		{"LITERAL", "flume.avro.schema.literal", `{"type":"record"`},
	} {
		in := input(t, file)
		d, err := deserializer(t, "AVRO", in, component.Property{Key: "schemaType", Value: tt.typ})
		if err != nil {
			t.Fatal(err)
		}
		b := in.Pool.NewBatch()
		if err := d.Read(b, 3); err != io.EOF {
			t.Fatal(err)
		}
		v, ok := b.Events()[0].Header(tt.key)
		if !ok || tt.typ == "HASH" && string(v) != tt.want || !bytes.Contains(v, []byte(tt.want)) && tt.typ != "LITERAL" {
			t.Errorf("%s: %q", tt.key, v)
		}
		if tt.typ == "LITERAL" && (bytes.ContainsAny(v, "\n\t") || !bytes.Contains(v, []byte("R"))) {
			t.Errorf("%s: %q", tt.key, v)
		}
		b.Release()
		d.Close()
	}
}

// The specification's own form and fingerprint of "int".
func TestCanonicalSchema(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`"int"`, `"int"`},
		{`{"type":"long","logicalType":"timestamp-millis"}`, `"long"`},
		{testSchema, `{"name":"x.y.R","type":"record","fields":[{"name":"n","type":"long"},{"name":"s","type":["null","string"]},{"name":"when","type":"long"},{"name":"m","type":{"type":"map","values":"double"}},{"name":"a","type":{"type":"array","items":{"name":"x.y.E","type":"enum","symbols":["X","Y"]}}},{"name":"f","type":{"name":"x.y.F","type":"fixed","size":3}},{"name":"next","type":["null","x.y.R"]}]}`},
	} {
		s, err := avro.ParseBytesWithCache([]byte(tt.in), "", &avro.SchemaCache{})
		if err != nil {
			t.Fatal(err)
		}
		if got := canonicalSchema(nil, s, map[string]bool{}); string(got) != tt.want {
			t.Errorf("%s", got)
		}
	}
}

// FuzzLine compares LINE with Flume's reader, written down as simply as it
// goes: decode everything, then hand out character by character.
func FuzzLine(f *testing.F) {
	f.Add([]byte("abc\nde\n"), uint16(4), uint8(2), uint8(0), uint8(1))
	f.Add([]byte("a\xff\n한\n"), uint16(1), uint8(1), uint8(1), uint8(200))
	f.Add([]byte("\x00a\x00\n"), uint16(9), uint8(7), uint8(2), uint8(200))
	f.Fuzz(func(t *testing.T, content []byte, maxLine uint16, batch, mode, repeat uint8) {
		content = bytes.Repeat(content, 1+int(repeat))
		if maxLine == 0 || batch == 0 || len(content) > 64<<10 {
			return
		}
		name := []string{"UTF-8", "ISO-8859-1", "UTF-16LE", "EUC-KR"}[mode/2%4]
		pol := charset.Replace + charset.Policy(mode%2)
		cs, _ := charset.Lookup(name)
		var text []byte
		if cs.Unit() > 1 {
			text, _ = cs.AppendUTF8(nil, content, pol)
		} else { // a line feed is one, also behind half a character
			for l := range bytes.SplitAfterSeq(content, []byte("\n")) {
				text, _ = cs.AppendUTF8(text, bytes.TrimSuffix(l, []byte("\n")), pol)
				if bytes.HasSuffix(l, []byte("\n")) {
					text = append(text, '\n')
				}
			}
		}
		want := flumeLines(string(text), int(maxLine))

		in := input(t, string(content), withCharset(name), withPolicy(pol))
		l, err := newLines(in, int(maxLine), charset.UTF8())
		if err != nil {
			t.Fatal(err)
		}
		l.block = 512
		defer l.Close()
		var got []string
		for err == nil {
			b := in.Pool.NewBatch()
			before := l.Position()
			err = l.Read(b, int(batch))
			for _, e := range b.Events() {
				got = append(got, string(e.Body))
			}
			if b.Len() > 0 && l.Position().Offset <= before.Offset {
				t.Fatalf("%d events without progress", b.Len())
			}
			b.Release()
		}
		if err != io.EOF {
			t.Fatal(err)
		}
		if l.Position().Offset != int64(len(content)) {
			t.Fatalf("ends at %d of %d", l.Position().Offset, len(content))
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s max %d: %q, want %q", name, maxLine, got, want)
		}
	})
}

func flumeLines(text string, maxLine int) []string {
	var lines []string
	var sb strings.Builder
	chars, read := 0, false
	flush := func() {
		lines = append(lines, sb.String())
		sb.Reset()
		chars, read = 0, false
	}
	for _, r := range text {
		w := utf16.RuneLen(r)
		if w == 2 && chars > 0 && chars+w > maxLine {
			flush() // the one difference: pairs stay whole
		}
		read = true
		if r == '\n' {
			flush()
			continue
		}
		sb.WriteRune(r)
		if chars += w; chars >= maxLine {
			flush()
		}
	}
	if read {
		flush()
	}
	return lines
}

// FuzzAvro feeds damaged container files.
func FuzzAvro(f *testing.F) {
	for _, c := range []avroocf.CodecName{avroocf.Null, avroocf.Deflate, avroocf.Snappy} {
		file, _ := avroFile(f, 5, c)
		f.Add([]byte(file), uint8(2), int64(0))
		f.Add([]byte(file), uint8(2), int64(700))
	}
	f.Fuzz(func(t *testing.T, content []byte, batch uint8, from int64) {
		in := input(t, string(content))
		in.From = Position{Offset: from, Records: from % 3}
		if batch == 0 || from < 0 {
			return
		}
		d, err := deserializer(t, "AVRO", in)
		if err != nil {
			return
		}
		defer d.Close()
		for i := 0; i < 1000 && err == nil; i++ {
			b := in.Pool.NewBatch()
			err = d.Read(b, int(batch))
			for _, e := range b.Events() {
				_ = hex.EncodeToString(e.Body) // touches every byte
			}
			b.Release()
		}
	})
}

func TestLineDoesNotAllocate(t *testing.T) {
	content := strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", 10_000)
	in := input(t, content)
	pass := func() {
		l, err := newLines(in, 2048, charset.UTF8())
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; err == nil; n++ {
			b := in.Pool.NewBatch()
			err = l.Read(b, 1000)
			b.Release()
		}
		l.Close()
	}
	pass()
	if n := testing.AllocsPerRun(10, pass); n > 100 { // a block here or there, under the race detector
		t.Errorf("%.0f allocations for 10,000 lines", n)
	}
}

func BenchmarkLines(b *testing.B) {
	content := []byte(strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", 300_000))
	in := Input{File: bytes.NewReader(content), Size: int64(len(content)), Pool: event.NewPool(), Charset: charset.UTF8(), Log: slog.New(slog.DiscardHandler)}
	for _, size := range []int{32 << 10, 64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				l, err := newLines(in, 2048, charset.UTF8())
				l.block = size
				for err == nil {
					batch := in.Pool.NewBatch()
					err = l.Read(batch, 1000)
					batch.Release()
				}
				l.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/300_000, "ns/line")
		})
	}
}
