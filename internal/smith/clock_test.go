package smith

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheClockMovesDatesAndArrivals(t *testing.T) {
	s, c := start(t, Config{Control: true, Now: func() time.Time { return noon }})
	c.post("clock", `{"offset":"36h"}`).want(t, 200, `{"now":"2026-11-25T00:00:00Z","offset":"36h0m0s"}`+"\n")
	const date = "Wed, 25 Nov 2026 00:00:00 GMT"
	s.Script(Fault{Match: "/settings", Status: 503, RetryAfter: "date+30s"})
	for _, path := range []string{"/info", "/nothing", "/__smith/clock", "/__smith/nothing", "/settings", "/workspaces/current/usage_limits"} {
		a := c.do(http.MethodGet, path, header("X-Api-Key", keyA), nil)
		if got := a.header.Values("Date"); len(got) != 1 || got[0] != date {
			t.Errorf("%s: Date = %q, want %s", path, got, date)
		}
		if path == "/settings" && a.header.Get("Retry-After") != "Wed, 25 Nov 2026 00:00:30 GMT" {
			t.Errorf("Retry-After = %q", a.header.Get("Retry-After"))
		}
	}
	c.export(payload(t, newSpan(1, 1))).want(t, 200, "")
	if got := s.Requests()[0].Time; !got.Equal(noon.Add(36 * time.Hour)) {
		t.Errorf("arrived %s", got)
	}
	if got := c.post("clock", `{"now":"2026-12-01T00:00:00Z"}`).header.Get("Date"); got != "Tue, 01 Dec 2026 00:00:00 GMT" {
		t.Errorf("Date = %q on the answer that moved the clock", got)
	}
	s.SetSwitches(Switches{OTLPWindow: Window400})
	if a := c.export(payload(t, newSpan(1, 2))); a.status != 400 {
		t.Errorf("a span a week old = %d, want 400", a.status)
	}
	c.post("clock", `{"offset":"0s"}`)
	c.export(payload(t, newSpan(1, 2))).want(t, 200, "")
}

func TestAMovedClockGoesOn(t *testing.T) {
	now := noon
	s := New(Config{Now: func() time.Time { return now }})
	defer func() { _ = s.Close() }()
	if err := s.SetClock(noon.AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if got, want := s.Now(), noon.AddDate(0, 1, 0).Add(time.Hour); !got.Equal(want) {
		t.Errorf("now = %s, want %s", got, want)
	}
}

func TestControlSaysWhatIsWrongWithAClock(t *testing.T) {
	s, c := start(t, Config{Control: true, Now: func() time.Time { return noon }})
	for body, want := range map[string]string{
		`{}`: `write either`,
		`{"offset":"1h","now":"2026-12-01T00:00:00Z"}`: `write either`,
		`{"offset":"1 day"}`:                           `offset \"1 day\" is not a duration, such as 36h or -90m`,
		`{"now":"tomorrow"}`:                           `reading the body: `,
		`{"now":"9000-01-01T00:00:00Z"}`:               `more than 200 years`,
		`{"now":"0001-01-01T00:00:00Z"}`:               `more than 200 years`,
		`{"ofset":"1h"}`:                               `unknown field`,
	} {
		if a := c.post("clock", body); a.status != 400 || !strings.Contains(a.body, want) {
			t.Errorf("clock %s = %d %s, want 400 %s", body, a.status, a.body, want)
		}
	}
	if !s.Now().Equal(noon) {
		t.Errorf("a refused call moved the clock to %s", s.Now())
	}
	c.do(http.MethodGet, "/__smith/clock", nil, nil).want(t, 200, `{"now":"2026-11-23T12:00:00Z","offset":"0s"}`+"\n")
}
