package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	weirv1 "weir/proto/weir/v1"
	"weir/proto/weir/v1/weirv1connect"
)

// statusTimeout bounds how long a status may take to put together.
const statusTimeout = 10 * time.Second

// errStopping ends calls that would outlive the server.
var errStopping = errors.New("weir is stopping; what has not been delivered stays on disk and goes out after the next start")

// service answers the AdminService's calls out of a Source.
type service struct {
	src      Source
	log      *slog.Logger
	stopping context.Context // of the server; not a call's
	testing  sync.Mutex      // held while a test runs
	watchers chan struct{}   // one token for each watch
}

var _ weirv1connect.AdminServiceHandler = (*service)(nil)

// registerService adds the AdminService and its reflection to mux.
func (s *Server) registerService(mux *http.ServeMux, src Source) {
	svc := &service{src: src, log: s.log, stopping: s.stopping, watchers: make(chan struct{}, maxWatchers)}
	opts := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxRequestBytes),
		connect.WithRecover(svc.recovered),
	}
	path, handler := weirv1connect.NewAdminServiceHandler(svc, opts...)
	mux.Handle(path, steadyWrites(handler))

	reflector := grpcreflect.NewStaticReflector(weirv1connect.AdminServiceName)
	path, handler = grpcreflect.NewHandlerV1(reflector, opts...)
	mux.Handle(path, steadyWrites(handler))
	path, handler = grpcreflect.NewHandlerV1Alpha(reflector, opts...)
	mux.Handle(path, steadyWrites(handler))
}

// GetStatus implements weirv1connect.AdminServiceHandler.
func (s *service) GetStatus(ctx context.Context, _ *weirv1.GetStatusRequest) (*weirv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := s.src.Status(ctx)
	if err != nil {
		return nil, s.callError(ctx, "GetStatus", err)
	}
	return status, nil
}

// Drain implements weirv1connect.AdminServiceHandler.
func (s *service) Drain(ctx context.Context, req *weirv1.DrainRequest, stream *connect.ServerStream[weirv1.DrainResponse]) error {
	timeout, err := drainTimeout(req)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // the server ends here, not the call

	if err := s.src.Drain(ctx, timeout, stream.Send); err != nil {
		return s.callError(ctx, "Drain", err)
	}
	return nil
}

// drainTimeout returns how long to drain, 0 for as long as it takes.
func drainTimeout(req *weirv1.DrainRequest) (time.Duration, error) {
	d := req.GetTimeout()
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, errors.New("timeout is not a duration: " + err.Error())
	}
	if d.AsDuration() <= 0 {
		return 0, errors.New("timeout must be more than 0s; leave it out to drain for as long as it takes")
	}
	return d.AsDuration(), nil
}

// callError gives an error of the source the code that callers act on.
func (s *service) callError(ctx context.Context, call string, err error) error {
	var coded *connect.Error
	switch {
	case errors.As(err, &coded):
		return err
	case s.stopping.Err() != nil && errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeUnavailable, errStopping)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	default:
		s.log.ErrorContext(ctx, "admin call failed", slog.String("call", call), slog.Any("error", err))
		return connect.NewError(connect.CodeInternal, err)
	}
}

// recovered turns a panic in a call into an error of that call, and keeps the
// stack in the log.
func (s *service) recovered(ctx context.Context, spec connect.Spec, _ http.Header, value any) error {
	s.log.ErrorContext(ctx, "admin call panicked",
		slog.String("call", spec.Procedure), slog.Any("panic", value), slog.String("stack", string(debug.Stack())))
	return connect.NewError(connect.CodeInternal, errors.New("the call failed inside weir; its log has the details"))
}

// steadyWrites lets a stream last as long as it needs while every single
// write still has the server's write timeout: a reader that stops reading is
// cut off, a quiet stream is not.
func steadyWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		steady := &steadyWriter{ResponseWriter: w, ctl: http.NewResponseController(w)}
		steady.disarm()
		next.ServeHTTP(steady, r)
		steady.arm() // what the server still has to flush
	})
}

// steadyWriter puts a deadline around each write and flush. As with any
// ResponseWriter, only the handler's goroutine uses it.
type steadyWriter struct {
	http.ResponseWriter
	ctl *http.ResponseController
}

// Write implements http.ResponseWriter.
func (w *steadyWriter) Write(p []byte) (int, error) {
	w.arm()
	defer w.disarm()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, which connect asks for.
func (w *steadyWriter) Flush() {
	w.arm()
	defer w.disarm()
	_ = w.ctl.Flush() // the next write meets the same error
}

// Unwrap lets an http.ResponseController find the writer below.
func (w *steadyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// arm and disarm ignore errors: a writer without deadlines (a test's) has no
// peer that could block it.
func (w *steadyWriter) arm()    { _ = w.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) }
func (w *steadyWriter) disarm() { _ = w.ctl.SetWriteDeadline(time.Time{}) }
