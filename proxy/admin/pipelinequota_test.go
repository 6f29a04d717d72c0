package admin

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
	"weir/quota"
)

// guardKeeper is a forwarder that has only a guard.
type guardKeeper struct{ *quota.Guard }

func (k guardKeeper) QuotaStatus() []quota.Status                  { return k.Status() }
func (k guardKeeper) SetQuotaUsed(account string, n int64) error   { return k.SetUsed(account, n) }
func (k guardKeeper) SetQuotaLimit(account string, n *int64) error { return k.SetLimit(account, n) }
func (k guardKeeper) ReleaseHeld(account string, o quota.Order) error {
	return k.Ask(account, o)
}

// deskAt is a desk before a guard with these rules, on 20 November 2026, where
// account "a" wanted so many traces of project "p" and as many of none. delivered
// of each were.
func deskAt(t *testing.T, rules quota.Rules, wanted, delivered int) (quotaDesk, *quota.Guard) {
	t.Helper()
	now := time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)
	g, err := quota.Open(quota.NewMemory(), quota.Config{Rules: rules, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	g.Use(quota.Account{Name: "a", Upstream: "u"})
	for n, project := range []string{"p", ""} {
		var traces []quota.Trace
		var ids []quota.TraceID
		for i := range wanted {
			var id quota.TraceID
			binary.BigEndian.PutUint64(id[8:], uint64(n*wanted+i+1))
			traces = append(traces, quota.Trace{ID: id, Project: project})
			ids = append(ids, id)
		}
		if _, err := g.Admit("a", traces); err != nil {
			t.Fatal(err)
		}
		if err := g.Delivered("a", ids[:delivered]); err != nil {
			t.Fatal(err)
		}
	}
	return quotaDesk{guardKeeper{g}}, g
}

func TestReleaseCountsWhatThereIsRoomFor(t *testing.T) {
	full := quota.Rules{Traces: 20, Projects: map[string]int64{"p": 5}}
	n := func(v int32) *int32 { return &v }
	raise := func(to int64) func(*quota.Guard) error {
		return func(g *quota.Guard) error { return g.SetLimit("a", &to) }
	}
	refuse := func(g *quota.Guard) error { g.Refused("a", quota.KindMonth); return nil }
	tests := []struct {
		name   string
		rules  quota.Rules
		change func(*quota.Guard) error
		req    *weirv1.ReleaseHeldRequest
		want   int32
	}{
		// 30 of each are wanted: p gets its 5, the others 15 of 20.
		{"no room", full, nil, &weirv1.ReleaseHeldRequest{}, 0},
		{"a raised limit", full, raise(24), &weirv1.ReleaseHeldRequest{}, 4},
		{"fewer asked for", full, raise(24), &weirv1.ReleaseHeldRequest{Traces: n(3)}, 3},
		{"more asked for", full, raise(24), &weirv1.ReleaseHeldRequest{Traces: n(300)}, 4},
		{"a project whose budget is used", full, raise(24), &weirv1.ReleaseHeldRequest{Project: new("p")}, 0},
		{"data of no project", full, raise(24), &weirv1.ReleaseHeldRequest{Project: new("")}, 4},
		{"an unknown project", full, raise(24), &weirv1.ReleaseHeldRequest{Project: new("q")}, 0},
		{"no limit but a budget", full, raise(0), &weirv1.ReleaseHeldRequest{}, 15},
		{"LangSmith refuses", full, func(g *quota.Guard) error { return errors.Join(raise(0)(g), refuse(g)) }, &weirv1.ReleaseHeldRequest{}, 0},
		{"all are sent anyway", full, func(g *quota.Guard) error {
			return g.SetRules(quota.Rules{Traces: 20, Policy: quota.PolicyForward, Projects: full.Projects})
		}, &weirv1.ReleaseHeldRequest{}, 40},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			desk, g := deskAt(t, tt.rules, 30, 2)
			if tt.change != nil {
				if err := tt.change(g); err != nil {
					t.Fatal(err)
				}
			}
			before := len(g.Status()[0].Orders)
			for _, dry := range []bool{true, false} {
				tt.req.Account, tt.req.DryRun = "a", dry
				got, err := desk.release(tt.req)
				if err != nil || got.GetTraces() != tt.want || got.GetScope().GetAccount() != "a" {
					t.Fatalf("dry run %t: %v, error %v, want %d", dry, got, err, tt.want)
				}
				ordered := len(g.Status()[0].Orders) - before
				if want := !dry && tt.want > 0; (ordered == 1) != want || ordered > 1 {
					t.Errorf("dry run %t: %d orders, want one: %t", dry, ordered, want)
				}
			}
		})
	}
}

// TestReleaseCountsAsTheGuardDoes compares what is promised with what the guard
// lets go of.
func TestReleaseCountsAsTheGuardDoes(t *testing.T) {
	for limit := int64(0); limit < 70; limit += 3 {
		desk, g := deskAt(t, quota.Rules{Traces: 10, Projects: map[string]int64{"p": 4}}, 30, 2)
		if err := g.SetLimit("a", &limit); err != nil {
			t.Fatal(err)
		}
		said, err := desk.release(&weirv1.ReleaseHeldRequest{Account: "a", DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		var ids []quota.TraceID
		for i := range 60 {
			var id quota.TraceID
			binary.BigEndian.PutUint64(id[8:], uint64(i+1))
			ids = append(ids, id)
		}
		moved, err := g.Release("a", &quota.Choice{IDs: ids, Most: -1, Month: g.Status()[0].Month})
		if err != nil {
			t.Fatal(err)
		}
		var n int32
		for _, m := range moved {
			if m {
				n++
			}
		}
		if said.GetTraces() != n {
			t.Errorf("limit %d: %d were promised, the guard let go of %d", limit, said.GetTraces(), n)
		}
	}
}

func TestSetQuota(t *testing.T) {
	desk, _ := deskAt(t, quota.Rules{Traces: 100}, 30, 2)
	n := func(v int32) *int32 { return &v }
	for _, tt := range []struct {
		name         string
		req          *weirv1.SetQuotaRequest
		used, others int32
		limit        *int32
	}{
		{"count", &weirv1.SetQuotaRequest{TracesUsed: n(50)}, 50, 46, n(100)},
		{"count below what was delivered", &weirv1.SetQuotaRequest{TracesUsed: n(1)}, 1, -3, n(100)},
		{"limit", &weirv1.SetQuotaRequest{TracesLimit: n(70)}, 1, -3, n(70)},
		{"no limit", &weirv1.SetQuotaRequest{TracesLimit: n(0)}, 1, -3, nil},
		{"both, the configured limit again", &weirv1.SetQuotaRequest{TracesUsed: n(9), ClearLimit: true}, 9, 5, n(100)},
	} {
		tt.req.Account = "a"
		got, err := desk.set(tt.req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		scope := got.GetScope()
		if scope.GetTracesUsed() != tt.used || scope.GetTracesOthers() != tt.others || !cmp.Equal(scope.TracesLimit, tt.limit) {
			t.Errorf("%s: %v", tt.name, scope)
		}
	}
	for _, call := range []func() error{
		func() error { _, err := desk.set(&weirv1.SetQuotaRequest{Account: "gone"}); return err },
		func() error { _, err := desk.release(&weirv1.ReleaseHeldRequest{Account: "gone"}); return err },
	} {
		if err := call(); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("an account that is gone: error %v", err)
		}
	}
	if scopes := desk.show().GetScopes(); len(scopes) != 1 {
		t.Errorf("asking for an account that is gone made one: %v", scopes)
	}
}

func TestScopeMessage(t *testing.T) {
	at := time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)
	full := quota.Status{
		Account: "u t\xff", Provisional: true, Month: quota.MonthOf(at), Used: math.MaxInt64, Others: math.MinInt64, Reserved: 12, Held: 312,
		Dropped: 3, Limit: 5000, Policy: quota.PolicyPace, Threshold: 80,
		Refused:  &quota.Refusal{Kind: quota.KindUser, Since: at, Until: at.Add(time.Hour)},
		Forecast: quota.Forecast{Known: true, PerDay: 160.5, Projected: 5810, ExhaustedAt: at.Add(2 * time.Hour)}, CostUSD: 1.25,
		Windows:     []quota.Window{{Name: "events", Used: 7, Limit: 50, Ends: at}, {Name: "bytes", Used: 1 << 40, Ends: at}},
		Projects:    []quota.ProjectStatus{{Project: "p\xff", Used: math.MaxInt64 / 2, Held: 1, Limit: 10}, {Limit: -1, Reserved: 2, Dropped: 3}},
		Orders:      []quota.Order{{Most: -1, Reason: quota.ReasonMonth, After: at}, {Most: 5, Project: new("p"), Oldest: true, Reason: quota.ReasonAsked}},
		TurnRelease: 1000,
	}
	stamp := timestamppb.New
	want := &weirv1.QuotaScope{
		Account: "u t\ufffd", Provisional: true, Month: "2026-11", TracesUsed: math.MaxInt32, TracesOthers: math.MinInt32, TracesReserved: 12,
		TracesHeld: 312, TracesDropped: 3, TracesLimit: new(int32(5000)), Policy: "pace", ThresholdPercent: 80,
		RefusedReason: "quota_user", RefusedSince: stamp(at), RefusedUntil: stamp(at.Add(time.Hour)),
		ForecastExhaustedAt: stamp(at.Add(2 * time.Hour)), ProjectedTraces: new(int32(5810)), PerDay: new(160.5), ProjectedCostUsd: 1.25,
		Windows: []*weirv1.QuotaWindow{
			{Name: "events", Used: 7, Limit: new(50.0), EndsAt: stamp(at)}, {Name: "bytes", Used: 1 << 40, EndsAt: stamp(at)},
		},
		Projects: []*weirv1.QuotaProject{
			{Project: "p\ufffd", TracesUsed: math.MaxInt32, TracesHeld: 1, TracesLimit: new(int32(10)), Share: 0.5},
			{TracesReserved: 2, TracesDropped: 3},
		},
		Releases: []*weirv1.QuotaRelease{
			{Reason: "month_turned", After: stamp(at)},
			{Reason: "asked_for", Traces: new(int32(5)), Project: new("p"), OldestFirst: true},
		},
		TurnRelease: new(int32(1000)),
	}
	if diff := cmp.Diff(want, scopeMessage(&full), protocmp.Transform()); diff != "" {
		t.Errorf("full account (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&weirv1.QuotaScope{Account: "b", Month: "2026-11", Policy: "hold"},
		scopeMessage(&quota.Status{Account: "b", Month: quota.MonthOf(at), Policy: quota.PolicyHold, Limit: -1, TurnRelease: -1}), protocmp.Transform()); diff != "" {
		t.Errorf("account without anything (-want +got):\n%s", diff)
	}
}
