package serde

import (
	"io"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

type blobConfig struct{ maxLength int }

func (c *blobConfig) Fields() []component.Field {
	return []component.Field{
		component.Int("maxBlobLength", &c.maxLength, 100_000_000).In("bytes").Min(1).
			Describe("The most that one event holds. A longer file becomes several events, one after the other."),
	}
}

func (c *blobConfig) NewDeserializer(in Input) (Deserializer, error) {
	return &blobs{in: in, max: int64(c.maxLength), at: in.From.Offset}, nil
}

type blobs struct {
	in  Input
	max int64
	at  int64
}

// batchBytes ends a batch of large events early, whatever batchSize says.
const batchBytes = 16 << 20

func (d *blobs) Read(b *event.Batch, max int) error {
	for got := int64(0); max > 0 && got < batchBytes; max-- {
		n := min(d.max, d.in.Size-d.at)
		if n <= 0 {
			return io.EOF
		}
		blk := d.in.Pool.Block(int(n))
		p := blk.Extend(int(n))
		_, err := d.in.File.ReadAt(p, d.at)
		if err == nil && d.at+n == d.in.Size {
			err = d.in.atEnd()
		}
		if err != nil {
			blk.Release()
			return err
		}
		if d.at+n < d.in.Size && d.at == 0 {
			d.in.Log.Warn("the file is longer than maxBlobLength and becomes several events", "bytes", d.in.Size, "maxBlobLength", d.max)
		}
		b.Attach(blk)
		b.Add(p)
		blk.Release()
		d.at += n
		got += n
	}
	return nil
}

func (d *blobs) Position() Position { return Position{Offset: d.at} }

func (d *blobs) Close() {}
