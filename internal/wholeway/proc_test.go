package wholeway_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

type netListen struct{ net.ListenConfig }

func (l *netListen) listen(ctx context.Context) (net.Listener, error) {
	return l.Listen(ctx, "tcp", "127.0.0.1:0")
}

// used is what a process has used so far.
type used struct {
	cpu     time.Duration
	written int64
}

// usage reads /proc; the benchmark runs on Linux only.
func usage(b *testing.B, pid int) (u used) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const ticksPerSecond = 100
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		u.cpu += time.Duration(n) * time.Second / ticksPerSecond
	}
	u.written = procValue(b, fmt.Sprintf("/proc/%d/io", pid), "write_bytes:")
	return u
}

// procValue is the number after a name in a file of /proc.
func procValue(b *testing.B, path, name string) int64 {
	b.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s has no %s", path, name)
	return 0
}

// watchMemory samples the process's anonymous memory; stop returns its peak in
// bytes.
func watchMemory(b *testing.B, pid int) (stop func() int64) {
	b.Helper()
	done := make(chan struct{})
	peak := make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for {
			select {
			case <-done:
				peak <- most
				return
			case <-tick.C:
				most = max(most, procValue(b, fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")<<10)
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-peak
	}
}
