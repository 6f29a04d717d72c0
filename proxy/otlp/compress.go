package otlp

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/encoding"
	// Its init registers grpc-go's own gzip, which must come before ours.
	_ "google.golang.org/grpc/encoding/gzip"

	"weir/internal/inflate"
)

// Names of the encodings, the same in HTTP's Content-Encoding and in gRPC's
// grpc-encoding.
const (
	nameIdentity = "identity"
	nameGzip     = "gzip"
	nameZstd     = "zstd"
)

// The gRPC registry of compressors is the process's, read without a lock, and
// may only be written during init. gzip replaces grpc-go's, which inflates with
// the standard library: more slowly, and leaving garbage behind.
func init() { //nolint:gochecknoinits // see above
	encoding.RegisterCompressor(gzipCodec{})
	encoding.RegisterCompressor(zstdCodec{})
}

// encodingOf reads the name of an encoding, in any letter case.
func encodingOf(name string) (e compression, ok bool) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "", nameIdentity:
		return encodingIdentity, true
	case nameGzip, "x-gzip":
		return encodingGzip, true
	case nameZstd:
		return encodingZstd, true
	default:
		return encodingOther, false
	}
}

// decode returns a decompressor of r. How much comes out is for the caller to
// bound.
func decode(e compression, r io.Reader) (io.ReadCloser, error) {
	switch e {
	case encodingGzip:
		return inflate.Gzip(r)
	case encodingZstd:
		return inflate.Zstd(r)
	default:
		return io.NopCloser(r), nil
	}
}

var gzipWriters, zstdWriters sync.Pool

// gzipCodec and zstdCodec are the compressors of gRPC messages.
type (
	gzipCodec struct{}
	zstdCodec struct{}
)

func (gzipCodec) Name() string { return nameGzip }
func (zstdCodec) Name() string { return nameZstd }

// slots bounds how many gRPC messages are decompressed at a time. grpc-go does
// so only when a message is complete, so this is work for a processor and not
// waiting for a sender; more of it at once would be no faster, but every one
// can hold as much memory as the largest message. Over HTTP, where bodies are
// decompressed as they come, the memory itself is counted.
var slots = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

// inSlot opens a decompressor once there is a slot for it.
func inSlot(open func(io.Reader) (io.ReadCloser, error), r io.Reader) (io.Reader, error) {
	slots <- struct{}{}
	z, err := open(r)
	if err != nil {
		<-slots
		return nil, err
	}
	return slotted{z}, nil
}

// slotted is a decompressor that holds a slot until it is closed, once.
type slotted struct{ io.ReadCloser }

// Close implements io.Closer.
func (s slotted) Close() error {
	<-slots
	return s.ReadCloser.Close()
}

// Decompress implements encoding.Compressor. grpc-go closes the reader, and
// reads no more of it than the largest message it takes.
func (gzipCodec) Decompress(r io.Reader) (io.Reader, error) {
	return inSlot(inflate.Gzip, r)
}

// Decompress implements encoding.Compressor, as gzipCodec does.
func (zstdCodec) Decompress(r io.Reader) (io.Reader, error) {
	return inSlot(inflate.Zstd, r)
}

type gzipWriter struct{ *gzip.Writer }

// Compress implements encoding.Compressor; weir's own messages are a few bytes.
func (gzipCodec) Compress(w io.Writer) (io.WriteCloser, error) {
	z, ok := gzipWriters.Get().(*gzipWriter)
	if !ok {
		z = &gzipWriter{gzip.NewWriter(nil)}
	}
	z.Reset(w)
	return z, nil
}

// Close ends the stream and gives the writer back to its pool.
func (z *gzipWriter) Close() error {
	err := z.Writer.Close()
	gzipWriters.Put(z)
	return err
}

type zstdWriter struct{ *zstd.Encoder }

// Compress implements encoding.Compressor.
func (zstdCodec) Compress(w io.Writer) (io.WriteCloser, error) {
	z, ok := zstdWriters.Get().(*zstdWriter)
	if !ok {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(128<<10),
		)
		if err != nil {
			return nil, fmt.Errorf("make a zstd encoder: %w", err)
		}
		z = &zstdWriter{e}
	}
	z.Reset(w)
	return z, nil
}

// Close ends the stream and gives the writer back to its pool.
func (z *zstdWriter) Close() error {
	err := z.Encoder.Close()
	z.Reset(nil)
	zstdWriters.Put(z)
	return err
}
