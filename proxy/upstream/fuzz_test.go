package upstream

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
)

// FuzzClassify gives the classification and all that is kept of an answer
// whatever a server might say: it ends in one of the outcomes, the same each
// time, within its bounds and without the key.
func FuzzClassify(f *testing.F) {
	f.Add(200, "application/json", `{"partialSuccess":{"rejectedSpans":"1"}}`, "", testKey, "gzip")
	f.Add(302, "text/html", "", "https://elsewhere.example/?key="+testKey, testKey, "zstd")
	f.Add(403, "application/json", `{"error":"Forbidden `+testKey+`"}`, testKey, testKey, "")
	f.Add(429, "application/json", `{"error":"tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}`, "7", testKey, "gzip")
	f.Add(429, "application/x-protobuf", "\x08\x08\x12\x04slow", "Mon, 23 Nov 2026 12:00:00 GMT", testKey, "zstd")
	f.Add(404, "application/json", `{"detail":"Run not found"}`, "", "Bearer "+testKey, "identity")
	f.Add(409, "application/json", `{"error":"Conflict: payload already received"}`, "", testKey, "zstd")
	f.Add(500, "", "\x1b]0;title\x07"+testKey[:30], "", testKey, "identity")
	f.Fuzz(func(t *testing.T, status int, contentType, body, header, key, encoding string) {
		// A server learns the key as a header value, and only such are sent.
		if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return
		}
		a := &answer{status: status, header: http.Header{}, body: []byte(body), encoding: Encoding(encoding), now: time.Unix(1_800_000_000, 0)}
		a.header["Content-Type"] = []string{contentType}
		for _, name := range []string{"Retry-After", "Location", "Date", "X-Request-Id", "Via"} {
			a.header[name] = []string{header}
		}
		for _, a.shape = range []shape{shapeRuns, shapeCall, shapeOTLP} {
			checkClassified(t, a)
		}
		out := classify(a)

		redact := newRedactor(key)
		at := attempt{redact: redact, request: &proxy.Request{}}
		at.describe(&out, a, &body0)
		if n := len(out.Exchange.Body); n > maxKeptBytes {
			t.Errorf("%d bytes of body kept", n)
		}
		shown, err := json.Marshal(out.Exchange)
		if err != nil {
			t.Fatalf("the exchange is not JSON: %v", err)
		}
		// Shorter keys, of which proxy.KeyHint shows nothing, may stand in the
		// exchange's own words ("POST").
		if secret := redact.key; len(secret) >= 16 {
			for _, text := range texts(out.Exchange) {
				if strings.Contains(text, secret) {
					t.Errorf("the key shows in %s", shown)
				}
			}
		}
	})
}

// checkClassified fails if an answer does not end in one of the outcomes, the
// same each time.
func checkClassified(t *testing.T, a *answer) {
	out := classify(a)
	if diff := cmp.Diff(out, classify(a)); diff != "" {
		t.Fatalf("not deterministic:\n%s", diff)
	}
	switch out.Kind {
	case proxy.Delivered:
		if a.status < 200 || a.status > 299 {
			t.Errorf("status %d counts as delivered", a.status)
		}
	case proxy.Retry:
		if out.Scope == 0 || out.RetryAfter < 0 || out.RetryAfter > MaxRetryAfter {
			t.Errorf("retry without a scope or bound: %+v", out)
		}
	case proxy.Refused:
		if out.Scope == 0 || out.Refusal == 0 || out.RetryAfter != 0 {
			t.Errorf("refusal without a scope or class: %+v", out)
		}
	default:
		t.Errorf("outcome %v", out.Kind)
	}
}

// body0 stands for a request's body where none is sent.
var body0 body

// texts are the parts of an exchange that other people wrote.
func texts(ex proxy.Exchange) []string {
	out := []string{ex.Body, ex.RequestID}
	for _, values := range ex.Header {
		out = append(out, values...)
	}
	return out
}

// FuzzRetryAfter: any value gives a wait within the bounds, and none gives a
// wait without being one.
func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"", "7", "-1", "0.5", "3601", "1e9", "Mon, 23 Nov 2026 12:00:30 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(v, int64(1_795_435_200), int64(1_795_435_230))
	}
	f.Fuzz(func(t *testing.T, value string, date, now int64) {
		wait, ok := ParseRetryAfter(value, time.Unix(date, 0), time.Unix(now, 0))
		if wait < 0 || wait > MaxRetryAfter {
			t.Errorf("wait %v is out of bounds", wait)
		}
		if !ok && wait != 0 {
			t.Errorf("no wait, and yet %v", wait)
		}
		if again, _ := ParseRetryAfter(value, time.Unix(date, 0), time.Unix(now+1, 0)); again != wait {
			t.Errorf("our own clock mattered: %v, then %v", wait, again)
		}
		if padded, paddedOK := ParseRetryAfter(" "+value+"\t", time.Unix(date, 0), time.Unix(now, 0)); padded != wait || paddedOK != ok {
			t.Errorf("blanks mattered: %v %v, then %v %v", wait, ok, padded, paddedOK)
		}
	})
}
