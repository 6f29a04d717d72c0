package langsmith

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// How /info is asked for.
const (
	infoEvery    = time.Minute            // at most that often
	infoBudget   = 2 * time.Second        // for one answer of the upstream
	infoWait     = 200 * time.Millisecond // how long a caller waits for the first one
	maxInfoBytes = 1 << 20
)

// limits are what weir takes in one request.
type limits struct {
	operations int
	bytes      int64
}

// serverInfo answers GET /info, by which SDKs decide how to send: as the
// upstream does where that is known, corrected to what weir itself can take.
// The upstream is asked at most once a minute, in the background, so that an
// SDK that starts during an outage is answered at once: it would trace
// uncompressed for good otherwise.
type serverInfo struct {
	transport http.RoundTripper
	url       string
	limits    limits
	defaults  []byte

	closing context.Context // done when close was called
	cancel  context.CancelFunc
	fetches sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	last   []byte        // the latest answer; nil: none yet
	asked  time.Time     // when the latest fetch began
	under  chan struct{} // closed when the fetch under way ends; nil: none
}

func newServerInfo(transport http.RoundTripper, base *url.URL, l limits) *serverInfo {
	s := &serverInfo{transport: transport, url: base.JoinPath("info").String(), limits: l}
	s.closing, s.cancel = context.WithCancel(context.Background())
	defaults, err := s.corrected([]byte(`{}`))
	if err != nil {
		defaults = []byte(`{}`) // cannot be: an empty object can be added to
	}
	s.defaults = defaults
	return s
}

// close ends a fetch under way and waits for it.
func (s *serverInfo) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.fetches.Wait()
}

// answer returns the body for a caller, which may wait for the first one.
func (s *serverInfo) answer(ctx context.Context) []byte {
	s.mu.Lock()
	if s.under == nil && !s.closed && (s.asked.IsZero() || time.Since(s.asked) >= infoEvery) {
		done := make(chan struct{})
		s.asked, s.under = time.Now(), done
		// Under mu, so that close cannot have begun to wait.
		s.fetches.Go(func() { s.refresh(done) }) //nolint:contextcheck // it outlives the request that found the answer to be old
	}
	last, under, patience := s.last, s.under, infoWait-time.Since(s.asked)
	s.mu.Unlock()
	if last == nil && under != nil && patience > 0 {
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-under:
		case <-wait.C:
		case <-ctx.Done():
		}
		s.mu.Lock()
		last = s.last
		s.mu.Unlock()
	}
	if last == nil {
		return s.defaults
	}
	return last
}

// refresh asks the upstream, and keeps the old answer if there is no new one.
func (s *serverInfo) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(s.closing, infoBudget)
	defer cancel()
	body, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.last = body
	}
	s.under = nil
	close(done)
}

func (s *serverInfo) fetch(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the upstream's /info: %w", err)
	}
	req.Header.Set("Accept", mediaJSON)
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask the upstream's /info: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what matters has been read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxInfoBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the upstream's /info: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the upstream's /info answers %d", resp.StatusCode)
	case len(body) > maxInfoBytes:
		return nil, fmt.Errorf("the upstream's /info has more than %d bytes", maxInfoBytes)
	}
	return s.corrected(body)
}

// corrected puts what weir can take into an answer, and defaults where it says
// nothing (LangSmith docs: smith-api/info; langsmith-go, info.go). The version
// is the least with which the SDKs send feedback in batches and JavaScript's
// does not warn.
func (s *serverInfo) corrected(body []byte) ([]byte, error) {
	var info map[string]json.RawMessage
	if err := json.Unmarshal(body, &info); err != nil || info == nil {
		return nil, errors.New("the upstream's /info is not a JSON object")
	}
	flags, err := object(info["instance_flags"])
	if err != nil {
		return nil, err
	}
	flags["zstd_compression_enabled"], flags["gzip_body_enabled"] = true, true
	ingest, err := object(info["batch_ingest_config"])
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]float64{"scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16, "scale_down_nempty_trigger": 4} {
		if _, ok := ingest[name]; !ok {
			ingest[name] = value
		}
	}
	ingest["use_multipart_endpoint"] = true
	ingest["size_limit"] = bounded(ingest["size_limit"], 100, float64(s.limits.operations))
	ingest["size_limit_bytes"] = bounded(ingest["size_limit_bytes"], 20<<20, float64(s.limits.bytes))
	answer := map[string]any{"version": "0.16.14"}
	for name, value := range info {
		answer[name] = value
	}
	answer["instance_flags"], answer["batch_ingest_config"] = flags, ingest
	return json.Marshal(answer)
}

// object reads an object that may be absent or null.
func object(text json.RawMessage) (map[string]any, error) {
	var v map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &v); err != nil {
			return nil, errors.New("the upstream's /info has something else where an object belongs")
		}
	}
	if v == nil {
		v = map[string]any{}
	}
	return v, nil
}

// bounded is a limit as the upstream has it, or as it is by default, and not
// above weir's.
func bounded(v any, def, most float64) int64 {
	limit, ok := v.(float64)
	if !ok || limit < 1 {
		limit = def
	}
	return int64(min(limit, most))
}
