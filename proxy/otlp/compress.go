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

// decoder decompresses one message at a time: all members of a gzip stream,
// all frames of a zstd stream. Close gives it back.
type decoder interface {
	io.ReadCloser
}

// decode returns a decoder for r, which is read while the decoder is. How much
// comes out is for the caller to bound; how much memory a decoder needs for
// itself is bounded here, by the window.
func decode(e compression, r io.Reader) (decoder, error) {
	switch e {
	case encodingGzip:
		return newGzipReader(r)
	case encodingZstd:
		return newZstdReader(r)
	default:
		return io.NopCloser(r), nil
	}
}

var gzipReaders, gzipWriters, zstdReaders, zstdWriters sync.Pool

type gzipReader struct {
	gzip.Reader

	slot bool // holds one of slots
}

func newGzipReader(r io.Reader) (*gzipReader, error) {
	z, ok := gzipReaders.Get().(*gzipReader)
	if !ok {
		z = &gzipReader{}
	}
	if err := z.Reset(r); err != nil {
		gzipReaders.Put(z)
		return nil, err
	}
	return z, nil
}

// Close gives the reader back to its pool; it must not be used again.
func (z *gzipReader) Close() error {
	err := z.Reader.Close()
	leave(&z.slot)
	gzipReaders.Put(z)
	return err
}

type zstdReader struct {
	*zstd.Decoder

	slot bool // holds one of slots
}

func newZstdReader(r io.Reader) (*zstdReader, error) {
	z, ok := zstdReaders.Get().(*zstdReader)
	if !ok {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), // no goroutines: the caller's does the work
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindowBytes),
			zstd.WithDecoderMaxMemory(maxWindowBytes),
		)
		if err != nil {
			return nil, fmt.Errorf("make a zstd decoder: %w", err)
		}
		z = &zstdReader{Decoder: d}
	}
	if err := z.Reset(r); err != nil {
		zstdReaders.Put(z)
		return nil, err
	}
	return z, nil
}

// Close gives the reader back to its pool; it must not be used again.
func (z *zstdReader) Close() error {
	leave(&z.slot)
	// Resetting to nothing lets go of the source.
	if err := z.Reset(nil); err != nil {
		z.Decoder.Close()
		return err
	}
	zstdReaders.Put(z)
	return nil
}

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

func leave(slot *bool) {
	if *slot {
		*slot = false
		<-slots
	}
}

// Decompress implements encoding.Compressor. grpc-go closes the reader, and
// reads no more of it than the largest message it takes.
func (gzipCodec) Decompress(r io.Reader) (io.Reader, error) {
	slots <- struct{}{}
	z, err := newGzipReader(r)
	if err != nil {
		<-slots
		return nil, err
	}
	z.slot = true
	return z, nil
}

// Decompress implements encoding.Compressor, as gzipCodec does.
func (zstdCodec) Decompress(r io.Reader) (io.Reader, error) {
	slots <- struct{}{}
	z, err := newZstdReader(r)
	if err != nil {
		<-slots
		return nil, err
	}
	z.slot = true
	return z, nil
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
