package smith

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// runsRead is what POST /runs/query answers with.
type runsRead struct {
	Runs []struct {
		ID      string `json:"id"`
		Trace   string `json:"trace_id"`
		Parent  string `json:"parent_run_id"`
		Name    string `json:"name"`
		RunType string `json:"run_type"`
		Status  string `json:"status"`
		Error   string `json:"error"`
		Extra   struct {
			Metadata map[string]any `json:"metadata"`
		} `json:"extra"`
	} `json:"runs"`
}

// query asks for runs and returns the answer, and their names in order.
func (c *client) query(body string) (read runsRead, names []string) {
	c.t.Helper()
	a := c.do(http.MethodPost, "/runs/query", header("X-Api-Key", keyA, "Content-Type", contentJSON), []byte(body))
	if err := json.Unmarshal([]byte(a.body), &read); err != nil || a.status != http.StatusOK {
		c.t.Fatalf("POST /runs/query = %d %q, %v", a.status, a.body, err)
	}
	for _, r := range read.Runs {
		names = append(names, r.Name)
	}
	return read, names
}

func TestSpansAreReadAsRuns(t *testing.T) {
	_, c := start(t, Config{Keys: knownKeys()})
	root := newSpan(1, 1, str(attrMetadata+"origin", "test"), num(attrMetadata+"n", 3))
	child := newSpan(1, 2, str(attrKind, "llm"), str(attrName, "named"))
	child.ParentSpanId = spanID(1)
	child.Events = []*tracepb.Span_Event{{Name: "exception"}}
	other := newSpan(7, 7, str(attrTraceID, RunID(traceID(9)).String()), str(attrRunID, RunID(traceID(8)).String()))
	c.export(payload(t, root, child, other)).want(t, http.StatusOK, "")

	trace := RunID(traceID(1)).String()
	read, names := c.query(`{"trace":"` + trace + `"}`)
	if !slices.Equal(names, []string{"ChatOpenAI", "named"}) {
		t.Fatalf("runs of the trace = %q", names)
	}
	first, second := read.Runs[0], read.Runs[1]
	if first.ID != trace || first.Trace != trace || first.Parent != "" || first.RunType != "chain" || first.Status != "success" ||
		first.Extra.Metadata["origin"] != "test" || first.Extra.Metadata["n"] != 3.0 {
		t.Errorf("root = %+v", first)
	}
	if second.ID != "00000000-0000-0000-0000-000000000002" || second.Parent != "00000000-0000-0000-0000-000000000001" || second.RunType != "llm" {
		t.Errorf("child = %+v", second)
	}
	if _, names = c.query(`{"trace":"` + RunID(traceID(9)).String() + `"}`); len(names) != 1 {
		t.Errorf("runs of a trace named by an attribute = %q", names)
	}
	for path, want := range map[string]int{"/runs/" + trace: 200, "/runs/" + RunID(traceID(8)).String(): 200, "/runs/" + RunID(traceID(7)).String(): 404} {
		if a := c.do(http.MethodGet, path, header("X-Api-Key", keyA), nil); a.status != want {
			t.Errorf("GET %s = %d %q, want %d", path, a.status, a.body, want)
		}
	}
	a := c.do(http.MethodGet, "/runs/"+trace, header("X-Api-Key", keyB), nil)
	a.want(t, http.StatusNotFound, bodyRunNotFound) // another workspace's
}

func TestWhatWasTakenCanBeReadAfterTheLag(t *testing.T) {
	now := noon
	s, c := start(t, Config{Now: func() time.Time { return now }, Switches: Switches{ReadLag: Delay(3 * time.Second)}})
	c.export(payload(t, newSpan(1, 1)))
	c.do(http.MethodPost, "/runs/batch", header("X-Api-Key", keyA), []byte(`{"post":[`+runJSON([]int{2})+`]}`))
	if s.Stats().DistinctSpans != 1 || s.Stats().Runs.Distinct != 1 {
		t.Fatal("span and run were not taken")
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {3*time.Second - 1, 0}, {3 * time.Second, 2}} {
		now = noon.Add(tt.after)
		if _, names := c.query(`{}`); len(names) != tt.want {
			t.Errorf("%s after arrival: %q can be read, want %d", tt.after, names, tt.want)
		}
	}
}

func TestOfSeveralZstdFramesTheSwitchSaysHowManyCount(t *testing.T) {
	for frames, want := range map[ZstdFrames]int64{FramesAll: 3, FramesFirst: 1} {
		s, c := start(t, Config{Switches: Switches{ZstdFrames: frames}})
		long := newSpan(1, 3)
		long.Name = string(make([]byte, 1<<18)) // an RLE block
		body := zstdded(t, payload(t, newSpan(1, 1)), payload(t, newSpan(1, 2)), payload(t, long))
		c.export(body, "Content-Encoding", "zstd").want(t, http.StatusOK, "")
		if got := s.Stats().DistinctSpans; got != want {
			t.Errorf("frames %s: %d spans, want %d", frames, got, want)
		}
	}
	long := newSpan(1, 3)
	long.Name = string(make([]byte, 1<<18))
	one := zstdded(t, payload(t, long))
	if got, err := firstFrame(append(slices.Clip(one), one...)); err != nil || len(got) != len(one) {
		t.Errorf("first frame has %d bytes, %v; want %d", len(got), err, len(one))
	}
	for n := range one {
		if _, err := firstFrame(one[:n]); err == nil {
			t.Errorf("%d bytes of %d are a frame", n, len(one))
		}
	}
}

func TestSwitchesDecideAboutProbes(t *testing.T) {
	for _, tt := range []struct {
		sw          Switches
		empty, info int
	}{
		{Switches{}, 202, 200},
		{Switches{EmptyBatch: Empty422, InfoNeedsKey: true}, 422, 401},
	} {
		_, c := start(t, Config{Switches: tt.sw})
		if a := c.do(http.MethodPost, "/runs/batch", header("X-Api-Key", keyA), []byte(`{"post":[],"patch":[]}`)); a.status != tt.empty {
			t.Errorf("%+v: an empty batch = %d %q, want %d", tt.sw, a.status, a.body, tt.empty)
		}
		if a := c.do(http.MethodGet, "/info", nil, nil); a.status != tt.info {
			t.Errorf("%+v: /info without a key = %d, want %d", tt.sw, a.status, tt.info)
		}
		if a := c.do(http.MethodGet, "/info", header("X-Api-Key", keyA), nil); a.status != 200 {
			t.Errorf("%+v: /info with a key = %d", tt.sw, a.status)
		}
	}
}

func TestAWindowCanBeSilent(t *testing.T) {
	s, c := start(t, Config{
		Now:      func() time.Time { return noon.Add(25 * time.Hour) },
		Switches: Switches{OTLPWindow: WindowLost, RunsWindow: WindowLost},
	})
	fresh := newSpan(2, 2)
	fresh.StartTimeUnixNano += uint64(25 * time.Hour)
	c.export(payload(t, newSpan(1, 1), fresh)).want(t, http.StatusOK, "")
	a := c.do(http.MethodPost, "/runs/batch", header("X-Api-Key", keyA), []byte(`{"post":[`+runJSON([]int{2})+`]}`))
	if st := s.Stats(); a.status != http.StatusAccepted || st.Lost.Requests != 2 || st.DistinctSpans+st.Runs.Distinct != 0 {
		t.Errorf("answer %d, %d lost, %d spans and %d runs kept", a.status, st.Lost.Requests, st.DistinctSpans, st.Runs.Distinct)
	}
}
