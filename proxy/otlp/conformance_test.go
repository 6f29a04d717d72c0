package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/internal/llmspans"
	"weir/proxy"
)

// The tests of this file hold for every transport.

func TestAcceptedExportIsWhatWasSent(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		for i, encoding := range []string{"", nameGzip, nameZstd} {
			payload, ids := llmspans.New(uint64(i)).Request(30)
			a := s.send(t.Context(), t, request{payload: payload, encoding: encoding, headers: map[string]string{
				"X-API-Key": " lsv2_pt_0123456789 ", "X-Tenant-Id": "ws", "Langsmith-Project": "demo",
			}})
			if a != (answer{ok: true}) {
				t.Fatalf("%q: %+v", encoding, a)
			}
			got := sink.exports()[i]
			if got.Protocol != proxy.ProtocolOTLP || got.Items != 30 || got.NamesProject {
				t.Errorf("%q: protocol %v, %d items, names project %v", encoding, got.Protocol, got.Items, got.NamesProject)
			}
			if diff := cmp.Diff(proxy.Caller{APIKey: "lsv2_pt_0123456789", Workspace: "ws", Project: "demo"}, got.Caller); diff != "" {
				t.Errorf("%q: caller (-want +got):\n%s", encoding, diff)
			}
			if got.TraceIDs[0] != ids[0].TraceID {
				t.Errorf("%q: first trace is %x, want %x", encoding, got.TraceIDs[0], ids[0].TraceID)
			}
			wantSame(t, payload, got.Payload)
			if h, ok := s.(*httpSender); (!ok || h.media == mediaProtobuf) && !bytes.Equal(payload, got.Payload) {
				t.Errorf("%q: the bytes were changed on the way", encoding)
			}
		}
	})
}

// wantSame compares two serialized requests by what they say.
func wantSame(t *testing.T, want, got []byte) {
	t.Helper()
	var a, b tracecollector.ExportTraceServiceRequest
	if err := errors.Join(proto.Unmarshal(want, &a), proto.Unmarshal(got, &b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&a, &b, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSinkIsToldThatTheDataNamesItsProject(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		span := okSpan()
		span.Attributes = kvs(attrSessionName, "own")
		if a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(span))}); !a.ok || !sink.exports()[0].NamesProject {
			t.Errorf("%+v, %+v", a, sink.exports())
		}
	})
}

func TestWarningIsPartialSuccess(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) {
			return proxy.Receipt{Warning: "80 % of the month's traces are used"}, nil
		}
		a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(okSpan()))})
		if a != (answer{ok: true, warning: "80 % of the month's traces are used"}) {
			t.Errorf("%+v", a)
		}
	})
}

func TestEmptyRequestIsAcknowledgedAndNotKept(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		for name, m := range map[string]*tracecollector.ExportTraceServiceRequest{
			"no fields":      {},
			"resource alone": {ResourceSpans: []*trace.ResourceSpans{{SchemaUrl: "u"}}},
		} {
			if a := s.send(t.Context(), t, request{payload: marshal(t, m)}); a != (answer{ok: true}) {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if n := len(sink.exports()); n != 0 {
			t.Errorf("the sink was given %d exports", n)
		}
	})
}

func TestMalformedRequestIsRejectedWithThePlace(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		bad := okSpan()
		bad.TraceId = bad.TraceId[:15]
		a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(okSpan(), bad))})
		if a.ok || a.retry || (a.code != "InvalidArgument" && a.code != "400") {
			t.Errorf("%+v", a)
		}
		const path = "resource_spans[0].scope_spans[0].spans[1].trace_id"
		if a.message != path+": 15 bytes, want 16" || a.field != path {
			t.Errorf("message %q, field %q", a.message, a.field)
		}
		if a := s.send(t.Context(), t, request{payload: []byte("hello")}); a.ok || a.retry || a.message == "" {
			t.Errorf("text: %+v", a)
		}
		if n := len(sink.exports()); n != 0 {
			t.Errorf("the sink was given %d exports", n)
		}
	})
}

func TestRefusalsOfTheSink(t *testing.T) {
	t.Parallel()
	pressure := func(unavailable bool, after time.Duration) error {
		return &proxy.PressureError{Reason: "disk_full", Detail: "the disk is full", RetryAfter: after, Unavailable: unavailable}
	}
	for name, tc := range map[string]struct {
		err        error
		grpc, http string
		retry      bool
		retryAfter time.Duration
		message    string
	}{
		"pressure":        {pressure(false, 10*time.Second), "ResourceExhausted", "503", true, 10 * time.Second, "the disk is full"},
		"short pressure":  {pressure(false, 50*time.Millisecond), "ResourceExhausted", "503", true, 50 * time.Millisecond, "the disk is full"},
		"no wait named":   {pressure(false, 0), "ResourceExhausted", "503", true, time.Millisecond, "the disk is full"},
		"unavailable":     {pressure(true, 5*time.Second), "Unavailable", "503", true, 5 * time.Second, "the disk is full"},
		"wrapped":         {fmt.Errorf("accept: %w", pressure(true, 5*time.Second)), "Unavailable", "503", true, 5 * time.Second, "the disk is full"},
		"too large":       {&proxy.RejectError{Reason: "too_large", Detail: "no frame holds it"}, "InvalidArgument", "413", false, 0, "no frame holds it"},
		"malformed":       {&proxy.RejectError{Reason: "malformed", Detail: "odd"}, "InvalidArgument", "400", false, 0, "odd"},
		"fault of weir":   {errors.New("broken"), "Unavailable", "503", true, time.Second, "weir could not keep the export: broken"},
		"canceled":        {context.Canceled, "Canceled", "503", true, time.Second, "may or may not have been kept"},
		"deadline passed": {context.DeadlineExceeded, "DeadlineExceeded", "504", true, time.Second, "may or may not have been kept"},
		"endless message": {&proxy.RejectError{Reason: "malformed", Detail: strings.Repeat("\u20ac\xff", 4000)}, "InvalidArgument", "400", false, 0, "..."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
				sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) { return proxy.Receipt{}, tc.err }
				a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(okSpan()))})
				if a.ok || (a.code != tc.grpc && a.code != tc.http) {
					t.Errorf("code %s, want %s or %s", a.code, tc.grpc, tc.http)
				}
				if a.retry != tc.retry || a.retryAfter != tc.retryAfter {
					t.Errorf("retry %v after %s, want %v after %s", a.retry, a.retryAfter, tc.retry, tc.retryAfter)
				}
				if !strings.Contains(a.message, tc.message) {
					t.Errorf("message %q, want %q in it", a.message, tc.message)
				}
			})
		})
	}
}

func TestBombsAndLargeMessagesAreRejectedUnread(t *testing.T) {
	t.Parallel()
	cfg := Config{MaxMessageBytes: 64 << 10, MaxWireBytes: 64 << 10}
	big := okSpan()
	big.Name = strings.Repeat("x", 8<<20)
	bomb := marshal(t, requestOf(big))
	eachTransport(t, cfg, func(t *testing.T, sink *fakeSink, s sender) {
		fits := okSpan() // of each: they run side by side
		fits.Name = strings.Repeat("x", 50<<10)
		for _, encoding := range []string{nameGzip, nameZstd, ""} {
			if encoding == "" {
				fits.Name += "y" // still fits
			}
			if a := s.send(t.Context(), t, request{payload: marshal(t, requestOf(fits)), encoding: encoding}); !a.ok {
				t.Errorf("%q: what fits: %+v", encoding, a)
			}
			payload := bomb
			if encoding == "" {
				payload = bomb[:100<<10]
			}
			a := s.send(t.Context(), t, request{payload: payload, encoding: encoding})
			if a.ok || a.retry || (a.code != "ResourceExhausted" && a.code != "413") {
				t.Errorf("%q: %+v", encoding, a)
			}
		}
		if n := len(sink.exports()); n != 3 {
			t.Errorf("the sink was given %d exports, want the 3 that fit", n)
		}
	})
}

func TestTooManySpansAreRejected(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{MaxSpans: 10}, func(t *testing.T, sink *fakeSink, s sender) {
		payload, _ := llmspans.New(1).Request(11)
		a := s.send(t.Context(), t, request{payload: payload})
		if a.ok || a.retry || (a.code != "InvalidArgument" && a.code != "413") || !strings.Contains(a.message, "more than 10 spans") {
			t.Errorf("%+v", a)
		}
		if n := len(sink.exports()); n != 0 {
			t.Errorf("the sink was given %d exports", n)
		}
	})
}

func TestBadHeadersAreRejectedWithoutShowingThem(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, _ *fakeSink, s sender) {
		a := s.send(t.Context(), t, request{
			payload: marshal(t, requestOf(okSpan())),
			headers: map[string]string{"x-api-key": "lsv2_secret " + "and more"},
		})
		if a.ok || a.retry || (a.code != "InvalidArgument" && a.code != "400") || a.field != "x-api-key" {
			t.Errorf("%+v", a)
		}
		if strings.Contains(a.message, "secret") {
			t.Errorf("the message shows the key: %q", a.message)
		}
	})
}

func TestInflightBytesAreBounded(t *testing.T) {
	t.Parallel()
	cfg := Config{MaxMessageBytes: 100 << 10, MaxInflightBytes: 201 << 10}
	s := okSpan()
	s.Name = strings.Repeat("x", 90<<10)
	payload := marshal(t, requestOf(s))
	eachTransport(t, cfg, func(t *testing.T, sink *fakeSink, s sender) {
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		sink.respond = func(context.Context, *proxy.Export) (proxy.Receipt, error) {
			entered <- struct{}{}
			<-leave
			return proxy.Receipt{}, nil
		}
		var answers sync.WaitGroup
		held := 0
		for {
			answer1 := make(chan answer, 1)
			answers.Go(func() { answer1 <- s.send(t.Context(), t, request{payload: payload}) })
			select {
			case <-entered:
				held++
				if held > 3 {
					t.Fatal("no bound in sight")
				}
				continue
			case a := <-answer1:
				if a.ok || !a.retry || a.retryAfter <= 0 || (a.code != "ResourceExhausted" && a.code != "503") {
					t.Errorf("beyond the bound: %+v", a)
				}
			}
			break
		}
		if held == 0 {
			t.Error("nothing was taken")
		}
		close(leave)
		answers.Wait()
		if a := s.send(t.Context(), t, request{payload: payload}); !a.ok {
			t.Errorf("with room again: %+v", a)
		}
	})
}

func TestSenderThatGoesAwayEndsTheWait(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		sink.respond = func(ctx context.Context, _ *proxy.Export) (proxy.Receipt, error) {
			leave()
			<-ctx.Done()
			ended <- ctx.Err()
			return proxy.Receipt{}, ctx.Err()
		}
		if a := s.send(ctx, t, request{payload: marshal(t, requestOf(okSpan()))}); a.ok {
			t.Errorf("%+v", a)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the sink's context ended with %v", err)
		}
	})
}

func TestManySendersAtATime(t *testing.T) {
	t.Parallel()
	eachTransport(t, Config{}, func(t *testing.T, sink *fakeSink, s sender) {
		const senders, rounds = 16, 10
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				g := llmspans.New(uint64(i))
				for round := range rounds {
					payload, _ := g.Request(1 + round*5)
					encoding := []string{"", nameGzip, nameZstd}[round%3]
					if a := s.send(t.Context(), t, request{payload: payload, encoding: encoding}); !a.ok {
						t.Errorf("%+v", a)
						return
					}
				}
			})
		}
		all.Wait()
		spans := map[[8]byte]int{}
		for _, e := range sink.exports() {
			var req tracecollector.ExportTraceServiceRequest
			if err := proto.Unmarshal(e.Payload, &req); err != nil {
				t.Fatal(err)
			}
			for _, s := range req.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans() {
				spans[[8]byte(s.GetSpanId())]++
			}
		}
		want := 0
		for round := range rounds {
			want += senders * (1 + round*5)
		}
		if len(spans) != want {
			t.Errorf("%d different spans arrived, want %d", len(spans), want)
		}
	})
}
