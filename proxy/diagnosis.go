package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// A case's diagnosis is kept beside it, as a note of the queue: it changes, as
// probes tell more, and what the queue keeps of a case does not.
const diagnosisNotes = "diagnosis/"

func diagnosisNote(p queue.Place) string { return fmt.Sprint(diagnosisNotes, p) }

// finding is what is known of a case's cause.
type finding struct {
	Diagnosis diagnose.Diagnosis `json:"diagnosis"`
	Probes    diagnose.Probes    `json:"probes"`
	LastSeen  time.Time          `json:"last_seen"`

	lane  Lane
	as    caller // whose key was refused; zero after a restart, until it is again
	id    queue.LaneID
	first Refusal
	// parsed is false where what is on disk of the refusal cannot be understood.
	parsed bool
	saved  time.Time
}

// key is what made it a case of its own.
func (fd *finding) key() caseKey {
	return caseKey{fd.id, fd.first.Reason, fd.first.Cause, fd.first.Heals}
}

// bareFacts are those of a refusal alone, without what is known of its lane.
func bareFacts(r *Refusal) *diagnose.Facts {
	x := &r.Exchange
	return &diagnose.Facts{
		Time: x.Time, URL: x.URL, Reason: r.Reason, Status: x.Status, Header: x.Header, Body: x.Body, Error: x.Error,
		SentBytes: x.SentBytes, ServerDate: x.ServerDate,
	}
}

// facts puts together what is known of a refusal. c is whose key was sent.
func (f *Forwarder) facts(lane Lane, c caller, out *Outcome) *diagnose.Facts {
	dest := f.dest.Load()
	facts := bareFacts(&Refusal{Reason: out.Reason, Exchange: out.Exchange})
	facts.OwnKey = lane.Credential == refKey
	facts.Workspace = resolve(lane.Workspace, refWorkspace, dest.Workspace)
	facts.History = f.history.facts(c, f.accounts.own())
	facts.Probes.Sessions = f.history.reads(c)
	if facts.Time.IsZero() {
		facts.Time = f.cfg.Now()
	}
	facts.Key, facts.Bearer = f.keyShape(c)
	if !facts.OwnKey {
		facts.OwnHint = KeyHint(dest.APIKey)
	}
	return facts
}

// keyShape is what a caller's key looks like, and whether it is sent as a bearer
// token. Of one that was replaced by a reload nothing is known any more, which
// is not the same as no key.
func (f *Forwarder) keyShape(c caller) (shape diagnose.Key, bearer bool) {
	key, known := f.accounts.key(c)
	if !known && c.credential != "" {
		return diagnose.Key{Kind: diagnose.KeyUnknown, Hint: "…"}, false
	}
	key, bearer = strings.CutPrefix(key, "Bearer ")
	return diagnose.ShapeOf(key), bearer
}

// judge notes how a request ended, and takes the refusal of a key that is no
// fault of the key for the outage that it is.
func (f *Forwarder) judge(s *sending, out *Outcome) {
	if f.history.saw(s.as, out) {
		f.wakeKeys() // what waits under a refused key may go out under this one
	}
	if !deniesKey(out) {
		return
	}
	facts := f.facts(s.lane, s.as, out)
	d := diagnose.Diagnose(facts)
	top := d.Top()
	if top.Code != diagnose.UpstreamIncident {
		return
	}
	// Short bursts of 403 heal by themselves: before there is a case, a read is to
	// tell whether it is the key.
	doubted := f.cfg.Asker != nil && f.history.doubted(s.as)
	if doubted {
		f.pokeMedic()
	}
	if doubted || top.Confidence != diagnose.Possible {
		out.Kind, out.Refusal, out.Reason = Retry, 0, string(diagnose.UpstreamIncident)
	}
}

// openCase is the place of the case for a refusal of a lease's data, opening it
// if this is the first. heals says that it is released by itself.
func (f *Forwarder) openCase(s *sending, out *Outcome, heals bool) (queue.Place, error) {
	d := diagnose.Diagnose(f.facts(s.lane, s.as, out))
	place, fresh, err := f.cases.open(s.lease.Lane, out, heals, d)
	if err != nil {
		return place, err
	}
	f.cases.seen(place, s, f.cfg.Now())
	if fresh {
		f.sayCase(false, place, s.lease.Lane, &d, out)
	}
	if heals {
		f.pokeMedic()
	}
	return place, nil
}

// sayCase logs what is known of a case: once when it is opened, and once when
// that changes.
func (f *Forwarder) sayCase(news bool, place queue.Place, lane queue.LaneID, d *diagnose.Diagnosis, out *Outcome) {
	top := d.Top()
	attrs := []any{
		"case", place, "lane", lane, "cause", top.Code, "confidence", top.Confidence,
		"reason", out.Reason, "detail", sentence(out), "remedy", top.Remedy,
	}
	if news {
		f.cfg.Logger.Warn("more is known of why the upstream refuses data", attrs...)
		return
	}
	f.cfg.Logger.Warn("the upstream refuses data; it is kept in quarantine", attrs...)
}

// reply is an answer as a diagnosis sees it.
func reply(a *Answer, at time.Time) *diagnose.Reply {
	r := &diagnose.Reply{Time: at, Status: a.Status, Date: a.Date, Body: clip(strings.ToValidUTF8(string(a.Body), "�"), 512)}
	if a.Err != nil {
		r.Error = a.Err.Error()
	}
	if a.Status == 0 {
		return r
	}
	var value any
	if body := strings.TrimSpace(string(a.Body)); body != "" && json.Unmarshal(a.Body, &value) != nil {
		low := strings.ToLower(body[:min(len(body), 512)])
		r.HTML = strings.Contains(low, "<html") || strings.Contains(low, "<!doctype html")
		r.Title = diagnose.Title(string(a.Body))
	}
	return r
}

// needsPerson reports whether somebody has to do something about a cause.
func needsPerson(c diagnose.Code) bool {
	switch c {
	case diagnose.UpstreamIncident, diagnose.Network, diagnose.NotFoundYet, diagnose.QuotaMonth, diagnose.RateHourEvents,
		diagnose.RateHourBytes, diagnose.RateGateway:
		return false
	default:
		return true
	}
}

// explained is the cause of a wait, and what to do where a person has to.
func explained(d *diagnose.Diagnosis) (cause, remedy string) {
	top := d.Top()
	if needsPerson(top.Code) && top.Code != diagnose.Unknown {
		remedy = top.Remedy
	}
	return string(top.Code), remedy
}
