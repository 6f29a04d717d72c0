package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"weir/internal/smith"
)

// wardFrame is a frame as the command line shows it.
type wardFrame struct {
	ID, State     string
	Lane, Case    uint32
	Items, Traces int
	Bytes         string
}

// frames lists what is on disk.
func (d *ward) frames(args ...string) []wardFrame {
	d.t.Helper()
	var out struct{ Frames []wardFrame }
	if err := json.Unmarshal([]byte(d.cli(exitOK, append([]string{"queue", "ls", "--json"}, args...)...)), &out); err != nil {
		d.t.Fatal(err)
	}
	return out.Frames
}

// diskUse is what queue df says, by kind.
func (d *ward) diskUse() (kinds map[string]int64, total int64) {
	d.t.Helper()
	var out struct {
		Uses []struct {
			Kind, Bytes string
		}
		TotalBytes string
	}
	if err := json.Unmarshal([]byte(d.cli(exitOK, "queue", "df", "--json")), &out); err != nil {
		d.t.Fatal(err)
	}
	kinds = map[string]int64{}
	for _, u := range out.Uses {
		kinds[u.Kind], _ = strconv.ParseInt(u.Bytes, 10, 64)
	}
	total, _ = strconv.ParseInt(out.TotalBytes, 10, 64)
	return kinds, total
}

// TestQueueRoundTrip has everything pending behind an outage, looks at it, and
// drops it: its attachments go, its share of the month comes back, and everything
// is accounted for.
func TestQueueRoundTrip(t *testing.T) {
	d := newWard(t, map[string]smith.Key{ownKey: {}})
	d.smith.SetStanding(&smith.Fault{Match: smith.MatchIngest, Status: 503, Header: http.Header{"Retry-After": {"600"}}})
	sendAll(t, d.ingest, "/v1/traces", "")
	accepted := d.weir.queue.Stats().Totals.Accepted
	items := 0
	d.until("everything to wait", func() bool {
		items = 0
		if d.weir.forwarder.Status(nil).UpstreamWait == nil {
			return false // nothing was tried: all of it lingers, and is about to be sent
		}
		for _, f := range d.frames("--state=pending") {
			items += f.Items
		}
		return int64(items) == accepted && !strings.Contains(d.cli(exitOK, "queue"), "sending")
	})
	frames := d.frames()
	if got := d.frames("--newest", "--limit=1"); len(got) != 1 || got[0].ID != frames[len(frames)-1].ID {
		t.Errorf("the newest is %+v of %+v", got, frames)
	}
	if got := d.frames("--older-than=1h"); len(got) != 0 {
		t.Errorf("old frames: %+v", got)
	}
	d.showFrames(frames)
	kinds, total := d.diskUse()
	sum := int64(0)
	for _, n := range kinds {
		sum += n
	}
	if kinds["pending"] == 0 || kinds["attachments"] < 3_000_000 || kinds["quota"] == 0 || sum != total {
		t.Errorf("%d bytes in all: %v", total, kinds)
	}
	if out := d.cli(exitOK, "queue", "discard", "--all", "--dry-run"); !strings.Contains(out, fmt.Sprintf("%d items of %d frames", accepted, len(frames))) || !strings.Contains(out, "MiB on disk) would be") {
		t.Errorf("a dry run says %s", out)
	}
	d.cli(exitUsage, "queue", "discard", "--all")
	if out := d.cli(exitOK, "queue", "discard", frames[0].ID, "99.99", "--yes"); !strings.Contains(out, "of 1 frame (") || !strings.Contains(out, "1 of those named did not match") {
		t.Errorf("of one frame: %s", out)
	}
	d.cli(exitOK, "queue", "discard", "--all", "--yes")
	stats := d.weir.queue.Stats()
	if n := stats.Totals.DroppedByReason["discarded"]; n != accepted || stats.Totals.Pending != 0 || stats.Blobs != 0 {
		t.Errorf("%d of %d items count as discarded, %d blobs are left: %+v", n, accepted, stats.Blobs, stats.Totals)
	}
	if out := d.cli(exitOK, "queue", "ls"); !strings.HasPrefix(out, "Nothing is on disk") {
		t.Errorf("an empty queue is %q", out)
	}
	if out := d.cli(exitOK, "find", wardRoot); !strings.Contains(out, "discarded") {
		t.Errorf("find says %s", out)
	}
	if out := d.cli(exitFailed, "queue", "show", frames[0].ID); out != "" || !strings.Contains(d.sys.err.String(), "there is no such frame") {
		t.Errorf("a frame that is gone: %q %q", out, d.sys.err)
	}
}

// showFrames looks at what is in frames.
func (d *ward) showFrames(frames []wardFrame) {
	d.t.Helper()
	kinds := map[string]int{}
	for _, f := range frames {
		if out := d.cli(exitOK, "queue", "show", f.ID, "--json"); strings.Contains(out, `"kind"`) {
			d.t.Errorf("content that nobody asked for: %s", out)
		}
		var out struct {
			Frame    wardFrame
			TraceIDs []string
			Content  []string
		}
		if err := json.Unmarshal([]byte(d.cli(exitOK, "queue", "show", f.ID, "--json", "--content")), &out); err != nil {
			d.t.Fatal(err)
		}
		if out.Frame != f || len(out.TraceIDs) != f.Traces || len(out.Content) != f.Items {
			d.t.Errorf("frame %+v is shown as %+v with %d traces, %d lines", f, out.Frame, len(out.TraceIDs), len(out.Content))
		}
		for _, line := range out.Content {
			var l struct{ Kind string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				d.t.Errorf("%v in %.100s", err, line)
			}
			kinds[l.Kind]++
		}
	}
	if kinds["run"] < 4 || kinds["span"] < 5 || len(kinds) != 2 {
		d.t.Errorf("lines by kind: %v", kinds)
	}
}

// TestQueueShowsWhatIsKept: frames of a case are listed by it, and stay where a
// discard means what is pending.
func TestQueueShowsWhatIsKept(t *testing.T) {
	d := newWard(t, map[string]smith.Key{callerKey: {}})
	sendAll(t, d.ingest, "/v1/traces", "")
	accepted := d.weir.queue.Stats().Totals.Accepted
	d.until("everything in quarantine", func() bool { return d.weir.queue.Stats().Totals.Quarantined == accepted })
	items := 0
	for _, c := range d.cases() {
		for _, f := range d.frames("--state=quarantined", fmt.Sprint("--case=", c.ID)) {
			items += f.Items
			if f.Case != c.ID || f.State != "quarantined" {
				t.Errorf("frame %+v of case %d", f, c.ID)
			}
		}
	}
	if int64(items) != accepted || len(d.frames("--state=held")) != 0 {
		t.Errorf("%d of %d items are listed by their cases", items, accepted)
	}
	if out := d.cli(exitOK, "queue", "discard", "--all", "--yes"); !strings.HasPrefix(out, "No pending frame matches") {
		t.Errorf("a discard of what is pending says %s", out)
	}
	if n := d.weir.queue.Stats().Totals.Quarantined; n != accepted {
		t.Errorf("%d items in quarantine, want %d", n, accepted)
	}
	if out := d.cli(exitOK, "queue", "df"); !strings.Contains(out, "weir quarantine discard --all") || strings.Contains(out, "weir queue discard") {
		t.Errorf("df says %s", out)
	}
}
