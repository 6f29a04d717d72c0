package admin_test

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
	"weir/proxy/admin"
)

// page is what a browser sends for a page.
func page(extra http.Header) http.Header {
	header := http.Header{"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}}
	maps.Copy(header, extra)
	return header
}

func TestBrowsersGetThePageAndProgramsTheIndex(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{})
	got := ask(t, s, http.MethodGet, "/", page(nil), "")
	if got.Status != 200 || !strings.HasPrefix(got.Body, "<!doctype html>") || got.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("a browser got %d %.60q with %v", got.Status, got.Body, got.Header)
	}
	program := ask(t, s, http.MethodGet, "/", http.Header{"Accept": {"*/*"}}, "")
	if program.Status != 200 || !strings.Contains(program.Header.Get("Content-Type"), "text/plain") || !strings.Contains(program.Body, "/metrics") {
		t.Errorf("a program got %d %.60q", program.Status, program.Body)
	}
	for name, a := range map[string]answer{"browser": got, "program": program} {
		if a.Header.Get("Vary") != "Accept" {
			t.Errorf("%s: Vary = %q; a cache would mix the two up", name, a.Header.Get("Vary"))
		}
	}
}

func TestTheTokenGuardsDataAndNotTheDashboardsFiles(t *testing.T) {
	s := start(t, admin.Config{Token: "a-token"}, &fakeSource{})
	for _, path := range []string{"/", "/dashboard/main.js", "/dashboard/views/cases.js", "/dashboard/uplot/uPlot.esm.js"} {
		if got := ask(t, s, http.MethodGet, path, page(nil), ""); got.Status != 200 {
			t.Errorf("%s without token: status %d, want 200", path, got.Status)
		}
	}
	for _, path := range []string{"/metrics", "/nowhere", "/weir.v1.AdminService/GetStatus"} {
		if got := ask(t, s, http.MethodGet, path, page(nil), ""); got.Status != 401 {
			t.Errorf("%s without token: status %d, want 401", path, got.Status)
		}
	}
	call := http.Header{"Content-Type": {"application/json"}, "Sec-Fetch-Site": {"same-origin"}}
	if got := ask(t, s, http.MethodPost, weirv1connect.AdminServiceGetStatusProcedure, call, "{}"); got.Status != 401 {
		t.Errorf("the page's call without token: status %d, want 401", got.Status)
	}
	call.Set("Authorization", "Bearer a-token")
	if got := ask(t, s, http.MethodPost, weirv1connect.AdminServiceGetStatusProcedure, call, "{}"); got.Status != 200 {
		t.Errorf("the page's call with its token: status %d, want 200", got.Status)
	}
}

// A page of another site, whatever it tries, reaches nothing: neither the files
// nor a call, in particular none that changes something.
func TestForeignPagesCanDoNothing(t *testing.T) {
	var reached atomic.Int32
	s := start(t, admin.Config{}, &fakeSource{set: func(*weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
		reached.Add(1)
		return &weirv1.SetQuotaResponse{}, nil
	}, status: func(context.Context) (*weirv1.GetStatusResponse, error) {
		reached.Add(1)
		return &weirv1.GetStatusResponse{}, nil
	}})
	for _, tc := range []struct {
		name   string
		header http.Header
	}{
		{"a name that was rebound", http.Header{"Host": {"evil.example"}}},
		{"a rebound name that says it is its own origin", http.Header{"Host": {"evil.example:4319"}, "Origin": {"http://evil.example:4319"}, "Sec-Fetch-Site": {"same-origin"}}},
		{"a foreign origin", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}},
		{"a sandboxed frame", http.Header{"Origin": {"null"}}},
		{"another port of this machine", http.Header{"Origin": {"http://127.0.0.1:3000"}, "Sec-Fetch-Site": {"same-site"}}},
		{"a script or image tag", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"script"}}},
		{"a frame", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, path := range []string{"/", "/dashboard/main.js", "/dashboard/base.css", "/metrics"} {
				if got := ask(t, s, http.MethodGet, path, page(tc.header), ""); got.Status != 403 || got.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: status %d, headers %v, want 403", path, got.Status, got.Header)
				}
			}
			// A form may send the last two types without asking first (Fetch
			// standard, CORS-safelisted request-header).
			for _, contentType := range []string{"application/json", "application/connect+json", "application/grpc-web+proto", "text/plain", "application/x-www-form-urlencoded"} {
				header := tc.header.Clone()
				header.Set("Content-Type", contentType)
				for _, procedure := range []string{weirv1connect.AdminServiceSetQuotaProcedure, weirv1connect.AdminServiceGetStatusProcedure} {
					got := ask(t, s, http.MethodPost, procedure, header, `{"tracesUsed":1}`)
					if contentType == "application/json" && got.Status != 403 {
						t.Errorf("%s: %+v, want 403", procedure, got)
					}
				}
			}
		})
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d calls reached weir", n)
	}
}

// Where a browser sent neither Origin nor Sec-Fetch-Site, this still stands: calls
// need a content type that a page may not send elsewhere without asking first.
func TestCallsAreNoSimpleRequests(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{status: func(context.Context) (*weirv1.GetStatusResponse, error) {
		t.Error("the call was made")
		return &weirv1.GetStatusResponse{}, nil
	}})
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		got := ask(t, s, http.MethodPost, weirv1connect.AdminServiceGetStatusProcedure, http.Header{"Content-Type": {contentType}}, "{}")
		if got.Status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: status %d, want 415", contentType, got.Status)
		}
	}
	for _, query := range []string{"", "?connect=v1&encoding=json&message=%7B%7D"} {
		got := ask(t, s, http.MethodGet, weirv1connect.AdminServiceGetStatusProcedure+query, nil, "")
		if got.Status != http.StatusMethodNotAllowed {
			t.Errorf("GET %q: status %d, want 405", query, got.Status)
		}
	}
}
