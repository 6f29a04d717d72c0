package smith

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// headerTimeout bounds how long a connection may take to say what it wants.
const headerTimeout = 30 * time.Second

// Server is one look-alike of LangSmith. Its methods may be called from any
// number of goroutines. Create it with New and Close it when done: Close is
// what ends requests that a fault keeps hanging.
type Server struct {
	cfg     Config // fixed after New, except for Switches and limits
	store   *store
	zstd    func() *zstd.Decoder
	clock   *movable      // what cfg.Now reads
	closing chan struct{} // closed by Close
	serving sync.WaitGroup

	// mu covers the fields below. It is never held while waiting.
	mu       sync.Mutex
	switches Switches
	keys     map[string]*Key // nil value: revoked
	faults   faultPlan
	release  chan struct{} // closed and replaced by Release
	servers  []*http.Server
	closed   bool
}

// New returns a server ready to be used as an http.Handler. It starts no
// goroutine.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	moved := &movable{base: cfg.Now}
	cfg.Now = moved.now
	s := &Server{
		clock:    moved,
		cfg:      cfg,
		store:    newStore(cfg),
		zstd:     newZstd(cfg.MaxRawBytes),
		closing:  make(chan struct{}),
		switches: cfg.Switches,
		keys:     make(map[string]*Key, len(cfg.Keys)),
		faults:   newFaultPlan(cfg.Seed, cfg.Chaos),
		release:  make(chan struct{}),
	}
	for name, k := range cfg.Keys {
		s.keys[name] = &k
	}
	return s
}

// SetSwitches replaces the switches; the next request sees them.
func (s *Server) SetSwitches(sw Switches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.switches = sw
}

// currentSwitches returns the switches in force.
func (s *Server) currentSwitches() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches
}

// Serve answers requests on l until Close, then returns http.ErrServerClosed.
// It closes l. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.enter() {
				panic(http.ErrAbortHandler)
			}
			defer s.serving.Done()
			s.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		// Resets are this server's trade; nobody wants a line about each.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	if !s.adopt(srv) {
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	defer s.serving.Done()
	return srv.Serve(l)
}

// adopt makes Close responsible for srv, unless the server is closed already.
// The caller owes one serving.Done when srv has stopped.
func (s *Server) adopt(srv *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.servers = append(s.servers, srv)
	s.serving.Add(1)
	return true
}

// enter makes Close wait for a handler, unless the server is closed already.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.serving.Add(1)
	return true
}

// Close ends every listener given to Serve, every hanging request, wait and
// subscription, and returns once the handlers of its own listeners have
// returned. A server of somebody else's (httptest) should be closed after it.
// Close may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		errs = append(errs, srv.Close())
	}
	s.serving.Wait()
	s.store.close()
	return errors.Join(errs...)
}

// ServeHTTP answers one request. Like net/http/httputil's ReverseProxy it
// panics with http.ErrAbortHandler to break a connection off.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.closing:
		// An empty 200 would be taken for a delivery.
		panic(http.ErrAbortHandler)
	default:
	}
	path := clean(r.URL.Path)
	if call, ok := strings.CutPrefix(path+"/", controlPrefix); ok && s.cfg.Control {
		w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
		s.serveControl(w, r, strings.TrimSuffix(call, "/"))
		return
	}
	req := &request{Request: r, route: route(r.Method, path), sw: s.currentSwitches()}
	req.route.asked = r.Method
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Body = http.MaxBytesReader(nil, r.Body, s.cfg.MaxBodyBytes)
	if req.sw.CutBytes > 0 {
		req.cut = &cutReader{ReadCloser: r.Body, left: req.sw.CutBytes}
		r.Body = req.cut
	}
	f := s.pickFault(req.route)
	s.store.arrived(f)
	x := &exchange{w: w, r: req, fault: f}
	if f == nil {
		answer := s.respond(req)
		if req.cut != nil && req.cut.over {
			s.reset(x)
			return
		}
		s.send(r.Context(), x, answer)
		return
	}
	s.carryOut(r.Context(), x)
}

// request is an HTTP request with what routing has found out.
type request struct {
	*http.Request

	route endpoint
	sw    Switches
	cut   *cutReader // nil: bodies of any size are read
}

// errCut ends a body under Switches.CutBytes. Nobody reads its words.
var errCut = errors.New("the connection is cut")

// cutReader is a body of which no more than so much is read: then the
// connection is reset, however much is still to come.
type cutReader struct {
	io.ReadCloser

	left int64
	over bool
}

// Read implements io.Reader.
func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		// Is there any more?
		n, err := c.ReadCloser.Read(p[:min(len(p), 1)])
		if n == 0 {
			return 0, err
		}
		c.over = true
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// respond produces the service's own answer.
func (s *Server) respond(r *request) reply {
	e := r.route
	if e.handle == nil {
		return e.notFound()
	}
	if e.bare && !r.sw.OTLPBarePath {
		return e.notFound()
	}
	if e.allow != "" {
		a := e.family.failure(http.StatusMethodNotAllowed, "Method Not Allowed")
		a.header.Set("Allow", e.allow)
		return a
	}
	if e.open && !r.sw.InfoNeedsKey {
		return e.handle(s, r, caller{})
	}
	from, refusal := s.authenticate(r.Request, &e)
	if refusal != nil {
		return *refusal
	}
	return e.handle(s, r, from)
}

// wait pauses until d has passed, the client has left (its ctx is done) or the
// server closes. It reports whether the request is still worth answering.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}
