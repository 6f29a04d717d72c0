package runs_test

import (
	"strings"
	"testing"

	"weir/proxy/runs"
)

func TestPlaceWritesWhereARunBelongs(t *testing.T) {
	t.Parallel()
	const placed = `{"id":"` + runText + `","trace_id":"` + traceText + `","dotted_order":"d"`
	for body, want := range map[string]string{
		`{}`:           placed + `}`,
		"\n{ }":        placed + ` }`,
		`{"name":"n"}`: placed + `,"name":"n"}`,
		`{"trace_id":null,"name":"n","dotted_order":null}`:  placed + `,"name":"n"}`,
		`{"dotted_order":"other","id":"` + traceText + `"}`: placed + `}`,
		`{"a":1,"id":null,"b":2}`:                           placed + `,"a":1,"b":2}`,
	} {
		op := runs.Op{Kind: runs.Update, Body: []byte(body)}
		if err := op.Place(mustID(t, runText), mustID(t, traceText), "d"); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if strings.ReplaceAll(string(op.Body), " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s:\ngot  %s\nwant %s", body, op.Body, want)
		}
		if _, err := runs.FromObject(runs.Update, op.Body); err != nil || op.ID != mustID(t, runText) || op.Trace != mustID(t, traceText) {
			t.Errorf("%s: placed as %s of %s: %v", body, op.ID, op.Trace, err)
		}
	}
}

func TestRootOrderIsTimeAndID(t *testing.T) {
	t.Parallel()
	for start, want := range map[string]string{
		"2026-09-01T10:00:00.123456Z":    "20260901T100000123456Z",
		"2026-09-01T10:00:00Z":           "20260901T100000000000Z",
		"2026-09-01T10:00:00.123456789Z": "20260901T100000123456Z",
		"2026-09-01T12:00:00.5+02:00":    "20260901T100000500000Z",
		"2026-09-01T10:00:00.123456":     "20260901T100000123456Z",
		"9999-12-31T23:59:59-02:00":      "",
		"yesterday":                      "",
		"":                               "",
	} {
		got, err := runs.RootOrder([]byte(start), mustID(t, runText))
		if want == "" {
			if err == nil {
				t.Errorf("%q: got %s", start, got)
			}
			continue
		}
		if err != nil || got != want+runText {
			t.Errorf("%q: got %s, error %v", start, got, err)
		}
	}
}

func TestCheckValueWantsOneValue(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		`{"a":1,"a":2}`: true, "\n7\n": true, `null`: true,
		``: false, `{}{}`: false, `{"a"`: false, `tru`: false,
	} {
		if err := runs.CheckValue([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
