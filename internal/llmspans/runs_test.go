package llmspans

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// runBody is a body with create and update of count runs in traces of five.
func runBody(seed uint64, count int) []byte {
	g := New(seed)
	var body []byte
	for n := 0; n < count; n += 5 {
		ids := make([]string, 5)
		for i := range ids {
			ids[i] = g.uuid()
		}
		for _, r := range g.RunTrace(noon, ids) {
			body = append(append(body, r.Create...), r.Update...)
		}
	}
	return append(body, RunsEnd()...)
}

func TestRunsOfOneSeedAreTheSame(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(runBody(7, 10), runBody(7, 10)) {
		t.Error("two generators of one seed disagree")
	}
	if bytes.Equal(runBody(7, 10), runBody(8, 10)) {
		t.Error("generators of different seeds agree")
	}
}

func TestRunsArePartsWithLengthsAndPlacesInTheirTrace(t *testing.T) {
	t.Parallel()
	const root, child = "0190a1b2-0000-7000-8000-000000000001", "0190a1b2-0000-7000-8000-000000000002"
	var body []byte
	for _, r := range New(3).RunTrace(noon, []string{root, child}) {
		body = append(append(body, r.Create...), r.Update...)
	}
	type place struct {
		ID, TraceID, DottedOrder string
		ParentRunID              any
	}
	got := map[string]place{}
	var names []string
	for parts := multipart.NewReader(bytes.NewReader(append(body, RunsEnd()...)), RunsBoundary); ; {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		if length := p.Header.Get("Content-Length"); length != strconv.Itoa(len(content)) {
			t.Errorf("%s: Content-Length is %q for %d bytes", p.FormName(), length, len(content))
		}
		var object any
		if err := json.Unmarshal(content, &object); err != nil {
			t.Errorf("%s: %v", p.FormName(), err)
		}
		names = append(names, p.FormName())
		if run, ok := object.(map[string]any); ok && strings.Count(p.FormName(), ".") == 1 {
			got[p.FormName()] = place{fmt.Sprint(run["id"]), fmt.Sprint(run["trace_id"]), fmt.Sprint(run["dotted_order"]), run["parent_run_id"]}
		}
	}
	const order = "20260101T120000000000Z" + root
	rootPlace := place{root, root, order, nil}
	childPlace := place{child, root, order + ".20260101T120000311000Z" + child, root}
	if diff := cmp.Diff(map[string]place{
		"post." + root: rootPlace, "patch." + root: rootPlace, "post." + child: childPlace, "patch." + child: childPlace,
	}, got); diff != "" {
		t.Errorf("places differ (-want +got):\n%s", diff)
	}
	want := []string{"post.ID", "post.ID.inputs", "post.ID.outputs", "post.ID.events", "post.ID.extra", "patch.ID", "patch.ID.outputs", "patch.ID.events", "patch.ID.extra"}
	for i, id := range []string{root, child} {
		var these []string
		for _, name := range names[i*len(names)/2 : (i+1)*len(names)/2] {
			these = append(these, strings.Replace(name, id, "ID", 1))
		}
		if diff := cmp.Diff(want, these); diff != "" {
			t.Errorf("parts of %s differ (-want +got):\n%s", id, diff)
		}
	}
}

// TestRunsCompressAsTheyDid keeps benchmarks comparable. The ratio is higher
// than that of spans: every operation repeats names, metadata and runtime.
func TestRunsCompressAsTheyDid(t *testing.T) {
	t.Parallel()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range []uint64{1, 2, 3} {
		body := runBody(seed, 50)
		perOp, ratio := len(body)/100, float64(len(body))/float64(len(enc.EncodeAll(body, nil)))
		t.Logf("seed %d: %d bytes per operation, %.2f:1", seed, perOp, ratio)
		if perOp < 2500 || perOp > 3500 || ratio < 7 || ratio > 11 {
			t.Errorf("seed %d: %d bytes per operation and %.2f:1, want about 3000 and 9:1", seed, perOp, ratio)
		}
	}
}
