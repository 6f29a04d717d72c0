//go:build interop

package interop

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"weir/internal/smith"
)

// item is a run, a span or a feedback as it reached the look-alike, in a form
// that does not depend on which it is.
type item struct {
	kind       string // run, span or feedback
	id, parent string
	name       string
	order      string // sorts siblings as the program made them
	// fields are the values by JSON pointer, letter for letter as they were
	// sent; those whose name begins with ~ are worked out of others.
	fields map[string]string
}

// itemsAt returns everything the look-alike has received.
func itemsAt(t *testing.T, s *smith.Server) []item {
	t.Helper()
	var items []item
	for _, r := range s.Runs() {
		items = append(items, runItem(&r))
	}
	for _, f := range s.Feedbacks() {
		items = append(items, feedbackItem(&f))
	}
	for _, request := range s.Requests() {
		messages, err := soleSpans(request.Payload)
		if err != nil {
			t.Fatalf("request %d at the look-alike: %v", request.Seq, err)
		}
		for _, m := range messages {
			span := m.GetScopeSpans()[0].GetSpans()[0]
			one := item{
				kind: "span", id: hex.EncodeToString(span.GetSpanId()), parent: hex.EncodeToString(span.GetParentSpanId()),
				name: span.GetName(), order: fmt.Sprintf("%020d", span.GetStartTimeUnixNano()),
				fields: map[string]string{"/trace_id": hex.EncodeToString(span.GetTraceId())},
			}
			one.destination(request.Workspace, string(request.Key), request.Project)
			one.truth("~ends after its start", span.GetEndTimeUnixNano() >= span.GetStartTimeUnixNano())
			one.message(t, m)
			items = append(items, one)
		}
	}
	return items
}

// message adds the fields of a span's message.
func (one *item) message(t *testing.T, m proto.Message) {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	one.flatten("", raw)
}

// runItem returns a run's item.
func runItem(r *smith.Run) item {
	one := item{
		kind: "run", id: r.ID.String(), parent: uuidOrNone(r.Parent), name: r.Text("name"),
		order: r.DottedOrder, fields: map[string]string{"/~trace": uuidOrNone(r.Trace)},
	}
	for _, m := range r.Members {
		// Python's SDK merges an update into its create where they meet in a
		// batch and then leaves out what is null, which says nothing.
		if string(m.Value) != "null" {
			one.flatten("/"+m.Name, m.Value)
		}
	}
	if r.Get("dotted_order") == nil && r.Parent == (smith.RunID{}) {
		// The service places a run that comes by itself and does not say where
		// (LangSmith docs: trace-with-api). weir does so before it, for such a
		// run to travel with others.
		start := runTime(r.Get("start_time")).UTC().Format("20060102T150405.000000Z")
		one.fields["/trace_id"] = fmt.Sprintf("%q", r.ID)
		one.fields["/dotted_order"] = fmt.Sprintf("%q", strings.ReplaceAll(start, ".", "")+r.ID.String())
	}
	for _, a := range r.Attachments {
		one.fields["/~attachments/"+a.Name] = fmt.Sprintf("%s, %d bytes, sha256 %x", a.ContentType, a.Bytes, a.SHA256)
	}
	one.destination(r.Workspace, string(r.Key), r.Project)
	start, end := runTime(r.Get("start_time")), runTime(r.Get("end_time"))
	if !end.IsZero() {
		// JavaScript's SDK counts siblings in the microseconds of a start, and
		// its ends are whole milliseconds.
		one.truth("~ends after its start", !end.Add(time.Millisecond).Before(start))
		one.truth("~ends at its start", end.Equal(start))
	}
	if segments := strings.Split(r.DottedOrder, "."); r.DottedOrder != "" {
		stamp, _, _ := strings.Cut(segments[len(segments)-1], "Z")
		one.truth("~starts as its dotted order says", stamp == strings.ReplaceAll(start.UTC().Format("20060102T150405.000000"), ".", ""))
	}
	return one
}

// feedbackItem returns a feedback's item; it hangs below its run.
func feedbackItem(f *smith.Feedback) item {
	one := item{
		kind: "feedback", id: f.ID.String(), parent: uuidOrNone(f.Run), name: f.Members.Text("key"), fields: map[string]string{},
	}
	for _, m := range f.Members {
		one.flatten("/"+m.Name, m.Value)
	}
	one.destination(f.Workspace, string(f.Key), "")
	return one
}

// destination adds where an item went.
func (one *item) destination(workspace, key, project string) {
	one.fields["/~workspace"], one.fields["/~key"], one.fields["/~project"] = workspace, key, project
}

// truth adds what was worked out of times, which are not compared.
func (one *item) truth(name string, holds bool) { one.fields["/"+name] = fmt.Sprint(holds) }

// flatten adds the values below a pointer, objects and arrays taken apart, and
// so is JSON within a string, which is how the SDKs put runs into spans.
func (one *item) flatten(pointer string, raw json.RawMessage) {
	raw = json.RawMessage(strings.TrimSpace(string(raw)))
	switch {
	case len(raw) == 0:
		return
	case raw[0] == '{':
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) == nil && len(members) > 0 {
			for name, value := range members {
				one.flatten(pointer+"/"+strings.ReplaceAll(name, "/", "~1"), value)
			}
			return
		}
	case raw[0] == '[':
		var elements []json.RawMessage
		if json.Unmarshal(raw, &elements) == nil && len(elements) > 0 {
			for i, value := range elements {
				one.element(pointer, i, value)
			}
			return
		}
	case raw[0] == '"' && one.kind == "span":
		var text string
		if json.Unmarshal(raw, &text) == nil && json.Valid([]byte(text)) && strings.ContainsAny(text[:1], "{[") {
			one.flatten(pointer+"/~json", json.RawMessage(text))
			return
		}
	}
	one.fields[pointer] = string(raw)
}

// element adds the values of an array's element: of a span's attribute by its
// name, because SDKs order attributes as they like.
func (one *item) element(pointer string, i int, raw json.RawMessage) {
	var attribute struct {
		Key   *string         `json:"key"`
		Value json.RawMessage `json:"value"`
	}
	if one.kind == "span" && json.Unmarshal(raw, &attribute) == nil && attribute.Key != nil {
		one.fields[pointer+"/"+*attribute.Key] = "there"
		one.flatten(pointer+"/"+*attribute.Key, attribute.Value)
		return
	}
	one.flatten(fmt.Sprintf("%s/%d", pointer, i), raw)
}

// uuidOrNone is an id, or nothing.
func uuidOrNone(id smith.RunID) string {
	if id == (smith.RunID{}) {
		return ""
	}
	return id.String()
}

// runTime reads a time of a run in any of the forms that the SDKs use; zero is
// none.
func runTime(raw json.RawMessage) time.Time {
	var text string
	var millis float64
	if json.Unmarshal(raw, &millis) == nil {
		return time.UnixMicro(int64(millis * 1000))
	}
	if json.Unmarshal(raw, &text) == nil {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
			if at, err := time.Parse(layout, text); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

// content is what tells an item from its siblings of the same name: what it
// was given.
func (one *item) content() string {
	given := map[string]string{}
	for pointer, value := range one.fields {
		if strings.HasPrefix(pointer, "/inputs/") || pointer == "/reference_example_id" || strings.Contains(pointer, "/gen_ai.prompt/") {
			given[pointer] = value
		}
	}
	given = normalFields(given, nil, nil)
	var text strings.Builder
	for _, pointer := range sortedKeys(given) {
		fmt.Fprintf(&text, "%s=%s\n", pointer, given[pointer])
	}
	return text.String()
}

// placed are items by their place in the tree: the names from the root down,
// each with its number among the siblings of that name. Ids and times differ
// each time a program is played, places do not.
func placed(items []item) map[string]item {
	byID := map[string]bool{}
	for i := range items {
		if items[i].kind != "feedback" {
			byID[items[i].id] = true
		}
	}
	children, contents := map[string][]*item{}, map[*item]string{}
	for i := range items {
		contents[&items[i]] = items[i].content()
		parent := items[i].parent
		if !byID[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], &items[i])
	}
	places, names := map[string]item{}, map[string]string{}
	var place func(path, parent string)
	place = func(path, parent string) {
		list := children[parent]
		slices.SortStableFunc(list, func(a, b *item) int {
			return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name), strings.Compare(contents[a], contents[b]),
				strings.Compare(a.order, b.order), strings.Compare(a.id, b.id))
		})
		number := map[string]int{}
		for _, one := range list {
			label := one.name
			if one.kind != "run" {
				label = one.kind + " " + label
			}
			number[label]++
			here := fmt.Sprintf("%s/%s#%d", path, label, number[label])
			places[here], names[one.id] = *one, here
			if one.kind != "feedback" && one.id != "" {
				place(here, one.id)
			}
		}
	}
	place("", "")
	traces := map[string]string{}
	for here := range places {
		if one := places[here]; one.kind == "span" && !byID[one.parent] {
			traces[one.fields["/trace_id"]] = here
		}
	}
	for here, one := range places {
		one.fields = normalFields(one.fields, names, traces)
		places[here] = one
	}
	return places
}
