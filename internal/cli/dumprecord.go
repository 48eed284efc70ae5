package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/broker/dump"
	"github.com/sluice-data/sluice/internal/broker/grouplog"
	"github.com/sluice-data/sluice/internal/broker/record"
)

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
