// Package uuid is the interceptor that gives every event an identity.
package uuid

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "uuid",
		Classes: []string{"org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder", "org.apache.flume.sink.solr.morphline.UUIDInterceptor"},
		Doc:     "Sets a header to a prefix and a random UUID (version 4).",
		Notes:   "The short name is ours; Flume has the class name only.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	header, prefix string
	preserve       bool
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("headerName", &c.header, "id").Describe("The header to set."),
		component.Bool("preserveExisting", &c.preserve, true).Describe("Leave a header alone that the event has already."),
		component.String("prefix", &c.prefix, "").Describe("Put before the UUID."),
	}
}

func (c *config) NewInterceptor(component.Env) (component.Interceptor, error) {
	return &interceptor{*c}, nil
}

type interceptor struct{ config }

// textLen is the length of a UUID in text: 8-4-4-4-12 digits.
const textLen = 36

func (u *interceptor) Intercept(b *event.Batch) error {
	const chunk = 64 // events per call of the random source
	var random [16 * chunk]byte
	for i := range b.Events() {
		raw := random[i%chunk*16:][:16]
		if i%chunk == 0 {
			if _, err := io.ReadFull(rand.Reader, random[:min(chunk, b.Len()-i)*16]); err != nil {
				return fmt.Errorf("make a UUID: %w", err)
			}
		}
		if u.preserve {
			if _, set := b.Events()[i].Header(u.header); set {
				continue
			}
		}
		v := b.Alloc(len(u.prefix) + textLen)
		copy(v, u.prefix)
		format(v[len(u.prefix):], raw)
		b.SetHeaderView(i, u.header, v)
	}
	return nil
}

// format writes raw as a UUID of version 4, variant 1 (RFC 9562, section 5.4).
func format(dst, raw []byte) {
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	hex.Encode(dst, raw[:4])
	dst[8] = '-'
	hex.Encode(dst[9:], raw[4:6])
	dst[13] = '-'
	hex.Encode(dst[14:], raw[6:8])
	dst[18] = '-'
	hex.Encode(dst[19:], raw[8:10])
	dst[23] = '-'
	hex.Encode(dst[24:], raw[10:])
}
