//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/internal/smith"
)

// spanKey names a span: trace id and span id in hex.
type spanKey string

func keyOf(span *tracepb.Span) spanKey {
	return spanKey(fmt.Sprintf("%x/%x", span.GetTraceId(), span.GetSpanId()))
}

// arrival is one span as it reached the look-alike.
type arrival struct {
	request *smith.Request
	message *tracepb.ResourceSpans // see soleSpans
}

// arrivals returns by span everything the look-alike has received.
func arrivals(s *smith.Server) (map[spanKey][]arrival, error) {
	all := map[spanKey][]arrival{}
	for _, request := range s.Requests() {
		messages, err := soleSpans(request.Payload)
		if err != nil {
			return nil, fmt.Errorf("request %d at the look-alike: %w", request.Seq, err)
		}
		for _, m := range messages {
			key := keyOf(m.GetScopeSpans()[0].GetSpans()[0])
			all[key] = append(all[key], arrival{request: request, message: m})
		}
	}
	return all, nil
}

// soleSpans takes a request apart into one message for each span, with the
// resource and scope that the span has.
func soleSpans(payload []byte) ([]*tracepb.ResourceSpans, error) {
	request := &collectorpb.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(payload, request); err != nil {
		return nil, err
	}
	if n := len(request.ProtoReflect().GetUnknown()); n > 0 {
		return nil, fmt.Errorf("%d bytes of unknown fields beside resource_spans", n)
	}
	var out []*tracepb.ResourceSpans
	for _, rs := range request.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				sole, scope := withoutSpans(rs), withoutSpans(ss)
				scope.Spans = []*tracepb.Span{span}
				sole.ScopeSpans = []*tracepb.ScopeSpans{scope}
				out = append(out, normal(sole))
			}
		}
	}
	return out, nil
}

// withoutSpans returns a copy of a message but for what it contains of its
// kind: the scopes of a resource, the spans of a scope.
func withoutSpans[M proto.Message](m M) M {
	shell := m.ProtoReflect().New()
	for _, field := range []string{"resource", "scope", "schema_url"} {
		if fd := m.ProtoReflect().Descriptor().Fields().ByTextName(field); fd != nil && m.ProtoReflect().Has(fd) {
			shell.Set(fd, m.ProtoReflect().Get(fd))
		}
	}
	shell.SetUnknown(m.ProtoReflect().GetUnknown())
	return proto.CloneOf(shell.Interface().(M))
}

// normal gives a message the submessages that some SDKs leave out and others
// send empty; to OTLP they are the same. It changes nothing else.
func normal(m *tracepb.ResourceSpans) *tracepb.ResourceSpans {
	for _, ss := range m.GetScopeSpans() {
		if ss.Scope == nil {
			ss.Scope = &commonpb.InstrumentationScope{}
		}
		for _, span := range ss.GetSpans() {
			if span.Status == nil {
				span.Status = &tracepb.Status{}
			}
		}
	}
	return m
}

// different describes how what arrived differs from what was sent; empty if it
// does not. Both are compared as bytes, so that nothing is too small to count:
// not the sign of zero, the order of attributes, or a field nobody knows.
func different(sent, arrived *tracepb.ResourceSpans) string {
	const most = 4000
	opts := proto.MarshalOptions{Deterministic: true}
	want, err := opts.Marshal(sent)
	if err != nil {
		return "cannot encode what was sent: " + err.Error()
	}
	got, err := opts.Marshal(arrived)
	if err != nil {
		return "cannot encode what arrived: " + err.Error()
	}
	if bytes.Equal(want, got) {
		return ""
	}
	diff := cmp.Diff(sent, arrived, protocmp.Transform())
	if diff == "" {
		diff = fmt.Sprintf("the encodings differ where a diff shows nothing:\n-%x\n+%x", want, got)
	}
	if len(diff) > most {
		diff = diff[:most] + "..."
	}
	return diff
}

// checkArrived reports every span that did not arrive exactly once and as it
// was sent, and every span that arrived but was never sent. It returns the
// arrivals for further checks.
func checkArrived(t *testing.T, s *smith.Server, sent []spanAccount) map[spanKey][]arrival {
	t.Helper()
	got, err := arrivals(s)
	if err != nil {
		t.Fatal(err)
	}
	problems := problemsOf(sent, got)
	const most = 5
	if len(problems) > most {
		problems = append(problems[:most], fmt.Sprintf("and %d more", len(problems)-most))
	}
	if len(problems) > 0 {
		t.Errorf("of %d spans sent (-sent +arrived):\n%s", len(sent), strings.Join(problems, "\n"))
	}
	return got
}

// problemsOf says what is wrong with what arrived.
func problemsOf(sent []spanAccount, got map[spanKey][]arrival) []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	expected := map[spanKey]bool{}
	for i := range sent {
		want, err := sent[i].otlp()
		if err != nil {
			problem("%v", err)
			continue
		}
		key := keyOf(want.GetScopeSpans()[0].GetSpans()[0])
		if expected[key] {
			problem("%s %.40q was accounted for twice", key, sent[i].Name)
		}
		expected[key] = true
		if n := len(got[key]); n != 1 {
			problem("%s %.40q arrived %d times, want once", key, sent[i].Name, n)
		}
		for _, a := range got[key] {
			if diff := different(want, a.message); diff != "" {
				problem("%s %.40q differs:\n%s", key, sent[i].Name, diff)
			}
		}
	}
	for key := range got {
		if !expected[key] {
			problem("%s arrived and was never sent", key)
		}
	}
	return problems
}
