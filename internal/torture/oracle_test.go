package torture_test

import (
	"strings"
	"testing"

	"weir/internal/torture"
	weirv1 "weir/proto/weir/v1"
)

// story is what happened to one export of ten spans.
type story struct {
	answer   torture.Answer
	arrivals int
	// altered and foreign let it arrive changed, or out of nothing.
	altered, foreign bool
}

// TestTheOracleCatchesEveryBreach tells the ledger stories, honest and not.
func TestTheOracleCatchesEveryBreach(t *testing.T) {
	const spans = 10
	totals := func(accepted, delivered, pending, quarantined, dropped int64) *weirv1.Totals {
		return &weirv1.Totals{
			AcceptedItems: accepted, DeliveredItems: delivered, PendingItems: pending,
			QuarantinedItems: quarantined, DroppedItems: dropped,
		}
	}
	acked := story{answer: torture.Acknowledged, arrivals: 1}
	for _, tc := range []struct {
		name    string
		stories []story
		totals  *weirv1.Totals
		allow   torture.Allowance
		crash   string
		kills   int
		want    string // in the findings; empty: none
	}{
		{name: "all well", stories: []story{acked, acked}, totals: totals(20, 20, 0, 0, 0)},
		{
			name: "kept although the answer was lost", stories: []story{acked, {answer: torture.Lost, arrivals: 1}},
			totals: totals(20, 20, 0, 0, 0),
		},
		{name: "nothing sent", totals: totals(0, 0, 0, 0, 0), want: "proves nothing"},
		{
			name: "acknowledged and gone", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(10, 10, 0, 0, 0), want: "conservation: 10 acknowledged spans have not arrived, weir counts only 0",
		},
		{
			name: "gone, but counted as delivered", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 20, 0, 0, 0), want: "honesty: 20 items delivered, but 10 arrived",
		},
		{
			name: "pending after the quiet phase", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 10, 10, 0, 0), want: "10 items are still pending",
		},
		{
			name: "pending, and that is allowed", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 10, 10, 0, 0), allow: torture.Allowance{Undelivered: true},
		},
		{
			name: "quarantined, as it should be", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 10, 0, 10, 0), allow: torture.Allowance{Quarantined: 10},
		},
		{
			name: "quarantined without a cause", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 10, 0, 10, 0), want: "10 items are in quarantine, want 0",
		},
		{
			name: "dropped", stories: []story{acked, {answer: torture.Acknowledged}},
			totals: totals(20, 10, 0, 0, 10), want: "10 items were dropped",
		},
		{
			name: "states that do not add up", stories: []story{acked},
			totals: totals(12, 10, 0, 0, 0), want: "not the sum of their states",
		},
		{
			name: "counted twice", stories: []story{acked, acked},
			totals: totals(40, 20, 20, 0, 0), want: "at most 20 can have been kept",
		},
		{
			name: "refused but kept", stories: []story{acked, {answer: torture.RefusedForNow, arrivals: 1}},
			totals: totals(10, 10, 0, 0, 0), want: "honesty: 10 spans of refused exports arrived",
		},
		{
			name: "altered", stories: []story{acked, {answer: torture.Acknowledged, arrivals: 1, altered: true}},
			totals: totals(20, 20, 0, 0, 0), want: "integrity: 1 arrivals differ",
		},
		{
			name: "invented", stories: []story{acked, {foreign: true}},
			totals: totals(10, 10, 0, 0, 0), want: "integrity: 10 arrivals were never offered",
		},
		{
			name: "doubled for no reason", stories: []story{acked, {answer: torture.Acknowledged, arrivals: 2}},
			totals: totals(20, 20, 0, 0, 0), want: "thrift: 1 requests were sent again",
		},
		{
			name: "doubled by a kill", stories: []story{acked, {answer: torture.Acknowledged, arrivals: 2}},
			totals: totals(20, 20, 0, 0, 0), kills: 1, allow: torture.Allowance{InFlight: 1},
		},
		{
			name: "crashed", stories: []story{acked}, totals: totals(10, 10, 0, 0, 0),
			crash: "fatal error: fault", want: "weir crashed: fatal error: fault",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := torture.NewLedger()
			src, other := torture.Chat(1, spans), torture.Chat(2, spans)
			var request int64
			for _, s := range tc.stories {
				request = tell(t, l, s, src, other, request)
			}
			for range tc.kills {
				l.Killed(request)
			}
			v := l.Verdict()
			v.Totals, v.Crash = tc.totals, tc.crash
			err := v.Check(tc.allow)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("Check() = %v, want nil", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Check() = %v, want %q in it", err, tc.want)
			}
		})
	}
}

// tell has a story happen. It returns the number of the last request.
func tell(t *testing.T, l *torture.Ledger, s story, src, other torture.Source, request int64) int64 {
	t.Helper()
	if s.foreign {
		l.Arrived(request+1, other.Next())
		return request + 1
	}
	e, err := l.Offer(src.Next())
	if err != nil {
		t.Fatal(err)
	}
	l.Answered(e, s.answer)
	payload := e.Payload
	if s.altered {
		payload = append([]byte(nil), payload...)
		// The last span ends with its status or its flags: one bit of those.
		payload[len(payload)-len(schemaURL)-4] ^= 1
	}
	for range s.arrivals {
		request++
		l.Arrived(request, payload)
	}
	return request
}

// schemaURL ends every payload of llmspans, after the last span.
const schemaURL = "https://opentelemetry.io/schemas/1.37.0"

// TestAnOfferMustBeNew: a source that repeats itself would hide a loss.
func TestAnOfferMustBeNew(t *testing.T) {
	t.Parallel()
	l := torture.NewLedger()
	payload := torture.Bulk(7, 2, 10).Next()
	if _, err := l.Offer(payload); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Offer(payload); err == nil {
		t.Error("the same spans were offered twice without an error")
	}
}
