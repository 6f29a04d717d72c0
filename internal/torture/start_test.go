package torture_test

import (
	"fmt"
	"testing"
	"time"

	"weir/internal/smith"
	"weir/internal/torture"
)

// TestStartsWhateverWaits reports how long a start takes until data is taken,
// by what the killed weir before it has left. The times are for reading: a
// shared machine proves nothing about them.
func TestStartsWhateverWaits(t *testing.T) {
	for _, exports := range []int{0, 100, 1000} { // of 256 KiB
		t.Run(fmt.Sprintf("backlog=%dMiB", exports/4), func(t *testing.T) {
			r := newRig(t, smith.Config{})
			r.up.SetStanding(&smith.Fault{Match: smith.MatchIngest, Status: 503})
			w := r.start()
			r.send(torture.Client{Source: torture.Chat(2, 1), Exports: 10})
			if exports > 0 {
				r.send(torture.Client{Source: torture.Bulk(1, 1, 256<<10), Exports: exports})
			}
			best := time.Hour
			for range 5 {
				r.kill(w)
				w = r.start()
				best = min(best, w.ReadyIn())
			}
			t.Logf("backlog_mib=%d start_ms=%.1f", exports/4, float64(best.Microseconds())/1000)
			r.settle(w, torture.Allowance{Undelivered: true})
		})
	}
}
