package smith

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Forever as a Fault's Count lets it fire for every request that it matches.
const Forever = -1

// MatchIngest as a Fault's Match limits it to the calls that take traces: OTLP,
// run operations and feedback.
const MatchIngest = "ingest"

// Stage is how far a request gets before its fault strikes.
type Stage uint8

// The stages, in the order a request passes them; the zero value is the most
// common one.
const (
	// StageRead: the body has been read, nothing of it is kept.
	StageRead Stage = iota
	// StageHeaders: the body has not been read, so an answer comes early. A
	// client that leaves a hang at this stage is noticed only by Close.
	StageHeaders
	// StageStored: the request has been dealt with as usual, only its answer
	// is replaced, held back or cut off. What it brought is kept.
	StageStored
	// StageAnswer: as StageStored, but a reset cuts the answer in half.
	StageAnswer
)

var stageNames = []string{"read", "headers", "stored", "answer"}

// String returns the name that UnmarshalText takes.
func (s Stage) String() string { return enumName(stageNames, s) }

// MarshalText implements encoding.TextMarshaler.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes read, headers, stored or answer.
func (s *Stage) UnmarshalText(text []byte) error { return parseEnum("stage", stageNames, text, s) }

// Fault is one thing going wrong. Latency, Hang, then Reset or the answer
// happen in this order. The zero value lets a request pass, which is how a
// script says "and then one that works".
type Fault struct {
	// Name appears in Stats.Faults; empty counts as "fault".
	Name string
	// Match is which requests it strikes: empty for all, MatchIngest, or a
	// path below the /api prefixes, such as /otel or /sessions, with all that
	// is under it.
	Match string
	// Method limits it to requests of one method; empty: any.
	Method string
	// Count is how many matching requests it strikes: 0 is one, Forever all.
	Count int
	// For ends it that long after it was scripted, by the server's clock, if
	// Count does not end it before; with it, a Count of 0 is Forever. 0: no end.
	For time.Duration
	// Every lets it strike only each so many-th of the matching requests,
	// beginning with the first; the others go on down the script. 0 and 1: all.
	Every int

	// Stage is when it strikes.
	Stage Stage
	// Latency holds the answer back.
	Latency time.Duration
	// Hang holds the answer back until Release, or until the client leaves.
	Hang bool
	// Reset breaks the connection off instead of answering (TCP RST; on
	// HTTP/2 RST_STREAM).
	Reset bool

	// Status answers with this code; 0 leaves the answer to the service.
	Status int
	// Header is added to the answer, whoever gives it.
	Header http.Header
	// RetryAfter is the Retry-After header, as it is, garbage included; but
	// "date+30s" becomes the HTTP date 30 seconds from the server's clock.
	RetryAfter string
	// Redirect is where the Location header leads: a base URL, to which the
	// request's path is added, or "https" for the same host over TLS.
	Redirect string
	// Body is the answer's body where Status is set. Without a Content-Type
	// in Header it goes out as JSON, or with none at all when empty.
	Body string
	// BodyBytes pads a shorter Body with filler up to this size.
	BodyBytes int64
	// BytesPerSecond paces the answer's body; 0 is unpaced.
	BytesPerSecond int
}

// scripted is a fault in the script. Its Count is what it has left.
type scripted struct {
	Fault

	until time.Time // when For ends it
	seen  int       // matching requests, for Every
}

// Times returns f striking n requests.
func (f Fault) Times(n int) Fault {
	f.Count = n
	return f
}

// Always returns f striking every request that it matches.
func (f Fault) Always() Fault { return f.Times(Forever) }

// matches reports whether f strikes requests to e.
func (f *Fault) matches(e endpoint) bool {
	if f.Method != "" && !strings.EqualFold(f.Method, e.asked) {
		return false
	}
	switch f.Match {
	case "":
		return true
	case MatchIngest:
		return e.ingest
	default:
		want := below(clean(f.Match))
		return want == "/" || e.path == want || strings.HasPrefix(e.path, want+"/")
	}
}

// over reports whether the fault's time is up.
func (f *scripted) over(now time.Time) bool { return !f.until.IsZero() && !now.Before(f.until) }

// due counts a matching request and reports whether it is one to strike.
func (f *scripted) due() bool {
	f.seen++
	return f.Every <= 1 || (f.seen-1)%f.Every == 0
}

// label names f in statistics.
func (f *Fault) label() string {
	switch {
	case f.Name != "":
		return f.Name
	case f.Status != 0:
		return fmt.Sprint(f.Status)
	default:
		return "fault"
	}
}

// faultPlan decides which fault strikes next: the first of the script that
// matches and has strikes left, else the standing one, else chaos.
type faultPlan struct {
	script   []scripted
	standing *Fault
	chaos    Chaos
	dice     *rand.Rand
}

func newFaultPlan(seed uint64, chaos Chaos) faultPlan {
	return faultPlan{chaos: chaos, dice: rand.New(rand.NewPCG(seed, 0x77656972))}
}

// next takes the fault for a request to e off the plan; nil is none.
func (p *faultPlan) next(e endpoint, now time.Time) *Fault {
	p.script = slices.DeleteFunc(p.script, func(f scripted) bool { return f.over(now) })
	for i := range p.script {
		if !p.script[i].matches(e) || !p.script[i].due() {
			continue
		}
		f := p.script[i].Fault
		if f.Count != Forever {
			p.script[i].Count--
			if p.script[i].Count <= 0 {
				p.script = slices.Delete(p.script, i, i+1)
			}
		}
		return &f
	}
	if p.standing != nil && p.standing.matches(e) {
		f := *p.standing
		return &f
	}
	return p.chaos.roll(p.dice, e)
}

// pickFault returns the fault that strikes a request to e, or nil.
func (s *Server) pickFault(e endpoint) *Fault {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.next(e, now)
}

// Script appends faults to the script. For each request the first one in it
// that matches strikes, and leaves the script when its Count is used up.
func (s *Server) Script(faults ...Fault) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		switch {
		case f.Count == 0 && f.For > 0:
			f.Count = Forever
		case f.Count == 0:
			f.Count = 1
		}
		one := scripted{Fault: f}
		if f.For > 0 {
			one.until = now.Add(f.For)
		}
		one.Header = f.Header.Clone()
		s.faults.script = append(s.faults.script, one)
	}
}

// SetStanding sets the fault for requests that no script entry strikes, for
// as long as it is set; its Count, For and Every do not matter. Nil
// ends it.
func (s *Server) SetStanding(f *Fault) {
	if f != nil {
		standing := *f
		standing.Header = f.Header.Clone()
		f = &standing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.standing = f
}

// SetChaos sets what fails at random among the requests that neither script
// nor standing fault strikes; the zero Chaos ends it.
func (s *Server) SetChaos(c Chaos) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.chaos = c
}

// ClearFaults ends script, standing fault and chaos, and releases what hangs.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	s.faults.script, s.faults.standing, s.faults.chaos = nil, nil, Chaos{}
	s.mu.Unlock()
	s.Release()
}

// PendingFaults returns what is left of the script.
func (s *Server) PendingFaults() []Fault {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	left := []Fault{}
	for i := range s.faults.script {
		if f := &s.faults.script[i]; !f.over(now) {
			left = append(left, f.Fault)
		}
	}
	return left
}

// Release lets every request that hangs now go on to its answer.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.release)
	s.release = make(chan struct{})
}

// released returns a channel that the next Release closes.
func (s *Server) released() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.release
}
