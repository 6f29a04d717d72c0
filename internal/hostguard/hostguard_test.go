package hostguard_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/internal/hostguard"
)

// request describes what a client sent and where it arrived.
type request struct {
	method string
	host   string
	local  net.Addr
	header map[string]string
}

func (q request) build() *http.Request {
	method, local := q.method, q.local
	if method == "" {
		method = http.MethodPost
	}
	if local == nil {
		local = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4318}
	}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, local)
	r := httptest.NewRequestWithContext(ctx, method, "/v1/traces", http.NoBody)
	r.Host = q.host
	for k, v := range q.header {
		for value := range strings.SplitSeq(v, "\n") {
			r.Header.Add(k, value)
		}
	}
	return r
}

func mustNew(t *testing.T, cfg hostguard.Config) *hostguard.Guard {
	t.Helper()
	g, err := hostguard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// checkReason asserts the reason a request is refused for; "" means passed.
func checkReason(t *testing.T, g *hostguard.Guard, q request, want string) {
	t.Helper()
	got := ""
	if why := g.Check(q.build()); why != nil {
		got = why.Reason
	}
	if got != want {
		t.Errorf("refusal reason = %q, want %q", got, want)
	}
}

func TestHostHeader(t *testing.T) {
	lan := &net.TCPAddr{IP: net.IPv4(172, 17, 0, 2), Port: 4318}
	lan6 := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 4318}
	loopback6 := &net.TCPAddr{IP: net.IPv6loopback, Port: 4318}
	cfg := hostguard.Config{Listen: "weir.lan:4318", Hosts: []string{"weir", "Trace.Example.", "2001:db8::7"}}

	for _, tc := range []struct {
		name  string
		host  string
		local net.Addr
		want  string
	}{
		{name: "localhost with port", host: "localhost:4318"},
		{name: "localhost without port", host: "localhost"},
		{name: "localhost in capitals with the root dot", host: "LOCALHOST.:4318"},
		{name: "name below localhost", host: "weir.localhost:4318"},
		{name: "IPv4 loopback", host: "127.0.0.1:4318"},
		{name: "other IPv4 loopback", host: "127.9.9.9"},
		{name: "IPv6 loopback", host: "[::1]:4318", local: loopback6},
		{name: "IPv6 loopback without port", host: "[::1]", local: loopback6},
		{name: "IPv4 loopback in IPv6", host: "[::ffff:127.0.0.1]:4318"},
		{name: "no Host at all", host: ""},
		{name: "the listener's configured name", host: "weir.lan:4318"},
		{name: "a listed name on another port", host: "weir:80"},
		{name: "a listed name in other letters", host: "tRACE.example"},
		{name: "a listed IPv6 address", host: "[2001:DB8:0::7]:4318"},
		{name: "the address of the connection", host: "172.17.0.2:4318", local: lan},
		{name: "the address of the connection with a zone", host: "[fe80::1%25eth0]:4318", local: lan6},
		{name: "the address of the connection without its zone", host: "[fe80::1]:4318", local: lan6},
		{name: "an address before translation, off loopback", host: "192.168.1.5:4318", local: lan},

		{name: "rebound name", host: "evil.example:4318", want: hostguard.ReasonHost},
		{name: "rebound name off loopback", host: "evil.example", local: lan, want: hostguard.ReasonHost},
		{name: "name that starts like an address", host: "127.0.0.1.evil.example", want: hostguard.ReasonHost},
		{name: "name that ends like localhost", host: "evillocalhost", want: hostguard.ReasonHost},
		{name: "name that contains localhost", host: "localhost.evil.example", want: hostguard.ReasonHost},
		{name: "name that starts like a listed one", host: "weir.evil.example", want: hostguard.ReasonHost},
		{name: "foreign address on loopback", host: "203.0.113.9:4318", want: hostguard.ReasonHost},
		{name: "the unspecified address on loopback", host: "0.0.0.0:4318", want: hostguard.ReasonHost},
		{name: "the unspecified IPv6 address on loopback", host: "[::]:4318", local: loopback6, want: hostguard.ReasonHost},
		{name: "user in Host", host: "localhost@evil.example", want: hostguard.ReasonHost},
		{name: "two ports", host: "localhost:1:2", want: hostguard.ReasonHost},
		{name: "port that is no number", host: "localhost:http", want: hostguard.ReasonHost},
		{name: "space", host: "local host", want: hostguard.ReasonHost},
		{name: "only a port", host: ":4318", want: hostguard.ReasonHost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkReason(t, mustNew(t, cfg), request{host: tc.host, local: tc.local}, tc.want)
		})
	}
}

func TestUnspecifiedListenAddressAllowsNoName(t *testing.T) {
	for _, listen := range []string{":4318", "0.0.0.0:4318", "[::]:4318", "unix:/run/weir.sock", ""} {
		g := mustNew(t, hostguard.Config{Listen: listen})
		checkReason(t, g, request{host: "evil.example"}, hostguard.ReasonHost)
		checkReason(t, g, request{host: "0.0.0.0:4318"}, hostguard.ReasonHost)
	}
}

func TestUnixSocketsPass(t *testing.T) {
	g := mustNew(t, hostguard.Config{})
	local := &net.UnixAddr{Name: "/run/weir.sock", Net: "unix"}
	checkReason(t, g, request{host: "whatever", local: local, header: map[string]string{"Origin": "null"}}, "")
}

func TestOrigin(t *testing.T) {
	const listed = "https://app.example"
	cfg := hostguard.Config{Origins: []string{"HTTPS://App.Example:443", "http://localhost:3000"}}

	for _, tc := range []struct {
		name   string
		method string
		host   string
		header map[string]string
		want   string
	}{
		{name: "a program sends no origin", header: nil},
		{name: "own page", header: map[string]string{"Origin": "http://localhost:4318"}},
		{name: "own page behind TLS", header: map[string]string{"Origin": "https://localhost:4318"}},
		{name: "own page over IPv6", host: "[::1]:4318", header: map[string]string{"Origin": "http://[::1]:4318"}},
		{name: "own page on the default port", host: "localhost", header: map[string]string{"Origin": "http://localhost"}},
		{name: "listed origin", header: map[string]string{"Origin": listed, "Sec-Fetch-Site": "cross-site"}},
		{name: "listed local origin", header: map[string]string{"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}},
		{name: "address bar", method: http.MethodGet, header: map[string]string{"Sec-Fetch-Site": "none"}},
		{name: "own page's picture", method: http.MethodGet, header: map[string]string{"Sec-Fetch-Site": "same-origin"}},
		{
			name: "a link followed from another site", method: http.MethodGet,
			header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
		},

		{name: "cross-site post", header: map[string]string{"Origin": "https://evil.example"}, want: hostguard.ReasonOrigin},
		{name: "sandboxed page", header: map[string]string{"Origin": "null"}, want: hostguard.ReasonOrigin},
		{name: "empty origin", header: map[string]string{"Origin": ""}, want: hostguard.ReasonOrigin},
		{name: "another local port", header: map[string]string{"Origin": "http://localhost:8080"}, want: hostguard.ReasonOrigin},
		{name: "another name of loopback", header: map[string]string{"Origin": "http://127.0.0.1:4318"}, want: hostguard.ReasonOrigin},
		{name: "listed host, other scheme", header: map[string]string{"Origin": "http://app.example"}, want: hostguard.ReasonOrigin},
		{name: "listed host, other port", header: map[string]string{"Origin": "https://app.example:8443"}, want: hostguard.ReasonOrigin},
		{name: "listed origin as a prefix", header: map[string]string{"Origin": "https://app.example.evil"}, want: hostguard.ReasonOrigin},
		{name: "two origins", header: map[string]string{"Origin": listed + "\nhttps://evil.example"}, want: hostguard.ReasonOrigin},
		{name: "extension", header: map[string]string{"Origin": "chrome-extension://abcdef"}, want: hostguard.ReasonOrigin},
		{
			name: "a foreign page's picture", method: http.MethodGet,
			header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
			want:   hostguard.ReasonFetchSite,
		},
		{
			name: "a foreign page's frame", method: http.MethodGet,
			header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
			want:   hostguard.ReasonFetchSite,
		},
		{
			name: "a foreign page's form", method: http.MethodPost,
			header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
			want:   hostguard.ReasonFetchSite,
		},
		{name: "a page on another local port", method: http.MethodGet, header: map[string]string{"Sec-Fetch-Site": "same-site"}, want: hostguard.ReasonFetchSite},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := tc.host
			if host == "" {
				host = "localhost:4318"
			}
			checkReason(t, mustNew(t, cfg), request{method: tc.method, host: host, header: tc.header}, tc.want)
		})
	}
}

func TestEveryOriginListed(t *testing.T) {
	g := mustNew(t, hostguard.Config{Origins: []string{"*"}})
	checkReason(t, g, request{host: "localhost", header: map[string]string{"Origin": "https://any.example"}}, "")
	checkReason(t, g, request{host: "localhost", header: map[string]string{"Origin": "null"}}, "")
	checkReason(t, g, request{host: "localhost", header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, "")
	checkReason(t, g, request{host: "evil.example"}, hostguard.ReasonHost)
}

func TestNullOriginCanBeListed(t *testing.T) {
	g := mustNew(t, hostguard.Config{Origins: []string{"null"}})
	checkReason(t, g, request{host: "localhost", header: map[string]string{"Origin": "null"}}, "")
	checkReason(t, g, request{host: "localhost", header: map[string]string{"Origin": "https://any.example"}}, hostguard.ReasonOrigin)
}

func TestNewRefusesEntriesThatNeverMatch(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  hostguard.Config
		want []string
	}{
		{"host with port", hostguard.Config{Hosts: []string{"weir:4318"}}, []string{`allowed host "weir:4318"`, "without scheme, port"}},
		{"host with scheme", hostguard.Config{Hosts: []string{"http://weir"}}, []string{`allowed host "http://weir"`}},
		{"wildcard host", hostguard.Config{Hosts: []string{"*.weir"}}, []string{`allowed host "*.weir"`, "wildcard"}},
		{"empty host", hostguard.Config{Hosts: []string{""}}, []string{`allowed host ""`}},
		{"origin without scheme", hostguard.Config{Origins: []string{"app.example"}}, []string{`allowed origin "app.example"`, "want scheme, host and port"}},
		{"origin with path", hostguard.Config{Origins: []string{"https://app.example/"}}, []string{`allowed origin "https://app.example/"`}},
		{"all at once", hostguard.Config{Hosts: []string{"a:1", "b:2"}}, []string{`"a:1"`, `"b:2"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := hostguard.New(tc.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestRefusalAnswers(t *testing.T) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the refused request came through") })

	t.Run("as JSON by default", func(t *testing.T) {
		rec := httptest.NewRecorder()
		mustNew(t, hostguard.Config{}).Wrap(next).ServeHTTP(rec, request{host: "evil.example"}.build())
		want := `{"error":"Host \"evil.example\" is not a name of this weir; use localhost or 127.0.0.1, or list the name in allowed_hosts"}` + "\n"
		if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
			t.Errorf("body (-want +got):\n%s", diff)
		}
		if rec.Code != http.StatusForbidden || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("status %d, header %v", rec.Code, rec.Header())
		}
	})

	t.Run("in the protocol's shape", func(t *testing.T) {
		g := mustNew(t, hostguard.Config{Refuse: func(w http.ResponseWriter, _ *http.Request, why hostguard.Refusal) {
			w.WriteHeader(why.Status())
			_, _ = io.WriteString(w, why.Reason)
		}})
		rec := httptest.NewRecorder()
		g.Wrap(next).ServeHTTP(rec, request{host: "localhost", header: map[string]string{"Origin": "null"}}.build())
		if got := rec.Body.String(); got != hostguard.ReasonOrigin {
			t.Errorf("body = %q", got)
		}
	})

	t.Run("repeating only so much of the header", func(t *testing.T) {
		why := mustNew(t, hostguard.Config{}).Check(request{host: strings.Repeat("x", 5000)}.build())
		if why == nil || len(why.Detail) > 300 {
			t.Errorf("refusal = %v", why)
		}
	})
}

func TestCORS(t *testing.T) {
	const listed = "https://app.example"
	g := mustNew(t, hostguard.Config{Origins: []string{listed}})
	served := false
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served = true
		w.WriteHeader(http.StatusOK)
	}))
	do := func(method string, header map[string]string) *httptest.ResponseRecorder {
		served = false
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request{method: method, host: "localhost:4318", header: header}.build())
		return rec
	}

	t.Run("preflight of a listed origin is answered", func(t *testing.T) {
		rec := do(http.MethodOptions, map[string]string{
			"Origin": listed, "Access-Control-Request-Method": "POST",
			"Access-Control-Request-Headers": "content-type,x-api-key",
		})
		want := http.Header{
			"Access-Control-Allow-Origin":   {listed},
			"Access-Control-Allow-Methods":  {"POST"},
			"Access-Control-Allow-Headers":  {"content-type,x-api-key"},
			"Access-Control-Expose-Headers": {"Retry-After"},
			"Access-Control-Max-Age":        {"7200"},
			"Vary":                          {"Origin", "Access-Control-Request-Method, Access-Control-Request-Headers"},
		}
		if diff := cmp.Diff(want, rec.Header()); diff != "" || rec.Code != http.StatusNoContent || served {
			t.Errorf("status %d, served %t, header (-want +got):\n%s", rec.Code, served, diff)
		}
	})
	t.Run("preflight of a foreign origin is refused without CORS headers", func(t *testing.T) {
		rec := do(http.MethodOptions, map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
		if rec.Code != http.StatusForbidden || rec.Header().Get("Access-Control-Allow-Origin") != "" || served {
			t.Errorf("status %d, header %v", rec.Code, rec.Header())
		}
	})
	t.Run("a listed origin may read the answer", func(t *testing.T) {
		rec := do(http.MethodPost, map[string]string{"Origin": listed})
		if !served || rec.Header().Get("Access-Control-Allow-Origin") != listed || rec.Header().Get("Vary") != "Origin" {
			t.Errorf("served %t, header %v", served, rec.Header())
		}
	})
	t.Run("a program's OPTIONS goes through", func(t *testing.T) {
		do(http.MethodOptions, nil)
		if !served {
			t.Error("not served")
		}
	})
}

// TestOverRealListeners makes sure the address the check looks for is where
// net/http puts it.
func TestOverRealListeners(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			var lc net.ListenConfig
			ln, err := lc.Listen(t.Context(), network, addr)
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(mustNew(t, hostguard.Config{}).Wrap(http.NotFoundHandler()))
			srv.Listener = ln
			srv.Start()
			defer srv.Close()

			client := &http.Client{Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, network, ln.Addr().String())
				},
			}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://evil.example/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			want := http.StatusForbidden
			if network == "unix" {
				want = http.StatusNotFound // the handler's own answer
			}
			if resp.StatusCode != want {
				t.Errorf("status = %d, want %d", resp.StatusCode, want)
			}
		})
	}
}
