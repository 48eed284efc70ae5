package differential

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
)

// fill sets a kmsg value from JSON; fields that are not named keep their
// defaults, also in the elements of arrays.
func fill(v reflect.Value, j any) error {
	switch v.Kind() {
	case reflect.Pointer:
		if j == nil {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), j)
	case reflect.Struct:
		m, ok := j.(map[string]any)
		if !ok {
			return fmt.Errorf("want an object, not %v", j)
		}
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for name, e := range m {
			f := v.FieldByName(name)
			if !f.IsValid() {
				return fmt.Errorf("%s has no field %s", v.Type().Name(), name)
			}
			if err := fill(f, e); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	case reflect.Slice:
		if j == nil {
			v.SetZero()
			return nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b, err := bytesOf(j)
			v.SetBytes(b)
			return err
		}
		l, ok := j.([]any)
		if !ok {
			return fmt.Errorf("want an array, not %v", j)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(l), len(l)))
		for i := range l {
			if err := fill(v.Index(i), l[i]); err != nil {
				return err
			}
		}
		return nil
	case reflect.Array: // an id
		b, err := hex.DecodeString(fmt.Sprint(j))
		if err != nil || len(b) != v.Len() {
			return fmt.Errorf("want %d hexadecimal digits, not %v", 2*v.Len(), j)
		}
		reflect.Copy(v, reflect.ValueOf(b))
		return nil
	case reflect.String:
		s, ok := j.(string)
		if !ok {
			return fmt.Errorf("want a string, not %v", j)
		}
		v.SetString(s)
		return nil
	case reflect.Bool:
		b, ok := j.(bool)
		if !ok {
			return fmt.Errorf("want true or false, not %v", j)
		}
		v.SetBool(b)
		return nil
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := number(j)
		v.SetInt(n)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(fmt.Sprint(j), 64)
		v.SetFloat(f)
		return err
	}
	return fmt.Errorf("a script cannot set a %s", v.Type())
}

// number also takes a sum, as in "$now+5".
func number(j any) (int64, error) {
	var sum int64
	for _, p := range strings.Split(fmt.Sprint(j), "+") {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// bytesOf makes bytes of a string ("hex:..." for others) or of an array of
// record batches.
func bytesOf(j any) ([]byte, error) {
	switch j := j.(type) {
	case string:
		if h, ok := strings.CutPrefix(j, "hex:"); ok {
			return hex.DecodeString(h)
		}
		return []byte(j), nil
	case []any:
		out := []byte{}
		for _, e := range j {
			var b batch
			raw, err := json.Marshal(e)
			if err != nil {
				return nil, err
			}
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			d.UseNumber()
			if err := d.Decode(&b); err != nil {
				return nil, fmt.Errorf("record batch: %w", err)
			}
			if out, err = b.append(out); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("want a string or an array of batches, not %v", j)
}

// batch is a record batch in a script. Values are the records' values, null
// for a null one; Keys belong to them by position.
type batch struct {
	Values     []*string
	Keys       []*string
	Time       any
	Times      []any
	BaseOffset int64
	Attributes int16
	ProducerID *int64
	Epoch      int16
	Sequence   int32
	Compress   record.Codec
	// What is wrong with it on purpose:
	Magic           *int8
	Count           *int32
	LastOffsetDelta *int32
	MaxTime         any
	BadCRC          bool
	Cut             int    // bytes missing at the end
	FirstDelta      *int8  // offset delta of the first record
	CutStream       int    // bytes missing at the end of what is compressed
	MoreStream      string // more bytes there
}

func (b *batch) append(dst []byte) ([]byte, error) {
	start := len(dst)
	h := record.Header{BaseOffset: b.BaseOffset, Magic: 2, Attributes: b.Attributes, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	if b.ProducerID != nil {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = *b.ProducerID, b.Epoch, b.Sequence
	}
	recs := make([]record.Record, len(b.Values))
	for i, v := range b.Values {
		r := &recs[i]
		if v != nil {
			r.Value = []byte(*v)
		}
		if i < len(b.Keys) && b.Keys[i] != nil {
			r.Key = []byte(*b.Keys[i])
		}
		at := b.Time
		if i < len(b.Times) {
			at = b.Times[i]
		}
		if at == nil {
			return nil, errors.New("record batch: no Time")
		}
		n, err := number(at)
		if err != nil {
			return nil, fmt.Errorf("record batch: Time: %w", err)
		}
		r.Timestamp = n
	}
	dst = record.Append(dst, h, recs...)
	at := dst[start:]
	if b.FirstDelta != nil {
		// after length, attributes and timestamp delta, one byte each
		at[record.HeaderSize+3] = byte(*b.FirstDelta << 1)
		h, err := record.ParseHeader(at)
		if err != nil {
			return nil, err
		}
		record.Put(at, h)
	}
	if b.Compress != record.None {
		o, _, err := record.Open(at, nil, 1<<20)
		if err != nil {
			return nil, err
		}
		if dst, _, err = o.Rewrite(dst[:start:start], record.Compression{Codec: b.Compress}, nil); err != nil {
			return nil, err
		}
		dst = append(dst[:len(dst)-b.CutStream], b.MoreStream...)
		at = dst[start:]
		h, err := record.ParseHeader(at[:])
		if err != nil && !errors.Is(err, record.ErrShort) {
			return nil, err
		}
		record.Put(at, h)
	}
	if b.Count != nil || b.LastOffsetDelta != nil || b.MaxTime != nil {
		h, err := record.ParseHeader(at)
		if err != nil {
			return nil, err
		}
		if b.Count != nil {
			h.Count = *b.Count
		}
		if b.LastOffsetDelta != nil {
			h.LastOffsetDelta = *b.LastOffsetDelta
		}
		if b.MaxTime != nil {
			if h.MaxTimestamp, err = number(b.MaxTime); err != nil {
				return nil, err
			}
		}
		record.Put(at, h)
	}
	if b.Magic != nil {
		at[16] = byte(*b.Magic)
	}
	if b.BadCRC {
		at[17] ^= 0xff
	}
	return dst[:len(dst)-b.Cut], nil
}

// object is a rendered struct: names and values in the order of the fields.
type object []member

type member struct {
	name  string
	value any
}

func (o object) get(name string) any {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// view renders answers without what differs from run to run.
type view struct {
	prefix  string // $T
	api     int16
	body    string // of the request: what it names is shown
	script  string // all requests, for ids that the script made up
	now     int64
	node    int32
	port    int32
	saved   map[string]string // value → variable
	savedAs map[string]bool   // "field value" of saved numbers
}

var (
	timeText  = regexp.MustCompile(`\b1[0-9]{12}\b`)
	uuidText  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	clusterID = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)
)

// render leaves out fields that have their default.
func (w *view) render(v reflect.Value, name string) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return w.render(v.Elem(), name)
	case reflect.Struct:
		def := reflect.New(v.Type())
		if d, ok := def.Interface().(interface{ Default() }); ok {
			d.Default()
		}
		out := object{}
		for i := range v.NumField() {
			n := v.Type().Field(i).Name
			if n == "Version" || n == "UnknownTags" || w.api == keyDescribeQuorum && (n == "HighWatermark" || n == "LogEndOffset") || reflect.DeepEqual(v.Field(i).Interface(), def.Elem().Field(i).Interface()) {
				continue
			}
			out = append(out, member{n, w.render(v.Field(i), n)})
		}
		return out
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		if b, ok := v.Interface().([]byte); ok {
			return w.bytes(b, name)
		}
		list := []any{}
		for i := range v.Len() {
			if w.foreign(v.Index(i)) {
				continue
			}
			list = append(list, w.render(v.Index(i), name))
		}
		slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(sortKey(a), sortKey(b)) })
		return list
	case reflect.Array:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		h := hex.EncodeToString(b)
		if s, ok := w.saved[h]; ok {
			return s
		}
		if strings.Contains(w.script, h) {
			return h
		}
		return "id"
	case reflect.String:
		return w.text(v.String(), name)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return w.number(v.Int(), name)
	case reflect.Uint16:
		return w.number(int64(v.Uint()), name)
	}
	return v.Interface()
}

const keyDescribeQuorum = 55

// foreign says that an element is about another script's topic or group.
func (w *view) foreign(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	for _, n := range []string{"Topic", "Group"} {
		f := v.FieldByName(n)
		if !f.IsValid() {
			continue
		}
		if f.Kind() == reflect.Pointer {
			if f.IsNil() {
				continue
			}
			f = f.Elem()
		}
		if id := v.FieldByName("TopicID"); n == "Topic" && f.Len() == 0 && id.IsValid() && !id.IsZero() {
			return false // from the versions that name topics by id
		}
		if s := f.String(); !strings.HasPrefix(s, w.prefix) && !strings.Contains(w.body, strconv.Quote(s)) {
			return true
		}
	}
	return false
}

func (w *view) text(s, name string) string {
	if name == "ClusterID" && clusterID.MatchString(s) {
		return "a cluster id"
	}
	for val, v := range w.saved {
		if len(val) > 8 {
			s = strings.ReplaceAll(s, val, v)
		}
	}
	s = strings.ReplaceAll(s, w.prefix, "$T")
	if name == "Dir" {
		return "a directory"
	}
	return timeText.ReplaceAllString(uuidText.ReplaceAllString(s, "uuid"), "time")
}

func (w *view) number(n int64, name string) any {
	if strings.HasSuffix(name, "ErrorCode") {
		if n == 0 {
			return "NONE"
		}
		var ke *kerr.Error
		if errors.As(kerr.ErrorForCode(int16(n)), &ke) && ke.Code == int16(n) {
			return ke.Message
		}
		return strconv.FormatInt(n, 10)
	}
	if w.api == keyDescribeQuorum && (name == "LeaderEpoch" || name == "Port") {
		return "some" // of a log that is not the test's
	}
	switch name {
	case "NodeID", "ControllerID", "Leader", "LeaderID", "Replicas", "ISR", "BrokerID", "VoterID":
		if int32(n) == w.node {
			return "node"
		}
	case "Port":
		if int32(n) == w.port {
			return "port"
		}
	case "TotalBytes", "UsableBytes":
		if n > 0 {
			return "bytes"
		}
	case "ProducerID", "SessionID", "FinalizedFeaturesEpoch":
		if w.savedAs[name+" "+strconv.FormatInt(n, 10)] {
			return "saved"
		}
		made := regexp.MustCompile(`"` + name + `": ` + strconv.FormatInt(n, 10) + `\b`).MatchString(w.script)
		if (n > 0 || n == 0 && name == "ProducerID") && !made {
			return "id"
		}
	}
	if strings.Contains(name, "Time") && n > 1e12 {
		switch d := n - w.now; {
		case d >= -scriptTimes && d <= scriptTimes:
			return "now+" + strconv.FormatInt(d, 10)
		case d > 0 && d < 4*behind:
			return "clock"
		}
	}
	return json.Number(strconv.FormatInt(n, 10))
}

// $now is an hour behind the clock, so that times which a script sent and
// times of the broker's clock can be told apart.
const (
	behind      = 3_600_000
	scriptTimes = 600_000
)

func (w *view) bytes(b []byte, name string) any {
	if name == "RecordBatches" {
		return w.batches(b)
	}
	if utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' }) {
		return w.text(string(b), name)
	}
	return "hex:" + hex.EncodeToString(b)
}

func (w *view) batches(b []byte) any {
	out := []any{}
	for len(b) > 0 {
		h, err := record.Check(b)
		if err != nil {
			return append(out, "bad batch: "+err.Error())
		}
		num := func(name string, n int64) member { return member{name, w.number(n, name)} }
		out = append(out, object{
			num("BaseOffset", h.BaseOffset), num("LeaderEpoch", int64(h.LeaderEpoch)), num("Attributes", int64(h.Attributes)),
			num("LastOffsetDelta", int64(h.LastOffsetDelta)), num("BaseTimestamp", h.BaseTimestamp), num("MaxTimestamp", h.MaxTimestamp),
			num("ProducerID", h.ProducerID), num("ProducerEpoch", int64(h.ProducerEpoch)), num("BaseSequence", int64(h.BaseSequence)),
			num("Count", int64(h.Count)), {"Records", hex.EncodeToString(b[record.HeaderSize:h.Size()])},
		})
		b = b[h.Size():]
	}
	return out
}

// keyFields tell the elements of an array apart.
var keyFields = []string{"Topic", "TopicID", "ResourceType", "ResourceName", "Name", "Type", "Group", "Key", "Partition", "ApiKey", "MemberID", "NodeID"}

// lastKeys are keys for elements that have no other: offsets and ids that an
// answer is about rather than named by.
var lastKeys = []string{"BaseOffset", "ProducerID"}

func sortKey(v any) string { return elementKey(v, "%020s ") }

func elementKey(v any, number string) string {
	var b strings.Builder
	for _, n := range append(keyFields[:len(keyFields):len(keyFields)], lastKeys...) {
		if n == lastKeys[0] && b.Len() > 0 {
			break
		}
		var x any
		switch o := v.(type) {
		case object:
			x = o.get(n)
		case map[string]any:
			x = o[n]
		}
		if num, ok := x.(json.Number); ok {
			fmt.Fprintf(&b, number, num)
		} else if x != nil {
			fmt.Fprintf(&b, "%v ", x)
		}
	}
	return strings.TrimSpace(b.String())
}

const lineWidth = 150

// format writes a rendered value as JSON, on one line where it fits.
func format(v any, indent string) string {
	flat := formatFlat(v)
	if len(flat)+len(indent) <= lineWidth {
		return flat
	}
	in := indent + " "
	var parts []string
	switch v := v.(type) {
	case object:
		for _, m := range v {
			parts = append(parts, in+strconv.Quote(m.name)+": "+format(m.value, in))
		}
		return "{\n" + strings.Join(parts, ",\n") + "}"
	case []any:
		for _, e := range v {
			parts = append(parts, in+format(e, in))
		}
		return "[\n" + strings.Join(parts, ",\n") + "]"
	}
	return flat
}

func formatFlat(v any) string {
	var parts []string
	switch v := v.(type) {
	case object:
		for _, m := range v {
			parts = append(parts, strconv.Quote(m.name)+": "+formatFlat(m.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, e := range v {
			parts = append(parts, formatFlat(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return strconv.Quote("cannot be shown: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// difference is one place where two answers are not the same.
type difference struct{ path, got, want string }

// compare walks two answers. Elements of arrays meet by their key fields.
func compare(path string, got, want any, add func(difference)) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			names := map[string]bool{}
			for n := range w {
				names[n] = true
			}
			for n := range g {
				names[n] = true
			}
			for n := range names {
				sub := path + "." + n
				gv, gok := g[n]
				wv, wok := w[n]
				switch {
				case !gok:
					add(difference{sub, "default", short(wv)})
				case !wok && n == "ErrorMessage":
					add(difference{sub + ":more", short(gv), "default"})
				case !wok:
					add(difference{sub, short(gv), "default"})
				default:
					compare(sub, gv, wv, add)
				}
			}
			return
		}
	case []any:
		if g, ok := got.([]any); ok {
			gk, wk := keyed(g), keyed(w)
			for k, wv := range wk {
				if gv, ok := gk[k]; ok {
					compare(path+"["+k+"]", gv, wv, add)
				} else {
					add(difference{path + "[" + k + "]", "missing", short(wv)})
				}
			}
			for k, gv := range gk {
				if _, ok := wk[k]; !ok {
					add(difference{path + "[" + k + "]", short(gv), "missing"})
				}
			}
			return
		}
	}
	if reflect.DeepEqual(got, want) {
		return
	}
	_, gs := got.(string)
	_, ws := want.(string)
	if gs && ws && (strings.HasSuffix(path, "ErrorMessage") || strings.HasSuffix(path, "Documentation")) {
		path += ":wording"
	}
	add(difference{path, short(got), short(want)})
}

func keyed(l []any) map[string]any {
	m := map[string]any{}
	for i, e := range l {
		name := elementKey(e, "%s ")
		k := name
		if k == "" {
			k = strconv.Itoa(i)
		}
		for n := 2; ; n++ {
			if _, taken := m[k]; !taken {
				break
			}
			k = name + "#" + strconv.Itoa(n)
		}
		m[k] = e
	}
	return m
}

func short(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(b) > 400 {
		return string(b[:400]) + "..."
	}
	return string(b)
}
