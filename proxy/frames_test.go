package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/proxy/exported"
	"weir/queue"
	"weir/quota"
)

func TestFrameNames(t *testing.T) {
	id := queue.FrameID{Segment: 12, Seq: 3041}
	if got, err := ParseFrameName(FrameName(id)); got != id || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "12", "12.", ".1", "12/3041", "12.-1", "012.1", "1.2.3", "1.4294967296", "a.b", " 1.2"} {
		if id, err := ParseFrameName(text); err == nil {
			t.Errorf("%q is taken for %v", text, id)
		}
	}
}

// frames lists frames, all of them in one page.
func (r *rig) frames(c FrameChoice) []FrameStatus {
	r.t.Helper()
	c.Max = maxFramesPage
	frames, more, err := r.f.Frames(r.t.Context(), &c)
	if err != nil || more {
		r.t.Fatalf("list %+v: more %v, %v", c, more, err)
	}
	return frames
}

func (r *rig) discardFrames(d FrameDiscard, want FramesDiscarded) {
	r.t.Helper()
	got, err := r.f.DiscardFrames(r.t.Context(), d)
	got.Bytes = 0
	if err != nil || got != want {
		r.t.Errorf("discard %+v: %+v, %v, want %+v", d, got, err, want)
	}
	r.conserved(r.q.Stats().Totals)
}

// TestDiscardedFramesGiveSharesBack: what was never sent takes no share of the
// month once it is dropped; what may have arrived keeps its own. A later arrival of
// the same trace is sent.
func TestDiscardedFramesGiveSharesBack(t *testing.T) {
	r := newLimitedRig(t, quota.Rules{Traces: 3})
	r.up.set(func(*Request, []string) Outcome {
		return Outcome{Kind: Retry, Reason: "timeout", Scope: ScopeLane, MayHaveArrived: true}
	})
	r.bring("lost:1")
	r.until("an answer to be lost", func(queue.Totals) bool { return r.up.count() > 0 && !r.frames(FrameChoice{})[0].Leased })
	r.bring("a:1", "a:2")
	r.bring("b:1")
	r.bring("held:1")
	if s := r.f.QuotaStatus()[0]; s.Reserved != 3 || s.Held != 1 {
		t.Fatalf("the month stands at %+v", s)
	}
	if held := r.frames(FrameChoice{State: FrameHeld}); len(held) != 1 || held[0].State != FrameHeld || held[0].Items != 1 {
		t.Errorf("held frames %+v", held)
	}
	pending := r.frames(FrameChoice{State: FramePending})
	if len(pending) != 3 {
		t.Fatalf("pending frames %+v", pending)
	}
	r.discardFrames(FrameDiscard{DryRun: true}, FramesDiscarded{Frames: 3, Items: 4})
	r.discardFrames(FrameDiscard{OlderThan: time.Hour}, FramesDiscarded{})
	r.discardFrames(FrameDiscard{IDs: []queue.FrameID{pending[2].ID, {Segment: 99}}, Lane: pending[2].Lane}, FramesDiscarded{Frames: 1, Items: 1})
	if s := r.f.QuotaStatus()[0]; s.Reserved != 2 {
		t.Errorf("%d shares are taken after one trace is dropped, want 2", s.Reserved)
	}
	r.discardFrames(FrameDiscard{}, FramesDiscarded{Frames: 2, Items: 3})
	if s := r.f.QuotaStatus()[0]; s.Reserved != 1 {
		t.Errorf("%d shares are taken, want the one of what may have arrived", s.Reserved)
	}
	tot := r.q.Stats().Totals
	if tot.DroppedByReason[reasonDiscarded] != 4 || tot.Pending != 0 || tot.Held != 1 {
		t.Errorf("totals %+v", tot)
	}
	r.wantPlaces("a:", TraceDiscarded)
	r.up.set(delivered)
	r.clock.set(r.clock.now().Add(time.Hour))
	r.f.Wake()
	r.bring("a:3")
	r.until("it to be delivered", func(t queue.Totals) bool { return t.Delivered == 1 })
	r.wantPlaces("a:", TraceDelivered, TraceDiscarded)
}

// TestWhatIsBeingSentStays also when everything is discarded.
func TestWhatIsBeingSentStays(t *testing.T) {
	up := newFakeUpstream()
	began, end := make(chan struct{}), make(chan struct{})
	up.set(func(*Request, []string) Outcome {
		began <- struct{}{}
		<-end
		return Outcome{Kind: Delivered, Reason: "ok"}
	})
	r := newRig(t, up)
	r.accept(Caller{}, "a", "b")
	r.f.Start(t.Context())
	<-began
	if frames := r.frames(FrameChoice{}); len(frames) != 1 || !frames[0].Leased || frames[0].State != FramePending {
		t.Errorf("frames %+v", frames)
	}
	r.discardFrames(FrameDiscard{DryRun: true}, FramesDiscarded{Sending: 1})
	r.discardFrames(FrameDiscard{}, FramesDiscarded{Sending: 1})
	close(end)
	r.until("delivery", func(t queue.Totals) bool { return t.Delivered == 2 && t.Dropped == 0 })
}

// contentOf is what a frame holds, as lines and payloads.
func (r *rig) contentOf(s *FrameStatus) (c FrameContent, lines []exported.Line) {
	r.t.Helper()
	c, err := r.f.FrameContent(s)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, text := range c.Lines {
		var l exported.Line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			r.t.Errorf("%v in %.100q", err, text)
		}
		lines = append(lines, l)
	}
	return c, lines
}

func TestFrameContentIsBounded(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	small, large := "small", strings.Repeat("x", 200<<10)
	r.accept(Caller{}, small, large, large)
	r.accept(Caller{}, strings.Repeat("y", 500<<10))
	frames := r.frames(FrameChoice{})
	if len(frames) != 2 {
		t.Fatalf("frames %+v", frames)
	}
	c, lines := r.contentOf(&frames[0])
	if len(lines) != 2 || !c.Cut || string(lines[0].Payload) != small+"\n" || len(lines[1].Payload) != len(large)+1 {
		t.Errorf("%d lines, cut %v", len(lines), c.Cut)
	}
	if n := len(c.Lines[1]); n < base64.StdEncoding.EncodedLen(len(large)) || n > MaxFrameContent {
		t.Errorf("a line of %d bytes", n)
	}
	if c, lines := r.contentOf(&frames[1]); len(lines) != 0 || !c.Cut {
		t.Errorf("of a line that is too long: %d lines, cut %v", len(lines), c.Cut)
	}
	one, err := r.f.Frame(frames[0].ID)
	if err != nil || one.Items != 3 || len(one.Traces) != 1 || one.RawBytes != int64(len(small)+2*len(large)+3) {
		t.Errorf("the frame is %+v, %v", one.FrameMeta, err)
	}
	if _, err := r.f.Frame(queue.FrameID{Segment: 99}); !errors.Is(err, ErrNoFrame) {
		t.Errorf("a frame that is not there: %v", err)
	}
	frames[0].ID.Seq = 99
	if _, err := r.f.FrameContent(&frames[0]); !errors.Is(err, ErrNoFrame) {
		t.Errorf("the content of a frame that is not there: %v", err)
	}
}

// TestDamagedFrameIsShownAsSuch: one whose payload does not match its checksum is
// described, its content says so, and it can be discarded.
func TestDamagedFrameIsShownAsSuch(t *testing.T) {
	r := newRig(t, newFakeUpstream())
	noise, random := make([]byte, 30<<10), rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte('!' + random.IntN(90))
	}
	r.accept(Caller{}, string(noise))
	r.close(t.Context())
	logs, err := filepath.Glob(filepath.Join(r.dir, "segments", "*", "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		if b, err := os.ReadFile(path); err == nil && len(b) > 4000 && !bytes.Equal(b[3000:4000], make([]byte, 1000)) {
			b[3500] ^= 0xff
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.open()
	frames := r.frames(FrameChoice{})
	if len(frames) != 1 || frames[0].Items != 1 {
		t.Fatalf("frames %+v", frames)
	}
	if s, err := r.f.Frame(frames[0].ID); err != nil || s.Bytes != frames[0].Bytes {
		t.Errorf("the frame is %+v, %v", s, err)
	}
	c, lines := r.contentOf(&frames[0])
	if len(lines) != 1 || lines[0].Kind != exported.KindUnreadable || lines[0].Items != 1 || !strings.Contains(lines[0].Why, "damaged") || c.Cut {
		t.Errorf("its content is %d lines, cut %v", len(lines), c.Cut)
	}
	r.discardFrames(FrameDiscard{}, FramesDiscarded{Frames: 1, Items: 1})
}

// TestDiscardForgetsAttempts: what is remembered of attempts at a frame goes with
// it, and an update that comes after its create was dropped goes by itself.
func TestDiscardForgetsAttempts(t *testing.T) {
	r := newRunsRig(t, nil)
	r.smith.set("lost")
	r.take(createOf(1, ""))
	r.f.Start(t.Context())
	r.until("an attempt", func(queue.Totals) bool {
		frames := r.frames(FrameChoice{})
		return len(frames) == 1 && !frames[0].Leased && r.f.attempts.knows(frames[0].ID)
	})
	r.discardFrames(FrameDiscard{}, FramesDiscarded{Frames: 1, Items: 1})
	r.f.attempts.mu.Lock()
	left := len(r.f.attempts.frames)
	r.f.attempts.mu.Unlock()
	if left != 0 {
		t.Errorf("%d frames are remembered", left)
	}
	r.smith.set("")
	r.f.Wake()
	r.take(updateOf(1, ""))
	r.until("the update to be delivered", func(t queue.Totals) bool { return t.Delivered == 1 && t.Dropped == 1 })
}
