package listen_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/listen"
)

// open listens and closes with the test.
func open(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := listen.Open(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// wantError asserts that addr cannot be listened on, and what is said.
func wantError(t *testing.T, addr, want string) {
	t.Helper()
	ln, err := listen.Open(t.Context(), addr)
	if err == nil {
		_ = ln.Close()
		t.Fatalf("listening on %s, want an error that says %q", addr, want)
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) {
		t.Errorf("error = %q, want it to name %s and say %q", err, addr, want)
	}
}

func TestUnixSocketIsPrivateAndRemovedOnClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := open(t, "unix:"+path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode = %o, want 600", got)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after Close: %v, want the socket gone", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a killed process leaves it
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, "unix:"+path)
}

func TestWhatIsInUseIsKept(t *testing.T) {
	t.Run("a live socket", func(t *testing.T) {
		addr := "unix:" + filepath.Join(t.TempDir(), "s")
		open(t, addr)
		wantError(t, addr, "another process answers there")
	})
	t.Run("a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, "unix:"+path, "no socket")
		if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
			t.Errorf("file = %q, %v", got, err)
		}
	})
	t.Run("a port", func(t *testing.T) {
		ln := open(t, "127.0.0.1:0")
		wantError(t, ln.Addr().String(), "another process has the port")
	})
}

func TestBadAddresses(t *testing.T) {
	wantError(t, "unix:", "path is empty")
	wantError(t, "unix:/"+strings.Repeat("x", 200), "choose a shorter one")
	wantError(t, "unix:"+filepath.Join(t.TempDir(), "missing", "s"), "no such file or directory")
	wantError(t, "127.0.0.1", "missing port")
}

func TestAddressIsWhatOpenTakes(t *testing.T) {
	socket := "unix:" + filepath.Join(t.TempDir(), "s")
	if got := listen.Address(open(t, socket).Addr()); got != socket {
		t.Errorf("address = %q, want %q", got, socket)
	}
	ln := open(t, "127.0.0.1:0")
	if got := listen.Address(ln.Addr()); got != ln.Addr().String() {
		t.Errorf("address = %q, want %q", got, ln.Addr())
	}
}

func TestExposed(t *testing.T) {
	for _, tc := range []struct {
		addr string
		want bool
	}{
		{"127.0.0.1:4319", false},
		{"127.8.8.8:4319", false},
		{"[::1]:4319", false},
		{"[::ffff:127.0.0.1]:4319", false},
		{"localhost:4319", false},
		{"LOCALHOST.:4319", false},
		{"unix:/run/weir.sock", false},
		{":4319", true},
		{"0.0.0.0:4319", true},
		{"[::]:4319", true},
		{"192.168.1.5:4319", true},
		{"weir.lan:4319", true},
		{"localhost.evil.example:4319", true},
		{"nonsense", true},
	} {
		if got := listen.Exposed(tc.addr); got != tc.want {
			t.Errorf("Exposed(%q) = %t, want %t", tc.addr, got, tc.want)
		}
	}
}

func TestReachable(t *testing.T) {
	for _, tc := range []struct{ addr, network, target string }{
		{"127.0.0.1:4317", "tcp", "127.0.0.1:4317"},
		{"weir.lan:4317", "tcp", "weir.lan:4317"},
		{":4317", "tcp", "127.0.0.1:4317"},
		{"0.0.0.0:4317", "tcp", "127.0.0.1:4317"},
		{"[::]:4317", "tcp", "[::1]:4317"},
		{"unix:/run/weir.sock", "unix", "/run/weir.sock"},
		{"nonsense", "tcp", "nonsense"},
	} {
		if network, target := listen.Reachable(tc.addr); network != tc.network || target != tc.target {
			t.Errorf("Reachable(%q) = %s, %s", tc.addr, network, target)
		}
	}
}
