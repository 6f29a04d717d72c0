package admin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy/admin"
)

// receive reads a test's stream to its end.
func receive(ctx context.Context, t *testing.T, s *admin.Server, req *weirv1.SendTestRequest) ([]*weirv1.SendTestResponse, error) {
	t.Helper()
	stream, err := admin.Dial(s.Addr().String(), "").SendTest(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	var got []*weirv1.SendTestResponse
	for stream.Receive() {
		got = append(got, stream.Msg())
	}
	err = stream.Err()
	if closeErr := stream.Close(); err == nil {
		err = closeErr
	}
	return got, err
}

func TestSendTestStreamsStepsAndResult(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{test: func(_ context.Context, report func(*weirv1.SendTestResponse) error) error {
		return errors.Join(
			report(&weirv1.SendTestResponse{Step: &weirv1.SendTestStep{Name: "cost", Ok: true}}),
			report(&weirv1.SendTestResponse{Result: &weirv1.SendTestResult{Ok: true, Traces: 1}}),
		)
	}})
	got, err := receive(t.Context(), t, s, &weirv1.SendTestRequest{Timeout: durationpb.New(time.Second)})
	if err != nil || len(got) != 2 || got[0].GetStep().GetName() != "cost" || !got[1].GetResult().GetOk() {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSendTestRefusesWhatItCannotDo(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{})
	for name, req := range map[string]*weirv1.SendTestRequest{
		"direct":    {Way: weirv1.SendTestWay_SEND_TEST_WAY_DIRECT},
		"way":       {Way: 9},
		"zstd":      {Zstd: 9},
		"short":     {Timeout: durationpb.New(time.Millisecond)},
		"long":      {Timeout: durationpb.New(time.Hour)},
		"no timing": {Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}},
	} {
		if got, err := receive(t.Context(), t, s, req); connect.CodeOf(err) != connect.CodeInvalidArgument || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestSendTestRunsOneAtATime: each costs a trace.
func TestSendTestRunsOneAtATime(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	s := start(t, admin.Config{}, &fakeSource{test: func(context.Context, func(*weirv1.SendTestResponse) error) error {
		began <- struct{}{}
		<-end
		return nil
	}})
	first := make(chan error, 1)
	go func() {
		_, err := receive(t.Context(), t, s, &weirv1.SendTestRequest{})
		first <- err
	}()
	<-began
	if _, err := receive(t.Context(), t, s, &weirv1.SendTestRequest{}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a second test: %v", err)
	}
	close(end)
	if err := <-first; err != nil {
		t.Errorf("the first test: %v", err)
	}
	go func() { <-began }()
	if _, err := receive(t.Context(), t, s, &weirv1.SendTestRequest{}); err != nil {
		t.Errorf("a test after it: %v", err)
	}
}

func TestSendTestEndsWithTheServer(t *testing.T) {
	began := make(chan struct{})
	s := start(t, admin.Config{}, &fakeSource{test: func(ctx context.Context, _ func(*weirv1.SendTestResponse) error) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}})
	done := make(chan error, 1)
	go func() {
		_, err := receive(t.Context(), t, s, &weirv1.SendTestRequest{})
		done <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the test ended with %v", err)
	}
}

// TestSendTestTakesNoGET: what costs a trace is not to be fetched by a page.
func TestSendTestTakesNoGET(t *testing.T) {
	s := start(t, admin.Config{}, &fakeSource{test: func(context.Context, func(*weirv1.SendTestResponse) error) error {
		t.Error("a GET began a test")
		return nil
	}})
	a := ask(t, s, http.MethodGet, "/weir.v1.AdminService/SendTest", nil, "")
	if a.Status < 400 || strings.Contains(a.Body, "result") {
		t.Errorf("GET = %d %q", a.Status, a.Body)
	}
}
