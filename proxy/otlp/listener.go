package otlp

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// LimitGRPC returns a listener that accepts from ln, keeps at most
// MaxConnections open and counts what is read from them. One connection more
// is closed at once: a sender retries that, while it would wait for ever in
// front of a listener that does not accept.
func (h *Handler) LimitGRPC(ln net.Listener) net.Listener {
	l := h.limit(ln, "grpc")
	l.read = h.metrics.wire[transportGRPC]
	return l
}

// LimitHTTP does what LimitGRPC does for the HTTP listener, whose bytes are
// counted per request.
func (h *Handler) LimitHTTP(ln net.Listener) net.Listener { return h.limit(ln, "http") }

func (h *Handler) limit(ln net.Listener, name string) *limitListener {
	return &limitListener{
		Listener: ln,
		max:      int64(h.cfg.MaxConnections),
		gauge:    h.metrics.connections.WithLabelValues(name),
		refused:  h.metrics.refusedConnections.WithLabelValues(name),
	}
}

// SetLimits puts the handler's limits on srv: header size and the time that
// headers may take. Bodies are bounded by the handler itself, per request.
func (h *Handler) SetLimits(srv *http.Server) {
	srv.MaxHeaderBytes = int(h.cfg.MaxHeaderBytes)
	srv.ReadHeaderTimeout = min(connectTimeout, h.cfg.ReceiveTimeout)
	srv.IdleTimeout = idleTimeout
}

type limitListener struct {
	net.Listener

	max     int64
	open    atomic.Int64
	gauge   prometheus.Gauge
	refused prometheus.Counter
	read    prometheus.Counter // nil if nothing is to be counted
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.max {
			l.open.Add(-1)
			l.refused.Inc()
			_ = conn.Close() // nothing was said on it
			continue
		}
		l.gauge.Inc()
		return &limitedConn{Conn: conn, listener: l}, nil
	}
}

type limitedConn struct {
	net.Conn

	listener *limitListener
	closed   sync.Once
}

// Read implements net.Conn.
func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.listener.read != nil {
		c.listener.read.Add(float64(n))
	}
	return n, err
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.closed.Do(func() {
		c.listener.open.Add(-1)
		c.listener.gauge.Dec()
	})
	return c.Conn.Close()
}
