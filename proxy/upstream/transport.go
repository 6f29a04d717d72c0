package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	keepAlive        = 30 * time.Second

	// pingAfter and pingTimeout find a dead HTTP/2 connection. Without pings
	// every request would join the one black-holed connection and time out.
	pingAfter, pingTimeout = 15 * time.Second, 15 * time.Second

	// maxHeaderBytes bounds the header section of an answer.
	maxHeaderBytes = 64 << 10

	// writeBufferBytes is the transport's write buffer; the default 4 KiB
	// costs a system call for each 4 KiB of body.
	writeBufferBytes = 64 << 10

	// answerGrace is how long a failed write waits for the answer that
	// explains it.
	answerGrace = time.Second
)

// dialFunc opens a connection, like net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// newTransport returns the client's own transport. It is used through
// RoundTrip alone, which follows no redirect, keeps no cookie and sends no
// credential on its own.
func newTransport(cfg *Config, dial dialFunc) (*http.Transport, error) {
	roots, err := Roots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	return &http.Transport{
		Proxy: cfg.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return newAnswerConn(conn), nil
		},
		OnProxyConnectResponse: checkProxy,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true, // own TLS and dialling would switch it off
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:           cfg.Concurrency,
		MaxIdleConnsPerHost:    cfg.Concurrency,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  cfg.Timeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		WriteBufferSize:        writeBufferBytes,
		// Answers are short; asking for compressed ones would only add the
		// risk of one that unpacks to gigabytes.
		DisableCompression: true,
	}, nil
}

// proxyError is an HTTP proxy's refusal to connect to the upstream.
type proxyError struct {
	proxy  string // host:port, no credentials
	status string
	code   int
}

func (e *proxyError) Error() string {
	hint := "check HTTPS_PROXY and NO_PROXY"
	if e.code == http.StatusProxyAuthRequired {
		hint = "put the proxy's user and password into HTTPS_PROXY"
	}
	return fmt.Sprintf("proxy %s refused the connection: %s; %s", e.proxy, e.status, hint)
}

// checkProxy is called with a proxy's answer to CONNECT.
func checkProxy(_ context.Context, proxyURL *url.URL, _ *http.Request, res *http.Response) error {
	if res.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{proxy: proxyURL.Host, status: res.Status, code: res.StatusCode}
}

// Roots returns the system's certificate authorities and those in a PEM file;
// nil, for the system's alone, without a file. The error names the file.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		// No system pool (a scratch container): the file's are what there is.
		roots = x509.NewCertPool()
	}
	if err := appendCerts(roots, data); err != nil {
		return nil, fmt.Errorf("CA file %s: %w", file, err)
	}
	return roots, nil
}

// appendCerts adds every certificate of a PEM file and refuses a file it does
// not understand whole: a certificate skipped in silence would come back as a
// TLS error that nobody connects with this file.
func appendCerts(pool *x509.CertPool, data []byte) error {
	found := 0
	other := ""
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		found++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", found, err)
		}
		pool.AddCert(cert)
	}
	switch {
	case found > 0:
		return nil
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("it is empty; it must hold PEM certificates (-----BEGIN CERTIFICATE-----)")
	case other != "":
		return fmt.Errorf("it holds a %s but no certificate; give the authority's certificate", other)
	case isDER(data):
		return errors.New("it is in DER form; convert it: openssl x509 -inform der -in FILE -out FILE.pem")
	default:
		return errors.New("it holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
}

func isDER(data []byte) bool {
	_, err := x509.ParseCertificate(data)
	return err == nil
}

// answerConn is a connection that lets an early answer win over a broken write,
// and the peer's reason for a broken write win over our own.
//
// A server that has seen enough of a request answers (403, 413) and closes,
// while weir is still sending. The write then fails with a reset although the
// answer has arrived, and net/http reports whichever it notices first. So a
// write that fails that way holds its error back until the reading side has
// taken everything the server sent, at most answerGrace.
//
// Where there is no answer, net/http notices the reset on the reading side,
// closes, and may then report the write's "use of closed network connection".
// Such a write reports what reading saw instead.
type answerConn struct {
	net.Conn
	once    sync.Once
	over    chan struct{} // closed when reading has ended or the connection is closed
	readErr error         // how reading ended; written before over is closed, by it
}

func newAnswerConn(c net.Conn) *answerConn {
	return &answerConn{Conn: c, over: make(chan struct{})}
}

// Read implements net.Conn.
func (c *answerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *answerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	switch {
	case isReset(err):
		grace := time.NewTimer(answerGrace)
		defer grace.Stop()
		select {
		case <-c.over:
		case <-grace.C:
		}
	case errors.Is(err, net.ErrClosed):
		<-c.over // closed by Close before the connection was
		if c.readErr != nil {
			err = fmt.Errorf("the peer ended the connection: %w", c.readErr)
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *answerConn) Close() error {
	c.end(nil)
	return c.Conn.Close()
}

// end notes how reading ended; the first call wins.
func (c *answerConn) end(err error) {
	c.once.Do(func() {
		c.readErr = err
		close(c.over)
	})
}

// isReset reports whether err is the peer having closed the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
