package admin

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	weirv1 "weir/proto/weir/v1"
)

// The bounds of a test's timeout.
const (
	minTestTimeout = time.Second
	maxTestTimeout = 10 * time.Minute
)

// errTesting ends a call for a test beside another one: each costs a trace, and
// two at a time are a mistake.
var errTesting = errors.New("another test is under way; wait for it to end")

// SendTest implements weirv1connect.AdminServiceHandler.
func (s *service) SendTest(ctx context.Context, req *weirv1.SendTestRequest, stream *connect.ServerStream[weirv1.SendTestResponse]) error {
	if err := checkTest(req); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	if !s.testing.TryLock() {
		return connect.NewError(connect.CodeFailedPrecondition, errTesting)
	}
	defer s.testing.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // the server ends here, not the call

	if err := s.src.SendTest(ctx, req, stream.Send); err != nil {
		return s.callError(ctx, "SendTest", err)
	}
	return nil
}

// checkTest says what is wrong with a request for a test.
func checkTest(req *weirv1.SendTestRequest) error {
	if _, known := weirv1.SendTestWay_name[int32(req.GetWay())]; !known {
		return errors.New("way is not known")
	}
	if req.GetWay() == weirv1.SendTestWay_SEND_TEST_WAY_DIRECT {
		return errors.New("a running weir tests the way through itself; DIRECT is for callers without one")
	}
	if _, known := weirv1.SendTestZstd_name[int32(req.GetZstd())]; !known {
		return errors.New("zstd is not known")
	}
	d := req.GetTimeout()
	if d == nil {
		return nil
	}
	if err := d.CheckValid(); err != nil {
		return errors.New("timeout is not a duration: " + err.Error())
	}
	if t := d.AsDuration(); t < minTestTimeout || t > maxTestTimeout {
		return errors.New("timeout must be from " + minTestTimeout.String() + " to " + maxTestTimeout.String())
	}
	return nil
}

// SendTest implements Source.
func (p *Pipeline) SendTest(ctx context.Context, req *weirv1.SendTestRequest, report func(*weirv1.SendTestResponse) error) error {
	if p.Tester == nil {
		return connect.NewError(connect.CodeUnimplemented, errors.New("this weir makes no tests"))
	}
	if stopped := p.Acceptor.Stopped(); stopped != "" {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("weir is "+stopped+" and takes no trace"))
	}
	return p.Tester(ctx, req, report)
}
