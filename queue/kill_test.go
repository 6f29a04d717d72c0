package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary runs itself as a child that uses a queue and is killed. The
// variables say what the child is to do.
const (
	childEnv     = "WEIR_QUEUE_TEST_CHILD"      // the data directory
	childRoleEnv = "WEIR_QUEUE_TEST_CHILD_ROLE" // work, fill, or hold
	childStepEnv = "WEIR_QUEUE_TEST_CHILD_STEP" // step:n, where to kill itself
	childBaseEnv = "WEIR_QUEUE_TEST_CHILD_BASE" // first message number
)

func runChild() int {
	var err error
	switch os.Getenv(childRoleEnv) {
	case "hold":
		err = childHold()
	case "fill":
		err = childFill()
	default:
		err = childWork()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// childConfig kills the process at the step it is told to.
func childConfig() Config {
	cfg := smallConfig(os.Getenv(childEnv))
	cfg.NoSync, cfg.noKeeper = false, false
	name, count, ok := strings.Cut(os.Getenv(childStepEnv), ":")
	if ok {
		n, _ := strconv.Atoi(count)
		var seen atomic.Int32
		cfg.step = func(step string) {
			if step == name && int(seen.Add(1)) == n {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until it arrives
			}
		}
	}
	return cfg
}

// childHold holds the lock until its input ends.
func childHold() error {
	q, err := Open(childConfig())
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return q.Close()
}

// childWork appends from several goroutines and settles, saying before and
// after each what it does. Lines are short, so writes to the pipe are atomic.
func childWork() error {
	q, err := Open(childConfig())
	if err != nil {
		return err
	}
	base, _ := strconv.ParseUint(os.Getenv(childBaseEnv), 10, 64)
	var next atomic.Uint64
	next.Store(base)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) }
	say("open")
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(base, uint64(worker))); ; {
				if worker == 3 {
					childTogether(q, r, &next, say)
					continue
				}
				id := next.Add(1)
				say("try %d", id)
				e := export("lane"+strconv.Itoa(worker%3), r.IntN(20_000), id)
				if worker == 0 {
					childBlobs(q, e, id, r.IntN(4))
				}
				if q.Append(context.Background(), e) == nil {
					say("acked %d", id)
				}
			}
		})
	}
	wg.Go(func() { childSettle(q, say) })
	wg.Wait()
	return nil
}

// childTogether appends three messages at once: one in a hold, if one is open,
// one pending, and one that is dropped.
func childTogether(q *Queue, r *rand.Rand, next *atomic.Uint64, say func(string, ...any)) {
	id := next.Add(3) - 2
	say("together %d", id)
	held, pending, dropped := export("lane0", r.IntN(10_000), id), export("lane1", r.IntN(10_000), id+1), export("lane2", 100, id+2)
	for _, c := range q.Cases() {
		if c.Kind == CaseHold {
			held.Place = c.Place // it may be released by now
		}
	}
	childBlobs(q, held, id, r.IntN(2))
	dropped.Dropped = "quota"
	if q.Append(context.Background(), held, pending, dropped) == nil {
		say("acked %d", id)
		say("acked %d", id+1)
		say("dropped %d", id+2)
	}
}

// childBlobs gives an export up to two blobs, or writes one for nobody.
func childBlobs(q *Queue, e *Export, id uint64, n int) {
	for range min(n, 2) {
		if b, err := writeBlob(q, id, 30_000); err == nil {
			withBlob(e, b)
		}
	}
	if n < 2 {
		return
	}
	if b, err := writeBlob(q, id, 30_000); err == nil && n == 2 {
		q.RemoveBlob(b)
	}
}

// blobsOf names the blobs of some of a frame's messages.
func blobsOf(blobs []messageBlob, ids []uint64) (names []string) {
	for _, b := range blobs {
		if slices.Contains(ids, b.message) {
			names = append(names, b.name)
		}
	}
	return names
}

// childSettle leases and settles: most are delivered, some split, some kept
// and released, some left for later, so that old segments are shelved. What is
// kept is leased, too: some goes back, some on, some is split over all places.
func childSettle(q *Queue, say func(string, ...any)) {
	c := childSettler{q: q, say: say, r: rand.New(rand.NewPCG(1, uint64(os.Getpid())))}
	for ; ; <-q.Changed() {
		for _, lane := range q.Lanes() {
			c.settle(LeaseOptions{Lane: lane.ID, MaxRawBytes: 200_000, Newest: c.r.IntN(2) == 0})
			c.settle(LeaseOptions{Lane: lane.ID, MaxRawBytes: 50_000, Newest: c.r.IntN(2) == 0, Place: c.place()})
		}
		if c.r.IntN(10) > 0 {
			continue
		}
		c.discardPending()
		if len(c.cases) > 2 {
			if c.r.IntN(2) == 0 {
				c.discard(c.cases[0])
			}
			_ = q.Release(c.cases[0]) // what came into it meanwhile, too
			c.cases = c.cases[1:]
		}
		kind := CaseQuarantine
		if c.r.IntN(2) == 0 {
			kind = CaseHold
		}
		if p, err := q.OpenCase(Case{Kind: kind}); err == nil {
			c.cases = append(c.cases, p)
		}
	}
}

type childSettler struct {
	q     *Queue
	say   func(string, ...any)
	r     *rand.Rand
	cases []Place
}

// place is one of the cases, or Pending.
func (c *childSettler) place() Place {
	if n := c.r.IntN(len(c.cases) + 1); n > 0 {
		return c.cases[n-1]
	}
	return Pending
}

func (c *childSettler) settle(o LeaseOptions) {
	f := failer{}
	l, err := c.q.Lease(o)
	if err != nil || l == nil {
		return
	}
	var settlements []Settlement
	var gone []uint64
	for i, frame := range l.Frames {
		ids, blobs := frameIDs(f, frame), frameBlobs(f, c.q, frame)
		place := c.place()
		switch n := c.r.IntN(20); {
		case n == 0 && place != Pending:
			settlements = append(settlements, Settlement{Frame: i, Result: ResultKept, Place: place})
		case n == 1:
			parts := splitParts(ids[1:], plain(f, frame), blobs)
			for i := range parts {
				parts[i].Place = c.place()
				parts[i].Lane = []string{"", "lane0", "lane1", "moved"}[c.r.IntN(4)]
			}
			settlements = append(settlements, Settlement{Frame: i, Result: ResultReplaced, Delivered: 1, Parts: parts, Blobs: blobsOf(blobs, ids[:1])})
			gone = append(gone, ids[0])
		case n < 10 && o.Place != Pending:
			settlements = append(settlements, Settlement{Frame: i, Result: ResultPending})
		case n > 2:
			settlements = append(settlements, Settlement{Frame: i, Result: ResultDelivered, Blobs: blobsOf(blobs, ids)})
			gone = append(gone, ids...)
		}
	}
	sayIDs(c.say, "settling", gone)
	if l.Settle(settlements...) == nil {
		sayIDs(c.say, "settled", gone)
	}
}

// discard drops what a case holds.
func (c *childSettler) discard(p Place) {
	c.dropping(func(d Discarding) error {
		_, err := c.q.Discard(context.Background(), p, d)
		return err
	})
}

// discardPending drops some pending frames.
func (c *childSettler) discardPending() {
	frames, _, err := c.q.Frames(context.Background(), FrameQuery{FrameFilter: FrameFilter{Places: isPending}, Max: 1 + c.r.IntN(8)})
	if err != nil {
		return
	}
	only := map[FrameID]bool{}
	for _, m := range frames {
		only[m.ID] = true
	}
	c.dropping(func(d Discarding) error {
		d.Only = only
		_, err := c.q.DiscardPending(context.Background(), PendingDiscard{Discarding: d})
		return err
	})
}

// dropping says what a discard drops, before and after.
func (c *childSettler) dropping(discard func(Discarding) error) {
	f := failer{}
	var gone []uint64
	err := discard(Discarding{Reason: "discarded", Blobs: func(_ string, frame Frame) []string {
		ids, blobs := frameIDs(f, frame), frameBlobs(f, c.q, frame)
		sayIDs(c.say, "settling", ids)
		gone = append(gone, ids...)
		return blobsOf(blobs, ids)
	}})
	if err == nil {
		sayIDs(c.say, "settled", gone)
	}
}

// splitParts makes a part of each message, that names its blobs.
func splitParts(ids []uint64, payload []byte, blobs []messageBlob) (parts []Part) {
	for len(payload) > 0 {
		n := 12 + int(uint32(payload[0])<<24|uint32(payload[1])<<16|uint32(payload[2])<<8|uint32(payload[3]))
		found, err := messageIDs(payload[:n])
		if err == nil && len(found) == 1 && slices.Contains(ids, found[0]) {
			p := Part{Payload: payload[:n], Items: 1, Traces: []TraceID{traceOf(found[0])}}
			for _, name := range blobsOf(blobs, found) {
				p.Traces = append(p.Traces, blobTrace(Blob{ID: name}))
			}
			parts = append(parts, p)
		}
		payload = payload[n:]
	}
	return parts
}

func sayIDs(say func(string, ...any), what string, ids []uint64) {
	for _, id := range ids {
		say("%s %d", what, id)
	}
}

type failer struct{}

func (failer) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "child: "+format+"\n", args...)
	os.Exit(3)
}

// witness is what children said, over all rounds.
type witness struct {
	tried, acked, settling, settled map[uint64]bool
	together                        map[uint64]bool // the first of three messages appended at once
	dropped                         int64           // acknowledged
	last                            uint64
	on                              func(word string) // called for each line, if set
}

func newWitness() *witness {
	return &witness{together: map[uint64]bool{}, tried: map[uint64]bool{}, acked: map[uint64]bool{}, settling: map[uint64]bool{}, settled: map[uint64]bool{}}
}

func (w *witness) read(t *testing.T, r io.Reader, enough func() bool, kill func()) (lines int) {
	t.Helper()
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		word, number, ok := strings.Cut(scan.Text(), " ")
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue // cut off by the kill
		}
		lines++
		switch word {
		case "try":
			w.tried[id] = true
			w.last = max(w.last, id)
		case "together":
			w.together[id] = true
			w.tried[id], w.tried[id+1] = true, true
			w.last = max(w.last, id+2)
		case "dropped":
			w.dropped++
		case "acked":
			w.acked[id] = true
		case "settling":
			w.settling[id] = true
		case "settled":
			w.settled[id] = true
		}
		if w.on != nil {
			w.on(word)
		}
		if enough() {
			kill()
		}
	}
	return lines
}

// TestKilledProcessLosesNothingAcknowledged kills a child at random moments
// and at every named step, over one data directory, and checks after each
// round that what was acknowledged is there once unless it was settled.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	w := newWitness()
	steps := []string{"committed", "rotating", "rotated", "shelved", "removed", "recovering", "recovered", "blob-written", "blob-named", "blobs-settled"}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range killRounds(t) {
		step := ""
		if round%2 == 1 {
			step = steps[round/2%len(steps)]
			n := 1
			if !strings.HasPrefix(step, "recover") {
				n += r.IntN(4)
			}
			step += ":" + strconv.Itoa(n)
		}
		killOnce(t, w, childRun{dir: dir, step: step, lines: 50 + r.IntN(1500)})
		if round%4 == 3 { // the recovery of the next child is the recovery of a kill, otherwise
			checkSurvivors(t, w, dir, r.IntN(2) == 0)
		}
	}
	checkSurvivors(t, w, dir, true)
	if len(w.acked) == 0 || len(w.settled) == 0 || w.dropped == 0 {
		t.Fatalf("the children did nothing: %d acknowledged, %d settled, %d dropped", len(w.acked), len(w.settled), w.dropped)
	}
	t.Logf("%d tried, %d acknowledged, %d settled", len(w.tried), len(w.acked), len(w.settled))
}

func killRounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("WEIR_KILL_ROUNDS"))
	if err != nil && os.Getenv("WEIR_KILL_ROUNDS") != "" {
		t.Fatalf("WEIR_KILL_ROUNDS: %v", err)
	}
	if n == 0 {
		n = 40
	}
	return n
}

// childRun is one life of a child.
type childRun struct {
	dir, step string
	lines     int // killed after so many, or at the step
}

func killOnce(t *testing.T, w *witness, run childRun) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+run.dir, childRoleEnv+"=work", childStepEnv+"="+run.step,
		childBaseEnv+"="+strconv.FormatUint(w.last+1000, 10))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	w.read(t, out, func() bool { seen++; return seen == run.lines }, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("child (step %q) ended by itself: %v\n%s", run.step, err, stderr.String())
	}
}

// checkSurvivors opens the directory and compares it with what was said.
func checkSurvivors(t *testing.T, w *witness, dir string, drain bool) {
	t.Helper()
	q, err := Open(smallConfig(dir))
	if err != nil {
		t.Fatalf("open after kill: %v", err)
	}
	defer func() { _ = q.Close() }()
	if len(q.reports) > 0 {
		t.Errorf("recovery complains: %q", q.reports)
	}
	tot := checkTotals(t, q)
	if n := tot.DroppedByReason["quota"]; n < w.dropped || n > int64(len(w.together)) {
		t.Fatalf("%d items count as dropped, of %d acknowledged and %d tried", n, w.dropped, len(w.together))
	}
	for _, c := range q.Cases() {
		if err := q.Release(c.Place); err != nil {
			t.Fatal(err)
		}
	}
	found := map[uint64]int{}
	for _, ids := range pendingIDs(t, q) {
		for _, id := range ids {
			found[id]++
		}
	}
	checkFrameBlobs(t, q)
	for id, n := range found {
		switch {
		case n > 1:
			t.Fatalf("message %d is there %d times", id, n)
		case !w.tried[id]:
			t.Fatalf("message %d was never sent", id)
		case w.settled[id]:
			t.Fatalf("message %d was settled and is there again", id)
		}
	}
	for id := range w.together {
		if found[id] != found[id+1] && !w.settling[id] && !w.settling[id+1] {
			t.Fatalf("message %d is there %d times, and %d, appended with it, %d times", id, found[id], id+1, found[id+1])
		}
	}
	for id := range w.acked {
		if found[id] == 0 && !w.settling[id] {
			t.Fatalf("message %d was acknowledged, not settled, and is gone", id)
		}
	}
	if drain {
		for _, id := range settleAll(t, q) {
			w.settling[id], w.settled[id] = true, true
		}
		wantBlobs(t, q)
	}
}

// checkFrameBlobs reads the blobs that frames name, and looks for others.
func checkFrameBlobs(t fataler, q *Queue) {
	want := []string{}
	for _, lane := range q.Lanes() {
		for _, l := range leaseAllOf(t, q, lane.ID) {
			for _, f := range l.Frames {
				for _, b := range frameBlobs(t, q, f) {
					want = append(want, b.name)
				}
			}
			l.Return()
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, blobNames(t, q.cfg.Dir)); diff != "" {
		t.Fatalf("files of blobs (-named by frames +got):\n%s", diff)
	}
}

func TestSecondProcessIsRefusedByNameUntilTheFirstIsGone(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childRoleEnv+"=hold")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	_, err = Open(smallConfig(dir))
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("open of a directory in use: %v, want a LockedError", err)
	}
	if locked.PID != cmd.Process.Pid || locked.Owner != "test" || locked.Dir != dir {
		t.Errorf("refused in the name of %+v, want process %d (test) in %s", locked, cmd.Process.Pid, dir)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	mustOpen(t, smallConfig(dir))
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		t.Errorf("the lock file is gone: %v", err)
	}
}
