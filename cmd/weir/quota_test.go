package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

const (
	accountA = "https://api.smith.langchain.com 5f8c0e7a-5b0f-4c53-9f5e-2d7f4a1c9b11"
	accountB = "https://eu.api.smith.langchain.com 0b7d1c92-77aa-4e21-8a3c-6f0d9e5b2a44"
)

func in(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(fixedNow.Add(d)) }

// halfScope is an account in the middle of its month.
func halfScope() *weirv1.QuotaScope {
	return &weirv1.QuotaScope{
		Account: accountA, Month: "2026-11", TracesUsed: 2600, TracesReserved: 40, TracesOthers: 100, TracesLimit: new(int32(5000)),
		Policy: "hold", PerDay: new(130.4), ProjectedTraces: new(int32(4008)), ThresholdPercent: 50, TurnRelease: new(int32(1000)),
		Windows: []*weirv1.QuotaWindow{
			{Name: "events", Used: 700, Limit: new(50_000.0), EndsAt: in(25 * time.Minute)},
			{Name: "bytes", Used: 480_000_000, Limit: new(500_000_000.0), EndsAt: in(25 * time.Minute)},
		},
		Projects: []*weirv1.QuotaProject{
			{TracesUsed: 500, Share: 500.0 / 2600},
			{Project: "chat", TracesUsed: 1900, TracesReserved: 40, TracesLimit: new(int32(3000)), Share: 1900.0 / 2600},
			{Project: "a project\x1b[31m whose name goes on for longer than anyone would like", TracesUsed: 100, Share: 100.0 / 2600},
			{Project: "idle"},
		},
	}
}

// soonScope is an account that will not reach the end of its month.
func soonScope() *weirv1.QuotaScope {
	s := halfScope()
	s.TracesUsed, s.TracesReserved, s.TracesHeld, s.TracesOthers = 4210, 0, 312, 0
	s.PerDay, s.ProjectedTraces, s.ForecastExhaustedAt = new(160.0), new(int32(5810)), in(5*24*time.Hour)
	s.Projects = []*weirv1.QuotaProject{
		{Project: "chat", TracesUsed: 3000, TracesHeld: 312, TracesLimit: new(int32(3000)), Share: 3000.0 / 4210},
		{Project: "search", TracesUsed: 1210, Share: 1210.0 / 4210},
	}
	s.Windows, s.ThresholdPercent = nil, 80
	return s
}

// fullScope is an account that has used its month up.
func fullScope() *weirv1.QuotaScope {
	s := halfScope()
	s.TracesUsed, s.TracesReserved, s.TracesHeld, s.TracesDropped, s.ThresholdPercent = 4990, 10, 15_000, 1, 100
	s.ForecastExhaustedAt, s.ProjectedTraces = in(0), new(int32(28_000))
	s.Projects, s.Windows = nil, nil
	s.Releases = []*weirv1.QuotaRelease{
		{Reason: "limit_raised"},
		{Reason: "asked_for", Traces: new(int32(5)), Project: new("chat"), OldestFirst: true},
		{Reason: "month_turned", Traces: new(int32(1000)), Project: new(""), After: in(11 * 24 * time.Hour)},
	}
	return s
}

// scopes are the states of an account that people see.
func scopes() map[string][]*weirv1.QuotaScope {
	refused := fullScope()
	refused.TracesUsed, refused.TracesReserved, refused.Releases = 2500, 0, nil
	refused.RefusedReason, refused.RefusedSince = "quota_month", ago(90*time.Minute)
	refused.RefusedUntil = timestamppb.New(time.Date(2026, time.December, 1, 0, 0, 0, 0, time.UTC))
	noLimit := halfScope()
	noLimit.TracesLimit, noLimit.TurnRelease, noLimit.Windows, noLimit.Projects, noLimit.ProjectedCostUsd = nil, nil, nil, nil, 10.0203
	young := halfScope()
	young.TracesUsed, young.TracesReserved, young.PerDay, young.ProjectedTraces, young.Windows, young.Projects = 1, 0, nil, nil, nil, nil
	provisional := halfScope()
	provisional.Account, provisional.Provisional = "https://api.smith.langchain.com 9f2ac41d workspace ops", true
	provisional.Windows, provisional.Projects = nil, nil
	other := soonScope()
	other.Account = accountB
	untouched := &weirv1.QuotaScope{Account: accountA, Month: "2026-11", TracesLimit: new(int32(5000)), Policy: "hold"}
	over := fullScope()
	over.Policy, over.TracesUsed, over.TracesHeld, over.Releases, over.ProjectedCostUsd = "forward", 6100, 0, nil, 57.5
	one := fullScope()
	one.Policy, one.TracesHeld, one.TracesDropped, one.Releases = "drop", 1, 1, nil
	several := []*weirv1.QuotaScope{halfScope(), other, provisional, noLimit, untouched}
	return map[string][]*weirv1.QuotaScope{
		"empty": nil, "untouched": {untouched}, "untouched-no-limit": {{Account: accountA, Month: "2026-11"}}, "half": {halfScope()},
		"soon": {soonScope()}, "full": {fullScope()}, "over": {over}, "one": {one}, "refused": {refused}, "no-limit": {noLimit},
		"young": {young}, "provisional": {provisional}, "two": {halfScope(), other}, "several": several, "blank": {{}},
	}
}

func TestQuotaGolden(t *testing.T) {
	type view struct {
		suffix string
		args   []string
		color  bool
	}
	for name, scopes := range scopes() {
		views := []view{{"", []string{"quota"}, false}}
		switch name {
		case "half", "full", "refused":
			views = append(views, view{"-color", []string{"quota", "show"}, true})
		case "soon":
			views = append(views, view{"-json", []string{"quota", "--json"}, false})
		case "empty":
			views = append(views, view{"-json", []string{"quota", "show", "--json"}, false})
		}
		for _, v := range views {
			t.Run(name+v.suffix, func(t *testing.T) {
				addr := (&fakeAdmin{quota: &weirv1.GetQuotaResponse{Scopes: scopes}}).serve(t)
				sys := newTestSystem(t, nil)
				sys.OutColor = v.color
				if code := sys.execute(t, append(v.args, "--admin-addr", addr)...); code != exitOK || sys.err.Len() > 0 {
					t.Errorf("exit code %d, standard error %s", code, sys.err)
				}
				golden(t, "testdata/quota/"+name+v.suffix+".golden", sys.out.String())
			})
		}
	}
}

func TestStatusShowsTheQuota(t *testing.T) {
	all := scopes()
	for _, name := range []string{"full", "refused", "no-limit", "several"} {
		t.Run(name, func(t *testing.T) {
			addr := (&fakeAdmin{status: quietStatus(), quota: &weirv1.GetQuotaResponse{Scopes: all[name]}}).serve(t)
			sys := newTestSystem(t, nil)
			if code := sys.execute(t, "status", "--admin-addr", addr); code != exitOK {
				t.Errorf("exit code %d: %s", code, sys.err)
			}
			golden(t, "testdata/status/quota-"+name+".golden", sys.out.String())
		})
	}
}

// TestQuotaJSONNames pins what scripts read: the names, which of them are there
// when there is nothing to say, and that counts of traces are numbers.
func TestQuotaJSONNames(t *testing.T) {
	always := []string{
		"account", "days", "month", "policy", "projectedCostUsd", "projects", "provisional", "refusedReason", "releases", "thresholdPercent",
		"tracesDropped", "tracesHeld", "tracesOthers", "tracesReserved", "tracesUsed", "windows",
	}
	sometimes := []string{
		"forecastExhaustedAt", "perDay", "projectedTraces", "refusedSince", "refusedUntil", "tracesLimit", "turnRelease",
	}
	full := soonScope()
	full.Windows, full.Releases = halfScope().GetWindows(), fullScope().GetReleases()[1:]
	full.Releases[0].After = in(time.Hour)
	full.RefusedSince, full.RefusedUntil = in(0), in(0)
	addr := (&fakeAdmin{quota: &weirv1.GetQuotaResponse{Scopes: []*weirv1.QuotaScope{{}, full}}}).serve(t)
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, "quota", "--json", "--admin-addr", addr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	var got struct {
		Scopes []map[string]any `json:"scopes"`
	}
	if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil || len(got.Scopes) != 2 {
		t.Fatalf("%v in %s", err, sys.out)
	}
	names := func(m any) []string {
		object, ok := m.(map[string]any)
		if !ok {
			t.Fatalf("%v is no object", m)
		}
		return slices.Sorted(maps.Keys(object))
	}
	first := func(list any) any {
		items, ok := list.([]any)
		if !ok || len(items) == 0 {
			t.Fatalf("%v is no list with items", list)
		}
		return items[0]
	}
	rich := got.Scopes[1]
	for _, tt := range []struct {
		what string
		in   any
		want []string
	}{
		{"an account without anything", got.Scopes[0], always},
		{"a full one", rich, slices.Sorted(slices.Values(append(sometimes, always...)))},
		{"a window", first(rich["windows"]), []string{"endsAt", "limit", "name", "used"}},
		{"a project", first(rich["projects"]), []string{"project", "share", "tracesDropped", "tracesHeld", "tracesLimit", "tracesReserved", "tracesUsed"}},
		{"a release", first(rich["releases"]), []string{"after", "oldestFirst", "project", "reason", "traces"}},
	} {
		if diff := cmp.Diff(tt.want, names(tt.in)); diff != "" {
			t.Errorf("fields of %s (-want +got):\n%s", tt.what, diff)
		}
	}
	for name, want := range map[string]any{
		"tracesUsed": 4210.0, "tracesLimit": 5000.0, "tracesHeld": 312.0, "projectedTraces": 5810.0, "month": "2026-11",
		"forecastExhaustedAt": "2026-11-25T12:00:00Z",
	} {
		if rich[name] != want {
			t.Errorf("%s is %v, want %v", name, rich[name], want)
		}
	}
}

func TestQuotaSet(t *testing.T) {
	left, others, fewer, gone, free := halfScope(), halfScope(), halfScope(), fullScope(), halfScope()
	left.TracesOthers, left.TracesReserved = 0, 0
	fewer.TracesUsed, fewer.TracesOthers = 1, -2499
	free.TracesLimit = nil
	smith := halfScope()
	waits := fullScope()
	waits.TracesLimit = new(int32(8000))
	tests := []struct {
		name string
		args []string
		to   *weirv1.QuotaScope
		want *weirv1.SetQuotaRequest
		says string
	}{
		{
			"count",
			[]string{"set", "2600"},
			left, &weirv1.SetQuotaRequest{TracesUsed: new(int32(2600))},
			"November now counts 2,600 traces, all of them sent by weir; 2,400 of the limit of 5,000 are left.",
		},
		{
			"count with others",
			[]string{"set", "2600", "--account", "5f8c"},
			others, &weirv1.SetQuotaRequest{Account: "5f8c", TracesUsed: new(int32(2600))},
			"November now counts 2,600 traces, 100 of them sent by others; 2,360 of the limit of 5,000 are left.",
		},
		{
			"count below weir's own",
			[]string{"set", "1"},
			fewer, &weirv1.SetQuotaRequest{TracesUsed: new(int32(1))},
			"November now counts 1 trace, 2,499 fewer than weir has sent; 4,959 of the limit of 5,000 are left.",
		},
		{
			"count of 0, nothing left",
			[]string{"set", "0"},
			gone, &weirv1.SetQuotaRequest{TracesUsed: new(int32(0))},
			"nothing is left of the limit of 5,000, and new traces are held.",
		},
		{"count without limit", []string{"set", "7"}, free, &weirv1.SetQuotaRequest{TracesUsed: new(int32(7))}, "there is no limit."},
		{
			"limit",
			[]string{"set-limit", "5000"},
			halfScope(), &weirv1.SetQuotaRequest{TracesLimit: new(int32(5000))},
			": the limit is 5,000 traces a month now; 2,640 traces of November are taken.",
		},
		{
			"limit above LangSmith's",
			[]string{"set-limit", "9000"},
			smith, &weirv1.SetQuotaRequest{TracesLimit: new(int32(9000))},
			"the limit is 5,000 traces a month now, for LangSmith itself allows no more;",
		},
		{
			"limit that lets held traces go",
			[]string{"set-limit", "8000"},
			waits, &weirv1.SetQuotaRequest{TracesLimit: new(int32(8000))},
			"5,000 traces of November are taken; of 15,000 traces held, those that there is room for are released.",
		},
		{
			"no limit",
			[]string{"set-limit", "none"},
			free, &weirv1.SetQuotaRequest{TracesLimit: new(int32(0))},
			": there is no limit on a month's traces now.",
		},
		{"no limit as a number", []string{"set-limit", "0"}, free, &weirv1.SetQuotaRequest{TracesLimit: new(int32(0))}, "no limit"},
		{
			"the configured limit",
			[]string{"set-limit", "Default"},
			halfScope(), &weirv1.SetQuotaRequest{ClearLimit: true},
			": the configured limit applies again; the limit is 5,000 traces a month now;",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{setTo: &weirv1.SetQuotaResponse{Scope: tt.to}}
			sys := newTestSystem(t, nil)
			args := append([]string{"quota"}, append(tt.args, "--admin-addr", fake.serve(t))...)
			if code := sys.execute(t, args...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, sys.err)
			}
			if diff := cmp.Diff(tt.want, fake.set, protocmp.Transform()); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got := sys.out.String(); !strings.HasPrefix(got, accountA+": ") || !strings.Contains(got, tt.says) || strings.Count(got, "\n") != 1 {
				t.Errorf("answer %q, want one line with the account and %q", got, tt.says)
			}
		})
	}
}

func TestQuotaRelease(t *testing.T) {
	roomy, refused, free, budget := soonScope(), soonScope(), soonScope(), soonScope()
	refused.RefusedReason = "quota_month"
	free.TracesLimit = nil
	none := halfScope()
	tests := []struct {
		name   string
		args   []string
		scope  *weirv1.QuotaScope
		traces int32
		want   *weirv1.ReleaseHeldRequest
		code   int
		says   string
	}{
		{
			"all", nil, roomy, 312, &weirv1.ReleaseHeldRequest{}, exitOK,
			": all 312 traces held are released, those that show an error before others, then newest first. They count for November: 4,522 of 5,000 are used then.",
		},
		{
			"some",
			[]string{"--traces", "100", "--oldest-first"},
			roomy, 100, &weirv1.ReleaseHeldRequest{Traces: new(int32(100)), OldestFirst: true}, exitOK,
			": 100 of 312 traces held are released, those that show an error before others, then oldest first. They",
		},
		{
			"no room for all",
			[]string{"--traces", "200"},
			roomy, 50, &weirv1.ReleaseHeldRequest{Traces: new(int32(200))}, exitOK,
			"newest first; there is no room for more. They count",
		},
		{"one", []string{"--traces", "1"}, roomy, 1, &weirv1.ReleaseHeldRequest{Traces: new(int32(1))}, exitOK, ": 1 of 312 traces held is released,"},
		{
			"a dry run of a project",
			[]string{"--project", "chat", "--dry-run"},
			roomy, 10, &weirv1.ReleaseHeldRequest{Project: new("chat"), DryRun: true}, exitOK,
			": 10 of 312 traces of project chat held would be released,",
		},
		{"without limit", nil, free, 312, &weirv1.ReleaseHeldRequest{}, exitOK, "newest first. They count for November.\n"},
		{"nothing held", nil, none, 0, &weirv1.ReleaseHeldRequest{}, exitOK, ": nothing is held."},
		{"nothing held of no project", []string{"--project", ""}, roomy, 0, &weirv1.ReleaseHeldRequest{Project: new("")}, exitOK, ": nothing of no project is held."},
		{
			"nothing left", nil, fullScope(), 0, &weirv1.ReleaseHeldRequest{}, exitFailed,
			": nothing can be released of 15,000 traces held: all 5,000 traces of November are used. Raise the limit with `weir quota set-limit`, or wait for 1 Dec.",
		},
		{"nothing left, a dry run", []string{"--dry-run"}, fullScope(), 0, &weirv1.ReleaseHeldRequest{DryRun: true}, exitOK, "nothing can be released"},
		{"refused", nil, refused, 0, &weirv1.ReleaseHeldRequest{}, exitFailed, ": LangSmith refuses new traces.\n"},
		{
			"budget of the project",
			[]string{"--project", "chat"},
			budget, 0, &weirv1.ReleaseHeldRequest{Project: new("chat")}, exitFailed,
			"of 312 traces of project chat held: the budget of project chat is used.",
		},
		{"budgets", nil, budget, 0, &weirv1.ReleaseHeldRequest{}, exitFailed, "the budgets of the projects they belong to are used."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeAdmin{released: &weirv1.ReleaseHeldResponse{Traces: tt.traces, Scope: tt.scope}}
			sys := newTestSystem(t, nil)
			args := append([]string{"quota", "release"}, append(tt.args, "--admin-addr", fake.serve(t))...)
			if code := sys.execute(t, args...); code != tt.code || sys.err.Len() > 0 {
				t.Fatalf("exit code %d, want %d: %s", code, tt.code, sys.err)
			}
			if diff := cmp.Diff(tt.want, fake.release, protocmp.Transform()); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got := sys.out.String(); !strings.HasPrefix(got, accountA+": ") || !strings.Contains(got, tt.says) {
				t.Errorf("answer %q, want one with %q", got, tt.says)
			}
		})
	}
}

func TestQuotaChangesAsJSON(t *testing.T) {
	fake := &fakeAdmin{
		setTo:    &weirv1.SetQuotaResponse{Scope: halfScope()},
		released: &weirv1.ReleaseHeldResponse{Traces: 3, Scope: soonScope()},
	}
	addr := fake.serve(t)
	for _, args := range [][]string{{"set", "5"}, {"set-limit", "5"}, {"release"}} {
		sys := newTestSystem(t, nil)
		if code := sys.execute(t, append(append([]string{"quota"}, args...), "--json", "--admin-addr", addr)...); code != exitOK {
			t.Fatalf("%s: exit code %d: %s", args, code, sys.err)
		}
		var got struct {
			Traces int `json:"traces"`
			Scope  struct {
				Account string `json:"account"`
			} `json:"scope"`
		}
		if err := json.Unmarshal(sys.out.Bytes(), &got); err != nil || got.Scope.Account != accountA || (args[0] == "release") != (got.Traces == 3) {
			t.Errorf("%s: %s, error %v", args, sys.out, err)
		}
	}
}

func TestQuotaErrors(t *testing.T) {
	addr := (&fakeAdmin{}).serve(t)
	refusing := func(code connect.Code, text string) string {
		return (&fakeAdmin{err: connect.NewError(code, errors.New(text))}).serve(t)
	}
	several := refusing(connect.CodeInvalidArgument, "there are several accounts, name one: one, two")
	unknown := refusing(connect.CodeNotFound, "account one is not known; known are: two")
	waiting := refusing(connect.CodeResourceExhausted, "too many releases wait to be done")
	tests := []struct {
		args []string
		addr string
		want int
		says string
	}{
		{[]string{"set"}, addr, exitUsage, "Run `weir quota set --help`"},
		{[]string{"set", "many"}, addr, exitUsage, "many"},
		{[]string{"set", "--", "-5"}, addr, exitUsage, "quota set: N is -5; give a whole number from 0 to 2147483647"},
		{[]string{"set", "3000000000"}, addr, exitUsage, "N is 3000000000"},
		{[]string{"set-limit", "lots"}, addr, exitUsage, `quota set-limit: "lots" is not a whole number; give a whole number up to 2147483647, none or default`},
		{[]string{"set-limit", "--", "-1"}, addr, exitUsage, "-1 is negative"},
		{[]string{"set-limit", "3000000000"}, addr, exitUsage, "is too large"},
		{[]string{"release", "--traces=0"}, addr, exitUsage, "--traces is 0; leave it out"},
		{[]string{"release", "--traces=-2"}, addr, exitUsage, "--traces is -2"},
		{[]string{"sett"}, addr, exitUsage, "sett"},
		{[]string{"set", "5"}, several, exitUsage, "quota set: there are several accounts, name one: one, two\nName the account with --account"},
		{[]string{"set-limit", "5", "--account=one"}, unknown, exitFailed, "quota set-limit: account one is not known; known are: two"},
		{[]string{"release"}, several, exitUsage, "quota release: there are several accounts"},
		{[]string{"release"}, waiting, exitFailed, "quota release: too many releases wait to be done"},
		{nil, refusing(connect.CodeInternal, "disk on fire"), exitFailed, "quota: disk on fire"},
		{nil, "unix:nobody.sock", exitUnreachable, "quota: no weir answers at unix:"},
		{[]string{"set", "5"}, "unix:nobody.sock", exitUnreachable, "quota set: no weir answers at unix:"},
		{[]string{"release"}, "off", exitUsage, "admin_addr is off"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " ")+" "+tt.says, func(t *testing.T) {
			sys := newTestSystem(t, nil)
			args := append([]string{"quota"}, slices.Insert(slices.Clone(tt.args), min(len(tt.args), 1), "--admin-addr="+tt.addr)...)
			if code := sys.execute(t, args...); code != tt.want {
				t.Errorf("exit code %d, want %d", code, tt.want)
			}
			if !strings.HasPrefix(sys.err.String(), "weir: ") || !strings.Contains(sys.err.String(), tt.says) {
				t.Errorf("message %q, want one with %q", sys.err, tt.says)
			}
			if sys.out.Len() > 0 {
				t.Errorf("standard output: %s", sys.out)
			}
		})
	}
}

// Accounts of former keys have no traces this month, and nothing on disk.
func TestQuotaLeavesOutAccountsThatAreNotInUse(t *testing.T) {
	account := func(name string) *weirv1.QuotaScope {
		return &weirv1.QuotaScope{Account: name, Month: "2026-11", TracesLimit: new(int32(5000)), Policy: "hold"}
	}
	used, keeping := account("account-used"), account("account-keeping")
	used.TracesUsed, keeping.TracesHeld = 12, 3
	tests := []struct {
		name   string
		scopes []*weirv1.QuotaScope
		args   []string
		want   string // accounts that are shown
		hidden bool   // some are not, which is said
	}{
		{"some", []*weirv1.QuotaScope{account("account-former"), used, keeping}, nil, "account-used account-keeping", true},
		{"all of them", []*weirv1.QuotaScope{account("account-former"), used}, []string{"--all"}, "account-former account-used", false},
		{"a new month", []*weirv1.QuotaScope{account("account-former"), account("account-new")}, nil, "account-former account-new", false},
	}
	for _, tt := range tests {
		for _, verb := range []string{"quota", "status"} {
			t.Run(tt.name+"/"+verb, func(t *testing.T) {
				addr := (&fakeAdmin{status: quietStatus(), quota: &weirv1.GetQuotaResponse{Scopes: tt.scopes}}).serve(t)
				sys := newTestSystem(t, nil)
				if code := sys.execute(t, append([]string{verb, "--admin-addr", addr}, tt.args...)...); code != exitOK {
					t.Fatalf("exit code %d: %s", code, sys.err)
				}
				var shown []string
				for word := range strings.FieldsSeq(sys.out.String()) {
					if strings.HasPrefix(word, "account-") {
						shown = append(shown, strings.TrimSuffix(word, ":"))
					}
				}
				if got := strings.Join(shown, " "); got != tt.want {
					t.Errorf("shows %q, want %q: %s", got, tt.want, sys.out)
				}
				if hint := strings.Contains(sys.out.String(), "`weir quota --all`"); verb == "quota" && hint != tt.hidden {
					t.Errorf("says that some are hidden: %v", hint)
				}
			})
		}
	}
}

func TestBarCells(t *testing.T) {
	for _, tt := range []struct {
		n, limit int64
		want     int
	}{
		{-5, 5000, 0},
		{0, 5000, 0},
		{1, 5000, 1},
		{2500, 5000, 20},
		{4999, 5000, 39},
		{5000, 5000, 40},
		{9000, 5000, 40},
		{0, 0, 40},
		{1 << 30, 1<<31 - 1, 20},
	} {
		if got := barCells(tt.n, tt.limit, gaugeWidth); got != tt.want {
			t.Errorf("barCells(%d, %d) = %d, want %d", tt.n, tt.limit, got, tt.want)
		}
	}
}
