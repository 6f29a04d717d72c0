package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/quota"
)

func TestQuotaRules(t *testing.T) {
	// ruled are the rules that do not depend on a plan, as they are by default.
	ruled := quota.Rules{
		Policy: quota.PolicyHold, HoldReleaseShare: 0.2, SampleFrom: 0.8, SampleRate: 0.1, Included: 5_000, PricePerThousandUSD: 2.5,
	}
	with := func(change func(*quota.Rules)) quota.Rules {
		r := ruled
		change(&r)
		return r
	}
	developer := func(r *quota.Rules) {
		r.Traces, r.EventsPerHour, r.BytesPerHour, r.Included, r.Hard = 5_000, 50_000, 500_000_000, 5_000, true
	}
	plus := func(r *quota.Rules) {
		r.Traces, r.EventsPerHour, r.BytesPerHour, r.Included = 10_000, 500_000, 5_000_000_000, 10_000
	}
	tests := []struct {
		name  string
		flags map[string]string
		yaml  string
		want  quota.Rules
	}{
		{name: "nothing set is the free plan", want: with(developer)},
		{
			name: "a limit that is set is no plan's", flags: map[string]string{"quota_traces": "300"},
			want: with(func(r *quota.Rules) { r.Traces = 300 }),
		},
		{name: "also the limit that is shown as the default", yaml: "quota_traces: 5000\n", want: with(func(r *quota.Rules) { r.Traces = 5000 })},
		{name: "no limit", flags: map[string]string{"quota_traces": "none"}, want: ruled},
		{name: "no limit as a number", yaml: "quota_traces: 0\n", want: ruled},
		{name: "developer", yaml: "quota: {plan: developer}\n", want: with(developer)},
		{
			name: "developer with a card", yaml: "quota: {plan: developer-card}\n", want: with(func(r *quota.Rules) {
				r.Traces, r.EventsPerHour, r.BytesPerHour, r.Included = 5_000, 250_000, 2_500_000_000, 5_000
			}),
		},
		{name: "plus", yaml: "quota: {plan: Plus}\n", want: with(plus)},
		{name: "custom has no limits", yaml: "quota: {plan: custom}\n", want: ruled},
		{
			name: "what is set wins over the plan", yaml: "quota_traces: 20000\nquota: {plan: plus, events_per_hour: none, bytes_per_hour: 1GB}\n",
			want: with(func(r *quota.Rules) {
				plus(r)
				r.Traces, r.EventsPerHour, r.BytesPerHour = 20_000, 0, 1_000_000_000
			}),
		},
		{
			name: "a word for the plan's", flags: map[string]string{"quota.plan": "plus", "quota.events_per_hour": "plan", "quota.bytes_per_hour": "Plan"},
			want: with(plus),
		},
		{
			name: "all the rest", flags: map[string]string{
				"quota_policy": "SAMPLE", "quota.hold_release_share": "1", "quota.sample_from": "0.5", "quota.sample_rate": "0.25",
				"quota.price_per_1000_usd": "0.50", "quota.projects": "chat=500, a=b=7,,", "quota.plan": "custom",
			},
			want: quota.Rules{
				Policy: quota.PolicySample, HoldReleaseShare: 1, SampleFrom: 0.5, SampleRate: 0.25, Included: 5_000, PricePerThousandUSD: 0.5,
				Projects: map[string]int64{"chat": 500, "a=b": 7},
			},
		},
		{
			name: "projects as a section", yaml: "quota:\n  plan: custom\n  projects:\n    chat: 500\n    'a=b': 7\n    2024: 8\n",
			want: with(func(r *quota.Rules) { r.Projects = map[string]int64{"chat": 500, "a=b": 7, "2024": 8} }),
		},
		{
			name: "one project as a section", yaml: "quota:\n  plan: custom\n  projects:\n    chat: 500\n",
			want: with(func(r *quota.Rules) { r.Projects = map[string]int64{"chat": 500} }),
		},
		{
			name: "projects as a list", yaml: "quota:\n  plan: custom\n  projects: [chat=500, search=6]\n",
			want: with(func(r *quota.Rules) { r.Projects = map[string]int64{"chat": 500, "search": 6} }),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			in.flags = tt.flags
			if tt.yaml != "" {
				writeFile(t, filepath.Join(in.cwd, "weir.yaml"), tt.yaml)
			}
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			got := s.quotaRules()
			if len(got.Projects) == 0 {
				got.Projects = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			g, err := quota.Open(quota.NewMemory(), quota.Config{Rules: got})
			if err != nil {
				t.Fatalf("the guard does not take them: %v", err)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReloadTakesTheQuota changes each setting about the quota alone.
func TestReloadTakesTheQuota(t *testing.T) {
	for i := range table {
		st := &table[i]
		if st.group != groupQuota {
			continue
		}
		t.Run(st.name, func(t *testing.T) {
			in := inputIn(t)
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			in.flags = map[string]string{st.name: samples[st.name][0]}
			next, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			changed, fixed := s.apply(next)
			if atStart(st.name) {
				if len(changed) > 0 || !cmp.Equal(fixed, []string{st.name}) || st.bind(s).String() == samples[st.name][0] {
					t.Errorf("changed %q, fixed %q: %s is not the guard's and stays as it is", changed, fixed, st.name)
				}
				return
			}
			if !cmp.Equal(changed, []string{st.name}) || len(fixed) > 0 {
				t.Errorf("changed %q, fixed %q, want only %s changed", changed, fixed, st.name)
			}
			if diff := cmp.Diff(next.quotaRules(), s.quotaRules()); diff != "" {
				t.Errorf("rules are not those of the new settings (-new +kept):\n%s", diff)
			}
		})
	}
	t.Run("a default that is now set", func(t *testing.T) {
		in := inputIn(t)
		s, err := loadSettings(in)
		if err != nil {
			t.Fatal(err)
		}
		in.flags = map[string]string{"quota_traces": "5000"}
		next, err := loadSettings(in)
		if err != nil {
			t.Fatal(err)
		}
		s.apply(next)
		if got := s.quotaRules(); got.EventsPerHour != 0 || got.Traces != 5000 {
			t.Errorf("rules %+v, want those of no plan", got)
		}
	})
}

func TestQuotaValuesAreExplained(t *testing.T) {
	many := make([]string, maxBudgets+1)
	for i := range many {
		many[i] = fmt.Sprintf("p%d=1", i)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"quota_traces", "3000000000", "3000000000 is too large; give a whole number up to 2147483647; or 0 or none for no limit"},
		{"quota_traces", "plan", `"plan" is not a whole number`},
		{"quota.events_per_hour", "-1", "-1 is negative; give a whole number up to 2147483647; or 0 or none for no limit, or plan for the plan's"},
		{"quota.bytes_per_hour", "5G", `"5G" leaves open whether it counts in 1000 (GB) or 1024 (GiB)`},
		{"quota.sample_rate", "0", `"0" is too small; give a number from 0.001 to 1`},
		{"quota.sample_rate", "NaN", `"NaN" is not a number`},
		{"quota.price_per_1000_usd", "-1", `"-1" is too small; give a number from 0 to 1000`},
		{"quota.projects", "chat", `"chat" has no limit; give a list of NAME=LIMIT`},
		{"quota.projects", "=5", "a limit has no project"},
		{"quota.projects", "chat=0", "a budget of 0 leaves open whether it is none or no limit"},
		{"quota.projects", "chat=5,chat=6", `project "chat" is there twice`},
		{"quota.projects", strings.Join(many, ","), "1001 projects are too many, at most 1000 may have a budget"},
	} {
		in := inputIn(t)
		in.flags = map[string]string{tt.name: tt.text}
		if _, err := loadSettings(in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

// TestProjectsMayBeGivenOneByOne holds for the flag, as for other lists.
func TestProjectsMayBeGivenOneByOne(t *testing.T) {
	sys := newTestSystem(t, nil)
	if code := sys.execute(t, "config", "--json", "--quota-projects=chat=5", "--quota-projects=b=6,a=7"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, sys.err)
	}
	if want := `"value": "a=7,b=6,chat=5"`; !strings.Contains(sys.out.String(), want) {
		t.Errorf("configuration does not hold %s:\n%s", want, sys.out)
	}
}
