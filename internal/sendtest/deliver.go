package sendtest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"weir/proxy"
	"weir/proxy/upstream"
)

// deliver follows the trace until LangSmith has taken it.
func (t *test) deliver(ctx context.Context) error {
	began := time.Now()
	var last proxy.Whereabouts
	var trouble error
	_, err := t.poll(ctx, t.timeout, lookFirst, lookCap, func(ctx context.Context) bool {
		at, err := t.Whereabouts(ctx, t.trace.id)
		if err != nil {
			if ctx.Err() == nil {
				trouble = err
			}
			return false
		}
		last, trouble = at, nil
		switch at.State() {
		case proxy.TracePending, proxy.TraceUnknown:
			return false
		default:
			return true
		}
	})
	if err != nil {
		return err
	}
	if last.State() == proxy.TraceDelivered {
		return t.done(stepDelivered, began, "LangSmith took it from weir")
	}
	why := t.where(&last)
	if trouble != nil {
		why = stuck{reason: "unreadable", seen: "weir cannot look for the trace: " + trouble.Error(), remedy: "`weir status` and weir's log say more."}
	}
	if c := placeOf(&last).Case; c != nil {
		t.result.CaseId = uint64(c.Place)
	}
	return t.failed(stepDelivered, began, why)
}

// placeOf is the place of a trace that matters most.
func placeOf(at *proxy.Whereabouts) proxy.TracePlace {
	for i := range at.Places {
		if at.Places[i].State == at.State() {
			return at.Places[i]
		}
	}
	return proxy.TracePlace{State: proxy.TraceUnknown}
}

// where says why a trace is where it is.
func (t *test) where(at *proxy.Whereabouts) stuck {
	place := placeOf(at)
	switch place.State {
	case proxy.TraceHeld:
		return stuck{
			reason: "held", person: true,
			seen:   "weir holds the trace on disk: the month's traces are used up, or the project's share of them",
			remedy: "`weir quota` shows the limit; `weir quota set-limit` or `weir quota release` lets traces go, else the month's turn does.",
		}
	case proxy.TraceDropped, proxy.TraceDiscarded:
		return stuck{
			reason: "dropped", person: true,
			seen:   "weir dropped the trace: the month's traces are used up, and the policy is to drop or to sample",
			remedy: "`weir quota` shows the limit and the policy.",
		}
	case proxy.TraceQuarantined:
		return t.refused(&place)
	case proxy.TracePending:
		return t.pending(&place)
	default:
		return stuck{reason: "unknown", seen: "weir does not know the trace any more", remedy: "weir's log may say why."}
	}
}

// refused says why LangSmith refused a trace.
func (t *test) refused(at *proxy.TracePlace) stuck {
	if at.Case == nil {
		return stuck{reason: "refused", seen: "LangSmith refused the trace; weir keeps it", remedy: "`weir status` shows the case.", person: true}
	}
	r := &at.Case.Refusal
	seen := fmt.Sprintf("LangSmith refused the trace (%s%s); weir keeps it in case %d", r.Reason, quotedBody(r.Exchange.Body), at.Case.Place)
	if r.Heals {
		seen += " and sends it by itself once the cause is gone"
	}
	return stuck{reason: r.Reason, seen: seen, remedy: cmp.Or(at.Case.Diagnosis.Top().Remedy, remedyOf(r.Exchange.Status)), person: true}
}

// pending says what a trace waits for.
func (t *test) pending(at *proxy.TracePlace) stuck {
	why := stuck{reason: "pending", seen: "weir has the trace on disk and has not sent it within " + t.timeout.String()}
	l := at.Of
	if l == nil {
		why.remedy = "`weir status` shows what it waits for."
		return why
	}
	if l.Reason != "" {
		why.reason = l.Reason
		why.seen += ": its lane waits (" + l.Reason + ")"
	}
	if l.LastError != "" {
		why.seen += ": " + strings.TrimSpace(l.LastError)
	}
	if !l.NextAttempt.IsZero() {
		why.seen += "; next attempt at " + l.NextAttempt.UTC().Format(time.RFC3339)
	}
	why.person = l.State == proxy.LaneParked
	why.remedy = "It goes out by itself; give it longer with --timeout, and see `weir status`."
	if why.person {
		why.remedy = remedyOf(http.StatusForbidden)
	}
	return why
}

// remedyOf is what helps against a status.
func remedyOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "Set LANGSMITH_API_KEY to a key that begins with lsv2_, and reload weir; `weir doctor` checks it."
	case http.StatusForbidden:
		return "Check the key, its workspace and the region of the upstream; `weir doctor` tells them apart."
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusFound, http.StatusPermanentRedirect:
		return "Check the upstream's URL: it is that of the API, such as https://api.smith.langchain.com."
	case http.StatusTooManyRequests:
		return "LangSmith's limit is reached: `weir quota` shows the month."
	default:
		return "`weir status` shows what LangSmith answered; `weir doctor` checks key, workspace and upstream."
	}
}

// quotedBody is a refusal's body as it fits into a sentence.
func quotedBody(body string) string {
	const most = 200
	body = strings.Join(strings.Fields(body), " ")
	if body == "" {
		return ""
	}
	if len(body) > most {
		body = strings.ToValidUTF8(body[:most], "") + "…"
	}
	return ": " + body
}

// request is an export of the trace under weir's own key.
func (t *test) request(spans ...[]byte) *proxy.Request {
	r := &proxy.Request{
		Protocol: proxy.ProtocolOTLP, APIKey: t.Destination.APIKey, Workspace: t.Destination.Workspace,
		Project: t.result.GetProject(), Items: len(spans),
	}
	for _, s := range spans {
		r.Parts = append(r.Parts, proxy.Part{Payload: s, RawBytes: len(s)})
	}
	return r
}

// sendDirect sends the trace to LangSmith, past weir.
func (t *test) sendDirect(ctx context.Context) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	out := t.Upstream.SendAs(bounded, t.request(t.trace.span(RunName)), upstream.EncodingAuto)
	if err := ctx.Err(); err != nil {
		return err
	}
	if out.Kind == proxy.Delivered && out.RejectedItems == 0 {
		return t.done(stepDelivered, began, "LangSmith took it")
	}
	x := &out.Exchange
	seen := "LangSmith did not take the trace (" + out.Reason + quotedBody(x.Body) + ")"
	if x.Error != "" {
		seen += ": " + x.Error
	}
	return t.failed(stepDelivered, began, stuck{
		reason: out.Reason, seen: seen, remedy: remedyOf(x.Status), person: out.Kind == proxy.Refused || x.Status == http.StatusTooManyRequests,
	})
}
