package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"weir/proxy/runs"
)

const (
	// formWindowBytes is the window of the zstd frames that forms go out in:
	// a pooled encoder holds about twice that, and so does the decoder on the
	// other side. Larger ones compress run operations hardly better.
	formWindowBytes = 1 << 20

	// formRatio is how many times smaller a form gets, at the least that is
	// worth allocating for at once.
	formRatio = 6
)

// errUnreadable marks content kept aside that cannot be read now: the disk's
// trouble, not the content's.
var errUnreadable = errors.New("content kept aside cannot be read now")

// openBlob opens content that is kept aside.
type openBlob func(id string) (io.ReadCloser, error)

// encodeForm makes the body of a form without blobs in the given encoding,
// never auto. The form is compressed piece by piece, so only the compressed
// request is ever held whole. It is held so that the request can have a length
// and be sent again on another connection. The caller releases the body.
func (c *codecs) encodeForm(f *runs.Form, e Encoding) (*body, error) {
	size := f.Size()
	estimate := int(size/formRatio) + 512
	switch e {
	case EncodingZstd:
		return c.compressZstd(f, size, estimate)
	case EncodingGzip:
		return c.compressGzip(estimate, func(w io.Writer) error { return writeForm(w, f) })
	default:
		return c.streamForm(f, size, nil), nil
	}
}

// compressZstd makes a body of one zstd frame, which says how long f is.
func (c *codecs) compressZstd(f *runs.Form, size int64, estimate int) (*body, error) {
	buf := c.getBuffer(estimate)
	b := &body{encoding: EncodingZstd, pool: c, buffers: []*bytes.Buffer{buf}}
	enc, ok := c.streams.Get().(*zstd.Encoder)
	if !ok {
		var err error
		enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(formWindowBytes))
		if err != nil {
			b.release()
			return nil, fmt.Errorf("prepare zstd encoder: %w", err)
		}
	}
	defer func() {
		enc.Reset(nil) // let go of the buffer
		c.streams.Put(enc)
	}()
	enc.ResetContentSize(buf, size)
	err := writeForm(enc, f)
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		b.release()
		return nil, fmt.Errorf("compress request: %w", err)
	}
	b.hold(buf)
	return b, nil
}

// writeForm writes a form without blobs.
func writeForm(w io.Writer, f *runs.Form) error {
	for p := f.Pieces(); ; {
		piece, ok := p.Next()
		if !ok {
			return nil
		}
		if _, err := w.Write(piece.Bytes); err != nil {
			return err
		}
	}
}

// streamForm makes a body that reads the form and its blobs as the connection
// takes them: nothing is held, however large they are. It is not compressed,
// so that it has a length: what is kept aside is attachments, compressed media
// for the most part, and servers on the way like to know.
func (c *codecs) streamForm(f *runs.Form, size int64, open openBlob) *body {
	b := &body{encoding: EncodingIdentity, pool: c, size: size}
	b.open = func() partReader { return &formReader{pieces: f.Pieces(), openBlob: open} }
	return b
}

// streamBytes makes a body of plain bytes.
func (c *codecs) streamBytes(p []byte) *body {
	b := &body{encoding: EncodingIdentity, pool: c, size: int64(len(p))}
	b.open = func() partReader { return &segmentReader{rest: [][]byte{p}} }
	return b
}

// formReader reads a form. A blob is opened when its turn comes.
type formReader struct {
	pieces   runs.Pieces
	openBlob openBlob

	rest []byte        // of the piece under way
	op   *runs.Op      // whose blob is under way; nil: none
	blob io.ReadCloser // of op
	left int64         // bytes of it to come
}

// Read implements io.Reader. It fills p as far as it goes without a blob, so
// that a form of many small pieces does not become as many writes.
func (r *formReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if r.op != nil {
			if n > 0 {
				break
			}
			k, err := r.readBlob(p)
			if k > 0 || err != nil {
				return k, err
			}
			continue
		}
		if len(r.rest) == 0 {
			piece, ok := r.pieces.Next()
			if !ok {
				break
			}
			r.rest, r.op = piece.Bytes, piece.Blob
			continue
		}
		k := copy(p[n:], r.rest)
		n, r.rest = n+k, r.rest[k:]
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readBlob reads from the blob under way; 0 and no error is its end.
func (r *formReader) readBlob(p []byte) (int, error) {
	if r.blob == nil {
		blob, err := r.openBlob(r.op.Blob)
		if err != nil {
			return 0, r.trouble(err)
		}
		r.blob, r.left = blob, r.op.BlobBytes
	}
	if r.left == 0 {
		return 0, r.endBlob()
	}
	n, err := io.ReadAtLeast(r.blob, p[:min(int64(len(p)), r.left)], 1)
	r.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%w: attachment %.60q is %d bytes shorter than the %d recorded", errCorrupt, r.op.Name, r.left, r.op.BlobBytes)
	default:
		return 0, r.trouble(err)
	}
}

// endBlob ends the blob under way, which must have no further byte.
func (r *formReader) endBlob() error {
	var next [1]byte
	n, err := io.ReadAtLeast(r.blob, next[:], 1)
	switch {
	case n > 0:
		return fmt.Errorf("%w: attachment %.60q is longer than the %d bytes recorded", errCorrupt, r.op.Name, r.op.BlobBytes)
	case !errors.Is(err, io.EOF):
		return r.trouble(err)
	}
	r.close()
	return nil
}

// trouble is what err means for the content of the blob under way.
func (r *formReader) trouble(err error) error {
	mark := errUnreadable
	if errors.Is(err, fs.ErrNotExist) {
		mark = errCorrupt
	}
	return fmt.Errorf("%w: attachment %.60q: %w", mark, r.op.Name, err)
}

func (r *formReader) close() {
	if r.blob != nil {
		_ = r.blob.Close() // only read; nothing can be lost
	}
	r.blob, r.op = nil, nil
}
