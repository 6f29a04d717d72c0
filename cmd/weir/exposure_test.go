package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runnableTest is a configuration by its environment.
type runnableTest struct {
	name string
	env  map[string]string
	want []string // parts of the message; none: runnable
}

func runnableTests() []runnableTest {
	const key = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	return []runnableTest{
		{name: "defaults"},
		{name: "loopback with a key", env: map[string]string{"LANGSMITH_API_KEY": key}},
		{name: "other loopback addresses", env: map[string]string{
			"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": "localhost:1", "WEIR_HTTP_ADDR": "[::1]:2", "WEIR_ADMIN_ADDR": "127.9.9.9:3",
		}},
		{name: "sockets", env: map[string]string{
			"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": "unix:/a", "WEIR_HTTP_ADDR": "off", "WEIR_ADMIN_ADDR": "unix:/b",
		}},
		{name: "open without a key of its own", env: map[string]string{"WEIR_GRPC_ADDR": ":4317", "WEIR_HTTP_ADDR": "0.0.0.0:4318"}},
		{
			name: "open with a key", env: map[string]string{"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": ":4317"},
			want: []string{"grpc_addr :4317 (environment variable WEIR_GRPC_ADDR)", "lsv2_…89 (environment variable LANGSMITH_API_KEY)", "--insecure-ingest"},
		},
		{
			name: "a host name may be anywhere", env: map[string]string{"LANGSMITH_API_KEY": key, "WEIR_HTTP_ADDR": "weir.internal:4318"},
			want: []string{"http_addr weir.internal:4318"},
		},
		{
			name: "both open", env: map[string]string{"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": "[::]:1", "WEIR_HTTP_ADDR": "10.0.0.1:2"},
			want: []string{"grpc_addr [::]:1", "http_addr 10.0.0.1:2"},
		},
		{name: "open on purpose", env: map[string]string{"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": ":4317", "WEIR_INSECURE_INGEST": "true"}},
		{
			name: "open admin listener", env: map[string]string{"WEIR_ADMIN_ADDR": "0.0.0.0:4319"},
			want: []string{"admin_addr 0.0.0.0:4319", "WEIR_ADMIN_TOKEN"},
		},
		{
			name: "insecure ingest does not open the admin listener",
			env:  map[string]string{"WEIR_ADMIN_ADDR": "0.0.0.0:4319", "WEIR_INSECURE_INGEST": "true"},
			want: []string{"admin_addr 0.0.0.0:4319"},
		},
		{name: "open admin listener with a token", env: map[string]string{"WEIR_ADMIN_ADDR": "0.0.0.0:4319", "WEIR_ADMIN_TOKEN": "t"}},
		{
			name: "open admin listener with client certificates",
			env:  map[string]string{"WEIR_ADMIN_ADDR": "0.0.0.0:4319", "WEIR_ADMIN_TLS_CERT_FILE": "/c", "WEIR_ADMIN_TLS_KEY_FILE": "/k", "WEIR_ADMIN_TLS_CLIENT_CA_FILE": "/a"},
		},
		{
			name: "TLS alone tells nobody apart",
			env: map[string]string{
				"WEIR_ADMIN_ADDR": "0.0.0.0:4319", "WEIR_ADMIN_TLS_CERT_FILE": "/c", "WEIR_ADMIN_TLS_KEY_FILE": "/k",
				"WEIR_GRPC_ADDR": ":4317", "WEIR_TLS_CERT_FILE": "/c", "WEIR_TLS_KEY_FILE": "/k", "LANGSMITH_API_KEY": key,
			},
			want: []string{"admin_addr 0.0.0.0:4319", "admin_tls_client_ca_file", "grpc_addr :4317", "tls_client_ca_file"},
		},
		{
			name: "certificates of one listener do not open the other",
			env: map[string]string{
				"WEIR_ADMIN_ADDR": "0.0.0.0:4319", "WEIR_TLS_CERT_FILE": "/c", "WEIR_TLS_KEY_FILE": "/k", "WEIR_TLS_CLIENT_CA_FILE": "/a",
			},
			want: []string{"admin_addr 0.0.0.0:4319"},
		},
		{name: "open with a key and an ingest token", env: map[string]string{"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": ":4317", "WEIR_INGEST_TOKEN": "weir_t"}},
		{name: "open with a key and client certificates", env: map[string]string{
			"LANGSMITH_API_KEY": key, "WEIR_GRPC_ADDR": ":4317", "WEIR_TLS_CERT_FILE": "/c", "WEIR_TLS_KEY_FILE": "/k", "WEIR_TLS_CLIENT_CA_FILE": "/a",
		}},
		{
			name: "one token for all", env: map[string]string{"WEIR_INGEST_TOKEN": "t", "WEIR_ADMIN_TOKEN": "t"},
			want: []string{"ingest_token (environment variable WEIR_INGEST_TOKEN)", "take another"},
		},
		{
			name: "the key as token", env: map[string]string{"WEIR_INGEST_TOKEN": key, "LANGSMITH_API_KEY": key},
			want: []string{"ingest_token", "take another"},
		},
		{
			name: "files that need others", env: map[string]string{"WEIR_TLS_CERT_FILE": "/c", "WEIR_ADMIN_TLS_KEY_FILE": "/k", "WEIR_ADMIN_CLIENT_CERT_FILE": "/d"},
			want: []string{
				"tls_cert_file (environment variable WEIR_TLS_CERT_FILE) is set and tls_key_file is not", "admin_tls_key_file (",
				"admin_client_cert_file (",
			},
		},
		{
			name: "authorities without a certificate", env: map[string]string{"WEIR_TLS_CLIENT_CA_FILE": "/a"},
			want: []string{"tls_client_ca_file (", "tls_cert_file is not"},
		},
		{
			name: "a URL to listen on", env: map[string]string{"WEIR_ADMIN_ADDR": "https://weir.internal:4319"},
			want: []string{"admin_addr https://weir.internal:4319", "0.0.0.0:4319"},
		},
		{name: "open metrics listener", env: map[string]string{"WEIR_METRICS_ADDR": "0.0.0.0:9090"}},
		{
			name: "nowhere to listen", env: map[string]string{"WEIR_GRPC_ADDR": "off", "WEIR_HTTP_ADDR": "off"},
			want: []string{"nowhere to take traces"},
		},
		{
			name: "own HTTP listener as upstream", env: map[string]string{"LANGSMITH_ENDPOINT": "http://localhost:4318"},
			want: []string{"upstream http://localhost:4318 (environment variable LANGSMITH_ENDPOINT) is this weir's own http_addr", "WEIR_UPSTREAM"},
		},
		{
			name: "own listener on every address, with a path", env: map[string]string{"LANGSMITH_ENDPOINT": "http://127.0.0.1:80/api/v1", "WEIR_HTTP_ADDR": ":80"},
			want: []string{"own http_addr"},
		},
		{
			name: "own listener by the unspecified address", env: map[string]string{"WEIR_UPSTREAM": "http://0.0.0.0:4318"},
			want: []string{"own http_addr"},
		},
		{name: "own variable wins over the shared one", env: map[string]string{
			"LANGSMITH_ENDPOINT": "http://localhost:4318", "WEIR_UPSTREAM": "http://smith.internal:4318",
		}},
		{name: "another port of this machine", env: map[string]string{"WEIR_UPSTREAM": "http://localhost:1984"}},
		{name: "same port of another machine", env: map[string]string{"WEIR_UPSTREAM": "http://10.0.0.1:4318"}},
	}
}

func TestCheckRunnable(t *testing.T) {
	for _, tt := range runnableTests() {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			in.getenv = envOf(tt.env)
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			err = checkRunnable(s)
			if len(tt.want) == 0 {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("not refused")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("message %q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "0123456789") {
				t.Error("the message shows the key")
			}
		})
	}
}

func TestSecretsOnTheWireAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	open := writeFile(t, filepath.Join(dir, "open.key"), "x")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"loopback":         {map[string]string{"WEIR_ADMIN_TOKEN": "t", "WEIR_INGEST_TOKEN": "u"}, nil},
		"tokens in clear":  {map[string]string{"WEIR_ADMIN_TOKEN": "t", "WEIR_INGEST_TOKEN": "u", "WEIR_ADMIN_ADDR": ":1", "WEIR_HTTP_ADDR": ":2"}, []string{"admin_addr :1", "http_addr :2"}},
		"with certificate": {map[string]string{"WEIR_ADMIN_TOKEN": "t", "WEIR_ADMIN_ADDR": ":1", "WEIR_ADMIN_TLS_CERT_FILE": "/c"}, nil},
		"open key":         {map[string]string{"WEIR_TLS_KEY_FILE": open}, []string{"chmod 600"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputIn(t)
			in.getenv = envOf(tc.env)
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.warnings) != len(tc.want) {
				t.Fatalf("warnings %q, want %d", s.warnings, len(tc.want))
			}
			for i, part := range tc.want {
				if !strings.Contains(s.warnings[i], part) {
					t.Errorf("warning %q lacks %q", s.warnings[i], part)
				}
			}
		})
	}
}

// TestStartRefusesToBeOpen starts the command itself: it ends before it listens.
func TestStartRefusesToBeOpen(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"admin":  {"WEIR_ADMIN_ADDR": "0.0.0.0:0"},
		"ingest": {"WEIR_GRPC_ADDR": "0.0.0.0:0", "LANGSMITH_API_KEY": "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"},
	} {
		sys := newTestSystem(t, env)
		env["WEIR_DATA_DIR"] = filepath.Join(t.TempDir(), "data")
		if code := sys.execute(t, "run"); code != exitUsage || !strings.Contains(sys.err.String(), "other machines can reach it") {
			t.Errorf("%s: exit code %d: %s", name, code, sys.err)
		}
	}
}
