package kafkaxtest

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafka-go keeps zstd coders for the whole process. One that was made inside a
// bubble has channels of the bubble in it, and whoever uses it outside, or in
// the next, ends the process. So, where this package is imported, each use has
// its own.
func init() { compress.Codecs[compress.Zstd] = ownZstd{compress.Codecs[compress.Zstd]} }

type ownZstd struct{ compress.Codec }

func (ownZstd) NewReader(r io.Reader) io.ReadCloser {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return failed{err}
	}
	return d.IOReadCloser()
}

func (ownZstd) NewWriter(w io.Writer) io.WriteCloser {
	e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		return failed{err}
	}
	return e
}

type failed struct{ err error }

func (f failed) Read([]byte) (int, error)  { return 0, f.err }
func (f failed) Write([]byte) (int, error) { return 0, f.err }
func (f failed) Close() error              { return f.err }

// decompressor is kafka-go's codecs for the test's own client, whose own has the
// same fault.
type decompressor struct{}

func (decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	r := compress.Compression(codec).Codec().NewReader(bytes.NewReader(src))
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}
