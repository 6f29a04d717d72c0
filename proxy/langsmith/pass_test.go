package langsmith

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// behind runs a handler whose upstream is a real server.
func behind(t *testing.T, cfg Config, base string, upstream http.HandlerFunc) (weir *httptest.Server, client *http.Client) {
	t.Helper()
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	cfg.Upstream = Upstream{BaseURL: server.URL + base, Transport: transport}
	weir = newStage(t, cfg).serve(t)
	client = weir.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return weir, client
}

// answered is an answer that was read to its end.
type answered struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, client *http.Client, method, url string, header map[string]string, body io.Reader) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header, string(text)}
}

func TestPathsArePassedOnBelowTheBase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ base, path, want string }{
		{"", "/sessions?limit=1", "/sessions?limit=1"},
		{"", "/api/v1/sessions", "/api/v1/sessions"},
		{"/", "/sessions", "/sessions"},
		{"/api/v1", "/sessions", "/api/v1/sessions"},
		{"/api/v1", "/api/v1/sessions", "/api/v1/sessions"},
		{"/api/v1", "/api/v1", "/api/v1"},
		{"/api/v1", "/api/v2/sessions", "/api/v2/sessions"},
		{"/api/v1", "/v2/sessions", "/v2/sessions"},
		{"/base/api/v1", "/v2/sessions", "/base/v2/sessions"},
		{"/base/api", "/api/v1/sessions", "/base/api/v1/sessions"},
		{"/base/api/v1", "/base/api/v1/sessions", "/base/api/v1/sessions"},
		{"/base", "/baseless", "/base/baseless"},
		{"", "/repos/a%2Fb/x%20y?q=a;b&r=%zz", "/repos/a%2Fb/x%20y?q=a;b&r=%zz"},
		{"/base", "/a//b/", "/base/a//b/"},
	} {
		var got string
		weir, client := behind(t, Config{}, tc.base, func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
		a := do(t, client, "GET", weir.URL+tc.path, nil, nil)
		if a.status != http.StatusOK || got != tc.want {
			t.Errorf("base %q: %s arrives as %s, want %s (status %d)", tc.base, tc.path, got, tc.want, a.status)
		}
	}
}

func TestRequestsAndAnswersPassUnchanged(t *testing.T) {
	t.Parallel()
	var header http.Header
	var host, body string
	weir, client := behind(t, Config{}, "", func(w http.ResponseWriter, r *http.Request) {
		header, host = r.Header.Clone(), r.Host
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.Header().Set("Location", "https://elsewhere.example/x")
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, "not really gzip")
	})
	a := do(t, client, "POST", weir.URL+"/runs/query", map[string]string{
		"X-API-Key": "k", "X-Tenant-Id": "w", "Authorization": "Bearer t", "Cookie": "c=d", "Accept-Encoding": "gzip",
		"Connection": "X-Hop", "X-Hop": "1", "X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "User-Agent": "langsmith-py/1",
	}, strings.NewReader("the query"))
	if a.status != http.StatusTemporaryRedirect || a.header.Get("Location") != "https://elsewhere.example/x" || a.body != "not really gzip" {
		t.Errorf("status %d to %q: %q", a.status, a.header.Get("Location"), a.body)
	}
	want := http.Header{
		"X-Api-Key": {"k"}, "X-Tenant-Id": {"w"}, "Authorization": {"Bearer t"}, "Cookie": {"c=d"},
		"Accept-Encoding": {"gzip"}, "Content-Length": {"9"}, "User-Agent": {"langsmith-py/1"},
	}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if body != "the query" || "http://"+host == weir.URL {
		t.Errorf("body %q to host %s", body, host)
	}
}

func TestWeirsKeyIsLentOnlyWhereItWasAllowed(t *testing.T) {
	t.Parallel()
	lend := func() (key, workspace string) { return "own", "ownspace" }
	for name, tc := range map[string]struct {
		lend           func() (string, string)
		header         map[string]string
		key, workspace string
	}{
		"not allowed":       {nil, nil, "", ""},
		"allowed":           {lend, nil, "own", "ownspace"},
		"a key of its own":  {lend, map[string]string{"X-API-Key": "k"}, "k", ""},
		"a token":           {lend, map[string]string{"Authorization": "Bearer t"}, "", ""},
		"its own workspace": {lend, map[string]string{"X-Tenant-Id": "w"}, "own", "w"},
	} {
		var header http.Header
		weir, client := behind(t, Config{LendKey: tc.lend}, "", func(_ http.ResponseWriter, r *http.Request) { header = r.Header.Clone() })
		do(t, client, "GET", weir.URL+"/sessions", tc.header, nil)
		if header.Get("X-Api-Key") != tc.key || header.Get("X-Tenant-Id") != tc.workspace {
			t.Errorf("%s: key %q, workspace %q", name, header.Get("X-Api-Key"), header.Get("X-Tenant-Id"))
		}
	}
}

func TestAnswersStream(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	weir, client := behind(t, Config{}, "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n", n)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", weir.URL+"/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for n := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("%q: %v", line, err)
		}
		next <- struct{}{} // the upstream had not gone on: the line was not held back
	}
}

func TestRequestsStream(t *testing.T) {
	t.Parallel()
	got := make(chan string)
	weir, client := behind(t, Config{}, "", func(_ http.ResponseWriter, r *http.Request) {
		b := make([]byte, 5)
		for range 2 {
			_, _ = io.ReadFull(r.Body, b)
			got <- string(b)
		}
	})
	from, to := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- do(t, client, "POST", weir.URL+"/datasets/upload", nil, from).status
	}()
	for _, text := range []string{"first", "other"} {
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
		if arrived := <-got; arrived != text {
			t.Errorf("%q arrived", arrived)
		}
	}
	_ = to.Close()
	if status := <-done; status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestAnUpstreamThatIsDownOrHangsIsSaidToBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		transport scripted
		status    int
		want      string
	}{
		"down": {func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dial tcp 127.0.0.1:1: connection refused, was lsv2_sk_secret")
		}, 502, "Bad gateway: weir cannot reach LangSmith at api.smith.example: dial tcp 127.0.0.1:1: connection refused, was (secret)"},
		"hanging": {func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 504, "Gateway timeout: LangSmith at api.smith.example did not answer weir within 20ms"},
		"timing out by itself": {
			func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded },
			504, "Gateway timeout: LangSmith at api.smith.example did not answer weir within 20ms",
		},
	} {
		s := newStage(t, Config{ReadTimeout: 20 * time.Millisecond, Upstream: Upstream{Transport: tc.transport}})
		w := s.send(t, "POST", "/runs/query", map[string]string{"X-API-Key": "lsv2_sk_secret"}, strings.NewReader("{}"))
		if got := errorOf(t, w); w.Code != tc.status || got != tc.want || !strings.Contains(w.Body.String(), "taken by weir meanwhile") {
			t.Errorf("%s: status %d: %s", name, w.Code, w.Body)
		}
	}
}

func TestACallerThatGoesAwayEndsTheRequestUpstream(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan struct{})
	weir, client := behind(t, Config{}, "", func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", weir.URL+"/sessions", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		cancel()
	}()
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("status %d", resp.StatusCode)
	}
	<-ended
}

// slowly reads a body that makes its reader wait.
type slowly struct {
	wait  time.Duration
	times int
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.times == 0 {
		return 0, io.EOF
	}
	s.times--
	<-time.After(s.wait)
	return copy(p, "x"), nil
}

func (*slowly) Close() error { return nil }

func TestOnlyAnUpstreamThatDoesNothingIsTooSlow(t *testing.T) {
	t.Parallel()
	const patience = time.Second
	for name, tc := range map[string]struct {
		upload io.ReadCloser
		takes  time.Duration // the upstream, after the body
		slow   bool
	}{
		"at once":                  {nil, 0, false},
		"just in time":             {nil, patience - 1, false},
		"too late":                 {nil, patience + 1, true},
		"a slow caller":            {&slowly{3 * patience, 4}, patience / 2, false},
		"a slow caller and it too": {&slowly{3 * patience, 4}, patience + 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var request *http.Request
			transport := &patientTransport{scripted(func(r *http.Request) (*http.Response, error) {
				request = r
				if r.Body != nil {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return nil, err
					}
				}
				select {
				case <-time.After(tc.takes):
					return says(200, "answer")
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}), patience}
			req := httptest.NewRequestWithContext(t.Context(), "POST", "/x", nil)
			req.Body = tc.upload
			resp, err := transport.RoundTrip(req)
			if tc.slow {
				if !errors.Is(err, errTooSlow) {
					t.Errorf("%s: %v", name, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			<-time.After(10 * patience) // the answer's body may take its time
			if request.Context().Err() != nil {
				t.Errorf("%s: the request ended with its answer under way: %v", name, context.Cause(request.Context()))
			}
			if err := resp.Body.Close(); err != nil || request.Context().Err() == nil {
				t.Errorf("%s: closed with %v, and the request goes on", name, err)
			}
		})
	}
}
