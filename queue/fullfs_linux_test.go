package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const fillMiB = 96

// childFill appends and settles as long as its input is open, and says what
// happens. It ends cleanly whatever the disk does, or the test fails.
func childFill() error {
	cfg := childConfig()
	cfg.SegmentBytes, cfg.MinFreeBytes, cfg.MaxBytes = 1<<20, 0, 1<<30
	q, err := Open(cfg)
	if err != nil {
		return err
	}
	base, _ := strconv.ParseUint(os.Getenv(childBaseEnv), 10, 64)
	var next atomic.Uint64
	next.Store(base)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) }
	say("open 1")
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() { fillWorker(ctx, q, worker, &next, say) })
	}
	wg.Go(func() { fillSettler(ctx, q, say) })
	wg.Wait()
	return q.Close()
}

func fillWorker(ctx context.Context, q *Queue, worker int, next *atomic.Uint64, say func(string, ...any)) {
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for r := rand.New(rand.NewPCG(uint64(worker), 7)); ctx.Err() == nil; <-pace.C {
		id := next.Add(1)
		say("try %d", id)
		err := fillAppend(context.WithoutCancel(ctx), q, export("lane"+strconv.Itoa(worker), r.IntN(60_000), id), id)
		var full *FullError
		switch {
		case err == nil:
			say("acked %d", id)
		case errors.As(err, &full) && full.Reason == "disk_full":
			say("full %d", id)
		default:
			say("error %d", id)
			fmt.Fprintln(os.Stderr, "child: append:", err)
		}
	}
}

// fillAppend appends an export, every eighth with a blob.
func fillAppend(ctx context.Context, q *Queue, e *Export, id uint64) error {
	if id%8 > 0 {
		return q.Append(ctx, e)
	}
	b, err := q.WriteBlob(ctx, bytes.NewReader(blobContent(id, 300_000)), 1<<20)
	if err != nil {
		return err
	}
	if err := q.Append(ctx, withBlob(e, b)); err != nil {
		q.RemoveBlob(b)
		return err
	}
	return nil
}

// fillSettler settles slower than the workers append.
func fillSettler(ctx context.Context, q *Queue, say func(string, ...any)) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for lane := 0; ctx.Err() == nil; lane++ {
		<-pace.C
		l, err := q.Lease(LeaseOptions{Lane: laneID(q, "lane"+strconv.Itoa(lane%3)), MaxRawBytes: 1, Newest: lane%2 == 0})
		if err != nil {
			say("error 1")
			fmt.Fprintln(os.Stderr, "child: lease:", err)
		}
		if l == nil {
			continue
		}
		ids := frameIDs(failer{}, l.Frames[0])
		blobs := blobsOf(frameBlobs(failer{}, q, l.Frames[0]), ids)
		sayIDs(say, "settling", ids)
		if err := l.Settle(Settlement{Result: ResultDelivered, Blobs: blobs}); err != nil {
			say("error 2")
			fmt.Fprintln(os.Stderr, "child: settle:", err)
			continue
		}
		sayIDs(say, "settled", ids)
	}
}

// TestFullFileSystemIsRefusedCleanlyAndSurvived fills a real file system to
// the brim while a child works on it.
func TestFullFileSystemIsRefusedCleanlyAndSurvived(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"ext4": mountExt4, "tmpfs": mountTmpfs} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("WEIR_NO_MOUNT") == "1" {
				t.Log("NOT CHECKED: WEIR_NO_MOUNT=1 is set")
				return
			}
			if os.Geteuid() != 0 && os.Getenv("CI") == "" { // a person's machine
				t.Log("NOT CHECKED: mounting file systems takes root")
				return
			}
			fs := mount(t)
			dir, filler := filepath.Join(fs, "weir"), filepath.Join(fs, "filler")
			w := newWitness()
			for round := range 2 {
				fillRound(t, w, dir, filler)
				checkSurvivors(t, w, dir, round > 0)
			}
			if len(w.acked) < 200 {
				t.Fatalf("only %d exports were acknowledged", len(w.acked))
			}
			startOnFull(t, dir, filler)
		})
	}
}

// fillRound runs a child through: work, full, space again.
func fillRound(t *testing.T, w *witness, dir, filler string) {
	t.Helper()
	cmd := childCommand(t, dir, "fill", w.last)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, out := pipes(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var phase, full, settled, acked int
	count := map[string]*int{"full": &full, "settled": &settled, "acked": &acked}
	w.on = func(word string) {
		if n := count[word]; n != nil {
			*n++
		}
		switch {
		case phase == 0 && acked > 150:
			fillUp(t, filler)
			phase, full, settled = 1, 0, 0
		case phase == 1 && full > 30 && settled > 20:
			if err := os.Remove(filler); err != nil {
				t.Error(err)
			}
			phase, acked = 2, 0
		case phase == 2 && acked > 150:
			phase = 3
			_ = stdin.Close()
		}
	}
	defer func() { w.on = nil }()
	patience := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer patience.Stop()
	w.read(t, out, func() bool { return false }, nil)
	if err := cmd.Wait(); err != nil || phase != 3 {
		t.Fatalf("child in phase %d (%d full, %d settled, %d acknowledged): %v\n%s", phase, full, settled, acked, err, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Errorf("child complains:\n%s", stderr.String())
	}
}

// startOnFull starts on a file system without a free block: after a clean end,
// and after a kill.
func startOnFull(t *testing.T, dir, filler string) {
	t.Helper()
	fillUp(t, filler)
	for range 3 {
		cmd := childCommand(t, dir, "hold", 0)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_, out := pipes(t, cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 5)
		_, err := io.ReadFull(out, line)
		if err != nil {
			_ = cmd.Wait()
			t.Fatalf("start on a full file system: %v\n%s", err, stderr.String())
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		fillUp(t, filler) // what the ballast left
		restoreBallast(t, dir, filler)
	}
}

// restoreBallast makes space, lets a queue take its ballast, and fills up again.
func restoreBallast(t *testing.T, dir, filler string) {
	t.Helper()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	q := mustOpen(t, smallConfig(dir))
	if err := q.keep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(q.disk.ballastPath()); err != nil {
		t.Fatalf("the ballast was not restored: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	fillUp(t, filler)
}

func childCommand(t *testing.T, dir, role string, base uint64) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childRoleEnv+"="+role,
		childBaseEnv+"="+strconv.FormatUint(base+1000, 10))
	return cmd
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, io.Reader) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return stdin, out
}

// fillUp appends to a file until not a byte more goes onto the file system.
// The last of it goes no faster than a disk would: nothing can protect a
// process that writes through mmap from losing, between looking and writing,
// what it saw to be free, and on tmpfs that would be gigabytes a second.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for size := 1 << 20; size > 0; {
		if free, err := freeBytes(filepath.Dir(path)); err == nil && free < 24<<20 {
			size = min(size, 128<<10)
			<-pace.C
		}
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		} else { // there may be more again: the child settles
			size = min(2*size, 1<<20)
		}
	}
	_ = f.Sync()
}

const mountHint = "mounting is not possible here (%v): run as root, or set WEIR_NO_MOUNT=1 to go without this test"

func mountTmpfs(t *testing.T) string {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", fillMiB)); err != nil {
		t.Fatalf(mountHint, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	return dir
}

func mountExt4(t *testing.T) string {
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "fs")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, fillMiB<<20), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf(mountHint, fmt.Sprintf("%s: %v: %s", args[0], err, bytes.TrimSpace(out)))
		}
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", dir).Run(); err != nil { //nolint:noctx // the test's context has ended
			t.Errorf("umount: %v", err)
		}
	})
	return dir
}
