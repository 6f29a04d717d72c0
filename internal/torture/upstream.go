package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/smith"
)

// UpstreamKey is the key that weir is configured with, and the upstream takes.
const UpstreamKey = "lsv2_pt_torture_0123456789abcdef_00"

// collectEvery is how often what arrived is carried over into the ledger.
const collectEvery = 20 * time.Millisecond

// retainBytes is how much may arrive between two collections.
const retainBytes = 384 << 20

// Upstream is the look-alike on a port of this process. Close it when done.
type Upstream struct {
	*smith.Server

	ledger *Ledger
	addr   string
	active atomic.Int64 // requests being answered
	conns  atomic.Int64 // open connections
	stop   chan struct{}
	loops  sync.WaitGroup

	mu  sync.Mutex   // guards srv
	srv *http.Server // nil while connections are refused

	collecting sync.Mutex // guards seen, and that requests are entered in order
	seen       int64      // number of the last request in the ledger
	missed     bool
}

// StartUpstream serves a look-alike on a free loopback port and enters what it
// receives into l. Its payload is not kept for longer than that takes.
func StartUpstream(l *Ledger, cfg smith.Config) (*Upstream, error) {
	cfg.Keep, cfg.RetainBytes = smith.KeepSpans, retainBytes
	server := smith.New(cfg)
	u := &Upstream{Server: server, ledger: l, addr: "127.0.0.1:0", stop: make(chan struct{})}
	if err := u.Restore(); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	u.loops.Go(u.collectLoop)
	return u, nil
}

// URL is the base URL to configure weir with.
func (u *Upstream) URL() string { return "http://" + u.addr }

// Refuse closes the port and every connection to it, until Restore.
func (u *Upstream) Refuse() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.srv == nil {
		return nil
	}
	err := u.srv.Close()
	u.srv = nil
	return err
}

// Restore opens the port again.
func (u *Upstream) Restore() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.srv != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", u.addr)
	if err != nil {
		return fmt.Errorf("open the upstream's port: %w", err)
	}
	u.addr = l.Addr().String()
	srv := &http.Server{
		Handler: http.HandlerFunc(u.serve), ReadHeaderTimeout: time.Minute,
		ConnState: u.connState,
		// Broken connections are this upstream's trade.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	u.srv = srv
	u.loops.Go(func() { _ = srv.Serve(l) }) // ends with Refuse or Close
	return nil
}

// connState counts open connections: what a killed weir sent may still lie in
// one after its process is gone.
func (u *Upstream) connState(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		u.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		u.conns.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// serve counts the requests under way.
func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	u.active.Add(1)
	defer u.active.Add(-1)
	u.ServeHTTP(w, r)
}

// Close ends everything that the upstream serves.
func (u *Upstream) Close() error {
	select {
	case <-u.stop:
	default:
		close(u.stop)
	}
	err := errors.Join(u.Server.Close(), u.Refuse())
	u.loops.Wait()
	return err
}

// Killed tells the ledger that weir was killed just now, once the requests
// that it left behind have come to their end.
func (u *Upstream) Killed() error {
	const longest = 10 * time.Second
	deadline := time.NewTimer(longest)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for u.active.Load() > 0 || u.conns.Load() > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%d requests of a killed weir have not ended after %s", u.active.Load(), longest)
		}
	}
	if err := u.Collect(); err != nil {
		return err
	}
	u.collecting.Lock()
	defer u.collecting.Unlock()
	u.ledger.Killed(u.seen)
	return nil
}

// Collect enters what has arrived into the ledger now.
func (u *Upstream) Collect() error {
	u.collecting.Lock()
	defer u.collecting.Unlock()
	for _, r := range u.Requests() {
		if r.Seq <= u.seen {
			continue
		}
		if r.Seq != u.seen+1 {
			u.missed = true
		}
		u.seen = r.Seq
		u.ledger.Arrived(r.Seq, r.Payload)
	}
	if u.missed {
		return errors.New("more arrived between two collections than the upstream retains: the verdict would not be complete")
	}
	return nil
}

func (u *Upstream) collectLoop() {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-u.stop:
			return
		case <-tick.C:
			_ = u.Collect() // remembered, and returned by the verdict's
		}
	}
}
