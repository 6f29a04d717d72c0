package quota

import (
	"fmt"
	"log/slog"
	"time"
)

// thresholds are the shares of a limit that are told, in percent.
var thresholds = [...]int{50, 80, 95, 100}

// EventKind is what an Event is about.
type EventKind uint8

// The kinds of event.
const (
	EventThreshold EventKind = iota + 1
	EventRefused
	EventCleared
)

// Event is something that is said once.
type Event struct {
	Kind    EventKind
	Percent int  // EventThreshold
	Refused Kind // EventRefused
}

// warnEvery bounds how often callers are told that the limit is reached.
const warnEvery = time.Minute

// warning is what to say to the caller of an export. changed: some of its
// traces are new; over: some of those are held or dropped.
func (g *Guard) warning(account string, changed, over bool) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if changed {
		g.tell(account, over)
	}
	return g.scope(account).takeReply()
}

// tell says what thresholds have been passed: in the log, and in the next
// reply. over: traces were held or dropped just now. g.mu is held.
func (g *Guard) tell(account string, over bool) {
	s := g.scope(account)
	limit := g.limit(s)
	if limit < 0 {
		return
	}
	used := g.ledger.Totals(account).Used() + s.Others
	reached := 0
	for _, percent := range thresholds {
		if used*100 >= limit*int64(percent) {
			reached = percent
		}
	}
	if reached > s.Told {
		s.Told = reached
		g.say(account, Event{Kind: EventThreshold, Percent: reached})
		s.reply = g.sentence(s, usage{reached, used, limit, over})
		_ = g.save(account, s) // at worst it is said again after a restart
	}
	now := g.cfg.Now()
	if over && s.reply == "" && (s.warned.IsZero() || now.Sub(s.warned) >= warnEvery || now.Before(s.warned)) {
		s.reply = g.sentence(s, usage{reached, used, limit, over})
	}
	if s.reply != "" && over {
		s.warned = now
	}
}

func (s *scope) takeReply() string {
	text := s.reply
	s.reply = ""
	return text
}

// usage is where an account stands.
type usage struct {
	percent     int // the highest threshold that is passed
	used, limit int64
	over        bool // something was held or dropped just now
}

// sentence is what an application's log should say about the limit.
func (g *Guard) sentence(s *scope, u usage) string {
	switch {
	case s.Refused != nil:
		return fmt.Sprintf("weir: LangSmith refuses new traces of this month (%s); %s", s.Refused.Kind, g.fate())
	case u.percent >= 100:
		return fmt.Sprintf("weir: this month's %d LangSmith traces are used; %s", u.limit, g.fate())
	case u.over:
		return fmt.Sprintf("weir: a part of this month's %d LangSmith traces is used up (a project's budget, or today's share); %s", u.limit, g.fate())
	default:
		return fmt.Sprintf("weir: %d of this month's %d LangSmith traces are used (%d %%)", u.used, u.limit, u.used*100/max(u.limit, 1))
	}
}

// fate says what becomes of new traces at the limit.
func (g *Guard) fate() string {
	switch g.cfg.Policy {
	case PolicyDrop:
		return "new traces are dropped"
	case PolicySample:
		return "new traces are dropped, but for those in the sample"
	case PolicyForward:
		return "new traces are sent all the same"
	default:
		return "new traces are kept on disk until there is room (weir quota)"
	}
}

// say writes an event to the log. g.mu is held.
func (g *Guard) say(account string, e Event) {
	s := g.scope(account)
	t := g.ledger.Totals(account)
	attrs := []any{
		slog.String("account", account), slog.Int64("used", t.Used()+s.Others), slog.Int64("limit", g.limit(s)),
		slog.String("month", g.clock.month.String()), slog.String("policy", string(g.cfg.Policy)),
	}
	attrs = append(attrs, slog.String("at_the_limit", g.fate()))
	switch e.Kind {
	case EventThreshold:
		if e.Percent >= 100 {
			g.cfg.Logger.Warn("the month's traces are used up", attrs...)
			return
		}
		g.cfg.Logger.Warn("much of the month's traces is used", append(attrs, slog.Int("percent", e.Percent))...)
	case EventRefused:
		g.cfg.Logger.Warn("the upstream refuses new traces for a limit of the month", append(attrs, slog.String("reason", string(e.Refused)))...)
	case EventCleared:
		g.cfg.Logger.Info("the upstream takes new traces again", attrs...)
	}
}
