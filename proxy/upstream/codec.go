package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/proxy"
)

const (
	// maxPooledBytes is the largest buffer kept for another request. Requests
	// compress to a few megabytes; what is larger was a rare one, and keeping
	// it would pin that memory for good.
	maxPooledBytes = 8 << 20

	// maxWindowBytes bounds what a decoder allocates for one frame. The queue
	// writes frames of about a megabyte.
	maxWindowBytes = 32 << 20

	// gzipGrowth is the size of level-1 gzip over fastest zstd on OTLP, with
	// some room, to allocate a buffer once: 5.9 against 7.0 to 1, measured.
	gzipGrowth = 1.4
)

// errCorrupt marks stored parts that do not decode to what they say they are.
var errCorrupt = errors.New("a stored part is damaged")

// codecs turns parts into bodies and pools what that takes. Each client has its
// own; all methods may be called from any number of goroutines.
type codecs struct {
	buffers  sync.Pool // *bytes.Buffer
	gzips    sync.Pool // *gzip.Writer
	streams  sync.Pool // *zstd.Encoder, for forms
	decoders sync.Pool // *zstd.Decoder
	encoder  *zstd.Encoder
}

func newCodecs() (*codecs, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("prepare zstd encoder: %w", err)
	}
	return &codecs{encoder: enc}, nil
}

// encode makes the body of a request of parts in the given encoding, never
// auto. The caller releases the body. Errors wrap errCorrupt.
func (c *codecs) encode(parts []proxy.Part, e Encoding) (*body, error) {
	switch e {
	case EncodingZstd:
		return c.encodeZstd(parts), nil
	case EncodingGzip:
		return c.encodeGzip(parts)
	default:
		return c.encodeIdentity(parts), nil
	}
}

// encodeZstd joins the stored frames without touching them; concatenated
// frames are one valid stream (RFC 8878, 3). Plain parts become frames.
func (c *codecs) encodeZstd(parts []proxy.Part) *body {
	b := &body{encoding: EncodingZstd, pool: c}
	segments := make([][]byte, 0, len(parts))
	for _, p := range parts {
		frame := p.Payload
		if !p.Zstd {
			buf := c.getBuffer(len(p.Payload)/4 + 64)
			buf.Write(c.encoder.EncodeAll(p.Payload, buf.AvailableBuffer()))
			b.buffers = append(b.buffers, buf)
			frame = buf.Bytes()
		}
		segments = append(segments, frame)
		b.size += int64(len(frame))
	}
	b.open = func() partReader { return &segmentReader{rest: slices.Clone(segments)} }
	return b
}

// encodeGzip makes one gzip member of all parts: a second member would be
// valid (RFC 1952, 2.2) but some servers stop after the first, silently. Parts
// are decompressed straight into the compressor, so only the compressed
// request is ever held whole. It is held so that the request can have a length
// and be sent again on another connection.
func (c *codecs) encodeGzip(parts []proxy.Part) (*body, error) {
	estimate := 64
	for _, p := range parts {
		if p.Zstd {
			estimate += int(float64(len(p.Payload)) * gzipGrowth)
		} else {
			estimate += len(p.Payload) / 4
		}
	}
	return c.compressGzip(estimate, func(w io.Writer) error {
		for i, p := range parts {
			if err := c.copyPart(w, p); err != nil {
				return fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
			}
		}
		return nil
	})
}

// compressGzip makes a body of one gzip member of what write writes.
func (c *codecs) compressGzip(estimate int, write func(io.Writer) error) (*body, error) {
	buf := c.getBuffer(estimate)
	b := &body{encoding: EncodingGzip, pool: c, buffers: []*bytes.Buffer{buf}}
	gz, ok := c.gzips.Get().(*gzip.Writer)
	if ok {
		gz.Reset(buf)
	} else {
		gz, _ = gzip.NewWriterLevel(buf, gzip.BestSpeed) // fails only for an unknown level
	}
	defer func() {
		gz.Reset(io.Discard) // let go of the buffer
		c.gzips.Put(gz)
	}()
	if err := write(gz); err != nil {
		b.release()
		return nil, err
	}
	if err := gz.Close(); err != nil {
		b.release()
		return nil, fmt.Errorf("compress request: %w", err)
	}
	b.hold(buf)
	return b, nil
}

// copyPart writes the plain bytes of p to w.
func (c *codecs) copyPart(w io.Writer, p proxy.Part) error {
	if !p.Zstd {
		_, err := w.Write(p.Payload)
		return err
	}
	dec, err := c.getDecoder(p.Payload)
	if err != nil {
		return err
	}
	defer c.putDecoder(dec)
	// The writer bounds what a damaged or hostile frame can blow up to.
	exact := &exactWriter{w: w, left: p.RawBytes}
	if _, err := dec.WriteTo(exact); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if exact.left != 0 {
		return fmt.Errorf("%w: it decompresses to %d bytes fewer than recorded", errCorrupt, exact.left)
	}
	return nil
}

// exactWriter passes on at most left bytes and fails on more.
type exactWriter struct {
	w    io.Writer
	left int
}

func (e *exactWriter) Write(p []byte) (int, error) {
	if len(p) > e.left {
		return 0, errors.New("it decompresses to more bytes than recorded")
	}
	e.left -= len(p)
	return e.w.Write(p)
}

// encodeIdentity streams the parts' plain bytes, decompressing as the
// connection takes them: nothing is held.
func (c *codecs) encodeIdentity(parts []proxy.Part) *body {
	b := &body{encoding: EncodingIdentity, pool: c}
	for _, p := range parts {
		b.size += int64(plainBytes(p))
	}
	b.open = func() partReader { return &plainReader{pool: c, rest: parts} }
	return b
}

// plainBytes is the size of p's plain bytes.
func plainBytes(p proxy.Part) int {
	if p.Zstd {
		return p.RawBytes
	}
	return len(p.Payload)
}

// plainReader reads the plain bytes of parts one after the other.
type plainReader struct {
	pool *codecs
	rest []proxy.Part
	dec  *zstd.Decoder // open on rest[0]; nil: rest[0] not begun, or plain
	off  int           // plain bytes read of rest[0]
}

func (r *plainReader) Read(p []byte) (int, error) {
	for len(r.rest) > 0 {
		n, err := r.readPart(p)
		if n > 0 || err != nil {
			return n, err
		}
		r.endPart()
		r.rest, r.off = r.rest[1:], 0
	}
	return 0, io.EOF
}

// readPart reads from the first part; 0 and no error is its end.
func (r *plainReader) readPart(p []byte) (int, error) {
	part := r.rest[0]
	if r.off == plainBytes(part) {
		return 0, nil
	}
	if !part.Zstd {
		n := copy(p, part.Payload[r.off:])
		r.off += n
		return n, nil
	}
	if r.dec == nil {
		dec, err := r.pool.getDecoder(part.Payload)
		if err != nil {
			return 0, err
		}
		r.dec = dec
	}
	n, err := io.ReadAtLeast(r.dec, p, 1)
	r.off += n
	if err == nil && r.off == part.RawBytes {
		// Look for the end now: the transport asks for no byte beyond the
		// length it was told, and the excess would be cut off unnoticed.
		var next [1]byte
		var extra int
		extra, err = io.ReadAtLeast(r.dec, next[:], 1)
		r.off += extra
	}
	switch {
	case r.off > part.RawBytes:
		return 0, fmt.Errorf("%w: it decompresses to more bytes than recorded", errCorrupt)
	case err != nil && !errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%w: %w", errCorrupt, err)
	case err != nil && r.off < part.RawBytes:
		return 0, fmt.Errorf("%w: it decompresses to %d bytes fewer than recorded", errCorrupt, part.RawBytes-r.off)
	default:
		return n, nil
	}
}

func (r *plainReader) endPart() {
	if r.dec != nil {
		r.pool.putDecoder(r.dec)
		r.dec = nil
	}
}

func (r *plainReader) close() {
	r.endPart()
	r.rest = nil
}

func (c *codecs) getBuffer(size int) *bytes.Buffer {
	buf, ok := c.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	buf.Grow(size)
	return buf
}

func (c *codecs) putBuffer(buf *bytes.Buffer) {
	if buf.Cap() <= maxPooledBytes {
		c.buffers.Put(buf)
	}
}

// getDecoder returns a decoder reading frames. It runs without goroutines.
func (c *codecs) getDecoder(frames []byte) (*zstd.Decoder, error) {
	dec, ok := c.decoders.Get().(*zstd.Decoder)
	if !ok {
		var err error
		dec, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
		if err != nil {
			return nil, fmt.Errorf("prepare zstd decoder: %w", err)
		}
	}
	if err := dec.Reset(bytes.NewReader(frames)); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return dec, nil
}

func (c *codecs) putDecoder(dec *zstd.Decoder) {
	// Drop the reference to the frames; a decoder that cannot is left to the
	// garbage collector.
	if dec.Reset(nil) == nil {
		c.decoders.Put(dec)
	}
}
