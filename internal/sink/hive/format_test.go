package hive

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/metastore"
)

func storage(serde string, params map[string]string, cols ...string) *metastore.Storage {
	s := &metastore.Storage{InputFormat: textInput, SerDe: serde, Parameters: params}
	for _, c := range cols {
		name, typ, _ := strings.Cut(c, " ")
		s.Columns = append(s.Columns, metastore.Field{Name: name, Type: typ})
	}
	return s
}

// row parses a body and writes it.
func row(t *testing.T, s *metastore.Storage, body, delimiter, fields string) (string, error) {
	t.Helper()
	cols, f, err := newFormat(s)
	if err != nil {
		t.Fatal(err)
	}
	var p parser = object{cols}
	if fields != "" {
		if p, err = newDelimited(delimiter, strings.Split(fields, ","), cols); err != nil {
			t.Fatal(err)
		}
	}
	cells := make([]cell, len(cols))
	if err := p.parse([]byte(body), cells); err != nil {
		return "", err
	}
	line, err := f.appendRow(nil, cells)
	return string(line), err
}

func TestRows(t *testing.T) {
	comma := map[string]string{"field.delim": ",", "serialization.format": ","}
	escaped := map[string]string{"field.delim": ",", "escape.delim": `\`, "collection.delim": ";", "mapkey.delim": ":"}
	crlf := map[string]string{"field.delim": ",", "escape.delim": `\`, "serialization.escape.crlf": "true"}
	nests := []string{"a array<int>", "m map<string,array<int>>", "s struct<x:int,y:string>", "b binary"}
	for _, tt := range []struct {
		name            string
		s               *metastore.Storage
		body, sep, list string
		want            string
	}{
		{"defaults", storage(lazySimple, nil, "a int", "b string"), "1,x", ",", "a,b", "1\x01x\n"},
		{"other order", storage(lazySimple, comma, "a int", "b string"), "x\t1", "\t", "B,a", "1,x\n"},
		{"a field left out", storage(lazySimple, comma, "a int", "b string"), "1||x", "||", "a,b", "1,x\n"},
		{"fields skipped", storage(lazySimple, comma, "a int", "b string"), "1,2,3,4", ",", ",b,,a", "4,2\n"},
		{"too few", storage(lazySimple, comma, "a int", "b string"), "1", ",", "a,b", `1,\N` + "\n"},
		{"too many", storage(lazySimple, comma, "a int", "b string"), "1,2,3", ",", "a,b", "1,2\n"},
		{"empty body", storage(lazySimple, comma, "a int", "b string"), "", ",", "b,a", `\N,` + "\n"},
		{"own null", storage(lazySimple, map[string]string{"serialization.null.format": ""}, "a int", "b string"), "1", ",", "a", "1\x01\n"},
		{"delimiter by number", storage(lazySimple, map[string]string{"field.delim": "9"}, "a int", "b string"), "1,x", ",", "a,b", "1\tx\n"},
		{"escaped", storage(lazySimple, escaped, "a string", "b string"), `x,y|\z`, "|", "a,b", `x\,y,\\z` + "\n"},
		{"escaped line ends", storage(lazySimple, crlf, "a string"), "x\r\ny", "|", "a", `x\r\ny` + "\n"},
		{"nested", storage(lazySimple, escaped, "a array<int>", "m map<string,int>"), "1\x022,k\x031\x02l\x032", ",", "a,m", "1;2,k:1;l:2\n"},
		{"nested struct", storage(lazySimple, escaped, "s struct<x:int,y:string>"), "1\x02p,q", "|", "s", `1;p\,q` + "\n"},
		{"nested null", storage(lazySimple, escaped, "s array<int>"), `\N`, "|", "s", `\N` + "\n"},
		{"to JSON", storage(hiveJSON, nil, "a int", "b string", "c boolean", "d double"), `1,x"` + "\t\x00ä" + `,TRUE,-1.5e3`, ",", "a,b,c,d", `{"a":1,"b":"x\"\u0009\u0000ä","c":true,"d":-1.5e3}` + "\n"},
		{"to JSON, nothing", storage(hcatJSON, nil, "a int"), "", ",", "", "{}\n"},
		{"JSON to JSON", storage(hiveJSON, nil, nests...), `{"A":[1,null],"m":{"l":[2],"k":[]},"s":{"Y":"y","z":1},"b":"hé"}`, "", "", `{"a":[1,null],"m":{"k":[],"l":[2]},"s":{"x":null,"y":"y"},"b":"hé"}` + "\n"},
		{"JSON to text", storage(lazySimple, escaped, nests...), `{"a":["1",2],"m":{"l":[2,3],"k":[]},"s":{"y":"y"},"b":"hé"}`, "", "", "1;2,k:;l:2\x043" + `,\N;y,aMOp` + "\n"},
		{"keys that differ in case", storage(lazySimple, comma, "ab string", "s struct<x:int>"), `{"ab":"1","AB":"2","aB":"3","Ab":"4","s":{"x":1,"X":2}}`, "", "", "1,1\n"},
		{"JSON of any kind is a text", storage(lazySimple, comma, "a string", "b string", "c string"), `{"a":1.50,"b":true,"c":[1]}`, "", "", "1.50,true,[1]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "{}\n" {
				tt.body = "{}"
			}
			got, err := row(t, tt.s, tt.body, tt.sep, tt.list)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBadRows(t *testing.T) {
	comma := map[string]string{"field.delim": ","}
	for _, tt := range []struct {
		name            string
		s               *metastore.Storage
		body, sep, list string
		want            string
	}{
		{"delimiter in it", storage(lazySimple, comma, "a string"), "x,y", "|", "a", "has no ESCAPED BY"},
		{"line end in it", storage(lazySimple, comma, "a string"), "x\ny", "|", "a", "has no ESCAPED BY"},
		{"line end in it, escaped", storage(lazySimple, map[string]string{"escape.delim": `\`}, "a string"), "x\ny", "|", "a", "serialization.escape.crlf"},
		{"no number", storage(hiveJSON, nil, "a int"), "x", "|", "a", `"x" is no int`},
		{"a line end behind a number", storage(hiveJSON, nil, "a int", "b string"), "1\n,x", ",", "a,b", `"1\n" is no int`},
		{"a line end behind a number of a string", storage(hiveJSON, nil, "a int"), `{"a":"1\n"}`, "", "", `"1\n" is no int`},
		{"a line end before a boolean", storage(hiveJSON, nil, "a boolean"), "\ntrue", ",", "a", `"\ntrue" is no boolean`},
		{"no boolean", storage(hiveJSON, nil, "a boolean"), "1", "|", "a", `"1" is no boolean`},
		{"no object", storage(hiveJSON, nil, "a int"), "[1]", "", "", "no JSON object"},
		{"broken", storage(hiveJSON, nil, "a int"), `{"a":`, "", "", "no JSON object"},
		{"object for a number", storage(lazySimple, nil, "a int"), `{"a":{}}`, "", "", "{} is no int"},
		{"number for a list", storage(lazySimple, nil, "a array<int>"), `{"a":1}`, "", "", "1 is no array<int>"},
		{"number for a struct", storage(lazySimple, nil, "a struct<b:int>"), `{"a":1}`, "", "", "1 is no struct<b:int>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := row(t, tt.s, tt.body, tt.sep, tt.list)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestTablesRefused(t *testing.T) {
	orc := storage("org.apache.hadoop.hive.ql.io.orc.OrcSerde", nil, "a int")
	orc.InputFormat = "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat"
	for want, s := range map[string]*metastore.Storage{
		"OrcInputFormat":              orc,
		"OpenCSVSerde":                storage("org.apache.hadoop.hive.serde2.OpenCSVSerde", nil, "a int"),
		`"uniontype" is not`:          storage(lazySimple, nil, "a uniontype<int,string>"),
		"column b: type array<int: a": storage(lazySimple, nil, "a int", "b array<int"),
		"is left over":                storage(lazySimple, nil, "a int>"),
		"nested too deep":             storage(lazySimple, nil, "a "+strings.Repeat("array<", 9)+"int"+strings.Repeat(">", 9)),
		"columns are nested too deep": storage(lazySimple, nil, "a "+strings.Repeat("map<int,", 6)+"int"+strings.Repeat(">", 6)),
		"wrong number":                storage(lazySimple, nil, "a map<array<int>,int>"),
		"are the same":                storage(lazySimple, map[string]string{"field.delim": "\n"}, "a int"),
		"is not one byte":             storage(lazySimple, map[string]string{"field.delim": "ä"}, "a int"),
		"line.delim":                  storage(lazySimple, map[string]string{"line.delim": "|"}, "a int"),
	} {
		if _, _, err := newFormat(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if _, err := newDelimited(",", []string{"a", "x"}, []column{{name: "a"}}); err == nil || !strings.Contains(err.Error(), `no column "x"`) {
		t.Error(err)
	}
	if _, err := newDelimited(",", []string{"a", "A"}, []column{{name: "a"}}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
}

// Whatever is in a body, a row is one line with as many fields as the table has columns, or JSON.
func FuzzRow(f *testing.F) {
	for _, s := range []string{"1,x,y", `{"a":1,"b":"x","c":["y"]}`, "1\n,\x01,\x02", `{"a":"1\n","c":["\u0001\n",null]}`, `\N,\,\`, "1e3,\"\\\",\xff"} {
		f.Add([]byte(s))
	}
	cols := []string{"a int", "b string", "c array<string>", "d map<string,boolean>", "e binary"}
	tables := []*metastore.Storage{storage(hiveJSON, nil, cols...), storage(lazySimple, nil, cols...),
		storage(lazySimple, map[string]string{"field.delim": ",", "escape.delim": `\`, "serialization.escape.crlf": "true"}, cols...)}
	f.Fuzz(func(t *testing.T, body []byte) {
		for i, table := range tables {
			for _, fields := range []string{"", "a,b,c,d,e"} {
				line, err := row(t, table, string(body), ",", fields)
				if err != nil {
					continue
				}
				text, ended := strings.CutSuffix(line, "\n")
				if !ended || strings.ContainsAny(text, "\n\r") {
					t.Errorf("%q became %q", body, line)
				}
				if i == 0 && !json.Valid([]byte(text)) {
					t.Errorf("%q became %q, which is no JSON", body, line)
				}
				if n := strings.Count(text, "\x01"); i == 1 && n != len(cols)-1 {
					t.Errorf("%q became %q, with %d delimiters", body, line, n)
				}
			}
		}
	})
}

func FuzzType(f *testing.F) {
	for _, s := range []string{"int", "decimal(10,2)", "map<string,array<struct<a:int,b:timestamp with local time zone>>>", "array<"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		typ, err := parseType(s)
		if err != nil {
			return
		}
		if _, _, err := newFormat(storage(lazySimple, nil, "a "+s)); err == nil && typ.depth() > maxDepth+1 {
			t.Errorf("%d levels", typ.depth())
		}
	})
}
