package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"weir/proxy/diagnose"
	"weir/queue"
)

// verbose is a refusal whose answer is as long as one may be.
func verbose(i int, body string) *Outcome {
	return &Outcome{
		Kind: Refused, Refusal: RefusedContent, Reason: fmt.Sprintf("http_4%05d", i),
		Exchange: Exchange{Status: 422, Body: body, Header: http.Header{"X-Filler": {strings.Repeat("h", 7<<10)}}, URL: "https://upstream.test/" + strings.Repeat("u", 512)},
	}
}

// TestManyCasesAreToldBriefly: cases are kept in memory and at the head of each
// segment, so the first of them may say much, and all of them must fit.
func TestManyCasesAreToldBriefly(t *testing.T) {
	r := newRig(t, &fakeUpstream{})
	book := r.f.cases
	bodies := []string{strings.Repeat("b", 4<<10), strings.Repeat("\x01", 4<<10)} // of the latter each byte takes six
	full, brief := 0, 0
	for i := range 1200 {
		p, fresh, err := book.open(1, verbose(i, bodies[i%2]), false, diagnose.Diagnosis{})
		if err != nil || !fresh {
			t.Fatalf("case %d: %v", i, err)
		}
		var kept Refusal
		data := r.q.CaseData(p)
		if err := json.Unmarshal(data, &kept); err != nil {
			t.Fatal(err)
		}
		switch {
		case kept.Exchange.Body == bodies[i%2] && len(kept.Exchange.Header) == 1 && brief == 0:
			full++
		case len(data) <= briefCaseBytes && kept.Exchange.Status == 422 && kept.Reason != "":
			brief++
		default:
			t.Fatalf("case %d after %d full and %d brief ones keeps %d bytes", i, full, brief, len(data))
		}
		if i == 1199 && !strings.HasPrefix(kept.Exchange.Body, "b") && kept.Exchange.Body != "" {
			t.Errorf("the last one keeps %q", kept.Exchange.Body)
		}
	}
	if full < 100 || brief < 100 {
		t.Fatalf("%d are told in full and %d briefly", full, brief)
	}
	was := book.dataBytes
	r.close(t.Context())
	r.open()
	if got := r.f.cases.dataBytes; got != was {
		t.Errorf("after a restart, cases are taken for %d bytes, before for %d", got, was)
	}
	if n := len(r.q.Cases()); n != 1200 {
		t.Errorf("%d cases are there after a restart", n)
	}
}

// TestDiagnosesLeaveRoomForOtherNotes: callers' keys are notes, too.
func TestDiagnosesLeaveRoomForOtherNotes(t *testing.T) {
	r := newRig(t, &fakeUpstream{})
	d := diagnose.Diagnosis{Causes: []diagnose.Cause{{Code: diagnose.Unknown, Confidence: diagnose.Possible, Remedy: strings.Repeat("r", 16<<10)}}}
	places := make([]queue.Place, 400)
	for i := range places {
		p, _, err := r.f.cases.open(1, verbose(i, "x"), false, d)
		if err != nil {
			t.Fatal(err)
		}
		places[i] = p
		r.f.cases.seen(p, &sending{}, r.f.cfg.Now())
	}
	bytes, notes := 0, r.q.Notes(diagnosisNotes)
	for _, note := range notes {
		bytes += len(note)
	}
	if bytes > maxDiagnosisBytes || bytes < maxDiagnosisBytes/2 || len(notes) != r.f.cases.notes || bytes != r.f.cases.noteBytes {
		t.Fatalf("%d notes of %d bytes; %d of %d are counted", len(notes), bytes, r.f.cases.notes, r.f.cases.noteBytes)
	}
	if err := r.q.SetNote("credential/x", []byte(strings.Repeat("k", 1<<10))); err != nil {
		t.Errorf("another note: %v", err)
	}
	for _, p := range places {
		if err := r.f.cases.releaseAt(p); err != nil {
			t.Fatal(err)
		}
	}
	if b := r.f.cases; b.notes != 0 || b.noteBytes != 0 || b.dataBytes != 0 || len(b.lanes) != 0 || len(b.findings) != 0 {
		t.Errorf("with no case left, the book has %d notes of %d bytes, %d bytes of cases, %d lanes", b.notes, b.noteBytes, b.dataBytes, len(b.lanes))
	}
}
