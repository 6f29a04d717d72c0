package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"weir/internal/smith"
	"weir/proxy/diagnose"
)

func TestAnEndpointThatIsWeirItselfIsNoticed(t *testing.T) {
	cfg := newConfig(t, "http://localhost:4318")
	cfg.Listeners = []Listener{{"http_addr", "127.0.0.1:4318"}}
	cfg.Running = nil
	f := examine(t, cfg)
	f.wants("loop", false, diagnose.EndpointMalformed, "http_addr", "WEIR_UPSTREAM")
	f.skipped("loop", "dns", "info", "key")
}

func TestDataDirectories(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	t.Run("full", func(t *testing.T) {
		cfg := newConfig(t, url)
		cfg.MinFreeBytes = 1 << 60
		f := examine(t, cfg)
		f.wants("disk_space", false, "", "no data is taken", "buffer_min_free")
		f.wants("key", true, "") // the rest is checked all the same
	})
	t.Run("smaller than the buffer", func(t *testing.T) {
		cfg := newConfig(t, url)
		cfg.BufferMaxBytes = 1 << 60
		examine(t, cfg).wants("disk_space", true, "", "can be used")
	})
	t.Run("not there yet", func(t *testing.T) {
		cfg := newConfig(t, url)
		cfg.DataDir = filepath.Join(cfg.DataDir, "a", "b")
		f := examine(t, cfg)
		f.wants("data_dir", true, "", "will create it")
		f.wants("disk_space", true, "", "free")
		f.skipped("does not exist", "disk_sync")
		if _, err := os.Stat(filepath.Dir(cfg.DataDir)); err == nil {
			t.Error("the doctor made the directory")
		}
	})
	t.Run("a file", func(t *testing.T) {
		cfg := newConfig(t, url)
		cfg.DataDir = filepath.Join(cfg.DataDir, "file")
		if err := os.WriteFile(cfg.DataDir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f := examine(t, cfg)
		f.wants("data_dir", false, "", "no directory")
		f.skipped("data_dir", "disk_space", "disk_sync")
	})
	t.Run("sync", func(t *testing.T) {
		examine(t, newConfig(t, url)).wants("disk_sync", true, "", "a sync takes", "tried)")
	})
}

func TestMoreConnectionsThanFilesIsNoticed(t *testing.T) {
	if _, known := openFileLimit(); !known {
		return // nothing to compare on this system
	}
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.MaxConnections = 1 << 40
	examine(t, cfg).wants("open_files", true, "", "limits.max_connections")
}

func TestTakenPortsAreNamed(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	addr := occupy(t, "tcp", "127.0.0.1:0")
	socket := filepath.Join(t.TempDir(), "s")
	occupy(t, "unix", socket)
	cfg := newConfig(t, url)
	cfg.Listeners = []Listener{
		{"grpc_addr", addr},
		{"http_addr", "127.0.0.1:0"},
		{"admin_addr", "unix:" + socket},
		{"metrics_addr", "203.0.113.7:4319"},
	}
	f := examine(t, cfg)
	f.wants("grpc_addr", false, "", "in use by")
	f.wants("http_addr", true, "", "free")
	f.wants("admin_addr", false, "", "in use by")
	f.wants("metrics_addr", false, "", "no address of this machine")
	if runtime.GOOS == "linux" {
		f.wants("grpc_addr", false, "", "process "+strconv.Itoa(os.Getpid()))
		f.wants("admin_addr", false, "", "process "+strconv.Itoa(os.Getpid()))
	}
}

func TestARunningWeirIsRecognised(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	addr := occupy(t, "tcp", "127.0.0.1:0")
	cfg := newConfig(t, url)
	cfg.AdminListener = "admin_addr"
	cfg.Listeners = []Listener{{"http_addr", addr}, {"admin_addr", addr}}
	running := Weir{Version: "v1.2.3", DataDir: cfg.DataDir}
	cfg.Running = func(context.Context) (Weir, error) { return running, nil }
	f := examine(t, cfg)
	f.wants("running", true, "", "weir v1.2.3 runs here", cfg.DataDir)
	f.wants("http_addr", true, "", "by the weir that runs here")
	f.wants("admin_addr", true, "", "by the weir that runs here")

	running.DataDir = "/elsewhere"
	examine(t, cfg).wants("running", true, "", "/elsewhere", "not the one")

	cfg.Running = func(context.Context) (Weir, error) { return Weir{}, ErrNoWeir }
	examine(t, cfg).wants("running", true, "", "no weir runs here")

	cfg.Running = func(context.Context) (Weir, error) { return Weir{}, errors.New("wants another token") }
	examine(t, cfg).wants("running", true, "", "wants another token", "WEIR_ADMIN_TOKEN")
}

// A weir runs here, but one of its ports has somebody else.
func TestAnotherProcessBesideARunningWeir(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	proc := t.TempDir()
	listeners := make([]Listener, 0, 2)
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for i, name := range []string{"admin_addr", "http_addr"} {
		addr := occupy(t, "tcp", "127.0.0.1:0")
		listeners = append(listeners, Listener{name, addr})
		_, portText, _ := net.SplitHostPort(addr)
		port, _ := strconv.Atoi(portText)
		table += fmt.Sprintf("   %d: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 %d 1\n", i, port, 100+i)
		dir := filepath.Join(proc, strconv.Itoa(40+i), "fd")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(filepath.Dir(dir), "comm"), []string{"weir\n", "collector\n"}[i])
		if err := os.Symlink(fmt.Sprintf("socket:[%d]", 100+i), filepath.Join(dir, "3")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(proc, "net", "tcp"), table)
	cfg := newConfig(t, url)
	cfg.ProcDir, cfg.AdminListener, cfg.Listeners = proc, "admin_addr", listeners
	cfg.Running = func(context.Context) (Weir, error) { return Weir{Version: "v1", DataDir: cfg.DataDir}, nil }
	f := examine(t, cfg)
	f.wants("admin_addr", true, "", "by the weir that runs here")
	f.wants("http_addr", false, "", "collector (process 41)")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProcAddressesAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:10DD":                         "127.0.0.1:4317",
		"00000000:0050":                         "0.0.0.0:80",
		"00000000000000000000000001000000:10DE": "[::1]:4318",
		"0000000000000000FFFF00000100007F:10DD": "127.0.0.1:4317",
	} {
		if got, ok := parseProcAddr(text); !ok || got.String() != want {
			t.Errorf("parseProcAddr(%s) = %s, %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "local_address", "0100007F", "01:50", "0100007F:XX"} {
		if got, ok := parseProcAddr(text); ok {
			t.Errorf("parseProcAddr(%q) = %s, want none", text, got)
		}
	}
}

func TestWhatIsWrongWithTheConfigurationIsSaid(t *testing.T) {
	_, url := newSmith(t, smith.Config{})
	cfg := newConfig(t, url)
	cfg.Warnings = []string{"weir.yml is not read: rename it to weir.yaml"}
	examine(t, cfg).wants("configuration", true, "", "weir.yml")
	cfg.Problems = []string{"weir.yaml:3: linger: 5 has no unit"}
	f := examine(t, cfg)
	f.wants("configuration", false, "", "weir.yaml:3", "weir config")
	f.wants("key", true, "") // it goes on with what there is
	if strings.Contains(f.get("configuration").Seen, "\n") {
		t.Error("more than one line")
	}
}
