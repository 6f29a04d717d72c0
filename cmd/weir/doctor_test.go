package main

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/doctor"
	"weir/internal/smith"
	"weir/proxy/diagnose"
)

const doctorKey = "lsv2_pt_0123456789abcdef0123456789abcdef_fedcba98yz"

// doctorEnv is the environment of a sound weir whose LangSmith is a look-alike.
func doctorEnv(t *testing.T) map[string]string {
	t.Helper()
	s := smith.New(smith.Config{Keys: map[string]smith.Key{doctorKey: {}}, Now: func() time.Time { return fixedNow }})
	ts := httptest.NewServer(s)
	t.Cleanup(func() { ts.Close(); _ = s.Close() })
	return map[string]string{
		"LANGSMITH_ENDPOINT": ts.URL, "LANGSMITH_API_KEY": doctorKey, "WEIR_DATA_DIR": filepath.Join(t.TempDir(), "data"),
		"WEIR_GRPC_ADDR": "127.0.0.1:0", "WEIR_HTTP_ADDR": "127.0.0.1:0", "WEIR_ADMIN_ADDR": "127.0.0.1:0", "WEIR_BUFFER_MAX": "200MiB",
	}
}

func newDoctorSystem(t *testing.T, env map[string]string) *testSystem {
	t.Helper()
	sys := newTestSystem(t, env)
	sys.columns = 400 // the length of temporary paths must not break lines differently
	sys.environ = func() []string {
		var all []string
		for name, value := range env {
			all = append(all, name+"="+value)
		}
		return all
	}
	return sys
}

// examined runs `weir doctor --json` and returns the exit code and the checks.
func examined(t *testing.T, env map[string]string, args ...string) (int, map[string]doctor.Check) {
	t.Helper()
	sys := newDoctorSystem(t, env)
	code := sys.execute(t, append([]string{"doctor", "--json"}, args...)...)
	var told struct {
		Checks []doctor.Check `json:"checks"`
	}
	if err := json.Unmarshal(sys.out.Bytes(), &told); err != nil {
		t.Fatalf("%v in %s%s", err, sys.out, sys.err)
	}
	if strings.Contains(sys.out.String()+sys.err.String(), doctorKey[8:30]) {
		t.Errorf("the output shows the key: %s", sys.out)
	}
	checks := make(map[string]doctor.Check)
	for _, c := range told.Checks {
		checks[c.Name] = c
	}
	return code, checks
}

var (
	loopbackPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	amounts      = regexp.MustCompile(`\d+(\.\d+)? (ms|[KMG]iB free|open files)`)
)

// steady replaces in a doctor's output what differs between runs.
func steady(out string, env map[string]string) string {
	out = strings.ReplaceAll(out, env["WEIR_DATA_DIR"], "DATA_DIR")
	return amounts.ReplaceAllString(loopbackPort.ReplaceAllString(out, "127.0.0.1:PORT"), "N $2")
}

func TestDoctorFindsNothing(t *testing.T) {
	env := doctorEnv(t)
	sys := newDoctorSystem(t, env)
	if code := sys.execute(t, "doctor"); code != exitOK {
		t.Errorf("exit code %d, want 0: %s", code, sys.err)
	}
	golden(t, "testdata/doctor/well.txt", steady(sys.out.String(), env))
}

func TestDoctorFindsMuch(t *testing.T) {
	env := doctorEnv(t)
	env["LANGSMITH_API_KEY"] = strings.Replace(doctorKey, "fedcba98", "00000000", 1)
	env["LANGCHAIN_API_KEY"] = doctorKey
	env["LANGSMTIH_WORKSPACE_ID"] = "x"
	env["LANGSMITH_WORKSPACE_ID"] = "my workspace"
	sys := newDoctorSystem(t, env)
	if code := sys.execute(t, "doctor"); code != exitNeedsPerson {
		t.Errorf("exit code %d, want %d: %s", code, exitNeedsPerson, sys.err)
	}
	golden(t, "testdata/doctor/much.txt", steady(sys.out.String(), env))
}

// Every kind of check, as people and programs see it.
func TestDoctorPrintsChecks(t *testing.T) {
	checks := []doctor.Check{
		{Name: "endpoint", OK: true, Seen: "https://api.smith.langchain.com (default)"},
		{Name: "families", OK: true, Cause: diagnose.StaleKey, Seen: "LANGSMITH_API_KEY (lsv2_…aa) wins over LANGCHAIN_API_KEY (lsv2_…bb)", Remedy: "Unset LANGCHAIN_API_KEY."},
		{Name: "key", Cause: diagnose.KeyRevoked, Seen: `api.smith.langchain.com does not know the key: 403 {"error":"Forbidden"}`, Remedy: "It was revoked."},
		{Name: "workspace", OK: true, Seen: "skipped: it depends on key", Skipped: true},
	}
	var text, colored, list strings.Builder
	for _, out := range []struct {
		to    *strings.Builder
		color bool
	}{{&text, false}, {&colored, true}} {
		con := &console{Out: out.to, OutColor: out.color}
		for _, c := range checks {
			writeDoctorCheck(con, c)
		}
		writeDoctorEnd(con, checks)
	}
	if err := printDoctorJSON(&list, checks); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/doctor/checks.txt", text.String())
	golden(t, "testdata/doctor/checks.color.txt", colored.String())
	golden(t, "testdata/doctor/checks.json", list.String())
}

func TestABrokenConfigurationStopsNothing(t *testing.T) {
	env := doctorEnv(t)
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("forward:\n  linger: 5\nupstreem: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, checks := examined(t, env, "--config", file)
	if c := checks["configuration"]; c.OK || !strings.Contains(c.Seen, "upstreem") || !strings.Contains(c.Seen, "linger") {
		t.Errorf("configuration = %+v, want both problems named", c)
	}
	if c := checks["key"]; !c.OK || c.Skipped {
		t.Errorf("key = %+v, want it checked all the same", c)
	}
	if code != exitNeedsPerson {
		t.Errorf("exit code %d, want %d", code, exitNeedsPerson)
	}
}

func TestDoctorTakesValuesAsTheyWereWritten(t *testing.T) {
	uiHost := "https://eu.smith.langchain.com"
	tests := []struct {
		name   string
		change map[string]string
		args   []string
		check  string
		cause  diagnose.Code
		says   string // the source
	}{
		{"endpoint of the environment", map[string]string{"LANGSMITH_ENDPOINT": uiHost}, nil, "endpoint", diagnose.UIHost, "LANGSMITH_ENDPOINT"},
		{"endpoint of the old family", map[string]string{"LANGSMITH_ENDPOINT": "", "LANGCHAIN_ENDPOINT": uiHost}, nil, "endpoint", diagnose.UIHost, "LANGCHAIN_ENDPOINT"},
		{"endpoint of weir's own variable", map[string]string{"WEIR_UPSTREAM": "<url>"}, nil, "endpoint", diagnose.EndpointMalformed, "WEIR_UPSTREAM"},
		{"endpoint of a flag", nil, []string{"--upstream", uiHost}, "endpoint", diagnose.UIHost, "flag --upstream"},
		{"endpoint of a flag, empty", nil, []string{"--upstream="}, "endpoint", diagnose.EndpointMalformed, "flag --upstream"},
		{"key with Bearer", map[string]string{"LANGSMITH_API_KEY": "Bearer " + doctorKey}, nil, "key_form", diagnose.KeyInWrongHeader, "LANGSMITH_API_KEY"},
		{"key is code", map[string]string{"LANGSMITH_API_KEY": `userdata.get("KEY")`}, nil, "key_form", diagnose.KeyPlaceholder, "LANGSMITH_API_KEY"},
		{"workspace is a name", map[string]string{"LANGCHAIN_WORKSPACE_ID": "mine"}, nil, "workspace_form", diagnose.WorkspaceNotUUID, "LANGCHAIN_WORKSPACE_ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := doctorEnv(t)
			maps.Copy(env, tt.change)
			code, checks := examined(t, env, tt.args...)
			if c := checks[tt.check]; c.OK || c.Cause != tt.cause || !strings.Contains(c.Seen, tt.says) || c.Remedy == "" {
				t.Errorf("%s = %+v, want %s that names %s", tt.check, c, tt.cause, tt.says)
			}
			if c := checks["configuration"]; !c.OK {
				t.Errorf("configuration = %+v, want nothing said twice", c)
			}
			if code != exitNeedsPerson {
				t.Errorf("exit code %d, want %d", code, exitNeedsPerson)
			}
		})
	}
}

func TestDoctorReadsTheKeyFile(t *testing.T) {
	env := doctorEnv(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("Bearer "+doctorKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, checks := examined(t, env, "--api-key-file", file)
	if c := checks["key_form"]; c.OK || c.Cause != diagnose.KeyInWrongHeader || !strings.Contains(c.Seen, "--api-key-file") {
		t.Errorf("key_form = %+v, want the file's flaw", c)
	}
	env["LANGSMITH_API_KEY"] = `"` + doctorKey + `"`
	if _, checks = examined(t, env); !checks["key"].OK {
		t.Errorf("key = %+v, want quotes forgiven", checks["key"])
	}
	if err := os.WriteFile(file, []byte(doctorKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, checks = examined(t, env, "--api-key-file", file); !checks["key"].OK || !checks["key_form"].OK || checks["key_form"].Cause != "" {
		t.Errorf("key_form = %+v, want no flaw", checks["key_form"])
	}
}

func TestWrongUsageOfDoctor(t *testing.T) {
	if code := newDoctorSystem(t, nil).execute(t, "doctor", "--nonsense"); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
}

func TestDoctorNoticesARunningWeir(t *testing.T) {
	env := doctorEnv(t)
	s, err := loadSettings(configInput{getenv: func(name string) string { return env[name] }, cwd: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w, err := startWeirWith(t.Context(), s, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	env["WEIR_GRPC_ADDR"], env["WEIR_HTTP_ADDR"], env["WEIR_ADMIN_ADDR"] = string(w.at.GRPC), string(w.at.HTTP), string(w.at.Admin)
	code, checks := examined(t, env)
	if c := checks["running"]; !strings.Contains(c.Seen, "runs here") || !strings.Contains(c.Seen, env["WEIR_DATA_DIR"]) {
		t.Errorf("running = %+v, want its version and data directory", c)
	}
	for _, name := range []string{"grpc_addr", "http_addr", "admin_addr"} {
		if c := checks[name]; !c.OK || !strings.Contains(c.Seen, "the weir that runs here") {
			t.Errorf("%s = %+v, want it taken by that weir", name, c)
		}
	}
	if code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}

	env["WEIR_ADMIN_ADDR"] = "off" // so that nobody can be asked
	if code, checks = examined(t, env); checks["http_addr"].OK || code != exitNeedsPerson {
		t.Errorf("exit code %d, http_addr = %+v, want the port to be taken by an unknown", code, checks["http_addr"])
	}

	env["WEIR_ADMIN_ADDR"] = string(w.at.HTTP) // which is no admin API
	if _, checks = examined(t, env); !strings.Contains(checks["running"].Seen, "not known") {
		t.Errorf("running = %+v, want it unknown", checks["running"])
	}
}

func TestDoctorNoticesACircle(t *testing.T) {
	env := doctorEnv(t)
	env["WEIR_HTTP_ADDR"], env["LANGSMITH_ENDPOINT"] = "127.0.0.1:4318", "http://localhost:4318"
	_, checks := examined(t, env)
	if c := checks["loop"]; c.OK || c.Cause != diagnose.EndpointMalformed {
		t.Errorf("loop = %+v, want it noticed", c)
	}
}

func TestEveryCheckHasANameOfItsOwn(t *testing.T) {
	sys := newDoctorSystem(t, doctorEnv(t))
	sys.execute(t, "doctor")
	var names []string
	for line := range strings.Lines(sys.out.String()) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains([]string{"ok", "warn", "FAIL", "skip"}, fields[0]) {
			if slices.Contains(names, fields[1]) {
				t.Errorf("two checks are called %s", fields[1])
			}
			names = append(names, fields[1])
		}
	}
	if len(names) < 20 {
		t.Errorf("checks: %v, want them all", names)
	}
}

func TestDoctorTriesTheCertificates(t *testing.T) {
	env := doctorEnv(t)
	env["WEIR_TLS_CERT_FILE"], env["WEIR_TLS_KEY_FILE"] = "/nowhere/tls.crt", "/nowhere/tls.key"
	code, checks := examined(t, env)
	if seen := checks["configuration"].Seen; code != exitNeedsPerson || !strings.Contains(seen, "tls_cert_file (environment variable WEIR_TLS_CERT_FILE)") || !strings.Contains(seen, "/nowhere/tls.crt") {
		t.Errorf("exit code %d, %q in %+v", code, seen, checks)
	}
}
