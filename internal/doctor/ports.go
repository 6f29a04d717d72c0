package doctor

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/internal/listen"
)

// running notices a weir that runs here already.
func (v *visit) running(ctx context.Context) []Check {
	if v.cfg.Running == nil {
		return skip("skipped: the admin listener is off")
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Step)
	defer cancel()
	w, err := v.cfg.Running(ctx)
	switch {
	case errors.Is(err, ErrNoWeir):
		return good("no weir runs here")
	case err != nil:
		return warn("", "whether a weir runs here is not known: "+err.Error(), "If one does, let this command reach it: --admin-addr, WEIR_ADMIN_TOKEN.")
	}
	v.weir = &w
	v.pid = v.owner(v.address(v.cfg.AdminListener)).pid
	seen := fmt.Sprintf("weir %s runs here, its data is in %s", w.Version, w.DataDir)
	if w.DataDir != v.cfg.DataDir {
		return warn("", seen, "This configuration says "+v.cfg.DataDir+": it is not the one that weir was started with.")
	}
	return good(seen)
}

// address is where the listener of a name listens, or nothing.
func (v *visit) address(name string) string {
	for _, l := range v.cfg.Listeners {
		if l.Name == name {
			return l.Addr
		}
	}
	return ""
}

// ports tries whether weir could listen where it is to.
func (v *visit) ports(ctx context.Context) []Check {
	var out []Check
	for _, l := range v.cfg.Listeners {
		c := v.port(ctx, l)
		c[0].Name = l.Name
		out = append(out, c...)
	}
	if len(out) == 0 {
		return skip("skipped: every listener is off")
	}
	return out
}

func (v *visit) port(ctx context.Context, l Listener) []Check {
	err := tryListen(ctx, l.Addr)
	switch {
	case err == nil:
		return good(l.Addr + " is free")
	case errors.Is(err, syscall.EADDRINUSE):
		return v.taken(l)
	case errors.Is(err, syscall.EACCES):
		return fail("", l.Addr+" may not be listened on by this user", "Choose a port above 1023 or another path, or give weir the right to.")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail("", l.Addr+" is no address of this machine", "Listen on 127.0.0.1 or an address that the machine has.")
	}
	return fail("", l.Addr+" cannot be listened on: "+err.Error(), "Choose another address.")
}

// taken tells who has the address of a listener.
func (v *visit) taken(l Listener) []Check {
	who := v.owner(l.Addr)
	switch {
	case v.weir != nil && (l.Name == v.cfg.AdminListener || who.pid == v.pid && who.pid != 0):
		return good(l.Addr + " is in use by the weir that runs here")
	case v.weir != nil && who.pid == 0:
		return good(l.Addr + " is in use, presumably by the weir that runs here")
	case who.pid == 0:
		return fail("", l.Addr+" is in use by another process (which one cannot be read)",
			"Find it (as root: `ss -lptn`) and stop it, or choose another address.")
	}
	return fail("", fmt.Sprintf("%s is in use by %s (process %d)", l.Addr, who.name, who.pid), "Stop it, or choose another address.")
}

// tryListen listens on addr and stops at once. It leaves the files of unix
// sockets alone.
func tryListen(ctx context.Context, addr string) error {
	path, isUnix := listen.SocketPath(addr)
	if !isUnix {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return ln.Close()
	}
	if _, err := os.Lstat(path); err != nil {
		return writable(nearest(filepath.Dir(path))) // errors are EACCES and the like
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(syscall.EADDRINUSE, conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil // a dead process left it; weir replaces it
	}
	return err
}

// process is who has a listener; the zero value: not known.
type process struct {
	pid  int
	name string
}

// owner finds who listens on addr, as far as /proc shows it to this user.
func (v *visit) owner(addr string) process {
	inode := v.inode(addr)
	if inode == "" {
		return process{}
	}
	link := "socket:[" + inode + "]"
	fds, err := filepath.Glob(filepath.Join(v.cfg.ProcDir, "[0-9]*", "fd", "*"))
	if err != nil {
		return process{}
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != link {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return process{pid: pid, name: strings.TrimSpace(string(name))}
	}
	return process{}
}

// inode is the number of the listening socket at addr, or nothing.
func (v *visit) inode(addr string) string {
	if path, isUnix := listen.SocketPath(addr); isUnix {
		return v.search("unix", func(f []string) (string, bool) {
			const listening = "00010000" // __SO_ACCEPTCON; its connections have the path, too
			return fieldOf(f, 6), fieldOf(f, 3) == listening && fieldOf(f, 7) == path
		})
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	port, _ := strconv.ParseUint(portText, 10, 16)
	for _, file := range []string{"tcp", "tcp6"} {
		inode := v.search(file, func(f []string) (string, bool) {
			const listening = "0A"
			at, ok := parseProcAddr(fieldOf(f, 1))
			return fieldOf(f, 9), ok && fieldOf(f, 3) == listening && uint64(at.Port()) == port && overlap(at.Addr(), host)
		})
		if inode != "" {
			return inode
		}
	}
	return ""
}

// overlap reports whether two listeners on a port, one on addr and one on host,
// get into each other's way.
func overlap(addr netip.Addr, host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil { // a name, or all interfaces
		return host == "" || addr.IsUnspecified() || addr.IsLoopback()
	}
	return addr.IsUnspecified() || ip.IsUnspecified() || addr == ip.Unmap()
}

func fieldOf(fields []string, i int) string {
	if i < len(fields) {
		return fields[i]
	}
	return ""
}

// search returns what match finds in the first line of a table below
// /proc/net that it likes.
func (v *visit) search(table string, match func(fields []string) (string, bool)) string {
	file, err := os.Open(filepath.Join(v.cfg.ProcDir, "net", table))
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if found, ok := match(strings.Fields(lines.Text())); ok {
			return found
		}
	}
	return ""
}

// parseProcAddr reads an address as /proc/net/tcp writes it: each 32 bits of it
// in the order of a little-endian machine, which all of ours are (proc_net_tcp).
func parseProcAddr(text string) (netip.AddrPort, bool) {
	host, portText, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	port, portErr := strconv.ParseUint(portText, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok
}
