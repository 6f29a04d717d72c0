package torture

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// httpSender sends over HTTP/1.1.
type httpSender struct {
	client *http.Client
	end    context.CancelFunc // ends dialing
	url    string
	from   *Client
}

func dialHTTP(addr string, c *Client) sender {
	network, target, host := "tcp", addr, addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, target, host = "unix", path, "localhost"
	}
	life, end := context.WithCancel(context.Background())
	return &httpSender{from: c, url: "http://" + host + "/v1/traces", end: end, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialReady(ctx, life, network, target)
		},
	}}}
}

func (s *httpSender) close() {
	s.end()
	s.client.CloseIdleConnections()
}

// dialReady dials until somebody answers: a killed weir is back soon, and an
// export that was never sent says nothing. It gives up with ctx or life.
func dialReady(ctx, life context.Context, network, target string) (net.Conn, error) {
	const every = 5 * time.Millisecond
	var dialer net.Dialer
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		conn, err := dialer.DialContext(ctx, network, target)
		if err == nil {
			return conn, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		case <-life.Done():
			return nil, err
		}
	}
}

func (s *httpSender) send(ctx context.Context, payload []byte) (Answer, string) {
	body := payload
	if s.from.Gzip {
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err == nil {
			_, err = w.Write(payload)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return Lost, "compress: " + err.Error()
		}
		body = b.Bytes()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return Lost, err.Error()
	}
	// Without this the transport sends a request again on a connection that
	// broke, and the answer to the first would be lost unseen.
	r.GetBody = nil
	r.Header.Set("Content-Type", "application/x-protobuf")
	if s.from.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	if s.from.APIKey != "" {
		r.Header.Set("x-api-key", s.from.APIKey)
	}
	if s.from.Project != "" {
		r.Header.Set("Langsmith-Project", s.from.Project)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return Lost, ""
	}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close() // read only
	if resp.StatusCode == http.StatusOK && err != nil {
		return Lost, "" // cut off: a client could not have read it
	}
	return judgeHTTP(resp, reply)
}

// judgeHTTP reads an answer as the OTLP specification has clients read it.
func judgeHTTP(resp *http.Response, reply []byte) (Answer, string) {
	switch resp.StatusCode {
	case http.StatusOK:
		return Acknowledged, rejectedSpans(reply)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if resp.Header.Get("Retry-After") == "" {
			return RefusedForNow, fmt.Sprintf("HTTP %d without Retry-After: %.200q", resp.StatusCode, reply)
		}
		return RefusedForNow, ""
	case http.StatusBadRequest:
		return Rejected, fmt.Sprintf("HTTP 400 for a well-formed export: %.200q", reply)
	default:
		return Lost, fmt.Sprintf("unexpected HTTP status %d: %.200q", resp.StatusCode, reply)
	}
}

// rejectedSpans complains about a reply that does not parse, or takes back
// part of an acknowledgement.
func rejectedSpans(reply []byte) string {
	var m collectorpb.ExportTraceServiceResponse
	if err := proto.Unmarshal(reply, &m); err != nil {
		return "the reply to an export is no ExportTraceServiceResponse"
	}
	if p := m.GetPartialSuccess(); p.GetRejectedSpans() != 0 {
		return "an acknowledged export was rejected in part: " + p.GetErrorMessage()
	}
	return ""
}
