package admin

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"weir/proxy"
	"weir/queue"
)

// meters are readings of a pipeline that takes ten items a second and delivers
// eight of them.
type meters struct{ began time.Time }

func (m meters) at(t time.Time) sample {
	s := int64(t.Sub(m.began) / time.Second)
	return sample{t, proxy.Reading{
		Totals:    queue.Totals{Accepted: 10 * s, Delivered: 8 * s, Pending: 2 * s},
		SentBytes: 100 * s, UsedBytes: 7, PendingBytes: 3,
	}}
}

// recorded is a recorder that has watched m for a while.
func recorded(m meters, span time.Duration) *recorder {
	r := &recorder{}
	for t := m.began; !t.After(m.began.Add(span)); t = t.Add(fineStep) {
		r.add(m.at(t))
	}
	return r
}

func TestHistoryHasAPointForEachStep(t *testing.T) {
	m := meters{time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	for _, tc := range []struct {
		name           string
		recorded, span time.Duration
		points         int
		step           time.Duration
	}{
		{"the last minute", 10 * time.Minute, time.Minute, 12, fineStep},
		{"an hour of which a part is there", 10 * time.Minute, time.Hour, 120, fineStep},
		{"a full hour", 5 * time.Hour, time.Hour, 720, fineStep},
		{"more than an hour is in minutes", 5 * time.Hour, 2 * time.Hour, 120, coarseStep},
		{"no more than a day is kept", 30 * time.Hour, 24 * time.Hour, 1440, coarseStep},
		{"nothing before the first step", 0, time.Hour, 0, fineStep},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := recorded(m, tc.recorded)
			steps, length := r.history(m.began.Add(tc.recorded), tc.span)
			points := historyPoints(steps)
			if len(points) != tc.points || length != tc.step {
				t.Fatalf("%d points of %s, want %d of %s", len(points), length, tc.points, tc.step)
			}
			end := m.began.Add(tc.recorded)
			for i := len(points) - 1; i >= 0; i-- {
				p := points[i]
				s := int64(tc.step / time.Second)
				if !p.GetTime().AsTime().Equal(end) || p.GetAcceptedItems() != 10*s || p.GetDeliveredItems() != 8*s ||
					p.GetPendingItems() != m.at(end).Totals.Pending || p.GetUsedBytes() != 7 || p.GetPendingBytes() != 3 {
					t.Fatalf("point %d is %v, want what came in the step that ended at %s", i, p, end)
				}
				end = end.Add(-tc.step)
			}
		})
	}
}

func TestRecorderKeepsADay(t *testing.T) {
	m := meters{time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	r := recorded(m, 100*time.Hour)
	if fine, coarse := len(r.fine.samples), len(r.coarse.samples); fine > 2*(finePoints+1) || coarse > 2*(coarsePoints+1) {
		t.Errorf("%d and %d samples are kept", fine, coarse)
	}
	if n := len(r.since(m.began)); n != finePoints {
		t.Errorf("%d steps since the beginning, want an hour of them", n)
	}
	if n := len(r.since(r.lastStep().Add(-3 * fineStep))); n != 3 {
		t.Errorf("%d steps since three ago", n)
	}
}

func TestAClockThatIsSetBackForgetsWhatLiesAhead(t *testing.T) {
	m := meters{time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	r := recorded(m, 30*time.Minute)
	back := m.began.Add(10 * time.Minute)
	s := m.at(m.began.Add(30*time.Minute + fineStep))
	s.at = back
	r.add(s)
	steps, _ := r.history(back, time.Hour)
	for i := range steps {
		if !steps[i].begin.at.Before(steps[i].end.at) || steps[i].end.at.After(back) {
			t.Fatalf("step %d is from %s to %s", i, steps[i].begin.at, steps[i].end.at)
		}
	}
	if len(steps) != 120 {
		t.Errorf("%d steps are left of ten minutes", len(steps))
	}
}

func TestFlow(t *testing.T) {
	m := meters{time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	at := func(s int, accepted, delivered, pending int64) sample {
		return sample{m.began.Add(time.Duration(s) * time.Second), proxy.Reading{
			Totals: queue.Totals{Accepted: accepted, Delivered: delivered, Pending: pending},
		}}
	}
	for _, tc := range []struct {
		name   string
		before []sample
		now    sample
		want   flow
	}{
		{"nothing is known yet", nil, at(0, 0, 0, 0), flow{}},
		{"too early to tell", []sample{at(0, 0, 0, 0)}, sample{m.began.Add(time.Second / 2), proxy.Reading{Totals: queue.Totals{Accepted: 5}}}, flow{}},
		{"a backlog that grows", []sample{at(0, 0, 0, 0)}, at(10, 100, 50, 50), flow{accepted: 10, delivered: 5}},
		{"a backlog that is worked off", []sample{at(0, 100, 0, 100)}, at(10, 100, 50, 50), flow{delivered: 5, drainedIn: 10 * time.Second}},
		{"one that came within the minute", []sample{at(0, 0, 0, 0), at(20, 1000, 0, 1000)}, at(40, 1000, 200, 800), flow{accepted: 25, delivered: 5, drainedIn: 80 * time.Second}},
		{"only the last minute counts", []sample{at(0, 0, 0, 0), at(100, 5000, 5000, 0)}, at(160, 5060, 5060, 0), flow{accepted: 1, delivered: 1}},
		{"so slow that nobody can say", []sample{at(0, 0, 0, 1e9)}, at(10, 0, 1, 1e9-1), flow{delivered: 0.1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &recorder{}
			for _, s := range tc.before {
				r.add(s)
			}
			if got := r.flow(tc.now); got != tc.want {
				t.Errorf("flow = %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestRecordingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		time.Sleep(3 * time.Second) // steps end at whole multiples all the same
		began := time.Now()
		go func() {
			defer close(done)
			r.record(ctx, time.Now, func() proxy.Reading { return meters{began}.at(time.Now()).Reading })
		}()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		cancel()
		<-done
		steps, _ := r.history(time.Now(), time.Hour)
		points := historyPoints(steps)
		if len(points) != 2 || points[0].GetAcceptedItems() != 20 || points[1].GetAcceptedItems() != 50 {
			t.Errorf("points are %v, want one of the two seconds that were left of the step, and one of a whole step", points)
		}
	})
}
