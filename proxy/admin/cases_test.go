package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/admin"
)

// ward is a source whose casework fails as a test says. It counts the calls.
type ward struct {
	err   error
	asked *weirv1.ListCasesRequest
	calls int
	id    proxy.TraceID
}

func (w *ward) ListCases(_ context.Context, req *weirv1.ListCasesRequest) (*weirv1.ListCasesResponse, error) {
	w.calls++
	w.asked = req
	return &weirv1.ListCasesResponse{}, w.err
}

func (w *ward) GetCase(_ context.Context, id uint32) (*weirv1.GetCaseResponse, error) {
	w.calls++
	return &weirv1.GetCaseResponse{Case: &weirv1.QuarantineCase{Id: id}}, w.err
}

func (w *ward) ReleaseCases(context.Context, *weirv1.ReleaseCasesRequest) (*weirv1.ReleaseCasesResponse, error) {
	w.calls++
	return &weirv1.ReleaseCasesResponse{}, w.err
}

func (w *ward) DiscardCases(context.Context, *weirv1.DiscardCasesRequest) (*weirv1.DiscardCasesResponse, error) {
	w.calls++
	return &weirv1.DiscardCasesResponse{}, w.err
}

func (w *ward) ExportCases(_ context.Context, _ *weirv1.ExportCasesRequest, send func(*weirv1.ExportCasesResponse) error) error {
	w.calls++
	return errors.Join(w.err, send(&weirv1.ExportCasesResponse{Chunk: []byte("x")}))
}

func (w *ward) FindTrace(_ context.Context, id proxy.TraceID) (*weirv1.FindTraceResponse, error) {
	w.calls++
	w.id = id
	return &weirv1.FindTraceResponse{}, w.err
}

// caseCalls are the calls that name cases.
func caseCalls(t *testing.T, w *ward, ids []uint32, all bool) map[string]func() error {
	t.Helper()
	client := admin.Dial(start(t, admin.Config{}, &fakeSource{Caseworker: w}).Addr().String(), "")
	return map[string]func() error{
		"ReleaseCases": func() error {
			_, err := client.ReleaseCases(t.Context(), &weirv1.ReleaseCasesRequest{Ids: ids, All: all})
			return err
		},
		"DiscardCases": func() error {
			_, err := client.DiscardCases(t.Context(), &weirv1.DiscardCasesRequest{Ids: ids, All: all})
			return err
		},
		"ExportCases": func() error {
			stream, err := client.ExportCases(t.Context(), &weirv1.ExportCasesRequest{Ids: ids, All: all})
			if err != nil {
				return err
			}
			for stream.Receive() { // to its end
			}
			return errors.Join(stream.Err(), stream.Close())
		},
	}
}

func TestCasesMustBeNamed(t *testing.T) {
	for _, tt := range []struct {
		name string
		ids  []uint32
		all  bool
		says string
	}{
		{"none", nil, false, "no case is named"},
		{"both", []uint32{1}, true, "exclude each other"},
		{"some", []uint32{1, 2}, false, ""},
		{"all", nil, true, ""},
	} {
		w := &ward{}
		for name, call := range caseCalls(t, w, tt.ids, tt.all) {
			w.calls = 0
			err := call()
			if tt.says == "" && (err != nil || w.calls != 1) {
				t.Errorf("%s: %s: %v after %d calls", tt.name, name, err, w.calls)
			}
			if tt.says != "" && (connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), tt.says) || w.calls != 0) {
				t.Errorf("%s: %s: %v after %d calls, want one that says %q", tt.name, name, err, w.calls, tt.says)
			}
		}
	}
}

func TestListCasesRefusesWhatCannotBe(t *testing.T) {
	w := &ward{}
	client := admin.Dial(start(t, admin.Config{}, &fakeSource{Caseworker: w}).Addr().String(), "")
	for says, req := range map[string]*weirv1.ListCasesRequest{
		"page_size is -1":   {PageSize: -1},
		"page_size is 1001": {PageSize: 1001},
		`page_token "x"`:    {PageToken: "x"},
		`page_token "0"`:    {PageToken: "0"},
		`page_token "-7"`:   {PageToken: "-7"},
		`state "stuck"`:     {State: "stuck"},
	} {
		_, err := client.ListCases(t.Context(), req)
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), says) || w.calls > 0 {
			t.Errorf("%v: %v, want one that says %s", req, err, says)
		}
	}
	if _, err := client.ListCases(t.Context(), &weirv1.ListCasesRequest{}); err != nil || w.asked.GetPageSize() != 100 {
		t.Errorf("a request without a size asks for %d: %v", w.asked.GetPageSize(), err)
	}
}

func TestWhatIsWrongWithACaseHasItsCode(t *testing.T) {
	for err, want := range map[error]connect.Code{
		proxy.ErrNoCase: connect.CodeNotFound, proxy.ErrCaseBusy: connect.CodeFailedPrecondition, errors.New("disk"): connect.CodeInternal,
	} {
		w := &ward{err: fmt.Errorf("case 7: %w", err)}
		calls := caseCalls(t, w, []uint32{7}, false)
		client := admin.Dial(start(t, admin.Config{}, &fakeSource{Caseworker: w}).Addr().String(), "")
		calls["GetCase"] = func() error {
			_, err := client.GetCase(t.Context(), &weirv1.GetCaseRequest{Id: 7})
			return err
		}
		for name, call := range calls {
			if got := call(); connect.CodeOf(got) != want || !strings.Contains(got.Error(), "case 7: ") {
				t.Errorf("%s: %v is answered with %v, want %v", name, err, got, want)
			}
		}
	}
}

func TestTraceIDIsCheckedBeforeTheSearch(t *testing.T) {
	w := &ward{}
	client := admin.Dial(start(t, admin.Config{}, &fakeSource{Caseworker: w}).Addr().String(), "")
	if _, err := client.FindTrace(t.Context(), &weirv1.FindTraceRequest{TraceId: "my trace"}); connect.CodeOf(err) != connect.CodeInvalidArgument || w.calls > 0 {
		t.Errorf("what is no id: %v after %d calls", err, w.calls)
	}
	if _, err := client.FindTrace(t.Context(), &weirv1.FindTraceRequest{TraceId: "019ABC000000000000000000000000FF"}); err != nil || w.id != (proxy.TraceID{1, 0x9a, 0xbc, 15: 0xff}) {
		t.Errorf("an id: %v, looked for %x", err, w.id)
	}
}
