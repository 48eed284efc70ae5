package charset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"github.com/sluice-data/sluice/internal/suggest"
)

// table lists the character sets by Java's name, with Java's other names.
// Java's names and not WHATWG's: there "latin1" means windows-1252.
var table = []struct {
	cs      Charset
	aliases string
}{
	{Charset{name: "UTF-8", kind: kindUTF8}, "utf8 unicode-1-1-utf-8"},
	{Charset{name: "US-ASCII", kind: kindASCII}, "ascii ascii7 iso646-us iso_646.irv:1991 ansi_x3.4-1968 ansi_x3.4-1986 646 us cp367 ibm367 csascii iso-ir-6 default"},
	{Charset{name: "UTF-16", kind: kindUTF16, marked: true}, "utf16 utf_16 unicode unicodebig"},
	{Charset{name: "UTF-16BE", kind: kindUTF16}, "utf_16be x-utf-16be iso-10646-ucs-2 unicodebigunmarked"},
	{Charset{name: "UTF-16LE", kind: kindUTF16, little: true}, "utf_16le x-utf-16le unicodelittleunmarked"},
	{Charset{name: "UTF-32", kind: kindUTF32, marked: true}, "utf32 utf_32"},
	{Charset{name: "UTF-32BE", kind: kindUTF32}, "utf_32be x-utf-32be"},
	{Charset{name: "UTF-32LE", kind: kindUTF32, little: true}, "utf_32le x-utf-32le"},
	{single("ISO-8859-1", charmap.ISO8859_1), "iso8859_1 latin1 l1 iso_8859-1 iso8859-1 8859_1 iso_8859_1 iso_8859-1:1987 iso-ir-100 819 cp819 ibm819 ibm-819 csisolatin1"},
	{single("ISO-8859-2", charmap.ISO8859_2), "iso8859_2 latin2 l2 iso_8859-2 iso8859-2 8859_2 csisolatin2"},
	{single("ISO-8859-3", charmap.ISO8859_3), "iso8859_3 latin3 l3 iso_8859-3 iso8859-3 8859_3 csisolatin3"},
	{single("ISO-8859-4", charmap.ISO8859_4), "iso8859_4 latin4 l4 iso_8859-4 iso8859-4 8859_4 csisolatin4"},
	{single("ISO-8859-5", charmap.ISO8859_5), "iso8859_5 cyrillic iso_8859-5 iso8859-5 8859_5 csisolatincyrillic"},
	{single("ISO-8859-6", charmap.ISO8859_6), "iso8859_6 arabic iso_8859-6 iso8859-6 8859_6 csisolatinarabic"},
	{single("ISO-8859-7", charmap.ISO8859_7), "iso8859_7 greek greek8 iso_8859-7 iso8859-7 8859_7 csisolatingreek"},
	{single("ISO-8859-8", charmap.ISO8859_8), "iso8859_8 hebrew iso_8859-8 iso8859-8 8859_8 csisolatinhebrew"},
	{single("ISO-8859-9", charmap.ISO8859_9), "iso8859_9 latin5 l5 iso_8859-9 iso8859-9 8859_9 csisolatin5"},
	{single("ISO-8859-13", charmap.ISO8859_13), "iso8859_13 iso_8859-13 iso8859-13 8859_13"},
	{single("ISO-8859-15", charmap.ISO8859_15), "iso8859_15 latin9 latin-9 l9 latin0 iso_8859-15 iso8859-15 8859_15 iso8859_15_fdis"},
	{single("ISO-8859-16", charmap.ISO8859_16), "iso8859_16 latin10 l10 iso_8859-16"},
	{single("windows-1250", charmap.Windows1250), "cp1250"},
	{single("windows-1251", charmap.Windows1251), "cp1251 ansi-1251"},
	{single("windows-1252", charmap.Windows1252), "cp1252 ibm-1252 ibm1252"},
	{single("windows-1253", charmap.Windows1253), "cp1253"},
	{single("windows-1254", charmap.Windows1254), "cp1254"},
	{single("windows-1255", charmap.Windows1255), "cp1255"},
	{single("windows-1256", charmap.Windows1256), "cp1256"},
	{single("windows-1257", charmap.Windows1257), "cp1257"},
	{single("windows-1258", charmap.Windows1258), "cp1258"},
	{single("x-windows-874", charmap.Windows874), "windows-874 ms874 ms-874 tis-620 tis620"},
	{single("IBM437", charmap.CodePage437), "cp437 437 ibm-437 windows-437"},
	{single("IBM850", charmap.CodePage850), "cp850 850 ibm-850"},
	{single("IBM852", charmap.CodePage852), "cp852 852 ibm-852"},
	{single("IBM866", charmap.CodePage866), "cp866 866 ibm-866"},
	{single("KOI8-R", charmap.KOI8R), "koi8_r koi8 cskoi8r"},
	{single("KOI8-U", charmap.KOI8U), "koi8_u"},
	{single("x-MacRoman", charmap.Macintosh), "macroman"},
	{single("x-MacCyrillic", charmap.MacintoshCyrillic), "maccyrillic"},
	// The tables are x/text's, which are the WHATWG's. Against Java's they read
	// more than EUC-KR, Shift_JIS, GB2312 and Big5 have, leave out the codes for
	// private use, and differ in a few signs (the wave dash, the middle dot) and,
	// in Big5, in rows C6-C8, which are those of HKSCS.
	{multi("EUC-KR", korean.EUCKR), "euckr euc_kr ksc5601 ksc_5601 ksc5601-1987 ksc5601_1987 ks_c_5601-1987 cseuckr 5601"},
	{multi("x-windows-949", korean.EUCKR), "windows-949 windows949 ms949 ms_949 cp949 uhc"},
	{multi("Shift_JIS", japanese.ShiftJIS), "sjis shift-jis x-sjis ms_kanji csshiftjis"},
	{multi("windows-31j", japanese.ShiftJIS), "ms932 windows-932 cswindows31j"},
	{multi("EUC-JP", japanese.EUCJP), "eucjp euc_jp eucjis x-euc-jp x-eucjp extended_unix_code_packed_format_for_japanese"},
	{multi("GBK", simplifiedchinese.GBK), "cp936 windows-936"},
	{multi("GB2312", simplifiedchinese.GBK), "euc-cn euc_cn euccn x-euc-cn gb2312-80 gb2312-1980"},
	{multi("GB18030", simplifiedchinese.GB18030), "gb18030-2022"},
	{multi("Big5", traditionalchinese.Big5), "csbig5 big5-hkscs big5_hkscs big5hk big5hkscs"},
}

func single(name string, m *charmap.Charmap) Charset {
	return Charset{name: name, kind: kindCharmap, cmap: m}
}

func multi(name string, e encoding.Encoding) Charset {
	return Charset{name: name, kind: kindMulti, dec: e.NewDecoder(), enc: e.NewEncoder()}
}

// index is filled once, by its initialiser.
var index = func() map[string]*Charset {
	m := make(map[string]*Charset)
	for i := range table {
		e := &table[i]
		m[strings.ToLower(e.cs.name)] = &e.cs
		for _, a := range strings.Fields(e.aliases) {
			m[a] = &e.cs
		}
	}
	return m
}()

// UTF8 is UTF-8.
func UTF8() *Charset { return index["utf-8"] }

// Lookup finds a character set by any of Java's names for it, in any case.
// Sets with shift states (ISO-2022) and EBCDIC are not among them.
func Lookup(name string) (*Charset, error) {
	if c := index[strings.ToLower(strings.TrimSpace(name))]; c != nil {
		return c, nil
	}
	hint := suggest.Hint(strings.ToLower(name), slices.Sorted(maps.Keys(index)))
	if hint == "" {
		names := make([]string, len(table))
		for i := range table {
			names[i] = table[i].cs.name
		}
		hint = "known: " + strings.Join(names, ", ")
	}
	return nil, fmt.Errorf("unknown character set %q: %s", name, hint)
}

// Narrow is Lookup restricted to sets whose Unit is 1.
func Narrow(name string) (*Charset, error) {
	c, err := Lookup(name)
	if err == nil && c.Unit() != 1 {
		return nil, fmt.Errorf("character set %s is not supported on streams: have it converted to UTF-8 by the sender", c.name)
	}
	return c, err
}
