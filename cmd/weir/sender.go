package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/sendtest"
	"weir/proxy"
	"weir/proxy/diagnose"
	"weir/proxy/upstream"
	"weir/queue"
)

// refusedEncodingNotes remember across restarts which content encodings an
// upstream does not take.
const (
	refusedEncodingNotes     = "encoding-refused/"
	refusedRunsEncodingNotes = "runs-encoding-refused/"
	// encodingProofNotes hold what reading back has shown of OTLP in an
	// encoding, in a word of package sendtest.
	encodingProofNotes = "encoding-proof/"
)

// encodingBook remembers the encodings that one kind of data is not taken in.
type encodingBook struct {
	q      *queue.Queue
	log    *slog.Logger
	prefix string // of the notes
}

// refused lists them.
func (b encodingBook) refused() (all []upstream.Encoding) {
	for name := range b.q.Notes(b.prefix) {
		all = append(all, upstream.Encoding(strings.TrimPrefix(name, b.prefix)))
	}
	return all
}

// add writes one down.
func (b encodingBook) add(e upstream.Encoding) {
	b.log.Warn("the upstream does not take this content encoding; another one is used from now on", slog.String("encoding", string(e)))
	if err := b.q.SetNote(b.prefix+string(e), []byte("415")); err != nil {
		b.log.Warn("that could not be written down; it is found out again after a restart", slog.Any("error", err))
	}
}

// connection is a client, and what is known of its upstream.
type connection struct {
	*upstream.Client

	url  string // as configured
	zstd *zstdProof
}

// sender sends with the client of the moment: a reload may bring another.
type sender struct {
	now atomic.Pointer[connection]

	mu      sync.Mutex    // covers retired, and the change of clients
	retired []*connection // replaced; requests may be under way with the last
}

// Send implements proxy.Upstream. A request that was made for the upstream before
// is not sent, as its key is that one's: it is made anew.
func (s *sender) Send(ctx context.Context, r *proxy.Request) proxy.Outcome {
	c := s.now.Load()
	if r.Upstream != "" && r.Upstream != c.url {
		return proxy.Outcome{
			Kind: proxy.Retry, Reason: "upstream_changed", Scope: proxy.ScopeLane,
			Exchange: proxy.Exchange{Time: time.Now(), Error: "the upstream was changed before this request was sent"},
		}
	}
	return c.Send(ctx, r)
}

// Ask implements proxy.Asker.
func (s *sender) Ask(ctx context.Context, q *proxy.Question) proxy.Answer {
	return s.now.Load().Ask(ctx, q)
}

// Certificate is what the upstream shows.
func (s *sender) Certificate(ctx context.Context) (*diagnose.Certificate, error) {
	return s.now.Load().Certificate(ctx)
}

// change has requests sent with next from now on. Those under way end with the
// client they began with, which is closed at the change after this one.
func (s *sender) change(next *connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.closeRetired()
	if before := s.now.Swap(next); before != nil {
		s.retired = append(s.retired, before)
	}
	return err
}

func (s *sender) closeRetired() (err error) {
	for _, c := range s.retired {
		err = errors.Join(err, c.Close())
	}
	s.retired = nil
	return err
}

// Close closes every client.
func (s *sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.closeRetired(), s.now.Load().Close())
}

// zstdProof keeps what a send test has found out about OTLP in zstd. It
// implements sendtest.Proof.
type zstdProof struct {
	book encodingBook
	note string
	// client is nil until it is made.
	client *upstream.Client
}

func newZstdProof(upstreamURL string, book encodingBook) *zstdProof {
	return &zstdProof{book: book, note: encodingProofNotes + upstreamURL + "/" + string(upstream.EncodingZstd)}
}

// Known implements sendtest.Proof.
func (p *zstdProof) Known() string {
	switch word := string(p.book.q.Notes(p.note)[p.note]); {
	case slices.Contains(p.book.refused(), upstream.EncodingZstd):
		return sendtest.ZstdRefused
	case word != "":
		return word
	default:
		return sendtest.ZstdUnknown
	}
}

// Keep implements sendtest.Proof.
func (p *zstdProof) Keep(word string) error {
	refusal := p.book.prefix + string(upstream.EncodingZstd)
	if word != sendtest.ZstdRefused {
		if err := p.book.q.SetNote(refusal, nil); err != nil { // it was refused before, and is not any more
			return err
		}
	}
	if err := p.book.q.SetNote(p.note, []byte(word)); err != nil {
		return err
	}
	p.client.Prove(upstream.EncodingZstd, word == sendtest.ZstdProven)
	return nil
}

// proven lists the encodings that EncodingAuto may use.
func (p *zstdProof) proven() []upstream.Encoding {
	if p.Known() == sendtest.ZstdProven {
		return []upstream.Encoding{upstream.EncodingZstd}
	}
	return nil
}

// newUpstream makes the client that sends to LangSmith. What it learns of the
// upstream's encodings is kept in the queue.
func newUpstream(s *settings, metrics prometheus.Registerer, q *queue.Queue, log *slog.Logger) (*connection, error) {
	spans := encodingBook{q: q, log: log, prefix: refusedEncodingNotes + s.Upstream + "/"}
	runs := encodingBook{q: q, log: log, prefix: refusedRunsEncodingNotes + s.Upstream + "/"}
	proof := newZstdProof(s.Upstream, spans)
	c, err := upstream.New(upstream.Config{
		BaseURL: s.Upstream, Version: buildVersion(), Encoding: upstream.Encoding(s.OTLPEncoding),
		RefusedEncodings: spans.refused(), OnEncodingRefused: spans.add, ProvenEncodings: proof.proven(),
		RefusedRunsEncodings: runs.refused(), OnRunsEncodingRefused: runs.add,
		OpenBlob: openBlob(q),
		Timeout:  s.RequestTimeout, Concurrency: s.Forward.Concurrency, CAFile: s.CAFile, Registerer: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	proof.client = c
	return &connection{c, s.Upstream, proof}, nil
}

// openBlob opens what the queue keeps aside. What is gone for good is told from
// what cannot be read now.
func openBlob(q *queue.Queue) func(string) (io.ReadCloser, error) {
	return func(id string) (io.ReadCloser, error) {
		r, err := q.OpenBlob(id)
		if errors.Is(err, queue.ErrNoBlob) || errors.Is(err, queue.ErrDamaged) {
			return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return r, err
	}
}
