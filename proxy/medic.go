package proxy

import (
	"context"
	"time"

	"weir/proxy/diagnose"
	"weir/queue"
)

// How often probes are made. They tell causes apart; whether a cause is gone,
// the data itself finds out.
const (
	medicTick    = 5 * time.Second
	probeFor     = 30 * time.Second // how long an answer is believed for all cases
	probeAgain   = time.Minute      // of a young case
	probeOld     = 10 * time.Minute // of one that stands for an hour
	maxProbes    = 8                // in a round
	maxAnswers   = 1024             // answers that are remembered
	regionsEvery = time.Hour        // keys are sent to strangers: seldom
)

// medic looks at open cases that heal by themselves, and asks LangSmith what
// tells their causes apart. One goroutine runs it.
type medic struct {
	f       *Forwarder
	answers map[question]answered
	asked   int       // in this round
	looked  time.Time // when the upstream's certificate was last looked at
}

// question is a probe for a key. Cases of many lanes with one key share it.
type question struct {
	probe diagnose.Probe
	as    caller
	base  string // of a region
}

type answered struct {
	reply *diagnose.Reply
	at    time.Time
}

func newMedic(f *Forwarder) *medic { return &medic{f: f, answers: map[question]answered{}} }

// run works until ctx is done.
func (m *medic) run(ctx context.Context) {
	tick := time.NewTicker(medicTick)
	defer tick.Stop()
	for {
		m.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.f.medicWake:
		}
	}
}

// round looks at every open case once.
func (m *medic) round(ctx context.Context) {
	m.forget()
	m.asked = 0
	for _, c := range m.f.history.doubts() {
		if m.has(c) {
			m.doubt(ctx, c)
		}
	}
	for place, fd := range m.f.cases.healing() {
		if ctx.Err() != nil {
			return
		}
		if fd.as == (caller{}) || !m.has(fd.as) { // of an earlier process, or configuration, and not refused since
			continue
		}
		m.look(ctx, place, &fd)
	}
	m.certificate(ctx)
}

// forget drops old answers once there are many.
func (m *medic) forget() {
	if len(m.answers) <= maxAnswers {
		return
	}
	now := m.f.cfg.Now()
	for q, a := range m.answers {
		keep := probeFor
		if q.probe == diagnose.ProbeRegions {
			keep = regionsEvery
		}
		if now.Sub(a.at).Abs() > keep {
			delete(m.answers, q)
		}
	}
	if len(m.answers) > 4*maxAnswers {
		clear(m.answers)
	}
}

// has reports whether a caller could be asked for: its key is there, and its
// upstream is the present one.
func (m *medic) has(c caller) bool {
	_, have := m.f.accounts.key(c)
	return c.upstream == m.f.dest.Load().UpstreamURL && (have || c.credential == "")
}

// doubt reads with a key that was taken until a moment ago.
func (m *medic) doubt(ctx context.Context, c caller) {
	q := question{probe: diagnose.ProbeSessions, as: c}
	delete(m.answers, q) // one from before it was refused says nothing
	if r := m.reply(ctx, q, nil, time.Minute, pathTenant); r != nil {
		m.f.history.readsAs(c, r)
		m.f.waits.hasten(m.f.cfg.Now().Add(retryFloor))
		m.f.poke()
	}
}

// certificate looks at what the upstream shows while TLS fails.
func (m *medic) certificate(ctx context.Context) {
	f, now := m.f, m.f.cfg.Now()
	w, waiting := f.waits.get(upstreamWait)
	if !waiting || w.Reason != reasonTLS || f.cfg.Certificate == nil || now.Sub(m.looked).Abs() < probeAgain {
		return
	}
	m.looked = now
	shown, err := f.cfg.Certificate(ctx)
	if err != nil {
		return // what sending met says enough
	}
	d := diagnose.Diagnose(&diagnose.Facts{
		Time: now, URL: f.dest.Load().UpstreamURL, Reason: w.Reason, Error: w.Detail, Probes: diagnose.Probes{Certificate: shown},
	})
	cause, remedy := explained(&d)
	f.waits.explain(upstreamWait, cause, remedy)
}

// reasonTLS is the upstream client's word for a failure of TLS.
const reasonTLS = "tls"

// look diagnoses one case, asking what the diagnosis wants to know.
func (m *medic) look(ctx context.Context, place queue.Place, fd *finding) {
	f := m.f
	first, ok := f.cases.refusal(place)
	if !ok {
		return // released a moment ago
	}
	out := &Outcome{Kind: Refused, Reason: first.Reason, Refusal: RefusedAccess, Exchange: first.Exchange}
	facts := f.facts(fd.lane, fd.as, out)
	reads := facts.Probes.Sessions
	facts.Probes = fd.Probes
	if facts.Probes.Sessions == nil {
		facts.Probes.Sessions = reads
	}
	facts.Time = f.cfg.Now()
	d := diagnose.Diagnose(facts)
	for _, p := range d.Wants {
		m.ask(ctx, p, fd, &facts.Probes)
	}
	facts.History = f.history.facts(fd.as, f.accounts.own())
	if refused, _ := f.history.refusedKey(fd.as); !refused && deniesKey(out) {
		return // it was taken meanwhile: the case is about to be released
	}
	d = diagnose.Diagnose(facts)
	if f.cases.found(place, d, &facts.Probes, f.cfg.Now()) {
		f.sayCase(true, place, fd.key.lane, &d, out)
	}
}

// again is how long an answer of a case stands before it is asked once more.
func (m *medic) again(fd *finding) time.Duration {
	if m.f.cfg.Now().Sub(fd.first) > time.Hour {
		return probeOld
	}
	return probeAgain
}

// ask makes one probe, unless it was made a moment ago.
func (m *medic) ask(ctx context.Context, p diagnose.Probe, fd *finding, to *diagnose.Probes) {
	base := m.f.dest.Load()
	as := fd.as
	switch p {
	case diagnose.ProbeInfo:
		to.Info = m.reply(ctx, question{probe: p, as: caller{upstream: base.UpstreamURL}}, to.Info, m.again(fd), pathInfo)
	case diagnose.ProbeSessions:
		to.Sessions = m.reply(ctx, question{probe: p, as: as}, to.Sessions, m.again(fd), pathTenant)
	case diagnose.ProbeWithoutHeader:
		as.workspace = ""
		to.WithoutWorkspace = m.reply(ctx, question{probe: p, as: as}, to.WithoutWorkspace, m.again(fd), pathTenant)
	case diagnose.ProbeLimits:
		to.Limits = m.reply(ctx, question{probe: p, as: as}, to.Limits, m.again(fd), pathLimits)
	case diagnose.ProbeRegions:
		m.regions(ctx, fd, to)
	case diagnose.ProbeCertificate: // of the upstream's own waits
	}
}

// reply asks, or returns an answer that is fresh enough.
func (m *medic) reply(ctx context.Context, q question, before *diagnose.Reply, again time.Duration, path string) *diagnose.Reply {
	now := m.f.cfg.Now()
	if known, ok := m.answers[q]; ok && now.Sub(known.at) < probeFor {
		return known.reply
	}
	if before != nil && now.Sub(before.Time).Abs() < again || m.asked >= maxProbes {
		return before
	}
	m.asked++
	question := &Question{Base: q.base, Path: path, Workspace: q.as.workspace}
	if q.as.credential != "" {
		question.APIKey, _ = m.f.accounts.key(q.as)
	}
	a := m.f.cfg.Asker.Ask(ctx, question)
	if ctx.Err() != nil {
		return before
	}
	if a.Status >= 500 && q.base == "" {
		m.f.history.failing()
	}
	result := "answered"
	if a.Status == 0 {
		result = "failed"
	}
	m.f.m.probes.WithLabelValues(string(q.probe), result).Inc()
	r := reply(&a, now)
	m.answers[q] = answered{r, now}
	return r
}

// regions asks LangSmith's other regions whether they know the key. Only the
// user can allow that: it sends the key there.
func (m *medic) regions(ctx context.Context, fd *finding, to *diagnose.Probes) {
	now := m.f.cfg.Now()
	for _, base := range m.f.cfg.ProbeRegions {
		if base == fd.as.upstream {
			continue
		}
		q := question{probe: diagnose.ProbeRegions, as: fd.as, base: base}
		if known, ok := m.answers[q]; ok && now.Sub(known.at) < regionsEvery {
			to.Regions = with(to.Regions, base, known.reply.Status)
			continue
		}
		if r := m.reply(ctx, q, nil, 0, pathTenant); r != nil {
			to.Regions = with(to.Regions, base, r.Status)
		}
	}
}

// with is a copy of regions with one more: findings share the map.
func with(regions map[string]int, base string, status int) map[string]int {
	out := map[string]int{base: status}
	for b, s := range regions {
		if b != base {
			out[b] = s
		}
	}
	return out
}
