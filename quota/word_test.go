package quota_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"weir/quota"
)

// fresh gives the desk a new ledger that first sees a clock at a time.
func (d *desk) fresh(r quota.Rules, at time.Time) {
	d.t.Helper()
	d.set(at)
	d.ledger = quota.NewMemory()
	d.open(r)
}

// admitNew admits one new trace.
func (d *desk) admitNew() *quota.Admission {
	d.t.Helper()
	var id quota.TraceID
	d.next++
	binary.BigEndian.PutUint64(id[8:], d.next)
	a, err := d.Admit(deskAccount, []quota.Trace{{ID: id}})
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

// TestTheFirstMonthIsCorrected: a new weir has only its own clock to believe,
// and that may be a year ahead or behind.
func TestTheFirstMonthIsCorrected(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Time{"a year ahead": november.AddDate(1, 0, 0), "in 1970": time.Unix(1000, 0)} {
		for how, correct := range map[string]func(d *desk, r quota.Rules){
			"by an answer":      func(d *desk, _ quota.Rules) { d.says(november) },
			"the clock is set":  func(d *desk, _ quota.Rules) { d.set(november); d.says(november) },
			"and a restart":     func(d *desk, r quota.Rules) { d.set(november); d.open(r) },
			"offline":           func(d *desk, _ quota.Rules) { d.set(november) },
			"after the restart": func(d *desk, r quota.Rules) { d.open(r); d.set(november); d.says(november) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				rules := quota.Rules{Traces: 10}
				d := newDesk(t, rules)
				d.fresh(rules, wrong)
				for range 12 {
					d.admitNew()
				}
				correct(d, rules)
				if err := d.Advance(); err != nil {
					t.Fatal(err)
				}
				if s := d.status(); s.Month != quota.MonthOf(november) || s.Reserved != 10 || s.Held != 2 {
					t.Errorf("corrected, the status is %+v", s)
				}
				d.at(november.Add(time.Minute))
				if n := d.bring(1); n != 0 {
					t.Error("the correction made room")
				}
				d.at(november.AddDate(0, 1, 0))
				if s := d.status(); s.Month != quota.MonthOf(november)+1 {
					t.Errorf("a month later it is %v", s.Month)
				}
			})
		}
	}
}

func TestWhatIsSetByHandOutlivesTheFirstMonthsCorrection(t *testing.T) {
	t.Parallel()
	rules := quota.Rules{Traces: 10}
	d := newDesk(t, rules)
	d.fresh(rules, november.AddDate(1, 0, 0))
	if err := d.SetUsed(deskAccount, 8); err != nil {
		t.Fatal(err)
	}
	d.at(november)
	if s := d.status(); s.Used != 8 {
		t.Errorf("%d are used, want the 8 that were set", s.Used)
	}
	d.at(november.AddDate(0, 1, 0))
	if s := d.status(); s.Used != 0 {
		t.Errorf("%d are used in the next month, want none", s.Used)
	}
}

func TestAThresholdThatOthersPassIsSaidInTheNextReply(t *testing.T) {
	t.Parallel()
	for name, pass := range map[string]func(d *desk) error{
		"usage read": func(d *desk) error { return d.Taken(deskAccount, quota.MonthOf(november), 85) },
		"by hand":    func(d *desk) error { return d.SetUsed(deskAccount, 85) },
		"deliveries": func(d *desk) error {
			var ids []quota.TraceID
			for n := range byte(85) {
				ids = append(ids, quota.TraceID{1, n})
			}
			return d.Delivered(deskAccount, ids)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, quota.Rules{Traces: 100})
			d.says(november)
			d.admitNew()
			if err := pass(d); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(d.log.String(), "percent=80"); got != 1 {
				t.Errorf("the log says it %d times:\n%s", got, d.log)
			}
			if w := d.admitNew().Warning; !strings.Contains(w, "of this month's 100") {
				t.Errorf("the next reply says %q", w)
			}
			if w := d.admitNew().Warning; w != "" {
				t.Errorf("and the one after it %q", w)
			}
		})
	}
}

func TestATrialStaysWithinTheUsersLimit(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 5})
	d.says(november)
	d.bring(7)
	d.Refused(deskAccount, quota.KindMonth)
	if err := d.Trial(deskAccount); err != nil {
		t.Fatal(err)
	}
	if n := d.bring(3); n != 0 {
		t.Errorf("%d traces went beyond the user's limit to try LangSmith's", n)
	}
}

// TestTheDaysReleaseComesAlsoWhenAnAdmissionSawTheDayFirst, as it does wherever
// there is traffic.
func TestTheDaysReleaseComesAlsoWhenAnAdmissionSawTheDayFirst(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 210, Policy: quota.PolicyPace})
	d.says(november)
	d.bring(50)
	d.Due(deskAccount)
	d.at(november.AddDate(0, 0, 1))
	d.bring(1)
	if due, _ := d.Due(deskAccount); len(due) != 1 || due[0].Reason != quota.ReasonDay {
		t.Errorf("orders of the new day: %+v", due)
	}
	if due, _ := d.Due(deskAccount); len(due) != 1 {
		t.Errorf("it is ordered again: %+v", due)
	}
}

// TestPaceBeginsAnewWithTheMonth: the first admission of the new day may come
// before weir's clock agrees that the month has turned.
func TestPaceBeginsAnewWithTheMonth(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 310, Policy: quota.PolicyPace})
	border := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	d.at(border.Add(-time.Hour))
	d.bring(5)
	d.set(border.Add(-10 * time.Second))
	d.says(border.Add(time.Second))
	d.bring(1)
	d.at(border.Add(time.Minute))
	if n := d.bring(300); n > 11 {
		t.Errorf("%d traces passed on the first of December, want a day's share of about 10", n)
	}
}

func TestARaisedLimitIsSpreadAnew(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 210, Policy: quota.PolicyPace})
	d.says(november)
	d.bring(50)
	more := int64(420)
	if err := d.SetLimit(deskAccount, &more); err != nil {
		t.Fatal(err)
	}
	if n := d.bring(50); n != 20 { // of 410 that are left for 21 days
		t.Errorf("%d more traces pass today, want 20", n)
	}
}

func TestALimitThatLangSmithLiftsReleasesWhatIsHeld(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 100})
	d.says(november)
	limit := int64(3)
	report := func(l *int64) {
		t.Helper()
		if _, _, err := d.Reported(deskAccount, quota.UsageLimits{Type: "user_defined_monthly_traces", Limit: l}); err != nil {
			t.Fatal(err)
		}
	}
	report(&limit)
	if n := d.bring(5); n != 3 {
		t.Fatalf("%d traces pass LangSmith's limit of 3", n)
	}
	report(nil)
	if due, _ := d.Due(deskAccount); len(due) != 1 || due[0].Reason != quota.ReasonLimit {
		t.Errorf("orders: %+v, want one for the raised limit", due)
	}
}

// TestWhatWasOnItsWayAtTheTurnIsCounted: more of a trace that October has
// counted is sent in its last second, and nobody answers.
func TestWhatWasOnItsWayAtTheTurnIsCounted(t *testing.T) {
	t.Parallel()
	border := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, own := range map[string]time.Duration{"on time": 0, "behind": -30 * time.Second, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := quota.Rules{Traces: 5}
			d := newDesk(t, rules)
			d.fresh(rules, border.Add(own-time.Second))
			d.says(border.Add(-time.Second))
			d.bring(1)
			var id quota.TraceID
			binary.BigEndian.PutUint64(id[8:], d.next)
			p, err := d.Claim(deskAccount, []quota.TraceID{id})
			if err != nil || p.Verdicts[0].State != quota.Counted {
				t.Fatal(p, err)
			}
			d.set(border.Add(own + time.Second))
			if err := d.Attempted(deskAccount, []quota.TraceID{id}); err != nil {
				t.Fatal(err)
			}
			d.Ended(p)
			d.at(border.Add(time.Minute))
			if s := d.status(); s.Month != quota.MonthOf(border) || s.Used != 1 {
				t.Errorf("in %v %d are used, want the one that may have arrived", s.Month, s.Used)
			}
			if n := d.bring(10); n != 4 {
				t.Errorf("%d new traces pass, want 4", n)
			}
			if n, _ := d.ledger.Past(deskAccount, quota.MonthOf(border)-1); n != 1 {
				t.Errorf("October has %d, want 1", n)
			}
		})
	}
}
