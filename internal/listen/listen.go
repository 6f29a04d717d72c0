// Package listen opens weir's listeners. An address is "host:port", or
// "unix:PATH" for a unix socket that only this user may open.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// unixPrefix marks an address as the path of a unix socket.
	unixPrefix = "unix:"

	// socketMode is what a unix socket's file may be used for: opening it is
	// all the authentication there is.
	socketMode fs.FileMode = 0o600

	// maxSocketPath is the longest path every supported system takes: macOS
	// has room for 104 bytes with the closing zero, Linux for 108.
	maxSocketPath = 103

	// staleDialTimeout bounds the question whether a left-over socket still
	// has an owner; a local connect is answered at once.
	staleDialTimeout = time.Second
)

// Open listens on addr. A unix socket left behind by a process that is gone
// is replaced; one that is in use, and a file that is no socket, are not. The
// socket's file is removed when the listener closes.
func Open(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	path, isUnix := SocketPath(addr)
	if !isUnix {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: another process has the port; stop it or choose another address: %w", addr, err)
		}
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		return ln, nil
	}
	if err := claimSocket(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	// On Linux the file gets the socket's own mode, so that it is never there
	// for others to open (unix(7)); elsewhere the mode comes right after.
	lc.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = chmodSocket(fd, socketMode) })
	}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, fmt.Errorf("listen on %s: keep others out: %w", addr, errors.Join(err, ln.Close()))
	}
	return ln, nil
}

// SocketPath returns the path of an address of the form "unix:PATH", and
// whether addr is one.
func SocketPath(addr string) (string, bool) { return strings.CutPrefix(addr, unixPrefix) }

// Address writes the address of a listener the way Open takes it.
func Address(a net.Addr) string {
	if a.Network() == "unix" {
		return unixPrefix + a.String()
	}
	return a.String()
}

// Exposed says whether a listener on addr may be reached from other machines.
// A name other than localhost counts as exposed: what it stands for may
// change after the question was asked.
func Exposed(addr string) bool {
	if _, isUnix := SocketPath(addr); isUnix {
		return false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.Unmap().IsLoopback()
	}
	return !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// Reachable is where to call whoever listens on addr: the network and the
// address to dial. The unspecified address ("0.0.0.0:4317", ":4317") means this
// machine.
func Reachable(addr string) (network, target string) {
	if path, ok := SocketPath(addr); ok {
		return "unix", path
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "tcp", addr // the dialer says what is wrong with it
	}
	if host == "" {
		return "tcp", net.JoinHostPort("127.0.0.1", port)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil || !ip.IsUnspecified():
		return "tcp", addr
	case ip.Is4():
		return "tcp", net.JoinHostPort("127.0.0.1", port)
	default:
		return "tcp", net.JoinHostPort("::1", port)
	}
}

// claimSocket makes sure that nothing is at path, removing a socket whose
// owner is gone.
func claimSocket(ctx context.Context, path string) error {
	switch {
	case path == "":
		return errors.New("the path is empty; want unix:/run/weir/weir.sock or the like")
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path has %d bytes, the system takes %d; choose a shorter one", len(path), maxSocketPath)
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket; remove it or choose another path")
	}
	ctx, cancel := context.WithTimeout(ctx, staleDialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(errors.New("another process answers there; stop it or choose another path"), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot tell whether the socket there is in use: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket a dead process left: %w", err)
	}
	return nil
}
