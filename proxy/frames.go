package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"weir/proxy/exported"
	"weir/queue"
)

// What a person sees of the frames on disk.

// FrameState says where a frame stands.
type FrameState string

// The states of a frame. They are stable words.
const (
	FramePending     FrameState = "pending"     // to be sent
	FrameHeld        FrameState = "held"        // kept back by the quota guard
	FrameQuarantined FrameState = "quarantined" // refused, or unreadable
)

// FrameStatus is one frame for people.
type FrameStatus struct {
	queue.FrameMeta
	State FrameState
}

// ErrNoFrame is returned for a frame that is not there, or not any more.
var ErrNoFrame = queue.ErrNoFrame

// FrameName is a frame's name for people: "12.3041".
func FrameName(id queue.FrameID) string { return fmt.Sprintf("%d.%d", id.Segment, id.Seq) }

// ParseFrameName reads what FrameName wrote.
func ParseFrameName(text string) (queue.FrameID, error) {
	segment, seq, found := strings.Cut(text, ".")
	s, serr := strconv.ParseUint(segment, 10, 64)
	n, nerr := strconv.ParseUint(seq, 10, 32)
	id := queue.FrameID{Segment: s, Seq: uint32(n)}
	if !found || serr != nil || nerr != nil || FrameName(id) != text {
		return queue.FrameID{}, fmt.Errorf("%.40q is not a frame's name, such as 12.3041", text)
	}
	return id, nil
}

// FrameChoice says which frames are listed; of several fields all must be true of
// a frame.
type FrameChoice struct {
	Lane      queue.LaneID // 0: of all
	State     FrameState   // empty: any
	Case      queue.Place  // 0: any
	OlderThan time.Duration
	Newest    bool
	After     queue.FrameID // the last of the page before; zero: the first page
	Max       int           // of one page; 0 is 100, 1,000 at most
}

// The bounds of a page of frames.
const (
	framesPage    = 100
	maxFramesPage = 1000
)

// Frames lists a page of frames in the order in which they stand on disk, which is
// about that of their age, without their traces. more is set where there may be
// others behind the last one.
func (f *Forwarder) Frames(ctx context.Context, c *FrameChoice) (frames []FrameStatus, more bool, err error) {
	state := f.frameStates()
	q := queue.FrameQuery{
		FrameFilter: queue.FrameFilter{Lane: c.Lane, Newest: c.Newest, Places: func(p queue.Place) bool {
			return (c.Case == queue.Pending || c.Case == p) && (c.State == "" || c.State == state(p))
		}},
		After: c.After, Max: framesPage,
	}
	if c.Max > 0 {
		q.Max = min(c.Max, maxFramesPage)
	}
	if c.OlderThan > 0 {
		q.AcceptedBy = f.cfg.Now().Add(-c.OlderThan)
	}
	found, more, err := f.q.Frames(ctx, q)
	if err != nil {
		return nil, false, fmt.Errorf("list frames: %w", err)
	}
	frames = make([]FrameStatus, len(found))
	for i := range found {
		frames[i] = FrameStatus{found[i], state(found[i].Place)}
	}
	return frames, more, nil
}

// frameStates tells the state of what stands at a place now.
func (f *Forwarder) frameStates() func(queue.Place) FrameState {
	kinds := map[queue.Place]queue.CaseKind{}
	for _, c := range f.q.Cases() {
		kinds[c.Place] = c.Kind
	}
	return func(p queue.Place) FrameState {
		switch {
		case p == queue.Pending:
			return FramePending
		case kinds[p] == queue.CaseHold || kinds[p] == 0 && f.holds.has(p): // the latter was opened since
			return FrameHeld
		default:
			return FrameQuarantined
		}
	}
}

// Frame describes one frame with its traces. It returns ErrNoFrame, and an error
// matching queue.ErrDamaged for one of which not even the header can be read.
func (f *Forwarder) Frame(id queue.FrameID) (FrameStatus, error) {
	m, err := f.q.StatFrame(id)
	if err != nil {
		return FrameStatus{}, err
	}
	return FrameStatus{m, f.frameStates()(m.Place)}, nil
}

// FrameContent is what a frame holds, for people.
type FrameContent struct {
	// Lines are those of package exported, without line ends: one for each item.
	Lines []string
	// Cut is set where there is more: what attachments in files of their own hold
	// is left out.
	Cut bool
}

// MaxFrameContent bounds the bytes of FrameContent.
const MaxFrameContent = 512 << 10

// FrameContent reads what a frame holds, up to MaxFrameContent bytes of it. Of one
// that cannot be read it has a line that says so. It holds one frame in memory, and
// returns ErrNoFrame and queue.ErrClosed.
func (f *Forwarder) FrameContent(s *FrameStatus) (FrameContent, error) {
	sink := lineSink{left: MaxFrameContent}
	e := exporter{f: f, w: exported.NewWriter(&sink), place: s.Place, bare: true}
	fr, err := f.q.ReadFrame(s.ID)
	switch {
	case errors.Is(err, queue.ErrDamaged):
		err = e.unreadable(&s.FrameMeta, err)
	case err == nil:
		lane, known := (&holder{f: f}).lanes()[s.Lane]
		if !known {
			err = e.unreadable(&s.FrameMeta, fmt.Errorf("lane %d is not known", s.Lane))
			break
		}
		err = e.frame(lane, &fr)
	}
	if err != nil && !errors.Is(err, errLinesFull) {
		return FrameContent{}, err
	}
	return FrameContent{Lines: sink.lines, Cut: err != nil || e.omitted}, nil
}

// errLinesFull ends what is written into a lineSink.
var errLinesFull = errors.New("there is more than may be shown")

// lineSink collects lines, each of which is one Write, up to a bound.
type lineSink struct {
	lines []string
	left  int
}

// Write implements io.Writer.
func (s *lineSink) Write(line []byte) (int, error) {
	if len(line) > s.left {
		return 0, errLinesFull
	}
	s.left -= len(line)
	s.lines = append(s.lines, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}
