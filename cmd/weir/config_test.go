package main

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inputIn is an empty configuration in an empty directory.
func inputIn(t *testing.T) configInput {
	t.Helper()
	return configInput{getenv: func(string) string { return "" }, cwd: t.TempDir()}
}

func envOf(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBadFilesAreExplained pairs each bad file with the whole message it
// earns.
func TestBadFilesAreExplained(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bad.yaml")
		t.Run(name, func(t *testing.T) {
			// A copy, so that no message depends on where the tree is.
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := inputIn(t)
			in.file = filepath.Base(file)
			writeFile(t, filepath.Join(in.cwd, in.file), string(content))
			_, err = loadSettings(in)
			if _, ok := errors.AsType[*configError](err); !ok {
				t.Fatalf("loadSettings = %v, want a *configError", err)
			}
			message := strings.ReplaceAll(err.Error(), in.cwd, "DIR")
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", message+"\n")
		})
	}
}

func TestGoodFileIsTaken(t *testing.T) {
	in := inputIn(t)
	writeFile(t, filepath.Join(in.cwd, "key"), " lsv2_pt_0123456789abcdef0123456789abcdef_0123456789\n")
	in.file = writeFile(t, filepath.Join(in.cwd, "weir.yaml"), `# every shape of value
grpc_addr: unix:run/weir.sock
http_addr: "[::1]:14318"
metrics_addr: off
upstream: 'https://eu.example.com/api/v1/'
api_key_file: key
project: "2024"
data_dir: ~/weir
buffer_max: 1.5GiB
buffer_min_free: 1048576
sync: false
otlp_encoding: ZSTD
cors:
  - https://app.example.com/
  - http://localhost:3000
allowed_hosts: weir.internal
forward: {concurrency: 3, linger: 0s}
limits:
  max_spans: 7
  receive_timeout: 1m30s
log_level: debug
`)
	in.getenv = envOf(map[string]string{"HOME": "/home/ada"})
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	type picked struct {
		GRPC, HTTP, Metrics listenAddr
		Upstream, Key       string
		Project, DataDir    string
		Max, MinFree        int64
		Sync                bool
		Encoding            string
		CORS, Hosts         []string
		Forward             forwardSettings
		Spans               int
		Receive             time.Duration
		Level               slog.Level
	}
	want := picked{
		GRPC: listenAddr("unix:" + filepath.Join(in.cwd, "run", "weir.sock")), HTTP: "[::1]:14318", Metrics: "",
		Upstream: "https://eu.example.com/api/v1", Key: "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789",
		Project: "2024", DataDir: "/home/ada/weir", Max: 3 << 29, MinFree: 1 << 20, Sync: false, Encoding: "zstd",
		CORS: []string{"https://app.example.com", "http://localhost:3000"}, Hosts: []string{"weir.internal"},
		Forward: forwardSettings{Concurrency: 3, MaxRequestBytes: 4 << 20}, Spans: 7, Receive: 90 * time.Second,
		Level: slog.LevelDebug,
	}
	got := picked{
		GRPC: s.GRPCAddr, HTTP: s.HTTPAddr, Metrics: s.MetricsAddr, Upstream: s.Upstream, Key: s.APIKey.reveal(),
		Project: s.Project, DataDir: s.DataDir, Max: s.BufferMaxBytes, MinFree: s.BufferMinFreeBytes, Sync: s.Sync,
		Encoding: s.OTLPEncoding, CORS: s.CORS, Hosts: s.AllowedHosts, Forward: s.Forward, Spans: s.Limits.MaxSpans,
		Receive: s.Limits.ReceiveTimeout, Level: s.LogLevel,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

// samples are two values for each setting that differ from each other and
// from the default, as text.
var samples = map[string][2]string{
	"grpc_addr": {"127.0.0.1:1", "127.0.0.1:2"}, "http_addr": {"127.0.0.1:3", "127.0.0.1:4"},
	"admin_addr": {"127.0.0.1:5", "127.0.0.1:6"}, "metrics_addr": {"127.0.0.1:7", "127.0.0.1:8"},
	"upstream": {"http://one.example.com", "http://two.example.com"},
	"project":  {"one", "two"}, "workspace": {"one", "two"}, "data_dir": {"/one", "/two"},
	"buffer_max": {"1GiB", "2GiB"}, "buffer_min_free": {"1GiB", "2GiB"}, "sync": {"false", "true"},
	"otlp_encoding": {"gzip", "zstd"}, "request_timeout": {"5s", "6s"}, "ca_file": {"/one", "/two"},
	"forward.concurrency": {"5", "6"}, "forward.max_request_bytes": {"1MiB", "2MiB"}, "forward.linger": {"5s", "6s"},
	"limits.max_message_bytes": {"1MiB", "2MiB"}, "limits.max_spans": {"5", "6"}, "limits.max_connections": {"5", "6"},
	"limits.max_streams": {"5", "6"}, "limits.max_header_bytes": {"5KiB", "6KiB"}, "limits.receive_timeout": {"5s", "6s"},
	"limits.max_inflight_bytes": {"1MiB", "2MiB"}, "limits.max_attachment_bytes": {"1MiB", "2MiB"},
	"coalesce": {"5s", "6s"}, "lend_key": {"true", "false"}, "insecure_ingest": {"true", "false"},
	"probe_regions": {"https://eu.api.smith.langchain.com", "langsmith"},
	"cors":          {"http://one", "http://two"}, "allowed_hosts": {"one", "two"},
	"quota_traces": {"7000", "none"}, "quota_policy": {"drop", "pace"}, "quota.plan": {"plus", "custom"},
	"quota.events_per_hour": {"1000", "none"}, "quota.bytes_per_hour": {"1GB", "2GB"},
	"quota.hold_release_share": {"0.5", "1"}, "quota.hold_max_age": {"48h", "72h"},
	"quota.projects": {"one=5,two=6", "three=7"}, "quota.sample_from": {"0.5", "1"}, "quota.sample_rate": {"0.25", "0.001"},
	"quota.price_per_1000_usd": {"0.5", "0"}, "quota.ask_langsmith": {"false", "true"},
	"start_time_window": {"enforced", "off"}, "start_time_window_hours": {"12", "48"}, "start_time_window_policy": {"quarantine", "restamp"},
	"tls_cert_file": {"/one", "/two"}, "tls_key_file": {"/one", "/two"}, "tls_client_ca_file": {"/one", "/two"},
	"admin_tls_cert_file": {"/one", "/two"}, "admin_tls_key_file": {"/one", "/two"}, "admin_tls_client_ca_file": {"/one", "/two"},
	"admin_ca_file": {"/one", "/two"}, "admin_client_cert_file": {"/one", "/two"}, "admin_client_key_file": {"/one", "/two"},
	"log_level": {"warn", "error"}, "log_format": {"json", "text"}, "shutdown_timeout": {"5s", "6s"},
}

// TestPrecedence gives every setting in every place and takes the places away
// from the top: flag, environment, file.
func TestPrecedence(t *testing.T) {
	for i := range table {
		st := &table[i]
		if strings.HasSuffix(st.name, fileSuffix) && lookup(strings.TrimSuffix(st.name, fileSuffix)) != nil || st.onlyEnv {
			continue // TestSecrets
		}
		t.Run(st.name, func(t *testing.T) {
			two, ok := samples[st.name]
			if !ok {
				t.Fatalf("no samples for %s", st.name)
			}
			in := inputIn(t)
			env := map[string]string{}
			in.getenv = envOf(env)
			yamlLine := st.name + ": " + two[0] + "\n"
			if section, field, nested := strings.Cut(st.name, "."); nested {
				yamlLine = section + ":\n  " + field + ": " + two[0] + "\n"
			}
			writeFile(t, filepath.Join(in.cwd, "weir.yaml"), yamlLine)
			expect := func(text string, kind sourceKind) {
				t.Helper()
				s, err := loadSettings(in)
				if err != nil {
					t.Fatal(err)
				}
				if got := st.bind(s).String(); got != text {
					t.Errorf("value %s, want %s", got, text)
				}
				if got := s.origins[st.name].kind; got != kind {
					t.Errorf("origin %v, want %v", got, kind)
				}
			}
			expect(two[0], sourceFile)
			for _, name := range st.env()[len(st.env())-1:] {
				env[name] = two[1]
				expect(two[1], sourceEnv)
			}
			env[st.env()[0]] = two[0]
			expect(two[0], sourceEnv)
			in.flags = map[string]string{st.name: two[1]}
			expect(two[1], sourceFlag)
		})
	}
}

func TestBlankVariablesCountAsUnset(t *testing.T) {
	in := inputIn(t)
	in.getenv = envOf(map[string]string{
		"WEIR_UPSTREAM": "", "LANGSMITH_ENDPOINT": " ", "LANGCHAIN_ENDPOINT": "https://old.example.com",
		"LANGSMITH_API_KEY": "\t", "WEIR_GRPC_ADDR": "",
	})
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	if s.Upstream != "https://old.example.com" || s.APIKey != "" || s.GRPCAddr != "127.0.0.1:4317" {
		t.Errorf("upstream %s, key %q, grpc %s", s.Upstream, s.APIKey, s.GRPCAddr)
	}
	if got, want := s.from("upstream"), "environment variable LANGCHAIN_ENDPOINT"; got != want {
		t.Errorf("upstream from %s, want %s", got, want)
	}
}

func TestBadVariablesAndFlagsAreNamed(t *testing.T) {
	tests := []struct {
		name  string
		env   map[string]string
		flags map[string]string
		want  string
	}{
		{
			name: "variable",
			env:  map[string]string{"WEIR_FORWARD_LINGER": "5"},
			want: "environment variable WEIR_FORWARD_LINGER: forward.linger: 5 has no unit; " +
				"give a duration from 0s to 1m with its unit, written like 200ms, 30s or 1m30s",
		},
		{
			name: "variable shared with the SDKs",
			env:  map[string]string{"LANGSMITH_ENDPOINT": "smith"},
			want: `environment variable LANGSMITH_ENDPOINT: upstream: URL has no scheme ("smith"); write https://smith`,
		},
		{
			name: "key with a line break is not shown",
			env:  map[string]string{"LANGSMITH_API_KEY": "lsv2_pt_abc\ndef"},
			want: "environment variable LANGSMITH_API_KEY: api_key: it holds a space, a line break or a character outside ASCII " +
				"(the value is not shown); give an API key such as lsv2_pt_...",
		},
		{
			name:  "flag",
			flags: map[string]string{"limits.max_spans": "many"},
			want:  `flag --limits-max-spans: limits.max_spans: "many" is not a whole number; give a whole number from 1 to 10000000`,
		},
		{
			name:  "empty flag",
			flags: map[string]string{"upstream": ""},
			want:  "flag --upstream: upstream: it is empty; give a base URL such as https://api.smith.langchain.com",
		},
		{
			name: "all at once",
			env:  map[string]string{"WEIR_SYNC": "maybe", "WEIR_LOG_LEVEL": "loud"},
			want: `environment variable WEIR_SYNC: sync: "maybe" is neither true nor false; give true or false` + "\n" +
				`environment variable WEIR_LOG_LEVEL: log_level: "loud" is not known; give one of debug, info, warn, error`,
		},
		{
			name: "configuration file that is not there",
			env:  map[string]string{"WEIR_CONFIG": "/nonexistent/weir.yaml"},
			want: "environment variable WEIR_CONFIG: cannot read the configuration file: " +
				"open /nonexistent/weir.yaml: no such file or directory; give a readable YAML file",
		},
		{
			name: "two listeners on one address",
			env:  map[string]string{"WEIR_HTTP_ADDR": "127.0.0.1:4317"},
			want: "environment variable WEIR_HTTP_ADDR: http_addr: 127.0.0.1:4317 is already grpc_addr (default); " +
				"give each listener an address of its own, or switch one off with off",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			in.getenv, in.flags = envOf(tt.env), tt.flags
			_, err := loadSettings(in)
			if err == nil {
				t.Fatal("loadSettings took it")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("message differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultDataDir(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"home", map[string]string{"HOME": "/home/ada"}, "/home/ada/.local/state/weir"},
		{"XDG state home", map[string]string{"HOME": "/home/ada", "XDG_STATE_HOME": "/state"}, "/state/weir"},
		{"relative XDG value is ignored", map[string]string{"HOME": "/home/ada", "XDG_STATE_HOME": "state"}, "/home/ada/.local/state/weir"},
		{"systemd", map[string]string{"STATE_DIRECTORY": "/var/lib/weir:/var/lib/other", "HOME": "/root"}, "/var/lib/weir"},
		{"service without a home", nil, "/var/lib/weir"},
		{"home of a user without one", map[string]string{"HOME": "/"}, "/var/lib/weir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			in.getenv = envOf(tt.env)
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			if s.DataDir != tt.want {
				t.Errorf("data_dir %s, want %s", s.DataDir, tt.want)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	const fileKey, envKey = "lsv2_pt_ffffffffffffffffffffffffffffffff_ffffffffff", "lsv2_pt_eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee_eeeeeeeeee"
	dir := t.TempDir()
	key := writeFile(t, filepath.Join(dir, "key"), fileKey+"\n")
	inFile := "api_key_file: " + key + "\n"
	tests := []struct {
		name  string
		env   map[string]string
		flags map[string]string
		yaml  string
		want  string
		from  string
	}{
		{name: "none"},
		{name: "variable", env: map[string]string{"LANGSMITH_API_KEY": envKey}, want: envKey, from: "environment variable LANGSMITH_API_KEY"},
		{name: "older variable", env: map[string]string{"LANGCHAIN_API_KEY": `"` + envKey + `"`}, want: envKey, from: "environment variable LANGCHAIN_API_KEY"},
		{name: "variable wins over the file's field", env: map[string]string{"LANGSMITH_API_KEY": envKey}, yaml: inFile, want: envKey, from: "environment variable LANGSMITH_API_KEY"},
		{name: "file's field", yaml: inFile, want: fileKey, from: "weir.yaml:1"},
		{
			name: "weir's own variable wins over the shared one",
			env:  map[string]string{"LANGSMITH_API_KEY": envKey, "WEIR_API_KEY_FILE": key}, want: fileKey, from: "environment variable WEIR_API_KEY_FILE",
		},
		{
			name: "flag wins over variable", env: map[string]string{"LANGSMITH_API_KEY": envKey},
			flags: map[string]string{"api_key_file": key}, want: fileKey, from: "flag --api-key-file",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			in.getenv, in.flags = envOf(tt.env), tt.flags
			if tt.yaml != "" {
				writeFile(t, filepath.Join(in.cwd, "weir.yaml"), tt.yaml)
			}
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			if s.APIKey.reveal() != tt.want {
				t.Errorf("key %q, want %q", s.APIKey.reveal(), tt.want)
			}
			if tt.from != "" && s.from("api_key") != tt.from {
				t.Errorf("from %s, want %s", s.from("api_key"), tt.from)
			}
		})
	}
}

func TestSecretFilesAreChecked(t *testing.T) {
	tests := []struct {
		name, content, want string
	}{
		{"empty", " \n", "is empty"},
		{"two lines", "one\ntwo\n", "it holds a space, a line break"},
		{"too large", strings.Repeat("k", maxSecretBytes+1), "is larger than 16KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			path := writeFile(t, filepath.Join(in.cwd, "token"), tt.content)
			in.flags = map[string]string{"admin_token_file": path}
			_, err := loadSettings(in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWorldReadableSecretIsWarnedOf(t *testing.T) {
	in := inputIn(t)
	path := writeFile(t, filepath.Join(in.cwd, "token"), "a-token-of-some-length\n")
	in.flags = map[string]string{"admin_token_file": path}
	s, err := loadSettings(in)
	if err != nil || len(s.warnings) != 0 {
		t.Fatalf("private file: warnings %q, error %v", s.warnings, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err = loadSettings(in)
	if err != nil || len(s.warnings) != 1 || !strings.Contains(s.warnings[0], "chmod 600") {
		t.Errorf("readable file: warnings %q, error %v", s.warnings, err)
	}
}

func TestMisnamedFileIsWarnedOf(t *testing.T) {
	in := inputIn(t)
	writeFile(t, filepath.Join(in.cwd, "weir.yml"), "project: x\n")
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"weir.yml is not read: rename it to weir.yaml, or name it with --config"}; !cmp.Equal(want, s.warnings) {
		t.Errorf("warnings %q, want %q", s.warnings, want)
	}
}

func TestReloadReadsTheFileAgain(t *testing.T) {
	in := inputIn(t)
	path := writeFile(t, filepath.Join(in.cwd, "weir.yaml"), "log_level: info\n")
	before, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "log_level: debug\n")
	after, err := before.reload()
	if err != nil {
		t.Fatal(err)
	}
	if before.LogLevel != slog.LevelInfo || after.LogLevel != slog.LevelDebug {
		t.Errorf("level %v then %v, want info then debug", before.LogLevel, after.LogLevel)
	}
	writeFile(t, path, "log_level: loud\n")
	if _, err := after.reload(); err == nil {
		t.Error("reload took a bad file")
	}
}

// TestTableIsConsistent checks what the table's users rely on.
func TestTableIsConsistent(t *testing.T) {
	names, groups := map[string]bool{}, map[string]bool{}
	variables := map[string]string{}
	last := ""
	for i := range table {
		st := &table[i]
		if names[st.name] {
			t.Errorf("%s is there twice", st.name)
		}
		names[st.name] = true
		if st.group != last && groups[st.group] {
			t.Errorf("%s stands apart from its group", st.name)
		}
		groups[st.group], last = true, st.group
		for _, v := range st.env() {
			if other, used := variables[v]; used {
				t.Errorf("%s and %s share %s", st.name, other, v)
			}
			variables[v] = st.name
		}
		if st.help == "" || !strings.HasSuffix(st.help, ".") {
			t.Errorf("%s: help %q is not a sentence", st.name, st.help)
		}
		if st.onlyEnv && lookup(st.name+fileSuffix) == nil {
			t.Errorf("secret %s has no file setting", st.name)
		}
	}
	for name := range maps.Keys(samples) {
		if !names[name] {
			t.Errorf("sample for unknown setting %s", name)
		}
	}
}

// FuzzConfigFile holds that no file makes the loader panic, and that a value
// it took is a value it takes again.
func FuzzConfigFile(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("forward: {linger: 1s}\n---\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Add([]byte("<<: *x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		l := &loader{
			in:   configInput{getenv: func(string) string { return "" }, cwd: "/"},
			out:  &settings{origins: map[string]origin{}, secretFiles: map[string]*string{}, written: map[string]writtenValue{}},
			base: map[string]string{},
		}
		l.applyDefaults()
		l.applyYAML("weir.yaml", content)
		for _, p := range l.problems {
			if p.String() == "" {
				t.Error("empty message")
			}
		}
		for i := range table {
			val := table[i].bind(l.out)
			if text := val.String(); text != "" && !table[i].onlyEnv {
				if err := val.parse(text); err != nil {
					t.Errorf("%s: took a value it refuses as %q: %v", table[i].name, text, err)
				}
			}
		}
	})
}
