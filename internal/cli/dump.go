package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/broker/dump"
	"github.com/sluice-data/sluice/internal/broker/grouplog"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/record"
)

type dumpCmd struct {
	Paths    []string `arg:"" name:"path" type:"existingpath" help:"Files of a partition (.log, .index, .timeindex, .snapshot, log-state, leader-epoch-checkpoint), or directories: of a partition, or a broker's whole data directory."`
	Deep     bool     `help:"Show every record's offset, time, sizes and header names."`
	Data     bool     `name:"print-data-log" help:"Show every record with key and value."`
	Offsets  bool     `name:"offsets-decoder" help:"Show the records of __consumer_offsets decoded."`
	Verify   bool     `help:"Show no contents: check CRCs, offsets, records and index entries, and say what is damaged."`
	JSON     bool     `help:"Write JSON, a line for each batch, record or entry."`
	MaxBytes int64    `placeholder:"N" help:"Read no more of a segment than this."`

	kafka, indexSanity, skipMetadata bool // called as kafka-dump-log
	decodeKey, decodeValue           func([]byte) (string, error)
}

func (c *dumpCmd) Help() string {
	return "Reads the files only, so the broker may run or not. Apache Kafka's segments and indexes can be read, too.\nExit code 1 if something is damaged; the standard error names file, position and offset."
}

func (c *dumpCmd) Run(env *Env) error {
	files, err := c.files()
	if err != nil {
		return err
	}
	d := dumper{dumpCmd: c, env: env, out: bufio.NewWriterSize(env.Stdout, 64<<10)}
	for _, f := range files {
		if env.Ctx.Err() != nil {
			return env.Ctx.Err()
		}
		err := d.file(f)
		if ferr := d.out.Flush(); ferr != nil {
			return fmt.Errorf("write standard output: %w", ferr)
		}
		if err != nil {
			return err
		}
	}
	if d.damaged > 0 {
		return &exitError{Code: ExitFailed, Err: fmt.Errorf("%d place(s) of damage in %d file(s)", d.damaged, len(files))}
	}
	if c.Verify {
		fmt.Fprintf(env.Stderr, "%d file(s), no damage\n", len(files))
	}
	return nil
}

// files are what is named, and in directories what is known, by base offset.
func (c *dumpCmd) files() ([]string, error) {
	var files []string
	for _, p := range c.Paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		if !st.IsDir() {
			files = append(files, p)
			continue
		}
		found := len(files)
		err = filepath.WalkDir(p, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a running broker deletes
			}
			if err == nil && e.Type().IsRegular() && fileKind(path) != "" {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		if len(files) == found {
			return nil, fmt.Errorf("dump %s: there are no files of a partition in it: want DIR/logs/TOPIC-N or the broker's data directory", p)
		}
	}
	return files, nil
}

const (
	stateFile  = "log-state"
	epochsFile = "leader-epoch-checkpoint"
)

// fileKind is the ending or name that says what a file is; "" for others.
func fileKind(path string) string {
	name := filepath.Base(path)
	if name == stateFile || name == epochsFile {
		return name
	}
	ext := filepath.Ext(name)
	switch ext {
	case ".log", ".index", ".timeindex", ".snapshot":
		if _, err := strconv.ParseInt(strings.TrimSuffix(name, ext), 10, 64); err == nil {
			return ext
		}
	}
	return ""
}

// maxSmall bounds the files that are read whole.
const maxSmall = 1 << 28

type dumper struct {
	*dumpCmd
	env     *Env
	out     *bufio.Writer
	damaged int
}

func (d *dumper) problem(p dump.Problem) {
	d.damaged++
	d.out.Flush() // so that it stands where it belongs; Run reports a failure
	fmt.Fprintf(d.env.Stderr, "%s\n", p)
}

func (d *dumper) small(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("it is larger than %d bytes", maxSmall)
	}
	return b, err
}

func (d *dumper) file(path string) error {
	kind := fileKind(path)
	if kind == "" {
		fmt.Fprintf(d.env.Stderr, "Ignoring unknown file %s\n", path)
		return nil
	}
	if !d.JSON && !d.Verify || d.kafka {
		fmt.Fprintf(d.out, "Dumping %s\n", path)
	}
	var err error
	switch kind {
	case ".log":
		err = d.log(path)
	case ".index", ".timeindex":
		err = d.index(path, kind == ".timeindex")
	case ".snapshot":
		err = d.snapshot(path)
	default:
		err = d.text(path, kind)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// A running broker may have deleted or replaced it since.
		fmt.Fprintf(d.env.Stderr, "%s is gone\n", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", path, err)
	}
	return nil
}

// baseOf is the offset in a file's name.
func baseOf(path string) int64 {
	name := filepath.Base(path)
	n, _ := strconv.ParseInt(strings.TrimSuffix(name, filepath.Ext(name)), 10, 64) // fileKind has checked it
	return n
}

// lastSegment reports whether a segment is the one that is written to.
func lastSegment(path string) bool {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.log"))
	return err != nil || !slices.ContainsFunc(others, func(o string) bool { return fileKind(o) == ".log" && baseOf(o) > baseOf(path) })
}

type jsonBatch struct {
	File          string `json:"file"`
	Position      int64  `json:"position"`
	BaseOffset    int64  `json:"baseOffset"`
	LastOffset    int64  `json:"lastOffset"`
	Count         int32  `json:"count"`
	BaseSequence  int32  `json:"baseSequence"`
	LastSequence  int32  `json:"lastSequence"`
	ProducerID    int64  `json:"producerId"`
	ProducerEpoch int16  `json:"producerEpoch"`
	LeaderEpoch   int32  `json:"leaderEpoch"`
	Transactional bool   `json:"transactional"`
	Control       bool   `json:"control"`
	TimestampType string `json:"timestampType"`
	BaseTimestamp int64  `json:"baseTimestamp"`
	MaxTimestamp  int64  `json:"maxTimestamp"`
	Size          int64  `json:"size"`
	Codec         string `json:"codec"`
	CRC           uint32 `json:"crc"`
	Valid         bool   `json:"valid"`
	Damage        string `json:"damage,omitempty"`
}

type jsonDumpRecord struct {
	File        string          `json:"file"`
	Offset      int64           `json:"offset"`
	Timestamp   int64           `json:"timestamp"`
	Sequence    int32           `json:"sequence"`
	KeySize     int             `json:"keySize"`
	ValueSize   int             `json:"valueSize"`
	Headers     []jsonHeader    `json:"headers,omitempty"`
	Key         *string         `json:"key,omitempty"`
	KeyBase64   []byte          `json:"keyBase64,omitempty"`
	Value       *string         `json:"value,omitempty"`
	ValueBase64 []byte          `json:"valueBase64,omitempty"`
	Group       *grouplog.Entry `json:"groupLog,omitempty"`
}

func (d *dumper) log(path string) error {
	base := baseOf(path)
	deep := d.Deep || d.Data || d.Offsets || d.decodeKey != nil || d.decodeValue != nil
	if !d.JSON && (!d.Verify || d.kafka) {
		fmt.Fprintf(d.out, "Log starting offset: %d\n", base)
	}
	sum, problems, err := dump.Log(path, base, d.MaxBytes, d.Verify || deep, func(b *dump.Batch) error {
		if d.Verify && !d.kafka {
			return nil
		}
		if err := d.batch(path, b); err != nil {
			return err
		}
		if !deep || b.Bad != nil {
			return nil
		}
		return record.Each(b.Bytes, func(r *record.Full) error { return d.record(path, b, r) })
	})
	if err != nil {
		return err
	}
	last := lastSegment(path)
	for _, p := range problems {
		if p.Torn && last {
			fmt.Fprintf(d.env.Stderr, "%s (the end of a write that did not come to its end: the next start cuts it off)\n", p)
			continue
		}
		d.problem(p)
	}
	if d.Verify && !d.kafka {
		fmt.Fprintf(d.out, "%s: %d batch(es), %d record(s), offsets %d to %d\n", path, sum.Batches, sum.Records, sum.First, sum.Next)
	}
	return nil
}

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func codecName(c record.Codec) string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return strconv.Itoa(int(c))
}

func batchTimeType(b *dump.Batch) string {
	if b.LogAppendTime() {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// deleteHorizon is the bit that a compaction sets when it keeps a tombstone
// for some time more (KIP-534); the base timestamp is then its end.
const deleteHorizon = 0x40

func (d *dumper) batch(path string, b *dump.Batch) error {
	if d.JSON {
		j := jsonBatch{path, b.Position, b.BaseOffset, b.LastOffset(), b.Count, b.BaseSequence, b.LastSequence(), b.ProducerID, b.ProducerEpoch, b.LeaderEpoch,
			b.Transactional(), b.Control(), batchTimeType(b), b.BaseTimestamp, b.MaxTimestamp, b.Size(), codecName(b.Codec()), b.CRC, b.Bad == nil, ""}
		if b.Bad != nil {
			j.Damage = b.Bad.Error()
		}
		return writeJSON(d.out, j)
	}
	horizon := "OptionalLong.empty"
	if b.Attributes&deleteHorizon != 0 {
		horizon = fmt.Sprintf("OptionalLong[%d]", b.BaseTimestamp)
	}
	_, err := fmt.Fprintf(d.out, "baseOffset: %d lastOffset: %d count: %d baseSequence: %d lastSequence: %d producerId: %d producerEpoch: %d partitionLeaderEpoch: %d isTransactional: %t isControl: %t deleteHorizonMs: %s position: %d %s: %d size: %d magic: %d compresscodec: %s crc: %d isvalid: %t\n",
		b.BaseOffset, b.LastOffset(), b.Count, b.BaseSequence, b.LastSequence(), b.ProducerID, b.ProducerEpoch, b.LeaderEpoch, b.Transactional(), b.Control(), horizon,
		b.Position, batchTimeType(b), b.MaxTimestamp, b.Size(), b.Magic, codecName(b.Codec()), b.CRC, b.Bad == nil)
	return err
}

func sizeOrNull(b []byte) int {
	if b == nil {
		return -1
	}
	return len(b)
}

func (d *dumper) record(path string, b *dump.Batch, r *record.Full) error {
	if d.JSON {
		return d.jsonRecord(path, r)
	}
	var line []byte
	if !d.skipMetadata {
		names := make([]string, len(r.Headers))
		for i, h := range r.Headers {
			names[i] = h.Key
		}
		line = fmt.Appendf(line, "| offset: %d %s: %d keySize: %d valueSize: %d sequence: %d headerKeys: [%s]", r.Offset, batchTimeType(b), r.Timestamp,
			sizeOrNull(r.Key), sizeOrNull(r.Value), r.Sequence, strings.Join(names, ","))
		if b.Control() {
			line = append(line, controlText(r)...)
		}
	}
	if (d.Data || d.Offsets || d.decodeKey != nil || d.decodeValue != nil) && !b.Control() {
		prefix := " "
		if d.skipMetadata {
			prefix = "| "
		}
		key, payload, err := d.contents(r)
		if err != nil {
			return fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		if key != nil {
			line = append(append(line, prefix+"key: "...), *key...)
			prefix = " "
		}
		if payload != nil {
			line = append(append(line, prefix+"payload: "...), *payload...)
		}
	}
	_, err := d.out.Write(append(line, '\n'))
	return err
}

// contents are a record's key and value as text; nil for null.
func (d *dumper) contents(r *record.Full) (key, payload *string, err error) {
	if d.Offsets {
		k, p := offsetsText(r)
		return &k, p, nil
	}
	text := func(decode func([]byte) (string, error), b []byte) (*string, error) {
		if b == nil {
			return nil, nil
		}
		s := string(b)
		if decode != nil {
			var err error
			if s, err = decode(b); err != nil {
				return nil, err
			}
		}
		return &s, nil
	}
	if key, err = text(d.decodeKey, r.Key); err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	if payload, err = text(d.decodeValue, r.Value); err != nil {
		return nil, nil, fmt.Errorf("value: %w", err)
	}
	return key, payload, nil
}

// offsetsText is what Kafka's --offsets-decoder writes; type and version stand
// as text there.
func offsetsText(r *record.Full) (string, *string) {
	e, err := grouplog.Decode(r.Key, r.Value)
	if err != nil {
		return fmt.Sprintf("Error at offset %d, skipping. %v", r.Offset, err), nil
	}
	e.DecodeConsumers()
	encode := func(v any) string {
		var b bytes.Buffer
		if err := writeJSON(&b, v); err != nil {
			return err.Error()
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	key := encode(struct {
		Type string `json:"type"`
		Data any    `json:"data"`
	}{strconv.Itoa(int(e.Key.Type)), e.Key.Data})
	payload := "<DELETE>"
	if e.Value != nil {
		payload = encode(struct {
			Version string `json:"version"`
			Data    any    `json:"data"`
		}{strconv.Itoa(int(e.Value.Version)), e.Value.Data})
	}
	return key, &payload
}

// controlText describes the marker at the end of a transaction.
func controlText(r *record.Full) string {
	if len(r.Key) < 4 || len(r.Value) < 6 {
		return " endTxnMarker: malformed"
	}
	kind := int(r.Key[2])<<8 | int(r.Key[3])
	if kind > 1 {
		return fmt.Sprintf(" controlType: %d", kind)
	}
	v := r.Value
	return fmt.Sprintf(" endTxnMarker: %s coordinatorEpoch: %d", []string{"ABORT", "COMMIT"}[kind], int32(uint32(v[2])<<24|uint32(v[3])<<16|uint32(v[4])<<8|uint32(v[5])))
}

func (d *dumper) jsonRecord(path string, r *record.Full) error {
	j := jsonDumpRecord{File: path, Offset: r.Offset, Timestamp: r.Timestamp, Sequence: r.Sequence, KeySize: sizeOrNull(r.Key), ValueSize: sizeOrNull(r.Value)}
	for _, h := range r.Headers {
		jh := jsonHeader{Key: h.Key}
		if d.Data {
			jh.Value, jh.ValueBase64 = textOrBytes(h.Value)
		}
		j.Headers = append(j.Headers, jh)
	}
	if d.Data {
		j.Key, j.KeyBase64 = textOrBytes(r.Key)
		j.Value, j.ValueBase64 = textOrBytes(r.Value)
	}
	if d.Offsets {
		e, err := grouplog.Decode(r.Key, r.Value)
		if err != nil {
			return fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		e.DecodeConsumers()
		j.Group = &e
	}
	return writeJSON(d.out, j)
}

func (d *dumper) index(path string, times bool) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	base := baseOf(path)
	x, err := segment.ParseIndex(b, base, times)
	if err != nil {
		d.problem(dump.Problem{File: path, Position: int64(len(b)), Offset: -1, Err: err})
		return nil
	}
	if d.indexSanity {
		_, err := fmt.Fprintf(d.out, "%s passed sanity check.\n", path)
		return err
	}
	if len(x.Entries) == 0 && d.kafka && !times {
		_, err := fmt.Fprintf(d.out, "%s is empty.\n", path)
		return err
	}
	for _, e := range x.Entries {
		switch {
		case d.Verify:
		case d.JSON && times:
			err = writeJSON(d.out, struct {
				File      string `json:"file"`
				Timestamp int64  `json:"timestamp"`
				Offset    int64  `json:"offset"`
			}{path, e.Timestamp, e.Offset})
		case d.JSON:
			err = writeJSON(d.out, struct {
				File     string `json:"file"`
				Offset   int64  `json:"offset"`
				Position int64  `json:"position"`
			}{path, e.Offset, e.Position})
		case times:
			_, err = fmt.Fprintf(d.out, "timestamp: %d offset: %d\n", e.Timestamp, e.Offset)
		default:
			_, err = fmt.Fprintf(d.out, "offset: %d position: %d\n", e.Offset, e.Position)
		}
		if err != nil {
			return err
		}
	}
	log := strings.TrimSuffix(path, filepath.Ext(path)) + ".log"
	st, err := os.Stat(log)
	if errors.Is(err, fs.ErrNotExist) {
		d.problem(dump.Problem{File: path, Offset: -1, Err: errors.New("there is no segment beside it")})
		return nil
	}
	if err != nil {
		return err
	}
	if x.Ours && x.LogSize != st.Size() {
		text := fmt.Sprintf("%s: it was made for a segment of %d bytes, which has %d", path, x.LogSize, st.Size())
		if lastSegment(log) {
			fmt.Fprintf(d.env.Stderr, "%s (the segment was written to since: the next start makes it anew)\n", text)
			return nil
		}
		d.problem(dump.Problem{File: path, Position: int64(len(b)), Offset: -1, Err: fmt.Errorf("it was made for a segment of %d bytes, which has %d", x.LogSize, st.Size())})
		return nil
	}
	problems, err := dump.Index(path, log, base, x, times)
	if err != nil {
		return err
	}
	for _, p := range problems {
		d.problem(p)
	}
	if d.Verify && !d.kafka {
		_, err = fmt.Fprintf(d.out, "%s: %d entries\n", path, len(x.Entries))
	}
	return err
}

func (d *dumper) snapshot(path string) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	if len(b) < 4 || string(b[:4]) != "SLPS" {
		// Apache Kafka's has a form of its own.
		d.out.Flush()
		fmt.Fprintf(d.env.Stderr, "%s: no snapshot of this broker (Apache Kafka's are not decoded)\n", path)
		return nil
	}
	ps, offset, err := partition.ParseSnapshot(b)
	if err == nil && offset != baseOf(path) {
		err = fmt.Errorf("it goes up to offset %d, and its name says %d", offset, baseOf(path))
	}
	if err != nil {
		d.problem(dump.Problem{File: path, Offset: baseOf(path), Err: err})
		return nil
	}
	if d.Verify {
		_, err = fmt.Fprintf(d.out, "%s: %d producer(s)\n", path, len(ps))
		return err
	}
	for _, p := range ps {
		if d.JSON {
			if err := writeJSON(d.out, struct {
				File string `json:"file"`
				partition.ProducerEntry
			}{path, p}); err != nil {
				return err
			}
			continue
		}
		line := fmt.Sprintf("producerId: %d producerEpoch: %d lastTimestamp: %d", p.ID, p.Epoch, p.LastTimestamp)
		for _, b := range p.Batches {
			line += fmt.Sprintf(" [firstSequence: %d lastSequence: %d firstOffset: %d lastOffset: %d]", b.FirstSequence, b.LastSequence, b.FirstOffset, b.LastOffset)
		}
		if _, err := fmt.Fprintln(d.out, line); err != nil {
			return err
		}
	}
	return nil
}

// text shows the small files that are text.
func (d *dumper) text(path, kind string) error {
	b, err := d.small(path)
	if err != nil {
		return err
	}
	var v any
	var bad error
	if kind == stateFile {
		v, bad = segment.ParseState(b)
	} else {
		v, bad = segment.ParseEpochs(b)
	}
	if bad != nil {
		d.problem(dump.Problem{File: path, Offset: -1, Err: bad})
		return nil
	}
	switch {
	case d.Verify:
		_, err = fmt.Fprintf(d.out, "%s: readable\n", path)
	case d.JSON:
		var j []byte
		if j, err = json.Marshal(v); err == nil {
			err = writeJSON(d.out, struct {
				File string          `json:"file"`
				Data json.RawMessage `json:"data"`
			}{path, j})
		}
	default:
		_, err = d.out.Write(b)
	}
	return err
}

func kafkaDumpLog(env *Env, tool string, args []string) error {
	const noTopic = "there is no such topic here"
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"files": optValue, "print-data-log": optFlag, "deep-iteration": optFlag, "verify-index-only": optFlag, "index-sanity-check": optFlag,
		"offsets-decoder": optFlag, "skip-record-metadata": optFlag, "max-bytes": optValue,
		"key-decoder-class": {value: true, optional: "StringDecoder"}, "value-decoder-class": {value: true, optional: "StringDecoder"},
		"max-message-size":        noEffect(true, "batches of any size that a broker takes are read"),
		"transaction-log-decoder": gone(false, noTopic), "cluster-metadata-decoder": gone(false, noTopic),
		"remote-log-metadata-decoder": gone(false, noTopic), "share-group-state-decoder": gone(false, noTopic),
	}, args, nil)
	if err != nil {
		return err
	}
	if !a.has("files") {
		return usageError(fmt.Errorf("%s: --files FILE,FILE is missing", tool))
	}
	c := dumpCmd{Paths: strings.Split(a.last("files", ""), ","), Deep: a.has("deep-iteration"), Data: a.has("print-data-log"), Offsets: a.has("offsets-decoder"),
		Verify: a.has("verify-index-only"), kafka: true, indexSanity: a.has("index-sanity-check"), skipMetadata: a.has("skip-record-metadata")}
	if c.MaxBytes, err = a.int("max-bytes", 0); err != nil {
		return err
	}
	for option, to := range map[string]*func([]byte) (string, error){"key-decoder-class": &c.decodeKey, "value-decoder-class": &c.decodeValue} {
		if a.has(option) {
			class := strings.TrimSuffix(a.last(option, ""), "Decoder")
			if class = class[strings.LastIndexByte(class, '.')+1:]; class == "Default" {
				class = "ByteArray"
			}
			if *to, err = javaDeserializer(class + "Deserializer"); err != nil {
				return usageError(fmt.Errorf("%s: --%s: %w", tool, option, err))
			}
			c.Data = true
		}
	}
	return c.Run(env)
}
