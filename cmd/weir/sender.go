package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/upstream"
	"weir/queue"
)

// refusedEncodingNotes remember across restarts which content encodings an
// upstream does not take.
const refusedEncodingNotes = "encoding-refused/"

// newUpstream makes the client that sends to LangSmith. What it learns of the
// upstream's encodings is kept in the queue.
func newUpstream(s *settings, metrics prometheus.Registerer, q *queue.Queue, log *slog.Logger) (*upstream.Client, error) {
	prefix := refusedEncodingNotes + s.Upstream + "/"
	var refused []upstream.Encoding
	for name := range q.Notes(prefix) {
		refused = append(refused, upstream.Encoding(strings.TrimPrefix(name, prefix)))
	}
	c, err := upstream.New(upstream.Config{
		BaseURL: s.Upstream, Version: buildVersion(), Encoding: upstream.Encoding(s.OTLPEncoding),
		RefusedEncodings: refused,
		OnEncodingRefused: func(e upstream.Encoding) {
			log.Warn("the upstream does not take this content encoding; another one is used from now on", slog.String("encoding", string(e)))
			if err := q.SetNote(prefix+string(e), []byte("415")); err != nil {
				log.Warn("that could not be written down; it is found out again after a restart", slog.Any("error", err))
			}
		},
		Timeout: s.RequestTimeout, Concurrency: s.Forward.Concurrency, CAFile: s.CAFile, Registerer: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return c, nil
}
