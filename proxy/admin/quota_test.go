package admin_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy/admin"
	"weir/quota"
)

// accountsNamed is a source with these accounts. It records whom it was asked
// to change.
func accountsNamed(changed *string, names ...string) *fakeSource {
	return &fakeSource{
		quota: func(context.Context) (*weirv1.GetQuotaResponse, error) {
			out := &weirv1.GetQuotaResponse{}
			for _, name := range names {
				out.Scopes = append(out.Scopes, &weirv1.QuotaScope{Account: name})
			}
			return out, nil
		},
		set: func(req *weirv1.SetQuotaRequest) (*weirv1.SetQuotaResponse, error) {
			*changed = req.GetAccount()
			return &weirv1.SetQuotaResponse{}, nil
		},
		release: func(req *weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
			*changed = req.GetAccount()
			return &weirv1.ReleaseHeldResponse{}, nil
		},
	}
}

// TestTheAccountMeantIsFound holds for both calls that change an account.
func TestTheAccountMeantIsFound(t *testing.T) {
	const one, two, three = "https://a.example one", "https://a.example two", "https://b.example two"
	many := make([]string, 25)
	for i := range many {
		many[i] = fmt.Sprintf("https://a.example %02d", i)
	}
	tests := []struct {
		name  string
		known []string
		asked string
		want  string
		code  connect.Code
		says  []string
	}{
		{name: "the only one", known: []string{one}, want: one},
		{name: "by its name", known: []string{one, two, three}, asked: two, want: two},
		{name: "by what follows the URL", known: []string{one, two, three}, asked: "one", want: one},
		{name: "a part of a word does not do", known: []string{one}, asked: "ne", code: connect.CodeNotFound, says: []string{`"ne" is not known`, one}},
		{name: "none yet", code: connect.CodeNotFound, says: []string{"no account is known yet"}},
		{name: "unknown", known: []string{one, two}, asked: "four", code: connect.CodeNotFound, says: []string{`"four"`, one, two}},
		{name: "which of several", known: []string{one, two}, code: connect.CodeInvalidArgument, says: []string{"several accounts", one, two}},
		{name: "what could be several", known: []string{one, two, three}, asked: "two", code: connect.CodeInvalidArgument, says: []string{two, three}},
		{name: "many", known: many, code: connect.CodeInvalidArgument, says: []string{many[19], "and 5 more"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var changed string
			client := admin.Dial(start(t, admin.Config{}, accountsNamed(&changed, tt.known...)).Addr().String(), "")
			calls := map[string]func() error{
				"SetQuota": func() error {
					_, err := client.SetQuota(t.Context(), &weirv1.SetQuotaRequest{Account: tt.asked, TracesUsed: new(int32(1))})
					return err
				},
				"ReleaseHeld": func() error {
					_, err := client.ReleaseHeld(t.Context(), &weirv1.ReleaseHeldRequest{Account: tt.asked})
					return err
				},
			}
			for name, call := range calls {
				changed = ""
				err := call()
				if changed != tt.want {
					t.Errorf("%s changed %q, want %q", name, changed, tt.want)
				}
				if tt.want != "" {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				if connect.CodeOf(err) != tt.code {
					t.Errorf("%s: error %v, want code %v", name, err, tt.code)
				}
				for _, part := range tt.says {
					if !strings.Contains(fmt.Sprint(err), part) {
						t.Errorf("%s: error %v does not say %q", name, err, part)
					}
				}
			}
		})
	}
}

func TestQuotaNumbersAreChecked(t *testing.T) {
	var changed string
	client := admin.Dial(start(t, admin.Config{}, accountsNamed(&changed, "a")).Addr().String(), "")
	n := func(v int32) *int32 { return &v }
	for _, tt := range []struct {
		name string
		req  *weirv1.SetQuotaRequest
		says string
	}{
		{"nothing", &weirv1.SetQuotaRequest{}, "nothing to set"},
		{"negative count", &weirv1.SetQuotaRequest{TracesUsed: n(-1)}, "traces_used is -1"},
		{"negative limit", &weirv1.SetQuotaRequest{TracesLimit: n(-5)}, "traces_limit is -5"},
		{"limit and none", &weirv1.SetQuotaRequest{TracesLimit: n(5), ClearLimit: true}, "exclude each other"},
	} {
		if _, err := client.SetQuota(t.Context(), tt.req); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.says)
		}
	}
	for _, traces := range []int32{0, -3} {
		_, err := client.ReleaseHeld(t.Context(), &weirv1.ReleaseHeldRequest{Traces: &traces})
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("release %d: error %v", traces, err)
		}
	}
	if changed != "" {
		t.Errorf("account %q was changed all the same", changed)
	}
	if _, err := client.SetQuota(t.Context(), &weirv1.SetQuotaRequest{TracesUsed: n(0), ClearLimit: true}); err != nil || changed != "a" {
		t.Errorf("a count of 0 and the configured limit again: %v", err)
	}
}

func TestTooManyReleasesIsAnErrorToWaitOn(t *testing.T) {
	src := accountsNamed(new(string), "a")
	src.release = func(*weirv1.ReleaseHeldRequest) (*weirv1.ReleaseHeldResponse, error) {
		return nil, fmt.Errorf("order a release: %w", quota.ErrTooManyOrders)
	}
	_, err := admin.Dial(start(t, admin.Config{}, src).Addr().String(), "").ReleaseHeld(t.Context(), &weirv1.ReleaseHeldRequest{})
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("error %v, want code %v", err, connect.CodeResourceExhausted)
	}
}
