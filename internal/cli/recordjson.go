package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonRecord is the line of consume --format json, which produce --format json
// reads back. Bytes that are not UTF-8 stand in the field in base64; null is
// left out.
type jsonRecord struct {
	Topic         string       `json:"topic,omitempty"`
	Partition     *int32       `json:"partition,omitempty"`
	Offset        *int64       `json:"offset,omitempty"`
	Timestamp     *int64       `json:"timestamp,omitempty"`
	TimestampType string       `json:"timestampType,omitempty"`
	LeaderEpoch   *int32       `json:"leaderEpoch,omitempty"`
	Key           *string      `json:"key,omitempty"`
	KeyBase64     []byte       `json:"keyBase64,omitempty"`
	Headers       []jsonHeader `json:"headers,omitempty"`
	Value         *string      `json:"value,omitempty"`
	ValueBase64   []byte       `json:"valueBase64,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"valueBase64,omitempty"`
}

// textOrBytes splits bytes into the field that can hold them.
func textOrBytes(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func bytesOf(text *string, b64 []byte) ([]byte, error) {
	if text == nil {
		return b64, nil
	}
	if b64 != nil {
		return nil, errors.New("text and base64 exclude each other")
	}
	return []byte(*text), nil
}

func writeJSONRecord(w io.Writer, r *kgo.Record) error {
	ts := r.Timestamp.UnixMilli()
	j := jsonRecord{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: &ts, TimestampType: timestampType(r), LeaderEpoch: &r.LeaderEpoch}
	j.Key, j.KeyBase64 = textOrBytes(r.Key)
	j.Value, j.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		jh := jsonHeader{Key: h.Key}
		jh.Value, jh.ValueBase64 = textOrBytes(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	return writeJSON(w, j)
}

// writeJSON writes v as one line, without the escapes that are for HTML.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// parseJSONRecord sets what the line says in r. Topic and offset are not
// taken over: where a record goes is the command's to say, and which offset it
// gets the broker's.
func parseJSONRecord(line []byte, r *kgo.Record) error {
	var j jsonRecord
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read JSON: there is more than one object in the line")
	}
	var err error
	if r.Value, err = bytesOf(j.Value, j.ValueBase64); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	if j.Key != nil || j.KeyBase64 != nil {
		if r.Key, err = bytesOf(j.Key, j.KeyBase64); err != nil {
			return fmt.Errorf("key: %w", err)
		}
	}
	for _, h := range j.Headers {
		v, err := bytesOf(h.Value, h.ValueBase64)
		if err != nil {
			return fmt.Errorf("header %s: %w", h.Key, err)
		}
		r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], kgo.RecordHeader{Key: h.Key, Value: v})
	}
	if j.Timestamp != nil && r.Timestamp.IsZero() {
		r.Timestamp = time.UnixMilli(*j.Timestamp)
	}
	if j.Partition != nil && r.Partition == anyPartition {
		r.Partition = *j.Partition
	}
	return nil
}

func timestampType(r *kgo.Record) string {
	switch r.Attrs.TimestampType() {
	case 0:
		return "CreateTime"
	case 1:
		return "LogAppendTime"
	}
	return "NO_TIMESTAMP"
}
