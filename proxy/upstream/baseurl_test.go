package upstream

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseBaseURLKeepsWhatWorks(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"cloud", "https://api.smith.langchain.com", "https://api.smith.langchain.com"},
		{"another region", "https://eu.api.smith.langchain.com", "https://eu.api.smith.langchain.com"},
		{"trailing slashes", "https://api.smith.langchain.com//", "https://api.smith.langchain.com"},
		{"blanks and quotes", " \t\"https://api.smith.langchain.com/\" \n", "https://api.smith.langchain.com"},
		{"single quotes", "'https://api.smith.langchain.com'", "https://api.smith.langchain.com"},
		{"letter case", "HTTPS://API.Smith.LangChain.com", "https://api.smith.langchain.com"},
		{"cloud with the API prefix", "https://api.smith.langchain.com/api/v1/", "https://api.smith.langchain.com/api/v1"},
		{"self-hosted", "https://smith.corp.example/api/v1", "https://smith.corp.example/api/v1"},
		{"self-hosted, short prefix", "https://smith.corp.example/api", "https://smith.corp.example/api"},
		{"self-hosted below a path, case kept", "https://corp.example/LangSmith/api/v1", "https://corp.example/LangSmith/api/v1"},
		{"default port of https", "https://smith.corp.example:443", "https://smith.corp.example"},
		{"default port of http", "http://smith.corp.example:80/api", "http://smith.corp.example/api"},
		{"other port", "http://localhost:1984", "http://localhost:1984"},
		{"IPv6", "http://[::1]:1984/", "http://[::1]:1984"},
		{"a host that only sounds like LangSmith", "https://smith.langchain.com.corp.example", "https://smith.langchain.com.corp.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseBaseURL(tt.raw)
			if err != nil || got != tt.want {
				t.Fatalf("ParseBaseURL(%q) = %q, %v, want %q", tt.raw, got, err, tt.want)
			}
			again, err := ParseBaseURL(got)
			if err != nil || again != got {
				t.Errorf("parsed again: %q, %v, want it unchanged", again, err)
			}
		})
	}
}

func TestParseBaseURLSaysWhatWouldBeRight(t *testing.T) {
	tests := []struct {
		name, raw string
		says      []string
	}{
		{"nothing", "  ", []string{"empty", "https://api.smith.langchain.com"}},
		{"quotes only", `""`, []string{"empty"}},
		{"no scheme", "api.smith.langchain.com/api/v1", []string{"no scheme", "write https://api.smith.langchain.com/api/v1"}},
		{"no scheme, local", "localhost:1984", []string{"no scheme", "write http://localhost:1984"}},
		{"other scheme", "ftp://smith.corp.example", []string{`"ftp"`, "https://smith.corp.example"}},
		{"gRPC habit", "grpc://smith.corp.example:4317", []string{`"grpc"`, "http and https"}},
		{"angle brackets", "<https://api.smith.langchain.com>", []string{"angle brackets"}},
		{"unexpanded variable", "https://${HOST}/api", []string{"not expanded"}},
		{"stray quote", `https://api.smith.langchain.com"`, []string{"quotes"}},
		{"no host", "https:///api/v1", []string{"names no host"}},
		{"dots for a host", "https://...", []string{"names no host"}},
		{"blank inside", "https://smith corp.example", []string{"cannot be read"}},
		{"no port after the colon", "https://smith.corp.example:", []string{"colon"}},
		{"port too large", "https://smith.corp.example:70000", []string{"1 to 65535"}},
		{"port zero", "https://smith.corp.example:0", []string{"1 to 65535"}},
		{"query", "https://smith.corp.example/api?key=SECRET", []string{"query", "write https://smith.corp.example/api"}},
		{"empty query", "https://smith.corp.example/api?", []string{"query"}},
		{"fragment", "https://smith.corp.example/#SECRET", []string{"fragment", "write https://smith.corp.example"}},
		{"credentials", "https://SECRET:SECRET@smith.corp.example", []string{"user name or password", "write https://smith.corp.example"}},
		{"credentials, no scheme", "SECRET:SECRET@smith.corp.example", []string{"no scheme", "https://smith.corp.example"}},
		{"credentials, unreadable", "https://SECRET:SECRET@smith.corp.example:x", []string{"cannot be read"}},
		{"web page", "https://smith.langchain.com", []string{"web page", "write https://api.smith.langchain.com"}},
		{"web page with a path", "https://smith.langchain.com/o/1234/projects", []string{"write https://api.smith.langchain.com"}},
		{"web page of a region", "https://eu.smith.langchain.com/", []string{"write https://eu.api.smith.langchain.com"}},
		{"another LangSmith host", "https://status.smith.langchain.com", []string{"no API host", "apac.api"}},
		{"the documentation", "https://docs.smith.langchain.com", []string{"web page", "write https://api.smith.langchain.com"}},
		{"cloud without TLS", "http://api.smith.langchain.com", []string{"unencrypted", "write https://api.smith.langchain.com"}},
		{"OTLP endpoint", "https://api.smith.langchain.com/otel/v1/traces/", []string{"ends in /otel/v1/traces", "write https://api.smith.langchain.com"}},
		{"OTLP base", "https://smith.corp.example/api/v1/otel", []string{"ends in /otel", "write https://smith.corp.example/api/v1"}},
		{"runs endpoint", "https://api.smith.langchain.com/runs/multipart", []string{"ends in /runs/multipart"}},
		{"prefix twice", "https://smith.corp.example/api/v1/api/v1", []string{"twice", "write https://smith.corp.example/api/v1"}},
		{"empty path segment", "https://smith.corp.example//api/v1", []string{"segments", "write https://smith.corp.example/api/v1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseBaseURL(tt.raw)
			if err == nil {
				t.Fatalf("ParseBaseURL(%q) = %q, want an error", tt.raw, got)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("error %q repeats a secret", err)
			}
		})
	}
}

func TestIsSelfNoticesItsOwnListeners(t *testing.T) {
	m := machine{name: "buildbox", addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}}
	tests := []struct {
		name, base string
		listen     []string
		want       bool
	}{
		{"same address", "http://127.0.0.1:4318", []string{"127.0.0.1:4317", "127.0.0.1:4318"}, true},
		{"with a path", "http://127.0.0.1:4318/api/v1", []string{"127.0.0.1:4318"}, true},
		{"localhost", "http://localhost:4318", []string{"127.0.0.1:4318"}, true},
		{"localhost with a dot", "http://LOCALHOST.:4318", []string{"127.0.0.1:4318"}, true},
		{"a name below localhost", "http://weir.localhost:4318", []string{"127.0.0.1:4318"}, true},
		{"listening on localhost", "http://[::1]:4318", []string{"localhost:4318"}, true},
		{"IPv6 loopback against IPv4", "http://[::1]:4318", []string{"127.0.0.1:4318"}, false},
		{"unspecified as target", "http://0.0.0.0:4318", []string{"127.0.0.1:4318"}, true},
		{"unspecified IPv6 as target", "http://[::]:4318", []string{"127.0.0.1:4318"}, true},
		{"listening everywhere", "http://192.0.2.7:4318", []string{":4318"}, true},
		{"listening on 0.0.0.0", "http://192.0.2.7:4318", []string{"0.0.0.0:4318"}, true},
		{"listening on [::]", "http://127.0.0.2:4318", []string{"[::]:4318"}, true},
		{"own interface", "http://192.0.2.7:4318", []string{"192.0.2.7:4318"}, true},
		{"own interface, mapped", "http://[::ffff:192.0.2.7]:4318", []string{"192.0.2.7:4318"}, true},
		{"own interface, loopback listener", "http://192.0.2.7:4318", []string{"127.0.0.1:4318"}, false},
		{"own name", "http://BuildBox:4318", []string{"192.0.2.7:4318"}, true},
		{"other loopback address", "http://127.0.0.2:4318", []string{"127.0.0.1:4318"}, false},
		{"other port", "http://127.0.0.1:1984", []string{"127.0.0.1:4318"}, false},
		{"other machine", "http://192.0.2.8:4318", []string{":4318"}, false},
		{"cloud", "https://api.smith.langchain.com", []string{":443"}, false},
		{"default port", "http://localhost", []string{"127.0.0.1:80"}, true},
		{"default TLS port", "https://localhost", []string{"127.0.0.1:80"}, false},
		{"unix socket", "http://localhost:4318", []string{"unix:/run/weir.sock"}, false},
		{"no listeners", "http://localhost:4318", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.isSelf(tt.base, tt.listen); got != tt.want {
				t.Errorf("isSelf(%q, %q) = %v, want %v", tt.base, tt.listen, got, tt.want)
			}
		})
	}
	if !IsSelf("http://127.0.0.1:4318", []string{"127.0.0.1:4318"}) {
		t.Error("IsSelf on this machine = false, want true")
	}
}
