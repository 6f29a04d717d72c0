package smith

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// statsView is Stats as the control API shows it: keys only as hints, so two
// keys that look alike are added up.
type statsView struct {
	Requests      int64            `json:"requests"`
	Answers       map[int]int64    `json:"answers"`
	Faults        map[string]int64 `json:"faults"`
	Taken         Tally            `json:"taken"`
	Lost          Tally            `json:"lost"`
	DistinctSpans int64            `json:"distinct_spans"`
	Duplicates    int64            `json:"duplicates"`
	Traces        int64            `json:"traces"`
	Forgotten     int64            `json:"forgotten"`
	ByKey         map[string]Tally `json:"by_key"`
	ByWorkspace   map[string]Tally `json:"by_workspace"`
	ByEncoding    map[string]Tally `json:"by_encoding"`
	ByProject     map[string]int64 `json:"by_project"`
	Runs          RunStats         `json:"runs"`
}

func viewStats(s Stats) statsView {
	v := statsView{
		Requests: s.Requests, Answers: s.Answers, Faults: s.Faults, Taken: s.Taken, Lost: s.Lost,
		DistinctSpans: s.DistinctSpans, Duplicates: s.Duplicates, Traces: s.Traces, Forgotten: s.Forgotten,
		ByKey: map[string]Tally{}, ByWorkspace: s.ByWorkspace, ByEncoding: s.ByEncoding, ByProject: s.ByProject,
		Runs: s.Runs,
	}
	for key, t := range s.ByKey {
		sum := v.ByKey[key.String()]
		sum.Requests += t.Requests
		sum.Spans += t.Spans
		sum.WireBytes += t.WireBytes
		sum.RawBytes += t.RawBytes
		sum.Operations += t.Operations
		v.ByKey[key.String()] = sum
	}
	return v
}

// spanView is a received span: how it came, and what it is, as OTLP/JSON.
type spanView struct {
	Request   int64           `json:"request"`
	Time      time.Time       `json:"time"`
	Key       string          `json:"key"`
	Workspace string          `json:"workspace"`
	Project   string          `json:"project"`
	Encoding  string          `json:"encoding"`
	Trace     string          `json:"trace"`
	Resource  json.RawMessage `json:"resource"`
	Scope     json.RawMessage `json:"scope"`
	Span      json.RawMessage `json:"span"`
}

func viewSpan(s *Span) (spanView, error) {
	v := spanView{
		Request: s.Seq, Time: s.Time, Key: s.Key.String(), Workspace: s.Workspace,
		Project: s.Project, Encoding: s.Encoding, Trace: s.Trace.String(),
	}
	var err error
	if v.Resource, err = otlpJSON(s.Resource); err != nil {
		return v, err
	}
	if v.Scope, err = otlpJSON(s.Scope); err != nil {
		return v, err
	}
	v.Span, err = spanJSON(s.OTLP)
	return v, err
}

// otlpJSON encodes a message that holds no ids.
func otlpJSON(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(m)
}

// spanJSON encodes a span as OTLP/JSON, whose ids are hex where protobuf's own
// JSON has base64.
func spanJSON(sp *tracepb.Span) (json.RawMessage, error) {
	raw, err := otlpJSON(sp)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	setHex(fields, "traceId", sp.GetTraceId())
	setHex(fields, "spanId", sp.GetSpanId())
	setHex(fields, "parentSpanId", sp.GetParentSpanId())
	if len(sp.GetLinks()) > 0 {
		var links []map[string]json.RawMessage
		if err := json.Unmarshal(fields["links"], &links); err != nil {
			return nil, err
		}
		for i, l := range sp.GetLinks() {
			setHex(links[i], "traceId", l.GetTraceId())
			setHex(links[i], "spanId", l.GetSpanId())
		}
		if fields["links"], err = json.Marshal(links); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// setHex sets an id, unless it is absent.
func setHex(fields map[string]json.RawMessage, name string, id []byte) {
	if len(id) > 0 {
		fields[name] = json.RawMessage(`"` + hex.EncodeToString(id) + `"`)
	}
}

// faultView is Fault as the control API takes and shows it.
type faultView struct {
	Use            Canned            `json:"use,omitempty"` // start from this one
	Name           string            `json:"name,omitempty"`
	Match          *string           `json:"match,omitempty"`
	Method         string            `json:"method,omitempty"`
	Count          int               `json:"count,omitempty"`
	For            string            `json:"for,omitempty"`
	Every          int               `json:"every,omitempty"`
	Stage          *Stage            `json:"stage,omitempty"`
	Latency        string            `json:"latency,omitempty"`
	Hang           bool              `json:"hang,omitempty"`
	Reset          bool              `json:"reset,omitempty"`
	Status         int               `json:"status,omitempty"`
	Header         map[string]string `json:"header,omitempty"`
	Redirect       string            `json:"redirect,omitempty"`
	RetryAfter     string            `json:"retry_after,omitempty"`
	Body           *string           `json:"body,omitempty"`
	BodyBytes      int64             `json:"body_bytes,omitempty"`
	BytesPerSecond int               `json:"bytes_per_second,omitempty"`
}

// fault checks a view and turns it into what it describes.
func (v faultView) fault() (Fault, error) {
	f := Fault{Name: v.Name}
	if v.Use != "" {
		if !slices.Contains(CannedFaults(), v.Use) {
			return f, fmt.Errorf("use %q is not known; use one of %s", v.Use, joinCanned())
		}
		f = v.Use.Fault()
	}
	switch {
	case v.Status != 0 && (v.Status < 200 || v.Status > 599):
		return f, fmt.Errorf("status %d is not from 200 to 599", v.Status)
	case v.Count < Forever:
		return f, fmt.Errorf("count %d is neither positive nor -1, which is forever", v.Count)
	case v.Every < 0:
		return f, fmt.Errorf("every %d is negative", v.Every)
	case v.BodyBytes < 0 || v.BytesPerSecond < 0:
		return f, fmt.Errorf("body_bytes %d and bytes_per_second %d must not be negative", v.BodyBytes, v.BytesPerSecond)
	}
	if err := v.durations(&f); err != nil {
		return f, err
	}
	if v.Name != "" {
		f.Name = v.Name
	}
	if v.Match != nil {
		f.Match = *v.Match
	}
	if v.Stage != nil {
		f.Stage = *v.Stage
	}
	if v.Status != 0 {
		f.Status = v.Status
	}
	if v.Body != nil {
		f.Body = *v.Body
	}
	for name, value := range v.Header {
		if f.Header == nil {
			f.Header = http.Header{}
		}
		f.Header.Set(name, value)
	}
	if v.Method != "" {
		f.Method = v.Method
	}
	if v.Redirect != "" {
		f.Redirect = v.Redirect
	}
	f.Every = max(f.Every, v.Every)
	f.Count, f.RetryAfter, f.BodyBytes, f.BytesPerSecond = v.Count, v.RetryAfter, v.BodyBytes, v.BytesPerSecond
	f.Hang, f.Reset = f.Hang || v.Hang, f.Reset || v.Reset
	return f, nil
}

// durations reads the view's durations into f.
func (v *faultView) durations(f *Fault) error {
	for _, t := range []struct {
		name, text string
		dst        *time.Duration
	}{{"latency", v.Latency, &f.Latency}, {"for", v.For, &f.For}} {
		if t.text == "" {
			continue
		}
		d, err := time.ParseDuration(t.text)
		if err != nil || d < 0 {
			return fmt.Errorf("%s %q is not a duration, such as 250ms", t.name, t.text)
		}
		*t.dst = d
	}
	return nil
}

// viewFault shows a fault such that its fault method gives it back.
func viewFault(f Fault) faultView {
	v := faultView{
		Name: f.Name, Method: f.Method, Count: f.Count, Every: f.Every, Redirect: f.Redirect, Hang: f.Hang, Reset: f.Reset, Status: f.Status,
		RetryAfter: f.RetryAfter, BodyBytes: f.BodyBytes, BytesPerSecond: f.BytesPerSecond,
	}
	if f.Match != "" {
		v.Match = &f.Match
	}
	if f.Stage != StageRead {
		v.Stage = &f.Stage
	}
	if f.Body != "" {
		v.Body = &f.Body
	}
	if f.For != 0 {
		v.For = f.For.String()
	}
	if f.Latency != 0 {
		v.Latency = f.Latency.String()
	}
	for name := range f.Header {
		if v.Header == nil {
			v.Header = map[string]string{}
		}
		v.Header[name] = f.Header.Get(name)
	}
	return v
}
