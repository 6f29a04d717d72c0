package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/quota"
)

func TestQuotaMetrics(t *testing.T) {
	accounts := []quota.Status{
		{
			Account: "https://api.example.com t1", Used: 4210, Others: 10, Reserved: 12, Held: 312, Dropped: 3, Limit: 5000, Threshold: 80,
			Refused:  &quota.Refusal{Kind: quota.KindMonth},
			Forecast: quota.Forecast{Known: true, PerDay: 160, Projected: 5810, ExhaustedAt: time.UnixMilli(1_795_000_000_500)},
			Windows:  []quota.Window{{Name: "events", Used: 700, Limit: 50_000}, {Name: "bytes", Used: 9_000, Limit: 0}},
		},
		{Account: "https://api.example.com t2", Limit: -1},
	}
	c := newQuotaCollector(func() []quota.Status { return accounts })
	want := `
# HELP weir_quota_exhausted_timestamp_seconds When the limit is reached at the current pace, in Unix time; absent if that is not in this month, or not known.
# TYPE weir_quota_exhausted_timestamp_seconds gauge
weir_quota_exhausted_timestamp_seconds{account="https://api.example.com t1"} 1.7950000005e+09
# HELP weir_quota_projected_traces Traces that the month will have had at its end at the current pace; absent while too little is known.
# TYPE weir_quota_projected_traces gauge
weir_quota_projected_traces{account="https://api.example.com t1"} 5810
# HELP weir_quota_refused 1 while LangSmith itself refuses new traces, else 0.
# TYPE weir_quota_refused gauge
weir_quota_refused{account="https://api.example.com t1"} 1
weir_quota_refused{account="https://api.example.com t2"} 0
# HELP weir_quota_threshold_percent The highest threshold of the limit that was passed this month: 0, 50, 80, 95 or 100 percent.
# TYPE weir_quota_threshold_percent gauge
weir_quota_threshold_percent{account="https://api.example.com t1"} 80
weir_quota_threshold_percent{account="https://api.example.com t2"} 0
# HELP weir_quota_traces Traces of this month, by state: used (delivered, and what others sent), reserved (admitted, not delivered yet), held, dropped, others (of those used: what weir did not send).
# TYPE weir_quota_traces gauge
weir_quota_traces{account="https://api.example.com t1",state="dropped"} 3
weir_quota_traces{account="https://api.example.com t1",state="held"} 312
weir_quota_traces{account="https://api.example.com t1",state="others"} 10
weir_quota_traces{account="https://api.example.com t1",state="reserved"} 12
weir_quota_traces{account="https://api.example.com t1",state="used"} 4210
weir_quota_traces{account="https://api.example.com t2",state="dropped"} 0
weir_quota_traces{account="https://api.example.com t2",state="held"} 0
weir_quota_traces{account="https://api.example.com t2",state="others"} 0
weir_quota_traces{account="https://api.example.com t2",state="reserved"} 0
weir_quota_traces{account="https://api.example.com t2",state="used"} 0
# HELP weir_quota_traces_limit The most traces of this month; absent where there is no limit.
# TYPE weir_quota_traces_limit gauge
weir_quota_traces_limit{account="https://api.example.com t1"} 5000
# HELP weir_quota_traces_per_day The current pace: new traces a day, recent days weighing more; absent while too little is known.
# TYPE weir_quota_traces_per_day gauge
weir_quota_traces_per_day{account="https://api.example.com t1"} 160
# HELP weir_quota_window_limit The most that is sent in a clock hour, in events or bytes; absent where there is no limit.
# TYPE weir_quota_window_limit gauge
weir_quota_window_limit{account="https://api.example.com t1",window="events"} 50000
# HELP weir_quota_window_used What was sent in this clock hour, in events or bytes.
# TYPE weir_quota_window_used gauge
weir_quota_window_used{account="https://api.example.com t1",window="bytes"} 9000
weir_quota_window_used{account="https://api.example.com t1",window="events"} 700
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v", problems, err)
	}
}

// TestQuotaMetricsAreBounded: however many accounts there are, the series are
// not, and nothing is left out of the sums.
func TestQuotaMetricsAreBounded(t *testing.T) {
	const n = 300
	accounts := make([]quota.Status, 0, n)
	for i := range n {
		accounts = append(accounts, quota.Status{
			Account: fmt.Sprintf("a%03d", i), Used: int64(i), Held: 1, Limit: 5000, Threshold: 50,
			Forecast: quota.Forecast{Known: true, Projected: 2},
			Windows:  []quota.Window{{Name: "events", Used: 1, Limit: 10, Ends: time.Unix(0, 0)}},
		})
	}
	got := boundedAccounts(accounts)
	if len(got) != maxQuotaSeries+1 {
		t.Fatalf("%d accounts, want %d", len(got), maxQuotaSeries+1)
	}
	var used, held, limit, projected, window int64
	names := map[string]bool{}
	for _, s := range got {
		used, held, limit = used+s.Used, held+s.Held, limit+s.Limit
		projected, window = projected+s.Forecast.Projected, window+s.Windows[0].Used
		names[s.Account] = true
	}
	if used != n*(n-1)/2 || held != n || limit != n*5000 || projected != 2*n || window != n {
		t.Errorf("used %d, held %d, limit %d, projected %d, window %d: not the sums", used, held, limit, projected, window)
	}
	if !names["other"] || !names["a299"] || names["a000"] {
		t.Errorf("accounts %v: want those that use most, and the others", names)
	}
	day := time.Unix(86400, 0)
	for _, at := range []time.Time{day.Add(time.Hour), {}, day, day.Add(time.Minute)} {
		addAccount(&got[0], &quota.Status{Forecast: quota.Forecast{Known: true, PerDay: 2, ExhaustedAt: at}})
	}
	if first := got[0].Forecast; !first.ExhaustedAt.Equal(day) || first.PerDay != 8 {
		t.Errorf("together they run out at %s, at %v a day, want the first of them, %s, at 8", first.ExhaustedAt, first.PerDay, day)
	}
	none := quota.Status{Account: "b", Limit: -1}
	addAccount(&got[len(got)-1], &none)
	if last := got[len(got)-1]; last.Limit != -1 || last.Forecast.Known {
		t.Errorf("others with one without limit and forecast: limit %d, known %t", last.Limit, last.Forecast.Known)
	}
}

// TestAnAccountThatIsNoLabel: a scrape must not fail, let alone panic, for what
// a caller named its workspace.
func TestAnAccountThatIsNoLabel(t *testing.T) {
	c := newQuotaCollector(func() []quota.Status {
		return []quota.Status{{Account: "https://api.example.com key workspace \xff\xfe", Limit: -1}}
	})
	if n := testutil.CollectAndCount(c, "weir_quota_refused"); n != 1 {
		t.Errorf("%d series, want 1", n)
	}
}
