package smith

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// startWindow is how far a start time may be from now where the window is on
// (LangSmith data migration tool, PR 98 and 152: 24 hours, either way).
const startWindow = 24 * time.Hour

var (
	errTooLarge    = errors.New("request body too large")
	errUnsupported = errors.New("unsupported media type")
	errVanished    = errors.New("taken and lost")
	errOutOfWindow = errors.New("start_time is outside a 24-hour window of now")
)

// otlp takes OTLP traces. The service answers 200 before it processes; here
// what was taken is there by the time of the answer.
func (s *Server) otlp(r *request, from caller) reply {
	b := takeBuffers()
	defer b.release()
	in := &Request{
		Key: from.key, Workspace: from.tenant,
		Project: r.Header.Get("Langsmith-Project"), source: r.sw.OTLPProject,
		Path: r.URL.Path, UserAgent: r.UserAgent(),
		quota: quotaRules{refuseUpdates: r.sw.QuotaUpdates == UpdatesRefused, lost: r.sw.QuotaOTLP == QuotaOTLPLost},
	}
	err := s.takeOTLP(r, b, in)
	var gone *readError
	var over *limitError
	var no *refusal
	switch {
	case err == nil:
	case errors.Is(err, errVanished), errors.Is(err, errOutOfWindow) && r.sw.OTLPWindow == WindowLost:
		s.store.lost(in)
	case errors.As(err, &over):
		if !in.quota.lost {
			return over.reply(r.sw.QuotaWording)
		}
		s.store.lost(in)
	case errors.Is(err, errTooLarge):
		return page(http.StatusRequestEntityTooLarge, page413)
	case errors.Is(err, errUnsupported):
		// The status is what HTTP prescribes; the wording is our guess.
		return familyGo.failure(http.StatusUnsupportedMediaType, "Unsupported Media Type: "+err.Error())
	case errors.Is(err, errOutOfWindow):
		return windowReply(r.sw.OTLPWindow, err)
	case errors.As(err, &no):
		return familyGo.refuse(no.status, no.text)
	case errors.As(err, &gone):
		// The body ended early: the client has left and reads no answer.
		return familyGo.failure(http.StatusBadRequest, "Bad request: "+err.Error())
	default:
		if r.sw.OTLPMalformed != MalformedLost {
			return familyGo.failure(http.StatusBadRequest, "Bad request: "+err.Error())
		}
		s.store.lost(in)
	}
	// An ExportTraceServiceResponse without partial success is zero bytes.
	if in.ContentType == contentJSON {
		return literal(http.StatusOK, "{}")
	}
	return reply{status: http.StatusOK, header: http.Header{"Content-Type": {contentProtobuf}}}
}

// windowReply refuses a whole request for one start time. Neither status nor
// text has been seen; both statuses are possible.
func windowReply(w Window, err error) reply {
	if w == Window422 {
		return familyGo.failure(http.StatusUnprocessableEntity, "Unprocessable entity: "+err.Error())
	}
	return familyGo.failure(http.StatusBadRequest, "Bad request: "+err.Error())
}

// takeOTLP reads, decodes and records a request, filling in as it goes.
func (s *Server) takeOTLP(r *request, b *buffers, in *Request) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != contentProtobuf && media != contentJSON {
		return fmt.Errorf("%w: Content-Type %q", errUnsupported, r.Header.Get("Content-Type"))
	}
	in.ContentType = media
	in.Encoding = strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if in.Encoding == "" {
		in.Encoding = "identity"
	}
	fate := Taken
	if in.Encoding == "zstd" {
		fate = r.sw.OTLPZstd
	}
	if media == contentJSON && r.sw.OTLPJSON != Taken {
		fate = r.sw.OTLPJSON
	}
	if fate == Unsupported {
		return fmt.Errorf("%w: %s in %s", errUnsupported, media, in.Encoding)
	}
	if err := s.readBody(r, b); err != nil {
		return err
	}
	in.WireBytes = int64(b.wire.Len())
	if fate == Lost {
		return errVanished
	}
	payload, err := s.decompress(r.sw, in.Encoding, b)
	if err != nil {
		return err
	}
	if media == contentJSON {
		if payload, err = jsonToProto(payload); err != nil {
			return err
		}
	}
	return s.takePayload(r.sw, payload, b, in)
}

// takePayload checks and records a payload in protobuf, which is b's to reuse.
func (s *Server) takePayload(sw Switches, payload []byte, b *buffers, in *Request) error {
	deep := s.cfg.Keep != KeepCounts || sw.OTLPWindow != WindowOff || s.store.limited(in.Workspace)
	n, heads, err := scan(payload, b.heads[:0], deep)
	b.heads = heads
	if err != nil {
		return err
	}
	in.Time = s.cfg.Now()
	in.Spans = n
	if sw.OTLPWindow != WindowOff {
		if err := checkWindow(heads, in.Time); err != nil {
			return err
		}
	}
	in.RawBytes = int64(len(payload))
	var msg *collectorpb.ExportTraceServiceRequest
	if s.cfg.Keep == KeepSpans || sw.NULBytes != CheckOff {
		// The scan does not look into values; the service's decoder would.
		msg = &collectorpb.ExportTraceServiceRequest{}
		if err := proto.Unmarshal(payload, msg); err != nil {
			return err
		}
		if sw.NULBytes != CheckOff {
			if err := checkSpanNULs(msg.GetResourceSpans(), sw.NULBytes); err != nil {
				return err
			}
		}
	}
	if s.cfg.Keep == KeepSpans {
		in.Payload = bytes.Clone(payload)
	}
	if err := s.store.record(in, heads); err != nil {
		return err
	}
	s.store.publish(in, payload, msg)
	return nil
}

// checkWindow refuses the first start time that is too far from now.
func checkWindow(heads []spanHead, now time.Time) error {
	for i := range heads {
		start := time.Unix(0, int64(heads[i].start))
		if d := now.Sub(start); d > startWindow || d < -startWindow {
			return fmt.Errorf("%w: span %x started %s", errOutOfWindow, heads[i].id.Span, start.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// readError is a body that ended before its end.
type readError struct{ err error }

func (e *readError) Error() string { return "error reading body: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// readBody reads the body as sent into b.wire.
func (s *Server) readBody(r *request, b *buffers) error {
	if r.ContentLength > s.cfg.MaxBodyBytes {
		return errTooLarge
	}
	const trusted = 1 << 20 // as much as a claimed length is believed
	if n := r.ContentLength; n > 0 {
		b.wire.Grow(int(min(n, trusted)) + bytes.MinRead)
	}
	_, err := b.wire.ReadFrom(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return &readError{err}
	}
	return nil
}

// newZstd returns a decoder of whole buffers for any number of callers at a
// time. It bounds what one body may decode to, and starts no goroutine.
func newZstd(maxRawBytes int64) func() *zstd.Decoder {
	// RFC 8878 asks decoders to take windows up to 8 MiB, whatever comes out.
	const leastWindow = 8 << 20
	return sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderMaxMemory(uint64(max(maxRawBytes, leastWindow))))
		if err != nil {
			panic("smith: zstd decoder: " + err.Error()) // the options are sound
		}
		return d
	})
}

// decompress returns the body as it was before compression. The result is
// valid until b is released.
func (s *Server) decompress(sw Switches, encoding string, b *buffers) ([]byte, error) {
	switch encoding {
	case "identity":
		if int64(b.wire.Len()) > s.cfg.MaxRawBytes {
			return nil, errTooLarge
		}
		return b.wire.Bytes(), nil
	case "gzip":
		return b.gunzip(s.cfg.MaxRawBytes)
	case "zstd":
		wire := b.wire.Bytes()
		if sw.ZstdFrames == FramesFirst {
			var err error
			if wire, err = firstFrame(wire); err != nil {
				return nil, fmt.Errorf("failed to decompress: %w", err)
			}
		}
		return b.unzstd(s.zstd(), wire, s.cfg.MaxRawBytes)
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %q", errUnsupported, encoding)
	}
}

// buffers is what one request needs to be decoded, kept for the next.
type buffers struct {
	wire  bytes.Buffer // the body as sent
	raw   bytes.Buffer // decompressed, where it was compressed
	gz    *gzip.Reader // nil until first used
	heads []spanHead
}

// maxPooledBytes is the largest buffer worth keeping between requests.
const maxPooledBytes = 8 << 20

var bufferPool sync.Pool // of *buffers

// takeBuffers returns empty buffers; release gives them back.
func takeBuffers() *buffers {
	if b, ok := bufferPool.Get().(*buffers); ok {
		return b
	}
	return new(buffers)
}

// release gives b back; nothing read from it may be used any more.
func (b *buffers) release() {
	if b.wire.Cap() > maxPooledBytes || b.raw.Cap() > maxPooledBytes {
		return
	}
	b.wire.Reset()
	b.raw.Reset()
	bufferPool.Put(b)
}

// gunzip decompresses all members of b.wire.
func (b *buffers) gunzip(limit int64) ([]byte, error) {
	src := bytes.NewReader(b.wire.Bytes())
	var err error
	if b.gz == nil {
		b.gz, err = gzip.NewReader(src)
	} else {
		err = b.gz.Reset(src)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to decompress: %w", err)
	}
	n, err := b.raw.ReadFrom(io.LimitReader(b.gz, limit+1))
	if err != nil {
		return nil, fmt.Errorf("failed to decompress: %w", err)
	}
	if n > limit {
		return nil, errTooLarge
	}
	return b.raw.Bytes(), nil
}

// unzstd decompresses all frames of wire.
func (b *buffers) unzstd(d *zstd.Decoder, wire []byte, limit int64) ([]byte, error) {
	out, err := d.DecodeAll(wire, b.raw.AvailableBuffer())
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, errTooLarge
	case errors.Is(err, zstd.ErrMagicMismatch):
		// As the service says it (LangChain forum 2597).
		return nil, errors.New("failed to decompress: Unknown frame descriptor")
	case err != nil:
		return nil, fmt.Errorf("failed to decompress: %w", err)
	case int64(len(out)) > limit:
		return nil, errTooLarge
	}
	b.raw = *bytes.NewBuffer(out) // keeps what DecodeAll grew
	return out, nil
}
