// Package inflate decompresses request bodies with pooled decoders whose own
// memory is bounded.
package inflate

import (
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindowBytes bounds the window of a zstd frame, and with it the memory of a
// decoder: what RFC 8878 asks decoders to support.
const maxWindowBytes = 8 << 20

var gzipReaders, zstdReaders sync.Pool

type gzipReader struct{ gzip.Reader }

// Gzip returns what the gzip members of r hold, one after the other, and reads
// r while it is read. It fails if r does not begin as one. How much comes out
// is for the caller to bound. The caller closes it, once, and uses it no more.
func Gzip(r io.Reader) (io.ReadCloser, error) {
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

// Close gives the reader back to its pool.
func (z *gzipReader) Close() error {
	err := z.Reader.Close()
	gzipReaders.Put(z)
	return err
}

type zstdReader struct{ *zstd.Decoder }

// Zstd does for zstd frames what Gzip does for gzip members. A frame with a
// window of more than 8 MiB is refused.
func Zstd(r io.Reader) (io.ReadCloser, error) {
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

// Close gives the reader back to its pool.
func (z *zstdReader) Close() error {
	// Resetting to nothing lets go of the source.
	if err := z.Reset(nil); err != nil {
		z.Decoder.Close()
		return err
	}
	zstdReaders.Put(z)
	return nil
}
