package smith_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"weir/internal/smith"
)

// A look-alike that is over quota once, then takes what comes.
func ExampleServer() {
	s := smith.New(smith.Config{})
	ts := httptest.NewServer(s)
	defer ts.Close()
	defer func() { _ = s.Close() }()
	s.Script(smith.MonthlyQuota.Fault())

	for range 2 {
		body := strings.NewReader(`{"resourceSpans":[{"scopeSpans":[{"spans":[` +
			`{"traceId":"0000000000000000000000000000000a","spanId":"000000000000000b","name":"ChatOpenAI"}]}]}]}`)
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, ts.URL+"/otel/v1/traces", body)
		if err != nil {
			fmt.Println(err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Api-Key", "lsv2_pt_0123456789abcdef")
		res, err := ts.Client().Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = res.Body.Close()
		fmt.Println(res.Status)
	}
	for _, sp := range s.Spans() {
		fmt.Println(sp.Key, sp.Project, sp.ID(), sp.OTLP.GetName())
	}
	// Output:
	// 429 Too Many Requests
	// 200 OK
	// lsv2_…ef default 0000000000000000000000000000000a/000000000000000b ChatOpenAI
}
