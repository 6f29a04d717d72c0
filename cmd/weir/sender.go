package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

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

// sender sends with the client of the moment: a reload may bring another.
type sender struct {
	now atomic.Pointer[upstream.Client]

	mu      sync.Mutex         // covers retired, and the change of clients
	retired []*upstream.Client // replaced; requests may be under way with the last
}

// Send implements proxy.Upstream.
func (s *sender) Send(ctx context.Context, r *proxy.Request) proxy.Outcome {
	return s.now.Load().Send(ctx, r)
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
func (s *sender) change(next *upstream.Client) error {
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

// newUpstream makes the client that sends to LangSmith. What it learns of the
// upstream's encodings is kept in the queue.
func newUpstream(s *settings, metrics prometheus.Registerer, q *queue.Queue, log *slog.Logger) (*upstream.Client, error) {
	spans := encodingBook{q: q, log: log, prefix: refusedEncodingNotes + s.Upstream + "/"}
	runs := encodingBook{q: q, log: log, prefix: refusedRunsEncodingNotes + s.Upstream + "/"}
	c, err := upstream.New(upstream.Config{
		BaseURL: s.Upstream, Version: buildVersion(), Encoding: upstream.Encoding(s.OTLPEncoding),
		RefusedEncodings: spans.refused(), OnEncodingRefused: spans.add,
		RefusedRunsEncodings: runs.refused(), OnRunsEncodingRefused: runs.add,
		OpenBlob: openBlob(q),
		Timeout:  s.RequestTimeout, Concurrency: s.Forward.Concurrency, CAFile: s.CAFile, Registerer: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return c, nil
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
