package smith

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestScriptIsWorkedOffInOrder(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Status: 503}.Times(2), Fault{}, Fault{Status: 418, Match: "/sessions"}, Throttled.Fault())
	s.SetStanding(&Fault{Name: "standing", Status: 500, Match: MatchIngest})
	for i, want := range []int{503, 503, 200, 429, 500, 500} {
		if a := c.export(nil); a.status != want {
			t.Errorf("answer %d = %d, want %d", i, a.status, want)
		}
	}
	for i, want := range []int{418, 200} {
		if a := c.do(http.MethodGet, "/api/v1/sessions", header("X-Api-Key", keyA), nil); a.status != want {
			t.Errorf("sessions answer %d = %d, want %d", i, a.status, want)
		}
	}
	if left := s.PendingFaults(); len(left) != 0 {
		t.Errorf("left of the script: %v", left)
	}
	want := map[string]int64{"503": 2, "fault": 1, "418": 1, "throttled": 1, "standing": 2}
	if got := s.Stats().Faults; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Faults = %v, want %v", got, want)
	}
	s.SetStanding(nil)
	c.export(nil).want(t, 200, "")
}

func TestAFaultCanStrikeForever(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Forbidden.Fault().Always(), Fault{Status: 500})
	for range 5 {
		c.export(nil).want(t, 403, bodyForbidden)
	}
	s.ClearFaults()
	c.export(nil).want(t, 200, "")
}

func TestMatchLimitsAFault(t *testing.T) {
	tests := []struct {
		match string
		path  string
		want  bool
	}{
		{"", "/info", true},
		{"/", "/info", true},
		{MatchIngest, "/api/otel/v1/traces", true},
		{MatchIngest, "/sessions", false},
		{"/otel", "/otel/v1/traces", true},
		{"/api/v1/otel/", "//otel/v1/traces", true},
		{"/ot", "/otel/v1/traces", false},
		{"/workspaces", "/api/v1/workspaces/current/usage_limits", true},
	}
	for _, tt := range tests {
		if got := (&Fault{Match: tt.match}).matches(route(http.MethodPost, clean(tt.path))); got != tt.want {
			t.Errorf("match %q of %s = %t, want %t", tt.match, tt.path, got, tt.want)
		}
	}
}

func TestCannedFaultsSayWhatLangSmithSays(t *testing.T) {
	const quota = "{\"error\":\"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded\"}\n"
	want := map[Canned]struct {
		status int
		kind   string
		body   string // "" with an HTML kind: not compared
	}{
		MonthlyQuota:      {429, contentJSON, quota},
		MonthlyQuotaOld:   {429, contentJSON, `{"detail":"Monthly unique traces usage limit exceeded"}`},
		UserLimit:         {429, contentJSON, "{\"error\":\"usage limit monthly_longlived_traces of 5000 exceeded\"}\n"},
		Throttled:         {429, contentJSON, `{"detail":"Too many requests"}`},
		GatewayRate:       {429, "", ""},
		Unauthorized:      {401, contentJSON, "{\"error\":\"Unauthorized\"}\n"},
		LegacyKey:         {401, contentJSON, "{\"error\":\"Unauthorized: Using outdated v1 api key. Please use v2 api key.\"}\n"},
		BadWorkspaceID:    {401, contentJSON, `{"detail":"UUID header value was not a valid UUID"}`},
		Forbidden:         {403, contentJSON, "{\"error\":\"Forbidden\"}\n"},
		NoPlan:            {403, contentJSON, "{\"error\":\"Forbidden - no plan found\"}\n"},
		OrgScoped:         {403, contentJSON, bodyOrgScopedGo},
		UIHost:            {405, contentHTML, ""},
		CaptivePortal:     {200, contentHTML, ""},
		HTML413:           {413, contentHTML, ""},
		HTML502:           {502, contentHTML, ""},
		UnauthorizedOld:   {401, contentJSON, `{"detail":"Invalid token"}`},
		LegacyKeyOld:      {401, contentJSON, `{"detail":"Using legacy API key. Please generate a new API key."}`},
		ForbiddenOld:      {403, contentJSON, `{"detail":"Forbidden"}`},
		UIPage:            {200, contentHTML, ""},
		DocsPage:          {404, contentHTML, ""},
		PortalRedirect:    {302, contentHTML, ""},
		PortalLogin:       {511, contentHTML, ""},
		BlockPage:         {403, contentHTML, ""},
		CloudArmor:        {403, "text/html; charset=UTF-8", pageArmor},
		Moved:             {301, contentHTML, ""},
		Found:             {302, contentHTML, ""},
		PermanentRedirect: {308, contentHTML, ""},
		WAFRate:           {429, contentHTML, ""},
		IntTooBig:         {422, contentJSON, `{"detail":"int too big to convert"}`},
		BodyDamaged:       {422, contentJSON, "{\"error\":\"Unprocessable entity: error reading multipart data: multipart: NextPart: EOF\"}\n"},
		BodyUndecodable:   {422, contentJSON, "{\"error\":\"Unprocessable entity: error reading multipart data: failed to decompress: Unknown frame descriptor\"}\n"},
		Unavailable:       {503, "", ""},
		ServerError:       {500, contentJSON, "{\"error\":\"Internal server error\"}\n"},
	}
	s, c := start(t, Config{})
	for _, name := range CannedFaults() {
		if name == LostAnswer {
			continue // has its own test
		}
		w, ok := want[name]
		if !ok {
			t.Errorf("%s has no expectation here", name)
			continue
		}
		s.Script(name.Fault())
		a := c.export(payload(t, newSpan(1, 1)))
		if w.kind == contentHTML {
			if !strings.Contains(a.body, "<html") || a.header.Get("Server") == "" {
				t.Errorf("%s: body %q from %q, want a page of a named server", name, a.body, a.header.Get("Server"))
			}
			a.body = ""
		}
		if a.status != w.status || a.body != w.body || a.header.Get("Content-Type") != w.kind {
			t.Errorf("%s: answer = %d %q (%s), want %d %q (%s)", name, a.status, a.body, a.header.Get("Content-Type"), w.status, w.body, w.kind)
		}
		if got := a.header.Get("Retry-After"); got != "" {
			t.Errorf("%s: Retry-After = %q; LangSmith sends none", name, got)
		}
	}
	if n := s.Stats().Taken.Requests; n != 0 {
		t.Errorf("%d requests were taken", n)
	}
}

func TestQuotaFaultsLeaveReadsAlone(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(MonthlyQuota.Fault().Always())
	c.export(nil).want(t, 429, bodyMonthlyQuota)
	if a := c.do(http.MethodGet, "/sessions", header("X-Api-Key", keyA), nil); a.status != 200 {
		t.Errorf("sessions = %d, want 200", a.status)
	}
}

func TestRetryAfterComesInEveryForm(t *testing.T) {
	s, c := start(t, Config{Now: func() time.Time { return noon }})
	for sent, want := range map[string]string{
		"7":        "7",
		"-1":       "-1",
		"soon":     "soon",
		"date+90s": "Mon, 23 Nov 2026 12:01:30 GMT",
		"date-1h":  "Mon, 23 Nov 2026 11:00:00 GMT",
		"dated":    "dated",
	} {
		s.Script(Fault{Status: 429, RetryAfter: sent, Header: http.Header{"x-extra": {"a", "b"}}})
		a := c.export(nil)
		if got := a.header.Get("Retry-After"); got != want {
			t.Errorf("Retry-After for %q = %q, want %q", sent, got, want)
		}
		if got := a.header.Values("X-Extra"); fmt.Sprint(got) != "[a b]" {
			t.Errorf("X-Extra = %v, want [a b]", got)
		}
		if got := a.header.Get("Date"); got != "Mon, 23 Nov 2026 12:00:00 GMT" {
			t.Errorf("Date = %q, want the server's clock", got)
		}
	}
}

func TestStagesDecideWhetherDataIsKept(t *testing.T) {
	body := payload(t, newSpan(1, 1))
	tests := []struct {
		fault  Fault
		status int // 0: the connection breaks
		spans  int64
	}{
		{Fault{Status: 502}, 502, 0},
		{Fault{Status: 502, Stage: StageHeaders}, 502, 0},
		{Fault{Status: 502, Stage: StageStored}, 502, 1},
		{Fault{Status: 502, Stage: StageAnswer}, 502, 1},
		{Fault{Latency: time.Nanosecond}, 200, 1},
		{Fault{Latency: time.Nanosecond, Stage: StageHeaders}, 200, 1},
		{Fault{Latency: time.Nanosecond, Stage: StageStored}, 200, 1},
		{Fault{Reset: true}, 0, 0},
		{Fault{Reset: true, Stage: StageHeaders}, 0, 0},
		{Fault{Reset: true, Stage: StageStored}, 0, 1},
		{LostAnswer.Fault(), 0, 1},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d_%s_%t", tt.fault.Status, tt.fault.Stage, tt.fault.Reset), func(t *testing.T) {
			s, c := start(t, Config{})
			s.Script(tt.fault)
			a, err := c.try(t.Context(), http.MethodPost, tracesPath, header("X-Api-Key", keyA, "Content-Type", contentProtobuf), body)
			if (err != nil) != (tt.status == 0) || a.status != tt.status {
				t.Errorf("answer = %d, %v; want %d", a.status, err, tt.status)
			}
			if st := s.Stats(); st.DistinctSpans != tt.spans || st.Answers[tt.status] != 1 {
				t.Errorf("%d spans kept, answers %v; want %d spans and one %d", st.DistinctSpans, st.Answers, tt.spans, tt.status)
			}
		})
	}
}

func TestResetIsATCPReset(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Reset: true})
	conn := dial(t, c)
	if _, err := io.WriteString(conn, "GET /info HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want a reset", err)
	}
}

func TestResetWorksOverTLSAndHTTP2(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%t", http2), func(t *testing.T) {
			s := New(Config{})
			ts := httptest.NewUnstartedServer(s)
			ts.EnableHTTP2 = http2
			ts.Config.ErrorLog = nil
			ts.StartTLS()
			t.Cleanup(func() { _ = s.Close(); ts.Close() })
			s.Script(Fault{Reset: true})
			c := &client{t: t, url: ts.URL, http: ts.Client()}
			if _, err := c.try(t.Context(), http.MethodGet, "/info", nil, nil); err == nil {
				t.Error("the request was answered")
			}
			c.do(http.MethodGet, "/info", nil, nil)
			if got := s.Stats().Answers; got[0] != 1 || got[200] != 1 {
				t.Errorf("answers = %v, want one reset and one 200", got)
			}
		})
	}
}

func TestResetOfTheAnswerCutsItInHalf(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Reset: true, Stage: StageAnswer, Status: 200, Body: "0123456789"})
	a, err := c.try(t.Context(), http.MethodPost, tracesPath, header("X-Api-Key", keyA, "Content-Type", contentProtobuf), nil)
	if !errors.Is(err, io.ErrUnexpectedEOF) || a.status != 200 || a.body != "01234" {
		t.Errorf("answer = %d %q, %v; want half of it", a.status, a.body, err)
	}
}

func TestEarlyAnswerComesBeforeTheBodyIsSent(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Status: 403, Body: bodyForbidden, Stage: StageHeaders})
	conn := dial(t, c)
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", tracesPath)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len("HTTP/1.1 403"))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 403" {
		t.Errorf("answer starts with %q, %v", head, err)
	}
}

// direct calls the handler without a network.
func direct(ctx context.Context, s *Server) (rec *httptest.ResponseRecorder, aborted bool) {
	rec = httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, tracesPath, nil)
	r.Header = header("X-Api-Key", keyA, "Content-Type", contentProtobuf)
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			aborted = true
		}
	}()
	s.ServeHTTP(rec, r)
	return rec, false
}

func TestLatencyAndBandwidthTakeTheirTime(t *testing.T) {
	tests := []struct {
		name  string
		fault Fault
		want  time.Duration
		bytes int
	}{
		{"none", Fault{}, 0, 0},
		{"latency", Fault{Latency: 1500 * time.Millisecond, Status: 503}, 1500 * time.Millisecond, 0},
		{"latency after storing", Fault{Latency: time.Minute, Stage: StageStored}, time.Minute, 0},
		{"one byte a second", Fault{Status: 200, Body: "0123456789", BytesPerSecond: 1}, 10 * time.Second, 10},
		{"a kilobyte a second", Fault{Status: 200, BodyBytes: 10_000, BytesPerSecond: 1000}, 10 * time.Second, 10_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{})
				s.Script(tt.fault)
				from := time.Now()
				rec, aborted := direct(t.Context(), s)
				if got := time.Since(from); got != tt.want || aborted || rec.Body.Len() != tt.bytes {
					t.Errorf("%d bytes in %s (aborted: %t), want %d in %s", rec.Body.Len(), got, aborted, tt.bytes, tt.want)
				}
			})
		})
	}
}

func TestNobodyWaitsForAClientThatHasLeft(t *testing.T) {
	for name, f := range map[string]Fault{
		"latency":   {Latency: time.Hour},
		"hang":      {Hang: true},
		"bandwidth": {Status: 200, BodyBytes: 1000, BytesPerSecond: 1},
	} {
		for _, how := range []string{"client leaves", "server closes"} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := New(Config{})
					s.Script(f)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					done := make(chan bool)
					go func() {
						_, aborted := direct(ctx, s)
						done <- aborted
					}()
					synctest.Wait()
					if how == "client leaves" {
						cancel()
					} else if err := s.Close(); err != nil {
						t.Error(err)
					}
					if !<-done {
						t.Error("the request was answered to its end, want it broken off")
					}
				})
			})
		}
	}
}

func TestReleaseLetsHangingRequestsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		s.Script(Fault{Hang: true}, Fault{Hang: true, Status: 503})
		codes := make(chan int, 2)
		for range 2 {
			go func() {
				rec, _ := direct(t.Context(), s)
				codes <- rec.Code
			}()
		}
		synctest.Wait()
		if len(codes) != 0 {
			t.Fatal("a hanging request was answered")
		}
		s.Release()
		if got := <-codes + <-codes; got != 200+503 {
			t.Errorf("the statuses add up to %d, want 200 and 503", got)
		}
	})
}

func TestAHangEndsWhenTheClientHangsUp(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.try(ctx, http.MethodPost, tracesPath, header("X-Api-Key", keyA), payload(t, newSpan(1, 1)))
		done <- err
	}()
	if err := s.WaitRequests(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("request = %v, want canceled", err)
	}
	if err := s.WaitAnswers(t.Context(), 0, 1); err != nil {
		t.Error(err)
	}
}

func TestHugeBodiesAreAsLongAsAnnounced(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Status: 500, Body: "oops", BodyBytes: 5 << 20})
	a := c.export(nil)
	if len(a.body) != 5<<20 || !strings.HasPrefix(a.body, "oopsxxx") || a.header.Get("Content-Length") != "5242880" {
		t.Errorf("body of %d bytes, announced %s", len(a.body), a.header.Get("Content-Length"))
	}
}

func TestStatusesWithoutBodyHaveNone(t *testing.T) {
	s, c := start(t, Config{})
	s.Script(Fault{Status: 204, BodyBytes: 100})
	c.export(nil).want(t, 204, "")
	s.Script(Fault{Status: 503, Body: "x", Stage: StageHeaders})
	c.do(http.MethodHead, "/info", nil, nil).want(t, 503, "")
}

func TestFaultsStrikeBodiesBeyondTheLimitToo(t *testing.T) {
	s, c := start(t, Config{MaxBodyBytes: 10})
	s.Script(Fault{Status: 503}, Fault{Latency: 1})
	c.export(make([]byte, 11)).want(t, 503, "")
	c.export(make([]byte, 11)).want(t, 413, page413)
}

func TestCloseEndsWhatServeStarted(t *testing.T) {
	s := New(Config{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &client{t: t, url: "http://" + l.Addr().String(), http: &http.Client{Transport: tr}}
	c.do(http.MethodGet, "/info", nil, nil)
	s.SetStanding(&Fault{Hang: true, Stage: StageHeaders})
	hung := make(chan error, 1)
	go func() {
		_, err := c.try(t.Context(), http.MethodPost, tracesPath, nil, make([]byte, 1<<20))
		hung <- err
	}()
	if err := s.WaitRequests(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve() = %v, want http.ErrServerClosed", err)
	}
	if err := <-hung; err == nil {
		t.Error("the hanging request was answered")
	}
	if _, aborted := direct(t.Context(), s); !aborted {
		t.Error("a closed server answers")
	}
	l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve() after Close() = %v, want http.ErrServerClosed", err)
	}
}
