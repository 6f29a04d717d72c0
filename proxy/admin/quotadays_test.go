package admin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	weirv1 "weir/proto/weir/v1"
	"weir/quota"
)

// TestDaysTellPendingFromKeptBack: both were wanted and not sent; what is pending
// is the newest.
func TestDaysTellPendingFromKeptBack(t *testing.T) {
	day := quota.DayOf(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	got := dayMessages(&quota.Status{
		Reserved: 40, Releasing: 10, // what is released was held, and is no part of today
		Days: []quota.DayTotals{
			{Day: day - 1, Wanted: 100, Counted: 70},
			{Day: day, Wanted: 50, Counted: 60}, // of the day before
			{Day: day + 1, Wanted: 25, Counted: 0},
		},
	})
	want := []*weirv1.QuotaDay{
		{Day: "2026-11-22", Traces: 70, TracesKeptBack: 25},
		{Day: "2026-11-23", Traces: 60},
		{Day: "2026-11-24"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
}
