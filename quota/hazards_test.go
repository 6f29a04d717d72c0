package quota_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"weir/quota"
)

// admit admits one trace, and returns what became of it.
func (d *desk) admit(id byte) (*quota.Admission, quota.State) {
	d.t.Helper()
	a, err := d.Admit(deskAccount, []quota.Trace{{ID: quota.TraceID{id}}})
	if err != nil {
		d.t.Fatal(err)
	}
	return a, a.Verdicts[0].State
}

// claim claims one trace that is about to be sent, and returns its state.
func (d *desk) claim(id byte) quota.State {
	d.t.Helper()
	p, err := d.Claim(deskAccount, []quota.TraceID{{id}})
	if err != nil {
		d.t.Fatal(err)
	}
	return p.Verdicts[0].State
}

func (d *desk) deliver(id byte) {
	d.t.Helper()
	if err := d.Delivered(deskAccount, []quota.TraceID{{id}}); err != nil {
		d.t.Fatal(err)
	}
}

// TestUndoneExportTakesNothingFromWhatIsUnderWay: two exports bring one trace;
// the first is not kept, and by then the second is on its way.
func TestUndoneExportTakesNothingFromWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 1})
	d.says(november)
	first, _ := d.admit(1)
	if _, s := d.admit(1); s != quota.Reserved {
		t.Fatalf("the second export's trace is %s", s)
	}
	if s := d.claim(1); s != quota.Reserved {
		t.Fatalf("what is to be sent is %s", s)
	}
	if err := d.Undo(deskAccount, first); err != nil {
		t.Fatal(err)
	}
	if _, s := d.admit(2); s != quota.Held {
		t.Errorf("another trace is %s while the only share is under way", s)
	}
	d.deliver(1)
	if s := d.status(); s.Used != 1 || s.Reserved != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestLoweredLimitLeavesWhatIsUnderWay: what is being sent may be taken at any
// moment, so its share is not given to another, and what follows it goes, too.
func TestLoweredLimitLeavesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 2})
	d.says(november)
	d.admit(1)
	d.admit(2)
	d.claim(1)
	if err := d.SetRules(quota.Rules{Traces: 1}); err != nil {
		t.Fatal(err)
	}
	if s := d.claim(1); s != quota.Reserved {
		t.Errorf("more of a trace that is under way is %s", s)
	}
	if s := d.claim(2); s != quota.Held {
		t.Errorf("another trace is %s, the only share is under way", s)
	}
	d.deliver(1)
	if s := d.status(); s.Used != 1 || s.Held != 1 {
		t.Errorf("status %+v", s)
	}
}

// TestWhatIsUnderWayAtTheTurnTakesAShareOfTheNewMonth: a trace that was counted
// in November is sent more of, and LangSmith takes that in December.
func TestWhatIsUnderWayAtTheTurnTakesAShareOfTheNewMonth(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 2})
	d.at(time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC))
	d.admit(1)
	d.claim(1)
	d.deliver(1)
	d.admit(1)
	if s := d.claim(1); s != quota.Counted {
		t.Fatalf("more of a counted trace is %s", s)
	}
	d.at(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	for id, want := range map[byte]quota.State{2: quota.Reserved} {
		if _, s := d.admit(id); s != want {
			t.Errorf("trace %d is %s, want %s", id, s, want)
		}
	}
	if _, s := d.admit(3); s != quota.Held {
		t.Errorf("a third trace is %s: one of the two shares is under way", s)
	}
	d.deliver(1)
	d.claim(2)
	d.deliver(2)
	if s := d.status(); s.Used != 2 || s.Reserved != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestUnitedAccountsHaveOneHour: what the caller's own account has sent in this
// hour counts for its tenant's.
func TestUnitedAccountsHaveOneHour(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{EventsPerHour: 5})
	d.says(november)
	own := quota.Account{Name: "https://upstream.test key", Upstream: "https://upstream.test", Provisional: true}
	d.Use(own)
	if _, _, ok := d.Take(own.Name, 4, 0); !ok {
		t.Fatal("the first request of the hour did not fit")
	}
	if err := d.Unite(own.Name, quota.Account{Name: deskAccount, Upstream: "https://upstream.test"}); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := d.Take(deskAccount, 4, 0); ok {
		t.Error("8 events went in an hour of 5")
	}
}

// TestAskedReleasesDoNotKeepOutTheMonths: while as many releases as there may be
// wait to be done, the month's own is ordered all the same.
func TestAskedReleasesDoNotKeepOutTheMonths(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 1})
	d.says(november)
	d.bring(3)
	for i := 0; ; i++ {
		project := fmt.Sprintf("project %d", i)
		if err := d.Ask(deskAccount, quota.Order{Most: 1, Project: &project}); err != nil {
			break
		}
	}
	d.at(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	due, _ := d.Due(deskAccount)
	for _, o := range due {
		if o.Reason == quota.ReasonMonth {
			return
		}
	}
	t.Errorf("no release is ordered for the new month: %+v", due)
}

// TestNothingIsReleasedInAMonthNobodyHasConfirmed: weir's clock has reached a
// new month, and LangSmith may still count in the old one, which is full.
func TestNothingIsReleasedInAMonthNobodyHasConfirmed(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 1})
	d.says(november)
	d.bring(3)
	ids := make([]quota.TraceID, 3)
	for i := range ids {
		ids[i][15] = byte(i + 1)
	}
	d.set(time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	month := quota.MonthOf(november)
	if _, err := d.Release(deskAccount, &quota.Choice{IDs: ids, Most: -1, Month: month}); !errors.Is(err, quota.ErrMonthUnconfirmed) {
		t.Errorf("Release: %v, want %v", err, quota.ErrMonthUnconfirmed)
	}
	if s := d.status(); s.Held != 2 || s.Releasing != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestWhatIsReleasingGivesItsShareBack: the limit is lowered while held traces
// are on their way out.
func TestWhatIsReleasingGivesItsShareBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t, quota.Rules{Traces: 1})
	d.says(november)
	d.bring(2)
	held := []quota.TraceID{{15: 2}}
	if err := d.SetRules(quota.Rules{Traces: 2}); err != nil {
		t.Fatal(err)
	}
	moved, err := d.Release(deskAccount, &quota.Choice{IDs: held, Most: -1, Month: quota.MonthOf(november)})
	if err != nil || !moved[0] {
		t.Fatal(moved, err)
	}
	if err := d.SetRules(quota.Rules{Traces: 1}); err != nil {
		t.Fatal(err)
	}
	p, err := d.Claim(deskAccount, held)
	if err != nil {
		t.Fatal(err)
	}
	d.Ended(p)
	if got := p.Verdicts[0].State; got != quota.Held {
		t.Errorf("it is %v before it is sent, want held", got)
	}
}
